package tree_test

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"turbofan/tree"
)

// goldens were written by testdata/make_goldens.py.
type goldens struct {
	X                [][]*float32       `json:"x"`
	Y                []float64          `json:"y"`
	XTest            [][]*float32       `json:"x_test"`
	YTest            []float64          `json:"y_test"`
	RMSE             map[string]float64 `json:"rmse"`
	QuantileCoverage map[string]float64 `json:"quantile_coverage"`
	Contributions    [][]float64        `json:"contributions"`
}

func readGoldens(t *testing.T) (g goldens, x, xt tree.Matrix) {
	t.Helper()
	raw, err := os.ReadFile("testdata/goldens.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &g); err != nil {
		t.Fatal(err)
	}
	return g, matrix(g.X), matrix(g.XTest)
}

func matrix(rows [][]*float32) tree.Matrix {
	m := tree.Matrix{Rows: len(rows), Cols: len(rows[0])}
	for _, r := range rows {
		for _, v := range r {
			if v == nil {
				m.Data = append(m.Data, float32(math.NaN()))
			} else {
				m.Data = append(m.Data, *v)
			}
		}
	}
	return m
}

func TestHeldOutErrorIsNoWorseThanTheReferences(t *testing.T) {
	g, x, xt := readGoldens(t)
	forest := tree.DefaultForestParams()
	forest.MaxFeatures, forest.MinSamplesLeaf = 0.5, 2
	extra := forest
	extra.ExtraTrees, extra.Bootstrap = true, false
	depth := tree.DefaultBoostingParams()
	depth.MaxLeafNodes, depth.MaxDepth, depth.MinSamplesLeaf, depth.L2Regularization = 0, 4, 1, 1
	fit := func(e *tree.Ensemble, err error) *tree.Ensemble {
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	for name, e := range map[string]*tree.Ensemble{
		"forest": fit(tree.FitForest(x, g.Y, nil, forest, nil)),
		"extra":  fit(tree.FitForest(x, g.Y, nil, extra, nil)),
		"leaves": fit(tree.FitBoosting(x, g.Y, nil, tree.DefaultBoostingParams(), nil, nil)),
		"depth":  fit(tree.FitBoosting(x, g.Y, nil, depth, nil, nil)),
	} {
		got := rmse(predict(t, e, xt), g.YTest)
		t.Logf("%s: RMSE %.4f, reference %.4f", name, got, g.RMSE[name])
		if got > 1.04*g.RMSE[name] {
			t.Errorf("%s: RMSE %v, reference %v", name, got, g.RMSE[name])
		}
	}
}

func TestQuantileCoverageIsTheReferences(t *testing.T) {
	g, x, xt := readGoldens(t)
	for name, want := range g.QuantileCoverage {
		p := tree.DefaultBoostingParams()
		p.Loss = tree.QuantileLoss
		if err := json.Unmarshal([]byte(name), &p.Quantile); err != nil {
			t.Fatal(err)
		}
		e, err := tree.FitBoosting(x, g.Y, nil, p, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := 0.0
		for i, v := range predict(t, e, xt) {
			if g.YTest[i] <= v {
				got += 1 / float64(len(g.YTest))
			}
		}
		t.Logf("quantile %s: covers %.3f, reference %.3f", name, got, want)
		if math.Abs(got-want) > 0.05 {
			t.Errorf("quantile %s: covers %v, reference %v", name, got, want)
		}
	}
}

func TestSHAPEqualsXGBoostOnItsOwnTrees(t *testing.T) {
	g, _, xt := readGoldens(t)
	raw, err := os.ReadFile("testdata/xgboost.tree")
	if err != nil {
		t.Fatal(err)
	}
	var e tree.Ensemble
	if err := e.UnmarshalBinary(raw); err != nil {
		t.Fatal(err)
	}
	phi := make([]float64, e.NumFeatures())
	for i, want := range g.Contributions {
		base, err := e.SHAP(xt.Row(i), phi)
		if err != nil {
			t.Fatal(err)
		}
		for f, v := range append(phi[:len(phi):len(phi)], base) {
			if math.Abs(v-want[f]) > 2e-4 {
				t.Errorf("row %d, column %d: %v, XGBoost says %v", i, f, v, want[f])
			}
		}
	}
}
