package retrain_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"turbofan"
	"turbofan/retrain"
)

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
