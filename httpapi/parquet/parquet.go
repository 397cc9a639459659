// Package parquet reads flat tables from Parquet files that strangers sent. It reads what pandas, Polars, DuckDB and
// Spark write by default (plain and dictionary encoding; Snappy, gzip, Zstandard or no compression) and holds the memory
// of a file to its Limits: a file of a few bytes can claim lists, pages and blocks of gigabytes, and a reader that
// believes it takes the whole process down. Only columns that are wanted are decoded.
//
// The format: https://parquet.apache.org/docs/file-format/.
package parquet

import (
	"encoding/binary"
	"fmt"

	"turbofan"
)

// Limits bound what is read.
type Limits struct {
	Rows int
	// Bytes bounds the pages of the wanted columns after decompression, all together.
	Bytes int64
	// Take is asked before the memory of each page is taken; its error ends the reading and is returned. Nil allows all.
	Take func(bytes int64) error
}

// maxColumns bounds the columns of a file, wanted or not.
const maxColumns = 16_384

// Column is one column of a table. Exactly one of Ints, Floats and Texts holds its values, one a row.
type Column struct {
	Name   string
	Ints   []int64
	Floats []float64
	Texts  []string
	// Missing marks the rows without a value; nil when all have one.
	Missing []bool
}

// The physical types of a column.
const (
	boolType   = 0
	int32Type  = 1
	int64Type  = 2
	int96Type  = 3
	floatType  = 4
	doubleType = 5
	textType   = 6
	fixedType  = 7
)

// field is a column as the file's schema describes it.
type field struct {
	name      string
	kind      int64
	optional  bool
	converted int64 // ConvertedType, -1 when there is none
	nested    bool
}

// chunk is the part of a column that one row group holds.
type chunk struct {
	codec            int64
	values           int64
	start, size      int64
	dictionary, data int64
	elsewhere        bool
}

// group is a row group: the chunk of each column.
type group struct {
	rows   int64
	chunks []chunk
}

// Read returns the wanted columns of the file, in the file's order, and its number of rows. Errors are EInvalid or
// ETooLarge about "body".
func Read(data []byte, want func(name string) bool, l Limits) ([]Column, int, error) {
	fields, groups, rows, err := metadata(data)
	if err != nil {
		return nil, 0, bad("%s", err)
	}
	if rows < 0 || rows > int64(l.Rows) {
		return nil, 0, &turbofan.Error{Code: turbofan.ETooLarge, Field: "body", Message: fmt.Sprintf("has more than the %d readings allowed in one request", l.Rows)}
	}
	r := &reader{data: data, budget: l.Bytes, limit: l.Bytes, take: l.Take}
	if r.take == nil {
		r.take = func(int64) error { return nil }
	}
	defer r.close()
	var out []Column
	for i, f := range fields {
		if !want(f.name) {
			continue
		}
		c, err := r.column(f, i, groups, int(rows))
		if err != nil {
			return nil, 0, err
		}
		out = append(out, c)
	}
	return out, int(rows), nil
}

func bad(format string, args ...any) error {
	return turbofan.Invalid("body", "is not Parquet that can be read: %s", fmt.Sprintf(format, args...))
}

const magic = "PAR1"

// metadata reads the footer.
func metadata(data []byte) ([]field, []group, int64, error) {
	const tail = 8
	if len(data) < len(magic)+tail || string(data[:4]) != magic {
		return nil, nil, 0, fmt.Errorf("it does not begin with %s", magic)
	}
	if end := string(data[len(data)-4:]); end == "PARE" {
		return nil, nil, 0, fmt.Errorf("it is encrypted")
	} else if end != magic {
		return nil, nil, 0, fmt.Errorf("it does not end with %s", magic)
	}
	size := int64(binary.LittleEndian.Uint32(data[len(data)-tail:]))
	if size > int64(len(data)-len(magic)-tail) {
		return nil, nil, 0, errThrift
	}
	t := &thrift{data: data[int64(len(data)-tail)-size : len(data)-tail]}
	var fields []field
	var groups []group
	rows := int64(-1)
	t.structure(func(id int, kind byte) bool {
		switch {
		case id == 2 && kind == typeList:
			fields = t.schema()
		case id == 3 && kind == typeI64:
			rows = t.int()
		case id == 4 && kind == typeList:
			groups = t.groups(len(fields))
		default:
			return false
		}
		return true
	})
	if t.err == nil && rows < 0 {
		t.fail()
	}
	return fields, groups, rows, t.err
}

// schema reads the list of schema elements, the first of which is the root, and returns the columns at the top.
func (t *thrift) schema() []field {
	var out []field
	root, inner := true, int64(0) // inner counts the elements below a nested column that are still to come
	t.list(func(kind byte) bool {
		f := field{kind: -1, converted: -1}
		children, repetition := int64(0), int64(0)
		if kind != typeStruct || len(out) > maxColumns {
			t.fail()
			return true
		}
		t.structure(func(id int, kind byte) bool {
			switch {
			case id == 1 && kind == typeI32:
				f.kind = t.int()
			case id == 3 && kind == typeI32:
				repetition = t.int()
			case id == 4 && kind == typeBinary:
				f.name = string(t.bytes())
			case id == 5 && kind == typeI32:
				children = t.int()
			case id == 6 && kind == typeI32:
				f.converted = t.int()
			default:
				return false
			}
			return true
		})
		switch {
		case root:
			root = false
		case children < 0 || children > maxColumns || inner > maxColumns:
			t.fail()
		case inner > 0:
			inner += children - 1
			// A leaf below is a column of its own in the row groups.
			if children == 0 {
				out = append(out, field{nested: true})
			}
		case children > 0:
			inner = children
			out = append(out, field{name: f.name, nested: true, kind: -1})
		default:
			f.nested, f.optional = repetition == 2, repetition == 1
			out = append(out, f)
		}
		return true
	})
	return leaves(out)
}

// leaves gives the first leaf of each nested column the name of its column, so that the list is one field a chunk.
func leaves(fields []field) []field {
	out := fields[:0]
	name := ""
	for _, f := range fields {
		if f.nested && f.kind == -1 && f.name != "" {
			name = f.name
			continue
		}
		if f.nested && f.name == "" {
			f.name = name
		}
		out = append(out, f)
	}
	return out
}

func (t *thrift) groups(columns int) []group {
	var out []group
	t.list(func(kind byte) bool {
		g := group{rows: -1}
		if kind != typeStruct || columns == 0 {
			t.fail()
			return true
		}
		t.structure(func(id int, kind byte) bool {
			switch {
			case id == 1 && kind == typeList:
				t.list(func(byte) bool {
					if len(g.chunks) == columns {
						t.fail()
						return true
					}
					g.chunks = append(g.chunks, t.chunk())
					return true
				})
			case id == 3 && kind == typeI64:
				g.rows = t.int()
			default:
				return false
			}
			return true
		})
		if len(g.chunks) != columns || g.rows < 0 {
			t.fail()
		}
		out = append(out, g)
		return true
	})
	return out
}

func (t *thrift) chunk() chunk {
	c := chunk{codec: -1, values: -1, size: -1, data: -1, dictionary: -1}
	t.structure(func(id int, kind byte) bool {
		switch {
		case id == 1:
			c.elsewhere = true
			return false
		case id == 3 && kind == typeStruct:
			t.structure(func(id int, kind byte) bool {
				into := map[int]*int64{4: &c.codec, 5: &c.values, 7: &c.size, 9: &c.data, 11: &c.dictionary}[id]
				if into == nil || kind != typeI32 && kind != typeI64 {
					return false
				}
				*into = t.int()
				return true
			})
		default:
			return false
		}
		return true
	})
	c.start = c.data
	if c.dictionary > 0 && c.dictionary < c.data {
		c.start = c.dictionary
	}
	return c
}
