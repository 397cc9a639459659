package parquet

import "errors"

// The wire types of Thrift's compact protocol.
const (
	typeTrue   = 1
	typeFalse  = 2
	typeByte   = 3
	typeI16    = 4
	typeI32    = 5
	typeI64    = 6
	typeDouble = 7
	typeBinary = 8
	typeList   = 9
	typeSet    = 10
	typeMap    = 11
	typeStruct = 12
)

// maxDepth bounds the nesting of Thrift values: the deepest of Parquet's own is 6.
const maxDepth = 16

var errThrift = errors.New("its metadata is damaged")

// thrift reads values of Thrift's compact protocol without allocating for what they claim to hold: a list is read
// element by element, so that ten bytes cannot ask for gigabytes. The first error stays and everything read after it is
// zero.
type thrift struct {
	data  []byte
	pos   int
	depth int
	err   error
}

func (t *thrift) fail() {
	if t.err == nil {
		t.err = errThrift
	}
	t.pos = len(t.data)
}

func (t *thrift) byte() byte {
	if t.pos >= len(t.data) {
		t.fail()
		return 0
	}
	t.pos++
	return t.data[t.pos-1]
}

func (t *thrift) uvarint() uint64 {
	var v uint64
	for shift := 0; shift < 64; shift += 7 {
		b := t.byte()
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v
		}
	}
	t.fail()
	return 0
}

// int reads an integer of any width.
func (t *thrift) int() int64 {
	v := t.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}

// bytes reads a binary, which shares the memory of the data.
func (t *thrift) bytes() []byte {
	n := t.uvarint()
	if n > uint64(len(t.data)-t.pos) {
		t.fail()
		return nil
	}
	t.pos += int(n)
	return t.data[t.pos-int(n) : t.pos]
}

// structure reads a struct. field is asked to read each field by its id and returns false for one that it does not
// want, which is then passed over. A boolean is in its type: true or false.
func (t *thrift) structure(field func(id int, kind byte) bool) {
	if t.depth++; t.depth > maxDepth {
		t.fail()
	}
	id := 0
	for t.err == nil {
		head := t.byte()
		kind := head & 15
		if kind == 0 {
			break
		}
		if head>>4 == 0 {
			id = int(int16(t.int()))
		} else {
			id += int(head >> 4)
		}
		if !field(id, kind) {
			t.skip(kind)
		}
	}
	t.depth--
}

// list reads a list: element reads one of the type, and returns false for one that it does not want.
func (t *thrift) list(element func(kind byte) bool) {
	if t.depth++; t.depth > maxDepth {
		t.fail()
	}
	head := t.byte()
	kind, n := head&15, uint64(head>>4)
	if n == 15 {
		n = t.uvarint()
	}
	for range n {
		if t.err != nil || t.pos >= len(t.data) {
			t.fail()
			break
		}
		if !element(kind) {
			t.skipElement(kind)
		}
	}
	t.depth--
}

// skip passes over a field's value.
func (t *thrift) skip(kind byte) {
	if kind != typeTrue && kind != typeFalse {
		t.skipElement(kind)
	}
}

// skipElement passes over a value that stands alone, where a boolean takes a byte.
func (t *thrift) skipElement(kind byte) {
	none := func(byte) bool { return false }
	switch kind {
	case typeTrue, typeFalse, typeByte:
		t.byte()
	case typeI16, typeI32, typeI64:
		t.uvarint()
	case typeDouble:
		for range 8 {
			t.byte()
		}
	case typeBinary:
		t.bytes()
	case typeList, typeSet:
		t.list(none)
	case typeStruct:
		t.structure(func(int, byte) bool { return false })
	case typeMap:
		t.skipMap()
	default:
		t.fail()
	}
}

func (t *thrift) skipMap() {
	if t.depth++; t.depth > maxDepth {
		t.fail()
	}
	if n := t.uvarint(); n > 0 {
		kinds := t.byte()
		for range n {
			if t.err != nil || t.pos >= len(t.data) {
				t.fail()
				break
			}
			t.skipElement(kinds >> 4)
			t.skipElement(kinds & 15)
		}
	}
	t.depth--
}
