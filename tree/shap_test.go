package tree_test

import (
	"encoding/binary"
	"hash/crc32"
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
	if l.Cover+r.Cover == 0 {
		return (conditional(nodes, n.Left, row, known) + conditional(nodes, n.Right, row, known)) / 2
	}
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

// forged is a node of a tree that no learner would grow.
type forged struct {
	feature      int
	threshold    float32
	missingRight bool
	left, right  *forged // nil for a leaf
	value, cover float32
}

// forge returns an ensemble of the given trees, through its serialized form.
func forge(tb testing.TB, features int, trees ...*forged) *tree.Ensemble {
	tb.Helper()
	le := binary.LittleEndian
	var body []byte
	total := 0
	for _, root := range trees {
		nodes := []*forged{root}
		var b []byte
		for i := 0; i < len(nodes); i++ {
			n := nodes[i]
			if n.left == nil {
				b = append(b, 0)
				b = le.AppendUint32(b, math.Float32bits(n.value))
				b = le.AppendUint32(b, math.Float32bits(n.cover))
				continue
			}
			tag := uint64(len(nodes)-i) << 1
			if n.missingRight {
				tag |= 1
			}
			b = binary.AppendUvarint(b, tag)
			b = le.AppendUint16(b, uint16(n.feature))
			b = le.AppendUint32(b, math.Float32bits(n.threshold))
			nodes = append(nodes, n.left, n.right)
		}
		body = append(binary.AppendUvarint(body, uint64(len(nodes))), b...)
		total += len(nodes)
	}
	data := append([]byte("TREE"), 1, 0, 0, 0)
	for _, n := range []int{features, len(trees), total} {
		data = le.AppendUint32(data, uint32(n))
	}
	data = le.AppendUint64(data, math.Float64bits(3))
	data = le.AppendUint64(data, math.Float64bits(0.5))
	data = append(data, make([]byte, 8*features)...)
	data = append(data, body...)
	data = le.AppendUint32(data, crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)))
	var e tree.Ensemble
	if err := e.UnmarshalBinary(data); err != nil {
		tb.Fatal(err)
	}
	return &e
}

// grow forges a random tree. Few thresholds let paths contradict themselves, and
// covers span many orders of magnitude or are zero.
func grow(r *rand.Rand, features, depth int, leaf float64) *forged {
	if depth == 0 || r.Float64() < leaf {
		n := &forged{value: float32(r.NormFloat64()), cover: float32(math.Exp(8 * r.NormFloat64()))}
		if r.IntN(12) == 0 {
			n.cover = 0
		}
		return n
	}
	return &forged{
		feature: r.IntN(features), threshold: value(r), missingRight: r.IntN(2) == 0,
		left: grow(r, features, depth-1, leaf), right: grow(r, features, depth-1, leaf),
	}
}

// value draws a threshold, or a value of a row that is not missing.
func value(r *rand.Rand) float32 {
	switch r.IntN(12) {
	case 0:
		return float32(math.Inf(1))
	case 1:
		return float32(math.Inf(-1))
	}
	return float32(r.IntN(5))
}

func randomRow(r *rand.Rand, features int) []float32 {
	row := make([]float32, features)
	for f := range row {
		if row[f] = value(r); r.IntN(5) == 0 {
			row[f] = float32(math.NaN())
		}
	}
	return row
}

// step is what one feature lets pass on a path: all or nothing when it is known,
// z when it is not.
type step struct{ o, z float64 }

// byPaths is SHAP leaf by leaf from the weights of the coalitions, each found by
// multiplying out a polynomial: slow, but nothing is divided or cancelled, so it
// holds for any depth.
func byPaths(nodes []tree.Node, i int, row []float32, path map[int]step, phi []float64) (mean float64) {
	n := nodes[i]
	if n.Leaf {
		passed := 1.0
		for f, s := range path {
			passed *= s.z
			sizes := []float64{1}
			for g, s := range path {
				if g == f {
					continue
				}
				next := make([]float64, len(sizes)+1)
				for k, c := range sizes {
					next[k] += c * s.z
					next[k+1] += c * s.o
				}
				sizes = next
			}
			d := float64(len(path))
			for k, c := range sizes {
				weight := math.Exp(lgamma(float64(k)+1) + lgamma(d-float64(k)) - lgamma(d+1))
				phi[f] += n.Value * (s.o - s.z) * weight * c
			}
		}
		return n.Value * passed
	}
	l, r := nodes[n.Left].Cover, nodes[n.Right].Cover
	share := 0.5
	if l+r > 0 {
		share = l / (l + r)
	}
	v := row[n.Feature]
	goesRight := v > n.Threshold || v != v && !n.MissingLeft
	was, repeated := path[n.Feature]
	if !repeated {
		was = step{1, 1}
	}
	left, right := step{was.o, was.z * share}, step{was.o, was.z * (1 - share)}
	if goesRight {
		left.o = 0
	} else {
		right.o = 0
	}
	path[n.Feature] = left
	mean = byPaths(nodes, n.Left, row, path, phi)
	path[n.Feature] = right
	mean += byPaths(nodes, n.Right, row, path, phi)
	if path[n.Feature] = was; !repeated {
		delete(path, n.Feature)
	}
	return mean
}

func lgamma(v float64) float64 {
	l, _ := math.Lgamma(v)
	return l
}

func explainByPaths(e *tree.Ensemble, row []float32) (base float64, phi []float64) {
	base, phi = e.Base(), make([]float64, e.NumFeatures())
	for t := range e.NumTrees() {
		base += e.Scale() * byPaths(e.Tree(t), 0, row, map[int]step{}, phi)
	}
	for f := range phi {
		phi[f] *= e.Scale()
	}
	return base, phi
}

// checkSHAP compares SHAP with the slow definition and the sum with the prediction.
func checkSHAP(t *testing.T, e *tree.Ensemble, row []float32) {
	t.Helper()
	phi := make([]float64, len(row))
	base, err := e.SHAP(row, phi)
	if err != nil {
		t.Fatal(err)
	}
	wantBase, want := explainByPaths(e, row)
	sum, size := base, 1.0
	for f := range phi {
		sum += phi[f]
		size += math.Abs(want[f])
	}
	for f := range phi {
		if !(math.Abs(phi[f]-want[f]) <= 1e-10*size) {
			t.Errorf("row %v, feature %d: %v, want %v", row, f, phi[f], want[f])
		}
	}
	if !(math.Abs(base-wantBase) <= 1e-10*size) {
		t.Errorf("row %v: base %v, want %v", row, base, wantBase)
	}
	if answer, _ := e.Predict(row); !(math.Abs(sum-answer) <= 1e-10*size) {
		t.Errorf("row %v: contributions sum to %v, prediction is %v", row, sum, answer)
	}
}

// FuzzSHAP explains forged trees; of few features also by the sum over all
// coalitions.
func FuzzSHAP(f *testing.F) {
	for i := range uint64(40) {
		f.Add(i, uint8(i%8), uint8(i%10))
	}
	f.Add(uint64(1), uint8(39), uint8(9))
	f.Fuzz(func(t *testing.T, seed uint64, features, depth uint8) {
		r := rand.New(rand.NewPCG(seed, 1))
		m, d := int(features%40)+1, int(depth%10)
		var trees []*forged
		for range 1 + r.IntN(6) {
			trees = append(trees, grow(r, m, r.IntN(d+1), 0.15))
		}
		e := forge(t, m, trees...)
		for range 3 {
			row := randomRow(r, m)
			checkSHAP(t, e, row)
			if m > 8 {
				continue
			}
			phi := make([]float64, m)
			if _, err := e.SHAP(row, phi); err != nil {
				t.Fatal(err)
			}
			_, want := shapley(e, row)
			for f := range phi {
				if !(math.Abs(phi[f]-want[f]) <= 1e-9) {
					t.Errorf("row %v, feature %d: %v, over all coalitions %v", row, f, phi[f], want[f])
				}
			}
		}
	})
}

// TestSHAPOfDeepPaths takes paths of up to 60 different features, thirty points.
func TestSHAPOfDeepPaths(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	for _, depth := range []int{7, 8, 9, 15, 16, 17, 32, 33, 60} {
		root := &forged{value: 1, cover: 1}
		for f := range depth {
			leaf := &forged{value: float32(r.NormFloat64()), cover: float32(math.Exp(3 * r.NormFloat64()))}
			n := &forged{feature: f, threshold: value(r), missingRight: r.IntN(2) == 0, left: root, right: leaf}
			if r.IntN(2) == 0 {
				n.left, n.right = leaf, root
			}
			root = n
		}
		e := forge(t, depth, root, grow(r, depth, 3, 0))
		for range 5 {
			checkSHAP(t, e, randomRow(r, depth))
		}
	}
}

// TestSHAPOfTinyShares takes trees whose shares vanish beside one, which a form
// that divided them out would lose.
func TestSHAPOfTinyShares(t *testing.T) {
	leaf := func(v, cover float32) *forged { return &forged{value: v, cover: cover} }
	split := func(f int, l, r *forged) *forged { return &forged{feature: f, threshold: 2, left: l, right: r} }
	for _, tiny := range []float32{0, 1e-38, 1e-20, 1e-7} {
		root := split(0, split(1, split(0, leaf(5, tiny), leaf(7, 1)), leaf(3, tiny)), split(1, leaf(2, tiny), split(0, leaf(1, tiny), leaf(9, tiny))))
		e := forge(t, 3, root, leaf(4, 1))
		for _, row := range [][]float32{{1, 1, 1}, {1, 3, 1}, {3, 1, 1}, {3, 3, 1}} {
			checkSHAP(t, e, row)
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
