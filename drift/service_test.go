package drift_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"turbofan"
	"turbofan/drift"
)

func TestVerdicts(t *testing.T) {
	ref := pumpReference(t)
	for _, c := range []struct {
		name    string
		world   world
		units   int
		rows    int
		want    turbofan.Verdict
		because string
	}{
		{"the same world", world{load: 1}, 60, 1000, turbofan.NoDrift, "is not above 0.2"},
		{"a younger half", world{load: 1}, 300, 700, turbofan.NoDrift, "over 700 rows of 300 units"},
		{"another world", world{load: 1, shift: 2}, 60, 1000, turbofan.Drifted, "psi(sensor"},
		{"few rows", world{load: 1}, 60, 200, turbofan.InsufficientData, "only 200 of 300 rows"},
		{"few units", world{load: 1}, 10, 1000, turbofan.InsufficientData, "of 20 units"},
		{"foreign load, not commissioned", world{load: 5}, 60, 290, turbofan.InsufficientData, "290 rows left out, in an operating condition that is not commissioned yet"},
		{"nothing", world{}, 60, 0, turbofan.InsufficientData, "only 0 of 300 rows and 0 of 20 units"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			r.open(t)
			defer r.close(t)
			r.serve(t, ref)
			r.send(t, newFleet(c.units, 3).read(c.world, c.rows))
			report := r.check(t)
			because := strings.ReplaceAll(c.because, "sensor", "")
			if report.Verdict != c.want || !strings.Contains(report.Because, because) {
				t.Errorf("verdict %s because %q, want %s with %q", report.Verdict, report.Because, c.want, because)
			}
			if c.want == turbofan.Drifted != (float64(report.Score) > report.Threshold) {
				t.Errorf("score %v, threshold %v do not agree with %s", report.Score, report.Threshold, report.Verdict)
			}
			// The rig's intervals reach 20 cycles either way and promise nine truths of ten: 20/1.645 of error.
			if e := report.EstimatedRMSE; c.rows > 0 && (e == nil || math.Abs(*e-12.16) > 0.01) {
				t.Errorf("estimated error %v", e)
			}
			stored, err := r.Reports(context.Background(), 5)
			if err != nil || len(stored) != 1 || stored[0].ID != report.ID || stored[0].Because != report.Because {
				t.Fatalf("stored %+v, %v", stored, err)
			}
			sent, err := json.Marshal(stored[0])
			for _, field := range []string{"score", "psi_mean", "psi_max"} {
				if null := strings.Contains(string(sent), `"`+field+`":null`); err != nil || null != (c.want == turbofan.InsufficientData) {
					t.Errorf("%s is null: %t with %s, %v", field, null, c.want, err)
				}
			}
			if got := r.value(t, "turbofan_drift_checks_total", string(c.want)); got != 1 {
				t.Errorf("checks_total{%s} is %v, want 1", c.want, got)
			}
		})
	}
}

func TestNewConditionIsAnEventNotDrift(t *testing.T) {
	var logged bytes.Buffer
	r := newRig(t)
	r.log = slog.New(slog.NewTextHandler(&logged, nil))
	r.open(t)
	r.serve(t, pumpReference(t))
	f := newFleet(60, 5)
	r.send(t, f.read(world{load: 1}, 1000))
	r.check(t)
	r.send(t, f.read(world{load: 4}, 60))
	r.check(t)
	if got := r.value(t, "turbofan_drift_pending_conditions", ""); got != 1 {
		t.Errorf("turbofan_drift_pending_conditions is %v of a few young units, want 1", got)
	}
	r.send(t, f.read(world{load: 4}, 8940))
	report := r.check(t)
	if report.Verdict != turbofan.NoDrift || report.Rows != 1000 {
		t.Errorf("verdict %s over %d rows because %q", report.Verdict, report.Rows, report.Because)
	}
	if n := report.NewConditions; len(n) != 1 || math.Abs(n[0].Settings[0]-4) > 0.1 || n[0].Rows != 1000 || n[0].Units < 60 || !n[0].Commissioned {
		t.Errorf("new conditions %+v", n)
	}
	if got := r.value(t, "turbofan_drift_new_conditions", ""); got != 1 {
		t.Errorf("turbofan_drift_new_conditions is %v, want 1", got)
	}
	if got := r.value(t, "turbofan_drift_pending_conditions", ""); got != 0 {
		t.Errorf("turbofan_drift_pending_conditions is %v, want 0: enough units were seen", got)
	}
	r.check(t)
	r.close(t)
	r.open(t) // a restart announces nothing twice, and learns the condition again
	defer r.close(t)
	again := r.check(t)
	if again.Verdict != report.Verdict || again.Score != report.Score {
		t.Errorf("after a restart %s with %v, before %s with %v", again.Verdict, again.Score, report.Verdict, report.Score)
	}
	if n := strings.Count(logged.String(), "never saw in training"); n != 1 {
		t.Errorf("the new condition was announced %d times, want once:\n%s", n, &logged)
	}
	r.send(t, f.read(world{load: 4, shift: 2}, 1000))
	if report := r.check(t); report.Verdict != turbofan.Drifted {
		t.Errorf("a fault in the new condition: %s because %q", report.Verdict, report.Because)
	}
}

func TestConditionsAreLearnedOnce(t *testing.T) {
	r := newRig(t)
	r.open(t)
	defer r.close(t)
	ref := pumpReference(t)
	r.serve(t, ref)
	f := newFleet(60, 6)
	all := f.read(world{load: 3}, 7000)
	whole := drift.NewConditions(ref, r.cfg)
	for i := range all {
		whole.Learn(&all[i])
	}
	for len(all) > 0 { // in pieces, with checks between them
		n := min(len(all), 700)
		r.send(t, all[:n])
		all = all[n:]
		r.check(t)
	}
	readings, err := r.state.Readings(context.Background(), turbofan.ReadingQuery{Last: r.cfg.Window})
	if err != nil {
		t.Fatal(err)
	}
	want, err := drift.Judge(ref, drift.Window{Readings: readings, Unseen: whole.Unseen()}, r.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.check(t); got.Score != want.Score || got.Rows != want.Rows || want.Rows == 0 {
		t.Errorf("score %v over %d rows, want %v over %d as learned at once", got.Score, got.Rows, want.Score, want.Rows)
	}
}

func TestWithoutChampion(t *testing.T) {
	r := newRig(t)
	r.open(t)
	defer r.close(t)
	for _, name := range []string{"turbofan_drift_score", "turbofan_drift_threshold", "turbofan_drift_reference_rmse", "turbofan_drift_check_success", "turbofan_data_quality_issues"} {
		if got := r.value(t, name, "stuck"); !math.IsNaN(got) {
			t.Errorf("before the first check %s is %v, want NaN", name, got)
		}
	}
	_, err := r.Check(context.Background())
	if turbofan.ErrorCode(err) != turbofan.ENotFound || !strings.Contains(turbofan.ErrorMessage(err), `no version of model "rul" is called "champion" yet`) {
		t.Errorf("check says %v", err)
	}
	if err := r.Ready(context.Background()); turbofan.ErrorCode(err) != turbofan.ENotFound {
		t.Errorf("ready says %v", err)
	}
	if got := r.value(t, "turbofan_drift_checks_total", "error"); got != 1 {
		t.Errorf("checks_total{error} is %v, want 1", got)
	}
	if got := r.value(t, "turbofan_drift_check_success", ""); got != 0 {
		t.Errorf("the check failed, and turbofan_drift_check_success is %v", got)
	}
	r.serve(t, pumpReference(t))
	r.check(t) // too little to judge is a verdict
	if got := r.value(t, "turbofan_drift_check_success", ""); got != 1 {
		t.Errorf("the check drew a verdict, and turbofan_drift_check_success is %v", got)
	}
	if err := r.Ready(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestReferences(t *testing.T) {
	r := newRig(t)
	r.open(t)
	defer r.close(t)
	r.serveBytes(t, t.TempDir(), []byte(`{"schema":`))
	if _, err := r.Check(context.Background()); turbofan.ErrorCode(err) != turbofan.EUnavailable ||
		!strings.Contains(turbofan.ErrorMessage(err), "version 1 of rul has no usable reference") {
		t.Errorf("a broken reference: %v", err)
	}
	ref := pumpReference(t)
	for range 7 {
		r.serve(t, ref)
		r.send(t, newFleet(60, 1).read(world{load: 1}, 400))
		if report := r.check(t); report.ModelVersion != r.serving {
			t.Errorf("checked version %s, version %s serves", report.ModelVersion, r.serving)
		}
	}
	cached, err := os.ReadDir(r.cfg.CacheDir)
	if err != nil || len(cached) != 5 {
		t.Errorf("%d entries in the cache, want the 5 newest references: %v %v", len(cached), cached, err)
	}
	newest := ""
	for _, e := range cached {
		if strings.HasPrefix(e.Name(), "v"+r.serving+"-") {
			newest = filepath.Join(r.cfg.CacheDir, e.Name())
		}
	}
	if err := os.WriteFile(newest, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := drift.New(r.cfg, r.registry, drift.Stores{Readings: r.state, Reports: r.state}, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Check(context.Background()); err != nil {
		t.Errorf("a damaged cache is not fetched again: %v", err)
	}
}

func TestChecksTakeTurns(t *testing.T) {
	r := newRig(t)
	r.open(t)
	defer r.close(t)
	r.serve(t, pumpReference(t))
	r.send(t, newFleet(60, 1).read(world{load: 1}, 1000))
	done := make(chan error)
	for range 8 {
		go func() {
			_, err := r.Check(context.Background())
			done <- err
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := r.Check(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled check says %v", err)
	}
}

// run starts the schedule in a bubble of synthetic time and returns how to stop it.
func run(t *testing.T, r *rig) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func (r *rig) count(t *testing.T) int {
	t.Helper()
	reports, err := r.Reports(context.Background(), 0)
	if err != nil {
		t.Fatal(err)
	}
	return len(reports)
}

func TestScheduleByTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.open(t)
		r.serve(t, pumpReference(t))
		stop := run(t, r)
		time.Sleep(time.Second)
		for i := 1; i <= 3; i++ {
			if n := r.count(t); n != i {
				t.Errorf("%d reports %d times ten minutes after the start, want %d", n, i-1, i)
			}
			time.Sleep(10 * time.Minute)
		}
		stop()
		r.close(t)
		r.open(t)
		before := r.count(t)
		stop = run(t, r)
		time.Sleep(9 * time.Minute)
		if n := r.count(t); n != before {
			t.Errorf("%d reports nine minutes after a restart, want %d: the last check was not ten minutes ago", n, before)
		}
		time.Sleep(time.Minute)
		if n := r.count(t); n != before+1 {
			t.Errorf("%d reports ten minutes after a restart, want %d: the schedule goes on where it was", n, before+1)
		}
		stop()
		r.close(t)
	})
}

func TestScheduleByRows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.cfg.Every, r.cfg.EveryRows = 0, 250
		r.open(t)
		stop := run(t, r)
		f := newFleet(60, 2)
		r.send(t, f.read(world{load: 1}, 300))
		time.Sleep(time.Minute) // nothing serves yet: the check fails, and again every five seconds
		if n := r.value(t, "turbofan_drift_checks_total", "error"); n < 10 || n > 13 {
			t.Errorf("%v failed checks in a minute, want about twelve", n)
		}
		r.serve(t, pumpReference(t))
		time.Sleep(6 * time.Second)
		for i := 1; i <= 4; i++ {
			if n := r.count(t); n != i {
				t.Errorf("%d reports after %d times 250 readings, want %d", n, i, i)
			}
			r.send(t, f.read(world{load: 1}, 249))
			time.Sleep(time.Second)
			if n := r.count(t); n != i {
				t.Errorf("%d reports one reading too early, want %d", n, i)
			}
			r.send(t, f.read(world{load: 1}, 1))
			time.Sleep(time.Second)
		}
		stop()
		r.close(t)
	})
}

// Numbers of readings have gaps: what is due by rows is counted, not subtracted.
func TestScheduleByRowsOverGaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.cfg.Every, r.cfg.EveryRows, r.gap = 0, 250, 7
		r.open(t)
		r.serve(t, pumpReference(t))
		f := newFleet(60, 2)
		stop := run(t, r)
		for i, n := range []int{249, 1, 249, 1} {
			r.send(t, f.read(world{load: 1}, n))
			time.Sleep(time.Second)
			if got, want := r.count(t), (i+1)/2; got != want {
				t.Errorf("%d reports after %d more readings, want %d", got, n, want)
			}
		}
		stop()
		r.close(t)
	})
}

func TestNewRefuses(t *testing.T) {
	r := newRig(t)
	r.open(t)
	defer r.close(t)
	stores := drift.Stores{Readings: r.state, Reports: r.state}
	for _, c := range []struct {
		change func(*drift.Config)
		want   string
	}{
		{func(c *drift.Config) { c.ModelName = "" }, "drift.model_name: is missing"},
		{func(c *drift.Config) { c.Alias = "" }, "drift.alias: is missing"},
		{func(c *drift.Config) { c.CacheDir = "" }, "drift.cache_dir: is missing"},
		{func(c *drift.Config) { c.Every = -time.Second }, "drift.every: must be at least 0, not -1s"},
		{func(c *drift.Config) { c.EveryRows = -1 }, "drift.every_rows: must be at least 0, not -1"},
		{func(c *drift.Config) { c.EveryRows, c.Poll = 1, 0 }, "drift.poll: must be above 0, not 0s"},
		{func(c *drift.Config) { c.Cooldown = -1 }, "drift.cooldown: must be at least 0, not -1ns"},
		{func(c *drift.Config) { c.CooldownRows = -1 }, "drift.cooldown_rows: must be at least 0, not -1"},
		{func(c *drift.Config) { c.SettleRows = -1 }, "drift.settle_rows: must be at least 0, not -1"},
		{func(c *drift.Config) { c.RetryUnits = 0 }, "drift.retry_units: must be at least 1, not 0"},
		{func(c *drift.Config) { c.Window = 0 }, "drift.window: must be from 50 to 1000000, not 0"},
		{func(c *drift.Config) { c.MinRows = 1 }, "drift.min_rows: must be at least 2, not 1"},
		{func(c *drift.Config) { c.MinUnits = 0 }, "drift.min_units: must be from 1 to the window of 1000, not 0"},
		{func(c *drift.Config) { c.Threshold = 0 }, "drift.threshold: must be a finite number above 0, not 0"},
		{func(c *drift.Config) { c.Threshold = math.NaN() }, "drift.threshold: must be a finite number above 0, not NaN"},
		{func(c *drift.Config) { c.Rank = -1 }, "drift.rank: must be at least 0, not -1"},
		{func(c *drift.Config) { c.Hysteresis = 1 }, "drift.hysteresis: must be at least 0 and below 1, not 1"},
		{func(c *drift.Config) { c.ProvisionalUnits = 1 }, "drift.provisional_units: must be at least 2, not 1"},
		{func(c *drift.Config) { c.CommissionUnits = 3 }, "drift.commission_units: must be at least provisional_units, 10, not 3"},
		{func(c *drift.Config) { c.ErrorRatio = 0.9 }, "drift.error_ratio: must be above 1, or 0 to leave the error out, not 0.9"},
		{func(c *drift.Config) { c.ErrorUnits = 1 }, "drift.error_units: must be at least 2, not 1"},
		{func(c *drift.Config) { c.ScoredRows = 200_000 }, "drift.scored_rows: must be from 1 to 100000, not 200000"},
	} {
		cfg := r.cfg
		c.change(&cfg)
		if _, err := drift.New(cfg, r.registry, stores, nil, nil, nil); err == nil || err.Error() != c.want {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
	for want, f := range map[string]func() error{
		"there is no registry": func() error { _, err := drift.New(r.cfg, nil, stores, nil, nil, nil); return err },
		"there is no store of readings": func() error {
			_, err := drift.New(r.cfg, r.registry, drift.Stores{Reports: r.state}, nil, nil, nil)
			return err
		},
		"there is no store of reports": func() error {
			_, err := drift.New(r.cfg, r.registry, drift.Stores{Readings: r.state}, nil, nil, nil)
			return err
		},
	} {
		if err := f(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if _, err := r.Reports(context.Background(), -1); fmt.Sprint(err) != "limit: must be a whole number of at least 0, not -1" {
		t.Errorf("reports with a limit of -1: %v", err)
	}
}

// Replicas over one store check in turn, and the schedule of one counts for all.
func TestReplicasTakeTurns(t *testing.T) {
	r := newRig(t)
	r.cfg.Every, r.cfg.Poll = time.Hour, time.Second
	r.open(t)
	defer r.close(t)
	r.serve(t, pumpReference(t))
	r.send(t, newFleet(60, 4).read(world{load: 1}, 1000))
	if got, err := r.state.Acquire(t.Context(), "drift-check", "replica", time.Hour); err != nil || !got {
		t.Fatal(got, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := r.Check(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a check while a replica checks: %v", err)
	}
	waiting := make(chan error, 1)
	go func() {
		_, err := r.Check(context.WithoutCancel(t.Context()))
		waiting <- err
	}()
	if err := r.state.Release(t.Context(), "drift-check", "replica"); err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; err != nil {
		t.Errorf("a check once the replica has ended: %v", err)
	}
	if got, err := r.state.Acquire(t.Context(), "drift-check", "replica", time.Hour); err != nil || !got {
		t.Errorf("the lease is not given back: %v", err)
	}
}
