// Package predict answers how long a unit will last. It keeps the live state of every unit it has heard of, asks the
// registry which model is champion, and swaps to a new one without a request noticing.
//
// It is also where readings come in: a reading is stored with the answer that it got. A second door for readings alone
// would be a second way for them to be out of order.
package predict

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"turbofan"
	"turbofan/condition"
	"turbofan/model"
)

// Config is what the service is told.
type Config struct {
	// ModelName and Alias say which registered model serves.
	ModelName string
	Alias     string
	// Version pins one version instead of following the alias; "" follows.
	Version string
	// CacheDir keeps fetched artifacts. It belongs to this service alone.
	CacheDir string
	// RefreshEvery is how often the alias is resolved.
	RefreshEvery time.Duration
	// MaxUnits bounds the units with live state; beyond it the longest silent are dropped, and rebuilt from the store
	// when they speak again.
	MaxUnits int
	// Drivers is how many reasons an answer gives when it is asked to explain.
	Drivers int
	// Recent is how many predictions Unit returns.
	Recent int
	// Prewarm bounds how long a new model waits for the states of live units to be rebuilt before it serves; the rest are
	// rebuilt when they speak, which takes a look into the store: less than a millisecond for 300 readings.
	Prewarm time.Duration
	// Shared says that other replicas answer from the same store, and that a unit may speak to any of them. Every answer
	// then waits until it is on disk, and the next one looks there first. Without it a unit's readings must all come here.
	Shared bool
	// Tracer makes a span of each part of a request: state, model and store. Nil makes none.
	Tracer trace.Tracer
}

// DefaultConfig returns a service that follows models:/rul@champion.
func DefaultConfig() Config {
	return Config{ModelName: "rul", Alias: turbofan.ChampionAlias, RefreshEvery: 5 * time.Second, MaxUnits: 200_000, Drivers: 3, Recent: 500, Prewarm: 250 * time.Millisecond}
}

func (c Config) validate() error {
	switch {
	case c.ModelName == "":
		return turbofan.Invalid("predict.model_name", "is missing")
	case c.Alias == "" && c.Version == "":
		return turbofan.Invalid("predict.alias", "is missing")
	case c.CacheDir == "":
		return turbofan.Invalid("predict.cache_dir", "is missing")
	case c.RefreshEvery <= 0:
		return turbofan.Invalid("predict.refresh_every", "must be above 0")
	case c.MaxUnits < shards:
		return turbofan.Invalid("predict.max_units", "must be at least %d", shards)
	case c.Drivers < 1 || c.Drivers > 1000:
		return turbofan.Invalid("predict.drivers", "must be from 1 to 1000")
	case c.Recent < 1 || c.Recent > 100_000:
		return turbofan.Invalid("predict.recent", "must be from 1 to 100000")
	}
	return nil
}

// Stores are the places where the service reads and writes.
type Stores struct {
	Readings    turbofan.ReadingStore
	Predictions turbofan.PredictionStore
	// Outcomes tells which units have ended; nil where nobody knows.
	Outcomes turbofan.OutcomeStore
}

// Service implements turbofan.PredictionService.
type Service struct {
	cfg      Config
	registry turbofan.Registry
	stores   Stores
	log      *slog.Logger
	metrics  metrics

	lanes   atomic.Pointer[lanes]  // nil until a model serves; replaced as a whole, under learnMu
	shadow  atomic.Pointer[shadow] // nil without a challenger
	gate    gate                   // every request goes through it; see install
	learnMu sync.Mutex             // orders readings in unknown conditions, from learning to storing; taken after units' locks
	// candidate is the model that is about to serve, nil most of the time.
	candidate atomic.Pointer[served]
	shards    [shards]shard
	ids       idSource
	refresh   sync.Mutex
	heeded    time.Time // until when ends were heard of; under refresh
	before    *served   // who was champion before, for a rollback, nil for none; under refresh
	spare     *served   // what Open opened last and nobody took, nil for none; under refresh

	statusMu    sync.Mutex
	swaps       int
	failures    int
	lastFailure string
	trials      map[string]string // why what an alias names is not tried, by alias
}

var _ turbofan.PredictionService = (*Service)(nil)

// served is a model that answers, with the operating conditions as this service has come to know them.
type served struct {
	model   *model.Model
	version turbofan.ModelVersion
	comm    *condition.Commissioner
	since   time.Time
	horizon int
	// seq is the place in the store up to which comm has learned, and behind is set once a reading that it may have to
	// learn was on its way after that. Both matter until the model serves, seq also later where the store is shared.
	seq    int64
	behind atomic.Bool
	read   extent // of what was read to learn from
	primed primed
	// answers counts what the version has answered.
	answers prometheus.Counter
	// refused is set when the model could not be made ready; what was warmed for it is then of no use.
	refused atomic.Bool
}

// primed is what a model had learned from the store when it began to serve: comm up to seq, and whether any of it was
// foreign to the model as it was trained.
type primed struct {
	comm    *condition.Commissioner
	seq     int64
	read    extent
	foreign bool
}

// foreign reports whether the reading is in a condition that is not known for good, and of a unit young enough to teach
// it, or of any age.
func (m *served) foreign(r *turbofan.Reading, anyAge bool) bool {
	n := m.comm.Normalizer()
	return (anyAge || r.Cycle <= n.Config.HealthyCycles) && n.Find(r.Settings) < 0
}

// New returns a service that serves nothing yet: call Refresh or Run. It makes CacheDir. A nil reg keeps no metrics; log
// must be there. A configuration that breaks a rule, or a store that is missing, is EInvalid.
func New(cfg Config, registry turbofan.Registry, stores Stores, reg prometheus.Registerer, log *slog.Logger) (*Service, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if stores.Predictions == nil || stores.Readings == nil {
		return nil, turbofan.Invalid("predict.stores", "are missing")
	}
	if err := os.MkdirAll(cfg.CacheDir, 0o755); err != nil {
		return nil, fmt.Errorf("open prediction service: %w", err)
	}
	s := &Service{cfg: cfg, registry: registry, stores: stores, log: log, trials: map[string]string{}, heeded: time.Now()}
	rand.Read(s.ids.process[:]) // never fails, see crypto/rand
	for i := range s.shards {
		s.shards[i].units = map[string]*unit{}
	}
	var err error
	s.metrics, err = newMetrics(reg, s.liveUnits, s.refreshed)
	return s, err
}

// Run refreshes the served model until ctx ends. A refresh that fails is logged and counted; the old model stays.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(s.cfg.RefreshEvery)
	defer tick.Stop()
	for {
		if _, err := s.Refresh(ctx); err != nil && ctx.Err() == nil {
			s.log.Debug("refresh model", "error", err)
		}
		select {
		case <-ctx.Done():
			s.endShadow(nil)
			return nil
		case <-tick.C:
		}
	}
}

// Ready reports EUnavailable until a model that passed its golden histories serves.
func (s *Service) Ready(context.Context) error {
	_, err := s.current()
	return err
}

func (s *Service) current() (*lanes, error) {
	if l := s.lanes.Load(); l != nil {
		return l, nil
	}
	s.statusMu.Lock()
	defer s.statusMu.Unlock()
	if s.lastFailure != "" {
		return nil, turbofan.Errorf(turbofan.EUnavailable, "no model serves: %s", s.lastFailure)
	}
	return nil, turbofan.Errorf(turbofan.EUnavailable, "no model serves yet: the registry has no version of %q with alias %q", s.cfg.ModelName, s.cfg.Alias)
}

// Serving says which model answers; EUnavailable, with the reason, while none does.
func (s *Service) Serving(context.Context) (turbofan.Serving, error) {
	l, err := s.current()
	if err != nil {
		return turbofan.Serving{}, err
	}
	m, units := l.champion, s.liveUnits()
	s.statusMu.Lock()
	defer s.statusMu.Unlock()
	out := turbofan.Serving{ModelName: m.version.Name, ModelVersion: m.version.Version, Digest: m.model.Digest(), Since: m.since,
		Swaps: s.swaps, Failures: s.failures, LastFailure: s.lastFailure, Units: units}
	if l.canary != nil {
		out.Canary, out.CanaryShare = l.canary.version.Version, l.share
	}
	if sh := s.shadow.Load(); sh != nil {
		out.Challenger, out.ChallengerDropped = sh.served.version.Version, int(sh.dropped.Load())
	}
	out.TrialFailure = cmp.Or(s.trials[turbofan.CanaryAlias], s.trials[turbofan.ChallengerAlias])
	return out, nil
}

// Units lists the units seen, the newest reading first.
func (s *Service) Units(ctx context.Context, limit, offset int) ([]turbofan.UnitSummary, error) {
	return s.stores.Readings.Units(ctx, limit, offset)
}

// Unit returns one unit with its newest Config.Recent predictions, oldest first; ENotFound for one that never sent a reading.
func (s *Service) Unit(ctx context.Context, unitID string) (turbofan.UnitStatus, error) {
	h, err := s.stores.Readings.History(ctx, unitID, 0)
	if err != nil {
		return turbofan.UnitStatus{}, err
	}
	recent, err := s.stores.Predictions.Predictions(ctx, turbofan.PredictionQuery{UnitID: unitID, Last: s.cfg.Recent})
	if err != nil {
		return turbofan.UnitStatus{}, err
	}
	if len(h) == 0 {
		return turbofan.UnitStatus{}, turbofan.Errorf(turbofan.ENotFound, "unit %q has never sent a reading", unitID)
	}
	out := turbofan.UnitStatus{Recent: recent}
	out.UnitID, out.Readings = unitID, len(h)
	out.FirstCycle, out.LastCycle = h[0].Cycle, h[len(h)-1].Cycle
	if n := len(recent); n > 0 {
		out.Last, out.LastSeen = &recent[n-1], recent[n-1].At
		s.explain(ctx, &h[len(h)-1], out.Last)
	}
	if s.stores.Outcomes == nil {
		return out, nil
	}
	failed, err := s.stores.Outcomes.FailedAt(ctx, []string{unitID})
	out.FailedAtCycle = failed[unitID]
	return out, err
}

// explain adds to the newest answer of a unit what drove it, where nobody asked for that when it was given and the model that
// gave it still answers the unit. Without them the answer is whole, so a failure is not told.
func (s *Service) explain(ctx context.Context, newest *turbofan.Reading, last *turbofan.Prediction) {
	if len(last.Drivers) > 0 || newest.Cycle != last.Cycle {
		return
	}
	again, err := s.Predict(ctx, turbofan.PredictRequest{Readings: []turbofan.Reading{*newest}, Explain: true})
	if err == nil && again[0].ID == last.ID {
		last.Drivers = again[0].Drivers
	}
}

// Prediction returns a logged prediction.
func (s *Service) Prediction(ctx context.Context, id string) (turbofan.Prediction, error) {
	return s.stores.Predictions.Prediction(ctx, id)
}

// idSource makes prediction ids: a random number of the process and a counter, so that two processes never collide and
// one costs no system call.
type idSource struct {
	process [6]byte
	next    atomic.Uint64
}

func (s *idSource) id() string {
	var raw [12]byte
	copy(raw[:], s.process[:])
	n := s.next.Add(1)
	for i := range 6 {
		raw[11-i] = byte(n >> (8 * i))
	}
	var out [24]byte
	hex.Encode(out[:], raw[:])
	return string(out[:])
}

type metrics struct {
	info     *prometheus.GaugeVec
	swaps    prometheus.Counter
	failures prometheus.Counter
	rebuilds prometheus.Counter
	rebuild  prometheus.Histogram
	answers  *prometheus.CounterVec
	trial    *prometheus.GaugeVec
	share    prometheus.Gauge
	shadow   shadowMetrics
}

// shadowMetrics tell of silent answers.
type shadowMetrics struct {
	answers    *prometheus.CounterVec
	dropped    prometheus.Counter
	failures   prometheus.Counter
	waiting    prometheus.Gauge
	difference prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, units func() int, refreshed func() bool) (metrics, error) {
	m := metrics{
		info:     prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "turbofan_model_info", Help: "The model version that serves; the value is always 1."}, []string{"model_name", "model_version"}),
		swaps:    prometheus.NewCounter(prometheus.CounterOpts{Name: "turbofan_model_swaps_total", Help: "Model versions that began to serve."}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "turbofan_model_refresh_failures_total", Help: "Candidate versions that were refused or could not be fetched."}),
		rebuilds: prometheus.NewCounter(prometheus.CounterOpts{Name: "turbofan_unit_rebuilds_total", Help: "Unit states rebuilt from stored readings."}),
		rebuild:  prometheus.NewHistogram(prometheus.HistogramOpts{Name: "turbofan_unit_rebuild_seconds", Help: "Time to rebuild one unit from its stored readings.", Buckets: prometheus.ExponentialBuckets(1e-4, 4, 8)}),
	}
	m.answers = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "turbofan_answers_total", Help: "Predictions answered and logged, by model version."}, []string{"model_version"})
	m.trial = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "turbofan_trial_info", Help: "The versions that are tried beside the champion, canary or challenger; the value is always 1."}, []string{"part", "model_name", "model_version"})
	m.share = prometheus.NewGauge(prometheus.GaugeOpts{Name: "turbofan_canary_share", Help: "The share of units that the canary answers; 0 without one."})
	m.shadow = shadowMetrics{
		answers:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "turbofan_shadow_answers_total", Help: "Silent answers of a challenger, by model version."}, []string{"model_version"}),
		dropped:  prometheus.NewCounter(prometheus.CounterOpts{Name: "turbofan_shadow_dropped_total", Help: "Readings that the challenger did not answer because its queue was full."}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: "turbofan_shadow_failures_total", Help: "Readings that the challenger failed to answer, or whose answer could not be logged."}),
		waiting:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "turbofan_shadow_queue_readings", Help: "Readings that wait for the challenger."}),
		difference: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "turbofan_shadow_difference_cycles", Help: "Distance between the challenger's and the sent remaining life, in cycles.",
			Buckets: []float64{0.5, 1, 2, 5, 10, 20, 40, 80}}),
	}
	live := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "turbofan_live_units", Help: "Units with live state in memory."}, func() float64 { return float64(units()) })
	current := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "turbofan_model_refresh_success", Help: "0 while a version that the registry names cannot be fetched or is refused, else 1."}, func() float64 {
		if refreshed() {
			return 1
		}
		return 0
	})
	if reg == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.info, m.swaps, m.failures, m.rebuilds, m.rebuild, live, current,
		m.answers, m.trial, m.share, m.shadow.answers, m.shadow.dropped, m.shadow.failures, m.shadow.waiting, m.shadow.difference} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}
