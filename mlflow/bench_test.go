//go:build unix

package mlflow_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"turbofan"
	"turbofan/internal/porttest"
	"turbofan/registry"
	"turbofan/sqlstore"
)

// BenchmarkBesidePython runs the same load on our server and on MLflow's, each in a process of its own, and prints
// the ratios: go test ./mlflow -run '^$' -bench BesidePython -benchtime 1x
func BenchmarkBesidePython(b *testing.B) {
	bin := python(b, "mlflow3")
	ours := filepath.Join(b.TempDir(), "turbofan")
	if out, err := exec.Command("go", "build", "-o", ours, "turbofan/cmd/turbofan").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	dir := b.TempDir()
	for b.Loop() {
		us := measure(b, func(port string) *exec.Cmd {
			return exec.Command(ours, "registry", "--port", port, "--db", filepath.Join(dir, "registry.db"), "--artifact-root", filepath.Join(dir, "ours"))
		}, 10_000)
		them := measure(b, func(port string) *exec.Cmd {
			cmd := exec.Command(bin, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", port, "--workers", "1",
				"--backend-store-uri", "sqlite:///"+filepath.Join(dir, "mlflow.db"), "--artifacts-destination", filepath.Join(dir, "theirs"))
			cmd.Env = append(os.Environ(), "MLFLOW_DISABLE_TELEMETRY=true", "DO_NOT_TRACK=true")
			return cmd
		}, 10_000)
		for _, row := range []struct {
			name, unit string
			us, them   float64
		}{
			{"log-metric", "/s", us.logRate, them.logRate},
			{"search-runs", "/s", us.searchRate, them.searchRate},
			{"cold-start", "s", us.start.Seconds(), them.start.Seconds()},
			{"rss", "MiB", us.rss, them.rss},
		} {
			b.Logf("%-12s ours %10.2f %-4s python %10.2f %-4s ratio %.1f", row.name, row.us, row.unit, row.them, row.unit, row.us/row.them)
			b.ReportMetric(row.us/row.them, row.name+"-ratio")
		}
	}
}

// BenchmarkManyRuns drives our server, in a process of its own, over 100,000 runs: go test ./mlflow -run '^$' -bench
// ManyRuns -benchtime 1x
func BenchmarkManyRuns(b *testing.B) {
	ours := filepath.Join(b.TempDir(), "turbofan")
	if out, err := exec.Command("go", "build", "-o", ours, "turbofan/cmd/turbofan").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	for b.Loop() {
		dir := b.TempDir()
		m := measure(b, func(port string) *exec.Cmd {
			return exec.Command(ours, "registry", "--port", port, "--db", filepath.Join(dir, "registry.db"), "--artifact-root", filepath.Join(dir, "files"))
		}, 100_000)
		b.ReportMetric(m.logRate, "log-metric/s")
		b.ReportMetric(m.searchRate, "search-runs/s")
		b.ReportMetric(float64(m.p50.Milliseconds()), "search-p50-ms")
		b.ReportMetric(float64(m.p95.Milliseconds()), "search-p95-ms")
		b.ReportMetric(m.rss, "rss-MiB")
		b.ReportMetric(m.pagesRSS, "rss-of-pages-MiB")
	}
}

type measured struct {
	start               time.Duration
	logRate, searchRate float64
	p50, p95            time.Duration // of a search
	rss, pagesRSS       float64       // after the searches, and after pages of 1000 runs
}

// measure starts a server, fills it with runs and drives it with 20 clients.
func measure(b *testing.B, command func(port string) *exec.Cmd, runs int) measured {
	b.Helper()
	var m measured
	port := porttest.Port(b)
	cmd := command(port)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			b.Error(err)
		}
		_ = cmd.Wait() // it was killed
	}()
	uri := "http://127.0.0.1:" + port
	ctx, cancel := context.WithTimeout(b.Context(), 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !healthy(ctx, uri) {
		select {
		case <-ctx.Done():
			b.Fatalf("the server did not start: %s", log.String())
		case <-tick.C:
		}
	}
	m.start = time.Since(begin)
	experiment := field(post(b, uri, "experiments/create", map[string]any{"name": "bench"}), "experiment_id")
	ids := fill(b, uri, experiment, runs)
	const clients = 20
	m.logRate, _ = rate(clients, 5*time.Second, func(client, n int) error {
		return send(uri, "runs/log-metric", map[string]any{"run_id": ids[client], "key": "loss", "value": float64(n), "timestamp": 1_700_000_000_000 + n, "step": n}, nil)
	})
	search := func(page int) func(client, n int) error {
		return func(_, n int) error {
			return send(uri, "runs/search", map[string]any{"experiment_ids": []string{experiment}, "max_results": page,
				"filter": fmt.Sprintf("metrics.rmse < %d", 10+n%50), "order_by": []string{"metrics.rmse ASC"}}, nil)
		}
	}
	var took []time.Duration
	m.searchRate, took = rate(clients, 5*time.Second, search(100))
	if len(took) > 0 {
		m.p50, m.p95 = took[len(took)/2], took[len(took)*95/100]
	}
	m.rss = treeRSS(b, cmd.Process.Pid)
	rate(clients, 5*time.Second, search(1000))
	m.pagesRSS = treeRSS(b, cmd.Process.Pid)
	return m
}

// fill makes runs with a few things each.
func fill(b *testing.B, uri, experiment string, runs int) []string {
	ids := make([]string, runs)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				i := int(next.Add(1) - 1)
				if i >= runs || b.Failed() {
					return
				}
				var out map[string]any
				if err := send(uri, "runs/create", map[string]any{"experiment_id": experiment, "start_time": 1_700_000_000_000 + i}, &out); err != nil {
					b.Error(err)
					return
				}
				ids[i] = field(out, "run", "info", "run_id")
				if err := send(uri, "runs/log-batch", map[string]any{"run_id": ids[i],
					"metrics": []map[string]any{{"key": "rmse", "value": float64(i*7919%10007) / 100, "timestamp": 1, "step": 0}, {"key": "mae", "value": 1.5, "timestamp": 1, "step": 0}},
					"params":  []map[string]any{{"key": "lr", "value": strconv.Itoa(i % 10)}},
				}, nil); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if b.Failed() {
		b.FailNow()
	}
	return ids
}

// rate returns how many calls a second the clients get through, and how long each took, in ascending order.
func rate(clients int, during time.Duration, call func(client, n int) error) (float64, []time.Duration) {
	var mu sync.Mutex
	var took []time.Duration
	var wg sync.WaitGroup
	begin := time.Now()
	for client := range clients {
		wg.Go(func() {
			for n := 0; time.Since(begin) < during; n++ {
				called := time.Now()
				if call(client, n) != nil {
					continue
				}
				mu.Lock()
				took = append(took, time.Since(called))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	slices.Sort(took)
	return float64(len(took)) / time.Since(begin).Seconds(), took
}

func send(uri, path string, body any, out any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	resp, err := pooled.Post(uri+"/api/2.0/mlflow/"+path, "application/json", bytes.NewReader(text))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", resp.Status, said)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(said, out)
}

var pooled = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}

func post(t testing.TB, uri, path string, body any) map[string]any {
	t.Helper()
	var out map[string]any
	if err := send(uri, path, body, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// field walks down an answer to a text.
func field(v any, path ...string) string {
	for _, p := range path {
		m, _ := v.(map[string]any)
		v = m[p]
	}
	s, _ := v.(string)
	return s
}

// treeRSS is the resident memory of a process and its children, in MiB.
func treeRSS(b *testing.B, pid int) float64 {
	b.Helper()
	total := 0.0
	entries, err := os.ReadDir("/proc")
	if err != nil {
		b.Skip("there is no /proc")
	}
	for _, e := range entries {
		id, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if group, err := syscall.Getpgid(id); err != nil || group != pid {
			continue
		}
		status, err := os.ReadFile(filepath.Join("/proc", e.Name(), "status"))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(status)) {
			if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
				kib, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
				total += kib / 1024
			}
		}
	}
	return total
}

func openBenchRegistry(b *testing.B) *registry.Registry {
	b.Helper()
	dsn := os.Getenv("TURBOFAN_BENCH_DSN")
	if dsn == "" {
		return openRegistry(b)
	}
	store, err := sqlstore.OpenRegistryPostgres(b.Context(), dsn)
	if err != nil {
		b.Fatal(err)
	}
	return openRegistryOver(b, store, b.TempDir(), registry.Config{})
}

// BenchmarkFilteredSearch searches among many runs by a metric, in process: -benchtime decides how often. The runs
// are made once, 10^5 of them with 10^6 points. TURBOFAN_BENCH_DSN names an empty PostgreSQL database to use instead of
// a file.
func BenchmarkFilteredSearch(b *testing.B) {
	ctx := b.Context()
	r := openBenchRegistry(b)
	e, err := r.CreateExperiment(ctx, turbofan.Experiment{Name: "many"})
	if err != nil {
		b.Fatal(err)
	}
	const runs, points = 100_000, 10
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for i := next.Add(1); i <= runs && !b.Failed(); i = next.Add(1) {
				run, err := r.CreateRun(ctx, turbofan.Run{RunInfo: turbofan.RunInfo{ExperimentID: e.ID, StartedAt: time.UnixMilli(1_700_000_000_000 + i)}})
				if err != nil {
					b.Error(err)
					return
				}
				metrics := make([]turbofan.Metric, points)
				for j := range metrics {
					metrics[j] = turbofan.Metric{Key: "rmse", Value: float64((i*7919+int64(j))%100_003) / 1000, At: time.UnixMilli(1), Step: int64(j)}
				}
				if err := r.RecordRun(ctx, run.ID, turbofan.RunRecord{Metrics: metrics, Params: []turbofan.KeyValue{{Key: "lr", Value: strconv.Itoa(int(i % 10))}}}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if b.Failed() {
		b.FailNow()
	}
	rmse := func(op turbofan.SearchOp, v float64) []turbofan.SearchTerm {
		return []turbofan.SearchTerm{{Entity: turbofan.EntityMetric, Key: "rmse", Op: op, Number: v}}
	}
	byMetric := []turbofan.SearchOrder{{Entity: turbofan.EntityMetric, Key: "rmse"}}
	for _, c := range []struct {
		name string
		q    turbofan.SearchQuery
	}{
		{"rare", turbofan.SearchQuery{Where: rmse(turbofan.OpLess, 0.5), Limit: 100}},
		{"some", turbofan.SearchQuery{Where: rmse(turbofan.OpLess, 5), Limit: 100}},
		{"most", turbofan.SearchQuery{Where: rmse(turbofan.OpGreater, 5), Limit: 100}},
		{"ordered", turbofan.SearchQuery{Where: rmse(turbofan.OpLess, 5), OrderBy: byMetric, Limit: 100}},
		{"ordered-most", turbofan.SearchQuery{Where: rmse(turbofan.OpGreater, 5), OrderBy: byMetric, Limit: 100}},
		{"param", turbofan.SearchQuery{Where: []turbofan.SearchTerm{{Entity: turbofan.EntityParam, Key: "lr", Op: turbofan.OpEqual, Text: "3"}}, Limit: 100}},
		{"none", turbofan.SearchQuery{Where: []turbofan.SearchTerm{{Entity: turbofan.EntityParam, Key: "lr", Op: turbofan.OpEqual, Text: "x"}}, Limit: 100}},
	} {
		b.Run(c.name, func(b *testing.B) {
			c.q.ExperimentIDs = []string{e.ID}
			var took []time.Duration
			for b.Loop() {
				begin := time.Now()
				if _, _, err := r.SearchRuns(ctx, c.q); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(begin))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*95/100].Microseconds())/1000, "p95-ms")
		})
	}
}
