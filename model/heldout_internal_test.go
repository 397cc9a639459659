package model

import (
	"math"
	"testing"

	"turbofan/dataset"
)

// TestLargeFleet: of a fleet beyond the limit a sample of the rows held out is measured, which says nearly the same, and
// every unit's error counts all of its readings.
func TestLargeFleet(t *testing.T) {
	train, _ := dataset.Synthesize(dataset.SynthConfig{TrainUnits: 30, TestUnits: 1})
	cfg := DefaultConfig(Blend)
	cfg.Folds, cfg.MaxRows, cfg.Boosting.MaxIter, cfg.ExtraTrees.NEstimators = 2, 1000, 40, 10
	cfg.Feature.Cap = cfg.Cap
	data := Data{Schema: train.Schema, Units: train.Units}
	cross := func(limit int) *outOfFold {
		tr := newTrainer(t.Context(), cfg, data, nil)
		if tr.limit != leastJudged {
			t.Fatalf("limit is %d, want %d", tr.limit, leastJudged)
		}
		if limit > 0 {
			tr.limit = limit
		}
		out, _, err := tr.run()
		if err != nil {
			t.Fatal(err)
		}
		out.combine(tr.blendWeights(out))
		return out
	}
	rows := train.Rows()
	all, some := cross(0), cross(2000)
	if n := len(all.own.rul); n != rows {
		t.Errorf("%d rows of %d are measured below the limit", n, rows)
	}
	if n := len(some.own.rul); n < 1900 || n > 2000 || len(some.late.rul) < 200 || len(some.late.rul) > 1500 {
		t.Errorf("%d rows and %d of late units are measured, want about 2000 and 1000", n, len(some.late.rul))
	}
	if a, b := all.own.rmse(cfg.Cap), some.own.rmse(cfg.Cap); math.Abs(a-b) > 0.1*a {
		t.Errorf("RMSE of the sample is %.2f, of all rows %.2f", b, a)
	}
	weights := []float64{0.3, 0.7}
	full := make([]float64, len(train.Units))
	for i, u := range all.own.unit {
		e := 0.3*all.own.kinds[0][i] + 0.7*all.own.kinds[1][i] - min(all.own.rul[i], cfg.Cap)
		full[u] += e * e
	}
	for u, e := range unitErrors(data, some.units, weights) {
		if e.Rows != len(train.Units[u].Readings) || math.Abs(e.SSE-full[u]) > 1e-9*full[u] {
			t.Errorf("unit %s: squared error %g over %d readings, want %g over %d", e.Unit, e.SSE, e.Rows, full[u], len(train.Units[u].Readings))
		}
	}
}
