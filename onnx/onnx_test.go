package onnx_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"turbofan/onnx"
	"turbofan/tree"
)

const columns = 5

// table makes rows of which a tenth of the values is missing, and targets that follow them.
func table(rows int) (tree.Matrix, []float64) {
	rng := rand.New(rand.NewPCG(3, 4))
	x, y := tree.Matrix{Rows: rows, Cols: columns}, make([]float64, rows)
	for i := range rows {
		for range columns {
			v := float32(rng.NormFloat64())
			if rng.IntN(10) == 0 {
				v = float32(math.NaN())
			}
			x.Data = append(x.Data, v)
		}
		r := x.Row(i)
		y[i] = 60 + 30*rng.Float64()
		if r[0] == r[0] {
			y[i] += 20 * float64(r[0])
		} else {
			y[i] -= 35
		}
		if r[1] > 0.5 {
			y[i] -= 10
		}
	}
	return x, y
}

func convert(e *tree.Ensemble, name string, weight float64) onnx.Ensemble {
	return onnx.Ensemble{Name: name, Base: weight * e.Base(), Scale: weight * e.Scale(), Trees: e.NumTrees(), Tree: func(t int) []onnx.Node {
		var out []onnx.Node
		for _, n := range e.Tree(t) {
			out = append(out, onnx.Node{Leaf: n.Leaf, Feature: n.Feature, Threshold: n.Threshold, MissingLeft: n.MissingLeft, Left: n.Left, Right: n.Right, Value: n.Value})
		}
		return out
	}}
}

func fit(t *testing.T) (tree.Matrix, *tree.Ensemble, *tree.Ensemble) {
	t.Helper()
	x, y := table(1500)
	bp, fp := tree.DefaultBoostingParams(), tree.DefaultForestParams()
	bp.MaxIter, fp.NEstimators, bp.NJobs, fp.NJobs = 60, 20, 1, 1
	b, err := tree.FitBoosting(x, y, nil, bp, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := tree.FitForest(x, y, nil, fp, nil)
	if err != nil {
		t.Fatal(err)
	}
	return x, b, f
}

func write(t testing.TB, m *onnx.Model) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := onnx.Write(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func frame(ensembles ...onnx.Ensemble) *onnx.Model {
	return &onnx.Model{Producer: "test", Version: "1", Input: "x", Output: "y", Columns: columns, Low: 0, High: 100, Ensembles: ensembles,
		Metadata: map[string]string{"b": "2", "a": "1"}}
}

// Trees that were written and read again say what the ensembles say, also of rows with missing values.
func TestWrittenTreesAnswerAlike(t *testing.T) {
	x, b, f := fit(t)
	for name, c := range map[string]struct {
		model *onnx.Model
		ops   string
		want  func(row []float32) float64
	}{
		"boosting": {frame(convert(b, "boosting", 1)), "TreeEnsembleRegressor TreeEnsembleRegressor Sum Clip", func(row []float32) float64 { return predict(t, b, row) }},
		"blend": {frame(convert(b, "boosting", 0.3), convert(f, "forest", 0.7)), "TreeEnsembleRegressor TreeEnsembleRegressor TreeEnsembleRegressor Sum Clip",
			func(row []float32) float64 { return 0.3*predict(t, b, row) + 0.7*predict(t, f, row) }},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, write(t, c.model))
			if got := strings.Join(s.operations, " "); got != c.ops {
				t.Errorf("operators %s, want %s", got, c.ops)
			}
			if s.ir != 8 || s.opsets[""] != 15 || s.opsets["ai.onnx.ml"] != 3 || s.metadata["a"] != "1" || s.metadata["b"] != "2" {
				t.Errorf("IR %d, operator sets %v, metadata %v", s.ir, s.opsets, s.metadata)
			}
			worst, missing, clipped := 0.0, 0, 0
			for i := range x.Rows {
				row := x.Row(i)
				want := min(max(c.want(row), 0), 100)
				if want == 100 {
					clipped++
				}
				for _, v := range row {
					if v != v {
						missing++
						break
					}
				}
				worst = max(worst, math.Abs(s.run(row)-want))
			}
			t.Logf("largest difference %.2g over %d rows, %d with a missing value, %d clipped", worst, x.Rows, missing, clipped)
			if worst > 1e-5 || missing < 300 || clipped == 0 {
				t.Errorf("largest difference %g; %d rows miss a value, %d are clipped", worst, missing, clipped)
			}
			for out, e := range s.trees {
				if seen := float64(len(e.visited)) / float64(len(e.modes)); seen < 0.5 {
					t.Errorf("%s: the rows reach only %.0f%% of the nodes", out, 100*seen)
				}
			}
		})
	}
}

func predict(t *testing.T, e *tree.Ensemble, row []float32) float64 {
	v, err := e.Predict(row)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// A tree of one leaf is what a fit to a constant leaves.
func TestSingleLeaf(t *testing.T) {
	s := open(t, write(t, frame(onnx.Ensemble{Name: "one", Base: 3, Scale: 0.5, Trees: 2, Tree: func(t int) []onnx.Node {
		return []onnx.Node{{Leaf: true, Value: 10 + float64(t)}}
	}})))
	if got := s.run(make([]float32, columns)); math.Abs(got-13.5) > 1e-6 {
		t.Errorf("got %v, want 13.5", got)
	}
}

// Large trees are written in the memory of the buffer.
func TestWriteTakesBoundedMemory(t *testing.T) {
	const branches = 20_000
	nodes := make([]onnx.Node, 0, 2*branches+1)
	for i := range branches {
		nodes = append(nodes, onnx.Node{Feature: i % columns, Left: 2*i + 1, Right: 2*i + 2})
	}
	for range branches + 1 {
		nodes = append(nodes, onnx.Node{Leaf: true, Value: 1})
	}
	var written counter
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := onnx.Write(&written, frame(onnx.Ensemble{Name: "large", Scale: 1, Trees: 12, Tree: func(int) []onnx.Node { return nodes }})); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	took := after.TotalAlloc - before.TotalAlloc
	t.Logf("%d MiB written, %d KiB allocated", written>>20, took>>10)
	if written < 8<<20 || took > 1<<20 {
		t.Errorf("%d bytes written with %d allocated", written, took)
	}
}

type counter int64

func (c *counter) Write(b []byte) (int, error) {
	*c += counter(len(b))
	return len(b), nil
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

func TestWriteRefuses(t *testing.T) {
	of := func(nodes ...onnx.Node) *onnx.Model {
		return frame(onnx.Ensemble{Name: "bad", Scale: 1, Trees: 1, Tree: func(int) []onnx.Node { return nodes }})
	}
	leaf := onnx.Node{Leaf: true}
	low := of(leaf)
	low.Low = 200
	names := of(leaf)
	names.Output = "x"
	none := of(leaf)
	none.Columns = 0
	leafOnly := func(int) []onnx.Node { return []onnx.Node{leaf} }
	for want, m := range map[string]*onnx.Model{
		"there is no ensemble":                       frame(),
		"ensemble none: it has no trees":             frame(onnx.Ensemble{Name: "none"}),
		"tree 0: it has no nodes":                    of(),
		"tree 0: node 0: a leaf of NaN":              of(onnx.Node{Leaf: true, Value: math.NaN()}),
		"node 0 compares column 5 of 5":              of(onnx.Node{Feature: 5, Left: 1, Right: 2}, leaf, leaf),
		"node 0 has no threshold":                    of(onnx.Node{Threshold: float32(math.NaN()), Left: 1, Right: 2}, leaf, leaf),
		"node 0 has the children 1 and 3 of 3 nodes": of(onnx.Node{Left: 1, Right: 3}, leaf, leaf),
		"node 1 has the children 0 and 2 of 3 nodes": of(onnx.Node{Left: 1, Right: 2}, onnx.Node{Left: 0, Right: 2}, leaf),
		"the range must ascend, got 200 to 100":      low,
		`must have different names, got "x" and "x"`: names,
		"columns must be at least 1, got 0":          none,
		"ensemble big: its constant term is +Inf":    frame(onnx.Ensemble{Name: "big", Base: math.Inf(1), Scale: 1, Trees: 1, Tree: leafOnly}),
	} {
		if err := onnx.Write(io.Discard, m); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if err := onnx.Write(broken{}, of(leaf)); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("a writer that fails: %v", err)
	}
}
