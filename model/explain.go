package model

import (
	"math"

	"turbofan"
)

// SHAP writes to phi, which has as many values as Spec().Columns, what each column moved the prediction of row by, in
// cycles, and returns the base: the average answer over the training data. Base and phi sum to the prediction before it
// is clipped to [0, cap]. Exact TreeSHAP (Lundberg et al. 2020) over all members.
func (m *Model) SHAP(row []float32, phi []float64) (base float64, err error) {
	e := m.scratch.Get().(*explanation)
	defer m.scratch.Put(e)
	return m.shap(row, phi, e.member)
}

func (m *Model) shap(row []float32, phi, one []float64) (base float64, err error) {
	members := m.answering(m.lateColumn >= 0 && m.lateColumn < len(row) && row[m.lateColumn] > 0)
	if len(members) == 1 && members[0].weight == 1 {
		return members[0].trees.SHAP(row, phi)
	}
	clear(phi)
	for _, l := range members {
		b, err := l.trees.SHAP(row, one)
		if err != nil {
			return 0, err
		}
		w := l.weight
		base += w * b
		for j, v := range one {
			phi[j] += w * v
		}
	}
	return base, nil
}

// explanation is what one explanation works on; the model keeps some to use again.
type explanation struct{ phi, member []float64 }

// Explain returns the n features that moved the prediction of row most, strongest first, each contribution in cycles.
// See SHAP. Beside its result it allocates nothing.
func (m *Model) Explain(row []float32, n int) ([]turbofan.Driver, error) {
	e := m.scratch.Get().(*explanation)
	defer m.scratch.Put(e)
	if _, err := m.shap(row, e.phi, e.member); err != nil {
		return nil, err
	}
	out := make([]turbofan.Driver, 0, min(max(n, 0), len(row)))
	for len(out) < cap(out) {
		// n is small: picking the largest n times beats sorting all.
		best := -1
		for j, v := range e.phi {
			if v != 0 && finite(float64(row[j])) && (best < 0 || math.Abs(v) > math.Abs(e.phi[best])) {
				best = j
			}
		}
		if best < 0 {
			break
		}
		out = append(out, turbofan.Driver{Feature: m.spec.Columns[best], Value: float64(row[best]), Contribution: e.phi[best]})
		e.phi[best] = 0
	}
	return out, nil
}
