package tree

// shapWalk is the memory that the explanation of one row needs.
type shapWalk struct {
	// What the row decides, per split of a chunk: whether it goes left, that
	// less the left child's share of the cover, and the place of the split's
	// entry in the table.
	left, step []float64
	entry      []uint32
	// work holds P and later Q of the roots of a group of trees. Then come, for
	// each inner split, those of its left and of its right child, the factor of
	// the left child, and the weight of the difference of the children.
	work []lane
	// phi has a sum per column and point.
	phi   []lane
	table []lane // for trees too large to keep theirs
}

const (
	// walkLanes is what an inner split needs of work, in lanes of a rule of four
	// points.
	walkLanes = 4
	// phiLanes is what a column has of phi.
	phiLanes = 2
)

func (p *shapPlan) newWalk() any {
	splits, work, table := 0, 0, 0
	columns := uint32(0)
	for i := range p.chunks {
		c := &p.chunks[i]
		lanes := c.rules[0].lanes()
		splits = max(splits, c.end-c.splits)
		for _, t := range c.groups {
			work = max(work, lanes*(int(t.roots)+walkLanes*int(t.inner)))
		}
		if c.tables == nil {
			table = max(table, lanes*(entryRepeated+len(c.z)))
		}
	}
	for _, at := range p.feature {
		columns = max(columns, at/(phiLanes*laneSize)+1)
	}
	splits = (splits + vectorTests - 1) / vectorTests * vectorTests
	return &shapWalk{
		left: make([]float64, splits), step: make([]float64, splits), entry: make([]uint32, splits),
		work: make([]lane, work), phi: make([]lane, phiLanes*columns), table: make([]lane, table),
	}
}

// row explains one row.
func (w *shapWalk) row(p *shapPlan, row []float32, phi []float64, scale float64) {
	clear(w.phi)
	clear(phi)
	var summed *rule // whose sums are in w.phi
	for i := range p.chunks {
		c := &p.chunks[i]
		w.decide(p, c, row)
		for r := range c.rules {
			q := &c.rules[r]
			if summed != nil && summed != q {
				w.add(summed, phi, scale)
			}
			summed = q
			table := w.table
			if c.tables != nil {
				table = c.tables[r]
			} else {
				q.fill(table, c.z)
			}
			w.walk(p, c, q, table)
		}
	}
	if summed != nil {
		w.add(summed, phi, scale)
	}
}

// add adds the sums at the points of q to the contributions and clears them.
func (w *shapWalk) add(q *rule, phi []float64, scale float64) {
	lanes := q.lanes()
	for f := range len(w.phi) / phiLanes {
		sum := 0.0
		for i, v := range w.phi[phiLanes*f:][:lanes] {
			weight := q.weight[4*i:][:4]
			sum += (weight[0]*v.a + weight[1]*v.b) + (weight[2]*v.c + weight[3]*v.d)
		}
		phi[f] += scale * sum
	}
	clear(w.phi)
}

// fill writes the table of a chunk: b, as SHAP tells it, of splits whose feature
// lets z of the cover pass above.
func (q *rule) fill(table []lane, z []float64) {
	lanes := q.lanes()
	at := func(i int) []lane { return table[i*lanes:][:lanes] }
	q.set(at(entryClosed), func(t, u float64) float64 { return 1 })
	q.set(at(entryFirst), func(t, u float64) float64 { return u / (t + u) })
	for i, z := range z {
		q.set(at(entryRepeated+i), func(t, u float64) float64 { return u * z / (t + u*z) })
	}
}

// decide asks the row every test of the chunk.
func (w *shapWalk) decide(p *shapPlan, c *shapChunk, row []float32) {
	if p.vector > 0 {
		w.decideVector(p, c, row)
		return
	}
	w.decideScalar(p, c, row)
}

// decideScalar is decide. Which way the row goes is hard to guess, so there are
// no branches.
func (w *shapWalk) decideScalar(p *shapPlan, c *shapChunk, row []float32) {
	column := p.column[c.splits:c.end]
	n := len(column)
	threshold, floor, ceil := p.threshold[c.splits:][:n], p.floor[c.splits:][:n], p.ceil[c.splits:][:n]
	share, entry := p.share[c.splits:][:n], p.entry[c.splits:][:n]
	toLeft, step, to := w.left[:n], w.step[:n], w.entry[:n]
	for i, column := range column {
		v := row[column&columnMask]
		missing := b2u(v != v)
		left := float64(int32(b2u(v <= threshold[i]) | missing&(column>>31)))
		fails := b2u(v <= floor[i]) | b2u(v > ceil[i]) | missing&(column>>30)
		toLeft[i], step[i], to[i] = left, left-share[i], entry[i]&(fails-1)
	}
}

// walk adds the contributions of the chunk's trees at the points of a rule.
func (w *shapWalk) walk(p *shapPlan, c *shapChunk, q *rule, table []lane) {
	if p.vector > 0 {
		w.walkVector(p, c, q, table)
		return
	}
	w.walkScalar(p, c, table)
}

// walkScalar is walk, of four points. Down the trees it spreads P, up again it
// gathers Q.
func (w *shapWalk) walkScalar(p *shapPlan, c *shapChunk, table []lane) {
	own, feature := p.own[c.splits:c.end], p.feature[c.splits:c.end]
	left, step, entry := w.left[:len(own)], w.step[:len(own)], w.entry[:len(own)]
	twigs, leaves := p.twigs[c.twigs:], p.leaves[c.leaves:]
	for _, t := range c.groups {
		inner := int(t.inner)
		for i := range t.roots {
			w.work[i] = lane{1, 1, 1, 1}
		}
		splits := w.work[t.roots:]
		for i := range inner {
			down((*[walkLanes]lane)(splits[walkLanes*i:]), &table[entry[i]/laneSize], left[i], step[i], &w.work[own[i]/laneSize])
		}
		for i := inner; i < inner+int(t.twigs); i++ {
			twigs[i-inner].visit(&table[entry[i]/laneSize], left[i], step[i], &w.work[own[i]/laneSize], &w.phi[feature[i]/laneSize])
		}
		for _, l := range leaves[:t.leaves] {
			w.work[l.slot/laneSize] = lane{l.value, l.value, l.value, l.value}
		}
		for i := inner - 1; i >= 0; i-- {
			up((*[walkLanes]lane)(splits[walkLanes*i:]), &w.work[own[i]/laneSize], &w.phi[feature[i]/laneSize])
		}
		twigs, leaves = twigs[t.twigs:], leaves[t.leaves:]
		n := inner + int(t.twigs)
		own, feature, left, step, entry = own[n:], feature[n:], left[n:], step[n:], entry[n:]
	}
}

// down visits an inner split, above which P is.
func down(to *[walkLanes]lane, b *lane, left, step float64, above *lane) {
	at := *above
	s := lane{b.a * step, b.b * step, b.c * step, b.d * step}
	factor := lane{left - s.a, left - s.b, left - s.c, left - s.d}
	s = lane{s.a * at.a, s.b * at.b, s.c * at.c, s.d * at.d}
	to[3] = lane{s.a - b.a*s.a, s.b - b.b*s.b, s.c - b.c*s.c, s.d - b.d*s.d}
	to[2] = factor
	factor = lane{factor.a * at.a, factor.b * at.b, factor.c * at.c, factor.d * at.d}
	to[0] = factor
	to[1] = lane{at.a - factor.a, at.b - factor.b, at.c - factor.c, at.d - factor.d}
}

// visit visits a split above two leaves: down and up at once.
func (t *twig) visit(b *lane, left, step float64, own, phi *lane) {
	d := t.difference
	s := lane{b.a * step, b.b * step, b.c * step, b.d * step}
	p := lane{s.a * own.a, s.b * own.b, s.c * own.c, s.d * own.d}
	phi.a += (p.a - b.a*p.a) * d
	phi.b += (p.b - b.b*p.b) * d
	phi.c += (p.c - b.c*p.c) * d
	phi.d += (p.d - b.d*p.d) * d
	*own = lane{t.right + (left-s.a)*d, t.right + (left-s.b)*d, t.right + (left-s.c)*d, t.right + (left-s.d)*d}
}

// up visits an inner split again, when its children have been.
func up(at *[walkLanes]lane, own, phi *lane) {
	l, r, factor, gain := &at[0], at[1], &at[2], &at[3]
	d := lane{l.a - r.a, l.b - r.b, l.c - r.c, l.d - r.d}
	phi.a += gain.a * d.a
	phi.b += gain.b * d.b
	phi.c += gain.c * d.c
	phi.d += gain.d * d.d
	*own = lane{r.a + factor.a*d.a, r.b + factor.b*d.b, r.c + factor.c*d.c, r.d + factor.d*d.d}
}
