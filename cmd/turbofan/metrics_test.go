package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"turbofan"
	"turbofan/dataset"
	"turbofan/httpapi"
)

const metricsPage = "../../docs/metrics.md"

// metricRow is one metric as the page tells it, or as the roles show it.
type metricRow struct {
	kind   string
	labels []string
	roles  []string
}

func (r metricRow) String() string {
	return fmt.Sprintf("%s, labels %s, roles %s", r.kind, strings.Join(r.labels, " "), strings.Join(r.roles, " "))
}

// simulator is no role of a platform and shows metrics of its own.
const simulator = "simulator"

// exposition is what one role answered at /metrics.
type exposition struct {
	text     []byte
	families map[string]*dto.MetricFamily
}

// TestMetricsPage holds docs/metrics.md to what the roles show after each of them has worked: nothing that is shown is
// missing from the page, and the page tells of nothing that is never shown.
func TestMetricsPage(t *testing.T) {
	shown := exposeEverything(t)
	page, families := readMetricsPage(t)
	got := map[string]metricRow{}
	for _, role := range append(allRoles(), simulator) {
		for name, f := range shown[role].families {
			if family := slices.IndexFunc(families, func(p string) bool { return strings.HasPrefix(name, p) }); family >= 0 {
				continue
			}
			row := got[name]
			row.kind = strings.ToLower(f.GetType().String())
			row.roles = append(row.roles, role)
			for _, m := range f.GetMetric() {
				for _, l := range m.GetLabel() {
					if !slices.Contains(row.labels, l.GetName()) {
						row.labels = append(row.labels, l.GetName())
					}
				}
			}
			slices.Sort(row.labels)
			got[name] = row
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		want, told := page[name]
		if !told {
			t.Errorf("%s (%s) is shown and not on %s", name, got[name], metricsPage)
		} else if want.String() != got[name].String() {
			t.Errorf("%s: the page says %s; shown is %s", name, want, got[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(page)) {
		if _, ok := got[name]; !ok {
			t.Errorf("%s is on %s and shown by no role", name, metricsPage)
		}
	}
	for _, prefix := range families {
		for _, role := range allRoles() {
			if !slices.ContainsFunc(slices.Collect(maps.Keys(shown[role].families)), func(n string) bool { return strings.HasPrefix(n, prefix) }) {
				t.Errorf("%s* is on the page; %s shows none of it", prefix, role)
			}
		}
	}
	t.Run("lint", func(t *testing.T) { lintMetrics(t, shown) })
}

// lintMetrics holds names, units and help to Prometheus's conventions, with promtool itself where it is installed.
func lintMetrics(t *testing.T, shown map[string]exposition) {
	for _, role := range append(allRoles(), simulator) {
		problems, err := promlint.New(bytes.NewReader(shown[role].text)).Lint()
		if err != nil {
			t.Errorf("%s: %v", role, err)
		}
		for _, p := range problems {
			t.Errorf("%s: %s: %s", role, p.Metric, p.Text)
		}
		for name, f := range shown[role].families {
			if f.GetType() == dto.MetricType_COUNTER && !strings.HasSuffix(name, "_total") {
				t.Errorf("%s: the counter %s must end in _total", role, name)
			}
			if ours := strings.HasPrefix(name, "turbofan_"); ours && !strings.HasSuffix(f.GetHelp(), ".") {
				t.Errorf("%s: the help of %s must be a sentence: %q", role, name, f.GetHelp())
			}
		}
	}
	t.Run("promtool", func(t *testing.T) {
		tool, err := exec.LookPath("promtool")
		if err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal("promtool is not installed: apt-get install prometheus")
			}
			t.Skip("promtool is not installed: apt-get install prometheus")
		}
		for _, role := range allRoles() {
			cmd := exec.CommandContext(t.Context(), tool, "check", "metrics")
			cmd.Stdin = bytes.NewReader(shown[role].text)
			if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("%s: promtool check metrics: %v\n%s", role, err, out)
			}
		}
	})
}

var (
	metricsTableRow = regexp.MustCompile("^\\| `([a-z0-9_]+\\*?)` \\| ([a-z]+|–) \\| (.*?) \\| (.*?) \\| (.+) \\|$")
	codeSpan        = regexp.MustCompile("`([a-z_]+)`")
)

// readMetricsPage returns the metrics that the page tells, and the prefixes of whole families that come from libraries.
func readMetricsPage(t *testing.T) (metrics map[string]metricRow, families []string) {
	t.Helper()
	b, err := os.ReadFile(metricsPage)
	if err != nil {
		t.Fatal(err)
	}
	metrics = map[string]metricRow{}
	for i, line := range strings.Split(string(b), "\n") {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		m := metricsTableRow.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("%s:%d: write a row as | `name` | type | labels | roles | meaning |", metricsPage, i+1)
		}
		if prefix, family := strings.CutSuffix(m[1], "*"); family {
			families = append(families, prefix)
			continue
		}
		if _, twice := metrics[m[1]]; twice {
			t.Errorf("%s:%d: %s is told twice", metricsPage, i+1, m[1])
		}
		row := metricRow{kind: m[2]}
		for _, l := range codeSpan.FindAllStringSubmatch(m[3], -1) {
			row.labels = append(row.labels, l[1])
		}
		slices.Sort(row.labels)
		if m[4] == simulator {
			row.roles = append(row.roles, simulator)
		}
		for _, role := range allRoles() {
			if m[4] == "all" || m[4] == "services" && role != roleRegistry && role != roleConsole || slices.Contains(strings.Split(m[4], ", "), role) {
				row.roles = append(row.roles, role)
			}
		}
		metrics[m[1]] = row
	}
	return metrics, families
}

// exposeEverything runs each role as a platform of its own over one data directory, as containers do, has each do its
// work once (predictions, outcomes, a check, a retraining through the gate), and returns what each then shows.
func exposeEverything(t *testing.T) map[string]exposition {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	t.Cleanup(cancel)
	fleet, units := filepath.Join(t.TempDir(), "fleet"), makeFleet(t, 24)
	if err := dataset.WriteCMAPSS(fleet, units...); err != nil {
		t.Fatal(err)
	}
	cfg := defaultConfig()
	cfg.DataDir, cfg.Dataset = filepath.Join(t.TempDir(), "data"), datasetConfig{Dir: fleet, Subsets: []string{"FD001"}}
	cfg.Model.Kind, cfg.Model.Folds, cfg.Model.MaxRows = "forest", 2, 2000
	cfg.Refresh, cfg.Drift.Every, cfg.Drift.Retrain = durationConfig(100*time.Millisecond), 0, false
	cfg.URLs = map[string]string{}
	for role := range cfg.Ports {
		cfg.Ports[role] = 0
	}
	for _, role := range []string{roleRegistry, roleRetrain, roleDrift, rolePredict, roleFeedback, roleConsole} {
		cfg.URLs[role] = startRole(ctx, t, cfg, role)
	}
	jobs := httpapi.NewRetrainingClient(cfg.URLs[roleRetrain], nil)
	awaitJob(ctx, t, jobs)
	predictions := httpapi.NewPredictionClient(cfg.URLs[rolePredict], nil)
	awaitServing(ctx, t, predictions)
	produce(ctx, t, predictions, httpapi.NewFeedbackClient(cfg.URLs[roleFeedback], nil), units[1].Train.Units)
	report, err := httpapi.NewDriftClient(cfg.URLs[roleDrift], nil).Check(ctx)
	if err != nil || report.Verdict == turbofan.InsufficientData {
		t.Fatalf("check: %s %s %v", report.Verdict, report.Because, err)
	}
	if _, err := jobs.Submit(ctx, turbofan.RetrainRequest{Reason: "every metric must show", Force: true}); err != nil {
		t.Fatal(err)
	}
	awaitJob(ctx, t, jobs)
	if res, err := http.Get(cfg.URLs[roleConsole]); err != nil || res.Body.Close() != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("open the console: %v %v", res, err)
	}
	tryTheOther(ctx, t, httpapi.NewReleaseClient(cfg.URLs[rolePredict], nil))
	out := map[string]exposition{}
	for _, role := range allRoles() {
		scrape(ctx, t, cfg.URLs[role]+"/metrics") // the handler's own counters show from the second time
		out[role] = scrape(ctx, t, cfg.URLs[role]+"/metrics")
	}
	out[simulator] = scrapeSimulator(ctx, t, fleet, cfg.URLs)
	return out
}

// tryTheOther lets the version that is not champion answer silently.
func tryTheOther(ctx context.Context, t *testing.T, s turbofan.ReleaseService) {
	t.Helper()
	list, err := s.Models(ctx)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(list.Versions, func(v turbofan.ModelSummary) bool { return v.Version != list.Champion })
	if i < 0 {
		t.Fatalf("there is no version beside the champion: %+v", list)
	}
	if _, err := s.Try(ctx, turbofan.Trial{Alias: turbofan.ChallengerAlias, Version: list.Versions[i].Version}); err != nil {
		t.Fatal(err)
	}
}

// scrapeSimulator streams slowly, so that there is time to look.
func scrapeSimulator(ctx context.Context, t *testing.T, fleet string, urls map[string]string) exposition {
	t.Helper()
	ctx, stop := context.WithCancel(ctx)
	said, says := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"simulate", "--data", fleet, "--subsets", "FD001,FD003", "--rate", "5/s", "--listen", "127.0.0.1:0",
			"--predict-url", urls[rolePredict], "--feedback-url", urls[roleFeedback]}, says, io.Discard)
	}()
	var url string
	if _, err := fmt.Fscanf(said, "metrics at %s\n", &url); err != nil {
		t.Fatal(err)
	}
	go io.Copy(io.Discard, said) //nolint:errcheck // a full pipe would hold the simulator
	defer func() { stop(); <-ended }()
	for {
		shown := scrape(ctx, t, url)
		if shown.families["turbofan_simulator_quarter_info"] != nil {
			return shown
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
}

// startRole runs one role until the test ends and returns where it answers.
func startRole(ctx context.Context, t *testing.T, cfg config, role string) string {
	t.Helper()
	cfg.Roles, cfg.URLs = []string{role}, maps.Clone(cfg.URLs)
	p, err := newPlatform(ctx, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	stop := p.start(ctx)
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("stop %s: %v", role, err)
		}
	})
	return p.url(role)
}

// makeFleet makes n units of FD001 and n of FD003, whose engines also fail in another way.
func makeFleet(t *testing.T, n int) []dataset.Pair {
	t.Helper()
	var out []dataset.Pair
	for _, name := range []string{"FD001", "FD003"} {
		c, known := dataset.SynthSubset(name, 5)
		if !known {
			t.Fatalf("no synthetic %s", name)
		}
		c.TrainUnits, c.TestUnits = n, n
		train, test := dataset.Synthesize(c)
		out = append(out, dataset.Pair{Train: train, Test: test})
	}
	return out
}

// produce sends the first cycles of the units, side by side as a fleet flies, and how each ended.
func produce(ctx context.Context, t *testing.T, predictions turbofan.PredictionService, outcomes turbofan.FeedbackService, units []turbofan.History) {
	t.Helper()
	const stride, cycles = 20, 120
	for from := 0; from < cycles; from += stride {
		var batch []turbofan.Reading
		for _, u := range units {
			n := len(u.Readings)
			batch = append(batch, u.Readings[min(from, n):min(from+stride, n)]...)
		}
		// One alone, since only single requests are in the latency histogram.
		for _, readings := range [][]turbofan.Reading{batch[:1], batch[1:]} {
			if _, err := predictions.Predict(ctx, turbofan.PredictRequest{Readings: readings}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, u := range units {
		if _, err := outcomes.Record(ctx, []turbofan.Outcome{{UnitID: u.UnitID, FailedAtCycle: &u.FailedAtCycle}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := outcomes.Record(ctx, []turbofan.Outcome{{UnitID: units[0].UnitID, Event: "party"}}); turbofan.ErrorCode(err) != turbofan.EInvalid {
		t.Fatalf("an event that there is not: %v", err)
	}
}

// awaitJob waits for the newest job and demands success.
func awaitJob(ctx context.Context, t *testing.T, jobs turbofan.RetrainingService) {
	t.Helper()
	for {
		list, err := jobs.Jobs(ctx, 1)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 1 && !list[0].Status.Active() {
			if list[0].Status != turbofan.JobSuccess {
				t.Fatalf("job %s: %s", list[0].Status, list[0].Error)
			}
			return
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
}

func awaitServing(ctx context.Context, t *testing.T, predictions turbofan.PredictionService) {
	t.Helper()
	for {
		s, err := predictions.Serving(ctx)
		if err == nil && s.ModelVersion != "" {
			return
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
}

func scrape(ctx context.Context, t *testing.T, url string) exposition {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", url, res.Status, err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("%s: %v", url, err)
	}
	return exposition{text, families}
}
