package deploy_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"turbofan"
	"turbofan/httpapi"
	"turbofan/internal/porttest"
	"turbofan/internal/postgrestest"
)

// startProxy runs the shipped configuration on addresses of the test's own, and returns its own address.
func startProxy(ctx context.Context, t *testing.T, replicas []string) string {
	t.Helper()
	binary := need(t, "haproxy", "haproxy")
	b, err := os.ReadFile("haproxy/haproxy.cfg")
	if err != nil {
		t.Fatal(err)
	}
	front := porttest.Address(t)
	replace := []string{"127.0.0.1:3000", front, "inter 1s", "inter 200ms"}
	for i, addr := range replicas {
		shipped := fmt.Sprintf("127.0.0.1:301%d", i)
		if !strings.Contains(string(b), shipped) {
			t.Fatalf("haproxy.cfg has no server %s", shipped)
		}
		replace = append(replace, shipped, addr)
	}
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	if err := os.WriteFile(file, []byte(strings.NewReplacer(replace...).Replace(string(b))), 0o600); err != nil {
		t.Fatal(err)
	}
	startDaemon(ctx, t, binary, "-db", "-f", file)
	return "http://" + front
}

// load sends the units' readings through one address from several connections until it is stopped; one that failed is
// sent again until it is answered, as a gateway does that must not leave a gap.
type load struct {
	requests atomic.Int64
	mu       sync.Mutex
	failures []error
	answers  map[string][]turbofan.Prediction // by unit
	stop     func()
}

func startLoad(ctx context.Context, url string, workers int, units []turbofan.History) *load {
	l := &load{answers: map[string][]turbofan.Prediction{}}
	stop, over := make(chan struct{}), sync.WaitGroup{}
	for w := range workers {
		over.Go(func() {
			client := httpapi.NewPredictionClient(url, &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}})
			for round := 0; ; round++ {
				u := named(fmt.Sprintf("w%d-%d-", w, round), units[round%len(units):][:1])[0]
				for i := 0; i < len(u.Readings); {
					select {
					case <-stop:
						return
					default:
					}
					if l.send(ctx, client, u.Readings[i:i+1]) {
						i++
					}
				}
			}
		})
	}
	l.stop = func() { close(stop); over.Wait() }
	return l
}

func (l *load) send(ctx context.Context, client turbofan.PredictionService, reading []turbofan.Reading) bool {
	got, err := client.Predict(ctx, turbofan.PredictRequest{Readings: reading})
	l.requests.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.failures = append(l.failures, fmt.Errorf("%s cycle %d: %w", reading[0].UnitID, reading[0].Cycle, err))
		return false
	}
	l.answers[reading[0].UnitID] = append(l.answers[reading[0].UnitID], got[0])
	return true
}

// answered reads how many predictions a replica has answered well.
func answered(ctx context.Context, url string) (float64, error) {
	_, text, err := get(ctx, url+"/metrics")
	sum := 0.0
	for line := range strings.Lines(text) {
		if rest, ours := strings.CutPrefix(line, `prediction_requests_total{code="200"} `); ours {
			_, err = fmt.Sscan(rest, &sum)
		}
	}
	return sum, err
}

// TestRollingUpdateAndKill replaces each of two replicas behind a real proxy under load, the new one first as Kubernetes
// does, then kills one without a warning. No request may fail, and every answer must be what one replica alone says.
func TestRollingUpdateAndKill(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	data, healthy, _ := fleet(t)
	dsn := postgrestest.Start(t).DSN("public")
	s := startRoles(ctx, t, setup{data: data, dsn: dsn}, "registry", "retrain")
	s.awaitJob(ctx, t)
	binary, slots := buildCommand(t), []string{porttest.Address(t), porttest.Address(t), porttest.Address(t), porttest.Address(t)}
	env := []string{"GOMAXPROCS=2", "TURBOFAN_LOG_LEVEL=warn", "TURBOFAN_REFRESH_EVERY=200ms", "TURBOFAN_DRAIN_DELAY=3s", "TURBOFAN_STORE_DSN=" + dsn,
		"TURBOFAN_URLS_REGISTRY=" + s["registry"].url}
	start := func(slot int) role {
		_, port, err := net.SplitHostPort(slots[slot])
		if err != nil {
			t.Fatal(err)
		}
		return startRole(ctx, t, binary, "predict", env, "--data-dir", t.TempDir(), "--port", "predict="+port)
	}
	takesPart := func(r role) {
		t.Helper()
		await(ctx, t, r.url+" to get its share", func(ctx context.Context) error {
			n, err := answered(ctx, r.url)
			if err == nil && n < 50 {
				err = fmt.Errorf("it has answered %g", n)
			}
			return err
		})
	}
	a, b := start(0), start(1)
	proxy := startProxy(ctx, t, slots)
	await(ctx, t, "a model behind the proxy", func(ctx context.Context) error {
		_, err := httpapi.NewPredictionClient(proxy, nil).Serving(ctx)
		return err
	})
	l := startLoad(ctx, proxy, 8, healthy)
	takesPart(a)
	takesPart(b)
	began := time.Now()
	c := start(2)
	takesPart(c)
	terminate(t, a)
	d := start(3)
	takesPart(d)
	terminate(t, b)
	rolled := l.requests.Load()
	t.Logf("both replicas replaced in %.1f s under load", time.Since(began).Seconds())
	if err := c.kill(); err != nil {
		t.Fatal(err)
	}
	back := start(0)
	takesPart(back)
	l.stop()
	t.Logf("%d requests while replicas were replaced, %d in all, %d failed", rolled, l.requests.Load(), len(l.failures))
	if len(l.failures) > 0 {
		t.Errorf("%d requests failed, the first: %v", len(l.failures), errors.Join(l.failures[:min(3, len(l.failures))]...))
	}
	l.compare(ctx, t, back.url, healthy)
}

func terminate(t *testing.T, r role) {
	t.Helper()
	if err := r.stop(); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
}

// compare sends the readings of some units to one replica alone and demands the answers that the load got.
func (l *load) compare(ctx context.Context, t *testing.T, url string, units []turbofan.History) {
	t.Helper()
	client, compared := httpapi.NewPredictionClient(url, nil), 0
	for i := range min(3, len(units)) {
		var want []turbofan.Prediction
		for unit, got := range l.answers {
			if !strings.HasSuffix(unit, fmt.Sprintf("-%d-%s", i, units[i].UnitID)) {
				continue
			}
			if want == nil {
				var err error
				if want, err = client.Predict(ctx, turbofan.PredictRequest{Readings: named("alone-", units[i:i+1])[0].Readings}); err != nil {
					t.Fatal(err)
				}
			}
			for j, p := range got {
				if p.Cycle != want[j].Cycle || p.RUL != want[j].RUL || p.Upper != want[j].Upper {
					t.Fatalf("unit %s got %+v, one replica alone says %+v", p.UnitID, p, want[j])
				}
				compared++
			}
		}
	}
	t.Logf("%d answers are those of one replica alone", compared)
	if compared == 0 {
		t.Error("nothing was compared")
	}
}
