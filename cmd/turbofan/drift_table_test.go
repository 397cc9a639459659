package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"turbofan"
	"turbofan/dataset"
)

// machines is a table of thirty machines with columns that are no sensors.
func machines(rows int, seed uint64, shift float64) string {
	rng := rand.New(rand.NewPCG(seed, 1))
	var b strings.Builder
	b.WriteString("index,machine,hour,load,temp,vib,flat,kind\n")
	for i := range rows {
		load := float64(rng.IntN(2))
		fmt.Fprintf(&b, "%d,m%d,%d,%g,%.3f,%.3f,7,%c\n", i, i%30, i/30+1, load, 40*load+rng.NormFloat64()+shift, rng.NormFloat64()+shift, 'A'+rune(i%3))
	}
	return b.String()
}

func put(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Any two tables can be compared, by the columns of numbers that both have.
func TestDriftOfTables(t *testing.T) {
	old := put(t, "old.csv", machines(3000, 1, 0))
	same, moved := machines(1500, 2, 0), machines(1500, 3, 1.5)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write([]byte(moved)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	roles := []string{"--unit-column", "machine", "--cycle-column", "hour", "--settings", "load"}
	for _, tt := range []struct {
		name, current string
		args          []string
		want          string
		parts         []string
	}{
		{"rows by themselves", same, nil, "no drift: psi(", []string{"1500 rows, each by itself", "Not compared, flat: always 7\n",
			`Not compared, machine: `, `Not compared, index: never falls from row to row`, `Not compared, hour: never falls`, `Not compared, kind: `, `"A" in line 2 is not a finite number`}},
		{"rows that moved", moved, nil, "drift: psi(", []string{"> 0.209 over 1500 rows", "vib "}},
		{"a condition tells", moved, []string{"--settings", "load"}, "drift: psi(", []string{", and 1 more sensor\n"}},
		{"units", same, roles, "no drift: psi(", []string{"1500 rows of 30 units"}},
		{"units that moved", moved, roles, "drift: psi(", []string{"1500 rows of 30 units"}},
		{"semicolons and decimal commas", strings.NewReplacer(",", ";", ".", ",").Replace(moved), roles, "drift: psi(", nil},
		{"tabs and a byte order mark", "\ufeff" + strings.ReplaceAll(moved, ",", "\t"), roles, "drift: psi(", nil},
		{"gzip", packed.String(), roles, "drift: psi(", nil},
		{"some columns", moved, []string{"--columns", "hour,flat"}, "drift: psi(hour)", nil},
		{"another set of columns", strings.Replace(moved, "vib", "noise", 1), roles, "drift: psi(temp)",
			[]string{"Not compared, vib: only REFERENCE has it\n", "Not compared, noise: only CURRENT has it\n"}},
		{"a constant that changed", strings.ReplaceAll(same, ",7,", ",8,"), nil, "no drift: psi(",
			[]string{"Not compared, flat: always 7 in REFERENCE\n", "Data quality, constant flat: always 7 in training and always 8 now\n"}},
		{"too few rows", machines(20, 2, 0), nil, "insufficient data: only 20 of 50 rows", []string{"--min-rows and --min-units say how much is enough"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, out, errs := call(t, append([]string{"drift", old, put(t, "new.csv", tt.current)}, tt.args...)...)
			if code != exitOK || !strings.HasPrefix(out, tt.want) {
				t.Errorf("%d\n%s%s\nwant %q", code, out, errs, tt.want)
			}
			for _, p := range tt.parts {
				if !strings.Contains(out, p) {
					t.Errorf("lacks %q:\n%s", p, out)
				}
			}
		})
	}
	page := filepath.Join(t.TempDir(), "drift.html")
	code, out, errs := call(t, "drift", old, put(t, "new.csv", moved), "--json", "--html", page)
	var found comparison
	if err := json.Unmarshal([]byte(out), &found); code != exitOK || err != nil || len(found.ColumnsLeftOut) != 5 {
		t.Errorf("%d %v %+v\n%s", code, err, found.ColumnsLeftOut, errs)
	}
	if html, err := os.ReadFile(page); err != nil || !strings.Contains(string(html), "Columns that were not compared") {
		t.Errorf("the page does not list what was left out: %v", err)
	}
}

func TestDriftOfTablesRefuses(t *testing.T) {
	old := put(t, "old.csv", machines(300, 1, 0))
	for _, tt := range []struct {
		name, current string
		args          []string
		want          string
	}{
		{"no header", "1,2\n3,4\n", nil, "new.csv:1: header: is missing: the first line holds only numbers, and must name the columns\n"},
		{"one name twice", "temp,temp\n1,2\n", nil, `new.csv:1: header: the column "temp" stands twice`},
		{"nothing in it", "", nil, "new.csv: is empty; it must begin with a header\n"},
		{"a header alone", "temp\n", nil, "new.csv: has a header only; it must hold at least one row\n"},
		{"a short row", "temp,vib\n1\n", nil, "new.csv:2: row: has 1 columns; the header has 2\n"},
		{"nothing in common", "other\n1\n", nil, "has no column of numbers in common with "},
		{"UTF-16", "\xff\xfet\x00", nil, "new.csv: is UTF-16: save it as UTF-8\n"},
		{"a spreadsheet", "PK\x03\x04", nil, "new.csv: is a zip archive or a spreadsheet: unpack it, or save it as CSV\n"},
		{"an unknown column", "temp\n1\n", []string{"--columns", "pressure"}, `turbofan: --columns: `},
		{"text for a setting", machines(60, 2, 0), []string{"--settings", "kind"}, "turbofan: --settings: kind is not a column of numbers\n"},
		{"ages that are no numbers", machines(60, 2, 0), []string{"--unit-column", "machine", "--cycle-column", "kind"}, "the column kind must hold whole numbers"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, _, errs := call(t, append([]string{"drift", old, put(t, "new.csv", tt.current)}, tt.args...)...)
			if code != exitUsage || !strings.Contains(errs, tt.want) {
				t.Errorf("got  %d %q\nwant %d %q", code, errs, exitUsage, tt.want)
			}
		})
	}
	if code, _, errs := call(t, "drift", old, filepath.Dir(old)); code != exitUsage || !strings.Contains(errs, "is a directory, not a file of readings") {
		t.Errorf("a directory: %d %s", code, errs)
	}
}

// Values near the largest double, whose mean would not be finite, are drift that can be told in JSON.
func TestDriftOfHugeValues(t *testing.T) {
	old := put(t, "old.csv", machines(600, 1, 10))
	var huge strings.Builder
	huge.WriteString("temp,vib\n")
	for i := range 300 {
		fmt.Fprintf(&huge, "1e308,%d\n", 10+i%3)
	}
	code, out, errs := call(t, "drift", old, put(t, "new.csv", huge.String()), "--json")
	var found comparison
	if err := json.Unmarshal([]byte(out), &found); code != exitOK || err != nil {
		t.Fatalf("%d %v\n%s%s", code, err, out, errs)
	}
	c := found.Report.Channels[slices.IndexFunc(found.Report.Channels, func(c turbofan.ChannelDrift) bool { return c.Channel == "temp" })]
	if !c.Drifted || !(c.MeanShift > 1e50) {
		t.Errorf("%+v", c)
	}
}

// A cell that is infinite is missing, and its column is compared all the same.
func TestDriftOfInfiniteCells(t *testing.T) {
	old := put(t, "old.csv", machines(600, 1, 0))
	lines := strings.Split(machines(600, 2, 3), "\n")
	for _, i := range []int{5, 9} {
		cells := strings.Split(lines[i], ",")
		cells[4], cells[5] = "inf", "-inf"
		lines[i] = strings.Join(cells, ",")
	}
	code, out, errs := call(t, "drift", old, put(t, "new.csv", strings.Join(lines, "\n")), "--columns", "vib")
	if code != exitOK || !strings.HasPrefix(out, "drift: psi(vib)") || !strings.Contains(out, "Data quality, infinite vib: 0 cells in REFERENCE and 2 in CURRENT are infinite: taken as missing\n") {
		t.Errorf("%d\n%s%s", code, out, errs)
	}
}

// fewSensors is a fleet of a schema with three sensors that vary, one that is constant, and what happened to them.
func fewSensors(t *testing.T, seed uint64, shift, constant float64) string {
	rng := rand.New(rand.NewPCG(seed, 9))
	var b strings.Builder
	b.WriteString("unit_id,cycle,load,a,b,c,flat\n")
	for u := range 30 {
		for c := range 60 {
			flat := "7"
			switch {
			case c == 0:
				flat = "" // missing first
			case c > 30:
				flat = fmt.Sprint(constant)
			}
			fmt.Fprintf(&b, "u%d,%d,1,%.3f,%.3f,%.3f,%s\n", u, c+1, rng.NormFloat64()+shift, rng.NormFloat64(), rng.NormFloat64(), flat)
		}
	}
	return put(t, "fleet.csv", b.String())
}

// A reference of few sensors is judged like a table of few columns, and tells of constants that moved.
func TestDriftAgainstAReferenceOfFewSensors(t *testing.T) {
	schema := put(t, "few.yaml", "name: few\nsettings: [{name: load}]\nsensors: [{name: a}, {name: b}, {name: c}, {name: flat}]\n")
	train := fewSensors(t, 1, 0, 7)
	s, err := dataset.LoadSchema(schema)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := openReference(train, s)
	if err != nil {
		t.Fatal(err)
	}
	ref.RMSE = 1
	b, err := json.Marshal(ref)
	if err != nil {
		t.Fatal(err)
	}
	model := put(t, "reference.json", string(b))
	for _, tt := range []struct {
		name, current string
		args          []string
		want, told    string
	}{
		{"the same", fewSensors(t, 2, 0, 7), nil, "no drift: psi(", ""},
		{"one moved", fewSensors(t, 2, 2, 7), nil, "drift: psi(a)=", ""},
		{"one moved, three wanted", fewSensors(t, 2, 2, 7), []string{"--rank", "3"}, "no drift: psi(a)=", ""},
		{"the constant moved", fewSensors(t, 2, 0, 12), nil, "no drift: psi(", "Data quality, constant flat: always 7 in training and from 7 to 12 now\n"},
	} {
		for _, reference := range [][]string{{model}, {train, "--schema", schema}} {
			code, out, errs := call(t, slices.Concat([]string{"drift", reference[0], tt.current}, reference[1:], tt.args)...)
			if code != exitOK || !strings.HasPrefix(out, tt.want) || !strings.Contains(out, tt.told) || tt.told == "" && strings.Contains(out, "Data quality") {
				t.Errorf("%s, %s: %d\n%s%s", tt.name, reference[0], code, out, errs)
			}
		}
	}
}
