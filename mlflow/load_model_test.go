//go:build unix

package mlflow_test

import (
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"turbofan"
	"turbofan/dataset"
	"turbofan/model"
)

// The stock clients load the champion and answer as the platform does, without a warning.
func TestStockClientLoadsTheChampion(t *testing.T) {
	for _, venv := range []string{"mlflow2", "mlflow3"} {
		t.Run(venv, func(t *testing.T) {
			bin := python(t, venv)
			if err := exec.CommandContext(t.Context(), bin, "-c", "import onnx, onnxruntime").Run(); err != nil {
				if os.Getenv("CI") != "" {
					t.Fatalf("%s has no onnxruntime: %v", bin, err)
				}
				t.Skipf("%s has no onnxruntime: scripts/venv.sh makes it", bin)
			}
			reg := openRegistry(t)
			rows := registerChampion(t, reg)
			out, err := exec.CommandContext(t.Context(), bin, filepath.Join("testdata", "load_model.py"), serve(t, reg), rows).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			t.Logf("%s", out)
		})
	}
}

// registerChampion trains a small model, registers it as champion of "rul", and returns a file of rows with its answers.
func registerChampion(t *testing.T, reg turbofan.Registry) string {
	t.Helper()
	synth, _ := dataset.SynthSubset("FD001", 3)
	synth.TrainUnits, synth.TestUnits = 12, 4
	set, held := dataset.Synthesize(synth)
	cfg := model.DefaultConfig(model.Blend)
	cfg.Folds, cfg.Boosting.MaxIter, cfg.ExtraTrees.NEstimators, cfg.NJobs = 2, 40, 10, 2
	m, err := model.Train(t.Context(), cfg, model.Data{Schema: set.Schema, Units: set.Units}, nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := m.Save(filepath.Join(dir, "model")); err != nil {
		t.Fatal(err)
	}
	v, err := reg.CreateVersion(t.Context(), turbofan.ModelVersion{Name: "rul"}, filepath.Join(dir, "model"))
	if err != nil {
		t.Fatal(err)
	}
	if err := reg.SetAlias(t.Context(), "rul", turbofan.ChampionAlias, v.Version); err != nil {
		t.Fatal(err)
	}
	data, err := m.Spec().Transform(t.Context(), held.Units)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString(strings.Join(m.Spec().Columns, ",") + ",want\n")
	for i := range data.Len() {
		for _, x := range data.Row(i) {
			if !math.IsNaN(float64(x)) {
				b.WriteString(strconv.FormatFloat(float64(x), 'g', -1, 32))
			}
			b.WriteByte(',')
		}
		a, err := m.Predict(data.Row(i), false)
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(strconv.FormatFloat(a.RUL, 'g', -1, 64) + "\n")
	}
	path := filepath.Join(dir, "rows.csv")
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
