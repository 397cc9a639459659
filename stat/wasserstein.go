package stat

import (
	"fmt"
	"math"
	"slices"
)

// Wasserstein is the first Wasserstein distance between the empirical distributions of
// a and b, in their unit: the area between the two distribution functions (Vallender
// 1974), as scipy.stats.wasserstein_distance.
func Wasserstein(a, b []float64) (float64, error) {
	if err := finite("a", a); err != nil {
		return 0, fmt.Errorf("compute Wasserstein distance: %w", err)
	}
	if err := finite("b", b); err != nil {
		return 0, fmt.Errorf("compute Wasserstein distance: %w", err)
	}
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return sortedWasserstein(a, nil, b), nil
}

// sortedWasserstein takes both sides ascending; w are the weights of a, nil for one
// each.
func sortedWasserstein(a, w, b []float64) float64 {
	total := 0.0
	for i := range a {
		total += weightAt(w, i)
	}
	step := 1 / float64(len(b))
	var area, fa, fb float64
	i, j := 0, 0
	x := math.Min(a[0], b[0])
	for i < len(a) || j < len(b) {
		next := math.Inf(1)
		if i < len(a) {
			next = a[i]
		}
		if j < len(b) && b[j] < next {
			next = b[j]
		}
		area += math.Abs(fa-fb) * (next - x)
		x = next
		for ; i < len(a) && a[i] == x; i++ {
			fa += weightAt(w, i) / total
		}
		for ; j < len(b) && b[j] == x; j++ {
			fb += step
		}
	}
	return area
}
