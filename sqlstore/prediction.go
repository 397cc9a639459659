package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"turbofan"
)

// maxLast is the most predictions one query returns.
const maxLast = 100_000

// record is a reading and its answer, ready to be bound to a statement.
type record struct {
	prediction turbofan.Prediction // without drivers and warnings
	receivedAt int64
	channels   []byte
	drivers    any // JSON text or nil
	warnings   any // JSON text or nil
}

// Append queues records to be written; the records of one call become visible together. It blocks only while the queue
// is full and returns before anything is on disk. A reading that is already stored (same unit and cycle) is kept as it
// was first written, and so is its answer, and the silent answer of each challenger's version: that another replica answered
// the reading, or that a commit is tried again, does not store it twice. The caller may reuse the slices it passed.
func (s *State) Append(ctx context.Context, records []turbofan.PredictionRecord) error {
	if len(records) == 0 {
		return nil
	}
	encoded := make([]record, len(records))
	now := int64(0)
	for i := range records {
		r := &records[i]
		if err := checkRecord(r, i); err != nil {
			return err
		}
		e := &encoded[i]
		var err error
		if e.drivers, err = encodeDrivers(r.Prediction.Drivers); err != nil {
			return err
		}
		if e.warnings, err = encodeWarnings(r.Prediction.Warnings); err != nil {
			return err
		}
		e.prediction = r.Prediction
		e.prediction.Drivers, e.prediction.Warnings = nil, nil
		e.channels = encodeChannels(r.Reading.Settings, r.Reading.Sensors)
		if e.receivedAt = nanos(r.Prediction.At); e.receivedAt == 0 {
			if now == 0 {
				now = time.Now().UnixNano()
			}
			e.receivedAt = now
		}
	}
	return s.w.append(ctx, encoded)
}

// checkRecord refuses what no database could take or give back, so that one bad record cannot hold up the queue.
func checkRecord(r *turbofan.PredictionRecord, i int) error {
	p := &r.Prediction
	field := func(name string) string { return fmt.Sprintf("records[%d].%s", i, name) }
	if err := turbofan.ValidateUnitID(r.Reading.UnitID); err != nil {
		return turbofan.Invalid(field("reading.unit_id"), "%s", err.Error())
	}
	if r.Reading.Cycle < 1 || r.Reading.Cycle > turbofan.MaxCycle {
		return turbofan.Invalid(field("reading.cycle"), "must be a whole number from 1 to %d, not %d", turbofan.MaxCycle, r.Reading.Cycle)
	}
	if len(r.Reading.Settings) > turbofan.MaxChannels || len(r.Reading.Sensors) > turbofan.MaxChannels {
		return turbofan.Invalid(field("reading"), "has more than %d channels", turbofan.MaxChannels)
	}
	if p.ID == "" {
		return turbofan.Invalid(field("prediction.prediction_id"), "is missing")
	}
	if p.UnitID != r.Reading.UnitID || p.Cycle != r.Reading.Cycle {
		return turbofan.Invalid(field("prediction"), "is of unit %q at cycle %d, its reading of unit %q at cycle %d",
			p.UnitID, p.Cycle, r.Reading.UnitID, r.Reading.Cycle)
	}
	for _, text := range [...]string{p.ID, p.ModelName, p.ModelVersion, string(p.Health)} {
		if !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0 {
			return turbofan.Invalid(field("prediction"), "%q has a zero or undecodable character", text)
		}
	}
	return nil
}

const predictionColumns = `p.id, p.unit_id, p.cycle, p.rul, p.rul_lower, p.rul_upper, p.failure_probability, p.failure_horizon,
	p.health, p.model_name, p.model_version, p.condition, p.drivers, p.warnings, p.predicted_at, p.shadow`

// predictionRow receives predictionColumns. Its fields may be NULL as a whole, for a join that found none.
type predictionRow struct {
	id, unit, health, name, version, drivers, warnings sql.NullString
	cycle, horizon, condition, at, shadow              sql.NullInt64
	rul, lower, upper, failure                         number
}

func (r *predictionRow) dest(more ...any) []any {
	return append([]any{&r.id, &r.unit, &r.cycle, &r.rul, &r.lower, &r.upper, &r.failure, &r.horizon, &r.health, &r.name,
		&r.version, &r.condition, &r.drivers, &r.warnings, &r.at, &r.shadow}, more...)
}

func (r *predictionRow) prediction() (turbofan.Prediction, error) {
	drivers, err := decodeDrivers(r.drivers.String)
	if err != nil {
		return turbofan.Prediction{}, err
	}
	warnings, err := decodeWarnings(r.warnings.String)
	if err != nil {
		return turbofan.Prediction{}, err
	}
	return turbofan.Prediction{
		ID: r.id.String, UnitID: r.unit.String, Cycle: int(r.cycle.Int64),
		RUL: float64(r.rul), Lower: float64(r.lower), Upper: float64(r.upper),
		FailureProbability: float64(r.failure), FailureHorizon: int(r.horizon.Int64),
		Health: turbofan.Health(r.health.String), Drivers: drivers,
		ModelName: r.name.String, ModelVersion: r.version.String, Condition: int(r.condition.Int64),
		Warnings: warnings, At: moment(r.at.Int64), Shadow: r.shadow.Int64 != 0,
	}, nil
}

// Prediction returns one prediction by id, or ENotFound.
func (s *State) Prediction(ctx context.Context, id string) (turbofan.Prediction, error) {
	if err := s.catchUp(ctx); err != nil {
		return turbofan.Prediction{}, err
	}
	var found []turbofan.Prediction
	query := `SELECT ` + predictionColumns + ` FROM predictions p WHERE p.id = ?`
	if err := s.rows(ctx, "read prediction from", query, []any{id}, scanPredictions(&found)); err != nil {
		return turbofan.Prediction{}, err
	}
	if len(found) == 0 {
		return turbofan.Prediction{}, turbofan.Errorf(turbofan.ENotFound, "there is no prediction %q", id)
	}
	return found[0], nil
}

// scanPredictions appends each row of predictionColumns to out.
func scanPredictions(out *[]turbofan.Prediction) func(*sql.Rows) error {
	return func(rows *sql.Rows) error {
		var row predictionRow
		if err := rows.Scan(row.dest()...); err != nil {
			return err
		}
		p, err := row.prediction()
		*out = append(*out, p)
		return err
	}
}

// Predictions returns the newest predictions that match and were sent, oldest first.
func (s *State) Predictions(ctx context.Context, q turbofan.PredictionQuery) ([]turbofan.Prediction, error) {
	if q.Last < 1 || q.Last > maxLast {
		return nil, turbofan.Invalid("last", "must be a whole number from 1 to %d, not %d", maxLast, q.Last)
	}
	if err := s.catchUp(ctx); err != nil {
		return nil, err
	}
	where, args := predictionFilter(q, "p", "p.shadow = 0")
	var out []turbofan.Prediction
	query := `SELECT ` + predictionColumns + ` FROM predictions p` + where + ` ORDER BY p.seq DESC LIMIT ?`
	if err := s.rows(ctx, "read predictions from", query, append(args, q.Last), scanPredictions(&out)); err != nil {
		return nil, err
	}
	slices.Reverse(out)
	return out, nil
}

// Answered returns what is stored of the units and cycles of readings, in no order: the reading as it was first written
// with the answer that was sent for it. It sees all that was appended before the call, and what it returns is on disk.
func (s *State) Answered(ctx context.Context, readings []turbofan.Reading) ([]turbofan.PredictionRecord, error) {
	if err := s.catchUp(ctx); err != nil {
		return nil, err
	}
	var out []turbofan.PredictionRecord
	for len(readings) > 0 {
		query, args := answeredQuery(readings)
		readings = readings[min(len(args)/2, len(readings)):]
		err := s.rows(ctx, "read answers from", query, args, func(rows *sql.Rows) error {
			var row predictionRow
			var channels sql.RawBytes
			if err := rows.Scan(row.dest(&channels)...); err != nil {
				return err
			}
			p, err := row.prediction()
			if err != nil {
				return err
			}
			r := turbofan.Reading{UnitID: p.UnitID, Cycle: p.Cycle}
			r.Settings, r.Sensors, err = decodeChannels(channels)
			out = append(out, turbofan.PredictionRecord{Reading: r, Prediction: p})
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// answeredQuery writes the query for the first of the readings. It asks for one of three numbers of them, because every text
// is a statement that stays prepared; where there are fewer, it asks for units without a name, which do not exist.
func answeredQuery(readings []turbofan.Reading) (query string, args []any) {
	n := 64
	for _, fewer := range [...]int{8, 1} {
		if len(readings) <= fewer {
			n = fewer
		}
	}
	args = make([]any, 0, 2*n)
	for i := range n {
		var r turbofan.Reading
		if i < len(readings) {
			r = readings[i]
		}
		args = append(args, r.UnitID, r.Cycle)
	}
	// One statement a reading: of alternatives, or of a join to a table of the pairs, PostgreSQL makes a plan that reads
	// the whole log.
	const one = `SELECT ` + predictionColumns + `, (SELECT r.channels FROM readings r WHERE r.unit_id = p.unit_id AND r.cycle = p.cycle)
		FROM predictions p WHERE p.unit_id = ? AND p.cycle = ? AND p.shadow = 0`
	return one + strings.Repeat(" UNION ALL "+one, n-1), args
}

// predictionFilter writes the conditions of q; version is the alias of the table whose model_version is indexed with
// the order that the query wants.
func predictionFilter(q turbofan.PredictionQuery, version string, conditions ...string) (where string, args []any) {
	if q.UnitID != "" {
		conditions, args = append(conditions, "p.unit_id = ?"), append(args, q.UnitID)
	}
	if q.ModelVersion != "" {
		conditions, args = append(conditions, version+".model_version = ?"), append(args, q.ModelVersion)
	}
	if len(conditions) > 0 {
		where = " WHERE " + strings.Join(conditions, " AND ")
	}
	return where, args
}
