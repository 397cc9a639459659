package deploy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"turbofan"
	"turbofan/httpapi"
)

// maxImage is what the image may weigh.
const maxImage = 40 << 20

// engine is a Docker engine.
type engine struct {
	t    *testing.T
	host string // as DOCKER_HOST; "" is the default
	run  string // beginning of every name, so that tests do not meet
}

// findEngine takes the engine that answers, or, as root where dockerd is installed, starts one that touches nothing
// of the machine's: no default bridge, no firewall rules, plain directories.
func findEngine(ctx context.Context, t *testing.T) engine {
	t.Helper()
	need(t, "docker", "docker.io")
	e := engine{t: t, run: "turbofan-test-" + strconv.Itoa(os.Getpid())}
	if _, err := e.docker(ctx, "version", "--format", "{{.Server.Version}}"); err == nil {
		return e
	}
	daemon := need(t, "dockerd", "docker.io")
	if os.Getuid() != 0 {
		t.Skip("no Docker engine answers, and only root can start one")
	}
	dir, err := os.MkdirTemp("", "turbofan-docker-") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	e.host = "unix://" + filepath.Join(dir, "s")
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), daemon, "-H", e.host, "--bridge=none", "--iptables=false", "--ip6tables=false",
		"--storage-driver=vfs", "--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"), "--pidfile", filepath.Join(dir, "pid"))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err == nil {
			<-ended
		}
		log.Close()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	await(ctx, t, "the Docker engine", func(ctx context.Context) error {
		select {
		case err := <-ended:
			ended <- err
			text, readErr := os.ReadFile(log.Name())
			t.Skipf("no Docker engine can run here: %v %v\n%s", err, readErr, text[max(0, len(text)-500):])
		default:
		}
		_, err := e.docker(ctx, "version", "--format", "{{.Server.Version}}")
		return err
	})
	return e
}

func (e engine) docker(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Env = append(os.Environ(), "DOCKER_BUILDKIT=0")
	if e.host != "" {
		cmd.Env = append(cmd.Env, "DOCKER_HOST="+e.host)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("docker %s: %w\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out)), err
}

func (e engine) must(ctx context.Context, args ...string) string {
	e.t.Helper()
	out, err := e.docker(ctx, args...)
	if err != nil {
		e.t.Fatal(err)
	}
	return out
}

// build makes the image of the Dockerfile for an architecture, in a context that holds what .dockerignore lets through
// of it.
func (e engine) build(ctx context.Context, binary, arch string) string {
	e.t.Helper()
	dir := e.t.TempDir()
	for from, to := range map[string]string{binary: "bin/linux/turbofan", "docker/Dockerfile": "deploy/docker/Dockerfile",
		"docker/data/README": "deploy/docker/data/README", "../.dockerignore": ".dockerignore"} {
		copyFile(e.t, from, filepath.Join(dir, to))
	}
	tag := e.run + ":" + arch
	e.must(ctx, "build", "--platform", "linux/"+arch, "-f", filepath.Join(dir, "deploy/docker/Dockerfile"), "-t", tag, dir)
	e.t.Cleanup(func() { e.must(context.WithoutCancel(ctx), "image", "rm", "-f", tag) })
	return tag
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

// composition is the compose file's services of ours, run by docker-compose itself.
type composition struct {
	engine
	files, env []string
}

// compose prepares the shipped file: on free ports, so that tests disturb nothing, and with a model that is quickly
// trained. docker-compose 1, which Debian has, does not know the key name.
func (e engine) compose(image, data string) composition {
	e.t.Helper()
	need(e.t, "docker-compose", "docker-compose")
	b, err := os.ReadFile("compose/docker-compose.yml")
	if err != nil {
		e.t.Fatal(err)
	}
	text := regexp.MustCompile(`(?m)^name: .*\n`).ReplaceAllString(string(b), "")
	text = regexp.MustCompile(`"127\.0\.0\.1:\d+:(\d+)"`).ReplaceAllString(text, `"127.0.0.1::$1"`)
	quick := "services:\n"
	for _, name := range services {
		quick += "  " + name + ": {environment: {TURBOFAN_MODEL_KIND: forest, TURBOFAN_MODEL_FOLDS: '2', TURBOFAN_MODEL_MAX_ROWS: '4000', TURBOFAN_REFRESH_EVERY: 200ms, TURBOFAN_DRIFT_EVERY: 0s}}\n"
	}
	dir := e.t.TempDir()
	c := composition{engine: e, env: []string{"TURBOFAN_IMAGE=" + image, "CMAPSS_DIR=" + data}}
	for name, text := range map[string]string{"shipped.yml": text, "quick.yml": quick} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			e.t.Fatal(err)
		}
	}
	c.files = []string{"-f", filepath.Join(dir, "shipped.yml"), "-f", filepath.Join(dir, "quick.yml"), "--project-directory", "compose", "-p", e.run}
	return c
}

// services are those of the compose file that run our image and serve.
var services = []string{"registry", "retraining-service", "prediction-api", "feedback-api", "drift-detector", "console"}

func (c composition) do(ctx context.Context, args ...string) string {
	c.t.Helper()
	cmd := exec.CommandContext(ctx, "docker-compose", append(slices.Clone(c.files), args...)...)
	cmd.Env = append(os.Environ(), c.env...)
	if c.host != "" {
		cmd.Env = append(cmd.Env, "DOCKER_HOST="+c.host)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		c.t.Fatalf("docker-compose %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

// up starts all services, in the order of health that the file asks for, and waits until each is healthy.
func (c composition) up(ctx context.Context) {
	c.t.Helper()
	began := time.Now()
	c.do(ctx, append([]string{"up", "-d", "--no-build"}, services...)...)
	started := time.Since(began).Seconds()
	for _, name := range services {
		c.healthy(ctx, name)
	}
	c.t.Logf("all containers run after %.1f s and are healthy after %.1f s", started, time.Since(began).Seconds())
}

func (c composition) healthy(ctx context.Context, name string) {
	c.t.Helper()
	id := c.id(ctx, name)
	await(ctx, c.t, name+" to be healthy", func(ctx context.Context) error {
		state, err := c.docker(ctx, "inspect", "-f", "{{.State.Status}} {{.State.Health.Status}}", id)
		if err == nil && state != "running healthy" {
			log, logErr := c.docker(ctx, "logs", "--tail", "5", id)
			err = errors.Join(fmt.Errorf("it is %s: %s", state, log), logErr)
		}
		return err
	})
}

// url of a service, on the port of the host that it was given at its last start.
func (c composition) url(ctx context.Context, name string, port int) string {
	c.t.Helper()
	return "http://" + c.must(ctx, "port", c.id(ctx, name), strconv.Itoa(port)+"/tcp")
}

// id of a service's container. docker-compose takes a second to say it.
func (c composition) id(ctx context.Context, name string) string {
	c.t.Helper()
	return c.must(ctx, "ps", "-a", "-q", "--filter", "label=com.docker.compose.project="+c.run, "--filter", "label=com.docker.compose.service="+name)
}

// stack is where the services answer, by role.
func (c composition) stack(ctx context.Context) stack {
	c.t.Helper()
	s := stack{}
	for name, port := range map[string]int{"registry": 5001, "retraining-service": 3003, "prediction-api": 3000, "feedback-api": 3001, "drift-detector": 3004, "console": 8080} {
		s[jobs[name]] = role{url: c.url(ctx, name, port)}
	}
	return s
}

// TestContainers builds the image, runs the shipped compose file with docker-compose, and takes the services through
// predictions, outcomes, a check, a retraining and a swap. Then each container is stopped and started, and all of them
// are taken down in the middle of their work and put up again: everything that was acknowledged must still be there.
func TestContainers(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	e := findEngine(ctx, t)
	image := e.build(ctx, buildCommand(t), runtime.GOARCH)
	e.checkImage(ctx, image)
	data, healthy, other := fleet(t)
	c := e.compose(image, data)
	t.Cleanup(func() { c.do(context.WithoutCancel(ctx), "down", "-v", "-t", "40") })
	began := time.Now()
	c.up(ctx)
	s := c.stack(ctx)
	s.awaitVersion(ctx, t, "1")
	p := startPrometheus(ctx, t, need(t, "prometheus", "prometheus"), s, "prometheus/rules", "")
	p.awaitSamples(ctx, "up == 1", len(services))
	t.Logf("a first model serves and every target is up after %.1f s", time.Since(began).Seconds())
	c.checkContainers(ctx)

	s.produce(ctx, t, named("a-", healthy), 0, 60)
	if r := s.check(ctx, t); r.Verdict != turbofan.NoDrift {
		t.Fatalf("a fleet like that of training: %s because %s", r.Verdict, r.Because)
	}
	b := named("b-", other)
	s.produce(ctx, t, b, 0, 140)
	s.outcomes(ctx, t, b)
	r := s.check(ctx, t)
	if r.Verdict != turbofan.Drifted || r.RetrainingJob == "" {
		t.Fatalf("a fleet that fails in another way: %s because %s, job %q", r.Verdict, r.Because, r.RetrainingJob)
	}
	s.awaitJob(ctx, t)
	s.awaitVersion(ctx, t, "2")

	before := c.state(ctx)
	c.do(ctx, "stop")
	for _, name := range services {
		if code := c.must(ctx, "inspect", "-f", "{{.State.ExitCode}}", c.id(ctx, name)); code != "0" {
			t.Errorf("%s ended with %s", name, code)
		}
	}
	c.do(ctx, "start")
	for _, name := range services {
		c.healthy(ctx, name)
	}
	if after := c.state(ctx); after != before {
		t.Errorf("stopping and starting changed\n%s\nto\n%s", before, after)
	}
	c.downAndUp(ctx, healthy)
}

// checkImage holds the image to its size and its user.
func (e engine) checkImage(ctx context.Context, image string) {
	e.t.Helper()
	size, err := strconv.Atoi(e.must(ctx, "image", "inspect", "-f", "{{.Size}}", image))
	if err != nil || size > maxImage {
		e.t.Errorf("the image weighs %d bytes, %v; it may weigh %d", size, err, maxImage)
	}
	if got, want := e.must(ctx, "image", "inspect", "-f", "{{.Config.User}} {{.Config.Healthcheck.Test}}", image), "65532:65532 [CMD /turbofan health --live]"; got != want {
		e.t.Errorf("the image's user and check are %s, want %s", got, want)
	}
	e.t.Logf("%s: %.1f MiB", image, float64(size)/(1<<20))
}

// checkContainers holds what runs to what the file promises of it.
func (c composition) checkContainers(ctx context.Context) {
	c.t.Helper()
	for _, name := range services {
		const format = "{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}} {{.Config.User}}"
		if got, want := c.must(ctx, "inspect", "-f", format, c.id(ctx, name)), "true [ALL] [no-new-privileges:true] 65532:65532"; got != want {
			c.t.Errorf("%s runs with %s, want %s", name, got, want)
		}
	}
}

// downAndUp removes the containers while readings and outcomes come in, and demands each that was acknowledged of new
// ones over the same volumes.
func (c composition) downAndUp(ctx context.Context, units []turbofan.History) {
	c.t.Helper()
	s := c.stack(ctx)
	l := startLoad(ctx, s["predict"].url, 4, units)
	outcomes, stop := make(chan map[string]bool), make(chan struct{})
	go func() { outcomes <- s.inspections(ctx, "a-1", stop) }()
	await(ctx, c.t, "some answers", func(context.Context) error {
		if n := l.requests.Load(); n < 100 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	c.do(ctx, "down", "-t", "40")
	l.stop()
	close(stop)
	recorded := <-outcomes
	c.up(ctx)
	s = c.stack(ctx)
	s.awaitVersion(ctx, c.t, "2")
	s.demandAcknowledged(ctx, c.t, l, recorded)
}

// inspections sends outcomes of a unit one by one until stop is closed, and returns the keys of those that were acknowledged.
func (s stack) inspections(ctx context.Context, unit string, stop <-chan struct{}) map[string]bool {
	client, out := httpapi.NewFeedbackClient(s["feedback"].url, nil), map[string]bool{}
	for i := 1; ; i++ {
		select {
		case <-stop:
			return out
		default:
		}
		o := turbofan.Outcome{Key: fmt.Sprintf("inspection-%d", i), UnitID: unit, Cycle: i, Event: "inspection"}
		if _, err := client.Record(ctx, []turbofan.Outcome{o}); err == nil {
			out[o.Key] = true
		}
	}
}

// TestImageForARM builds the image for the other processor that people run.
func TestImageForARM(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	e := findEngine(ctx, t)
	binary := filepath.Join(t.TempDir(), "turbofan")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "../cmd/turbofan")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=arm64")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the command: %v\n%s", err, out)
	}
	image := e.build(ctx, binary, "arm64")
	e.checkImage(ctx, image)
	if arch := e.must(ctx, "image", "inspect", "-f", "{{.Architecture}}", image); arch != "arm64" {
		t.Errorf("the image is for %s", arch)
	}
}

// awaitVersion waits until a version serves.
func (s stack) awaitVersion(ctx context.Context, t *testing.T, version string) {
	t.Helper()
	await(ctx, t, "version "+version+" to serve", func(ctx context.Context) error {
		m, err := s.predictions().Serving(ctx)
		if err == nil && m.ModelVersion != version {
			err = fmt.Errorf("version %s serves", m.ModelVersion)
		}
		return err
	})
}

// state is what must outlive the containers, as the API tells it.
func (c composition) state(ctx context.Context) string {
	t, s := c.t, c.stack(ctx)
	t.Helper()
	s.awaitVersion(ctx, t, "2")
	unit, err := s.predictions().Unit(ctx, "b-7")
	if err != nil {
		t.Fatal(err)
	}
	jobs, err := s.jobs().Jobs(ctx, 10)
	if err != nil {
		t.Fatal(err)
	}
	reports, err := httpapi.NewDriftClient(s["drift"].url, nil).Reports(ctx, 10)
	if err != nil {
		t.Fatal(err)
	}
	performance, err := httpapi.NewFeedbackClient(s["feedback"].url, nil).Performance(ctx, 1000)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{"unit": unit, "jobs": jobs, "reports": reports, "performance": performance})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
