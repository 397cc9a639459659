package drift

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"turbofan"
)

// Stores are where the service reads and writes. Predictions and Outcomes may be nil: what they tell is then unknown.
type Stores struct {
	Readings    turbofan.ReadingStore
	Predictions turbofan.PredictionStore
	Outcomes    turbofan.OutcomeStore
	Reports     turbofan.DriftStore
	// Leases let replicas take turns; nil where this process is alone.
	Leases turbofan.LeaseStore
}

// Service implements turbofan.DriftService. All that it must remember stands in the stores, so that a restart changes
// nothing.
type Service struct {
	cfg      Config
	registry turbofan.Registry
	stores   Stores
	retrain  turbofan.RetrainingService
	log      *slog.Logger
	metrics  *metrics
	id       string // of this process, among the replicas

	// turn holds one token; who has it may check, and touch what follows.
	turn      chan struct{}
	loaded    *loaded
	untrained turbofan.Outage // of the retraining service

	away turbofan.Outage // of what the schedule needs; only Run touches it
}

var _ turbofan.DriftService = (*Service)(nil)

// New returns a service that checks the readings of stores against the version that registry calls by the alias.
// Without retrain it only reports. Its metrics go to reg and its messages to log; either may be nil.
func New(cfg Config, registry turbofan.Registry, stores Stores, retrain turbofan.RetrainingService, reg prometheus.Registerer, log *slog.Logger) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	switch {
	case registry == nil:
		return nil, errors.New("start drift detector: there is no registry")
	case stores.Readings == nil:
		return nil, errors.New("start drift detector: there is no store of readings")
	case stores.Reports == nil:
		return nil, errors.New("start drift detector: there is no store of reports")
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Service{cfg: cfg, registry: registry, stores: stores, retrain: retrain, log: log, id: newID(), turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	var err error
	if s.metrics, err = newMetrics(reg); err != nil {
		return nil, err
	}
	return s, nil
}

// Check judges the newest readings now, stores the report and, where the verdict is drift, asks for a retraining. One
// check runs at a time, however many replicas share the store; others wait for their turn, at most as long as ctx lets
// them. Errors: ENotFound while no version has the alias, EUnavailable when its reference cannot be used, and what the
// stores answer.
func (s *Service) Check(ctx context.Context) (turbofan.DriftReport, error) {
	report, _, err := s.checkIf(ctx, func(context.Context) bool { return true })
	return report, err
}

// checkIf checks where, once it is this process's turn, due says that there is still something to check.
func (s *Service) checkIf(ctx context.Context, due func(context.Context) bool) (report turbofan.DriftReport, checked bool, err error) {
	release, err := s.takeTurn(ctx)
	if err != nil {
		return turbofan.DriftReport{}, false, err
	}
	defer release()
	if !due(ctx) {
		return turbofan.DriftReport{}, false, nil
	}
	if report, err = s.check(ctx); err != nil {
		s.metrics.failed()
		return turbofan.DriftReport{}, true, err
	}
	return report, true, nil
}

const (
	leaseName = "drift-check"
	// leaseFor is how long a replica that died in a check holds the others up.
	leaseFor = 20 * time.Second
	// leasePoll is how often a waiting replica asks whether it is its turn.
	leasePoll = 100 * time.Millisecond
)

// takeTurn waits until neither this process nor a replica checks.
func (s *Service) takeTurn(ctx context.Context) (func(), error) {
	select {
	case <-s.turn:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	release := func() { s.turn <- struct{}{} }
	if s.stores.Leases == nil {
		return release, nil
	}
	for {
		got, err := s.stores.Leases.Acquire(ctx, leaseName, s.id, leaseFor)
		if err != nil { // it may have been given all the same
			err = errors.Join(err, s.stores.Leases.Release(context.WithoutCancel(ctx), leaseName, s.id))
			release()
			return nil, fmt.Errorf("wait for other drift checks: %w", err)
		}
		if got {
			break
		}
		timer := time.NewTimer(leasePoll)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			release()
			return nil, ctx.Err()
		}
	}
	return func() {
		if err := s.stores.Leases.Release(context.WithoutCancel(ctx), leaseName, s.id); err != nil {
			s.log.WarnContext(ctx, "drift lease stays until it ends", "error", err)
		}
		release()
	}, nil
}

func (s *Service) check(ctx context.Context) (turbofan.DriftReport, error) {
	start := time.Now()
	l, err := s.load(ctx)
	if err != nil {
		return turbofan.DriftReport{}, err
	}
	if err := s.learn(ctx, l); err != nil {
		return turbofan.DriftReport{}, err
	}
	previous, err := s.stores.Reports.Reports(ctx, 1)
	if err != nil {
		return turbofan.DriftReport{}, fmt.Errorf("read last drift report: %w", err)
	}
	window, err := s.collect(ctx, l)
	if err != nil {
		return turbofan.DriftReport{}, err
	}
	evidence, err := s.evidence(ctx, l, previous)
	if err != nil {
		return turbofan.DriftReport{}, err
	}
	report, err := window.Judge(evidence)
	if err != nil {
		return report, err
	}
	report.At = start.UTC()
	report.ModelName, report.ModelVersion = l.version.Name, l.version.Version
	report.ID = newID()
	s.announce(ctx, l, report.NewConditions)
	if report.Verdict == turbofan.Drifted {
		if err := s.trigger(ctx, &report); err != nil {
			return report, err
		}
	}
	report.Seconds = time.Since(start).Seconds()
	if err := s.stores.Reports.SaveReport(ctx, report); err != nil {
		return report, fmt.Errorf("save drift report: %w", err)
	}
	again := len(previous) > 0 && previous[0].Verdict == turbofan.Drifted && sameModel(&previous[0], l)
	if s.cfg.Events != nil && report.Verdict == turbofan.Drifted && !again {
		s.cfg.Events.Publish(ctx, turbofan.Event{Kind: turbofan.EventDrift, At: report.At, Because: report.Because, ModelName: report.ModelName,
			ModelVersion: report.ModelVersion, ReportID: report.ID, JobID: report.RetrainingJob})
	}
	s.metrics.checked(&report, l.unseen())
	s.log.InfoContext(ctx, "drift checked", "verdict", report.Verdict, "because", report.Because, "version", report.ModelVersion,
		"job", report.RetrainingJob, "seconds", report.Seconds)
	return report, nil
}

func sameModel(r *turbofan.DriftReport, l *loaded) bool {
	return r.ModelName == l.version.Name && r.ModelVersion == l.version.Version
}

// windowPage is how many readings of a window one query asks for.
const windowPage = 5000

// collect reads the newest readings.
func (s *Service) collect(ctx context.Context, l *loaded) (*Collector, error) {
	c, err := NewCollector(l.reference, l.conditions.Unseen(), s.cfg)
	if err != nil {
		return nil, err
	}
	return c, s.newest(ctx, s.cfg.Window, c.Add)
}

// newest gives the newest n readings to f, page by page in order of arrival.
func (s *Service) newest(ctx context.Context, n int, f func([]turbofan.StoredReading) error) error {
	q := turbofan.ReadingQuery{Last: n, Limit: min(windowPage, n)}
	for left := n; left > 0; {
		page, err := s.stores.Readings.Readings(ctx, q)
		if err != nil {
			return fmt.Errorf("read window: %w", err)
		}
		if err := f(page); err != nil {
			return err
		}
		if len(page) < q.Limit {
			break
		}
		left -= len(page) // what arrives meanwhile is the next window's
		q = turbofan.ReadingQuery{AfterSeq: page[len(page)-1].Seq, Limit: min(windowPage, left)}
	}
	return nil
}

// evidence reads what is judged beside the readings.
func (s *Service) evidence(ctx context.Context, l *loaded, previous []turbofan.DriftReport) (w Evidence, err error) {
	for _, r := range previous {
		w.Drifting = r.Verdict == turbofan.Drifted && float64(r.Score) > r.Threshold && sameModel(&r, l)
	}
	if s.stores.Outcomes != nil {
		q := turbofan.PredictionQuery{ModelVersion: l.version.Version, Last: s.cfg.ScoredRows}
		if w.Scored, err = s.stores.Outcomes.Scored(ctx, q); err != nil {
			return w, fmt.Errorf("read scored predictions: %w", err)
		}
	}
	if s.stores.Predictions != nil {
		q := turbofan.PredictionQuery{ModelVersion: l.version.Version, Last: min(s.cfg.Window, maxScored)}
		if w.Predictions, err = s.stores.Predictions.Predictions(ctx, q); err != nil {
			return w, fmt.Errorf("read predictions: %w", err)
		}
	}
	return w, nil
}

// announce logs a condition that training never saw, once for each version of the model: it is an event of its own,
// and cannot be seen in the sensors, because they are normalised by it.
func (s *Service) announce(ctx context.Context, l *loaded, conditions []turbofan.NewCondition) {
	for _, c := range conditions {
		if l.announced.Find(c.Settings) >= 0 {
			continue
		}
		l.announced.add(c.Settings)
		s.log.WarnContext(ctx, "operating condition that the model never saw in training", "settings", c.Settings,
			"rows", c.Rows, "units", c.Units, "version", l.version.Version)
	}
}

// Reports returns the newest reports, newest first.
func (s *Service) Reports(ctx context.Context, limit int) ([]turbofan.DriftReport, error) {
	if limit < 0 {
		return nil, turbofan.Invalid("limit", "must be a whole number of at least 0, not %d", limit)
	}
	return s.stores.Reports.Reports(ctx, limit)
}

// Ready says whether a check could judge now: the store answers and a version has the alias.
func (s *Service) Ready(ctx context.Context) error {
	if _, err := s.stores.Reports.Reports(ctx, 1); err != nil {
		return fmt.Errorf("read last drift report: %w", err)
	}
	_, err := s.resolve(ctx)
	return err
}

func newID() string {
	var b [12]byte
	rand.Read(b[:]) // never fails, see crypto/rand
	return "drift-" + hex.EncodeToString(b[:])
}
