package parquet_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"turbofan"
	"turbofan/httpapi/parquet"
)

func file(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".parquet"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func every(string) bool { return true }

func limits() parquet.Limits { return parquet.Limits{Rows: 1000, Bytes: 1 << 20} }

// shown writes a value as table.json has it.
func shown(c parquet.Column, i int) any {
	switch {
	case c.Missing != nil && c.Missing[i]:
		return "missing"
	case c.Ints != nil && c.Name == "age":
		return strconv.FormatUint(uint64(c.Ints[i]), 10)
	case c.Ints != nil:
		return strconv.FormatInt(c.Ints[i], 10)
	case c.Floats != nil:
		return c.Floats[i]
	}
	return c.Texts[i]
}

// TestReadsWhatPyarrowWrites holds every way of writing one table to what pyarrow itself reads from it.
func TestReadsWhatPyarrowWrites(t *testing.T) {
	b, err := os.ReadFile("testdata/table.json")
	if err != nil {
		t.Fatal(err)
	}
	var want map[string][]any
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"default", "plain", "gzip", "zstd", "pages", "v2plain", "required"} {
		columns, rows, err := parquet.Read(file(t, name), every, limits())
		if err != nil || rows != 300 || len(columns) != len(want) {
			t.Errorf("%s: %d rows of %d columns, %v", name, rows, len(columns), err)
			continue
		}
		for _, c := range columns {
			for i, v := range want[c.Name] {
				got := shown(c, i)
				if f, ok := got.(float64); ok && c.Name == "pressure" {
					got = float64(float32(f)) // a float, though table.json says it in decimals
					v = float64(float32(v.(float64)))
				}
				if got != v {
					t.Errorf("%s: %s[%d] is %v, want %v", name, c.Name, i, got, v)
					break
				}
			}
		}
	}
	columns, rows, err := parquet.Read(file(t, "pandas"), func(name string) bool { return name == "cycle" }, limits())
	if err != nil || rows != 2 || len(columns) != 1 || !slices.Equal(columns[0].Ints, []int64{1, 2}) {
		t.Errorf("pandas: %+v %d %v", columns, rows, err)
	}
	if columns, rows, err = parquet.Read(file(t, "none"), every, limits()); err != nil || rows != 0 || len(columns) != 11 {
		t.Errorf("none: %d columns, %d rows, %v", len(columns), rows, err)
	}
}

func TestRefuses(t *testing.T) {
	good := file(t, "default")
	cut := func(n int) []byte { return append([]byte("PAR1"), good[len(good)-n:]...) }
	encrypted := append(good[:len(good)-4:len(good)-4], "PARE"...)
	for _, c := range []struct {
		name string
		data []byte
		l    parquet.Limits
		code string
		want string
	}{
		{"empty", nil, limits(), turbofan.EInvalid, "body: is not Parquet that can be read: it does not begin with PAR1"},
		{"csv", []byte("unit_id,cycle\n1,2\n"), limits(), turbofan.EInvalid, "body: is not Parquet that can be read: it does not begin with PAR1"},
		{"half", good[:len(good)/2], limits(), turbofan.EInvalid, "body: is not Parquet that can be read: it does not end with PAR1"},
		{"encrypted", encrypted, limits(), turbofan.EInvalid, "body: is not Parquet that can be read: it is encrypted"},
		{"footer beyond", []byte("PAR1\xff\xff\xff\x7fPAR1"), limits(), turbofan.EInvalid, "body: is not Parquet that can be read: its metadata is damaged"},
		{"without pages", cut(4000), limits(), turbofan.EInvalid, `body: is not Parquet that can be read: the column `},
		{"rows", good, parquet.Limits{Rows: 299, Bytes: 1 << 20}, turbofan.ETooLarge, "body: has more than the 299 readings allowed in one request"},
		{"bytes", good, parquet.Limits{Rows: 300, Bytes: 2000}, turbofan.ETooLarge, "body: holds columns of more than 2000 bytes when it is decompressed"},
		{"nested", file(t, "nested"), limits(), turbofan.EInvalid, `body: is not Parquet that can be read: the column "sensors" is nested; a table of readings is flat`},
		{"brotli", file(t, "brotli"), limits(), turbofan.EInvalid, `body: is not Parquet that can be read: the column "unit_id": its compression is none of snappy, gzip, zstd and none`},
		{"delta", file(t, "delta"), limits(), turbofan.EInvalid, `body: is not Parquet that can be read: the column "cycle": its encoding is neither plain nor dictionary; write it with the default encoding`},
	} {
		_, _, err := parquet.Read(c.data, every, c.l)
		if turbofan.ErrorCode(err) != c.code || !strings.HasPrefix(turbofan.ErrorMessage(err), c.want) {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
	columns, _, err := parquet.Read(file(t, "nested"), func(name string) bool { return name == "cycle" }, limits())
	if err != nil || len(columns) != 1 || !slices.Equal(columns[0].Ints, []int64{1}) {
		t.Errorf("a flat column beside nested ones: %+v %v", columns, err)
	}
}

// TestClaims sends a footer of a few bytes that claims 2^31 columns: the memory taken must not follow the claim.
func TestClaims(t *testing.T) {
	// A struct whose field 2 is a list of 2^31-1 structs.
	footer := []byte{0x29, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x07, 0x00, 0x00}
	data := append([]byte("PAR1"), footer...)
	data = binary.LittleEndian.AppendUint32(data, uint32(len(footer)))
	data = append(data, "PAR1"...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, _, err := parquet.Read(data, every, limits())
	runtime.ReadMemStats(&after)
	if err == nil || after.TotalAlloc-before.TotalAlloc > 1<<20 {
		t.Errorf("%d bytes were allocated, %v", after.TotalAlloc-before.TotalAlloc, err)
	}
}

// FuzzRead damages good files: an answer is a table within its limits or an error that a caller understands.
func FuzzRead(f *testing.F) {
	for _, name := range []string{"default", "plain", "gzip", "zstd", "pages", "v2plain", "required", "nested", "pandas"} {
		f.Add(file(f, name), 0, byte(0))
		b := file(f, name)
		for i := 1; i < 8; i++ {
			f.Add(b, len(b)*i/8, byte(255))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, at int, b byte) {
		data = bytes.Clone(data)
		if at > 0 && at < len(data) {
			data[at] = b
		}
		columns, rows, err := parquet.Read(data, every, limits())
		if err != nil {
			if code := turbofan.ErrorCode(err); code != turbofan.EInvalid && code != turbofan.ETooLarge {
				t.Fatalf("%s: %v", code, err)
			}
			return
		}
		for _, c := range columns {
			if n := len(c.Ints) + len(c.Floats) + len(c.Texts); n != rows || c.Missing != nil && len(c.Missing) != rows {
				t.Fatalf("column %q has %d values in %d rows", c.Name, n, rows)
			}
		}
	})
}
