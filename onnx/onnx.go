// Package onnx writes ensembles of regression trees as ONNX models, which any ONNX runtime can answer from.
//
// A model takes a float32 tensor [N, columns] and gives a float32 tensor [N, 1]. An ensemble is one or more
// ai.onnx.ml.TreeEnsembleRegressor (operator set 3: "x <= threshold goes left", a missing value follows the side that
// nodes_missing_value_tracks_true names); their sum is clipped. The wire format is that of onnx.proto of ONNX 1.11, IR
// version 8.
package onnx

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// The versions that a written model declares.
const (
	IRVersion    = 8
	OpSet        = 15 // of ai.onnx: Sum and Clip
	OpSetML      = 3  // of ai.onnx.ml: TreeEnsembleRegressor
	maxModelSize = math.MaxInt32
)

// Node is one node of a tree. Left and Right are positions in the tree's slice, behind the node's own; node 0 is the
// root.
type Node struct {
	Leaf        bool
	Feature     int // column compared: x <= Threshold goes left
	Threshold   float32
	MissingLeft bool // where NaN goes
	Left, Right int
	Value       float64 // of a leaf
}

// Ensemble is Base + Scale · (sum of one leaf a tree).
type Ensemble struct {
	Name        string
	Base, Scale float64
	Trees       int
	// Tree returns the nodes of tree t, parents before children, in a slice that the caller keeps. It is asked for every
	// tree twice, to measure and to write, and must give the same nodes: so no more than the trees of one operator, 32,
	// are in memory at once.
	Tree func(t int) []Node
}

// Model is the sum of its ensembles, clipped to [Low, High].
type Model struct {
	Producer, Version string // who wrote it
	Doc               string
	Input, Output     string // names of the tensors
	Columns           int    // of a row
	Low, High         float32
	Ensembles         []Ensemble
	Metadata          map[string]string
}

// Write writes m. The memory it takes does not grow with the number of trees: a first pass over the trees measures the
// fields, whose lengths stand before them on the wire, and a second writes them. It is an error when a tree
// names a column or a node that is not there, when a number is not finite, and when the model would not fit into the
// 2 GiB that ONNX allows.
func Write(w io.Writer, m *Model) error {
	if err := m.validate(); err != nil {
		return fmt.Errorf("write ONNX model: %w", err)
	}
	parts := m.parts()
	ops := make([]*operator, len(parts))
	graph := int64(0)
	for i := range parts {
		op, err := measure(&parts[i], m.Columns, m.Input, termName(i))
		if err != nil {
			return fmt.Errorf("write ONNX model: ensemble %s: %w", parts[i].Name, err)
		}
		ops[i] = op
		graph += int64(protowire.SizeTag(graphNode)) + int64(protowire.SizeBytes(int(op.size)))
	}
	rest := m.restOfGraph(len(parts))
	graph += int64(len(rest))
	if graph > maxModelSize-1<<20 {
		return fmt.Errorf("write ONNX model: it would have %d MiB; ONNX allows 2048", graph>>20)
	}
	out := &writer{w: w}
	out.put(m.head())
	out.put(protowire.AppendVarint(protowire.AppendTag(nil, modelGraph, protowire.BytesType), uint64(graph)))
	for _, op := range ops {
		op.write(out)
	}
	out.put(rest)
	out.flush()
	if out.err != nil {
		return fmt.Errorf("write ONNX model: %w", out.err)
	}
	return nil
}

func (m *Model) validate() error {
	switch {
	case m.Columns < 1:
		return fmt.Errorf("columns must be at least 1, got %d", m.Columns)
	case len(m.Ensembles) == 0:
		return fmt.Errorf("there is no ensemble")
	case m.Input == "" || m.Output == "" || m.Input == m.Output:
		return fmt.Errorf("input and output must have different names, got %q and %q", m.Input, m.Output)
	case !(m.Low <= m.High):
		return fmt.Errorf("the range must ascend, got %v to %v", m.Low, m.High)
	}
	return nil
}

// treesPerOperator bounds the trees of one operator. Runtimes add leaves in float32: sums of few trees, added up at the
// end, lose a fraction of what one long sum does.
const treesPerOperator = 32

// parts cuts the ensembles into operators.
func (m *Model) parts() []Ensemble {
	var out []Ensemble
	for _, e := range m.Ensembles {
		if e.Trees <= treesPerOperator || e.Tree == nil {
			out = append(out, e)
			continue
		}
		for first := 0; first < e.Trees; first += treesPerOperator {
			part := Ensemble{Name: fmt.Sprintf("%s.%d", e.Name, first), Scale: e.Scale, Trees: min(treesPerOperator, e.Trees-first),
				Tree: func(t int) []Node { return e.Tree(first + t) }}
			if first == 0 {
				part.Base = e.Base
			}
			out = append(out, part)
		}
	}
	return out
}

func termName(i int) string { return fmt.Sprintf("term_%d", i) }

// The field numbers of onnx.proto that are written.
const (
	modelIR, modelProducer, modelVersion, modelDoc, modelGraph, modelOpSet, modelMetadata = 1, 2, 3, 6, 7, 8, 14

	graphNode, graphName, graphInitializer, graphInput, graphOutput = 1, 2, 5, 11, 12

	nodeInput, nodeOutput, nodeName, nodeOp, nodeAttribute, nodeDomain = 1, 2, 3, 4, 5, 7

	attributeName, attributeI, attributeS, attributeFloats, attributeInts, attributeStrings, attributeType = 1, 3, 4, 7, 8, 9, 20

	typeInt, typeString, typeFloats, typeInts, typeStrings = 2, 3, 6, 7, 8

	tensorType, tensorRaw, tensorName = 2, 9, 8

	elementFloat = 1
)

func appendMessage(b []byte, field protowire.Number, message []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), message)
}

func appendString(b []byte, field protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}

func appendInt(b []byte, field protowire.Number, v int64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), uint64(v))
}

// head is everything of the model but its graph.
func (m *Model) head() []byte {
	b := appendInt(nil, modelIR, IRVersion)
	b = appendString(b, modelProducer, m.Producer)
	b = appendString(b, modelVersion, m.Version)
	b = appendString(b, modelDoc, m.Doc)
	for _, set := range []struct {
		domain  string
		version int64
	}{{"", OpSet}, {mlDomain, OpSetML}} {
		b = appendMessage(b, modelOpSet, appendInt(appendString(nil, 1, set.domain), 2, set.version))
	}
	for _, k := range slices.Sorted(maps.Keys(m.Metadata)) {
		b = appendMessage(b, modelMetadata, appendString(appendString(nil, 1, k), 2, m.Metadata[k]))
	}
	return b
}

// restOfGraph is the graph behind its ensembles: their sum, the clip, and the names.
func (m *Model) restOfGraph(terms int) []byte {
	var b []byte
	sum := termName(0)
	if terms > 1 {
		var node []byte
		for i := range terms {
			node = appendString(node, nodeInput, termName(i))
		}
		sum = "sum"
		node = appendString(node, nodeOutput, sum)
		node = appendString(node, nodeName, "sum_of_terms")
		b = appendMessage(b, graphNode, appendString(node, nodeOp, "Sum"))
	}
	clip := appendString(nil, nodeInput, sum)
	clip = appendString(clip, nodeInput, "low")
	clip = appendString(clip, nodeInput, "high")
	clip = appendString(clip, nodeOutput, m.Output)
	clip = appendString(clip, nodeName, "clip_to_range")
	b = appendMessage(b, graphNode, appendString(clip, nodeOp, "Clip"))
	b = appendString(b, graphName, "ensemble")
	b = appendMessage(b, graphInitializer, scalar("low", m.Low))
	b = appendMessage(b, graphInitializer, scalar("high", m.High))
	b = appendMessage(b, graphInput, matrix(m.Input, int64(m.Columns)))
	return appendMessage(b, graphOutput, matrix(m.Output, 1))
}

// scalar is a TensorProto without dimensions.
func scalar(name string, v float32) []byte {
	b := appendInt(nil, tensorType, elementFloat)
	b = appendString(b, tensorName, name)
	return appendMessage(b, tensorRaw, protowire.AppendFixed32(nil, math.Float32bits(v)))
}

// matrix is the ValueInfoProto of a float tensor [N, columns].
func matrix(name string, columns int64) []byte {
	rows := appendMessage(nil, 1, appendString(nil, 2, "N"))
	shape := appendMessage(rows, 1, appendInt(nil, 1, columns))
	tensor := appendMessage(appendInt(nil, 1, elementFloat), 2, shape)
	return appendMessage(appendString(nil, 1, name), 2, appendMessage(nil, 1, tensor))
}

// writer gathers small writes; after an error it does nothing.
type writer struct {
	w   io.Writer
	buf []byte
	err error
}

const bufferSize = 64 << 10

func (w *writer) put(b []byte) {
	w.buf = append(w.buf, b...)
	if len(w.buf) >= bufferSize {
		w.flush()
	}
}

func (w *writer) flush() {
	if w.err == nil {
		_, w.err = w.w.Write(w.buf)
	}
	w.buf = w.buf[:0]
}
