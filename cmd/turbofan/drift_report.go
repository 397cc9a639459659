package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"turbofan"
	"turbofan/drift"
	"turbofan/report"
)

// picturedChannels is how many distributions the page shows: those of the sensors that moved most.
const picturedChannels = 6

// page draws the comparison.
func (c *comparison) page() report.Page {
	r := &c.Report
	ranked := slices.Clone(r.Channels)
	slices.SortStableFunc(ranked, func(a, b turbofan.ChannelDrift) int { return cmp.Compare(b.PSI, a.PSI) })
	footer := "Written by turbofan drift. Sensors are normalised within operating conditions and compared with reference rows of the same ages."
	if c.rowsAlone {
		footer = "Written by turbofan drift. No columns tell units and their ages: each row counts by itself."
	}
	return report.Page{
		Title:    "Drift: " + strings.ReplaceAll(string(r.Verdict), "_", " "),
		Subtitle: fmt.Sprintf("Reference %s, current %s", c.Reference, c.Current),
		Sections: slices.Concat([]report.Section{c.verdictSection(ranked)}, c.distributionSection(ranked), c.eventSection()),
		Footer:   footer,
	}
}

func (c *comparison) verdictSection(ranked []turbofan.ChannelDrift) report.Section {
	r := &c.Report
	tone := map[turbofan.Verdict]report.Tone{turbofan.Drifted: report.Bad, turbofan.NoDrift: report.Good}[r.Verdict]
	s := report.Section{ID: "verdict", Title: "The verdict", Text: []string{r.Because}, Facts: []report.Fact{
		{Label: "Verdict", Value: strings.ReplaceAll(string(r.Verdict), "_", " "), Tone: tone},
		{Label: "Rows", Value: report.Number(float64(r.Rows), 0), Note: fmt.Sprintf("%d left out", c.LeftOut)},
	}}
	if !c.rowsAlone {
		s.Facts = append(s.Facts, report.Fact{Label: "Units", Value: report.Number(float64(r.Units), 0)})
	}
	if len(ranked) == 0 {
		return s
	}
	s.Facts = append(s.Facts, report.Fact{Label: "Deciding PSI", Value: report.Number(float64(r.Score), 2), Note: fmt.Sprintf("threshold %.2f", r.Threshold), Tone: tone})
	bars := report.Bars{Title: "Population stability index by sensor", ValueLabel: "PSI", Wide: true,
		Caption:    "0 means that nothing changed. The line is the threshold of the deciding sensor.",
		Series:     []report.BarSeries{{Name: "PSI"}},
		Thresholds: []report.Threshold{{Y: r.Threshold, Label: "threshold"}}}
	table := report.Table{Title: "Sensors", Header: channelHeader(),
		Note: "KS is the largest distance between the distribution functions and p its probability under no drift; Wasserstein and the shift of the mean are in standard deviations of the reference."}
	for _, ch := range ranked {
		bars.Labels = append(bars.Labels, ch.Channel)
		bars.Series[0].Values = append(bars.Series[0].Values, float64(ch.PSI))
		table.Rows = append(table.Rows, channelCells(ch))
	}
	s.Charts, s.Tables = []report.Chart{bars}, []report.Table{table}
	return s
}

func (c *comparison) distributionSection(ranked []turbofan.ChannelDrift) []report.Section {
	expected, mean := "Expected is the reference at the ages of the current fleet.", "standard deviations from the healthy mean"
	if c.rowsAlone {
		expected, mean = "Expected is the reference.", "standard deviations from the reference's mean"
	}
	s := report.Section{ID: "distributions", Title: "What moved", Text: []string{
		"Shares of the readings in bins that hold equal shares of all reference readings. " + expected,
	}}
	for _, ch := range ranked[:min(len(ranked), picturedChannels)] {
		k := slices.IndexFunc(c.Distributions, func(d drift.Distribution) bool { return d.Channel == ch.Channel })
		if k < 0 {
			continue
		}
		d := &c.Distributions[k]
		s.Charts = append(s.Charts, report.Bars{
			Title: d.Channel, Caption: fmt.Sprintf("PSI %.2f, mean moved by %+.2f standard deviations.", ch.PSI, ch.MeanShift),
			Labels: binLabels(d.Edges), ValueLabel: "share of readings (%)", LabelLabel: mean,
			Series: []report.BarSeries{{Name: "expected", Values: percent(d.Expected)}, {Name: "current", Values: percent(d.Current)}},
		})
	}
	if len(s.Charts) == 0 {
		return nil
	}
	return []report.Section{s}
}

// eventSection lists what is no drift but worth knowing.
func (c *comparison) eventSection() []report.Section {
	s := report.Section{ID: "events", Title: "Beside drift"}
	if n := c.Report.NewConditions; len(n) > 0 {
		t := report.Table{Title: "Operating conditions that the reference never saw", Header: []string{"settings", "rows", "units", "usable"}}
		for _, x := range n {
			t.Rows = append(t.Rows, []string{fmt.Sprintf("%.4g", x.Settings), fmt.Sprint(x.Rows), fmt.Sprint(x.Units), map[bool]string{true: "yes", false: "not yet"}[x.Commissioned]})
		}
		s.Tables = append(s.Tables, t)
	}
	if len(c.ColumnsLeftOut) > 0 {
		t := report.Table{Title: "Columns that were not compared", Header: []string{"column", "why"}}
		for _, l := range c.ColumnsLeftOut {
			t.Rows = append(t.Rows, []string{l.Name, l.Reason})
		}
		s.Tables = append(s.Tables, t)
	}
	if q := c.Report.Quality; len(q) > 0 {
		t := report.Table{Title: "Data quality", Header: []string{"kind", "sensor", "unit", "count", "detail"}}
		for _, x := range q {
			t.Rows = append(t.Rows, []string{strings.ReplaceAll(x.Kind, "_", " "), x.Channel, x.UnitID, fmt.Sprint(x.Count), x.Detail})
		}
		s.Tables = append(s.Tables, t)
	}
	if len(s.Tables) == 0 {
		return nil
	}
	return []report.Section{s}
}

func binLabels(edges []float64) []string {
	out := make([]string, 0, len(edges)+1)
	for i, e := range edges {
		if i == 0 {
			out = append(out, "< "+report.Number(e, 1))
		}
		if i+1 < len(edges) {
			out = append(out, report.Number(e, 1)+" to "+report.Number(edges[i+1], 1))
		} else {
			out = append(out, "> "+report.Number(e, 1))
		}
	}
	return out
}

func percent(shares []float64) []float64 {
	out := make([]float64, len(shares))
	for i, s := range shares {
		out[i] = 100 * s
	}
	return out
}
