package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestExplainCommand(t *testing.T) {
	fleet, data := must(t, shared.fleet), must(t, shared.trained)
	page := filepath.Join(t.TempDir(), "explain.html")
	code, out, errs := call(t, "explain", "--data", fleet, "--data-dir", data, "--rows", "100", "--json", "--html", page)
	if code != exitOK {
		t.Fatalf("exit %d\n%s", code, errs)
	}
	var e explanation
	if err := json.Unmarshal([]byte(out), &e); err != nil {
		t.Fatal(err)
	}
	if e.Rows != 100 || len(e.Features) == 0 || e.Unit.UnitID == "" {
		t.Fatalf("explained %+v", e)
	}
	for i := 1; i < len(e.Features); i++ {
		if e.Features[i].Mean > e.Features[i-1].Mean {
			t.Errorf("%s stands below %s, which matters less", e.Features[i].Feature, e.Features[i-1].Feature)
		}
	}
	sum := e.Unit.Base
	for _, d := range e.Unit.Drivers {
		sum += d.Contribution
	}
	if math.Abs(max(0, min(sum, 125))-e.Unit.RUL) > 0.01 {
		t.Errorf("base and contributions sum to %.3f, the answer is %.3f", sum, e.Unit.RUL)
	}
	html, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"How far each feature moves an answer", "Contribution by value of the feature", "Why unit " + e.Unit.UnitID, e.Features[0].Feature} {
		if !strings.Contains(string(html), want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	code, out, _ = call(t, "explain", filepath.Join(fleet, "test_FD001.txt"), "--data-dir", data, "--unit", "7", "--cycle", "12")
	if code != exitOK || !strings.Contains(out, "unit 7 at cycle 12: ") {
		t.Errorf("exit %d\n%s", code, out)
	}
	for want, args := range map[string][]string{
		"--cycle: needs --unit":        {"--cycle", "3"},
		"--rows: must be from 10":      {"--rows", "1"},
		`there is no unit "none"`:      {"--unit", "none"},
		"has no reading at cycle 9999": {"--unit", "7", "--cycle", "9999"},
		"explain takes one FILE":       {"a", "b"},
	} {
		code, _, errs := call(t, append([]string{"explain", "--data", fleet, "--data-dir", data}, args...)...)
		if code != exitUsage || !strings.Contains(errs, want) {
			t.Errorf("%v: exit %d, %q does not say %q", args, code, errs, want)
		}
	}
}

func TestRankCorrelation(t *testing.T) {
	nan := math.NaN()
	for name, c := range map[string]struct {
		x, y []float64
		want float64
	}{
		"rising":   {[]float64{1, 2, 3, 40}, []float64{0, 1, 5, 6}, 1},
		"falling":  {[]float64{1, 2, 3}, []float64{9, 4, 1}, -1},
		"ties":     {[]float64{1, 1, 2, 2}, []float64{1, 2, 3, 4}, 4 / math.Sqrt(4*5)},
		"missing":  {[]float64{1, nan, 3, 4}, []float64{1, 2, 3, 4}, 1},
		"constant": {[]float64{5, 5, 5}, []float64{1, 2, 3}, 0},
		"empty":    {nil, nil, 0},
	} {
		if got := rankCorrelation(c.x, c.y); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
