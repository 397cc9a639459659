package dataset_test

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"turbofan"
	"turbofan/dataset"
)

// seed adds the bad files whose name matches to the corpus.
func seed(f *testing.F, pattern string) {
	f.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "bad", pattern))
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
}

// refused fails unless an error is one that a person can act on.
func refused(t *testing.T, err error) {
	t.Helper()
	if turbofan.ErrorCode(err) != turbofan.EInvalid {
		t.Errorf("code %s for %v", turbofan.ErrorCode(err), err)
	}
}

func FuzzReadCMAPSS(f *testing.F) {
	seed(f, "train-*.txt")
	f.Add([]byte("1 1" + sensors + "\n1 2" + sensors + " \r\n2 1" + sensors))
	f.Fuzz(func(t *testing.T, data []byte) {
		set, err := dataset.ReadCMAPSS(bytes.NewReader(data), "f", "X")
		if err != nil {
			refused(t, err)
			return
		}
		if set.Rows() == 0 {
			t.Fatal("a set without rows was taken")
		}
		seen := map[string]bool{}
		for _, u := range set.Units {
			if seen[u.UnitID] {
				t.Errorf("unit %s stands twice", u.UnitID)
			}
			seen[u.UnitID] = true
			for i, r := range u.Readings {
				if r.Cycle != i+1 {
					t.Errorf("reading %d is of cycle %d", i, r.Cycle)
				}
				if err := r.Validate(&set.Schema, "reading"); err != nil {
					t.Error(err)
				}
			}
		}
	})
}

func FuzzReadRUL(f *testing.F) {
	seed(f, "rul-*.txt")
	f.Add([]byte("112 \n98\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		truth, err := dataset.ReadRUL(bytes.NewReader(data), "f")
		if err != nil {
			refused(t, err)
			return
		}
		for _, v := range truth {
			if v < 0 || v != math.Trunc(v) || v > turbofan.MaxCycle {
				t.Errorf("took %g", v)
			}
		}
	})
}

func FuzzReadCSV(f *testing.F) {
	seed(f, "*.csv")
	f.Add([]byte("pump,hour,load,vib,temperature,failed_at_cycle\na,1,2,,4,9\nb,7,1e3,-4.5,0,\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		set, err := dataset.ReadCSV(bytes.NewReader(data), "f", boundedPump())
		if err != nil {
			refused(t, err)
			return
		}
		// What was taken survives being written and read again.
		var once, twice bytes.Buffer
		if err := dataset.WriteCSV(&once, set); err != nil {
			t.Fatal(err)
		}
		text := bytes.Clone(once.Bytes())
		again, err := dataset.ReadCSV(&once, "f", boundedPump())
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if err := dataset.WriteCSV(&twice, again); err != nil || !bytes.Equal(text, twice.Bytes()) {
			t.Errorf("%s\nbecame\n%s", text, twice.Bytes())
		}
	})
}

func FuzzLoadSchema(f *testing.F) {
	seed(f, "*.yaml")
	f.Add([]byte("name: pump\nsensors:\n  - name: a\n    aliases: [b]\n    min: 1\n    max: 2\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := dataset.ReadSchema(data, "f")
		if err != nil {
			refused(t, err)
			return
		}
		if err := s.Validate(); err != nil {
			t.Error(err)
		}
	})
}

// The fast way to read a number must give what strconv gives, bit for bit.
func FuzzNumber(f *testing.F) {
	for _, s := range []string{"0", "-0", "1589.70", "0.0001", "123456789012345", "1234567890123456", "9007199254740993", ".5", "5.", "1e5", "+7", "000000000000000000001.5"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 40 || strings.ContainsAny(text, " \t\r\n") {
			return
		}
		line := "1 1 " + text + " 0 0" + " 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21\n"
		set, err := dataset.ReadCMAPSS(bytes.NewReader([]byte(line)), "f", "X")
		if err != nil {
			return
		}
		want, err := strconv.ParseFloat(text, 64)
		if got := set.Units[0].Readings[0].Settings[0]; err != nil || math.Float64bits(got) != math.Float64bits(want) {
			t.Errorf("%q is %v, strconv says %v, %v", text, got, want, err)
		}
	})
}
