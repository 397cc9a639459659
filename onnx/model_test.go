package onnx_test

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"turbofan/dataset"
	"turbofan/feature"
	"turbofan/model"
)

// The file in an artifact says of a row what the model says, weights of a blend included.
func TestArtifactAnswersAlike(t *testing.T) {
	config, _ := dataset.SynthSubset("FD001", 7)
	config.TrainUnits, config.TestUnits = 16, 4
	set, held := dataset.Synthesize(config)
	for _, kind := range model.Kinds() {
		t.Run(kind, func(t *testing.T) {
			cfg := model.DefaultConfig(kind)
			cfg.Folds, cfg.Boosting.MaxIter, cfg.Forest.NEstimators, cfg.ExtraTrees.NEstimators, cfg.NJobs = 2, 40, 10, 10, 2
			m, err := model.Train(t.Context(), cfg, model.Data{Schema: set.Schema, Units: set.Units}, nil)
			if err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(t.TempDir(), "model")
			if _, err := m.Save(dir); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(filepath.Join(dir, "model.onnx"))
			if err != nil {
				t.Fatal(err)
			}
			s := open(t, b)
			var columns []string
			if err := json.Unmarshal([]byte(s.metadata["columns"]), &columns); err != nil || !slices.Equal(columns, m.Spec().Columns) {
				t.Errorf("columns %v: %v", columns, err)
			}
			if s.output != model.OutputColumn || s.metadata["kind"] != kind || len(s.metadata["learner_sha256"]) != 64 {
				t.Errorf("output %s, metadata %v", s.output, s.metadata)
			}
			own, err := m.Spec().Transform(t.Context(), held.Units)
			if err != nil {
				t.Fatal(err)
			}
			late, err := m.Spec().TransformSome(t.Context(), held.Units, feature.Take{Start: []int{9, 10, 11, 12}})
			if err != nil {
				t.Fatal(err)
			}
			joined, worst := len(own.Data), 0.0
			data := append(own.Data, late.Data...)
			for i := 0; i < len(data); i += own.Cols {
				row := data[i : i+own.Cols]
				a, err := m.Predict(row, i >= joined)
				if err != nil {
					t.Fatal(err)
				}
				worst = max(worst, math.Abs(s.run(row)-a.RUL))
			}
			if t.Logf("largest difference %.2g", worst); !(worst < 2e-5) {
				t.Errorf("model.onnx differs from the model by %g", worst)
			}
		})
	}
}
