package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"turbofan"
)

// SaveReport stores a report, on disk when it returns. A report of the same id is replaced and keeps its place.
func (s *State) SaveReport(ctx context.Context, r turbofan.DriftReport) error {
	if r.ID == "" {
		return turbofan.Invalid("report_id", "is missing")
	}
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode drift report %s: %w", r.ID, err)
	}
	return s.w.do(ctx, "save drift report", func(tx *txn) error {
		_, err := tx.exec(`INSERT INTO drift_reports (id, checked_at, report) VALUES (?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET checked_at = excluded.checked_at, report = excluded.report`,
			r.ID, nanos(r.At), string(text))
		return err
	})
}

// Reports returns the newest reports, newest first. A limit of 0 means no bound.
func (s *State) Reports(ctx context.Context, limit int) ([]turbofan.DriftReport, error) {
	return documents[turbofan.DriftReport](ctx, s, "read drift reports from",
		`SELECT report FROM drift_reports ORDER BY seq DESC LIMIT ?`, bound(limit))
}

// CreateJob stores a job unless one is active (EConflict, naming that job), on disk when it returns.
func (s *State) CreateJob(ctx context.Context, j turbofan.Job) error {
	text, err := encodeJob(j)
	if err != nil {
		return err
	}
	return s.w.do(ctx, "create job", func(tx *txn) error {
		if err := onlyActive(tx, j.ID); err != nil {
			return err
		}
		n, err := tx.exec(`INSERT INTO jobs (id, active, job) VALUES (?, ?, ?) ON CONFLICT (id) DO NOTHING`,
			j.ID, active(j), text)
		if err == nil && n == 0 {
			return turbofan.Errorf(turbofan.EConflict, "job %s already exists", j.ID)
		}
		return err
	})
}

// UpdateJob replaces a job, on disk when it returns; ENotFound when there is none of that id, EConflict when it would
// make a second job active, or one again that has ended: a process that works on a job which another one cancelled
// learns of it here.
func (s *State) UpdateJob(ctx context.Context, j turbofan.Job) error {
	text, err := encodeJob(j)
	if err != nil {
		return err
	}
	return s.w.do(ctx, "update job", func(tx *txn) error {
		if j.Status.Active() {
			if err := onlyActive(tx, j.ID); err != nil {
				return err
			}
		}
		n, err := tx.exec(`UPDATE jobs SET active = ?, job = ? WHERE id = ? AND active >= CAST(? AS BIGINT)`, active(j), text, j.ID, active(j))
		if err != nil || n > 0 {
			return err
		}
		var old int
		switch err := tx.row(`SELECT active FROM jobs WHERE id = ?`, []any{j.ID}, &old); {
		case errors.Is(err, sql.ErrNoRows):
			return noJob(j.ID)
		case err != nil:
			return err
		}
		return turbofan.Errorf(turbofan.EConflict, "job %s has ended", j.ID)
	})
}

// Job returns a job by id, or ENotFound.
func (s *State) Job(ctx context.Context, id string) (turbofan.Job, error) {
	jobs, err := documents[turbofan.Job](ctx, s, "read job from", `SELECT job FROM jobs WHERE id = ?`, id)
	if err != nil {
		return turbofan.Job{}, err
	}
	if len(jobs) == 0 {
		return turbofan.Job{}, noJob(id)
	}
	return jobs[0], nil
}

// Jobs returns the newest jobs, newest first. A limit of 0 means no bound.
func (s *State) Jobs(ctx context.Context, limit int) ([]turbofan.Job, error) {
	return documents[turbofan.Job](ctx, s, "read jobs from", `SELECT job FROM jobs ORDER BY seq DESC LIMIT ?`, bound(limit))
}

func noJob(id string) error { return turbofan.Errorf(turbofan.ENotFound, "there is no job %q", id) }

func encodeJob(j turbofan.Job) (string, error) {
	if j.ID == "" {
		return "", turbofan.Invalid("job_id", "is missing")
	}
	if j.Status == "" {
		return "", turbofan.Invalid("status", "is missing")
	}
	text, err := json.Marshal(j)
	if err != nil {
		return "", fmt.Errorf("encode job %s: %w", j.ID, err)
	}
	return string(text), nil
}

func active(j turbofan.Job) int {
	if j.Status.Active() {
		return 1
	}
	return 0
}

// onlyActive is an EConflict error when a job other than id is active.
func onlyActive(tx *txn, id string) error {
	var other string
	err := tx.row(`SELECT id FROM jobs WHERE active = 1 AND id <> ?`, []any{id}, &other)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return turbofan.Errorf(turbofan.EConflict, "job %s is active: wait for it or cancel it", other)
}

// documents reads rows of one JSON column.
func documents[T any](ctx context.Context, s *State, op, query string, args ...any) ([]T, error) {
	var out []T
	err := s.rows(ctx, op, query, args, func(rows *sql.Rows) error {
		var text sql.RawBytes
		if err := rows.Scan(&text); err != nil {
			return err
		}
		var v T
		if err := json.Unmarshal(text, &v); err != nil {
			return err
		}
		out = append(out, v)
		return nil
	})
	return out, err
}
