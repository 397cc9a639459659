package httpapi_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestSchemathesis lets schemathesis, which knows nothing of us, read each role's /docs.json and send what it says and
// what it forbids. testdata/schemathesis.toml says which of its checks are ours to keep.
func TestSchemathesis(t *testing.T) {
	bin := filepath.Join(filepath.Dir(venv(t, "schemathesis")), "schemathesis")
	examples := os.Getenv("TURBOFAN_FUZZ_EXAMPLES")
	if examples == "" {
		examples = "12"
	}
	testdata, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for role, h := range roles(t) {
		t.Run(role, func(t *testing.T) {
			u := serve(t, h, nil)
			cmd := exec.CommandContext(t.Context(), bin, "--config-file", filepath.Join(testdata, "schemathesis.toml"), "run", u+"/docs.json", "--seed", "1", "--max-examples", examples, "--no-color")
			cmd.Dir = t.TempDir() // it keeps what it found in the working directory
			cmd.Env = append(os.Environ(), "SCHEMATHESIS_HOOKS=schemathesis_hooks", "PYTHONPATH="+testdata, "PYTHONDONTWRITEBYTECODE=1", "HYPOTHESIS_STORAGE_DIRECTORY="+t.TempDir())
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
