package stat

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// The table of bins gives what counting the edges gives, on the edges, beside them and far from them.
func TestBins(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	many := make([]float64, 200)
	for i := range many {
		many[i] = math.Exp(20 * rng.NormFloat64())
	}
	slices.Sort(many)
	for _, edges := range [][]float64{
		{0}, {-1.28, -0.84, -0.52, -0.25, 0, 0.25, 0.52, 0.84, 1.28}, {7, math.Nextafter(7, 8)}, {1, 2, 3, 1e9}, {5, 5, 5},
		{-math.MaxFloat64, math.MaxFloat64}, {0, math.SmallestNonzeroFloat64}, {1e300, 1.1e300}, many,
	} {
		b := newBins(edges)
		values := []float64{0, math.Copysign(0, -1), math.MaxFloat64, -math.MaxFloat64, math.SmallestNonzeroFloat64}
		for _, e := range edges {
			values = append(values, e, math.Nextafter(e, math.Inf(1)), math.Nextafter(e, math.Inf(-1)), e+rng.NormFloat64(), e*rng.Float64())
		}
		for _, x := range values {
			if x-x == 0 && b.of(x) != bin(edges, x) {
				t.Errorf("%v is in bin %d of %.4g, found %d", x, bin(edges, x), edges, b.of(x))
			}
		}
	}
}

// Digit by digit or by comparison, the order is the same.
func TestSortFloats(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	kinds := map[string]func() float64{
		"normal":      rng.NormFloat64,
		"positive":    rng.Float64,
		"whole":       func() float64 { return float64(rng.IntN(50)) },
		"one value":   func() float64 { return -3 },
		"every scale": func() float64 { return math.Copysign(math.Exp(700*rng.Float64()-350), rng.NormFloat64()) },
	}
	for name, draw := range kinds {
		for _, n := range []int{0, 1, radixLeast - 1, radixLeast, 30_000} {
			v := make([]float64, n)
			for i := range v {
				v[i] = draw()
			}
			want := slices.Sorted(slices.Values(v))
			if sortFloats(v); !slices.Equal(v, want) {
				t.Errorf("%d values, %s: not in order", n, name)
			}
		}
	}
}
