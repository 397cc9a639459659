package stat

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Bootstrap says how to resample. The zero value means 2000 resamples, level 0.95,
// seed 0.
type Bootstrap struct {
	Resamples int     `json:"resamples"`
	Level     float64 `json:"level"`
	Seed      uint64  `json:"seed"`
}

// Interval is a two-sided confidence interval.
type Interval struct {
	Lower float64 `json:"lower"`
	Upper float64 `json:"upper"`
}

// PairedRMSE compares the RMSE of two models on the same units.
type PairedRMSE struct {
	A               float64  `json:"a"`                // RMSE of the first
	B               float64  `json:"b"`                // RMSE of the second
	Difference      float64  `json:"difference"`       // A - B: negative when the first is better
	DifferenceBound Interval `json:"difference_bound"` // at the level asked for
	Ratio           float64  `json:"ratio"`            // A / B
	RatioBound      Interval `json:"ratio_bound"`
	Better          float64  `json:"better"` // share of resamples in which A is below B
	Units           int      `json:"units"`
}

// BootstrapPaired compares two models by a paired bootstrap over units (Efron and
// Tibshirani 1993, sections 8.3 and 13.3: percentile interval): a and b hold each
// unit's sum of squared errors under either model, n its number of predictions (nil:
// one each). Whole units are drawn, because the readings of one engine share its fate
// and are not independent; both models keep the same draw, so what makes a unit hard
// cancels. The same arguments give the same answer.
//
// At least two units; sums not negative, counts positive, and b not zero throughout
// (no ratio to an exact model).
func BootstrapPaired(a, b, n []float64, opt Bootstrap) (PairedRMSE, error) {
	if opt.Resamples == 0 {
		opt.Resamples = 2000
	}
	if opt.Level == 0 {
		opt.Level = 0.95
	}
	if err := checkBootstrap(a, b, n, opt); err != nil {
		return PairedRMSE{}, fmt.Errorf("bootstrap units: %w", err)
	}
	var sa, sb, sn float64
	for i := range a {
		sa, sb, sn = sa+a[i], sb+b[i], sn+weightAt(n, i)
	}
	out := PairedRMSE{A: math.Sqrt(sa / sn), B: math.Sqrt(sb / sn), Units: len(a)}
	out.Difference, out.Ratio = out.A-out.B, out.A/out.B

	rng := rand.New(rand.NewPCG(opt.Seed, 0x9e3779b97f4a7c15))
	differences := make([]float64, 0, opt.Resamples)
	ratios := make([]float64, 0, opt.Resamples)
	better := 0
	for range opt.Resamples {
		var ra, rb, rn float64
		for range a {
			i := rng.IntN(len(a))
			ra, rb, rn = ra+a[i], rb+b[i], rn+weightAt(n, i)
		}
		differences = append(differences, math.Sqrt(ra/rn)-math.Sqrt(rb/rn))
		if ra < rb {
			better++
		}
		if rb > 0 {
			ratios = append(ratios, math.Sqrt(ra/rb))
		}
	}
	out.DifferenceBound = percentile(differences, opt.Level)
	out.RatioBound = percentile(ratios, opt.Level)
	out.Better = float64(better) / float64(opt.Resamples)
	return out, nil
}

func weightAt(w []float64, i int) float64 {
	if w == nil {
		return 1
	}
	return w[i]
}

func percentile(v []float64, level float64) Interval {
	slices.Sort(v)
	return Interval{sortedQuantile(v, (1-level)/2), sortedQuantile(v, (1+level)/2)}
}

func checkBootstrap(a, b, n []float64, opt Bootstrap) error {
	if err := paired("a", a, "b", b); err != nil {
		return err
	}
	if n != nil {
		if err := paired("a", a, "n", n); err != nil {
			return err
		}
		if m := slices.Min(n); m <= 0 {
			return fmt.Errorf("n holds %v, must be above 0", m)
		}
	}
	switch {
	case len(a) < 2:
		return fmt.Errorf("a has %d unit, needs at least 2", len(a))
	case slices.Min(a) < 0:
		return fmt.Errorf("a holds %v, a sum of squares is not negative", slices.Min(a))
	case slices.Min(b) < 0:
		return fmt.Errorf("b holds %v, a sum of squares is not negative", slices.Min(b))
	case slices.Max(b) == 0:
		return fmt.Errorf("b is zero throughout, no ratio to it exists")
	case opt.Resamples < 1:
		return fmt.Errorf("resamples is %d, must be at least 1", opt.Resamples)
	case !(opt.Level > 0 && opt.Level < 1):
		return fmt.Errorf("level is %v, must be between 0 and 1", opt.Level)
	}
	return nil
}
