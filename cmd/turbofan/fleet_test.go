package main

import (
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A file of readings that is cut short, damaged, empty or no file at all breaks a rule: the status is 2, and the message
// names the file, whichever command reads it.
func TestBadFilesOfReadings(t *testing.T) {
	t.Chdir(t.TempDir())
	fleet, data := must(t, shared.fleet), must(t, shared.trained)
	text, err := os.ReadFile(filepath.Join(fleet, "test_FD001.txt"))
	if err != nil {
		t.Fatal(err)
	}
	pack := func(b []byte) []byte {
		var out bytes.Buffer
		z := gzip.NewWriter(&out)
		if _, err := z.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	packed := pack(text)
	damaged := bytes.Clone(packed)
	damaged[len(damaged)-5] ^= 0xff // the checksum
	csv := []byte(machines(300, 1, 0))
	for name, b := range map[string][]byte{
		"half.txt.gz": packed[:len(packed)/2], "end.txt.gz": packed[:len(packed)-4], "head.txt.gz": packed[:6],
		"damaged.txt.gz": damaged, "half.csv.gz": pack(csv)[:len(csv)/8], "half.parquet.gz": pack([]byte("PAR1" + string(text)))[:2000],
		"half.parquet": append([]byte("PAR1"), text[:1000]...), "magic.parquet": []byte("PAR1"), "empty.csv": nil, "empty.gz": pack(nil),
		"good.csv": csv,
	} {
		if err := os.WriteFile(name, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir("folder", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("circle.csv", "circle.csv"); err != nil {
		t.Fatal(err)
	}
	const cut = "is gzip that was cut short: copy it again"
	for _, tt := range []struct{ file, predict, drift string }{
		{"half.txt.gz", "half.txt.gz: " + cut, "half.txt.gz: " + cut},
		{"end.txt.gz", "end.txt.gz: " + cut, "end.txt.gz: " + cut},
		{"head.txt.gz", "head.txt.gz: " + cut, "head.txt.gz: " + cut},
		{"damaged.txt.gz", "damaged.txt.gz: is gzip that cannot be unpacked: invalid checksum", "damaged.txt.gz: is gzip that cannot be unpacked: invalid checksum"},
		{"half.csv.gz", "half.csv.gz:1: header: lacks the column unit_id; ", "half.csv.gz: " + cut},
		{"half.parquet.gz", "half.parquet.gz: " + cut, "half.parquet.gz: " + cut},
		{"half.parquet", "half.parquet: ", "half.parquet: "},
		{"magic.parquet", "magic.parquet: ", "magic.parquet: "},
		{"empty.csv", "empty.csv: is empty; it must begin with a header", "empty.csv: "},
		{"empty.gz", "empty.gz: is empty; it must begin with a header", "empty.gz: "},
		{"folder", "FILE: folder is a directory", "folder: is a directory, not a file of readings"},
		{"circle.csv", "FILE: cannot open circle.csv: too many levels of symbolic links", "FILE: cannot open circle.csv: too many levels of symbolic links"},
		{"absent.csv", "FILE: cannot open absent.csv: no such file or directory", "FILE: cannot open absent.csv: no such file or directory"},
	} {
		for _, c := range []struct {
			want string
			args []string
		}{{tt.predict, []string{"predict", tt.file, "--data-dir", data}}, {tt.drift, []string{"drift", "good.csv", tt.file}}} {
			code, _, errs := call(t, c.args...)
			if code != exitUsage || !strings.HasPrefix(errs, "turbofan: "+c.want) || strings.Count(errs, "\n") != 1 || jargon.MatchString(errs) {
				t.Errorf("turbofan %s\ngot  %d %swant %d %s", strings.Join(c.args, " "), code, errs, exitUsage, c.want)
			}
		}
	}
}
