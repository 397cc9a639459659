package tree

// shapArgs is read by the assembly at fixed offsets.
type shapArgs struct {
	trees   *shapTree
	n       int
	left    *float64
	step    *float64
	entry   *uint32
	own     *uint32
	feature *uint32
	twigs   *twig
	leaves  *looseLeaf
	table   *lane
	phi     *points
	slots   *points
	kept    *points
	// What decideEight reads besides.
	groups    int
	row       *float32
	column    *uint32
	threshold *float32
	floor     *float32
	ceil      *float32
	share     *float64
	entries   *uint32
}

// decideEight asks groups of eight tests.
//
//go:noescape
func decideEight(a *shapArgs)

// walkFour walks the trees with four points, walkEight with eight.
//
//go:noescape
func walkFour(a *shapArgs)

//go:noescape
func walkEight(a *shapArgs)

// vectorShap tells how many points can be walked at once with vectors: eight
// with AVX-512, four with AVX2 and FMA, else none.
func vectorShap() int {
	const (
		fma, osxsave, avx = 1 << 12, 1 << 27, 1 << 28
		avx2              = 1 << 5
		state             = 0x6
	)
	if vectorUnit() {
		return 8
	}
	most, _, _, _ := cpuid(0, 0)
	_, _, c, _ := cpuid(1, 0)
	if most < 7 || c&(fma|osxsave|avx) != fma|osxsave|avx || xgetbv()&state != state {
		return 0
	}
	if _, b, _, _ := cpuid(7, 0); b&avx2 == 0 {
		return 0
	}
	return 4
}

// decideVector is decideScalar eight splits at a time.
func (w *shapWalk) decideVector(p *shapPlan, c *shapChunk, row []float32) {
	at := c.splits
	a := shapArgs{
		left: &w.left[0], step: &w.step[0], entry: &w.entry[0],
		groups: (c.end - at + vectorTests - 1) / vectorTests, row: &row[0], column: &p.column[at],
		threshold: &p.threshold[at], floor: &p.floor[at], ceil: &p.ceil[at], share: &p.share[at], entries: &p.entry[at],
	}
	decideEight(&a)
}

// walkVector is walkScalar with at most so many points at once, for all points
// of the rule.
func (w *shapWalk) walkVector(p *shapPlan, c *shapChunk, q *rule, table []entry, most int) {
	at := c.splits
	a := shapArgs{
		trees: &c.trees[0], n: len(c.trees), left: &w.left[0], step: &w.step[0], entry: &w.entry[0],
		own: &p.own[at], feature: &p.feature[at], twigs: &p.twigs[c.twigs], leaves: &p.leaves[c.leaves],
		table: &table[0].b[0], phi: &w.phi[0], slots: &w.slots[0], kept: &w.kept[0],
	}
	switch {
	case q.small():
		walkFour(&a)
	case most == 8:
		walkEight(&a)
	default:
		walkFour(&a)
		a.table = &table[0].b[1]
		walkFour(&a)
	}
}
