package stat

import (
	"cmp"
	"slices"
)

// BenjaminiHochberg says which hypotheses to reject so that, among independent or
// positively dependent tests, the expected share of false rejections is at most q
// (Benjamini and Hochberg 1995, section 3.1). The result is parallel to p; a NaN is no
// test: it is not rejected and does not count.
func BenjaminiHochberg(p []float64, q float64) []bool {
	order := make([]int, 0, len(p))
	for i, v := range p {
		if v == v {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(p[a], p[b]) })
	last := -1
	for k, i := range order {
		if p[i] <= q*float64(k+1)/float64(len(order)) {
			last = k
		}
	}
	out := make([]bool, len(p))
	for _, i := range order[:last+1] {
		out[i] = true
	}
	return out
}
