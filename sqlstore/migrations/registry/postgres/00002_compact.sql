-- +goose Up
-- With is_nan before the value, a search by a metric needs the index alone.
DROP INDEX latest_metrics_value;
CREATE INDEX latest_metrics_value ON latest_metrics (key, is_nan, value, run_id);

-- +goose Down
DROP INDEX latest_metrics_value;
CREATE INDEX latest_metrics_value ON latest_metrics (key, value, run_id);
