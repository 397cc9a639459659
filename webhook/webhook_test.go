package webhook_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"turbofan"
	"turbofan/webhook"
)

func event() turbofan.Event {
	return turbofan.Event{Kind: turbofan.EventPromoted, At: time.Unix(1_800_000_000, 0).UTC(), Because: "new units: 8.6 against 11.5", ModelName: "rul", ModelVersion: "3"}
}

type received struct {
	header http.Header
	body   []byte
}

func TestDeliveryIsSigned(t *testing.T) {
	got := make(chan received, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got <- received{r.Header, b}
	}))
	defer srv.Close()
	s, err := webhook.New(webhook.Config{Endpoints: []webhook.Endpoint{{URL: srv.URL, Secret: "s3cret"}}}, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	s.Publish(ctx, event())
	r := <-got
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	var e turbofan.Event
	if err := json.Unmarshal(r.body, &e); err != nil || e != event() {
		t.Errorf("received %s (%v)", r.body, err)
	}
	want := webhook.Sign("s3cret", r.header.Get("X-Turbofan-Delivery"), r.header.Get("X-Turbofan-Timestamp"), r.body)
	if sig := r.header.Get("X-Turbofan-Signature"); sig != want || webhook.Sign("other", "a", "b", r.body) == want {
		t.Errorf("signature %q, want %q", sig, want)
	}
}

// transport answers in memory, so that the test's clock governs the waits.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func answer(status int) *http.Response {
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Body: io.NopCloser(strings.NewReader(""))}
}

func TestRetries(t *testing.T) {
	for name, c := range map[string]struct {
		answers []int // 0 is a lost connection; the last repeats
		tries   int
		result  string
	}{
		"at once":       {[]int{204}, 1, "delivered"},
		"after trouble": {[]int{0, 503, 429, 200}, 4, "delivered"},
		"refused":       {[]int{404}, 1, "failed"},
		"never":         {[]int{500}, 5, "failed"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tries, ids := 0, map[string]bool{}
				client := &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
					status := c.answers[min(tries, len(c.answers)-1)]
					tries++
					ids[r.Header.Get("X-Turbofan-Delivery")] = true
					if status == 0 {
						return nil, errors.New("connection reset")
					}
					return answer(status), nil
				})}
				reg := prometheus.NewRegistry()
				s, err := webhook.New(webhook.Config{Tries: 5, Endpoints: []webhook.Endpoint{{URL: "http://listener.example/hook"}}}, client, reg, nil)
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				go s.Run(ctx)
				s.Publish(ctx, event())
				time.Sleep(time.Minute) // the test's own clock
				synctest.Wait()
				if tries != c.tries || len(ids) != 1 {
					t.Errorf("%d tries under %d ids, want %d under one", tries, len(ids), c.tries)
				}
				if got := counts(t, reg); got[c.result] != 1 || got["delivered"]+got["failed"]+got["dropped"] != 1 {
					t.Errorf("counted %v, want one %s", got, c.result)
				}
				cancel()
				synctest.Wait()
			})
		})
	}
}

func TestFullQueueDropsAndKindsFilter(t *testing.T) {
	reg := prometheus.NewRegistry()
	s, err := webhook.New(webhook.Config{Queue: 2, Endpoints: []webhook.Endpoint{
		{URL: "http://a.example"}, {URL: "http://b.example", Kinds: []turbofan.EventKind{turbofan.EventDrift}}}}, nil, reg, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		s.Publish(t.Context(), event()) // nobody delivers
	}
	if got := counts(t, reg); got["dropped"] != 3 || got["delivered"]+got["failed"] != 0 {
		t.Errorf("counted %v, want 3 dropped", got)
	}
}

// counts returns the deliveries by result.
func counts(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil || len(families) != 1 || families[0].GetName() != "turbofan_webhook_deliveries_total" {
		t.Fatalf("gathered %v, %v", families, err)
	}
	out := map[string]float64{}
	for _, m := range families[0].Metric {
		out[m.Label[0].GetValue()] = m.Counter.GetValue()
	}
	return out
}

func TestConfigIsChecked(t *testing.T) {
	for want, e := range map[string]webhook.Endpoint{
		"webhooks[0].url: must be an http or https URL":                       {URL: "ftp://x"},
		"webhooks[0].url: must not hold a password: use a secret":             {URL: "http://u:p@x"},
		"webhooks[0].kinds[0]: \"party\" is not one of [drift.found retraini": {URL: "http://x", Kinds: []turbofan.EventKind{"party"}},
	} {
		_, err := webhook.New(webhook.Config{Endpoints: []webhook.Endpoint{e}}, nil, nil, nil)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", e, err, want)
		}
	}
}
