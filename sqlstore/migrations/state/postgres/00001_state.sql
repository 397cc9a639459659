-- Moments are nanoseconds since 1970 UTC. An unknown number is NULL.

-- +goose Up

-- What was read. seq grows with arrival; channels is described in the package comment.
CREATE TABLE readings (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    unit_id TEXT NOT NULL,
    cycle BIGINT NOT NULL,
    received_at BIGINT NOT NULL,
    channels BYTEA NOT NULL,
    UNIQUE (unit_id, cycle)
);

-- What was answered.
CREATE TABLE predictions (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    unit_id TEXT NOT NULL,
    cycle BIGINT NOT NULL,
    rul DOUBLE PRECISION,
    rul_lower DOUBLE PRECISION,
    rul_upper DOUBLE PRECISION,
    failure_probability DOUBLE PRECISION,
    failure_horizon BIGINT NOT NULL,
    health TEXT NOT NULL,
    model_name TEXT NOT NULL,
    model_version TEXT NOT NULL,
    condition BIGINT NOT NULL,
    drivers TEXT, -- JSON, NULL for none
    warnings TEXT, -- JSON, NULL for none
    predicted_at BIGINT NOT NULL
);
CREATE INDEX predictions_unit ON predictions (unit_id, seq);
CREATE INDEX predictions_version ON predictions (model_version, seq);

-- One row a unit, so that a list of the fleet does not read its whole past.
CREATE TABLE units (
    unit_id TEXT PRIMARY KEY,
    first_cycle BIGINT NOT NULL,
    last_cycle BIGINT NOT NULL,
    readings BIGINT NOT NULL,
    last_seq BIGINT NOT NULL,
    last_seen BIGINT NOT NULL,
    failed_at_cycle BIGINT,
    failed_received_at BIGINT
);
CREATE INDEX units_newest ON units (last_seq);
CREATE INDEX units_failed ON units (failed_received_at) WHERE failed_at_cycle IS NOT NULL;

-- What really happened.
CREATE TABLE outcomes (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    key TEXT NOT NULL UNIQUE,
    unit_id TEXT NOT NULL REFERENCES units (unit_id),
    cycle BIGINT NOT NULL, -- 0 where the outcome speaks of the unit as a whole
    prediction_id TEXT NOT NULL,
    failed_at_cycle BIGINT,
    actual_rul DOUBLE PRECISION,
    event TEXT NOT NULL,
    note TEXT NOT NULL,
    received_at BIGINT NOT NULL,
    predictions BIGINT NOT NULL -- how many predictions it gave a truth when it came
);
CREATE INDEX outcomes_unit ON outcomes (unit_id, cycle);
CREATE INDEX outcomes_received ON outcomes (received_at);

-- The truth of each prediction that has one, so that the newest of them are found without reading those that wait.
CREATE TABLE truths (
    prediction_seq BIGINT PRIMARY KEY,
    model_version TEXT NOT NULL,
    actual_rul DOUBLE PRECISION NOT NULL
);
CREATE INDEX truths_version ON truths (model_version, prediction_seq);

CREATE TABLE drift_reports (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    checked_at BIGINT NOT NULL,
    report TEXT NOT NULL -- JSON
);

CREATE TABLE jobs (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    active BIGINT NOT NULL, -- 1 while the job waits or runs, else 0
    job TEXT NOT NULL  -- JSON
);
-- At most one job is active, whatever a program believes.
CREATE UNIQUE INDEX jobs_active ON jobs (active) WHERE active = 1;

-- +goose Down
DROP TABLE jobs;
DROP TABLE drift_reports;
DROP TABLE truths;
DROP TABLE outcomes;
DROP TABLE units;
DROP TABLE predictions;
DROP TABLE readings;
