package stat

import (
	"cmp"
	"math"
	"slices"
)

// Quantile is the q-quantile of v by linear interpolation between order statistics,
// type 7 of Hyndman and Fan (1996), numpy's default. NaN values are left out; NaN when
// nothing is left or q is outside [0, 1].
func Quantile(v []float64, q float64) float64 {
	return Quantiles(v, q)[0]
}

// Quantiles is Quantile for several q with one sort; the result is parallel to q.
func Quantiles(v []float64, q ...float64) []float64 {
	s := present(v)
	slices.Sort(s)
	out := make([]float64, len(q))
	for i, p := range q {
		out[i] = sortedQuantile(s, p)
	}
	return out
}

func sortedQuantile(s []float64, q float64) float64 {
	if len(s) == 0 || !(q >= 0 && q <= 1) {
		return math.NaN()
	}
	h := q * float64(len(s)-1)
	i := int(h)
	if i+1 >= len(s) || s[i] == s[i+1] {
		return s[i]
	}
	return s[i] + (h-float64(i))*(s[i+1]-s[i])
}

// WeightedQuantile is the smallest value of v at which the weight of all values up to
// it reaches the share q of the whole: the inverse of the weighted empirical
// distribution, never a value that was not seen. nil w means one each. Values that are
// NaN or whose weight is not positive are left out; +Inf is a value, as conformal
// prediction needs. NaN when nothing is left or q is outside [0, 1].
func WeightedQuantile(v, w []float64, q float64) float64 {
	type point struct{ v, w float64 }
	ps := make([]point, 0, len(v))
	var total float64
	for i, x := range v {
		p := point{x, 1}
		if w != nil {
			p.w = w[i]
		}
		if x == x && p.w > 0 {
			ps = append(ps, p)
			total += p.w
		}
	}
	if len(ps) == 0 || !(q >= 0 && q <= 1) {
		return math.NaN()
	}
	slices.SortFunc(ps, func(a, b point) int { return cmp.Compare(a.v, b.v) })
	// Sums of weights such as 0.1 fall short of q by rounding; without the margin the
	// answer would jump one value up.
	goal := q*total - 1e-12*total
	var sum float64
	for _, p := range ps {
		if sum += p.w; sum >= goal {
			return p.v
		}
	}
	return ps[len(ps)-1].v
}
