package tree

import (
	"math"
	"slices"
)

const (
	// pack is how many columns share a word of bins: their histograms stay
	// together in the first-level cache while rows stream past.
	pack = 8
	// batch is how many nodes are split at once when leaves are not bounded.
	batch = 64
	// ahead is how many nodes are split at once in best-first growth. Those
	// beyond the first are likely, not certain, to be wanted; the tree is the
	// same either way.
	ahead = 4
)

// block holds the histograms of pack columns.
type block [pack]column

// booster holds what stays from tree to tree.
type booster struct {
	p    BoostingParams
	pool *pool
	cols int
	n    int
	bin  *binned
	// words[g][i] holds row i's bins for the columns slots[g*pack:]; one load
	// brings eight.
	words [][]uint64
	slots []int
	y, w  []float64
	pred  []float64
	base  float64
	// grad is the packed value of each row; hess is used in the wide form.
	grad, hess []int64
	g64, h64   []float64
	wide       bool
	vector     bool
	idx, buf   []uint32
	// free histograms, and the tree being grown.
	free    [][]block
	grow    boostTree
	results []split
}

// candidate is a node that may still be split.
type candidate struct {
	id          uint32
	start, end  int
	depth       int
	total       sums
	hist        []block
	best        split
	lower       float64
	upper       float64
	key         uint64
	left, right *candidate
}

// boostTree is the tree being grown.
type boostTree struct {
	nodes  []node
	cover  []float32
	gain   []float64
	leaves []*candidate
	scan   scanner
	// gradUnit and hessUnit turn fields into derivatives.
	gradUnit, hessUnit float64
}

func newBooster(x Matrix, y, w []float64, p BoostingParams, pl *pool) *booster {
	n := x.Rows
	b := &booster{p: p, pool: pl, cols: x.Cols, n: n, y: y, w: w, vector: vectorUnit()}
	b.bin = newBinned(x, p.MaxBins, pl)
	b.slots = b.bin.used
	groups := (len(b.slots) + pack - 1) / pack
	b.words = make([][]uint64, groups)
	pl.run(groups, func(_, g int) {
		words := make([]uint64, n)
		for j, f := range b.slots[g*pack : min((g+1)*pack, len(b.slots))] {
			for i, v := range b.bin.columns[f] {
				words[i] |= uint64(v) << (8 * j)
			}
		}
		b.words[g] = words
	})
	b.bin.columns = nil
	b.base = p.centre(slices.Clone(y), slices.Clone(w))
	b.pred = make([]float64, n)
	for i := range b.pred {
		b.pred[i] = b.base
	}
	b.wide = w != nil || p.Loss == NASALoss || p.monotone()
	b.grad, b.g64 = make([]int64, n), make([]float64, n)
	if b.wide {
		b.hess, b.h64 = make([]int64, n), make([]float64, n)
	}
	b.idx, b.buf = make([]uint32, n), make([]uint32, n)
	return b
}

// iterate grows tree i and adds it to the predictions.
func (b *booster) iterate(i int) *grown {
	r := derive(uint64(b.p.RandomState), uint64(i)+1)
	rows := b.sample(&r)
	b.derivatives(rows)
	t := &b.grow
	*t = boostTree{scan: t.scan, gradUnit: t.gradUnit, hessUnit: t.hessUnit, gain: make([]float64, b.cols)}
	t.nodes = append(t.nodes, leafNode(0))
	root := &candidate{end: rows, key: r.next(), lower: math.Inf(-1), upper: math.Inf(1)}
	for _, row := range b.idx[:rows] {
		root.total.a += b.grad[row]
		if b.wide {
			root.total.b += b.hess[row]
		}
	}
	b.expandRoot(root)
	if b.p.MaxLeafNodes > 0 {
		b.bestFirst(root)
	} else {
		b.depthWise(root)
	}
	return b.finish(rows)
}

// sample fills idx with the rows of this tree, in order, and returns how many.
func (b *booster) sample(r *rng) int {
	k := 0
	for i := range b.n {
		if b.w == nil || b.w[i] > 0 {
			b.idx[k] = uint32(i)
			k++
		}
	}
	if b.p.Subsample == 1 {
		return k
	}
	// Selection sampling (Knuth, 3.4.2 S) keeps the rows in order.
	need := max(1, int(b.p.Subsample*float64(k)))
	taken := 0
	for i := range k {
		if r.below(k-i) < need-taken {
			b.idx[taken] = b.idx[i]
			taken++
		}
	}
	return taken
}

// chunk is the number of rows in one task of a pass over all rows.
const chunk = 8192

func (b *booster) chunks(fn func(task, first, end int)) int {
	tasks := (b.n + chunk - 1) / chunk
	b.pool.run(tasks, func(_, t int) { fn(t, t*chunk, min((t+1)*chunk, b.n)) })
	return tasks
}

// derivatives fills grad and hess for the current predictions. The fixed-point
// unit follows the largest value, so the resolution never falls below the
// 2^-30 (or, past 2^16 rows, a little less) of it.
func (b *booster) derivatives(rows int) {
	largest := make([]sums2, (b.n+chunk-1)/chunk)
	b.chunks(func(t, first, end int) {
		var m sums2
		for i := first; i < end; i++ {
			g, h := b.p.gradHess(b.pred[i] - b.y[i])
			if b.w != nil {
				g, h = g*b.w[i], h*b.w[i]
			}
			b.g64[i] = g
			m.g = max(m.g, math.Abs(g))
			if b.wide {
				b.h64[i] = h
				m.h = max(m.h, h)
			}
		}
		largest[t] = m
	})
	var m sums2
	for _, v := range largest {
		m.g, m.h = max(m.g, v.g), max(m.h, v.h)
	}
	b.quantise(rows, m)
}

type sums2 struct{ g, h float64 }

func (b *booster) quantise(rows int, m sums2) {
	t := &b.grow
	t.scan = scanner{wide: b.wide, vector: b.vector, minLeaf: int64(b.p.MinSamplesLeaf), lambda: b.p.L2Regularization}
	t.hessUnit = 1
	gradRoom := 0.0
	if b.wide {
		t.scan.fields = wideFields(rows)
		gradRoom = room(62, rows)
		t.hessUnit = m.h / room(63-t.scan.weightShift, rows)
		t.scan.lambda /= t.hessUnit
	} else {
		t.scan.fields = unitFields(rows)
		gradRoom = room(63-t.scan.gradShift, rows)
	}
	t.gradUnit = m.g / gradRoom
	if m.g == 0 {
		t.gradUnit = 1
	}
	gs, hs := 1/t.gradUnit, 1/t.hessUnit
	b.chunks(func(_, first, end int) {
		for i := first; i < end; i++ {
			g := int64(math.RoundToEven(b.g64[i] * gs))
			if b.wide {
				b.grad[i] = g
				b.hess[i] = int64(b.h64[i]*hs+0.5)<<t.scan.weightShift | 1
			} else {
				b.grad[i] = g<<t.scan.gradShift | 1
			}
		}
	})
}

// splittable tells whether a node may have children.
func (b *booster) splittable(c *candidate) bool {
	return c.depth < depthLimit(b.p.MaxDepth) && c.end-c.start >= 2*b.p.MinSamplesLeaf && len(b.slots) > 0
}

func (b *booster) newHist() []block {
	if k := len(b.free); k > 0 {
		h := b.free[k-1]
		b.free = b.free[:k-1]
		return h
	}
	planes := 1
	if b.wide {
		planes = 2
	}
	return make([]block, planes*len(b.words))
}

func (b *booster) release(c *candidate) {
	if c.hist != nil {
		b.free = append(b.free, c.hist)
		c.hist = nil
	}
}

func (b *booster) expandRoot(root *candidate) {
	if !b.splittable(root) {
		return
	}
	root.hist = b.newHist()
	b.evaluate([]pair{{small: root}})
}

// depthWise splits everything that gains. The last nodes found are split
// first, which bounds the histograms alive by batch times the depth.
func (b *booster) depthWise(root *candidate) {
	stack := []*candidate{root}
	var ready []*candidate
	for len(stack) > 0 {
		k := max(0, len(stack)-batch)
		ready = ready[:0]
		for _, c := range stack[k:] {
			if c.best.gain > 0 {
				ready = append(ready, c)
			} else {
				b.settle(c)
			}
		}
		stack = stack[:k]
		b.expand(ready)
		for _, c := range ready {
			b.commit(c)
			stack = append(stack, c.left, c.right)
		}
	}
}

// bestFirst splits the leaf of greatest gain until there are enough.
func (b *booster) bestFirst(root *candidate) {
	// open is kept in order of rising gain; ids break ties.
	open := []*candidate{root}
	leaves := 1
	var ready []*candidate
	for leaves < b.p.MaxLeafNodes && len(open) > 0 {
		top := open[len(open)-1]
		if top.best.gain <= 0 {
			break
		}
		if top.left == nil {
			ready = ready[:0]
			want := min(ahead, b.p.MaxLeafNodes-leaves)
			for i := len(open) - 1; i >= 0 && len(ready) < want && open[i].best.gain > 0; i-- {
				if open[i].left == nil {
					ready = append(ready, open[i])
				}
			}
			b.expand(ready)
		}
		open = open[:len(open)-1]
		b.commit(top)
		open = insertByGain(insertByGain(open, top.left), top.right)
		leaves++
	}
	for _, c := range open {
		if c.left != nil {
			b.release(c.left)
			b.release(c.right)
		}
		b.settle(c)
	}
}

func insertByGain(open []*candidate, c *candidate) []*candidate {
	i, _ := slices.BinarySearchFunc(open, c, func(a, b *candidate) int {
		if a.best.gain < b.best.gain || a.best.gain == b.best.gain && a.id > b.id {
			return -1
		}
		return 1
	})
	return slices.Insert(open, i, c)
}

// settle makes a candidate a leaf.
func (b *booster) settle(c *candidate) {
	b.release(c)
	b.grow.leaves = append(b.grow.leaves, c)
}

// commit writes a split into the tree.
func (b *booster) commit(c *candidate) {
	t := &b.grow
	s := &c.best
	n := &t.nodes[c.id]
	n.feature = uint16(s.feature)
	n.threshold = b.bin.edges[s.feature][s.bin]
	n.off = uint32(len(t.nodes)) - c.id
	if !s.missLeft {
		n.missingRight = 1
	}
	if !s.sawMissing {
		// No row here was missing: a missing value follows the larger child.
		n.missingRight = uint16(b2u(c.left.end-c.left.start < c.right.end-c.right.start))
	}
	t.gain[s.feature] += s.gain * t.gradUnit * t.gradUnit / t.hessUnit
	c.left.id, c.right.id = uint32(len(t.nodes)), uint32(len(t.nodes)+1)
	t.nodes = append(t.nodes, leafNode(0), leafNode(0))
}
