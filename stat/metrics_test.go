package stat_test

import (
	"math"
	"slices"
	"testing"

	"turbofan/stat"
)

func TestNASAScore(t *testing.T) {
	got, err := stat.NASAScore([]float64{90, 120, 50}, []float64{100, 100, 50})
	if err != nil {
		t.Fatal(err)
	}
	near(t, "score", got, math.Exp(10.0/13)-1+math.Exp(2)-1, 1e-14)
}

func TestIntervals(t *testing.T) {
	lower, upper := []float64{0, 10, 20, 30}, []float64{10, 20, 30, 50}
	got, err := stat.Coverage(lower, upper, []float64{10, 9, 25, 51})
	if err != nil {
		t.Fatal(err)
	}
	near(t, "coverage", got, 0.5, 0)
	if got, err = stat.MeanWidth(lower, upper); err != nil {
		t.Fatal(err)
	}
	near(t, "width", got, 12.5, 0)
	if _, err := stat.MeanWidth(upper, lower); err == nil {
		t.Error("crossed interval: no error")
	}
}

func TestMetricsRefuseBadInput(t *testing.T) {
	type pair func(a, b []float64) (float64, error)
	for name, f := range map[string]pair{
		"RMSE": stat.RMSE, "MAE": stat.MAE, "R2": stat.R2, "NASA": stat.NASAScore, "width": stat.MeanWidth, "Wasserstein unequal is fine": stat.Wasserstein,
		"coverage": func(a, b []float64) (float64, error) { return stat.Coverage(a, a, b) },
		"KS":       func(a, b []float64) (float64, error) { d, _, err := stat.KS(a, b); return d, err },
		"isotonic": func(a, b []float64) (float64, error) { _, err := stat.Isotonic(a, b, nil); return 0, err },
		"weights": func(a, b []float64) (float64, error) {
			_, err := stat.Isotonic([]float64{1, 2}, []float64{1, 2}, b)
			return 0, err
		},
	} {
		for _, c := range [][2][]float64{{{}, {}}, {{1, 2}, {1, math.NaN()}}, {{1, 2}, {1, math.Inf(-1)}}} {
			if got, err := f(c[0], c[1]); err == nil {
				t.Errorf("%s(%v, %v) = %v, no error", name, c[0], c[1], got)
			}
		}
	}
	for name, f := range map[string]pair{"RMSE": stat.RMSE, "MAE": stat.MAE, "R2": stat.R2, "NASA": stat.NASAScore} {
		if _, err := f([]float64{1}, []float64{1, 2}); err == nil {
			t.Errorf("%s: unequal lengths, no error", name)
		}
	}
	if _, err := stat.R2([]float64{1, 2}, []float64{3, 3}); err == nil {
		t.Error("R2 of constant truth: no error")
	}
	if _, err := stat.AUC([]float64{1, 2}, []bool{true, true}); err == nil {
		t.Error("AUC of one class: no error")
	}
	if _, err := stat.Brier([]float64{1.1}, []bool{true}); err == nil {
		t.Error("Brier of 1.1: no error")
	}
	if _, err := stat.Reliability([]float64{0.5}, []bool{true}, 0); err == nil {
		t.Error("no bins: no error")
	}
}

func TestReliabilityLeavesOutEmptyBins(t *testing.T) {
	got, err := stat.Reliability([]float64{0.05, 0.15, 0.95, 1}, []bool{false, true, true, true}, 5)
	if err != nil {
		t.Fatal(err)
	}
	want := []stat.ReliabilityBin{{0, 0.2, 2, 0.1, 0.5}, {0.8, 1, 2, 0.975, 1}}
	if !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestWeightedQuantile(t *testing.T) {
	inf := math.Inf(1)
	for _, c := range []struct {
		v, w    []float64
		q, want float64
	}{
		{[]float64{3, 1, 2}, nil, 1.0 / 3, 1},
		{[]float64{3, 1, 2}, nil, 0.34, 2},
		{[]float64{3, 1, 2}, []float64{1, 0, 9}, 0.9, 2},
		{[]float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, []float64{.1, .1, .1, .1, .1, .1, .1, .1, .1, .1}, 0.3, 3},
		{[]float64{1, inf}, nil, 0.9, inf},
		{[]float64{math.NaN(), 4}, nil, 0, 4},
	} {
		if got := stat.WeightedQuantile(c.v, c.w, c.q); got != c.want {
			t.Errorf("WeightedQuantile(%v, %v, %v) = %v, want %v", c.v, c.w, c.q, got, c.want)
		}
	}
	for _, v := range []float64{stat.WeightedQuantile(nil, nil, 0.5), stat.Quantile([]float64{1}, 1.5), stat.Quantile(nil, 0.5)} {
		if !math.IsNaN(v) {
			t.Errorf("%v, want NaN", v)
		}
	}
}
