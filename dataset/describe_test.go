package dataset_test

import (
	"encoding/json"
	"math"
	"slices"
	"testing"

	"turbofan"
	"turbofan/dataset"
)

func TestDescribeKnowsTheFacts(t *testing.T) {
	dir := cmapssDir(t)
	for _, f := range []struct {
		subset            string
		conditions        int
		varying           int
		shortest, longest float64
		mean              float64
	}{
		{"FD001", 1, 14, 128, 362, 206.31},
		{"FD002", 6, 14, 128, 378, 206.765},
		{"FD003", 1, 15, 145, 525, 247.2},
		{"FD004", 6, 16, 128, 543, 245.98},
	} {
		train, _, err := dataset.LoadCMAPSS(dir, f.subset)
		if err != nil {
			t.Fatal(err)
		}
		d := dataset.Describe(train).Sets[0]
		if len(d.Conditions) != f.conditions || len(d.Varying) != f.varying || d.Missing != 0 {
			t.Errorf("%s: %d conditions, %d varying sensors, %d missing; want %d, %d, 0", f.subset, len(d.Conditions), len(d.Varying), d.Missing, f.conditions, f.varying)
		}
		if c := d.Cycles; c.Min != f.shortest || c.Max != f.longest || math.Abs(c.Mean-f.mean) > 0.01 {
			t.Errorf("%s: lives are %+v, want %g to %g, mean %g", f.subset, c, f.shortest, f.longest, f.mean)
		}
		rows := 0
		for _, c := range d.Conditions {
			rows += c.Rows
		}
		if rows != train.Rows() || d.RUL.Count != rows || d.RUL.Max != f.longest-1 || d.RUL.Min != 0 {
			t.Errorf("%s: %d rows in conditions, RUL %+v", f.subset, rows, d.RUL)
		}
		for _, constant := range []int{1, 5, 18, 19} {
			if s := d.Sensors[constant-1]; s.Variation != dataset.Constant || s.SD != 0 || s.RULCorrelation != nil {
				t.Errorf("%s: %s is %s with deviation %g", f.subset, s.Name, s.Variation, s.SD)
			}
		}
		if best := d.Ranked()[0]; math.Abs(*best.RULCorrelation) < 0.65 {
			t.Errorf("%s: the strongest sensor %s correlates with RUL by %.2f only", f.subset, best.Name, *best.RULCorrelation)
		}
		if _, err := json.Marshal(d); err != nil {
			t.Errorf("%s: %v", f.subset, err)
		}
	}
}

// reading returns a reading of unit "a" or another under a schema of one setting and two sensors.
func reading(unit string, cycle int, setting, x, y float64) turbofan.Reading {
	return turbofan.Reading{UnitID: unit, Cycle: cycle, Settings: []float64{setting}, Sensors: []float64{x, y}}
}

func pump() turbofan.Schema {
	return turbofan.Schema{
		Name: "pump", UnitColumn: "pump", CycleColumn: "hour",
		Settings: []turbofan.Channel{{Name: "load", Tolerance: 1}},
		Sensors:  []turbofan.Channel{{Name: "vibration", Aliases: []string{"vib"}}, {Name: "temperature"}},
	}
}

func TestDescribeWithinConditions(t *testing.T) {
	nan := math.NaN()
	set := &dataset.Set{Name: "pumps", Schema: pump(), Units: []turbofan.History{
		{UnitID: "a", FailedAtCycle: 6, Readings: []turbofan.Reading{
			reading("a", 1, 0, 1, 7), reading("a", 2, 10, 101, 7), reading("a", 3, 0.5, 3, 7),
			reading("a", 4, 10.5, 103, 7), reading("a", 5, 0, 5, nan), reading("a", 6, 10, 105, 7)}},
	}}
	d := dataset.Describe(set).Sets[0]
	if len(d.Conditions) != 2 || d.Conditions[0].Rows != 3 || math.Abs(d.Conditions[1].Settings[0]-10.1667) > 1e-3 {
		t.Fatalf("conditions are %+v", d.Conditions)
	}
	x, y := d.Sensors[0], d.Sensors[1]
	// Within each condition the values are a, a+2, a+4: deviation sqrt(8/3), though the range is 104.
	if math.Abs(x.SD-math.Sqrt(8.0/3)) > 1e-9 || x.Min != 1 || x.Max != 105 {
		t.Errorf("vibration is %+v", x)
	}
	if x.RULCorrelation == nil || *x.RULCorrelation > -0.95 {
		t.Errorf("vibration rises towards failure in each condition, correlation is %v", x.RULCorrelation)
	}
	if y.Variation != dataset.Constant || y.Missing != 1 || d.Missing != 1 || y.RULCorrelation != nil {
		t.Errorf("temperature is %+v", y)
	}
	if z := d.Normal(&set.Units[0].Readings[3], 0); math.Abs(z) > 1e-9 {
		t.Errorf("the middle value of its condition lies %g deviations from the mean", z)
	}
	if z := d.Normal(&set.Units[0].Readings[3], 1); !math.IsNaN(z) {
		t.Errorf("a sensor that does not vary has no deviation to count in, got %g", z)
	}
}

func TestDescribeWithoutTruthOrOrder(t *testing.T) {
	set := &dataset.Set{Name: "pumps", Schema: pump()}
	set.Schema.Settings[0].Tolerance = 0
	for i := range 300 {
		set.Units = append(set.Units, turbofan.History{UnitID: "u", Readings: []turbofan.Reading{reading("u", 1, float64(i*i), float64(i), float64(-i))}})
	}
	d := dataset.Describe(set, &dataset.Set{Schema: pump()})
	if got := d.Sets[0]; got.RUL.Count != 0 || got.Sensors[0].RULCorrelation != nil || !slices.Equal(got.Varying, []string{"vibration", "temperature"}) {
		t.Errorf("without truth: %+v", got)
	}
	if r := d.Sets[0].Correlation[1][0]; len(d.Sets[0].Conditions) > 20 || r > -0.9 {
		t.Errorf("%d conditions, correlation %g", len(d.Sets[0].Conditions), r)
	}
	if d.Sets[1].Rows != 0 || d.Sets[1].Sensors[0].Variation != dataset.Constant {
		t.Errorf("an empty set: %+v", d.Sets[1])
	}
	if _, err := json.Marshal(d); err != nil {
		t.Error(err)
	}
}
