//go:build !race

package retrain_test

import (
	"cmp"
	"os"
	"testing"

	"turbofan"
	"turbofan/dataset"
	"turbofan/feature"
	"turbofan/model"
	"turbofan/retrain"
)

// cmapss reads a subset, or skips the test where it is not there.
func cmapss(t *testing.T, subset string) (train, test *dataset.Set) {
	t.Helper()
	train, test, err := dataset.LoadCMAPSS(cmp.Or(os.Getenv("TURBOFAN_DATA"), "../../shared/cmapss"), subset)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("C-MAPSS is not here: %v", err)
	}
	return train, test
}

// No engine of NASA's is taken for broken, whatever its fault mode or its conditions. One goroutine works over four
// training sets: under the race detector that is minutes and nothing to race.
func TestSoundEnginesAreKept(t *testing.T) {
	base, _ := cmapss(t, "FD001")
	cfg := model.DefaultConfig(model.Boosting)
	cfg.Feature, cfg.Folds, cfg.Boosting.MaxIter = feature.Record(), 2, 40
	m, err := model.Train(t.Context(), cfg, model.Data{Schema: base.Schema, Units: base.Units}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, subset := range []string{"FD001", "FD002", "FD003", "FD004"} {
		train, test := cmapss(t, subset)
		for name, units := range map[string][]turbofan.History{"train": train.Units, "test": test.Units} {
			out := 0
			for _, u := range units {
				why, err := retrain.Fault(m, base.Units, u)
				if err != nil {
					t.Fatal(err)
				}
				if why != "" {
					if out++; out < 4 {
						t.Logf("%s %s unit %s: %s", subset, name, u.UnitID, why)
					}
				}
			}
			t.Logf("%s %s: %d of %d left out", subset, name, out, len(units))
			if name == "train" && out > 0 || subset == "FD001" && out > len(units)/20 {
				t.Errorf("%s %s: %d of %d sound engines left out", subset, name, out, len(units))
			}
		}
	}
	broken, _ := cmapss(t, "FD003")
	const s11, sd = 10, 0.15 // of sensor 11 among young engines
	for name, spoil := range map[string]func(v *float64, i int){
		"stuck": func(v *float64, i int) { *v = 47.3 },
		"off":   func(v *float64, i int) { *v += 15 * sd },
		"off from cycle 60 on": func(v *float64, i int) {
			if i >= 60 {
				*v -= 10 * sd
			}
		},
	} {
		out := 0
		for _, u := range broken.Units {
			h := turbofan.History{UnitID: u.UnitID, FailedAtCycle: u.FailedAtCycle}
			for i, r := range u.Readings {
				r.Sensors = append([]float64(nil), r.Sensors...)
				spoil(&r.Sensors[s11], i)
				h.Readings = append(h.Readings, r)
			}
			why, err := retrain.Fault(m, base.Units, h)
			if err != nil {
				t.Fatal(err)
			}
			if why != "" {
				out++
			}
		}
		t.Logf("sensor 11 %s: %d of %d left out", name, out, len(broken.Units))
		if out < len(broken.Units)*7/10 {
			t.Errorf("sensor 11 %s: only %d of %d left out", name, out, len(broken.Units))
		}
	}
}
