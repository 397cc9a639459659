package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"turbofan"
	"turbofan/model"
	"turbofan/sqlstore"
)

// searched is what tune prints as JSON.
type searched struct {
	study
	Best *trial `json:"best"`
}

func tuned(t *testing.T, args ...string) searched {
	t.Helper()
	code, out, errs := call(t, append([]string{"tune", "--folds", "2", "--max-rows", "300", "--model", "extra_trees", "--json"}, args...)...)
	if code != exitOK {
		t.Fatalf("exit %d\n%s", code, errs)
	}
	var s searched
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// A search that goes on where it stopped ends where one that was never stopped does.
func TestTuneResumes(t *testing.T) {
	fleet := must(t, shared.fleet)
	once, twice := t.TempDir(), t.TempDir()
	page := filepath.Join(once, "search.html")
	whole := tuned(t, "--data", fleet, "--data-dir", once, "--trials", "7", "--html", page)
	if first := tuned(t, "--data", fleet, "--data-dir", twice, "--trials", "3"); len(first.Trials) != 3 {
		t.Fatalf("asked for 3 trials, got %d", len(first.Trials))
	}
	parts := tuned(t, "--data", fleet, "--data-dir", twice, "--trials", "7")
	if len(whole.Trials) != 7 || len(parts.Trials) != 7 || whole.Best == nil {
		t.Fatalf("%d and %d trials", len(whole.Trials), len(parts.Trials))
	}
	for i := range whole.Trials {
		a, b := whole.Trials[i], parts.Trials[i]
		if !slices.Equal(a.RMSE, b.RMSE) || a.State != b.State {
			t.Errorf("trial %d: %v %s in one go, %v %s in two", i+1, a.RMSE, a.State, b.RMSE, b.State)
		}
		if a.RunID == "" || a.State == trialComplete && a.loss() < whole.Best.loss() {
			t.Errorf("trial %d has run %q and RMSE %v; the best is said to be %v", i+1, a.RunID, a.loss(), whole.Best.loss())
		}
	}
	html, err := os.ReadFile(page)
	if err != nil || !strings.Contains(string(html), "Which parameters matter") {
		t.Errorf("the page: %v", err)
	}
	code, _, errs := call(t, "tune", "--data", fleet, "--data-dir", twice, "--folds", "3", "--max-rows", "300", "--model", "extra_trees")
	if code != exitUsage || !strings.Contains(errs, "another --folds") {
		t.Errorf("another number of folds: exit %d\n%s", code, errs)
	}
	out := filepath.Join(twice, "tuned")
	tuned(t, "--data", fleet, "--data-dir", twice, "--trials", "7", "--out", out)
	m, err := model.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := float64(m.Config().ExtraTrees.MinSamplesLeaf), parts.Best.Params["extra_trees.min_samples_leaf"]; got != want {
		t.Errorf("trained with %v samples a leaf, the best trial has %v", got, want)
	}
}

// A search of fifty trials that was interrupted on its way ends where an undisturbed one does: each trial is one finished
// run in the registry, the one that was cut off a killed one, and the pages show the search.
func TestTuneInterrupted(t *testing.T) {
	const trials = 50
	fleet := must(t, shared.fleet)
	once, twice := t.TempDir(), t.TempDir()
	page := filepath.Join(once, "search.html")
	whole := tuned(t, "--data", fleet, "--data-dir", once, "--trials", strconv.Itoa(trials), "--html", page)
	p := start(t, nil, "tune", "--data", fleet, "--data-dir", twice, "--folds", "2", "--max-rows", "300", "--model", "extra_trees", "--trials", strconv.Itoa(trials))
	p.await("trial 3: RMSE ")
	if code := p.signal(os.Interrupt); code != exitInterrupted || !strings.HasSuffix(p.log(), "turbofan: interrupted") {
		t.Errorf("exit %d, it said\n%s", code, p.log())
	}
	code, out, errs := call(t, "tune", "--data", fleet, "--data-dir", twice, "--folds", "2", "--max-rows", "300", "--model", "extra_trees", "--trials", strconv.Itoa(trials))
	if code != exitOK || !strings.Contains(out, "50 trials, ") {
		t.Fatalf("exit %d\n%s\n%s", code, out, errs)
	}
	var done int
	if _, err := fmt.Sscanf(errs[strings.Index(errs, "; ")+2:], "%d of 50 trials done", &done); err != nil || done < 3 || done >= trials {
		t.Errorf("it went on from %d trials (%v)\n%s", done, err, errs)
	}
	if want := fmt.Sprintf("trial %d: RMSE ", trials); !strings.Contains(errs, want) || !strings.Contains(errs, "100%  ") {
		t.Errorf("progress does not say %q\n%s", want, errs)
	}
	parts := tuned(t, "--data", fleet, "--data-dir", twice, "--trials", strconv.Itoa(trials))
	if len(whole.Trials) != trials || len(parts.Trials) != trials {
		t.Fatalf("%d and %d trials", len(whole.Trials), len(parts.Trials))
	}
	pruned := 0
	for i := range whole.Trials {
		if a, b := whole.Trials[i], parts.Trials[i]; !slices.Equal(a.RMSE, b.RMSE) || a.State != b.State {
			t.Errorf("trial %d: %v %s in one go, %v %s after an interruption", i+1, a.RMSE, a.State, b.RMSE, b.State)
		}
		if whole.Trials[i].State == trialPruned {
			pruned++
		}
	}
	if pruned == 0 || pruned > trials/2 {
		t.Errorf("%d of %d trials were given up", pruned, trials)
	}
	runs := runsOf(t, twice, "rul-tune")
	for i, tr := range parts.Trials {
		run := runs[tr.RunID]
		value := func(key string) string {
			for _, kv := range slices.Concat(run.Params, run.Tags) {
				if kv.Key == key {
					return kv.Value
				}
			}
			return ""
		}
		if run.Status != turbofan.RunFinished || value("turbofan.trial") != tr.State || len(run.Metrics) == 0 {
			t.Errorf("trial %d is %s; its run is %s with tag %q and %d metrics", i+1, tr.State, run.Status, value("turbofan.trial"), len(run.Metrics))
		}
		if got := value("extra_trees.min_samples_leaf"); got != strconv.FormatFloat(tr.Params["extra_trees.min_samples_leaf"], 'g', -1, 64) {
			t.Errorf("trial %d: its run says %q samples a leaf, the search %v", i+1, got, tr.Params["extra_trees.min_samples_leaf"])
		}
		delete(runs, tr.RunID)
	}
	for id, run := range runs { // a signal between two trials leaves none
		if run.Status != turbofan.RunKilled || len(runs) > 1 {
			t.Errorf("run %s belongs to no trial and is %s", id, run.Status)
		}
	}
	html, err := os.ReadFile(page)
	for _, want := range []string{"Error of each trial", "The best trials", "Which parameters matter", "best so far", "extra_trees.min_samples_leaf", "50 trials"} {
		if err != nil || !strings.Contains(string(html), want) {
			t.Errorf("the page does not say %q (%v)", want, err)
		}
	}
}

// A search that was killed in the middle of a trial goes on, and the run of that trial does not run for ever: the next
// command ends it, but not while the search lives.
func TestTuneKilled(t *testing.T) {
	fleet, dir := must(t, shared.fleet), t.TempDir()
	args := []string{"tune", "--data", fleet, "--data-dir", dir, "--folds", "2", "--model", "extra_trees", "--trials", "400"}
	kept := func() (s study) {
		b, err := os.ReadFile(filepath.Join(dir, "tune", "extra_trees-FD001.json"))
		if err != nil || json.Unmarshal(b, &s) != nil {
			return study{}
		}
		return s
	}
	open := func() (id string) {
		for _, run := range runsOf(t, dir, "rul-tune") {
			if run.Status == turbofan.RunRunning {
				id = run.ID
			}
		}
		return id
	}
	p := start(t, nil, args...)
	p.until("two trials are done", func() bool { return len(kept().Trials) >= 2 })
	other := []string{"tune", "--data", fleet, "--data-dir", dir, "--folds", "2", "--model", "forest", "--trials", "1", "--max-rows", "2000"}
	if code, _, errs := call(t, other...); code != exitOK {
		t.Fatalf("exit %d\n%s", code, errs)
	}
	for id, run := range runsOf(t, dir, "rul-tune") {
		if run.Status != turbofan.RunRunning && run.Status != turbofan.RunFinished {
			t.Errorf("run %s of a search that goes on is %s", id, run.Status)
		}
	}
	// The kill comes in the middle of a trial, not between two: who looks first may look too early.
	p.until("a trial is under way", func() bool {
		p.pause()
		if open() != "" {
			return true
		}
		p.resume()
		return false
	})
	killed := open()
	p.kill()
	if code, _, errs := call(t, other...); code != exitOK { // its trial is done: it begins no run
		t.Fatalf("exit %d\n%s", code, errs)
	}
	left := kept()
	if len(left.Trials) < 2 || len(left.Trials) >= 400 {
		t.Fatalf("%d trials are kept", len(left.Trials))
	}
	args[len(args)-1] = strconv.Itoa(len(left.Trials) + 1)
	if code, _, errs := call(t, args...); code != exitOK {
		t.Fatalf("exit %d\n%s", code, errs)
	}
	for id, run := range runsOf(t, dir, "rul-tune") {
		want := turbofan.RunFinished
		if id == killed {
			want = turbofan.RunKilled
		}
		if run.Status != want {
			t.Errorf("run %s is %s, want %s", id, run.Status, want)
		}
	}
	if left, err := os.ReadDir(filepath.Join(dir, "run-owners")); err != nil || len(left) > 0 {
		t.Errorf("the folder of owners holds %v, %v", left, err)
	}
}

// runsOf returns the runs of an experiment in the registry of a data directory, by id.
func runsOf(t *testing.T, dir, experiment string) map[string]turbofan.Run {
	t.Helper()
	db, err := sqlstore.OpenRegistry(t.Context(), filepath.Join(dir, "registry.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	e, err := db.ExperimentByName(t.Context(), experiment)
	if err != nil {
		t.Fatal(err)
	}
	runs, _, err := db.SearchRuns(t.Context(), turbofan.SearchQuery{ExperimentIDs: []string{e.ID}, Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]turbofan.Run{}
	for _, r := range runs {
		out[r.ID] = r
	}
	return out
}

// Every kind's space can be set and read back, and the defaults lie inside.
func TestSearchSpace(t *testing.T) {
	for _, kind := range model.Kinds() {
		base := model.DefaultConfig(kind)
		seen := map[string]bool{}
		for _, d := range tunables(kind) {
			if seen[d.Name] {
				t.Errorf("%s: %s stands twice", kind, d.Name)
			}
			seen[d.Name] = true
			v := d.High
			if d.Choices != nil {
				v = d.Choices[len(d.Choices)-1]
			}
			if got := present(configured(base, map[string]float64{d.Name: v}), d.Name); got != v {
				t.Errorf("%s: %s was set to %v and is %v", kind, d.Name, v, got)
			}
			now := d.get(base)
			if d.Choices != nil && !slices.Contains(d.Choices, now) || d.Choices == nil && (now < d.Low || now > d.High) {
				t.Errorf("%s: %s is %v by default, outside of what is searched", kind, d.Name, now)
			}
		}
		if err := configured(base, nil).Validate(); err != nil {
			t.Error(err)
		}
		if base.Feature.EWMA[0] != model.DefaultConfig(kind).Feature.EWMA[0] {
			t.Errorf("%s: a trial changed the configuration it came from", kind)
		}
	}
}
