package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"turbofan/retrain"
)

// demoRun is the demo in a process of its own, in an empty directory.
func demoRun(t *testing.T, env []string, args ...string) (code int, stdout, stderr, dir string) {
	t.Helper()
	dir = t.TempDir()
	cmd := exec.CommandContext(t.Context(), must(t, shared.binary), append([]string{"demo", "--data-dir", "out"}, args...)...)
	cmd.Dir, cmd.Env = dir, append(cleanEnv(), env...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String(), dir
}

func readSummary(t *testing.T, dir string) (demoSummary, map[string]any) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "out", "report", "summary.json"))
	if err != nil {
		t.Fatal(err)
	}
	var s demoSummary
	var raw map[string]any
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &raw); err != nil {
		t.Fatal(err)
	}
	return s, raw
}

// checkReport looks at what every demo leaves: a page that needs nothing else, and no state.
func checkReport(t *testing.T, dir string) {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(dir, "out", "report", "index.html"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(page), "<svg "); n < 4 {
		t.Errorf("the page has %d pictures", n)
	}
	for _, outside := range []string{`src="http`, `href="http`, "@import", "url(http"} {
		if strings.Contains(string(page), outside) {
			t.Errorf("the page fetches something: %s", outside)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "out", "demo")); err == nil {
		t.Error("the platform's state is still there")
	}
}

// TestDemo runs the whole story on two subsets of NASA's engines.
func TestDemo(t *testing.T) {
	data := realData(t)
	code, out, errs, dir := demoRun(t, nil, "--data", data, "--subsets", "FD001,FD003")
	if code != exitOK {
		t.Fatalf("exit %d\n%s%s", code, out, errs)
	}
	s, raw := readSummary(t, dir)
	t.Logf("%.0f s, peak memory %d MiB, p95 %.2f ms, %d requests, %d retrainings\n%s", s.Seconds, s.PeakRSS>>20, float64(s.Latency.P95), s.Requests, len(s.Retrainings), out)
	for _, key := range []string{"data_source", "seed", "seconds", "peak_rss_bytes", "requests", "failed_requests", "latency_ms", "quarters", "drift_reports", "retrainings", "versions"} {
		if _, ok := raw[key]; !ok {
			t.Errorf("summary.json lacks %s", key)
		}
	}
	if s.DataSource != "--data" || s.Synthetic || s.Seed != 42 || s.Failed != 0 || s.Requests < 13096+24720 || len(s.Missing) != 0 {
		t.Errorf("summary %+v", s)
	}
	if s.PeakRSS < 10<<20 || s.PeakRSS > 1<<30 {
		t.Errorf("peak memory %d bytes, want at most 1 GiB", s.PeakRSS)
	}
	if len(s.Quarters) != 2 || s.Quarters[0].Readings != 13096 || s.Quarters[1].Subset != "FD003" || s.Quarters[1].Readings != 24720 {
		t.Fatalf("quarters %+v", s.Quarters)
	}
	if q := s.Quarters[0]; !(float64(q.RMSEServed) < 20) {
		t.Errorf("T0 %+v: the bar is 20", q)
	}
	// When the retraining comes depends on the machine's speed; the quarter's readings before it count too.
	if q := s.Quarters[1]; !(float64(q.RMSEServed) <= .9*float64(q.RMSEFrozen)) {
		t.Errorf("T1 %+v: the retraining brought nothing", q)
	}
	if !slices.ContainsFunc(s.Retrainings, func(r retrainSummary) bool { return r.Promoted && r.Trigger == "drift" }) || len(s.Versions) < 2 || s.DriftAlarms < 1 {
		t.Errorf("retrainings %+v, versions %q", s.Retrainings, s.Versions)
	}
	// FD003's quarter streams training engines, so its test engines are new to the champion; FD001's are its own quarter.
	if c := s.Champion.Subsets; s.Champion.Version != s.Versions[len(s.Versions)-1] || len(c) != 2 || c[0].Units < 90 || !(c[0].RMSE < 15) || c[0].TestUnits != 0 ||
		c[1].Units < 16 || !(c[1].RMSE < 20) || c[1].TestUnits != 100 || !(c[1].RMSETest < 15) {
		t.Errorf("the last champion %+v", s.Champion)
	}
	if worst := worstSubset(s.Retrainings); worst == nil || worst.Ratio > retrain.DefaultConfig().Gate.Margin {
		t.Errorf("a promotion made a subset worse by more than the margin, or was not measured: %+v", worst)
	}
	if strings.Contains(out, "%  ") || !strings.Contains(out, "out/report/index.html") || !strings.Contains(errs, "T1 begins: FD003") {
		t.Errorf("stdout:\n%s\nstderr:\n%s", out, errs)
	}
	checkReport(t, dir)
}

// TestDemoOffline has neither data nor a network: the demo makes engines up, says so, and the story holds.
func TestDemoOffline(t *testing.T) {
	dead := "http://127.0.0.1:1"
	code, out, errs, dir := demoRun(t, []string{"HTTP_PROXY=" + dead, "HTTPS_PROXY=" + dead}, "--subsets", "FD001,FD003")
	s, _ := readSummary(t, dir)
	t.Logf("%.0f s\n%s", s.Seconds, out)
	if code != exitOK || len(s.Missing) != 0 {
		t.Errorf("exit %d, did not happen: %q\n%s", code, s.Missing, errs)
	}
	if !s.Synthetic || s.DataSource != "synthetic" || !strings.Contains(out, "*** SYNTHETIC DATA") || !strings.Contains(errs, "*** SYNTHETIC DATA") {
		t.Errorf("it does not say that its engines are made up:\n%s%s", errs, out)
	}
	page, err := os.ReadFile(filepath.Join(dir, "out", "report", "index.html"))
	if err != nil || !strings.Contains(strings.ToLower(string(page)), "synthetic") {
		t.Errorf("the page does not say so: %v", err)
	}
	checkReport(t, dir)
}
