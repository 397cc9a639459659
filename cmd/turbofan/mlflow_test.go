//go:build unix

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// MLflow's own clients work against a registry with keys: runs, files small and in parts, models. They take the key as a
// token, or as a password. The addresses of parts and ranges are asked without either: they carry a token,
// which is good for nothing else and in no log.
func TestStockClientWithKeys(t *testing.T) {
	operator, line := makeKey(t, "ops", "operator")
	keys := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(keys, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	p := serve(t, quick, "--data-dir", t.TempDir(), "--role", roleRegistry, "--keys-file", keys)
	for _, c := range []struct {
		venv string
		env  []string
	}{
		{"mlflow2", []string{"MLFLOW_TRACKING_USERNAME=anyone", "MLFLOW_TRACKING_PASSWORD=" + operator}},
		{"mlflow3", []string{"MLFLOW_TRACKING_TOKEN=" + operator}},
	} {
		t.Run(c.venv, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), python(t, c.venv), filepath.Join("testdata", "keys.py"), p.urls[roleRegistry], t.TempDir())
			cmd.Env = append(os.Environ(), append(c.env, "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD=true", "MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE=1000000", "MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE=5242880",
				"MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD=true", "MLFLOW_MULTIPART_DOWNLOAD_MINIMUM_FILE_SIZE=1000000", "MLFLOW_MULTIPART_DOWNLOAD_CHUNK_SIZE=5242880")...)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		})
	}
	if log := p.log(); !strings.Contains(log, "refused") || strings.Contains(log, "token=") {
		t.Errorf("the log tells a token, or no refusal:\n%s", log)
	}
}

// python returns the interpreter of .venv/name, which scripts/venv.sh makes. Without it the test is skipped, except in
// CI.
func python(t *testing.T, name string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("drives Python: not with -short")
	}
	bin, err := filepath.Abs(filepath.Join("..", "..", ".venv", name, "bin", "python"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(bin); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is missing: run scripts/venv.sh %s with its packages", bin, name)
		}
		t.Skipf("%s is missing: scripts/venv.sh makes it", bin)
	}
	return bin
}
