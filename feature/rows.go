package feature

import (
	"context"
	"math"

	"turbofan"
	"turbofan/condition"
)

// Rows is a matrix of features with what belongs to each row.
type Rows struct {
	Data  []float32 // row-major, len(Unit) × Cols
	Cols  int
	Unit  []int     // index of the history that the row came from
	Cycle []int     // age at the row
	RUL   []float64 // true remaining life, NaN where the unit's end is not known
	// Late marks rows of a unit replayed as if it had joined late.
	Late []bool
}

// Len returns the number of rows.
func (r *Rows) Len() int { return len(r.Unit) }

// Row returns row i, shared with r.
func (r *Rows) Row(i int) []float32 { return r.Data[i*r.Cols : (i+1)*r.Cols] }

// Commission returns the conditions of training and, from the first cycles of units, those it did not know. Units are
// taken side by side, as a fleet sends them, so that no single unit decides. A reading of another schema is EInvalid.
func (s *Spec) Commission(units []turbofan.History) (*condition.Commissioner, error) {
	if err := checkWidths(s.Schema, units); err != nil {
		return nil, err
	}
	c := condition.NewCommissioner(s.Normalizer)
	for i := range s.Normalizer.Config.HealthyCycles {
		for u := range units {
			if h := &units[u]; i < len(h.Readings) {
				r := &h.Readings[i]
				c.Learn(h.UnitID, r.Cycle, r.Settings, r.Sensors)
			}
		}
	}
	return c, nil
}

// Take says which readings become rows. The zero value takes every reading.
type Take struct {
	// Start is, for each history, the reading from which on it is replayed, as if the unit had been unknown before: what
	// a platform sees of a machine that was old when it was connected. A start beyond the end, or below 1, leaves the
	// history out. nil replays all of them from the first reading.
	Start []int
	// Keep lists, ascending, which of the replayed readings become rows, counted from 0 over all histories; nil all.
	Keep []int
}

// replayed is the number of readings of units that t replays.
func (t Take) replayed(units []turbofan.History) int {
	n := 0
	for u := range units {
		if from, ok := t.from(u, &units[u]); ok {
			n += len(units[u].Readings) - from
		}
	}
	return n
}

// from is the reading at which history u is taken up; false when it is left out.
func (t Take) from(u int, h *turbofan.History) (int, bool) {
	if t.Start == nil {
		return 0, true
	}
	return t.Start[u], t.Start[u] >= 1 && t.Start[u] < len(h.Readings)
}

// Transform replays histories from their first reading and returns one row of len(s.Columns) values for each reading.
// Conditions that training did not know are commissioned first. A reading of another schema is EInvalid, one that is not
// after the one before it EConflict.
func (s *Spec) Transform(ctx context.Context, units []turbofan.History) (*Rows, error) {
	return s.TransformSome(ctx, units, Take{})
}

// TransformSome is Transform for the readings that take names: the matrix has no more rows than these, however long the
// histories are.
func (s *Spec) TransformSome(ctx context.Context, units []turbofan.History, take Take) (*Rows, error) {
	n := len(take.Keep)
	if take.Keep == nil {
		n = take.replayed(units)
	}
	out := s.newRows(n)
	err := s.each(ctx, units, take, func(h *turbofan.History, unit, i int, row []float32) error {
		out.add(h, unit, i, row, take.Start != nil)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// Blocks is TransformSome in matrices of at most size rows, each handed to f, which must not keep it.
func (s *Spec) Blocks(ctx context.Context, units []turbofan.History, take Take, size int, f func(*Rows) error) error {
	out := s.newRows(size)
	err := s.each(ctx, units, take, func(h *turbofan.History, unit, i int, row []float32) error {
		out.add(h, unit, i, row, take.Start != nil)
		if out.Len() < size {
			return nil
		}
		defer out.clear()
		return f(out)
	})
	if err != nil || out.Len() == 0 {
		return err
	}
	return f(out)
}

func (s *Spec) newRows(n int) *Rows {
	cols := len(s.Columns)
	return &Rows{Cols: cols, Data: make([]float32, 0, n*cols), Unit: make([]int, 0, n), Cycle: make([]int, 0, n), RUL: make([]float64, 0, n), Late: make([]bool, 0, n)}
}

func (r *Rows) add(h *turbofan.History, unit, i int, row []float32, late bool) {
	rul, known := h.RUL(i)
	if !known {
		rul = math.NaN()
	}
	r.Data = append(r.Data, row...)
	r.Unit, r.Cycle = append(r.Unit, unit), append(r.Cycle, h.Readings[i].Cycle)
	r.RUL, r.Late = append(r.RUL, rul), append(r.Late, late)
}

func (r *Rows) clear() {
	r.Data, r.Unit, r.Cycle, r.RUL, r.Late = r.Data[:0], r.Unit[:0], r.Cycle[:0], r.RUL[:0], r.Late[:0]
}

// each calls visit for every reading that take names, with its row, which is overwritten after. A history is replayed no
// further than its last reading to be kept.
func (s *Spec) each(ctx context.Context, units []turbofan.History, take Take, visit func(h *turbofan.History, unit, i int, row []float32) error) error {
	comm, err := s.Commission(units)
	if err != nil {
		return err
	}
	row := make([]float32, len(s.Columns))
	keep, first := take.Keep, 0 // first is the number of the history's first replayed reading
	for u := range units {
		h := &units[u]
		from, ok := take.from(u, h)
		if !ok {
			continue
		}
		end := first + len(h.Readings) - from
		st := s.NewState()
		for i := from; i < len(h.Readings); i++ {
			if (i-from)%checkEvery == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			out := row
			if take.Keep != nil {
				if len(keep) == 0 || keep[0] >= end {
					break
				}
				if keep[0] != first+i-from {
					out = nil
				} else {
					keep = keep[1:]
				}
			}
			if _, _, err := s.Step(st, comm, &h.Readings[i], out); err != nil {
				return err
			}
			if out == nil {
				continue
			}
			if err := visit(h, u, i, out); err != nil {
				return err
			}
		}
		first = end
	}
	return nil
}
