package main

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"turbofan"
)

// People choose the data directory: what stands there beside the owners' files is theirs, whatever it is called.
func TestOwnersLeaveOthersFilesAlone(t *testing.T) {
	fleet, dir := must(t, shared.fleet), t.TempDir()
	owners := filepath.Join(dir, "run-owners")
	theirs := map[string]string{
		"keep.json":          `{"experiment": "rul-tune"}`,
		"0123456789abcdef":   "notes",
		".fedcba9876543210x": "hidden",
		"exp1/metrics.csv":   "1,2\n",
		"0123456789abcde0/a": "a folder that is called as an owner is",
		"00000000deadbeef":   `{"a": 1}`,
	}
	for name, text := range theirs {
		path := filepath.Join(owners, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{
		{"tune", "--data", fleet, "--data-dir", dir, "--folds", "2", "--model", "forest", "--trials", "1", "--max-rows", "2000"},
		{"train", "--data", fleet, "--data-dir", dir, "--folds", "2", "--model", "forest"},
	} {
		if code, _, errs := call(t, args...); code != exitOK {
			t.Fatalf("%s: exit %d\n%s", args[0], code, errs)
		}
	}
	for name, text := range theirs {
		if b, err := os.ReadFile(filepath.Join(owners, filepath.FromSlash(name))); err != nil || string(b) != text {
			t.Errorf("%s holds %q, %v", name, b, err)
		}
	}
	if left, err := os.ReadDir(owners); err != nil || len(left) != len(theirs) {
		t.Errorf("the folder of owners holds %v, %v", left, err)
	}
}

// An owner's file names its registry without the password, and is known again under another.
func TestOwnersFileHoldsNoSecret(t *testing.T) {
	cfg := defaultConfig()
	cfg.DataDir = t.TempDir()
	db, reg, err := openRegistryFiles(t.Context(), cfg, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(reg.Close(), db.Close()); err != nil {
			t.Error(err)
		}
	}()
	cfg.TrackingURI = "http://me:s3cret@127.0.0.1:5001/"
	own, err := ownRuns(cfg, "lab")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(own.path)
	info, statErr := os.Stat(own.path)
	if err != nil || statErr != nil || strings.Contains(string(b), "s3cret") || info.Mode().Perm() != 0o600 {
		t.Fatalf("%s holds %s, %v, %v, %v", own.path, b, info.Mode(), err, statErr)
	}
	run, err := reg.StartRun(t.Context(), "lab", "a", own.tags(map[string]string{}), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	left := func(uri string, want int) {
		t.Helper()
		cfg.TrackingURI = uri
		if n, err := endLeftRuns(t.Context(), cfg, reg); err != nil || n != want {
			t.Errorf("%s: %d runs ended, want %d; %v", uri, n, want, err)
		}
	}
	left("http://me:changed@127.0.0.1:5001", 0) // its owner lives
	own.release(errors.New("killed"))
	left("http://127.0.0.1:5002", 0)
	left("http://me:changed@127.0.0.1:5001", 1)
	if got, err := reg.Run(t.Context(), run.ID); err != nil || got.Status != turbofan.RunKilled {
		t.Errorf("the run is %+v, %v", got, err)
	}
}
