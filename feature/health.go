package feature

import (
	"context"
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"

	"turbofan"
	"turbofan/condition"
)

// fitHealth fits wear = cap − min(RUL, cap) by ridge regression (Hoerl and Kennard 1970) on each sensor's change since
// the unit's own start: over the units of each fault mode, or over all units where modes cannot be told apart. The
// intercept is not penalised. Weights over kept sensors, intercept last. It sets the range of changes that s was fitted on.
func fitHealth(ctx context.Context, s *Spec, units []turbofan.History) ([][]float64, error) {
	n := len(s.Keep)
	modes, err := faultModes(ctx, s, units)
	if err != nil {
		return nil, err
	}
	all := newRidge(n)
	by := make([]*ridge, s.Config.FaultModes)
	for k := range by {
		by[k] = newRidge(n)
	}
	d := make([]float64, n)
	s.HealthLow, s.HealthHigh = make([]float64, n), make([]float64, n)
	comm := condition.NewCommissioner(s.Normalizer)
	for u := range units {
		h := &units[u]
		if h.FailedAtCycle == 0 {
			continue
		}
		st := s.NewState()
		for i := range h.Readings {
			if i%checkEvery == 0 && ctx.Err() != nil {
				return nil, ctx.Err()
			}
			rul, _ := h.RUL(i)
			if !s.changes(st, comm, &h.Readings[i], d) {
				continue
			}
			for j, v := range d {
				s.HealthLow[j], s.HealthHigh[j] = min(s.HealthLow[j], v), max(s.HealthHigh[j], v)
			}
			y := s.Config.Cap - min(rul, s.Config.Cap)
			if modes == nil {
				all.add(d, y)
			} else {
				by[modes[u]].add(d, y)
			}
		}
	}
	if modes == nil {
		w, err := all.solve(s.Config.RidgeAlpha)
		return [][]float64{w}, err
	}
	out := make([][]float64, len(by))
	for k, r := range by {
		var err error
		if out[k], err = r.solve(s.Config.RidgeAlpha); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// ridge holds the sums of a ridge regression.
type ridge struct {
	n         int
	count     float64
	sumX, xty []float64
	sumY      float64
	xtx       *mat.SymDense
}

func newRidge(n int) *ridge {
	return &ridge{n: n, sumX: make([]float64, n), xty: make([]float64, n), xtx: mat.NewSymDense(n, nil)}
}

func (r *ridge) add(d []float64, y float64) {
	r.count++
	r.sumY += y
	raw := r.xtx.RawSymmetric()
	for a, v := range d {
		r.sumX[a] += v
		r.xty[a] += v * y
		row := raw.Data[a*raw.Stride:]
		for b := a; b < r.n; b++ {
			row[b] += v * d[b]
		}
	}
}

func (r *ridge) solve(alpha float64) ([]float64, error) {
	n := r.n
	if r.count < float64(n+2) {
		return nil, turbofan.Errorf(turbofan.EInsufficient, "fit health index: %.0f readings of units whose start and end are known; at least %d are needed", r.count, n+2)
	}
	for a := range n {
		r.xty[a] -= r.sumX[a] * r.sumY / r.count
		for b := a; b < n; b++ {
			r.xtx.SetSym(a, b, r.xtx.At(a, b)-r.sumX[a]*r.sumX[b]/r.count)
		}
		r.xtx.SetSym(a, a, r.xtx.At(a, a)+alpha)
	}
	var chol mat.Cholesky
	if !chol.Factorize(r.xtx) {
		return nil, fmt.Errorf("fit health index: the sensors' covariance is not positive definite")
	}
	var w mat.VecDense
	if err := chol.SolveVecTo(&w, mat.NewVecDense(n, r.xty)); err != nil {
		return nil, fmt.Errorf("fit health index: %w", err)
	}
	out := make([]float64, n+1)
	out[n] = r.sumY / r.count
	for a := range n {
		out[a] = w.AtVec(a)
		out[n] -= out[a] * r.sumX[a] / r.count
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

// minModeUnits is the least number of units that make a fault mode: with fewer its index would be noise.
const minModeUnits = 4

// faultModes groups units by how their sensors had changed at the end of life: what breaks differently moves sensors in
// different directions. It returns the mode of each unit, 0 for one without a known start and end, or nil where there
// is nothing to tell apart.
func faultModes(ctx context.Context, s *Spec, units []turbofan.History) ([]int, error) {
	k := s.Config.FaultModes
	if k < 2 {
		return nil, nil
	}
	n := len(s.Keep)
	var points [][]float64
	var of []int
	d := make([]float64, n)
	comm := condition.NewCommissioner(s.Normalizer)
	for u := range units {
		h := &units[u]
		if h.FailedAtCycle == 0 {
			continue
		}
		st := s.NewState()
		end, weight := make([]float64, n), 0.0
		for i := range h.Readings {
			if i%checkEvery == 0 && ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if !s.changes(st, comm, &h.Readings[i], d) {
				continue
			}
			weight = (1-modeSmoothing)*weight + modeSmoothing
			for j, v := range d {
				end[j] += modeSmoothing * (v - end[j])
			}
		}
		if weight == 0 {
			continue
		}
		for j := range end {
			end[j] /= weight
		}
		points, of = append(points, end), append(of, u)
	}
	if len(points) < k*minModeUnits {
		return nil, nil
	}
	label := kMeans(points, k)
	count := make([]int, k)
	out := make([]int, len(units))
	for i, l := range label {
		count[l]++
		out[of[i]] = l
	}
	for _, c := range count {
		if c < minModeUnits {
			return nil, nil
		}
	}
	return out, nil
}

// modeSmoothing is the factor of the average over the last readings of a life.
const modeSmoothing = 0.1
