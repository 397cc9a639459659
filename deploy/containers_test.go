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
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

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

// build makes the image of the Dockerfile in a context that holds what .dockerignore lets through of it.
func (e engine) build(ctx context.Context) string {
	e.t.Helper()
	dir := e.t.TempDir()
	for from, to := range map[string]string{buildCommand(e.t): "bin/turbofan", "docker/Dockerfile": "deploy/docker/Dockerfile",
		"docker/data/README": "deploy/docker/data/README", "../.dockerignore": ".dockerignore"} {
		copyFile(e.t, from, filepath.Join(dir, to))
	}
	tag := e.run + ":image"
	e.must(ctx, "build", "-f", filepath.Join(dir, "deploy/docker/Dockerfile"), "-t", tag, dir)
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

// composeService is as much of a service as a container needs.
type composeService struct {
	Command     []string
	Environment map[string]string
	Volumes     []string
	Ports       []string
	Tmpfs       []string
	CapDrop     []string `yaml:"cap_drop"`
	SecurityOpt []string `yaml:"security_opt"`
	ReadOnly    bool     `yaml:"read_only"`
	DependsOn   map[string]struct{ Condition string }
	Healthcheck struct{ Test []string }
}

func readCompose(t *testing.T) map[string]composeService {
	t.Helper()
	b, err := os.ReadFile("compose/docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	withDefaults := regexp.MustCompile(`\$\{\w+:-([^}]*)\}`).ReplaceAll(b, []byte("$1"))
	var file struct{ Services map[string]composeService }
	if err := yaml.Unmarshal(withDefaults, &file); err != nil {
		t.Fatal(err)
	}
	return file.Services
}

// start runs a service of the compose file as docker compose would, on a network of its own.
func (e engine) start(ctx context.Context, image, data, name string, s composeService, env ...string) {
	e.t.Helper()
	// docker run can only give a check to a shell, which the image does not have.
	check, err := json.Marshal(s.Healthcheck.Test[1:])
	if err != nil {
		e.t.Fatal(err)
	}
	dir, tag := e.t.TempDir(), e.run+":"+name
	text := fmt.Sprintf("FROM %s\nHEALTHCHECK --interval=1s --timeout=5s --start-period=60s CMD %s\n", image, check)
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(text), 0o600); err != nil {
		e.t.Fatal(err)
	}
	e.must(ctx, "build", "-t", tag, dir)
	e.t.Cleanup(func() { e.must(context.WithoutCancel(ctx), "image", "rm", "-f", tag) })
	args := []string{"run", "-d", "--name", e.run + "-" + name, "--network", e.run, "--network-alias", name}
	if s.ReadOnly {
		args = append(args, "--read-only")
	}
	for flag, values := range map[string][]string{"--tmpfs": s.Tmpfs, "--cap-drop": s.CapDrop, "--security-opt": s.SecurityOpt, "-e": env} {
		for _, v := range values {
			args = append(args, flag, v)
		}
	}
	for k, v := range s.Environment {
		args = append(args, "-e", k+"="+v)
	}
	for _, p := range s.Ports { // on a free port of the host, so that tests disturb nothing
		args = append(args, "-p", "127.0.0.1::"+p[strings.LastIndexByte(p, ':')+1:])
	}
	for _, v := range s.Volumes {
		from, to, _ := strings.Cut(v, ":")
		if strings.HasPrefix(to, "/cmapss") {
			from = data
		} else {
			from = e.run + "-" + from
		}
		args = append(args, "-v", from+":"+to)
	}
	e.must(ctx, append(append(args, tag), s.Command...)...)
	e.t.Cleanup(func() { e.must(context.WithoutCancel(ctx), "rm", "-f", "-v", e.run+"-"+name) })
}

func (e engine) healthy(ctx context.Context, name string) {
	e.t.Helper()
	await(ctx, e.t, name+" to be healthy", func(ctx context.Context) error {
		state, err := e.docker(ctx, "inspect", "-f", "{{.State.Status}} {{.State.Health.Status}}", e.run+"-"+name)
		if err == nil && state != "running healthy" {
			log, logErr := e.docker(ctx, "logs", "--tail", "5", e.run+"-"+name)
			err = errors.Join(fmt.Errorf("it is %s: %s", state, log), logErr)
		}
		return err
	})
}

// url of a service, on the port of the host that it was given at its last start.
func (e engine) url(ctx context.Context, name string, port int) string {
	e.t.Helper()
	return "http://" + e.must(ctx, "port", e.run+"-"+name, strconv.Itoa(port)+"/tcp")
}

// TestContainers builds the image, runs the roles as the compose file says, in the order of health that it asks for, and
// takes them through predictions, outcomes, a check, a retraining and a swap. Then each container is stopped and
// started, and everything that was acknowledged must still be there.
func TestContainers(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	t.Cleanup(cancel)
	e := findEngine(ctx, t)
	image := e.build(ctx)
	size, err := strconv.Atoi(e.must(ctx, "image", "inspect", "-f", "{{.Size}}", image))
	if err != nil || size > maxImage {
		t.Errorf("the image weighs %d bytes, %v; it may weigh %d", size, err, maxImage)
	}
	if user := e.must(ctx, "image", "inspect", "-f", "{{.Config.User}}", image); user != "65532:65532" {
		t.Errorf("the image runs as %q", user)
	}
	data, healthy, other := fleet(t)
	e.must(ctx, "network", "create", e.run)
	t.Cleanup(func() { e.must(context.WithoutCancel(ctx), "network", "rm", e.run) })
	e.must(ctx, "volume", "create", e.run+"-state")
	t.Cleanup(func() { e.must(context.WithoutCancel(ctx), "volume", "rm", "-f", e.run+"-state") })

	services, running := readCompose(t), map[string]bool{}
	order := []string{"registry", "retraining-service", "prediction-api", "feedback-api", "drift-detector"}
	began := time.Now()
	for _, name := range order {
		for on := range services[name].DependsOn {
			if !running[on] {
				t.Fatalf("%s starts before %s", name, on)
			}
			e.healthy(ctx, on)
		}
		e.start(ctx, image, data, name, services[name], "TURBOFAN_MODEL_KIND=forest", "TURBOFAN_MODEL_FOLDS=2", "TURBOFAN_MODEL_MAX_ROWS=4000",
			"TURBOFAN_REFRESH_EVERY=200ms", "TURBOFAN_DRIFT_EVERY=0s")
		running[name] = true
	}
	for _, name := range order {
		e.healthy(ctx, name)
	}
	t.Logf("image %.1f MiB; all healthy with a first model after %.1f s", float64(size)/(1<<20), time.Since(began).Seconds())

	s := stack{"predict": {url: e.url(ctx, "prediction-api", 3000)}, "feedback": {url: e.url(ctx, "feedback-api", 3001)},
		"retrain": {url: e.url(ctx, "retraining-service", 3003)}, "drift": {url: e.url(ctx, "drift-detector", 3004)}}
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

	before := e.state(ctx, t)
	for _, name := range order {
		e.must(ctx, "stop", "-t", "40", e.run+"-"+name)
		if code := e.must(ctx, "inspect", "-f", "{{.State.ExitCode}}", e.run+"-"+name); code != "0" {
			t.Errorf("%s ended with %s", name, code)
		}
	}
	for _, name := range order {
		e.must(ctx, "start", e.run+"-"+name)
	}
	for _, name := range order {
		e.healthy(ctx, name)
	}
	if after := e.state(ctx, t); after != before {
		t.Errorf("stopping and starting changed\n%s\nto\n%s", before, after)
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
func (e engine) state(ctx context.Context, t *testing.T) string {
	t.Helper()
	predictions := httpapi.NewPredictionClient(e.url(ctx, "prediction-api", 3000), nil)
	stack{"predict": {url: e.url(ctx, "prediction-api", 3000)}}.awaitVersion(ctx, t, "2")
	unit, err := predictions.Unit(ctx, "b-7")
	if err != nil {
		t.Fatal(err)
	}
	jobs, err := httpapi.NewRetrainingClient(e.url(ctx, "retraining-service", 3003), nil).Jobs(ctx, 10)
	if err != nil {
		t.Fatal(err)
	}
	reports, err := httpapi.NewDriftClient(e.url(ctx, "drift-detector", 3004), nil).Reports(ctx, 10)
	if err != nil {
		t.Fatal(err)
	}
	performance, err := httpapi.NewFeedbackClient(e.url(ctx, "feedback-api", 3001), nil).Performance(ctx, 1000)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{"unit": unit, "jobs": jobs, "reports": reports, "performance": performance})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
