package deploy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"turbofan"
	"turbofan/httpapi"
	"turbofan/internal/postgrestest"
)

// askAgainFor is an absence that our clients, who ask four times and wait a second between, outlast with certainty. A slow
// machine may need longer for a restart; they may be told so then, and nothing else.
const askAgainFor = 2 * time.Second

// away is the alert that tells of an outage.
const away = "TurbofanStoreFails"

// TestDatabaseOutage takes the database away from two replicas behind a real proxy and from all others, under load:
// first for a restart, which clients that ask again must not notice, then for ten seconds. Meanwhile each role says what
// is wrong, nobody is told that a record is kept, and one alert fires. Afterwards all goes on by itself, with everything
// that was acknowledged.
func TestDatabaseOutage(t *testing.T) {
	binary := need(t, "prometheus", "prometheus")
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	data, healthy, _ := fleet(t)
	db := postgrestest.Start(t)
	p := &pager{told: map[string]string{}}
	alertmanager := startAlertmanager(ctx, t, p)
	rules := t.TempDir()
	for _, name := range []string{"recording.yml", "alerts.yml"} {
		hurried(t, filepath.Join("prometheus/rules", name), filepath.Join(rules, name))
	}
	s := startRoles(ctx, t, setup{data: data, dsn: db.DSN("public"), env: []string{"TURBOFAN_DRIFT_EVERY=3s", "TURBOFAN_STORE_REGISTRY=true"}}, "registry", "retrain", "predict", "predict", "feedback", "drift")
	s.awaitJob(ctx, t)
	proxy := startProxy(ctx, t, []string{strings.TrimPrefix(s["predict"].url, "http://"), strings.TrimPrefix(s["predict2"].url, "http://")})
	s.awaitReady(ctx, t)
	prometheus := startPrometheus(ctx, t, binary, s, rules, alertmanager)
	prometheus.awaitSamples(ctx, "up == 1", len(s))

	l := startLoad(ctx, proxy, 4, healthy)
	stop, recorded := make(chan struct{}), make(chan map[string]bool)
	go func() { recorded <- s.inspections(ctx, "w0-0-"+healthy[0].UnitID, stop) }()
	l.await(ctx, t, 200)
	began := time.Now()
	db.Stop(t)
	db.Run(t)
	s.awaitReady(ctx, t)
	restart := time.Since(began)
	l.await(ctx, t, 200)
	t.Logf("the database was away for a restart of %.1f s: %d requests of clients that ask again, %d failed", restart.Seconds(), l.requests.Load(), len(l.failed()))
	if failed := l.failed(); len(failed) > 0 && restart < askAgainFor {
		t.Errorf("%d requests failed, the first: %v", len(failed), failed[0])
	}

	if _, err := s.jobs().Submit(ctx, turbofan.RetrainRequest{Reason: "the database will go", Force: true}); err != nil {
		t.Fatal(err)
	}
	one := healthy[0].Readings[:1]
	db.Stop(t)
	s.endure(ctx, t, proxy, one, 10*time.Second, func() bool {
		n, told := p.last(away)
		return told && n.ended.IsZero()
	})
	db.Run(t)
	began = time.Now()
	s.awaitReady(ctx, t)
	await(ctx, t, "a prediction", func(ctx context.Context) error {
		if code, _, err := post(ctx, proxy+"/predict", map[string]any{"readings": one}); code != http.StatusOK {
			return fmt.Errorf("%d, %w", code, err)
		}
		return nil
	})
	t.Logf("all is ready %.1f s after the database is back", time.Since(began).Seconds())
	l.await(ctx, t, 200)
	l.stop()
	close(stop)
	s.demandAcknowledged(ctx, t, l, <-recorded)
	l.compare(ctx, t, s["predict2"].url, healthy)
	s.awaitJob(ctx, t)
	p.awaitResolved(ctx, t, away)
	if others := p.besides(away); !strings.Contains(p.list(), away+" to page") || len(others) > 0 {
		t.Errorf("told was %s; beside %s, while it fired: %q", p.list(), away, others)
	}
	t.Logf("told: %s", p.list())
	for _, err := range l.failed() {
		if turbofan.ErrorCode(err) != turbofan.EUnavailable {
			t.Errorf("a client was told %v", err)
		}
	}
	t.Logf("%d requests in all, %d were told that the store is away", l.requests.Load(), len(l.failed()))
}

// await waits for n more requests to be answered well.
func (l *load) await(ctx context.Context, t *testing.T, n int64) {
	t.Helper()
	from := l.requests.Load() - int64(len(l.failed()))
	await(ctx, t, "answers", func(context.Context) error {
		if got := l.requests.Load() - int64(len(l.failed())) - from; got < n {
			return fmt.Errorf("%d", got)
		}
		return nil
	})
}

func (l *load) failed() []error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.failures)
}

// awaitReady waits until each role says that it can answer.
func (s stack) awaitReady(ctx context.Context, t *testing.T) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(s)) {
		await(ctx, t, name+" to be ready", func(ctx context.Context) error {
			code, text, err := get(ctx, s[name].url+"/readyz")
			if err == nil && code != http.StatusOK {
				err = fmt.Errorf("%d %s", code, text)
			}
			return err
		})
	}
}

// endure holds the roles for so long, and until it is told, to what they promise while the store is away, from the third
// second on, when each must have noticed.
func (s stack) endure(ctx context.Context, t *testing.T, proxy string, one []turbofan.Reading, d time.Duration, told func() bool) {
	t.Helper()
	noticed, over, tick := time.Now().Add(3*time.Second), time.Now().Add(d), time.NewTicker(250*time.Millisecond)
	defer tick.Stop()
	refused := 0
	for ; ctx.Err() == nil && (time.Now().Before(over) || !told()); <-tick.C {
		for name := range s {
			if code, text, err := get(ctx, s[name].url+"/livez"); code != http.StatusOK {
				t.Errorf("%s: /livez says %d %s %v", name, code, text, err)
			}
			asked := time.Now()
			code, text, err := get(ctx, s[name].url+"/readyz")
			if asked.After(noticed) && (code != http.StatusServiceUnavailable || !strings.Contains(text, "answer now") && !strings.Contains(text, "take writes now")) || err != nil {
				t.Errorf("%s: /readyz says %d %s %v", name, code, text, err)
			}
		}
		outcome := map[string]any{"outcomes": []turbofan.Outcome{{UnitID: one[0].UnitID, Cycle: 1, Event: "inspection"}}}
		for target, body := range map[string]any{
			proxy + "/predict":              map[string]any{"readings": one},
			s["predict"].url + "/predict":   map[string]any{"readings": one},
			s["feedback"].url + "/feedback": outcome,
		} {
			code, header, err := post(ctx, target, body)
			if code != http.StatusServiceUnavailable || header.Get("Retry-After") == "" {
				t.Errorf("POST %s: %d, Retry-After %q, %v", target, code, header.Get("Retry-After"), err)
			}
			refused++
		}
	}
	t.Logf("while the database was away %d requests of clients that do not ask again were refused with 503 and Retry-After", refused)
}

func get(ctx context.Context, target string) (code int, text string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return 0, "", err
	}
	return ask(req, nil)
}

// post sends a body once, as a client does that does not ask again; an answer that is no success is an error too.
func post(ctx context.Context, target string, body any) (code int, header http.Header, err error) {
	b, err := json.Marshal(body)
	if err != nil {
		return 0, nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(b))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	code, text, err := ask(req, &header)
	if err == nil && code != http.StatusOK {
		err = errors.New(text)
	}
	return code, header, err
}

func ask(req *http.Request, header *http.Header) (int, string, error) {
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	if header != nil {
		*header = res.Header
	}
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, string(text), err
}

// demandAcknowledged demands that every reading and outcome that a client was told is kept is there.
func (s stack) demandAcknowledged(ctx context.Context, t *testing.T, l *load, recorded map[string]bool) {
	t.Helper()
	readings := 0
	for unit, answers := range l.answers {
		status, err := s.predictions().Unit(ctx, unit)
		if last := answers[len(answers)-1].Cycle; err != nil || status.LastCycle < last || status.Readings < len(answers) {
			t.Errorf("unit %s: cycle %d was acknowledged; stored are %d readings up to cycle %d, %v", unit, last, status.Readings, status.LastCycle, err)
		}
		readings += len(answers)
	}
	stored, err := httpapi.NewFeedbackClient(s["feedback"].url, nil).Outcomes(ctx, turbofan.OutcomeQuery{})
	if err != nil {
		t.Fatal(err)
	}
	total := len(recorded)
	for _, o := range stored {
		delete(recorded, o.Key)
	}
	if len(recorded) > 0 || total == 0 || readings < 100 {
		t.Errorf("of %d acknowledged outcomes %d are lost; %d readings", total, len(recorded), readings)
	}
	t.Logf("all of %d acknowledged readings and %d outcomes are there", readings, total)
}
