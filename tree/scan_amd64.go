package tree

// vectorArgs is read and written by scanVector at fixed offsets.
type vectorArgs struct {
	acc         int64
	gradShift   uint64
	weightShift uint64
	weightMask  int64
	countMask   int64
	least, last int64
	limit       int64
	lambda      float64
	grad        float64
	weight      float64
	num, den    [8]float64
	bin, at     [8]int64
}

//go:noescape
func scanVector(h *column, vectors int, a *vectorArgs)

//go:noescape
func cpuid(leaf, sub uint32) (a, b, c, d uint32)

//go:noescape
func xgetbv() uint32

// vectorUnit tells whether scanVector can run: AVX-512 F and DQ, with the
// registers kept by the operating system.
func vectorUnit() bool {
	const (
		osxsave = 1 << 27
		f, dq   = 1 << 16, 1 << 17
		state   = 0xe6
	)
	most, _, _, _ := cpuid(0, 0)
	_, _, c, _ := cpuid(1, 0)
	if most < 7 || c&osxsave == 0 || xgetbv()&state != state {
		return false
	}
	_, b, _, _ := cpuid(7, 0)
	return b&(f|dq) == f|dq
}

// scanLanes is scan eight bins at a time. Each lane keeps a best of its own;
// the earliest bin wins a tie, as in scanBins. At least one row must have come
// to those in acc: scanBins does not stop at empty bins either.
func (s *scanner) scanLanes(bins int, acc int64, h *column, c *choice) {
	total := s.total.a
	a := vectorArgs{
		acc: acc, gradShift: uint64(s.gradShift), weightShift: uint64(s.weightShift),
		weightMask: s.weightMask, countMask: s.countMask,
		least: max(s.minLeaf, acc&s.countMask+1), last: total&s.countMask - s.minLeaf, limit: int64(bins - 1),
		lambda: s.lambda,
		grad:   float64(total >> s.gradShift),
		weight: float64(total>>s.weightShift&s.weightMask) + 2*s.lambda,
		den:    [8]float64{1, 1, 1, 1, 1, 1, 1, 1},
	}
	scanVector(h, (bins-1+7)/8, &a)
	for i, num := range a.num {
		l, r := num*c.den, c.num*a.den[i]
		if l > r || l == r && num > 0 && int(a.bin[i]) < c.bin {
			*c = choice{num: num, den: a.den[i], bin: int(a.bin[i]), acc: a.at[i]}
		}
	}
}
