//go:build unix

package mlflow_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"turbofan/internal/porttest"
	"turbofan/registry"
)

// python returns the interpreter of .venv/name, which scripts/venv.sh makes. Without it the test is skipped, except in
// CI, which must not pass without it.
func python(t testing.TB, name string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("drives Python: not with -short")
	}
	bin, err := filepath.Abs(filepath.Join("..", ".venv", name, "bin", "python"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(bin); err == nil {
		return bin
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is missing: run scripts/venv.sh %s with its packages", bin, name)
	}
	t.Skipf("%s is missing: scripts/venv.sh makes it", bin)
	return ""
}

// The stock client, of both generations, does a data scientist's day against our server.
func TestStockClient(t *testing.T) {
	for _, c := range []struct {
		venv   string
		shared bool // clients write to the server's disk by themselves
	}{{"mlflow2", false}, {"mlflow3", false}, {"mlflow2", true}, {"mlflow3", true}} {
		t.Run(fmt.Sprintf("%s,shared=%t", c.venv, c.shared), func(t *testing.T) {
			bin := python(t, c.venv)
			dir := t.TempDir()
			var cfg registry.Config
			if c.shared {
				cfg.ArtifactRoot = "file://" + filepath.ToSlash(filepath.Join(dir, "shared"))
			}
			uri := serve(t, openRegistryAt(t, dir, cfg))
			cmd := exec.CommandContext(t.Context(), bin, filepath.Join("testdata", "drive.py"), uri)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			t.Logf("%s", out)
		})
	}
}

// Corners of the API that a day does not reach, through the newest client and plain requests.
func TestStockClientCorners(t *testing.T) {
	bin := python(t, "mlflow3")
	uri := serve(t, openRegistry(t))
	out, err := exec.CommandContext(t.Context(), bin, filepath.Join("testdata", "rest.py"), uri).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

// The same contract as the embedded registry's, over the real server.
func TestConformanceRealServer(t *testing.T) {
	for _, venv := range []string{"mlflow2", "mlflow3"} {
		t.Run(venv, func(t *testing.T) {
			conformance(t, newClient(t, realServer(t, python(t, venv))))
		})
	}
}

// realServer starts MLflow's own server and returns its address.
func realServer(t testing.TB, bin string) string {
	t.Helper()
	dir := t.TempDir()
	port := porttest.Port(t)
	cmd := exec.Command(bin, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", port, "--workers", "1",
		"--backend-store-uri", "sqlite:///"+filepath.Join(dir, "mlflow.db"), "--artifacts-destination", filepath.Join(dir, "artifacts"))
	cmd.Env = append(os.Environ(), "MLFLOW_DISABLE_TELEMETRY=true", "DO_NOT_TRACK=true", "PATH="+filepath.Dir(bin)+":"+os.Getenv("PATH"))
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = cmd.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	go func() {
		var b strings.Builder
		for s := bufio.NewScanner(said); s.Scan(); {
			fmt.Fprintln(&b, s.Text())
		}
		lines <- b.String()
		cancel() // nobody writes any more: the server has gone
	}()
	t.Cleanup(func() {
		// The server is a family of processes.
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Error(err)
		}
		log := <-lines
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			t.Logf("MLflow said:\n%s", log)
		}
	})
	uri := "http://127.0.0.1:" + port
	for tick := time.NewTicker(100 * time.Millisecond); ; {
		if healthy(ctx, uri) {
			tick.Stop()
			return uri
		}
		select {
		case <-ctx.Done():
			t.Fatal("MLflow's server did not start")
		case <-tick.C:
		}
	}
}

func healthy(ctx context.Context, uri string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, uri+"/health", nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err == nil && resp.StatusCode == http.StatusOK
}
