package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"turbofan"
)

// twoFleets writes synthetic engines with one fault and with two, and returns their directory.
func twoFleets(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "fleet")
	if code, out, errs := call(t, "data", "synth", "--out", dir, "--subsets", "FD001,FD003", "--units", "40", "--seed", "5"); code != exitOK {
		t.Fatalf("synth: %d\n%s%s", code, out, errs)
	}
	return dir
}

func TestDriftCommand(t *testing.T) {
	dir := twoFleets(t)
	reference, same, other := filepath.Join(dir, "train_FD001.txt"), filepath.Join(dir, "test_FD001.txt"), filepath.Join(dir, "train_FD003.txt")
	code, out, errs := call(t, "drift", reference, same, "--exit-code")
	if code != exitOK || !strings.HasPrefix(out, "no drift: psi(") || !strings.Contains(out, "wasserstein") {
		t.Errorf("the same fleet: %d\n%s%s", code, out, errs)
	}
	page := filepath.Join(t.TempDir(), "drift.html")
	code, out, errs = call(t, "drift", reference, other, "--exit-code", "--json", "--html", page)
	if code != exitFailure || !strings.Contains(errs, "turbofan: drift: psi(") {
		t.Errorf("another fault: %d\n%s%s", code, out, errs)
	}
	var found comparison
	if err := json.Unmarshal([]byte(out), &found); err != nil {
		t.Fatal(err)
	}
	if found.Report.Verdict != turbofan.Drifted || found.Report.Units != 40 || len(found.Distributions) != len(found.Report.Channels) {
		t.Errorf("report %+v", found.Report)
	}
	html, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	text := string(html)
	if n := strings.Count(text, "<svg "); n != 1+picturedChannels {
		t.Errorf("%d pictures, want %d", n, 1+picturedChannels)
	}
	if !strings.Contains(text, "Drift: drift") || strings.Contains(text, "http://") || strings.Contains(text, "<script") {
		t.Error("the page does not say the verdict or is not self-contained")
	}
}

func TestDriftPowerCommand(t *testing.T) {
	dir := twoFleets(t)
	args := []string{"drift", "power", "--data", dir, "--subsets", "FD001,FD003", "--split", "train", "--windows", "500", "--n", "5", "--fleet", "30", "--runs", "2"}
	code, out, errs := call(t, args...)
	if code != exitOK || !strings.Contains(out, "SYNTHETIC DATA") || !strings.Contains(out, "5 of 5") || !strings.Contains(out, "FD001, FD003") {
		t.Errorf("power: %d\n%s%s", code, out, errs)
	}
	code, out, errs = call(t, append(args, "--json")...)
	var found powerReport
	err := json.Unmarshal([]byte(out), &found)
	rows := found.Windows
	if code != exitOK || err != nil || len(rows) != 2 || rows[0].Alarms != 0 || rows[1].Alarms != 5 || len(found.Delays) != 1 || found.Delays[0].Missed > 0 {
		t.Errorf("power --json: %d %v %+v\n%s", code, err, rows, errs)
	}
}

func TestDriftRefuses(t *testing.T) {
	dir := twoFleets(t)
	train := filepath.Join(dir, "train_FD001.txt")
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"drift"}, "turbofan: drift wants a REFERENCE and a CURRENT file\nTry: turbofan drift --help\n"},
		{[]string{"drift", "no/such", train}, "turbofan: REFERENCE: cannot open no/such: it does not exist or may not be read\n"},
		{[]string{"drift", dir, train}, "turbofan: REFERENCE: read reference: open " + filepath.Join(dir, "reference.json")},
		{[]string{"drift", train, "no/such"}, "turbofan: FILE: cannot open no/such"},
		{[]string{"drift", train, train, "--rank", "-1"}, "turbofan: drift.rank: must be at least 0, not -1\n"},
		{[]string{"drift", train, train, "--threshold", "-1"}, "turbofan: drift.threshold: must be a finite number above 0, not -1\n"},
		{[]string{"drift", "power", "x"}, "turbofan: turbofan drift power does not know \"x\"\nTry: turbofan drift power --help\n"},
		{[]string{"drift", "power", "--data", dir, "--split", "all"}, "turbofan: --split must be test or train, not \"all\"\nTry: turbofan drift power --help\n"},
		{[]string{"drift", "power", "--data", dir, "--n", "0"}, "turbofan: power.n: must be at least 1 window a stream, not 0\n"},
		{[]string{"drift", "power", "--data", dir, "--subsets", "FD001,FD001", "--n", "1", "--windows", "500"}, "turbofan: --subsets names FD001 twice\nTry: turbofan drift power --help\n"},
	} {
		code, _, errs := call(t, tt.args...)
		if i := strings.Index(errs, "turbofan: "); i > 0 {
			errs = errs[i:] // lines of progress come before
		}
		if code != exitUsage || !strings.HasPrefix(errs, tt.want) {
			t.Errorf("%q\ngot  %d %q\nwant %d %q", tt.args, code, errs, exitUsage, tt.want)
		}
	}
}

// A Parquet file that pandas wrote is read like a CSV file of the same table, whatever the equipment.
func TestDriftReadsParquet(t *testing.T) {
	schema := filepath.Join(t.TempDir(), "pumps.yaml")
	if err := os.WriteFile(schema, []byte("name: pumps\nsettings: [{name: load}]\nsensors: [{name: a}, {name: b}, {name: c}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const file = "testdata/pumps.parquet"
	code, out, errs := call(t, "drift", "--schema", schema, file, file)
	if code != exitOK || !strings.HasPrefix(out, "no drift: psi(") || !strings.Contains(out, "2400 rows of 60 units") {
		t.Errorf("%d\n%s%s", code, out, errs)
	}
	code, out, errs = call(t, "drift", file, file, "--settings", "load")
	if code != exitOK || !strings.HasPrefix(out, "no drift: psi(") || !strings.Contains(out, "2400 rows of 60 units") {
		t.Errorf("without its schema: %d\n%s%s", code, out, errs)
	}
	short := filepath.Join(t.TempDir(), "short.parquet")
	if err := os.WriteFile(short, []byte("PAR1"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs = call(t, "drift", "--schema", schema, file, short); code != exitUsage || !strings.Contains(errs, "short.parquet: is not Parquet that can be read") {
		t.Errorf("a damaged file: %d %s", code, errs)
	}
}
