package retrain_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"turbofan"
	"turbofan/model"
	"turbofan/registry"
	"turbofan/retrain"
)

func TestBetterChallengerIsPromoted(t *testing.T) {
	p := newPlant(t)
	drawn := 0
	s := p.start(options{change: func(c *retrain.Config) {
		c.RunTags = map[string]string{"mlflow.source.name": "test"}
		c.Illustrate = func(_ *model.Model, dir string) error {
			if drawn++; drawn == 1 {
				return errors.New("no ink")
			}
			return os.WriteFile(filepath.Join(dir, "model.html"), []byte("<svg>"), 0o644)
		}
	}})
	first := s.run(turbofan.RetrainRequest{Reason: "first model"})
	if first.Status != turbofan.JobSuccess || !first.Result.Promoted || first.Result.Because != "the first version: there was no champion to judge it beside" || p.serving().Version != "1" {
		t.Fatalf("first job %+v, %+v", first, first.Result)
	}
	p.live(fleet("new", 16, 3, newMode), nil)
	j := s.run(turbofan.RetrainRequest{Reason: "psi(s2) = 0.4", Trigger: "drift"})
	if j.Status != turbofan.JobSuccess || !j.Result.Promoted || j.Result.ModelVersion != "2" || j.Result.Champion != "1" || j.Result.NewUnits != 16 {
		t.Fatalf("job %+v, %+v", j, j.Result)
	}
	groups := map[string]turbofan.GateComparison{}
	for _, g := range j.Result.HeldOut {
		groups[g.Group] = g
	}
	if g := groups["new"]; g.Units != 16 || g.Challenger >= g.Champion || g.High >= 0 {
		t.Errorf("on new units %+v", g)
	}
	if groups["baseline"].Units != 24 || groups["all"].Units != 40 {
		t.Errorf("groups %+v", groups)
	}
	v := p.serving()
	if v.Version != "2" || v.RunID != j.Result.RunID {
		t.Errorf("champion %+v", v)
	}
	for tag, want := range map[string]string{"turbofan.reason": "psi(s2) = 0.4", "turbofan.trigger": "drift", "turbofan.gate": "promoted", "turbofan.champion_before": "1",
		"turbofan.job": j.ID, "turbofan.random_state": "42", "turbofan.data_cut_off": j.DataCutOff.Format(time.RFC3339Nano)} {
		if v.Tags[tag] != want {
			t.Errorf("tag %s is %q, want %q", tag, v.Tags[tag], want)
		}
	}
	if v.Tags["turbofan.digest"] == "" || v.Tags["turbofan.data_digest"] == "" {
		t.Errorf("tags %v lack a digest", v.Tags)
	}
	run := must[turbofan.Run](t)(p.reg.Run(t.Context(), v.RunID))
	if run.Status != turbofan.RunFinished || len(run.Params) == 0 || len(run.Metrics) == 0 || !slices.Contains(run.Tags, turbofan.KeyValue{Key: "mlflow.source.name", Value: "test"}) {
		t.Errorf("run %+v", run)
	}
	if pictures := must[[]turbofan.Artifact](t)(p.reg.ListArtifacts(t.Context(), run.ArtifactURI+"/pictures")); len(pictures) != 1 || pictures[0].Path != "model.html" {
		t.Errorf("pictures %v", pictures)
	}
	p.checkFolds(first.Result.RunID)
	if p.counter("turbofan_promotions_total") != 2 || p.counter("turbofan_rollbacks_total") != 0 {
		t.Error("promotions and rollbacks are miscounted")
	}
}

// checkFolds compares the errors of the folds with that over all units: folds of as many units count alike.
func (p *plant) checkFolds(runID string) {
	p.t.Helper()
	history, _, err := p.reg.MetricHistory(p.t.Context(), turbofan.MetricQuery{RunID: runID, Key: "cv_rmse_fold", Limit: 100})
	if err != nil || len(history) != small().Folds || len(p.base)%len(history) != 0 {
		p.t.Fatalf("%d folds of %d units (%v)", len(history), len(p.base), err)
	}
	sum := 0.0
	for i, m := range history {
		if m.Step != int64(i+1) {
			p.t.Errorf("fold %d has step %d", i+1, m.Step)
		}
		sum += m.Value * m.Value
	}
	whole := must[turbofan.Run](p.t)(p.reg.Run(p.t.Context(), runID))
	for _, m := range whole.Metrics {
		if got := math.Sqrt(sum / float64(len(history))); m.Key == "cv_rmse_clipped" && math.Abs(got-m.Value) > 1e-9 {
			p.t.Errorf("the folds come to %v, the whole to %v", got, m.Value)
		}
	}
}

// A challenger that has nothing new to be better at must be better, also when it is forced.
func TestForcedChallengerMustBeBetter(t *testing.T) {
	p := newPlant(t)
	p.champion(p.base)
	s := p.start(options{change: func(c *retrain.Config) { c.Model.Boosting.MaxIter = 4 }})
	j := s.run(turbofan.RetrainRequest{Force: true})
	if j.Status != turbofan.JobSuccess || j.Result.Promoted || p.serving().Version != "1" {
		t.Fatalf("job %+v, %+v", j, j.Result)
	}
	if v := must[turbofan.ModelVersion](t)(p.reg.Version(t.Context(), "rul", "2")); v.Tags["turbofan.gate"] != "refused" {
		t.Errorf("tags %v", v.Tags)
	}
}

// A challenger that is better where the fleet changed may not pay for it where the champion was good: on the baseline, nor
// on production units that the champion had learned from.
func TestWorseOnKnownUnitsIsRefused(t *testing.T) {
	p := newPlant(t)
	p.champion(p.base)
	p.live(fleet("new", 16, 3, newMode), nil)
	margin := retrain.DefaultConfig().Gate.Margin
	ratios := func(j turbofan.Job) map[string]float64 {
		if j.Status != turbofan.JobSuccess {
			t.Fatalf("job %+v", j)
		}
		t.Log(j.Result.Because)
		out := map[string]float64{}
		for _, g := range j.Result.HeldOut {
			out[g.Group] = g.Challenger / g.Champion
		}
		return out
	}
	weak := p.start(options{change: func(c *retrain.Config) { c.Model.Boosting.MaxIter = 8 }})
	j := weak.run(turbofan.RetrainRequest{Trigger: "drift"})
	weak.stop()
	if r := ratios(j); j.Result.Promoted || p.serving().Version != "1" || !(r["new"] < 1) || !(r["baseline"] > margin) || !strings.Contains(j.Result.Because, "better in 100% of resamples; baseline units: ") {
		t.Errorf("better on new units and worse on the baseline: %v, promoted %t", r, j.Result.Promoted)
	}

	s := p.start(options{})
	j = s.run(turbofan.RetrainRequest{Force: true})
	s.stop()
	if r := ratios(j); !j.Result.Promoted || !(r["baseline"] <= margin) {
		t.Fatalf("%v, promoted %t", r, j.Result.Promoted)
	}
	p.live(fleet("more", 16, 5, newMode), nil)
	serving := p.serving().Version
	weak = p.start(options{change: func(c *retrain.Config) { c.Model.Boosting.MaxIter, c.Gate.MinBetter, c.Gate.MaxRatio = 8, 0, 100 }})
	j = weak.run(turbofan.RetrainRequest{Trigger: "drift"})
	if r := ratios(j); j.Result.Promoted || p.serving().Version != serving || !(r["seen"] > margin) || !regexp.MustCompile(`; seen units: [^;]* where 1\.10 is allowed`).MatchString(j.Result.Because) {
		t.Errorf("worse on production units that the champion knows: %v, promoted %t", r, j.Result.Promoted)
	}
}

func TestTooLittleDataIsRefused(t *testing.T) {
	p := newPlant(t)
	p.champion(p.base)
	p.live(fleet("new", 5, 3, newMode), nil)
	s := p.start(options{})
	j := s.run(turbofan.RetrainRequest{})
	if want := "5 new units with a known end since version 1; 8 needed, 3 missing: send their outcomes to /feedback"; j.Status != turbofan.JobRefused || j.Error != want {
		t.Errorf("%s: %q, want %q", j.Status, j.Error, want)
	}
	if j.Trigger != "manual" || j.Reason != "manual" {
		t.Errorf("trigger %q, reason %q", j.Trigger, j.Reason)
	}
	p.live(fleet("late", 8, 4, newMode), func(i int) int { return 400 })
	j = s.run(turbofan.RetrainRequest{})
	if want := "8 of 13 new units were left out, because their sensors or their stated ends cannot be trusted (the job names them); 5 left, 8 needed, 3 missing; the ends stated for 8 lie more than 20 cycles past their last readings: check them, and force the job where they are right"; j.Error != want {
		t.Errorf("%q, want %q", j.Error, want)
	}
	if len(j.Doubted) != 8 || !strings.HasPrefix(j.Doubted[0].UnitID, "late") || !strings.Contains(j.Doubted[0].Because, "it sent its last reading ") || j.Doubted[0].Used {
		t.Errorf("the job names %+v", j.Doubted)
	}
}

func TestOneJobAtATime(t *testing.T) {
	p := newPlant(t)
	s := p.start(options{idle: true})
	j := must[turbofan.Job](t)(s.Submit(t.Context(), turbofan.RetrainRequest{Reason: "a"}))
	_, err := s.Submit(t.Context(), turbofan.RetrainRequest{Reason: "b"})
	if want := fmt.Sprintf("job %s is active: wait for it or cancel it", j.ID); turbofan.ErrorCode(err) != turbofan.EConflict || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if _, err := s.Submit(t.Context(), turbofan.RetrainRequest{Reason: strings.Repeat("x", 2001)}); err == nil || err.Error() != "reason: has 2001 bytes, more than the 2000 allowed" {
		t.Errorf("%v", err)
	}
	if j, err = s.Cancel(t.Context(), j.ID); err != nil || j.Status != turbofan.JobCancelled {
		t.Fatalf("%+v, %v", j, err)
	}
	if _, err = s.Cancel(t.Context(), j.ID); turbofan.ErrorCode(err) != turbofan.EConflict || err.Error() != "job "+j.ID+" has ended: cancelled" {
		t.Errorf("%v", err)
	}
	if _, err = s.Cancel(t.Context(), "none"); turbofan.ErrorCode(err) != turbofan.ENotFound {
		t.Errorf("%v", err)
	}
	must[turbofan.Job](t)(s.Submit(t.Context(), turbofan.RetrainRequest{}))
}

func TestCancelWhileItRuns(t *testing.T) {
	p := newPlant(t)
	hold := make(chan struct{})
	s := p.start(options{hold: hold})
	j := must[turbofan.Job](t)(s.Submit(t.Context(), turbofan.RetrainRequest{}))
	<-hold
	if _, err := s.Cancel(t.Context(), j.ID); err != nil {
		t.Fatal(err)
	}
	next := s.run(turbofan.RetrainRequest{}) // runs once the first has let go
	if next.Status != turbofan.JobSuccess || next.Result.ModelVersion != "1" {
		t.Errorf("the next job %+v", next)
	}
	if j = must[turbofan.Job](t)(s.Job(t.Context(), j.ID)); j.Status != turbofan.JobCancelled || j.Result != nil {
		t.Errorf("the cancelled job is %+v", j)
	}
}

// An alert about a job that failed must outlive a restart and end with the next one that does not.
func TestLastEndIsTold(t *testing.T) {
	p := newPlant(t)
	p.start(options{idle: true})
	if got := p.counter("turbofan_retraining_success"); !math.IsNaN(got) {
		t.Errorf("before any job it is %v, want NaN", got)
	}
	for i, c := range []struct {
		status turbofan.JobStatus
		want   float64
	}{
		{turbofan.JobFailure, 0}, {turbofan.JobCancelled, 0}, {turbofan.JobRefused, 1}, {turbofan.JobFailure, 0}, {turbofan.JobSuccess, 1},
	} {
		j := turbofan.Job{ID: fmt.Sprint("job-", i), Status: turbofan.JobPending, CreatedAt: time.Now().UTC()}
		if err := p.state.CreateJob(t.Context(), j); err != nil {
			t.Fatal(err)
		}
		j.Status = c.status
		if err := p.state.UpdateJob(t.Context(), j); err != nil {
			t.Fatal(err)
		}
		p.start(options{idle: true}) // a new process over the same store
		if got := p.counter("turbofan_retraining_success"); got != c.want {
			t.Errorf("after job %d, %s, it is %v, want %v", i, c.status, got, c.want)
		}
	}
}

func TestRestartResumesFromPending(t *testing.T) {
	p := newPlant(t)
	hold := make(chan struct{})
	a := p.start(options{hold: hold})
	j := must[turbofan.Job](t)(a.Submit(t.Context(), turbofan.RetrainRequest{}))
	<-hold
	a.stop()
	if j = must[turbofan.Job](t)(a.Job(t.Context(), j.ID)); j.Status != turbofan.JobPending || j.Progress != 0 {
		t.Fatalf("after the process ended the job is %+v", j)
	}
	b := p.start(options{})
	if end := b.until(ended); end.ID != j.ID || end.Status != turbofan.JobSuccess || p.serving().Version != "1" {
		t.Errorf("after a restart the job is %+v", end)
	}
}

// dying is a registry of a process that dies before the alias moves, or after it.
type dying struct {
	turbofan.Registry
	dead  *bool
	after bool
}

func (d *dying) SetAlias(ctx context.Context, name, alias, version string) error {
	if d.after {
		if err := d.Registry.SetAlias(ctx, name, alias, version); err != nil {
			return err
		}
	}
	*d.dead = true
	return errors.New("killed")
}

func TestDeathAroundPromotion(t *testing.T) {
	for _, after := range []bool{false, true} {
		t.Run(fmt.Sprint("alias moved: ", after), func(t *testing.T) {
			p := newPlant(t)
			p.champion(p.base)
			p.live(fleet("new", 16, 3, newMode), nil)
			dead := false
			tried := make(chan struct{})
			var once sync.Once
			a := p.start(options{reg: &dying{Registry: p.reg, dead: &dead, after: after}, hook: func(j turbofan.Job) error {
				if dead { // a dead process writes nothing, also not where it is asked to work again before it is stopped
					once.Do(func() { close(tried) })
					return errors.New("killed")
				}
				return nil
			}})
			j := must[turbofan.Job](t)(a.Submit(t.Context(), turbofan.RetrainRequest{}))
			<-tried
			a.stop()
			if want := map[bool]string{false: "1", true: "2"}[after]; p.serving().Version != want {
				t.Fatalf("version %s serves, want %s", p.serving().Version, want)
			}
			end := p.start(options{}).until(ended)
			if end.ID != j.ID || end.Status != turbofan.JobSuccess || !end.Result.Promoted || end.Result.ModelVersion != "2" || end.Result.Champion != "1" || end.Result.NewUnits != 16 {
				t.Errorf("after the restart the job is %+v, %+v", end, end.Result)
			}
			if n := len(must[[]turbofan.ModelVersion](t)(p.reg.Versions(t.Context(), "rul"))); n != 2 || p.serving().Version != "2" {
				t.Errorf("%d versions, %s serves: the job must not train twice", n, p.serving().Version)
			}
		})
	}
}

// cut is a registry of a process that dies when it registers a version, before or after that is there, and so never ends
// the run of it.
type cut struct {
	*registry.Registry
	dead  *bool
	after bool
}

func (c *cut) CreateVersion(ctx context.Context, v turbofan.ModelVersion, dir string) (turbofan.ModelVersion, error) {
	if c.after {
		if _, err := c.Registry.CreateVersion(ctx, v, dir); err != nil {
			return v, err
		}
	}
	*c.dead = true
	return v, errors.New("killed")
}

func (c *cut) EndRun(context.Context, string, turbofan.RunStatus) error { return errors.New("killed") }

// The run of a job whose process died is ended by the process that goes on with the job, and those of others are not
// touched.
func TestDeathLeavesNoRunOpen(t *testing.T) {
	for _, after := range []bool{false, true} {
		t.Run(fmt.Sprint("version there: ", after), func(t *testing.T) {
			p := newPlant(t)
			other := must[turbofan.RunInfo](t)(p.reg.StartRun(t.Context(), "rul", "by hand", map[string]string{"turbofan.job": "another"}, time.Time{}))
			dead := false
			tried := make(chan struct{})
			var once sync.Once
			c := &cut{Registry: p.reg, dead: &dead, after: after}
			a := p.start(options{reg: c, track: c, hook: func(turbofan.Job) error {
				if dead {
					once.Do(func() { close(tried) })
					return errors.New("killed")
				}
				return nil
			}})
			must[turbofan.Job](t)(a.Submit(t.Context(), turbofan.RetrainRequest{}))
			<-tried
			a.stop()
			end := p.start(options{}).until(ended)
			if end.Status != turbofan.JobSuccess || end.Result.ModelVersion != "1" {
				t.Fatalf("the job ended as %+v, %+v", end, end.Result)
			}
			e := must[turbofan.Experiment](t)(p.reg.ExperimentByName(t.Context(), "rul"))
			runs, _, err := p.reg.SearchRuns(t.Context(), turbofan.SearchQuery{ExperimentIDs: []string{e.ID}, Limit: 100})
			if err != nil {
				t.Fatal(err)
			}
			got := map[turbofan.RunStatus]int{}
			for _, r := range runs {
				got[r.Status]++
				if r.ID == other.ID && r.Status != turbofan.RunRunning {
					t.Errorf("the run of another job is %s", r.Status)
				}
				if r.ID == end.Result.RunID && r.Status != turbofan.RunFinished {
					t.Errorf("the run of the version is %s", r.Status)
				}
			}
			want := map[turbofan.RunStatus]int{turbofan.RunRunning: 1, turbofan.RunFinished: 1}
			if !after { // it trained again, in a run of its own
				want[turbofan.RunKilled] = 1
			}
			if !maps.Equal(got, want) {
				t.Errorf("runs by status: %v, want %v", got, want)
			}
		})
	}
}

// A champion that somebody chose while the job ran was not what the challenger was judged beside.
func TestChampionMovesMeanwhile(t *testing.T) {
	p := newPlant(t)
	p.champion(p.base)
	other := p.version(p.base)
	p.live(fleet("new", 16, 3, newMode), nil)
	s := p.start(options{hook: func(j turbofan.Job) error {
		if j.Stage == "registering" {
			p.promote(other)
		}
		return nil
	}})
	j := s.run(turbofan.RetrainRequest{})
	if j.Result == nil || j.Result.Promoted || !strings.HasPrefix(j.Result.Because, "not promoted: version 2 became champion while the job ran, the challenger was judged beside 1; ") || p.serving().Version != "2" {
		t.Errorf("job %+v, %+v", j, j.Result)
	}
	if v := must[turbofan.ModelVersion](t)(p.reg.Version(t.Context(), "rul", "3")); v.Tags["turbofan.gate"] != "refused" {
		t.Errorf("tags %v", v.Tags)
	}
}

func TestSchedule(t *testing.T) {
	p := newPlant(t)
	s := p.start(options{change: func(c *retrain.Config) { c.Every = time.Nanosecond }})
	j := s.until(ended)
	if j.Trigger != "schedule" || j.Reason != "schedule: every 1ns" || j.Status != turbofan.JobSuccess {
		t.Errorf("job %+v", j)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for want, change := range map[string]func(*retrain.Config){
		"retrain.model_name: and alias must be given":               func(c *retrain.Config) { c.Alias = "" },
		"retrain.experiment: is missing":                            func(c *retrain.Config) { c.Experiment = "" },
		"retrain.work_dir: is missing":                              func(c *retrain.Config) { c.WorkDir = "" },
		"retrain.min_new_units: must be at least 1":                 func(c *retrain.Config) { c.MinNewUnits = 0 },
		"retrain.gate: max_ratio and margin must be above 0":        func(c *retrain.Config) { c.Gate.Margin = 0 },
		"retrain.gate.min_better: must be from 0 to 1":              func(c *retrain.Config) { c.Gate.MinBetter = 2 },
		"retrain.every: must be at least 0":                         func(c *retrain.Config) { c.Every = -1 },
		"retrain.lease: must be at least 10ms, not 0s":              func(c *retrain.Config) { c.Lease = 0 },
		"retrain.watch.units: must be 0 or at least 2":              func(c *retrain.Config) { c.Watch.Units = 1 },
		"retrain.watch.confidence: must be above 0.5 and at most 1": func(c *retrain.Config) { c.Watch.Confidence = 0.5 },
		"model.folds: must be from 2 to 100, not 1":                 func(c *retrain.Config) { c.Model.Folds = 1 },
	} {
		c := retrain.DefaultConfig()
		c.WorkDir = t.TempDir()
		change(&c)
		if _, err := retrain.New(c, nil, nil, retrain.Stores{}, nil, nil, nil); fmt.Sprint(err) != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// listener keeps what it hears, in order.
type listener chan turbofan.Event

func (l listener) Publish(_ context.Context, e turbofan.Event) { l <- e }

func TestListenersHearOfEveryJob(t *testing.T) {
	p := newPlant(t)
	p.champion(p.base)
	heard := make(listener, 10)
	s := p.start(options{change: func(c *retrain.Config) { c.Events = heard }})
	refused := s.run(turbofan.RetrainRequest{})
	p.live(fleet("new", 16, 3, newMode), nil)
	promoted := s.run(turbofan.RetrainRequest{Reason: "psi(s2) = 0.4"})
	for _, want := range []turbofan.Event{
		{Kind: turbofan.EventRefused, JobID: refused.ID, Because: refused.Error},
		{Kind: turbofan.EventRetraining, JobID: promoted.ID, Because: "psi(s2) = 0.4"},
		{Kind: turbofan.EventPromoted, JobID: promoted.ID, Because: promoted.Result.Because, ModelVersion: "2"},
	} {
		got := <-heard
		want.At, want.ModelName = got.At, "rul"
		if got != want {
			t.Errorf("heard %+v, want %+v", got, want)
		}
	}
}
