package httpapi_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"turbofan/httpapi"
)

// TestExemplars asks for the metrics as Prometheus does and finds the request's own id beside its latency, and as others
// do, who could not read it.
func TestExemplars(t *testing.T) {
	h := predictionHandler(t, nil, httpapi.Options{}, nil)
	r := httptest.NewRequest("POST", "/predict", strings.NewReader(wrapped()))
	r.Header.Set("X-Request-Id", "unit-7-cycle-31")
	h.ServeHTTP(httptest.NewRecorder(), r)
	scrape := httptest.NewRequest("GET", "/metrics", nil)
	scrape.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, scrape)
	if text := w.Body.String(); !strings.Contains(text, `# {request_id="unit-7-cycle-31"}`) || !strings.HasSuffix(text, "# EOF\n") {
		t.Errorf("no exemplar in %s", text)
	}
	if text := ask(h, "GET", "/metrics", "").Body.String(); strings.Contains(text, "unit-7-cycle-31") {
		t.Errorf("the plain text format has no exemplars:\n%s", text)
	}
}
