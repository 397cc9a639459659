//go:build !amd64

package tree

func vectorUnit() bool { return false }

func (s *scanner) scanLanes(bins int, acc int64, h *column, c *choice) {
	s.scanBins(bins, acc, h, c)
}

func (e *Ensemble) compactNodes() []uint64 { return nil }

func (e *Ensemble) addLeaves(first, pairs int, row []float32, acc *[lanes]float64) {
	e.addLeavesScalar(first, pairs, row, acc)
}
