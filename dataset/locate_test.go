package dataset_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"turbofan"
	"turbofan/dataset"
)

func TestLocate(t *testing.T) {
	row := "1 1" + sensors + "\n"
	full := map[string]string{"train_FD001.txt": row, "test_FD001.txt": row}
	home := t.TempDir()
	t.Chdir(home)
	named, env := write(t, full), write(t, full)
	empty := t.TempDir()

	if _, err := dataset.Locate("", ""); turbofan.ErrorCode(err) != turbofan.ENotFound || !strings.Contains(err.Error(), "turbofan data fetch") {
		t.Errorf("nothing anywhere: %v", err)
	}
	put(t, filepath.Join("data", "raw"), full)
	tests := []struct{ name, explicit, env, dir, source string }{
		{"explicit first", named, env, named, "--data"},
		{"then the environment", "", env, env, "TURBOFAN_DATA"},
		{"then data/raw", "", "", filepath.Join("data", "raw"), filepath.Join("data", "raw")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := dataset.Locate(tt.explicit, tt.env)
			if err != nil || got.Dir != tt.dir || got.Source != tt.source || got.Verified || got.Synthetic {
				t.Errorf("got %+v, %v; want %s by %s, not verified", got, err, tt.dir, tt.source)
			}
		})
	}
	if _, err := dataset.Locate(empty, env); turbofan.ErrorCode(err) != turbofan.EInvalid || !strings.HasPrefix(err.Error(), "--data: "+empty+" holds no C-MAPSS subset") {
		t.Errorf("a named directory without data must not be passed over: %v", err)
	}
	if _, err := dataset.Locate("", empty); turbofan.ErrorCode(err) != turbofan.EInvalid || !strings.HasPrefix(err.Error(), "TURBOFAN_DATA: ") {
		t.Errorf("TURBOFAN_DATA without data must not be passed over: %v", err)
	}
}

func put(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLocateVerifiesTheRealData(t *testing.T) {
	dir := cmapssDir(t)
	got, err := dataset.Locate(dir, "")
	if err != nil || !got.Verified || got.Synthetic {
		t.Errorf("got %+v, %v; want it verified", got, err)
	}
	report, err := dataset.Verify(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Files {
		if f.Status == dataset.FileDiffers || f.Status == dataset.FileMissing && !f.Optional {
			t.Errorf("%s: %s", f.Name, f.Status)
		}
	}
}
