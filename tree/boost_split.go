package tree

// pair is what one split leaves to be searched: the histogram of small is
// built from its rows; that of large, if wanted, is what remains of the
// parent's.
type pair struct {
	small, large *candidate
	// skipSmall is set where small is built for large's sake alone.
	skipSmall bool
}

// expand partitions the rows of the candidates and finds the best split of
// each child.
func (b *booster) expand(ready []*candidate) {
	b.pool.run(len(ready), func(_, i int) { b.partition(ready[i]) })
	var pairs []pair
	for _, c := range ready {
		pairs = b.plan(c, pairs)
	}
	b.evaluate(pairs)
}

// partition sorts a node's rows into left and right, each in order, and makes
// the children.
func (b *booster) partition(c *candidate) {
	slot := b.slotOf(c.best.feature)
	words, shift := b.words[slot/pack], uint(8*(slot%pack))
	// Adding one turns the missing bin into 0, below every edge.
	up := uint8(b2u(c.best.missLeft))
	edge := c.best.bin + up
	idx := b.idx[c.start:c.end]
	right := b.buf[c.start:c.end]
	l, r := 0, 0
	for _, row := range idx {
		bin := uint8(words[row]>>(shift&63)) + up
		idx[l] = row
		right[r] = row
		goes := int(b2u(bin > edge))
		l += 1 - goes
		r += goes
	}
	copy(idx[l:], right[:r])
	mid := c.start + l
	c.left = &candidate{start: c.start, end: mid, depth: c.depth + 1, total: c.best.left, lower: c.lower, upper: c.upper}
	c.right = &candidate{start: mid, end: c.end, depth: c.depth + 1, total: c.total.minus(c.best.left), lower: c.lower, upper: c.upper}
	kl, kr := derive(c.key, 1), derive(c.key, 2)
	c.left.key, c.right.key = uint64(kl), uint64(kr)
	if b.p.MonotonicCst != nil {
		b.bound(c)
	}
}

func (b *booster) slotOf(feature int32) int {
	lo, hi := 0, len(b.slots)
	for hi-lo > 1 {
		if mid := (lo + hi) / 2; b.slots[mid] <= int(feature) {
			lo = mid
		} else {
			hi = mid
		}
	}
	return lo
}

// bound keeps everything below the left child on the right side of everything
// below the right child, as scikit-learn does: the middle of their values.
func (b *booster) bound(c *candidate) {
	cst := b.p.MonotonicCst[c.best.feature]
	if cst == 0 {
		return
	}
	mid := (b.nodeValue(c.left) + b.nodeValue(c.right)) / 2
	if cst > 0 {
		c.left.upper, c.right.lower = mid, mid
	} else {
		c.left.lower, c.right.upper = mid, mid
	}
}

// nodeValue is the bounded Newton step of a node.
func (b *booster) nodeValue(c *candidate) float64 {
	t := &b.grow
	g := t.scan.grad(c.total) * t.gradUnit
	h := t.scan.weight(c.total)*t.hessUnit + b.p.L2Regularization
	if h <= 0 {
		return 0
	}
	return min(max(-g/h, c.lower), c.upper)
}

// plan decides how the children's histograms come about. The parent's is
// handed to the larger child.
func (b *booster) plan(c *candidate, pairs []pair) []pair {
	small, large := c.left, c.right
	if small.end-small.start > large.end-large.start {
		small, large = large, small
	}
	sOpen, lOpen := b.splittable(small), b.splittable(large)
	hist := c.hist
	c.hist = nil
	switch {
	case !sOpen && !lOpen:
		b.free = append(b.free, hist)
		return pairs
	case !lOpen:
		small.hist = hist
		return append(pairs, pair{small: small})
	default:
		small.hist = b.newHist()
		large.hist = hist
		return append(pairs, pair{small: small, large: large, skipSmall: !sOpen})
	}
}

// evaluate builds the histograms of the pairs and finds the best splits, a
// group of columns per task.
func (b *booster) evaluate(pairs []pair) {
	if len(pairs) == 0 {
		return
	}
	groups := len(b.words)
	need := groups * len(pairs) * 2
	if cap(b.results) < need {
		b.results = make([]split, need)
	}
	results := b.results[:need]
	clear(results)
	masks := b.drawColumns(pairs)
	b.pool.run(groups, func(_, g int) {
		for i := range pairs {
			out := results[(g*len(pairs)+i)*2:]
			b.evaluateGroup(g, &pairs[i], masks, i, out[:2:2])
		}
	})
	for i := range pairs {
		for g := range groups {
			out := results[(g*len(pairs)+i)*2:]
			keepBetter(pairs[i].small, &out[0])
			keepBetter(pairs[i].large, &out[1])
		}
		for _, c := range []*candidate{pairs[i].small, pairs[i].large} {
			if c != nil && c.best.gain <= 0 {
				b.release(c)
			}
		}
	}
}

func keepBetter(c *candidate, s *split) {
	if c != nil && s.gain > c.best.gain {
		c.best = *s
	}
}

// drawColumns draws the columns to be searched for each node from the node's
// own generator, as a flag per slot; nil means all.
func (b *booster) drawColumns(pairs []pair) [][2][]bool {
	k := max(1, int(b.p.MaxFeatures*float64(len(b.slots))))
	if b.p.MaxFeatures == 1 || k == len(b.slots) {
		return nil
	}
	masks := make([][2][]bool, len(pairs))
	order := make([]int, len(b.slots))
	for i := range pairs {
		for side, c := range []*candidate{pairs[i].small, pairs[i].large} {
			if c == nil {
				continue
			}
			r := derive(c.key, 3)
			mask := make([]bool, len(order))
			for j := range order {
				order[j] = j
			}
			for j := range k {
				o := j + r.below(len(order)-j)
				order[j], order[o] = order[o], order[j]
				mask[order[j]] = true
			}
			masks[i][side] = mask
		}
	}
	return masks
}

func (b *booster) evaluateGroup(g int, p *pair, masks [][2][]bool, i int, out []split) {
	first := g * pack
	width := min(pack, len(b.slots)-first)
	planes := [][]int64{b.grad}
	if b.wide {
		planes = append(planes, b.hess)
	}
	rows := b.idx[p.small.start:p.small.end]
	for plane, values := range planes {
		at := g + plane*len(b.words)
		small := &p.small.hist[at]
		clear(small[:width])
		buildBlock(small, width, b.words[g], rows, values)
		if p.large != nil {
			subtractBlock(&p.large.hist[at], small, width)
		}
	}
	if !p.skipSmall {
		b.searchGroup(g, p.small, maskOf(masks, i, 0), &out[0])
	}
	if p.large != nil {
		b.searchGroup(g, p.large, maskOf(masks, i, 1), &out[1])
	}
}

func maskOf(masks [][2][]bool, i, side int) []bool {
	if masks == nil {
		return nil
	}
	return masks[i][side]
}

func (b *booster) searchGroup(g int, c *candidate, mask []bool, best *split) {
	t := &b.grow
	s := t.scan
	s.total = c.total
	s.lower, s.upper = c.lower*t.hessUnit/t.gradUnit, c.upper*t.hessUnit/t.gradUnit
	first := g * pack
	for j, f := range b.slots[first:min(first+pack, len(b.slots))] {
		if mask != nil && !mask[first+j] {
			continue
		}
		var cst int8
		if b.p.MonotonicCst != nil {
			cst = b.p.MonotonicCst[f]
		}
		h := &c.hist[g][j]
		h2 := h
		if b.wide {
			h2 = &c.hist[g+len(b.words)][j]
		}
		s.search(f, len(b.bin.edges[f])+1, b.bin.missing[f], cst, h, h2, best)
	}
}

// buildBlock adds the rows' values to the histograms of a group of columns.
func buildBlock(h *block, width int, words []uint64, rows []uint32, values []int64) {
	switch {
	case width > 4:
		for _, r := range rows {
			w, v := words[r], values[r]
			h[0][uint8(w)] += v
			h[1][uint8(w>>8)] += v
			h[2][uint8(w>>16)] += v
			h[3][uint8(w>>24)] += v
			h[4][uint8(w>>32)] += v
			h[5][uint8(w>>40)] += v
			h[6][uint8(w>>48)] += v
			h[7][uint8(w>>56)] += v
		}
	case width > 2:
		for _, r := range rows {
			w, v := words[r], values[r]
			h[0][uint8(w)] += v
			h[1][uint8(w>>8)] += v
			h[2][uint8(w>>16)] += v
			h[3][uint8(w>>24)] += v
		}
	default:
		for _, r := range rows {
			w, v := words[r], values[r]
			h[0][uint8(w)] += v
			h[1][uint8(w>>8)] += v
		}
	}
}

func subtractBlock(h, small *block, width int) {
	for j := range width {
		a, s := &h[j], &small[j]
		for b := range a {
			a[b] -= s[b]
		}
	}
}

// finish sets the leaves' values, adds them to the predictions, and hands the
// tree over.
func (b *booster) finish(rows int) *grown {
	t := &b.grow
	t.cover = make([]float32, len(t.nodes))
	b.pool.run(len(t.leaves), func(_, i int) {
		c := t.leaves[i]
		v := b.nodeValue(c)
		if b.p.refits() {
			v = min(max(b.residualCentre(c), c.lower), c.upper)
		}
		value := float32(v * b.p.LearningRate)
		t.nodes[c.id].value = value
		cover := float64(c.end - c.start)
		if b.w != nil {
			cover = 0
		}
		for _, row := range b.idx[c.start:c.end] {
			b.pred[row] += float64(value)
			if b.w != nil {
				cover += b.w[row]
			}
		}
		t.cover[c.id] = float32(cover)
	})
	coverParents(t.nodes, t.cover)
	if rows < b.n {
		b.addUnsampled(rows)
	}
	return &grown{nodes: t.nodes, cover: t.cover, gain: t.gain}
}

// coverParents sums leaf cover upwards; children follow their parents.
func coverParents(nodes []node, cover []float32) {
	for i := len(nodes) - 1; i >= 0; i-- {
		if off := int(nodes[i].off); off != 0 {
			cover[i] = cover[i+off] + cover[i+off+1]
		}
	}
}

// residualCentre is the leaf value that minimises the loss.
func (b *booster) residualCentre(c *candidate) float64 {
	v := make([]float64, 0, c.end-c.start)
	var w []float64
	for _, row := range b.idx[c.start:c.end] {
		v = append(v, b.y[row]-b.pred[row])
		if b.w != nil {
			w = append(w, b.w[row])
		}
	}
	return b.p.centre(v, w)
}

// addUnsampled adds the tree to the predictions of rows it was not grown on,
// by their bins.
func (b *booster) addUnsampled(rows int) {
	seen := make([]bool, b.n)
	for _, row := range b.idx[:rows] {
		seen[row] = true
	}
	t := &b.grow
	splitBin := make([]uint8, len(t.nodes))
	slot := make([]int, len(t.nodes))
	for i := range t.nodes {
		if n := &t.nodes[i]; n.off != 0 {
			slot[i] = b.slotOf(int32(n.feature))
			splitBin[i] = edgeIndex(b.bin.edges[n.feature], n.threshold)
		}
	}
	b.chunks(func(_, first, end int) {
		for row := first; row < end; row++ {
			if seen[row] {
				continue
			}
			i := uint32(0)
			for t.nodes[i].off != 0 {
				n := &t.nodes[i]
				bin := uint8(b.words[slot[i]/pack][row] >> (8 * (slot[i] % pack)))
				right := b2u(bin > splitBin[i])
				if bin == missingBin {
					right = uint32(n.missingRight)
				}
				i += n.off + right
			}
			b.pred[row] += float64(t.nodes[i].value)
		}
	})
}

func edgeIndex(edges []float32, v float32) uint8 {
	lo, hi := 0, len(edges)-1
	for lo < hi {
		if mid := (lo + hi) / 2; edges[mid] < v {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return uint8(lo)
}
