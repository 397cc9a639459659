package drift_test

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"turbofan"
	"turbofan/drift"
	"turbofan/reference"
)

// stored numbers readings in order of arrival.
func stored(readings []turbofan.Reading) []turbofan.StoredReading {
	out := make([]turbofan.StoredReading, len(readings))
	for i, r := range readings {
		out[i] = turbofan.StoredReading{Reading: r, Seq: int64(i + 1)}
	}
	return out
}

func judge(t *testing.T, ref *reference.Reference, w drift.Window) turbofan.DriftReport {
	t.Helper()
	report, err := drift.Judge(ref, w, drift.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// Of few sensors fewer must drift, where nobody says how many.
func TestFewSensorsDecideByFewer(t *testing.T) {
	ref := pumpReference(t) // watches five sensors
	w := odd(21, 63, []int{1}, 3)
	if r := judge(t, ref, drift.Window{Readings: w}); r.Verdict != turbofan.Drifted || !strings.HasPrefix(r.Because, "psi(b)=") {
		t.Errorf("one sensor: %s because %q", r.Verdict, r.Because)
	}
	cfg := drift.DefaultConfig()
	cfg.Rank = 2
	// A sensor that is off everywhere is not taken for units whose sensors do not go together either.
	if r, err := drift.Judge(ref, drift.Window{Readings: w}, cfg); err != nil || r.Verdict != turbofan.NoDrift || r.Spread.Drifted {
		t.Errorf("one of two: %s because %q, %v", r.Verdict, r.Because, err)
	}
}

func TestQualityIsNoDrift(t *testing.T) {
	ref := pumpReference(t)
	for _, c := range []struct {
		name string
		harm func([]turbofan.StoredReading)
		want turbofan.QualityIssue
	}{
		{"healthy data", func([]turbofan.StoredReading) {}, turbofan.QualityIssue{}},
		{"a stuck sensor", func(w []turbofan.StoredReading) {
			for i := range w {
				if w[i].UnitID == w[7].UnitID {
					w[i].Sensors[3] = 101.5
				}
			}
		}, turbofan.QualityIssue{Kind: "stuck", Channel: "d", Count: 17, Detail: "17 readings in a row with one value; in training at most 1"}},
		{"a constant that moved", func(w []turbofan.StoredReading) {
			w[3].Sensors[5], w[4].Sensors[5], w[5].Sensors[5] = 6.5, 8, math.NaN()
		}, turbofan.QualityIssue{Kind: "constant", Channel: "f", Count: 2, Detail: "always 7 in training and from 6.5 to 8 now"}},
		{"another constant", func(w []turbofan.StoredReading) {
			for i := range w {
				w[i].Sensors[5] = 7.5
			}
		}, turbofan.QualityIssue{Kind: "constant", Channel: "f", Count: 1000, Detail: "always 7 in training and always 7.5 now"}},
		{"a silent sensor", func(w []turbofan.StoredReading) {
			for i := range w {
				if i%10 == 0 {
					w[i].Sensors[1] = math.NaN()
				}
			}
		}, turbofan.QualityIssue{Kind: "missing", Channel: "b", Count: 100, Detail: "10% of the readings have no value; in training 0%"}},
		{"a wild sensor", func(w []turbofan.StoredReading) { w[3].Sensors[0], w[63].Sensors[0] = 1e6, -1e6 },
			turbofan.QualityIssue{Kind: "out_of_range", Channel: "a", Count: 2, Detail: "2 readings of 1 unit outside"}},
		{"the largest numbers there are", func(w []turbofan.StoredReading) {
			w[3].Sensors[0], w[63].Sensors[0] = math.MaxFloat64, -math.MaxFloat64
		},
			turbofan.QualityIssue{Kind: "out_of_range", Channel: "a", Count: 2, Detail: "2 readings of 1 unit outside"}},
		{"a late reading", func(w []turbofan.StoredReading) { w[3].Reading, w[63].Reading = w[63].Reading, w[3].Reading },
			turbofan.QualityIssue{Kind: "late", Count: 1, Detail: "1 reading arrived after a later cycle of the unit"}},
		{"a reading twice", func(w []turbofan.StoredReading) { w[63].Reading = w[3].Reading },
			turbofan.QualityIssue{Kind: "duplicate", Count: 1, Detail: "1 reading of the same cycle as the one before"}},
		{"another schema", func(w []turbofan.StoredReading) { w[3].Sensors = w[3].Sensors[:2] },
			turbofan.QualityIssue{Kind: "schema", Count: 1, Detail: "1 reading without the 2 settings and 6 sensors of pump"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := stored(newFleet(60, 11).read(world{load: 1}, 1000))
			c.harm(w)
			report := judge(t, ref, drift.Window{Readings: w})
			if report.Verdict != turbofan.NoDrift {
				t.Errorf("verdict %s because %q", report.Verdict, report.Because)
			}
			if c.want.Kind == "" {
				if len(report.Quality) > 0 {
					t.Errorf("issues %+v, want none", report.Quality)
				}
				return
			}
			if len(report.Quality) != 1 {
				t.Fatalf("issues %+v, want one", report.Quality)
			}
			got := report.Quality[0]
			if got.Kind != c.want.Kind || got.Channel != c.want.Channel || got.Count != c.want.Count || !strings.Contains(got.Detail, c.want.Detail) {
				t.Errorf("issue %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestLiveError(t *testing.T) {
	ref := pumpReference(t) // 10 cycles in validation, cap 125
	w := drift.Window{Readings: stored(newFleet(60, 12).read(world{load: 1}, 1000))}
	scored := func(units int, off float64) []turbofan.ScoredPrediction {
		var out []turbofan.ScoredPrediction
		for u := range units {
			for _, rul := range []float64{400, 60, 20} { // 400 counts as 125
				out = append(out, turbofan.ScoredPrediction{UnitID: fmt.Sprint(u), ActualRUL: rul, RUL: min(rul, 125) - off})
			}
		}
		return out
	}
	for _, c := range []struct {
		name    string
		scored  []turbofan.ScoredPrediction
		rmse    float64
		verdict turbofan.Verdict
		because string
	}{
		{"as promised", scored(30, 10), 10, turbofan.NoDrift, "psi("},
		{"a little worse", scored(30, 14.9), 14.9, turbofan.NoDrift, "psi("},
		{"much worse", scored(30, 15.1), 15.1, turbofan.Drifted, "rmse=15.1 > 1.5 x 10.0 in validation over completed units; psi alone gives no alarm: psi("},
		{"much worse, but too few units", scored(19, 30), 0, turbofan.NoDrift, "psi("},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.Scored = c.scored
			report := judge(t, ref, w)
			if report.Verdict != c.verdict || !strings.HasPrefix(report.Because, c.because) {
				t.Errorf("verdict %s because %q, want %s with %q", report.Verdict, report.Because, c.verdict, c.because)
			}
			if (c.rmse == 0) != (report.RMSE == nil) || report.RMSE != nil && math.Abs(*report.RMSE-c.rmse) > 1e-9 {
				t.Errorf("rmse %v, want %v", report.RMSE, c.rmse)
			}
			if report.ReferenceRMSE == nil || *report.ReferenceRMSE != 10 {
				t.Errorf("reference rmse %v, want 10", report.ReferenceRMSE)
			}
		})
	}
}

func TestHysteresis(t *testing.T) {
	ref := pumpReference(t)
	w := drift.Window{Readings: stored(newFleet(60, 13).read(world{load: 1, shift: 0.5}, 1000))}
	cfg := drift.DefaultConfig()
	cfg.SpreadUnits = 0 // it sees this drift unit by unit, whatever the threshold
	probe, err := drift.Judge(ref, w, cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Threshold += float64(probe.Score) - probe.Threshold + 0.005 // just missed
	calm, err := drift.Judge(ref, w, cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.Drifting = true
	still, err := drift.Judge(ref, w, cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range calm.Channels { // what as many rows give by chance comes on top
		if chance := float64(len(ref.Profile.Channels[0].Edges)) * (1/float64(ref.Profile.Rows) + 1/float64(calm.Rows)); float64(c.Threshold) < cfg.Threshold+chance {
			t.Errorf("%s: threshold %.4f, at least %.4f + %.4f", c.Channel, c.Threshold, cfg.Threshold, chance)
		}
	}
	if calm.Verdict != turbofan.NoDrift || still.Verdict != turbofan.Drifted {
		t.Errorf("score %.3f: %s above %.3f, and %s above %.3f while drifting", calm.Score, calm.Verdict, calm.Threshold, still.Verdict, still.Threshold)
	}
}

func TestPredictionsAreCompared(t *testing.T) {
	ref := pumpReference(t)
	predictions := func(off float64, units int) (rul []float64, age, unit []int, out []turbofan.Prediction) {
		for u := range units {
			for cycle := 1; cycle <= pumpLife; cycle += 3 {
				v := float64(pumpLife-cycle) + off + float64((u*7+cycle)%11)
				rul, age, unit = append(rul, v), append(age, cycle), append(unit, u)
				out = append(out, turbofan.Prediction{UnitID: fmt.Sprint(u), Cycle: cycle, RUL: v})
			}
		}
		return rul, age, unit, out
	}
	rul, age, unit, same := predictions(0, 40)
	if err := ref.SetPredictions(rul, age, unit); err != nil {
		t.Fatal(err)
	}
	_, _, _, shorter := predictions(-40, 40)
	w := drift.Window{Readings: stored(newFleet(60, 14).read(world{load: 1}, 1000)), Evidence: drift.Evidence{Predictions: same}}
	if d := judge(t, ref, w).Prediction; d == nil || d.Drifted || d.Channel != reference.PredictionChannel || math.Abs(float64(d.MeanShift)) > 1e-9 {
		t.Errorf("the same predictions give %+v", d)
	}
	w.Predictions = shorter
	report := judge(t, ref, w)
	if d := report.Prediction; d == nil || !d.Drifted || d.MeanShift > -0.5 {
		t.Errorf("predictions 40 cycles shorter give %+v", d)
	}
	if report.Verdict != turbofan.NoDrift {
		t.Error("predictions alone made a verdict")
	}
	w.Predictions = shorter[:100]
	if d := judge(t, ref, w).Prediction; d != nil {
		t.Errorf("100 predictions are too few, but gave %+v", d)
	}
}

func TestRoundedSensorsAreNoDrift(t *testing.T) {
	ref := pumpReference(t)
	coarse := func(r []turbofan.Reading, offset float64) []turbofan.Reading {
		for i := range r {
			for j := range 5 {
				r[i].Sensors[j] = math.Round(r[i].Sensors[j]/3+offset) * 3
			}
		}
		return r
	}
	var units []turbofan.History
	f := newFleet(60, 15)
	byUnit := map[string]int{}
	for _, r := range coarse(f.read(world{load: 1}, 12000), 0) {
		if _, ok := byUnit[r.UnitID]; !ok {
			byUnit[r.UnitID] = len(units)
			units = append(units, turbofan.History{UnitID: r.UnitID})
		}
		h := &units[byUnit[r.UnitID]]
		h.Readings = append(h.Readings, r)
	}
	rounded, err := reference.Build(reference.DefaultConfig(), pump(), ref.Normalizer, ref.Normalizer.Varying(), units)
	if err != nil {
		t.Fatal(err)
	}
	// The same pumps under another load, whose levels fall elsewhere between the whole numbers.
	seen := drift.NewConditions(rounded, drift.DefaultConfig())
	all := coarse(f.read(world{load: 2.005}, 12000), 0)
	for i := range all {
		seen.Learn(&all[i])
	}
	report := judge(t, rounded, drift.Window{Readings: stored(all[len(all)-1000:]), Unseen: seen.Unseen()})
	if report.Verdict != turbofan.NoDrift || report.PSIMax > 0.2 {
		t.Errorf("verdict %s, largest psi %.2f, because %q", report.Verdict, report.PSIMax, report.Because)
	}
}

func TestPower(t *testing.T) {
	ref := pumpReference(t)
	streams := map[string][]turbofan.History{"same": nil, "fault": nil}
	for name, w := range map[string]world{"same": {load: 1}, "fault": {load: 1, shift: 2}} {
		f := newFleet(1, 16)
		byUnit := map[string]int{}
		for _, r := range f.read(w, 70*pumpLife) {
			if _, ok := byUnit[r.UnitID]; !ok {
				byUnit[r.UnitID] = len(streams[name])
				streams[name] = append(streams[name], turbofan.History{UnitID: r.UnitID})
			}
			h := &streams[name][byUnit[r.UnitID]]
			h.Readings = append(h.Readings, r)
		}
	}
	first, err := drift.Power(t.Context(), drift.DefaultPowerConfig(), ref, streams, []int{500, 1000}, 30, 1)
	if err != nil {
		t.Fatal(err)
	}
	again, err := drift.Power(t.Context(), drift.DefaultPowerConfig(), ref, streams, []int{500, 1000}, 30, 1)
	if err != nil || !reflect.DeepEqual(first, again) {
		t.Errorf("the same seed gives other rows: %v", err)
	}
	if len(first) != 4 {
		t.Fatalf("%d rows, want two streams of two sizes", len(first))
	}
	for _, r := range first {
		want := map[string]int{"same": 0, "fault": 30}[r.Stream]
		if r.Alarms != want || r.Judged != 30 || !(r.Low <= r.Share && r.Share <= r.High) {
			t.Errorf("%+v, want %d alarms", r, want)
		}
	}
	if _, err := drift.Power(t.Context(), drift.DefaultPowerConfig(), ref, streams, []int{10000}, 30, 1); turbofan.ErrorCode(err) != turbofan.EInsufficient {
		t.Errorf("a window as long as the stream: %v", err)
	}
}

// Before outcomes come the intervals tell the error; once they do, they tell whether the intervals were right.
func TestEstimatedError(t *testing.T) {
	ref := pumpReference(t) // intervals cover nine truths of ten
	const half = 1.6448536269514722 * 12
	w := drift.Window{Readings: stored(newFleet(60, 14).read(world{load: 1}, 1000))}
	for i := range 500 {
		w.Predictions = append(w.Predictions, turbofan.Prediction{UnitID: fmt.Sprint(i % 50), Cycle: 1 + i/50, RUL: 60, Lower: 60 - half, Upper: 60 + half})
	}
	report := judge(t, ref, w)
	if report.EstimatedRMSE == nil || math.Abs(*report.EstimatedRMSE-12) > 1e-9 || *report.ReferenceCoverage != 0.9 || report.EstimateRatio != nil || report.Coverage != nil {
		t.Errorf("without outcomes %+v", report)
	}
	for i := range 400 {
		off := 6.0
		if i%4 == 0 {
			off = 30 // outside of the interval
		}
		w.Scored = append(w.Scored, turbofan.ScoredPrediction{UnitID: fmt.Sprint(i % 40), RUL: 60, ActualRUL: 60 + off, Lower: 60 - half, Upper: 60 + half})
	}
	report = judge(t, ref, w)
	if want := math.Sqrt((900+3*36)/4.) / 12; report.EstimateRatio == nil || math.Abs(*report.EstimateRatio-want) > 1e-9 || *report.Coverage != 0.75 {
		t.Errorf("with outcomes %v and %v, want %v and 0.75", report.EstimateRatio, report.Coverage, want)
	}
}

// counts lets sensor f, which is constant else, count errors from an age on.
func counts(readings []turbofan.Reading, from int) []turbofan.Reading {
	for i, r := range readings {
		readings[i].Sensors[5] = math.Floor(max(0, float64(r.Cycle-from)) / 3)
	}
	return readings
}

// A channel that is constant until a unit fails has no spread in young bands of age: that is no drift, in a condition that
// training never saw neither, and it is heard when it speaks early.
func TestErrorCounter(t *testing.T) {
	var units []turbofan.History
	for u := range 60 {
		f := newFleet(1, uint64(100+u))
		h := turbofan.History{UnitID: fmt.Sprint(u), FailedAtCycle: pumpLife}
		for cycle := 1; cycle <= pumpLife; cycle++ {
			h.Readings = append(h.Readings, world{load: 1}.reading(f.rng, h.UnitID, cycle))
		}
		counts(h.Readings, 90)
		units = append(units, h)
	}
	ref, err := reference.Learn(reference.DefaultConfig(), pump(), units)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(ref.Keep, 5) {
		t.Fatalf("the reference watches %v, want the counter among them", ref.Keep)
	}
	for _, c := range []struct {
		name    string
		load    float64
		from    int
		verdict turbofan.Verdict
		because string
	}{
		{"as in training", 1, 90, turbofan.NoDrift, "psi("},
		{"a new condition", 2, 90, turbofan.NoDrift, "psi("},
		{"early errors", 1, 30, turbofan.Drifted, "psi(f)="},
	} {
		t.Run(c.name, func(t *testing.T) {
			all := counts(newFleet(60, 15).read(world{load: c.load}, 12000), c.from)
			cfg := drift.DefaultConfig()
			cfg.Rank = 1 // one sensor is enough
			seen := drift.NewConditions(ref, cfg)
			for i := range all {
				seen.Learn(&all[i])
			}
			report, err := drift.Judge(ref, drift.Window{Readings: stored(all[len(all)-1000:]), Unseen: seen.Unseen()}, cfg)
			if err != nil {
				t.Fatal(err)
			}
			if report.Verdict != c.verdict || !strings.HasPrefix(report.Because, c.because) || len(report.Quality) > 0 {
				t.Errorf("verdict %s because %q, quality %+v, want %s with %q", report.Verdict, report.Because, report.Quality, c.verdict, c.because)
			}
			if _, err := json.Marshal(report); err != nil {
				t.Errorf("the report cannot be sent: %v", err)
			}
		})
	}
}
