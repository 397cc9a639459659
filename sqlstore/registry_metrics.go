package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"turbofan"
)

// historyTable is the history of one metric as something to page through.
func historyTable() *searchTable {
	return &searchTable{
		from:  "metrics m",
		id:    "m.run_id",
		order: []orderKey{{expr: "m.timestamp"}, {expr: "m.step"}, {expr: "m.value"}, {expr: "m.is_nan"}},
	}
}

// MetricHistory implements turbofan.RunStore.
func (d *RegistryDB) MetricHistory(ctx context.Context, query turbofan.MetricQuery) ([]turbofan.Metric, string, error) {
	s, err := historyTable().search(d.db.dialect, nil, nil)
	if err != nil {
		return nil, "", err
	}
	limit := query.Limit
	if limit == 0 {
		limit = 1 << 30
	}
	var found []turbofan.Metric
	var next string
	err = d.view(ctx, func(q queryer) error {
		key, err := runKey(ctx, q, query.RunID)
		if err != nil {
			return err
		}
		s.and("m.run_id = ? AND m.key = ?", key, query.Key)
		next, err = s.page(ctx, q, "m.value, m.is_nan, m.step, m.timestamp", limit, query.PageToken, func(dest func(...any) error) error {
			m := turbofan.Metric{Key: query.Key, RunID: query.RunID}
			var nan int
			var timestamp int64
			err := dest(&m.Value, &nan, &m.Step, &timestamp)
			m.Value, m.At = fromSQLNumber(m.Value, nan), time.UnixMilli(timestamp)
			found = append(found, m)
			return err
		})
		return err
	})
	return found, next, err
}

func runKey(ctx context.Context, q queryer, id string) (int64, error) {
	key := int64(-1)
	err := each(ctx, q, func(rows *sql.Rows) error { return rows.Scan(&key) }, "SELECT id FROM runs WHERE run_id = ?", id)
	if err != nil {
		return 0, err
	}
	if key < 0 {
		return 0, notFound("Run with id=%s not found", id)
	}
	return key, nil
}

// DatasetSummaries implements turbofan.RunStore.
func (d *RegistryDB) DatasetSummaries(ctx context.Context, experimentIDs []string) ([]turbofan.DatasetSummary, error) {
	var keys []int64
	for _, id := range experimentIDs {
		if key, err := experimentKey(id); err == nil {
			keys = append(keys, key)
		}
	}
	var found []turbofan.DatasetSummary
	err := d.view(ctx, func(q queryer) error {
		return inChunks(keys, func(part []int64) error {
			return each(ctx, q, func(rows *sql.Rows) error {
				var s turbofan.DatasetSummary
				var experiment int64
				if err := rows.Scan(&experiment, &s.Name, &s.Digest, &s.Context); err != nil {
					return err
				}
				s.ExperimentID = fmt.Sprint(experiment)
				found = append(found, s)
				return nil
			}, `SELECT DISTINCT d.experiment_id, d.name, d.digest, COALESCE(t.value, '') AS context
				FROM datasets d JOIN run_datasets i ON i.dataset_id = d.id
				JOIN runs r ON r.id = i.run_id AND r.lifecycle_stage = 'active'
				LEFT JOIN run_dataset_tags t ON t.run_id = i.run_id AND t.dataset_id = i.dataset_id AND t.key = 'mlflow.data.context'
				WHERE d.experiment_id IN (`+marks(len(part))+`) ORDER BY d.experiment_id, d.name, d.digest, context LIMIT 1000`, anys(part)...)
		})
	})
	return found, err
}
