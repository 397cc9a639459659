package model

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"turbofan"
	"turbofan/condition"
	"turbofan/feature"
	"turbofan/onnx"
)

// The files of an artifact that any ONNX runtime can use.
const (
	ONNXFile    = "model.onnx"
	ExampleFile = "input_example.json" // rows to try it with
)

// The files beside them that MLflow's tools use.
const (
	requirementsFile = "requirements.txt"
	condaFile        = "conda.yaml"
	pythonEnvFile    = "python_env.yaml"
	servingFile      = "serving_input_example.json"
)

// What the files for Python declare. They are constants, not what happens to be installed where a model is trained: the
// same seed gives the same bytes. ONNX does not depend on Python's version; MLflow wants to know one.
const (
	pythonVersion = "3.11.9"
	mlflowVersion = "2.22.0" // whose MLmodel is written; later versions read it
	onnxVersion   = "1.11.0" // the first with IR version 8
)

// OutputColumn names the answer, in the ONNX model and in what MLflow's tools return.
const OutputColumn = "rul_prediction"

func requirements() []string {
	return []string{"mlflow>=2.9", "onnx>=" + onnxVersion, "onnxruntime>=1.12"}
}

// writePython writes the files for Python to dir and adds their digests to sums, which has the learner's.
func (m *Model) writePython(dir string, sums map[string]string) error {
	err := writeHashed(filepath.Join(dir, ONNXFile), func(w io.Writer) error { return m.writeONNX(w, sums[learnerFile]) }, ONNXFile, sums)
	if err != nil {
		return err
	}
	example, err := m.inputExample()
	if err != nil {
		return err
	}
	pip := requirements()
	conda := condaEnv{Name: "mlflow-env", Channels: []string{"conda-forge"}, Dependencies: []any{"python=" + pythonVersion, "pip", map[string][]string{"pip": pip}}}
	env := pythonEnv{pythonVersion, []string{"pip", "setuptools", "wheel"}, []string{"-r " + requirementsFile}}
	files := map[string][]byte{
		requirementsFile: []byte(strings.Join(pip, "\n") + "\n"),
		ExampleFile:      example,
		servingFile:      slices.Concat([]byte(`{"dataframe_split":`), example, []byte("}")),
	}
	for name, v := range map[string]any{condaFile: conda, pythonEnvFile: env} {
		if files[name], err = yaml.Marshal(v); err != nil {
			return fmt.Errorf("encode %s: %w", name, err)
		}
	}
	for name, b := range files {
		write := func(w io.Writer) error { _, err := w.Write(b); return err }
		if err := writeHashed(filepath.Join(dir, name), write, name, sums); err != nil {
			return err
		}
	}
	return nil
}

type condaEnv struct {
	Name         string   `yaml:"name"`
	Channels     []string `yaml:"channels"`
	Dependencies []any    `yaml:"dependencies"`
}

type pythonEnv struct {
	Python       string   `yaml:"python"`
	Build        []string `yaml:"build_dependencies"`
	Dependencies []string `yaml:"dependencies"`
}

// writeHashed writes a file without holding it in memory and notes its digest under name.
func writeHashed(path string, write func(io.Writer) error, name string, sums map[string]string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if err := write(io.MultiWriter(f, h)); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := f.Sync(); err != nil {
		return err
	}
	sums[name] = hexSum(h)
	return f.Close()
}

func hexSum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// writeONNX writes what Predict computes of a row, up to the clip: a RUL without interval and probability, which are
// calibration and need no learner.
func (m *Model) writeONNX(w io.Writer, learnerDigest string) error {
	columns, err := json.Marshal(m.spec.Columns)
	if err != nil {
		return fmt.Errorf("encode columns: %w", err)
	}
	out := onnx.Model{
		Producer: "turbofan", Version: strconv.Itoa(formatVersion), Input: "features", Output: OutputColumn, Columns: len(m.spec.Columns), High: float32(m.calibration.Cap),
		Doc: "Remaining useful life in cycles from feature rows; columns in the order of the metadata, NaN where a value is missing.",
		Metadata: map[string]string{"columns": string(columns), "learner_sha256": learnerDigest, "features_digest": m.spec.Digest(), "kind": m.cfg.Kind,
			"schema": m.spec.Schema.Name, "cap": format(m.calibration.Cap)},
	}
	for i := range m.learner {
		out.Ensembles = append(out.Ensembles, m.learner[i].onnx(fmt.Sprintf("%s_%d", m.learner[i].kind, i)))
	}
	if len(m.late) == 0 {
		return onnx.Write(w, &out)
	}
	gate := slices.Index(m.spec.Columns, feature.LateColumn)
	for i := range out.Ensembles {
		out.Ensembles[i] = gated(out.Ensembles[i], gate, false)
	}
	for i := range m.late {
		out.Ensembles = append(out.Ensembles, gated(m.late[i].onnx(fmt.Sprintf("late_%s_%d", m.late[i].kind, i)), gate, true))
	}
	return onnx.Write(w, &out)
}

func (l *member) onnx(name string) onnx.Ensemble {
	return onnx.Ensemble{
		Name: name, Base: l.weight * l.trees.Base(), Scale: l.weight * l.trees.Scale(), Trees: l.trees.NumTrees(),
		Tree: func(t int) []onnx.Node {
			tree := l.trees.Tree(t)
			out := make([]onnx.Node, len(tree))
			for i, n := range tree {
				out[i] = onnx.Node{Leaf: n.Leaf, Feature: n.Feature, Threshold: n.Threshold, MissingLeft: n.MissingLeft,
					Left: n.Left, Right: n.Right, Value: n.Value}
			}
			return out
		},
	}
}

// gated lets an ensemble answer only rows whose column gate says that their unit joined late, or only the others: every
// tree gets a root that leads the others to a leaf of zero, and the base becomes a tree of its own.
func gated(e onnx.Ensemble, gate int, late bool) onnx.Ensemble {
	open, shut := 2, 1 // the tree begins at node 2
	if late {
		open, shut = shut, open
	}
	trees, base, inner := e.Trees, e.Base/e.Scale, e.Tree
	e.Trees, e.Base = trees+1, 0
	e.Tree = func(t int) []onnx.Node {
		answer := []onnx.Node{{Leaf: true, Value: base}}
		if t < trees {
			answer = inner(t)
		}
		out := append(make([]onnx.Node, 0, len(answer)+2), onnx.Node{Feature: gate, Threshold: 0.5, MissingLeft: true, Left: open, Right: shut}, onnx.Node{Leaf: true})
		for _, n := range answer {
			n.Left, n.Right = n.Left+2, n.Right+2
			out = append(out, n)
		}
		return out
	}
	return e
}

// inputExample is the newest row of each golden history, as pandas writes a DataFrame with orient "split".
func (m *Model) inputExample() ([]byte, error) {
	columns, err := json.Marshal(m.spec.Columns)
	if err != nil {
		return nil, fmt.Errorf("encode columns: %w", err)
	}
	b := fmt.Appendf(nil, `{"columns":%s,"data":[`, columns)
	row := make([]float32, len(m.spec.Columns))
	for k, g := range m.golden {
		st, comm := m.spec.NewState(), condition.NewCommissioner(m.spec.Normalizer)
		h := g.history()
		for i := range h.Readings {
			if _, _, err := m.spec.Step(st, comm, &h.Readings[i], row); err != nil {
				return nil, fmt.Errorf("make input example: %w", err)
			}
		}
		if k > 0 {
			b = append(b, ',')
		}
		b = appendExample(b, row)
	}
	return append(b, "]}"...), nil
}

// appendExample writes whole numbers with a point: pandas takes a column of 31 for integers, and MLflow then refuses it
// where the signature says double.
func appendExample(b []byte, row []float32) []byte {
	b = append(b, '[')
	for i, v := range row {
		if i > 0 {
			b = append(b, ',')
		}
		if !finite(float64(v)) {
			b = append(b, "null"...)
			continue
		}
		from := len(b)
		b = strconv.AppendFloat(b, float64(v), 'g', -1, 32)
		if !strings.ContainsAny(string(b[from:]), ".e") {
			b = append(b, ".0"...)
		}
	}
	return append(b, ']')
}

// mlmodel is the file by which MLflow's tools know a directory as a model. It has no time of its own: the registry
// knows when a version was made, and the same seed gives the same bytes.
type mlmodel struct {
	Flavors       map[string]any `yaml:"flavors"`
	Metadata      map[string]any `yaml:"metadata"`
	MLflowVersion string         `yaml:"mlflow_version"`
	SizeBytes     int64          `yaml:"model_size_bytes"`
	UUID          string         `yaml:"model_uuid"`
	Example       map[string]any `yaml:"saved_input_example_info"`
	Signature     struct {
		Inputs  string  `yaml:"inputs"`
		Outputs string  `yaml:"outputs"`
		Params  *string `yaml:"params"`
	} `yaml:"signature"`
}

// signatureColumn is a column of an MLflow signature.
type signatureColumn struct {
	Type     string `json:"type"`
	Name     string `json:"name"`
	Required bool   `json:"required"`
}

func (m *Model) mlmodel(dir, digest string) ([]byte, error) {
	size, err := sizeOf(dir)
	if err != nil {
		return nil, err
	}
	f := mlmodel{
		Flavors: map[string]any{
			"python_function": map[string]any{"loader_module": "mlflow.onnx", "data": ONNXFile, "python_version": pythonVersion,
				"env": map[string]string{"conda": condaFile, "virtualenv": pythonEnvFile}},
			"onnx":     map[string]any{"data": ONNXFile, "onnx_version": onnxVersion, "providers": []string{"CPUExecutionProvider"}, "onnx_session_options": nil, "code": nil},
			"turbofan": map[string]any{"data": ".", "format_version": formatVersion},
		},
		Metadata:      map[string]any{"digest": digest, "kind": m.cfg.Kind, "schema": m.spec.Schema.Name, "cap": m.calibration.Cap},
		Example:       map[string]any{"artifact_path": ExampleFile, "serving_input_path": servingFile, "type": "dataframe", "pandas_orient": "split"},
		MLflowVersion: mlflowVersion, SizeBytes: size, UUID: digest[:32],
	}
	inputs := make([]signatureColumn, len(m.spec.Columns))
	for i, c := range m.spec.Columns {
		inputs[i] = signatureColumn{"double", c, true}
	}
	for to, columns := range map[*string][]signatureColumn{&f.Signature.Inputs: inputs, &f.Signature.Outputs: {{"float", OutputColumn, true}}} {
		b, err := json.Marshal(columns)
		if err != nil {
			return nil, fmt.Errorf("encode signature: %w", err)
		}
		*to = string(b)
	}
	b, err := yaml.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", mlmodelFile, err)
	}
	return b, nil
}

func sizeOf(dir string) (int64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	var size int64
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return 0, err
		}
		size += info.Size()
	}
	return size, nil
}

// checkOthers compares the files that Open does not read, such as model.onnx, with their digests: what others answer
// from is either what was saved or refused.
func checkOthers(dir string, sums map[string]string, read map[string][]byte) error {
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		if _, done := read[name]; done {
			continue
		}
		if filepath.Base(name) != name || name == "." || name == ".." {
			return turbofan.Errorf(turbofan.EInvalid, "%s lists %q, which is not the name of a file", manifestFile, name)
		}
		sum, err := hashFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if sum != sums[name] {
			return turbofan.Errorf(turbofan.EInvalid, "%s is not the file that was saved: its SHA-256 differs", name)
		}
	}
	return nil
}

func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(f, maxFile+1))
	if err != nil {
		return "", err
	}
	if n > maxFile {
		return "", turbofan.Errorf(turbofan.EInvalid, "%s is larger than %d MiB", path, maxFile>>20)
	}
	return hexSum(h), nil
}
