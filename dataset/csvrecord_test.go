package dataset_test

import (
	"io"
	"runtime"
	"strings"
	"testing"

	"turbofan"
	"turbofan/dataset"
)

// A record is bounded wherever it stands, and the error names the line where it begins, not where the reader gave up.
func TestCSVRecordBound(t *testing.T) {
	const (
		header = "pump,hour,load,vibration,temperature\n"
		row    = "a,1,1,1,1\n"
		mib    = 1 << 20
	)
	wide := strings.Repeat(" ", mib)
	for _, test := range []struct{ name, text, want string }{
		{"open quote, short", header + row + "a,2,1,1,\"1\na,3,1,1,1\n", `f:3: row: extraneous or missing " in quoted-field; it goes on to line 4`},
		{"open quote, long", header + row + "a,2,1,1,\"1\n" + strings.Repeat("a,3,1,1,1\n", mib/4),
			`f:3: row: is longer than the 1024 KiB allowed: a quote that begins in it may never be closed`},
		{"open quote in the header", "\ufeff\"pump,hour\n" + strings.Repeat(row, mib/4),
			`f:1: row: is longer than the 1024 KiB allowed: a quote that begins in it may never be closed`},
		{"quote closed too late", header + row + "a,2,1,1,\"1" + wide + wide + "\"\n" + row,
			`f:3: row: is longer than the 1024 KiB allowed: a quote that begins in it may never be closed`},
		{"long line", header + row + "\na,2,1,1,1" + wide + wide + "\n", `f:4: row: is longer than the 1024 KiB allowed`},
		{"long last line", header + row + "a,2,1,1,1" + wide, `f:3: row: is longer than the 1024 KiB allowed`},
		{"blank lines", header + row + strings.Repeat("\n", mib+mib/4) + row, `f:2: row: is followed by more than 1024 KiB of blank lines`},
		{"longest line", header + row + "a,2,1,1,1" + wide[:mib-len("a,2,1,1,1\n")] + "\n" + "a,3,1,1,1\n", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			set, err := dataset.ReadCSV(strings.NewReader(test.text), "f", pump())
			if test.want == "" {
				if err != nil || set.Rows() != 3 {
					t.Errorf("%v", err)
				}
				return
			}
			if err == nil || err.Error() != test.want || turbofan.ErrorCode(err) != turbofan.EInvalid {
				t.Errorf("got %v\nwant %s", err, test.want)
			}
		})
	}
}

// What an open quote costs does not grow with the file.
func TestCSVOpenQuoteMemory(t *testing.T) {
	rest := &rows{left: 256 << 20}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := dataset.ReadCSV(io.MultiReader(strings.NewReader("pump,hour,load,vibration,temperature\na,1,1,1,\"1\n"), rest), "f", pump())
	runtime.ReadMemStats(&after)
	if turbofan.ErrorCode(err) != turbofan.EInvalid {
		t.Errorf("got %v", err)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 32<<20 {
		t.Errorf("allocated %d MiB", used>>20)
	}
	if read := 256<<20 - rest.left; read > 2<<20 {
		t.Errorf("read %d MiB of it", read>>20)
	}
}

// rows is text of many lines, made as it is read.
type rows struct{ left int }

func (r *rows) Read(p []byte) (int, error) {
	if r.left <= 0 {
		return 0, io.EOF
	}
	n := copy(p, "a,2,1,1,1\n")
	r.left -= n
	return n, nil
}
