package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"turbofan/model"
)

// files returns the names of the files in dir, sorted.
func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestExport(t *testing.T) {
	data := dataDir(t)
	dir := t.TempDir()
	whole, part := filepath.Join(dir, "deep", "whole"), filepath.Join(dir, "part")
	code, out, errs := call(t, "export", "--data-dir", data, "--out", whole)
	if code != exitOK || !strings.HasPrefix(out, "forest of ") || !strings.HasSuffix(out, " columns written to "+whole+"\n") {
		t.Fatalf("export: %d %q\n%s", code, out, errs)
	}
	want := []string{"MLmodel", "SHA256SUMS", "conda.yaml", "features.json", "golden.json", "held_out.json", "input_example.json", "learner.bin", "model.json",
		"model.onnx", "python_env.yaml", "reference.json", "requirements.txt", "serving_input_example.json"}
	if got := files(t, whole); !slices.Equal(got, want) {
		t.Errorf("exported %v, want %v", got, want)
	}
	if got := files(t, filepath.Dir(whole)); len(got) != 1 {
		t.Errorf("left beside the export: %v", got)
	}
	m, err := model.Open(whole)
	if err != nil {
		t.Fatal(err)
	}
	mlmodel, err := os.ReadFile(filepath.Join(whole, "MLmodel"))
	if err != nil || !strings.Contains(string(mlmodel), "digest: "+m.Digest()) {
		t.Errorf("MLmodel does not carry the digest %s: %v\n%s", m.Digest(), err, mlmodel)
	}
	if code, _, errs := call(t, "export", "--model-dir", whole, "--format", "onnx", "--out", part); code != exitOK {
		t.Fatalf("export: %d\n%s", code, errs)
	}
	if got := files(t, part); !slices.Equal(got, []string{"input_example.json", "model.onnx"}) {
		t.Errorf("exported %v", got)
	}
	a, err := os.ReadFile(filepath.Join(whole, "model.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(part, "model.onnx")); err != nil || !bytes.Equal(a, b) {
		t.Errorf("the two formats hold different models: %v", err)
	}
}

// An artifact from before there was ONNX is given the files that it lacks.
func TestExportOfAnOldArtifact(t *testing.T) {
	dir := t.TempDir()
	old, out := filepath.Join(dir, "old"), filepath.Join(dir, "out")
	if code, _, errs := call(t, "export", "--data-dir", dataDir(t), "--out", old); code != exitOK {
		t.Fatal(errs)
	}
	raw, err := os.ReadFile(filepath.Join(old, "model.json"))
	if err != nil {
		t.Fatal(err)
	}
	var manifest map[string]any
	if err := json.Unmarshal(raw, &manifest); err != nil {
		t.Fatal(err)
	}
	manifest["format_version"] = 1
	if err := errors.Join(os.Remove(filepath.Join(old, "MLmodel")), os.Remove(filepath.Join(old, "SHA256SUMS"))); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"model.onnx", "input_example.json", "serving_input_example.json", "requirements.txt", "conda.yaml", "python_env.yaml"} {
		delete(manifest["files"].(map[string]any), name)
		if err := os.Remove(filepath.Join(old, name)); err != nil {
			t.Fatal(err)
		}
	}
	if raw, err = json.Marshal(manifest); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(old, "model.json"), raw, 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := call(t, "export", "--model-dir", old, "--out", out); code != exitOK {
		t.Fatal(errs)
	}
	if !slices.Contains(files(t, out), "model.onnx") {
		t.Errorf("exported %v", files(t, out))
	}
	if _, err := model.Open(out); err != nil {
		t.Error(err)
	}
}

func TestExportRefuses(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{}, exitUsage, "export wants --out, a new directory"},
		{[]string{"--out", dir}, exitUsage, "--out " + dir + " exists already; name a new directory"},
		{[]string{"--out", out, "--format", "pickle"}, exitUsage, `--format must be mlflow or onnx, not "pickle"`},
		{[]string{"--out", out, "--model-dir", dir}, exitUsage, "--model-dir: " + dir + " is not a model: it has no model.json"},
		{[]string{"--out", out, "--data-dir", filepath.Join(dir, "none")}, exitFailure, `there is no version @champion of model "rul"`},
		{[]string{"--out", out, "--data-dir", dataDir(t), "--version", "9"}, exitFailure, `there is no version 9 of model "rul"`},
	} {
		code, _, errs := call(t, append([]string{"export"}, c.args...)...)
		if code != c.code || !strings.HasPrefix(errs, "turbofan: "+c.want) {
			t.Errorf("%v: %d %q, want %d %q", c.args, code, errs, c.code, c.want)
		}
	}
	if got := files(t, dir); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
}

// table reads a CSV file with a header into its columns.
func table(t *testing.T, text string) (map[string]int, [][]string) {
	t.Helper()
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	columns := map[string]int{}
	for i, name := range rows[0] {
		if _, twice := columns[name]; twice {
			t.Errorf("column %s is there twice", name)
		}
		columns[name] = i
	}
	return columns, rows[1:]
}

// The rows that predict --features writes are the rows that the answers of predict come from.
func TestPredictFeatures(t *testing.T) {
	data, fleet := dataDir(t), filepath.Join(must(t, shared.fleet), "test_FD001.txt")
	dir := filepath.Join(t.TempDir(), "model")
	if code, _, errs := call(t, "export", "--data-dir", data, "--out", dir); code != exitOK {
		t.Fatal(errs)
	}
	m, err := model.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	code, features, errs := call(t, "predict", "--features", "--data-dir", data, fleet)
	if code != exitOK {
		t.Fatal(errs)
	}
	code, answers, errs := call(t, "predict", "--all", "--format", "json", "--data-dir", data, fleet)
	if code != exitOK {
		t.Fatal(errs)
	}
	var want []fleetRow
	if err := json.Unmarshal([]byte(answers), &want); err != nil {
		t.Fatal(err)
	}
	columns, rows := table(t, features)
	if len(rows) != len(want) || len(rows) < 500 || columns["unit_id"] != 0 || len(columns) != 1+len(m.Spec().Columns) {
		t.Fatalf("%d rows of %d columns for %d answers", len(rows), len(columns), len(want))
	}
	row := make([]float32, len(m.Spec().Columns))
	for i, r := range rows {
		for j, name := range m.Spec().Columns {
			cell := r[columns[name]]
			if row[j] = float32(math.NaN()); cell == "" {
				continue
			}
			v, err := strconv.ParseFloat(cell, 32)
			if err != nil || !strings.ContainsAny(cell, ".e") {
				t.Fatalf("row %d: %s is %q: %v", i, name, cell, err)
			}
			row[j] = float32(v)
		}
		a, err := m.Predict(row, false)
		if err != nil {
			t.Fatal(err)
		}
		if a.RUL != want[i].RUL || r[0] != want[i].UnitID || r[columns["cycle"]] != strconv.Itoa(want[i].Cycle)+".0" {
			t.Fatalf("row %d of unit %s gives %v, predict said %+v", i, r[0], a.RUL, want[i])
		}
	}
	code, _, errs = call(t, "predict", "--features", "--format", "json", "--data-dir", data, fleet)
	if code != exitUsage || !strings.Contains(errs, "--features writes CSV") {
		t.Errorf("with --format: %d %s", code, errs)
	}
}

func TestDataProcess(t *testing.T) {
	fleet, dir := must(t, shared.fleet), filepath.Join(t.TempDir(), "data", "processed")
	code, out, errs := call(t, "data", "process", "--data", fleet, "--subsets", "FD001,FD003", "--out", dir)
	if code != exitOK || !strings.Contains(out, "train_FD003.csv: ") || !strings.Contains(out, syntheticNotice) {
		t.Fatalf("process: %d\n%s%s", code, out, errs)
	}
	if got := files(t, dir); !slices.Equal(got, []string{"baseline_stats.json", "test_FD001.csv", "test_FD003.csv", "train_FD001.csv", "train_FD003.csv"}) {
		t.Errorf("wrote %v", got)
	}
	read := func(name string) (map[string]int, [][]string) {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return table(t, string(b))
	}
	columns, rows := read("train_FD001.csv")
	for _, name := range []string{"unit_id", "cycle", "sensor_11_rolling_mean_5", "sensor_11_rolling_std_10", "sensor_11_slope_30", "sensor_11_delta_1", "setting_1_x_setting_2", "rul"} {
		if _, known := columns[name]; !known {
			t.Errorf("there is no column %s", name)
		}
	}
	last := rows[len(rows)-1]
	if rows[0][columns["rul"]] != "125" || last[columns["rul"]] != "0" || rows[0][columns["cycle"]] != "1" {
		t.Errorf("the first row has rul %s, the last %s", rows[0][columns["rul"]], last[columns["rul"]])
	}
	others, _ := read("test_FD003.csv")
	if len(others) != len(columns) {
		t.Errorf("%d columns in one file, %d in another", len(columns), len(others))
	}
	checkBaseline(t, dir)
}

// checkBaseline compares the statistics with the rows that they are of.
func checkBaseline(t *testing.T, dir string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, baselineFile))
	if err != nil {
		t.Fatal(err)
	}
	var stats baselineStats
	if err := json.Unmarshal(b, &stats); err != nil {
		t.Fatal(err)
	}
	if !stats.Source.Synthetic || stats.Units != 48 || len(stats.Subsets) != 2 || len(stats.Channels) != 24 {
		t.Errorf("source %+v, %d units, %d subsets, %d channels", stats.Source, stats.Units, len(stats.Subsets), len(stats.Channels))
	}
	at := slices.IndexFunc(stats.Features, func(c columnStats) bool { return c.Name == "sensor_11_rolling_mean_5" })
	c := stats.Features[at]
	var v []float64
	for _, name := range []string{"train_FD001.csv", "train_FD003.csv"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		columns, rows := table(t, string(b))
		for _, r := range rows {
			if x, err := strconv.ParseFloat(r[columns[c.Name]], 64); err == nil {
				v = append(v, x)
			}
		}
	}
	sum, below := 0.0, 0
	for _, x := range v {
		if sum += x; x < c.BinEdges[0] {
			below++
		}
	}
	if c.Rows != len(v) || c.Rows+c.Missing != stats.Rows || math.Abs(*c.Mean-sum/float64(len(v))) > 1e-6 || *c.Std <= 0 {
		t.Errorf("%+v over %d values of mean %g", c, len(v), sum/float64(len(v)))
	}
	if slices.Sort(v); math.Abs(c.Percentiles["p100"]-v[len(v)-1]) > 1e-6 || math.Abs(c.Percentiles["p0"]-v[0]) > 1e-6 || int(c.BinCounts[0]) != below || len(c.BinEdges) != 9 {
		t.Errorf("%+v for values from %g to %g, %d below the first edge", c, v[0], v[len(v)-1], below)
	}
}

func TestDataProcessRefuses(t *testing.T) {
	code, _, errs := call(t, "data", "process", "--data", must(t, shared.fleet), "--cap", "-1")
	if code != exitUsage || !strings.HasPrefix(errs, "turbofan: --cap must be above 0, or 0 for labels as they are, not -1") {
		t.Errorf("%d %s", code, errs)
	}
	if code, _, errs := call(t, "data", "process", "--data", must(t, shared.fleet), "--subsets", "FD002", "--out", t.TempDir()); code != exitFailure {
		t.Errorf("a subset that is not there: %d %s", code, errs)
	}
}
