package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"turbofan"
	"turbofan/httpapi"
)

// scratch holds what tests share: the command as it is shipped, a small fleet, and a data directory with a model.
type scratch struct {
	dir     string
	source  string // of this package: a test may be elsewhere when it is the first to build
	binary  func() (string, error)
	fleet   func() (string, error)
	trained func() (string, error)
}

var shared = newScratch()

func newScratch() *scratch {
	s := &scratch{}
	s.binary = sync.OnceValues(func() (string, error) {
		path := filepath.Join(s.dir, "turbofan")
		cmd := exec.Command("go", "build", "-o", path, ".")
		cmd.Dir, cmd.Env = s.source, append(os.Environ(), "CGO_ENABLED=0")
		out, err := cmd.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("build the command: %w\n%s", err, out)
		}
		return path, err
	})
	s.fleet = sync.OnceValues(func() (string, error) {
		dir := filepath.Join(s.dir, "fleet")
		return dir, s.command("data", "synth", "--out", dir, "--subsets", "FD001,FD003", "--units", "24", "--seed", "5")
	})
	s.trained = sync.OnceValues(func() (string, error) {
		fleet, err := s.fleet()
		if err != nil {
			return "", err
		}
		dir := filepath.Join(s.dir, "trained")
		return dir, s.command("train", "--data", fleet, "--data-dir", dir, "--folds", "2", "--model", "forest")
	})
	return s
}

// command runs the shipped command, which the race detector does not slow.
func (s *scratch) command(args ...string) error {
	binary, err := s.binary()
	if err != nil {
		return err
	}
	if out, err := exec.Command(binary, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("turbofan %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

func TestMain(m *testing.M) {
	code := func() int {
		dir, err := os.MkdirTemp("", "turbofan-cmd-")
		if err == nil {
			shared.source, err = os.Getwd()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		shared.dir = dir
		return m.Run()
	}()
	os.Exit(code)
}

func must[T any](t *testing.T, f func() (T, error)) T {
	t.Helper()
	v, err := f()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// dataDir returns a directory of the test's own, with a trained model in it.
func dataDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(dir, os.DirFS(must(t, shared.trained))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// process is the command in a process of its own.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	began  time.Time
	urls   map[string]string // of the roles it runs
	exited chan struct{}     // closed when it has ended

	mu     sync.Mutex
	stderr []string
	grown  chan struct{} // closed at the next line of stderr
}

// patience bounds every wait of these tests; none takes nearly as long on an idle machine.
const patience = 5 * time.Minute

// serve starts `turbofan serve` on free ports and returns when it has named them. env are further variables.
func serve(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	free := []string{"serve"}
	for _, r := range allRoles() {
		free = append(free, "--port", r+"=0")
	}
	p := start(t, env, append(free, args...)...)
	return p
}

// start starts any command; of one that serves it returns when that has named its ports.
func start(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, urls: map[string]string{}, exited: make(chan struct{}), grown: make(chan struct{})}
	p.cmd = exec.Command(must(t, shared.binary), args...)
	p.cmd.Env = append(cleanEnv(), env...)
	p.cmd.Dir = t.TempDir()
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.began = time.Now()
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	named := make(chan struct{})
	var readers sync.WaitGroup
	readers.Go(func() { p.readPorts(stdout, named) })
	readers.Go(func() { p.readLog(stderr) })
	go func() {
		readers.Wait()
		_ = p.cmd.Wait() // told by ProcessState
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("log of turbofan %s:\n%s", strings.Join(args, " "), p.log())
		}
	})
	if args[0] != "serve" {
		return p
	}
	select {
	case <-named:
	case <-p.exited:
	case <-time.After(patience):
		t.Fatalf("the ports were not named within %s", patience)
	}
	return p
}

// cleanEnv is the environment without what would tell the command something.
func cleanEnv() []string {
	var out []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "TURBOFAN_") {
			out = append(out, kv)
		}
	}
	return out
}

func (p *process) readPorts(r io.Reader, named chan struct{}) {
	s := bufio.NewScanner(r)
	for want := -1; s.Scan(); {
		if f := strings.Fields(s.Text()); len(f) == 2 && strings.HasPrefix(f[1], "http") {
			p.urls[f[0]] = f[1]
		}
		if f := strings.Fields(s.Text()); len(f) > 0 && f[0] == "turbofan" {
			want = 0
		}
		if want == 0 && len(p.urls) == len(p.roles()) {
			want = 1
			close(named)
		}
	}
}

// roles are those that the command line asks for.
func (p *process) roles() []string {
	var out []string
	for i, a := range p.cmd.Args {
		if a == "--role" {
			out = append(out, p.cmd.Args[i+1])
		}
	}
	if out == nil {
		return allRoles()
	}
	return out
}

func (p *process) readLog(r io.Reader) {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		p.mu.Lock()
		p.stderr = append(p.stderr, s.Text())
		close(p.grown)
		p.grown = make(chan struct{})
		p.mu.Unlock()
	}
}

func (p *process) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.stderr, "\n")
}

// await waits for a line of the log that holds text.
func (p *process) await(text string) string {
	p.t.Helper()
	late := time.After(patience)
	for from := 0; ; {
		p.mu.Lock()
		lines, grown := p.stderr[from:], p.grown
		p.mu.Unlock()
		for _, l := range lines {
			if strings.Contains(l, text) {
				return l
			}
		}
		from += len(lines)
		select {
		case <-grown:
		case <-p.exited:
			if strings.Contains(p.log(), text) {
				return text
			}
			p.t.Fatalf("it ended with %s and never said %q", p.cmd.ProcessState, text)
		case <-late:
			p.t.Fatalf("it did not say %q within %s", text, patience)
		}
	}
}

// signal sends sig and returns the exit code, -1 for a process that the signal ended.
func (p *process) signal(sig os.Signal) int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatal(err)
	}
	return p.wait()
}

func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(patience):
		p.t.Fatalf("it did not end within %s", patience)
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) kill() {
	_ = p.cmd.Process.Signal(syscall.SIGKILL) // it may have ended
	<-p.exited
}

// pause stops the process where it is, until resume or kill.
func (p *process) pause() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		p.t.Fatal(err)
	}
	p.until("stopped", func() bool { // a signal is sent before it is heard
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
		return err != nil || strings.Contains(string(stat), ") T ")
	})
}

func (p *process) resume() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		p.t.Fatal(err)
	}
}

// ready waits until a role answers /readyz with 200 and returns the time since the process was started.
func (p *process) ready(role string) time.Duration {
	p.t.Helper()
	p.until("ready", func() bool { code, _ := p.get(role, "/readyz"); return code == http.StatusOK })
	return time.Since(p.began)
}

// until asks again and again, for what another process says only when asked.
func (p *process) until(what string, done func() bool) {
	p.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for !done() {
		select {
		case <-tick.C:
		case <-p.exited:
			p.t.Fatalf("it ended with %s before: %s", p.cmd.ProcessState, what)
		case <-late:
			p.t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

func (p *process) get(role, path string) (int, string) {
	p.t.Helper()
	res, err := http.Get(p.urls[role] + path)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err.Error()
	}
	return res.StatusCode, string(b)
}

func (p *process) post(role, path, body string) (int, string) {
	p.t.Helper()
	res, err := http.Post(p.urls[role]+path, "application/json", strings.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err.Error()
	}
	return res.StatusCode, string(b)
}

func (p *process) predictions() *httpapi.PredictionClient {
	c := httpapi.NewPredictionClient(p.urls[rolePredict], nil)
	p.t.Cleanup(c.Close)
	return c
}

func (p *process) feedback() *httpapi.FeedbackClient {
	c := httpapi.NewFeedbackClient(p.urls[roleFeedback], nil)
	p.t.Cleanup(c.Close)
	return c
}

func (p *process) retraining() *httpapi.RetrainingClient {
	c := httpapi.NewRetrainingClient(p.urls[roleRetrain], nil)
	p.t.Cleanup(c.Close)
	return c
}

// job waits until a job has ended.
func (p *process) job(id string) turbofan.Job {
	p.t.Helper()
	c := p.retraining()
	var j turbofan.Job
	p.until("job "+id+" has ended", func() bool {
		var err error
		if j, err = c.Job(p.t.Context(), id); err != nil {
			p.t.Fatal(err)
		}
		return !j.Status.Active()
	})
	return j
}
