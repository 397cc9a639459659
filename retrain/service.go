// Package retrain turns what production has taught into a challenger, judges it beside the champion on the same units,
// and promotes it where it is better. One job runs at a time, however many processes share the store, and survives the
// end of the one that works on it.
//
// A job learns from the baseline and from every production unit whose end is known and can be trusted. The gate lets
// champion and challenger answer the same units, each unit by models that had not learned from it: on new units the
// challenger must be better in most bootstrap resamples over units, on known ones and over all it must not be much worse.
// Too little data, or a gate that says no, is an end like another, with its reason on the job. After a promotion the
// champion before it is asked about the units that have ended since; where it is better beyond chance it is put back.
package retrain

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"turbofan"
	"turbofan/model"
)

// Config is what the service is told.
type Config struct {
	ModelName  string
	Alias      string
	Experiment string
	// WorkDir holds challengers while they are made, and the champion while it is judged. Services over one store may share it.
	WorkDir string
	Model   model.Config
	// MinNewUnits is the least number of units with a known end that the champion has not learned from and its own job had
	// not left out; with fewer a job is refused, unless it is forced.
	MinNewUnits int
	Gate        Gate
	// Every is how often a job is submitted without anybody asking, counted from the newest job; 0 is never.
	Every time.Duration
	Watch Watch
	// RunTags are further tags of every run, such as where the program came from.
	RunTags map[string]string
	// Illustrate writes pictures of a new challenger into a folder, to be kept with its run; nil draws none.
	Illustrate func(m *model.Model, dir string) error
	// Lease is how long after a process was last heard of another one takes over its job: 30 s.
	Lease time.Duration
	// Events hears of jobs that start and end, of promotions and of rollbacks; nil means nobody listens.
	Events turbofan.EventSink
}

// Watch is the rule by which a champion that turned out worse than the one before it is taken back. Both answer, one of
// them silently, on the stored readings of units that ended after the champion's data cut-off.
type Watch struct {
	// Units is the least number of such units; 0 watches nothing.
	Units int
	// Confidence is the least share of bootstrap resamples in which the champion before is better.
	Confidence float64
}

// Gate is the rule by which a challenger becomes champion. RMSEs are over all readings of units that neither model was
// trained on, truth clipped at the label cap.
type Gate struct {
	// MaxRatio bounds the challenger's RMSE over all units as a multiple of the champion's.
	MaxRatio float64
	// MinBetter is the least share of bootstrap resamples in which the challenger is better on new units.
	MinBetter float64
	// Margin bounds the challenger's RMSE on units the champion knows, as a multiple of the champion's.
	Margin float64
}

// DefaultConfig returns a service that trains boosting from sixteen new units on.
func DefaultConfig() Config {
	return Config{ModelName: "rul", Alias: turbofan.ChampionAlias, Experiment: "rul", Model: model.DefaultConfig(model.Boosting),
		MinNewUnits: 16, Gate: Gate{MaxRatio: 1.1, MinBetter: 0.9, Margin: 1.1},
		Watch: Watch{Units: 16, Confidence: 0.99}, Lease: 30 * time.Second}
}

func (c Config) validate() error {
	switch {
	case c.ModelName == "" || c.Alias == "":
		return turbofan.Invalid("retrain.model_name", "and alias must be given")
	case c.Experiment == "":
		return turbofan.Invalid("retrain.experiment", "is missing")
	case c.WorkDir == "":
		return turbofan.Invalid("retrain.work_dir", "is missing")
	case c.MinNewUnits < 1:
		return turbofan.Invalid("retrain.min_new_units", "must be at least 1")
	case c.Gate.MaxRatio <= 0 || c.Gate.Margin <= 0:
		return turbofan.Invalid("retrain.gate", "max_ratio and margin must be above 0")
	case c.Gate.MinBetter < 0 || c.Gate.MinBetter > 1:
		return turbofan.Invalid("retrain.gate.min_better", "must be from 0 to 1")
	case c.Every < 0:
		return turbofan.Invalid("retrain.every", "must be at least 0")
	case c.Lease < 10*time.Millisecond:
		return turbofan.Invalid("retrain.lease", "must be at least 10ms, not %s", c.Lease)
	case c.Watch.Units < 0 || c.Watch.Units == 1:
		return turbofan.Invalid("retrain.watch.units", "must be 0 or at least 2")
	case c.Watch.Units > 0 && !(c.Watch.Confidence > 0.5 && c.Watch.Confidence <= 1):
		return turbofan.Invalid("retrain.watch.confidence", "must be above 0.5 and at most 1")
	}
	return c.Model.Validate()
}

// Stores are what a job reads and writes.
type Stores struct {
	Readings turbofan.ReadingStore
	Outcomes turbofan.OutcomeStore
	Jobs     turbofan.JobStore
	// Leases let several processes take turns; nil where this one is alone.
	Leases turbofan.LeaseStore
}

// Baseline returns the training data that every model learns from, beside production's. Nil units mean that there is
// none: production data alone must do.
type Baseline func(ctx context.Context) (model.Data, error)

// Service implements turbofan.RetrainingService.
type Service struct {
	cfg      Config
	registry turbofan.Registry
	tracking turbofan.Tracking
	stores   Stores
	baseline Baseline
	log      *slog.Logger
	metrics  metrics
	wake     chan struct{}
	began    time.Time
	id       string // of this process, among those that share the store
	watched  looked // by Run alone

	mu      sync.Mutex
	running string             // id of the job that runs here
	cancel  context.CancelFunc // of that job
}

var _ turbofan.RetrainingService = (*Service)(nil)

// New returns a service; its jobs are worked on by Run. It makes WorkDir. A nil reg keeps no metrics; log must be there. A
// configuration that breaks a rule is EInvalid.
func New(cfg Config, registry turbofan.Registry, tracking turbofan.Tracking, stores Stores, baseline Baseline, reg prometheus.Registerer, log *slog.Logger) (*Service, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.WorkDir, 0o755); err != nil {
		return nil, fmt.Errorf("open retraining service: %w", err)
	}
	m, err := newMetrics(reg, stores.Jobs, log)
	if err != nil {
		return nil, fmt.Errorf("open retraining service: %w", err)
	}
	return &Service{cfg: cfg, registry: registry, tracking: tracking, stores: stores, baseline: baseline, log: log, metrics: m, wake: make(chan struct{}, 1), began: time.Now(), id: newID()}, nil
}

// Submit creates a job; EConflict, naming it, when one is active, EInvalid for a reason of more than 2,000 bytes.
func (s *Service) Submit(ctx context.Context, req turbofan.RetrainRequest) (turbofan.Job, error) {
	const maxReason = 2000
	if len(req.Reason) > maxReason {
		return turbofan.Job{}, turbofan.Invalid("reason", "has %d bytes, more than the %d allowed", len(req.Reason), maxReason)
	}
	j := turbofan.Job{ID: newID(), Status: turbofan.JobPending, Reason: req.Reason, Trigger: req.Trigger, Force: req.Force, CreatedAt: time.Now().UTC()}
	if j.Trigger == "" {
		j.Trigger = "manual"
	}
	if j.Reason == "" {
		j.Reason = j.Trigger
	}
	if err := s.stores.Jobs.CreateJob(ctx, j); err != nil {
		return turbofan.Job{}, err
	}
	s.log.Info("retraining submitted", "job", j.ID, "trigger", j.Trigger, "reason", j.Reason)
	s.poke()
	return j, nil
}

func (s *Service) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Job returns a job by its id, or ENotFound.
func (s *Service) Job(ctx context.Context, id string) (turbofan.Job, error) {
	return s.stores.Jobs.Job(ctx, id)
}

// Jobs returns the newest jobs, newest first.
func (s *Service) Jobs(ctx context.Context, limit int) ([]turbofan.Job, error) {
	return s.stores.Jobs.Jobs(ctx, limit)
}

// Cancel stops a job that waits or runs. A running one stops at its next step and leaves nothing behind.
func (s *Service) Cancel(ctx context.Context, id string) (turbofan.Job, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j, err := s.stores.Jobs.Job(ctx, id)
	if err != nil {
		return turbofan.Job{}, err
	}
	if !j.Status.Active() {
		return j, turbofan.Errorf(turbofan.EConflict, "job %s has ended: %s", id, j.Status)
	}
	j.Status, j.EndedAt, j.Error = turbofan.JobCancelled, time.Now().UTC(), "cancelled on request"
	if err := s.stores.Jobs.UpdateJob(ctx, j); err != nil {
		return turbofan.Job{}, err
	}
	if s.running == id {
		s.cancel()
	}
	return j, nil
}

// tickEvery is how often Run looks for jobs that another process submitted, and at the champion.
const tickEvery = 5 * time.Second

// Run works on jobs until ctx ends, first on one that a stopped process left unfinished, from its beginning; between jobs
// it watches the champion and submits by schedule. Of several processes one at a time does. A job that runs when ctx ends
// goes back to pending, so that the next process takes it up.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	var away turbofan.Outage
	for {
		err := s.turn(ctx)
		fault := away.Fault(err, time.Now())
		switch {
		case err == nil || ctx.Err() != nil:
		case fault:
			s.log.Error("retraining", "error", err)
		default:
			s.log.Warn("retraining waits for another part", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		case <-tick.C:
		}
	}
}

// schedule submits a job when the newest one is old enough. The first is due that long after the start.
func (s *Service) schedule(ctx context.Context) error {
	if s.cfg.Every == 0 {
		return nil
	}
	jobs, err := s.stores.Jobs.Jobs(ctx, 1)
	if err != nil {
		return err
	}
	last := s.began
	if len(jobs) > 0 {
		if jobs[0].Status.Active() {
			return nil
		}
		last = jobs[0].CreatedAt
	}
	if time.Since(last) < s.cfg.Every {
		return nil
	}
	_, err = s.Submit(ctx, turbofan.RetrainRequest{Trigger: "schedule", Reason: fmt.Sprintf("schedule: every %s", s.cfg.Every)})
	if turbofan.ErrorCode(err) == turbofan.EConflict { // somebody was faster
		return nil
	}
	return err
}

// work runs the active job, if there is one.
func (s *Service) work(ctx context.Context) error {
	jobs, err := s.stores.Jobs.Jobs(ctx, 20)
	if err != nil {
		return err
	}
	for _, j := range jobs {
		if j.Status.Active() {
			return s.runJob(ctx, j)
		}
	}
	return nil
}

func (s *Service) runJob(ctx context.Context, j turbofan.Job) error {
	jobCtx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	cancel := func() { stop(context.Canceled) }
	err := s.start(ctx, &j, cancel)
	if turbofan.ErrorCode(err) == turbofan.EConflict { // cancelled in another process meanwhile
		s.stop()
		return nil
	}
	if err != nil || !j.Status.Active() {
		return err
	}
	defer s.stop()
	defer s.hold(jobCtx, j.ID, stop)()
	if err := s.sweep(j.ID); err != nil {
		s.log.Warn("scratch of the job before stays", "job", j.ID, "error", err)
	}
	result, err := s.resume(jobCtx, &j)
	if result == nil && err == nil {
		result, err = s.train(jobCtx, &j)
	}
	return s.settle(ctx, jobCtx, &j, result, err)
}

// settleFor is how long the end of a job may wait for the stores.
const settleFor = time.Minute

// settle promotes a challenger that passed and writes down how the job ended. It excludes Cancel: a job is either
// cancelled, and then nothing is promoted, or it has ended when Cancel comes.
func (s *Service) settle(ctx, jobCtx context.Context, j *turbofan.Job, result *turbofan.RetrainResult, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	// What is decided is also done. It takes no time, unless a store does not answer: the next turn then does it.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleFor)
	defer cancel()
	turn := context.Cause(jobCtx)
	if ctx.Err() == nil && !errors.Is(turn, errLostTurn) {
		if turn = s.mine(last); turn != nil && !errors.Is(turn, errLostTurn) {
			return fmt.Errorf("end job %s: %w", j.ID, turn) // the next turn resumes it
		}
	}
	if errors.Is(turn, errLostTurn) { // another process works on the job
		s.log.Warn("retraining left to another process", "job", j.ID)
		return nil
	}
	if jobCtx.Err() != nil && ctx.Err() == nil || s.cancelled(last, j) {
		s.metrics.jobs.WithLabelValues(string(turbofan.JobCancelled)).Inc()
		s.log.Info("retraining cancelled", "job", j.ID)
		return nil
	}
	if err != nil && ctx.Err() != nil { // the process ends, not the job
		stored, err := s.stores.Jobs.Job(last, j.ID)
		if err != nil || !stored.Status.Active() {
			return err
		}
		j.Status, j.Stage, j.Progress = turbofan.JobPending, "", 0
		return s.stores.Jobs.UpdateJob(last, *j)
	}
	if err == nil && result.Promoted {
		err = s.promote(last, result)
	}
	j.EndedAt = time.Now().UTC()
	s.conclude(j, result, err)
	return s.stores.Jobs.UpdateJob(last, *j)
}

// promote moves the alias, unless somebody moved it while the job ran: the challenger was not judged beside that one.
func (s *Service) promote(ctx context.Context, r *turbofan.RetrainResult) error {
	now := ""
	v, err := s.registry.Version(ctx, s.cfg.ModelName, "@"+s.cfg.Alias)
	if err == nil {
		now = v.Version
	} else if turbofan.ErrorCode(err) != turbofan.ENotFound {
		return fmt.Errorf("resolve champion: %w", err)
	}
	switch now {
	case r.ModelVersion: // a process died between this and writing it down
		return nil
	case r.Champion:
		if err := s.registry.SetAlias(ctx, s.cfg.ModelName, s.cfg.Alias, r.ModelVersion); err != nil {
			return fmt.Errorf("promote version %s: %w", r.ModelVersion, err)
		}
		s.record(ctx, turbofan.ModelChange{From: r.Champion, To: r.ModelVersion, Because: r.Because})
		return nil
	}
	r.Promoted = false
	r.Because = fmt.Sprintf("not promoted: version %s became champion while the job ran, the challenger was judged beside %s; %s", named(now), named(r.Champion), r.Because)
	return s.registry.SetVersionTags(ctx, s.cfg.ModelName, r.ModelVersion, map[string]string{tagGate: gateRefused})
}

// record writes a change of champion down, for a rollback by hand. The change is made either way.
func (s *Service) record(ctx context.Context, c turbofan.ModelChange) {
	c.ModelName, c.At = s.cfg.ModelName, time.Now().UTC()
	if err := c.Record(ctx, s.registry); err != nil {
		s.log.Warn("write down the change of champion", "error", err)
	}
}

func named(version string) string {
	if version == "" {
		return "none"
	}
	return version
}

func (s *Service) start(ctx context.Context, j *turbofan.Job, cancel context.CancelFunc) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh, err := s.stores.Jobs.Job(ctx, j.ID)
	if err != nil {
		return err
	}
	*j = fresh
	if !j.Status.Active() {
		return nil
	}
	j.Status, j.StartedAt, j.Progress = turbofan.JobInProgress, time.Now().UTC(), 0
	s.running, s.cancel = j.ID, cancel
	return s.stores.Jobs.UpdateJob(ctx, *j)
}

func (s *Service) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running, s.cancel = "", nil
}

func (s *Service) conclude(j *turbofan.Job, result *turbofan.RetrainResult, err error) {
	switch {
	case err == nil:
		j.Status, j.Result, j.Progress, j.Stage = turbofan.JobSuccess, result, 1, "done"
		j.Result.Seconds = j.EndedAt.Sub(j.StartedAt).Seconds()
		s.log.Info("retraining done", "job", j.ID, "version", result.ModelVersion, "promoted", result.Promoted, "because", result.Because, "seconds", j.Result.Seconds)
	case turbofan.ErrorCode(err) == turbofan.EInsufficient:
		j.Status, j.Error = turbofan.JobRefused, turbofan.ErrorMessage(err)
		s.log.Info("retraining refused", "job", j.ID, "because", j.Error)
	default:
		j.Status, j.Error = turbofan.JobFailure, turbofan.ErrorMessage(err)
		s.log.Error("retraining failed", "job", j.ID, "error", err)
	}
	s.tell(ended(j), j)
	s.metrics.jobs.WithLabelValues(string(j.Status)).Inc()
	if err == nil && result.Promoted {
		s.metrics.promotions.Inc()
	}
	s.metrics.seconds.Observe(j.EndedAt.Sub(j.StartedAt).Seconds())
}

// ended is what the end of a job is to a listener.
func ended(j *turbofan.Job) turbofan.EventKind {
	switch {
	case j.Status == turbofan.JobFailure:
		return turbofan.EventFailed
	case j.Result != nil && j.Result.Promoted:
		return turbofan.EventPromoted
	}
	return turbofan.EventRefused
}

func (s *Service) tell(kind turbofan.EventKind, j *turbofan.Job) {
	if s.cfg.Events == nil {
		return
	}
	e := turbofan.Event{Kind: kind, At: time.Now().UTC(), Because: j.Error, ModelName: s.cfg.ModelName, JobID: j.ID}
	if kind == turbofan.EventRetraining {
		e.Because = j.Reason
	}
	if j.Result != nil {
		e.Because, e.ModelVersion = j.Result.Because, j.Result.ModelVersion
	}
	s.cfg.Events.Publish(context.Background(), e)
}

// report saves how far the job is. A job that was cancelled meanwhile keeps that state.
func (s *Service) report(ctx context.Context, j *turbofan.Job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	err := s.stores.Jobs.UpdateJob(ctx, *j)
	if turbofan.ErrorCode(err) == turbofan.EConflict && s.running == j.ID { // cancelled in another process
		s.cancel()
		return
	}
	if err != nil && ctx.Err() == nil {
		s.log.Warn("save job progress", "job", j.ID, "error", err)
	}
}

func newID() string {
	var b [8]byte
	rand.Read(b[:]) // never fails, see crypto/rand
	return hex.EncodeToString(b[:])
}
