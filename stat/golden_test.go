package stat_test

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"turbofan/stat"
)

type goldens struct {
	Regression struct {
		Pred, Truth   []float64
		RMSE, MAE, R2 float64
	}
	KS []struct {
		Name        string
		A, B        []float64
		D, P        float64
		Wasserstein float64
	}
	AUC []struct {
		Name     string
		Score    []float64
		Positive []bool
		AUC      float64
	}
	Probability struct {
		P         []float64
		Positive  []bool
		Brier     float64
		Bins      int
		Observed  []float64
		Predicted []float64
	}
	Isotonic []struct {
		Name       string
		Increasing bool
		X, Y, W    []float64
		At         []float64
		Predicted  []float64
	}
	Quantile struct{ V, W, Q, Linear, Weighted []float64 }
	PSI      []struct {
		Name  string
		A, B  []float64
		Edges []float64
		PSI   float64
	}
}

func loadGoldens(t *testing.T, into any) {
	t.Helper()
	b, err := os.ReadFile("testdata/goldens.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatal(err)
	}
}

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance*max(1, math.Abs(want))) {
		t.Errorf("%s = %v, want %v", what, got, want)
	}
}

func TestRegressionMatchesScikitLearn(t *testing.T) {
	var g goldens
	loadGoldens(t, &g)
	for _, c := range []struct {
		name string
		f    func(pred, truth []float64) (float64, error)
		want float64
	}{{"RMSE", stat.RMSE, g.Regression.RMSE}, {"MAE", stat.MAE, g.Regression.MAE}, {"R2", stat.R2, g.Regression.R2}} {
		got, err := c.f(g.Regression.Pred, g.Regression.Truth)
		if err != nil {
			t.Fatal(err)
		}
		near(t, c.name, got, c.want, 1e-13)
	}
}

func TestKSAndWassersteinMatchScipy(t *testing.T) {
	var g goldens
	loadGoldens(t, &g)
	for _, c := range g.KS {
		d, p, err := stat.KS(c.A, c.B)
		if err != nil {
			t.Fatal(err)
		}
		near(t, c.Name+" d", d, c.D, 1e-12)
		if math.Abs(p-c.P) > 1e-7*c.P+1e-300 {
			t.Errorf("%s p = %v, want %v", c.Name, p, c.P)
		}
		w, err := stat.Wasserstein(c.A, c.B)
		if err != nil {
			t.Fatal(err)
		}
		near(t, c.Name+" Wasserstein", w, c.Wasserstein, 1e-12)
	}
}

func TestProbabilityMatchesScikitLearn(t *testing.T) {
	var g goldens
	loadGoldens(t, &g)
	for _, c := range g.AUC {
		got, err := stat.AUC(c.Score, c.Positive)
		if err != nil {
			t.Fatal(err)
		}
		near(t, c.Name, got, c.AUC, 1e-13)
	}
	b, err := stat.Brier(g.Probability.P, g.Probability.Positive)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "Brier", b, g.Probability.Brier, 1e-13)
	bins, err := stat.Reliability(g.Probability.P, g.Probability.Positive, g.Probability.Bins)
	if err != nil {
		t.Fatal(err)
	}
	if len(bins) != len(g.Probability.Observed) {
		t.Fatalf("%d bins, want %d", len(bins), len(g.Probability.Observed))
	}
	for i, b := range bins {
		near(t, "observed", b.Observed, g.Probability.Observed[i], 1e-13)
		near(t, "predicted", b.Predicted, g.Probability.Predicted[i], 1e-13)
	}
}

func TestIsotonicMatchesScikitLearn(t *testing.T) {
	var g goldens
	loadGoldens(t, &g)
	for _, c := range g.Isotonic {
		fit := stat.Isotonic
		if !c.Increasing {
			fit = stat.Antitonic
		}
		f, err := fit(c.X, c.Y, c.W)
		if err != nil {
			t.Fatal(err)
		}
		encoded, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		var back stat.IsotonicFit
		if err := json.Unmarshal(encoded, &back); err != nil {
			t.Fatal(err)
		}
		if err := back.Validate(); err != nil {
			t.Fatal(err)
		}
		for i, x := range c.At {
			near(t, c.Name, back.Predict(x), c.Predicted[i], 1e-12)
		}
	}
}

func TestQuantilesMatchNumpy(t *testing.T) {
	var g goldens
	loadGoldens(t, &g)
	got := stat.Quantiles(g.Quantile.V, g.Quantile.Q...)
	for i, q := range g.Quantile.Q {
		near(t, "linear", got[i], g.Quantile.Linear[i], 1e-13)
		near(t, "weighted", stat.WeightedQuantile(g.Quantile.V, g.Quantile.W, q), g.Quantile.Weighted[i], 0)
	}
}

func TestPSIMatchesEvidently(t *testing.T) {
	var g goldens
	loadGoldens(t, &g)
	for _, c := range g.PSI {
		a, b := make([]float64, len(c.Edges)+1), make([]float64, len(c.Edges)+1)
		stat.Histogram(c.A, c.Edges, a)
		stat.Histogram(c.B, c.Edges, b)
		got, err := stat.PSI(a, b, 0)
		if err != nil {
			t.Fatal(err)
		}
		near(t, c.Name, got, c.PSI, 1e-12)
	}
}
