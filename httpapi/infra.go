package httpapi

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"turbofan"
)

// finish adds the routes that every role has. Nothing can be added after it.
func (a *api) finish() (http.Handler, error) {
	metrics := promhttp.HandlerFor(a.o.Registry, promhttp.HandlerOpts{Registry: a.o.Registry, EnableOpenMetrics: true})
	a.add(&operation{
		method: http.MethodGet, path: "/metrics", infra: true, uncounted: true, summary: "Metrics in Prometheus' text format.",
		handle: func(c *call) error { metrics.ServeHTTP(c.w, c.r); return nil },
	})
	for _, p := range []string{"/livez", "/healthz"} {
		a.add(&operation{method: http.MethodGet, path: p, infra: true, summary: "200 while the process lives.", handle: (*call).alive})
	}
	a.add(&operation{method: http.MethodGet, path: "/readyz", infra: true, summary: "200 when the role can answer, 503 with the reason when it cannot.", handle: (*call).ready})
	if err := a.documents(); err != nil {
		return nil, err
	}
	return a, nil
}

func (c *call) alive() error {
	c.mime, c.out = c.api.plain, append(c.out, '\n')
	return nil
}

func (c *call) ready() error {
	err := c.api.o.Ready(c.ctx)
	if err == nil {
		return c.alive()
	}
	if turbofan.ErrorCode(err) == turbofan.EInternal {
		// The reason helps whoever reads the probe's event; nothing of it is secret to them.
		err = turbofan.Errorf(turbofan.EUnavailable, "not ready: %s", err.Error())
	}
	c.status = http.StatusServiceUnavailable
	return err
}

// notReady answers a probe outside of any role.
func notReady(w http.ResponseWriter, err error) {
	h := w.Header()
	h.Set("Content-Type", mimeJSON)
	h.Set("Retry-After", retryAfterSeconds)
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = w.Write(appendError(nil, turbofan.ErrorCode(err), "", turbofan.ErrorMessage(err)))
}
