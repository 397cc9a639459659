package tree

import (
	"math"
	"math/bits"
)

// grower grows trees one after another in one goroutine, on buffers it keeps.
type grower struct {
	f *forest
	// times is how often the bootstrap drew each row.
	times []uint32
	idx   []uint32
	buf   []uint32
	// value is the packed share of each row of the node at hand; weight is the
	// second word of the wide form.
	value, weight []int64
	order         []int
	// codes are the bins of one column over the rows of the node at hand.
	codes []uint8
	h, h2 [4]column
	few   column
	scan  scanner
	// step is the value of one gradient step over the root of a weight step.
	step  float64
	rand  rng
	nodes []node
	cover []float32
	gain  []float64
	stack []task
	oob   *oobSums
}

// task is a node waiting to be split or made a leaf.
type task struct {
	id         uint32
	start, end int
	depth      int
	// weight is the number of draws in the node.
	weight int64
}

func newGrower(f *forest) *grower {
	n := f.x.Rows
	g := &grower{
		f: f, times: make([]uint32, n), idx: make([]uint32, n), buf: make([]uint32, n),
		value: make([]int64, n), weight: make([]int64, n), codes: make([]uint8, n), order: make([]int, len(f.bin.used)),
	}
	copy(g.order, f.bin.used)
	if f.p.Bootstrap {
		g.oob = &oobSums{sum: make([]int64, n), count: make([]int32, n)}
	}
	return g
}

// tree grows tree number t.
func (g *grower) tree(t int) *grown {
	g.rand = derive(uint64(g.f.p.RandomState), uint64(t)+1)
	rows, draws := g.bootstrap()
	if t < len(g.f.kept) {
		if g.oob != nil {
			g.addOutOfBag(g.f.kept[t])
		}
		return g.f.kept[t]
	}
	g.nodes = append(g.nodes[:0], leafNode(0))
	g.cover = append(g.cover[:0], 0)
	g.gain = make([]float64, g.f.x.Cols)
	copy(g.order, g.f.bin.used)
	g.stack = append(g.stack[:0], task{end: rows, weight: draws})
	for len(g.stack) > 0 {
		at := g.stack[len(g.stack)-1]
		g.stack = g.stack[:len(g.stack)-1]
		if best := g.bestSplit(at); best.gain > 0 {
			g.part(at, &best)
		} else {
			g.leaf(at)
		}
	}
	out := &grown{gain: g.gain}
	out.nodes = append(out.nodes, g.nodes...)
	out.cover = append(out.cover, g.cover...)
	coverParents(out.nodes, out.cover)
	if g.oob != nil {
		g.addOutOfBag(out)
	}
	return out
}

// bootstrap fills idx with the distinct rows drawn, in order.
func (g *grower) bootstrap() (rows int, draws int64) {
	from := g.f.rows
	if !g.f.p.Bootstrap {
		for _, i := range from {
			g.times[i] = 1
		}
		return copy(g.idx, from), int64(len(from))
	}
	clear(g.times)
	n := max(1, int(math.Round(g.f.p.MaxSamples*float64(len(from)))))
	for range n {
		g.times[from[g.rand.below(len(from))]]++
	}
	for _, i := range from {
		g.idx[rows] = i
		rows += int(b2u(g.times[i] > 0))
	}
	return rows, int64(n)
}

// prepare gathers the node's rows in the tightest form their sums fit, and
// tells whether their targets differ.
func (g *grower) prepare(at task) (mixed bool) {
	rows := g.idx[at.start:at.end]
	n := len(rows)
	g.scan = scanner{vector: g.f.vector, minLeaf: int64(g.f.p.MinSamplesLeaf), lower: math.Inf(-1), upper: math.Inf(1)}
	g.scan.fields = weightFields(n, at.weight)
	if !g.f.p.Bootstrap {
		g.scan.fields = unitFields(n)
	}
	// A target has 30 bits and a sign; the sum needs those of the weight besides.
	drop := max(0, 30+bits.Len64(uint64(at.weight))+int(g.scan.gradShift)-63)
	if g.f.w != nil || drop > 16 {
		return g.prepareWide(rows)
	}
	g.step = g.f.unit * math.Exp2(float64(drop))
	value := g.value[:n]
	lo, hi := int32(math.MaxInt32), int32(math.MinInt32)
	gs, ws := g.scan.gradShift&63, g.scan.weightShift&63
	plain := !g.f.p.Bootstrap
	total := int64(0)
	for i, r := range rows {
		y := g.f.target[r]
		lo, hi = min(lo, y), max(hi, y)
		k := int64(g.times[r])
		v := (int64(y)>>(drop&63)*k)<<gs | 1
		if !plain {
			v += k << ws
		}
		value[i] = v
		total += v
	}
	g.scan.total.a = total
	return lo != hi
}

func (g *grower) prepareWide(rows []uint32) (mixed bool) {
	g.scan.wide = true
	g.scan.fields = wideFields(len(g.f.rows))
	g.step = g.f.unit
	if g.f.w != nil {
		g.step = g.f.wideUnit
	}
	lo, hi := int32(math.MaxInt32), int32(math.MinInt32)
	for i, r := range rows {
		y := g.f.target[r]
		lo, hi = min(lo, y), max(hi, y)
		k := int64(g.times[r])
		a, b := int64(y), int64(1)
		if g.f.w != nil {
			a, b = g.f.wideGrad[r], g.f.wideWeight[r]
		}
		g.value[i] = a * k
		g.weight[i] = (b*k)<<g.scan.weightShift | 1
		g.scan.total.a += g.value[i]
		g.scan.total.b += g.weight[i]
	}
	return lo != hi
}

// bestSplit searches columns in random order: as scikit-learn does, a share of
// them, and on until one is not constant in the node.
func (g *grower) bestSplit(at task) split {
	var best split
	n := at.end - at.start
	if n < 2*g.f.p.MinSamplesLeaf || at.depth >= depthLimit(g.f.p.MaxDepth) || len(g.order) == 0 {
		return best
	}
	if !g.prepare(at) {
		return best
	}
	want := max(1, int(g.f.p.MaxFeatures*float64(g.f.x.Cols)))
	rows := g.idx[at.start:at.end]
	varied := false
	for seen := 0; seen < len(g.order) && (seen < want || !varied); {
		// Columns are taken four at a time while that many are wanted.
		k := min(4, max(1, want-seen), len(g.order)-seen)
		for j := seen; j < seen+k; j++ {
			o := j + g.rand.below(len(g.order)-j)
			g.order[j], g.order[o] = g.order[o], g.order[j]
		}
		for _, f := range g.order[seen : seen+k] {
			switch {
			case g.f.p.ExtraTrees:
				varied = g.searchRandom(f, rows, &best) || varied
			case n <= fewRows && !g.scan.wide:
				varied = g.searchFew(f, rows, &best) || varied
			default:
				varied = g.searchAll(f, rows, &best) || varied
			}
		}
		seen += k
	}
	return best
}

// fewRows is where visiting the occupied bins alone begins to pay.
const fewRows = 160

// searchFew is searchAll for nodes of few rows. It finds the histogram empty
// and leaves it so.
func (g *grower) searchFew(f int, rows []uint32, best *split) bool {
	col := g.f.bin.columns[f]
	value := g.value[:len(rows)]
	h := &g.few
	var occ occupied
	for i, r := range rows {
		b := col[r]
		h[b] += value[i]
		occ[b>>6] |= 1 << (b & 63)
	}
	varied := h[col[rows[0]]] != g.scan.total.a
	if varied {
		g.scan.searchSparse(f, &occ, h, best)
	}
	for _, r := range rows {
		h[col[r]] = 0
	}
	return varied
}

// searchAll finds the best edge of a column; it tells whether the column
// varies in the node.
func (g *grower) searchAll(f int, rows []uint32, best *split) bool {
	col := g.f.bin.columns[f]
	h, h2 := &g.h[0], &g.h2[0]
	clear(h[:])
	for i, r := range rows {
		h[col[r]] += g.value[i]
	}
	if h[col[rows[0]]] == g.scan.total.a && !g.scan.wide {
		return false
	}
	if g.scan.wide {
		clear(h2[:])
		for i, r := range rows {
			h2[col[r]] += g.weight[i]
		}
		if h2[col[rows[0]]] == g.scan.total.b {
			return false
		}
	}
	g.scan.search(f, len(g.f.bin.edges[f])+1, g.f.bin.missing[f], 0, h, h2, best)
	return true
}

// part splits a node's rows, each side in order, and stacks the children.
func (g *grower) part(at task, s *split) {
	col := g.f.bin.columns[s.feature]
	up := uint8(b2u(s.missLeft))
	edge := s.bin + up
	idx, right := g.idx[at.start:at.end], g.buf[at.start:at.end]
	l, r := 0, 0
	for _, row := range idx {
		goes := int(b2u(col[row]+up > edge))
		idx[l] = row
		right[r] = row
		l += 1 - goes
		r += goes
	}
	copy(idx[l:], right[:r])
	n := &g.nodes[at.id]
	n.feature = uint16(s.feature)
	n.threshold = g.f.bin.edges[s.feature][s.bin]
	n.off = uint32(len(g.nodes)) - at.id
	n.missingRight = uint16(b2u(!s.missLeft))
	if !s.sawMissing {
		n.missingRight = uint16(b2u(l < r))
	}
	g.gain[s.feature] += s.gain * g.step * g.step
	wl := int64(g.scan.weight(s.left))
	id := uint32(len(g.nodes))
	g.nodes = append(g.nodes, leafNode(0), leafNode(0))
	g.cover = append(g.cover, 0, 0)
	g.stack = append(g.stack,
		task{id: id + 1, start: at.start + l, end: at.end, depth: at.depth + 1, weight: at.weight - wl},
		task{id: id, start: at.start, end: at.start + l, depth: at.depth + 1, weight: wl})
}

// leaf gives a node the weighted mean of its rows.
func (g *grower) leaf(at task) {
	sum, total := 0.0, 0.0
	for _, r := range g.idx[at.start:at.end] {
		w := float64(g.times[r])
		if g.f.w != nil {
			w *= g.f.w[r]
		}
		sum += w * g.f.y[r]
		total += w
	}
	g.nodes[at.id].value = float32(sum / total)
	g.cover[at.id] = float32(total)
}

// searchRandom tries one random edge of a column within its range in the node.
// Missing rows go to the side where they serve better.
func (g *grower) searchRandom(f int, rows []uint32, best *split) bool {
	col := g.f.bin.columns[f]
	codes := g.codes[:len(rows)]
	lo, hi := uint8(missingBin), uint8(0)
	for i, r := range rows {
		c := col[r]
		codes[i] = c
		lo = min(lo, c)
		hi = max(hi, c)
	}
	if lo == hi {
		return false
	}
	anyMissing := hi == missingBin
	if anyMissing {
		hi = 0
		for _, c := range codes {
			if c != missingBin {
				hi = max(hi, c)
			}
		}
	}
	bin := g.drawEdge(f, lo, hi)
	left := g.sumWhere(codes, 0, bin)
	before := best.gain
	g.scan.try(f, bin, false, left, best)
	if anyMissing {
		miss := g.sumWhere(codes, missingBin, missingBin)
		g.scan.try(f, bin, true, sums{left.a + miss.a, left.b + miss.b}, best)
	}
	if best.gain > before {
		best.sawMissing = anyMissing
	}
	return true
}

// sumWhere adds up the node's values where the bin lies between two, these
// included. A random edge halves the rows: a branch would be mispredicted at
// every other one, so values are masked instead.
func (g *grower) sumWhere(codes []uint8, from, to uint8) sums {
	var s sums
	width := to - from
	value := g.value[:len(codes)]
	if !g.scan.wide {
		for i, c := range codes {
			s.a += value[i] & -int64(b2u(c-from <= width))
		}
		return s
	}
	weight := g.weight[:len(codes)]
	for i, c := range codes {
		mask := -int64(b2u(c-from <= width))
		s.a += value[i] & mask
		s.b += weight[i] & mask
	}
	return s
}

// drawEdge draws a value between the ends of bins lo and hi and returns the bin
// below the edge it falls on. With lo == hi all values stay left, and only
// missing rows can go right.
func (g *grower) drawEdge(f int, lo, hi uint8) uint8 {
	if lo == hi {
		return lo
	}
	a := max(float64(g.f.bin.low[f][lo]), -math.MaxFloat32)
	b := min(float64(g.f.bin.high[f][hi]), math.MaxFloat32)
	u := a + g.rand.float()*(b-a)
	edges := g.f.bin.edges[f]
	l, h := int(lo), int(hi)-1
	for l < h {
		if m := (l + h) / 2; float64(edges[m]) < u {
			l = m + 1
		} else {
			h = m
		}
	}
	return uint8(l)
}

// addOutOfBag adds the tree's predictions for the rows it did not see.
func (g *grower) addOutOfBag(t *grown) {
	for i, k := range g.times {
		if k == 0 {
			v := float64(t.leaf(g.f.x.Row(i)))
			g.oob.sum[i] += int64(math.RoundToEven(v * g.f.oobScale))
			g.oob.count[i]++
		}
	}
}
