// Package feedback takes what really happened to units, checks it, keeps it, and tells the error that it reveals of
// each model version.
package feedback

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"turbofan"
	"turbofan/stat"
)

// Config bounds what the service accepts and says how it measures. Zero values take the defaults named beside them,
// but for Cap.
type Config struct {
	// Cap is the label cap in cycles: the truth is clipped at it, as it was in training. Required, above 0.
	Cap float64
	// MaxBatch is the most outcomes one call may hold: 10,000.
	MaxBatch int
	// Windows are the numbers of newest scored predictions over which the metrics measure the error: 1,000 and 10,000.
	Windows []int
	// Refresh is how old a measured error may be before a scrape measures again: 10 s.
	Refresh time.Duration
}

// Service implements turbofan.FeedbackService over a store.
type Service struct {
	cfg     Config
	store   turbofan.OutcomeStore
	log     *slog.Logger
	metrics *metrics
}

var _ turbofan.FeedbackService = (*Service)(nil)

// New returns a service over store. Its metrics go to reg and its messages to log; either may be nil.
func New(cfg Config, store turbofan.OutcomeStore, reg prometheus.Registerer, log *slog.Logger) (*Service, error) {
	if !(cfg.Cap > 0) || math.IsInf(cfg.Cap, 0) {
		return nil, turbofan.Invalid("feedback.cap", "must be a finite number above 0, not %v", cfg.Cap)
	}
	if store == nil {
		return nil, errors.New("start feedback: there is no store")
	}
	if cfg.MaxBatch <= 0 {
		cfg.MaxBatch = 10_000
	}
	if len(cfg.Windows) == 0 {
		cfg.Windows = []int{1_000, 10_000}
	}
	for i, w := range cfg.Windows {
		if w < 1 {
			return nil, turbofan.Invalid(fmt.Sprintf("feedback.windows[%d]", i), "must be a whole number above 0, not %d", w)
		}
	}
	cfg.Windows = slices.Compact(slices.Sorted(slices.Values(cfg.Windows)))
	if cfg.Refresh <= 0 {
		cfg.Refresh = 10 * time.Second
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Service{cfg: cfg, store: store, log: log}
	var err error
	if s.metrics, err = newMetrics(s, reg); err != nil {
		return nil, err
	}
	return s, nil
}

// Record checks outcomes and stores them durably, all or none. The moment they were received is now, whatever they
// say. Errors name the field and the rule, with the outcome's place where the call has several.
func (s *Service) Record(ctx context.Context, outcomes []turbofan.Outcome) ([]turbofan.OutcomeReceipt, error) {
	receipts, err := s.record(ctx, outcomes)
	if err != nil {
		s.metrics.refused(err)
		return nil, err
	}
	return receipts, nil
}

func (s *Service) record(ctx context.Context, outcomes []turbofan.Outcome) ([]turbofan.OutcomeReceipt, error) {
	if len(outcomes) == 0 {
		return nil, turbofan.Invalid("outcomes", "must hold at least one outcome")
	}
	if len(outcomes) > s.cfg.MaxBatch {
		return nil, &turbofan.Error{Code: turbofan.ETooLarge, Field: "outcomes",
			Message: fmt.Sprintf("%d are more than the %d allowed in one call", len(outcomes), s.cfg.MaxBatch)}
	}
	received := slices.Clone(outcomes)
	now := time.Now()
	for i := range received {
		path := ""
		if len(received) > 1 {
			path = fmt.Sprintf("outcomes[%d].", i)
		}
		if err := validate(&received[i], path); err != nil {
			return nil, err
		}
		received[i].At = now
	}
	receipts, err := s.store.Record(ctx, received)
	if err != nil {
		return nil, fmt.Errorf("record outcomes: %w", err)
	}
	s.metrics.recorded(received, receipts, now)
	s.log.DebugContext(ctx, "outcomes recorded", "outcomes", len(received))
	return receipts, nil
}

// Outcomes returns what was recorded, in order of arrival.
func (s *Service) Outcomes(ctx context.Context, q turbofan.OutcomeQuery) ([]turbofan.Outcome, error) {
	if q.Limit < 0 {
		return nil, turbofan.Invalid("limit", "must be a whole number of at least 0, not %d", q.Limit)
	}
	if !q.Since.IsZero() && !q.Until.IsZero() && q.Until.Before(q.Since) {
		return nil, turbofan.Invalid("until", "%s is before since, %s", q.Until.Format(time.RFC3339), q.Since.Format(time.RFC3339))
	}
	return s.store.Outcomes(ctx, q)
}

// Performance returns the error of each model version over the newest last scored predictions of all versions together
// (0: all), the oldest version first. Truth is clipped at the cap, predictions are taken as they were given. Coverage
// is the share of truth within [Lower, Upper] among the predictions that have both; NaN where none has.
func (s *Service) Performance(ctx context.Context, last int) ([]turbofan.Performance, error) {
	if last < 0 {
		return nil, turbofan.Invalid("last", "must be a whole number of at least 0, not %d", last)
	}
	scored, err := s.store.Scored(ctx, turbofan.PredictionQuery{Last: last})
	if err != nil {
		return nil, fmt.Errorf("read scored predictions: %w", err)
	}
	return s.measure(scored)
}

// sample is the columns of one version's scored predictions.
type sample struct {
	units             map[string]struct{}
	rul, truth        []float64
	lower, upper, fit []float64 // fit is the truth beside the bounds
}

func (s *Service) measure(scored []turbofan.ScoredPrediction) ([]turbofan.Performance, error) {
	samples := map[string]*sample{}
	for i := range scored {
		p := &scored[i]
		if !finite(p.RUL) || !finite(p.ActualRUL) {
			continue
		}
		v, ok := samples[p.ModelVersion]
		if !ok {
			v = &sample{units: map[string]struct{}{}}
			samples[p.ModelVersion] = v
		}
		truth := min(p.ActualRUL, s.cfg.Cap)
		v.units[p.UnitID] = struct{}{}
		v.rul, v.truth = append(v.rul, p.RUL), append(v.truth, truth)
		if finite(p.Lower) && finite(p.Upper) && p.Lower <= p.Upper {
			v.lower, v.upper, v.fit = append(v.lower, p.Lower), append(v.upper, p.Upper), append(v.fit, truth)
		}
	}
	out := make([]turbofan.Performance, 0, len(samples))
	for version, v := range samples {
		p, err := v.performance(version, s.cfg.Cap)
		if err != nil {
			return nil, fmt.Errorf("measure model version %s: %w", version, err)
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b turbofan.Performance) int { return compareVersions(a.ModelVersion, b.ModelVersion) })
	return out, nil
}

func (v *sample) performance(version string, limit float64) (turbofan.Performance, error) {
	p := turbofan.Performance{ModelVersion: version, Predictions: len(v.rul), Units: len(v.units), Cap: limit, Coverage: math.NaN()}
	var err error
	if p.RMSE, err = stat.RMSE(v.rul, v.truth); err != nil {
		return p, err
	}
	if p.MAE, err = stat.MAE(v.rul, v.truth); err != nil {
		return p, err
	}
	if len(v.fit) > 0 {
		p.Coverage, err = stat.Coverage(v.lower, v.upper, v.fit)
	}
	return p, err
}

// compareVersions orders whole numbers by value, before any other names.
func compareVersions(a, b string) int {
	x, errX := strconv.Atoi(a)
	y, errY := strconv.Atoi(b)
	switch {
	case errX == nil && errY == nil:
		return cmp.Compare(x, y)
	case errX == nil:
		return -1
	case errY == nil:
		return 1
	default:
		return cmp.Compare(a, b)
	}
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
