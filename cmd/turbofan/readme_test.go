package main

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"turbofan"
)

// realData returns the directory of the C-MAPSS files, as an absolute path; without them the test is skipped, in CI it
// fails.
func realData(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("TURBOFAN_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "cmapss")
	}
	if _, err := os.Stat(filepath.Join(dir, "train_FD001.txt")); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("C-MAPSS is not here, and in CI it must be: %v", err)
		}
		t.Skipf("C-MAPSS is not here; TURBOFAN_DATA may name its directory: %v", err)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}

// shBlock is one block of shell commands of a document.
type shBlock struct {
	line int
	skip string // the reason of a no-test comment before it
	text string
}

var noTest = regexp.MustCompile(`^<!-- no-test: (.+) -->$`)

// shBlocks returns the ```sh blocks of a document. A comment <!-- no-test: reason --> on the line before a block, or
// before the blank line before it, leaves it out by name.
func shBlocks(doc string) []shBlock {
	var out []shBlock
	lines := strings.Split(doc, "\n")
	for i := 0; i < len(lines); i++ {
		if lines[i] != "```sh" {
			continue
		}
		b := shBlock{line: i + 1}
		before := i - 1
		if before >= 0 && lines[before] == "" {
			before--
		}
		if before >= 0 {
			if m := noTest.FindStringSubmatch(lines[before]); m != nil {
				b.skip = m[1]
			}
		}
		for i++; i < len(lines) && lines[i] != "```"; i++ {
			b.text += lines[i] + "\n"
		}
		out = append(out, b)
	}
	return out
}

func TestSHBlocks(t *testing.T) {
	got := shBlocks("a\n```sh\ncurl x \\\n  -d '{\n}'\n```\n<!-- no-test: it deletes things -->\n\n```sh\nrm\n```\n```json\n{}\n```\n<!-- other -->\n```sh\nls\n```\n")
	want := []shBlock{{2, "", "curl x \\\n  -d '{\n}'\n"}, {9, "it deletes things", "rm\n"}, {16, "", "ls\n"}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// The commands of the README as a reader's shell would find them: curl fails on an answer of 400 or more, `go run
// ./cmd/turbofan` is the binary that was built already, serve goes on in the background until its first model serves,
// and make is not run inside of itself.
var stand = map[string]string{
	"curl": `exec "$REAL_CURL" --fail-with-body "$@"`,
	"go": `if [ "${1:-}" = run ] && [ "${2:-}" = ./cmd/turbofan ]; then shift 2; exec turbofan "$@"; fi
exec "$REAL_GO" "$@"`,
	"make": `echo "make $* is what runs this test"`,
	"turbofan": `case "${1:-}" in
serve)
	"$REAL_TURBOFAN" "$@" >"$SERVE_LOG" 2>&1 &
	echo $! >"$SERVE_PID"
	for _ in $(seq 3000); do
		"$REAL_CURL" -fsS http://127.0.0.1:3000/readyz >/dev/null 2>&1 && exit 0
		kill -0 "$(cat "$SERVE_PID")" 2>/dev/null || break
		sleep 0.2
	done
	cat "$SERVE_LOG"
	exit 1 ;;
demo) echo "the demo is what TestDemo runs" ;;
*) exec "$REAL_TURBOFAN" "$@" ;;
esac`,
}

// TestREADME runs every shell block of the README, one after the other, in an empty directory.
func TestREADME(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := shBlocks(string(doc))
	if len(blocks) == 0 {
		t.Fatal("the README has no shell block")
	}
	data := realData(t)
	for role, port := range defaultConfig().Ports {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("the port of %s is taken, and in CI it must not be: %v", role, err)
			}
			t.Skipf("the port of %s is taken: %v", role, err)
		}
		l.Close()
	}
	bin, work := t.TempDir(), t.TempDir()
	pid := filepath.Join(bin, "serve.pid")
	env := append(cleanEnv(), "PATH="+bin+":"+os.Getenv("PATH"), "TURBOFAN_DATA="+data, "REAL_TURBOFAN="+must(t, shared.binary),
		"SERVE_LOG="+filepath.Join(bin, "serve.log"), "SERVE_PID="+pid)
	for name, script := range stand {
		if name == "go" || name == "curl" {
			real, err := exec.LookPath(name)
			if err != nil {
				t.Skipf("%s is not here", name)
			}
			env = append(env, "REAL_"+strings.ToUpper(name)+"="+real)
		}
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { stopServed(t, pid) })
	var said strings.Builder
	for _, b := range blocks {
		t.Run("line "+strconv.Itoa(b.line), func(t *testing.T) {
			if b.skip != "" {
				t.Logf("left out: %s", b.skip)
				return
			}
			ctx, cancel := context.WithTimeout(t.Context(), 12*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, "sh", "-eu", "-c", b.text)
			cmd.Dir, cmd.Env = work, env
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			cmd.WaitDelay = time.Second // serve holds no end of these, but a grandchild might
			if err := cmd.Run(); err != nil {
				t.Fatalf("%v\n%s\n%s", err, b.text, out.String())
			}
			said.Write(out.Bytes())
		})
	}
	sameAnswer(t, string(doc), said.String())
}

// sameAnswer compares the prediction that the README shows with the first one that its commands got. Two cycles apart
// are allowed: a change of the learner moves the numbers a little, and the page need not follow each.
func sameAnswer(t *testing.T, doc, said string) {
	t.Helper()
	numbers := regexp.MustCompile(`"rul_prediction":([0-9.]+),"rul_lower":([0-9.]+),"rul_upper":([0-9.]+)`)
	want, got := numbers.FindStringSubmatch(doc), numbers.FindStringSubmatch(said)
	if want == nil || got == nil {
		t.Fatalf("no prediction: the README shows %q, its commands got %q", want, got)
	}
	for i := 1; i < len(want); i++ {
		w, errW := strconv.ParseFloat(want[i], 64)
		g, errG := strconv.ParseFloat(got[i], 64)
		if errW != nil || errG != nil || math.Abs(w-g) > 2 {
			t.Errorf("the README shows %s, its commands got %s", want[0], got[0])
			break
		}
	}
}

// stopServed ends what the README started, and waits: what still writes to a directory keeps it from being removed.
func stopServed(t *testing.T, pidFile string) {
	b, err := os.ReadFile(pidFile)
	if err != nil {
		return // the README did not get as far
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Error(err)
		return
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Errorf("the platform of the README was gone: %v", err)
		return
	}
	tick, late := time.NewTicker(10*time.Millisecond), time.After(patience)
	defer tick.Stop()
	for runs(pid) {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("the platform of the README did not end within %s", patience)
		}
	}
}

// runs tells whether a process that is no child of this one still runs; one that ended and that nobody waits for does not.
func runs(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || !strings.Contains(string(stat), ") Z ")
}

// TestPlanRequests sends the shapes of request that people send, as they would paste them.
func TestPlanRequests(t *testing.T) {
	p := serve(t, nil, "--data-dir", dataDir(t))
	p.ready(rolePredict)
	var list, flat, named []string
	for i, v := range histories(t, "FD001")[0].Readings[0].Sensors {
		list = append(list, fmt.Sprint(v))
		flat = append(flat, fmt.Sprintf(`"sensor_%d":%v`, i+1, v))
		named = append(named, fmt.Sprintf(`"s%d":%v`, i+1, v))
	}
	sensors, settings := "["+strings.Join(list, ",")+"]", `[-0.0007,-0.0004,100]`
	fields := strings.Join(flat, ",")
	course := func(unit string, from, to int) string {
		var rs []string
		for cycle := from; cycle <= to; cycle++ {
			rs = append(rs, fmt.Sprintf(`{"unit_id":%q,"cycle":%d,"settings":%s,"sensors":%s}`, unit, cycle, settings, sensors))
		}
		return strings.Join(rs, ",")
	}
	requests := []struct {
		role, method, path, body string
		status                   int
		want                     string
	}{
		{rolePredict, "POST", "/predict", `{"unit_id":"a","cycle":1,"settings":` + settings + `,"sensors":` + sensors + `}`, 200, `"rul_prediction"`},
		{rolePredict, "POST", "/predict", `{"unit_id":"b","cycle":1,"setting_1":-0.0007,"setting_2":-0.0004,"setting_3":100,` + fields + `}`, 200, `"model_version":"1"`},
		{rolePredict, "POST", "/predict", `{"unit_id":7,"cycle":1,"op_setting_1":0,"op_setting_2":0,"op_setting_3":100,` + fields + `}`, 200, `"unit_id":"7"`},
		{rolePredict, "POST", "/predict", `{"unit_id":"c","cycle":1,"settings":{"setting_1":0,"setting_2":0,"setting_3":100},"sensors":{` + strings.Join(named, ",") + `}}`, 200, `"failure_probability"`},
		{rolePredict, "POST", "/predict", `{"reading":{"unit_id":"d","cycle":1,"settings":` + settings + `,"sensors":` + sensors + `}}`, 200, `"health"`},
		{rolePredict, "POST", "/predict", `{"unit_id":"e","cycle":1,"explain":true,"settings":` + settings + `,"sensors":` + sensors + `}`, 200, `"drivers"`},
		{rolePredict, "POST", "/predict", `{"explain":true,"history":[` + course("h", 1, 40) + `]}`, 200, `"cycle":40,`},
		{rolePredict, "POST", "/predict", `{"readings":[` + course("h", 1, 40) + `]}`, 200, `"cycle":40,`}, // the history was not stored
		{rolePredict, "POST", "/predict_batch", `[` + course("h", 41, 60) + `]`, 200, `"cycle":60,`},
		{rolePredict, "GET", "/metrics", "", 200, "prediction_requests_total"},
		{rolePredict, "GET", "/model", "", 200, `"model_version":"1"`},
		{roleFeedback, "POST", "/feedback", `{"unit_id":"a","failed_at_cycle":192}`, 200, `"matched_predictions":1`},
		{rolePredict, "GET", "/units/a", "", 200, `"failed_at_cycle":192`},
		{roleFeedback, "POST", "/feedback", `{"unit_id":"a","failed_at_cycle":192,"event":"withdrawn"}`, 200, `"matched_predictions":1`},
		{rolePredict, "POST", "/predict", `{"unit_id":"a","cycle":200,"settings":` + settings + `,"sensors":` + sensors + `}`, 200, `"condition":0,"predicted_at"`}, // no warning between
		{roleFeedback, "POST", "/feedback", `{"unit_id":"a","failed_at_cycle":201}`, 200, `"matched_predictions":2`},
		{rolePredict, "GET", "/units/a", "", 200, `"failed_at_cycle":201`},
		{roleFeedback, "POST", "/feedback", `{"unit_id":7,"cycle":1,"actual_rul":112}`, 200, `"feedback_id"`},
		{roleFeedback, "GET", "/metrics", "", 200, "feedback_count_total"},
		{roleDrift, "POST", "/check", "", 200, `"insufficient_data"`},
		{roleDrift, "GET", "/metrics", "", 200, "drift"},
		{roleRetrain, "POST", "/retrain", `{"reason":"new bearings"}`, 202, `"job_id"`},
		{roleRetrain, "GET", "/jobs", "", 200, `"new bearings"`},
		{roleRegistry, "GET", "/health", "", 200, "OK"},
	}
	for _, r := range requests {
		code, body := 0, ""
		if r.method == http.MethodGet {
			code, body = p.get(r.role, r.path)
		} else {
			code, body = p.post(r.role, r.path, r.body)
		}
		if code != r.status || !strings.Contains(body, r.want) {
			t.Errorf("%s %s %s %s\ngot  %d %s\nwant %d with %s", r.role, r.method, r.path, r.body, code, body, r.status, r.want)
		}
	}
	jobs, err := p.retraining().Jobs(t.Context(), 1)
	if err != nil || len(jobs) != 1 {
		t.Fatalf("%d jobs, %v", len(jobs), err)
	}
	if j := p.job(jobs[0].ID); j.Status != turbofan.JobRefused && j.Status != turbofan.JobFailure {
		t.Errorf("a retraining without new units: %s %s", j.Status, j.Error)
	}
}
