package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"turbofan"
	"turbofan/report"
)

// What the page of a search shows.
const (
	tunePlots = 6  // parameters, those that matter most
	tuneRows  = 10 // trials
)

// pictures draws a search.
func (s *study) pictures() report.Page {
	page := report.Page{Title: "Search over " + s.Kind, Subtitle: fmt.Sprintf("%s, %s by unit, %s", strings.Join(s.Subsets, ", "), turbofan.Count(s.Folds, "fold"), turbofan.Count(len(s.Trials), "trial")),
		Footer: "Written by turbofan tune. RMSE is cross-validated by unit with truth clipped at the cap, in cycles; no test file was read."}
	best := s.best()
	if best == nil {
		page.Notice = "NO TRIAL IS COMPLETE YET"
		return page
	}
	page.Sections = []report.Section{s.progressSection(best), s.parameterSection()}
	return page
}

func (s *study) progressSection(best *trial) report.Section {
	complete, pruned := report.Series{Name: "complete"}, report.Series{Name: "pruned", Color: 3}
	curve := report.Series{Name: "best so far", Color: 2, Step: true}
	least, worst, seconds := math.Inf(1), 0.0, 0.0
	for i := range s.Trials {
		t := &s.Trials[i]
		seconds += t.Seconds
		at := &pruned
		if t.State == trialComplete {
			at, least, worst = &complete, min(least, t.loss()), max(worst, t.loss())
		}
		at.X, at.Y = append(at.X, float64(t.Number)), append(at.Y, t.loss())
		if !math.IsInf(least, 1) {
			curve.X, curve.Y = append(curve.X, float64(t.Number)), append(curve.Y, least)
		}
	}
	chart := report.Scatter{Title: "Error of each trial", XLabel: "trial", YLabel: "RMSE (cycles)", Curves: []report.Series{curve}, Wide: true,
		Caption: "A pruned trial stands at what was known of it when it was given up."}
	for _, series := range []report.Series{complete, pruned} {
		if len(series.X) > 0 {
			chart.Series = append(chart.Series, series)
		}
	}
	return report.Section{ID: "progress", Title: "The search", Facts: []report.Fact{
		{Label: "Best RMSE", Value: report.Number(best.loss(), 3), Note: fmt.Sprintf("trial %d, cycles", best.Number), Tone: report.Good},
		{Label: "Worst complete", Value: report.Number(worst, 3), Note: "cycles"},
		{Label: "Trials", Value: strconv.Itoa(len(s.Trials)), Note: fmt.Sprintf("%d pruned", len(pruned.X))},
		{Label: "Time", Value: report.Number(seconds/60, 1), Note: "minutes"},
	}, Charts: []report.Chart{chart}, Tables: []report.Table{s.bestTable()}}
}

func (s *study) bestTable() report.Table {
	var done []trial
	for _, t := range s.Trials {
		if t.State == trialComplete {
			done = append(done, t)
		}
	}
	slices.SortStableFunc(done, func(a, b trial) int { return cmp.Compare(a.loss(), b.loss()) })
	t := report.Table{Title: "The best trials", Header: append([]string{"trial", "RMSE"}, s.Space...)}
	for _, d := range done[:min(tuneRows, len(done))] {
		row := []string{strconv.Itoa(d.Number), report.Number(d.loss(), 3)}
		for _, name := range s.Space {
			row = append(row, strconv.FormatFloat(d.Params[name], 'g', 3, 64))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// parameterSection shows the error over each parameter, those first whose rank goes most with that of the error.
func (s *study) parameterSection() report.Section {
	type weight struct {
		name string
		r    float64
	}
	var order []weight
	for _, name := range s.Space {
		var x, y []float64
		for _, o := range s.Trials {
			x, y = append(x, o.Params[name]), append(y, o.loss())
		}
		order = append(order, weight{name, rankCorrelation(x, y)})
	}
	slices.SortStableFunc(order, func(a, b weight) int { return cmp.Compare(math.Abs(b.r), math.Abs(a.r)) })
	bars := report.Bars{Title: "Which parameters matter", ValueLabel: "rank correlation with the error", Horizontal: true, Wide: true,
		Caption: "Above 0, larger values were worse. A parameter with its best value in the middle stands near 0 although it matters.",
		Series:  []report.BarSeries{{Name: "correlation"}}}
	out := report.Section{ID: "parameters", Title: "The parameters"}
	for _, w := range order {
		bars.Labels, bars.Series[0].Values = append(bars.Labels, w.name), append(bars.Series[0].Values, w.r)
	}
	out.Charts = append(out.Charts, bars)
	for _, w := range order[:min(tunePlots, len(order))] {
		c := report.Scatter{Title: w.name, XLabel: w.name, YLabel: "RMSE (cycles)"}
		complete, pruned := report.Series{Name: "complete"}, report.Series{Name: "pruned", Color: 3}
		for _, t := range s.Trials {
			at := &complete
			if t.State == trialPruned {
				at = &pruned
			}
			at.X, at.Y = append(at.X, t.Params[w.name]), append(at.Y, t.loss())
		}
		for _, series := range []report.Series{complete, pruned} {
			if len(series.X) > 0 {
				c.Series = append(c.Series, series)
			}
		}
		out.Charts = append(out.Charts, c)
	}
	return out
}
