//go:build !amd64

package tree

func vectorUnit() bool { return false }

func vectorShap() int { return 0 }

// decideVector and walkVector are never called: vectorShap says so.
func (w *shapWalk) decideVector(p *shapPlan, c *shapChunk, row []float32) {
	w.decideScalar(p, c, row)
}

func (w *shapWalk) walkVector(p *shapPlan, c *shapChunk, q *rule, table []lane) {}

func (s *scanner) scanLanes(bins int, acc int64, h *column, c *choice) {
	s.scanBins(bins, acc, h, c)
}

func (e *Ensemble) compactNodes() []uint64 { return nil }

func (e *Ensemble) addLeaves(first, pairs int, row []float32, acc *[lanes]float64) {
	e.addLeavesScalar(first, pairs, row, acc)
}
