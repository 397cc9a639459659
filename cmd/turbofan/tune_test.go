package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"turbofan/model"
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
