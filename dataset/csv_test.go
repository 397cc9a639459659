package dataset_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"turbofan"
	"turbofan/dataset"
)

func TestReadCSV(t *testing.T) {
	text := "\ufefftemperature , hour,pump,load,vib,failed_at_cycle\r\n" +
		"20.5,3,P-7,1,0.25,9\r\n" +
		",5,P-7,1,1e-3,9\r\n" +
		"21,1,\"P 8, left\",2,,\r\n\r\n"
	set, err := dataset.ReadCSV(strings.NewReader(text), "pumps.csv", pump())
	if err != nil {
		t.Fatal(err)
	}
	if set.Name != "pump" || set.Rows() != 3 || len(set.Units) != 2 || set.HasTruth() {
		t.Fatalf("got %+v", set)
	}
	a, b := set.Units[0], set.Units[1]
	if a.UnitID != "P-7" || a.FailedAtCycle != 9 || a.Readings[1].Cycle != 5 || a.Readings[1].Sensors[0] != 0.001 || !math.IsNaN(a.Readings[1].Sensors[1]) {
		t.Errorf("first unit is %+v", a)
	}
	if b.UnitID != "P 8, left" || b.FailedAtCycle != 0 || b.Readings[0].Settings[0] != 2 || !math.IsNaN(b.Readings[0].Sensors[0]) || b.Readings[0].Sensors[1] != 21 {
		t.Errorf("second unit is %+v", b)
	}
}

func TestReadCSVRemainingLife(t *testing.T) {
	text := "pump,hour,load,vibration,temperature,rul\na,2.0,1,1,1,6.0\na,5,1,1,1,3\na,8,1,1,1,0.00\n" // as programs write that think in floats
	set, err := dataset.ReadCSV(strings.NewReader(text), "pumps.csv", pump())
	if err != nil || set.Units[0].FailedAtCycle != 8 || !set.HasTruth() {
		t.Fatalf("got %+v, %v", set, err)
	}
}

func TestCSVRoundTrip(t *testing.T) {
	for _, known := range []bool{false, true} {
		first := &dataset.Set{Name: "pump", Schema: pump(), Units: []turbofan.History{
			{UnitID: `with "quotes", and commas`, Readings: []turbofan.Reading{reading("x", 1, 0.1, math.NaN(), 1.0/3), reading("x", 4, -0, 1e100, 5e-324)}},
			{UnitID: "ünit", Readings: []turbofan.Reading{reading("x", 2, 1, 2, 3)}},
		}}
		if known {
			first.Units[1].FailedAtCycle = 77
		}
		for i := range first.Units {
			for j := range first.Units[i].Readings {
				first.Units[i].Readings[j].UnitID = first.Units[i].UnitID
			}
		}
		var once, twice bytes.Buffer
		if err := dataset.WriteCSV(&once, first); err != nil {
			t.Fatal(err)
		}
		text := once.String()
		if strings.Contains(text, "failed_at_cycle") != known {
			t.Errorf("known ends: %v, header: %s", known, text)
		}
		second, err := dataset.ReadCSV(&once, "x.csv", pump())
		if err != nil {
			t.Fatal(err)
		}
		if err := dataset.WriteCSV(&twice, second); err != nil || twice.String() != text {
			t.Errorf("wrote\n%s\nthen\n%s (%v)", text, twice.String(), err)
		}
		if got := second.Units[0].Readings[1].Sensors; got[0] != 1e100 || got[1] != 5e-324 || second.Units[1].FailedAtCycle != first.Units[1].FailedAtCycle {
			t.Errorf("read back %v and %d", got, second.Units[1].FailedAtCycle)
		}
	}
}

func TestLoadSchema(t *testing.T) {
	dir := write(t, map[string]string{"pump.yaml": `
name: pump
unit_column: pump
cycle_column: hour
settings:
  - {name: load, tolerance: 1}
sensors:
  - name: vibration
    aliases: [vib]
  - name: temperature
    unit: degC
    min: -40
    max: 150
`})
	s, err := dataset.LoadSchema(filepath.Join(dir, "pump.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if s.Name != "pump" || s.Settings[0].Tolerance != 1 || s.Sensors[0].Aliases[0] != "vib" || *s.Sensors[1].Max != 150 || s.Sensors[0].Min != nil {
		t.Errorf("got %+v", s)
	}
	missing := filepath.Join(dir, "none.yaml")
	_, err = dataset.LoadSchema(missing)
	if want := "schema: cannot open " + missing + ": no such file or directory"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestWriteProcessed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data", "processed")
	header := []string{"sensor_11_ewma", "cycle_age"}
	err := dataset.WriteProcessed(dir, "train.csv", header, []string{"1", "1"}, []int{1, 2}, [][]float64{{0.5, 1}, {math.NaN(), 2}}, []float64{125, 124})
	if err != nil {
		t.Fatal(err)
	}
	got, _ := os.ReadFile(filepath.Join(dir, "train.csv"))
	if want := "unit_id,cycle,sensor_11_ewma,cycle_age,rul\n1,1,0.5,1,125\n1,2,,2,124\n"; string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 1 {
		t.Errorf("%d files are left in the directory", len(entries))
	}
	refused := map[string]error{
		`name: "../x.csv" must be the name of a file without a directory`:  dataset.WriteProcessed(dir, "../x.csv", header, nil, nil, nil, nil),
		"rows: 1 rows, 0 units, 0 cycles and 0 labels do not fit together": dataset.WriteProcessed(dir, "x.csv", header, nil, nil, [][]float64{{1, 2}}, nil),
		"rows[0]: has 1 values, the header has 2":                          dataset.WriteProcessed(dir, "x.csv", header, []string{"1"}, []int{1}, [][]float64{{1}}, nil),
	}
	for want, err := range refused {
		if err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// A file that cannot be read to its end is no shorter file, and the digest is that of all its bytes.
func TestReadersReadToTheEnd(t *testing.T) {
	row := "1 1 0 0 100" + strings.Repeat(" 5", 21) + " \n"
	for name, c := range map[string]struct {
		text string
		read func(io.Reader) (*dataset.Set, error)
	}{
		"text": {row + "\n \n", func(r io.Reader) (*dataset.Set, error) { return dataset.ReadCMAPSS(r, "f", "X") }},
		"CSV":  {"\ufeffpump,hour,load,vibration,temperature\na,2,1,1,1\n\n", func(r io.Reader) (*dataset.Set, error) { return dataset.ReadCSV(r, "f", pump()) }},
	} {
		set, err := c.read(iotest.OneByteReader(strings.NewReader(c.text)))
		if err != nil || set.Rows() != 1 || set.Digest != fmt.Sprintf("%x", sha256.Sum256([]byte(c.text))) {
			t.Errorf("%s: %+v, %v", name, set, err)
		}
		broken := io.MultiReader(strings.NewReader(c.text), iotest.ErrReader(errors.New("disk on fire")))
		if _, err := c.read(broken); turbofan.ErrorCode(err) != turbofan.EUnavailable || turbofan.ErrorMessage(err) != "read f" {
			t.Errorf("%s: a broken disk gave %v", name, err)
		}
		endless := io.MultiReader(strings.NewReader(c.text), iotest.DataErrReader(strings.NewReader(strings.Repeat("7", 100_000))))
		if _, err := c.read(endless); turbofan.ErrorCode(err) != turbofan.EInvalid {
			t.Errorf("%s: an endless line gave %v", name, err)
		}
	}
}
