package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"turbofan"
	"turbofan/dataset"
	"turbofan/report"
)

// describePage draws the first look at the data.
func describePage(where dataset.Location, subsets []subsetData, answers []answer) report.Page {
	page := report.Page{
		Title:    "A first look at the data",
		Subtitle: "Data: " + dataSource(where),
		Footer:   "Written by turbofan data describe.",
	}
	if where.Synthetic {
		page.Notice = syntheticNotice
	}
	page.Sections = []report.Section{
		briefSection(subsets, answers),
		livesSection(subsets),
		variationSection(subsets),
		tracesSection(subsets),
		correlationSection(subsets),
		conditionsSection(subsets),
		againstRULSection(subsets),
	}
	return page
}

func briefSection(subsets []subsetData, answers []answer) report.Section {
	s := report.Section{ID: "answers", Title: "The answers"}
	trained, tested, rows := 0, 0, 0
	for _, d := range subsets {
		trained += d.Train.Units
		tested += d.Test.Units
		rows += d.Train.Rows + d.Test.Rows
	}
	s.Facts = []report.Fact{
		{Label: "Engines run to failure", Value: report.Number(float64(trained), 0)},
		{Label: "Engines for testing", Value: report.Number(float64(tested), 0)},
		{Label: "Readings", Value: report.Number(float64(rows), 0)},
		{Label: "Mean life, " + subsets[0].Name, Value: report.Number(subsets[0].Train.Cycles.Mean, 0), Note: "cycles"},
		{Label: "Varying sensors, " + subsets[0].Name, Value: fmt.Sprintf("%d of %d", len(subsets[0].Train.Varying), len(subsets[0].Train.Sensors))},
	}
	header, table := subsetTable(subsets)
	s.Tables = []report.Table{{Header: header, Rows: table, Note: "Life is in cycles, of the engines that ran to failure."}}
	questions := report.Table{Header: []string{"question", "answer"}}
	for _, a := range answers {
		questions.Rows = append(questions.Rows, []string{a.Question, a.Answer})
	}
	s.Tables = append(s.Tables, questions)
	return s
}

func livesSection(subsets []subsetData) report.Section {
	life := report.Histogram{
		Title: "How long engines live", XLabel: "life (cycles)", YLabel: "share of engines (%)", Share: true,
		Caption: "Training engines, from their first cycle to failure.",
	}
	rul := report.Histogram{
		Title: "Remaining useful life over all training rows", XLabel: "RUL (cycles)", YLabel: "share of rows (%)", Share: true, Bins: 25,
		Caption: "Each engine counts down to 0, so low values are as frequent as there are engines, and high values come from long lives alone.",
	}
	truth := report.Histogram{
		Title: "Remaining useful life of the test engines", XLabel: "RUL at the last known cycle (cycles)", YLabel: "share of engines (%)", Share: true,
		Caption: "The question that a model is asked once for each test engine; subsets without a truth file are left out.",
	}
	seen := report.Histogram{
		Title: "How much of a test engine is seen", XLabel: "readings of the engine (cycles)", YLabel: "share of engines (%)", Share: true,
		Caption: "The number of cycles before the history stops.",
	}
	for i, s := range subsets {
		var lives, ruls, truths, lengths []float64
		for k := range s.train.Units {
			u := &s.train.Units[k]
			lives = append(lives, float64(len(u.Readings)))
			for j := range u.Readings {
				if v, ok := u.RUL(j); ok {
					ruls = append(ruls, v)
				}
			}
		}
		for k := range s.test.Units {
			u := &s.test.Units[k]
			lengths = append(lengths, float64(len(u.Readings)))
			if v, ok := u.RUL(len(u.Readings) - 1); ok {
				truths = append(truths, v)
			}
		}
		life.Samples = append(life.Samples, report.Sample{Name: s.Name, Values: lives})
		rul.Samples = append(rul.Samples, report.Sample{Name: s.Name, Values: ruls})
		seen.Samples = append(seen.Samples, report.Sample{Name: s.Name, Values: lengths})
		if len(truths) > 0 {
			truth.Samples = append(truth.Samples, report.Sample{Name: s.Name, Values: truths, Color: i + 1})
		}
	}
	out := report.Section{ID: "lives", Title: "Lives and remaining life", Charts: []report.Chart{life, rul, seen}}
	if len(truth.Samples) > 0 {
		out.Charts = append(out.Charts, truth)
	}
	return out
}

// variationSection shows which sensors move at all, and which of them move with remaining life.
func variationSection(subsets []subsetData) report.Section {
	first := subsets[0].Train
	spread := report.Bars{
		Title: "Which sensors vary, " + subsets[0].Name, ValueLabel: "standard deviation within a condition, relative to the mean (%)",
		Caption: "Sensors without a bar say the same value in every reading.", Horizontal: true, Series: []report.BarSeries{{}},
	}
	for _, s := range first.Sensors {
		v := math.NaN()
		if s.SD > 0 && s.Mean != 0 {
			v = 100 * s.SD / math.Abs(s.Mean)
		}
		spread.Labels = append(spread.Labels, channelLabel(s.Name, s.Description))
		spread.Series[0].Values = append(spread.Series[0].Values, v)
	}
	follow := report.Heatmap{
		Title: "Which sensors tell remaining life", ScaleLabel: "correlation with RUL", Diverging: true, Low: -1, High: 1, ShowValues: true, Decimals: 2,
		Caption: "Pearson's correlation within an operating condition. Blue sensors rise towards failure, red ones fall; empty cells are sensors that do not vary. Where a subset has engines that fail in two ways, a sensor that goes up in one and down in the other loses its correlation here, not its use.",
	}
	for k, s := range first.Sensors {
		row := make([]float64, len(subsets))
		for i, d := range subsets {
			row[i] = math.NaN()
			if r := d.Train.Sensors[k].RULCorrelation; r != nil {
				row[i] = *r
			}
		}
		follow.Rows = append(follow.Rows, channelLabel(s.Name, s.Description))
		follow.Values = append(follow.Values, row)
	}
	for _, s := range subsets {
		follow.Columns = append(follow.Columns, s.Name)
	}
	table := report.Table{Header: []string{"sensor", "what it measures", "unit", "min", "mean", "max", "SD within a condition", "variation", "correlation with RUL"}}
	for _, s := range first.Sensors {
		r := "–"
		if s.RULCorrelation != nil {
			r = report.Number(*s.RULCorrelation, 2)
		}
		table.Rows = append(table.Rows, []string{s.Name, s.Description, s.Unit, report.Short(s.Min), report.Short(s.Mean), report.Short(s.Max), report.Short(s.SD), string(s.Variation), r})
	}
	table.Title = "Sensors of " + subsets[0].Name
	return report.Section{ID: "sensors", Title: "Which sensors vary", Tables: []report.Table{table}, Charts: []report.Chart{spread, follow}}
}

// channelLabel is a sensor's name with the short name that its description begins with, where it has one.
func channelLabel(name, description string) string {
	short, _, found := strings.Cut(description, " ")
	if !found {
		return name
	}
	return name + " (" + short + ")"
}

// leading returns the indices of the sensors that correlate most with remaining life, or the first that vary.
func leading(d dataset.SetDescription, n int) []int {
	var out []int
	for _, s := range d.Ranked() {
		if s.Variation == dataset.Varies && len(out) < n {
			out = append(out, slices.IndexFunc(d.Sensors, func(o dataset.SensorDescription) bool { return o.Name == s.Name }))
		}
	}
	return out
}

// sampleUnits returns n units from the shortest life to the longest.
func sampleUnits(units []turbofan.History, n int) []*turbofan.History {
	order := make([]int, len(units))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(len(units[a].Readings), len(units[b].Readings)) })
	n = min(n, len(order))
	var out []*turbofan.History
	for i := range n {
		out = append(out, &units[order[i*(len(order)-1)/max(n-1, 1)]])
	}
	return out
}

func tracesSection(subsets []subsetData) report.Section {
	first := subsets[0]
	s := report.Section{ID: "traces", Title: "Sensors over the life of a few engines"}
	normalised := len(first.Train.Conditions) > 1
	for _, k := range leading(first.Train, 4) {
		s.Charts = append(s.Charts, traceChart(first, k, normalised, 5))
	}
	s.Text = []string{fmt.Sprintf("Five training engines of %s, from the shortest life to the longest, each up to its failure. Every engine begins at a level of its own, and bends away from it as it nears its end.", first.Name)}
	for _, d := range subsets {
		if len(d.Train.Conditions) > 1 && d.Name != first.Name {
			if at := leading(d.Train, 1); len(at) > 0 {
				s.Text = append(s.Text, fmt.Sprintf("In %s the same look at a raw sensor shows the operating condition and hides the wear; in standard deviations from the mean of its condition the wear comes back.", d.Name))
				s.Charts = append(s.Charts, traceChart(d, at[0], false, 1), traceChart(d, at[0], true, 5))
			}
			break
		}
	}
	return s
}

// traceChart draws one sensor of some engines, raw or in standard deviations within its condition.
func traceChart(d subsetData, sensor int, normalised bool, engines int) report.Chart {
	info := d.Train.Sensors[sensor]
	chart := report.Line{Title: fmt.Sprintf("%s: %s", d.Name, channelLabel(info.Name, info.Description)), XLabel: "cycle", YLabel: valueLabel(info, normalised), Caption: info.Description}
	for _, u := range sampleUnits(d.train.Units, engines) {
		series := report.Series{Name: "engine " + u.UnitID, X: make([]float64, len(u.Readings)), Y: make([]float64, len(u.Readings))}
		for j := range u.Readings {
			series.X[j] = float64(u.Readings[j].Cycle)
			series.Y[j] = u.Readings[j].Sensors[sensor]
			if normalised {
				series.Y[j] = d.Train.Normal(&u.Readings[j], sensor)
			}
		}
		chart.Series = append(chart.Series, series)
	}
	return chart
}

func valueLabel(info dataset.SensorDescription, normalised bool) string {
	switch {
	case normalised:
		return info.Name + " (standard deviations from the mean of its condition)"
	case info.Unit != "":
		return info.Name + " (" + info.Unit + ")"
	default:
		return info.Name
	}
}

func correlationSection(subsets []subsetData) report.Section {
	s := report.Section{ID: "correlation", Title: "What moves together",
		Text: []string{"Correlation between the sensors that vary, within an operating condition. Wear moves them together, which is why averages over sensors and over time tell more than any single reading."}}
	shown := []subsetData{subsets[0]}
	if len(subsets) > 1 {
		shown = append(shown, subsets[len(subsets)-1])
	}
	for _, d := range shown {
		s.Charts = append(s.Charts, report.Heatmap{
			Title: "Correlation of sensors, " + d.Name, Rows: d.Train.Varying, Columns: d.Train.Varying, Values: d.Train.Correlation,
			Diverging: true, Low: -1, High: 1, ShowValues: true, Decimals: 1, ScaleLabel: "Pearson's r",
		})
	}
	return s
}

func conditionsSection(subsets []subsetData) report.Section {
	s := report.Section{ID: "conditions", Title: "Operating conditions"}
	settings := subsets[0].train.Schema.Settings
	table := report.Table{Header: []string{"subset", "condition"}}
	for _, c := range settings {
		table.Header = append(table.Header, c.Name)
	}
	table.Header = append(table.Header, "readings", "share (%)", "engines")
	for _, d := range subsets {
		for i, c := range d.Train.Conditions {
			row := []string{d.Name, fmt.Sprint(i + 1)}
			for _, v := range c.Settings {
				row = append(row, report.Number(v, 2))
			}
			table.Rows = append(table.Rows, append(row, report.Number(float64(c.Rows), 0), report.Number(100*float64(c.Rows)/float64(d.Train.Rows), 1), fmt.Sprint(c.Units)))
		}
	}
	s.Tables = []report.Table{table}
	for k := 1; k < min(len(settings), 3); k++ {
		s.Charts = append(s.Charts, settingsChart(subsets, 0, k))
	}
	return s
}

// settingsChart draws two settings of every reading. Subsets with many conditions come first, so that they do not cover
// the others.
func settingsChart(subsets []subsetData, x, y int) report.Chart {
	channels := subsets[0].train.Schema.Settings
	label := func(c turbofan.Channel) string {
		if c.Description == "" {
			return c.Name
		}
		return c.Name + ": " + c.Description
	}
	chart := report.Scatter{Title: fmt.Sprintf("%s and %s", channels[x].Name, channels[y].Name), XLabel: label(channels[x]), YLabel: label(channels[y]),
		Caption: "One dot for each place where a reading lies; subsets that fly a condition in common lie on one another as rings."}
	order := make([]int, len(subsets))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(len(subsets[b].Train.Conditions), len(subsets[a].Train.Conditions))
	})
	for place, i := range order {
		series := report.Series{Name: subsets[i].Name, Color: i + 1, Radius: math.Max(3, 10-2.5*float64(place))}
		for k := range subsets[i].train.Units {
			for _, r := range subsets[i].train.Units[k].Readings {
				series.X, series.Y = append(series.X, r.Settings[x]), append(series.Y, r.Settings[y])
			}
		}
		chart.Series = append(chart.Series, series)
	}
	return chart
}

func againstRULSection(subsets []subsetData) report.Section {
	s := report.Section{ID: "against-rul", Title: "Sensors against remaining life",
		Text: []string{"Each dot is a reading, the line is the mean. Far from failure a sensor says little: a label that is capped (125 cycles is usual) does not ask a model to see what is not there."}}
	sensors := leading(subsets[0].Train, 4)
	for _, k := range sensors {
		s.Charts = append(s.Charts, againstRULChart(subsets[0], k))
	}
	if last := subsets[len(subsets)-1]; len(subsets) > 1 {
		for _, k := range sensors {
			s.Charts = append(s.Charts, againstRULChart(last, k))
		}
	}
	return s
}

// maxDots bounds the dots of one picture; more only make the file larger.
const maxDots = 5000

func againstRULChart(d subsetData, sensor int) report.Chart {
	info := d.Train.Sensors[sensor]
	normalised := len(d.Train.Conditions) > 1
	chart := report.Scatter{Title: fmt.Sprintf("%s: %s", d.Name, channelLabel(info.Name, info.Description)), XLabel: "RUL (cycles)", YLabel: valueLabel(info, normalised), Caption: info.Description}
	const width = 5
	var sums, counts []float64
	every, row := d.Train.Rows/maxDots+1, 0
	dots := report.Series{}
	for i := range d.train.Units {
		u := &d.train.Units[i]
		for j := range u.Readings {
			rul, ok := u.RUL(j)
			v := u.Readings[j].Sensors[sensor]
			if normalised {
				v = d.Train.Normal(&u.Readings[j], sensor)
			}
			if !ok || math.IsNaN(v) {
				continue
			}
			bin := int(rul) / width
			for bin >= len(sums) {
				sums, counts = append(sums, 0), append(counts, 0)
			}
			sums[bin] += v
			counts[bin]++
			if row++; row%every == 0 {
				dots.X, dots.Y = append(dots.X, rul), append(dots.Y, v)
			}
		}
	}
	mean := report.Series{Name: "mean", Color: 2}
	for bin, n := range counts {
		// A mean over a few engines that happen to live long is no trend.
		if n >= 50 || n > 0 && d.Train.Rows < 5000 {
			mean.X, mean.Y = append(mean.X, (float64(bin)+0.5)*width), append(mean.Y, sums[bin]/n)
		}
	}
	dots.Name = "reading"
	chart.Series, chart.Curves = []report.Series{dots}, []report.Series{mean}
	return chart
}
