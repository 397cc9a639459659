-- +goose Up
-- The tables of SQLite's, with texts in the order of their bytes as there: pages of a search go on by comparison.
-- Identifiers come from counters, not from the database's own sequences: SQLite and PostgreSQL spell those apart, and
-- a number once given must not come back after a delete.
CREATE TABLE counters (
    name  TEXT COLLATE "C" PRIMARY KEY,
    value BIGINT NOT NULL
);

CREATE TABLE experiments (
    id                BIGINT PRIMARY KEY,
    name              TEXT COLLATE "C" NOT NULL UNIQUE,
    artifact_location TEXT COLLATE "C" NOT NULL,
    lifecycle_stage   TEXT COLLATE "C" NOT NULL,
    created_at        BIGINT NOT NULL,
    updated_at        BIGINT NOT NULL
);

CREATE TABLE experiment_tags (
    experiment_id BIGINT NOT NULL REFERENCES experiments (id),
    key           TEXT COLLATE "C" NOT NULL,
    value         TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (experiment_id, key)
);

CREATE TABLE runs (
    id              BIGINT PRIMARY KEY,
    run_id          TEXT COLLATE "C" NOT NULL UNIQUE,
    experiment_id   BIGINT NOT NULL REFERENCES experiments (id),
    name            TEXT COLLATE "C" NOT NULL,
    user_id         TEXT COLLATE "C" NOT NULL,
    status          TEXT COLLATE "C" NOT NULL,
    start_time      BIGINT NOT NULL,
    end_time        BIGINT,
    artifact_uri    TEXT COLLATE "C" NOT NULL,
    lifecycle_stage TEXT COLLATE "C" NOT NULL
);

CREATE INDEX runs_newest ON runs (experiment_id, lifecycle_stage, start_time DESC, run_id);

-- A value that is logged twice is kept once. NaN is not a number that SQL can order or index: it is 0 with is_nan set.
CREATE TABLE metrics (
    run_id         BIGINT NOT NULL REFERENCES runs (id),
    key            TEXT COLLATE "C" NOT NULL,
    timestamp      BIGINT NOT NULL,
    step           BIGINT NOT NULL,
    value          DOUBLE PRECISION NOT NULL,
    is_nan         SMALLINT NOT NULL
);

CREATE UNIQUE INDEX metrics_history ON metrics (run_id, key, timestamp, step, value, is_nan);

CREATE TABLE latest_metrics (
    run_id    BIGINT NOT NULL REFERENCES runs (id),
    key       TEXT COLLATE "C" NOT NULL,
    value     DOUBLE PRECISION NOT NULL,
    is_nan    SMALLINT NOT NULL,
    step      BIGINT NOT NULL,
    timestamp BIGINT NOT NULL,
    PRIMARY KEY (run_id, key)
);

CREATE INDEX latest_metrics_value ON latest_metrics (key, value, run_id);

CREATE TABLE params (
    run_id BIGINT NOT NULL REFERENCES runs (id),
    key    TEXT COLLATE "C" NOT NULL,
    value  TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (run_id, key)
);

-- Values can be longer than an index entry may be in PostgreSQL.
CREATE INDEX params_value ON params (key, substr(value, 1, 100), run_id);

CREATE TABLE run_tags (
    run_id BIGINT NOT NULL REFERENCES runs (id),
    key    TEXT COLLATE "C" NOT NULL,
    value  TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (run_id, key)
);

CREATE INDEX run_tags_value ON run_tags (key, substr(value, 1, 100), run_id);

CREATE TABLE datasets (
    id            BIGINT PRIMARY KEY,
    experiment_id BIGINT NOT NULL REFERENCES experiments (id),
    name          TEXT COLLATE "C" NOT NULL,
    digest        TEXT COLLATE "C" NOT NULL,
    source_type   TEXT COLLATE "C" NOT NULL,
    source        TEXT COLLATE "C" NOT NULL,
    data_schema   TEXT COLLATE "C" NOT NULL,
    profile       TEXT COLLATE "C" NOT NULL,
    UNIQUE (experiment_id, name, digest)
);

CREATE TABLE run_datasets (
    run_id     BIGINT NOT NULL REFERENCES runs (id),
    dataset_id BIGINT NOT NULL REFERENCES datasets (id),
    PRIMARY KEY (run_id, dataset_id)
);

CREATE TABLE run_dataset_tags (
    run_id     BIGINT NOT NULL,
    dataset_id BIGINT NOT NULL,
    key        TEXT COLLATE "C" NOT NULL,
    value      TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (run_id, dataset_id, key)
);

CREATE TABLE run_models (
    run_id    BIGINT NOT NULL REFERENCES runs (id),
    direction TEXT COLLATE "C" NOT NULL,
    model_id  TEXT COLLATE "C" NOT NULL,
    step      BIGINT NOT NULL,
    PRIMARY KEY (run_id, direction, model_id)
);

CREATE TABLE logged_models (
    id              BIGINT PRIMARY KEY,
    model_id        TEXT COLLATE "C" NOT NULL UNIQUE,
    experiment_id   BIGINT NOT NULL REFERENCES experiments (id),
    name            TEXT COLLATE "C" NOT NULL,
    model_type      TEXT COLLATE "C" NOT NULL,
    source_run_id   TEXT COLLATE "C" NOT NULL,
    artifact_uri    TEXT COLLATE "C" NOT NULL,
    status          TEXT COLLATE "C" NOT NULL,
    status_message  TEXT COLLATE "C" NOT NULL,
    created_at      BIGINT NOT NULL,
    updated_at      BIGINT NOT NULL,
    lifecycle_stage TEXT COLLATE "C" NOT NULL
);

CREATE INDEX logged_models_newest ON logged_models (experiment_id, lifecycle_stage, created_at DESC, model_id);

CREATE TABLE logged_model_tags (
    logged_model_id BIGINT NOT NULL REFERENCES logged_models (id),
    key             TEXT COLLATE "C" NOT NULL,
    value           TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (logged_model_id, key)
);

CREATE TABLE logged_model_params (
    logged_model_id BIGINT NOT NULL REFERENCES logged_models (id),
    key             TEXT COLLATE "C" NOT NULL,
    value           TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (logged_model_id, key)
);

CREATE TABLE logged_model_metrics (
    logged_model_id BIGINT NOT NULL REFERENCES logged_models (id),
    key             TEXT COLLATE "C" NOT NULL,
    timestamp       BIGINT NOT NULL,
    step            BIGINT NOT NULL,
    run_id          TEXT COLLATE "C" NOT NULL,
    dataset_name    TEXT COLLATE "C" NOT NULL,
    dataset_digest  TEXT COLLATE "C" NOT NULL,
    value           DOUBLE PRECISION NOT NULL,
    is_nan          SMALLINT NOT NULL,
    PRIMARY KEY (logged_model_id, key, timestamp, step, run_id, dataset_name, dataset_digest)
);

CREATE TABLE registered_models (
    id           BIGINT PRIMARY KEY,
    name         TEXT COLLATE "C" NOT NULL UNIQUE,
    description  TEXT COLLATE "C" NOT NULL,
    created_at   BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL,
    last_version BIGINT NOT NULL
);

CREATE TABLE registered_model_tags (
    model_id BIGINT NOT NULL REFERENCES registered_models (id),
    key      TEXT COLLATE "C" NOT NULL,
    value    TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (model_id, key)
);

CREATE TABLE model_versions (
    model_id        BIGINT NOT NULL REFERENCES registered_models (id),
    version         BIGINT NOT NULL,
    run_id          TEXT COLLATE "C" NOT NULL,
    source          TEXT COLLATE "C" NOT NULL,
    storage         TEXT COLLATE "C" NOT NULL,
    description     TEXT COLLATE "C" NOT NULL,
    stage           TEXT COLLATE "C" NOT NULL,
    logged_model_id TEXT COLLATE "C" NOT NULL,
    run_link        TEXT COLLATE "C" NOT NULL,
    user_id         TEXT COLLATE "C" NOT NULL,
    created_at      BIGINT NOT NULL,
    updated_at      BIGINT NOT NULL,
    PRIMARY KEY (model_id, version)
);

CREATE INDEX model_versions_run ON model_versions (run_id);

CREATE TABLE model_version_tags (
    model_id BIGINT NOT NULL,
    version  BIGINT NOT NULL,
    key      TEXT COLLATE "C" NOT NULL,
    value    TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (model_id, version, key)
);

CREATE TABLE model_aliases (
    model_id BIGINT NOT NULL REFERENCES registered_models (id),
    alias    TEXT COLLATE "C" NOT NULL,
    version  BIGINT NOT NULL,
    PRIMARY KEY (model_id, alias)
);

-- +goose Down
DROP TABLE model_aliases;
DROP TABLE model_version_tags;
DROP TABLE model_versions;
DROP TABLE registered_model_tags;
DROP TABLE registered_models;
DROP TABLE logged_model_metrics;
DROP TABLE logged_model_params;
DROP TABLE logged_model_tags;
DROP TABLE logged_models;
DROP TABLE run_models;
DROP TABLE run_dataset_tags;
DROP TABLE run_datasets;
DROP TABLE datasets;
DROP TABLE run_tags;
DROP TABLE params;
DROP TABLE latest_metrics;
DROP TABLE metrics;
DROP TABLE runs;
DROP TABLE experiment_tags;
DROP TABLE experiments;
DROP TABLE counters;
