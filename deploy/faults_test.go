package deploy_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"turbofan"
	"turbofan/httpapi"
	"turbofan/internal/porttest"
)

// hurry is how many times faster than shipped the rules and the routes of the live test are. The minute for which a target
// must be down is two seconds then, four scrapes: a busy machine may be late with one.
const hurry = 30

// slowAlerts begin the names of alerts that say how quick the machine is, which nothing here asks.
const slowAlerts = "TurbofanLatencyBudgetBurns"

var promDuration = regexp.MustCompile(`\[(\d+)([mhd])\]|((?:for|group_wait|group_interval|repeat_interval): )(\d+)([smhd])`)

// hurried writes a file of rules or routes anew with every window, "for" and wait divided by hurry.
func hurried(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	units := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour}
	text := promDuration.ReplaceAllStringFunc(string(b), func(m string) string {
		parts := promDuration.FindStringSubmatch(m)
		number, unit := parts[1]+parts[4], parts[2]+parts[5]
		n, err := strconv.Atoi(number)
		if err != nil {
			t.Fatal(err)
		}
		d := fmt.Sprintf("%dms", time.Duration(n)*units[unit]/hurry/time.Millisecond)
		if parts[1] != "" {
			return "[" + d + "]"
		}
		return parts[3] + d
	})
	if err := os.WriteFile(to, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// pager receives what Alertmanager sends.
type pager struct {
	mu      sync.Mutex
	told    map[string]string // alert by receiver, once it was told as firing
	notices []notice
}

// notice is what was told of one alert, in order.
type notice struct {
	alert string
	at    time.Time
	ended time.Time // zero while it fires
}

func (p *pager) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var message struct {
		Receiver string
		Alerts   []struct {
			Status      string
			Labels      map[string]string
			Annotations map[string]string
			EndsAt      time.Time
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&message); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range message.Alerts {
		name := a.Labels["alertname"]
		n := notice{alert: name, at: time.Now()}
		if a.Status == "firing" {
			p.told[name] = message.Receiver
		} else {
			n.ended = a.EndsAt
		}
		p.notices = append(p.notices, n)
		if a.Annotations["action"] == "" {
			p.told[name] = "nobody says what to do"
		}
	}
}

// list is what was told since the start but slowAlerts, as "alert to receiver".
func (p *pager) list() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for _, name := range slices.Sorted(maps.Keys(p.told)) {
		if !strings.HasPrefix(name, slowAlerts) {
			out = append(out, name+" to "+p.told[name])
		}
	}
	return strings.Join(out, ", ")
}

// besides lists what was told before an alert first was, or while it fired, but slowAlerts. What it muted may be told once
// it has ended.
func (p *pager) besides(alert string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	type span struct{ from, to time.Time }
	var fired []span
	for _, n := range p.notices {
		open := len(fired) > 0 && fired[len(fired)-1].to.IsZero()
		switch {
		case n.alert != alert:
		case n.ended.IsZero() && !open:
			fired = append(fired, span{from: n.at})
		case !n.ended.IsZero() && open:
			fired[len(fired)-1].to = n.ended
		}
	}
	var out []string
	for _, n := range p.notices {
		if n.alert == alert || !n.ended.IsZero() || strings.HasPrefix(n.alert, slowAlerts) {
			continue
		}
		if len(fired) == 0 || n.at.Before(fired[0].from) ||
			slices.ContainsFunc(fired, func(s span) bool { return n.at.After(s.from) && (s.to.IsZero() || n.at.Before(s.to)) }) {
			out = append(out, n.alert)
		}
	}
	return out
}

// last is what was heard of an alert last.
func (p *pager) last(alert string) (notice, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range slices.Backward(p.notices) {
		if n.alert == alert {
			return n, true
		}
	}
	return notice{}, false
}

func (p *pager) await(ctx context.Context, t *testing.T, want ...string) {
	t.Helper()
	slices.Sort(want)
	await(ctx, t, strings.Join(want, ", "), func(context.Context) error {
		if got := p.list(); got != strings.Join(want, ", ") {
			return fmt.Errorf("told was %s", got)
		}
		return nil
	})
}

func (p *pager) awaitResolved(ctx context.Context, t *testing.T, alert string) {
	t.Helper()
	await(ctx, t, "the end of "+alert, func(context.Context) error {
		if n, told := p.last(alert); !told || n.ended.IsZero() {
			return errors.New("not yet")
		}
		return nil
	})
}

// startAlertmanager runs the shipped routes with a webhook behind each receiver, and returns its address.
func startAlertmanager(ctx context.Context, t *testing.T, p *pager) string {
	t.Helper()
	binary := need(t, "prometheus-alertmanager", "prometheus-alertmanager")
	hook := httptest.NewServer(p)
	t.Cleanup(hook.Close)
	dir := t.TempDir()
	file := filepath.Join(dir, "alertmanager.yml")
	hurried(t, "alertmanager/alertmanager.yml", file)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var c map[string]any
	if err := yaml.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	for _, r := range c["receivers"].([]any) {
		r.(map[string]any)["webhook_configs"] = []any{map[string]any{"url": hook.URL}}
	}
	if b, err = yaml.Marshal(c); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	addr := porttest.Address(t)
	startDaemon(ctx, t, binary, "--config.file", file, "--storage.path", filepath.Join(dir, "data"), "--web.listen-address", addr, "--cluster.listen-address=")
	return addr
}

func TestAlertmanagerConfig(t *testing.T) {
	tool := need(t, "amtool", "prometheus-alertmanager")
	if out, err := exec.CommandContext(t.Context(), tool, "check-config", "alertmanager/alertmanager.yml").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	for severity, receiver := range map[string]string{"page": "page", "ticket": "ticket"} {
		out, err := exec.CommandContext(t.Context(), tool, "config", "routes", "test", "--config.file=alertmanager/alertmanager.yml", "severity="+severity).Output()
		if got := strings.TrimSpace(string(out)); err != nil || got != receiver {
			t.Errorf("severity %s goes to %q, %v", severity, got, err)
		}
	}
	b, err := os.ReadFile("alertmanager/alertmanager.yml")
	if err != nil {
		t.Fatal(err)
	}
	_, alerts := readRules(t)
	for _, name := range regexp.MustCompile(`Turbofan\w+`).FindAllString(string(b), -1) {
		if !slices.ContainsFunc(alerts, func(a rule) bool { return a.Alert == name }) {
			t.Errorf("there is no alert %s", name)
		}
	}
}

// TestFaults runs the roles under the shipped rules and routes, thirty times faster, in a real Prometheus and a real
// Alertmanager, and induces one fault after the other. Each must be told as its own alert, to its own receiver, and
// nothing besides: what was told is never forgotten.
func TestFaults(t *testing.T) {
	binary := need(t, "prometheus", "prometheus")
	tracer := need(t, "strace", "strace")
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	data, healthy, other := fleet(t)
	p := &pager{told: map[string]string{}}
	alertmanager := startAlertmanager(ctx, t, p)
	rules := t.TempDir()
	for _, name := range []string{"recording.yml", "alerts.yml"} {
		hurried(t, filepath.Join("prometheus/rules", name), filepath.Join(rules, name))
	}
	s := startRoles(ctx, t, setup{data: data, env: []string{"TURBOFAN_DRIFT_EVERY=3s"}}, "registry", "retrain", "drift", "predict", "feedback")
	s.awaitJob(ctx, t)
	s.awaitVersion(ctx, t, "1")
	prometheus := startPrometheus(ctx, t, binary, s, rules, alertmanager)
	prometheus.awaitSamples(ctx, "up == 1", len(s))
	s.steady(ctx, t, named("s-", healthy[:1])[0])
	s.produce(ctx, t, named("a-", healthy), 0, 60)
	prometheus.awaitSamples(ctx, `increase(turbofan_drift_checks_total{verdict="no_drift"}[1h]) > 2`, 1)

	if err := os.Rename(data, data+"-gone"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.jobs().Submit(ctx, turbofan.RetrainRequest{Reason: "its data is gone", Force: true}); err != nil {
		t.Fatal(err)
	}
	failed := "TurbofanRetrainingFailed to ticket"
	p.await(ctx, t, failed)

	stop := slowDisk(ctx, t, tracer, s["feedback"].pid)
	slow := "TurbofanStoreSlow to ticket"
	cycle, last := 0, time.Now()
	await(ctx, t, slow, func(ctx context.Context) error {
		// Outcomes alone: a prediction would wait for the disk, and its own alert would be right. With pauses, or the
		// detector, whose disk is not slow, would find no moment in which the file is not locked.
		if time.Since(last) > time.Second {
			cycle++ // one that is told again is not written again
			o := turbofan.Outcome{UnitID: "a-" + healthy[0].UnitID, Cycle: cycle, Event: "inspection"}
			if _, err := httpapi.NewFeedbackClient(s["feedback"].url, nil).Record(ctx, []turbofan.Outcome{o}); err != nil {
				return err
			}
			last = time.Now()
		}
		if got := p.list(); got != failed+", "+slow {
			return fmt.Errorf("told was %s", got)
		}
		return nil
	})
	stop()
	p.awaitResolved(ctx, t, "TurbofanStoreSlow")

	s.produce(ctx, t, named("b-", other), 0, 140)
	drift := "TurbofanDrift to ticket"
	p.await(ctx, t, failed, slow, drift)

	// Others cannot do without the registry: the one page mutes their tickets.
	if err := s["registry"].kill(); err != nil {
		t.Fatal(err)
	}
	down := "TurbofanTargetDown to page"
	p.await(ctx, t, failed, slow, drift, down)
	prometheus.awaitSamples(ctx, `ALERTS{alertname="TurbofanModelRefreshFails", alertstate="firing"}`, 1)
	muted := prometheus.mutes(ctx, "http://"+alertmanager)
	p.await(ctx, t, failed, slow, drift, down)
	t.Logf("told: %s; muted: %s", p.list(), muted)
}

// slowDisk has every sync of a process to the disk take 1.2 seconds, until stop is called.
func slowDisk(ctx context.Context, t *testing.T, tracer string, pid int) (stop func()) {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(ctx), tracer, "-f", "-q", "-p", strconv.Itoa(pid), "-o", os.DevNull,
		"-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:delay_enter=1200ms")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil { // it lets go of the process
			t.Error(err)
		}
		cmd.Wait() //nolint:errcheck // it says that it was interrupted
	})
	t.Cleanup(stop)
	return stop
}

// mutes waits until Alertmanager holds back what a page tells already, and returns the names.
func (p prom) mutes(ctx context.Context, alertmanager string) string {
	p.t.Helper()
	names := map[string]bool{}
	await(ctx, p.t, "TurbofanModelRefreshFails to be muted", func(ctx context.Context) error {
		_, text, err := get(ctx, alertmanager+"/api/v2/alerts?active=false&inhibited=true")
		if err != nil {
			return err
		}
		var alerts []struct{ Labels map[string]string }
		if err := json.Unmarshal([]byte(text), &alerts); err != nil {
			return err
		}
		for _, a := range alerts {
			names[a.Labels["alertname"]] = true
		}
		if !names["TurbofanModelRefreshFails"] {
			return fmt.Errorf("muted are %v", names)
		}
		return nil
	})
	return strings.Join(slices.Sorted(maps.Keys(names)), ", ")
}
