package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"turbofan/internal/porttest"
)

// receiver takes spans by OTLP over HTTP.
type receiver struct {
	mu       sync.Mutex
	spans    []*otlp.Span
	services []string
}

func (c *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var sent collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(body, &sent)
	}
	if err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("X-Team") != "reliability" {
		http.Error(w, "not what OTLP sends", http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, rs := range sent.ResourceSpans {
		for _, a := range rs.Resource.Attributes {
			if a.Key == "service.name" {
				c.services = append(c.services, a.Value.GetStringValue())
			}
		}
		for _, ss := range rs.ScopeSpans {
			c.spans = append(c.spans, ss.Spans...)
		}
	}
}

// of returns the spans of a trace by name.
func (c *receiver) of(trace string) map[string]*otlp.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]*otlp.Span{}
	for _, s := range c.spans {
		if hex.EncodeToString(s.TraceId) == trace {
			out[s.Name] = s
		}
	}
	return out
}

func attributeOf(s *otlp.Span, key string) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			return a.Value.String()
		}
	}
	return ""
}

// A receiver that OpenTelemetry's variables name gets a span of each request under the caller's trace, and below it what
// the request spent its time on.
func TestTraces(t *testing.T) {
	c := new(receiver)
	srv := httptest.NewServer(c)
	defer srv.Close()
	env := append([]string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + srv.URL, "OTEL_EXPORTER_OTLP_HEADERS=x-team=reliability", "OTEL_BSP_SCHEDULE_DELAY=50", "OTEL_SERVICE_NAME=plant-7"}, quick...)
	p := serve(t, env, "--data-dir", dataDir(t), "--role", rolePredict, "--role", roleRegistry)
	p.ready(rolePredict)
	ask := func(trace, body string) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.urls[rolePredict]+"/predict", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("X-Request-Id", "request-7")
		r.Header.Set("Traceparent", "00-"+trace+"-00f067aa0ba902b7-01")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode
	}
	reading, err := json.Marshal(histories(t, "FD001")[0].Readings[0])
	if err != nil {
		t.Fatal(err)
	}
	good, bad := "4bf92f3577b34da6a3ce929d0e0e4736", "4bf92f3577b34da6a3ce929d0e0e4737"
	if code := ask(good, string(reading)); code != http.StatusOK {
		t.Fatalf("a prediction: %d", code)
	}
	if code := ask(bad, "{}"); code != http.StatusBadRequest {
		t.Fatalf("a bad request: %d", code)
	}
	const request = "POST /predict"
	p.until("the spans have come", func() bool { return len(c.of(good)) >= 4 && len(c.of(bad)) >= 1 })
	spans := c.of(good)
	whole := spans[request]
	if whole == nil || hex.EncodeToString(whole.ParentSpanId) != "00f067aa0ba902b7" || whole.Kind != otlp.Span_SPAN_KIND_SERVER {
		t.Fatalf("spans %v", spans)
	}
	for key, want := range map[string]string{"http.route": "/predict", "turbofan.role": "predict", "turbofan.request_id": "request-7", "http.response.status_code": "200"} {
		if got := attributeOf(whole, key); !strings.Contains(got, want) {
			t.Errorf("%s is %q, want %s", key, got, want)
		}
	}
	var order []uint64
	for _, name := range []string{"state", "model", "store"} {
		s := spans[name]
		if s == nil || !bytes.Equal(s.ParentSpanId, whole.SpanId) || s.StartTimeUnixNano < whole.StartTimeUnixNano || s.EndTimeUnixNano > whole.EndTimeUnixNano {
			t.Fatalf("%s is not a part of the request: %v", name, s)
		}
		order = append(order, s.StartTimeUnixNano, s.EndTimeUnixNano)
	}
	if !slices.IsSorted(order) {
		t.Errorf("the parts are not one after the other: %v", order)
	}
	if s := c.of(bad)[request]; s == nil || !strings.Contains(attributeOf(s, "http.response.status_code"), "400") || len(c.of(bad)) != 1 {
		t.Errorf("the bad request has the spans %v", c.of(bad))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		if strings.Contains(s.Name, "livez") || strings.Contains(s.Name, "readyz") {
			t.Errorf("a probe has the span %s", s.Name)
		}
	}
	if len(c.services) == 0 || c.services[0] != "plant-7" {
		t.Errorf("the spans are of %v", c.services)
	}
}

// A receiver that is not there costs no request and no clean end, and variables that make no sense are refused.
func TestTracesWithoutReceiver(t *testing.T) {
	gone := "http://" + porttest.Address(t)
	p := serve(t, append([]string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + gone, "OTEL_BSP_SCHEDULE_DELAY=50"}, quick...), "--data-dir", dataDir(t), "--role", rolePredict, "--role", roleRegistry)
	p.ready(rolePredict)
	if a := ask(t, p.predictions(), histories(t, "FD001")[0].Readings[0]); len(a) != 1 {
		t.Errorf("%+v", a)
	}
	if code := p.signal(os.Interrupt); code != exitOK {
		t.Errorf("ended with %d", code)
	}
	for variable, value := range map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"} {
		t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", gone)
		t.Setenv(variable, value)
		var said bytes.Buffer
		if code := run(t.Context(), []string{"serve", "--data-dir", t.TempDir(), "--role", "registry", "--port", "registry=0"}, io.Discard, &said); code != exitUsage || !strings.Contains(said.String(), variable+": must be") {
			t.Errorf("%s=%s: %d %s", variable, value, code, said.String())
		}
		t.Setenv(variable, "")
	}
}
