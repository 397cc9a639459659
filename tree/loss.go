package tree

import (
	"math"
	"slices"
	"sort"
)

// Loss names what boosting minimises.
type Loss string

const (
	// SquaredError is half the squared difference: the mean is predicted.
	SquaredError Loss = "squared_error"
	// QuantileLoss is the pinball loss (Koenker and Bassett, 1978).
	QuantileLoss Loss = "quantile"
	// NASALoss is the asymmetric score of the PHM08 challenge (Saxena et al.,
	// 2008): with d = predicted - true, exp(-d/13)-1 for d < 0 and
	// exp(d/10)-1 otherwise. Beyond five of these scales (65 cycles early, 50
	// late) it is continued by its tangent: there the exponential would let a
	// few rows outweigh the set.
	NASALoss Loss = "nasa"
)

const (
	nasaEarly = 13.0
	nasaLate  = 10.0
	nasaClip  = 5.0
)

// gradHess returns first and second derivative at d = predicted - true, for
// weight one.
func (p *BoostingParams) gradHess(d float64) (g, h float64) {
	switch p.Loss {
	case QuantileLoss:
		if d >= 0 {
			return 1 - p.Quantile, 1
		}
		return -p.Quantile, 1
	case NASALoss:
		if d < 0 {
			e := math.Exp(math.Min(-d/nasaEarly, nasaClip))
			return -e / nasaEarly, e / (nasaEarly * nasaEarly)
		}
		e := math.Exp(math.Min(d/nasaLate, nasaClip))
		return e / nasaLate, e / (nasaLate * nasaLate)
	default:
		return d, 1
	}
}

// value returns the loss at d for weight one.
func (p *BoostingParams) value(d float64) float64 {
	switch p.Loss {
	case QuantileLoss:
		return math.Max((1-p.Quantile)*d, -p.Quantile*d)
	case NASALoss:
		u := d / nasaLate
		if d < 0 {
			u = -d / nasaEarly
		}
		if u > nasaClip {
			return math.Exp(nasaClip)*(1+u-nasaClip) - 1
		}
		return math.Expm1(u)
	default:
		return d * d / 2
	}
}

// meanLoss is the weighted mean loss of predictions pred.
func (p *BoostingParams) meanLoss(pred, y, w []float64) float64 {
	sum, total := 0.0, 0.0
	for i, v := range pred {
		wi := 1.0
		if w != nil {
			wi = w[i]
		}
		sum += wi * p.value(v-y[i])
		total += wi
	}
	return sum / total
}

// centre returns the constant c that minimises the weighted loss of c against
// the values v. It may reorder its arguments; w may be nil.
func (p *BoostingParams) centre(v, w []float64) float64 {
	switch p.Loss {
	case QuantileLoss:
		return weightedQuantile(v, w, p.Quantile)
	case NASALoss:
		return p.descend(v, w)
	default:
		sum, total := 0.0, 0.0
		for i, x := range v {
			wi := 1.0
			if w != nil {
				wi = w[i]
			}
			sum += wi * x
			total += wi
		}
		return sum / total
	}
}

// refits tells whether leaves take the centre of their residuals rather than a
// Newton step. The pinball loss has no curvature, and the NASA score so little
// beside its slope at zero that Newton steps overshoot by a dozen cycles.
func (p *BoostingParams) refits() bool { return p.Loss != SquaredError }

// descend finds where the gradient of the loss changes sign: regula falsi with
// the Illinois rule, which also closes in on a jump.
func (p *BoostingParams) descend(v, w []float64) float64 {
	lo, hi := slices.Min(v), slices.Max(v)
	glo, ghi := p.slope(lo, v, w), p.slope(hi, v, w)
	tolerance := 1e-4 * (1 + hi - lo)
	for i := 0; i < 40 && hi-lo > tolerance; i++ {
		c := lo + (hi-lo)/2
		if i%3 != 2 && ghi > glo {
			c = min(max(lo-glo*(hi-lo)/(ghi-glo), lo), hi)
		}
		g := p.slope(c, v, w)
		if g > 0 {
			hi, ghi, glo = c, g, glo/2
		} else {
			lo, glo, ghi = c, g, ghi/2
		}
	}
	return lo + (hi-lo)/2
}

// slope is the gradient of the summed loss at c.
func (p *BoostingParams) slope(c float64, v, w []float64) float64 {
	sum := 0.0
	for i, x := range v {
		g, _ := p.gradHess(c - x)
		if w != nil {
			g *= w[i]
		}
		sum += g
	}
	return sum
}

// weightedQuantile returns the smallest value at which the cumulative weight
// reaches share q of the whole, and the mean with the next value where it is
// reached exactly, so that a row of weight two counts as two rows. It reorders
// its arguments; w may be nil.
func weightedQuantile(v, w []float64, q float64) float64 {
	if w == nil {
		slices.Sort(v)
		k := q * float64(len(v))
		i := int(math.Ceil(k)) - 1
		if i >= 0 && i+1 < len(v) && k == math.Floor(k) {
			return (v[i] + v[i+1]) / 2
		}
		return v[min(max(i, 0), len(v)-1)]
	}
	sort.Sort(&byValue{v, w})
	total := 0.0
	for _, x := range w {
		total += x
	}
	need, sum := q*total, 0.0
	for i, x := range w {
		sum += x
		if sum == need && x > 0 {
			for j := i + 1; j < len(v); j++ {
				if w[j] > 0 {
					return (v[i] + v[j]) / 2
				}
			}
		}
		if sum >= need && x > 0 {
			return v[i]
		}
	}
	return v[len(v)-1]
}

type byValue struct{ v, w []float64 }

func (b *byValue) Len() int           { return len(b.v) }
func (b *byValue) Less(i, j int) bool { return b.v[i] < b.v[j] }
func (b *byValue) Swap(i, j int) {
	b.v[i], b.v[j] = b.v[j], b.v[i]
	b.w[i], b.w[j] = b.w[j], b.w[i]
}
