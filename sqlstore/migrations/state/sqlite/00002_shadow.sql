-- +goose Up
-- 1 for the silent answer of a challenger, which was logged and never sent.
ALTER TABLE predictions ADD COLUMN shadow INTEGER NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE predictions DROP COLUMN shadow;
