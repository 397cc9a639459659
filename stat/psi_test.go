package stat_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"turbofan/stat"
)

func TestPSIFollowsChiSquaredLawUnderNoDrift(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 5))
	draw := func(n int) []float64 {
		v := make([]float64, n)
		for i := range v {
			v[i] = rng.NormFloat64()
		}
		return v
	}
	for _, c := range []struct {
		bins, ref, cur int
		smoothing      float64
	}{{10, 1500, 500, 0}, {10, 1500, 500, stat.Smoothing}, {5, 400, 400, stat.Smoothing}, {20, 3000, 1500, 0}} {
		const runs = 800
		threshold := stat.PSIThreshold(c.bins, float64(c.ref), float64(c.cur), 0.05)
		alarms := 0
		for range runs {
			ref := draw(c.ref)
			edges := make([]float64, 0, c.bins-1)
			for i := 1; i < c.bins; i++ {
				// Edges of the law itself: edges cut from ref would take its noise along.
				edges = append(edges, math.Sqrt2*math.Erfinv(2*float64(i)/float64(c.bins)-1))
			}
			a, b := make([]float64, c.bins), make([]float64, c.bins)
			stat.Histogram(ref, edges, a)
			stat.Histogram(draw(c.cur), edges, b)
			psi, err := stat.PSI(a, b, c.smoothing)
			if err != nil {
				t.Fatal(err)
			}
			if psi > threshold {
				alarms++
			}
			if p := stat.PSIPValue(psi, c.bins, float64(c.ref), float64(c.cur)); (p < 0.05) != (psi > threshold) {
				t.Fatalf("p = %v and threshold %v disagree at %v", p, threshold, psi)
			}
		}
		rate := float64(alarms) / runs
		if sd := math.Sqrt(0.05 * 0.95 / runs); math.Abs(rate-0.05) > 3.3*sd {
			t.Errorf("%+v: false alarm rate %.4f, want 0.05 ± %.4f", c, rate, 3.3*sd)
		}
	}
}

func TestPSIEmptyBins(t *testing.T) {
	if _, err := stat.PSI([]float64{5, 0}, []float64{3, 2}, 0); err == nil {
		t.Error("infinite PSI gave no error")
	}
	got, err := stat.PSI([]float64{5, 0, 0}, []float64{3, 2, 0}, 0.5)
	if err != nil {
		t.Fatal(err)
	}
	p, q := []float64{5.5 / 6, 0.5 / 6}, []float64{3.5 / 6, 2.5 / 6}
	want := (p[0]-q[0])*math.Log(p[0]/q[0]) + (p[1]-q[1])*math.Log(p[1]/q[1])
	near(t, "PSI", got, want, 1e-14)
	for name, c := range map[string][2][]float64{
		"unequal": {{1, 2}, {1}}, "none": {{}, {}}, "negative": {{1, -1}, {1, 1}}, "no current": {{1, 1}, {0, 0}}, "NaN": {{1, math.NaN()}, {1, 1}},
	} {
		if _, err := stat.PSI(c[0], c[1], 0.5); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestQuantileEdges(t *testing.T) {
	ten := []float64{3, 1, 2, math.NaN(), 4, 5, 6, 7, 8, 9, 10}
	for _, c := range []struct {
		name string
		v    []float64
		bins int
		want []float64
	}{
		{"spread", ten, 3, []float64{4, 7}},
		{"repeated quantiles join", []float64{1, 1, 1, 1, 2, 2, 2, 3}, 4, []float64{1.5, 2}},
		{"constant", []float64{7, 7}, 10, []float64{7, math.Nextafter(7, 8)}},
		{"nearly constant", append(slices.Repeat([]float64{0}, 99), 5), 4, []float64{math.Nextafter(0, 1)}},
		{"missing", []float64{math.NaN()}, 10, nil},
	} {
		if got := stat.QuantileEdges(c.v, c.bins); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func FuzzHistogram(f *testing.F) {
	f.Add(uint64(1), 10, 100)
	f.Add(uint64(2), 40, 300)
	f.Fuzz(func(t *testing.T, seed uint64, bins, n int) {
		if bins < 2 || bins > 100 || n < 1 || n > 1000 {
			t.Skip()
		}
		rng := rand.New(rand.NewPCG(seed, 0))
		v := make([]float64, n)
		for i := range v {
			v[i] = math.Floor(rng.NormFloat64() * float64(1+seed%50))
		}
		edges := stat.QuantileEdges(v, bins)
		if len(edges) < 1 || len(edges) > max(2, bins-1) || !slices.IsSorted(edges) {
			t.Fatalf("edges %v", edges)
		}
		counts := make([]float64, len(edges)+1)
		stat.Histogram(append(v, math.NaN()), edges, counts)
		var total float64
		for i, c := range counts {
			total += c
			lo, hi := math.Inf(-1), math.Inf(1)
			if i > 0 {
				lo = edges[i-1]
			}
			if i < len(edges) {
				hi = edges[i]
			}
			var want float64
			for _, x := range v {
				if lo <= x && x < hi {
					want++
				}
			}
			if c != want {
				t.Fatalf("bin %d of %v holds %v, want %v", i, edges, c, want)
			}
		}
		if total != float64(n) {
			t.Fatalf("%v counted of %d", total, n)
		}
	})
}
