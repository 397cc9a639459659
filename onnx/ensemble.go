package onnx

import (
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

const mlDomain = "ai.onnx.ml"

// attribute is one list attribute of a TreeEnsembleRegressor with an element a node, or a leaf.
type attribute struct {
	name   string
	field  protowire.Number // of AttributeProto
	kind   int64            // AttributeProto.AttributeType
	leaves bool             // an element for each leaf only
	add    func(b []byte, at *position, n *Node) []byte
}

// position is where a node stands.
type position struct {
	tree, node int
	// A leaf is written as scale · (value − centre).
	scale, centre float64
}

func ints(name string, leaves bool, value func(at *position, n *Node) int) attribute {
	return attribute{name, attributeInts, typeInts, leaves, func(b []byte, at *position, n *Node) []byte {
		return protowire.AppendVarint(b, uint64(value(at, n)))
	}}
}

func floats(name string, leaves bool, value func(at *position, n *Node) float32) attribute {
	return attribute{name, attributeFloats, typeFloats, leaves, func(b []byte, at *position, n *Node) []byte {
		return protowire.AppendFixed32(b, math.Float32bits(value(at, n)))
	}}
}

// branch returns value for a branch and 0 for a leaf.
func branch(value func(n *Node) int) func(*position, *Node) int {
	return func(_ *position, n *Node) int {
		if n.Leaf {
			return 0
		}
		return value(n)
	}
}

// attributes lists what a TreeEnsembleRegressor says of its nodes. Lists of numbers are packed: every reader of
// protocol buffers must take them, and they take half the space.
func attributes() []attribute {
	treeID := func(at *position, _ *Node) int { return at.tree }
	nodeID := func(at *position, _ *Node) int { return at.node }
	return []attribute{
		ints("nodes_treeids", false, treeID),
		ints("nodes_nodeids", false, nodeID),
		ints("nodes_featureids", false, branch(func(n *Node) int { return n.Feature })),
		floats("nodes_values", false, func(_ *position, n *Node) float32 {
			if n.Leaf {
				return 0
			}
			return n.Threshold
		}),
		{"nodes_modes", attributeStrings, typeStrings, false, func(b []byte, _ *position, n *Node) []byte {
			if n.Leaf {
				return appendString(b, attributeStrings, "LEAF")
			}
			return appendString(b, attributeStrings, "BRANCH_LEQ")
		}},
		ints("nodes_truenodeids", false, branch(func(n *Node) int { return n.Left })),
		ints("nodes_falsenodeids", false, branch(func(n *Node) int { return n.Right })),
		ints("nodes_missing_value_tracks_true", false, branch(func(n *Node) int {
			if n.MissingLeft {
				return 1
			}
			return 0
		})),
		ints("target_treeids", true, treeID),
		ints("target_nodeids", true, nodeID),
		ints("target_ids", true, func(*position, *Node) int { return 0 }),
		floats("target_weights", true, func(at *position, n *Node) float32 {
			return float32(at.scale * (n.Value - at.centre))
		}),
	}
}

// operator is a NodeProto that was measured.
type operator struct {
	ensemble   *Ensemble
	attributes []attribute
	data       []int64 // bytes of each attribute's elements
	centre     float64
	fixed      []byte // everything but the lists
	size       int64  // of the whole NodeProto
}

// measure checks the trees of e and sums up the bytes of every attribute. Leaves are written around their mean, which
// goes into the constant term: runtimes add leaves in float32, and sums that stay near zero lose less.
func measure(e *Ensemble, columns int, input, output string) (*operator, error) {
	op := &operator{ensemble: e, attributes: attributes()}
	op.data = make([]int64, len(op.attributes))
	if e.Trees < 1 || e.Tree == nil {
		return nil, fmt.Errorf("it has no trees")
	}
	sum, leaves := 0.0, 0
	var scratch []byte
	at := position{scale: e.Scale}
	for at.tree = range e.Trees {
		nodes := e.Tree(at.tree)
		if err := checkTree(nodes, columns); err != nil {
			return nil, fmt.Errorf("tree %d: %w", at.tree, err)
		}
		for at.node = range nodes {
			n := &nodes[at.node]
			if n.Leaf {
				sum, leaves = sum+n.Value, leaves+1
			}
			for i, a := range op.attributes {
				if n.Leaf || !a.leaves {
					scratch = a.add(scratch[:0], &at, n)
					op.data[i] += int64(len(scratch))
				}
			}
		}
	}
	op.centre = sum / float64(leaves)
	base := e.Base + e.Scale*op.centre*float64(e.Trees)
	if math.IsNaN(base) || math.Abs(base) > math.MaxFloat32 || math.IsNaN(e.Scale) {
		return nil, fmt.Errorf("its constant term is %v", base)
	}
	op.fixed = fixedPart(e.Name, input, output, float32(base))
	op.size = int64(len(op.fixed))
	for i, a := range op.attributes {
		n := a.size(op.data[i])
		op.size += int64(protowire.SizeTag(nodeAttribute)) + int64(protowire.SizeVarint(uint64(n))) + n
	}
	return op, nil
}

func checkTree(nodes []Node, columns int) error {
	if len(nodes) == 0 {
		return fmt.Errorf("it has no nodes")
	}
	for i := range nodes {
		n := &nodes[i]
		switch {
		case n.Leaf && (math.IsNaN(n.Value) || math.Abs(n.Value) > math.MaxFloat32):
			return fmt.Errorf("node %d: a leaf of %v", i, n.Value)
		case n.Leaf:
		case n.Feature < 0 || n.Feature >= columns:
			return fmt.Errorf("node %d compares column %d of %d", i, n.Feature, columns)
		case n.Threshold != n.Threshold:
			return fmt.Errorf("node %d has no threshold", i)
		case n.Left <= i || n.Right <= i || n.Left >= len(nodes) || n.Right >= len(nodes) || n.Left == n.Right:
			return fmt.Errorf("node %d has the children %d and %d of %d nodes", i, n.Left, n.Right, len(nodes))
		}
	}
	return nil
}

// fixedPart is a TreeEnsembleRegressor without its lists.
func fixedPart(name, input, output string, base float32) []byte {
	b := appendString(nil, nodeInput, input)
	b = appendString(b, nodeOutput, output)
	b = appendString(b, nodeName, name)
	b = appendString(b, nodeOp, "TreeEnsembleRegressor")
	b = appendString(b, nodeDomain, mlDomain)
	targets := appendInt(appendInt(appendString(nil, attributeName, "n_targets"), attributeI, 1), attributeType, typeInt)
	b = appendMessage(b, nodeAttribute, targets)
	for _, s := range [][2]string{{"aggregate_function", "SUM"}, {"post_transform", "NONE"}} {
		a := appendString(appendString(nil, attributeName, s[0]), attributeS, s[1])
		b = appendMessage(b, nodeAttribute, appendInt(a, attributeType, typeString))
	}
	a := appendString(nil, attributeName, "base_values")
	a = appendMessage(a, attributeFloats, protowire.AppendFixed32(nil, math.Float32bits(base)))
	return appendMessage(b, nodeAttribute, appendInt(a, attributeType, typeFloats))
}

// head is the AttributeProto up to its elements. Strings cannot be packed: each carries its own tag.
func (a *attribute) head(data int64) []byte {
	b := appendInt(appendString(nil, attributeName, a.name), attributeType, a.kind)
	if a.field == attributeStrings {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, a.field, protowire.BytesType), uint64(data))
}

func (a *attribute) size(data int64) int64 { return int64(len(a.head(data))) + data }

// write writes the operator as a node of the graph.
func (op *operator) write(w *writer) {
	w.put(protowire.AppendVarint(protowire.AppendTag(nil, graphNode, protowire.BytesType), uint64(op.size)))
	w.put(op.fixed)
	trees := make([][]Node, op.ensemble.Trees)
	for t := range trees {
		trees[t] = op.ensemble.Tree(t)
	}
	at := position{scale: op.ensemble.Scale, centre: op.centre}
	for i, a := range op.attributes {
		w.put(protowire.AppendVarint(protowire.AppendTag(nil, nodeAttribute, protowire.BytesType), uint64(a.size(op.data[i]))))
		w.put(a.head(op.data[i]))
		for at.tree = range trees {
			nodes := trees[at.tree]
			for at.node = range nodes {
				if n := &nodes[at.node]; n.Leaf || !a.leaves {
					w.buf = a.add(w.buf, &at, n)
				}
				w.put(nil) // sends the buffer on when it is full
			}
		}
	}
}
