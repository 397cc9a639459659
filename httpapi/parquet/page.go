package parquet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"

	"turbofan"
)

// The codecs and encodings that are read.
const (
	uncompressed, snappyCodec, gzipCodec, zstdCodec = 0, 1, 2, 6

	plain, plainDictionary, rle, rleDictionary = 0, 2, 3, 8

	dataPage, dictionaryPage, dataPageV2 = 0, 2, 3
)

// reader decodes columns of one file.
type reader struct {
	data          []byte
	budget, limit int64
	take          func(int64) error
	zstd          *zstd.Decoder
}

func (r *reader) close() {
	if r.zstd != nil {
		r.zstd.Close()
	}
}

// page is the header of a page and what it holds.
type page struct {
	kind                             int64
	uncompressed, compressed         int64
	values, encoding                 int64
	definitionBytes, repetitionBytes int64 // of a page of version 2
	raw                              bool  // a page of version 2 whose values are not compressed
	body                             []byte
}

// values is a column while it is read.
type values struct {
	field
	out        Column
	dictionary *Column
	missing    bool
	left       int // rows of the whole column that are still to come
}

// column reads column i from all row groups.
func (r *reader) column(f field, i int, groups []group, rows int) (Column, error) {
	v := &values{field: f, out: Column{Name: f.name, Missing: make([]bool, 0, rows)}, left: rows}
	switch {
	case f.nested:
		return Column{}, bad("the column %q is nested; a table of readings is flat", f.name)
	case f.kind == int96Type || f.kind == fixedType || f.kind < 0 || f.kind > fixedType || f.converted == 5:
		return Column{}, bad("the column %q has a type that is no number and no text", f.name)
	}
	v.make(rows)
	for _, g := range groups {
		c := g.chunks[i]
		if c.elsewhere || c.start < 0 || c.size < 0 || c.start > int64(len(r.data)) || c.size > int64(len(r.data))-c.start {
			return Column{}, bad("the column %q lies outside of the file", f.name)
		}
		if c.values != g.rows || c.values > int64(v.left) {
			return Column{}, bad("the column %q does not have one value a row", f.name)
		}
		if err := r.chunk(v, c); err != nil {
			if _, ok := errors.AsType[*turbofan.Error](err); ok {
				return Column{}, err
			}
			return Column{}, bad("the column %q: %s", f.name, err)
		}
	}
	if v.left != 0 {
		return Column{}, bad("the column %q does not have one value a row", f.name)
	}
	if !v.missing {
		v.out.Missing = nil
	}
	return v.out, nil
}

func (v *values) make(rows int) {
	switch v.kind {
	case boolType, int32Type, int64Type:
		v.out.Ints = make([]int64, 0, rows)
	case floatType, doubleType:
		v.out.Floats = make([]float64, 0, rows)
	case textType:
		v.out.Texts = make([]string, 0, rows)
	}
}

var errPage = errors.New("a page is damaged")

// chunk reads the pages of one chunk.
func (r *reader) chunk(v *values, c chunk) error {
	data := r.data[c.start : c.start+c.size]
	v.dictionary = nil
	for left := c.values; left > 0; {
		p, rest, err := header(data)
		if err != nil {
			return err
		}
		data = rest
		if p.kind != dataPage && p.kind != dataPageV2 && p.kind != dictionaryPage {
			continue
		}
		if err := r.open(&p, c.codec); err != nil {
			return err
		}
		if p.kind == dictionaryPage {
			if v.dictionary != nil || p.values < 0 || p.values > c.values || p.encoding != plain && p.encoding != plainDictionary {
				return errPage
			}
			if v.dictionary, err = v.plain(p.body, p.values); err != nil {
				return err
			}
			continue
		}
		if p.values < 0 || p.values > left {
			return errPage
		}
		left -= p.values
		if err := v.page(&p); err != nil {
			return err
		}
	}
	return nil
}

// header reads the header of the page that data begins with, and returns what follows the page.
func header(data []byte) (page, []byte, error) {
	t := &thrift{data: data}
	p := page{kind: -1, uncompressed: -1, compressed: -1, values: -1, encoding: -1}
	t.structure(func(id int, kind byte) bool {
		switch {
		case id <= 3 && kind == typeI32:
			*[]*int64{&p.kind, &p.uncompressed, &p.compressed}[max(id, 1)-1] = t.int()
		case (id == 5 || id == 7 || id == 8) && kind == typeStruct:
			t.structure(func(inner int, kind byte) bool {
				switch {
				case inner == 7 && id == 8:
					p.raw = kind == typeFalse
					return false
				case kind != typeI32:
					return false
				case inner == 1:
					p.values = t.int()
				case inner == 2 && id != 8 || inner == 4 && id == 8:
					p.encoding = t.int()
				case inner == 5 && id == 8:
					p.definitionBytes = t.int()
				case inner == 6 && id == 8:
					p.repetitionBytes = t.int()
				default:
					return false
				}
				return true
			})
		default:
			return false
		}
		return true
	})
	if t.err != nil {
		return p, nil, errPage
	}
	rest := data[t.pos:]
	if p.compressed < 0 || p.compressed > int64(len(rest)) || p.uncompressed < 0 || p.values > math.MaxInt32 {
		return p, nil, errPage
	}
	p.body = rest[:p.compressed]
	return p, rest[p.compressed:], nil
}

// open decompresses the page.
func (r *reader) open(p *page, codec int64) error {
	if r.budget -= p.uncompressed; r.budget < 0 {
		return &turbofan.Error{Code: turbofan.ETooLarge, Field: "body", Message: fmt.Sprintf("holds columns of more than %d bytes when it is decompressed", r.limit)}
	}
	if err := r.take(p.uncompressed); err != nil {
		return err
	}
	levels := []byte{}
	body, size := p.body, p.uncompressed
	if p.kind == dataPageV2 { // its levels are never compressed
		n := p.definitionBytes + p.repetitionBytes
		if p.definitionBytes < 0 || p.repetitionBytes != 0 || n > int64(len(body)) || n > size {
			return errPage
		}
		levels, body, size = body[:n], body[n:], size-n
		if p.raw {
			codec = uncompressed
		}
	}
	opened, err := r.decompress(body, size, codec)
	if err != nil {
		return err
	}
	p.body = opened
	if p.kind == dataPageV2 {
		p.body = append(levels[:len(levels):len(levels)], opened...)
	}
	return nil
}

// decompress never makes more than size bytes, whatever the compressed ones claim.
func (r *reader) decompress(body []byte, size, codec int64) ([]byte, error) {
	if codec == uncompressed {
		if int64(len(body)) != size {
			return nil, errPage
		}
		return body, nil
	}
	if size == 0 {
		return nil, nil
	}
	switch codec {
	case snappyCodec:
		if n, err := snappy.DecodedLen(body); err != nil || int64(n) != size {
			return nil, errPage
		}
		out, err := snappy.Decode(make([]byte, size), body)
		if err != nil {
			return nil, errPage
		}
		return out, nil
	case gzipCodec:
		z, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return nil, errPage
		}
		return exactly(z, size)
	case zstdCodec:
		if r.zstd == nil {
			z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(uint64(max(r.limit, 1<<20))))
			if err != nil {
				return nil, fmt.Errorf("decompress: %w", err)
			}
			r.zstd = z
		}
		if err := r.zstd.Reset(bytes.NewReader(body)); err != nil {
			return nil, errPage
		}
		return exactly(r.zstd, size)
	}
	return nil, fmt.Errorf("its compression is none of snappy, gzip, zstd and none")
}

// exactly reads size bytes and expects the end after them.
func exactly(r io.Reader, size int64) ([]byte, error) {
	out := make([]byte, size)
	if _, err := io.ReadFull(r, out); err != nil {
		return nil, errPage
	}
	if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		return nil, errPage
	}
	return out, nil
}

// page appends the values of a data page.
func (v *values) page(p *page) error {
	n := int(p.values)
	body := p.body
	present := n
	var defined []uint32
	if v.optional {
		var levels []byte
		switch {
		case p.kind == dataPageV2:
			levels, body = body[:p.definitionBytes], body[p.definitionBytes:]
		case len(body) < 4 || int64(binary.LittleEndian.Uint32(body)) > int64(len(body)-4):
			return errPage
		default:
			size := binary.LittleEndian.Uint32(body)
			levels, body = body[4:4+size], body[4+size:]
		}
		defined = make([]uint32, n)
		if err := hybrid(defined, levels, 1); err != nil {
			return err
		}
		present = 0
		for _, d := range defined {
			present += int(d)
		}
	}
	c, err := v.decode(body, p.encoding, present)
	if err != nil {
		return err
	}
	v.left -= n
	v.append(c, defined, n)
	return nil
}

// decode reads the values that are present in a page.
func (v *values) decode(body []byte, encoding int64, n int) (*Column, error) {
	switch encoding {
	case plain:
		return v.plain(body, int64(n))
	case rle:
		if v.kind != boolType || len(body) < 4 {
			return nil, errPage
		}
		bits := make([]uint32, n)
		if err := hybrid(bits, body[4:], 1); err != nil {
			return nil, err
		}
		c := &Column{Ints: make([]int64, n)}
		for i, b := range bits {
			c.Ints[i] = int64(b)
		}
		return c, nil
	case plainDictionary, rleDictionary:
		return v.look(body, n)
	}
	return nil, fmt.Errorf("its encoding is neither plain nor dictionary; write it with the default encoding")
}

// look reads places in the dictionary.
func (v *values) look(body []byte, n int) (*Column, error) {
	if n == 0 {
		return &Column{}, nil
	}
	if len(body) < 1 || v.dictionary == nil || body[0] > 32 {
		return nil, errPage
	}
	at := make([]uint32, n)
	if err := hybrid(at, body[1:], int(body[0])); err != nil {
		return nil, err
	}
	d, c := v.dictionary, &Column{}
	size := uint32(len(d.Ints) + len(d.Floats) + len(d.Texts))
	for _, i := range at {
		switch {
		case i >= size:
			return nil, errPage
		case d.Ints != nil:
			c.Ints = append(c.Ints, d.Ints[i])
		case d.Floats != nil:
			c.Floats = append(c.Floats, d.Floats[i])
		default:
			c.Texts = append(c.Texts, d.Texts[i])
		}
	}
	return c, nil
}

// plain reads n values that are written one after the other.
func (v *values) plain(body []byte, n int64) (*Column, error) {
	width := map[int64]int64{int32Type: 4, int64Type: 8, floatType: 4, doubleType: 8, textType: 4}[v.kind]
	if v.kind == boolType && n > 8*int64(len(body)) || n*width > int64(len(body)) {
		return nil, errPage
	}
	c := &Column{}
	for i := range n {
		switch v.kind {
		case boolType:
			c.Ints = append(c.Ints, int64(body[i/8]>>(i%8)&1))
		case int32Type:
			bits := binary.LittleEndian.Uint32(body[4*i:])
			if v.converted >= 11 && v.converted <= 13 { // UINT_8, UINT_16, UINT_32
				c.Ints = append(c.Ints, int64(bits))
			} else {
				c.Ints = append(c.Ints, int64(int32(bits)))
			}
		case int64Type:
			c.Ints = append(c.Ints, int64(binary.LittleEndian.Uint64(body[8*i:])))
		case floatType:
			c.Floats = append(c.Floats, float64(math.Float32frombits(binary.LittleEndian.Uint32(body[4*i:]))))
		case doubleType:
			c.Floats = append(c.Floats, math.Float64frombits(binary.LittleEndian.Uint64(body[8*i:])))
		case textType:
			if len(body) < 4 || int64(binary.LittleEndian.Uint32(body)) > int64(len(body)-4) {
				return nil, errPage
			}
			size := binary.LittleEndian.Uint32(body)
			c.Texts, body = append(c.Texts, string(body[4:4+size])), body[4+size:]
		}
	}
	return c, nil
}

// append adds n rows, of which defined says which have a value; nil means all.
func (v *values) append(c *Column, defined []uint32, n int) {
	next := 0
	for i := range n {
		has := defined == nil || defined[i] == 1
		v.out.Missing = append(v.out.Missing, !has)
		v.missing = v.missing || !has
		switch {
		case v.out.Ints != nil && has:
			v.out.Ints = append(v.out.Ints, c.Ints[next])
		case v.out.Ints != nil:
			v.out.Ints = append(v.out.Ints, 0)
		case v.out.Floats != nil && has:
			v.out.Floats = append(v.out.Floats, c.Floats[next])
		case v.out.Floats != nil:
			v.out.Floats = append(v.out.Floats, math.NaN())
		case has:
			v.out.Texts = append(v.out.Texts, c.Texts[next])
		default:
			v.out.Texts = append(v.out.Texts, "")
		}
		if has {
			next++
		}
	}
}

// hybrid fills out with values of width bits, at most 32, from runs that are either one repeated value or bit-packed
// groups of eight.
func hybrid(out []uint32, data []byte, width int) error {
	for done := 0; done < len(out); {
		head, n := binary.Uvarint(data)
		if n <= 0 || head>>1 == 0 {
			return errPage
		}
		data = data[n:]
		if head&1 == 0 {
			size := (width + 7) / 8
			if len(data) < size {
				return errPage
			}
			var v uint32
			for i, b := range data[:size] {
				v |= uint32(b) << (8 * i)
			}
			if width < 32 && v>>width != 0 {
				return errPage
			}
			data = data[size:]
			for k := min(head>>1, uint64(len(out)-done)); k > 0; k-- {
				out[done] = v
				done++
			}
			continue
		}
		groups := head >> 1
		if width > 0 && groups > uint64(len(data)/width) {
			return errPage
		}
		count := int(min(groups, uint64(len(out)))) * 8
		packed := data
		if width > 0 {
			packed, data = data[:int(groups)*width], data[int(groups)*width:]
		}
		for i := 0; i < count && done < len(out); i++ {
			out[done] = bits(packed, i*width, width)
			done++
		}
	}
	return nil
}

// bits returns width bits from bit at on, the least significant first.
func bits(data []byte, at, width int) uint32 {
	var v uint64
	for i := 0; i*8 < at%8+width; i++ {
		v |= uint64(data[at/8+i]) << (8 * i)
	}
	return uint32(v >> (at % 8) & (1<<width - 1))
}
