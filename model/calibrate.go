package model

import (
	"math"
	"slices"
	"sort"

	"turbofan"
	"turbofan/stat"
)

// Answer is what a model says of one row.
type Answer struct {
	RUL                float64
	Lower, Upper       float64
	FailureProbability float64
	Health             turbofan.Health
}

// rank orders answers by how near failure they are; the probability is a step function of RUL and would tie.
func (a Answer) rank() float64 { return -a.RUL }

// Calibration turns a learner's number into an interval, a probability and a state of health. It was measured on units
// that the learner had not seen.
type Calibration struct {
	Cap      float64 `json:"cap"`
	Horizon  int     `json:"failure_horizon"`
	Coverage float64 `json:"coverage"`
	Own      Bands   `json:"own_start"`
	// Late is for units that joined late; equal to Own where too few such rows were measured.
	Late Bands `json:"joined_late"`
}

// Bands holds residual quantiles by predicted RUL, between which they are interpolated, and the failure probability.
type Bands struct {
	At    []float64         `json:"predicted_rul"`
	Lower []float64         `json:"lower"` // quantile of truth − prediction
	Upper []float64         `json:"upper"`
	Fails *stat.IsotonicFit `json:"failure_probability"`
}

// The bands of a calibration: predictions are grouped so that each group carries an equal share of the weight.
const (
	bands       = 16
	minBandRows = 200
)

// calibrate measures intervals by Mondrian split conformal prediction (Vovk et al. 2005, section 4.5) on residuals out
// of fold: within a band of predicted RUL, each unit weighs the same. So few units leave a quantile uncertain, so it is
// moved out by one standard error: the promise then holds for five calibrations of six, not only for their average
// (Vovk 2012, on conditional validity). Truth is clipped at the cap, as the learner's label was.
func calibrate(cfg Config, own, late *heldOut) (Calibration, error) {
	c := Calibration{Cap: cfg.Cap, Horizon: cfg.Horizon, Coverage: cfg.Coverage}
	var err error
	if c.Own, err = bandsOf(cfg, own); err != nil {
		return c, err
	}
	c.Late = c.Own
	if len(late.rul) >= 2*minBandRows {
		c.Late, err = bandsOf(cfg, late)
	}
	return c, err
}

func bandsOf(cfg Config, h *heldOut) (Bands, error) {
	n := len(h.rul)
	if n < 2*minBandRows {
		return Bands{}, turbofan.Errorf(turbofan.EInsufficient, "calibrate model: %d held-out rows; at least %d are needed", n, 2*minBandRows)
	}
	w := h.rowWeights()
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(a, b int) bool { return h.pred[order[a]] < h.pred[order[b]] })
	k := min(bands, n/minBandRows)
	var b Bands
	total, acc, first := 0.0, 0.0, 0
	for _, v := range w {
		total += v
	}
	for i, at := range order {
		acc += w[at]
		if acc < total*float64(len(b.At)+1)/float64(k)-1e-12*total && i < n-1 {
			continue
		}
		b.addBand(cfg, h, w, order[first:i+1])
		first = i + 1
	}
	slices.Sort(b.At)
	fails := make([]float64, n)
	for i, r := range h.rul {
		if r <= float64(cfg.Horizon) {
			fails[i] = 1
		}
	}
	var err error
	b.Fails, err = stat.Antitonic(h.pred, fails, w)
	return b, err
}

func (b *Bands) addBand(cfg Config, h *heldOut, w []float64, rows []int) {
	res, rw := make([]float64, len(rows)), make([]float64, len(rows))
	units := map[int]bool{}
	var at, sum float64
	for j, i := range rows {
		res[j], rw[j] = min(h.rul[i], cfg.Cap)-h.pred[i], w[i]
		units[h.unit[i]] = true
		at, sum = at+w[i]*h.pred[i], sum+w[i]
	}
	tail := (1 - cfg.Coverage) / 2
	tail = max(0, tail-math.Sqrt(tail*(1-tail)/float64(len(units))))
	b.At = append(b.At, at/sum)
	b.Lower = append(b.Lower, stat.WeightedQuantile(res, rw, tail))
	b.Upper = append(b.Upper, stat.WeightedQuantile(res, rw, 1-tail))
}

// rowWeights gives every unit the same weight in all.
func (h *heldOut) rowWeights() []float64 {
	n := map[int]float64{}
	for _, u := range h.unit {
		n[u]++
	}
	w := make([]float64, len(h.unit))
	for i, u := range h.unit {
		w[i] = 1 / n[u]
	}
	return w
}

// answer calibrates one prediction. It does not allocate.
func (c *Calibration) answer(pred float64, late bool) Answer {
	b := &c.Own
	if late {
		b = &c.Late
	}
	rul := min(max(pred, 0), c.Cap)
	lo, hi := b.residuals(rul)
	a := Answer{RUL: rul, Lower: max(0, min(rul+lo, rul)), Upper: min(max(rul+hi, rul), c.Cap), FailureProbability: min(max(b.Fails.Predict(rul), 0), 1)}
	a.Health = health(a, float64(c.Horizon))
	return a
}

func (b *Bands) residuals(pred float64) (lo, hi float64) {
	n := len(b.At)
	i := sort.SearchFloat64s(b.At, pred)
	switch {
	case i == 0:
		return b.Lower[0], b.Upper[0]
	case i == n:
		return b.Lower[n-1], b.Upper[n-1]
	}
	span := b.At[i] - b.At[i-1]
	if span <= 0 {
		return b.Lower[i], b.Upper[i]
	}
	t := (pred - b.At[i-1]) / span
	return b.Lower[i-1] + t*(b.Lower[i]-b.Lower[i-1]), b.Upper[i-1] + t*(b.Upper[i]-b.Upper[i-1])
}

// health draws the state from both: what is likely within the horizon, and whether the interval still reaches it. Two
// horizons ahead is when work is planned: whatever is expected to end by then is watched.
func health(a Answer, horizon float64) turbofan.Health {
	switch {
	case a.FailureProbability >= 0.9 || a.Upper <= horizon:
		return turbofan.Critical
	case a.FailureProbability >= 0.5:
		return turbofan.Warning
	case a.FailureProbability >= 0.05 || a.Lower <= horizon || a.RUL <= 2*horizon:
		return turbofan.Watch
	}
	return turbofan.Healthy
}

// validate reports why a calibration that was read from a file cannot be used.
func (c *Calibration) validate() error {
	for name, b := range map[string]*Bands{"own_start": &c.Own, "joined_late": &c.Late} {
		field := "calibration." + name
		if len(b.At) == 0 || len(b.Lower) != len(b.At) || len(b.Upper) != len(b.At) || b.Fails == nil {
			return turbofan.Invalid(field, "is incomplete")
		}
		if !slices.IsSorted(b.At) {
			return turbofan.Invalid(field+".predicted_rul", "must ascend")
		}
		if err := b.Fails.Validate(); err != nil {
			return turbofan.Invalid(field+".failure_probability", "%s", err.Error())
		}
	}
	if !(c.Cap > 0) || math.IsInf(c.Cap, 0) || c.Horizon < 1 {
		return turbofan.Invalid("calibration", "cap and horizon must be above 0")
	}
	return nil
}
