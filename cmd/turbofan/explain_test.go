package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"turbofan"
	"turbofan/report"
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
		sum += float64(d.Contribution)
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

// TestExplainPictures judges what is drawn, of a fleet whose answers are known: 10 cycles a unit of a, none for b, and the
// product of c and d.
func TestExplainPictures(t *testing.T) {
	e := explanation{Source: "a fleet", Digest: "0123456789abcdef", Base: 60, phi: map[string][]float64{}, value: map[string][]float64{}}
	add := func(name string, value, phi float64) {
		e.value[name], e.phi[name] = append(e.value[name], value), append(e.phi[name], phi)
	}
	for i := range 200 {
		a, b, c, d := float64(i%20)/10-1, float64(i%7), float64(i/100), math.Sin(float64(i))
		add("a", a+0.05, -10*(a+0.05))
		add("b", b, 0)
		add("c", c, 5*(2*c-1)*d)
		add("d", d, 0.1*d)
	}
	e.value["d"][3] = math.NaN()
	e.Rows = 200
	for _, f := range []string{"a", "c", "d"} {
		e.Features = append(e.Features, explainedShare{Feature: f, Mean: 1, Direction: rankCorrelation(e.value[f], e.phi[f])})
	}
	e.Unit = explainedRow{UnitID: "7", Cycle: 12, RUL: 47.5, Base: 60}
	for i := range 20 {
		e.Unit.Drivers = append(e.Unit.Drivers, turbofan.Driver{Feature: fmt.Sprintf("f%d", i), Value: turbofan.Number(i), Contribution: turbofan.Number(i%2)*2 - 1.625})
	}
	page := e.pictures()
	if len(page.Sections) != 3 {
		t.Fatalf("%d sections", len(page.Sections))
	}
	swarm := page.Sections[0].Charts[1].(report.Heatmap)
	if first := swarm.Values[0]; !(first[0] > 0.9 && first[len(first)-1] < 0.1) {
		t.Errorf("a shortens where it is high; the swarm's ends are %v and %v", first[0], first[len(first)-1])
	}
	for _, row := range swarm.Values {
		for _, v := range row {
			if v < 0 || v > 1 {
				t.Errorf("a colour is %v", v)
			}
		}
	}
	force := page.Sections[1].Charts[0].(report.Bars)
	sum, known := 0.0, 0
	for _, s := range force.Series {
		for _, v := range s.Values {
			if !math.IsNaN(v) {
				sum += v
				known++
			}
		}
	}
	if math.Abs(60+sum-47.5) > 1e-9 || known != len(force.Labels) || force.Labels[len(force.Labels)-1] != "6 others" {
		t.Errorf("from 60 the %d bars lead to %v, the answer is 47.5; labels %q", known, 60+sum, force.Labels)
	}
	for i, want := range []struct {
		title, partner string
		points         int
	}{{"a", "", 200}, {"c", "high d", 199}, {"d", "", 200}} {
		c := page.Sections[2].Charts[i].(report.Scatter)
		points, names := 0, ""
		for _, s := range c.Series {
			points += len(s.X)
			names += s.Name + " "
		}
		if c.Title != want.title || want.partner != "" && !strings.Contains(names, want.partner) || points < want.points-1 {
			t.Errorf("dependence %q shows %d points of %q, want %+v", c.Title, points, names, want)
		}
	}
}
