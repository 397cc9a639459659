package dataset_test

import (
	"math"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"turbofan"
	"turbofan/dataset"
)

// The synthetic subsets must tell the story of C-MAPSS: as many engines, conditions and varying sensors, lives of about
// 200 cycles, sensors that follow wear, and a second way to fail that moves some of them the other way.
func TestSynthesizeTellsTheStory(t *testing.T) {
	facts := []struct {
		name               string
		train, test        int
		conditions, faults int
	}{{"FD001", 100, 100, 1, 1}, {"FD002", 260, 259, 6, 1}, {"FD003", 100, 100, 1, 2}, {"FD004", 249, 248, 6, 2}}
	for _, f := range facts {
		t.Run(f.name, func(t *testing.T) {
			config, ok := dataset.SynthSubset(f.name, 1)
			if !ok {
				t.Fatal("unknown subset")
			}
			if config.TrainUnits != f.train || config.TestUnits != f.test {
				t.Errorf("%d and %d engines, want %d and %d", config.TrainUnits, config.TestUnits, f.train, f.test)
			}
			config.TrainUnits, config.TestUnits = 70, 40
			train, test := dataset.Synthesize(config)
			if len(train.Units) != 70 || len(test.Units) != 40 || !train.HasTruth() || !test.HasTruth() {
				t.Fatalf("%d and %d engines", len(train.Units), len(test.Units))
			}
			checkReadings(t, train)
			checkReadings(t, test)
			d := dataset.Describe(train).Sets[0]
			if len(d.Conditions) != f.conditions {
				t.Errorf("%d conditions, want %d", len(d.Conditions), f.conditions)
			}
			if len(d.Varying) < 14 || len(d.Varying) > 16 {
				t.Errorf("%d sensors vary: %v", len(d.Varying), d.Varying)
			}
			if d.Cycles.Mean < 180 || d.Cycles.Mean > 270 || d.Cycles.Min < 128 || d.Cycles.Max > 700 {
				t.Errorf("lives are %+v", d.Cycles)
			}
			r := func(sensor int) float64 { return *d.Sensors[sensor-1].RULCorrelation }
			if r(11) > -0.6 || r(4) > -0.55 {
				t.Errorf("sensors 11 and 4 correlate with RUL by %.2f and %.2f", r(11), r(4))
			}
			if f.faults == 1 && r(12) < 0.4 || f.faults == 2 && r(12) > 0 {
				t.Errorf("sensor 12 correlates with RUL by %.2f where engines fail in %d ways", r(12), f.faults)
			}
			for i := range test.Units {
				u := &test.Units[i]
				rul, _ := u.RUL(len(u.Readings) - 1)
				if rul < 6 || rul > 146 || len(u.Readings) < 20 {
					t.Errorf("test engine %s is seen for %d cycles and has %g left", u.UnitID, len(u.Readings), rul)
				}
			}
		})
	}
}

func TestSynthesizeIsDeterministic(t *testing.T) {
	config := dataset.SynthConfig{TrainUnits: 5, TestUnits: 3, Seed: 9, Conditions: 3, Faults: 2}
	a, aTest := dataset.Synthesize(config)
	b, bTest := dataset.Synthesize(config)
	if !reflect.DeepEqual(a, b) || !reflect.DeepEqual(aTest, bTest) {
		t.Error("the same configuration gave another fleet")
	}
	config.TrainUnits = 8
	longer, _ := dataset.Synthesize(config)
	if !reflect.DeepEqual(a.Units, longer.Units[:5]) {
		t.Error("a longer fleet does not begin like the shorter one")
	}
	config.Seed = 10
	if other, _ := dataset.Synthesize(config); other.Digest == longer.Digest {
		t.Error("another seed gave the same fleet")
	}
}

func TestSynthesizeTakesAnyConfiguration(t *testing.T) {
	for _, c := range []dataset.SynthConfig{{}, {Conditions: 99, Faults: -1, TrainUnits: 1, TestUnits: 1, Noise: math.NaN(), Seed: math.MinInt64}, {Noise: 1e6, TrainUnits: 1, TestUnits: 1}} {
		train, test := dataset.Synthesize(c)
		if train.Name != "SYNTH" || train.Rows() == 0 || test.Rows() == 0 {
			t.Errorf("%+v gave %d and %d rows", c, train.Rows(), test.Rows())
		}
	}
	if _, ok := dataset.SynthSubset("FD005", 1); ok {
		t.Error("FD005 is a subset")
	}
}

func TestWriteCMAPSSRoundTrip(t *testing.T) {
	config, _ := dataset.SynthSubset("FD002", 3)
	config.TrainUnits, config.TestUnits = 4, 3
	train, test := dataset.Synthesize(config)
	dir := filepath.Join(t.TempDir(), "new", "fleet")
	if err := dataset.WriteCMAPSS(dir, dataset.Pair{Train: train, Test: test}); err != nil {
		t.Fatal(err)
	}
	gotTrain, gotTest, err := dataset.LoadCMAPSS(dir, "FD002")
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(train, gotTrain) || !reflect.DeepEqual(test, gotTest) {
		t.Error("what was written is not what was made")
	}
	where, err := dataset.Locate(dir, "")
	if err != nil || !where.Synthetic || where.Verified {
		t.Errorf("located as %+v, %v", where, err)
	}
	if err := dataset.WriteCMAPSS(dir, dataset.Pair{Train: train, Test: test}); turbofan.ErrorCode(err) != turbofan.EConflict {
		t.Errorf("writing over a fleet: %v", err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(dir)); len(entries) != 1 {
		t.Errorf("%d entries beside the fleet", len(entries))
	}
	odd := &dataset.Set{Name: "X", Schema: pump()}
	if err := dataset.WriteCMAPSS(filepath.Join(dir, "odd"), dataset.Pair{Train: odd, Test: odd}); turbofan.ErrorCode(err) != turbofan.EInvalid {
		t.Errorf("another schema: %v", err)
	}
}
