package tree_test

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"turbofan/tree"
)

// friedman makes Friedman's first test function over ten columns, with the
// given share of values missing.
func friedman(rows int, missing float64, seed uint64) (tree.Matrix, []float64) {
	r := rand.New(rand.NewPCG(seed, 1))
	const cols = 10
	x := tree.Matrix{Data: make([]float32, rows*cols), Rows: rows, Cols: cols}
	y := make([]float64, rows)
	for i := range rows {
		row := x.Row(i)
		for j := range row {
			row[j] = r.Float32()
		}
		y[i] = 10*math.Sin(math.Pi*float64(row[0]*row[1])) + 20*math.Pow(float64(row[2])-0.5, 2) +
			10*float64(row[3]) + 5*float64(row[4]) + r.NormFloat64()
		for j := range row {
			if r.Float64() < missing {
				row[j] = float32(math.NaN())
			}
		}
	}
	return x, y
}

func predict(t *testing.T, e *tree.Ensemble, x tree.Matrix) []float64 {
	t.Helper()
	out := make([]float64, x.Rows)
	if err := e.PredictBatch(x, out, 2); err != nil {
		t.Fatal(err)
	}
	return out
}

func rmse(a, b []float64) float64 {
	s := 0.0
	for i := range a {
		s += (a[i] - b[i]) * (a[i] - b[i])
	}
	return math.Sqrt(s / float64(len(a)))
}

// fitters are the learners every general property is checked on.
func fitters(trees int) map[string]func(tree.Matrix, []float64, []float64, int) (*tree.Ensemble, error) {
	forest := func(edit func(*tree.ForestParams)) func(tree.Matrix, []float64, []float64, int) (*tree.Ensemble, error) {
		return func(x tree.Matrix, y, w []float64, jobs int) (*tree.Ensemble, error) {
			p := tree.DefaultForestParams()
			p.NEstimators, p.MaxFeatures, p.MinSamplesLeaf, p.RandomState, p.NJobs = (trees+2)/3, 0.5, 3, 7, jobs
			edit(&p)
			return tree.FitForest(x, y, w, p, nil)
		}
	}
	boosting := func(edit func(*tree.BoostingParams)) func(tree.Matrix, []float64, []float64, int) (*tree.Ensemble, error) {
		return func(x tree.Matrix, y, w []float64, jobs int) (*tree.Ensemble, error) {
			p := tree.DefaultBoostingParams()
			p.MaxIter, p.RandomState, p.NJobs = trees, 7, jobs
			edit(&p)
			return tree.FitBoosting(x, y, w, p, nil, nil)
		}
	}
	return map[string]func(tree.Matrix, []float64, []float64, int) (*tree.Ensemble, error){
		"forest":     forest(func(*tree.ForestParams) {}),
		"forest all": forest(func(p *tree.ForestParams) { p.Bootstrap = false }),
		"extra":      forest(func(p *tree.ForestParams) { p.ExtraTrees, p.Bootstrap = true, false }),
		"boosting":   boosting(func(*tree.BoostingParams) {}),
		"depth":      boosting(func(p *tree.BoostingParams) { p.MaxLeafNodes, p.MaxDepth = 0, 5 }),
		"sampled":    boosting(func(p *tree.BoostingParams) { p.Subsample, p.MaxFeatures = 0.6, 0.4 }),
		"quantile":   boosting(func(p *tree.BoostingParams) { p.Loss, p.Quantile = tree.QuantileLoss, 0.5 }),
		"nasa":       boosting(func(p *tree.BoostingParams) { p.Loss = tree.NASALoss }),
		"monotone": boosting(func(p *tree.BoostingParams) {
			p.MonotonicCst = []int8{0, 0, 0, 1, 1, 0, 0, 0, 0, 0}
		}),
	}
}

func TestLearns(t *testing.T) {
	x, y := friedman(3000, 0.05, 1)
	xt, yt := friedman(2000, 0, 2)
	sd := rmse(yt, make([]float64, len(yt)))
	mean := 0.0
	for _, v := range yt {
		mean += v / float64(len(yt))
	}
	sd = math.Sqrt(sd*sd - mean*mean)
	for name, fit := range fitters(60) {
		e, err := fit(x, y, nil, 0)
		if err != nil {
			t.Fatal(name, err)
		}
		got := rmse(predict(t, e, xt), yt)
		t.Logf("%s: RMSE %.3f of sd %.3f, %d nodes", name, got, sd, e.NumNodes())
		if got > 0.55*sd {
			t.Errorf("%s: held-out RMSE %.3f, target deviates by %.3f", name, got, sd)
		}
		imp := e.FeatureImportances()
		sum, noise := 0.0, 0.0
		for j, v := range imp {
			sum += v
			if j > 4 {
				noise += v
			}
		}
		if math.Abs(sum-1) > 1e-9 || noise > 0.3 {
			t.Errorf("%s: importances %v sum to %v, noise columns %v", name, imp, sum, noise)
		}
	}
}

func TestSameBitsForAnyNumberOfJobs(t *testing.T) {
	x, y := friedman(9000, 0.1, 3)
	w := make([]float64, len(y))
	r := rand.New(rand.NewPCG(5, 5))
	for i := range w {
		w[i] = r.Float64()
	}
	for name, fit := range fitters(3) {
		for _, weights := range [][]float64{nil, w} {
			var want []byte
			for jobs := 1; jobs <= 4; jobs++ {
				e, err := fit(x, y, weights, jobs)
				if err != nil {
					t.Fatal(name, err)
				}
				got, err := e.MarshalBinary()
				if err != nil {
					t.Fatal(err)
				}
				if want == nil {
					want = got
				} else if string(got) != string(want) {
					t.Errorf("%s (weights %v): %d jobs give another model than one", name, weights != nil, jobs)
				}
			}
		}
	}
}

func TestPredictAgreesWithBatchAndDoesNotAllocate(t *testing.T) {
	x, y := friedman(1500, 0.1, 4)
	for name, fit := range fitters(10) {
		e, err := fit(x, y, nil, 2)
		if err != nil {
			t.Fatal(name, err)
		}
		batch := predict(t, e, x)
		for i := range x.Rows {
			got, err := e.Predict(x.Row(i))
			if err != nil {
				t.Fatal(err)
			}
			if got != batch[i] {
				t.Fatalf("%s: row %d: Predict %v, PredictBatch %v", name, i, got, batch[i])
			}
		}
		row := x.Row(0)
		if n := testing.AllocsPerRun(100, func() { _, _ = e.Predict(row) }); n != 0 {
			t.Errorf("%s: Predict allocates %v times", name, n)
		}
	}
}

func TestMarshalRoundTrip(t *testing.T) {
	x, y := friedman(800, 0.1, 6)
	for name, fit := range fitters(10) {
		e, err := fit(x, y, nil, 2)
		if err != nil {
			t.Fatal(name, err)
		}
		data, err := e.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var back tree.Ensemble
		if err := back.UnmarshalBinary(data); err != nil {
			t.Fatal(name, err)
		}
		again, _ := back.MarshalBinary()
		if string(again) != string(data) {
			t.Errorf("%s: second encoding differs", name)
		}
		a, b := predict(t, e, x), predict(t, &back, x)
		for i := range a {
			if a[i] != b[i] {
				t.Fatalf("%s: row %d: %v became %v", name, i, a[i], b[i])
			}
		}
		for _, cut := range []int{0, 3, 20, len(data) / 2, len(data) - 1} {
			if err := back.UnmarshalBinary(data[:cut]); err == nil {
				t.Errorf("%s: %d of %d bytes were accepted", name, cut, len(data))
			}
		}
		edited := []byte(string(data))
		edited[len(edited)/2] ^= 1
		if err := back.UnmarshalBinary(edited); err == nil || !strings.Contains(err.Error(), "checksum") {
			t.Errorf("%s: edited bytes: error %v", name, err)
		}
	}
}

func TestConstantColumnsGiveTheConstantModel(t *testing.T) {
	x := tree.Matrix{Data: make([]float32, 60), Rows: 30, Cols: 2}
	y := make([]float64, 30)
	for i := range y {
		y[i] = float64(i % 3)
	}
	for name, fit := range fitters(10) {
		if name == "monotone" {
			continue
		}
		e, err := fit(x, y, nil, 1)
		if err != nil {
			t.Fatal(name, err)
		}
		got, err := e.Predict([]float32{5, float32(math.NaN())})
		if err != nil || math.Abs(got-1) > 0.3 {
			t.Errorf("%s: predicts %v, %v; want about 1", name, got, err)
		}
		for _, v := range e.FeatureImportances() {
			if v != 0 {
				t.Errorf("%s: importances %v of a model without splits", name, e.FeatureImportances())
			}
		}
	}
}
