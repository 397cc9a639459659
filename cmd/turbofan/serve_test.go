package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"turbofan"
	"turbofan/dataset"
	"turbofan/httpapi"
	"turbofan/internal/porttest"
	"turbofan/mlflow"
)

// quick makes a first training take a second.
var quick = []string{"TURBOFAN_MODEL_FOLDS=2", "TURBOFAN_MODEL_KIND=forest", "TURBOFAN_REFRESH_EVERY=100ms"}

// histories are the training units of the synthetic fleet.
func histories(t *testing.T, subset string) []turbofan.History {
	t.Helper()
	train, _, err := dataset.LoadCMAPSS(must(t, shared.fleet), subset)
	if err != nil {
		t.Fatal(err)
	}
	return train.Units
}

func ask(t *testing.T, c turbofan.PredictionService, readings ...turbofan.Reading) []turbofan.Prediction {
	t.Helper()
	out, err := c.Predict(t.Context(), turbofan.PredictRequest{Readings: readings})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestServeTrainsServesAndContinues(t *testing.T) {
	dir, unit := filepath.Join(t.TempDir(), "deep", "data"), histories(t, "FD001")[0]
	args := []string{"--data", must(t, shared.fleet), "--data-dir", dir}
	p := serve(t, quick, args...)
	if code, body := p.post(rolePredict, "/predict", `{"unit_id":"a","cycle":1,"settings":[0,0,100],"sensors":[]}`); code == http.StatusOK {
		t.Errorf("without a model it answered %d %s", code, body)
	}
	p.ready(rolePredict)
	first := ask(t, p.predictions(), unit.Readings[:40]...)
	end := unit.FailedAtCycle
	receipts, err := p.feedback().Record(t.Context(), []turbofan.Outcome{{UnitID: unit.UnitID, FailedAtCycle: &end}})
	if err != nil || len(receipts) != 1 || receipts[0].Predictions != 40 {
		t.Fatalf("feedback: %+v, %v", receipts, err)
	}
	if code := p.signal(syscall.SIGTERM); code != exitOK {
		t.Errorf("SIGTERM ended it with %d, want 0", code)
	}

	p = serve(t, quick, args...)
	t.Logf("a start over an existing data directory is ready after %s", p.ready(rolePredict))
	serving, err := p.predictions().Serving(t.Context())
	if err != nil || serving.ModelVersion != "1" {
		t.Errorf("serving %+v, %v", serving, err)
	}
	status, err := p.predictions().Unit(t.Context(), unit.UnitID)
	if err != nil || status.Readings != 40 || status.LastCycle != unit.Readings[39].Cycle {
		t.Errorf("the unit after a restart: %+v, %v", status.UnitSummary, err)
	}
	if again := ask(t, p.predictions(), unit.Readings[39])[0]; again.ID != first[39].ID || again.RUL != first[39].RUL {
		t.Errorf("the newest reading got %+v, before %+v", again, first[39])
	}
	next := ask(t, p.predictions(), unit.Readings[40])[0]
	if old := ask(t, p.predictions(), unit.Readings[3])[0]; old.ID != first[3].ID || old.RUL != first[3].RUL {
		t.Errorf("an old reading sent again after a restart got %+v, before %+v", old, first[3])
	}
	changed := renamed(unit.UnitID, unit.Readings[3:4])
	changed[0].Sensors = slices.Clone(changed[0].Sensors)
	changed[0].Sensors[1]++
	if _, err := p.predictions().Predict(t.Context(), turbofan.PredictRequest{Readings: changed}); turbofan.ErrorCode(err) != turbofan.EConflict {
		t.Errorf("an old cycle with other values after a restart: %v", err)
	}
	// A unit that never met the restart must get the same answer: its state was rebuilt, not guessed.
	whole := ask(t, p.predictions(), renamed("straight", unit.Readings[:41])...)
	if whole[40].RUL != next.RUL {
		t.Errorf("after a restart cycle 41 gets %g, without one %g", next.RUL, whole[40].RUL)
	}
	outcomes, err := p.feedback().Outcomes(t.Context(), turbofan.OutcomeQuery{})
	if err != nil || len(outcomes) != 1 || outcomes[0].UnitID != unit.UnitID {
		t.Errorf("outcomes after a restart: %+v, %v", outcomes, err)
	}
	if code := p.signal(os.Interrupt); code != exitOK {
		t.Errorf("Ctrl-C ended it with %d, want 0", code)
	}
	if !strings.Contains(p.log(), "stopped") {
		t.Error("the log does not say that it stopped")
	}
}

// shifted returns the units as sensors that read half a percent too high would tell them.
func shifted(units []turbofan.History) []turbofan.History {
	for _, u := range units {
		for _, r := range u.Readings {
			for i := range r.Sensors {
				r.Sensors[i] *= 1.005
			}
		}
	}
	return units
}

func longest(units []turbofan.History) int {
	n := 0
	for _, u := range units {
		n = max(n, len(u.Readings))
	}
	return n
}

func renamed(id string, rs []turbofan.Reading) []turbofan.Reading {
	out := make([]turbofan.Reading, len(rs))
	for i, r := range rs {
		r.UnitID = id
		out[i] = r
	}
	return out
}

// slowRequest begins a prediction and stops in the middle of its body, which is when the server has it in hand. finish
// sends the rest and returns the answer.
func slowRequest(t *testing.T, p *process) (finish func() (*http.Response, error)) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.urls[rolePredict], "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	values := make([]string, 21)
	for i := range values {
		values[i] = "500"
	}
	body := fmt.Sprintf(`{"unit_id":"slow","cycle":1,"settings":[0,0,100],"sensors":[%s]}`, strings.Join(values, ","))
	fmt.Fprintf(conn, "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", len(body))
	br := bufio.NewReader(conn)
	if line, err := br.ReadString('\n'); err != nil || !strings.Contains(line, "100") {
		t.Fatalf("the server said %q, %v", line, err)
	}
	if _, err := br.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, body[:20]); err != nil {
		t.Fatal(err)
	}
	return func() (*http.Response, error) {
		if _, err := io.WriteString(conn, body[20:]); err != nil {
			return nil, err
		}
		return http.ReadResponse(br, nil)
	}
}

func TestServeDrains(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			p := serve(t, nil, "--data-dir", dataDir(t))
			p.ready(rolePredict)
			finish := slowRequest(t, p)
			if err := p.cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			p.await("stopping: requests under way are answered")
			res, err := finish()
			if err != nil {
				t.Fatalf("the request under way was cut off: %v", err)
			}
			defer res.Body.Close()
			if body, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusOK || !strings.Contains(string(body), `"rul_prediction"`) {
				t.Errorf("the request under way got %d %s %v", res.StatusCode, body, err)
			}
			if code := p.wait(); code != exitOK {
				t.Errorf("exit %d, want 0", code)
			}
		})
	}
}

func TestServeSecondSignalEndsAtOnce(t *testing.T) {
	p := serve(t, nil, "--data-dir", dataDir(t))
	p.ready(rolePredict)
	slowRequest(t, p)
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	p.await("stopping")
	// The same signal told twice is one signal; a later one is another.
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for ended := false; !ended; {
		select {
		case <-again.C:
			_ = p.cmd.Process.Signal(os.Interrupt) // it may have ended
		case <-p.exited:
			ended = true
		}
	}
	if code := p.wait(); code != exitInterrupted || !strings.HasSuffix(p.log(), "turbofan: ended at once, by a second signal") {
		t.Errorf("a second Ctrl-C ended it with %d", code)
	}
}

func TestServePortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	dir := filepath.Join(t.TempDir(), "data")
	code, _, errs := call(t, "serve", "--role", "feedback", "--port", "feedback="+port, "--data-dir", dir)
	want := "turbofan: feedback cannot listen on 127.0.0.1:" + port + "; choose another port with --port feedback=NUMBER: listen tcp 127.0.0.1:" + port + ": bind: address already in use\n"
	if code != exitFailure || errs != want {
		t.Errorf("got %d %q, want %q", code, errs, want)
	}
}

// TestServeOneRoleAProcess runs each role in a process of its own over one data directory: the registry is reached over
// MLflow's REST API, the retraining over HTTP. The first one up is the one that needs the others most.
func TestServeOneRoleAProcess(t *testing.T) {
	dir, fleet := filepath.Join(t.TempDir(), "data"), must(t, shared.fleet)
	registryPort, retrainPort := porttest.Port(t), porttest.Port(t)
	env := append([]string{"TURBOFAN_URLS_REGISTRY=http://127.0.0.1:" + registryPort, "TURBOFAN_URLS_RETRAIN=http://127.0.0.1:" + retrainPort,
		"TURBOFAN_DATA_DIR=" + dir, "TURBOFAN_DRIFT_EVERY=0s"}, quick...)
	retrain := start(t, env, "serve", "--role", roleRetrain, "--port", "retrain="+retrainPort, "--data", fleet)
	retrain.await("ask the registry for a champion")
	registry := start(t, env, "serve", "--role", roleRegistry, "--port", "registry="+registryPort)
	predict := start(t, env, "serve", "--role", rolePredict, "--port", "predict=0")
	feedback := start(t, env, "serve", "--role", roleFeedback, "--port", "feedback=0")
	drift := start(t, env, "serve", "--role", roleDrift, "--port", "drift=0")
	predict.ready(rolePredict)
	client := predict.predictions()

	detector := httpapi.NewDriftClient(drift.urls[roleDrift], nil)
	defer detector.Close()
	if r, err := detector.Check(t.Context()); err != nil || r.Verdict != turbofan.InsufficientData {
		t.Fatalf("a check without readings: %+v, %v", r, err)
	}
	var outcomes []turbofan.Outcome
	units := shifted(histories(t, "FD003"))
	for k, u := range units { // most were last heard of some cycles before their end
		end := u.FailedAtCycle
		outcomes = append(outcomes, turbofan.Outcome{UnitID: "engine-" + u.UnitID, FailedAtCycle: &end})
		units[k].Readings = u.Readings[:len(u.Readings)-k%20]
	}
	for left := longest(units) - 1; left >= 0; left-- { // all end together: the newest readings are of all units
		var batch []turbofan.Reading
		for _, u := range units {
			if i := len(u.Readings) - 1 - left; i >= 0 {
				batch = append(batch, renamed("engine-"+u.UnitID, u.Readings[i:i+1])...)
			}
		}
		ask(t, client, batch...)
	}
	if _, err := feedback.feedback().Record(t.Context(), outcomes); err != nil {
		t.Fatal(err)
	}
	report, err := detector.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if report.Verdict != turbofan.Drifted || report.RetrainingJob == "" {
		t.Fatalf("verdict %s because %s, job %q", report.Verdict, report.Because, report.RetrainingJob)
	}
	job := retrain.job(report.RetrainingJob)
	if job.Status != turbofan.JobSuccess || job.Result.ModelVersion != "2" {
		t.Fatalf("job %+v came to %+v", job, job.Result)
	}
	reg, err := mlflow.NewClient(registry.urls[roleRegistry], nil)
	if err != nil {
		t.Fatal(err)
	}
	want := "1"
	if job.Result.Promoted { // so small a fleet may or may not pass the gate
		want = "2"
	}
	champion, err := reg.Version(t.Context(), "rul", "@"+turbofan.ChampionAlias)
	if err != nil || champion.Version != want {
		t.Fatalf("champion %+v, %v; the gate said %t", champion, err, job.Result.Promoted)
	}
	if err := reg.SetAlias(t.Context(), "rul", turbofan.ChampionAlias, "2"); err != nil {
		t.Fatal(err)
	}
	predict.until("version 2 serves", func() bool { s, err := client.Serving(t.Context()); return err == nil && s.ModelVersion == "2" })

	for role, p := range map[string]*process{rolePredict: predict, roleFeedback: feedback, roleRetrain: retrain, roleDrift: drift, roleRegistry: registry} {
		checkMetrics(t, p, role)
		if code := p.signal(syscall.SIGTERM); code != exitOK {
			t.Errorf("%s ended with %d", role, code)
		}
	}
}

// TestServeTwiceOneDirectory starts a whole platform twice over one file of state. The second would answer from states that
// do not know what the first was told, and is refused; one that only trains is welcome.
func TestServeTwiceOneDirectory(t *testing.T) {
	dir := dataDir(t)
	p := serve(t, nil, "--data-dir", dir)
	for _, args := range [][]string{{}, {"--role", rolePredict}} {
		other := serve(t, nil, append(args, "--data-dir", dir)...)
		want := "turbofan: start predict: another process answers from " + dir + ", and one that has both roles, predict and feedback, must be the only one: it keeps its units in memory; choose another --data-dir, leave the role predict to the other, or run predict and feedback apart"
		if code := other.wait(); code != exitFailure || other.log() != want {
			t.Errorf("the second process %q: %d\n%s", args, code, other.log())
		}
	}
	trainer := serve(t, []string{"TURBOFAN_URLS_REGISTRY=" + p.urls[roleRegistry]}, "--role", roleRetrain, "--data-dir", dir)
	for _, q := range []*process{p, trainer} {
		if code, body := q.get(roleRetrain, "/jobs"); code != http.StatusOK {
			t.Errorf("it answers %d %s", code, body)
		}
	}
}

// checkMetrics parses a role's /metrics, which refuses a family told twice, and looks for the process's own.
func checkMetrics(t *testing.T, p *process, role string) {
	t.Helper()
	code, text := p.get(role, "/metrics")
	if code != http.StatusOK {
		t.Errorf("%s: /metrics answers %d %s", role, code, text)
		return
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Errorf("%s: /metrics: %v", role, err)
		return
	}
	want := []string{"process_resident_memory_bytes", "go_goroutines", "go_info"}
	if role == rolePredict {
		want = append(want, "prediction_requests_total", "prediction_latency_seconds", "rul_prediction_value", "turbofan_model_info")
	}
	if role == roleFeedback {
		want = append(want, "feedback_count_total")
	}
	for _, name := range want {
		if f := families[name]; f == nil || len(f.Metric) == 0 {
			t.Errorf("%s: /metrics lacks %s", role, name)
		} else if strings.HasPrefix(name, "process_") && len(f.Metric) != 1 {
			t.Errorf("%s: %s is there %d times", role, name, len(f.Metric))
		}
		if n := strings.Count(text, "# TYPE "+name+" "); n != 1 {
			t.Errorf("%s: %s is told %d times", role, name, n)
		}
	}
}

func TestServeMetricsOfAllRoles(t *testing.T) {
	p := serve(t, nil, "--data-dir", dataDir(t))
	p.ready(rolePredict)
	unit := histories(t, "FD001")[1]
	ask(t, p.predictions(), unit.Readings[:3]...)
	end := unit.FailedAtCycle
	if _, err := p.feedback().Record(t.Context(), []turbofan.Outcome{{UnitID: unit.UnitID, FailedAtCycle: &end}}); err != nil {
		t.Fatal(err)
	}
	for _, role := range allRoles() {
		checkMetrics(t, p, role)
	}
}

// damage is a fault of the data directory that a start must survive or refuse in words.
type damage struct {
	name string
	do   func(t *testing.T, dir string)
	want string // of the message, "" where it must serve
}

func TestServeDamagedDataDirectory(t *testing.T) {
	replace := func(name string, content []byte) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			remove(t, filepath.Join(dir, name), filepath.Join(dir, name+"-wal"), filepath.Join(dir, name+"-shm"))
			if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	folder := func(name string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			remove(t, filepath.Join(dir, name))
			if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	junk := []byte(strings.Repeat("this is not a database ", 400))
	for _, tt := range []damage{
		{"state.db is damaged", replace("state.db", junk), "turbofan: open store DIR/state.db: the file is not a SQLite database, or it is damaged: restore a backup or move it away: failed to initialize: file is not a database (26)"},
		{"registry.db is damaged", replace("registry.db", junk), "turbofan: open store DIR/registry.db: the file is not a SQLite database, or it is damaged: restore a backup or move it away: failed to initialize: file is not a database (26)"},
		{"state.db is a directory", folder("state.db"), "turbofan: open store DIR/state.db: open DIR/state.db: is a directory"},
		{"registry.db is a directory", folder("registry.db"), "turbofan: open store DIR/registry.db: open DIR/registry.db: is a directory"},
		{"serving is a file", replace("serving", junk), "turbofan: start predict: open prediction service: mkdir DIR/serving: not a directory"},
		{"the caches are gone", func(t *testing.T, dir string) {
			remove(t, filepath.Join(dir, "serving"), filepath.Join(dir, "references"), filepath.Join(dir, "training"))
		}, ""},
		{"the cached model is damaged", damageCachedModel, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := dataDir(t)
			p := serve(t, nil, "--data-dir", dir)
			p.ready(rolePredict)
			p.signal(syscall.SIGTERM)
			tt.do(t, dir)
			p = serve(t, nil, "--data-dir", dir)
			if tt.want == "" {
				p.ready(rolePredict)
				return
			}
			if code := p.wait(); code != exitFailure || p.log() != strings.ReplaceAll(tt.want, "DIR", dir) {
				t.Errorf("exit %d, said:\n%s\nwant:\n%s", code, p.log(), strings.ReplaceAll(tt.want, "DIR", dir))
			}
		})
	}
}

func remove(t *testing.T, paths ...string) {
	t.Helper()
	for _, p := range paths {
		if err := os.RemoveAll(p); err != nil {
			t.Fatal(err)
		}
	}
}

func damageCachedModel(t *testing.T, dir string) {
	found, err := filepath.Glob(filepath.Join(dir, "serving", "*", "learner.bin"))
	if err != nil || len(found) == 0 {
		t.Fatalf("no cached model: %v", err)
	}
	for _, f := range found {
		if err := os.WriteFile(f, []byte("junk"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestServeNeverServesADamagedModel spoils the only copy of the champion: nothing serves, the reason is told, and the
// rest of the platform goes on.
func TestServeNeverServesADamagedModel(t *testing.T) {
	dir := dataDir(t)
	found, err := filepath.Glob(filepath.Join(dir, "artifacts", "registry", "*", "learner.bin"))
	if err != nil || len(found) != 1 {
		t.Fatalf("artifacts: %q, %v", found, err)
	}
	if err := os.WriteFile(found[0], []byte("junk"), 0o644); err != nil {
		t.Fatal(err)
	}
	p := serve(t, quick, "--data-dir", dir)
	p.until("the refusal is told", func() bool {
		code, body := p.get(rolePredict, "/readyz")
		return code == http.StatusServiceUnavailable && strings.Contains(body, "learner.bin")
	})
	code, body := p.post(rolePredict, "/predict", `{"unit_id":"a","cycle":1,"settings":[0,0,100],"sensors":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21]}`)
	if code != http.StatusServiceUnavailable {
		t.Errorf("/predict answers %d %s", code, body)
	}
	_, metrics := p.get(rolePredict, "/metrics")
	if !strings.Contains(metrics, "\nturbofan_model_refresh_failures_total ") || strings.Contains(metrics, "\nturbofan_model_refresh_failures_total 0\n") {
		t.Error("the metric does not count the refused version")
	}
	if code, body := p.get(roleFeedback, "/feedback"); code != http.StatusOK {
		t.Errorf("/feedback answers %d %s", code, body)
	}
}

func TestServeUnwritableDataDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	tests := [][2]string{
		{file, "turbofan: the data directory " + file + " cannot be made: not a directory; choose another with --data-dir\n"},
		{filepath.Join(file, "below"), "turbofan: the data directory " + filepath.Join(file, "below") + " cannot be made: not a directory; choose another with --data-dir\n"},
	}
	if os.Getuid() != 0 { // root may write everywhere
		locked := filepath.Join(t.TempDir(), "locked")
		if err := os.Mkdir(locked, 0o555); err != nil {
			t.Fatal(err)
		}
		tests = append(tests, [2]string{filepath.Join(locked, "data"), "turbofan: the data directory " + filepath.Join(locked, "data") + " cannot be made: permission denied; choose another with --data-dir\n"})
	}
	for _, tt := range tests {
		if code, _, errs := call(t, "serve", "--data-dir", tt[0], "--role", "feedback", "--port", "feedback=0"); code != exitFailure || errs != tt[1] {
			t.Errorf("%s: %d %q, want %q", tt[0], code, errs, tt[1])
		}
	}
}

// TestServeOnAFullDisk fills a small disk under a running platform: feedback that cannot be kept is refused, never
// acknowledged, and with room again the platform goes on by itself.
func TestServeOnAFullDisk(t *testing.T) {
	trained := must(t, shared.trained)
	size := 4<<20 + 4*folderSize(t, trained) // the registry's copy, the server's, the detector's and one on its way
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, fmt.Sprint("size=", size)); err != nil {
		t.Skipf("a small disk cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	dir := filepath.Join(disk, "data")
	if err := os.CopyFS(dir, os.DirFS(trained)); err != nil {
		t.Fatal(err)
	}
	p := serve(t, nil, "--data-dir", dir)
	p.ready(rolePredict)
	reading := histories(t, "FD001")[0].Readings[0]
	ask(t, p.predictions(), reading)
	ballast := filepath.Join(disk, "ballast")
	fill(t, ballast)
	kept := 0
	refused := ""
	for i := range 2000 {
		code, body := p.post(roleFeedback, "/feedback", fmt.Sprintf(`{"unit_id":%q,"cycle":1,"actual_rul":%d,"note":"%s"}`, reading.UnitID, i, strings.Repeat("x", 900)))
		if code != http.StatusOK {
			refused = fmt.Sprint(code, " ", body)
			break
		}
		kept++
	}
	if !strings.HasPrefix(refused, "5") || strings.Contains(refused, "sqlite") {
		t.Errorf("on a full disk feedback gets %q", refused)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	p.until("feedback is taken with room again", func() bool {
		code, body := p.post(roleFeedback, "/feedback", fmt.Sprintf(`{"unit_id":%q,"cycle":1,"actual_rul":5000}`, reading.UnitID))
		if code != http.StatusOK && code != http.StatusServiceUnavailable { // a commit that began before takes what waits behind it along
			t.Fatalf("with room again: %d %s", code, body)
		}
		return code == http.StatusOK
	})
	outcomes, err := p.feedback().Outcomes(context.Background(), turbofan.OutcomeQuery{Limit: 10_000})
	if err != nil || len(outcomes) != kept+1 {
		t.Errorf("%d outcomes are kept, %d were acknowledged: %v", len(outcomes), kept+1, err)
	}
	if code := p.signal(syscall.SIGTERM); code != exitOK {
		t.Errorf("exit %d", code)
	}
}

// folderSize is what a folder's files take, in bytes.
func folderSize(t *testing.T, dir string) int64 {
	t.Helper()
	size := int64(0)
	if err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return size
}

// fill writes a file until the disk has no room left.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{64 << 10, 512} {
		for block := make([]byte, size); ; {
			if _, err := f.Write(block); err != nil {
				break
			}
		}
	}
}
