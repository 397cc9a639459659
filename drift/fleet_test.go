package drift_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"turbofan"
	"turbofan/drift"
	"turbofan/reference"
	"turbofan/registry"
	"turbofan/sqlstore"
)

// pump is equipment with two settings and six sensors, of which the last says nothing.
func pump() turbofan.Schema {
	return turbofan.Schema{
		Name:     "pump",
		Settings: []turbofan.Channel{{Name: "load", Tolerance: 0.5}, {Name: "speed"}},
		Sensors:  []turbofan.Channel{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d"}, {Name: "e"}, {Name: "f"}},
	}
}

const pumpLife = 150

// world says how pumps behave.
type world struct {
	load  float64 // operating condition
	shift float64 // of sensors a, b and c, in standard deviations, for a worn unit
}

func (w world) reading(rng *rand.Rand, unit string, cycle int) turbofan.Reading {
	r := turbofan.Reading{UnitID: unit, Cycle: cycle, Settings: []float64{w.load + 0.01*rng.NormFloat64(), 100}, Sensors: make([]float64, 6)}
	wear := float64(cycle) / pumpLife
	for i := range 5 {
		v := 3*wear*wear + rng.NormFloat64()
		if i < 3 && cycle > 20 {
			v += w.shift
		}
		r.Sensors[i] = 100*w.load + float64(i) + 2*v
	}
	r.Sensors[5] = 7
	return r
}

// fleet is a number of pumps of staggered ages; one that reaches the end of its life is replaced.
type fleet struct {
	rng  *rand.Rand
	id   []int
	age  []int
	next int
	turn int
}

func newFleet(units int, seed uint64) *fleet {
	f := &fleet{rng: rand.New(rand.NewPCG(seed, 1))}
	for range units {
		f.id, f.age = append(f.id, f.next), append(f.age, f.rng.IntN(pumpLife))
		f.next++
	}
	return f
}

// read returns the next n readings of the fleet in a world.
func (f *fleet) read(w world, n int) []turbofan.Reading {
	out := make([]turbofan.Reading, n)
	for i := range out {
		k := f.turn % len(f.id)
		f.turn++
		if f.age[k] == pumpLife {
			f.id[k], f.age[k] = f.next, 0
			f.next++
		}
		f.age[k]++
		out[i] = w.reading(f.rng, fmt.Sprintf("pump-%d", f.id[k]), f.age[k])
	}
	return out
}

// pumpReference is the reference of sixty pumps run to failure under load 1.
func pumpReference(t testing.TB) *reference.Reference {
	t.Helper()
	return pumpReferenceOf(t, 7, 60)
}

// pumpReferenceOf is the reference of so many pumps of their own.
func pumpReferenceOf(t testing.TB, seed uint64, pumps int) *reference.Reference {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 7))
	var units []turbofan.History
	for u := range pumps {
		h := turbofan.History{UnitID: fmt.Sprint(u), FailedAtCycle: pumpLife}
		for cycle := 1; cycle <= pumpLife; cycle++ {
			h.Readings = append(h.Readings, world{load: 1}.reading(rng, h.UnitID, cycle))
		}
		units = append(units, h)
	}
	ref, err := reference.Learn(reference.DefaultConfig(), pump(), units)
	if err != nil {
		t.Fatal(err)
	}
	ref.RMSE, ref.Cap, ref.Coverage = 10, 125, 0.9
	return ref
}

// config is small enough for small fleets.
func config(dir string) drift.Config {
	cfg := drift.DefaultConfig()
	cfg.ModelName, cfg.CacheDir = "rul", filepath.Join(dir, "cache")
	return cfg
}

// rig is the service over a real store and a real registry, whose files live as long as the test.
type rig struct {
	dir      string
	cfg      drift.Config
	state    *sqlstore.State
	registry *registry.Registry
	database *sqlstore.RegistryDB
	metrics  *prometheus.Registry
	log      *slog.Logger
	retrain  turbofan.RetrainingService
	gap      int64 // where above 1, only each so-manieth number of the store's readings is one
	*drift.Service
	serving string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{dir: t.TempDir()}
	r.cfg = config(r.dir)
	return r
}

// open starts, or starts again, everything over the same files.
func (r *rig) open(t *testing.T) {
	t.Helper()
	ctx := context.Background()
	var err error
	if r.state, err = sqlstore.OpenState(ctx, sqlstore.Config{Path: filepath.Join(r.dir, "state.db")}); err != nil {
		t.Fatal(err)
	}
	if r.database, err = sqlstore.OpenRegistry(ctx, filepath.Join(r.dir, "registry.db")); err != nil {
		t.Fatal(err)
	}
	if r.registry, err = registry.Open(ctx, registry.Config{ArtifactRoot: filepath.Join(r.dir, "artifacts")}, r.database); err != nil {
		t.Fatal(err)
	}
	r.metrics = prometheus.NewPedanticRegistry()
	stores := drift.Stores{Readings: gappy{r.state, max(1, r.gap)}, Predictions: r.state, Outcomes: r.state, Reports: r.state, Leases: r.state}
	if r.Service, err = drift.New(r.cfg, r.registry, stores, r.retrain, r.metrics, r.log); err != nil {
		t.Fatal(err)
	}
}

// gappy is a store of readings with gaps between their numbers, as those of a database with several writers has.
type gappy struct {
	turbofan.ReadingStore
	gap int64
}

func (g gappy) Readings(ctx context.Context, q turbofan.ReadingQuery) ([]turbofan.StoredReading, error) {
	q.AfterSeq /= g.gap
	out, err := g.ReadingStore.Readings(ctx, q)
	for i := range out {
		out[i].Seq *= g.gap
	}
	return out, err
}

func (r *rig) close(t *testing.T) {
	t.Helper()
	for _, c := range []interface{ Close() error }{r.registry, r.database, r.state} {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

// serve registers a version with the reference and makes it champion.
func (r *rig) serve(t *testing.T, ref *reference.Reference) {
	t.Helper()
	dir := t.TempDir()
	b, err := json.Marshal(ref)
	if err != nil {
		t.Fatal(err)
	}
	r.serveBytes(t, dir, b)
}

func (r *rig) serveBytes(t *testing.T, dir string, b []byte) {
	t.Helper()
	ctx := context.Background()
	for name, content := range map[string][]byte{reference.FileName: b, "MLmodel": []byte("artifact_path: model\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	v, err := r.registry.CreateVersion(ctx, turbofan.ModelVersion{Name: "rul"}, dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.registry.SetAlias(ctx, "rul", turbofan.ChampionAlias, v.Version); err != nil {
		t.Fatal(err)
	}
	r.serving = v.Version
}

// send stores readings with an answer of the serving version that is off by 10 cycles.
func (r *rig) send(t *testing.T, readings []turbofan.Reading) {
	t.Helper()
	records := make([]turbofan.PredictionRecord, len(readings))
	for i, x := range readings {
		rul := float64(pumpLife-x.Cycle) + 10
		records[i] = turbofan.PredictionRecord{Reading: x, Prediction: turbofan.Prediction{
			ID: fmt.Sprintf("%s-%d", x.UnitID, x.Cycle), UnitID: x.UnitID, Cycle: x.Cycle, RUL: rul, Lower: rul - 20, Upper: rul + 20,
			ModelName: "rul", ModelVersion: r.serving, At: time.Now(),
		}}
	}
	if err := r.state.Append(context.Background(), records); err != nil {
		t.Fatal(err)
	}
	if err := r.state.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// fail records the end of units.
func (r *rig) fail(t *testing.T, units ...string) {
	t.Helper()
	at := pumpLife
	var outcomes []turbofan.Outcome
	for _, u := range units {
		outcomes = append(outcomes, turbofan.Outcome{UnitID: u, FailedAtCycle: &at})
	}
	if _, err := r.state.Record(context.Background(), outcomes); err != nil {
		t.Fatal(err)
	}
}

func (r *rig) check(t *testing.T) turbofan.DriftReport {
	t.Helper()
	report, err := r.Check(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// value returns the value of a metric with, where it has one, a label of that value.
func (r *rig) value(t *testing.T, name, label string) float64 {
	t.Helper()
	families, err := r.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if l := m.GetLabel(); len(l) > 0 && l[0].GetValue() != label {
				continue
			}
			switch {
			case m.GetGauge() != nil:
				return m.GetGauge().GetValue()
			case m.GetCounter() != nil:
				return m.GetCounter().GetValue()
			case m.GetHistogram() != nil:
				return float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return math.NaN()
}
