package deploy_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.yaml.in/yaml/v3"

	"turbofan/internal/porttest"
)

type prometheusConfig struct {
	Global        map[string]string `yaml:"global"`
	RuleFiles     []string          `yaml:"rule_files"`
	ScrapeConfigs []scrapeConfig    `yaml:"scrape_configs"`
	Alerting      alertingConfig    `yaml:"alerting,omitempty"`
}

type alertingConfig struct {
	Alertmanagers []struct {
		StaticConfigs []staticConfig `yaml:"static_configs"`
	} `yaml:"alertmanagers"`
}

type scrapeConfig struct {
	JobName       string         `yaml:"job_name"`
	StaticConfigs []staticConfig `yaml:"static_configs"`
}

type staticConfig struct {
	Targets []string `yaml:"targets"`
}

type ruleFile struct {
	Groups []struct {
		Name  string
		Rules []rule
	}
}

type rule struct {
	Record, Alert, Expr, For string
	KeepFiringFor            string `yaml:"keep_firing_for"`
	Labels, Annotations      map[string]string
}

// jobs are the roles by the name that Prometheus scrapes them under.
var jobs = map[string]string{"prediction-api": "predict", "feedback-api": "feedback", "retraining-service": "retrain",
	"drift-detector": "drift", "registry": "registry", "console": "console", "simulator": "simulator"}

func readRules(t *testing.T) (recording, alerting []rule) {
	t.Helper()
	for _, f := range []string{"prometheus/rules/recording.yml", "prometheus/rules/alerts.yml"} {
		var file ruleFile
		strictYAML(t, f, &file)
		for _, g := range file.Groups {
			for _, r := range g.Rules {
				if r.Record != "" {
					recording = append(recording, r)
				} else {
					alerting = append(alerting, r)
				}
			}
		}
	}
	return recording, alerting
}

func TestAlertsSayWhatToDo(t *testing.T) {
	_, alerts := readRules(t)
	seen := map[string]bool{}
	for _, a := range alerts {
		if a.Alert == "" || seen[a.Alert] {
			t.Errorf("alert %q needs a name of its own", a.Alert)
		}
		seen[a.Alert] = true
		if a.Annotations["summary"] == "" || len(a.Annotations["action"]) < 40 {
			t.Errorf("%s must say what is wrong (summary) and what to do (action)", a.Alert)
		}
		if s := a.Labels["severity"]; s != "page" && s != "ticket" {
			t.Errorf("%s: severity must be page or ticket, not %q", a.Alert, s)
		}
	}
}

func TestPromtool(t *testing.T) {
	tool := need(t, "promtool", "prometheus")
	for _, args := range [][]string{
		{"check", "config", "prometheus/prometheus.yml"},
		{"check", "config", "prometheus/local.yml"},
		{"check", "rules", "prometheus/rules/recording.yml", "prometheus/rules/alerts.yml"},
		{"test", "rules", "prometheus/tests/alerts_test.yml", "prometheus/tests/feedback_test.yml"},
	} {
		if out, err := exec.CommandContext(t.Context(), tool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	_, alerts := readRules(t)
	var tests []byte
	for _, file := range []string{"prometheus/tests/alerts_test.yml", "prometheus/tests/feedback_test.yml"} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tests = append(tests, b...)
	}
	for _, a := range alerts {
		if !strings.Contains(string(tests), a.Alert) {
			t.Errorf("no unit test fires %s", a.Alert)
		}
	}
}

func TestScrapeConfigs(t *testing.T) {
	ports := map[string]string{"prediction-api": "3000", "feedback-api": "3001", "retraining-service": "3003", "drift-detector": "3004",
		"registry": "5001", "console": "8080", "simulator": "3005", "prometheus": "9090"}
	for _, file := range []string{"prometheus/prometheus.yml", "prometheus/local.yml"} {
		var c prometheusConfig
		strictYAML(t, file, &c)
		got := map[string]string{}
		for _, s := range c.ScrapeConfigs {
			host, port, err := net.SplitHostPort(s.StaticConfigs[0].Targets[0])
			if err != nil || file == "prometheus/prometheus.yml" && s.JobName != "prometheus" && host != s.JobName {
				t.Errorf("%s: %s is scraped at %s", file, s.JobName, s.StaticConfigs[0].Targets)
			}
			got[s.JobName] = port
		}
		if file == "prometheus/prometheus.yml" {
			if host, port, _ := net.SplitHostPort(c.Alerting.Alertmanagers[0].StaticConfigs[0].Targets[0]); host != "alertmanager" || got["alertmanager"] != port {
				t.Errorf("%s: alerts go to %s:%s", file, host, port)
			}
			delete(got, "alertmanager")
		}
		if !maps.Equal(got, ports) {
			t.Errorf("%s: scrapes %v, want %v", file, got, ports)
		}
	}
}

// prom is a running Prometheus.
type prom struct {
	url string
	t   *testing.T
}

// startPrometheus runs rules over the roles of s, with a scrape each half second. Alerts go to the Alertmanager at an
// address, or nowhere.
func startPrometheus(ctx context.Context, t *testing.T, binary string, s stack, rules, alertmanager string) prom {
	t.Helper()
	var c prometheusConfig
	strictYAML(t, "prometheus/prometheus.yml", &c)
	rules, err := filepath.Abs(rules)
	if err != nil {
		t.Fatal(err)
	}
	c.RuleFiles = []string{filepath.Join(rules, "*.yml")}
	c.Alerting.Alertmanagers[0].StaticConfigs[0].Targets = []string{alertmanager}
	if alertmanager == "" {
		c.Alerting = alertingConfig{}
	}
	c.Global = map[string]string{"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"}
	c.ScrapeConfigs = slices.DeleteFunc(c.ScrapeConfigs, func(sc scrapeConfig) bool { return s[jobs[sc.JobName]].url == "" })
	for i := range c.ScrapeConfigs {
		targets, role := &c.ScrapeConfigs[i].StaticConfigs[0].Targets, jobs[c.ScrapeConfigs[i].JobName]
		(*targets)[0] = strings.TrimPrefix(s[role].url, "http://")
		if replica, ok := s[role+"2"]; ok {
			*targets = append(*targets, strings.TrimPrefix(replica.url, "http://"))
		}
	}
	dir := t.TempDir()
	b, err := yaml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "prometheus.yml"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	addr := porttest.Address(t) // Prometheus cannot be told to take any free port
	startDaemon(ctx, t, binary, "--config.file", filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path", filepath.Join(dir, "data"),
		"--storage.tsdb.retention.time", "15d", "--enable-feature=exemplar-storage", "--web.listen-address", addr)
	return prom{url: "http://" + addr, t: t}
}

// startDaemon runs a program until the test's end, which SIGTERM is.
func startDaemon(ctx context.Context, t *testing.T, binary string, args ...string) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), binary, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		const interrupted = 130 // as a shell says it
		if err := cmd.Wait(); err != nil && cmd.ProcessState.String() != "signal: terminated" && cmd.ProcessState.ExitCode() != interrupted {
			text, readErr := os.ReadFile(log.Name())
			t.Errorf("%s ended: %v %v\n%s", filepath.Base(binary), err, readErr, text)
		}
		log.Close()
	})
}

type sample struct {
	Metric map[string]string
	Value  [2]any
}

// get asks Prometheus's API; an answer that is no success is an error with Prometheus's own words.
func (p prom) get(ctx context.Context, path string, q url.Values, data any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+path+"?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return fmt.Errorf("%s: %w", res.Status, err)
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s: %s", res.Status, answer.Error)
	}
	return nil
}

func (p prom) query(ctx context.Context, expr string) ([]sample, error) {
	var data struct{ Result []sample }
	err := p.get(ctx, "/api/v1/query", url.Values{"query": {expr}}, &data)
	return data.Result, err
}

// awaitSamples waits until expr has n samples.
func (p prom) awaitSamples(ctx context.Context, expr string, n int) {
	p.t.Helper()
	await(ctx, p.t, expr, func(ctx context.Context) error {
		got, err := p.query(ctx, expr)
		if err == nil && len(got) != n {
			err = fmt.Errorf("%d samples, want %d: %v", len(got), n, got)
		}
		return err
	})
}

func (p prom) names(ctx context.Context) map[string]bool {
	p.t.Helper()
	var list []string
	if err := p.get(ctx, "/api/v1/label/__name__/values", nil, &list); err != nil {
		p.t.Fatal(err)
	}
	out := map[string]bool{}
	for _, n := range list {
		out[n] = true
	}
	return out
}

var (
	promQuoted   = regexp.MustCompile(`"[^"]*"`)
	promLabels   = regexp.MustCompile(`\{[^}]*\}|\[[^\]]*\]`)
	promGrouping = regexp.MustCompile(`\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)`)
	promName     = regexp.MustCompile(`[a-zA-Z_:][a-zA-Z0-9_:]*\s*\(?`)
	promWords    = []string{"and", "or", "unless", "bool", "offset"}
)

// metricsOf returns the names of the metrics in an expression.
func metricsOf(expr string) []string {
	for _, r := range []*regexp.Regexp{promQuoted, promLabels, promGrouping} {
		expr = r.ReplaceAllString(expr, " ")
	}
	var out []string
	for _, w := range promName.FindAllString(expr, -1) {
		if name := strings.TrimSpace(w); !strings.HasSuffix(name, "(") && !slices.Contains(promWords, name) && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

func TestMetricsOf(t *testing.T) {
	got := metricsOf(`sum by (le) (rate(a_bucket{x="y_z"}[5m])) / on (job) b:c > 3 and d unless e or vector(0)`)
	if want := "[a_bucket b:c d e]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

// TestEveryExpressionAnswers runs Prometheus with the shipped rules over the roles, has each role work, and demands data
// of every panel and every recording rule, and a mark of every annotation. Alerts are silent while all is well: of them
// it demands a valid query over metrics that exist, silence then, and each of two induced faults to fire its own alert
// and no other.
func TestEveryExpressionAnswers(t *testing.T) {
	binary := need(t, "prometheus", "prometheus")
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	data, healthy, other := fleet(t)
	s := startStack(ctx, t, data)
	s["simulator"] = role{url: "http://" + porttest.Address(t)}
	p := startPrometheus(ctx, t, binary, s, "prometheus/rules", "")
	s.awaitJob(ctx, t)
	s.awaitVersion(ctx, t, "1")
	startSimulator(ctx, t, data, s)
	p.awaitSamples(ctx, "up == 1", len(s))
	p.awaitSamples(ctx, "turbofan_model_info", 1)

	first, second := named("a-", healthy), named("b-", other)
	s.steady(ctx, t, named("s-", healthy[:1])[0])
	s.produce(ctx, t, first, 0, 60)
	s.outcomes(ctx, t, first)
	if r := s.check(ctx, t); r.Verdict != "no_drift" {
		t.Fatalf("a fleet like that of training: %s because %s", r.Verdict, r.Because)
	}
	s.retrain(ctx, t)
	s.awaitVersion(ctx, t, "2")
	s.produce(ctx, t, first, 60, 80)
	s.check(ctx, t)
	p.awaitSamples(ctx, "increase(turbofan_drift_checks_total{verdict=\"no_drift\"}[1h]) > 0", 1)
	p.awaitSamples(ctx, "turbofan_gate_rmse{model=\"challenger\"} > 0", 3)
	p.awaitSamples(ctx, "turbofan_rmse{window=\"1000\"} > 0", 2) // both versions have answered

	panels, annotations := dashboardExpressions(t)
	recording, alerts := readRules(t)
	for _, r := range recording {
		panels["rule "+r.Record] = r.Expr
	}
	silent, last := maps.Clone(panels), errors.New("nothing was asked")
	await(ctx, t, "data of every panel and recording rule", func(ctx context.Context) error {
		var errs []error
		for _, where := range slices.Sorted(maps.Keys(silent)) {
			if err := p.answers(ctx, silent[where]); ctx.Err() != nil {
				return last
			} else if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", where, err))
			} else {
				delete(silent, where)
			}
		}
		last = errors.Join(errs...)
		return last
	})
	t.Logf("%d expressions of panels and recording rules return data", len(panels))
	p.awaitSamples(ctx, "turbofan:prediction_errors:ratio_rate6h", 1)
	names := p.names(ctx)
	for _, a := range alerts {
		if _, err := p.query(ctx, a.Expr); err != nil {
			t.Errorf("%s: %s: %v", a.Alert, a.Expr, err)
		}
		for _, n := range metricsOf(a.Expr) {
			if !names[n] {
				t.Errorf("%s: there is no metric %s", a.Alert, n)
			}
		}
	}
	t.Logf("%d alerts are valid over metrics that exist", len(alerts))
	p.demandExemplar(ctx)
	p.awaitFiring(ctx, alerts)

	s.produce(ctx, t, second, 0, 140)
	if r := s.check(ctx, t); r.Verdict != "drift" {
		t.Fatalf("a fleet that fails in another way: %s because %s", r.Verdict, r.Because)
	}
	p.awaitSamples(ctx, "turbofan_drift_score > turbofan_drift_threshold", 1)
	p.awaitFiring(ctx, alerts, "TurbofanDrift")
	for where, expr := range annotations {
		await(ctx, t, where, func(ctx context.Context) error {
			return p.answers(ctx, fmt.Sprintf("count_over_time((%s)[5m:500ms])", expr))
		})
	}
	t.Logf("%d annotations mark what happened", len(annotations))
	if err := s["feedback"].stop(); err != nil {
		t.Fatal(err)
	}
	p.awaitSamples(ctx, "up == 0", 1)
	p.awaitFiring(ctx, alerts, "TurbofanDrift", "TurbofanTargetDown")
}

// demandExemplar awaits a request id beside the latency.
func (p prom) demandExemplar(ctx context.Context) {
	p.t.Helper()
	await(ctx, p.t, "an exemplar", func(ctx context.Context) error {
		var found []struct {
			Exemplars []struct{ Labels map[string]string }
		}
		q := url.Values{"query": {"prediction_latency_seconds_bucket"}, "start": {"1"}, "end": {"4000000000"}}
		if err := p.get(ctx, "/api/v1/query_exemplars", q, &found); err != nil {
			return err
		}
		if len(found) == 0 || found[0].Exemplars[0].Labels["request_id"] == "" {
			return fmt.Errorf("found %v", found)
		}
		return nil
	})
}

func (p prom) answers(ctx context.Context, expr string) error {
	got, err := p.query(ctx, expr)
	if err == nil && len(got) == 0 {
		err = fmt.Errorf("no data: %s", expr)
	}
	return err
}

// awaitFiring evaluates the alerts, whatever time each would wait, until those that fire are want, in order: a scrape that a
// busy machine answers late may have one more fire for a moment. slowAlerts may fire at any time.
func (p prom) awaitFiring(ctx context.Context, alerts []rule, want ...string) {
	p.t.Helper()
	await(ctx, p.t, fmt.Sprintf("%d alerts to fire", len(want)), func(ctx context.Context) error {
		var firing []string
		for _, a := range alerts {
			got, err := p.query(ctx, a.Expr)
			if err != nil {
				return fmt.Errorf("%s: %w", a.Alert, err)
			}
			if len(got) > 0 && !strings.HasPrefix(a.Alert, slowAlerts) {
				firing = append(firing, a.Alert)
			}
		}
		if slices.Sort(firing); !slices.Equal(firing, want) {
			return fmt.Errorf("these fire: %q, want %q", firing, want)
		}
		return nil
	})
}
