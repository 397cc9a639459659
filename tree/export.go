package tree

// Node is one node of a tree, for exporters. Left and Right are positions in
// the slice that Ensemble.Tree returns; node 0 is the root.
type Node struct {
	Leaf bool
	// Feature is the column compared: x <= Threshold goes left.
	Feature   int
	Threshold float32
	// MissingLeft tells where a NaN goes.
	MissingLeft bool
	Left, Right int
	// Value is a leaf's term in the sum: a prediction is Base + Scale times
	// the sum over trees.
	Value float64
	// Cover is the weight of training rows that passed the node.
	Cover float64
}

// Base is the constant term of every prediction.
func (e *Ensemble) Base() float64 { return e.base }

// Scale is the factor on the sum of the leaves: 1 for boosting, whose leaves
// are already shrunk by the learning rate, and 1/NumTrees for forests.
func (e *Ensemble) Scale() float64 { return e.scale }

// Tree returns the nodes of tree t, parents before children; nil when there is
// no such tree.
func (e *Ensemble) Tree(t int) []Node {
	if t < 0 || t >= e.trees {
		return nil
	}
	first, end := e.span(t)
	out := make([]Node, 0, end-first)
	for i := first; i < end; i++ {
		n := &e.nodes[i]
		if n.off == 0 {
			out = append(out, Node{Leaf: true, Value: float64(n.value), Cover: float64(e.cover[i])})
			continue
		}
		left := int(i-first) + int(n.off)
		out = append(out, Node{
			Feature: int(n.feature), Threshold: n.threshold, MissingLeft: n.missingRight == 0,
			Left: left, Right: left + 1, Cover: float64(e.cover[i]),
		})
	}
	return out
}
