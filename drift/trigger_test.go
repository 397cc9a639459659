package drift_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"turbofan"
)

// trainer answers as its jobs say; what is asked of it is kept.
type trainer struct {
	jobs   []turbofan.Job // newest first
	reason []string
	err    error
}

func (f *trainer) Submit(_ context.Context, req turbofan.RetrainRequest) (turbofan.Job, error) {
	if f.err != nil {
		return turbofan.Job{}, f.err
	}
	j := turbofan.Job{ID: fmt.Sprintf("job-%d", len(f.jobs)+1), Status: turbofan.JobPending, Reason: req.Reason, Trigger: req.Trigger, CreatedAt: time.Now()}
	f.jobs = append([]turbofan.Job{j}, f.jobs...)
	f.reason = append(f.reason, req.Reason)
	return j, nil
}

func (f *trainer) Jobs(_ context.Context, limit int) ([]turbofan.Job, error) {
	return f.jobs[:min(limit, len(f.jobs))], nil
}

func (f *trainer) Job(context.Context, string) (turbofan.Job, error) {
	return turbofan.Job{}, errors.New("not asked for here")
}

func (f *trainer) Cancel(context.Context, string) (turbofan.Job, error) {
	return turbofan.Job{}, errors.New("not asked for here")
}

// end closes the newest job.
func (f *trainer) end(status turbofan.JobStatus, result *turbofan.RetrainResult, message string) {
	j := &f.jobs[0]
	j.Status, j.Result, j.Error, j.EndedAt = status, result, message, time.Now()
}

// drifting is a rig in synthetic time whose newest window has drifted.
func drifting(t *testing.T) (*rig, *trainer, *fleet) {
	t.Helper()
	r, f := newRig(t), &trainer{}
	r.retrain = f
	r.open(t)
	r.serve(t, pumpReference(t))
	pumps := newFleet(60, 4)
	r.send(t, pumps.read(world{load: 1, shift: 2}, 1500))
	return r, f, pumps
}

// expect checks once and compares what became of the verdict.
func expect(t *testing.T, r *rig, job, because string) turbofan.DriftReport {
	t.Helper()
	report := r.check(t)
	if report.Verdict != turbofan.Drifted {
		t.Fatalf("verdict %s because %q, want drift", report.Verdict, report.Because)
	}
	if report.RetrainingJob != job || !strings.Contains(report.Because, because) {
		t.Errorf("job %q because %q, want job %q with %q", report.RetrainingJob, report.Because, job, because)
	}
	return report
}

func TestDriftSubmitsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, f, pumps := drifting(t)
		defer func() { r.close(t) }()
		first := expect(t, r, "job-1", "psi(")
		if f.jobs[0].Trigger != "drift" || f.reason[0] != first.Because {
			t.Errorf("submitted %+v, the report says %q", f.jobs[0], first.Because)
		}
		expect(t, r, "", "; no retraining: job job-1 is pending")
		f.end(turbofan.JobFailure, nil, "out of memory")
		expect(t, r, "", "job job-1 failed without a new champion, the next after 6h0m0s or 5000 more readings")
		r.close(t)
		r.open(t)
		expect(t, r, "", "or 5000 more readings") // a restart does not forget
		r.send(t, pumps.read(world{load: 1, shift: 2}, 4000))
		expect(t, r, "", "or 1000 more readings")
		r.send(t, pumps.read(world{load: 1, shift: 2}, 1000))
		expect(t, r, "job-2", "")
		f.end(turbofan.JobSuccess, &turbofan.RetrainResult{ModelVersion: "2"}, "")
		time.Sleep(5 * time.Hour)
		expect(t, r, "", "job job-2 ended without a new champion")
		time.Sleep(time.Hour)
		expect(t, r, "job-3", "")
		for result, want := range map[string]float64{"submitted": 2, "active": 0, "cooling": 3, "failed": 0} {
			if got := r.value(t, "turbofan_drift_retraining_requests_total", result); got != want {
				t.Errorf("requests{%s} since the restart are %v, want %v", result, got, want)
			}
		}
	})
}

func TestNewChampionSettlesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, f, pumps := drifting(t)
		defer r.close(t)
		expect(t, r, "job-1", "")
		f.end(turbofan.JobSuccess, &turbofan.RetrainResult{ModelVersion: "2", Promoted: true}, "")
		expect(t, r, "", "without a new champion") // promoted, but the alias still says version 1
		r.serve(t, pumpReference(t))
		time.Sleep(time.Second)
		expect(t, r, "", "version 2 is new, the next after 2000 more readings")
		r.send(t, pumps.read(world{load: 1, shift: 2}, 2000))
		expect(t, r, "job-2", "")
		f.end(turbofan.JobCancelled, nil, "")
		r.serve(t, pumpReference(t)) // somebody chose another version by hand
		expect(t, r, "job-3", "")
	})
}

// What arrived between a promotion and the first check after it counts, however much more it is than a window.
func TestNewChampionSettlesBeforeTheFirstCheck(t *testing.T) {
	for _, c := range []struct {
		gap     int64
		sent    int
		job     string
		because string
	}{
		{1, 2500, "job-2", ""},
		{1, 1500, "", "version 2 is new, the next after 500 more readings"},
		{1000, 1999, "", "version 2 is new, the next after 1 more reading"},
	} {
		synctest.Test(t, func(t *testing.T) {
			r, f, pumps := drifting(t)
			defer func() { r.close(t) }()
			r.close(t)
			r.gap = c.gap
			r.open(t)
			expect(t, r, "job-1", "")
			f.end(turbofan.JobSuccess, &turbofan.RetrainResult{ModelVersion: "2", Promoted: true}, "")
			r.serve(t, pumpReference(t))
			time.Sleep(time.Second)
			r.send(t, pumps.read(world{load: 1, shift: 2}, c.sent))
			expect(t, r, c.job, c.because)
		})
	}
}

func TestRefusalIsRepairedByNewUnits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, f, pumps := drifting(t)
		defer r.close(t)
		r.fail(t, "pump-6", "pump-7") // the job knew them
		time.Sleep(time.Minute)
		expect(t, r, "job-1", "")
		time.Sleep(time.Minute)
		f.end(turbofan.JobRefused, nil, "3 of 8 labelled units")
		r.fail(t, "pump-1", "pump-2", "pump-3")
		expect(t, r, "", "job job-1 was refused (3 of 8 labelled units), the next after 2 more failed units")
		r.send(t, pumps.read(world{load: 1, shift: 2}, 6000))
		time.Sleep(24 * time.Hour) // neither rows nor time repair a lack of labels
		expect(t, r, "", "the next after 2 more failed units")
		r.fail(t, "pump-4", "pump-5")
		expect(t, r, "job-2", "")
	})
}

func TestRetrainingAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, f, _ := drifting(t)
		defer r.close(t)
		f.err = turbofan.Errorf(turbofan.EConflict, "job job-9 is active")
		expect(t, r, "", "; no retraining: job job-9 is active")
		f.err = turbofan.Errorf(turbofan.EUnavailable, "no answer")
		expect(t, r, "", "")
		if got := r.value(t, "turbofan_drift_retraining_requests_total", "failed"); got != 1 {
			t.Errorf("failed requests %v, want 1", got)
		}
		if got := r.value(t, "turbofan_drift_retraining_request_success", ""); got != 0 {
			t.Errorf("nobody was asked, and turbofan_drift_retraining_request_success is %v", got)
		}
		f.err = nil
		expect(t, r, "job-1", "")
		if got := r.value(t, "turbofan_drift_retraining_request_success", ""); got != 1 {
			t.Errorf("a job was created, and turbofan_drift_retraining_request_success is %v", got)
		}
	})
}

func TestNoRetraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, f, _ := drifting(t)
		r.close(t)
		r.cfg.Retrain = false
		r.open(t)
		defer r.close(t)
		expect(t, r, "", "psi(")
		if len(f.jobs) != 0 {
			t.Error("a job was submitted although retraining is off")
		}
	})
}

// A request that failed stays so until it is made or there is no drift: a check that cannot judge repairs nothing. Of a new
// version nothing is known.
func TestAFailedRequestOutlivesTooLittleData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, f, _ := drifting(t)
		defer r.close(t)
		f.err = turbofan.Errorf(turbofan.EUnavailable, "no answer")
		expect(t, r, "", "")
		r.send(t, newFleet(5, 9).read(world{load: 9}, 1000)) // too few units to commission a condition
		for _, want := range []float64{0, math.NaN()} {
			if report := r.check(t); report.Verdict != turbofan.InsufficientData {
				t.Fatalf("%s because %q", report.Verdict, report.Because)
			}
			if got := r.value(t, "turbofan_drift_retraining_request_success", ""); math.Float64bits(got) != math.Float64bits(want) {
				t.Errorf("turbofan_drift_retraining_request_success is %v, want %v", got, want)
			}
			r.serve(t, pumpReference(t))
		}
		for _, name := range []string{"turbofan_drift_detected", "turbofan_drift_score", "turbofan_drift_psi_mean", "turbofan_drift_units_outside"} {
			if got := r.value(t, name, ""); got == got {
				t.Errorf("%s is %v of a version that was not judged yet", name, got)
			}
		}
	})
}

// An alarm by single units ends with the version that raised it, also where the next cannot judge units.
func TestUnitsOutsideEnd(t *testing.T) {
	r := newRig(t)
	r.open(t)
	defer r.close(t)
	r.serve(t, pumpReference(t))
	for _, w := range odd(21, 4, []int{1, 4}, 3) {
		r.send(t, []turbofan.Reading{w.Reading})
	}
	r.check(t)
	if got := r.value(t, "turbofan_drift_units_outside", ""); got != 4 {
		t.Fatalf("%v units are outside, want 4", got)
	}
	ref := pumpReference(t)
	ref.Spreads, ref.SpreadTails = nil, nil
	r.serve(t, ref)
	if report := r.check(t); report.Verdict != turbofan.NoDrift || report.Spread != nil {
		t.Fatalf("%s because %q", report.Verdict, report.Because)
	}
	if got := r.value(t, "turbofan_drift_units_outside", ""); got == got {
		t.Errorf("%v units are outside where none can be judged", got)
	}
}

// listener keeps the events it hears.
type listener []turbofan.Event

func (l *listener) Publish(_ context.Context, e turbofan.Event) { *l = append(*l, e) }

// A listener hears of drift when it begins, not at every check while it lasts.
func TestDriftIsToldOnce(t *testing.T) {
	var heard listener
	r := newRig(t)
	r.cfg.Events = &heard
	r.open(t)
	defer r.close(t)
	r.serve(t, pumpReference(t))
	f := newFleet(60, 3)
	r.send(t, f.read(world{load: 1}, 1000))
	r.check(t)
	if len(heard) != 0 {
		t.Fatalf("heard %+v of a world that did not change", heard)
	}
	r.send(t, newFleet(60, 4).read(world{load: 1, shift: 2}, 1000))
	report := r.check(t)
	r.check(t)
	if len(heard) != 1 || heard[0].Kind != turbofan.EventDrift || heard[0].ReportID != report.ID || heard[0].Because != report.Because {
		t.Errorf("heard %+v, want report %s once", heard, report.ID)
	}
	r.serve(t, pumpReference(t))
	if report = r.check(t); len(heard) != 2 || heard[1].ReportID != report.ID || heard[1].ModelVersion != "2" {
		t.Errorf("heard %+v, want report %s of the next version too", heard, report.ID)
	}
}

// Units that no longer go together raise an alarm at once; a retraining waits until as many of them have ended as it
// could learn from.
func TestOddUnitsMustEndFirst(t *testing.T) {
	r, f := newRig(t), &trainer{}
	r.retrain, r.cfg.SpreadEnded = f, 4
	r.open(t)
	defer r.close(t)
	r.serve(t, pumpReference(t))
	window := odd(21, 4, []int{1, 4}, 3)
	readings := make([]turbofan.Reading, len(window))
	for i := range window {
		readings[i] = window[i].Reading
	}
	r.send(t, readings)
	first := expect(t, r, "", "; no retraining: 0 of 4 such units have ended, from which it could learn")
	if first.Spread == nil || len(first.Spread.UnitIDs) != 4 {
		t.Fatalf("%+v", first.Spread)
	}
	r.fail(t, first.Spread.UnitIDs[:3]...)
	second := expect(t, r, "", "; no retraining: 3 of 4 such units")
	if second.Score != first.Score || second.Threshold != first.Threshold {
		t.Errorf("score %v above %v, then %v above %v: an alarm by units lowered the threshold for distributions", first.Score, first.Threshold, second.Score, second.Threshold)
	}
	if got := r.value(t, "turbofan_drift_units_outside", ""); got != 4 {
		t.Errorf("the metric says %v units are outside", got)
	}
	if got := r.value(t, "turbofan_drift_retraining_requests_total", "early"); got != 2 {
		t.Errorf("%v verdicts were too early, want 2", got)
	}
	r.fail(t, first.Spread.UnitIDs[3])
	expect(t, r, "job-1", "4 of ")
}

// Units that another version found odd have taught nothing of those that this one finds odd.
func TestOddUnitsOfAnotherVersionDoNotCount(t *testing.T) {
	r, f := newRig(t), &trainer{}
	r.retrain, r.cfg.SpreadEnded = f, 4
	r.open(t)
	defer r.close(t)
	var found [2]turbofan.DriftReport
	for version, prefix := range []string{"old-", "new-"} {
		r.serve(t, pumpReference(t))
		window := odd(21, 4, []int{1, 4}, 3)
		readings := make([]turbofan.Reading, len(window))
		for i := range window {
			readings[i] = window[i].Reading
			readings[i].UnitID = prefix + readings[i].UnitID
		}
		r.send(t, readings)
		found[version] = expect(t, r, "", "; no retraining: 0 of 4 such units have ended")
		r.fail(t, found[0].Spread.UnitIDs...)
	}
	expect(t, r, "", "; no retraining: 0 of 4 such units have ended")
	r.fail(t, found[1].Spread.UnitIDs...)
	expect(t, r, "job-1", "4 of ")
}
