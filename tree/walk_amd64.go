package tree

import "math"

// walkVector adds to acc the leaves that pairs of groups of 16 trees give a row of at
// most 64 features. mask has a bit per feature of the row.
//
//go:noescape
func walkVector(compact *uint64, nodes *node, roots *uint32, pairs int, row *float32, mask uint64, acc *[lanes]float64)

// compactNodes packs each node's test into one word for walkVector: the
// threshold below, and above it 16 bits of off, the feature, and missingRight.
// It is nil where the words or the registers do not suffice.
func (e *Ensemble) compactNodes() []uint64 {
	if e.features > 64 || len(e.nodes) > 1<<29 || !vectorUnit() {
		return nil
	}
	out := make([]uint64, len(e.nodes))
	for i := range e.nodes {
		n := &e.nodes[i]
		if n.off > 0xffff {
			return nil
		}
		meta := n.off | uint32(n.feature)<<16 | uint32(n.missingRight)<<31
		out[i] = uint64(meta)<<32 | uint64(math.Float32bits(n.threshold))
	}
	return out
}

// addLeaves adds the leaves of the trees from pair first on, for one row.
func (e *Ensemble) addLeaves(first, pairs int, row []float32, acc *[lanes]float64) {
	if e.compact == nil {
		e.addLeavesScalar(first, pairs, row, acc)
		return
	}
	if pairs > 0 {
		walkVector(&e.compact[0], &e.nodes[0], &e.roots[first*2*lanes], pairs, &row[0], 1<<len(row)-1, acc)
	}
}
