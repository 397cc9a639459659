package tree

// shapWalk is the memory that the explanation of one row needs.
type shapWalk struct {
	// What the row decides, per split of a chunk: whether it goes left, that
	// less the left child's share of the cover, and the place of the split's
	// entry in the table, in bytes.
	left, step []float64
	entry      []uint32
	// slots hold P and later Q: the root's, then those of the children of each
	// inner split.
	slots []points
	// kept has, per inner split, the factor of its left child and the weight of
	// the difference of the children.
	kept []points
	// phi has a sum per column and point.
	phi   []points
	table []entry // for trees too large to keep theirs
}

func (p *shapPlan) newWalk() any {
	splits, inner, repeated := 0, 0, 0
	columns := uint32(0)
	for i := range p.chunks {
		c := &p.chunks[i]
		splits = max(splits, c.end-c.splits)
		for _, t := range c.trees {
			inner = max(inner, int(t.inner))
		}
		if c.tables == nil {
			repeated = max(repeated, len(c.z))
		}
	}
	for _, at := range p.feature {
		columns = max(columns, at/pointsSize+1)
	}
	splits = (splits + vectorTests - 1) / vectorTests * vectorTests
	return &shapWalk{
		left: make([]float64, splits), step: make([]float64, splits), entry: make([]uint32, splits),
		slots: make([]points, 2*inner+1), kept: make([]points, 2*inner+1), phi: make([]points, columns),
		table: make([]entry, entryRepeated+repeated),
	}
}

// row explains one row.
func (w *shapWalk) row(p *shapPlan, row []float32, phi []float64, scale float64) {
	clear(w.phi)
	for i := range p.chunks {
		c := &p.chunks[i]
		if p.vector > 0 {
			w.decideVector(p, c, row)
		} else {
			w.decideScalar(p, c, row)
		}
		for r := range c.rules {
			table := w.table
			if c.tables != nil {
				table = c.tables[r]
			} else {
				c.rules[r].fill(table, c.z)
			}
			if p.vector > 0 {
				w.walkVector(p, c, &c.rules[r], table, p.vector)
				continue
			}
			w.walkScalar(p, c, table, 0)
			if !c.rules[r].small() {
				w.walkScalar(p, c, table, 1)
			}
		}
	}
	clear(phi)
	for f := range w.phi {
		q := &w.phi[f]
		phi[f] = scale * (((q[0].a + q[1].a) + (q[0].b + q[1].b)) + ((q[0].c + q[1].c) + (q[0].d + q[1].d)))
	}
}

// fill writes the table of a chunk.
func (q *rule) fill(table []entry, z []float64) {
	table[entryClosed], table[entryFirst] = closedEntry(), q.entry(1)
	for i, z := range z {
		table[entryRepeated+i] = q.entry(z)
	}
}

// decideScalar asks the row every test of the chunk. Which way it goes is hard
// to guess, so there are no branches.
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

// walkScalar adds the contributions of the chunk's trees at half the points
// of a rule. Down the tree it spreads P, up again it gathers Q.
func (w *shapWalk) walkScalar(p *shapPlan, c *shapChunk, table []entry, half int) {
	own, feature := p.own[c.splits:c.end], p.feature[c.splits:c.end]
	left, step, entry := w.left[:len(own)], w.step[:len(own)], w.entry[:len(own)]
	twigs, leaves := p.twigs[c.twigs:], p.leaves[c.leaves:]
	for _, t := range c.trees {
		inner := int(t.inner)
		w.slots[0][0] = lane{1, 1, 1, 1}
		for i := range inner {
			e := &table[entry[i]/entrySize]
			w.down(&e.b[half], &e.weight[half], left[i], step[i], &w.slots[own[i]/pointsSize][0], i)
		}
		for i := inner; i < inner+int(t.twigs); i++ {
			e := &table[entry[i]/entrySize]
			twigs[i-inner].visit(&e.b[half], &e.weight[half], left[i], step[i],
				&w.slots[own[i]/pointsSize][0], &w.phi[feature[i]/pointsSize][0])
		}
		for _, l := range leaves[:t.leaves] {
			w.slots[l.slot/pointsSize][0] = lane{l.value, l.value, l.value, l.value}
		}
		for i := inner - 1; i >= 0; i-- {
			w.up(&w.slots[own[i]/pointsSize][0], &w.phi[feature[i]/pointsSize][0], i)
		}
		twigs, leaves = twigs[t.twigs:], leaves[t.leaves:]
		n := inner + int(t.twigs)
		own, feature, left, step, entry = own[n:], feature[n:], left[n:], step[n:], entry[n:]
	}
}

// down visits inner split i of its tree, above which P is.
func (w *shapWalk) down(b, weight *lane, left, step float64, above *lane, i int) {
	children, kept := (*[2]points)(w.slots[2*i+1:]), (*[2]points)(w.kept[2*i:])
	factor, gain := &kept[0][0], &kept[1][0]
	l, r := &children[0][0], &children[1][0]
	at := *above
	s := lane{b.a * step, b.b * step, b.c * step, b.d * step}
	*gain = lane{weight.a * s.a * at.a, weight.b * s.b * at.b, weight.c * s.c * at.c, weight.d * s.d * at.d}
	s = lane{left - s.a, left - s.b, left - s.c, left - s.d}
	*factor = s
	s = lane{s.a * at.a, s.b * at.b, s.c * at.c, s.d * at.d}
	*l = s
	*r = lane{at.a - s.a, at.b - s.b, at.c - s.c, at.d - s.d}
}

// visit visits a split above two leaves: down and up at once.
func (t *twig) visit(b, weight *lane, left, step float64, own, phi *lane) {
	d := t.difference
	s := lane{b.a * step, b.b * step, b.c * step, b.d * step}
	phi.a += weight.a * s.a * own.a * d
	phi.b += weight.b * s.b * own.b * d
	phi.c += weight.c * s.c * own.c * d
	phi.d += weight.d * s.d * own.d * d
	*own = lane{t.right + (left-s.a)*d, t.right + (left-s.b)*d, t.right + (left-s.c)*d, t.right + (left-s.d)*d}
}

// up visits inner split i again, when its children have been.
func (w *shapWalk) up(own, phi *lane, i int) {
	children, kept := (*[2]points)(w.slots[2*i+1:]), (*[2]points)(w.kept[2*i:])
	factor, gain := &kept[0][0], &kept[1][0]
	l, r := &children[0][0], children[1][0]
	d := lane{l.a - r.a, l.b - r.b, l.c - r.c, l.d - r.d}
	phi.a += gain.a * d.a
	phi.b += gain.b * d.b
	phi.c += gain.c * d.c
	phi.d += gain.d * d.d
	*own = lane{r.a + factor.a*d.a, r.b + factor.b*d.b, r.c + factor.c*d.c, r.d + factor.d*d.d}
}
