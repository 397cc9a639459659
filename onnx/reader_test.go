package onnx_test

import (
	"encoding/binary"
	"math"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// message is a decoded protocol buffer: for each field its values, a varint or a fixed number as uint64 or uint32, and
// anything with a length as bytes.
type message map[protowire.Number][]any

func decode(t testing.TB, b []byte) message {
	t.Helper()
	m := message{}
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		b = b[n:]
		var v any
		switch kind {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(b)
		case protowire.Fixed32Type:
			v, n = protowire.ConsumeFixed32(b)
		case protowire.BytesType:
			v, n = protowire.ConsumeBytes(b)
		default:
			t.Fatalf("field %d has wire type %d", field, kind)
		}
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		m[field] = append(m[field], v)
		b = b[n:]
	}
	return m
}

func (m message) text(field protowire.Number) string {
	if len(m[field]) == 0 {
		return ""
	}
	return string(m[field][0].([]byte))
}

func (m message) texts(field protowire.Number) []string {
	var out []string
	for _, v := range m[field] {
		out = append(out, string(v.([]byte)))
	}
	return out
}

func (m message) number(field protowire.Number) int64 {
	if len(m[field]) == 0 {
		return 0
	}
	return int64(m[field][0].(uint64))
}

// session answers from a model as an ONNX runtime would, in float64.
type session struct {
	t          testing.TB
	nodes      []message
	initial    map[string]float64
	input      string
	output     string
	columns    int64
	metadata   map[string]string
	trees      map[string]*trees // by output name
	opsets     map[string]int64
	ir         int64
	operations []string
}

// trees is one TreeEnsembleRegressor.
type trees struct {
	ints    map[string][]int64
	floats  map[string][]float32
	modes   []string
	at      map[[2]int64]int     // (tree, node) to position
	leaves  map[[2]int64]float64 // (tree, node) to weight
	roots   [][2]int64
	visited map[int]bool
}

func open(t testing.TB, b []byte) *session {
	t.Helper()
	model := decode(t, b)
	graph := decode(t, model[7][0].([]byte))
	s := &session{t: t, initial: map[string]float64{}, metadata: map[string]string{}, trees: map[string]*trees{}, opsets: map[string]int64{}, ir: model.number(1)}
	for _, v := range model[8] {
		set := decode(t, v.([]byte))
		s.opsets[set.text(1)] = set.number(2)
	}
	for _, v := range model[14] {
		e := decode(t, v.([]byte))
		s.metadata[e.text(1)] = e.text(2)
	}
	for _, v := range graph[5] {
		tensor := decode(t, v.([]byte))
		s.initial[tensor.text(8)] = float64(math.Float32frombits(binary.LittleEndian.Uint32(tensor[9][0].([]byte))))
	}
	s.input, s.columns = valueInfo(t, graph[11][0].([]byte))
	s.output, _ = valueInfo(t, graph[12][0].([]byte))
	for _, v := range graph[1] {
		n := decode(t, v.([]byte))
		s.nodes = append(s.nodes, n)
		s.operations = append(s.operations, n.text(4))
		if n.text(4) == "TreeEnsembleRegressor" {
			s.trees[n.text(2)] = readTrees(t, n)
		}
	}
	return s
}

func valueInfo(t testing.TB, b []byte) (string, int64) {
	v := decode(t, b)
	tensor := decode(t, decode(t, v[2][0].([]byte))[1][0].([]byte))
	if tensor.number(1) != 1 {
		t.Fatalf("%s is not a tensor of float", v.text(1))
	}
	dims := decode(t, tensor[2][0].([]byte))[1]
	return v.text(1), decode(t, dims[1].([]byte)).number(1)
}

func readTrees(t testing.TB, n message) *trees {
	t.Helper()
	e := &trees{ints: map[string][]int64{}, floats: map[string][]float32{}, at: map[[2]int64]int{}, leaves: map[[2]int64]float64{}, visited: map[int]bool{}}
	for _, v := range n[5] {
		a := decode(t, v.([]byte))
		switch name := a.text(1); a.number(20) {
		case 6:
			for b := a[7][0].([]byte); len(b) > 0; b = b[4:] {
				e.floats[name] = append(e.floats[name], math.Float32frombits(binary.LittleEndian.Uint32(b)))
			}
		case 7:
			for b := a[8][0].([]byte); len(b) > 0; {
				x, n := protowire.ConsumeVarint(b)
				if n < 0 {
					t.Fatalf("%s: %v", name, protowire.ParseError(n))
				}
				e.ints[name] = append(e.ints[name], int64(x))
				b = b[n:]
			}
		case 8:
			e.modes = a.texts(9)
		}
	}
	n1 := len(e.modes)
	for _, name := range []string{"nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_truenodeids", "nodes_falsenodeids", "nodes_missing_value_tracks_true"} {
		if len(e.ints[name]) != n1 {
			t.Fatalf("%s has %d elements for %d nodes", name, len(e.ints[name]), n1)
		}
	}
	for i := range n1 {
		id := [2]int64{e.ints["nodes_treeids"][i], e.ints["nodes_nodeids"][i]}
		if _, twice := e.at[id]; twice {
			t.Fatalf("node %v is there twice", id)
		}
		if e.at[id] = i; id[1] == 0 {
			e.roots = append(e.roots, id)
		}
	}
	for i, tree := range e.ints["target_treeids"] {
		e.leaves[[2]int64{tree, e.ints["target_nodeids"][i]}] = float64(e.floats["target_weights"][i])
	}
	return e
}

func (e *trees) answer(t testing.TB, row []float32) float64 {
	sum := float64(e.floats["base_values"][0])
	for _, id := range e.roots {
		for {
			i, known := e.at[id]
			if !known {
				t.Fatalf("node %v is not there", id)
			}
			e.visited[i] = true
			if e.modes[i] == "LEAF" {
				w, known := e.leaves[id]
				if !known {
					t.Fatalf("leaf %v has no weight", id)
				}
				sum += w
				break
			}
			x := row[e.ints["nodes_featureids"][i]]
			next := e.ints["nodes_falsenodeids"][i]
			if x <= e.floats["nodes_values"][i] || x != x && e.ints["nodes_missing_value_tracks_true"][i] == 1 {
				next = e.ints["nodes_truenodeids"][i]
			}
			id[1] = next
		}
	}
	return sum
}

// run answers one row.
func (s *session) run(row []float32) float64 {
	if int64(len(row)) != s.columns {
		s.t.Fatalf("a row of %d values for %d columns", len(row), s.columns)
	}
	values := map[string]float64{}
	for name, v := range s.initial {
		values[name] = v
	}
	for _, n := range s.nodes {
		in, out := n.texts(1), n.text(2)
		switch op := n.text(4); op {
		case "TreeEnsembleRegressor":
			values[out] = s.trees[out].answer(s.t, row)
		case "Sum":
			for _, name := range in {
				values[out] += values[name]
			}
		case "Clip":
			values[out] = min(max(values[in[0]], values[in[1]]), values[in[2]])
		default:
			s.t.Fatalf("operator %s", op)
		}
	}
	return values[s.output]
}
