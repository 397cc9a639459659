package stat_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"turbofan/stat"
)

// FuzzDistances compares KS and Wasserstein of tied values with their definitions.
func FuzzDistances(f *testing.F) {
	f.Add(uint64(1), 5, 9)
	f.Add(uint64(2), 200, 150)
	f.Fuzz(func(t *testing.T, seed uint64, na, nb int) {
		if na < 1 || nb < 1 || na > 300 || nb > 300 {
			t.Skip()
		}
		rng := rand.New(rand.NewPCG(seed, 0))
		draw := func(n int) []float64 {
			v := make([]float64, n)
			for i := range v {
				v[i] = float64(rng.IntN(40))
			}
			return v
		}
		a, b := draw(na), draw(nb)
		below := func(v []float64, x float64) float64 {
			n := 0.0
			for _, y := range v {
				if y <= x {
					n++
				}
			}
			return n / float64(len(v))
		}
		var wantD, wantW float64
		for x := range 40 {
			gap := math.Abs(below(a, float64(x)) - below(b, float64(x)))
			wantD, wantW = max(wantD, gap), wantW+gap
		}
		d, p, err := stat.KS(a, b)
		if err != nil {
			t.Fatal(err)
		}
		w, err := stat.Wasserstein(a, b)
		if err != nil {
			t.Fatal(err)
		}
		near(t, "KS", d, wantD, 1e-12)
		near(t, "Wasserstein", w, wantW, 1e-12)
		if !(p >= 0 && p <= 1) {
			t.Errorf("p = %v", p)
		}
		back, q, err := stat.KS(b, a)
		if err != nil {
			t.Fatal(err)
		}
		near(t, "KS the other way", back, d, 1e-12)
		near(t, "p the other way", q, p, 1e-9)
	})
}
