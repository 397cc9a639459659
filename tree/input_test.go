package tree_test

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"testing"

	"turbofan/tree"
)

func small() (tree.Matrix, []float64) {
	return tree.Matrix{Data: []float32{1, 2, 3, 4, 5, 6}, Rows: 3, Cols: 2}, []float64{1, 2, 3}
}

func TestBadData(t *testing.T) {
	x, y := small()
	nan, inf := math.NaN(), math.Inf(1)
	short := x
	short.Data = short.Data[:5]
	for _, c := range []struct {
		x    tree.Matrix
		y, w []float64
		want string
	}{
		{tree.Matrix{}, nil, nil, "x must have at least one row and one column, got 0 x 0"},
		{tree.Matrix{Rows: 3}, y, nil, "x must have at least one row and one column, got 3 x 0"},
		{short, y, nil, "x holds 5 values, but 3 rows of 2 columns need 6"},
		{x, y[:2], nil, "y must have one value per row: got 2 values for 3 rows"},
		{x, []float64{1, nan, 3}, nil, "y must be finite: row 1 is NaN"},
		{x, []float64{1, 2, inf}, nil, "y must be finite: row 2 is +Inf"},
		{x, []float64{1, -1e300, 3}, nil, "y must not exceed 1e+30 in size: row 1 is -1e+300"},
		{x, y, []float64{1}, "sample_weight must have one value per row: got 1 values for 3 rows"},
		{x, y, []float64{1, -1, 1}, "sample_weight must be finite and not negative: row 1 is -1"},
		{x, y, []float64{1, nan, 1}, "sample_weight must be finite and not negative: row 1 is NaN"},
		{x, y, []float64{0, 0, 0}, "sample_weight must have a positive finite sum, got 0"},
	} {
		_, err := tree.FitForest(c.x, c.y, c.w, tree.DefaultForestParams(), nil)
		if err == nil || err.Error() != c.want {
			t.Errorf("forest: error %v, want %q", err, c.want)
		}
		_, err = tree.FitBoosting(c.x, c.y, c.w, tree.DefaultBoostingParams(), nil, nil)
		if err == nil || err.Error() != c.want {
			t.Errorf("boosting: error %v, want %q", err, c.want)
		}
	}
}

func TestBadForestParams(t *testing.T) {
	x, y := small()
	for _, c := range []struct {
		edit func(*tree.ForestParams)
		want string
	}{
		{func(p *tree.ForestParams) { p.NEstimators = 0 }, "n_estimators must be at least 1, got 0"},
		{func(p *tree.ForestParams) { p.MaxDepth = -1 }, "max_depth must be at least 0, got -1"},
		{func(p *tree.ForestParams) { p.MinSamplesLeaf = 0 }, "min_samples_leaf must be at least 1, got 0"},
		{func(p *tree.ForestParams) { p.MaxFeatures = 0 }, "max_features must be in (0, 1], got 0"},
		{func(p *tree.ForestParams) { p.MaxFeatures = math.NaN() }, "max_features must be in (0, 1], got NaN"},
		{func(p *tree.ForestParams) { p.MaxBins = 256 }, "max_bins must be in [2, 255], got 256"},
		{func(p *tree.ForestParams) { p.MaxSamples = 1.5 }, "max_samples must be in (0, 1], got 1.5"},
		{func(p *tree.ForestParams) { p.Bootstrap, p.MaxSamples = false, 0.5 }, "max_samples must be 1 without bootstrap, got 0.5"},
		{func(p *tree.ForestParams) { p.NJobs = -1 }, "n_jobs must be at least 0, got -1"},
	} {
		p := tree.DefaultForestParams()
		c.edit(&p)
		if _, err := tree.FitForest(x, y, nil, p, nil); err == nil || err.Error() != c.want {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
}

func TestBadBoostingParams(t *testing.T) {
	x, y := small()
	wide := &tree.Validation{X: tree.Matrix{Data: make([]float32, 3), Rows: 1, Cols: 3}, Y: []float64{1}}
	for _, c := range []struct {
		edit  func(*tree.BoostingParams)
		valid *tree.Validation
		want  string
	}{
		{func(p *tree.BoostingParams) { p.Loss = "huber" }, nil, `loss must be squared_error, quantile or nasa, got "huber"`},
		{func(p *tree.BoostingParams) { p.Loss, p.Quantile = "quantile", 1 }, nil, "quantile must be in (0, 1), got 1"},
		{func(p *tree.BoostingParams) { p.MaxIter = 0 }, nil, "max_iter must be at least 1, got 0"},
		{func(p *tree.BoostingParams) { p.LearningRate = 0 }, nil, "learning_rate must be positive and finite, got 0"},
		{func(p *tree.BoostingParams) { p.MaxLeafNodes = 1 }, nil, "max_leaf_nodes must be 0 or at least 2, got 1"},
		{func(p *tree.BoostingParams) { p.MinSamplesLeaf = 0 }, nil, "min_samples_leaf must be at least 1, got 0"},
		{func(p *tree.BoostingParams) { p.L2Regularization = -1 }, nil, "l2_regularization must be finite and not negative, got -1"},
		{func(p *tree.BoostingParams) { p.MaxBins = 1 }, nil, "max_bins must be in [2, 255], got 1"},
		{func(p *tree.BoostingParams) { p.Subsample = 0 }, nil, "subsample must be in (0, 1], got 0"},
		{func(p *tree.BoostingParams) { p.MaxFeatures = 2 }, nil, "max_features must be in (0, 1], got 2"},
		{func(p *tree.BoostingParams) { p.MonotonicCst = []int8{1} }, nil, "monotonic_cst must have one entry per column: got 1 entries for 2 columns"},
		{func(p *tree.BoostingParams) { p.MonotonicCst = []int8{0, 2} }, nil, "monotonic_cst must be -1, 0 or 1: column 1 is 2"},
		{func(p *tree.BoostingParams) { p.EarlyStopping = true }, nil, "early_stopping needs a validation set, got none"},
		{func(p *tree.BoostingParams) { p.EarlyStopping, p.NIterNoChange = true, 0 }, wide, "n_iter_no_change must be at least 1, got 0"},
		{func(p *tree.BoostingParams) {}, wide, "validation x must have 2 columns as x has, got 3"},
	} {
		p := tree.DefaultBoostingParams()
		c.edit(&p)
		if _, err := tree.FitBoosting(x, y, nil, p, c.valid, nil); err == nil || err.Error() != c.want {
			t.Errorf("error %v, want %q", err, c.want)
		}
	}
}

func TestBadRows(t *testing.T) {
	x, y := small()
	e, err := tree.FitForest(x, y, nil, tree.DefaultForestParams(), nil)
	if err != nil {
		t.Fatal(err)
	}
	const want = "row must have 2 features, got 3"
	if _, err := e.Predict(make([]float32, 3)); err == nil || err.Error() != want {
		t.Errorf("Predict: %v", err)
	}
	if _, err := e.SHAP(make([]float32, 3), make([]float64, 2)); err == nil || err.Error() != want {
		t.Errorf("SHAP: %v", err)
	}
	if _, err := e.SHAP(make([]float32, 2), make([]float64, 1)); err == nil || err.Error() != "phi must have 2 entries, got 1" {
		t.Errorf("SHAP: %v", err)
	}
	if err := e.PredictBatch(x, make([]float64, 2), 0); err == nil || err.Error() != "out must have one value per row: got 2 values for 3 rows" {
		t.Errorf("PredictBatch: %v", err)
	}
	var empty tree.Ensemble
	if _, err := empty.Predict(nil); err == nil {
		t.Error("an empty ensemble predicts")
	}
	if _, err := empty.MarshalBinary(); err == nil {
		t.Error("an empty ensemble marshals")
	}
}

func TestFewRowsAndExtremeValues(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	x := tree.Matrix{Data: []float32{inf, -inf, nan, 0, math.MaxFloat32, float32(math.Copysign(0, -1))}, Rows: 6, Cols: 1}
	y := []float64{1e30, -1e30, 0, 1, 2, 3}
	for name, fit := range fitters(6) {
		if name == "monotone" {
			continue
		}
		for rows := 1; rows <= 6; rows++ {
			part := tree.Matrix{Data: x.Data[:rows], Rows: rows, Cols: 1}
			e, err := fit(part, y[:rows], nil, 2)
			if err != nil {
				t.Fatalf("%s: %d rows: %v", name, rows, err)
			}
			for _, v := range x.Data {
				if _, err := e.Predict([]float32{v}); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
	}
}

// FuzzUnmarshal repairs the checksum, so that the checks behind it are reached.
func FuzzUnmarshal(f *testing.F) {
	x, y := friedman(200, 0.1, 30)
	for _, name := range []string{"forest", "boosting", "extra"} {
		e, err := fitters(4)[name](x, y, nil, 1)
		if err != nil {
			f.Fatal(err)
		}
		data, _ := e.MarshalBinary()
		f.Add(data)
	}
	f.Add([]byte("TREE"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if n := len(data) - 4; n >= 0 {
			binary.LittleEndian.PutUint32(data[n:], crc32.Checksum(data[:n], crc32.MakeTable(crc32.Castagnoli)))
		}
		var e tree.Ensemble
		if e.UnmarshalBinary(data) != nil {
			return
		}
		row := make([]float32, e.NumFeatures())
		if _, err := e.Predict(row); err != nil {
			t.Fatal(err)
		}
		if _, err := e.SHAP(row, make([]float64, len(row))); err != nil {
			t.Fatal(err)
		}
		again, err := e.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var back tree.Ensemble
		if err := back.UnmarshalBinary(again); err != nil {
			t.Fatal("own encoding is refused: ", err)
		}
	})
}
