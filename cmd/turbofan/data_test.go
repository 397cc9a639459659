package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// call runs one command line as main does. What trains or replays a fleet runs as the command that is shipped: the race
// detector, which looks at the same work in the packages that do it, makes it ten times as long.
func call(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	if len(args) > 0 && slices.Contains([]string{"train", "tune", "evaluate", "explain", "drift", "predict"}, args[0]) {
		cmd := exec.CommandContext(t.Context(), must(t, shared.binary), args...)
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return cmd.ProcessState.ExitCode(), out.String(), errs.String()
	}
	code = run(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

// smallFleet writes two synthetic subsets and returns their directory.
func smallFleet(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "fleet")
	code, out, errs := call(t, "data", "synth", "--out", dir, "--subsets", "FD001,FD004", "--units", "8", "--seed", "5")
	if code != exitOK {
		t.Fatalf("synth: %d\n%s%s", code, out, errs)
	}
	if !strings.Contains(out, "FD001: 8 training engines") || !strings.Contains(out, "SYNTHETIC DATA") {
		t.Errorf("synth said:\n%s", out)
	}
	return dir
}

func TestDataDescribe(t *testing.T) {
	dir := smallFleet(t)
	page := filepath.Join(t.TempDir(), "deep", "er", "data.html")
	code, out, errs := call(t, "data", "describe", "--data", dir, "--out", page)
	if code != exitOK {
		t.Fatalf("describe: %d\n%s%s", code, out, errs)
	}
	for _, want := range []string{"SYNTHETIC DATA", "a synthetic fleet", "How many engines are there?", "16 that ran to failure, for training, and 16", "Which sensors vary?", "0 of "} {
		if !strings.Contains(out, want) {
			t.Errorf("the summary lacks %q:\n%s", want, out)
		}
	}
	html, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	text := string(html)
	if n := strings.Count(text, "<svg "); n < 6 {
		t.Errorf("%d pictures, want at least 6", n)
	}
	if strings.Count(text, "SYNTHETIC DATA") < 2 || strings.Contains(text, "http://") || strings.Contains(text, "https://") || strings.Contains(text, "<script") {
		t.Error("the page is not marked or not self-contained")
	}
	if entries, _ := os.ReadDir(filepath.Dir(page)); len(entries) != 1 {
		t.Errorf("%d files beside the report", len(entries))
	}
}

func TestDataDescribeJSON(t *testing.T) {
	dir := smallFleet(t)
	code, out, errs := call(t, "data", "describe", "--data", dir, "--json", "--out", "")
	if code != exitOK {
		t.Fatalf("describe: %d\n%s", code, errs)
	}
	var got struct {
		DataSource struct {
			Dir       string
			Synthetic bool
		} `json:"data_source"`
		Answers []struct{ Question, Answer string }
		Subsets []struct {
			Subset   string
			HasTruth bool `json:"has_truth"`
			Train    struct {
				Units      int
				Conditions []any
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	if !got.DataSource.Synthetic || got.DataSource.Dir != dir || len(got.Answers) < 6 || len(got.Subsets) != 2 {
		t.Fatalf("got %+v", got)
	}
	if s := got.Subsets[1]; s.Subset != "FD004" || s.Train.Units != 8 || len(s.Train.Conditions) != 6 || !s.HasTruth {
		t.Errorf("got %+v", s)
	}
}

func TestDataVerify(t *testing.T) {
	dir := smallFleet(t)
	code, out, errs := call(t, "data", "verify", "--data", dir)
	if code != exitFailure || !strings.Contains(out, "made by `turbofan data synth`") || !strings.Contains(errs, "is not NASA's data") {
		t.Errorf("verify: %d\n%s%s", code, out, errs)
	}
	code, out, _ = call(t, "data", "verify", "--data", dir, "--json")
	var report struct {
		Files []struct{ Name, Status string }
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != exitFailure || len(report.Files) != 13 {
		t.Errorf("verify --json: %d, %v\n%s", code, err, out)
	}
}

func TestDataFetchFromABadMirror(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	dir := filepath.Join(t.TempDir(), "raw")
	code, _, errs := call(t, "data", "fetch", "--dir", dir, "--mirror", s.URL+"/a.zip")
	if code != exitFailure || !strings.Contains(errs, "answered 404 Not Found") || !strings.Contains(errs, "turbofan data synth") {
		t.Errorf("fetch: %d\n%s", code, errs)
	}
}

func TestDataRefuses(t *testing.T) {
	dir := smallFleet(t)
	broken := t.TempDir()
	for _, name := range []string{"train_FD001.txt", "test_FD001.txt"} {
		if err := os.WriteFile(filepath.Join(broken, name), []byte("1 1 0 0\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	empty := t.TempDir()
	tests := []struct {
		args []string
		code int
		want string
	}{
		{[]string{"data", "describe", "--data", empty}, exitUsage, "turbofan: --data: " + empty + " holds no C-MAPSS subset: there is no pair of train_<subset>.txt and test_<subset>.txt in it\n"},
		{[]string{"data", "describe", "--data", broken, "--out", ""}, exitUsage, "turbofan: train_FD001.txt:1: row: has 4 columns; it must have 26: unit, cycle, 3 settings and 21 sensors\n"},
		{[]string{"data", "describe", "--data", dir, "--subsets", "FD001,FD001"}, exitUsage, "turbofan: --subsets names FD001 twice\nTry: turbofan data describe --help\n"},
		{[]string{"data", "describe", "--data", dir, "--subsets", "../x"}, exitUsage, "turbofan: subset: \"../x\" may hold letters, digits, - and _ only, such as FD001\n"},
		{[]string{"data", "describe", "--data", dir, "--subsets", "FD002"}, exitFailure, "turbofan: train_FD002.txt is not in " + dir + "; `turbofan data fetch` downloads it, `turbofan data synth` makes a stand-in\n"},
		{[]string{"data", "describe", "extra"}, exitUsage, "turbofan: turbofan data describe takes no argument \"extra\"\nTry: turbofan data describe --help\n"},
		{[]string{"data", "descrybe"}, exitUsage, "turbofan: turbofan data does not know \"descrybe\"; did you mean describe?\nTry: turbofan data --help\n"},
		{[]string{"data", "describe", "--colour"}, exitUsage, "turbofan: unknown flag: --colour\nTry: turbofan data describe --help\n"},
		{[]string{"data", "synth", "--units", "-1"}, exitUsage, "turbofan: --units must be from 1 to 100000, or 0 for as many as the original has, not -1\nTry: turbofan data synth --help\n"},
		{[]string{"data", "synth", "--subsets", "FD005"}, exitUsage, "turbofan: --subsets: \"FD005\" is none of FD001, FD002, FD003, FD004\nTry: turbofan data synth --help\n"},
		{[]string{"data", "synth", "--out", dir}, exitFailure, "turbofan: " + dir + " is not empty; name a new directory or move it away\n"},
		{[]string{"data", "fetch", "--mirror", "ftp://x/y.zip"}, exitUsage, "turbofan: --mirror \"ftp://x/y.zip\" must be an address that begins with http:// or https://\nTry: turbofan data fetch --help\n"},
		{[]string{"data", "fetch", "--dir", dir}, exitFailure, "turbofan: " + dir + " is not empty and does not hold the data set"},
		{[]string{"data", "verify", "--data", filepath.Join(empty, "no")}, exitFailure, "turbofan: the directory " + filepath.Join(empty, "no") + " does not exist\n"},
	}
	for _, tt := range tests {
		code, _, errs := call(t, tt.args...)
		if code != tt.code || !strings.HasPrefix(errs, tt.want) {
			t.Errorf("%q\ngot  %d %q\nwant %d %q", tt.args, code, errs, tt.code, tt.want)
		}
	}
}
