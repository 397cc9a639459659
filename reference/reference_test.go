package reference_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"turbofan"
	"turbofan/reference"
	"turbofan/stat"
)

func schema() turbofan.Schema {
	return turbofan.Schema{Name: "press", Settings: []turbofan.Channel{{Name: "force"}},
		Sensors: []turbofan.Channel{{Name: "smooth"}, {Name: "whole"}, {Name: "constant"}, {Name: "nearly"}}}
}

// presses are units with a smooth sensor, one in whole numbers, a constant and one that shows another value now and then.
func presses(units, cycles int) []turbofan.History {
	rng := rand.New(rand.NewPCG(1, 2))
	var out []turbofan.History
	for u := range units {
		h := turbofan.History{UnitID: fmt.Sprint(u)}
		for c := 1; c <= cycles; c++ {
			x := []float64{rng.NormFloat64(), math.Round(20 + 1.5*rng.NormFloat64()), 7, 1}
			if rng.IntN(30) == 0 {
				x[3] = 1.01
			}
			h.Readings = append(h.Readings, turbofan.Reading{UnitID: h.UnitID, Cycle: c, Settings: []float64{5}, Sensors: x})
		}
		out = append(out, h)
	}
	return out
}

func learn(t *testing.T) *reference.Reference {
	t.Helper()
	r, err := reference.Learn(reference.DefaultConfig(), schema(), presses(30, 60))
	if err != nil {
		t.Fatal(err)
	}
	r.RMSE, r.Cap = 12, 125
	return r
}

func TestLearnChoosesSensors(t *testing.T) {
	r := learn(t)
	if fmt.Sprint(r.Keep) != "[0 1]" {
		t.Errorf("watches %v, want the smooth and the whole sensor: one is constant, one nearly", r.Keep)
	}
	if r.Step[1] != 1 || r.Step[0] > 0.1 {
		t.Errorf("steps %v, want about 0 and 1", r.Step)
	}
	if r.Run[0] != 1 || r.Run[1] < 3 {
		t.Errorf("longest runs %v, want 1 and several", r.Run)
	}
	if n := len(r.Profile.Channels[1].Edges); n != 9 {
		t.Errorf("%d edges for the whole sensor, want 9: its values are spread", n)
	}
}

// A reference of a large fleet is measured on whole units from all over it.
func TestLearnOfALargeFleet(t *testing.T) {
	units := presses(700, 500)
	for i := range units {
		if i >= len(units)/2 { // the younger half presses otherwise
			for _, r := range units[i].Readings {
				r.Sensors[0] += 3
			}
		}
	}
	r, err := reference.Learn(reference.DefaultConfig(), schema(), units)
	if err != nil {
		t.Fatal(err)
	}
	p := r.Profile
	if p.Rows > 300_000 || p.Rows < 290_000 || p.Rows != 500*p.Units {
		t.Errorf("profile of %d readings of %d units, want nearly 300,000, 500 of each", p.Rows, p.Units)
	}
	if m := p.Channels[0].Mean; math.Abs(m) > 0.05 {
		t.Errorf("mean of the normalised sensor is %.3f, want 0 as over both halves", m)
	}
}

func TestNearlyConstantSensorsAreWatchedWhereThereIsNoOther(t *testing.T) {
	units := presses(20, 60)
	for u := range units {
		for i := range units[u].Readings {
			copy(units[u].Readings[i].Sensors, []float64{7, 7, 7})
		}
	}
	r, err := reference.Learn(reference.DefaultConfig(), schema(), units)
	if err != nil || fmt.Sprint(r.Keep) != "[3]" {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestLearnRefuses(t *testing.T) {
	if _, err := reference.Learn(reference.DefaultConfig(), schema(), nil); err == nil || !strings.Contains(err.Error(), "no samples") {
		t.Errorf("no units: %v", err)
	}
	units := presses(2, 40)
	for u := range units {
		for i := range units[u].Readings {
			units[u].Readings[i].Sensors = []float64{1, 2, 3, 4}
		}
	}
	if _, err := reference.Learn(reference.DefaultConfig(), schema(), units); turbofan.ErrorCode(err) != turbofan.EInsufficient {
		t.Errorf("constant sensors: %v", err)
	}
}

func TestNormalizeIsRepeatable(t *testing.T) {
	r, again := learn(t), learn(t)
	x := presses(1, 40)[0].Readings[30]
	a, b := make([]float64, 2), make([]float64, 2)
	r.Normalize(&x, &r.Normalizer.Regimes[0], a)
	again.Normalize(&x, &again.Normalizer.Regimes[0], b)
	if a[0] != b[0] || a[1] != b[1] {
		t.Errorf("%v and %v", a, b)
	}
	regime := &r.Normalizer.Regimes[0]
	if off := math.Abs(a[1]*regime.Std[1] + regime.Mean[1] - x.Sensors[1]); off == 0 || off > 0.5 {
		t.Errorf("moved by %v, want at most half a step", off)
	}
	x.Sensors[0] = math.NaN()
	if r.Normalize(&x, regime, a); !math.IsNaN(a[0]) || math.IsNaN(a[1]) {
		t.Errorf("a missing value gave %v", a)
	}
}

func TestReadBack(t *testing.T) {
	r := learn(t)
	if err := r.SetPredictions([]float64{1, 2, 3, 4}, []int{1, 2, 3, 4}, []int{1, 1, 2, 2}); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), reference.FileName)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := reference.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(got)
	if err != nil || string(again) != string(b) {
		t.Errorf("a reference changes when it is read: %v", err)
	}
}

func TestReadRefuses(t *testing.T) {
	dir := t.TempDir()
	write := func(change func(*reference.Reference)) string {
		r := learn(t)
		change(r)
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "r.json")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		change func(*reference.Reference)
		want   string
	}{
		{func(r *reference.Reference) { r.Schema.Name = "" }, "schema.name: is missing"},
		{func(r *reference.Reference) { r.Profile = nil }, "reference: has no normalizer or no profile"},
		{func(r *reference.Reference) { r.Normalizer.Regimes = nil }, "reference.normalizer: check regimes: there is none"},
		{func(r *reference.Reference) { r.Profile.Channels[0].Edges = nil }, "reference.profile: check profile: channel smooth"},
		{func(r *reference.Reference) { r.Keep = nil }, "reference.keep: lists no sensor"},
		{func(r *reference.Reference) { r.Keep = r.Keep[:1] }, "reference.keep: lists 1 sensors for 2 channels"},
		{func(r *reference.Reference) { r.Keep[0] = 9 }, "reference.keep: 9 is not a sensor of press"},
		{func(r *reference.Reference) { r.Step = r.Step[:1] }, "reference.step: has 1 values for 2 sensors"},
		{func(r *reference.Reference) { r.Step[1] = -1 }, "reference.step[1]: must be a finite number of at least 0"},
		{func(r *reference.Reference) { r.Run = r.Run[:1] }, "reference.run: has 1 values for 2 sensors"},
		{func(r *reference.Reference) { r.SpreadTails = r.SpreadTails[:1] }, "reference.spread_tails: has 1 entries for 12 age bands"},
		{func(r *reference.Reference) { r.SpreadTails[2].Share = 2 }, "reference.spread_tails[2]: check tail"},
		{func(r *reference.Reference) { r.Spreads[0].Ages = nil }, "reference.spreads[0]: check spread"},
		{func(r *reference.Reference) { p := *r.Profile; r.Prediction = &p }, "reference.prediction: has 2 channels, must have one"},
	} {
		if _, err := reference.Read(write(c.change)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
	if _, err := reference.Read(filepath.Join(dir, "none.json")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an absent file: %v", err)
	}
}

// A reference from before there were tails by age judges units by one for all ages, which begins where the furthest tenth
// or what is known of it does; one of few units judges none, and can be used for all else.
func TestReadBeforeTails(t *testing.T) {
	r := learn(t)
	r.SpreadTails, r.Spreads[0].Ages = nil, nil
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	far := func(n int) []float64 { // each by a tenth further out than the next
		out := make([]float64, n)
		for i := range out {
			out[i] = math.Pow(1.1, float64(n-i))
		}
		return out
	}
	for _, c := range []struct {
		name    string
		tail    []float64
		windows int
		want    *stat.Tail
	}{
		{"all known", far(100), 100, &stat.Tail{From: math.Pow(1.1, 90), Share: 0.1, Count: 10, Excess: 55 * math.Log(1.1)}},
		{"the furthest known", far(21), 1000, &stat.Tail{From: 1.1, Share: 0.02, Count: 20, Excess: 210 * math.Log(1.1)}},
		{"few units", far(49), 49, nil},
		{"none", nil, 0, nil},
	} {
		var old map[string]any
		if err := json.Unmarshal(b, &old); err != nil {
			t.Fatal(err)
		}
		old["spread_tail"], old["spread_windows"] = c.tail, c.windows
		got, err := readJSON(t, old)
		switch {
		case err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want == nil:
			if got.Spreads != nil || got.SpreadTails != nil || got.Chance(1e9, 30) != 1 {
				t.Errorf("%s: judges units by %v", c.name, got.SpreadTails)
			}
		default:
			if len(got.SpreadTails) != 12 || got.Spreads[0].Course(1, 0, true) != 0 {
				t.Fatalf("%s: %d tails, course %v", c.name, len(got.SpreadTails), got.Spreads[0].Course(1, 0, true))
			}
			for _, tail := range got.SpreadTails {
				if math.Abs(tail.From/c.want.From-1) > 1e-12 || math.Abs(tail.Excess/c.want.Excess-1) > 1e-12 || tail.Share != c.want.Share || tail.Count != c.want.Count {
					t.Errorf("%s: %+v, want %+v", c.name, tail, *c.want)
				}
			}
		}
	}
	for want, old := range map[string]map[string]any{
		"reference.spread_tail: has 2 values of 1 windows": {"spread_tail": far(2), "spread_windows": 1},
		"has no normalizer or no profile":                  {"schema": r.Schema, "spread_tail": far(100), "spread_windows": 100},
	} {
		if _, err := readJSON(t, old); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func readJSON(t *testing.T, v any) (*reference.Reference, error) {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), reference.FileName)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return reference.Read(path)
}

func FuzzRead(f *testing.F) {
	r, err := reference.Learn(reference.DefaultConfig(), schema(), presses(5, 30))
	if err != nil {
		f.Fatal(err)
	}
	r.RMSE = 1
	good, err := json.Marshal(r)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"schema":{"name":"x","sensors":[{"name":"a"}]},"normalizer":{},"profile":{}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "r.json")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := reference.Read(path)
		if err != nil {
			return
		}
		// What is accepted can be used.
		x := turbofan.Reading{UnitID: "u", Cycle: 1, Settings: make([]float64, len(r.Schema.Settings)), Sensors: make([]float64, len(r.Schema.Sensors))}
		if k := r.Normalizer.Find(x.Settings); k >= 0 {
			r.Normalize(&x, &r.Normalizer.Regimes[k], make([]float64, len(r.Keep)))
		}
	})
}
