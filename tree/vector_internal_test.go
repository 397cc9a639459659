package tree

import (
	"math"
	"testing"
)

// TestVectorScanEqualsScalarScan compares the two implementations, which no
// caller can choose between, on random histograms.
func TestVectorScanEqualsScalarScan(t *testing.T) {
	if !vectorUnit() {
		t.Skip("no AVX-512 here")
	}
	r := rng(1)
	for trial := range 3000 {
		bins := 2 + r.below(254)
		var h column
		s := scanner{minLeaf: int64(1 + r.below(20)), lambda: float64(r.below(3))}
		n := 0
		counts := make([]int, 256)
		for b := range counts {
			if (b < bins || b == missingBin) && r.below(3) > 0 {
				counts[b] = r.below(12)
				n += counts[b]
			}
		}
		s.fields = unitFields(n)
		if trial%2 == 1 {
			s.fields = weightFields(n, int64(3*n))
		}
		for b, c := range counts {
			for range c {
				h[b] += int64(r.below(1<<16)-1<<15)<<s.gradShift | 1
				if trial%2 == 1 {
					h[b] += int64(1+r.below(3)) << s.weightShift
				}
			}
			s.total.a += h[b]
		}
		for _, acc := range []int64{0, h[missingBin]} {
			a, b := choice{den: 1, bin: -1}, choice{den: 1, bin: -1}
			s.scanBins(bins, acc, &h, &a)
			s.scanLanes(bins, acc, &h, &b)
			if a != b {
				t.Fatalf("trial %d, %d bins: scalar %+v, vector %+v", trial, bins, a, b)
			}
		}
	}
}

// TestVectorWalkEqualsScalarWalk does the same for predictions, with the
// registers half full, full, and too few.
func TestVectorWalkEqualsScalarWalk(t *testing.T) {
	if !vectorUnit() {
		t.Skip("no AVX-512 here")
	}
	r := rng(2)
	for _, cols := range []int{1, 16, 33, 64, 65} {
		x := Matrix{Data: make([]float32, 700*cols), Rows: 700, Cols: cols}
		y := make([]float64, x.Rows)
		for i := range x.Data {
			x.Data[i] = float32(r.float())
			y[i/cols] += float64(x.Data[i]) * float64(i%cols%5)
			if r.below(20) == 0 {
				x.Data[i] = float32(math.NaN())
			}
		}
		p := DefaultForestParams()
		p.NEstimators, p.MaxFeatures = 37, 0.3
		e, err := FitForest(x, y, nil, p, nil)
		if err != nil {
			t.Fatal(err)
		}
		if (e.compact != nil) != (cols <= 64) {
			t.Errorf("%d columns: compact form present: %v", cols, e.compact != nil)
		}
		for i := range 500 {
			var a, b [lanes]float64
			pairs := len(e.roots) / (2 * lanes)
			e.addLeaves(0, pairs, x.Row(i), &a)
			e.addLeavesScalar(0, pairs, x.Row(i), &b)
			if a != b {
				t.Fatalf("%d columns, row %d: vector %v, scalar %v", cols, i, a, b)
			}
		}
	}
}

// TestVectorSHAPEqualsScalarSHAP compares the walks by four and by eight points
// and the one without vectors, on trees that keep their tables and on one too
// large for it, with one rule, two and none of their points unused.
func TestVectorSHAPEqualsScalarSHAP(t *testing.T) {
	vector := vectorShap()
	if vector == 0 {
		t.Skip("no AVX2 here")
	}
	r := rng(3)
	for _, c := range []struct {
		name              string
		cols, rows, depth int
		sizes             []int // of the rules
		tables            bool
	}{
		{"four points", 8, 1200, 0, []int{4}, true},
		{"shallow", 40, 3000, 4, []int{4}, true},
		{"two rules", 60, 600, 0, []int{8, 16}, true},
		{"too large", 3, 20000, 0, []int{4}, false},
	} {
		x := Matrix{Data: make([]float32, c.rows*c.cols), Rows: c.rows, Cols: c.cols}
		y := make([]float64, c.rows)
		for i := range x.Data {
			x.Data[i] = float32(r.float())
			y[i/c.cols] += float64(x.Data[i]) * float64(i%c.cols%5)
			if r.below(20) == 0 {
				x.Data[i] = float32(math.NaN())
			}
		}
		p := DefaultForestParams()
		p.NEstimators, p.MaxDepth, p.MaxFeatures = 7, c.depth, 0.05
		e, err := FitForest(x, y, nil, p, nil)
		if err != nil {
			t.Fatal(err)
		}
		plan := newShapPlan(e, vector)
		sizes := map[int]bool{}
		for _, chunk := range plan.chunks {
			sizes[len(chunk.rules)*len(chunk.rules[0].t)] = true
			if (chunk.tables != nil) != c.tables {
				t.Errorf("%s: chunk of %d splits keeps tables: %v", c.name, chunk.end-chunk.splits, chunk.tables != nil)
			}
		}
		for _, n := range c.sizes {
			if !sizes[n] {
				t.Errorf("%s: rules of %v points, none of %d", c.name, sizes, n)
			}
		}
		want, got := make([]float64, c.cols), make([]float64, c.cols)
		scalar := newShapPlan(e, 0)
		for n := 4; n <= vector; n += 4 {
			plan := newShapPlan(e, n)
			for i := range 60 {
				scalar.explain(x.Row(i), want, e.scale)
				plan.explain(x.Row(i), got, e.scale)
				for f := range got {
					if math.Abs(got[f]-want[f]) > 1e-12*(1+math.Abs(want[f])) {
						t.Fatalf("%s: row %d, feature %d: %v with vectors of %d, %v without", c.name, i, f, got[f], n, want[f])
					}
				}
			}
		}
	}
}
