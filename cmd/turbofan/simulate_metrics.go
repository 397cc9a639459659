package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"turbofan"
	"turbofan/httpapi"
	"turbofan/simulate"
)

// streamMetrics tell where a stream is, so that a dashboard can mark the quarters.
type streamMetrics struct {
	plan     *simulate.Plan
	quarters []simulate.Quarter
	reg      *prometheus.Registry
	now      *prometheus.GaugeVec
	position prometheus.Gauge
	readings *prometheus.CounterVec
	outcomes *prometheus.CounterVec
}

func newStreamMetrics(plan *simulate.Plan, quarters []simulate.Quarter) (*streamMetrics, error) {
	m := &streamMetrics{plan: plan, quarters: quarters, reg: prometheus.NewRegistry(),
		now: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "turbofan_simulator_quarter_info", Help: "The quarter that is streamed now; always 1.",
		}, []string{"quarter", "subset"}),
		position: prometheus.NewGauge(prometheus.GaugeOpts{Name: "turbofan_simulator_position_ratio", Help: "How much of the stream is behind, from 0 to 1."}),
		readings: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "turbofan_simulator_readings_total", Help: "Readings sent, by result: answered or failed.",
		}, []string{"result"}),
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "turbofan_simulator_outcomes_total", Help: "Outcomes sent, by result: answered or failed.",
		}, []string{"result"}),
	}
	for _, c := range []prometheus.Collector{m.now, m.position, m.readings, m.outcomes} {
		if err := m.reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of the simulator: %w", err)
		}
	}
	for _, vec := range []*prometheus.CounterVec{m.readings, m.outcomes} {
		result(vec, nil).Add(0)
		result(vec, http.ErrServerClosed).Add(0) // a rate over failures is 0 and not absent
	}
	return m, nil
}

func result(vec *prometheus.CounterVec, err error) prometheus.Counter {
	if err != nil {
		return vec.WithLabelValues("failed")
	}
	return vec.WithLabelValues("answered")
}

// watch adds the metrics to what r tells already.
func (m *streamMetrics) watch(r *simulate.Runner) {
	hooks := r.Hooks
	r.Hooks.Tick = func(ctx context.Context, tick int) error {
		m.tick(tick)
		return hooks.Tick(ctx, tick)
	}
	r.Hooks.Sent = func(e simulate.Event) {
		result(m.readings, e.Err).Inc()
		hooks.Sent(e)
	}
	r.Hooks.Outcome = func(o turbofan.Outcome, err error) {
		result(m.outcomes, err).Inc()
		hooks.Outcome(o, err)
	}
}

func (m *streamMetrics) tick(tick int) {
	m.position.Set(float64(tick) / float64(max(1, m.plan.Ticks)))
	at := 0
	for i, from := range m.plan.Boundaries {
		if tick >= from {
			at = i
		}
	}
	m.now.Reset()
	m.now.WithLabelValues(m.quarters[at].Name, m.quarters[at].Subset).Set(1)
}

// serve answers GET /metrics at addr until ctx ends. It returns the address, and what waits for the end.
func (m *streamMetrics) serve(ctx context.Context, addr string, log *slog.Logger) (url string, wait func() error, err error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "", nil, turbofan.Wrap(turbofan.EUnavailable, err, "--listen: cannot listen on %s", addr)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.reg, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	done := make(chan error, 1)
	go func() { done <- httpapi.Serve(ctx, l, mux, httpapi.ServeOptions{Logger: log}) }()
	return "http://" + l.Addr().String() + "/metrics", func() error { return <-done }, nil
}
