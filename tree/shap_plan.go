package tree

import (
	"cmp"
	"math"
	"slices"
)

// chunkSplits is the most splits of several trees in one chunk: what is decided
// for them takes 20 bytes each and should stay in the first-level cache, with
// what the walk writes.
const chunkSplits = 256

// tableSplits is the most splits of a chunk, which is then one tree, that keeps its
// tables.
const tableSplits = 1024

// vectorTests is how many splits the vector unit decides at once, at most; the
// arrays of tests are padded to a multiple.
const vectorTests = 16

// groupTrees is how many trees are walked together. With one, the processor
// guesses the ends of short loops wrong and waits for each level of the tree; with
// many, what the walk writes does not fit the first-level cache.
const groupTrees = 4

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
	// group is the trees that are to be laid out together.
	group []int
	// queue has their nodes level by level, twigs those of them.
	queue, twigs []placed
}

// placed is a node that is to be laid out: its path and share are from places
// before its own number, and its P and Q have the given slot.
type placed struct {
	node       uint32
	from, slot int
}

// newShapPlan returns a plan for so many points at once, see vectorShap.
func newShapPlan(e *Ensemble, vector int) *shapPlan {
	nan := float32(math.NaN())
	b := &shapBuilder{e: e, plan: &shapPlan{base: e.base, vector: vector}, now: make([]splitPath, e.features)}
	for f := range b.now {
		b.now[f] = splitPath{z: 1, floor: nan, ceil: nan}
	}
	type pick struct{ tree, size int }
	var picks []pick
	for t := range e.trees {
		b.path, b.share = b.path[:0], b.share[:0]
		mean, distinct := b.measure(t)
		b.plan.base += e.scale * mean
		if distinct > 0 {
			picks = append(picks, pick{t, ruleSize((distinct+1)/2, vector)})
		}
	}
	b.plan.reserve(len(e.nodes) / 2)
	slices.SortStableFunc(picks, func(a, b pick) int { return cmp.Compare(a.size, b.size) })
	rules := map[int][]rule{}
	size, chunk := 0, 0
	for _, p := range picks {
		if rules[p.size] == nil {
			rules[p.size] = gaussLegendre(p.size, pointsAtOnce(p.size, vector))
		}
		first, end := e.span(p.tree)
		splits := int(end-first) / 2
		if chunk+splits > chunkSplits || p.size != size {
			b.open(rules[p.size])
			size, chunk = p.size, 0
		}
		chunk += splits
		b.group = append(b.group, p.tree)
		if len(b.group) == groupTrees {
			b.layOut()
		}
	}
	b.close()
	b.plan.leaves = append(b.plan.leaves, looseLeaf{}) // so that a chunk without any has one to point to
	b.plan.walks.New = b.plan.newWalk
	return b.plan
}

// pointsAtOnce is how many of so many points are walked at once.
func pointsAtOnce(points, vector int) int {
	if points <= 4 || vector < 8 {
		return 4
	}
	return 8
}

// ruleSize rounds a number of points up to what is walked.
func ruleSize(points, vector int) int {
	at := pointsAtOnce(points, vector)
	return (points + at - 1) / at * at
}

// measure returns the mean of the leaves of tree t and the largest number of
// different features on a path, and appends its splits to path and share.
func (b *shapBuilder) measure(t int) (mean float64, distinct int) {
	first, end := b.e.span(t)
	at, n := len(b.path), int(end-first)
	b.path = slices.Grow(b.path, n)[:at+n]
	b.share = slices.Grow(b.share, n)[:at+n]
	return b.visit(int(first)-at, first, 0)
}

func (b *shapBuilder) visit(from int, i uint32, distinct int) (mean float64, most int) {
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
	b.path[int(i)-from], b.share[int(i)-from] = was, s
	if !was.repeated {
		distinct++
	}
	left := splitPath{z: was.z * s, floor: was.floor, ceil: n.threshold, repeated: true, fails: was.fails || n.missingRight != 0}
	if was.ceil < left.ceil {
		left.ceil = was.ceil
	}
	b.now[n.feature] = left
	ml, dl := b.visit(from, i+n.off, distinct)
	right := splitPath{z: was.z * (1 - s), floor: n.threshold, ceil: was.ceil, repeated: true, fails: was.fails || n.missingRight == 0}
	if was.floor > right.floor {
		right.floor = was.floor
	}
	b.now[n.feature] = right
	mr, dr := b.visit(from, i+n.off+1, distinct)
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
	b.layOut()
	c := &p.chunks[len(p.chunks)-1]
	c.end = len(p.column)
	for len(p.column)%vectorTests != 0 {
		p.tests.pad()
		p.own, p.feature = append(p.own, 0), append(p.feature, 0)
	}
	if c.end-c.splits > tableSplits {
		return
	}
	for i := range c.rules {
		table := make([]lane, (entryRepeated+len(c.z))*c.rules[i].lanes())
		c.rules[i].fill(table, c.z)
		c.tables = append(c.tables, table)
	}
}

// reserve makes room for so many splits, so that growing leaves no garbage.
func (p *shapPlan) reserve(splits int) {
	splits += splits/64*2 + vectorTests
	t := &p.tests
	t.column, t.entry = make([]uint32, 0, splits), make([]uint32, 0, splits)
	t.threshold, t.floor, t.ceil = make([]float32, 0, splits), make([]float32, 0, splits), make([]float32, 0, splits)
	t.share = make([]float64, 0, splits)
	p.own, p.feature = make([]uint32, 0, splits), make([]uint32, 0, splits)
}

func (t *tests) pad() {
	t.column, t.entry = append(t.column, 0), append(t.entry, 0)
	t.threshold, t.floor, t.ceil = append(t.threshold, 0), append(t.floor, 0), append(t.ceil, 0)
	t.share = append(t.share, 0)
}

// layOut appends the trees of the group to the newest chunk.
func (b *shapBuilder) layOut() {
	if len(b.group) == 0 {
		return
	}
	p := b.plan
	c := &p.chunks[len(p.chunks)-1]
	nodes := b.e.nodes
	size := laneSize * c.rules[0].lanes()
	group := shapGroup{roots: uint32(len(b.group))}
	b.twigs, b.queue = b.twigs[:0], b.queue[:0]
	b.path, b.share = b.path[:0], b.share[:0]
	for i, t := range b.group {
		root, _ := b.e.span(t)
		b.queue = append(b.queue, placed{root, int(root) - len(b.path), size * i})
		b.measure(t)
	}
	// Level by level: neighbours in the order do not wait for each other.
	for i := 0; i < len(b.queue); i++ {
		at := b.queue[i]
		n := &nodes[at.node]
		l, r := at.node+n.off, at.node+n.off+1
		switch {
		case n.off == 0:
			p.leaves = append(p.leaves, looseLeaf{slot: uint64(at.slot), value: float64(n.value)})
			group.leaves++
		case nodes[l].off == 0 && nodes[r].off == 0:
			b.twigs = append(b.twigs, at)
		default:
			children := size * (len(b.group) + walkLanes*int(group.inner))
			b.queue = append(b.queue, placed{l, at.from, children}, placed{r, at.from, children + size})
			b.split(c, at.from, at.node, at.slot)
			group.inner++
		}
	}
	for _, at := range b.twigs {
		b.split(c, at.from, at.node, at.slot)
		l := at.node + nodes[at.node].off
		right := float64(nodes[l+1].value)
		p.twigs = append(p.twigs, twig{difference: float64(nodes[l].value) - right, right: right})
	}
	group.twigs = uint32(len(b.twigs))
	c.groups = append(c.groups, group)
	b.group = b.group[:0]
}

// split appends a split whose P and Q are in the given slot.
func (b *shapBuilder) split(c *shapChunk, from int, i uint32, slot int) {
	n, path, p := &b.e.nodes[i], &b.path[int(i)-from], b.plan
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
	p.share = append(p.share, b.share[int(i)-from])
	p.entry = append(p.entry, uint32(laneSize*c.rules[0].lanes()*at))
	p.own = append(p.own, uint32(slot))
	p.feature = append(p.feature, phiLanes*laneSize*uint32(n.feature))
}

// gaussLegendre returns k points on [0, 1], in rules of so many. They are the
// zeros of the Legendre polynomial, found by Newton's method.
func gaussLegendre(k, each int) []rule {
	rules := make([]rule, (k+each-1)/each)
	for i := range rules {
		rules[i] = rule{make([]float64, each), make([]float64, each), make([]float64, each)}
		for j := range each {
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
		r := &rules[i/each]
		t, u := (1+x)/2, (1-x)/2
		r.t[i%each], r.u[i%each], r.weight[i%each] = t, u, 1/((1-x*x)*slope*slope*t*u)
	}
	return rules
}
