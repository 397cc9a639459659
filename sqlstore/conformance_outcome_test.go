package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"turbofan"
	"turbofan/sqlstore"
)

func recordOutcomes(t *testing.T, s *sqlstore.State, outcomes ...turbofan.Outcome) []turbofan.OutcomeReceipt {
	t.Helper()
	return must[[]turbofan.OutcomeReceipt](t)(s.Record(t.Context(), outcomes))
}

// scored lists what Scored returns as id=truth.
func scored(t *testing.T, s *sqlstore.State, q turbofan.PredictionQuery) string {
	t.Helper()
	var out []string
	for _, p := range must[[]turbofan.ScoredPrediction](t)(s.Scored(t.Context(), q)) {
		out = append(out, fmt.Sprintf("%s=%g", p.PredictionID, p.ActualRUL))
	}
	return strings.Join(out, " ")
}

func testFailure(t *testing.T, s *sqlstore.State) {
	appendRecords(t, s, life("1", 1, 3)...)
	appendRecords(t, s, record("2", 1))
	receipt := recordOutcomes(t, s, turbofan.Outcome{PredictionID: "p-1-3", FailedAtCycle: new(5), Event: "failure", Note: "fan", At: day(2)})[0]
	if receipt.FeedbackID == "" || receipt.UnitID != "1" || receipt.Duplicate || receipt.Predictions != 3 {
		t.Fatalf("receipt is %+v", receipt)
	}
	// A prediction that comes later for the same unit has its truth at once, one after the failure has none.
	appendRecords(t, s, record("1", 5), record("1", 6))
	equal(t, "scored", scored(t, s, turbofan.PredictionQuery{}), "p-1-1=4 p-1-2=3 p-1-3=2 p-1-5=0")
	first := must[[]turbofan.ScoredPrediction](t)(s.Scored(t.Context(), turbofan.PredictionQuery{}))[0]
	p := record("1", 1).Prediction
	equal(t, "first", first, turbofan.ScoredPrediction{PredictionID: p.ID, UnitID: "1", Cycle: 1, ModelVersion: "1", RUL: p.RUL,
		Lower: p.Lower, Upper: p.Upper, ActualRUL: 4, PredictedAt: p.At})
	outcome := must[[]turbofan.Outcome](t)(s.Outcomes(t.Context(), turbofan.OutcomeQuery{}))[0]
	if outcome.Key == "" {
		t.Fatal("no key was derived")
	}
	outcome.Key = ""
	equal(t, "outcome", outcome, turbofan.Outcome{UnitID: "1", Cycle: 3, PredictionID: "p-1-3", FailedAtCycle: new(5), Event: "failure", Note: "fan", At: day(2)})
}

func testActual(t *testing.T, s *sqlstore.State) {
	again := record("1", 2)
	again.Prediction.ID, again.Prediction.Shadow = "p-again", true // a challenger's, which comes later
	appendRecords(t, s, life("1", 1, 3)...)
	equal(t, "matched", recordOutcomes(t, s, turbofan.Outcome{UnitID: "1", Cycle: 2, ActualRUL: new(40.5)})[0].Predictions, 1)
	appendRecords(t, s, again)
	equal(t, "scored", scored(t, s, turbofan.PredictionQuery{}), "p-1-2=40.5 p-again=40.5")
	recordOutcomes(t, s, turbofan.Outcome{UnitID: "1", Cycle: 2, ActualRUL: new(39.0)})
	equal(t, "corrected", scored(t, s, turbofan.PredictionQuery{}), "p-1-2=39 p-again=39")
	equal(t, "for no prediction", recordOutcomes(t, s, turbofan.Outcome{UnitID: "1", Cycle: 99, ActualRUL: new(1.0)})[0].Predictions, 0)
	equal(t, "for maintenance", recordOutcomes(t, s, turbofan.Outcome{UnitID: "1", Cycle: 3, Event: "maintenance"})[0].Predictions, 0)
	recordOutcomes(t, s, turbofan.Outcome{UnitID: "1", FailedAtCycle: new(10)})
	recordOutcomes(t, s, turbofan.Outcome{UnitID: "1", Cycle: 3, ActualRUL: new(70.0)})
	equal(t, "a failure decides", scored(t, s, turbofan.PredictionQuery{}), "p-1-1=9 p-1-2=8 p-1-3=7 p-again=8")
}

func testIdempotent(t *testing.T, s *sqlstore.State) {
	appendRecords(t, s, life("1", 1, 4)...)
	appendRecords(t, s, record("2", 1))
	first := recordOutcomes(t, s, turbofan.Outcome{Key: "k1", UnitID: "1", FailedAtCycle: new(9), At: day(2)})[0]
	again := recordOutcomes(t, s, turbofan.Outcome{Key: "k1", UnitID: "1", FailedAtCycle: new(9), At: day(3)})[0]
	first.Duplicate = true
	equal(t, "second receipt", again, first)
	derived := recordOutcomes(t, s,
		turbofan.Outcome{UnitID: "1", Cycle: 3, ActualRUL: new(1.0), Note: "a"},
		turbofan.Outcome{PredictionID: "p-1-3", ActualRUL: new(1.0), Note: "a"},
		turbofan.Outcome{UnitID: "1", Cycle: 3, ActualRUL: new(1.0), Note: "b"})
	equal(t, "derived keys", []bool{derived[0].Duplicate, derived[1].Duplicate, derived[2].Duplicate}, []bool{false, true, false})
	equal(t, "same id", derived[1].FeedbackID, derived[0].FeedbackID)
	stored := must[[]turbofan.Outcome](t)(s.Outcomes(t.Context(), turbofan.OutcomeQuery{}))
	equal(t, "stored", len(stored), 3)
	equal(t, "time of the first", stored[0].At, day(2))
	_, err := s.Record(t.Context(), []turbofan.Outcome{{Key: "k1", UnitID: "2", FailedAtCycle: new(9)}})
	wantError(t, err, turbofan.EConflict, `key: "k1" was already used for another outcome, of unit "1"`)
}

func testBadOutcomes(t *testing.T, s *sqlstore.State) {
	appendRecords(t, s, life("1", 1, 4)...)
	appendRecords(t, s, record("2", 7))
	recordOutcomes(t, s, turbofan.Outcome{UnitID: "1", FailedAtCycle: new(9)})
	for _, c := range []struct {
		outcome       turbofan.Outcome
		code, message string
	}{
		{turbofan.Outcome{UnitID: "3", FailedAtCycle: new(9)}, turbofan.ENotFound, `unit_id: unit "3" has never sent a reading`},
		{turbofan.Outcome{PredictionID: "x", ActualRUL: new(9.0)}, turbofan.ENotFound, `prediction_id: there is no prediction "x"`},
		{turbofan.Outcome{PredictionID: "p-2-7", UnitID: "1", ActualRUL: new(9.0)}, turbofan.EInvalid, `unit_id: is "1", but prediction "p-2-7" is of unit "2"`},
		{turbofan.Outcome{PredictionID: "p-2-7", Cycle: 8, ActualRUL: new(9.0)}, turbofan.EInvalid, `cycle: is 8, but prediction "p-2-7" is of cycle 7`},
		{turbofan.Outcome{UnitID: "1", FailedAtCycle: new(8)}, turbofan.EConflict, `failed_at_cycle: unit "1" is already known to have failed at cycle 9; this says cycle 8: withdraw that end first where it is wrong`},
		{turbofan.Outcome{UnitID: "2", FailedAtCycle: new(6)}, turbofan.EInvalid, `failed_at_cycle: is 6, but unit "2" sent a reading at cycle 7: a unit sends none after it failed`},
	} {
		_, err := s.Record(t.Context(), []turbofan.Outcome{c.outcome})
		wantError(t, err, c.code, c.message)
		_, err = s.Record(t.Context(), []turbofan.Outcome{{UnitID: "1", Cycle: 1, Event: "inspection"}, c.outcome})
		wantError(t, err, c.code, "outcomes[1]."+c.message)
	}
	equal(t, "stored", len(must[[]turbofan.Outcome](t)(s.Outcomes(t.Context(), turbofan.OutcomeQuery{}))), 1)
}

func testAllOrNone(t *testing.T, s *sqlstore.State) {
	appendRecords(t, s, record("1", 1), record("2", 1))
	_, err := s.Record(t.Context(), []turbofan.Outcome{
		{UnitID: "1", FailedAtCycle: new(9)}, {UnitID: "2", Cycle: 1, ActualRUL: new(3.0)}, {UnitID: "1", FailedAtCycle: new(10)},
	})
	wantError(t, err, turbofan.EConflict, `outcomes[2].failed_at_cycle: unit "1" is already known to have failed at cycle 9; this says cycle 10: withdraw that end first where it is wrong`)
	equal(t, "scored", scored(t, s, turbofan.PredictionQuery{}), "")
	equal(t, "failed", len(must[[]turbofan.FailedUnit](t)(s.FailedUnits(t.Context(), time.Time{}))), 0)
	equal(t, "then another end", recordOutcomes(t, s, turbofan.Outcome{UnitID: "1", FailedAtCycle: new(10)})[0].Predictions, 1)
}

func testOutcomeQuery(t *testing.T, s *sqlstore.State) {
	appendRecords(t, s, record("1", 1), record("2", 1))
	for d := 1; d <= 4; d++ {
		recordOutcomes(t, s, turbofan.Outcome{Key: fmt.Sprint(d), UnitID: fmt.Sprint(1 + d%2), Cycle: 1, Event: "inspection", At: day(d)})
	}
	for _, c := range []struct {
		query turbofan.OutcomeQuery
		want  string
	}{
		{turbofan.OutcomeQuery{}, "1 2 3 4"},
		{turbofan.OutcomeQuery{UnitID: "2"}, "1 3"},
		{turbofan.OutcomeQuery{Since: day(2), Until: day(4)}, "2 3"},
		{turbofan.OutcomeQuery{Since: day(2), Limit: 1}, "2"},
		{turbofan.OutcomeQuery{UnitID: "1", Until: day(4)}, "2"},
	} {
		var keys []string
		for _, o := range must[[]turbofan.Outcome](t)(s.Outcomes(t.Context(), c.query)) {
			keys = append(keys, o.Key)
		}
		equal(t, fmt.Sprintf("%+v", c.query), strings.Join(keys, " "), c.want)
	}
}

func testFailedUnits(t *testing.T, s *sqlstore.State) {
	appendRecords(t, s, record("1", 1), record("2", 1), record("3", 1))
	recordOutcomes(t, s, turbofan.Outcome{UnitID: "2", FailedAtCycle: new(8), At: day(2)}, turbofan.Outcome{UnitID: "3", Cycle: 1, ActualRUL: new(3.0)})
	recordOutcomes(t, s, turbofan.Outcome{UnitID: "1", FailedAtCycle: new(9), At: day(3)})
	recordOutcomes(t, s, turbofan.Outcome{UnitID: "2", FailedAtCycle: new(8), Note: "told again", At: day(4)})
	two, one := turbofan.FailedUnit{UnitID: "2", FailedAtCycle: 8, At: day(2)}, turbofan.FailedUnit{UnitID: "1", FailedAtCycle: 9, At: day(3)}
	equal(t, "now", must[[]turbofan.FailedUnit](t)(s.FailedUnits(t.Context(), time.Time{})), []turbofan.FailedUnit{two, one})
	equal(t, "before day 3", must[[]turbofan.FailedUnit](t)(s.FailedUnits(t.Context(), day(3))), []turbofan.FailedUnit{two})
	equal(t, "before day 2", len(must[[]turbofan.FailedUnit](t)(s.FailedUnits(t.Context(), day(2)))), 0)
	at := must[map[string]int](t)(s.FailedAt(t.Context(), []string{two.UnitID, "nobody", one.UnitID}))
	equal(t, "failed at", at, map[string]int{one.UnitID: one.FailedAtCycle, two.UnitID: two.FailedAtCycle})
}

// A wrong end is taken back: the truths are those that there would be without it, another may be stated, and the history
// tells it all.
func testWithdrawn(t *testing.T, s *sqlstore.State) {
	appendRecords(t, s, life("1", 1, 3)...)
	appendRecords(t, s, record("2", 1))
	end := func(at int, key string) turbofan.Outcome {
		return turbofan.Outcome{UnitID: "1", FailedAtCycle: &at, Key: key, At: day(2)}
	}
	back := func(at int, key string) turbofan.Outcome {
		return turbofan.Outcome{UnitID: "1", FailedAtCycle: &at, Key: key, Event: turbofan.EventWithdrawn, At: day(3)}
	}
	refused := func(o turbofan.Outcome, message string) {
		t.Helper()
		_, err := s.Record(t.Context(), []turbofan.Outcome{o})
		wantError(t, err, turbofan.EConflict, message)
	}
	known := func(want int) {
		t.Helper()
		var units []turbofan.FailedUnit
		at := map[string]int{}
		if want > 0 {
			units, at = []turbofan.FailedUnit{{UnitID: "1", FailedAtCycle: want, At: day(2)}}, map[string]int{"1": want}
		}
		equal(t, "failed units", must[[]turbofan.FailedUnit](t)(s.FailedUnits(t.Context(), time.Time{})), units)
		equal(t, "failed at", must[map[string]int](t)(s.FailedAt(t.Context(), []string{"1", "2"})), at)
	}
	refused(back(9, ""), `failed_at_cycle: unit "1" is not known to have failed; there is nothing to withdraw`)
	recordOutcomes(t, s, turbofan.Outcome{UnitID: "1", Cycle: 2, ActualRUL: new(40.0)}, turbofan.Outcome{UnitID: "1", Cycle: 2, ActualRUL: new(39.0)})
	recordOutcomes(t, s, turbofan.Outcome{UnitID: "2", FailedAtCycle: new(3)})
	recordOutcomes(t, s, turbofan.Outcome{UnitID: "2", FailedAtCycle: new(3), Event: turbofan.EventWithdrawn})
	recordOutcomes(t, s, end(9, ""))
	equal(t, "with the end", scored(t, s, turbofan.PredictionQuery{}), "p-1-1=8 p-1-2=7 p-1-3=6")
	refused(back(8, ""), `failed_at_cycle: unit "1" is known to have failed at cycle 9; this withdraws cycle 8`)
	first := recordOutcomes(t, s, back(9, ""))[0]
	equal(t, "lost their truth", first.Predictions, 3)
	appendRecords(t, s, record("1", 4))
	equal(t, "without the end", scored(t, s, turbofan.PredictionQuery{}), "p-1-2=39")
	known(0)

	again := recordOutcomes(t, s, back(9, ""))[0]
	equal(t, "sent twice", again, turbofan.OutcomeReceipt{FeedbackID: first.FeedbackID, UnitID: "1", Predictions: 3, Duplicate: true})
	refused(end(9, ""), `key: is missing: this end of unit "1" was stated before and withdrawn; to state it again, give a key`)
	recordOutcomes(t, s, end(12, ""))
	known(12)
	equal(t, "corrected", scored(t, s, turbofan.PredictionQuery{}), "p-1-1=11 p-1-2=10 p-1-3=9 p-1-4=8")

	recordOutcomes(t, s, back(12, "k1"), end(9, "k2"))
	known(9)
	refused(back(9, ""), `key: is missing: this end of unit "1" was withdrawn before and stated again; to withdraw it again, give a key`)
	equal(t, "an old message", recordOutcomes(t, s, back(12, "k1"))[0].Duplicate, true)
	known(9)
	var history []string
	for _, o := range must[[]turbofan.Outcome](t)(s.Outcomes(t.Context(), turbofan.OutcomeQuery{UnitID: "1"})) {
		if o.FailedAtCycle != nil {
			history = append(history, fmt.Sprint(o.Event, *o.FailedAtCycle))
		}
	}
	equal(t, "history", strings.Join(history, " "), "9 withdrawn9 12 withdrawn12 9")

	// What was measured of a reading after that end never hung on it.
	appendRecords(t, s, record("1", 11))
	recordOutcomes(t, s, turbofan.Outcome{UnitID: "1", Cycle: 11, ActualRUL: new(5.0)}, back(9, "k3"))
	equal(t, "measured after the end", scored(t, s, turbofan.PredictionQuery{}), "p-1-2=39 p-1-11=5")
}

func testScored(t *testing.T, s *sqlstore.State) {
	second := record("2", 1)
	second.Prediction.ModelVersion = "2"
	appendRecords(t, s, record("1", 1), second, record("3", 1), record("1", 2))
	recordOutcomes(t, s, turbofan.Outcome{UnitID: "2", FailedAtCycle: new(5)}, turbofan.Outcome{UnitID: "1", FailedAtCycle: new(9)})
	for _, c := range []struct {
		query turbofan.PredictionQuery
		want  string
	}{
		{turbofan.PredictionQuery{}, "p-1-1=8 p-2-1=4 p-1-2=7"},
		{turbofan.PredictionQuery{Last: 2}, "p-2-1=4 p-1-2=7"},
		{turbofan.PredictionQuery{UnitID: "1"}, "p-1-1=8 p-1-2=7"},
		{turbofan.PredictionQuery{UnitID: "1", Last: 1}, "p-1-2=7"},
		{turbofan.PredictionQuery{ModelVersion: "2", Last: 5}, "p-2-1=4"},
		{turbofan.PredictionQuery{UnitID: "3"}, ""},
	} {
		equal(t, fmt.Sprintf("%+v", c.query), scored(t, s, c.query), c.want)
	}
}

func testReports(t *testing.T, s *sqlstore.State) {
	report := turbofan.DriftReport{ID: "r1", At: day(1), ModelVersion: "3", Verdict: turbofan.Drifted, Because: "psi(s11)=0.31 > 0.20 over 1500 rows",
		Rows: 1500, ToSeq: 1500, Score: 0.31, Threshold: 0.2, Channels: []turbofan.ChannelDrift{{Channel: "sensor_11", PSI: 0.31, Drifted: true}},
		NewConditions: []turbofan.NewCondition{{Settings: []float64{1, 2, 3}, Rows: 9}}, RMSE: new(17.5)}
	for _, r := range []turbofan.DriftReport{report, {ID: "r2", At: day(2), Verdict: turbofan.NoDrift}} {
		if err := s.SaveReport(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	report.RetrainingJob = "j1"
	if err := s.SaveReport(t.Context(), report); err != nil {
		t.Fatal(err)
	}
	reports := must[[]turbofan.DriftReport](t)(s.Reports(t.Context(), 0))
	equal(t, "reports", len(reports), 2)
	equal(t, "replaced in its place", reports[1], report)
	equal(t, "newest", must[[]turbofan.DriftReport](t)(s.Reports(t.Context(), 1))[0].ID, "r2")
	wantError(t, s.SaveReport(t.Context(), turbofan.DriftReport{}), turbofan.EInvalid, "report_id: is missing")
}

func testJobs(t *testing.T, s *sqlstore.State) {
	first := turbofan.Job{ID: "j1", Status: turbofan.JobPending, Reason: "psi", Trigger: "drift", CreatedAt: day(1)}
	if err := s.CreateJob(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	second := turbofan.Job{ID: "j2", Status: turbofan.JobPending, CreatedAt: day(2)}
	wantError(t, s.CreateJob(t.Context(), second), turbofan.EConflict, "job j1 is active: wait for it or cancel it")
	wantError(t, s.UpdateJob(t.Context(), second), turbofan.EConflict, "job j1 is active: wait for it or cancel it")
	first.Status, first.StartedAt, first.EndedAt = turbofan.JobSuccess, day(2), day(3)
	first.Result = &turbofan.RetrainResult{ModelVersion: "2", Promoted: true, TrainUnits: map[string]int{"baseline": 100},
		HeldOut: []turbofan.GateComparison{{Group: "all", Champion: 20, Challenger: 15}}, Metrics: map[string]float64{"rmse": 15}}
	if err := s.UpdateJob(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	equal(t, "job", must[turbofan.Job](t)(s.Job(t.Context(), "j1")), first)
	wantError(t, s.UpdateJob(t.Context(), second), turbofan.ENotFound, `there is no job "j2"`)
	if err := s.CreateJob(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	first.Status = turbofan.JobInProgress
	wantError(t, s.UpdateJob(t.Context(), first), turbofan.EConflict, "job j2 is active: wait for it or cancel it")
	second.Status, second.Progress = turbofan.JobInProgress, 0.5
	if err := s.UpdateJob(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	jobs := must[[]turbofan.Job](t)(s.Jobs(t.Context(), 0))
	equal(t, "newest first", []string{jobs[0].ID, jobs[1].ID}, []string{"j2", "j1"})
	equal(t, "limit", len(must[[]turbofan.Job](t)(s.Jobs(t.Context(), 1))), 1)
	second.Status = turbofan.JobCancelled
	if err := s.UpdateJob(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	second.Status = turbofan.JobPending
	wantError(t, s.CreateJob(t.Context(), second), turbofan.EConflict, "job j2 already exists")
	wantError(t, s.CreateJob(t.Context(), turbofan.Job{Status: turbofan.JobPending}), turbofan.EInvalid, "job_id: is missing")
	wantError(t, s.CreateJob(t.Context(), turbofan.Job{ID: "j3"}), turbofan.EInvalid, "status: is missing")
}

func testEndedJob(t *testing.T, s *sqlstore.State) {
	j := turbofan.Job{ID: "j1", Status: turbofan.JobInProgress}
	if err := s.CreateJob(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	j.Status = turbofan.JobCancelled
	if err := s.UpdateJob(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	again := j
	again.Status = turbofan.JobInProgress
	wantError(t, s.UpdateJob(t.Context(), again), turbofan.EConflict, "job j1 has ended")
	j.Stage = "rolled back"
	if err := s.UpdateJob(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	equal(t, "job", must[turbofan.Job](t)(s.Job(t.Context(), "j1")), j)
}

func testLeases(t *testing.T, s *sqlstore.State) {
	acquire := func(name, holder string, ttl time.Duration) bool {
		t.Helper()
		return must[bool](t)(s.Acquire(t.Context(), name, holder, ttl))
	}
	equal(t, "free", acquire("retrain", "a", time.Hour), true)
	equal(t, "held", acquire("retrain", "b", time.Hour), false)
	equal(t, "another name", acquire("drift", "b", time.Hour), true)
	if err := s.Release(t.Context(), "retrain", "b"); err != nil {
		t.Fatal(err)
	}
	equal(t, "released by another", acquire("retrain", "b", time.Hour), false)
	equal(t, "extended", acquire("retrain", "a", time.Millisecond), true)
	for !acquire("retrain", "b", time.Hour) { // until the millisecond has passed
	}
	equal(t, "taken over", acquire("retrain", "a", time.Hour), false)
	if err := s.Release(t.Context(), "retrain", "b"); err != nil {
		t.Fatal(err)
	}
	equal(t, "released", acquire("retrain", "a", time.Hour), true)
	_, err := s.Acquire(t.Context(), "", "a", time.Hour)
	wantError(t, err, turbofan.EInvalid, "lease: needs a name and a holder")
	_, err = s.Acquire(t.Context(), "x", "a", 0)
	wantError(t, err, turbofan.EInvalid, "lease: must last at least a millisecond, not 0s")
}

func testCancelled(t *testing.T, s *sqlstore.State) {
	appendRecords(t, s, record("1", 1))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Record(ctx, []turbofan.Outcome{{UnitID: "1", FailedAtCycle: new(3)}}); !errors.Is(err, context.Canceled) {
		t.Fatalf("Record under a cancelled context: %v", err)
	}
	if _, err := s.Outcomes(ctx, turbofan.OutcomeQuery{}); !errors.Is(err, context.Canceled) {
		t.Fatalf("Outcomes under a cancelled context: %v", err)
	}
	equal(t, "the store goes on", len(must[[]turbofan.Reading](t)(s.History(t.Context(), "1", 0))), 1)
}

func testClosed(t *testing.T, s *sqlstore.State) {
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	const closed = "the store is closed"
	wantError(t, s.Append(t.Context(), []turbofan.PredictionRecord{record("1", 1)}), turbofan.EUnavailable, closed)
	wantError(t, s.Flush(t.Context()), turbofan.EUnavailable, closed)
	_, err := s.Record(t.Context(), []turbofan.Outcome{{UnitID: "1", FailedAtCycle: new(3)}})
	wantError(t, err, turbofan.EUnavailable, closed)
	_, err = s.Reports(t.Context(), 1)
	wantError(t, err, turbofan.EUnavailable, closed)
	if err := s.Close(); err != nil {
		t.Fatalf("closing twice: %v", err)
	}
}
