package main

import (
	"fmt"
	"math"

	"turbofan"
	"turbofan/report"
)

// What the page shows.
const (
	summaryBins     = 40 // of the contributions
	dependencePlots = 4
	forceBars       = 14 // beside those of the rest
)

// pictures draws the explanation.
func (e *explanation) pictures() report.Page {
	return report.Page{
		Title:    "What the model's answers depend on",
		Subtitle: fmt.Sprintf("%s, %s; model %.12s", e.Source, turbofan.Count(e.Rows, "reading"), e.Digest),
		Sections: []report.Section{e.summarySection(), e.forceSection(), e.dependenceSection()},
		Footer:   "Written by turbofan explain. Contributions are exact TreeSHAP values in cycles: with the average answer they sum to the prediction.",
	}
}

func (e *explanation) summarySection() report.Section {
	bars := report.Bars{Title: "How far each feature moves an answer", ValueLabel: "mean size of its contribution (cycles)", Horizontal: true, Wide: true,
		Series: []report.BarSeries{{Name: "contribution"}}}
	table := report.Table{Title: "Features", Header: []string{"feature", "cycles", "direction", "a larger value means"}, Note: "Direction is the rank correlation of value and contribution."}
	for _, s := range e.Features {
		bars.Labels = append(bars.Labels, s.Feature)
		bars.Series[0].Values = append(bars.Series[0].Values, s.Mean)
		table.Rows = append(table.Rows, []string{s.Feature, report.Number(s.Mean, 2), report.Number(s.Direction, 2), directionWord(s.Direction)})
	}
	return report.Section{ID: "summary", Title: "Over the fleet", Text: []string{
		fmt.Sprintf("The average answer is %.1f cycles. Each feature then adds cycles or takes some away.", e.Base),
	}, Charts: []report.Chart{bars, e.summary()}, Tables: []report.Table{table}}
}

// summary is the picture known as a bee swarm: where the readings lie by contribution, and whether the feature was high
// or low there.
func (e *explanation) summary() report.Chart {
	widest := 0.0
	for _, s := range e.Features {
		for _, v := range e.phi[s.Feature] {
			widest = max(widest, math.Abs(v))
		}
	}
	h := report.Heatmap{Title: "Contribution by value of the feature", Wide: true, Low: 0, High: 1, HideColumnLabels: true,
		ColumnLabel: "contribution (cycles): left shortens the predicted life, right lengthens it",
		ScaleLabel:  "value of the feature, 0 the lowest and 1 the highest", Marks: []report.Mark{{X: summaryBins / 2, Label: "average answer"}},
		Caption: "A row whose colour changes from left to right has a clear direction; empty cells hold no reading."}
	for b := range summaryBins {
		h.Columns = append(h.Columns, report.Number((float64(b)+0.5)*2*widest/summaryBins-widest, 1))
	}
	for _, s := range e.Features {
		level := ranks(e.value[s.Feature])
		sum, n := make([]float64, summaryBins), make([]float64, summaryBins)
		for i, v := range e.phi[s.Feature] {
			if math.IsNaN(e.value[s.Feature][i]) {
				continue
			}
			b := min(int((v+widest)/(2*widest)*summaryBins), summaryBins-1)
			sum[b] += level[i] / max(float64(len(level)-1), 1)
			n[b]++
		}
		row := make([]float64, summaryBins)
		for b := range row {
			row[b] = sum[b] / n[b] // NaN where there is no reading
		}
		h.Rows, h.Values = append(h.Rows, s.Feature), append(h.Values, row)
	}
	return h
}

func (e *explanation) forceSection() report.Section {
	u := &e.Unit
	bars := report.Bars{Title: fmt.Sprintf("Why unit %s has %.1f cycles left at cycle %d", u.UnitID, u.RUL, u.Cycle), ValueLabel: "cycles added to the average answer",
		Horizontal: true, Wide: true, Series: []report.BarSeries{{Name: "shortens", Color: 2}, {Name: "lengthens", Color: 3}}}
	add := func(label string, v float64) {
		low, high := math.NaN(), math.NaN()
		if v < 0 {
			low = v
		} else {
			high = v
		}
		bars.Labels = append(bars.Labels, label)
		bars.Series[0].Values, bars.Series[1].Values = append(bars.Series[0].Values, low), append(bars.Series[1].Values, high)
	}
	total, rest, others := u.Base, 0.0, 0
	for i, d := range u.Drivers {
		cycles := float64(d.Contribution)
		total += cycles
		if i < forceBars {
			add(d.Feature+" = "+report.Short(float64(d.Value)), cycles)
		} else {
			rest, others = rest+cycles, others+1
		}
	}
	if others > 0 {
		add(fmt.Sprintf("%d others", others), rest)
	}
	return report.Section{ID: "unit", Title: "One answer", Facts: []report.Fact{
		{Label: "Average answer", Value: report.Number(u.Base, 1), Note: "cycles"},
		{Label: "Contributions", Value: report.Number(total-u.Base, 1), Note: "cycles, over all features"},
		{Label: "Prediction", Value: report.Number(u.RUL, 1), Note: "cycles, between 0 and the cap"},
	}, Charts: []report.Chart{bars}}
}

func (e *explanation) dependenceSection() report.Section {
	s := report.Section{ID: "dependence", Title: "How an answer depends on one feature", Text: []string{
		"Every point is a reading. Points at one value that differ in height differ in other features; the colours split them by the one that explains most of it.",
	}}
	for _, f := range e.Features[:min(dependencePlots, len(e.Features))] {
		s.Charts = append(s.Charts, e.dependence(f.Feature))
	}
	return s
}

func (e *explanation) dependence(feature string) report.Chart {
	x, y := e.value[feature], e.phi[feature]
	c := report.Scatter{Title: feature, XLabel: feature, YLabel: "contribution (cycles)"}
	other := e.partner(feature)
	if other == "" {
		c.Series = []report.Series{{X: x, Y: y}}
		return c
	}
	level := ranks(e.value[other])
	for k, name := range []string{"low ", "middle ", "high "} {
		s := report.Series{Name: name + other}
		for i := range x {
			if !math.IsNaN(x[i]) && min(int(3*level[i]/float64(len(level))), 2) == k {
				s.X, s.Y = append(s.X, x[i]), append(s.Y, y[i])
			}
		}
		if len(s.X) > 0 {
			c.Series = append(c.Series, s)
		}
	}
	return c
}

// partner returns the shown feature that explains most of the height that value alone does not: readings are grouped by
// value, and within each group the other feature is compared with the height, whichever way it goes there.
func (e *explanation) partner(feature string) string {
	const perGroup, most = 25, 20 // readings that a correlation needs; groups
	x, y := e.value[feature], e.phi[feature]
	order := ranks(x)
	groups := make([][]int, max(1, min(most, len(x)/perGroup)))
	for i := range x {
		g := min(int(order[i]*float64(len(groups))/float64(len(x))), len(groups)-1)
		groups[g] = append(groups[g], i)
	}
	best, strongest := "", 0.3 // less is noise
	for _, f := range e.Features {
		if f.Feature == feature {
			continue
		}
		sum := 0.0
		for _, rows := range groups {
			var height, other []float64
			for _, i := range rows {
				height, other = append(height, y[i]), append(other, e.value[f.Feature][i])
			}
			sum += math.Abs(rankCorrelation(other, height)) * float64(len(rows))
		}
		if r := sum / float64(len(x)); r > strongest {
			best, strongest = f.Feature, r
		}
	}
	return best
}
