package tree

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

// The serialized form, little-endian:
//
//	magic "TREE", version uint16, reserved uint16
//	features, trees, nodes uint32; base, scale float64
//	importances: features float64
//	per tree: its number of nodes as uvarint, then its nodes in order
//	per node: uvarint off<<1 | missingRight (0 for a leaf);
//	          a leaf: value, cover float32; a split: feature uint16, threshold float32
//	CRC-32C of all of the above
//
// The cover of a split is the sum of its children's and is not stored.
const (
	magic       = "TREE"
	version     = 1
	headerSize  = 8 + 12 + 16
	minNodeSize = 7
)

func errTruncated() error { return errors.New("data is truncated") }

func castagnoli(b []byte) uint32 {
	return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
}

// MarshalBinary encodes the ensemble without its out-of-bag predictions, in the format told above. An ensemble that was not
// fitted is an error.
func (e *Ensemble) MarshalBinary() ([]byte, error) {
	if e.features == 0 {
		return nil, errors.New("marshal ensemble: it is empty")
	}
	le := binary.LittleEndian
	b := make([]byte, 0, headerSize+8*e.features+10*len(e.nodes)+4)
	b = append(b, magic...)
	b = le.AppendUint16(b, version)
	b = le.AppendUint16(b, 0)
	b = le.AppendUint32(b, uint32(e.features))
	b = le.AppendUint32(b, uint32(e.trees))
	b = le.AppendUint32(b, uint32(e.NumNodes()))
	b = le.AppendUint64(b, math.Float64bits(e.base))
	b = le.AppendUint64(b, math.Float64bits(e.scale))
	for _, v := range e.importances {
		b = le.AppendUint64(b, math.Float64bits(v))
	}
	for t := range e.trees {
		first, end := e.span(t)
		b = binary.AppendUvarint(b, uint64(end-first))
		for i := first; i < end; i++ {
			b = appendNode(b, &e.nodes[i], e.cover[i])
		}
	}
	return le.AppendUint32(b, castagnoli(b)), nil
}

func appendNode(b []byte, n *node, cover float32) []byte {
	le := binary.LittleEndian
	if n.off == 0 {
		b = append(b, 0)
		b = le.AppendUint32(b, math.Float32bits(n.value))
		return le.AppendUint32(b, math.Float32bits(cover))
	}
	b = binary.AppendUvarint(b, uint64(n.off)<<1|uint64(n.missingRight))
	b = le.AppendUint16(b, n.feature)
	return le.AppendUint32(b, math.Float32bits(n.threshold))
}

// span gives the nodes of tree t as [first, end).
func (e *Ensemble) span(t int) (first, end uint32) {
	first = e.roots[t]
	if t+1 < e.trees {
		return first, e.roots[t+1]
	}
	return first, uint32(e.NumNodes())
}

// UnmarshalBinary replaces e with the encoded ensemble. It checks the checksum
// and every node, so that no bytes can make a later prediction fail or loop;
// on error e is unchanged.
func (e *Ensemble) UnmarshalBinary(data []byte) error {
	out, err := decode(data)
	if err != nil {
		return fmt.Errorf("unmarshal ensemble: %w", err)
	}
	*e = *out
	return nil
}

// decoder reads forward over bytes and remembers running out.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) take(n int) []byte {
	if d.err != nil || len(d.b) < n {
		d.err = errTruncated()
		return make([]byte, n)
	}
	out := d.b[:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) uint16() uint16   { return binary.LittleEndian.Uint16(d.take(2)) }
func (d *decoder) uint32() uint32   { return binary.LittleEndian.Uint32(d.take(4)) }
func (d *decoder) float32() float32 { return math.Float32frombits(d.uint32()) }
func (d *decoder) float64() float64 {
	return math.Float64frombits(binary.LittleEndian.Uint64(d.take(8)))
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if d.err != nil || n <= 0 {
		d.err = errTruncated()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func decode(data []byte) (*Ensemble, error) {
	if len(data) < headerSize+4 {
		return nil, errTruncated()
	}
	if string(data[:4]) != magic {
		return nil, errors.New("data is not an ensemble")
	}
	if v := binary.LittleEndian.Uint16(data[4:]); v != version {
		return nil, fmt.Errorf("version must be %d, got %d", version, v)
	}
	body := data[:len(data)-4]
	if binary.LittleEndian.Uint32(data[len(body):]) != castagnoli(body) {
		return nil, errors.New("checksum does not match: data is truncated or edited")
	}
	d := &decoder{b: body[8:]}
	features, trees, nodes := int(d.uint32()), int(d.uint32()), int(d.uint32())
	e := &Ensemble{features: features, trees: trees, base: d.float64(), scale: d.float64()}
	if features < 1 || features > maxFeatures {
		return nil, fmt.Errorf("features must be in [1, %d], got %d", maxFeatures, features)
	}
	if !finite(e.base) || !finite(e.scale) {
		return nil, errors.New("base and scale must be finite")
	}
	// Checked before anything is allocated: a header cannot ask for more
	// memory than its data is worth.
	if trees > nodes || nodes > len(d.b)/minNodeSize || 8*features > len(d.b) {
		return nil, errTruncated()
	}
	e.importances = make([]float64, features)
	for i := range e.importances {
		if e.importances[i] = d.float64(); !finite(e.importances[i]) {
			return nil, fmt.Errorf("importance %d must be finite", i)
		}
	}
	return e, e.decodeTrees(d, nodes)
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

func (e *Ensemble) decodeTrees(d *decoder, nodes int) error {
	e.nodes = make([]node, 0, nodes+1)
	e.cover = make([]float32, 0, nodes+1)
	e.roots = make([]uint32, 0, e.trees+2*lanes)
	for t := range e.trees {
		n := int(min(d.uvarint(), math.MaxInt32))
		if n < 1 || n > nodes-len(e.nodes) {
			return fmt.Errorf("tree %d: has %d nodes, %d are left", t, n, nodes-len(e.nodes))
		}
		first := len(e.nodes)
		e.roots = append(e.roots, uint32(first))
		for range n {
			e.decodeNode(d)
		}
		if d.err != nil {
			return d.err
		}
		if err := checkTree(e.nodes[first:], e.cover[first:], e.features); err != nil {
			return fmt.Errorf("tree %d: %w", t, err)
		}
		coverParents(e.nodes[first:], e.cover[first:])
	}
	if len(d.b) != 0 || len(e.nodes) != nodes {
		return errors.New("data has more or fewer nodes than its header says")
	}
	e.pad()
	return nil
}

func (e *Ensemble) decodeNode(d *decoder) {
	tag := d.uvarint()
	if tag == 0 {
		e.nodes = append(e.nodes, leafNode(d.float32()))
		e.cover = append(e.cover, d.float32())
		return
	}
	off := min(tag>>1, math.MaxUint32)
	n := node{off: uint32(off), missingRight: uint16(tag & 1), feature: d.uint16(), threshold: d.float32()}
	e.nodes = append(e.nodes, n)
	e.cover = append(e.cover, 0)
}

// checkTree makes sure that the nodes form one tree: children lie after their
// parent, every node but the root has one parent, and the depth is bounded.
func checkTree(nodes []node, cover []float32, features int) error {
	depth := make([]uint16, len(nodes))
	for i := range nodes {
		n := &nodes[i]
		if i > 0 && depth[i] == 0 {
			return fmt.Errorf("node %d has no parent", i)
		}
		if n.off == 0 {
			if n.missingRight != 0 || !finite(float64(n.value)) || !(cover[i] >= 0) || !finite(float64(cover[i])) {
				return fmt.Errorf("leaf %d must have a finite value and cover", i)
			}
			continue
		}
		if int(n.feature) >= features || n.threshold != n.threshold {
			return fmt.Errorf("node %d must compare one of %d features with a number", i, features)
		}
		left := uint64(i) + uint64(n.off)
		if left+1 >= uint64(len(nodes)) || depth[left] != 0 || depth[left+1] != 0 {
			return fmt.Errorf("node %d has children that are not its own", i)
		}
		if depth[i] >= maxDepth {
			return fmt.Errorf("node %d is deeper than %d", i, maxDepth)
		}
		depth[left], depth[left+1] = depth[i]+1, depth[i]+1
	}
	return nil
}
