package tree

// shapArgs is read by the assembly at fixed offsets.
type shapArgs struct {
	trees   *shapGroup
	n       int
	left    *float64
	step    *float64
	entry   *uint32
	own     *uint32
	feature *uint32
	twigs   *twig
	leaves  *looseLeaf
	table   *lane
	phi     *lane
	work    *lane
	// mask has a bit per feature of the row, for decideSixteen.
	mask uint64
	// What both decide functions read besides.
	groups    int
	row       *float32
	column    *uint32
	threshold *float32
	floor     *float32
	ceil      *float32
	share     *float64
	entries   *uint32
}

// decideEight asks groups of eight tests; decideSixteen groups of sixteen, of a
// row of at most 64 features, which it keeps in registers.
//
//go:noescape
func decideEight(a *shapArgs)

//go:noescape
func decideSixteen(a *shapArgs)

// walkFour walks the trees with a rule of four points, walkEight of eight.
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

// decideVector is decideScalar several splits at a time.
func (w *shapWalk) decideVector(p *shapPlan, c *shapChunk, row []float32) {
	at := c.splits
	a := shapArgs{
		left: &w.left[0], step: &w.step[0], entry: &w.entry[0],
		groups: (c.end - at + vectorTests - 1) / vectorTests, row: &row[0], column: &p.column[at],
		threshold: &p.threshold[at], floor: &p.floor[at], ceil: &p.ceil[at], share: &p.share[at], entries: &p.entry[at],
	}
	if p.vector < 8 || len(row) > 64 {
		a.groups *= vectorTests / 8
		decideEight(&a)
		return
	}
	a.mask = 1<<len(row) - 1
	decideSixteen(&a)
}

// walkVector is walkScalar with as many points at once as the rule has.
func (w *shapWalk) walkVector(p *shapPlan, c *shapChunk, q *rule, table []lane) {
	at := c.splits
	a := shapArgs{
		trees: &c.groups[0], n: len(c.groups), left: &w.left[0], step: &w.step[0], entry: &w.entry[0],
		own: &p.own[at], feature: &p.feature[at], twigs: &p.twigs[c.twigs], leaves: &p.leaves[c.leaves],
		table: &table[0], phi: &w.phi[0], work: &w.work[0],
	}
	if q.lanes() == 2 {
		walkEight(&a)
		return
	}
	walkFour(&a)
}
