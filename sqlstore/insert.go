package sqlstore

import (
	"strings"
	"time"
)

const (
	insertReading    = `INSERT INTO readings (unit_id, cycle, received_at, channels) VALUES `
	keepReading      = ` ON CONFLICT (unit_id, cycle) DO NOTHING`
	readingValues    = 4
	insertPrediction = `INSERT INTO predictions (id, unit_id, cycle, rul, rul_lower, rul_upper, failure_probability, failure_horizon,
		health, model_name, model_version, condition, drivers, warnings, predicted_at, shadow) VALUES `
	keepPrediction   = ` ON CONFLICT DO NOTHING` // by id, or by unit and cycle, see migration 5
	predictionValues = 16

	// What follows reads the rows of this commit only. The inner ORDER BY and LIMIT keep SQLite from walking a whole
	// index in the order that the outer statement would like: that made each commit as slow as the table is long.
	updateUnits = `INSERT INTO units (unit_id, first_cycle, last_cycle, readings, last_seq, last_seen)
		SELECT unit_id, MIN(cycle), MAX(cycle), COUNT(*), MAX(seq), MAX(received_at) FROM (SELECT seq, unit_id, cycle, received_at FROM readings WHERE seq > ? ORDER BY seq LIMIT 1000000) fresh GROUP BY unit_id
		ON CONFLICT (unit_id) DO UPDATE SET
			first_cycle = CASE WHEN excluded.first_cycle < units.first_cycle THEN excluded.first_cycle ELSE units.first_cycle END,
			last_cycle = CASE WHEN excluded.last_cycle > units.last_cycle THEN excluded.last_cycle ELSE units.last_cycle END,
			readings = units.readings + excluded.readings,
			last_seq = excluded.last_seq,
			last_seen = CASE WHEN excluded.last_seen > units.last_seen THEN excluded.last_seen ELSE units.last_seen END`

	// Predictions that come after the outcome which tells their truth.
	lateFailures = `INSERT INTO truths (prediction_seq, model_version, actual_rul)
		SELECT p.seq, p.model_version, u.failed_at_cycle - p.cycle FROM (SELECT seq, unit_id, cycle, model_version FROM predictions WHERE seq > ? ORDER BY seq LIMIT 1000000) p
		JOIN units u ON u.unit_id = p.unit_id WHERE u.failed_at_cycle >= p.cycle
		ON CONFLICT (prediction_seq) DO NOTHING`
	lateActuals = `INSERT INTO truths (prediction_seq, model_version, actual_rul)
		SELECT p.seq, p.model_version, o.actual_rul FROM (SELECT seq, unit_id, cycle, model_version FROM predictions WHERE seq > ? ORDER BY seq LIMIT 1000000) p
		JOIN outcomes o ON o.unit_id = p.unit_id AND o.cycle = p.cycle WHERE o.actual_rul IS NOT NULL ORDER BY o.seq DESC
		ON CONFLICT (prediction_seq) DO NOTHING`
)

// inserter writes records with few statements. It belongs to the writing goroutine.
type inserter struct {
	buffer []record // of the batch being put together
	args   []any
	sql    map[insertKey]string
	// rest is called between statements with the time that the one before took.
	rest func(worked time.Duration)
}

type insertKey struct {
	table string
	rows  int
}

// records inserts readings and predictions, then brings what is derived from them (units, truths) up to date.
func (in *inserter) records(tx *txn, records []record) error {
	if len(records) == 0 {
		return nil
	}
	var reading, prediction int64
	if err := tx.row(`SELECT COALESCE(MAX(seq), 0) FROM readings`, nil, &reading); err != nil {
		return err
	}
	if err := tx.row(`SELECT COALESCE(MAX(seq), 0) FROM predictions`, nil, &prediction); err != nil {
		return err
	}
	if err := in.rows(tx, insertReading, keepReading, readingValues, records, bindReading); err != nil {
		return err
	}
	if err := in.rows(tx, insertPrediction, keepPrediction, predictionValues, records, bindPrediction); err != nil {
		return err
	}
	if _, err := tx.exec(updateUnits, reading); err != nil {
		return err
	}
	if _, err := tx.exec(lateFailures, prediction); err != nil {
		return err
	}
	_, err := tx.exec(lateActuals, prediction)
	return err
}

func (in *inserter) rows(tx *txn, insert, keep string, width int, records []record, bind func([]any, *record) []any) error {
	// Few rows a statement: it cannot be interrupted, and requests want the processor too.
	for _, size := range [...]int{16, 4, 1} {
		for len(records) >= size {
			began := time.Now()
			args := in.args[:0]
			for i := range records[:size] {
				args = bind(args, &records[i])
			}
			in.args = args
			if _, err := tx.exec(in.statement(insert, keep, width, size), args...); err != nil {
				return err
			}
			records = records[size:]
			in.rest(time.Since(began))
		}
	}
	return nil
}

// statement returns the text that inserts so many rows; it is built once, because the text is also the key under
// which the statement is kept.
func (in *inserter) statement(insert, keep string, width, rows int) string {
	key := insertKey{insert, rows}
	if q, ok := in.sql[key]; ok {
		return q
	}
	row := "(?" + strings.Repeat(", ?", width-1) + ")"
	q := insert + row + strings.Repeat(", "+row, rows-1) + keep
	if in.sql == nil {
		in.sql = map[insertKey]string{}
	}
	in.sql[key] = q
	return q
}

func bindReading(args []any, r *record) []any {
	return append(args, r.prediction.UnitID, r.prediction.Cycle, r.receivedAt, r.channels)
}

func bindPrediction(args []any, r *record) []any {
	p := &r.prediction
	return append(args, p.ID, p.UnitID, p.Cycle, known(p.RUL), known(p.Lower), known(p.Upper), known(p.FailureProbability),
		p.FailureHorizon, string(p.Health), p.ModelName, p.ModelVersion, p.Condition, r.drivers, r.warnings, nanos(p.At), whether(p.Shadow))
}

// whether writes a truth value as both databases keep it.
func whether(v bool) int64 {
	if v {
		return 1
	}
	return 0
}
