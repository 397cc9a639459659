package model_test

import (
	"math"
	"os"
	"slices"
	"testing"

	"turbofan/dataset"
	"turbofan/feature"
	"turbofan/model"
	"turbofan/tree"
)

// Every reading of the four test sets, with sensors and starts missing here and there, is explained to its answer.
func TestExplanationsAddUpOnCMAPSS(t *testing.T) {
	dir := os.Getenv("TURBOFAN_DATA")
	if dir == "" {
		dir = "../../shared/cmapss"
	}
	trainSet, _, err := dataset.LoadCMAPSS(dir, "FD001")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("C-MAPSS is not here: %v", err)
	}
	cfg := model.DefaultConfig(model.Boosting)
	cfg.Folds, cfg.Boosting.MaxIter, cfg.Boosting.MinSamplesLeaf = 2, 100, 20
	m, err := model.Train(t.Context(), cfg, model.Data{Schema: trainSet.Schema, Units: trainSet.Units[:30], Digest: "test"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	worst := 0.0
	for _, subset := range []string{"FD001", "FD002", "FD003", "FD004"} {
		_, testSet, err := dataset.LoadCMAPSS(dir, subset)
		if err != nil {
			t.Fatal(err)
		}
		start := make([]int, len(testSet.Units))
		for u := range start {
			start[u] = u % 3 * 20
		}
		whole, err := m.Spec().Transform(t.Context(), testSet.Units)
		if err != nil {
			t.Fatal(err)
		}
		late, err := m.Spec().TransformSome(t.Context(), testSet.Units, feature.Take{Start: start})
		if err != nil {
			t.Fatal(err)
		}
		for _, rows := range []*feature.Rows{whole, late} {
			for i := 0; i < len(rows.Data); i += 37 {
				rows.Data[i] = float32(math.NaN())
			}
			base, phi := make([]float64, rows.Len()), make([]float64, len(rows.Data))
			if err := m.SHAPBatch(tree.Matrix{Data: rows.Data, Rows: rows.Len(), Cols: rows.Cols}, base, phi); err != nil {
				t.Fatal(err)
			}
			for i, sum := range base {
				for _, v := range phi[i*rows.Cols : (i+1)*rows.Cols] {
					sum += v
				}
				isLate := rows.Row(i)[slices.Index(m.Spec().Columns, feature.LateColumn)] > 0
				a, err := m.Predict(rows.Row(i), isLate)
				if err != nil {
					t.Fatal(err)
				}
				worst = max(worst, math.Abs(a.RUL-min(max(sum, 0), cfg.Cap)))
			}
		}
	}
	t.Logf("contributions miss an answer by %.1g cycles at most", worst)
	if !(worst < 1e-9) {
		t.Errorf("contributions miss an answer by %v cycles", worst)
	}
}
