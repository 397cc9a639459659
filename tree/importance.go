package tree

import (
	"fmt"
	"math"
)

// PermutationImportances returns, per column, how much the weighted RMSE on x, y
// grows when the column is shuffled: the mean over repeats (Breiman, 2001;
// Fisher et al., 2019). w nil means one. Near zero or below means the model
// does not need the column. The result depends on seed alone.
func PermutationImportances(e *Ensemble, x Matrix, y, w []float64, repeats int, seed int64) ([]float64, error) {
	if err := checkMatrix("x", x); err != nil {
		return nil, err
	}
	if err := e.checkRow(x.Cols); err != nil {
		return nil, err
	}
	if err := checkTarget("", x, y, w); err != nil {
		return nil, err
	}
	if err := checkAtLeast("repeats", repeats, 1); err != nil {
		return nil, err
	}
	if x.Rows < 2 {
		return nil, fmt.Errorf("x must have at least two rows to shuffle, got %d", x.Rows)
	}
	pred := make([]float64, x.Rows)
	score := func(m Matrix) (float64, error) {
		if err := e.PredictBatch(m, pred, 0); err != nil {
			return 0, err
		}
		p := BoostingParams{Loss: SquaredError}
		return math.Sqrt(2 * p.meanLoss(pred, y, w)), nil
	}
	plain, err := score(x)
	if err != nil {
		return nil, err
	}
	shuffled := Matrix{Data: append([]float32(nil), x.Data...), Rows: x.Rows, Cols: x.Cols}
	out := make([]float64, x.Cols)
	for f := range out {
		for k := range repeats {
			r := derive(uint64(seed), uint64(f*repeats+k)+1)
			shuffleColumn(shuffled, f, &r)
			s, err := score(shuffled)
			if err != nil {
				return nil, err
			}
			out[f] += (s - plain) / float64(repeats)
		}
		for i := f; i < len(x.Data); i += x.Cols {
			shuffled.Data[i] = x.Data[i]
		}
	}
	return out, nil
}

func shuffleColumn(m Matrix, f int, r *rng) {
	for i := m.Rows - 1; i > 0; i-- {
		a, b := i*m.Cols+f, r.below(i+1)*m.Cols+f
		m.Data[a], m.Data[b] = m.Data[b], m.Data[a]
	}
}
