package release_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"turbofan"
	"turbofan/model"
	"turbofan/registry"
	"turbofan/release"
	"turbofan/sqlstore"
)

// artifacts are models on disk, trained once: sound reads the channels of most tests, other reads others.
var artifacts struct{ sound, other string }

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "release-test-*")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	artifacts.sound, artifacts.other = filepath.Join(dir, "sound"), filepath.Join(dir, "other")
	for path, sensors := range map[string]int{artifacts.sound: 3, artifacts.other: 4} {
		schema := turbofan.CMAPSS()
		schema.Sensors = schema.Sensors[:sensors]
		cfg := model.DefaultConfig(model.Boosting)
		cfg.Folds, cfg.Boosting.MaxIter, cfg.NJobs = 2, 5, 2
		trained, err := model.Train(context.Background(), cfg, model.Data{Schema: schema, Units: fleet(12, sensors), Digest: "test"}, nil)
		if err != nil {
			panic(err)
		}
		if _, err := trained.Save(path); err != nil {
			panic(err)
		}
	}
	return m.Run()
}

func fleet(units, sensors int) []turbofan.History {
	rng := rand.New(rand.NewPCG(1, 2))
	out := make([]turbofan.History, units)
	for u := range out {
		h := turbofan.History{UnitID: fmt.Sprint(u), FailedAtCycle: 60 + rng.IntN(60)}
		for c := 1; c <= h.FailedAtCycle; c++ {
			r := turbofan.Reading{UnitID: h.UnitID, Cycle: c, Settings: []float64{0, 0, 100}}
			for range sensors {
				r.Sensors = append(r.Sensors, 100+float64(c)/10+rng.NormFloat64())
			}
			h.Readings = append(h.Readings, r)
		}
		out[u] = h
	}
	return out
}

type world struct {
	t     *testing.T
	files string
	reg   *registry.Registry
	svc   *release.Service
}

// newWorld has a registry with versions of the artifacts, none of them champion.
func newWorld(t *testing.T, dirs ...string) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{t: t, files: filepath.Join(dir, "artifacts")}
	db, err := sqlstore.OpenRegistry(t.Context(), filepath.Join(dir, "registry.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if w.reg, err = registry.Open(t.Context(), registry.Config{ArtifactRoot: w.files}, db); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.reg.Close() })
	w.svc = w.service(nil)
	for _, d := range dirs {
		if _, err := w.reg.CreateVersion(t.Context(), turbofan.ModelVersion{Name: "rul"}, d); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func (w *world) service(s release.Server) *release.Service {
	w.t.Helper()
	svc, err := release.New(release.Config{ModelName: "rul", WorkDir: filepath.Join(w.t.TempDir(), "checks")}, w.reg, s, slog.New(slog.DiscardHandler))
	if err != nil {
		w.t.Fatal(err)
	}
	return svc
}

func (w *world) promote(version string) turbofan.ModelChange {
	w.t.Helper()
	c, err := w.svc.Promote(w.t.Context(), turbofan.PromoteRequest{Version: version})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func (w *world) rollback(want string) {
	w.t.Helper()
	c, err := w.svc.Rollback(w.t.Context(), "")
	if err != nil || c.To != want || !c.Rollback {
		w.t.Fatalf("rolled back to %q (%v), want version %s", c.To, err, want)
	}
	w.champion(want)
}

func (w *world) champion(want string) {
	w.t.Helper()
	v, err := w.reg.Version(w.t.Context(), "rul", "@"+turbofan.ChampionAlias)
	if err != nil || v.Version != want {
		w.t.Fatalf("the champion is %q (%v), want %s", v.Version, err, want)
	}
}

// refused wants an error of the code that says text, and nothing changed.
func refused(t *testing.T, err error, code, text string) {
	t.Helper()
	if turbofan.ErrorCode(err) != code || !strings.Contains(turbofan.ErrorMessage(err), text) {
		t.Errorf("refused with %q %v, want %q with %q", turbofan.ErrorCode(err), err, code, text)
	}
}

// damage flips a byte in a file of the version that was registered last.
func (w *world) damage(file string) {
	w.t.Helper()
	versions, err := w.reg.Versions(w.t.Context(), "rul")
	if err != nil || len(versions) == 0 {
		w.t.Fatalf("versions: %v, %v", versions, err)
	}
	newest := filepath.Join(w.files, filepath.FromSlash(strings.TrimPrefix(versions[len(versions)-1].Source, "mlflow-artifacts:/")), file)
	b, err := os.ReadFile(newest)
	if err == nil {
		b[len(b)/2] ^= 1
		err = errors.Join(os.Chmod(newest, 0o644), os.WriteFile(newest, b, 0o644))
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func TestPromoteAndRollBack(t *testing.T) {
	w := newWorld(t, artifacts.sound, artifacts.sound, artifacts.sound)
	_, err := w.svc.Rollback(t.Context(), "")
	refused(t, err, turbofan.EConflict, "has no champion")
	if c := w.promote("1"); c.From != "" || c.To != "1" || c.At.IsZero() {
		t.Errorf("first promotion: %+v", c)
	}
	_, err = w.svc.Rollback(t.Context(), "")
	refused(t, err, turbofan.EConflict, "no champion is known before version 1")
	w.promote("2")
	w.promote("3")
	_, err = w.svc.Promote(t.Context(), turbofan.PromoteRequest{Version: "3"})
	refused(t, err, turbofan.EConflict, "version 3 is champion already")
	w.rollback("2")
	w.rollback("1")
	_, err = w.svc.Rollback(t.Context(), "")
	refused(t, err, turbofan.EConflict, "no champion is known before version 1")
	w.champion("1")
	// What happened can be read.
	list, err := w.svc.Models(t.Context())
	if err != nil || len(list.Versions) != 3 || list.Champion != "1" {
		t.Fatalf("%+v, %v", list, err)
	}
	if v := list.Versions[2]; v.Replaced != "2" || v.RolledBack != "rolled back to version 2: rolled back by an operator" || v.ChampionSince.IsZero() {
		t.Errorf("version 3 tells %+v", v)
	}
}

// Another tool may move the alias and write nothing down: the way back leads to the champion that was known last.
func TestRollBackAfterAnotherTool(t *testing.T) {
	w := newWorld(t, artifacts.sound, artifacts.sound, artifacts.sound)
	w.promote("1")
	w.promote("2")
	if err := w.reg.SetAlias(t.Context(), "rul", turbofan.ChampionAlias, "3"); err != nil {
		t.Fatal(err)
	}
	w.rollback("2")
	w.rollback("1")
}

func TestRefusals(t *testing.T) {
	ctx := t.Context()
	t.Run("no version at all", func(t *testing.T) {
		_, err := newWorld(t).svc.Promote(ctx, turbofan.PromoteRequest{Version: "1"})
		refused(t, err, turbofan.ENotFound, "the registry has no version of rul")
	})
	t.Run("unknown", func(t *testing.T) {
		w := newWorld(t, artifacts.sound, artifacts.sound)
		w.promote("1")
		for _, ref := range []string{"9", "x", "-1"} {
			_, err := w.svc.Promote(ctx, turbofan.PromoteRequest{Version: ref})
			refused(t, err, turbofan.ENotFound, fmt.Sprintf("there is no version %q of rul; the newest is 2", ref))
		}
		_, err := w.svc.Promote(ctx, turbofan.PromoteRequest{})
		refused(t, err, turbofan.EInvalid, "version: is missing")
		_, err = w.svc.Model(ctx, "@nobody")
		refused(t, err, turbofan.ENotFound, "no version of rul has the alias nobody")
		_, err = w.svc.Promote(ctx, turbofan.PromoteRequest{Version: "2", Reason: strings.Repeat("x", 1001)})
		refused(t, err, turbofan.EInvalid, "reason: has 1001 bytes")
		w.champion("1")
	})
	t.Run("corrupt", func(t *testing.T) {
		w := newWorld(t, artifacts.sound, artifacts.sound)
		w.promote("1")
		w.damage("learner.bin")
		const why = "version 2 cannot serve: learner.bin is not the file that was saved: its SHA-256 differs"
		_, err := w.svc.Promote(ctx, turbofan.PromoteRequest{Version: "2"})
		refused(t, err, turbofan.EInvalid, why)
		for _, alias := range []string{turbofan.CanaryAlias, turbofan.ChallengerAlias} {
			_, err = w.svc.Try(ctx, turbofan.Trial{Alias: alias, Version: "2", Share: 0.5})
			refused(t, err, turbofan.EInvalid, why)
		}
		d, err := w.svc.Model(ctx, "2")
		if err != nil || d.Problem != why {
			t.Errorf("show tells %+v, %v", d, err)
		}
		w.champion("1")
	})
	t.Run("other channels", func(t *testing.T) {
		w := newWorld(t, artifacts.sound, artifacts.other)
		w.promote("1")
		_, err := w.svc.Promote(ctx, turbofan.PromoteRequest{Version: "2"})
		refused(t, err, turbofan.EInvalid, `version 2 cannot serve: it reads the channels of "cmapss" (3 settings, 4 sensors), the champion, version 1, those of "cmapss" (3 settings, 3 sensors)`)
		w.champion("1")
	})
	t.Run("rollback to a broken one", func(t *testing.T) {
		w := newWorld(t, artifacts.sound, artifacts.sound)
		w.promote("2")
		w.promote("1")
		w.damage("golden.json")
		_, err := w.svc.Rollback(ctx, "")
		refused(t, err, turbofan.EInvalid, "version 2 cannot serve: golden.json")
		w.champion("1")
	})
	t.Run("trials", func(t *testing.T) {
		w := newWorld(t, artifacts.sound, artifacts.sound)
		_, err := w.svc.Try(ctx, turbofan.Trial{Alias: turbofan.ChallengerAlias, Version: "2"})
		refused(t, err, turbofan.EConflict, "rul has no champion")
		w.promote("1")
		_, err = w.svc.Try(ctx, turbofan.Trial{Alias: turbofan.ChallengerAlias, Version: "1"})
		refused(t, err, turbofan.EConflict, "version 1 is champion")
		_, err = w.svc.Try(ctx, turbofan.Trial{Alias: "champion", Version: "2"})
		refused(t, err, turbofan.EInvalid, "alias: must be canary or challenger")
		for _, share := range []float64{0, -0.1, 1.1} {
			_, err = w.svc.Try(ctx, turbofan.Trial{Alias: turbofan.CanaryAlias, Version: "2", Share: share})
			refused(t, err, turbofan.EInvalid, "share: must be above 0 and at most 1")
		}
	})
}

// A broken champion must not keep a sound version from its place.
func TestPromoteOverABrokenChampion(t *testing.T) {
	w := newWorld(t, artifacts.other, artifacts.sound)
	w.promote("2")
	w.damage("learner.bin")
	w.promote("1")
	w.champion("1")
}

func TestTrials(t *testing.T) {
	w := newWorld(t, artifacts.sound, artifacts.sound, artifacts.sound)
	w.promote("1")
	list, err := w.svc.Try(t.Context(), turbofan.Trial{Alias: turbofan.CanaryAlias, Version: "2", Share: 0.25})
	if err != nil || list.Canary != "2" || list.Versions[1].CanaryShare != 0.25 {
		t.Fatalf("%+v, %v", list, err)
	}
	if list, err = w.svc.Try(t.Context(), turbofan.Trial{Alias: turbofan.ChallengerAlias, Version: "2"}); err != nil || list.Challenger != "2" || list.Canary != "2" {
		t.Fatalf("%+v, %v", list, err)
	}
	// The one that won leaves its trials.
	w.promote("2")
	if list, err = w.svc.Models(t.Context()); err != nil || list.Champion != "2" || list.Canary != "" || list.Challenger != "" {
		t.Fatalf("%+v, %v", list, err)
	}
	if _, err = w.svc.Try(t.Context(), turbofan.Trial{Alias: turbofan.CanaryAlias, Version: "3", Share: 1}); err != nil {
		t.Fatal(err)
	}
	for range 2 { // ending what has ended is no error
		if list, err = w.svc.Try(t.Context(), turbofan.Trial{Alias: turbofan.CanaryAlias}); err != nil || list.Canary != "" || list.Versions[2].CanaryShare != 0 {
			t.Fatalf("%+v, %v", list, err)
		}
	}
}

// broken is a prediction service that cannot take what it is told.
type broken struct{}

func (broken) Refresh(context.Context) (bool, error) { return false, errors.New("disk full") }
func (broken) Serving(context.Context) (turbofan.Serving, error) {
	return turbofan.Serving{ModelVersion: "1"}, nil
}

func (broken) Open(context.Context, turbofan.ModelVersion) (*model.Model, error) {
	return model.Open(artifacts.sound)
}
func (broken) Answering(turbofan.ModelVersion) *model.Model { return nil }

// The alias has moved although the process that was asked cannot take it: the answer says both.
func TestServerThatCannotFollow(t *testing.T) {
	w := newWorld(t, artifacts.sound, artifacts.sound)
	w.promote("1")
	w.svc = w.service(broken{})
	if c := w.promote("2"); c.To != "2" || c.Serving != "1" {
		t.Errorf("%+v", c)
	}
	w.champion("2")
}
