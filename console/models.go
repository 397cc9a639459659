package console

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"turbofan"
	"turbofan/report"
)

// mostReports and mostJobs bound what the pages on drift and retrainings go back.
const (
	mostReports = 100
	mostJobs    = 50
)

// models shows every version, what it promised, what it did, and what the gate said.
func (c *console) models(ctx context.Context, _ *http.Request) (report.Page, error) {
	versions, err := c.s.Registry.Versions(ctx, c.cfg.ModelName)
	if err != nil {
		return report.Page{}, err
	}
	s := report.Section{Title: "Versions"}
	c.addServing(ctx, &s)
	live := map[string]turbofan.Performance{}
	if perf, err := c.s.Feedback.Performance(ctx, 0); err != nil {
		s.Text = append(s.Text, missing("Live error", err))
	} else {
		for _, p := range perf {
			live[p.ModelVersion] = p
		}
	}
	judged := map[string]*turbofan.RetrainResult{}
	if jobs, err := c.s.Retrain.Jobs(ctx, 10*mostJobs); err != nil {
		s.Text = append(s.Text, missing("Retrainings", err))
	} else {
		for _, j := range jobs {
			if j.Result != nil && j.Result.ModelVersion != "" {
				judged[j.Result.ModelVersion] = j.Result
			}
		}
	}
	if len(versions) == 0 {
		s.Text = append(s.Text, fmt.Sprintf("No version of %q is registered yet.", c.cfg.ModelName))
	} else {
		s.Tables = append(s.Tables, c.versions(versions, live, judged))
	}
	p := report.Page{Title: "Models", Subtitle: "What each version promised, and what it did", Sections: []report.Section{s}}
	if chart, ok := promises(versions, live, judged); ok {
		p.Sections = append(p.Sections, report.Section{Title: "Promise and practice", Charts: []report.Chart{chart}})
	}
	return p, nil
}

func (c *console) versions(versions []turbofan.ModelVersion, live map[string]turbofan.Performance, judged map[string]*turbofan.RetrainResult) report.Table {
	t := report.Table{Header: []string{"version", "alias", "made", "RMSE in validation", "RMSE in service", "scored predictions", "learned from", "what the gate said"}}
	for _, v := range slices.Backward(versions) {
		row := []string{v.Version, strings.Join(v.Aliases, ", "), c.ago(v.CreatedAt), "–", "–", "–", "–", cmp.Or(v.Description, "–")}
		if r := judged[v.Version]; r != nil {
			row[3], row[6] = cycles(metric(r.Metrics, "cv_rmse_clipped")), origins(r.TrainUnits)
			row[7] = cmp.Or(r.Because, row[7])
		}
		if p, ok := live[v.Version]; ok {
			row[4], row[5] = cycles(p.RMSE), strconv.Itoa(p.Predictions)
		}
		t.Rows = append(t.Rows, row)
	}
	t.Note = "RMSE in cycles, truth clipped at the label cap: in validation over engines that the version had not learned from, in service over answers whose truth has come in."
	return t
}

// promises sets each version's error in service beside what its validation promised.
func promises(versions []turbofan.ModelVersion, live map[string]turbofan.Performance, judged map[string]*turbofan.RetrainResult) (report.Chart, bool) {
	b := report.Bars{Title: "RMSE promised and found", ValueLabel: "RMSE (cycles)", LabelLabel: "version", Wide: true}
	var promised, found []float64
	for _, v := range versions {
		p, ok := live[v.Version]
		if !ok {
			continue
		}
		b.Labels, found = append(b.Labels, v.Version), append(found, p.RMSE)
		r := math.NaN()
		if j := judged[v.Version]; j != nil {
			r = metric(j.Metrics, "cv_rmse_clipped")
		}
		promised = append(promised, r)
	}
	b.Series = []report.BarSeries{{Name: "in validation", Values: promised}, {Name: "in service", Values: found}}
	return b, len(found) > 0
}

func metric(m map[string]float64, name string) float64 {
	if v, ok := m[name]; ok {
		return v
	}
	return math.NaN()
}

func cycles(v float64) string {
	if math.IsNaN(v) {
		return "–"
	}
	return report.Number(v, 2)
}

func origins(units map[string]int) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(units)) {
		out = append(out, fmt.Sprintf("%d %s", units[k], k))
	}
	return cmp.Or(strings.Join(out, ", "), "–")
}

// drift shows the last verdict with its reason, sensor by sensor, and the checks before it.
func (c *console) drift(ctx context.Context, _ *http.Request) (report.Page, error) {
	reports, err := c.s.Drift.Reports(ctx, mostReports)
	if err != nil {
		return report.Page{}, err
	}
	p := report.Page{Title: "Drift", Subtitle: "Does the world still look like what the model learned from?"}
	if len(reports) == 0 {
		p.Sections = []report.Section{{Title: "Verdict", Text: []string{"Nothing has been checked yet. The detector looks every few minutes, and at once on POST /check of the drift role."}}}
		return p, nil
	}
	p.Sections = append(p.Sections, c.verdict(&reports[0]))
	if len(reports) > 1 {
		p.Sections = append(p.Sections, history(reports)...)
	}
	return p, nil
}

func (c *console) verdict(r *turbofan.DriftReport) report.Section {
	s := report.Section{Title: "Verdict", Text: []string{"Because " + r.Because}, Facts: []report.Fact{
		{Label: "verdict", Value: verdictWord(r.Verdict), Note: "checked " + c.ago(r.At), Tone: verdictTone(r.Verdict)},
		{Label: "looked at", Value: strconv.Itoa(r.Rows), Note: fmt.Sprintf("newest readings, of %s, against version %s", turbofan.Count(r.Units, "unit"), r.ModelVersion)},
	}}
	if r.Verdict != turbofan.InsufficientData {
		s.Facts = append(s.Facts, report.Fact{Label: "score", Value: report.Number(float64(r.Score), 2), Note: "alarm above " + report.Number(r.Threshold, 2)})
	}
	if r.RMSE != nil && r.ReferenceRMSE != nil {
		s.Facts = append(s.Facts, report.Fact{Label: "RMSE in service", Value: report.Number(*r.RMSE, 1), Note: "in validation " + report.Number(*r.ReferenceRMSE, 1)})
	}
	for _, n := range r.NewConditions {
		state := "being learned"
		if n.Commissioned {
			state = "known by now"
		}
		s.Text = append(s.Text, fmt.Sprintf("An operating condition that training never saw, at settings %s: %s of %s, %s.", list(n.Settings), turbofan.Count(n.Rows, "reading"), turbofan.Count(n.Units, "unit"), state))
	}
	if len(r.Quality) > 0 {
		t := report.Table{Title: "Faults of the data, kept apart from drift", Header: []string{"kind", "channel", "unit", "readings", "detail"}}
		for _, q := range r.Quality {
			t.Rows = append(t.Rows, []string{q.Kind, cmp.Or(q.Channel, "–"), cmp.Or(q.UnitID, "–"), strconv.Itoa(q.Count), q.Detail})
		}
		s.Tables = append(s.Tables, t)
	}
	if len(r.Channels) > 0 {
		channels := slices.Clone(r.Channels)
		slices.SortStableFunc(channels, func(a, b turbofan.ChannelDrift) int { return cmp.Compare(b.PSI, a.PSI) })
		b := report.Bars{Title: "Population stability index by sensor", Horizontal: true, Wide: true, ValueLabel: "PSI", Caption: "After the effect of the operating condition was taken out, against a reference of the same ages."}
		var v []float64
		for _, ch := range channels {
			b.Labels, v = append(b.Labels, ch.Channel), append(v, float64(ch.PSI))
		}
		b.Series = []report.BarSeries{{Values: v}}
		s.Charts = append(s.Charts, b)
	}
	return s
}

func list(v []float64) string {
	out := make([]string, len(v))
	for i, x := range v {
		out[i] = report.Short(x)
	}
	return strings.Join(out, ", ")
}

// history draws the score of each check beside its threshold; reports come newest first.
func history(reports []turbofan.DriftReport) []report.Section {
	score, limit := report.Series{Name: "score", Dots: true}, report.Series{Name: "threshold", Dashed: true, Color: 2}
	t := report.Table{Header: []string{"checked", "verdict", "version", "because"}}
	var marks []report.Mark
	version := reports[len(reports)-1].ModelVersion
	for i, r := range slices.Backward(reports) {
		x := float64(len(reports) - 1 - i)
		y, bound := float64(r.Score), r.Threshold
		if r.Verdict == turbofan.InsufficientData {
			y, bound = math.NaN(), math.NaN() // nothing was measured, nor compared
		}
		score.X, score.Y = append(score.X, x), append(score.Y, y)
		limit.X, limit.Y = append(limit.X, x), append(limit.Y, bound)
		if r.ModelVersion != version {
			version = r.ModelVersion
			marks = append(marks, report.Mark{X: x, Label: "v" + version})
		}
	}
	for _, r := range reports[:min(len(reports), 20)] {
		t.Rows = append(t.Rows, []string{r.At.UTC().Format("2006-01-02 15:04:05"), verdictWord(r.Verdict), r.ModelVersion, r.Because})
	}
	return []report.Section{{Title: "Checks before", Charts: []report.Chart{report.Line{Title: "Score by check", XLabel: "check, the newest last", YLabel: "score", Series: []report.Series{score, limit}, Marks: marks, FromZero: true, Wide: true,
		Caption: "Vertical lines mark where another version began to serve: it brings a reference of its own. A check with too little data has no score."}}},
		{Title: "Reasons", Tables: []report.Table{t}}}
}

func verdictWord(v turbofan.Verdict) string { return strings.ReplaceAll(string(v), "_", " ") }

func verdictTone(v turbofan.Verdict) report.Tone {
	switch v {
	case turbofan.Drifted:
		return report.Bad
	case turbofan.NoDrift:
		return report.Good
	}
	return report.Neutral
}

// jobs shows retrainings, the newest first.
func (c *console) jobs(ctx context.Context, _ *http.Request) (report.Page, error) {
	jobs, err := c.s.Retrain.Jobs(ctx, mostJobs)
	if err != nil {
		return report.Page{}, err
	}
	s := report.Section{Title: "Jobs"}
	if len(jobs) == 0 {
		s.Text = append(s.Text, "None yet. The drift detector asks for one, or POST /retrain of the retraining role.")
		return report.Page{Title: "Retrainings", Sections: []report.Section{s}}, nil
	}
	t := report.Table{Header: []string{"created", "status", "trigger", "reason", "version", "what came of it", "seconds"}}
	for i := range jobs {
		t.Rows = append(t.Rows, c.job(&jobs[i]))
	}
	s.Tables = append(s.Tables, t)
	return report.Page{Title: "Retrainings", Subtitle: "Why each was asked for, and what came of it", Sections: []report.Section{s}}, nil
}

func (c *console) job(j *turbofan.Job) []string {
	status := string(j.Status)
	if j.Status == turbofan.JobInProgress {
		status = fmt.Sprintf("%s, %.0f%%", j.Stage, 100*j.Progress)
	}
	row := []string{c.ago(j.CreatedAt), strings.ReplaceAll(status, "_", " "), j.Trigger, j.Reason, "–", cmp.Or(j.Error, "–"), "–"}
	if r := j.Result; r != nil {
		outcome := "refused by the gate: "
		if r.Promoted {
			outcome = "promoted: "
		}
		row[4], row[5] = cmp.Or(r.ModelVersion, "–"), outcome+r.Because
		if j.Trigger == "rollback" {
			row[5] = r.Because
		}
	}
	if !j.EndedAt.IsZero() && !j.StartedAt.IsZero() {
		row[6] = report.Number(j.EndedAt.Sub(j.StartedAt).Seconds(), 1)
	}
	return row
}
