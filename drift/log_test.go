package drift_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"turbofan"
)

// Whoever is woken by errors in the log is not woken by a life without faults: a start without a champion, drift, a
// retraining that is refused, cools or is away for a moment, and a restart.
func TestLogOfALifeWithoutFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		r, f := newRig(t), &trainer{}
		r.retrain, r.log = f, slog.New(slog.NewTextHandler(&logged, nil))
		r.cfg.EveryRows = 500
		r.open(t)
		stop := run(t, r)
		pumps := newFleet(60, 4)
		r.send(t, pumps.read(world{load: 1}, 1500))
		time.Sleep(11 * time.Minute) // nothing serves yet
		r.serve(t, pumpReference(t))
		time.Sleep(11 * time.Minute)
		f.err = turbofan.Errorf(turbofan.EUnavailable, "restarts")
		r.send(t, pumps.read(world{load: 2}, 500))
		time.Sleep(10 * time.Second)
		r.send(t, pumps.read(world{load: 1, shift: 2}, 1500))
		time.Sleep(30 * time.Second)
		f.err = nil
		r.send(t, pumps.read(world{load: 1, shift: 2}, 500))
		time.Sleep(11 * time.Minute)
		f.end(turbofan.JobRefused, nil, "3 of 8 labelled units")
		time.Sleep(11 * time.Minute)
		stop()
		r.close(t)
		r.open(t)
		stop = run(t, r)
		time.Sleep(11 * time.Minute)
		stop()
		r.close(t)
		for _, part := range []string{`level=INFO msg="drift not checked"`, `level=WARN msg="operating condition that the model never saw in training"`, "job=job-1",
			`level=WARN msg="drift found, but retraining cannot be asked for: the next check tries again"`, "job job-1 was refused"} {
			if !strings.Contains(logged.String(), part) {
				t.Errorf("the log lacks %s", part)
			}
		}
		if strings.Contains(logged.String(), "level=ERROR") || t.Failed() {
			t.Errorf("the log of a life without faults:\n%s", logged.String())
		}
	})
}

// What does not pass by itself is an error: a part that stays away, and a reference that nobody can read.
func TestLogOfFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		r, f := newRig(t), &trainer{err: turbofan.Errorf(turbofan.EUnavailable, "no answer")}
		r.retrain, r.log = f, slog.New(slog.NewTextHandler(&logged, nil))
		r.open(t)
		defer func() { r.close(t) }()
		r.serve(t, pumpReference(t))
		r.send(t, newFleet(60, 4).read(world{load: 1, shift: 2}, 1500))
		const told = `level=ERROR msg="drift found, but retraining cannot be asked for`
		r.check(t)
		if strings.Contains(logged.String(), "level=ERROR") {
			t.Errorf("an error at once:\n%s", logged.String())
		}
		time.Sleep(time.Minute)
		r.check(t)
		if !strings.Contains(logged.String(), told) {
			t.Errorf("no error after a minute:\n%s", logged.String())
		}
		f.err = nil
		expect(t, r, "job-1", "")
		f.jobs, f.err = nil, turbofan.Errorf(turbofan.EUnavailable, "no answer")
		logged.Reset()
		r.check(t)
		f.err = turbofan.Errorf(turbofan.EUnauthorized, "no such key")
		if strings.Contains(logged.String(), "level=ERROR") {
			t.Errorf("the outage before is not forgotten:\n%s", logged.String())
		}
		if r.check(t); !strings.Contains(logged.String(), told) {
			t.Errorf("a refused key is no error:\n%s", logged.String())
		}
		logged.Reset()
		r.serveBytes(t, t.TempDir(), []byte("{}"))
		stop := run(t, r)
		time.Sleep(11 * time.Minute)
		stop()
		if !strings.Contains(logged.String(), `level=ERROR msg="the version has no usable reference`) {
			t.Errorf("a reference that cannot be read is no error:\n%s", logged.String())
		}
	})
}
