package retrain_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"turbofan"
	"turbofan/model"
	"turbofan/registry"
	"turbofan/retrain"
	"turbofan/sqlstore"
)

// The ways in which the fleet wears: the second fault mode turns the third sensor around, as no model knows it that has
// not seen it.
const (
	knownMode = 1.0
	newMode   = -1.0
)

func fleet(name string, units int, seed uint64, mode float64) []turbofan.History {
	rng := rand.New(rand.NewPCG(seed, 9))
	out := make([]turbofan.History, units)
	for u := range out {
		life := 100 + rng.IntN(80)
		offset := 0.3 * rng.NormFloat64()
		h := turbofan.History{UnitID: fmt.Sprint(name, u+1), FailedAtCycle: life}
		for c := 1; c <= life; c++ {
			wear := math.Exp(4*float64(c)/float64(life)) / 10
			h.Readings = append(h.Readings, turbofan.Reading{UnitID: h.UnitID, Cycle: c, Settings: []float64{0, 0, 100}, Sensors: []float64{
				5, 100 + offset + wear*mode + 0.2*rng.NormFloat64(), 10 - wear/2 + 0.1*rng.NormFloat64(), 50 + wear/3 + 0.2*rng.NormFloat64()}})
		}
		out[u] = h
	}
	return out
}

func schema() turbofan.Schema {
	s := turbofan.CMAPSS()
	s.Sensors = s.Sensors[:4]
	return s
}

func small() model.Config {
	c := model.DefaultConfig(model.Boosting)
	c.Folds, c.Boosting.MaxIter, c.NJobs = 3, 60, 2
	// Sixty trees learn little at the rate that hundreds want.
	c.Boosting.LearningRate, c.Boosting.MaxLeafNodes, c.Boosting.MinSamplesLeaf, c.Boosting.MaxFeatures, c.Boosting.Subsample = 0.15, 15, 20, 1, 1
	return c
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

// plant is a registry and a store on disk, with a service over them.
type plant struct {
	t       *testing.T
	reg     *registry.Registry
	state   *sqlstore.State
	base    []turbofan.History
	schema  turbofan.Schema
	metrics *prometheus.Registry
	log     io.Writer // io.Discard
}

func newPlant(t *testing.T) *plant {
	t.Helper()
	dir := t.TempDir()
	db := must[*sqlstore.RegistryDB](t)(sqlstore.OpenRegistry(context.Background(), filepath.Join(dir, "registry.db")))
	t.Cleanup(func() { db.Close() })
	p := &plant{t: t, base: fleet("base", 24, 1, knownMode), schema: schema(), log: io.Discard}
	p.reg = must[*registry.Registry](t)(registry.Open(context.Background(), registry.Config{ArtifactRoot: filepath.Join(dir, "artifacts")}, db))
	t.Cleanup(func() { p.reg.Close() })
	p.state = must[*sqlstore.State](t)(sqlstore.OpenState(context.Background(), sqlstore.Config{Path: filepath.Join(dir, "state.db")}))
	t.Cleanup(func() { p.state.Close() })
	return p
}

// champion registers a model trained on the baseline and makes it champion.
func (p *plant) champion(units []turbofan.History) string {
	p.t.Helper()
	v := p.version(units)
	p.promote(v)
	return v
}

func (p *plant) version(units []turbofan.History) string {
	p.t.Helper()
	m := must[*model.Model](p.t)(model.Train(p.t.Context(), small(), model.Data{Schema: schema(), Units: units, Digest: "baseline"}, nil))
	dir := filepath.Join(p.t.TempDir(), "m")
	must[string](p.t)(m.Save(dir))
	return must[turbofan.ModelVersion](p.t)(p.reg.CreateVersion(p.t.Context(), turbofan.ModelVersion{Name: "rul"}, dir)).Version
}

func (p *plant) promote(version string) {
	p.t.Helper()
	if err := p.reg.SetAlias(p.t.Context(), "rul", turbofan.ChampionAlias, version); err != nil {
		p.t.Fatal(err)
	}
}

func (p *plant) serving() turbofan.ModelVersion {
	p.t.Helper()
	return must[turbofan.ModelVersion](p.t)(p.reg.Version(p.t.Context(), "rul", "@"+turbofan.ChampionAlias))
}

// live stores the readings of units as production sends them, and then their ends as said, all at once: a service that
// looks meanwhile knows none of them or all.
func (p *plant) live(units []turbofan.History, end func(i int) int) {
	p.t.Helper()
	var ends []turbofan.Outcome
	for i := range units {
		var rs []turbofan.PredictionRecord
		for _, r := range units[i].Readings {
			rs = append(rs, turbofan.PredictionRecord{Reading: r, Prediction: turbofan.Prediction{ID: fmt.Sprintf("%s-%d", r.UnitID, r.Cycle), UnitID: r.UnitID,
				Cycle: r.Cycle, RUL: 50, ModelName: "rul", ModelVersion: "1", Health: turbofan.Healthy, At: time.Now()}})
		}
		if err := p.state.Append(p.t.Context(), rs); err != nil {
			p.t.Fatal(err)
		}
		at := units[i].FailedAtCycle
		if end != nil {
			if at = end(i); at < len(units[i].Readings) {
				continue // the store refuses it
			}
		}
		ends = append(ends, turbofan.Outcome{UnitID: units[i].UnitID, FailedAtCycle: &at, Event: "failure", At: time.Now().UTC()}) // in this order
	}
	if _, err := p.state.Record(p.t.Context(), ends); err != nil {
		p.t.Fatal(err)
	}
}

// jobs is a job store that tells of every update, and can die.
type jobs struct {
	turbofan.JobStore
	updated chan turbofan.Job
	hook    func(turbofan.Job) error
}

func (s *jobs) UpdateJob(ctx context.Context, j turbofan.Job) error {
	if s.hook != nil {
		if err := s.hook(j); err != nil {
			return err
		}
	}
	err := s.JobStore.UpdateJob(ctx, j)
	s.updated <- j
	return err
}

// process is a running retraining service.
type process struct {
	*retrain.Service
	t    *testing.T
	jobs *jobs
	stop func()
}

type options struct {
	change func(*retrain.Config)
	reg    turbofan.Registry
	track  turbofan.Tracking
	leases turbofan.LeaseStore
	hook   func(turbofan.Job) error
	hold   chan struct{} // told when the first job reads the baseline, which then waits for its end
	letGo  chan struct{} // told when it has ended
	idle   bool          // do not run
}

func (p *plant) start(o options) *process {
	p.t.Helper()
	cfg := retrain.DefaultConfig()
	cfg.WorkDir, cfg.Model, cfg.MinNewUnits = p.t.TempDir(), small(), 8
	if o.change != nil {
		o.change(&cfg)
	}
	if o.leases == nil {
		o.leases = p.state
	}
	if o.reg == nil {
		o.reg = p.reg
	}
	if o.track == nil {
		o.track = p.reg
	}
	p.metrics = prometheus.NewRegistry()
	out := &process{t: p.t, jobs: &jobs{JobStore: p.state, updated: make(chan turbofan.Job, 10_000), hook: o.hook}}
	baseline := func(ctx context.Context) (model.Data, error) {
		if hold := o.hold; hold != nil {
			o.hold = nil
			close(hold)
			<-ctx.Done()
			if o.letGo != nil {
				close(o.letGo)
			}
			return model.Data{}, ctx.Err()
		}
		return model.Data{Schema: p.schema, Units: append([]turbofan.History(nil), p.base...), Digest: "baseline"}, nil
	}
	out.Service = must[*retrain.Service](p.t)(retrain.New(cfg, o.reg, o.track, retrain.Stores{Readings: p.state, Outcomes: p.state, Jobs: out.jobs, Leases: o.leases},
		baseline, p.metrics, slog.New(slog.NewTextHandler(p.log, nil))))
	if o.idle {
		return out
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- out.Run(ctx) }()
	stopped := false
	out.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			p.t.Error(err)
		}
	}
	p.t.Cleanup(out.stop)
	return out
}

// until waits for an update of a job that satisfies ok.
func (p *process) until(ok func(turbofan.Job) bool) turbofan.Job {
	p.t.Helper()
	for {
		select {
		case j := <-p.jobs.updated:
			if ok(j) {
				return j
			}
		case <-time.After(20 * time.Minute):
			p.t.Fatal("no such update of a job in twenty minutes")
		}
	}
}

func ended(j turbofan.Job) bool { return !j.Status.Active() }

// run submits a job and waits for its end.
func (p *process) run(req turbofan.RetrainRequest) turbofan.Job {
	p.t.Helper()
	j := must[turbofan.Job](p.t)(p.Submit(p.t.Context(), req))
	out := p.until(func(u turbofan.Job) bool { return u.ID == j.ID && ended(u) })
	stored := must[turbofan.Job](p.t)(p.Job(p.t.Context(), j.ID))
	if stored.Status != out.Status {
		p.t.Fatalf("the store says %s, the update said %s", stored.Status, out.Status)
	}
	return stored
}

func (p *plant) counter(name string) float64 {
	p.t.Helper()
	for _, f := range must[[]*dto](p.t)(gather(p.metrics)) {
		if f.name == name {
			return f.value
		}
	}
	p.t.Fatalf("there is no metric %s", name)
	return 0
}

type dto struct {
	name  string
	value float64
}

func gather(g prometheus.Gatherer) ([]*dto, error) {
	families, err := g.Gather()
	var out []*dto
	for _, f := range families {
		m := f.GetMetric()[0]
		out = append(out, &dto{f.GetName(), m.GetCounter().GetValue() + m.GetGauge().GetValue()}) // one of them is nil, and 0
	}
	return out, err
}
