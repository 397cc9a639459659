-- +goose Up
-- Who does what only one process may do at a time, and until when.
CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    expires BIGINT NOT NULL -- milliseconds since 1970, by the database's clock
);

-- +goose Down
DROP TABLE leases;
