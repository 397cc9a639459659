-- +goose Up
-- A cycle is answered once, and once by each challenger: a replica whose commit failed may try it again after another one has
-- answered the same reading. What came first is kept.
CREATE TABLE repeated AS SELECT seq FROM (SELECT seq, ROW_NUMBER() OVER (PARTITION BY unit_id, cycle, shadow,
    CASE WHEN shadow = 1 THEN model_name ELSE '' END, CASE WHEN shadow = 1 THEN model_version ELSE '' END ORDER BY seq) AS place
    FROM predictions) AS places WHERE place > 1;
DELETE FROM truths WHERE prediction_seq IN (SELECT seq FROM repeated);
DELETE FROM predictions WHERE seq IN (SELECT seq FROM repeated);
DROP TABLE repeated;
CREATE UNIQUE INDEX predictions_sent ON predictions (unit_id, cycle) WHERE shadow = 0;
CREATE UNIQUE INDEX predictions_silent ON predictions (unit_id, cycle, model_name, model_version) WHERE shadow = 1;

-- +goose Down
DROP INDEX predictions_silent;
DROP INDEX predictions_sent;
