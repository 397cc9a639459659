package main

import (
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"turbofan"
	"turbofan/registry"
	"turbofan/sqlstore"
)

// runsIn opens the registry of a data directory and returns the runs of an experiment, newest first.
func runsIn(t *testing.T, dir, experiment string) (*registry.Registry, []turbofan.Run) {
	t.Helper()
	ctx := t.Context()
	db, err := sqlstore.OpenRegistry(ctx, filepath.Join(dir, "registry.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	reg, err := registry.Open(ctx, registry.Config{ArtifactRoot: filepath.Join(dir, "artifacts"), Logger: slog.New(slog.DiscardHandler)}, db)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reg.Close() })
	e, err := reg.ExperimentByName(ctx, experiment)
	if err != nil {
		t.Fatal(err)
	}
	runs, _, err := reg.SearchRuns(ctx, turbofan.SearchQuery{ExperimentIDs: []string{e.ID}, Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	return reg, runs
}

// checkRun demands what every run must tell: what made it, from which data, with which seed and why, its parameters, a
// metric with a value for each of steps, and a picture.
func checkRun(t *testing.T, reg *registry.Registry, run turbofan.Run, command, reason, metric string, steps int, picture string) {
	t.Helper()
	ctx := t.Context()
	tags := map[string]string{}
	for _, kv := range run.Tags {
		tags[kv.Key] = kv.Value
	}
	for k, want := range map[string]string{"mlflow.source.name": "turbofan " + command, "mlflow.source.type": "LOCAL", "turbofan.random_state": "42", "turbofan.reason": reason} {
		if tags[k] != want {
			t.Errorf("run %s: tag %s is %q, want %q", run.Name, k, tags[k], want)
		}
	}
	if tags["turbofan.data_digest"] == "" || tags["turbofan.version"] == "" || len(run.Params) < 5 || run.Status != turbofan.RunFinished {
		t.Errorf("run %s tells %v, %d parameters, %s", run.Name, tags, len(run.Params), run.Status)
	}
	history, _, err := reg.MetricHistory(ctx, turbofan.MetricQuery{RunID: run.ID, Key: metric, Limit: 100})
	if err != nil || len(history) != steps {
		t.Errorf("run %s has %d values of %s (%v), want %d", run.Name, len(history), metric, err, steps)
	}
	for i, m := range history {
		if m.Step != int64(i+1) || m.Value <= 0 {
			t.Errorf("run %s: value %d of %s is %+v", run.Name, i, metric, m)
		}
	}
	f, _, err := reg.OpenArtifact(ctx, run.ArtifactURI+"/pictures/"+picture)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	page, err := io.ReadAll(f)
	if err != nil || !strings.Contains(string(page), "<svg") {
		t.Errorf("run %s: the picture has %d bytes (%v)", run.Name, len(page), err)
	}
}

// A training and a trial are runs that tell how they came about.
func TestRunsTellHowTheyCameAbout(t *testing.T) {
	dir, fleet, began := t.TempDir(), must(t, shared.fleet), time.Now()
	if code, _, errs := call(t, "train", "--data", fleet, "--data-dir", dir, "--folds", "2", "--model", "extra_trees"); code != exitOK {
		t.Fatalf("train: exit %d\n%s", code, errs)
	}
	took := time.Since(began)
	if code, _, errs := call(t, "tune", "--data", fleet, "--data-dir", dir, "--folds", "2", "--max-rows", "300", "--model", "extra_trees", "--trials", "2"); code != exitOK {
		t.Fatalf("tune: exit %d\n%s", code, errs)
	}
	reg, trained := runsIn(t, dir, "rul")
	if len(trained) != 1 {
		t.Fatalf("%d runs of training", len(trained))
	}
	checkRun(t, reg, trained[0], "train", "trained by hand", "cv_rmse_fold", 2, "model.html")
	if lasted := trained[0].EndedAt.Sub(trained[0].StartedAt); lasted < took/10 || lasted > took+time.Millisecond { // in whole milliseconds
		t.Errorf("the run lasted %s, the command %s", lasted, took)
	}
	v, err := reg.Version(t.Context(), "rul", "@champion")
	if err != nil || v.RunID != trained[0].ID || v.Tags["turbofan.data_digest"] == "" || v.Tags["turbofan.random_state"] != "42" {
		t.Errorf("the version %+v does not lead to its run (%v)", v, err)
	}
	_, trials := runsIn(t, dir, "rul-tune")
	if len(trials) != 2 {
		t.Fatalf("%d runs of trials", len(trials))
	}
	for _, run := range trials {
		number := run.Name[len(run.Name)-1:]
		study := run.Name[:strings.LastIndex(run.Name, "-trial-")]
		checkRun(t, reg, run, "tune", "trial "+number+" of "+study, "cv_rmse_so_far", 2, "trial.html")
	}
}
