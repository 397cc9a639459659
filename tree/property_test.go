package tree_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"turbofan/tree"
)

// missingStep makes one informative column with missing rows whose target is known.
func missingStep(rows int) (tree.Matrix, []float64) {
	x := tree.Matrix{Data: make([]float32, rows*2), Rows: rows, Cols: 2}
	y := make([]float64, rows)
	for i := range rows {
		v := float32(i % 10)
		x.Row(i)[0], x.Row(i)[1] = v, 1
		if v >= 5 {
			y[i] = 10
		}
		if i%7 == 0 {
			x.Row(i)[0] = float32(math.NaN())
			y[i] = 30
		}
	}
	return x, y
}

func TestMissingValuesLearnTheirSide(t *testing.T) {
	x, y := missingStep(700)
	for name, fit := range fitters(200) {
		if name == "monotone" || name == "nasa" || name == "sampled" || name == "quantile" {
			continue
		}
		e, err := fit(x, y, nil, 2)
		if err != nil {
			t.Fatal(name, err)
		}
		for v, want := range map[float32]float64{1: 0, 8: 10, float32(math.NaN()): 30} {
			got, _ := e.Predict([]float32{v, 1})
			if math.Abs(got-want) > 0.5 {
				t.Errorf("%s: at %v predicts %v, want %v", name, v, got, want)
			}
		}
	}
}

func TestMissingNeverSeenFollowsTheLargerChild(t *testing.T) {
	x := tree.Matrix{Data: make([]float32, 100), Rows: 100, Cols: 1}
	y := make([]float64, 100)
	for i := range 100 {
		x.Data[i] = float32(i)
		if i >= 70 {
			y[i] = 1
		}
	}
	p := tree.DefaultForestParams()
	p.NEstimators, p.Bootstrap = 1, false
	e, err := tree.FitForest(x, y, nil, p, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := e.Predict([]float32{float32(math.NaN())}); got != 0 {
		t.Errorf("predicts %v, want the larger child's 0", got)
	}
}

func TestTrainingRowsFallOnTheirSideOfEveryThreshold(t *testing.T) {
	x, y := friedman(500, 0, 12)
	p := tree.DefaultForestParams()
	p.NEstimators, p.Bootstrap = 1, false
	e, err := tree.FitForest(x, y, nil, p, nil)
	if err != nil {
		t.Fatal(err)
	}
	// A tree grown to single rows repeats its targets only when each raw row
	// takes the way its bins took.
	for i, v := range predict(t, e, x) {
		if math.Abs(v-y[i]) > 1e-5 {
			t.Fatalf("row %d: %v, want %v", i, v, y[i])
		}
	}
}

func TestMonotoneConstraintsHold(t *testing.T) {
	x, y := friedman(3000, 0.05, 13)
	for _, loss := range []tree.Loss{tree.SquaredError, tree.QuantileLoss, tree.NASALoss} {
		p := tree.DefaultBoostingParams()
		p.Loss, p.Quantile, p.MaxIter, p.MinSamplesLeaf = loss, 0.3, 60, 3
		// Column 4 rises in truth and is forced to fall.
		p.MonotonicCst = []int8{0, 0, 0, 1, -1, 0, 0, 0, 0, 0}
		e, err := tree.FitBoosting(x, y, nil, p, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 100 {
			row := slices.Clone(x.Row(i))
			for f, sign := range map[int]float64{3: 1, 4: -1} {
				row := slices.Clone(row)
				last := math.Inf(-1)
				for v := float32(-0.1); v < 1.1; v += 0.01 {
					row[f] = v
					got, _ := e.Predict(row)
					if sign*got < last-1e-9 {
						t.Fatalf("%s: row %d, column %d: %v after %v", loss, i, f, got, last)
					}
					last = sign * got
				}
			}
		}
	}
}

func TestWeightTwoEqualsTwoRows(t *testing.T) {
	x, y := friedman(600, 0.1, 14)
	w := make([]float64, len(y))
	var twice tree.Matrix
	var yTwice []float64
	for i := range y {
		w[i] = float64(i % 3)
		for range i % 3 {
			twice.Data = append(twice.Data, x.Row(i)...)
			twice.Rows++
			yTwice = append(yTwice, y[i])
		}
	}
	twice.Cols = x.Cols
	for name, fit := range map[string]func(tree.Matrix, []float64, []float64) (*tree.Ensemble, error){
		"forest": func(x tree.Matrix, y, w []float64) (*tree.Ensemble, error) {
			p := tree.DefaultForestParams()
			p.NEstimators, p.Bootstrap, p.MaxDepth = 1, false, 6
			return tree.FitForest(x, y, w, p, nil)
		},
		"boosting": func(x tree.Matrix, y, w []float64) (*tree.Ensemble, error) {
			p := tree.DefaultBoostingParams()
			p.MinSamplesLeaf, p.MaxIter, p.L2Regularization = 1, 10, 2
			return tree.FitBoosting(x, y, w, p, nil, nil)
		},
	} {
		// With as many bins as values the edges do not depend on the counts.
		a, err := fit(round(x), y, w)
		if err != nil {
			t.Fatal(name, err)
		}
		b, err := fit(round(twice), yTwice, nil)
		if err != nil {
			t.Fatal(name, err)
		}
		pa, pb := predict(t, a, round(x)), predict(t, b, round(x))
		for i := range pa {
			if math.Abs(pa[i]-pb[i]) > 1e-4 {
				t.Errorf("%s: row %d: %v by weight, %v by repetition", name, i, pa[i], pb[i])
				break
			}
		}
	}
}

// round leaves at most 101 values per column.
func round(x tree.Matrix) tree.Matrix {
	out := x
	out.Data = slices.Clone(x.Data)
	for i, v := range out.Data {
		out.Data[i] = float32(math.Round(float64(v)*20) / 20)
	}
	return out
}

func nasaScore(pred, y []float64) float64 {
	s := 0.0
	for i := range y {
		if d := pred[i] - y[i]; d < 0 {
			s += math.Exp(-d/13) - 1
		} else {
			s += math.Exp(d/10) - 1
		}
	}
	return s
}

func TestNASALossLowersTheScore(t *testing.T) {
	x, y := friedman(4000, 0, 17)
	xt, yt := friedman(3000, 0, 18)
	r := rand.New(rand.NewPCG(3, 3))
	for _, v := range [][]float64{y, yt} {
		for i := range v {
			v[i] = 4*v[i] + 15*r.NormFloat64()
		}
	}
	score := map[tree.Loss]float64{}
	for _, loss := range []tree.Loss{tree.SquaredError, tree.NASALoss} {
		p := tree.DefaultBoostingParams()
		p.Loss = loss
		e, err := tree.FitBoosting(x, y, nil, p, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		score[loss] = nasaScore(predict(t, e, xt), yt)
	}
	if score[tree.NASALoss] > 0.95*score[tree.SquaredError] {
		t.Errorf("score %v with the loss, %v without", score[tree.NASALoss], score[tree.SquaredError])
	}
}

func TestEarlyStoppingKeepsTheBestTrees(t *testing.T) {
	x, y := friedman(400, 0, 19)
	xv, yv := friedman(1000, 0, 20)
	p := tree.DefaultBoostingParams()
	p.MaxIter, p.MinSamplesLeaf, p.LearningRate = 500, 2, 0.2
	full, err := tree.FitBoosting(x, y, nil, p, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.EarlyStopping = true
	calls := 0
	e, err := tree.FitBoosting(x, y, nil, p, &tree.Validation{X: xv, Y: yv}, func(done, total int) error {
		calls++
		if done != calls || total != 500 {
			t.Errorf("progress(%d, %d) in call %d", done, total, calls)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if e.NumTrees() >= 300 || calls != e.NumTrees()+p.NIterNoChange {
		t.Errorf("kept %d trees after %d iterations", e.NumTrees(), calls)
	}
	if a, b := rmse(predict(t, e, xv), yv), rmse(predict(t, full, xv), yv); a > b {
		t.Errorf("validation RMSE %v stopped, %v in full", a, b)
	}
}

func TestOutOfBagEstimatesTheHeldOutError(t *testing.T) {
	x, y := friedman(2000, 0, 21)
	xt, yt := friedman(2000, 0, 22)
	p := tree.DefaultForestParams()
	p.NEstimators, p.MaxFeatures = 60, 0.5
	e, err := tree.FitForest(x, y, nil, p, nil)
	if err != nil {
		t.Fatal(err)
	}
	oob, held := rmse(e.OOBPrediction(), y), rmse(predict(t, e, xt), yt)
	if math.Abs(oob/held-1) > 0.1 {
		t.Errorf("out-of-bag RMSE %v, held-out %v", oob, held)
	}
	p.NEstimators = 1
	e, err = tree.FitForest(x, y, nil, p, nil)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0.0
	for _, v := range e.OOBPrediction() {
		if math.IsNaN(v) {
			seen += 1 / float64(len(y))
		}
	}
	if math.Abs(seen-0.632) > 0.04 {
		t.Errorf("one bootstrap saw %v of the rows, want about 0.632", seen)
	}
}

func TestPermutationImportancesFindTheInformativeColumns(t *testing.T) {
	x, y := friedman(2000, 0, 23)
	p := tree.DefaultBoostingParams()
	e, err := tree.FitBoosting(x, y, nil, p, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := tree.PermutationImportances(e, x, y, nil, 3, 1)
	if err != nil {
		t.Fatal(err)
	}
	for j, v := range a {
		if informative := v > 0.5; informative != (j < 5) {
			t.Errorf("column %d: importance %v", j, v)
		}
	}
	if b, _ := tree.PermutationImportances(e, x, y, nil, 3, 1); !slices.Equal(a, b) {
		t.Error("the same seed gives other importances")
	}
}

func TestProgressStopsTheFit(t *testing.T) {
	x, y := friedman(300, 0, 24)
	stop := errors.New("enough")
	for name, fit := range map[string]func(tree.Progress) (*tree.Ensemble, error){
		"forest": func(f tree.Progress) (*tree.Ensemble, error) {
			return tree.FitForest(x, y, nil, tree.DefaultForestParams(), f)
		},
		"boosting": func(f tree.Progress) (*tree.Ensemble, error) {
			return tree.FitBoosting(x, y, nil, tree.DefaultBoostingParams(), nil, f)
		},
	} {
		calls := 0
		e, err := fit(func(int, int) error {
			if calls++; calls == 3 {
				return stop
			}
			return nil
		})
		if !errors.Is(err, stop) || e != nil || calls != 3 {
			t.Errorf("%s: ensemble %v, error %v after %d calls", name, e, err, calls)
		}
	}
}
