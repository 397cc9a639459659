package model

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"turbofan"
)

// sumsFile lists the SHA-256 of every file of an artifact but itself, as sha256sum writes and checks them. The manifest
// names all files that were there before it; only here stand its own digest and that of MLmodel, which carries it.
const sumsFile = "SHA256SUMS"

func hexDigest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func encodeSums(sums map[string]string) []byte {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		fmt.Fprintf(&b, "%s  %s\n", sums[name], name)
	}
	return []byte(b.String())
}

// parseSums takes no other form than that of encodeSums: what reads differently was edited.
func parseSums(b []byte) (map[string]string, error) {
	if strings.Contains(string(b), "\r") {
		return nil, turbofan.Errorf(turbofan.EInvalid, "%s is not the file that was saved: its lines end in CRLF: copy the directory without converting line ends", sumsFile)
	}
	sums := map[string]string{}
	for line := range strings.Lines(string(b)) {
		sum, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		if raw, err := hex.DecodeString(sum); !ok || err != nil || len(raw) != sha256.Size || filepath.Base(name) != name || sums[name] != "" {
			return nil, turbofan.Errorf(turbofan.EInvalid, "%s is not the file that was saved: line %d is not the SHA-256 of another file", sumsFile, len(sums)+1)
		}
		sums[name] = sum
	}
	if string(encodeSums(sums)) != string(b) {
		return nil, turbofan.Errorf(turbofan.EInvalid, "%s is not the file that was saved: its lines are not in order or in another form", sumsFile)
	}
	return sums, nil
}

// checkSums compares the manifest, which was read, and MLmodel with their digests and says which of them was changed. It
// returns the digests of all files, nil for an artifact of format version 1, which has none: there MLmodel, where it
// carries the manifest's digest, still tells.
func checkSums(dir string, manifest []byte) (map[string]string, error) {
	mlmodel, err := readFile(filepath.Join(dir, mlmodelFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	raw, missing := readFile(filepath.Join(dir, sumsFile))
	if errors.Is(missing, fs.ErrNotExist) {
		var known struct {
			Metadata struct {
				Digest string `yaml:"digest"`
			} `yaml:"metadata"`
		}
		if yaml.Unmarshal(mlmodel, &known) == nil && known.Metadata.Digest != "" && known.Metadata.Digest != hexDigest(manifest) {
			return nil, turbofan.Errorf(turbofan.EInvalid, "%s is not the file that was saved: %s names another SHA-256", manifestFile, mlmodelFile)
		}
		return nil, nil
	}
	if missing != nil {
		return nil, missing
	}
	if err != nil {
		return nil, err
	}
	sums, err := parseSums(raw)
	if err != nil {
		return nil, err
	}
	for name, b := range map[string][]byte{manifestFile: manifest, mlmodelFile: mlmodel} {
		if sums[name] == "" {
			return nil, turbofan.Errorf(turbofan.EInvalid, "%s is not the file that was saved: it does not list %s", sumsFile, name)
		}
		if sums[name] != hexDigest(b) {
			return nil, turbofan.Errorf(turbofan.EInvalid, "%s is not the file that was saved: its SHA-256 is not the one in %s", name, sumsFile)
		}
	}
	return sums, nil
}

// agree reports a file that the manifest and SHA256SUMS do not list alike.
func agree(dir string, man *manifest, sums map[string]string) error {
	if sums == nil {
		if man.FormatVersion > 1 {
			return fmt.Errorf("open %s: %w", filepath.Join(dir, sumsFile), os.ErrNotExist)
		}
		return nil
	}
	listed := maps.Clone(sums)
	delete(listed, manifestFile)
	delete(listed, mlmodelFile)
	if maps.Equal(listed, man.Files) {
		return nil
	}
	return turbofan.Errorf(turbofan.EInvalid, "%s is not the file that was saved: it does not list the files of %s with their SHA-256", sumsFile, manifestFile)
}
