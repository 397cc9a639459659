package feature

import (
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

// Transform replays histories from their first reading and returns one row for each reading. Conditions that training
// did not know are commissioned first.
func (s *Spec) Transform(units []turbofan.History) (*Rows, error) {
	n := 0
	for i := range units {
		n += len(units[i].Readings)
	}
	out := s.newRows(n)
	comm, err := s.Commission(units)
	if err != nil {
		return nil, err
	}
	for u := range units {
		if err := s.replay(out, comm, u, &units[u], 0, false); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// TransformLate replays history i from its reading start[i] on, as if the unit had been unknown before: what a platform
// sees of a machine that was old when it was connected. A start beyond the end, or below 1, leaves the history out.
func (s *Spec) TransformLate(units []turbofan.History, start []int) (*Rows, error) {
	out := s.newRows(0)
	comm, err := s.Commission(units)
	if err != nil {
		return nil, err
	}
	for u := range units {
		if start[u] < 1 || start[u] >= len(units[u].Readings) {
			continue
		}
		if err := s.replay(out, comm, u, &units[u], start[u], true); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (s *Spec) newRows(n int) *Rows {
	cols := len(s.Columns)
	return &Rows{Cols: cols, Data: make([]float32, 0, n*cols), Unit: make([]int, 0, n), Cycle: make([]int, 0, n), RUL: make([]float64, 0, n), Late: make([]bool, 0, n)}
}

func (s *Spec) replay(out *Rows, comm *condition.Commissioner, unit int, h *turbofan.History, from int, late bool) error {
	st := s.NewState()
	row := make([]float32, len(s.Columns))
	for i := from; i < len(h.Readings); i++ {
		if _, _, err := s.Step(st, comm, &h.Readings[i], row); err != nil {
			return err
		}
		rul, known := h.RUL(i)
		if !known {
			rul = math.NaN()
		}
		out.Data = append(out.Data, row...)
		out.Unit = append(out.Unit, unit)
		out.Cycle = append(out.Cycle, h.Readings[i].Cycle)
		out.RUL = append(out.RUL, rul)
		out.Late = append(out.Late, late)
	}
	return nil
}
