package console

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"turbofan"
	"turbofan/report"
)

// mostUnits bounds the units that one page asks for, urgentUnits those that its table names.
const (
	mostUnits   = 2000
	urgentUnits = 50
)

// capped says why no prediction is long: an engineer would else read the cap as what is left, or a longer truth as an error.
const capped = "Predictions end at the model's label cap: what lies there is at least that far from its end."

// fleet answers the question of the week: which engine to open first.
func (c *console) fleet(ctx context.Context, _ *http.Request) (report.Page, error) {
	all, err := c.s.Predict.Units(ctx, mostUnits, 0)
	if err != nil {
		return report.Page{}, err
	}
	heard := len(all)
	var alive, failed, afterEnd []turbofan.UnitSummary
	for _, u := range all {
		switch {
		case u.FailedAtCycle > 0 && u.LastCycle > u.FailedAtCycle:
			afterEnd = append(afterEnd, u)
			fallthrough
		case u.FailedAtCycle > 0:
			failed = append(failed, u)
		case u.Last != nil:
			alive = append(alive, u)
		}
	}
	slices.SortFunc(alive, moreUrgent)
	now := report.Section{Title: "Now", Facts: append(healthFacts(alive), report.Fact{Label: "failed", Value: strconv.Itoa(len(failed)), Note: "as reported"})}
	switch {
	case heard == 0:
		now.Text = append(now.Text, "No unit has sent a reading yet: POST readings to /predict of the prediction role.")
	case len(alive) == 0:
		now.Text = append(now.Text, fmt.Sprintf("Of the %s heard of last every one has come to its end.", turbofan.Count(heard, "unit")))
	}
	trust := report.Section{Title: "Are the answers right?"}
	c.addServing(ctx, &trust)
	c.addDrift(ctx, &trust)
	p := report.Page{Title: "Fleet", Subtitle: "Which one to open first", Sections: []report.Section{now, trust}}
	if len(alive) > 0 {
		p.Sections = append(p.Sections, c.urgent(alive), spread(alive))
	}
	if len(afterEnd) > 0 {
		p.Sections = append(p.Sections, c.afterEnd(afterEnd))
	}
	return p, nil
}

// afterEnd lists the units whose readings go on after their stated end: one of the two is wrong.
func (c *console) afterEnd(units []turbofan.UnitSummary) report.Section {
	t := report.Table{Header: []string{"unit", "reported failed at cycle", "newest reading of cycle", "last reading"},
		Note: "Either the outcome is of another unit, or a new life goes on under the old id: give each life an id of its own."}
	for _, u := range units[:min(len(units), urgentUnits)] {
		t.Rows = append(t.Rows, []string{u.UnitID, strconv.Itoa(u.FailedAtCycle), strconv.Itoa(u.LastCycle), c.ago(u.LastSeen)})
		t.Href = append(t.Href, unitHref(u.UnitID))
	}
	return report.Section{Title: "Reported failed, and still heard of", Tables: []report.Table{t}}
}

// moreUrgent orders by the chance to fail soon, then by how little life may be left at worst.
func moreUrgent(a, b turbofan.UnitSummary) int {
	return cmp.Or(cmp.Compare(b.Last.FailureProbability, a.Last.FailureProbability), cmp.Compare(a.Last.Lower, b.Last.Lower),
		cmp.Compare(a.Last.RUL, b.Last.RUL), cmp.Compare(a.UnitID, b.UnitID))
}

func healthFacts(units []turbofan.UnitSummary) []report.Fact {
	count := map[turbofan.Health]int{}
	for _, u := range units {
		count[u.Last.Health]++
	}
	var out []report.Fact
	for _, h := range []turbofan.Health{turbofan.Critical, turbofan.Warning, turbofan.Watch, turbofan.Healthy} {
		f := report.Fact{Label: string(h), Value: strconv.Itoa(count[h]), Note: fmt.Sprintf("of %d in service", len(units))}
		if h == turbofan.Critical && count[h] > 0 {
			f.Tone = report.Bad
		}
		out = append(out, f)
	}
	return out
}

func (c *console) addServing(ctx context.Context, s *report.Section) {
	serving, err := c.s.Predict.Serving(ctx)
	if err != nil {
		s.Text = append(s.Text, missing("Model", err))
		return
	}
	s.Facts = append(s.Facts, report.Fact{Label: "serving version", Value: serving.ModelVersion, Note: serving.ModelName + ", since " + c.ago(serving.Since)})
	if serving.LastFailure != "" {
		s.Text = append(s.Text, "A newer version was refused: "+serving.LastFailure)
	}
}

func (c *console) addDrift(ctx context.Context, s *report.Section) {
	reports, err := c.s.Drift.Reports(ctx, 1)
	if err != nil {
		s.Text = append(s.Text, missing("Drift", err))
		return
	}
	if len(reports) == 0 {
		s.Facts = append(s.Facts, report.Fact{Label: "drift", Value: "–", Note: "not checked yet"})
		return
	}
	r := &reports[0]
	s.Facts = append(s.Facts, report.Fact{Label: "drift", Value: verdictWord(r.Verdict), Note: "checked " + c.ago(r.At), Tone: verdictTone(r.Verdict)})
	if r.RMSE != nil && r.ReferenceRMSE != nil {
		f := report.Fact{Label: "error in service", Value: cycles(*r.RMSE), Note: fmt.Sprintf("RMSE in cycles where the end is known; %s in validation", cycles(*r.ReferenceRMSE))}
		if *r.RMSE > unsure**r.ReferenceRMSE {
			f.Tone = report.Bad
			s.Text = append(s.Text, "The answers are further off than this version's validation promised: probabilities and intervals on these pages are surer of themselves than they should be.")
		}
		s.Facts = append(s.Facts, f)
	}
	if r.Verdict == turbofan.Drifted {
		s.Text = append(s.Text, "What the units send no longer looks like what this version learned from: the page Drift tells in what.")
	}
}

// unsure is by how much the error in service may exceed that in validation before the page warns of it: with less, nobody
// would decide otherwise about a unit. Whether it is chance is for the drift check to say.
const unsure = 1.5

func (c *console) urgent(units []turbofan.UnitSummary) report.Section {
	t := report.Table{Header: []string{"unit", "health", "remaining cycles", "90% interval", failsWithin(units), "cycle", "last reading"}}
	for _, u := range units[:min(len(units), urgentUnits)] {
		p := u.Last
		t.Rows = append(t.Rows, []string{u.UnitID, string(p.Health), report.Number(p.RUL, 0), interval(p), percent(p.FailureProbability), strconv.Itoa(u.LastCycle), c.ago(u.LastSeen)})
		t.Href = append(t.Href, unitHref(u.UnitID))
	}
	t.Note = fmt.Sprintf("%d of %s in service, the most urgent first: by the probability of failure within %d cycles, then by the lower end of the interval. ", len(t.Rows), turbofan.Count(len(units), "unit"), units[0].Last.FailureHorizon) + healthLegend
	return report.Section{Title: "Open first", Tables: []report.Table{t}}
}

// healthLegend says what the four words mean: model.Calibration draws them so.
const healthLegend = "Critical: at least 90% likely to fail so soon, or the whole interval lies within. Warning: at least 50%. " +
	"Watch: at least 5%, or the interval reaches so far down, or at most twice so many cycles are predicted."

// failsWithin is the header over the probabilities: the cycles that they speak of, where all units' models have the same.
func failsWithin(units []turbofan.UnitSummary) string {
	horizon := units[0].Last.FailureHorizon
	for _, u := range units {
		if u.Last.FailureHorizon != horizon {
			return "fails within its horizon"
		}
	}
	return fmt.Sprintf("fails within %d cycles", horizon)
}

// spread shows how much life the fleet has left, so that work can be planned beyond this week.
func spread(units []turbofan.UnitSummary) report.Section {
	var rul []float64
	for _, u := range units {
		rul = append(rul, u.Last.RUL)
	}
	return report.Section{Title: "Life left in the fleet", Charts: []report.Chart{report.Histogram{Title: "Units by predicted remaining life", XLabel: "remaining life (cycles)", YLabel: "units",
		Samples: []report.Sample{{Values: rul}}, Wide: true, Caption: capped}}}
}

// unit shows one unit's course.
func (c *console) unit(ctx context.Context, r *http.Request) (report.Page, error) {
	id := r.PathValue("id")
	u, err := c.s.Predict.Unit(ctx, id)
	if err != nil {
		return report.Page{}, err
	}
	p := report.Page{Title: "Unit " + id, Subtitle: fmt.Sprintf("%s, cycle %d to %d, the last %s", turbofan.Count(u.Readings, "reading"), u.FirstCycle, u.LastCycle, c.ago(u.LastSeen))}
	s := report.Section{Title: "Remaining life"}
	outcomes, err := c.s.Feedback.Outcomes(ctx, turbofan.OutcomeQuery{UnitID: id, Limit: 100})
	if err != nil {
		s.Text = append(s.Text, missing("Outcomes", err))
	}
	failed := u.FailedAtCycle
	for _, o := range outcomes {
		switch {
		case o.Withdraws():
			failed = 0
		case o.FailedAtCycle != nil:
			failed = *o.FailedAtCycle
		}
	}
	if failed > 0 {
		s.Facts = []report.Fact{{Label: "health", Value: "failed", Note: fmt.Sprintf("at cycle %d, as reported", failed)}}
	}
	if last := u.Last; last != nil {
		if failed == 0 {
			s.Facts = predictionFacts(last)
		}
		s.Text = append(s.Text, last.Warnings...)
		s.Charts = append(s.Charts, course(u.Recent, failed))
	}
	p.Sections = append(p.Sections, s)
	why := report.Section{Title: "Why"}
	if t, ok := drivers(u.Recent); ok {
		why.Charts = append(why.Charts, t)
	} else {
		why.Text = append(why.Text, "The version that gave the newest answer no longer serves, so its reasons cannot be had; the next answer will have them. The setting explain keeps reasons in the log.")
	}
	p.Sections = append(p.Sections, why)
	if t, ok := c.outcomes(outcomes); ok {
		p.Sections = append(p.Sections, report.Section{Title: "What was reported", Tables: []report.Table{t}})
	}
	return p, nil
}

func predictionFacts(p *turbofan.Prediction) []report.Fact {
	health := report.Fact{Label: "health", Value: string(p.Health)}
	if p.Health == turbofan.Critical {
		health.Tone = report.Bad
	}
	return []report.Fact{health,
		{Label: "remaining life", Value: report.Number(p.RUL, 0), Note: "cycles, 90% interval " + interval(p)},
		{Label: fmt.Sprintf("fails within %d cycles", p.FailureHorizon), Value: percent(p.FailureProbability)},
		{Label: "answered by", Value: "version " + p.ModelVersion, Note: fmt.Sprintf("operating condition %d", p.Condition)},
	}
}

// course draws the recent predictions with their intervals, and the truth where the end is known.
func course(recent []turbofan.Prediction, failed int) report.Chart {
	pred, truth := report.Series{Name: "predicted"}, report.Series{Name: "truth", Dashed: true, Color: 4}
	band := report.Band{Name: "90% interval"}
	l := report.Line{Title: "Predicted remaining life as it was answered", XLabel: "cycle", YLabel: "remaining life (cycles)", FromZero: true, Wide: true}
	version := ""
	for i, p := range recent {
		x := float64(p.Cycle)
		pred.X, pred.Y = append(pred.X, x), append(pred.Y, p.RUL)
		band.X, band.Lower, band.Upper = append(band.X, x), append(band.Lower, p.Lower), append(band.Upper, p.Upper)
		if left := float64(failed - p.Cycle); failed > 0 && left >= 0 {
			truth.X, truth.Y = append(truth.X, x), append(truth.Y, left)
		}
		if p.ModelVersion != version && i > 0 {
			l.Marks = append(l.Marks, report.Mark{X: x, Label: "v" + p.ModelVersion})
		}
		version = p.ModelVersion
	}
	l.Series, l.Bands = []report.Series{pred}, []report.Band{band}
	if len(truth.X) > 0 {
		l.Series = append(l.Series, truth)
	}
	l.Caption = capped
	if len(l.Marks) > 0 {
		l.Caption += " Vertical lines mark where another model version began to answer."
	}
	return l
}

// featureLegend says what the names of feature.Spec's columns mean.
const featureLegend = "An index is the wear that all sensors together tell, by their change since the unit's first cycles; fault_2 is the second " +
	"of the ways to fail that training told apart. slope_60 is its trend over the newest 60 cycles, rate its newest value over the age, " +
	"ewma its smoothed value; a sensor's from_start is its own change."

// drivers shows why the newest explained answer is what it is.
func drivers(recent []turbofan.Prediction) (report.Chart, bool) {
	for _, p := range slices.Backward(recent) {
		if len(p.Drivers) == 0 {
			continue
		}
		b := report.Bars{Title: fmt.Sprintf("What moved the answer at cycle %d", p.Cycle), Horizontal: true, Wide: true, ValueLabel: "cycles added to the average answer", Caption: "What points to the left shortens the life. " + featureLegend}
		var v []float64
		for _, d := range p.Drivers {
			b.Labels, v = append(b.Labels, fmt.Sprintf("%s = %s", d.Feature, report.Short(float64(d.Value)))), append(v, float64(d.Contribution))
		}
		b.Series = []report.BarSeries{{Values: v}}
		return b, true
	}
	return nil, false
}

func (c *console) outcomes(outcomes []turbofan.Outcome) (report.Table, bool) {
	t := report.Table{Header: []string{"when", "what", "note"}}
	for _, o := range slices.Backward(outcomes) {
		var what []string
		if o.Event != "" && !o.Withdraws() {
			what = append(what, o.Event)
		}
		switch {
		case o.Withdraws():
			what = append(what, fmt.Sprintf("the end at cycle %d was withdrawn", *o.FailedAtCycle))
		case o.FailedAtCycle != nil:
			what = append(what, fmt.Sprintf("failed at cycle %d", *o.FailedAtCycle))
		}
		if o.ActualRUL != nil {
			what = append(what, fmt.Sprintf("%s cycles were left at cycle %d", report.Short(*o.ActualRUL), o.Cycle))
		}
		t.Rows = append(t.Rows, []string{c.ago(o.At), strings.Join(what, ", "), o.Note})
	}
	return t, len(t.Rows) > 0
}

func interval(p *turbofan.Prediction) string {
	return report.Number(p.Lower, 0) + "–" + report.Number(p.Upper, 0)
}

// percent never says 0% or 100% of what is only close to it.
func percent(p float64) string {
	switch {
	case math.IsNaN(p):
		return "–"
	case p > 0 && p < 0.01:
		return "< 1%"
	case p < 1 && p > 0.99:
		return "> 99%"
	}
	return report.Number(100*p, 0) + "%"
}
