package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"turbofan"
	"turbofan/mlflow"
)

// operationKey is where the context of a request to the registry holds what it asks for.
type operationKey struct{}

// withProbes adds to the routes of a role that does not stand on httpapi what every role answers to GET: whether it lives,
// whether it is ready, which nil always is, and its metrics.
func withProbes(own http.Handler, metrics prometheus.Gatherer, ready func(context.Context) error) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", own)
	get := func(path string, h http.Handler) {
		mux.Handle("GET "+path, h)
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { // own might take it for one of its paths
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
		})
	}
	get("/metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	for _, path := range []string{"/livez", "/healthz"} {
		get(path, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	}
	get("/readyz", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if ready == nil {
			return
		}
		if err := ready(r.Context()); err != nil {
			w.Header().Set("Retry-After", "1")
			http.Error(w, turbofan.ErrorMessage(err), http.StatusServiceUnavailable)
		}
	}))
	return mux
}

// registryHandler adds what every role answers to MLflow's routes, and measures those.
func registryHandler(h *mlflow.Handler, common *prometheus.Registry, ready func(context.Context) error) (http.Handler, error) {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "turbofan_registry_requests_total", Help: "Requests to the registry, by what they ask for and HTTP status code.",
	}, []string{"operation", "code"})
	duration := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "turbofan_registry_request_seconds", Help: "Time to answer a request to the registry, by what it asks for.",
		Buckets: []float64{1e-3, 5e-3, 2.5e-2, 0.1, 0.5, 2.5, 10, 60},
	}, []string{"operation"})
	own := prometheus.NewRegistry() // beside what the process shares, which every role shows
	for _, c := range []prometheus.Collector{requests, duration} {
		if err := own.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of the registry: %w", err)
		}
	}
	byOperation := promhttp.WithLabelFromCtx("operation", func(ctx context.Context) string {
		name, _ := ctx.Value(operationKey{}).(string)
		return name
	})
	measured := promhttp.InstrumentHandlerCounter(requests, promhttp.InstrumentHandlerDuration(duration, h, byOperation), byOperation)
	named := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		measured.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), operationKey{}, h.Operation(r))))
	})
	return withProbes(named, prometheus.Gatherers{own, common}, ready), nil
}
