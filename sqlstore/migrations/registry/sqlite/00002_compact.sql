-- +goose Up
-- What belongs to a run stands together, in the order of its key: a search reads it with one descent a run. A table and an
-- index beside it, which named its rows, took two, and on most of them the disk's cache had to be asked.
CREATE TABLE latest_metrics_by_run (
    run_id    INTEGER NOT NULL REFERENCES runs (id),
    key       TEXT NOT NULL,
    value     DOUBLE PRECISION NOT NULL,
    is_nan    SMALLINT NOT NULL,
    step      BIGINT NOT NULL,
    timestamp BIGINT NOT NULL,
    PRIMARY KEY (run_id, key)
) WITHOUT ROWID;
INSERT INTO latest_metrics_by_run SELECT run_id, key, value, is_nan, step, timestamp FROM latest_metrics ORDER BY run_id, key;
DROP TABLE latest_metrics;
ALTER TABLE latest_metrics_by_run RENAME TO latest_metrics;

-- With is_nan before the value, a search by a metric needs the index alone.
CREATE INDEX latest_metrics_value ON latest_metrics (key, is_nan, value, run_id);

CREATE TABLE params_by_run (
    run_id INTEGER NOT NULL REFERENCES runs (id),
    key    TEXT NOT NULL,
    value  TEXT NOT NULL,
    PRIMARY KEY (run_id, key)
) WITHOUT ROWID;
INSERT INTO params_by_run SELECT run_id, key, value FROM params ORDER BY run_id, key;
DROP TABLE params;
ALTER TABLE params_by_run RENAME TO params;
CREATE INDEX params_value ON params (key, substr(value, 1, 100), run_id);

CREATE TABLE run_tags_by_run (
    run_id INTEGER NOT NULL REFERENCES runs (id),
    key    TEXT NOT NULL,
    value  TEXT NOT NULL,
    PRIMARY KEY (run_id, key)
) WITHOUT ROWID;
INSERT INTO run_tags_by_run SELECT run_id, key, value FROM run_tags ORDER BY run_id, key;
DROP TABLE run_tags;
ALTER TABLE run_tags_by_run RENAME TO run_tags;
CREATE INDEX run_tags_value ON run_tags (key, substr(value, 1, 100), run_id);

-- Every point stood twice: in a table that nobody read, and in its index.
CREATE TABLE points (
    run_id    INTEGER NOT NULL REFERENCES runs (id),
    key       TEXT NOT NULL,
    timestamp BIGINT NOT NULL,
    step      BIGINT NOT NULL,
    value     DOUBLE PRECISION NOT NULL,
    is_nan    SMALLINT NOT NULL,
    PRIMARY KEY (run_id, key, timestamp, step, value, is_nan)
) WITHOUT ROWID;
INSERT INTO points SELECT run_id, key, timestamp, step, value, is_nan FROM metrics ORDER BY run_id, key, timestamp, step, value, is_nan;
DROP TABLE metrics;
ALTER TABLE points RENAME TO metrics;

-- +goose Down
CREATE TABLE metrics_by_row (
    run_id         INTEGER NOT NULL REFERENCES runs (id),
    key            TEXT NOT NULL,
    timestamp      BIGINT NOT NULL,
    step           BIGINT NOT NULL,
    value          DOUBLE PRECISION NOT NULL,
    is_nan         SMALLINT NOT NULL
);
INSERT INTO metrics_by_row SELECT run_id, key, timestamp, step, value, is_nan FROM metrics;
DROP TABLE metrics;
ALTER TABLE metrics_by_row RENAME TO metrics;
CREATE UNIQUE INDEX metrics_history ON metrics (run_id, key, timestamp, step, value, is_nan);
DROP INDEX latest_metrics_value;
CREATE INDEX latest_metrics_value ON latest_metrics (key, value, run_id);
