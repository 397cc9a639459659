package model_test

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"turbofan/dataset"
	"turbofan/feature"
	"turbofan/model"
)

// onnxPython returns an interpreter with ONNX Runtime, which scripts/test.sh makes. Without it the test is skipped,
// except in CI.
func onnxPython(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("drives Python: not with -short")
	}
	bin, err := filepath.Abs(filepath.Join("..", ".venv", "mlflow3", "bin", "python"))
	if err != nil {
		t.Fatal(err)
	}
	if err := exec.CommandContext(t.Context(), bin, "-c", "import onnx, onnxruntime").Run(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s has no onnxruntime: run scripts/venv.sh: %v", bin, err)
		}
		t.Skipf("%s has no onnxruntime: scripts/venv.sh makes it: %v", bin, err)
	}
	return bin
}

// ONNX Runtime says of model.onnx what the model says, on real engines, known from the start and joined late.
func TestONNXRuntimeAnswersAlike(t *testing.T) {
	bin := onnxPython(t)
	dir := os.Getenv("TURBOFAN_DATA")
	if dir == "" {
		dir = "../../shared/cmapss"
	}
	trainSet, testSet, err := dataset.LoadCMAPSS(dir, "FD001")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("C-MAPSS is not here: %v", err)
	}
	for _, kind := range model.Kinds() {
		t.Run(kind, func(t *testing.T) {
			cfg := model.DefaultConfig(kind)
			cfg.Folds = 2
			m, err := model.Train(t.Context(), cfg, model.Data{Schema: trainSet.Schema, Units: trainSet.Units[:12]}, nil)
			if err != nil {
				t.Fatal(err)
			}
			work := t.TempDir()
			if _, err := m.Save(filepath.Join(work, "model")); err != nil {
				t.Fatal(err)
			}
			own, err := m.Spec().Transform(t.Context(), testSet.Units)
			if err != nil {
				t.Fatal(err)
			}
			start := make([]int, len(testSet.Units))
			for u := range start {
				start[u] = 10 + u%20
			}
			late, err := m.Spec().TransformSome(t.Context(), testSet.Units, feature.Take{Start: start})
			if err != nil {
				t.Fatal(err)
			}
			joined := len(own.Data) // where the rows of units that joined late begin
			own.Data = append(own.Data, late.Data...)
			var rows, want bytes.Buffer
			for i := 0; i < len(own.Data); i += own.Cols {
				row := own.Data[i : i+own.Cols]
				a, err := m.Predict(row, i >= joined)
				if err != nil {
					t.Fatal(err)
				}
				for _, v := range row {
					rows.Write(binary.LittleEndian.AppendUint32(nil, math.Float32bits(v)))
				}
				want.Write(binary.LittleEndian.AppendUint64(nil, math.Float64bits(a.RUL)))
			}
			for name, b := range map[string]*bytes.Buffer{"rows.f32": &rows, "want.f64": &want} {
				if err := os.WriteFile(filepath.Join(work, name), b.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			out, err := exec.CommandContext(t.Context(), bin, filepath.Join("testdata", "answer.py"), filepath.Join(work, "model"),
				filepath.Join(work, "rows.f32"), filepath.Join(work, "want.f64")).CombinedOutput()
			t.Logf("%s", out)
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}
