package httpapi

import (
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// otherEndpoint is the endpoint label of every path that is no route: labels stay bounded whatever is asked for.
const otherEndpoint = "other"

// metrics are BentoML's own, by name, label and bucket, so that dashboards made for BentoML keep working. The endpoint
// is the route's template, never the raw path.
type metrics struct {
	service, version string
	total            *prometheus.CounterVec
	duration         *prometheus.HistogramVec
	inProgress       *prometheus.GaugeVec
	last             prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer, service, version string) (*metrics, error) {
	const namespace = "bentoml_service"
	m := &metrics{service: service, version: version}
	labels := []string{"endpoint", "service_name", "service_version", "http_response_code", "runner_name"}
	m.total = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: "request_total", Help: "Requests answered, by route and status code.",
	}, labels)
	m.duration = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: namespace, Name: "request_duration_seconds", Help: "Time from the request's header to the end of its answer.",
		Buckets: []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 180},
	}, labels)
	m.inProgress = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: namespace, Name: "request_in_progress", Help: "Requests being answered now, by route.",
	}, []string{"endpoint", "service_name", "service_version", "runner_name"})
	last := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: namespace, Name: "last_request_timestamp_seconds", Help: "When the last request came, in seconds since 1970.",
	}, []string{"service_name", "service_version", "runner_name"})
	m.last = last.WithLabelValues(service, version, service)
	for _, c := range []prometheus.Collector{m.total, m.duration, m.inProgress, last} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of %s: %w", service, err)
		}
	}
	return m, nil
}

// series are the metrics of one route and status code, looked up once.
type series struct {
	total    prometheus.Counter
	duration prometheus.Observer
}

// routeMetrics are the metrics of one route.
type routeMetrics struct {
	m          *metrics
	endpoint   string
	inProgress prometheus.Gauge
	byStatus   [600]atomic.Pointer[series]
}

// route returns the metrics of an endpoint. Answers 200 and 500 exist from the start, so that a rate over them is 0 and
// not absent.
func (m *metrics) route(endpoint string, precreate bool) *routeMetrics {
	r := &routeMetrics{m: m, endpoint: endpoint, inProgress: m.inProgress.WithLabelValues(endpoint, m.service, m.version, m.service)}
	if precreate {
		r.series(http.StatusOK)
		r.series(http.StatusInternalServerError)
	}
	return r
}

func (r *routeMetrics) series(status int) *series {
	if s := r.byStatus[status].Load(); s != nil {
		return s
	}
	code := strconv.Itoa(status)
	s := &series{
		total:    r.m.total.WithLabelValues(r.endpoint, r.m.service, r.m.version, code, r.m.service),
		duration: r.m.duration.WithLabelValues(r.endpoint, r.m.service, r.m.version, code, r.m.service),
	}
	r.byStatus[status].Store(s)
	return s
}

// observe counts one answered request.
func (r *routeMetrics) observe(status int, start time.Time, took time.Duration) {
	s := r.series(status)
	s.total.Inc()
	s.duration.Observe(took.Seconds())
	r.m.last.Set(float64(start.UnixMilli()) / 1e3)
}
