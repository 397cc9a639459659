package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"time"

	"turbofan"
)

const runsFrom = "runs r"

func runsTable() *searchTable {
	return &searchTable{
		from: runsFrom,
		id:   "r.id",
		attributes: map[string]searchColumn{
			"run_id":        {expr: "r.run_id"},
			"run_name":      {expr: "r.name"},
			"status":        {expr: "r.status"},
			"user_id":       {expr: "r.user_id"},
			"artifact_uri":  {expr: "r.artifact_uri"},
			"start_time":    {expr: "r.start_time", number: true},
			"end_time":      {expr: "r.end_time", number: true, nullable: true},
			"experiment_id": {expr: "r.experiment_id", number: true},
		},
		owned: map[turbofan.SearchEntity]ownedTable{
			turbofan.EntityMetric: {"latest_metrics", "o.run_id = r.id"},
			turbofan.EntityParam:  {"params", "o.run_id = r.id"},
			turbofan.EntityTag:    {"run_tags", "o.run_id = r.id"},
		},
		order: []orderKey{{expr: "r.start_time", desc: true}, {expr: "r.run_id"}},
	}
}

const runColumns = "r.id, r.run_id, r.name, r.experiment_id, r.user_id, r.status, r.start_time, r.end_time, r.artifact_uri, r.lifecycle_stage"

// foundRun is a run with the key that its own tables refer to.
type foundRun struct {
	key int64
	run turbofan.Run
}

func scanRun(scan func(...any) error) (foundRun, error) {
	var f foundRun
	var experiment, start int64
	var end sql.NullInt64
	err := scan(&f.key, &f.run.ID, &f.run.Name, &experiment, &f.run.UserID, &f.run.Status, &start, &end, &f.run.ArtifactURI, &f.run.Stage)
	f.run.ExperimentID = strconv.FormatInt(experiment, 10)
	f.run.StartedAt, f.run.EndedAt = time.UnixMilli(start), fromNullMillis(end)
	return f, err
}

// mlflow.runName is the name of a run as a tag: the two always say the same.
const runNameTag = "mlflow.runName"

// CreateRun implements turbofan.RunStore.
func (d *RegistryDB) CreateRun(ctx context.Context, r turbofan.Run) (turbofan.Run, error) {
	experiment, err := experimentKey(r.ExperimentID)
	if err != nil {
		return r, err
	}
	err = d.update(ctx, func(tx *registryTx) error {
		if err := activeExperiment(tx, experiment); err != nil {
			return err
		}
		key, err := tx.next("runs")
		if err != nil {
			return err
		}
		if err := tx.exec(`INSERT INTO runs (id, run_id, experiment_id, name, user_id, status, start_time, end_time, artifact_uri, lifecycle_stage)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, key, r.ID, experiment, r.Name, r.UserID, r.Status,
			millis(r.StartedAt), nullMillis(r.EndedAt), r.ArtifactURI, turbofan.StageActive); err != nil {
			return fmt.Errorf("create run: %w", err)
		}
		return setRunTags(tx, key, r.Tags)
	})
	r.Stage = turbofan.StageActive
	return r, err
}

func activeExperiment(tx *registryTx, key int64) error {
	var stage turbofan.LifecycleStage
	switch err := tx.get([]any{&stage}, "SELECT lifecycle_stage FROM experiments WHERE id = ?", key); {
	case errors.Is(err, sql.ErrNoRows):
		return notFound("No Experiment with id=%d exists", key)
	case err != nil:
		return fmt.Errorf("read experiment: %w", err)
	}
	if stage != turbofan.StageActive {
		return invalid("The experiment %d must be in the 'active' state. Current state is %s.", key, stage)
	}
	return nil
}

func setRunTags(tx *registryTx, key int64, tags []turbofan.KeyValue) error {
	for _, t := range tags {
		if t.Key == runNameTag {
			if err := tx.exec("UPDATE runs SET name = ? WHERE id = ?", t.Value, key); err != nil {
				return fmt.Errorf("rename run: %w", err)
			}
		}
		if err := tx.exec(`INSERT INTO run_tags (run_id, key, value) VALUES (?, ?, ?)
			ON CONFLICT (run_id, key) DO UPDATE SET value = excluded.value`, key, t.Key, t.Value); err != nil {
			return fmt.Errorf("set run tag: %w", err)
		}
	}
	return nil
}

// Run implements turbofan.RunStore.
func (d *RegistryDB) Run(ctx context.Context, id string) (turbofan.Run, error) {
	var found []foundRun
	err := d.view(ctx, func(q queryer) error {
		err := each(ctx, q, func(rows *sql.Rows) error {
			f, err := scanRun(rows.Scan)
			found = append(found, f)
			return err
		}, "SELECT "+runColumns+" FROM runs r WHERE r.run_id = ?", id)
		if err != nil {
			return err
		}
		return loadRuns(ctx, q, found)
	})
	if err != nil {
		return turbofan.Run{}, err
	}
	if len(found) == 0 {
		return turbofan.Run{}, notFound("Run with id=%s not found", id)
	}
	return found[0].run, nil
}

// loadRuns reads what belongs to the runs.
func loadRuns(ctx context.Context, q queryer, found []foundRun) error {
	at := make(map[int64]*turbofan.Run, len(found))
	keys := make([]int64, len(found))
	for i := range found {
		at[found[i].key], keys[i] = &found[i].run, found[i].key
	}
	if err := loadKeyValues(ctx, q, "params", "run_id", keys, func(id int64, kv turbofan.KeyValue) {
		at[id].Params = append(at[id].Params, kv)
	}); err != nil {
		return err
	}
	if err := loadKeyValues(ctx, q, "run_tags", "run_id", keys, func(id int64, kv turbofan.KeyValue) {
		at[id].Tags = append(at[id].Tags, kv)
	}); err != nil {
		return err
	}
	return inChunks(keys, func(part []int64) error {
		if err := loadLatestMetrics(ctx, q, part, at); err != nil {
			return err
		}
		if err := loadRunDatasets(ctx, q, part, at); err != nil {
			return err
		}
		return loadRunModels(ctx, q, part, at)
	})
}

func loadLatestMetrics(ctx context.Context, q queryer, part []int64, at map[int64]*turbofan.Run) error {
	return each(ctx, q, func(rows *sql.Rows) error {
		var id, timestamp int64
		var nan int
		var m turbofan.Metric
		if err := rows.Scan(&id, &m.Key, &m.Value, &nan, &m.Step, &timestamp); err != nil {
			return err
		}
		m.Value, m.At = fromSQLNumber(m.Value, nan), time.UnixMilli(timestamp)
		at[id].Metrics = append(at[id].Metrics, m)
		return nil
	}, "SELECT run_id, key, value, is_nan, step, timestamp FROM latest_metrics WHERE run_id IN ("+marks(len(part))+") ORDER BY run_id, key", anys(part)...)
}

func loadRunDatasets(ctx context.Context, q queryer, part []int64, at map[int64]*turbofan.Run) error {
	type place struct{ run, dataset int64 }
	index := map[place]int{}
	err := each(ctx, q, func(rows *sql.Rows) error {
		var p place
		var d turbofan.DatasetInput
		if err := rows.Scan(&p.run, &p.dataset, &d.Name, &d.Digest, &d.SourceType, &d.Source, &d.Schema, &d.Profile); err != nil {
			return err
		}
		index[p] = len(at[p.run].Datasets)
		at[p.run].Datasets = append(at[p.run].Datasets, d)
		return nil
	}, `SELECT i.run_id, d.id, d.name, d.digest, d.source_type, d.source, d.data_schema, d.profile
		FROM run_datasets i JOIN datasets d ON d.id = i.dataset_id WHERE i.run_id IN (`+marks(len(part))+") ORDER BY i.run_id, d.id", anys(part)...)
	if err != nil || len(index) == 0 {
		return err
	}
	return each(ctx, q, func(rows *sql.Rows) error {
		var p place
		var kv turbofan.KeyValue
		if err := rows.Scan(&p.run, &p.dataset, &kv.Key, &kv.Value); err != nil {
			return err
		}
		if i, ok := index[p]; ok {
			d := &at[p.run].Datasets[i]
			d.Tags = append(d.Tags, kv)
		}
		return nil
	}, "SELECT run_id, dataset_id, key, value FROM run_dataset_tags WHERE run_id IN ("+marks(len(part))+") ORDER BY run_id, dataset_id, key", anys(part)...)
}

func loadRunModels(ctx context.Context, q queryer, part []int64, at map[int64]*turbofan.Run) error {
	return each(ctx, q, func(rows *sql.Rows) error {
		var id int64
		var direction string
		var m turbofan.ModelIO
		if err := rows.Scan(&id, &direction, &m.ModelID, &m.Step); err != nil {
			return err
		}
		if direction == directionInput {
			at[id].Inputs = append(at[id].Inputs, m)
		} else {
			at[id].Outputs = append(at[id].Outputs, m)
		}
		return nil
	}, "SELECT run_id, direction, model_id, step FROM run_models WHERE run_id IN ("+marks(len(part))+") ORDER BY run_id, direction, step, model_id", anys(part)...)
}

const (
	directionInput  = "input"
	directionOutput = "output"
)

// runRow is what a write needs to know of its run.
type runRow struct {
	key, experiment int64
	stage           turbofan.LifecycleStage
}

func (tx *registryTx) run(id string) (runRow, error) {
	var r runRow
	switch err := tx.get([]any{&r.key, &r.experiment, &r.stage}, "SELECT id, experiment_id, lifecycle_stage FROM runs WHERE run_id = ?", id); {
	case errors.Is(err, sql.ErrNoRows):
		return r, notFound("Run with id=%s not found", id)
	case err != nil:
		return r, fmt.Errorf("read run: %w", err)
	}
	return r, nil
}

func (tx *registryTx) activeRun(id string) (runRow, error) {
	r, err := tx.run(id)
	if err == nil && r.stage != turbofan.StageActive {
		err = invalid("The run %s must be in the 'active' state. Current state is %s.", id, r.stage)
	}
	return r, err
}

// UpdateRun implements turbofan.RunStore.
func (d *RegistryDB) UpdateRun(ctx context.Context, id string, u turbofan.RunUpdate) (turbofan.RunInfo, error) {
	var info turbofan.RunInfo
	err := d.update(ctx, func(tx *registryTx) error {
		r, err := tx.run(id)
		if err != nil {
			return err
		}
		if u.Stage != nil {
			if err := tx.exec("UPDATE runs SET lifecycle_stage = ? WHERE id = ?", *u.Stage, r.key); err != nil {
				return fmt.Errorf("update run: %w", err)
			}
		} else if r.stage != turbofan.StageActive {
			return invalid("The run %s must be in the 'active' state. Current state is %s.", id, r.stage)
		}
		if err := updateRunRow(tx, r.key, u); err != nil {
			return fmt.Errorf("update run: %w", err)
		}
		for _, k := range u.DeleteTags {
			n, err := tx.changed("DELETE FROM run_tags WHERE run_id = ? AND key = ?", r.key, k)
			if err != nil {
				return fmt.Errorf("delete run tag: %w", err)
			}
			if n == 0 {
				return notFound("No tag with name: %s in run with id %s", k, id)
			}
		}
		return each(ctx, tx, func(rows *sql.Rows) error {
			f, err := scanRun(rows.Scan)
			info = f.run.RunInfo
			return err
		}, "SELECT "+runColumns+" FROM runs r WHERE r.id = ?", r.key)
	})
	return info, err
}

func updateRunRow(tx *registryTx, key int64, u turbofan.RunUpdate) error {
	if u.Status != nil {
		if err := tx.exec("UPDATE runs SET status = ? WHERE id = ?", *u.Status, key); err != nil {
			return err
		}
	}
	if u.EndedAt != nil {
		if err := tx.exec("UPDATE runs SET end_time = ? WHERE id = ?", nullMillis(*u.EndedAt), key); err != nil {
			return err
		}
	}
	if u.Name != nil {
		return setRunTags(tx, key, []turbofan.KeyValue{{Key: runNameTag, Value: *u.Name}})
	}
	return nil
}

// RecordRun implements turbofan.RunStore.
func (d *RegistryDB) RecordRun(ctx context.Context, id string, rec turbofan.RunRecord) error {
	return d.update(ctx, func(tx *registryTx) error {
		r, err := tx.activeRun(id)
		if err != nil {
			return err
		}
		if err := recordParams(tx, id, r.key, rec.Params); err != nil {
			return err
		}
		if err := recordMetrics(tx, id, r.key, rec.Metrics); err != nil {
			return err
		}
		if err := setRunTags(tx, r.key, rec.Tags); err != nil {
			return err
		}
		if err := recordDatasets(tx, r, rec.Datasets); err != nil {
			return err
		}
		if err := recordModels(tx, r.key, directionInput, rec.Inputs); err != nil {
			return err
		}
		return recordModels(tx, r.key, directionOutput, rec.Outputs)
	})
}

func recordParams(tx *registryTx, id string, key int64, params []turbofan.KeyValue) error {
	for _, p := range params {
		n, err := tx.changed("INSERT INTO params (run_id, key, value) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", key, p.Key, p.Value)
		if err != nil {
			return fmt.Errorf("log parameter: %w", err)
		}
		if n > 0 {
			continue
		}
		var old string
		if err := tx.get([]any{&old}, "SELECT value FROM params WHERE run_id = ? AND key = ?", key, p.Key); err != nil {
			return fmt.Errorf("log parameter: %w", err)
		}
		if old != p.Value {
			return invalid("Changing param values is not allowed. Param with key='%s' was already logged with value='%s' for run ID='%s'. "+
				"Attempted logging new value '%s'.", p.Key, old, id, p.Value)
		}
	}
	return nil
}

func recordMetrics(tx *registryTx, id string, key int64, metrics []turbofan.Metric) error {
	latest := make(map[string]turbofan.Metric, len(metrics))
	for _, m := range metrics {
		value, nan := sqlNumber(m.Value)
		if err := tx.exec("INSERT INTO metrics (run_id, key, timestamp, step, value, is_nan) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
			key, m.Key, m.At.UnixMilli(), m.Step, value, nan); err != nil {
			return fmt.Errorf("log metric: %w", err)
		}
		if last, ok := latest[m.Key]; !ok || later(m, last) {
			latest[m.Key] = m
		}
		if m.ModelID != "" {
			if err := recordModelMetric(tx, id, m); err != nil {
				return err
			}
		}
	}
	for _, m := range latest {
		value, nan := sqlNumber(m.Value)
		if err := tx.exec(`INSERT INTO latest_metrics (run_id, key, value, is_nan, step, timestamp) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (run_id, key) DO UPDATE SET value = excluded.value, is_nan = excluded.is_nan, step = excluded.step, timestamp = excluded.timestamp
			WHERE (excluded.step, excluded.timestamp, excluded.value) > (latest_metrics.step, latest_metrics.timestamp, latest_metrics.value)`,
			key, m.Key, value, nan, m.Step, m.At.UnixMilli()); err != nil {
			return fmt.Errorf("log metric: %w", err)
		}
	}
	return nil
}

// later reports whether a is to be shown rather than b: by step, then time, then value.
func later(a, b turbofan.Metric) bool {
	av, _ := sqlNumber(a.Value)
	bv, _ := sqlNumber(b.Value)
	return cmp.Or(cmp.Compare(a.Step, b.Step), cmp.Compare(a.At.UnixMilli(), b.At.UnixMilli()), cmp.Compare(av, bv)) > 0
}

func recordDatasets(tx *registryTx, r runRow, datasets []turbofan.DatasetInput) error {
	for _, d := range datasets {
		var id int64
		err := tx.get([]any{&id}, "SELECT id FROM datasets WHERE experiment_id = ? AND name = ? AND digest = ?", r.experiment, d.Name, d.Digest)
		if errors.Is(err, sql.ErrNoRows) {
			if id, err = tx.next("datasets"); err == nil {
				err = tx.exec(`INSERT INTO datasets (id, experiment_id, name, digest, source_type, source, data_schema, profile) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
					id, r.experiment, d.Name, d.Digest, d.SourceType, d.Source, d.Schema, d.Profile)
			}
		}
		if err == nil {
			err = tx.exec("INSERT INTO run_datasets (run_id, dataset_id) VALUES (?, ?) ON CONFLICT DO NOTHING", r.key, id)
		}
		for i := 0; err == nil && i < len(d.Tags); i++ {
			err = tx.exec(`INSERT INTO run_dataset_tags (run_id, dataset_id, key, value) VALUES (?, ?, ?, ?)
				ON CONFLICT (run_id, dataset_id, key) DO UPDATE SET value = excluded.value`, r.key, id, d.Tags[i].Key, d.Tags[i].Value)
		}
		if err != nil {
			return fmt.Errorf("log data set: %w", err)
		}
	}
	return nil
}

func recordModels(tx *registryTx, key int64, direction string, models []turbofan.ModelIO) error {
	for _, m := range models {
		if err := tx.exec(`INSERT INTO run_models (run_id, direction, model_id, step) VALUES (?, ?, ?, ?)
			ON CONFLICT (run_id, direction, model_id) DO UPDATE SET step = excluded.step`, key, direction, m.ModelID, m.Step); err != nil {
			return fmt.Errorf("log model of run: %w", err)
		}
	}
	return nil
}
