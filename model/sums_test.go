package model_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"turbofan/model"
)

// artifact saves a small model.
func artifact(t *testing.T) (dir string, m *model.Model) {
	t.Helper()
	m = train(t, small(model.Boosting), fleet(24, 1))
	dir = filepath.Join(t.TempDir(), "good")
	if _, err := m.Save(dir); err != nil {
		t.Fatal(err)
	}
	return dir, m
}

func copyOf(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// rewrite changes a file; nil takes it away.
func rewrite(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if b = change(b); b == nil {
		return
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// reseal writes SHA256SUMS anew, as sha256sum would.
func reseal(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var sums strings.Builder
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if e.Name() != "SHA256SUMS" {
			fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(b), e.Name())
		}
	}
	rewrite(t, filepath.Join(dir, "SHA256SUMS"), func([]byte) []byte { return []byte(sums.String()) })
}

// Whatever is changed in an artifact, it does not open, and the error names the file.
func TestOpenRefusesAChangedArtifact(t *testing.T) {
	good, _ := artifact(t)
	entries, err := os.ReadDir(good)
	if err != nil {
		t.Fatal(err)
	}
	changes := map[string]func([]byte) []byte{
		"flip":     func(b []byte) []byte { b[len(b)/2] ^= 0x10; return b },
		"case":     func(b []byte) []byte { return append(b[:len(b)-1], b[len(b)-1]^0x20) },
		"truncate": func(b []byte) []byte { return b[:len(b)/2] },
		"cut":      func(b []byte) []byte { return b[:len(b)-1] },
		"append":   func(b []byte) []byte { return append(b, '\n') },
		"empty":    func([]byte) []byte { return []byte{} },
		"remove":   func([]byte) []byte { return nil },
	}
	for _, e := range entries {
		for change, f := range changes {
			t.Run(e.Name()+" "+change, func(t *testing.T) {
				dir := copyOf(t, good)
				rewrite(t, filepath.Join(dir, e.Name()), f)
				if _, err := model.Open(dir); err == nil || !strings.Contains(err.Error(), e.Name()) {
					t.Errorf("%v, want an error that names %s", err, e.Name())
				}
			})
		}
	}
	if _, err := model.Open(copyOf(t, good)); err != nil {
		t.Errorf("an artifact as it was saved: %v", err)
	}
}

// Edits that a person would make, and those that keep the file well formed.
func TestOpenNamesWhatWasEdited(t *testing.T) {
	good, _ := artifact(t)
	replace := func(old, new string) func([]byte) []byte {
		return func(b []byte) []byte {
			if !bytes.Contains(b, []byte(old)) {
				t.Fatalf("no %s to edit", old)
			}
			return bytes.Replace(b, []byte(old), []byte(new), 1)
		}
	}
	lines := func(change func([]string) []string) func([]byte) []byte {
		return func(b []byte) []byte { return []byte(strings.Join(change(strings.SplitAfter(string(b), "\n")), "")) }
	}
	for _, c := range []struct {
		name, file string
		edit       func([]byte) []byte
		want       string
	}{
		{"a metric", "model.json", replace(`"rmse_clipped": `, `"rmse_clipped": 0`), "model.json is not the file that was saved: its SHA-256 is not the one in SHA256SUMS"},
		{"the cap", "model.json", replace(`"cap": 125`, `"cap": 130`), "model.json is not the file that was saved"},
		{"its form", "model.json", func(b []byte) []byte {
			var out bytes.Buffer
			if err := json.Compact(&out, b); err != nil {
				t.Fatal(err)
			}
			return out.Bytes()
		}, "model.json is not the file that was saved"},
		{"the signature", "MLmodel", replace("double", "float"), "MLmodel is not the file that was saved"},
		{"a requirement", "requirements.txt", replace("mlflow", "mlfl0w"), "requirements.txt is not the file that was saved"},
		{"other line ends", "SHA256SUMS", func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n")) }, "SHA256SUMS is not the file that was saved: its lines end in CRLF"},
		{"a line less", "SHA256SUMS", lines(func(l []string) []string { return l[3:] }), "SHA256SUMS is not the file that was saved: it does not list"},
		{"a line twice", "SHA256SUMS", lines(func(l []string) []string { return append([]string{l[0]}, l...) }), "SHA256SUMS is not the file that was saved: line 2 is not"},
		{"another order", "SHA256SUMS", lines(func(l []string) []string { l[0], l[1] = l[1], l[0]; return l }), "SHA256SUMS is not the file that was saved: its lines"},
		{"a file elsewhere", "SHA256SUMS", replace("  learner.bin", "  ../learner.bin"), "is not the SHA-256 of another file"},
		{"a later format", "model.json", replace(`"format_version": 2`, `"format_version": 3`), "model.json is not the file that was saved"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := copyOf(t, good)
			rewrite(t, filepath.Join(dir, c.file), c.edit)
			if _, err := model.Open(dir); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
	later := copyOf(t, good)
	rewrite(t, filepath.Join(later, "model.json"), replace(`"format_version": 2`, `"format_version": 3`))
	reseal(t, later)
	if _, err := model.Open(later); err == nil || !strings.Contains(err.Error(), "model.json has format version 3; this binary reads 1 to 2") {
		t.Errorf("a later format: %v", err)
	}
	more := copyOf(t, good)
	if err := os.WriteFile(filepath.Join(more, "registered_model_meta"), []byte("model_name: rul\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := model.Open(more); err != nil {
		t.Errorf("a file that MLflow put beside the others: %v", err)
	}
}

// Artifacts of format version 1 have no SHA256SUMS. They open as they did, unless MLmodel knows that model.json was edited.
func TestOpenReadsFormat1(t *testing.T) {
	good, _ := artifact(t)
	first := copyOf(t, good)
	var digest string
	rewrite(t, filepath.Join(first, "model.json"), func(b []byte) []byte {
		before := fmt.Sprintf("%x", sha256.Sum256(b))
		b = bytes.Replace(b, []byte(`"format_version": 2`), []byte(`"format_version": 1`), 1)
		digest = fmt.Sprintf("%x", sha256.Sum256(b))
		rewrite(t, filepath.Join(first, "MLmodel"), func(m []byte) []byte { return bytes.ReplaceAll(m, []byte(before), []byte(digest)) })
		return b
	})
	if _, err := model.Open(first); err == nil {
		t.Error("an artifact with wrong digests opened")
	}
	if err := os.Remove(filepath.Join(first, "SHA256SUMS")); err != nil {
		t.Fatal(err)
	}
	m, err := model.Open(first)
	if err != nil || m.Digest() != digest {
		t.Fatalf("format version 1: %v", err)
	}
	again := filepath.Join(t.TempDir(), "again")
	if _, err := m.Save(again); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(again, "SHA256SUMS")); err != nil {
		t.Errorf("saved again: %v", err)
	}
	if err := os.Remove(filepath.Join(again, "SHA256SUMS")); err != nil {
		t.Fatal(err)
	}
	if _, err := model.Open(again); err == nil || !strings.Contains(err.Error(), filepath.Join(again, "SHA256SUMS")) {
		t.Errorf("without SHA256SUMS: %v", err)
	}
	for name, c := range map[string]struct {
		file string
		edit func([]byte) []byte
		want string
	}{
		"edited":         {"model.json", func(b []byte) []byte { return append(b, ' ') }, "model.json is not the file that was saved: MLmodel names another SHA-256"},
		"another file":   {"features.json", func(b []byte) []byte { return append(b, ' ') }, "features.json is not the file that was saved"},
		"without MLflow": {"MLmodel", func([]byte) []byte { return nil }, ""},
		"old MLflow":     {"MLmodel", func([]byte) []byte { return []byte("artifact_path: model\n") }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := copyOf(t, first)
			rewrite(t, filepath.Join(dir, c.file), c.edit)
			if _, err := model.Open(dir); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}
