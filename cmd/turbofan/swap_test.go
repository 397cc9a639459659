package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"turbofan"
	"turbofan/dataset"
	"turbofan/httpapi"
	"turbofan/model"
)

// connections is how many clients there are, each over a connection of its own, and atOnce how many of them ask at a time:
// more would only keep the processors from the swaps between.
const connections, atOnce = 32, 4

// swapping is a platform with two versions that say different things, and what each says of every life alone.
type swapping struct {
	t        testing.TB
	p        *platform
	dir      string
	lives    []turbofan.History
	expected map[string][][]model.Answer // by version, life and reading
	answered map[string]*atomic.Int64    // by version, all answers so far
}

func newSwapping(t testing.TB) *swapping {
	t.Helper()
	trained, err := shared.trained()
	if err != nil {
		t.Fatal(err)
	}
	s := &swapping{t: t, dir: t.TempDir(), expected: map[string][][]model.Answer{}, answered: map[string]*atomic.Int64{}}
	if err := os.CopyFS(s.dir, os.DirFS(trained)); err != nil {
		t.Fatal(err)
	}
	fleet, err := shared.fleet()
	if err != nil {
		t.Fatal(err)
	}
	if err := shared.command("train", "--data", fleet, "--data-dir", s.dir, "--folds", "2", "--model", "boosting"); err != nil {
		t.Fatal(err)
	}
	cfg := defaultConfig()
	cfg.DataDir, cfg.Roles = s.dir, []string{rolePredict, roleFeedback, roleRegistry}
	for role := range cfg.Ports {
		cfg.Ports[role] = 0
	}
	ctx, cancel := context.WithCancel(context.Background())
	if s.p, err = newPlatform(ctx, cfg, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	stop := s.p.start(ctx)
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
		cancel()
	})
	if _, err := s.p.predict.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	train, _, err := dataset.LoadCMAPSS(fleet, "FD001")
	if err != nil {
		t.Fatal(err)
	}
	s.lives = train.Units
	for _, v := range []string{"1", "2"} {
		s.answered[v] = new(atomic.Int64)
		m, err := fetchModel(ctx, s.p.registry, "rul", v)
		if err != nil {
			t.Fatal(err)
		}
		if s.expected[v], err = m.PredictHistories(t.Context(), s.lives); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// load asks from all connections until stop, and checks every number against the version that the answer names.
func (s *swapping) load(stop *atomic.Bool, phase string) {
	var wg sync.WaitGroup
	turns := make(chan struct{}, atOnce)
	for g := range connections {
		wg.Go(func() {
			client := httpapi.NewPredictionClient(s.p.url(rolePredict), nil)
			defer client.Close()
			for round := 0; !stop.Load(); round++ {
				life := (g + round) % len(s.lives)
				id := fmt.Sprintf("%s-%d-%d", phase, g, round)
				for i, r := range s.lives[life].Readings {
					if stop.Load() {
						return
					}
					r.UnitID = id
					turns <- struct{}{}
					answers, err := client.Predict(context.Background(), turbofan.PredictRequest{Readings: []turbofan.Reading{r}})
					<-turns
					if err != nil {
						s.t.Errorf("unit %s at %d: %v", id, r.Cycle, err)
						return
					}
					a := answers[0]
					if got, want := (model.Answer{RUL: a.RUL, Lower: a.Lower, Upper: a.Upper, FailureProbability: a.FailureProbability, Health: a.Health}), s.expected[a.ModelVersion][life][i]; got != want {
						s.t.Errorf("unit %s at %d: version %s answered %+v, alone it says %+v", id, r.Cycle, a.ModelVersion, got, want)
						return
					}
					s.answered[a.ModelVersion].Add(1)
				}
			}
		})
	}
	wg.Wait()
}

// awaitAnswer waits for an answer by version, or for the end of the load.
func (s *swapping) awaitAnswer(version string, ended <-chan struct{}) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for before := s.answered[version].Load(); s.answered[version].Load() == before; {
		select {
		case <-ended:
			s.t.Fatalf("the load ended before version %s answered it", version)
		case <-tick.C:
		}
	}
}

// swap moves the alias as any MLflow client may, and lets the service look.
func (s *swapping) swap(version string) error {
	if err := s.p.registry.SetAlias(context.Background(), "rul", turbofan.ChampionAlias, version); err != nil {
		return err
	}
	_, err := s.p.predict.Refresh(context.Background())
	return err
}

// Under load from 32 connections the champion changes again and again, sound versions and between them some that
// are corrupt: no request fails, and every number is of the version that its answer names.
func TestSwapUnderLoad(t *testing.T) {
	s := newSwapping(t)
	for _, v := range s.expected["1"] {
		if len(v) == 0 {
			t.Fatal("a life has no answers")
		}
	}
	bad := s.spoiled()
	var stop atomic.Bool
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.load(&stop, "test")
	}()
	defer func() { stop.Store(true); <-ended }()
	for i := range 16 {
		version := []string{"2", "1"}[i%2]
		if err := s.swap(version); err != nil {
			t.Errorf("swap %d: %v", i, err)
		}
		s.awaitAnswer(version, ended)
		if i%8 == 7 {
			for version, want := range bad {
				if err := s.swap(version); err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("version %s was taken: %v, want %q", version, err, want)
				}
			}
		}
	}
	serving, err := s.p.predict.Serving(t.Context())
	if err != nil || serving.Swaps < 16 || serving.Failures < 4 {
		t.Errorf("serving %+v, %v", serving, err)
	}
}

// spoiled registers versions that must never serve and returns the reasons.
func (s *swapping) spoiled() map[string]string {
	s.t.Helper()
	ctx := context.Background()
	dir := filepath.Join(s.t.TempDir(), "model")
	v, err := s.p.registry.Version(ctx, "rul", "2")
	if err == nil {
		err = s.p.registry.Fetch(ctx, v, dir)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	corrupt := s.register(dir, "learner.bin", func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
	half := s.register(dir, "golden.json", func(b []byte) []byte { return b[:len(b)/2] })
	return map[string]string{corrupt: "learner.bin is not the file that was saved", half: "golden.json is not the file that was saved"}
}

// register registers dir with one file changed.
func (s *swapping) register(dir, file string, change func([]byte) []byte) string {
	s.t.Helper()
	spoilt := filepath.Join(s.t.TempDir(), "spoilt")
	err := os.CopyFS(spoilt, os.DirFS(dir))
	var b []byte
	if err == nil {
		b, err = os.ReadFile(filepath.Join(spoilt, file))
	}
	if err == nil {
		err = errors.Join(os.Remove(filepath.Join(spoilt, file)), os.WriteFile(filepath.Join(spoilt, file), change(slices.Clone(b)), fs.FileMode(0o644)))
	}
	if err != nil {
		s.t.Fatal(err)
	}
	v, err := s.p.registry.CreateVersion(context.Background(), turbofan.ModelVersion{Name: "rul"}, spoilt)
	if err != nil {
		s.t.Fatal(err)
	}
	return v.Version
}
