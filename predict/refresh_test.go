package predict_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"turbofan"
	"turbofan/model"
	"turbofan/predict"
)

// breakable is a registry whose connection can be cut.
type breakable struct {
	turbofan.Registry
	err error
}

func (b *breakable) Version(ctx context.Context, name, ref string) (turbofan.ModelVersion, error) {
	if b.err != nil {
		return turbofan.ModelVersion{}, b.err
	}
	return b.Registry.Version(ctx, name, ref)
}

// damage flips a byte of, or removes, a file of the version that was registered last.
func (w *world) damage(file string, remove bool) {
	w.t.Helper()
	versions := must[[]turbofan.ModelVersion](w.t)(w.reg.Versions(w.t.Context(), "rul"))
	newest := filepath.Join(w.files, filepath.FromSlash(strings.TrimPrefix(versions[len(versions)-1].Source, "mlflow-artifacts:/")), file)
	var err error
	if remove {
		err = os.Remove(newest)
	} else {
		var b []byte
		if b, err = os.ReadFile(newest); err == nil {
			b[len(b)/2] ^= 1
			err = errors.Join(os.Chmod(newest, 0o644), os.WriteFile(newest, b, 0o644))
		}
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func counter(t *testing.T, g prometheus.Gatherer, name string) float64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetCounter().GetValue() + m.GetGauge().GetValue() // one of them is nil, and 0
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// Whatever is wrong with the next champion, the one that serves stays, and the reason can be read.
func TestBadChampionNeverServes(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(w *world, reg *breakable)
		want  string
	}{
		"flipped byte": {func(w *world, _ *breakable) { w.promote(w.register(artifacts.b)); w.damage("learner.bin", false) },
			"learner.bin is not the file that was saved: its SHA-256 differs"},
		"file missing": {func(w *world, _ *breakable) { w.promote(w.register(artifacts.b)); w.damage("features.json", true) },
			"features.json: no such file or directory"},
		"other channels": {func(w *world, _ *breakable) { w.promote(w.register(artifacts.other)) },
			`version 2: its schema "pumps" has the sensors [sensor_1 sensor_2 vibration], the one that serves, "cmapss", has [sensor_1 sensor_2 sensor_3]: restart to serve other equipment`},
		"not a model": {func(w *world, _ *breakable) { w.promote(w.register(w.t.TempDir())) }, "model.json: no such file or directory"},
		"registry down": {func(_ *world, reg *breakable) { reg.err = errors.New("connection refused") },
			"resolve rul: connection refused"},
		"alias deleted": {func(w *world, _ *breakable) {
			_, err := w.reg.UpdateModel(w.t.Context(), "rul", turbofan.ModelUpdate{DeleteAliases: []string{turbofan.ChampionAlias}})
			if err != nil {
				w.t.Fatal(err)
			}
		}, "resolve rul: Registered model alias champion not found."},
	} {
		t.Run(name, func(t *testing.T) {
			w, metrics, log := newWorld(t, artifacts.a), prometheus.NewRegistry(), &bytes.Buffer{}
			reg := &breakable{Registry: w.reg}
			s := w.serving(options{reg: reg, prom: metrics, log: slog.New(slog.NewTextHandler(log, nil))})
			c.spoil(w, reg)
			for range 3 {
				if swapped, err := s.Refresh(t.Context()); swapped || err == nil {
					t.Fatalf("refreshed: %v, %v", swapped, err)
				}
			}
			v := must[turbofan.Serving](t)(s.Serving(t.Context()))
			if v.ModelVersion != "1" || v.Swaps != 0 || v.Failures != 3 || !strings.Contains(v.LastFailure, c.want) {
				t.Errorf("serving %+v, want version 1 and the reason %q", v, c.want)
			}
			if n := counter(t, metrics, "turbofan_model_refresh_failures_total"); n != 3 {
				t.Errorf("%v failures counted, want 3", n)
			}
			if ok := counter(t, metrics, "turbofan_model_refresh_success"); ok != 0 {
				t.Errorf("the refresh failed, and turbofan_model_refresh_success is %v", ok)
			}
			if n := strings.Count(log.String(), "the champion cannot serve"); n != 1 {
				t.Errorf("said %d times, want once:\n%s", n, log)
			}
			if p := send(t, s, fleet(1, 7, 0)[0].Readings[0])[0]; p.ModelVersion != "1" {
				t.Errorf("version %s answered", p.ModelVersion)
			}
			// A sound champion heals it.
			reg.err = nil
			sound := w.register(artifacts.b)
			w.promote(sound)
			if swapped, err := s.Refresh(t.Context()); !swapped {
				t.Fatal(err)
			}
			if v := must[turbofan.Serving](t)(s.Serving(t.Context())); v.ModelVersion != sound || v.LastFailure != "" || v.Swaps != 1 {
				t.Errorf("serving %+v, want version %s and no failure", v, sound)
			}
			if ok := counter(t, metrics, "turbofan_model_refresh_success"); ok != 1 {
				t.Errorf("what should serve does, and turbofan_model_refresh_success is %v", ok)
			}
		})
	}
}

func TestRegistryBackWithTheSameChampion(t *testing.T) {
	w := newWorld(t, artifacts.a)
	reg := &breakable{Registry: w.reg}
	s := w.serving(options{reg: reg})
	reg.err = errors.New("connection refused")
	if _, err := s.Refresh(t.Context()); err == nil {
		t.Fatal("refreshed without a registry")
	}
	reg.err = nil
	if swapped, err := s.Refresh(t.Context()); swapped || err != nil {
		t.Fatalf("%v, %v", swapped, err)
	}
	if v := must[turbofan.Serving](t)(s.Serving(t.Context())); v.LastFailure != "" {
		t.Errorf("still fails: %s", v.LastFailure)
	}
}

func TestRestartWithABadChampionServesTheLastGood(t *testing.T) {
	for name, spoil := range map[string]func(*world, *breakable){
		"corrupt":       func(w *world, _ *breakable) { w.promote(w.register(artifacts.b)); w.damage("golden.json", false) },
		"registry down": func(_ *world, reg *breakable) { reg.err = errors.New("connection refused") },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, artifacts.a)
			cache := t.TempDir()
			w.serving(options{cache: cache})
			reg := &breakable{Registry: w.reg}
			spoil(w, reg)
			s := w.service(options{cache: cache, reg: reg})
			if err := s.Ready(t.Context()); turbofan.ErrorCode(err) != turbofan.EUnavailable {
				t.Errorf("ready before anything serves: %v", err)
			}
			if swapped, err := s.Refresh(t.Context()); swapped || err == nil {
				t.Fatalf("%v, %v", swapped, err)
			}
			v := must[turbofan.Serving](t)(s.Serving(t.Context()))
			if v.ModelVersion != "1" || v.LastFailure == "" {
				t.Errorf("serving %+v, want the last good version and the reason", v)
			}
			units := fleet(1, 7, 0)
			got := answers{}
			got.add(send(t, s, units[0].Readings...)...)
			got.equal(t, expect(t, open(t, artifacts.a), units))
		})
	}
}

func TestNothingServesYet(t *testing.T) {
	w := newWorld(t, "")
	s := w.service(options{})
	if swapped, err := s.Refresh(t.Context()); swapped || turbofan.ErrorCode(err) != turbofan.ENotFound {
		t.Fatalf("%v, %v", swapped, err)
	}
	_, err := s.Predict(t.Context(), turbofan.PredictRequest{Readings: fleet(1, 7, 0)[0].Readings[:1]})
	if turbofan.ErrorCode(err) != turbofan.EUnavailable || err.Error() != `no model serves yet: the registry has no version of "rul" with alias "champion"` {
		t.Errorf("%v", err)
	}
}

// A registry that was emptied counts from 1 again; its version 1 is not the one in the cache.
func TestSameNumberOfAnotherRegistry(t *testing.T) {
	cache := t.TempDir()
	newWorld(t, artifacts.a).serving(options{cache: cache})
	w := newWorld(t, artifacts.b)
	s := w.serving(options{cache: cache})
	units := fleet(1, 7, 0)
	got := answers{}
	got.add(send(t, s, units[0].Readings...)...)
	got.equal(t, expect(t, open(t, artifacts.b), units))
}

func TestCacheKeepsTwoVersions(t *testing.T) {
	w := newWorld(t, artifacts.a)
	cache := t.TempDir()
	s := w.serving(options{cache: cache})
	for i := range 5 {
		w.promote(w.register([]string{artifacts.b, artifacts.a}[i%2]))
		if swapped, err := s.Refresh(t.Context()); !swapped {
			t.Fatal(err)
		}
	}
	entries := must[[]os.DirEntry](t)(os.ReadDir(cache))
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if len(names) != 3 {
		t.Errorf("after five swaps the cache holds %q, want what serves, what served before and their note", names)
	}
}

// Two models take turns while callers send: nothing fails, and each answer is that of the version it names.
// A rollback needs neither the registry's files nor the cache: the model that served before is kept.
func TestRollbackNeedsNoFiles(t *testing.T) {
	w := newWorld(t, artifacts.a)
	cache := t.TempDir()
	s := w.serving(options{cache: cache})
	w.promote(w.register(artifacts.b))
	must[bool](t)(s.Refresh(t.Context()))
	for _, dir := range []string{w.files, cache} {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	w.promote("1")
	if swapped, err := s.Refresh(t.Context()); !swapped || err != nil {
		t.Fatalf("rolled back: %v, %v", swapped, err)
	}
	u := fleet(1, 7, 0)
	got := answers{}
	got.add(send(t, s, u[0].Readings...)...)
	got.equal(t, expect(t, open(t, artifacts.a), u))
}

func TestSwapsUnderLoad(t *testing.T) {
	const callers, swaps = 32, 200
	w := newWorld(t, artifacts.a)
	versions := []string{"1", w.register(artifacts.b)}
	units := fleet(callers, 7, 0)
	unknown := fleet(callers, 7, 1)
	for u := range units { // a few engines fly where no model has been
		if u%8 == 0 {
			units[u] = unknown[u]
		}
	}
	s := w.serving(options{})
	tokens := make(chan struct{}, 20) // readings come while models swap, neither all before nor all after
	var wg sync.WaitGroup
	var mu sync.Mutex
	byVersion := map[string]answers{"1": {}, versions[1]: {}}
	sent := make([]int, callers)
	for u := range units {
		wg.Go(func() {
			for i := range units[u].Readings {
				if _, more := <-tokens; !more {
					return
				}
				ps, err := s.Predict(t.Context(), turbofan.PredictRequest{Readings: units[u].Readings[i : i+1]})
				if err != nil {
					t.Error(err)
					return
				}
				sent[u] = i + 1
				if u%8 != 0 {
					mu.Lock()
					byVersion[ps[0].ModelVersion].add(ps...)
					mu.Unlock()
				}
			}
		})
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		wg.Wait()
	}()
	for i := range swaps {
		w.promote(versions[(i+1)%2])
		if ok, err := s.Refresh(t.Context()); !ok || err != nil {
			t.Errorf("swap %d: %v, %v", i, ok, err)
		}
		for range 20 {
			select {
			case tokens <- struct{}{}:
			case <-ended: // no reading is left
			}
		}
	}
	close(tokens)
	<-ended
	for u := range units {
		units[u].Readings = units[u].Readings[:sent[u]]
	}
	n := 0
	for version, m := range map[string]*model.Model{"1": open(t, artifacts.a), versions[1]: open(t, artifacts.b)} {
		want := expect(t, m, units)
		for k, a := range byVersion[version] {
			if n++; a != want[k] {
				t.Fatalf("%s by version %s: %+v, that model says %+v", k, version, a, want[k])
			}
		}
	}
	if len(byVersion["1"]) == 0 || len(byVersion[versions[1]]) == 0 {
		t.Fatalf("%d answers by one version, %d by the other: both should have served", len(byVersion["1"]), len(byVersion[versions[1]]))
	}
	t.Logf("%d answers checked over %d swaps", n, swaps)
	// What was learned of the unknown condition on the way is what the store says.
	fresh := w.serving(options{})
	for u := 0; u < callers; u += 8 {
		if i := sent[u]; i < len(unknown[u].Readings) {
			a, b := answers{}, answers{}
			a.add(send(t, s, unknown[u].Readings[i])...)
			b.add(must[[]turbofan.Prediction](t)(fresh.Predict(t.Context(), turbofan.PredictRequest{Readings: unknown[u].Readings[:i+1], Stateless: true}))[i])
			if k := key(units[u].UnitID, i+1); a[k] != b[k] {
				t.Errorf("%s: %+v, a fresh service says %+v", k, a[k], b[k])
			}
		}
	}
}

func TestRunFollowsTheAlias(t *testing.T) {
	w := newWorld(t, artifacts.a)
	ctx, cancel := context.WithCancel(t.Context())
	resolved := make(chan struct{})
	reg := &watched{Registry: w.reg, resolved: resolved}
	s := w.service(options{reg: reg, change: func(c *predict.Config) { c.RefreshEvery = 1 }})
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	<-resolved
	<-resolved // the first round is over when the second begins
	w.promote(w.register(artifacts.b))
	<-resolved
	<-resolved
	<-resolved
	if v := must[turbofan.Serving](t)(s.Serving(t.Context())); v.ModelVersion != "2" {
		t.Errorf("version %s serves after the alias moved", v.ModelVersion)
	}
	cancel()
	for stopped := false; !stopped; {
		select {
		case <-resolved:
		case err := <-done:
			if stopped = true; err != nil {
				t.Error(err)
			}
		}
	}
}

// watched tells of every look at the alias.
type watched struct {
	turbofan.Registry
	resolved chan struct{}
}

func (r *watched) Version(ctx context.Context, name, ref string) (turbofan.ModelVersion, error) {
	r.resolved <- struct{}{}
	return r.Registry.Version(ctx, name, ref)
}

func TestConfigIsChecked(t *testing.T) {
	w := newWorld(t, "")
	for want, change := range map[string]func(*predict.Config){
		"predict.model_name: is missing":           func(c *predict.Config) { c.ModelName = "" },
		"predict.alias: is missing":                func(c *predict.Config) { c.Alias = "" },
		"predict.cache_dir: is missing":            func(c *predict.Config) { c.CacheDir = "" },
		"predict.refresh_every: must be above 0":   func(c *predict.Config) { c.RefreshEvery = 0 },
		"predict.max_units: must be at least 64":   func(c *predict.Config) { c.MaxUnits = 63 },
		"predict.recent: must be from 1 to 100000": func(c *predict.Config) { c.Recent = 0 },
		"predict.drivers: must be from 1 to 1000":  func(c *predict.Config) { c.Drivers = 0 },
	} {
		c := predict.DefaultConfig()
		c.CacheDir = t.TempDir()
		change(&c)
		if _, err := predict.New(c, w.reg, predict.Stores{Readings: w.state, Predictions: w.state}, nil, slog.New(slog.DiscardHandler)); fmt.Sprint(err) != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// hanging is a registry whose files come when the test says so.
type hanging struct {
	turbofan.Registry
	asked, come chan struct{}
}

func (h *hanging) Fetch(ctx context.Context, v turbofan.ModelVersion, dir string) error {
	close(h.asked)
	select {
	case <-h.come:
		return h.Registry.Fetch(ctx, v, dir)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A candidate that takes its time keeps nobody waiting: the champion answers until the candidate is ready, and goes on
// where it never is.
// meanwhile is a store of readings; something happens after it was read for the first time.
type meanwhile struct {
	turbofan.ReadingStore
	once sync.Once
	then func()
}

func (m *meanwhile) Readings(ctx context.Context, q turbofan.ReadingQuery) ([]turbofan.StoredReading, error) {
	rs, err := m.ReadingStore.Readings(ctx, q)
	if m.then != nil {
		m.once.Do(m.then)
	}
	return rs, err
}

// A condition that appears between a candidate's look into the store and its turn to serve is not lost on it.
func TestConditionComesWhileACandidateIsMadeReady(t *testing.T) {
	w := newWorld(t, artifacts.a)
	readings := &meanwhile{ReadingStore: w.state}
	s := w.serving(options{stores: predict.Stores{Readings: readings}})
	w.promote(w.register(artifacts.b))
	units := fleet(12, 7, 1)
	readings.then = func() {
		for c := range 25 {
			for u := range units {
				send(t, s, units[u].Readings[c])
			}
		}
	}
	if swapped, err := s.Refresh(t.Context()); err != nil || !swapped {
		t.Fatal(swapped, err)
	}
	for u := range units {
		if p := send(t, s, units[u].Readings[25])[0]; p.ModelVersion != "2" || len(p.Warnings) > 0 {
			t.Fatalf("version %s answered, with %q", p.ModelVersion, p.Warnings)
		}
	}
}

func TestSlowCandidateHoldsUpNobody(t *testing.T) {
	for _, comes := range []bool{true, false} {
		t.Run(fmt.Sprint("comes=", comes), func(t *testing.T) {
			w := newWorld(t, artifacts.a)
			reg := &hanging{Registry: w.reg, asked: make(chan struct{}), come: make(chan struct{})}
			cache := t.TempDir()
			w.serving(options{cache: cache}) // so that the first version is there without a fetch
			s := w.serving(options{reg: reg, cache: cache})
			w.promote(w.register(artifacts.b))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			refreshed := make(chan error, 1)
			go func() {
				_, err := s.Refresh(ctx)
				refreshed <- err
			}()
			<-reg.asked
			rs := fleet(1, 7, 0)[0].Readings
			for _, r := range rs[:50] {
				if p := send(t, s, r)[0]; p.ModelVersion != "1" {
					t.Fatalf("version %s answered", p.ModelVersion)
				}
			}
			want := "1"
			if comes {
				want = "2"
				close(reg.come)
			} else {
				cancel()
			}
			if err := <-refreshed; (err == nil) != comes {
				t.Errorf("refreshed with %v", err)
			}
			if p := send(t, s, rs[50])[0]; p.ModelVersion != want {
				t.Errorf("version %s answered, want %s", p.ModelVersion, want)
			}
		})
	}
}
