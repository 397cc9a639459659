package stat_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"turbofan/stat"
)

func TestTailChance(t *testing.T) {
	// 0.1 * scipy.stats.lomax.sf(1.5, 10, scale=4.0)
	tail := stat.Tail{From: 2, Share: 0.1, Count: 10, Excess: 4}
	if got := tail.Chance(2 * math.Exp(1.5)); math.Abs(got-0.004139739548230255) > 1e-15 {
		t.Errorf("chance %.15g", got)
	}
	for x, want := range map[float64]float64{0: 1, 2: 1, math.NaN(): 1, math.Inf(1): 0} {
		if got := tail.Chance(x); got != want {
			t.Errorf("chance at %v is %v, want %v", x, got, want)
		}
	}
}

// Over samples and new values alike, a value is as rare as the tail says: also beyond all of a small sample, where counting would say
// one in fifty-one and the tail that was found, taken for the truth, too little.
func TestTailIsAsRareAsItSays(t *testing.T) {
	const samples, fresh = 4000, 100
	rng := rand.New(rand.NewPCG(3, 1))
	levels := []float64{0.05, 0.01, 0.001}
	beyond := make([]float64, len(levels))
	for range samples {
		values := make([]float64, 50)
		for i := range values {
			values[i] = math.Exp(rng.ExpFloat64() / 5)
		}
		tail := stat.FitTail(values)
		for range fresh {
			p := tail.Chance(math.Exp(rng.ExpFloat64() / 5))
			for i, level := range levels {
				if p < level {
					beyond[i]++
				}
			}
		}
	}
	for i, level := range levels {
		// Where a tail begins is an order statistic: a tenth of values lies beyond it but for one in n.
		if share := beyond[i] / (samples * fresh); share > 1.25*level || share < 0.7*level {
			t.Errorf("%.5f of the values are said to be rarer than %v", share, level)
		}
	}
}

func TestFitTailOfLittle(t *testing.T) {
	equal, negative := make([]float64, 100), make([]float64, 100)
	for i := range equal {
		equal[i], negative[i] = 3, -float64(i)
	}
	for name, values := range map[string][]float64{"nothing": nil, "49 values": equal[:49], "equal values": equal, "values below 0": negative,
		"an infinite one": append([]float64{math.Inf(1)}, equal...)} {
		if tail := stat.FitTail(values); tail != nil {
			t.Errorf("%s give %+v", name, tail)
		}
	}
	equal[0], equal[99] = 9, 2
	if tail := stat.FitTail(equal); tail == nil || tail.Validate() != nil || *tail != (stat.Tail{From: 3, Share: 0.1, Count: 10, Excess: math.Log(3)}) {
		t.Errorf("%+v", tail)
	}
	for _, bad := range []stat.Tail{{}, {From: 1, Share: 2, Count: 1, Excess: 1}, {From: math.Inf(1), Share: 0.1, Count: 1, Excess: 1},
		{From: 1, Share: 0.1, Excess: 1}, {From: 1, Share: 0.1, Count: 1, Excess: math.NaN()}} {
		if bad.Validate() == nil {
			t.Errorf("%+v is valid", bad)
		}
	}
}

func TestBinomialTail(t *testing.T) {
	// scipy.stats.binom.sf(k-1, n, p)
	for _, c := range []struct {
		k, n    int
		p, want float64
	}{{2, 57, 0.0018, 0.004841880933431511}, {5, 60, 0.01, 0.00034575434785519586}, {1, 1, 0.3, 0.3}, {3, 1000, 0.0005, 0.014359242305093839},
		{0, 5, 0.1, 1}, {6, 5, 0.9, 0}, {3, 5, 0, 0}, {3, 5, 1, 1}, {6, 5, 1, 0}, {2, 5, math.NaN(), 0}} {
		if got := stat.BinomialTail(c.k, c.n, c.p); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%+v: %.15g", c, got)
		}
	}
}
