package model

import (
	"fmt"
	"math"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"turbofan"
	"turbofan/tree"
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

// PrepareReasons builds what explanations need of the trees. The first one would do it otherwise, and take a few
// milliseconds longer than the next. An error means that a tree cannot be explained, in a damaged model.
func (m *Model) PrepareReasons() error {
	e := m.scratch.Get().(*explanation)
	defer m.scratch.Put(e)
	row := make([]float32, len(m.spec.Columns))
	for _, l := range slices.Concat(m.learner, m.late) {
		if _, err := l.trees.SHAP(row, e.member); err != nil {
			return err
		}
	}
	return nil
}

// batchRows is how many rows of a batch are explained in one go: a few milliseconds.
const batchRows = 64

// SHAPBatch does SHAP for each row of x, side by side on all processors. base has one value a row, phi as many as x.Data.
func (m *Model) SHAPBatch(x tree.Matrix, base, phi []float64) error {
	if len(base) != x.Rows || len(phi) != x.Rows*x.Cols {
		return fmt.Errorf("explain %d rows of %d columns: base has %d values and phi %d", x.Rows, x.Cols, len(base), len(phi))
	}
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for first := 0; first < x.Rows; first += batchRows {
		g.Go(func() (err error) {
			for i := first; i < min(first+batchRows, x.Rows) && err == nil; i++ {
				base[i], err = m.SHAP(x.Row(i), phi[i*x.Cols:(i+1)*x.Cols])
			}
			return err
		})
	}
	return g.Wait()
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
		out = append(out, turbofan.Driver{Feature: m.spec.Columns[best], Value: turbofan.Number(row[best]), Contribution: turbofan.Number(e.phi[best])})
		e.phi[best] = 0
	}
	return out, nil
}
