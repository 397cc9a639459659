package drift_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"turbofan"
	"turbofan/dataset"
	"turbofan/drift"
	"turbofan/reference"
)

// cmapss loads a subset, or skips the test where the data is absent.
func cmapss(t testing.TB, subset string) (train, test *dataset.Set) {
	t.Helper()
	dir := os.Getenv("TURBOFAN_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "cmapss")
	}
	if _, err := os.Stat(filepath.Join(dir, "train_"+subset+".txt")); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("C-MAPSS is needed in CI: %v", err)
		}
		t.Skipf("C-MAPSS is not here: %v", err)
	}
	train, test, err := dataset.LoadCMAPSS(dir, subset)
	if err != nil {
		t.Fatal(err)
	}
	return train, test
}

// TestPowerOnCMAPSS holds the detector to its false alarms and its power, with a reference of FD001's training engines:
// FD001 and FD002 are the same faults, FD002 in conditions never seen; FD003 and FD004 bring another fault.
func TestPowerOnCMAPSS(t *testing.T) {
	train, _ := cmapss(t, "FD001")
	ref, err := reference.Learn(reference.DefaultConfig(), train.Schema, train.Units)
	if err != nil {
		t.Fatal(err)
	}
	streams := map[string][]turbofan.History{}
	for _, subset := range dataset.Subsets() {
		_, test := cmapss(t, subset)
		streams[subset] = test.Units
	}
	rows, err := drift.Power(context.Background(), drift.DefaultPowerConfig(), ref, streams, []int{1000}, 60, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		t.Logf("%+v", r)
		switch r.Stream {
		case "FD001", "FD002":
			if r.Alarms > 3 {
				t.Errorf("%s: %d of %d windows alarm", r.Stream, r.Alarms, r.Judged)
			}
		default:
			if r.Alarms < 54 || r.Judged < 54 {
				t.Errorf("%s: only %d of %d windows alarm", r.Stream, r.Alarms, r.Judged)
			}
		}
	}
}

// TestDelayOnCMAPSS holds the detector to how soon it notices engines with another fault among sound ones: before the
// rule on units it took 55 engines, and a detector that knew each of them at its first reading would take about ten. Test
// engines were cut off before they failed, and show the fault for less long. The medians of so few runs are good to four
// units.
func TestDelayOnCMAPSS(t *testing.T) {
	train, test := cmapss(t, "FD001")
	otherTrain, otherTest := cmapss(t, "FD003")
	ref, err := reference.Learn(reference.DefaultConfig(), train.Schema, train.Units)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name       string
		old, fresh []turbofan.History
		units      float64
	}{{"whole lives", train.Units, otherTrain.Units, 15}, {"lives cut off", test.Units, otherTest.Units, 18}} {
		r, err := drift.Delay(t.Context(), drift.DefaultDelayConfig(), ref, c.old, c.fresh, 12, 1)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %+v", c.name, r)
		if r.Units > c.units || r.New > 6 || r.Units < r.Bound || r.Missed > 0 || r.Early > 2 {
			t.Errorf("%s: the alarm comes after %v units, %v of them new; %d runs missed, %d early", c.name, r.Units, r.New, r.Missed, r.Early)
		}
	}
}
