package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"

	"turbofan"
)

func loggedModelsTable() *searchTable {
	return &searchTable{
		from: "logged_models l",
		id:   "l.id",
		attributes: map[string]searchColumn{
			"name":                   {expr: "l.name"},
			"model_id":               {expr: "l.model_id"},
			"model_type":             {expr: "l.model_type"},
			"status":                 {expr: "l.status"},
			"source_run_id":          {expr: "l.source_run_id"},
			"artifact_uri":           {expr: "l.artifact_uri"},
			"creation_timestamp":     {expr: "l.created_at", number: true},
			"last_updated_timestamp": {expr: "l.updated_at", number: true},
		},
		owned: map[turbofan.SearchEntity]ownedTable{
			turbofan.EntityMetric: {"logged_model_metrics", "o.logged_model_id = l.id"},
			turbofan.EntityParam:  {"logged_model_params", "o.logged_model_id = l.id"},
			turbofan.EntityTag:    {"logged_model_tags", "o.logged_model_id = l.id"},
		},
		order: []orderKey{{expr: "l.created_at", desc: true}, {expr: "l.model_id"}},
	}
}

const loggedModelColumns = `l.id, l.model_id, l.experiment_id, l.name, l.model_type, l.source_run_id, l.artifact_uri, l.status,
	l.status_message, l.created_at, l.updated_at`

type foundLogged struct {
	key   int64
	model turbofan.LoggedModel
}

func scanLogged(scan func(...any) error) (foundLogged, error) {
	var f foundLogged
	var experiment, created, updated int64
	m := &f.model
	err := scan(&f.key, &m.ID, &experiment, &m.Name, &m.ModelType, &m.SourceRunID, &m.ArtifactURI, &m.Status, &m.StatusMessage, &created, &updated)
	m.ExperimentID = strconv.FormatInt(experiment, 10)
	m.CreatedAt, m.UpdatedAt = time.UnixMilli(created), time.UnixMilli(updated)
	return f, err
}

func noLogged(id string) error { return notFound("Logged model with ID '%s' not found.", id) }

// CreateLoggedModel implements turbofan.LoggedModelStore.
func (d *RegistryDB) CreateLoggedModel(ctx context.Context, m turbofan.LoggedModel) (turbofan.LoggedModel, error) {
	experiment, err := experimentKey(m.ExperimentID)
	if err != nil {
		return m, err
	}
	err = d.update(ctx, func(tx *registryTx) error {
		if err := activeExperiment(tx, experiment); err != nil {
			return err
		}
		key, err := tx.next("logged_models")
		if err != nil {
			return err
		}
		if err := tx.exec(`INSERT INTO logged_models (id, model_id, experiment_id, name, model_type, source_run_id, artifact_uri, status,
			status_message, created_at, updated_at, lifecycle_stage) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			key, m.ID, experiment, m.Name, m.ModelType, m.SourceRunID, m.ArtifactURI, m.Status, m.StatusMessage,
			millis(m.CreatedAt), millis(m.UpdatedAt), turbofan.StageActive); err != nil {
			return fmt.Errorf("create logged model: %w", err)
		}
		if err := setLoggedTags(tx, key, m.Tags); err != nil {
			return err
		}
		return addLoggedParams(tx, key, m.Params)
	})
	return m, err
}

func setLoggedTags(tx *registryTx, key int64, tags []turbofan.KeyValue) error {
	for _, t := range tags {
		if err := tx.exec(`INSERT INTO logged_model_tags (logged_model_id, key, value) VALUES (?, ?, ?)
			ON CONFLICT (logged_model_id, key) DO UPDATE SET value = excluded.value`, key, t.Key, t.Value); err != nil {
			return fmt.Errorf("set logged model tag: %w", err)
		}
	}
	return nil
}

func addLoggedParams(tx *registryTx, key int64, params []turbofan.KeyValue) error {
	for _, p := range params {
		if err := tx.exec(`INSERT INTO logged_model_params (logged_model_id, key, value) VALUES (?, ?, ?)
			ON CONFLICT (logged_model_id, key) DO UPDATE SET value = excluded.value`, key, p.Key, p.Value); err != nil {
			return fmt.Errorf("log parameter of logged model: %w", err)
		}
	}
	return nil
}

// LoggedModel implements turbofan.LoggedModelStore.
func (d *RegistryDB) LoggedModel(ctx context.Context, id string) (turbofan.LoggedModel, error) {
	var m turbofan.LoggedModel
	err := d.view(ctx, func(q queryer) error {
		var err error
		m, err = loadLogged(ctx, q, id)
		return err
	})
	return m, err
}

func loadLogged(ctx context.Context, q queryer, id string) (turbofan.LoggedModel, error) {
	var found []foundLogged
	err := each(ctx, q, func(rows *sql.Rows) error {
		f, err := scanLogged(rows.Scan)
		found = append(found, f)
		return err
	}, "SELECT "+loggedModelColumns+" FROM logged_models l WHERE l.model_id = ? AND l.lifecycle_stage = 'active'", id)
	if err == nil && len(found) == 0 {
		err = noLogged(id)
	}
	if err == nil {
		err = loadLoggedModels(ctx, q, found)
	}
	if err != nil {
		return turbofan.LoggedModel{}, err
	}
	return found[0].model, nil
}

func loadLoggedModels(ctx context.Context, q queryer, found []foundLogged) error {
	at := make(map[int64]*turbofan.LoggedModel, len(found))
	keys := make([]int64, len(found))
	for i := range found {
		at[found[i].key], keys[i] = &found[i].model, found[i].key
	}
	if err := loadKeyValues(ctx, q, "logged_model_tags", "logged_model_id", keys, func(id int64, kv turbofan.KeyValue) {
		at[id].Tags = append(at[id].Tags, kv)
	}); err != nil {
		return err
	}
	if err := loadKeyValues(ctx, q, "logged_model_params", "logged_model_id", keys, func(id int64, kv turbofan.KeyValue) {
		at[id].Params = append(at[id].Params, kv)
	}); err != nil {
		return err
	}
	return inChunks(keys, func(part []int64) error {
		return each(ctx, q, func(rows *sql.Rows) error {
			var id, timestamp int64
			var nan int
			var m turbofan.Metric
			if err := rows.Scan(&id, &m.Key, &m.Value, &nan, &m.Step, &timestamp, &m.RunID, &m.DatasetName, &m.DatasetDigest); err != nil {
				return err
			}
			m.Value, m.At, m.ModelID = fromSQLNumber(m.Value, nan), time.UnixMilli(timestamp), at[id].ID
			at[id].Metrics = append(at[id].Metrics, m)
			return nil
		}, `SELECT logged_model_id, key, value, is_nan, step, timestamp, run_id, dataset_name, dataset_digest FROM logged_model_metrics
			WHERE logged_model_id IN (`+marks(len(part))+") ORDER BY logged_model_id, key, step, timestamp", anys(part)...)
	})
}

// SearchLoggedModels implements turbofan.LoggedModelStore.
func (d *RegistryDB) SearchLoggedModels(ctx context.Context, query turbofan.LoggedModelQuery) ([]turbofan.LoggedModel, string, error) {
	var experiments []int64
	for _, id := range query.ExperimentIDs {
		if key, err := experimentKey(id); err == nil {
			experiments = append(experiments, key)
		}
	}
	if len(experiments) == 0 {
		return nil, "", nil
	}
	terms := make([]turbofan.SearchTerm, len(query.Where))
	for i, t := range query.Where {
		if t.Entity == turbofan.EntityMetric && len(t.Datasets) == 0 {
			t.Datasets = query.Datasets
		}
		terms[i] = t
	}
	s, err := loggedModelsTable().search(d.db.dialect, terms, query.OrderBy)
	if err != nil {
		return nil, "", err
	}
	s.and("l.lifecycle_stage = 'active'")
	s.and("l.experiment_id IN ("+marks(len(experiments))+")", anys(experiments)...)
	if len(query.Datasets) > 0 {
		cond, args := datasetTerm(query.Datasets)
		s.and("EXISTS (SELECT 1 FROM logged_model_metrics o WHERE o.logged_model_id = l.id AND "+cond+")", args...)
	}
	found, next, err := searchPage(ctx, d, s, loggedModelColumns, query.SearchQuery, scanLogged, loadLoggedModels)
	models := make([]turbofan.LoggedModel, len(found))
	for i := range found {
		models[i] = found[i].model
	}
	return models, next, err
}

func (tx *registryTx) logged(id string) (int64, error) {
	var key int64
	switch err := tx.get([]any{&key}, "SELECT id FROM logged_models WHERE model_id = ? AND lifecycle_stage = 'active'", id); {
	case errors.Is(err, sql.ErrNoRows):
		return 0, noLogged(id)
	case err != nil:
		return 0, fmt.Errorf("read logged model: %w", err)
	}
	return key, nil
}

// UpdateLoggedModel implements turbofan.LoggedModelStore.
func (d *RegistryDB) UpdateLoggedModel(ctx context.Context, id string, u turbofan.LoggedModelUpdate) (turbofan.LoggedModel, error) {
	var m turbofan.LoggedModel
	err := d.update(ctx, func(tx *registryTx) error {
		key, err := tx.logged(id)
		if err != nil {
			return err
		}
		if u.Status != nil {
			if err := tx.exec("UPDATE logged_models SET status = ?, updated_at = ? WHERE id = ?", *u.Status, millis(time.Now()), key); err != nil {
				return fmt.Errorf("update logged model: %w", err)
			}
		}
		if err := setLoggedTags(tx, key, u.SetTags); err != nil {
			return err
		}
		for _, k := range u.DeleteTags {
			n, err := tx.changed("DELETE FROM logged_model_tags WHERE logged_model_id = ? AND key = ?", key, k)
			if err != nil {
				return fmt.Errorf("delete logged model tag: %w", err)
			}
			if n == 0 {
				return notFound("No tag with key '%s' found for model with ID '%s'.", k, id)
			}
		}
		if err := addLoggedParams(tx, key, u.AddParams); err != nil {
			return err
		}
		m, err = loadLogged(context.Background(), tx, id)
		return err
	})
	return m, err
}

// DeleteLoggedModel implements turbofan.LoggedModelStore.
func (d *RegistryDB) DeleteLoggedModel(ctx context.Context, id string) error {
	return d.update(ctx, func(tx *registryTx) error {
		key, err := tx.logged(id)
		if err != nil {
			return err
		}
		if err := tx.exec("UPDATE logged_models SET lifecycle_stage = 'deleted', updated_at = ? WHERE id = ?", millis(time.Now()), key); err != nil {
			return fmt.Errorf("delete logged model: %w", err)
		}
		return nil
	})
}

// recordModelMetric keeps a run's metric with the logged model that it is about.
func recordModelMetric(tx *registryTx, runID string, m turbofan.Metric) error {
	key, err := tx.logged(m.ModelID)
	if err != nil {
		return err
	}
	value, nan := sqlNumber(m.Value)
	if err := tx.exec(`INSERT INTO logged_model_metrics (logged_model_id, key, timestamp, step, run_id, dataset_name, dataset_digest, value, is_nan)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (logged_model_id, key, timestamp, step, run_id, dataset_name, dataset_digest)
		DO UPDATE SET value = excluded.value, is_nan = excluded.is_nan`,
		key, m.Key, m.At.UnixMilli(), m.Step, runID, m.DatasetName, m.DatasetDigest, value, nan); err != nil {
		return fmt.Errorf("log metric of logged model: %w", err)
	}
	return nil
}
