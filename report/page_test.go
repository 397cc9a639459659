package report_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"regexp"
	"strings"
	"testing"

	"turbofan"
	"turbofan/report"
)

// gallery is a page with every kind of chart, in the shapes that the platform's own reports use.
func gallery() report.Page {
	return report.Page{
		Title: "Every chart", Subtitle: "One of each kind, with what can stand on it", Notice: "SYNTHETIC DATA: no number on this page says anything about a real engine",
		Sections: []report.Section{
			{Title: "Curves", Text: []string{"A paragraph."},
				Facts: []report.Fact{{Label: "RMSE", Value: "11.2", Note: "bar: 12.5", Tone: report.Good}, {Label: "Failed requests", Value: "3", Tone: report.Bad}, {Label: "Readings", Value: "12,345"}},
				Tables: []report.Table{{Title: "By quarter", Header: []string{"Quarter", "Subset", "Readings", "RMSE"},
					Rows: [][]string{{"T0", "FD001", "12,345", "11.2"}, {"T1", "FD002", "9,876", "–"}}, Note: "A note."}},
				Charts: []report.Chart{driftChart(), trajectory(), manyCurves()}},
			{Title: "Bars", Charts: []report.Chart{quarters(), importances(), longLabels()}},
			{Title: "Points and shapes", Charts: []report.Chart{cloud(), lives()}},
			{Title: "Matrices", Charts: []report.Chart{correlation(), psiOverTime()}},
		},
		Footer: "turbofan report",
	}
}

func driftChart() report.Chart {
	var x, a, b []float64
	for i := range 5000 {
		v := float64(i)
		x = append(x, v)
		a = append(a, 0.05+0.45/(1+math.Exp(-(v-2800)/150))+0.02*math.Sin(v/17))
		b = append(b, 0.08+0.03*math.Sin(v/29))
	}
	return report.Line{Title: "Drift over the stream", Caption: "Mean PSI of all channels against the threshold.", XLabel: "readings", YLabel: "PSI (mean over channels)",
		Series:     []report.Series{{Name: "mean PSI", X: x, Y: a}, {Name: "prediction PSI", X: x, Y: b, Dashed: true}},
		Marks:      []report.Mark{{X: 0, Label: "T0 FD001"}, {X: 1250, Label: "T1 FD002"}, {X: 2500, Label: "T2 FD003"}, {X: 2900, Label: "v2 promoted"}, {X: 3750, Label: "T3 FD004"}, {X: 4900, Label: "v3 promoted"}},
		Thresholds: []report.Threshold{{Y: 0.25, Label: "threshold 0.25"}}, FromZero: true, Wide: true}
}

func trajectory() report.Chart {
	var x, y, low, high, truth []float64
	for i := range 150 {
		v := float64(i)
		x = append(x, v)
		truth = append(truth, math.Min(125, 150-v))
		p := math.Min(125, 150-v) + 5*math.Sin(v/5)
		w := 6 + (150-v)/6
		if i > 60 && i < 66 {
			p, w = math.NaN(), math.NaN()
		}
		y, low, high = append(y, p), append(low, math.Max(0, p-w)), append(high, p+w)
	}
	return report.Line{Title: "Unit 34", Caption: "Prediction with its 90% interval.", XLabel: "cycle", YLabel: "remaining useful life (cycles)",
		Series: []report.Series{{Name: "predicted", X: x, Y: y}, {Name: "truth", X: x, Y: truth, Dashed: true}},
		Bands:  []report.Band{{Name: "90% interval", X: x, Lower: low, Upper: high}}, FromZero: true}
}

func manyCurves() report.Chart {
	l := report.Line{Title: "sensor_11 of twenty engines", XLabel: "cycles before failure", YLabel: "Ps30 (psia)"}
	for k := range 20 {
		var x, y []float64
		for i := -200; i <= 0; i += 2 {
			x = append(x, float64(i))
			y = append(y, 47+0.05*float64(k%5)+1.1*math.Exp(float64(i)/(40+float64(k))))
		}
		l.Series = append(l.Series, report.Series{X: x, Y: y, Thin: true, Color: 1})
	}
	return l
}

func quarters() report.Chart {
	return report.Bars{Title: "Error by quarter", Caption: "With retraining and against the frozen first version.", ValueLabel: "RMSE (cycles)", LabelLabel: "quarter",
		Labels: []string{"T0 FD001", "T1 FD002", "T2 FD003", "T3 FD004"},
		Series: []report.BarSeries{{Name: "served, with retraining", Values: []float64{10.2, 12.91, 14.3, 12.06}}, {Name: "version 1, frozen", Values: []float64{10.2, 12.9, 25.4, math.NaN()}}}}
}

func importances() report.Chart {
	return report.Bars{Title: "What the forest looks at", ValueLabel: "importance", LabelLabel: "feature", Horizontal: true,
		Labels: []string{"sensor_11_change_from_start", "sensor_4_ewma", "cycle", "sensor_12_rolling_mean_5", "sensor_<9>"},
		Series: []report.BarSeries{{Values: []float64{0.31, 0.22, 0.12, 0.07, 0.015}}}}
}

func longLabels() report.Chart {
	b := report.Bars{Title: "Spread by sensor", ValueLabel: "coefficient of variation (%)", Series: []report.BarSeries{{}}}
	for i := range 21 {
		b.Labels = append(b.Labels, fmt.Sprintf("sensor_%d", i+1))
		b.Series[0].Values = append(b.Series[0].Values, float64(i%7)/5-0.2)
	}
	return b
}

func cloud() report.Chart {
	var x, y []float64
	for i := range 3000 {
		t := math.Mod(float64(i)*37.7, 125)
		x, y = append(x, t), append(y, t+12*math.Sin(float64(i)*1.7))
	}
	return report.Scatter{Title: "Predicted against true", XLabel: "true RUL (cycles)", YLabel: "predicted RUL (cycles)", Diagonal: true, Series: []report.Series{{X: x, Y: y}}}
}

func lives() report.Chart {
	var a, b []float64
	for i := range 260 {
		a, b = append(a, 200+60*math.Sin(float64(i)*2.3)), append(b, 230+90*math.Sin(float64(i)*3.1))
	}
	return report.Histogram{Title: "How long engines live", XLabel: "life (cycles)", YLabel: "share of engines (%)", Share: true, Samples: []report.Sample{{Name: "FD001", Values: a}, {Name: "FD004", Values: b}}}
}

func correlation() report.Chart {
	h := report.Heatmap{Title: "Correlation", ScaleLabel: "Pearson r", Diverging: true, Low: -1, High: 1, Decimals: 1, ShowValues: true}
	for i := range 14 {
		h.Rows = append(h.Rows, fmt.Sprintf("sensor_%d", i+1))
		row := make([]float64, 14)
		for j := range row {
			row[j] = math.Cos(float64(i-j) / 3)
			if i == 4 || j == 4 {
				row[j] = math.NaN()
			}
		}
		h.Values = append(h.Values, row)
	}
	h.Columns = h.Rows
	return h
}

func psiOverTime() report.Chart {
	h := report.Heatmap{Title: "PSI by channel over time", ScaleLabel: "PSI", ColumnLabel: "readings", HideColumnLabels: true, Wide: true,
		Marks: []report.Mark{{X: 0, Label: "T0 FD001"}, {X: 30, Label: "T1 FD002"}, {X: 60, Label: "T2 FD003"}, {X: 64, Label: "v2 promoted"}, {X: 118, Label: "T3 FD004"}}}
	for j := range 120 {
		h.Columns = append(h.Columns, report.Number(float64(j*500), 0))
	}
	for i := range 14 {
		h.Rows = append(h.Rows, fmt.Sprintf("sensor_%d", i+1))
		row := make([]float64, 120)
		for j := range row {
			row[j] = math.Max(0, float64(i%3)*0.3/(1+math.Exp(-float64(j-60)/4)))
		}
		h.Values = append(h.Values, row)
	}
	return h
}

func render(t *testing.T, p report.Page) string {
	t.Helper()
	var out bytes.Buffer
	if err := p.Write(&out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestPageIsSelfContained(t *testing.T) {
	page := render(t, gallery())
	if path := os.Getenv("REPORT_GALLERY"); path != "" {
		if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, outside := range []string{"http://", "https://", "<script", "<link", "<img", "<iframe", "@import", "url(", "src="} {
		if strings.Contains(page, outside) {
			t.Errorf("the page contains %q", outside)
		}
	}
	if n := strings.Count(page, "<svg "); n != 10 {
		t.Errorf("the page has %d pictures, want 10", n)
	}
	if strings.Count(page, `role="img" aria-label="`) != strings.Count(page, "<svg ") {
		t.Error("a picture has no text for those who cannot see it")
	}
	if strings.Count(page, "SYNTHETIC DATA") != 2 {
		t.Error("the notice must stand at the top and at the end")
	}
	if strings.Contains(page, "NaN") || strings.Contains(page, "Inf") || strings.Contains(page, "ZgotmplZ") {
		t.Error("the page contains a number or a value that is none")
	}
	if strings.Contains(page, "sensor_<9>") || !strings.Contains(page, "sensor_&lt;9&gt;") {
		t.Error("a label was not escaped")
	}
}

func TestPicturesAreWellFormed(t *testing.T) {
	for i, svg := range regexp.MustCompile(`(?s)<svg .*?</svg>`).FindAllString(render(t, gallery()), -1) {
		d := xml.NewDecoder(strings.NewReader(svg))
		for {
			_, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("picture %d: %v", i+1, err)
			}
		}
	}
}

// Coordinates that leave the picture would be cut, or would cover the neighbour.
func TestPicturesStayInside(t *testing.T) {
	box := regexp.MustCompile(`viewBox="0 0 ([0-9.]+) ([0-9.]+)"`)
	number := regexp.MustCompile(` (x|y|cx|cy|x1|x2|y1|y2)="(-?[0-9.]+)"`)
	for i, svg := range regexp.MustCompile(`(?s)<svg .*?</svg>`).FindAllString(render(t, gallery()), -1) {
		var w, h float64
		m := box.FindStringSubmatch(svg)
		fmt.Sscan(m[1], &w)
		fmt.Sscan(m[2], &h)
		for _, n := range number.FindAllStringSubmatch(svg, -1) {
			var v float64
			fmt.Sscan(n[2], &v)
			if v < 0 || strings.Contains(n[1], "x") && v > w || strings.Contains(n[1], "y") && v > h {
				t.Errorf("picture %d of %g by %g: %s is %g", i+1, w, h, n[1], v)
			}
		}
	}
}

func TestPageSurvivesEmptyAndOddCharts(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	charts := []report.Chart{
		report.Line{}, report.Bars{}, report.Bars{Horizontal: true}, report.Histogram{}, report.Scatter{}, report.Heatmap{},
		report.Line{Series: []report.Series{{X: []float64{1}, Y: []float64{1}}}, Marks: []report.Mark{{X: nan, Label: "never"}}},
		report.Line{Series: []report.Series{{X: []float64{1, 2, 3}, Y: []float64{nan, inf, nan}, Step: true, Dots: true}}},
		report.Line{Series: []report.Series{{X: []float64{0, 1e12}, Y: []float64{-1e-9, 1e-9}}}, YMax: 1},
		report.Bars{Labels: []string{"a"}, Series: []report.BarSeries{{Values: []float64{nan}}}},
		report.Bars{Labels: []string{"a"}, Series: []report.BarSeries{{Values: []float64{-5}}}, Horizontal: true},
		report.Histogram{Samples: []report.Sample{{Values: []float64{3, 3, 3}}, {Values: []float64{nan}}}, Share: true},
		report.Heatmap{Rows: []string{"r"}, Columns: []string{"c"}, Values: [][]float64{{nan}}, Diverging: true},
		report.Scatter{Series: []report.Series{{X: []float64{5}, Y: []float64{5}}}, Diagonal: true},
	}
	for _, c := range charts {
		page := render(t, report.Page{Title: "t", Sections: []report.Section{{Title: "s", Charts: []report.Chart{c}}}})
		if strings.Contains(page, "NaN") || strings.Contains(page, "Inf") {
			t.Errorf("%#v draws a number that is none", c)
		}
	}
}

func TestPageRefuses(t *testing.T) {
	tests := []struct {
		section report.Section
		want    string
	}{
		{report.Section{Charts: []report.Chart{report.Line{Title: "L", Series: []report.Series{{Name: "a", X: []float64{1, 2}, Y: []float64{1}}}}}},
			`chart "L": series 1 (a) has 2 x and 1 y values; they must be as many`},
		{report.Section{Charts: []report.Chart{report.Line{Title: "L", Series: []report.Series{{Name: "a", X: []float64{math.NaN()}, Y: []float64{1}}}}}},
			`chart "L": series 1 (a) has no finite x at point 1`},
		{report.Section{Charts: []report.Chart{report.Line{Title: "L", Bands: []report.Band{{X: []float64{1}}}}}},
			`chart "L": band 1 has 1 x, 0 lower and 0 upper values; they must be as many`},
		{report.Section{Charts: []report.Chart{report.Scatter{Title: "S", Curves: []report.Series{{X: []float64{1}}}}}},
			`chart "S": series 1 () has 1 x and 0 y values; they must be as many`},
		{report.Section{Charts: []report.Chart{report.Bars{Title: "B", Labels: []string{"x"}, Series: []report.BarSeries{{Name: "v"}}}}},
			`chart "B": series 1 (v) has 0 values for 1 labels; they must be as many`},
		{report.Section{Charts: []report.Chart{report.Heatmap{Title: "H", Rows: []string{"x"}}}},
			`chart "H": has 0 rows of values for 1 row labels; they must be as many`},
		{report.Section{Charts: []report.Chart{report.Heatmap{Title: "H", Rows: []string{"x"}, Values: [][]float64{{1}}}}},
			`chart "H": row 1 (x) has 1 values for 0 columns; they must be as many`},
		{report.Section{Charts: []report.Chart{report.Histogram{Title: "G", Bins: -1}}}, `chart "G": bins must be from 0 to 1000, not -1`},
		{report.Section{Tables: []report.Table{{Title: "T", Header: []string{"a"}, Rows: [][]string{{"1", "2"}}}}}, `table "T": row 1 has 2 cells, the header has 1`},
	}
	for _, tt := range tests {
		var out bytes.Buffer
		err := report.Page{Title: "t", Sections: []report.Section{tt.section}}.Write(&out)
		if err == nil || err.Error() != tt.want || turbofan.ErrorCode(err) != turbofan.EInvalid {
			t.Errorf("got %v\nwant %s", err, tt.want)
		}
		if out.Len() > 0 {
			t.Errorf("%s: %d bytes were written before the error", tt.want, out.Len())
		}
	}
}

// TestPageAlignsBounds: a column of numbers stays one, to the right, when some of them are bounds.
func TestPageAlignsBounds(t *testing.T) {
	page := render(t, report.Page{Title: "Fleet", Sections: []report.Section{{Title: "Now", Tables: []report.Table{
		{Header: []string{"unit", "fails"}, Rows: [][]string{{"engine-1", "> 99%"}, {"engine-2", "5%"}, {"engine-3", "< 1%"}}}}}}})
	for _, cell := range []string{"&gt; 99%", "5%", "&lt; 1%"} {
		if !strings.Contains(page, `<td class="n">`+cell+`</td>`) {
			t.Errorf("%s is not aligned as a number", cell)
		}
	}
}

// TestCountsHaveWholeTicks: there is no check 0.1, no trial 1.2 and no cycle 2.5; where something is measured there is.
func TestCountsHaveWholeTicks(t *testing.T) {
	for _, c := range []struct {
		x    []float64
		want bool
	}{{[]float64{0, 1}, true}, {[]float64{1, 2, 3, 4}, true}, {[]float64{1, 40}, true}, {[]float64{0, 0.5, 1}, false}} {
		s := []report.Series{{X: c.x, Y: make([]float64, len(c.x))}}
		for _, chart := range []report.Chart{report.Line{Series: s, Wide: true}, report.Scatter{Series: s, Wide: true}} {
			page := render(t, report.Page{Title: "x", Sections: []report.Section{{Title: "x", Charts: []report.Chart{chart}}}})
			whole := !regexp.MustCompile(`text-anchor="middle"[^>]*>[0-9]+\.[0-9]+<`).MatchString(page)
			if whole != c.want {
				t.Errorf("%T over %v: whole ticks %v, want %v", chart, c.x, whole, c.want)
			}
		}
	}
}

func TestPageEscapes(t *testing.T) {
	evil := `<script>alert("x")</script>`
	page := render(t, report.Page{Title: evil, Subtitle: evil, Notice: evil, Footer: evil, Sections: []report.Section{{
		ID: evil, Title: evil, Text: []string{evil}, Facts: []report.Fact{{Label: evil, Value: evil, Note: evil}},
		Tables: []report.Table{{Title: evil, Header: []string{evil}, Rows: [][]string{{evil}}, Note: evil}},
		Charts: []report.Chart{
			report.Line{Title: evil, Caption: evil, XLabel: evil, YLabel: evil, Series: []report.Series{{Name: evil, X: []float64{1}, Y: []float64{1}}},
				Marks: []report.Mark{{X: 1, Label: evil}}, Thresholds: []report.Threshold{{Y: 1, Label: evil}}},
			report.Bars{Labels: []string{evil}, Series: []report.BarSeries{{Name: evil, Values: []float64{1}}}},
			report.Heatmap{Rows: []string{evil}, Columns: []string{evil}, Values: [][]float64{{1}}, ScaleLabel: evil},
		},
	}}})
	if strings.Contains(page, "<script") {
		t.Error("text became markup")
	}
}

func TestNumber(t *testing.T) {
	tests := []struct {
		v        float64
		decimals int
		want     string
	}{
		{0, 0, "0"}, {1234567, 0, "1,234,567"}, {999, 0, "999"}, {-1234.5, 1, "−1,234.5"}, {-0.001, 2, "0.00"}, {0.25, 2, "0.25"},
		{math.NaN(), 2, "–"}, {math.Inf(-1), 0, "−∞"},
	}
	for _, tt := range tests {
		if got := report.Number(tt.v, tt.decimals); got != tt.want {
			t.Errorf("Number(%g, %d) = %q, want %q", tt.v, tt.decimals, got, tt.want)
		}
	}
	for v, want := range map[float64]string{0: "0", 12: "12", 12.345: "12.35", 123.45: "123.5", 1234.5: "1,234", 0.12345: "0.123", 0.0012345: "0.0012"} {
		if got := report.Short(v); got != want {
			t.Errorf("Short(%g) = %q, want %q", v, got, want)
		}
	}
}
