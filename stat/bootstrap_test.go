package stat_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"turbofan/stat"
)

func TestBootstrapPairedCoversTheTruth(t *testing.T) {
	const runs, units = 300, 60
	covered := 0
	for seed := range uint64(runs) {
		rng := rand.New(rand.NewPCG(seed, 2))
		a, b, n := make([]float64, units), make([]float64, units), make([]float64, units)
		for u := range units {
			n[u] = float64(5 + rng.IntN(20))
			hard := rng.NormFloat64() * 3 // shared by both models, as a hard unit is
			for range int(n[u]) {
				ea, eb := hard+rng.NormFloat64()*4, hard+rng.NormFloat64()*3
				a[u], b[u] = a[u]+ea*ea, b[u]+eb*eb
			}
		}
		got, err := stat.BootstrapPaired(a, b, n, stat.Bootstrap{Resamples: 400, Level: 0.9, Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		truth := 5 - math.Sqrt(18)
		if got.DifferenceBound.Lower <= truth && truth <= got.DifferenceBound.Upper {
			covered++
		}
	}
	if rate := float64(covered) / runs; rate < 0.84 || rate > 0.95 {
		t.Errorf("90%% interval covers %.3f", rate)
	}
}

func TestBootstrapPaired(t *testing.T) {
	a, b := []float64{16, 4, 4}, []float64{4, 4, 4}
	got, err := stat.BootstrapPaired(a, b, nil, stat.Bootstrap{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	again, err := stat.BootstrapPaired(a, b, nil, stat.Bootstrap{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	if got != again {
		t.Errorf("the same seed gives %+v and %+v", got, again)
	}
	near(t, "A", got.A, math.Sqrt(8), 1e-14)
	near(t, "ratio", got.Ratio, math.Sqrt2, 1e-14)
	if got.Better != 0 || got.DifferenceBound.Lower != 0 || got.DifferenceBound.Upper != 2 || got.Units != 3 {
		t.Errorf("%+v", got)
	}
	for name, c := range map[string][3][]float64{
		"one unit": {{1}, {1}, nil}, "negative": {{1, -1}, {1, 1}, nil}, "exact": {{1, 1}, {0, 0}, nil}, "count": {{1, 1}, {1, 1}, {1, 0}}, "lengths": {{1, 1}, {1, 1}, {1}},
	} {
		if _, err := stat.BootstrapPaired(c[0], c[1], c[2], stat.Bootstrap{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
