package sqlstore

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"turbofan"
)

// Record stores outcomes, all of a call or none; when it returns nil they are on disk. An outcome sent again (the same
// key, or without a key the same content) is a duplicate: it gets the receipt of the first and is stored once.
//
// The errors name the outcome's field, with its place where the call has several: ENotFound for an unknown prediction
// or a unit that never sent a reading; EConflict for a key that came with other content, for a unit that already
// failed at another cycle, for the withdrawal of an end that does not stand, and for what was said before without a key
// and withdrawn or stated anew since; EInvalid for a failure before the unit's last reading. A call that returns because ctx ended
// may have been stored: send it again.
func (s *State) Record(ctx context.Context, outcomes []turbofan.Outcome) ([]turbofan.OutcomeReceipt, error) {
	if len(outcomes) == 0 {
		return nil, nil
	}
	now := time.Now()
	incoming := slices.Clone(outcomes) // the writer may still run when a cancelled caller has its slice back
	receipts := make([]turbofan.OutcomeReceipt, len(incoming))
	err := s.w.do(ctx, "record outcome", func(tx *txn) error {
		for i, o := range incoming {
			if o.At.IsZero() {
				o.At = now
			}
			r := recorder{tx: tx, outcome: o}
			if len(incoming) > 1 {
				r.path = fmt.Sprintf("outcomes[%d].", i)
			}
			var err error
			if receipts[i], err = r.record(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return receipts, nil
}

// recorder stores one outcome inside a transaction.
type recorder struct {
	tx      *txn
	outcome turbofan.Outcome
	path    string // what comes before a field's name in an error
}

func (r *recorder) fail(code, field, format string, args ...any) error {
	return &turbofan.Error{Code: code, Field: r.path + field, Message: fmt.Sprintf(format, args...)}
}

func (r *recorder) record() (turbofan.OutcomeReceipt, error) {
	var none turbofan.OutcomeReceipt
	if err := r.resolve(); err != nil {
		return none, err
	}
	digest := contentDigest(&r.outcome)
	key := r.outcome.Key
	if key == "" {
		key = "content:" + digest
	}
	if receipt, found, err := r.duplicate(key, digest); found || err != nil {
		if err == nil && r.outcome.Key == "" {
			err = r.stands()
		}
		return receipt, err
	}
	matched, err := r.truths()
	if err != nil {
		return none, err
	}
	o := &r.outcome
	sum := sha256.Sum256([]byte(key))
	id := hex.EncodeToString(sum[:12])
	_, err = r.tx.exec(`INSERT INTO outcomes (id, key, unit_id, cycle, prediction_id, failed_at_cycle, actual_rul, event, note,
		received_at, predictions) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		id, key, o.UnitID, o.Cycle, o.PredictionID, orNil(o.FailedAtCycle), orNil(o.ActualRUL), o.Event, o.Note, nanos(o.At), matched)
	if err != nil {
		return none, err
	}
	return turbofan.OutcomeReceipt{FeedbackID: id, UnitID: o.UnitID, Predictions: int(matched)}, nil
}

// resolve finds what unit and cycle a prediction id stands for.
func (r *recorder) resolve() error {
	o := &r.outcome
	if o.PredictionID == "" {
		return nil
	}
	var unit string
	var cycle int
	err := r.tx.row(`SELECT unit_id, cycle FROM predictions WHERE id = ?`, []any{o.PredictionID}, &unit, &cycle)
	if errors.Is(err, sql.ErrNoRows) {
		return r.fail(turbofan.ENotFound, "prediction_id", "there is no prediction %q", o.PredictionID)
	}
	if err != nil {
		return err
	}
	if o.UnitID != "" && o.UnitID != unit {
		return r.fail(turbofan.EInvalid, "unit_id", "is %q, but prediction %q is of unit %q", o.UnitID, o.PredictionID, unit)
	}
	if o.Cycle != 0 && o.Cycle != cycle {
		return r.fail(turbofan.EInvalid, "cycle", "is %d, but prediction %q is of cycle %d", o.Cycle, o.PredictionID, cycle)
	}
	o.UnitID, o.Cycle = unit, cycle
	return nil
}

// contentDigest identifies what an outcome says, whichever way it names the unit and whenever it came.
func contentDigest(o *turbofan.Outcome) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q %d %q %q", o.UnitID, o.Cycle, o.Event, o.Note)
	if o.FailedAtCycle != nil {
		fmt.Fprintf(&b, " failed %d", *o.FailedAtCycle)
	}
	if o.ActualRUL != nil {
		fmt.Fprintf(&b, " rul %v", *o.ActualRUL)
	}
	sum := sha256.Sum256([]byte(b.String()))
	return hex.EncodeToString(sum[:16])
}

// duplicate returns the receipt of the outcome that is already stored under key.
func (r *recorder) duplicate(key, digest string) (turbofan.OutcomeReceipt, bool, error) {
	var row outcomeRow
	var receipt turbofan.OutcomeReceipt
	err := r.tx.row(`SELECT `+outcomeColumns+`, id, predictions FROM outcomes WHERE key = ?`, []any{key},
		row.dest(&receipt.FeedbackID, &receipt.Predictions)...)
	if errors.Is(err, sql.ErrNoRows) {
		return receipt, false, nil
	}
	if err != nil {
		return receipt, false, err
	}
	stored := row.outcome()
	if contentDigest(&stored) != digest {
		return receipt, false, r.fail(turbofan.EConflict, "key", "%q was already used for another outcome, of unit %q", key, stored.UnitID)
	}
	receipt.UnitID, receipt.Duplicate = stored.UnitID, true
	return receipt, true, nil
}

// stands reports an outcome about an end that was stored before and is no longer so: without a key nobody can tell whether
// it is the same message sent again, which must change nothing, or the same said anew.
func (r *recorder) stands() error {
	o := &r.outcome
	if o.FailedAtCycle == nil {
		return nil
	}
	var failed sql.NullInt64
	if err := r.tx.row(`SELECT failed_at_cycle FROM units WHERE unit_id = ?`, []any{o.UnitID}, &failed); err != nil {
		return err
	}
	known := failed.Valid && int(failed.Int64) == *o.FailedAtCycle
	switch {
	case known && o.Withdraws():
		return r.fail(turbofan.EConflict, "key", "is missing: this end of unit %q was withdrawn before and stated again; to withdraw it again, give a key", o.UnitID)
	case !known && !o.Withdraws():
		return r.fail(turbofan.EConflict, "key", "is missing: this end of unit %q was stated before and withdrawn; to state it again, give a key", o.UnitID)
	}
	return nil
}

// withdraw takes back the end of a unit at a cycle, known to be failed, and gives its predictions the truths that they would
// have without it: the newest remaining life that was measured at their cycle.
func (r *recorder) withdraw(at int, failed sql.NullInt64) (lost int64, err error) {
	unit := r.outcome.UnitID
	switch {
	case !failed.Valid:
		return 0, r.fail(turbofan.EConflict, "failed_at_cycle", "unit %q is not known to have failed; there is nothing to withdraw", unit)
	case int(failed.Int64) != at:
		return 0, r.fail(turbofan.EConflict, "failed_at_cycle", "unit %q is known to have failed at cycle %d; this withdraws cycle %d", unit, failed.Int64, at)
	}
	if _, err := r.tx.exec(`UPDATE units SET failed_at_cycle = NULL, failed_received_at = NULL WHERE unit_id = ?`, unit); err != nil {
		return 0, err
	}
	lost, err = r.tx.exec(`DELETE FROM truths WHERE prediction_seq IN (SELECT seq FROM predictions WHERE unit_id = ? AND cycle <= ?)`, unit, at)
	if err != nil {
		return 0, err
	}
	_, err = r.tx.exec(`INSERT INTO truths (prediction_seq, model_version, actual_rul)
		SELECT p.seq, p.model_version, o.actual_rul FROM predictions p JOIN outcomes o ON o.unit_id = p.unit_id AND o.cycle = p.cycle
		WHERE p.unit_id = ? AND p.cycle <= ? AND o.actual_rul IS NOT NULL ORDER BY o.seq DESC
		ON CONFLICT (prediction_seq) DO NOTHING`, unit, at)
	return lost, err
}

// truths checks the outcome against the unit's past and gives the predictions it speaks of their truth.
func (r *recorder) truths() (matched int64, err error) {
	o := &r.outcome
	var last int
	var failed sql.NullInt64
	err = r.tx.row(`SELECT last_cycle, failed_at_cycle FROM units WHERE unit_id = ?`, []any{o.UnitID}, &last, &failed)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, r.fail(turbofan.ENotFound, "unit_id", "unit %q has never sent a reading", o.UnitID)
	}
	if err != nil {
		return 0, err
	}
	if o.ActualRUL != nil {
		// A failure is the truth for all of the unit's predictions; a single measured life does not overrule it.
		keep := `DO UPDATE SET actual_rul = excluded.actual_rul`
		if failed.Valid {
			keep = `DO NOTHING`
		}
		return r.tx.exec(`INSERT INTO truths (prediction_seq, model_version, actual_rul)
			SELECT seq, model_version, CAST(? AS DOUBLE PRECISION) FROM predictions WHERE unit_id = ? AND cycle = ?
			ON CONFLICT (prediction_seq) `+keep, *o.ActualRUL, o.UnitID, o.Cycle)
	}
	if o.FailedAtCycle == nil {
		return 0, nil
	}
	at := *o.FailedAtCycle
	if o.Withdraws() {
		return r.withdraw(at, failed)
	}
	if failed.Valid && int(failed.Int64) != at {
		return 0, r.fail(turbofan.EConflict, "failed_at_cycle", "unit %q is already known to have failed at cycle %d; this says cycle %d: withdraw that end first where it is wrong",
			o.UnitID, failed.Int64, at)
	}
	if at < last {
		return 0, r.fail(turbofan.EInvalid, "failed_at_cycle", "is %d, but unit %q sent a reading at cycle %d: a unit sends none after it failed",
			at, o.UnitID, last)
	}
	if !failed.Valid {
		if _, err := r.tx.exec(`UPDATE units SET failed_at_cycle = ?, failed_received_at = ? WHERE unit_id = ?`, at, nanos(o.At), o.UnitID); err != nil {
			return 0, err
		}
	}
	return r.tx.exec(`INSERT INTO truths (prediction_seq, model_version, actual_rul)
		SELECT seq, model_version, ? - cycle FROM predictions WHERE unit_id = ? AND cycle <= ?
		ON CONFLICT (prediction_seq) DO UPDATE SET actual_rul = excluded.actual_rul`, at, o.UnitID, at)
}

const outcomeColumns = `key, unit_id, cycle, prediction_id, failed_at_cycle, actual_rul, event, note, received_at`

// outcomeRow receives outcomeColumns.
type outcomeRow struct {
	key, unit, prediction, event, note string
	cycle                              int
	at                                 int64
	failed                             sql.Null[int]
	actual                             sql.Null[float64]
}

func (r *outcomeRow) dest(more ...any) []any {
	return append([]any{&r.key, &r.unit, &r.cycle, &r.prediction, &r.failed, &r.actual, &r.event, &r.note, &r.at}, more...)
}

func (r *outcomeRow) outcome() turbofan.Outcome {
	o := turbofan.Outcome{
		Key: r.key, UnitID: r.unit, Cycle: r.cycle, PredictionID: r.prediction, Event: r.event, Note: r.note, At: moment(r.at),
	}
	if r.failed.Valid {
		o.FailedAtCycle = &r.failed.V
	}
	if r.actual.Valid {
		o.ActualRUL = &r.actual.V
	}
	return o
}

// Outcomes returns what was recorded, in order of arrival. An outcome that came with a prediction id has the unit and
// cycle of that prediction; one that came without a key has the key that was derived for it.
func (s *State) Outcomes(ctx context.Context, q turbofan.OutcomeQuery) ([]turbofan.Outcome, error) {
	var conditions []string
	var args []any
	if q.UnitID != "" {
		conditions, args = append(conditions, "unit_id = ?"), append(args, q.UnitID)
	}
	if !q.Since.IsZero() {
		conditions, args = append(conditions, "received_at >= ?"), append(args, nanos(q.Since))
	}
	if !q.Until.IsZero() {
		conditions, args = append(conditions, "received_at < ?"), append(args, nanos(q.Until))
	}
	where := ""
	if len(conditions) > 0 {
		where = " WHERE " + strings.Join(conditions, " AND ")
	}
	var out []turbofan.Outcome
	query := `SELECT ` + outcomeColumns + ` FROM outcomes` + where + ` ORDER BY seq LIMIT ?`
	err := s.rows(ctx, "read outcomes from", query, append(args, bound(q.Limit)), func(rows *sql.Rows) error {
		var row outcomeRow
		if err := rows.Scan(row.dest()...); err != nil {
			return err
		}
		out = append(out, row.outcome())
		return nil
	})
	return out, err
}

// Scored returns predictions whose truth is known, by arrival of the prediction, the newest Last of them (0: all). The
// truth is failed_at_cycle minus the prediction's cycle for a unit that failed; else the newest actual_rul sent for
// that cycle. A prediction made for a cycle after the failure has no truth.
func (s *State) Scored(ctx context.Context, q turbofan.PredictionQuery) ([]turbofan.ScoredPrediction, error) {
	if err := s.catchUp(ctx); err != nil {
		return nil, err
	}
	where, args := predictionFilter(q, "t")
	seq := "t.prediction_seq"
	if q.UnitID != "" {
		seq = "p.seq" // the same number, in the order of the index on units
	}
	var out []turbofan.ScoredPrediction
	query := `SELECT p.id, p.unit_id, p.cycle, p.model_version, p.rul, p.rul_lower, p.rul_upper, t.actual_rul, p.predicted_at
		FROM truths t JOIN predictions p ON p.seq = t.prediction_seq` + where + ` ORDER BY ` + seq + ` DESC LIMIT ?`
	err := s.rows(ctx, "read scored predictions from", query, append(args, bound(q.Last)), func(rows *sql.Rows) error {
		var p turbofan.ScoredPrediction
		var rul, lower, upper number
		var at int64
		if err := rows.Scan(&p.PredictionID, &p.UnitID, &p.Cycle, &p.ModelVersion, &rul, &lower, &upper, &p.ActualRUL, &at); err != nil {
			return err
		}
		p.RUL, p.Lower, p.Upper, p.PredictedAt = float64(rul), float64(lower), float64(upper), moment(at)
		out = append(out, p)
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.Reverse(out)
	return out, nil
}

// FailedUnits returns the units whose last cycle is known by outcomes received before until (zero: now), by arrival of
// that outcome.
func (s *State) FailedUnits(ctx context.Context, until time.Time) ([]turbofan.FailedUnit, error) {
	query, args := `SELECT unit_id, failed_at_cycle, failed_received_at FROM units WHERE failed_at_cycle IS NOT NULL`, []any(nil)
	if !until.IsZero() {
		query, args = query+` AND failed_received_at < ?`, append(args, nanos(until))
	}
	var out []turbofan.FailedUnit
	err := s.rows(ctx, "read failed units from", query+` ORDER BY failed_received_at, unit_id`, args, func(rows *sql.Rows) error {
		var u turbofan.FailedUnit
		var at int64
		if err := rows.Scan(&u.UnitID, &u.FailedAtCycle, &at); err != nil {
			return err
		}
		u.At = moment(at)
		out = append(out, u)
		return nil
	})
	return out, err
}

// FailedAt returns the last cycle of those among the units for which it is known.
func (s *State) FailedAt(ctx context.Context, unitIDs []string) (map[string]int, error) {
	out := map[string]int{}
	err := inChunks(unitIDs, func(part []string) error {
		query := `SELECT unit_id, failed_at_cycle FROM units WHERE unit_id IN (` + marks(len(part)) + `) AND failed_at_cycle IS NOT NULL`
		return s.rows(ctx, "read failed units from", query, anys(part), func(rows *sql.Rows) error {
			var id string
			var at int
			if err := rows.Scan(&id, &at); err != nil {
				return err
			}
			out[id] = at
			return nil
		})
	})
	return out, err
}

func orNil[T any](v *T) any {
	if v == nil {
		return nil
	}
	return *v
}
