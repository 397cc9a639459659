//go:build !amd64

package tree

func vectorUnit() bool { return false }

func (s *scanner) scanLanes(bins int, acc int64, h *column, c *choice) {
	s.scanBins(bins, acc, h, c)
}
