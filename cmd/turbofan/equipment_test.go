package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"turbofan"
	"turbofan/dataset"
)

const pumpSchema = `name: pumps
unit_column: pump
cycle_column: hour
settings:
  - {name: speed, unit: rpm, tolerance: 50}
  - {name: load, tolerance: 0.1}
sensors:
  - {name: pressure, unit: bar, min: 0}
  - {name: flow, aliases: [q], min: 0}
  - {name: temperature, unit: degC}
  - {name: vibration, min: 0}
  - {name: current, unit: A, min: 0}
`

// pumps makes units that wear out: at two speeds, vibration and temperature rise and flow falls as the end comes near.
func pumps(t *testing.T, n int, seed uint64, schema turbofan.Schema) []turbofan.History {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 1))
	var out []turbofan.History
	for u := range n {
		id, life := fmt.Sprintf("p%d-%d", seed, u+1), 80+random.IntN(80)
		h := turbofan.History{UnitID: id, FailedAtCycle: life}
		for c := 1; c <= life; c++ {
			speed := []float64{1500, 3000}[random.IntN(2)]
			wear := math.Exp(-float64(life-c) / 25)
			noise := func(sd float64) float64 { return sd * random.NormFloat64() }
			r := turbofan.Reading{UnitID: id, Cycle: c, Settings: []float64{speed, 0.8},
				Sensors: []float64{4*speed/3000 + noise(.02), speed/100*(1-.1*wear) + noise(.1), 40 + speed/300 + 12*wear + noise(.5), 1 + speed/3000 + 2*wear + noise(.05), 12 + noise(.1)}}
			if err := r.Validate(&schema, "reading"); err != nil {
				t.Fatal(err)
			}
			h.Readings = append(h.Readings, r)
		}
		out = append(out, h)
	}
	return out
}

// TestOtherEquipment trains on and serves a fleet that is no turbofan: two settings, five sensors, a CSV file.
func TestOtherEquipment(t *testing.T) {
	dir := t.TempDir()
	schemaFile, train, test := filepath.Join(dir, "pumps.yaml"), filepath.Join(dir, "train.csv"), filepath.Join(dir, "test.csv")
	if err := os.WriteFile(schemaFile, []byte(pumpSchema), 0o644); err != nil {
		t.Fatal(err)
	}
	schema, err := dataset.LoadSchema(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	fresh := pumps(t, 10, 2, schema)
	for i := range fresh { // cut somewhere in life: their ends are in the file, not in the readings
		fresh[i].Readings = fresh[i].Readings[:len(fresh[i].Readings)*(i+1)/12]
	}
	for path, units := range map[string][]turbofan.History{train: pumps(t, 20, 1, schema), test: fresh} {
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := dataset.WriteCSV(f, &dataset.Set{Schema: schema, Units: units}); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	data := filepath.Join(dir, "data")
	p := serve(t, quick, "--schema", schemaFile, "--csv", train, "--data-dir", data)
	p.ready(rolePredict)
	code, body := p.post(rolePredict, "/predict", `{"unit_id":"pump 9","cycle":1,"settings":{"speed":1500,"load":0.8},"sensors":{"pressure":2,"q":15,"temperature":45,"vibration":1.5,"current":12}}`)
	if code != http.StatusOK || !strings.Contains(body, `"rul_prediction":`) {
		t.Errorf("a pump's reading gets %d %s", code, body)
	}
	code, body = p.post(rolePredict, "/predict", `{"unit_id":"pump 9","cycle":2,"speed":1500,"load":0.8,"pressure":-2,"flow":15,"temperature":45,"vibration":1.5,"current":12}`)
	if code != http.StatusBadRequest || !strings.Contains(body, "pressure is -2, below its least possible value 0") {
		t.Errorf("an impossible reading gets %d %s", code, body)
	}
	healthy := ask(t, p.predictions(), fresh[9].Readings[:20]...)[19]
	worn := ask(t, p.predictions(), fresh[9].Readings[20:]...)
	last, truth := worn[len(worn)-1], float64(fresh[9].FailedAtCycle-len(fresh[9].Readings))
	if last.RUL > healthy.RUL || math.Abs(last.RUL-truth) > 20 {
		t.Errorf("a pump with %g hours left gets %.1f, in its youth %.1f", truth, last.RUL, healthy.RUL)
	}
	if code, body := p.post(roleDrift, "/check", ""); code != http.StatusOK {
		t.Errorf("a check gets %d %s", code, body)
	}
	if code := p.signal(syscall.SIGTERM); code != exitOK {
		t.Errorf("exit %d", code)
	}

	code, out, errs := call(t, "evaluate", "--schema", schemaFile, "--csv", test, "--data-dir", data, "--json")
	var table []struct {
		Subset string
		Units  int
		RMSE   float64 `json:"rmse_clipped"`
	}
	if err := json.Unmarshal([]byte(out), &table); err != nil || code != exitOK || len(table) != 1 || table[0].Units != 10 || !(table[0].RMSE < 20) {
		t.Errorf("evaluate: %d %v\n%s%s", code, err, out, errs)
	}
	code, out, errs = call(t, "predict", "--data-dir", data, "--format", "csv", test)
	if lines := strings.Split(strings.TrimSpace(out), "\n"); code != exitOK || len(lines) != 11 || lines[0] != "unit_id,cycle,rul_prediction,rul_lower,rul_upper,failure_probability,health" {
		t.Errorf("predict: %d\n%s%s", code, out, errs)
	}
	code, out, errs = call(t, "train", "--schema", schemaFile, "--csv", train, "--data-dir", data, "--folds", "2", "--json")
	var trained struct {
		Version  string `json:"model_version"`
		Promoted bool
	}
	if err := json.Unmarshal([]byte(out), &trained); err != nil || code != exitOK || trained.Version != "2" || trained.Promoted {
		t.Errorf("train: %d %v\n%s%s", code, err, out, errs)
	}
	// A C-MAPSS file has no column of a pump.
	code, _, errs = call(t, "predict", "--data-dir", data, filepath.Join(must(t, shared.fleet), "test_FD001.txt"))
	if code != exitUsage || !strings.Contains(errs, "is C-MAPSS text, and the model was trained on pumps, with 2 settings and 5 sensors: give it a CSV file with a header") {
		t.Errorf("predict of engines by a model of pumps: %d %s", code, errs)
	}
}

// TestBadTables trains on tables that nothing can be learnt from: each is refused by name of what is wrong, and leaves no
// version, no unfinished run and no directory behind.
func TestBadTables(t *testing.T) {
	schema, err := dataset.ReadSchema([]byte(pumpSchema), "pumps.yaml")
	if err != nil {
		t.Fatal(err)
	}
	each := func(units []turbofan.History, edit func(r *turbofan.Reading)) []turbofan.History {
		for u := range units {
			for i := range units[u].Readings {
				edit(&units[u].Readings[i])
			}
		}
		return units
	}
	fill := func(v float64) func(*turbofan.Reading) {
		return func(r *turbofan.Reading) {
			for j := range r.Sensors {
				r.Sensors[j] = v
			}
		}
	}
	ended := pumps(t, 8, 3, schema)
	for i := range ended {
		ended[i].Readings = ended[i].Readings[:12]
	}
	for name, c := range map[string]struct {
		units []turbofan.History
		want  string
	}{
		"constant sensors": {each(pumps(t, 8, 3, schema), fill(7)), "no sensor varies in every operating condition"},
		"no sensor at all": {each(pumps(t, 8, 3, schema), fill(math.NaN())), "no sensor varies in every operating condition"},
		"one unit":         {pumps(t, 1, 3, schema), "train model: 1 unit with a known end; at least 5 are needed"},
		"few readings":     {ended, "train model: 96 readings of units with a known end"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			for path, write := range map[string]func(*os.File) error{
				"bad.csv":    func(f *os.File) error { return dataset.WriteCSV(f, &dataset.Set{Schema: schema, Units: c.units}) },
				"pumps.yaml": func(f *os.File) error { _, err := f.WriteString(pumpSchema); return err },
			} {
				f, err := os.Create(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(write(f), f.Close()); err != nil {
					t.Fatal(err)
				}
			}
			code, out, errs := call(t, "train", "--schema", "pumps.yaml", "--csv", "bad.csv", "--data-dir", "data", "--out", "model", "--model", "forest")
			if code == exitOK || out != "" || !strings.Contains(errs, "turbofan: "+c.want) {
				t.Errorf("exit %d\n%s%s", code, out, errs)
			}
			for _, path := range []string{"model", "data"} {
				if _, err := os.Stat(path); !os.IsNotExist(err) {
					t.Errorf("%s was left behind (%v)", path, err)
				}
			}
		})
	}
}
