package feature

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"

	"turbofan"
	"turbofan/condition"
)

// fitHealth fits wear = cap − min(RUL, cap) by ridge regression (Hoerl and Kennard 1970) on each sensor's change since
// the unit's own start; the intercept is not penalised. Weights over kept sensors, intercept last.
func fitHealth(s *Spec, units []turbofan.History) ([]float64, error) {
	n := len(s.Keep)
	var count float64
	sumX, sumY := make([]float64, n), 0.0
	xtx, xty := mat.NewSymDense(n, nil), make([]float64, n)
	d := make([]float64, n)
	comm := condition.NewCommissioner(s.Normalizer)
	for u := range units {
		h := &units[u]
		if h.FailedAtCycle == 0 {
			continue
		}
		st := s.NewState()
		for i := range h.Readings {
			rul, _ := h.RUL(i)
			if !s.changes(st, comm, &h.Readings[i], d) {
				continue
			}
			y := s.Config.Cap - min(rul, s.Config.Cap)
			count++
			sumY += y
			for a := range n {
				sumX[a] += d[a]
				xty[a] += d[a] * y
				for b := a; b < n; b++ {
					xtx.SetSym(a, b, xtx.At(a, b)+d[a]*d[b])
				}
			}
		}
	}
	if count < float64(n+2) {
		return nil, turbofan.Errorf(turbofan.EInsufficient, "fit health index: %.0f readings of units whose start and end are known; at least %d are needed", count, n+2)
	}
	for a := range n {
		xty[a] -= sumX[a] * sumY / count
		for b := a; b < n; b++ {
			xtx.SetSym(a, b, xtx.At(a, b)-sumX[a]*sumX[b]/count)
		}
		xtx.SetSym(a, a, xtx.At(a, a)+s.Config.RidgeAlpha)
	}
	var chol mat.Cholesky
	if !chol.Factorize(xtx) {
		return nil, fmt.Errorf("fit health index: the sensors' covariance is not positive definite")
	}
	var w mat.VecDense
	if err := chol.SolveVecTo(&w, mat.NewVecDense(n, xty)); err != nil {
		return nil, fmt.Errorf("fit health index: %w", err)
	}
	out := make([]float64, n+1)
	out[n] = sumY / count
	for a := range n {
		out[a] = w.AtVec(a)
		out[n] -= out[a] * sumX[a] / count
	}
	return out, nil
}

// changes advances the start of st by one reading and writes each kept sensor's change since it. False when the unit
// has no start, or a sensor is missing.
func (s *Spec) changes(st *State, c *condition.Commissioner, r *turbofan.Reading, d []float64) bool {
	c.Normalize(r.Settings, r.Sensors, st.z)
	if st.Readings == 0 {
		st.first = r.Cycle
	}
	st.Readings++
	st.LastCycle = r.Cycle
	for i, ch := range s.Keep {
		if z := st.z[ch]; !math.IsNaN(z) && r.Cycle <= s.Config.BaselineCycles {
			st.base[i] += z
			st.baseN[i]++
		}
	}
	if !s.HasStart(st) {
		return false
	}
	for i, ch := range s.Keep {
		d[i] = st.z[ch] - st.base[i]/st.baseN[i]
		if math.IsNaN(d[i]) {
			return false
		}
	}
	return true
}
