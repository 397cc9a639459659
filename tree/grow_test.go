package tree_test

import (
	"bytes"
	"math"
	"slices"
	"testing"

	"turbofan/tree"
)

// What was grown in two steps is, to the bit, what one fit gives.
func TestGrowingEqualsOneFit(t *testing.T) {
	x, y := friedman(1500, 0.05, 41)
	w := make([]float64, len(y))
	for i := range w {
		w[i] = float64(i % 3)
	}
	forest := tree.DefaultForestParams()
	forest.NEstimators, forest.MinSamplesLeaf, forest.MaxFeatures, forest.RandomState = 30, 3, 0.5, 7
	extra := forest
	extra.ExtraTrees, extra.Bootstrap = true, false
	boosting := tree.DefaultBoostingParams()
	boosting.MaxIter, boosting.Subsample, boosting.MaxFeatures, boosting.RandomState = 40, 0.7, 0.5, 7
	quantile := boosting
	quantile.Loss, quantile.Quantile = tree.QuantileLoss, 0.8
	type fit func(from *tree.Ensemble, trees int) (*tree.Ensemble, error)
	grow := map[string]fit{}
	for name, p := range map[string]tree.ForestParams{"forest": forest, "extra": extra} {
		grow[name] = func(from *tree.Ensemble, trees int) (*tree.Ensemble, error) {
			p.NEstimators = trees
			if from == nil {
				return tree.FitForest(x, y, w, p, nil)
			}
			return tree.GrowForest(from, x, y, w, p, nil)
		}
	}
	for name, p := range map[string]tree.BoostingParams{"boosting": boosting, "quantile": quantile} {
		grow[name] = func(from *tree.Ensemble, trees int) (*tree.Ensemble, error) {
			p.MaxIter = trees
			if from == nil {
				return tree.FitBoosting(x, y, w, p, nil, nil)
			}
			return tree.GrowBoosting(from, x, y, w, p, nil, nil)
		}
	}
	for name, f := range grow {
		ensemble := func(from *tree.Ensemble, trees int) *tree.Ensemble {
			t.Helper()
			e, err := f(from, trees)
			if err != nil {
				t.Fatal(name, err)
			}
			return e
		}
		whole := ensemble(nil, 30)
		start := ensemble(nil, 12)
		before, _ := start.MarshalBinary()
		two := ensemble(start, 30)
		if after, _ := start.MarshalBinary(); !bytes.Equal(before, after) {
			t.Errorf("%s: growing changed what it began from", name)
		}
		if two.NumTrees() != 30 || !slices.Equal(predict(t, two, x), predict(t, whole, x)) {
			t.Errorf("%s: %d trees grown in two steps answer otherwise than one fit", name, two.NumTrees())
		}
		for c, v := range two.FeatureImportances() {
			if math.Abs(v-whole.FeatureImportances()[c]) > 1e-12 {
				t.Errorf("%s: importance %d is %v in two steps, %v in one", name, c, v, whole.FeatureImportances()[c])
			}
		}
		if a, b := two.OOBPrediction(), whole.OOBPrediction(); !slices.EqualFunc(a, b, func(v, w float64) bool { return v == w || math.IsNaN(v) && math.IsNaN(w) }) {
			t.Errorf("%s: out-of-bag predictions differ", name)
		}
		phi, base := make([]float64, x.Cols), 0.0
		var err error
		if base, err = two.SHAP(x.Row(3), phi); err != nil {
			t.Fatal(err)
		}
		for _, v := range phi {
			base += v
		}
		if want, _ := two.Predict(x.Row(3)); math.Abs(base-want) > 1e-6 {
			t.Errorf("%s: contributions sum to %v, the answer is %v", name, base, want)
		}
		// What was saved grows on as well.
		var saved tree.Ensemble
		if err := saved.UnmarshalBinary(before); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(predict(t, ensemble(&saved, 30), x), predict(t, whole, x)) {
			t.Errorf("%s: a saved ensemble grows otherwise", name)
		}
	}
}

// New trees correct an older model on newer data.
func TestGrowingLearnsNewData(t *testing.T) {
	x, y := friedman(2000, 0.05, 42)
	p := tree.DefaultBoostingParams()
	old, err := tree.FitBoosting(x, y, nil, p, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range y {
		y[i] += 5
	}
	p.MaxIter = 150
	grown, err := tree.GrowBoosting(old, x, y, nil, p, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if before, after := rmse(predict(t, old, x), y), rmse(predict(t, grown, x), y); after > 0.2*before {
		t.Errorf("RMSE %v before, %v after", before, after)
	}
}

func TestBadGrowth(t *testing.T) {
	x, y := small()
	forest, err := tree.FitForest(x, y, nil, tree.DefaultForestParams(), nil)
	if err != nil {
		t.Fatal(err)
	}
	boosting, err := tree.FitBoosting(x, y, nil, tree.DefaultBoostingParams(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	wide := tree.Matrix{Data: make([]float32, 9), Rows: 3, Cols: 3}
	byForest := func(e *tree.Ensemble, x tree.Matrix, trees int) error {
		p := tree.DefaultForestParams()
		p.NEstimators = trees
		_, err := tree.GrowForest(e, x, y, nil, p, nil)
		return err
	}
	byBoosting := func(e *tree.Ensemble, x tree.Matrix, trees int) error {
		p := tree.DefaultBoostingParams()
		p.MaxIter = trees
		_, err := tree.GrowBoosting(e, x, y, nil, p, nil, nil)
		return err
	}
	for want, err := range map[string]error{
		"the ensemble is no forest: it grows by GrowBoosting":                     byForest(boosting, x, 200),
		"the ensemble is a forest: it grows by GrowForest":                        byBoosting(forest, x, 200),
		"n_estimators must be above the 100 trees that the ensemble has, got 100": byForest(forest, x, 100),
		"max_iter must be above the 100 trees that the ensemble has, got 3":       byBoosting(boosting, x, 3),
		"x must have the 2 columns of the ensemble, got 3":                        byForest(forest, wide, 200),
		"there is no ensemble to grow":                                            byBoosting(nil, x, 200),
	} {
		if err == nil || err.Error() != want {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
