package sqlstore

import (
	"context"
	"database/sql"
	"slices"
	"strconv"
	"strings"

	"turbofan"
)

// History returns the readings of one unit in order of cycle, at most up to throughCycle (0: all). A unit that never
// sent one is an ENotFound error; a unit whose first reading is younger than throughCycle has none, which is no error.
// It waits for no commit: what this process appended and has not written yet is taken from the queue.
func (s *State) History(ctx context.Context, unitID string, throughCycle int) ([]turbofan.Reading, error) {
	if throughCycle <= 0 {
		throughCycle = turbofan.MaxCycle
	}
	fresh := s.w.unwritten(unitID) // before the rows: what is written meanwhile is then seen twice, and not missed
	var out []turbofan.Reading
	query := `SELECT cycle, channels FROM readings WHERE unit_id = ? AND cycle <= ? ORDER BY cycle`
	err := s.rows(ctx, "read history from", query, []any{unitID, throughCycle}, func(rows *sql.Rows) error {
		var cycle int
		var channels sql.RawBytes
		if err := rows.Scan(&cycle, &channels); err != nil {
			return err
		}
		settings, sensors, err := decodeChannels(channels)
		out = append(out, turbofan.Reading{UnitID: unitID, Cycle: cycle, Settings: settings, Sensors: sensors})
		return err
	})
	if err == nil && len(fresh) > 0 {
		out, err = withFresh(out, fresh, throughCycle)
	}
	if err != nil || len(out) > 0 || len(fresh) > 0 {
		return out, err
	}
	known := false
	err = s.rows(ctx, "read history from", `SELECT 1 FROM units WHERE unit_id = ?`, []any{unitID}, func(*sql.Rows) error {
		known = true
		return nil
	})
	if err != nil || known {
		return nil, err
	}
	return nil, turbofan.Errorf(turbofan.ENotFound, "unit %q has never sent a reading", unitID)
}

// withFresh adds to a history, in order of cycle, the readings of records that are not in it. A cycle keeps what was
// written first, as in the database.
func withFresh(history []turbofan.Reading, fresh []record, throughCycle int) ([]turbofan.Reading, error) {
	byCycle := func(r turbofan.Reading, cycle int) int { return r.Cycle - cycle }
	for i := range fresh {
		p := &fresh[i].prediction
		at, written := slices.BinarySearchFunc(history, p.Cycle, byCycle)
		if written || p.Cycle > throughCycle {
			continue
		}
		settings, sensors, err := decodeChannels(fresh[i].channels)
		if err != nil {
			return nil, err
		}
		history = slices.Insert(history, at, turbofan.Reading{UnitID: p.UnitID, Cycle: p.Cycle, Settings: settings, Sensors: sensors})
	}
	return history, nil
}

// Readings returns readings in order of arrival. Where both Last and Limit are given, Limit counts within the newest
// Last.
func (s *State) Readings(ctx context.Context, q turbofan.ReadingQuery) ([]turbofan.StoredReading, error) {
	if err := s.catchUp(ctx); err != nil {
		return nil, err
	}
	query, args := readingsQuery(q)
	var out []turbofan.StoredReading
	err := s.rows(ctx, "read readings from", query, args, func(rows *sql.Rows) error {
		var r turbofan.StoredReading
		var at int64
		var channels sql.RawBytes
		if err := rows.Scan(&r.Seq, &r.UnitID, &r.Cycle, &at, &channels); err != nil {
			return err
		}
		r.At = moment(at)
		var err error
		r.Settings, r.Sensors, err = decodeChannels(channels)
		out = append(out, r)
		return err
	})
	if err != nil {
		return nil, err
	}
	if q.Last > 0 && q.Limit <= 0 {
		slices.Reverse(out)
	}
	return out, nil
}

// youngIndexed is the highest cycle in the index readings_young. A query that asks for no more must say so in its text
// for the index to be used: a parameter proves nothing.
const youngIndexed = 50

// readingsQuery writes the query for q.
func readingsQuery(q turbofan.ReadingQuery) (query string, args []any) {
	conditions, args := []string{"seq > ?"}, []any{q.AfterSeq}
	if q.MaxCycle > 0 {
		conditions, args = append(conditions, "cycle <= ?"), append(args, q.MaxCycle)
		if q.MaxCycle <= youngIndexed {
			conditions = append(conditions, "cycle <= "+strconv.Itoa(youngIndexed))
		}
	}
	order, limit := "ASC", bound(q.Limit)
	switch {
	case q.Last > 0 && q.Limit > 0: // from the oldest of the newest on
		where := strings.Join(conditions, " AND ")
		conditions = append(conditions, `seq >= (SELECT COALESCE(MIN(seq), 0) FROM (SELECT seq FROM readings WHERE `+where+` ORDER BY seq DESC LIMIT ?) AS newest)`)
		args = append(append(slices.Clone(args), args...), bound(q.Last))
	case q.Last > 0:
		order, limit = "DESC", bound(q.Last)
	}
	return `SELECT seq, unit_id, cycle, received_at, channels FROM readings WHERE ` +
		strings.Join(conditions, " AND ") + ` ORDER BY seq ` + order + ` LIMIT ?`, append(args, limit)
}

// Units lists the units seen, newest reading first, each with its newest prediction. A limit of 0 means no bound.
func (s *State) Units(ctx context.Context, limit, offset int) ([]turbofan.UnitSummary, error) {
	if err := s.catchUp(ctx); err != nil {
		return nil, err
	}
	query := `SELECT ` + predictionColumns + `, u.unit_id, u.first_cycle, u.last_cycle, u.readings, u.last_seen, u.failed_at_cycle
		FROM (SELECT * FROM units ORDER BY last_seq DESC LIMIT ? OFFSET ?) u
		LEFT JOIN predictions p ON p.seq = (SELECT seq FROM predictions WHERE unit_id = u.unit_id AND shadow = 0 ORDER BY seq DESC LIMIT 1)
		ORDER BY u.last_seq DESC`
	var out []turbofan.UnitSummary
	err := s.rows(ctx, "read units from", query, []any{bound(limit), max(offset, 0)}, func(rows *sql.Rows) error {
		var u turbofan.UnitSummary
		var last predictionRow
		var seen int64
		var failed sql.NullInt64
		if err := rows.Scan(last.dest(&u.UnitID, &u.FirstCycle, &u.LastCycle, &u.Readings, &seen, &failed)...); err != nil {
			return err
		}
		u.LastSeen, u.FailedAtCycle = moment(seen), int(failed.Int64)
		if last.id.Valid {
			p, err := last.prediction()
			if err != nil {
				return err
			}
			u.Last = &p
		}
		out = append(out, u)
		return nil
	})
	return out, err
}
