package sqlstore

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the store's own. A nil *metrics measures nothing.
type metrics struct {
	registerer prometheus.Registerer
	registered []prometheus.Collector
	batch      prometheus.Histogram
	seconds    prometheus.Histogram
	errors     prometheus.Counter
	dropped    prometheus.Counter
}

func newMetrics(registerer prometheus.Registerer, length func() float64) (*metrics, error) {
	if registerer == nil {
		return nil, nil
	}
	m := &metrics{
		registerer: registerer,
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "turbofan_store_batch_records", Help: "Prediction records written by one commit.",
			Buckets: []float64{0, 1, 3, 10, 30, 100, 300, 1000, 3000, 10000},
		}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "turbofan_store_commit_seconds", Help: "Time to write and sync one commit.",
			Buckets: []float64{.0003, .001, .003, .01, .03, .1, .3, 1, 3, 10},
		}),
		errors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "turbofan_store_commit_errors_total", Help: "Commits that failed; their records are tried again.",
		}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "turbofan_store_dropped_records_total", Help: "Prediction records that the database refused for good.",
		}),
	}
	queue := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "turbofan_store_queue_records", Help: "Prediction records that wait to be written.",
	}, length)
	for _, c := range []prometheus.Collector{queue, m.batch, m.seconds, m.errors, m.dropped} {
		if err := registerer.Register(c); err != nil {
			m.unregister()
			return nil, fmt.Errorf("register the store's metrics: %w", err)
		}
		m.registered = append(m.registered, c)
	}
	return m, nil
}

func (m *metrics) committed(records int, took time.Duration, err error) {
	if m == nil {
		return
	}
	if err != nil {
		m.errors.Inc()
		return
	}
	m.batch.Observe(float64(records))
	m.seconds.Observe(took.Seconds())
}

// watch shows at each scrape whether the store is there.
func (m *metrics) watch(ready func(context.Context) error) error {
	if m == nil {
		return nil
	}
	up := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "turbofan_store_up", Help: "1 while the store answers and takes writes, 0 while it does not.",
	}, func() float64 {
		if ready(context.Background()) != nil {
			return 0
		}
		return 1
	})
	if err := m.registerer.Register(up); err != nil {
		return fmt.Errorf("register the store's metrics: %w", err)
	}
	m.registered = append(m.registered, up)
	return nil
}

func (m *metrics) drop(records int) {
	if m != nil {
		m.dropped.Add(float64(records))
	}
}

// unregister takes the metrics out again, so that a store can be opened anew over the same registry.
func (m *metrics) unregister() {
	if m == nil {
		return
	}
	for _, c := range m.registered {
		m.registerer.Unregister(c)
	}
}
