package predict_test

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"turbofan"
	"turbofan/model"
	"turbofan/predict"
	"turbofan/registry"
	"turbofan/sqlstore"
)

// artifacts holds the models that the tests serve, trained once: a, b and young read the same channels, other does not.
// young takes units to be healthy for half as long.
var artifacts = struct{ dir, a, b, young, other string }{}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "predict-test-*")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	artifacts.dir, artifacts.a, artifacts.b, artifacts.other = dir, filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(dir, "other")
	artifacts.young = filepath.Join(dir, "young")
	for _, c := range []struct {
		path    string
		units   []turbofan.History
		schema  turbofan.Schema
		healthy int
	}{{artifacts.a, fleet(24, 1, 0), schema(), 20}, {artifacts.b, fleet(24, 4, 0), schema(), 20},
		{artifacts.young, fleet(24, 6, 0), schema(), 10}, {artifacts.other, fleet(24, 5, 0), renamed(), 20}} {
		cfg := model.DefaultConfig(model.Boosting)
		cfg.Feature.Condition.HealthyCycles = c.healthy
		cfg.Folds, cfg.Boosting.MaxIter, cfg.NJobs = 3, 30, 2
		trained, err := model.Train(context.Background(), cfg, model.Data{Schema: c.schema, Units: c.units, Digest: "test"}, nil)
		if err != nil {
			panic(err)
		}
		if _, err := trained.Save(c.path); err != nil {
			panic(err)
		}
	}
	return m.Run()
}

// fleet makes engines whose sensors 2 and 3 follow their wear, in a condition that shifts both.
func fleet(units int, seed uint64, condition int) []turbofan.History {
	rng := rand.New(rand.NewPCG(seed, 9))
	out := make([]turbofan.History, units)
	for u := range out {
		life := 120 + rng.IntN(120)
		offset := rng.NormFloat64()
		h := turbofan.History{UnitID: fmt.Sprint("u", u+1), FailedAtCycle: life}
		for c := 1; c <= life; c++ {
			wear := math.Exp(4*float64(c)/float64(life)) / 10
			h.Readings = append(h.Readings, turbofan.Reading{UnitID: h.UnitID, Cycle: c, Settings: []float64{float64(20 * condition), 0, 100},
				Sensors: []float64{5, 100 + 50*float64(condition) + offset + wear + 0.2*rng.NormFloat64(), 10 - wear/2 + 0.1*rng.NormFloat64()}})
		}
		out[u] = h
	}
	return out
}

func schema() turbofan.Schema {
	s := turbofan.CMAPSS()
	s.Sensors = s.Sensors[:3]
	return s
}

func renamed() turbofan.Schema {
	s := schema()
	s.Name, s.Sensors = "pumps", append([]turbofan.Channel(nil), s.Sensors...)
	s.Sensors[2] = turbofan.Channel{Name: "vibration"}
	return s
}

func open(t testing.TB, dir string) *model.Model {
	t.Helper()
	return must[*model.Model](t)(model.Open(dir))
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// world is a registry and a store on disk, with services over them.
type world struct {
	t     testing.TB
	dir   string
	files string // the registry's
	reg   *registry.Registry
	state *sqlstore.State
}

func newWorld(t testing.TB, champion string) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir()}
	w.files = filepath.Join(w.dir, "artifacts")
	db := must[*sqlstore.RegistryDB](t)(sqlstore.OpenRegistry(t.Context(), filepath.Join(w.dir, "registry.db")))
	t.Cleanup(func() { db.Close() })
	w.reg = must[*registry.Registry](t)(registry.Open(t.Context(), registry.Config{ArtifactRoot: w.files}, db))
	t.Cleanup(func() { w.reg.Close() })
	w.state = must[*sqlstore.State](t)(sqlstore.OpenState(t.Context(), sqlstore.Config{Path: filepath.Join(w.dir, "state.db")}))
	t.Cleanup(func() { w.state.Close() })
	if champion != "" {
		w.promote(w.register(champion))
	}
	return w
}

func (w *world) register(dir string) string {
	w.t.Helper()
	return must[turbofan.ModelVersion](w.t)(w.reg.CreateVersion(w.t.Context(), turbofan.ModelVersion{Name: "rul"}, dir)).Version
}

func (w *world) promote(version string) {
	w.t.Helper()
	if err := w.reg.SetAlias(w.t.Context(), "rul", turbofan.ChampionAlias, version); err != nil {
		w.t.Fatal(err)
	}
}

// options of one service; zero values take what most tests want.
type options struct {
	change func(*predict.Config)
	stores predict.Stores
	cache  string
	reg    turbofan.Registry
	prom   prometheus.Registerer
	log    *slog.Logger
}

// service returns a service that has tried to serve the champion once.
func (w *world) service(o options) *predict.Service {
	w.t.Helper()
	cfg := predict.DefaultConfig()
	if cfg.CacheDir = o.cache; o.cache == "" {
		cfg.CacheDir = w.t.TempDir()
	}
	if o.change != nil {
		o.change(&cfg)
	}
	if o.stores.Predictions == nil {
		o.stores.Predictions = w.state
	}
	if o.stores.Readings == nil {
		o.stores.Readings = w.state
	}
	if o.stores.Outcomes == nil {
		o.stores.Outcomes = w.state
	}
	if o.reg == nil {
		o.reg = w.reg
	}
	if o.log == nil {
		o.log = slog.New(slog.DiscardHandler)
	}
	return must[*predict.Service](w.t)(predict.New(cfg, o.reg, o.stores, o.prom, o.log))
}

func (w *world) serving(o options) *predict.Service {
	w.t.Helper()
	s := w.service(o)
	if swapped, err := s.Refresh(w.t.Context()); err != nil || !swapped {
		w.t.Fatalf("first refresh: %v, %v", swapped, err)
	}
	return s
}

// send predicts readings in one request.
func send(t testing.TB, s *predict.Service, rs ...turbofan.Reading) []turbofan.Prediction {
	t.Helper()
	return must[[]turbofan.Prediction](t)(s.Predict(t.Context(), turbofan.PredictRequest{Readings: rs}))
}

// sideBySide returns the fleet's readings as it sends them: all units' first cycles, then all second ones.
func sideBySide(units []turbofan.History) []turbofan.Reading {
	var out []turbofan.Reading
	for i, more := 0, true; more; i++ {
		more = false
		for u := range units {
			if i < len(units[u].Readings) {
				out, more = append(out, units[u].Readings[i]), true
			}
		}
	}
	return out
}

// answers are the numbers of predictions by unit and cycle.
type answers map[string]model.Answer

func key(unit string, cycle int) string { return fmt.Sprintf("%s@%d", unit, cycle) }

func (a answers) add(ps ...turbofan.Prediction) {
	for _, p := range ps {
		a[key(p.UnitID, p.Cycle)] = model.Answer{RUL: p.RUL, Lower: p.Lower, Upper: p.Upper, FailureProbability: p.FailureProbability, Health: p.Health}
	}
}

// expect is what the model alone says of whole histories.
func expect(t testing.TB, m *model.Model, units []turbofan.History) answers {
	t.Helper()
	out := answers{}
	for u, as := range must[[][]model.Answer](t)(m.PredictHistories(t.Context(), units)) {
		for i, a := range as {
			out[key(units[u].UnitID, units[u].Readings[i].Cycle)] = a
		}
	}
	return out
}

func (a answers) equal(t testing.TB, want answers) {
	t.Helper()
	if len(a) != len(want) {
		t.Fatalf("%d answers, want %d", len(a), len(want))
	}
	for k, v := range a {
		if v != want[k] {
			t.Fatalf("%s: answered %+v, want %+v", k, v, want[k])
		}
	}
}

// stored counts what the store holds.
func (w *world) stored() int {
	w.t.Helper()
	return len(must[[]turbofan.StoredReading](w.t)(w.state.Readings(w.t.Context(), turbofan.ReadingQuery{})))
}

// store is a prediction store of which a test can change a method.
type store struct {
	turbofan.PredictionStore
	append   func(context.Context, []turbofan.PredictionRecord) error
	answered func(context.Context, []turbofan.Reading) ([]turbofan.PredictionRecord, error)
}

func (s *store) Answered(ctx context.Context, rs []turbofan.Reading) ([]turbofan.PredictionRecord, error) {
	if s.answered != nil {
		return s.answered(ctx, rs)
	}
	return s.PredictionStore.Answered(ctx, rs)
}

func (s *store) Append(ctx context.Context, r []turbofan.PredictionRecord) error {
	if s.append != nil {
		return s.append(ctx, r)
	}
	return s.PredictionStore.Append(ctx, r)
}
