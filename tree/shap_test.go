package tree_test

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"testing"

	"turbofan/tree"
)

// conditional is the path-dependent expectation of a tree when only the
// features in known are known.
func conditional(nodes []tree.Node, i int, row []float32, known uint) float64 {
	n := nodes[i]
	if n.Leaf {
		return n.Value
	}
	if known>>n.Feature&1 == 1 {
		v := row[n.Feature]
		right := v > n.Threshold || v != v && !n.MissingLeft
		if right {
			return conditional(nodes, n.Right, row, known)
		}
		return conditional(nodes, n.Left, row, known)
	}
	l, r := nodes[n.Left], nodes[n.Right]
	return (l.Cover*conditional(nodes, n.Left, row, known) + r.Cover*conditional(nodes, n.Right, row, known)) / (l.Cover + r.Cover)
}

// shapley sums over all coalitions.
func shapley(e *tree.Ensemble, row []float32) (base float64, phi []float64) {
	m := e.NumFeatures()
	value := make([]float64, 1<<m)
	for s := range value {
		value[s] = e.Base()
		for t := range e.NumTrees() {
			value[s] += e.Scale() * conditional(e.Tree(t), 0, row, uint(s))
		}
	}
	factorial := func(k int) float64 { return math.Gamma(float64(k) + 1) }
	phi = make([]float64, m)
	for f := range m {
		for s := range value {
			if s>>f&1 == 0 {
				k := bits.OnesCount(uint(s))
				weight := factorial(k) * factorial(m-k-1) / factorial(m)
				phi[f] += weight * (value[s|1<<f] - value[s])
			}
		}
	}
	return value[0], phi
}

func TestSHAPEqualsShapleyOverAllCoalitions(t *testing.T) {
	x, y := friedman(200, 0.15, 8)
	w := make([]float64, len(y))
	r := rand.New(rand.NewPCG(1, 2))
	for i := range w {
		w[i] = 0.1 + r.Float64()
	}
	for name, fit := range fitters(6) {
		e, err := fit(x, y, w, 2)
		if err != nil {
			t.Fatal(name, err)
		}
		phi := make([]float64, x.Cols)
		for i := 0; i < 40; i += 8 {
			base, err := e.SHAP(x.Row(i), phi)
			if err != nil {
				t.Fatal(err)
			}
			wantBase, want := shapley(e, x.Row(i))
			if math.Abs(base-wantBase) > 1e-5 {
				t.Errorf("%s: base %v, want %v", name, base, wantBase)
			}
			for f := range phi {
				if math.Abs(phi[f]-want[f]) > 1e-5 {
					t.Errorf("%s: row %d feature %d: %v, want %v", name, i, f, phi[f], want[f])
				}
			}
		}
	}
}

func TestSHAPSumsToThePrediction(t *testing.T) {
	x, y := friedman(1500, 0.1, 9)
	for name, fit := range fitters(20) {
		e, err := fit(x, y, nil, 2)
		if err != nil {
			t.Fatal(name, err)
		}
		phi := make([]float64, x.Cols)
		for i := range 50 {
			base, err := e.SHAP(x.Row(i), phi)
			if err != nil {
				t.Fatal(err)
			}
			sum := base
			for _, v := range phi {
				sum += v
			}
			want, _ := e.Predict(x.Row(i))
			if math.Abs(sum-want) > 1e-9*(1+math.Abs(want)) {
				t.Errorf("%s: row %d: contributions sum to %v, prediction is %v", name, i, sum, want)
			}
		}
	}
}

func BenchmarkSHAP(b *testing.B) {
	x, y := friedman(5000, 0, 10)
	p := tree.DefaultBoostingParams()
	p.MaxIter, p.MaxDepth, p.MaxLeafNodes, p.MinSamplesLeaf = 100, 6, 0, 1
	e, err := tree.FitBoosting(x, y, nil, p, nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	phi := make([]float64, x.Cols)
	for b.Loop() {
		if _, err := e.SHAP(x.Row(3), phi); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(e.NumNodes()), "nodes")
}
