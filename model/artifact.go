package model

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"turbofan"
	"turbofan/feature"
	"turbofan/reference"
	"turbofan/tree"
)

// The files of an artifact directory. docs/model-format.md describes each.
const (
	manifestFile = turbofan.ManifestFile
	featuresFile = "features.json"
	learnerFile  = "learner.bin"
	goldenFile   = "golden.json"
	heldOutFile  = "held_out.json"
	mlmodelFile  = "MLmodel"
)

// formatVersion is what is written. Version 1, which is read too, has no SHA256SUMS.
const formatVersion = 2

// maxFile bounds every file of an artifact; the largest seen, a forest on all four subsets, has about 60 MiB.
const maxFile = 1 << 30

// manifest is model.json: everything that is small, and the digest of everything else.
type manifest struct {
	FormatVersion int               `json:"format_version"`
	Config        Config            `json:"config"`
	Data          DataSummary       `json:"data"`
	Metrics       Metrics           `json:"metrics"`
	Members       []memberInfo      `json:"members"`
	Calibration   Calibration       `json:"calibration"`
	Files         map[string]string `json:"files"` // name to SHA-256
}

type memberInfo struct {
	Kind   string  `json:"kind"`
	Weight float64 `json:"weight"`
	Trees  int     `json:"trees"`
	Late   bool    `json:"late,omitempty"` // answers units that joined late
}

// Save writes the artifact to dir, which must not exist: into a directory beside it first, from where it is opened as
// any reader would and then renamed, so that dir is either whole or not there. It returns the artifact's digest.
func (m *Model) Save(dir string) (string, error) {
	if _, err := os.Stat(dir); err == nil {
		return "", turbofan.Errorf(turbofan.EConflict, "save model: %s already exists", dir)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", fmt.Errorf("save model: %w", err)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), ".model-*")
	if err != nil {
		return "", fmt.Errorf("save model: %w", err)
	}
	defer os.RemoveAll(tmp)
	digest, err := m.write(tmp)
	if err != nil {
		return "", fmt.Errorf("save model: %w", err)
	}
	if _, err := open(tmp); err != nil {
		return "", fmt.Errorf("save model: it cannot be read back: %w", err)
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return "", fmt.Errorf("save model: %w", err)
	}
	if err := os.Rename(tmp, dir); err != nil {
		return "", fmt.Errorf("save model: %w", err)
	}
	m.digest = digest
	return digest, nil
}

func (m *Model) write(dir string) (string, error) {
	man := manifest{FormatVersion: formatVersion, Config: m.cfg, Data: m.data, Metrics: m.metrics, Calibration: m.calibration, Files: map[string]string{}}
	var learner []byte
	for i, l := range slices.Concat(m.learner, m.late) {
		b, err := l.trees.MarshalBinary()
		if err != nil {
			return "", err
		}
		learner = binary.LittleEndian.AppendUint64(learner, uint64(len(b)))
		learner = append(learner, b...)
		man.Members = append(man.Members, memberInfo{Kind: l.kind, Weight: l.weight, Trees: l.trees.NumTrees(), Late: i >= len(m.learner)})
	}
	files := map[string][]byte{learnerFile: learner}
	var ref any = m.savedReference
	if m.reference != nil {
		ref = m.reference
	}
	for name, v := range map[string]any{featuresFile: m.spec, reference.FileName: ref, goldenFile: m.golden, heldOutFile: m.heldOut} {
		b, err := json.Marshal(v)
		if err != nil {
			return "", fmt.Errorf("encode %s: %w", name, err)
		}
		files[name] = b
	}
	for name, b := range files {
		if err := writeFile(filepath.Join(dir, name), b); err != nil {
			return "", err
		}
		man.Files[name] = hexDigest(b)
	}
	if err := m.writePython(dir, man.Files); err != nil {
		return "", err
	}
	b, err := json.MarshalIndent(man, "", " ")
	if err != nil {
		return "", fmt.Errorf("encode %s: %w", manifestFile, err)
	}
	if err := writeFile(filepath.Join(dir, manifestFile), b); err != nil {
		return "", err
	}
	digest := hexDigest(b)
	if b, err = m.mlmodel(dir, digest); err != nil {
		return "", err
	}
	if err := writeFile(filepath.Join(dir, mlmodelFile), b); err != nil {
		return "", err
	}
	sums := maps.Clone(man.Files)
	sums[manifestFile], sums[mlmodelFile] = digest, hexDigest(b)
	return digest, writeFile(filepath.Join(dir, sumsFile), encodeSums(sums))
}

func writeFile(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.Write(b); err != nil {
		f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// Open reads an artifact directory, checks every file against its digest and lets the model answer its golden
// histories. Any difference is an error: such a model must not serve.
func Open(dir string) (*Model, error) {
	m, err := open(dir)
	if err != nil {
		return nil, fmt.Errorf("open model %s: %w", dir, err)
	}
	return m, nil
}

func open(dir string) (*Model, error) {
	raw, err := readFile(filepath.Join(dir, manifestFile))
	if err != nil {
		return nil, err
	}
	sums, err := checkSums(dir, raw)
	if err != nil {
		return nil, err
	}
	var man manifest
	if err := json.Unmarshal(raw, &man); err != nil {
		return nil, fmt.Errorf("decode %s: %w", manifestFile, err)
	}
	if man.FormatVersion < 1 || man.FormatVersion > formatVersion {
		return nil, turbofan.Errorf(turbofan.EInvalid, "%s has format version %d; this binary reads 1 to %d", manifestFile, man.FormatVersion, formatVersion)
	}
	if err := agree(dir, &man, sums); err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for _, name := range []string{learnerFile, featuresFile, reference.FileName, goldenFile, heldOutFile} {
		b, err := readFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		if hexDigest(b) != man.Files[name] {
			return nil, turbofan.Errorf(turbofan.EInvalid, "%s is not the file that was saved: its SHA-256 differs", name)
		}
		files[name] = b
	}
	if err := checkOthers(dir, man.Files, files); err != nil {
		return nil, err
	}
	m := &Model{cfg: man.Config, data: man.Data, metrics: man.Metrics, calibration: man.Calibration, digest: hexDigest(raw), spec: &feature.Spec{}, savedReference: files[reference.FileName]}
	for name, v := range map[string]any{featuresFile: m.spec, goldenFile: &m.golden, heldOutFile: &m.heldOut} {
		if err := json.Unmarshal(files[name], v); err != nil {
			return nil, fmt.Errorf("decode %s: %w", name, err)
		}
	}
	if err := errors.Join(m.cfg.Validate(), m.spec.Validate(), m.calibration.validate()); err != nil {
		return nil, err
	}
	if m.learner, m.late, err = decodeLearner(files[learnerFile], man.Members, len(m.spec.Columns)); err != nil {
		return nil, err
	}
	m.ready()
	if len(m.late) > 0 && m.lateColumn < 0 {
		return nil, turbofan.Invalid("members", "one answers units that joined late, but no column says which did")
	}
	if err := m.checkGolden(); err != nil {
		return nil, err
	}
	return m, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	// In one piece: a model is opened beside requests, and what growing leaves behind makes the collector run.
	var b bytes.Buffer
	b.Grow(int(min(info.Size(), maxFile)) + bytes.MinRead)
	if _, err := b.ReadFrom(io.LimitReader(f, maxFile+1)); err != nil {
		return nil, err
	}
	if b.Len() > maxFile {
		return nil, turbofan.Errorf(turbofan.EInvalid, "%s is larger than %d MiB", path, maxFile>>20)
	}
	return b.Bytes(), nil
}

func decodeLearner(b []byte, infos []memberInfo, columns int) (own, late []member, err error) {
	for i, info := range infos {
		if len(b) < 8 {
			return nil, nil, turbofan.Errorf(turbofan.EInvalid, "%s ends before member %d", learnerFile, i)
		}
		n := binary.LittleEndian.Uint64(b)
		b = b[8:]
		if n > uint64(len(b)) {
			return nil, nil, turbofan.Errorf(turbofan.EInvalid, "%s ends within member %d", learnerFile, i)
		}
		e := new(tree.Ensemble)
		if err := e.UnmarshalBinary(b[:n]); err != nil {
			return nil, nil, fmt.Errorf("decode %s member %d: %w", learnerFile, i, err)
		}
		if e.NumFeatures() != columns {
			return nil, nil, turbofan.Errorf(turbofan.EInvalid, "%s member %d has %d features for %d columns", learnerFile, i, e.NumFeatures(), columns)
		}
		if !(info.Weight > 0 && info.Weight <= 1) {
			return nil, nil, turbofan.Invalid(fmt.Sprintf("members[%d].weight", i), "must be above 0 and at most 1")
		}
		l := member{kind: info.Kind, weight: info.Weight, trees: e}
		if info.Late {
			late = append(late, l)
		} else {
			own = append(own, l)
		}
		b = b[n:]
	}
	if len(own) == 0 || len(b) != 0 {
		return nil, nil, turbofan.Errorf(turbofan.EInvalid, "%s does not hold the members that %s lists", learnerFile, manifestFile)
	}
	return own, late, nil
}
