package tree

import (
	"cmp"
	"math"
	"slices"
)

// chunkSplits is the most splits of several trees in one chunk: what is decided
// for them takes 20 bytes each and should stay in the first-level cache.
const chunkSplits = 1024

// vectorTests is how many splits the vector unit decides at once; the arrays of
// tests are padded to a multiple.
const vectorTests = 8

// splitPath is what a path says of one feature.
type splitPath struct {
	// z is the share of the training rows that passes all its splits.
	z           float64
	floor, ceil float32
	repeated    bool
	// fails tells that a missing value fails one of them.
	fails bool
}

// shapBuilder makes a plan.
type shapBuilder struct {
	e    *Ensemble
	plan *shapPlan
	// now is the path to the node being visited, per feature.
	now []splitPath
	// Per node of the tree being laid out: the path to a split, of its feature,
	// and the left child's part of the cover.
	path  []splitPath
	share []float64
}

func newShapPlan(e *Ensemble) *shapPlan {
	nan := float32(math.NaN())
	b := &shapBuilder{e: e, plan: &shapPlan{base: e.base, vector: vectorShap()}, now: make([]splitPath, e.features)}
	for f := range b.now {
		b.now[f] = splitPath{z: 1, floor: nan, ceil: nan}
	}
	type pick struct{ tree, size int }
	var picks []pick
	for t := range e.trees {
		mean, distinct := b.measure(t)
		b.plan.base += e.scale * mean
		if distinct > 0 {
			picks = append(picks, pick{t, ruleSize((distinct + 1) / 2)})
		}
	}
	slices.SortStableFunc(picks, func(a, b pick) int { return cmp.Compare(a.size, b.size) })
	rules := map[int][]rule{}
	size := 0
	for _, p := range picks {
		if rules[p.size] == nil {
			rules[p.size] = gaussLegendre(p.size)
		}
		first, end := e.span(p.tree)
		splits := int(end-first) / 2
		if n := len(b.plan.chunks); n == 0 || p.size != size || len(b.plan.column)-b.plan.chunks[n-1].splits+splits > chunkSplits {
			b.open(rules[p.size])
			size = p.size
		}
		b.measure(p.tree)
		b.layOut(p.tree)
	}
	b.close()
	b.plan.leaves = append(b.plan.leaves, looseLeaf{}) // so that a chunk without any has one to point to
	b.plan.walks.New = b.plan.newWalk
	return b.plan
}

// ruleSize rounds a number of points up to what a walk does at once.
func ruleSize(points int) int {
	if points <= 4 {
		return 4
	}
	return (points + 7) / 8 * 8
}

// measure fills path and share for tree t, and returns the mean of its leaves
// and the largest number of different features on a path.
func (b *shapBuilder) measure(t int) (mean float64, distinct int) {
	first, end := b.e.span(t)
	n := int(end - first)
	b.path = slices.Grow(b.path[:0], n)[:n]
	b.share = slices.Grow(b.share[:0], n)[:n]
	return b.visit(first, first, 0)
}

func (b *shapBuilder) visit(root, i uint32, distinct int) (mean float64, most int) {
	n := &b.e.nodes[i]
	if n.off == 0 {
		return float64(n.value), distinct
	}
	l, r := float64(b.e.cover[i+n.off]), float64(b.e.cover[i+n.off+1])
	s := l / (l + r)
	if !(l+r > 0) {
		s = 0.5 // no training row came here: nothing tells the children apart
	}
	was := b.now[n.feature]
	b.path[i-root], b.share[i-root] = was, s
	if !was.repeated {
		distinct++
	}
	left := splitPath{z: was.z * s, floor: was.floor, ceil: n.threshold, repeated: true, fails: was.fails || n.missingRight != 0}
	if was.ceil < left.ceil {
		left.ceil = was.ceil
	}
	b.now[n.feature] = left
	ml, dl := b.visit(root, i+n.off, distinct)
	right := splitPath{z: was.z * (1 - s), floor: n.threshold, ceil: was.ceil, repeated: true, fails: was.fails || n.missingRight == 0}
	if was.floor > right.floor {
		right.floor = was.floor
	}
	b.now[n.feature] = right
	mr, dr := b.visit(root, i+n.off+1, distinct)
	b.now[n.feature] = was
	return s*ml + (1-s)*mr, max(dl, dr)
}

// open begins a chunk.
func (b *shapBuilder) open(rules []rule) {
	b.close()
	p := b.plan
	p.chunks = append(p.chunks, shapChunk{splits: len(p.column), twigs: len(p.twigs), leaves: len(p.leaves), rules: rules})
}

// close ends the newest chunk.
func (b *shapBuilder) close() {
	p := b.plan
	if len(p.chunks) == 0 {
		return
	}
	c := &p.chunks[len(p.chunks)-1]
	c.end = len(p.column)
	for len(p.column)%vectorTests != 0 {
		p.tests.pad()
		p.own, p.feature = append(p.own, 0), append(p.feature, 0)
	}
	if c.end-c.splits > chunkSplits {
		return
	}
	for i := range c.rules {
		table := make([]entry, entryRepeated+len(c.z))
		c.rules[i].fill(table, c.z)
		c.tables = append(c.tables, table)
	}
}

func (t *tests) pad() {
	t.column, t.entry = append(t.column, 0), append(t.entry, 0)
	t.threshold, t.floor, t.ceil = append(t.threshold, 0), append(t.floor, 0), append(t.ceil, 0)
	t.share = append(t.share, 0)
}

// layOut appends tree t to the newest chunk.
func (b *shapBuilder) layOut(t int) {
	p := b.plan
	c := &p.chunks[len(p.chunks)-1]
	root, _ := b.e.span(t)
	nodes := b.e.nodes
	type placed struct {
		node uint32
		slot int
	}
	var tree shapTree
	var twigs []placed
	// Level by level: neighbours in the order do not wait for each other.
	queue := []placed{{root, 0}}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		n := &nodes[at.node]
		l, r := at.node+n.off, at.node+n.off+1
		switch {
		case n.off == 0:
			p.leaves = append(p.leaves, looseLeaf{slot: pointsSize * uint64(at.slot), value: float64(n.value)})
			tree.leaves++
		case nodes[l].off == 0 && nodes[r].off == 0:
			twigs = append(twigs, at)
		default:
			children := 2*int(tree.inner) + 1
			queue = append(queue, placed{l, children}, placed{r, children + 1})
			b.split(c, root, at.node, at.slot)
			tree.inner++
		}
	}
	for _, at := range twigs {
		b.split(c, root, at.node, at.slot)
		l := at.node + nodes[at.node].off
		right := float64(nodes[l+1].value)
		p.twigs = append(p.twigs, twig{difference: float64(nodes[l].value) - right, right: right})
	}
	tree.twigs = uint32(len(twigs))
	c.trees = append(c.trees, tree)
}

// split appends a split whose P and Q are in the given slot.
func (b *shapBuilder) split(c *shapChunk, root, i uint32, slot int) {
	n, path, p := &b.e.nodes[i], &b.path[i-root], b.plan
	column, at := uint32(n.feature), entryFirst
	if n.missingRight == 0 {
		column |= missingLeft
	}
	if path.fails {
		column |= missingFails
	}
	if path.repeated {
		at = entryRepeated + len(c.z)
		c.z = append(c.z, path.z)
	}
	p.column = append(p.column, column)
	p.threshold, p.floor, p.ceil = append(p.threshold, n.threshold), append(p.floor, path.floor), append(p.ceil, path.ceil)
	p.share = append(p.share, b.share[i-root])
	p.entry = append(p.entry, uint32(entrySize*at))
	p.own = append(p.own, uint32(pointsSize*slot))
	p.feature = append(p.feature, pointsSize*uint32(n.feature))
}

// gaussLegendre returns k points on [0, 1], in rules of eight. They are the
// zeros of the Legendre polynomial, found by Newton's method.
func gaussLegendre(k int) []rule {
	rules := make([]rule, (k+7)/8)
	for i := range rules {
		for j := range rules[i].t {
			rules[i].t[j], rules[i].u[j] = 0.5, 0.5
		}
	}
	for i := range k {
		x := math.Cos(math.Pi * (float64(i) + 0.75) / (float64(k) + 0.5))
		slope := 0.0
		for range 100 {
			p0, p1 := 1.0, x
			for j := 2; j <= k; j++ {
				p0, p1 = p1, (float64(2*j-1)*x*p1-float64(j-1)*p0)/float64(j)
			}
			slope = float64(k) * (x*p1 - p0) / (x*x - 1)
			step := p1 / slope
			x -= step
			if math.Abs(step) < 1e-15 {
				break
			}
		}
		r := &rules[i/8]
		r.t[i%8], r.u[i%8], r.w[i%8] = (1+x)/2, (1-x)/2, 1/((1-x*x)*slope*slope)
	}
	return rules
}
