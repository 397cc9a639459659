package feedback_test

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"turbofan"
	"turbofan/feedback"
	"turbofan/sqlstore"
)

// rig is the service over a real store.
type rig struct {
	*feedback.Service
	store    *sqlstore.State
	registry *prometheus.Registry
}

func start(t *testing.T, cfg feedback.Config) rig {
	t.Helper()
	store, err := sqlstore.OpenState(context.Background(), sqlstore.Config{Path: filepath.Join(t.TempDir(), "state.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	if cfg.Cap == 0 {
		cfg.Cap = 125
	}
	registry := prometheus.NewPedanticRegistry()
	service, err := feedback.New(cfg, store, registry, nil)
	if err != nil {
		t.Fatal(err)
	}
	return rig{service, store, registry}
}

// predict stores a prediction of rul, within 10 cycles, for a unit at a cycle.
func (r rig) predict(t *testing.T, version, unit string, cycle int, rul float64) {
	t.Helper()
	err := r.store.Append(context.Background(), []turbofan.PredictionRecord{{
		Reading: turbofan.Reading{UnitID: unit, Cycle: cycle, Settings: []float64{1, 2, 3}, Sensors: []float64{4}},
		Prediction: turbofan.Prediction{ID: fmt.Sprintf("%s-%d-v%s", unit, cycle, version), UnitID: unit, Cycle: cycle, RUL: rul,
			Lower: rul - 10, Upper: rul + 10, ModelName: "rul", ModelVersion: version},
	}})
	if err != nil {
		t.Fatal(err)
	}
}

func (r rig) record(t *testing.T, outcomes ...turbofan.Outcome) []turbofan.OutcomeReceipt {
	t.Helper()
	receipts, err := r.Record(context.Background(), outcomes)
	if err != nil {
		t.Fatal(err)
	}
	return receipts
}

func TestNewRefuses(t *testing.T) {
	r := start(t, feedback.Config{})
	for _, c := range []struct {
		cfg   feedback.Config
		store turbofan.OutcomeStore
		want  string
	}{
		{feedback.Config{}, r.store, "feedback.cap: must be a finite number above 0, not 0"},
		{feedback.Config{Cap: -1}, r.store, "feedback.cap: must be a finite number above 0, not -1"},
		{feedback.Config{Cap: math.NaN()}, r.store, "feedback.cap: must be a finite number above 0, not NaN"},
		{feedback.Config{Cap: math.Inf(1)}, r.store, "feedback.cap: must be a finite number above 0, not +Inf"},
		{feedback.Config{Cap: 125, Windows: []int{10, 0}}, r.store, "feedback.windows[1]: must be a whole number above 0, not 0"},
		{feedback.Config{Cap: 125}, nil, "start feedback: there is no store"},
	} {
		if _, err := feedback.New(c.cfg, c.store, nil, nil); err == nil || err.Error() != c.want {
			t.Errorf("New(%+v): %v, want %s", c.cfg, err, c.want)
		}
	}
	if _, err := feedback.New(feedback.Config{Cap: 125}, r.store, r.registry, nil); err == nil {
		t.Error("a second service registered its metrics over the first's")
	}
	if _, err := feedback.New(feedback.Config{Cap: 125}, r.store, nil, nil); err != nil {
		t.Errorf("without a registry: %v", err)
	}
}

func TestRecordRefuses(t *testing.T) {
	r := start(t, feedback.Config{MaxBatch: 3})
	r.predict(t, "1", "7", 4, 100)
	truth := new(3.0)
	long := strings.Repeat("x", 129)
	for _, c := range []struct {
		outcome       turbofan.Outcome
		code, message string
	}{
		{turbofan.Outcome{ActualRUL: truth, Cycle: 1}, "invalid", `unit_id: is missing: name the unit, or give prediction_id`},
		{turbofan.Outcome{UnitID: long, ActualRUL: truth}, "invalid", `unit_id: has 129 bytes, more than the 128 allowed`},
		{turbofan.Outcome{UnitID: "a\nb", ActualRUL: truth}, "invalid", `unit_id: has the character U+000A, which controls how text is shown and is not seen itself`},
		{turbofan.Outcome{UnitID: "7", Cycle: -1, ActualRUL: truth}, "invalid", `cycle: must be a whole number from 1 to 10000000, not -1`},
		{turbofan.Outcome{UnitID: "7", Cycle: 10_000_001, ActualRUL: truth}, "invalid", `cycle: must be a whole number from 1 to 10000000, not 10000001`},
		{turbofan.Outcome{UnitID: "7", ActualRUL: truth}, "invalid", `cycle: is missing: actual_rul is the remaining life at a cycle; name the cycle, or give prediction_id`},
		{turbofan.Outcome{UnitID: "7", Cycle: 4}, "invalid", `actual_rul: is missing: give exactly one of failed_at_cycle and actual_rul, unless event is "maintenance" or "inspection"`},
		{turbofan.Outcome{UnitID: "7", Cycle: 4, Event: "failure"}, "invalid", `actual_rul: is missing: give exactly one of failed_at_cycle and actual_rul, unless event is "maintenance" or "inspection"`},
		{turbofan.Outcome{UnitID: "7", Cycle: 4, ActualRUL: truth, FailedAtCycle: new(7)}, "invalid", `actual_rul: cannot stand beside failed_at_cycle: give exactly one of them`},
		{turbofan.Outcome{UnitID: "7", Cycle: 4, ActualRUL: new(-0.5)}, "invalid", `actual_rul: must be a number from 0 to 10000000, not -0.5`},
		{turbofan.Outcome{UnitID: "7", Cycle: 4, ActualRUL: new(math.NaN())}, "invalid", `actual_rul: must be a number from 0 to 10000000, not NaN`},
		{turbofan.Outcome{UnitID: "7", Cycle: 4, ActualRUL: new(math.Inf(1))}, "invalid", `actual_rul: must be a number from 0 to 10000000, not +Inf`},
		{turbofan.Outcome{UnitID: "7", Cycle: 4, ActualRUL: new(1e9)}, "invalid", `actual_rul: must be a number from 0 to 10000000, not 1e+09`},
		{turbofan.Outcome{UnitID: "7", FailedAtCycle: new(0)}, "invalid", `failed_at_cycle: must be a whole number from 1 to 10000000, not 0`},
		{turbofan.Outcome{UnitID: "7", Cycle: 4, FailedAtCycle: new(3)}, "invalid", `failed_at_cycle: is 3, before cycle 4 that the outcome speaks of`},
		{turbofan.Outcome{UnitID: "7", Cycle: 4, ActualRUL: truth, Event: "exploded"}, "invalid", `event: must be "failure", "maintenance", "inspection" or "withdrawn", not "exploded"`},
		{turbofan.Outcome{UnitID: "7", Event: turbofan.EventWithdrawn}, "invalid", `failed_at_cycle: is missing: name the end that is withdrawn`},
		{turbofan.Outcome{UnitID: "7", Cycle: 4, ActualRUL: truth, Event: turbofan.EventWithdrawn}, "invalid", `failed_at_cycle: is missing: name the end that is withdrawn`},
		{turbofan.Outcome{UnitID: "7", Cycle: 4, ActualRUL: truth, Key: long}, "invalid", `key: has 129 bytes, more than the 128 allowed`},
		{turbofan.Outcome{UnitID: "7", Cycle: 4, ActualRUL: truth, Key: "a\tb"}, "invalid", `key: has the character U+0009, which controls how text is shown and is not seen itself`},
		{turbofan.Outcome{PredictionID: long, ActualRUL: truth}, "invalid", `prediction_id: has 129 bytes, more than the 128 allowed`},
		{turbofan.Outcome{UnitID: "7", Cycle: 4, ActualRUL: truth, Note: strings.Repeat("n", 4097)}, "invalid", `note: has 4097 bytes, more than the 4096 allowed`},
		{turbofan.Outcome{UnitID: "7", Cycle: 4, ActualRUL: truth, Note: "\xff"}, "invalid", `note: is not UTF-8 text`},
		{turbofan.Outcome{UnitID: "7", Cycle: 4, ActualRUL: truth, Note: "a\x00"}, "invalid", `note: has the control character U+0000`},
		{turbofan.Outcome{UnitID: "8", FailedAtCycle: new(9)}, "not_found", `unit_id: unit "8" has never sent a reading`},
		{turbofan.Outcome{PredictionID: "nope", ActualRUL: truth}, "not_found", `prediction_id: there is no prediction "nope"`},
		{turbofan.Outcome{UnitID: "7", FailedAtCycle: new(3)}, "invalid", `failed_at_cycle: is 3, but unit "7" sent a reading at cycle 4: a unit sends none after it failed`},
	} {
		_, err := r.Record(t.Context(), []turbofan.Outcome{c.outcome})
		if turbofan.ErrorCode(err) != c.code || turbofan.ErrorMessage(err) != c.message {
			t.Errorf("%+v: %s %s\nwant %s %s", c.outcome, turbofan.ErrorCode(err), turbofan.ErrorMessage(err), c.code, c.message)
		}
		good := turbofan.Outcome{UnitID: "7", Cycle: 4, Event: "inspection"}
		_, err = r.Record(t.Context(), []turbofan.Outcome{good, c.outcome})
		if got := turbofan.ErrorMessage(err); got != "outcomes[1]."+c.message {
			t.Errorf("as the second of two: %s", got)
		}
	}
	_, err := r.Record(t.Context(), nil)
	if turbofan.ErrorMessage(err) != "outcomes: must hold at least one outcome" {
		t.Errorf("no outcomes: %v", err)
	}
	_, err = r.Record(t.Context(), make([]turbofan.Outcome, 4))
	if turbofan.ErrorCode(err) != turbofan.ETooLarge || turbofan.ErrorMessage(err) != "outcomes: 4 are more than the 3 allowed in one call" {
		t.Errorf("too many outcomes: %v", err)
	}
	if stored, err := r.Outcomes(t.Context(), turbofan.OutcomeQuery{}); err != nil || len(stored) != 0 {
		t.Errorf("refused outcomes left %v, %v", stored, err)
	}
}

func TestPerformance(t *testing.T) {
	r := start(t, feedback.Config{Cap: 50})
	// Unit a fails at 100, unit b at 12: the truths at the cycles below, clipped at 50, are 50, 50, 20 and 2.
	r.predict(t, "1", "a", 10, 50)
	r.predict(t, "1", "a", 50, 44)
	r.predict(t, "10", "a", 80, 32)
	r.predict(t, "9", "b", 10, 2)
	r.predict(t, "9", "c", 10, 999) // truth unknown
	r.record(t, turbofan.Outcome{UnitID: "a", FailedAtCycle: new(100)}, turbofan.Outcome{UnitID: "b", FailedAtCycle: new(12)})
	got, err := r.Performance(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	want := []turbofan.Performance{
		{ModelVersion: "1", Predictions: 2, Units: 1, RMSE: math.Sqrt(18), MAE: 3, Coverage: 1, Cap: 50},
		{ModelVersion: "9", Predictions: 1, Units: 1, RMSE: 0, MAE: 0, Coverage: 1, Cap: 50},
		{ModelVersion: "10", Predictions: 1, Units: 1, RMSE: 12, MAE: 12, Coverage: 0, Cap: 50},
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("performance is %+v, want %+v", got, want)
	}
	if got, err = r.Performance(t.Context(), 2); err != nil || !reflect.DeepEqual(got, []turbofan.Performance{want[1], want[2]}) {
		t.Fatalf("over the newest 2: %+v, %v", got, err)
	}
	if _, err := r.Performance(t.Context(), -1); turbofan.ErrorMessage(err) != "last: must be a whole number of at least 0, not -1" {
		t.Fatalf("over -1: %v", err)
	}
}

func TestPerformanceWithoutIntervals(t *testing.T) {
	r := start(t, feedback.Config{})
	err := r.store.Append(t.Context(), []turbofan.PredictionRecord{{
		Reading:    turbofan.Reading{UnitID: "a", Cycle: 1},
		Prediction: turbofan.Prediction{ID: "p", UnitID: "a", Cycle: 1, RUL: 3, Lower: math.NaN(), Upper: math.NaN(), ModelVersion: "1"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	r.record(t, turbofan.Outcome{PredictionID: "p", ActualRUL: new(4.0)})
	got, err := r.Performance(t.Context(), 0)
	if err != nil || got[0].RMSE != 1 || !math.IsNaN(got[0].Coverage) {
		t.Fatalf("performance is %+v, %v", got, err)
	}
}

func TestOutcomesQuery(t *testing.T) {
	r := start(t, feedback.Config{})
	r.predict(t, "1", "a", 1, 9)
	r.record(t, turbofan.Outcome{UnitID: "a", Event: "maintenance", Note: "blades\nwashed"})
	got, err := r.Outcomes(t.Context(), turbofan.OutcomeQuery{UnitID: "a", Limit: 1})
	if err != nil || len(got) != 1 || got[0].Note != "blades\nwashed" {
		t.Fatalf("outcomes are %+v, %v", got, err)
	}
	now := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	for want, q := range map[string]turbofan.OutcomeQuery{
		"limit: must be a whole number of at least 0, not -1":               {Limit: -1},
		"until: 2026-01-01T00:00:00Z is before since, 2026-01-02T00:00:00Z": {Since: now, Until: now.AddDate(0, 0, -1)},
	} {
		if _, err := r.Outcomes(t.Context(), q); turbofan.ErrorMessage(err) != want {
			t.Errorf("%+v: %v, want %s", q, err, want)
		}
	}
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, feedback.Config{Windows: []int{10, 2}, Refresh: 10 * time.Second})
		r.predict(t, "1", "a", 10, 50)
		r.predict(t, "1", "a", 11, 54)
		r.predict(t, "2", "a", 12, 45)
		r.predict(t, "2", "a", 13, 44)
		r.record(t, turbofan.Outcome{UnitID: "a", Cycle: 10, ActualRUL: new(50.0)}, turbofan.Outcome{UnitID: "a", Event: "inspection"})
		r.record(t, turbofan.Outcome{UnitID: "a", Cycle: 10, ActualRUL: new(50.0)})
		r.check(t, "turbofan_rmse", `turbofan_rmse{model_version="1",window="10"} 0
			turbofan_rmse{model_version="1",window="2"} 0`)
		time.Sleep(9 * time.Second)
		r.record(t, turbofan.Outcome{UnitID: "a", FailedAtCycle: new(60)})
		if _, err := r.Record(t.Context(), nil); err == nil {
			t.Fatal("no outcomes were recorded")
		}
		r.check(t, "turbofan_rmse", `turbofan_rmse{model_version="1",window="10"} 0
			turbofan_rmse{model_version="1",window="2"} 0`)
		time.Sleep(time.Second)
		// Truths are 50, 49, 48 and 47.
		r.check(t, "turbofan_rmse", `turbofan_rmse{model_version="1",window="10"} 3.5355339059327378
			turbofan_rmse{model_version="2",window="10"} 3
			turbofan_rmse{model_version="2",window="2"} 3`)
		r.check(t, "turbofan_scored_predictions", `turbofan_scored_predictions{model_version="1",window="10"} 2
			turbofan_scored_predictions{model_version="2",window="10"} 2
			turbofan_scored_predictions{model_version="2",window="2"} 2`)
		r.check(t, "feedback_count_total", `feedback_count_total{kind="actual_rul"} 1
			feedback_count_total{kind="failure"} 1
			feedback_count_total{kind="inspection"} 1
			feedback_count_total{kind="maintenance"} 0
			feedback_count_total{kind="withdrawn"} 0`)
		r.check(t, "feedback_duplicates_total", `feedback_duplicates_total 1`)
		r.check(t, "feedback_errors_total", `feedback_errors_total{code="internal"} 0
			feedback_errors_total{code="invalid"} 1
			feedback_errors_total{code="not_found"} 0
			feedback_errors_total{code="too_large"} 0
			feedback_errors_total{code="unavailable"} 0`)
		// A bubble's time starts with the year 2000.
		r.check(t, "feedback_last_timestamp_seconds", `feedback_last_timestamp_seconds 9.46684809e+08`)
		stored, err := r.Outcomes(t.Context(), turbofan.OutcomeQuery{})
		if err != nil || len(stored) != 3 || !stored[2].At.Equal(time.Now().Add(-time.Second)) {
			t.Fatalf("outcomes are %+v, %v", stored, err)
		}
	})
}

// check compares the samples of one metric family with want, one a line.
func (r rig) check(t *testing.T, name, want string) {
	t.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			sample := name
			if len(labels) > 0 {
				sample += "{" + strings.Join(labels, ",") + "}"
			}
			// A sample is a gauge or a counter: the other is nil and gives 0.
			got = append(got, fmt.Sprintf("%s %v", sample, m.GetGauge().GetValue()+m.GetCounter().GetValue()))
		}
	}
	var lines []string
	for line := range strings.Lines(want) {
		lines = append(lines, strings.TrimSpace(line))
	}
	if !slices.Equal(got, lines) {
		t.Fatalf("%s is\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(lines, "\n"))
	}
}
