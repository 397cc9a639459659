-- +goose Up
-- The readings of young units, from which a model learns operating conditions before it serves: a swap would otherwise
-- read every reading that was ever stored. Queries name the bound, see youngIndexed.
CREATE INDEX readings_young ON readings (seq) WHERE cycle <= 50;

-- +goose Down
DROP INDEX readings_young;
