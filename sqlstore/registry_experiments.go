package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"turbofan"
)

func experimentsTable() *searchTable {
	return &searchTable{
		from: "experiments e",
		id:   "e.id",
		attributes: map[string]searchColumn{
			"name":             {expr: "e.name"},
			"experiment_id":    {expr: "e.id", number: true},
			"creation_time":    {expr: "e.created_at", number: true},
			"last_update_time": {expr: "e.updated_at", number: true},
		},
		owned: map[turbofan.SearchEntity]ownedTable{
			turbofan.EntityTag: {"experiment_tags", "o.experiment_id = e.id"},
		},
		order: []orderKey{{expr: "e.created_at", desc: true}, {expr: "e.id"}},
	}
}

const experimentColumns = "e.id, e.name, e.artifact_location, e.lifecycle_stage, e.created_at, e.updated_at"

func scanExperiment(scan func(...any) error) (turbofan.Experiment, error) {
	var e turbofan.Experiment
	var id, created, updated int64
	if err := scan(&id, &e.Name, &e.ArtifactLocation, &e.Stage, &created, &updated); err != nil {
		return e, err
	}
	e.ID = strconv.FormatInt(id, 10)
	e.CreatedAt, e.UpdatedAt = time.UnixMilli(created), time.UnixMilli(updated)
	return e, nil
}

// experimentKey turns an identifier into the database's key; what is no number names no experiment.
func experimentKey(id string) (int64, error) {
	n, err := strconv.ParseInt(id, 10, 32)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != id {
		return 0, notFound("No Experiment with id=%s exists", id)
	}
	return n, nil
}

// CreateExperiment implements turbofan.ExperimentStore. An identifier that e brings is kept: the first experiment, 0,
// is there from the start. An artifact location that ends in "/" is completed with the identifier.
func (d *RegistryDB) CreateExperiment(ctx context.Context, e turbofan.Experiment) (turbofan.Experiment, error) {
	given := e
	err := d.update(ctx, func(tx *registryTx) error {
		e = given
		var stage string
		err := tx.get([]any{&stage}, "SELECT lifecycle_stage FROM experiments WHERE name = ?", e.Name)
		switch {
		case err == nil && stage == string(turbofan.StageDeleted):
			return turbofan.Errorf(turbofan.EConflict, "Experiment '%s' already exists in deleted state. "+
				"You can restore the experiment, or permanently delete the experiment to create a new one.", e.Name)
		case err == nil:
			return turbofan.Errorf(turbofan.EConflict, "Experiment(name=%s) already exists.", e.Name)
		case !errors.Is(err, sql.ErrNoRows):
			return fmt.Errorf("create experiment: %w", err)
		}
		var id int64
		if e.ID != "" {
			id, err = experimentKey(e.ID)
		} else {
			id, err = tx.next("experiments")
		}
		if err != nil {
			return err
		}
		e.ID = strconv.FormatInt(id, 10)
		if strings.HasSuffix(e.ArtifactLocation, "/") {
			e.ArtifactLocation += e.ID
		}
		if err := tx.exec(`INSERT INTO experiments (id, name, artifact_location, lifecycle_stage, created_at, updated_at)
			VALUES (?, ?, ?, ?, ?, ?)`, id, e.Name, e.ArtifactLocation, turbofan.StageActive, millis(e.CreatedAt), millis(e.UpdatedAt)); err != nil {
			return fmt.Errorf("create experiment: %w", err)
		}
		return setExperimentTags(tx, id, e.Tags)
	})
	return e, err
}

func setExperimentTags(tx *registryTx, id int64, tags []turbofan.KeyValue) error {
	for _, t := range tags {
		if err := tx.exec(`INSERT INTO experiment_tags (experiment_id, key, value) VALUES (?, ?, ?)
			ON CONFLICT (experiment_id, key) DO UPDATE SET value = excluded.value`, id, t.Key, t.Value); err != nil {
			return fmt.Errorf("set experiment tag: %w", err)
		}
	}
	return nil
}

// Experiment implements turbofan.ExperimentStore.
func (d *RegistryDB) Experiment(ctx context.Context, id string) (turbofan.Experiment, error) {
	key, err := experimentKey(id)
	if err != nil {
		return turbofan.Experiment{}, err
	}
	return d.experiment(ctx, "e.id = ?", key, notFound("No Experiment with id=%s exists", id))
}

// ExperimentByName implements turbofan.ExperimentStore.
func (d *RegistryDB) ExperimentByName(ctx context.Context, name string) (turbofan.Experiment, error) {
	return d.experiment(ctx, "e.name = ?", name, notFound("Could not find experiment with name '%s'", name))
}

func (d *RegistryDB) experiment(ctx context.Context, where string, arg any, absent error) (turbofan.Experiment, error) {
	var found []turbofan.Experiment
	err := d.view(ctx, func(q queryer) error {
		err := each(ctx, q, func(rows *sql.Rows) error {
			e, err := scanExperiment(rows.Scan)
			found = append(found, e)
			return err
		}, "SELECT "+experimentColumns+" FROM experiments e WHERE "+where, arg)
		if err != nil {
			return err
		}
		return loadExperimentTags(ctx, q, found)
	})
	if err != nil {
		return turbofan.Experiment{}, err
	}
	if len(found) == 0 {
		return turbofan.Experiment{}, absent
	}
	return found[0], nil
}

func loadExperimentTags(ctx context.Context, q queryer, es []turbofan.Experiment) error {
	at := make(map[int64]int, len(es))
	ids := make([]int64, len(es))
	for i, e := range es {
		key, err := experimentKey(e.ID)
		if err != nil {
			return err
		}
		at[key], ids[i] = i, key
	}
	return loadKeyValues(ctx, q, "experiment_tags", "experiment_id", ids, func(id int64, kv turbofan.KeyValue) {
		e := &es[at[id]]
		e.Tags = append(e.Tags, kv)
	})
}

// loadKeyValues reads keys and values of many owners, sorted by key within each.
func loadKeyValues(ctx context.Context, q queryer, table, owner string, ids []int64, add func(id int64, kv turbofan.KeyValue)) error {
	return inChunks(ids, func(part []int64) error {
		return each(ctx, q, func(rows *sql.Rows) error {
			var id int64
			var kv turbofan.KeyValue
			if err := rows.Scan(&id, &kv.Key, &kv.Value); err != nil {
				return err
			}
			add(id, kv)
			return nil
		}, "SELECT "+owner+", key, value FROM "+table+" WHERE "+owner+" IN ("+marks(len(part))+") ORDER BY "+owner+", key", anys(part)...)
	})
}

// SearchExperiments implements turbofan.ExperimentStore.
func (d *RegistryDB) SearchExperiments(ctx context.Context, query turbofan.SearchQuery) ([]turbofan.Experiment, string, error) {
	s, err := experimentsTable().search(d.db.dialect, query.Where, query.OrderBy)
	if err != nil {
		return nil, "", err
	}
	s.view("e.lifecycle_stage", query.View)
	return searchPage(ctx, d, s, experimentColumns, query, scanExperiment, loadExperimentTags)
}

// view restricts a search to a lifecycle stage.
func (s *searchSQL) view(column string, v turbofan.LifecycleView) {
	switch v {
	case turbofan.ViewAll:
	case turbofan.ViewDeleted:
		s.and(column+" = ?", string(turbofan.StageDeleted))
	default:
		s.and(column+" = ?", string(turbofan.StageActive))
	}
}

// UpdateExperiment implements turbofan.ExperimentStore.
func (d *RegistryDB) UpdateExperiment(ctx context.Context, id string, u turbofan.ExperimentUpdate) error {
	key, err := experimentKey(id)
	if err != nil {
		return err
	}
	return d.update(ctx, func(tx *registryTx) error {
		var stage turbofan.LifecycleStage
		switch err := tx.get([]any{&stage}, "SELECT lifecycle_stage FROM experiments WHERE id = ?", key); {
		case errors.Is(err, sql.ErrNoRows):
			return notFound("No Experiment with id=%s exists", id)
		case err != nil:
			return fmt.Errorf("update experiment: %w", err)
		}
		if u.Stage != nil {
			if *u.Stage == stage {
				return notFound("No %s experiment with id=%s exists", otherStage(stage), id)
			}
			if err := setExperimentStage(tx, key, *u.Stage); err != nil {
				return fmt.Errorf("update experiment: %w", err)
			}
			stage = turbofan.StageActive
		}
		if stage != turbofan.StageActive {
			return invalid("The experiment %s must be in the 'active' state. Current state is %s.", id, stage)
		}
		if u.Name != nil {
			var n int
			if err := tx.get([]any{&n}, "SELECT COUNT(*) FROM experiments WHERE name = ? AND id <> ?", *u.Name, key); err != nil {
				return fmt.Errorf("rename experiment: %w", err)
			}
			if n > 0 {
				return turbofan.Errorf(turbofan.EConflict, "Experiment(name=%s) already exists.", *u.Name)
			}
			if err := tx.exec("UPDATE experiments SET name = ?, updated_at = ? WHERE id = ?", *u.Name, millis(time.Now()), key); err != nil {
				return fmt.Errorf("rename experiment: %w", err)
			}
		}
		if err := setExperimentTags(tx, key, u.SetTags); err != nil {
			return err
		}
		for _, k := range u.DeleteTags {
			n, err := tx.changed("DELETE FROM experiment_tags WHERE experiment_id = ? AND key = ?", key, k)
			if err != nil {
				return fmt.Errorf("delete experiment tag: %w", err)
			}
			if n == 0 {
				return notFound("No tag with name: %s in experiment with id %s", k, id)
			}
		}
		return nil
	})
}

func otherStage(s turbofan.LifecycleStage) turbofan.LifecycleStage {
	if s == turbofan.StageActive {
		return turbofan.StageDeleted
	}
	return turbofan.StageActive
}

func setExperimentStage(tx *registryTx, key int64, stage turbofan.LifecycleStage) error {
	if err := tx.exec("UPDATE experiments SET lifecycle_stage = ?, updated_at = ? WHERE id = ?", stage, millis(time.Now()), key); err != nil {
		return err
	}
	return tx.exec("UPDATE runs SET lifecycle_stage = ? WHERE experiment_id = ?", stage, key)
}
