// Package deploy_test holds what is deployed to what it is deployed around: it runs the command, one role a process as
// the containers do, with a real Prometheus beside it.
package deploy_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"turbofan"
	"turbofan/dataset"
	"turbofan/httpapi"
)

// buildCommand builds the static binary that images hold.
func buildCommand(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "turbofan")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "../cmd/turbofan")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the command: %v\n%s", err, out)
	}
	return path
}

// fleet writes a small synthetic FD001 to train on and returns it with the units of an FD003, which fail in another way.
func fleet(t *testing.T) (dir string, healthy, other []turbofan.History) {
	t.Helper()
	var pairs []dataset.Pair
	for _, name := range []string{"FD001", "FD003"} {
		c, known := dataset.SynthSubset(name, 5)
		if !known {
			t.Fatalf("no synthetic %s", name)
		}
		c.TrainUnits, c.TestUnits = 40, 40
		train, test := dataset.Synthesize(c)
		pairs = append(pairs, dataset.Pair{Train: train, Test: test})
	}
	dir = filepath.Join(t.TempDir(), "fleet")
	if err := dataset.WriteCMAPSS(dir, pairs...); err != nil {
		t.Fatal(err)
	}
	return dir, pairs[0].Test.Units, pairs[1].Train.Units
}

// role is one process of the platform.
type role struct {
	url  string
	pid  int
	stop func() error // SIGTERM, and wait
	kill func() error // SIGKILL, and wait
}

// startRole starts one role on a free port and waits until it says where it answers. The test's end stops it.
func startRole(ctx context.Context, t *testing.T, binary, name string, env []string, args ...string) role {
	t.Helper()
	// The test's end stops it, not the context's: its log is wanted where the test ran out of time.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), binary, append([]string{"serve", "--role", name, "--port", name + "=0"}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := role{pid: cmd.Process.Pid}
	lines := bufio.NewScanner(out)
	for r.url == "" && lines.Scan() {
		if f := strings.Fields(lines.Text()); len(f) == 2 && f[0] == name {
			r.url = f[1]
		}
	}
	ended := make(chan error, 1)
	go func() {
		_, copyErr := io.Copy(io.Discard, out)
		ended <- errors.Join(copyErr, cmd.Wait())
	}()
	stopped := false
	r.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			return err
		}
		return <-ended
	}
	r.kill = func() error {
		stopped = true
		if err := cmd.Process.Kill(); err != nil {
			return err
		}
		if err := <-ended; err == nil || !strings.Contains(err.Error(), "signal: killed") {
			return fmt.Errorf("killed, it ended with %w", err)
		}
		return nil
	}
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("stop %s: %v\n%s", name, err, log.String())
		}
	})
	if r.url == "" {
		t.Fatalf("%s did not start:\n%s", name, log.String())
	}
	return r
}

// stack is every role as a process of its own over one data directory, the way the containers run.
type stack map[string]role

func startStack(ctx context.Context, t *testing.T, data string) stack {
	t.Helper()
	return startRoles(ctx, t, setup{data: data}, "registry", "retrain", "drift", "predict", "feedback", "console")
}

// setup is what roles are started with.
type setup struct {
	data string   // to train on
	dsn  string   // PostgreSQL that they share, as on several machines; empty is a data directory
	env  []string // over what all tests set
}

// startRoles starts the roles in order; one that is named again is a replica, told by a number behind its name.
func startRoles(ctx context.Context, t *testing.T, o setup, roles ...string) stack {
	t.Helper()
	binary, dir, s := buildCommand(t), t.TempDir(), stack{}
	env := []string{"GOMAXPROCS=2", "TURBOFAN_LOG_LEVEL=warn", "TURBOFAN_MODEL_KIND=forest", "TURBOFAN_MODEL_FOLDS=2", "TURBOFAN_MODEL_MAX_ROWS=4000",
		"TURBOFAN_REFRESH_EVERY=200ms", "TURBOFAN_DRIFT_EVERY=0s", "TURBOFAN_DRIFT_RETRAIN=false"}
	env = append(env, o.env...)
	for _, name := range roles {
		if o.dsn != "" {
			dir, env = t.TempDir(), append(env, "TURBOFAN_STORE_DSN="+o.dsn)
		}
		r := startRole(ctx, t, binary, name, env, "--data-dir", dir, "--data", o.data)
		if _, again := s[name]; again {
			s[name+"2"] = r
			continue
		}
		s[name] = r
		env = append(env, "TURBOFAN_URLS_"+strings.ToUpper(name)+"="+r.url)
	}
	return s
}

// startSimulator streams the fleet, so slowly that it tells nothing new, and shows its metrics where s says.
func startSimulator(ctx context.Context, t *testing.T, data string, s stack) {
	t.Helper()
	startDaemon(ctx, t, buildCommand(t), "simulate", "--data", data, "--subsets", "FD001,FD003", "--rate", "2/s", "--fleet", "5",
		"--listen", strings.TrimPrefix(s["simulator"].url, "http://"), "--predict-url", s["predict"].url, "--feedback-url", s["feedback"].url)
}

func (s stack) jobs() turbofan.RetrainingService {
	return httpapi.NewRetrainingClient(s["retrain"].url, nil)
}

func (s stack) predictions() turbofan.PredictionService {
	return httpapi.NewPredictionClient(s["predict"].url, nil)
}

func (s stack) check(ctx context.Context, t *testing.T) turbofan.DriftReport {
	t.Helper()
	r, err := httpapi.NewDriftClient(s["drift"].url, nil).Check(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// awaitJob waits until the newest retraining has ended well.
func (s stack) awaitJob(ctx context.Context, t *testing.T) {
	t.Helper()
	await(ctx, t, "a retraining that succeeds", func(ctx context.Context) error {
		jobs, err := s.jobs().Jobs(ctx, 1)
		switch {
		case err != nil:
			return err
		case len(jobs) == 0 || jobs[0].Status.Active():
			return errors.New("not yet")
		case jobs[0].Status != turbofan.JobSuccess:
			t.Fatalf("job %s: %s", jobs[0].Status, jobs[0].Error)
		}
		return nil
	})
}

// produce sends the cycles [from, to) of the units, side by side as a fleet flies.
func (s stack) produce(ctx context.Context, t *testing.T, units []turbofan.History, from, to int) {
	t.Helper()
	const stride = 20
	for ; from < to; from += stride {
		var batch []turbofan.Reading
		for _, u := range units {
			n := len(u.Readings)
			batch = append(batch, u.Readings[min(from, n):min(from+stride, n)]...)
		}
		if len(batch) == 0 {
			return
		}
		// One alone, since only single requests are in the latency histogram.
		for _, readings := range [][]turbofan.Reading{batch[:1], batch[1:]} {
			if len(readings) == 0 {
				continue
			}
			if _, err := s.predictions().Predict(ctx, turbofan.PredictRequest{Readings: readings}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// steady sends one unit's readings one by one, so that a request that a busy machine slows is one of many.
func (s stack) steady(ctx context.Context, t *testing.T, u turbofan.History) {
	t.Helper()
	for i := range u.Readings {
		if _, err := s.predictions().Predict(ctx, turbofan.PredictRequest{Readings: u.Readings[i : i+1]}); err != nil {
			t.Fatal(err)
		}
	}
}

// outcomes tells how the units ended, and once what there is not.
func (s stack) outcomes(ctx context.Context, t *testing.T, units []turbofan.History) {
	t.Helper()
	for _, u := range units {
		o := turbofan.Outcome{UnitID: u.UnitID, FailedAtCycle: &u.FailedAtCycle}
		if _, err := httpapi.NewFeedbackClient(s["feedback"].url, nil).Record(ctx, []turbofan.Outcome{o}); err != nil {
			t.Fatal(err)
		}
	}
	wrong := []turbofan.Outcome{{UnitID: units[0].UnitID, Event: "party"}}
	if _, err := httpapi.NewFeedbackClient(s["feedback"].url, nil).Record(ctx, wrong); turbofan.ErrorCode(err) != turbofan.EInvalid {
		t.Fatalf("an event that there is not: %v", err)
	}
}

// named gives the units names of their own, for a second fleet in the same store.
func named(prefix string, units []turbofan.History) []turbofan.History {
	var out []turbofan.History
	for _, u := range units {
		u.UnitID = prefix + u.UnitID
		readings := make([]turbofan.Reading, len(u.Readings))
		for i, r := range u.Readings {
			r.UnitID = u.UnitID
			readings[i] = r
		}
		u.Readings = readings
		out = append(out, u)
	}
	return out
}

// limit bounds a test, and patience a wait in it: both end what hangs, and say nothing of how quick a machine must be.
const limit, patience = 20 * time.Minute, 4 * time.Minute

// await asks ten times a second until ready is nil; the last reason is the test's failure.
func await(ctx context.Context, t *testing.T, what string, ready func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var reason error
	for {
		err := ready(ctx)
		if err == nil {
			return
		}
		if reason == nil || ctx.Err() == nil { // that time ran out in the middle of a question says nothing
			reason = err
		}
		select {
		case <-ctx.Done():
			t.Fatalf("wait for %s: %v", what, reason)
		case <-tick.C:
		}
	}
}

// need finds a program, or skips the test by its name; in CI its absence is a failure.
func need(t *testing.T, program, debian string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err == nil {
		return path
	}
	message := fmt.Sprintf("%s is not installed: apt-get install %s", program, debian)
	if os.Getenv("CI") == "true" {
		t.Fatal(message)
	}
	t.Skip(message)
	return ""
}

// retrain forces a retraining through the gate and waits for its end.
func (s stack) retrain(ctx context.Context, t *testing.T) {
	t.Helper()
	if _, err := s.jobs().Submit(ctx, turbofan.RetrainRequest{Reason: "every metric must show", Force: true}); err != nil {
		t.Fatal(err)
	}
	s.awaitJob(ctx, t)
}
