package retrain_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
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

// Nothing of this may become champion.
func TestPoisonIsNotPromoted(t *testing.T) {
	for name, c := range map[string]struct {
		mode  float64
		end   func(units []turbofan.History) func(int) int
		spoil func(r *turbofan.Reading, i int)
		units int
	}{
		"shuffled ends":                             {mode: knownMode, end: shuffled},
		"shuffled ends of a new fault mode":         {mode: newMode, end: shuffled},
		"shuffled ends of many of a new fault mode": {mode: newMode, end: shuffled, units: 90},
		"more shuffled ends":                        {mode: newMode, end: shuffledBy(2), units: 60},
		"yet more shuffled ends":                    {mode: newMode, end: shuffledBy(3), units: 40},
		"ends 60 cycles late":                       {mode: knownMode, end: shifted},
		"ends 60 cycles late of a new fault mode":   {mode: newMode, end: shifted},
		"stuck sensor":                              {mode: knownMode, spoil: func(r *turbofan.Reading, _ int) { r.Sensors[1] = 101.5 }},
		"stuck sensor of a new fault mode":          {mode: newMode, spoil: func(r *turbofan.Reading, _ int) { r.Sensors[2] = 9.75 }},
		"sensor stuck half way": {mode: knownMode, spoil: func(r *turbofan.Reading, i int) {
			if i > 50 {
				r.Sensors[2] = 9.75
			}
		}},
		"sensor off": {mode: knownMode, spoil: func(r *turbofan.Reading, _ int) { r.Sensors[1] += 6 }},
		"sensor off half way": {mode: newMode, spoil: func(r *turbofan.Reading, i int) {
			if i > 50 {
				r.Sensors[3] -= 4
			}
		}},
		"sensor gone": {mode: knownMode, spoil: func(r *turbofan.Reading, _ int) { r.Sensors[3] = math.NaN() }},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlant(t)
			p.champion(p.base)
			units := fleet("poison", cmp.Or(c.units, 24), 3, c.mode)
			for u := range units {
				for i := range units[u].Readings {
					if c.spoil != nil {
						c.spoil(&units[u].Readings[i], i)
					}
				}
			}
			var end func(int) int
			if c.end != nil {
				end = c.end(units)
			}
			p.live(units, end)
			j := p.start(options{}).run(turbofan.RetrainRequest{Trigger: "drift"})
			if j.Status != turbofan.JobRefused && (j.Status != turbofan.JobSuccess || j.Result.Promoted) {
				t.Errorf("job %+v, %+v", j, j.Result)
			}
			if v := p.serving(); v.Version != "1" {
				t.Errorf("version %s serves", v.Version)
			}
			if j.Result != nil {
				t.Logf("the gate refused it: %s", j.Result.Because)
			} else {
				t.Logf("refused: %s", j.Error)
			}
		})
	}
}

func shuffled(units []turbofan.History) func(int) int { return shuffledBy(1)(units) }

func shuffledBy(seed uint64) func(units []turbofan.History) func(int) int {
	return func(units []turbofan.History) func(int) int {
		order := rand.New(rand.NewPCG(seed, 1)).Perm(len(units))
		return func(i int) int { return units[order[i]].FailedAtCycle }
	}
}

func shifted(units []turbofan.History) func(int) int {
	return func(i int) int { return units[i].FailedAtCycle + 60 }
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

// A unit of which the champion saw other readings than the challenger tells nothing of which is better.
func TestUnitsThatChangedAreNotCompared(t *testing.T) {
	p := newPlant(t)
	p.champion(p.base)
	p.base = slices.Clone(p.base)
	for i := range 4 {
		p.base[i].Readings = p.base[i].Readings[10:]
	}
	j := p.start(options{}).run(turbofan.RetrainRequest{Force: true})
	if j.Status != turbofan.JobSuccess || len(j.Result.HeldOut) == 0 {
		t.Fatalf("job %+v, %+v", j, j.Result)
	}
	for _, g := range j.Result.HeldOut {
		if g.Units != 20 {
			t.Errorf("compared on %d units: %+v", g.Units, g)
		}
	}
}

// sparse are units that fall silent 30 cycles before their end.
func sparse(name string, units int, seed uint64) []turbofan.History {
	out := fleet(name, units, seed, newMode)
	for i := range out {
		out[i].Readings = out[i].Readings[:len(out[i].Readings)-30]
	}
	return out
}

// Where the fleet wears in a way that the champion does not know, it expects no end rightly. The challenger does, by those
// units that were heard of to the end.
func TestChallengerConfirmsEnds(t *testing.T) {
	p := newPlant(t)
	p.champion(p.base)
	p.live(fleet("heard", 16, 3, newMode), nil)
	p.live(sparse("silent", 24, 4), nil)
	j := p.start(options{}).run(turbofan.RetrainRequest{Trigger: "drift"})
	if j.Status != turbofan.JobSuccess || !j.Result.Promoted || p.serving().Version != "2" {
		t.Fatalf("job %+v, %+v", j, j.Result)
	}
	agreed := 0
	for _, d := range j.Doubted {
		if !strings.HasPrefix(d.UnitID, "silent") || d.Used {
			t.Errorf("the job doubts %+v", d)
		}
		if strings.HasSuffix(d.Because, "; the challenger expects it") {
			agreed++
		}
	}
	t.Logf("%d of 24 doubted, the challenger expects %d of them: %s", len(j.Doubted), agreed, j.Result.Because)
	if len(j.Doubted) < 20 || agreed < len(j.Doubted)*9/10 || !strings.Contains(j.Result.Because, "stated ends: 24 of 40 new units") {
		t.Errorf("%d doubted, %d of them expected by the challenger, because %s", len(j.Doubted), agreed, j.Result.Because)
	}
}

// A few odd ends among many that are as expected stop nothing: some engines surprise every model.
func TestFewOddEndsStopNothing(t *testing.T) {
	p := newPlant(t)
	p.champion(p.base)
	p.live(fleet("heard", 16, 3, newMode), nil)
	expected := fleet("expected", 24, 4, knownMode)
	for i := range expected {
		expected[i].Readings = expected[i].Readings[:len(expected[i].Readings)-30]
	}
	p.live(expected, nil)
	odd := fleet("odd", 2, 5, knownMode)
	p.live(odd, func(i int) int { return odd[i].FailedAtCycle + 60 })
	j := p.start(options{}).run(turbofan.RetrainRequest{Trigger: "drift"})
	if j.Status != turbofan.JobSuccess || !j.Result.Promoted || !strings.Contains(j.Result.Because, "the challenger contradicts 2") {
		t.Fatalf("job %+v, %+v", j, j.Result)
	}
}

// Ends that stayed in doubt when the champion was trained do not speak against units that ended after that.
func TestOddEndsOfThePastStopNothing(t *testing.T) {
	p := newPlant(t)
	p.champion(p.base)
	p.live(fleet("heard", 30, 3, newMode), nil)
	odd := fleet("odd", 3, 9, newMode)
	p.live(odd, func(i int) int { return odd[i].FailedAtCycle + 60 })
	s := p.start(options{change: func(c *retrain.Config) { c.Gate.MinBetter = 0 }})
	for i, want := range []string{"2", "3"} {
		j := s.run(turbofan.RetrainRequest{Trigger: "drift"})
		if j.Status != turbofan.JobSuccess || !j.Result.Promoted || p.serving().Version != want || len(j.Doubted) < len(odd) {
			t.Fatalf("job %d: %+v, %+v", i+1, j, j.Result)
		}
		p.live(fleet("later", 16, 7, newMode), nil)
	}
}

// Where nobody was heard of to the end, nothing tells right ends from wrong ones but who stated them.
func TestForceBelievesEnds(t *testing.T) {
	p := newPlant(t)
	p.champion(p.base)
	p.live(sparse("silent", 24, 4), nil)
	s := p.start(options{})
	j := s.run(turbofan.RetrainRequest{Trigger: "drift"})
	if j.Status != turbofan.JobRefused || len(j.Doubted) < 17 || !strings.Contains(j.Error, "force the job where they are right") {
		t.Fatalf("job %+v", j)
	}
	doubted := len(j.Doubted)
	j = s.run(turbofan.RetrainRequest{Force: true, Reason: "the works confirmed the ends"})
	if j.Status != turbofan.JobSuccess || !j.Result.Promoted || j.Reason != "the works confirmed the ends" || len(j.Doubted) != doubted || !j.Doubted[0].Used ||
		!strings.Contains(j.Result.Because, fmt.Sprintf("forced: the ends stated for %d units are in doubt and were believed", doubted)) {
		t.Errorf("the forced job %+v, %+v", j, j.Result)
	}
}

// stuck is a fleet one of whose sensors says the same from the first reading to the last.
func stuck(sensor int, value float64) []turbofan.History {
	broken := fleet("broken", 8, 4, newMode)
	for _, h := range broken {
		for i := range h.Readings {
			h.Readings[i].Sensors[sensor] = value
		}
	}
	return broken
}

func TestBrokenUnitsAreLeftOut(t *testing.T) {
	p := newPlant(t)
	p.champion(p.base)
	p.live(fleet("new", 5, 3, newMode), nil)
	broken := stuck(1, 101.5)
	p.live(broken, nil)
	j := p.start(options{}).run(turbofan.RetrainRequest{})
	if want := "8 of 13 new units were left out, because their sensors or their stated ends cannot be trusted (the job names them); 5 left, 8 needed, 3 missing"; j.Error != want {
		t.Errorf("%q, want %q", j.Error, want)
	}
}

// What a broken sensor said teaches nothing, whoever asks, and the job names the units; sound units of the same batch do.
func TestBrokenSensorsNeverTeach(t *testing.T) {
	p := newPlant(t)
	p.champion(p.base)
	p.live(fleet("sound", 16, 3, newMode), nil)
	broken := stuck(2, 9.75)
	p.live(broken, nil)
	j := p.start(options{}).run(turbofan.RetrainRequest{Force: true})
	if j.Status != turbofan.JobSuccess || !j.Result.Promoted || len(j.Doubted) != len(broken) {
		t.Fatalf("job %+v, %+v", j, j.Result)
	}
	for _, d := range j.Doubted {
		if !strings.HasPrefix(d.UnitID, "broken") || d.Used || !strings.Contains(d.Because, "repeats itself") {
			t.Errorf("the job names %+v", d)
		}
	}
	dir := filepath.Join(t.TempDir(), "m")
	if err := p.reg.Fetch(t.Context(), p.serving(), dir); err != nil {
		t.Fatal(err)
	}
	m := must[*model.Model](t)(model.Open(dir))
	sound := 0
	for _, u := range m.HeldOut() {
		if strings.HasPrefix(u.Unit, model.UnitKey(retrain.Production, "broken")) {
			t.Errorf("the champion learned from %s", u.Unit)
		} else if strings.HasPrefix(u.Unit, model.UnitKey(retrain.Production, "sound")) {
			sound++
		}
	}
	if sound != 16 {
		t.Errorf("it learned from %d sound units of 16", sound)
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

// A champion that does worse on units that ended since is taken back; one that does not, stays.
func TestWatch(t *testing.T) {
	for name, c := range map[string]struct {
		bad   bool
		units int
		prep  func(p *plant)
		back  bool
	}{
		"worse":            {bad: true, units: 20, back: true},
		"as good":          {units: 20},
		"too few units":    {bad: true, units: 15},
		"chosen by a hand": {bad: true, units: 20, prep: func(p *plant) { p.promote(p.version(fleet("x", 24, 9, newMode))) }},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlant(t)
			p.champion(p.base)
			second := fleet("second", 24, 6, knownMode)
			if c.bad {
				second = fleet("second", 24, 6, newMode)
			}
			p.champion(second)
			p.live(fleet("before", 20, 8, newMode), nil) // ended before the cut-off: no one's business
			now := time.Now().UTC()
			promoted := turbofan.Job{ID: "j", Status: turbofan.JobSuccess, Trigger: "drift", CreatedAt: now, DataCutOff: now, EndedAt: now,
				Result: &turbofan.RetrainResult{ModelVersion: "2", Champion: "1", Promoted: true, NewUnits: 40}}
			if err := p.state.CreateJob(t.Context(), promoted); err != nil {
				t.Fatal(err)
			}
			p.live(fleet("since", c.units, 7, knownMode), nil)
			if c.prep != nil {
				c.prep(p)
			}
			serving := p.serving().Version
			s := p.start(options{})
			if !c.back { // the watch comes before jobs: when a job has ended, it has looked
				if last := s.run(turbofan.RetrainRequest{}); p.serving().Version != serving && !last.Result.Promoted || p.counter("turbofan_rollbacks_total") != 0 {
					t.Errorf("version %s serves, want %s", p.serving().Version, serving)
				}
				return
			}
			s.until(func(j turbofan.Job) bool { return j.ID == "j" })
			if p.counter("turbofan_rollbacks_total") != 1 || p.serving().Version != "1" {
				t.Errorf("version %s serves", p.serving().Version)
			}
			bad := must[turbofan.ModelVersion](t)(p.reg.Version(t.Context(), "rul", "2"))
			if !strings.HasPrefix(bad.Tags["turbofan.rolled_back"], "rolled back to version 1: over 20 units that ended since, version 2 has a live error of ") {
				t.Errorf("tags %v", bad.Tags)
			}
			if j := must[turbofan.Job](t)(s.Job(t.Context(), "j")); !strings.HasPrefix(j.Stage, "rolled back to version 1") {
				t.Errorf("the job that promoted it says %q", j.Stage)
			}
			records := 0
			for _, j := range must[[]turbofan.Job](t)(s.Jobs(t.Context(), 10)) {
				if j.Trigger == "rollback" && j.Result.ModelVersion == "1" && j.Result.Champion == "2" && j.Status == turbofan.JobSuccess {
					records++
				}
			}
			if records != 1 {
				t.Errorf("%d records of the rollback", records)
			}
			// The one that was taken back counts as a try: the same 40 units would only make another like it.
			if next := s.run(turbofan.RetrainRequest{}); next.Status != turbofan.JobRefused || !strings.Contains(next.Error, "; 48 needed") {
				t.Errorf("the next job: %s, %q", next.Status, next.Error)
			}
		})
	}
}

// A sensor that knows a few values only stands where it stands: a unit whose own start is another of them is sound.
func TestSensorsOfFewValuesAreNotLevelled(t *testing.T) {
	steps := func(units []turbofan.History, start func(u int) float64) []turbofan.History {
		for u := range units {
			for i := range units[u].Readings {
				v := start(u)
				if 3*i > 2*units[u].FailedAtCycle {
					v++
				}
				units[u].Readings[i].Sensors[3] = v
			}
		}
		return units
	}
	p := newPlant(t)
	p.base = steps(p.base, func(u int) float64 {
		if u == 0 {
			return 51
		}
		return 50
	})
	p.champion(p.base)
	p.live(steps(fleet("new", 8, 3, knownMode), func(u int) float64 { return 50 + 3*float64(u%2) }), nil)
	if j := p.start(options{}).run(turbofan.RetrainRequest{}); j.Status != turbofan.JobSuccess || len(j.Doubted) > 0 || j.Result.NewUnits != 8 {
		t.Errorf("job %+v, %+v", j, j.Result)
	}
}

// fetches counts how often each version is fetched.
type fetches struct {
	turbofan.Registry
	mu sync.Mutex
	of map[string]int
}

func (f *fetches) Fetch(ctx context.Context, v turbofan.ModelVersion, dir string) error {
	f.mu.Lock()
	f.of[v.Version]++
	f.mu.Unlock()
	return f.Registry.Fetch(ctx, v, dir)
}

// Every look at the champion before is a chance to be wrong about it, so there is one for each quarter more units.
func TestWatchLooksSeldom(t *testing.T) {
	p := newPlant(t)
	p.champion(p.base)
	p.champion(fleet("second", 24, 6, knownMode))
	now := time.Now().UTC()
	if err := p.state.CreateJob(t.Context(), turbofan.Job{ID: "j", Status: turbofan.JobSuccess, Trigger: "drift", CreatedAt: now, DataCutOff: now, EndedAt: now,
		Result: &turbofan.RetrainResult{ModelVersion: "2", Champion: "1", Promoted: true}}); err != nil {
		t.Fatal(err)
	}
	reg := &fetches{Registry: p.reg, of: map[string]int{}}
	s := p.start(options{reg: reg, change: func(c *retrain.Config) { c.MinNewUnits = 1000 }})
	since := fleet("since", 26, 7, knownMode)
	for _, c := range []struct{ from, to, looks int }{{0, 15, 0}, {15, 20, 1}, {20, 20, 1}, {20, 24, 1}, {24, 25, 2}, {25, 26, 2}} {
		p.live(since[c.from:c.to], nil)
		for range 2 { // the watch comes before jobs: when two have ended, it has looked after the units came
			if j := s.run(turbofan.RetrainRequest{}); j.Status != turbofan.JobRefused {
				t.Fatalf("job %+v", j)
			}
		}
		reg.mu.Lock()
		if got := reg.of["1"]; got != c.looks {
			t.Errorf("after %d units the version before was fetched %d times, want %d", c.to, got, c.looks)
		}
		reg.mu.Unlock()
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
		"model.folds: must be from 2 to 100":                        func(c *retrain.Config) { c.Model.Folds = 1 },
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
