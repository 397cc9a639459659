package sqlstore_test

import (
	"cmp"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"turbofan"
	"turbofan/sqlstore"
)

// opener gives a test an empty store, closed when the test ends.
type opener func(t *testing.T) *sqlstore.State

// conformance is what every database behind a State must do alike.
func conformance(t *testing.T, open opener) {
	for _, c := range []struct {
		name string
		test func(*testing.T, *sqlstore.State)
	}{
		{"an empty store answers with nothing", testEmpty},
		{"a reading and its prediction come back as they went in", testRoundTrip},
		{"unknown numbers stay unknown", testUnknownNumbers},
		{"a repeated reading keeps the first", testRepeatedReading},
		{"a cycle is answered once", testAnsweredOnce},
		{"an answer is found by its unit and cycle", testAnswered},
		{"bad records are refused by name", testBadRecords},
		{"the caller may reuse what it appended", testReuse},
		{"a history is in order of cycle", testHistory},
		{"readings are in order of arrival", testReadings},
		{"predictions are filtered and newest", testPredictions},
		{"units are newest first", testUnits},
		{"a failure is the truth of all predictions", testFailure},
		{"an actual life is the truth of one cycle", testActual},
		{"outcomes are idempotent", testIdempotent},
		{"outcomes that cannot be are refused by name", testBadOutcomes},
		{"a call of outcomes is stored whole or not", testAllOrNone},
		{"outcomes are selected by unit and time", testOutcomeQuery},
		{"failed units are known as of a moment", testFailedUnits},
		{"a wrong end is withdrawn", testWithdrawn},
		{"scored predictions are the newest that match", testScored},
		{"drift reports are saved and replaced", testReports},
		{"one job is active at a time", testJobs},
		{"a job that has ended stays so", testEndedJob},
		{"a lease has one holder until it ends", testLeases},
		{"many writers at once lose nothing", testConcurrent},
		{"a cancelled call says so", testCancelled},
		{"a closed store says so", testClosed},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

func day(d int) time.Time { return time.Date(2026, 3, d, 12, 0, 0, 123456789, time.UTC) }

// record is a plausible record of one unit at one cycle; its id names both.
func record(unit string, cycle int) turbofan.PredictionRecord {
	r := turbofan.Reading{UnitID: unit, Cycle: cycle, Settings: []float64{25, 0.62, 60}, Sensors: make([]float64, 21)}
	for i := range r.Sensors {
		r.Sensors[i] = float64(i) + float64(cycle)/7
	}
	return turbofan.PredictionRecord{Reading: r, Prediction: turbofan.Prediction{
		ID: fmt.Sprintf("p-%s-%d", unit, cycle), UnitID: unit, Cycle: cycle, RUL: 200 - float64(cycle), Lower: 180 - float64(cycle),
		Upper: 220 - float64(cycle), FailureProbability: 0.25, FailureHorizon: 30, Health: turbofan.Watch, ModelName: "rul",
		ModelVersion: "1", Condition: 3, At: day(1).Add(time.Duration(cycle) * time.Second),
	}}
}

// life is the records of one unit from one cycle to another.
func life(unit string, from, to int) []turbofan.PredictionRecord {
	var out []turbofan.PredictionRecord
	for cycle := from; cycle <= to; cycle++ {
		out = append(out, record(unit, cycle))
	}
	return out
}

func must[T any](t *testing.T) func(v T, err error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func appendRecords(t *testing.T, s *sqlstore.State, records ...turbofan.PredictionRecord) {
	t.Helper()
	if err := s.Append(t.Context(), records); err != nil {
		t.Fatal(err)
	}
}

func wantError(t *testing.T, err error, code, message string) {
	t.Helper()
	if got := turbofan.ErrorCode(err); got != code {
		t.Fatalf("error code is %q, want %q: %v", got, code, err)
	}
	if got := turbofan.ErrorMessage(err); got != message {
		t.Fatalf("message is\n  %s\nwant\n  %s", got, message)
	}
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s:\n  %+v\nwant\n  %+v", what, got, want)
	}
}

func testEmpty(t *testing.T, s *sqlstore.State) {
	ctx := t.Context()
	_, err := s.History(ctx, "7", 0)
	wantError(t, err, turbofan.ENotFound, `unit "7" has never sent a reading`)
	_, err = s.Prediction(ctx, "p")
	wantError(t, err, turbofan.ENotFound, `there is no prediction "p"`)
	_, err = s.Job(ctx, "j")
	wantError(t, err, turbofan.ENotFound, `there is no job "j"`)
	n := len(must[[]turbofan.StoredReading](t)(s.Readings(ctx, turbofan.ReadingQuery{}))) +
		len(must[[]turbofan.UnitSummary](t)(s.Units(ctx, 10, 0))) +
		len(must[[]turbofan.Prediction](t)(s.Predictions(ctx, turbofan.PredictionQuery{Last: 10}))) +
		len(must[[]turbofan.ScoredPrediction](t)(s.Scored(ctx, turbofan.PredictionQuery{}))) +
		len(must[[]turbofan.Outcome](t)(s.Outcomes(ctx, turbofan.OutcomeQuery{}))) +
		len(must[[]turbofan.FailedUnit](t)(s.FailedUnits(ctx, time.Time{}))) +
		len(must[[]turbofan.DriftReport](t)(s.Reports(ctx, 10))) +
		len(must[[]turbofan.Job](t)(s.Jobs(ctx, 10))) +
		len(must[[]turbofan.OutcomeReceipt](t)(s.Record(ctx, nil)))
	if n != 0 {
		t.Fatalf("an empty store returned %d things", n)
	}
	if err := s.Append(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

func testRoundTrip(t *testing.T, s *sqlstore.State) {
	full := record("unit é 七", 3)
	full.Prediction.Drivers = []turbofan.Driver{{Feature: "s11_ewma", Value: 47.25, Contribution: -12.5}, {Feature: `a "b"`, Value: turbofan.Number(math.NaN()), Contribution: 1e-300}}
	full.Prediction.Warnings = []string{"sensor_3 is missing", `"quoted" <&>`}
	plain := record("2", 1)
	appendRecords(t, s, full, plain)
	got := must[turbofan.Prediction](t)(s.Prediction(t.Context(), full.Prediction.ID))
	if !math.IsNaN(float64(got.Drivers[1].Value)) {
		t.Fatalf("driver value is %v, want NaN", got.Drivers[1].Value)
	}
	got.Drivers[1].Value, full.Prediction.Drivers[1].Value = 0, 0
	equal(t, "prediction", got, full.Prediction)
	equal(t, "plain prediction", must[turbofan.Prediction](t)(s.Prediction(t.Context(), "p-2-1")), plain.Prediction)
	readings := must[[]turbofan.StoredReading](t)(s.Readings(t.Context(), turbofan.ReadingQuery{}))
	equal(t, "readings", []turbofan.Reading{readings[0].Reading, readings[1].Reading}, []turbofan.Reading{full.Reading, plain.Reading})
	equal(t, "received at", readings[0].At, full.Prediction.At)
}

func testUnknownNumbers(t *testing.T, s *sqlstore.State) {
	r := record("1", 1)
	r.Reading.Sensors[4] = math.NaN()
	r.Reading.Settings = nil
	r.Prediction.Lower, r.Prediction.Upper, r.Prediction.FailureProbability = math.NaN(), math.Inf(1), math.NaN()
	r.Prediction.At = time.Time{}
	appendRecords(t, s, r)
	history := must[[]turbofan.Reading](t)(s.History(t.Context(), "1", 0))
	if !math.IsNaN(history[0].Sensors[4]) || history[0].Sensors[5] != r.Reading.Sensors[5] || len(history[0].Settings) != 0 {
		t.Fatalf("reading came back as %+v", history[0])
	}
	p := must[turbofan.Prediction](t)(s.Prediction(t.Context(), "p-1-1"))
	if !math.IsNaN(p.Lower) || !math.IsInf(p.Upper, 1) || !math.IsNaN(p.FailureProbability) || p.RUL != 199 || !p.At.IsZero() {
		t.Fatalf("prediction came back as %+v", p)
	}
	if at := must[[]turbofan.StoredReading](t)(s.Readings(t.Context(), turbofan.ReadingQuery{}))[0].At; at.IsZero() {
		t.Fatal("a reading without a prediction's time has no time of its own")
	}
}

func testRepeatedReading(t *testing.T, s *sqlstore.State) {
	first, again := record("1", 5), record("1", 5)
	again.Reading.Sensors[0] = 999
	again.Prediction.ID = "p-again"
	appendRecords(t, s, first)
	appendRecords(t, s, again, record("1", 6), again)
	history := must[[]turbofan.Reading](t)(s.History(t.Context(), "1", 0))
	equal(t, "history", history, []turbofan.Reading{first.Reading, record("1", 6).Reading})
	equal(t, "predictions", len(must[[]turbofan.Prediction](t)(s.Predictions(t.Context(), turbofan.PredictionQuery{UnitID: "1", Last: 10}))), 2)
	equal(t, "readings of the unit", must[[]turbofan.UnitSummary](t)(s.Units(t.Context(), 0, 0))[0].Readings, 2)
}

func testAnswered(t *testing.T, s *sqlstore.State) {
	silent := record("1", 3)
	silent.Prediction.ID, silent.Prediction.Shadow = "silent", true
	full := record("2", 1)
	full.Prediction.Drivers = []turbofan.Driver{{Feature: "sensor_11", Value: 47.25, Contribution: -0.1}}
	full.Prediction.Warnings = []string{"a sensor is missing in this reading"}
	appendRecords(t, s, life("1", 1, 200)...)
	appendRecords(t, s, silent, full)
	ask := []turbofan.Reading{{UnitID: "2", Cycle: 1}, {UnitID: "2", Cycle: 2}, {UnitID: "nobody", Cycle: 1}}
	for cycle := 3; cycle < 200; cycle++ {
		ask = append(ask, turbofan.Reading{UnitID: "1", Cycle: cycle})
	}
	got := must[[]turbofan.PredictionRecord](t)(s.Answered(t.Context(), ask))
	slices.SortFunc(got, func(a, b turbofan.PredictionRecord) int {
		return cmp.Or(strings.Compare(b.Reading.UnitID, a.Reading.UnitID), a.Reading.Cycle-b.Reading.Cycle)
	})
	equal(t, "answers", got, append([]turbofan.PredictionRecord{full}, life("1", 3, 199)...))
	equal(t, "answer", must[[]turbofan.PredictionRecord](t)(s.Answered(t.Context(), ask[:1])), []turbofan.PredictionRecord{full})
	equal(t, "no answer", must[[]turbofan.PredictionRecord](t)(s.Answered(t.Context(), nil)), []turbofan.PredictionRecord(nil))
}

func testBadRecords(t *testing.T, s *sqlstore.State) {
	for _, c := range []struct {
		name, message string
		spoil         func(*turbofan.PredictionRecord)
	}{
		{"no unit", "records[1].reading.unit_id: is missing", func(r *turbofan.PredictionRecord) { r.Reading.UnitID = "" }},
		{"undecodable unit", "records[1].reading.unit_id: has bytes that are not UTF-8, or the sign that stands for such", func(r *turbofan.PredictionRecord) { r.Reading.UnitID = "\xff" }},
		{"cycle 0", "records[1].reading.cycle: must be a whole number from 1 to 10000000, not 0", func(r *turbofan.PredictionRecord) { r.Reading.Cycle = 0 }},
		{"too many sensors", "records[1].reading: has more than 512 channels", func(r *turbofan.PredictionRecord) { r.Reading.Sensors = make([]float64, 513) }},
		{"no id", "records[1].prediction.prediction_id: is missing", func(r *turbofan.PredictionRecord) { r.Prediction.ID = "" }},
		{"two units", `records[1].prediction: is of unit "2" at cycle 1, its reading of unit "1" at cycle 1`, func(r *turbofan.PredictionRecord) { r.Prediction.UnitID = "2" }},
		{"zero byte", `records[1].prediction: "a\x00" has a zero or undecodable character`, func(r *turbofan.PredictionRecord) { r.Prediction.ModelName = "a\x00" }},
	} {
		bad := record("1", 1)
		c.spoil(&bad)
		err := s.Append(t.Context(), []turbofan.PredictionRecord{record("9", 1), bad})
		wantError(t, err, turbofan.EInvalid, c.message)
	}
	if units := must[[]turbofan.UnitSummary](t)(s.Units(t.Context(), 0, 0)); len(units) != 0 {
		t.Fatalf("a refused call left %v", units)
	}
}

func testReuse(t *testing.T, s *sqlstore.State) {
	records := []turbofan.PredictionRecord{record("1", 1)}
	appendRecords(t, s, records...)
	clear(records[0].Reading.Sensors)
	records[0] = turbofan.PredictionRecord{}
	equal(t, "history", must[[]turbofan.Reading](t)(s.History(t.Context(), "1", 0)), []turbofan.Reading{record("1", 1).Reading})
}

func testHistory(t *testing.T, s *sqlstore.State) {
	appendRecords(t, s, record("1", 9), record("2", 1), record("1", 4), record("1", 300))
	cycles := func(through int) (out []int) {
		for _, r := range must[[]turbofan.Reading](t)(s.History(t.Context(), "1", through)) {
			out = append(out, r.Cycle)
		}
		return out
	}
	equal(t, "all", cycles(0), []int{4, 9, 300})
	equal(t, "through 9", cycles(9), []int{4, 9})
	equal(t, "through 3", cycles(3), []int(nil))
}

func testReadings(t *testing.T, s *sqlstore.State) {
	appendRecords(t, s, record("1", 3), record("2", 1), record("1", 1))
	appendRecords(t, s, record("3", 2), record("1", 3), record("2", 7))
	all := must[[]turbofan.StoredReading](t)(s.Readings(t.Context(), turbofan.ReadingQuery{}))
	name := func(rs []turbofan.StoredReading) string {
		var out []string
		for _, r := range rs {
			out = append(out, fmt.Sprintf("%s@%d", r.UnitID, r.Cycle))
		}
		return strings.Join(out, " ")
	}
	equal(t, "all", name(all), "1@3 2@1 1@1 3@2 2@7")
	if !slices.IsSortedFunc(all, func(a, b turbofan.StoredReading) int { return int(a.Seq - b.Seq) }) || all[0].Seq < 1 {
		t.Fatalf("seq does not grow: %v", all)
	}
	for _, c := range []struct {
		query turbofan.ReadingQuery
		want  string
	}{
		{turbofan.ReadingQuery{AfterSeq: all[2].Seq}, "3@2 2@7"},
		{turbofan.ReadingQuery{Last: 2}, "3@2 2@7"},
		{turbofan.ReadingQuery{Limit: 2}, "1@3 2@1"},
		{turbofan.ReadingQuery{Last: 3, Limit: 1}, "1@1"},
		{turbofan.ReadingQuery{MaxCycle: 2}, "2@1 1@1 3@2"},
		{turbofan.ReadingQuery{MaxCycle: 2, Last: 2}, "1@1 3@2"},
		{turbofan.ReadingQuery{AfterSeq: all[4].Seq}, ""},
	} {
		equal(t, fmt.Sprintf("%+v", c.query), name(must[[]turbofan.StoredReading](t)(s.Readings(t.Context(), c.query))), c.want)
	}
}

func ids(ps []turbofan.Prediction) string {
	var out []string
	for _, p := range ps {
		out = append(out, p.ID)
	}
	return strings.Join(out, " ")
}

// A replica whose commit failed tries again when another has answered the same reading, with another id, and perhaps by
// another version. A challenger answers silently beside that, each version once.
func testAnsweredOnce(t *testing.T, s *sqlstore.State) {
	again := func(id, version string, shadow bool) turbofan.PredictionRecord {
		r := record("1", 1)
		r.Prediction.ID, r.Prediction.ModelVersion, r.Prediction.Shadow = id, version, shadow
		return r
	}
	appendRecords(t, s, record("1", 1), again("same commit", "1", false))
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	appendRecords(t, s, again("later", "1", false), again("other version", "2", false),
		again("silent 1", "1", true), again("silent 2", "2", true), again("silent 2 again", "2", true), record("1", 2))
	for id, want := range map[string]bool{"p-1-1": true, "silent 1": true, "silent 2": true, "p-1-2": true,
		"same commit": false, "later": false, "other version": false, "silent 2 again": false} {
		if _, err := s.Prediction(t.Context(), id); (err == nil) != want || err != nil && turbofan.ErrorCode(err) != turbofan.ENotFound {
			t.Errorf("prediction %q is stored: %v, want %v", id, err, want)
		}
	}
	equal(t, "sent", ids(must[[]turbofan.Prediction](t)(s.Predictions(t.Context(), turbofan.PredictionQuery{Last: 9}))), "p-1-1 p-1-2")
	receipts := must[[]turbofan.OutcomeReceipt](t)(s.Record(t.Context(), []turbofan.Outcome{{UnitID: "1", FailedAtCycle: new(9)}}))
	equal(t, "told their truth", receipts[0].Predictions, 4)
}

func testPredictions(t *testing.T, s *sqlstore.State) {
	second := record("2", 1)
	second.Prediction.ModelVersion = "2"
	appendRecords(t, s, record("1", 1), second, record("1", 2), record("3", 1))
	for _, c := range []struct {
		query turbofan.PredictionQuery
		want  string
	}{
		{turbofan.PredictionQuery{Last: 100}, "p-1-1 p-2-1 p-1-2 p-3-1"},
		{turbofan.PredictionQuery{Last: 2}, "p-1-2 p-3-1"},
		{turbofan.PredictionQuery{Last: 1, UnitID: "1"}, "p-1-2"},
		{turbofan.PredictionQuery{Last: 9, ModelVersion: "2"}, "p-2-1"},
		{turbofan.PredictionQuery{Last: 9, UnitID: "1", ModelVersion: "2"}, ""},
	} {
		equal(t, fmt.Sprintf("%+v", c.query), ids(must[[]turbofan.Prediction](t)(s.Predictions(t.Context(), c.query))), c.want)
	}
	for _, last := range []int{0, -1, 100_001} {
		_, err := s.Predictions(t.Context(), turbofan.PredictionQuery{Last: last})
		wantError(t, err, turbofan.EInvalid, fmt.Sprintf("last: must be a whole number from 1 to 100000, not %d", last))
	}
}

func testUnits(t *testing.T, s *sqlstore.State) {
	appendRecords(t, s, life("a", 3, 6)...)
	appendRecords(t, s, record("b", 1), record("c", 1))
	appendRecords(t, s, record("a", 2)) // late, and the newest to arrive
	must[[]turbofan.OutcomeReceipt](t)(s.Record(t.Context(), []turbofan.Outcome{{UnitID: "b", FailedAtCycle: new(4)}}))
	units := must[[]turbofan.UnitSummary](t)(s.Units(t.Context(), 0, 0))
	late, b := record("a", 2).Prediction, record("b", 1).Prediction
	equal(t, "units", len(units), 3)
	equal(t, "newest last prediction", *units[0].Last, late)
	units[0].Last = nil
	equal(t, "newest", units[0], turbofan.UnitSummary{UnitID: "a", FirstCycle: 2, LastCycle: 6, Readings: 5, LastSeen: record("a", 6).Prediction.At})
	equal(t, "oldest", units[2], turbofan.UnitSummary{UnitID: "b", FirstCycle: 1, LastCycle: 1, Readings: 1, LastSeen: b.At, FailedAtCycle: 4, Last: &b})
	page := must[[]turbofan.UnitSummary](t)(s.Units(t.Context(), 1, 1))
	equal(t, "second page of one", []string{page[0].UnitID}, []string{"c"})
	equal(t, "past the end", len(must[[]turbofan.UnitSummary](t)(s.Units(t.Context(), 5, 3))), 0)
}

func testConcurrent(t *testing.T, s *sqlstore.State) {
	const writers, each = 16, 50
	errs := make(chan error, 2*writers)
	for w := range writers {
		unit := fmt.Sprintf("u%d", w)
		appendRecords(t, s, record(unit, 1))
		go func() {
			for cycle := 2; cycle <= each; cycle++ {
				if err := s.Append(t.Context(), []turbofan.PredictionRecord{record(unit, cycle)}); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
		go func() {
			for i := range 5 {
				if _, err := s.Record(t.Context(), []turbofan.Outcome{{UnitID: unit, Cycle: 1, ActualRUL: new(float64(i))}}); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range 2 * writers {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	readings := must[[]turbofan.StoredReading](t)(s.Readings(t.Context(), turbofan.ReadingQuery{}))
	equal(t, "readings", len(readings), writers*each)
	last := map[string]int{}
	for _, r := range readings {
		if r.Cycle != last[r.UnitID]+1 {
			t.Fatalf("unit %s: cycle %d arrived after %d", r.UnitID, r.Cycle, last[r.UnitID])
		}
		last[r.UnitID] = r.Cycle
	}
	equal(t, "outcomes", len(must[[]turbofan.Outcome](t)(s.Outcomes(t.Context(), turbofan.OutcomeQuery{}))), writers*5)
	equal(t, "scored", len(must[[]turbofan.ScoredPrediction](t)(s.Scored(t.Context(), turbofan.PredictionQuery{}))), writers)
}
