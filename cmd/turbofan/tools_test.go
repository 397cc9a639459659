package main

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"turbofan/model"
)

// TestEvaluateJSON reads the table as a program does: an array of objects on stdout and nothing else there.
func TestEvaluateJSON(t *testing.T) {
	fleet, data := must(t, shared.fleet), must(t, shared.trained)
	code, out, errs := call(t, "evaluate", "--data", fleet, "--data-dir", data, "--subsets", "FD001,FD003", "--json")
	if code != exitOK || strings.Contains(errs, "rmse") {
		t.Fatalf("exit %d\n%s", code, errs)
	}
	var table []map[string]any
	if err := json.Unmarshal([]byte(out), &table); err != nil || len(table) != 2 {
		t.Fatalf("%v\n%s", err, out)
	}
	for i, subset := range []string{"FD001", "FD003"} {
		row := table[i]
		if row["subset"] != subset || row["units"] != 24.0 {
			t.Errorf("row %d is %v", i, row)
		}
		for _, key := range []string{"rmse_clipped", "rmse_raw", "score", "mae", "coverage", "width", "auc"} {
			if v, ok := row[key].(float64); !ok || v < 0 {
				t.Errorf("%s: %s is %v", subset, key, row[key])
			}
		}
	}
	page := filepath.Join(t.TempDir(), "evaluation.html")
	code, text, _ := call(t, "evaluate", "--data", fleet, "--data-dir", data, "--subsets", "FD001,FD003", "--html", page)
	html, err := os.ReadFile(page)
	for _, want := range []string{"Truths inside the interval", "promised", "Failure probability", "FD003", "The protocol"} {
		if err != nil || !strings.Contains(string(html), want) {
			t.Errorf("the page does not say %q (%v)", want, err)
		}
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if code != exitOK || len(lines) != 3 || !strings.Contains(lines[0], "RMSE clipped") || !strings.Contains(lines[2], "FD003") {
		t.Errorf("the table: %d\n%s", code, text)
	}
}

// TestToolsKeepStdoutForResults trains where progress is told, and reads stdout as JSON.
func TestToolsKeepStdoutForResults(t *testing.T) {
	fleet := must(t, shared.fleet)
	out := filepath.Join(t.TempDir(), "model")
	code, stdout, stderr := call(t, "train", "--data", fleet, "--folds", "2", "--model", "forest", "--register=false", "--out", out, "--json")
	var result struct {
		Digest    string
		Directory string
		Metrics   map[string]any
	}
	if err := json.Unmarshal([]byte(stdout), &result); err != nil || code != exitOK || result.Directory != out || len(result.Digest) != 64 || result.Metrics["rmse_clipped"] == nil {
		t.Errorf("train: %d %v\n%s", code, err, stdout)
	}
	if !strings.Contains(stderr, "training forest on 24 units of FD001") || !strings.Contains(stderr, "fit 1 of 3") {
		t.Errorf("progress was told as\n%s", stderr)
	}
	code, stdout, _ = call(t, "predict", "--model-dir", out, "--format", "json", filepath.Join(fleet, "test_FD001.txt"))
	var rows []fleetRow
	if err := json.Unmarshal([]byte(stdout), &rows); err != nil || code != exitOK || len(rows) != 24 {
		t.Fatalf("predict: %d %v\n%s", code, err, stdout)
	}
	for i := 1; i < len(rows); i++ {
		if rows[i].FailureProbability > rows[i-1].FailureProbability {
			t.Errorf("unit %s is more urgent than %s above it", rows[i].UnitID, rows[i-1].UnitID)
		}
	}
	code, stdout, _ = call(t, "version", "--json")
	var b buildInfo
	if err := json.Unmarshal([]byte(stdout), &b); err != nil || code != exitOK || b.Version == "" || b.GoVersion == "" {
		t.Errorf("version: %d %v %s", code, err, stdout)
	}
}

// TestInterrupted stops long work as Ctrl-C does: the status is 130 and nothing is left half-written.
func TestInterrupted(t *testing.T) {
	fleet := must(t, shared.fleet)
	slow := []string{"--data", fleet, "--folds", "12", "--model", "blend"}
	for name, args := range map[string][]string{
		"train":    append([]string{"train", "--data-dir", "data", "--out", "model"}, slow...),
		"evaluate": {"evaluate", "--data", fleet, "--subsets", "FD001", "--train", "blend"},
		"demo":     {"demo", "--data", fleet, "--subsets", "FD001,FD003", "--model", "blend", "--data-dir", "data"},
	} {
		t.Run(name, func(t *testing.T) {
			tmp := t.TempDir()
			p := start(t, []string{"TMPDIR=" + tmp}, args...)
			p.await("fit 1 of")
			if code := p.signal(os.Interrupt); code != exitInterrupted {
				t.Errorf("exit %d\n%s", code, p.log())
			}
			if !strings.HasSuffix(p.log(), "turbofan: interrupted") {
				t.Errorf("it said\n%s", p.log())
			}
			var left []string
			for _, dir := range []string{tmp, p.cmd.Dir} {
				err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
					if err == nil && !d.IsDir() {
						left = append(left, strings.TrimPrefix(path, dir+"/"))
					}
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			want := ""
			if name == "demo" {
				want = "data/demo.lock data/report/platform.log"
			}
			if got := strings.Join(left, " "); got != want {
				t.Errorf("left behind: %q", got)
			}
		})
	}
}

// TestHelp holds what every command's help must have.
func TestHelp(t *testing.T) {
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		args := append(strings.Fields(c.CommandPath())[1:], "--help")
		code, out, errs := call(t, args...)
		if code != exitOK || errs != "" || !strings.Contains(out, "Usage:\n  "+c.CommandPath()) {
			t.Errorf("%s: %d %q", args, code, errs)
		}
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: its short description is %q", c.CommandPath(), c.Short)
		}
		for line := range strings.Lines(c.Long) {
			if len([]rune(line)) > 118 {
				t.Errorf("%s: a line of its help has %d columns: %s", c.CommandPath(), len([]rune(line)), line)
			}
		}
		for line := range strings.Lines(c.Example) {
			if words := strings.Fields(line); len(words) > 0 && words[0] == "turbofan" {
				sub, _, err := c.Root().Find(words[1:])
				if err != nil || sub == c.Root() {
					t.Errorf("%s: the example %q names no command", c.CommandPath(), strings.TrimSpace(line))
				}
				for _, w := range words {
					name, _, _ := strings.Cut(strings.TrimPrefix(w, "--"), "=")
					if strings.HasPrefix(w, "--") && sub.Flags().Lookup(name) == nil {
						t.Errorf("%s: the example %q has a flag that there is not: %s", c.CommandPath(), strings.TrimSpace(line), w)
					}
					if w == "#" {
						break
					}
				}
			}
		}
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() {
				walk(sub)
			}
		}
	}
	walk(newRootCommand())
}

// endAt is what a person at the terminal does who sees a text on it and presses Ctrl-C.
type endAt struct {
	text string
	end  context.CancelFunc
}

func (w endAt) Write(b []byte) (int, error) {
	if strings.Contains(string(b), w.text) {
		w.end()
	}
	return len(b), nil
}

// An interrupt ends a table of seeds with the seeds that were done.
func TestInterruptedSeedsAreKept(t *testing.T) {
	fleet := must(t, shared.fleet)
	t.Setenv("TURBOFAN_MODEL_FOLDS", "2")
	t.Setenv("TURBOFAN_MODEL_MAX_ROWS", "1500")
	for at, want := range map[string]int{"seed 42": 0, "seed 43": 1, "seed 44": 2} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var out bytes.Buffer
		code := run(ctx, []string{"evaluate", "--data", fleet, "--json", "--subsets", "FD001", "--train", "forest,boosting", "--seeds", "3"}, &out, endAt{at, cancel})
		if code != exitInterrupted {
			t.Errorf("at %s: exit %d", at, code)
		}
		var rows []seedRow
		if err := json.Unmarshal(out.Bytes(), &rows); want > 0 && (err != nil || len(rows) != 2 || len(rows[0].Seeds) != want || rows[1].Model != "forest") || want == 0 && out.Len() > 0 {
			t.Errorf("at %s: %v, want two rows of %d seeds\n%s", at, err, want, out.String())
		}
	}
}

// TestEvaluateSeeds repeats a training: mean and deviation are those of the runs with one seed each.
func TestEvaluateSeeds(t *testing.T) {
	fleet := must(t, shared.fleet)
	t.Setenv("TURBOFAN_MODEL_FOLDS", "2") // eight trainings: what is told of them is asked here, not how good they are
	t.Setenv("TURBOFAN_MODEL_MAX_ROWS", "1500")
	table := func(args ...string) (rows []seedRow) {
		t.Helper()
		code, out, errs := call(t, append([]string{"evaluate", "--data", fleet, "--json"}, args...)...)
		if err := json.Unmarshal([]byte(out), &rows); code != exitOK || err != nil {
			t.Fatalf("exit %d, %v\n%s", code, err, errs)
		}
		return rows
	}
	rows := table("--subsets", "FD001", "--train", "forest", "--seeds", "2")
	if len(rows) != 2 {
		t.Fatalf("%d rows", len(rows))
	}
	for i, want := range []string{"forest cross-validation", "forest test"} {
		r := rows[i]
		if got := r.Model + " " + r.Protocol; got != want || r.Subset != "FD001" || r.Units != 24 || len(r.Seeds) != 2 {
			t.Errorf("row %d is %+v, want %s", i, r, want)
		}
		for _, c := range seedColumns() {
			s := r.Measured[c.key]
			if len(s.Values) != 2 || math.Abs(float64((s.Values[0]+s.Values[1])/2-s.Mean)) > 1e-9 || math.Abs(math.Abs(float64(s.Values[0]-s.Values[1]))/math.Sqrt2-float64(s.SD)) > 1e-9 {
				t.Errorf("%s: %s is %+v", want, c.key, s)
			}
		}
		if s := r.Measured["rmse_clipped"]; !(s.SD > 0) {
			t.Errorf("%s: two seeds give one error, %v", want, s)
		}
	}
	both := table("--subsets", "FD003,FD001", "--train", "forest,extra_trees", "--together")
	if len(both) != 8 || both[7].Model != "extra_trees" || both[0].Subset != "FD003" || both[3].Subset != "FD001" || both[3].Protocol != "test" || strings.Join(both[3].LearnedFrom, "+") != "FD003+FD001" || both[3].Units != 24 {
		t.Errorf("together: %+v", both)
	}
	pooled, preferred := table("--subsets", "FD003,FD001", "--train", "forest", "--pool"), map[string]int{}
	for _, r := range pooled {
		if r.Preferred {
			preferred[r.Subset+" "+r.Protocol]++
		}
		for _, o := range pooled {
			if r.Preferred && o.Subset == r.Subset && o.Protocol == r.Protocol && o.Measured["rmse_clipped"].Mean < r.Measured["rmse_clipped"].Mean {
				t.Errorf("%s learned from %v is preferred, but from %v it errs less", r.Subset, r.LearnedFrom, o.LearnedFrom)
			}
		}
	}
	if len(pooled) != 8 || len(preferred) != 2 || preferred["FD001 cross-validation"] != 1 || preferred["FD003 cross-validation"] != 1 {
		t.Errorf("pooled: %v of %+v", preferred, pooled)
	}
	code, out, _ := call(t, "evaluate", "--data", fleet, "--subsets", "FD001", "--train", "forest", "--json")
	var one []model.Metrics
	if err := json.Unmarshal([]byte(out), &one); code != exitOK || err != nil || one[0].RMSEClipped != rows[1].Measured["rmse_clipped"].Values[0] {
		t.Errorf("exit %d, %v: alone %v, in the table %+v", code, err, one, rows[1])
	}
	for want, args := range map[string][]string{
		"--seeds, --together and --pool are": {"--seeds", "2"},
		"--html draws models with one":       {"--seeds", "2", "--train", "forest", "--html", "x.html"},
		"--seeds: must be from 1 to 100":     {"--seeds", "0", "--train", "forest"},
		`--train: must be one of`:            {"--train", "forest,oracle"},
		"--pool tries every group":           {"--train", "forest", "--pool", "--together"},
	} {
		code, _, errs := call(t, append([]string{"evaluate", "--data", fleet}, args...)...)
		if code != exitUsage || !strings.Contains(errs, want) {
			t.Errorf("%v: exit %d, %q does not say %q", args, code, errs, want)
		}
	}
}
