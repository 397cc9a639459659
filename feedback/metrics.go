package feedback

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"turbofan"
)

// scrapeTimeout bounds how long a scrape waits for the store.
const scrapeTimeout = 5 * time.Second

// metrics counts outcomes as they come and measures the error of each version when it is scraped.
type metrics struct {
	count      *prometheus.CounterVec
	duplicates prometheus.Counter
	errors     *prometheus.CounterVec
	newest     prometheus.Gauge
}

func newMetrics(s *Service, reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		count: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "feedback_count_total", Help: "Outcomes stored, by kind.",
		}, []string{"kind"}),
		duplicates: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "feedback_duplicates_total", Help: "Outcomes that were stored already.",
		}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "feedback_errors_total", Help: "Calls whose outcomes were not stored, by error code.",
		}, []string{"code"}),
		newest: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "feedback_last_timestamp_seconds", Help: "When the newest outcome came, in seconds since 1970; 0 for none since the start.",
		}),
	}
	for _, kind := range [...]string{kindFailure, kindActual, eventMaintenance, eventInspection, turbofan.EventWithdrawn} {
		m.count.WithLabelValues(kind)
	}
	// From the start, so that the first failure is an increase.
	for _, code := range [...]string{turbofan.EInvalid, turbofan.ENotFound, turbofan.ETooLarge, turbofan.EUnavailable, turbofan.EInternal} {
		m.errors.WithLabelValues(code)
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.count, m.duplicates, m.errors, m.newest, newPerformanceCollector(s)} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register feedback metrics: %w", err)
		}
	}
	return m, nil
}

// The kinds of outcome that carry a truth; the others are named by their event.
const (
	kindFailure = "failure"
	kindActual  = "actual_rul"
)

func kind(o *turbofan.Outcome) string {
	switch {
	case o.Withdraws():
		return o.Event
	case o.FailedAtCycle != nil:
		return kindFailure
	case o.ActualRUL != nil:
		return kindActual
	default:
		return o.Event
	}
}

func (m *metrics) recorded(outcomes []turbofan.Outcome, receipts []turbofan.OutcomeReceipt, at time.Time) {
	for i := range receipts {
		if receipts[i].Duplicate {
			m.duplicates.Inc()
			continue
		}
		m.count.WithLabelValues(kind(&outcomes[i])).Inc()
		m.newest.Set(float64(at.UnixMilli()) / 1000)
	}
}

func (m *metrics) refused(err error) { m.errors.WithLabelValues(turbofan.ErrorCode(err)).Inc() }

// performanceCollector measures the error of each version over the newest scored predictions. It asks the store when it
// is scraped and not when an outcome comes, so that a burst of outcomes does not read ten thousand predictions each.
type performanceCollector struct {
	service                    *Service
	rmse, mae, coverage, count *prometheus.Desc

	mu       sync.Mutex
	measured time.Time
	metrics  []prometheus.Metric
}

func newPerformanceCollector(s *Service) *performanceCollector {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(name, help+" over the newest scored predictions of all versions, as many as window says.",
			[]string{"model_version", "window"}, nil)
	}
	return &performanceCollector{
		service:  s,
		rmse:     desc("turbofan_rmse", "Root mean squared error in cycles, truth clipped at the cap,"),
		mae:      desc("turbofan_mae", "Mean absolute error in cycles, truth clipped at the cap,"),
		coverage: desc("turbofan_interval_coverage", "Share of truth within the predicted interval"),
		count:    desc("turbofan_scored_predictions", "How many predictions have a known truth"),
	}
}

// Describe implements prometheus.Collector.
func (c *performanceCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.rmse
	ch <- c.mae
	ch <- c.coverage
	ch <- c.count
}

// Collect implements prometheus.Collector.
func (c *performanceCollector) Collect(ch chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); c.measured.IsZero() || now.Sub(c.measured) >= c.service.cfg.Refresh {
		metrics, err := c.measure()
		if err != nil {
			// A stale error would look like a measured one: rather none.
			c.service.log.Error("error of the model not measured", "error", err)
			c.measured, c.metrics = time.Time{}, nil
			return
		}
		c.measured, c.metrics = now, metrics
	}
	for _, m := range c.metrics {
		ch <- m
	}
}

func (c *performanceCollector) measure() ([]prometheus.Metric, error) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	scored, err := c.service.store.Scored(ctx, turbofan.PredictionQuery{Last: slices.Max(c.service.cfg.Windows)})
	if err != nil {
		return nil, err
	}
	var out []prometheus.Metric
	for _, window := range c.service.cfg.Windows {
		performance, err := c.service.measure(scored[max(0, len(scored)-window):])
		if err != nil {
			return nil, err
		}
		for _, p := range performance {
			for _, g := range [...]struct {
				desc  *prometheus.Desc
				value float64
			}{{c.rmse, p.RMSE}, {c.mae, p.MAE}, {c.coverage, p.Coverage}, {c.count, float64(p.Predictions)}} {
				if math.IsNaN(g.value) {
					continue // unknown, and no number says that
				}
				m, err := prometheus.NewConstMetric(g.desc, prometheus.GaugeValue, g.value, p.ModelVersion, strconv.Itoa(window))
				if err != nil {
					return nil, err
				}
				out = append(out, m)
			}
		}
	}
	return out, nil
}
