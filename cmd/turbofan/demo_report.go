package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"turbofan"
	"turbofan/model"
	"turbofan/report"
)

// demoSummary is summary.json: every number on the page.
type demoSummary struct {
	DataSource   string  `json:"data_source"`
	DataDir      string  `json:"data_dir"`
	Synthetic    bool    `json:"synthetic"`
	Scenario     string  `json:"scenario"`
	Seed         int64   `json:"seed"`
	Model        string  `json:"model"`
	Seconds      float64 `json:"seconds"`
	StreamTime   float64 `json:"stream_seconds"`
	PeakRSS      int64   `json:"peak_rss_bytes"`
	Requests     int     `json:"requests"`
	Failed       int     `json:"failed_requests"`
	FirstFailure string  `json:"first_failure,omitempty"`
	Outcomes     int     `json:"outcomes"`
	Latency      struct {
		P50 turbofan.Number `json:"p50"`
		P95 turbofan.Number `json:"p95"`
		P99 turbofan.Number `json:"p99"`
	} `json:"latency_ms"`
	Quarters     []quarterSummary `json:"quarters"`
	Champion     championSummary  `json:"final_champion"`
	DriftReports int              `json:"drift_reports"`
	DriftAlarms  int              `json:"drift_alarms"`
	Retrainings  []retrainSummary `json:"retrainings"`
	Versions     []string         `json:"versions"` // that served, in order
	Events       []demoEvent      `json:"events"`
	Missing      []string         `json:"steps_that_did_not_happen"`
}

type quarterSummary struct {
	Name       string          `json:"name"`
	Subset     string          `json:"subset"`
	Units      int             `json:"units"`
	Readings   int             `json:"readings"`
	RMSEServed turbofan.Number `json:"rmse_served"`
	RMSEFrozen turbofan.Number `json:"rmse_frozen"`
	PSIMean    turbofan.Number `json:"psi_mean"` // over the drift reports of the quarter
}

type retrainSummary struct {
	Reason   string                    `json:"reason"`
	Trigger  string                    `json:"trigger"`
	Status   turbofan.JobStatus        `json:"status"`
	Version  string                    `json:"version"`
	Promoted bool                      `json:"promoted"`
	Seconds  float64                   `json:"seconds"`
	Because  string                    `json:"because"`
	HeldOut  []turbofan.GateComparison `json:"held_out,omitempty"`
	// Subsets compares a promoted version with the champion before it on the engines that both learned from, each by
	// models of their cross-validation that had not; the gate itself knows no subsets.
	Subsets []subsetComparison `json:"subsets,omitempty"`
	before  string
}

// finish writes the report and fails where a step of the story did not happen.
func (d *demo) finish(ctx context.Context, dir string) error {
	s := d.summarise()
	champion, err := d.judgeVersions(ctx, &s)
	if err != nil {
		return err
	}
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("encode summary: %w", err)
	}
	page := d.page(s, champion)
	f, err := os.Create(filepath.Join(dir, "index.html"))
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	if err := errors.Join(page.Write(f), f.Close(), os.WriteFile(filepath.Join(dir, "summary.json"), b, 0o644)); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	d.bar.done()
	d.print(s, filepath.Join(dir, "index.html"))
	if len(s.Missing) > 0 {
		return fmt.Errorf("not every step happened: %s", strings.Join(s.Missing, "; "))
	}
	return nil
}

func (d *demo) summarise() demoSummary {
	r := d.rec
	s := demoSummary{DataSource: d.loc.Source, DataDir: d.loc.Dir, Synthetic: d.loc.Synthetic, Scenario: d.o.scenario, Seed: d.o.seed, Model: d.o.kind,
		Seconds: time.Since(d.began).Seconds(), StreamTime: r.seconds, PeakRSS: peakRSS(), Requests: r.requests, Failed: r.failed, FirstFailure: r.failure,
		Outcomes: r.outcomes, DriftReports: len(r.reports), Versions: slices.Compact(slices.Clone(r.versions)), Events: r.events, Missing: []string{}, Retrainings: []retrainSummary{}}
	if s.Synthetic {
		s.DataSource = "synthetic"
	}
	s.Latency.P50, s.Latency.P95, s.Latency.P99 = turbofan.Number(r.percentile(.5)), turbofan.Number(r.percentile(.95)), turbofan.Number(r.percentile(.99))
	for i, q := range d.quarters {
		s.Quarters = append(s.Quarters, quarterSummary{Name: q.Name, Subset: q.Subset, Units: len(q.Units), Readings: r.quarters[i].readings,
			RMSEServed: turbofan.Number(r.rmse(i)), RMSEFrozen: turbofan.Number(d.frozen.rmse(i)), PSIMean: turbofan.Number(d.psiMean(i))})
	}
	for _, t := range r.reports {
		if t.Verdict == turbofan.Drifted {
			s.DriftAlarms++
		}
	}
	for _, j := range slices.Backward(r.jobs) {
		if j.Trigger == "bootstrap" {
			continue
		}
		x := retrainSummary{Reason: j.Reason, Trigger: j.Trigger, Status: j.Status, Seconds: j.EndedAt.Sub(j.StartedAt).Seconds(), Because: j.Error}
		if j.Result != nil {
			x.Version, x.Promoted, x.Because, x.HeldOut = j.Result.ModelVersion, j.Result.Promoted, j.Result.Because, j.Result.HeldOut
			x.before = j.Result.Champion
		}
		s.Retrainings = append(s.Retrainings, x)
	}
	s.Missing = d.missing(s)
	return s
}

// missing names the steps of the story that did not happen.
func (d *demo) missing(s demoSummary) []string {
	out := []string{}
	check := func(ok bool, step string) {
		if !ok {
			out = append(out, step)
		}
	}
	check(s.Failed == 0, fmt.Sprintf("every request answered (%d failed, the first: %s)", s.Failed, s.FirstFailure))
	check(s.Requests >= d.plan.Readings, "the whole stream sent")
	check(s.DriftReports > 0, "drift checked")
	check(s.DriftAlarms > 0, "drift found")
	promoted := slices.ContainsFunc(s.Retrainings, func(r retrainSummary) bool { return r.Promoted && r.Trigger == "drift" })
	check(promoted, "a drift-triggered retraining promoted")
	check(len(s.Versions) > 1, "a new version swapped in")
	return out
}

// psiMean averages the mean PSI of the reports that were made while quarter i streamed.
func (d *demo) psiMean(i int) float64 {
	from, to := d.plan.Boundaries[i], d.plan.Ticks+1
	if i+1 < len(d.quarters) {
		to = d.plan.Boundaries[i+1]
	}
	sum, n := 0.0, 0.0
	for _, r := range d.rec.reports {
		if r.tick >= from && r.tick < to && r.Verdict != turbofan.InsufficientData {
			sum, n = sum+float64(r.PSIMean), n+1
		}
	}
	return sum / n
}

// peakRSS is the largest resident set of this process so far, in bytes.
func peakRSS() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	if runtime.GOOS == "darwin" {
		return u.Maxrss
	}
	return u.Maxrss << 10
}

func (d *demo) print(s demoSummary, page string) {
	if s.Synthetic {
		fmt.Fprintln(d.out, "*** SYNTHETIC DATA: the numbers below say nothing about real engines. ***")
	}
	_ = printTable(d.out, []string{"quarter", "subset", "readings", "RMSE served", "RMSE frozen", "PSI mean"}, s.Quarters, func(q quarterSummary) []string {
		return []string{q.Name, q.Subset, strconv.Itoa(q.Readings), num(q.RMSEServed, 2), num(q.RMSEFrozen, 2), num(q.PSIMean, 3)}
	})
	fmt.Fprintf(d.out, "the last champion, version %s, on engines that it did not learn from:", s.Champion.Version)
	for i, c := range s.Champion.Subsets {
		fmt.Fprintf(d.out, "%s %s %s over %d", map[bool]string{true: ",", false: ""}[i > 0], c.Subset, num(c.RMSE, 2), c.Units)
		if c.TestUnits > 0 {
			fmt.Fprintf(d.out, " (test %s over %d)", num(c.RMSETest, 2), c.TestUnits)
		}
	}
	fmt.Fprintln(d.out)
	if worst := worstSubset(s.Retrainings); worst != nil {
		fmt.Fprintf(d.out, "at worst a promotion left the error on a known subset at %.2f times what it was (%s, %d engines)\n", worst.Ratio, worst.Subset, worst.Units)
	}
	fmt.Fprintf(d.out, "%d requests, %d failed; latency p50 %s ms, p95 %s ms, p99 %s ms; versions served: %s\n", s.Requests, s.Failed, num(s.Latency.P50, 2), num(s.Latency.P95, 2), num(s.Latency.P99, 2), strings.Join(s.Versions, ", "))
	fmt.Fprintf(d.out, "%d drift reports, %d alarms, %d retrainings; %.0f s, peak memory %.0f MiB\nreport: %s\n", s.DriftReports, s.DriftAlarms, len(s.Retrainings), s.Seconds, float64(s.PeakRSS)/(1<<20), page)
}

// page lays the report out.
func (d *demo) page(s demoSummary, champion *model.Model) report.Page {
	last := s.Quarters[len(s.Quarters)-1]
	p := report.Page{Title: "A model's life in four quarters", Subtitle: fmt.Sprintf("%s, trained on %s, %s scenario, seed %d", strings.Join(d.o.subsets, " → "), d.o.subsets[0], s.Scenario, s.Seed),
		Footer: fmt.Sprintf("turbofan %s; data from %s; %s", readBuildInfo().Version, s.DataDir, time.Now().Format(time.RFC1123))}
	if s.Synthetic {
		p.Notice = "SYNTHETIC DATA: the download failed, so this fleet was made by turbofan's own generator. Its numbers say nothing about real engines."
	}
	gain := 1 - float64(last.RMSEServed)/float64(last.RMSEFrozen)
	p.Sections = append(p.Sections, report.Section{Title: "What happened", Text: []string{
		fmt.Sprintf("Version %s learned from the training units of %s and went into service. A staggered fleet then flew %d readings through the public API, quarter after quarter, with outcomes sent after each engine's end. The drift detector judged the newest readings against what the serving version had learned from; where it found drift, the platform retrained itself, judged the challenger beside the champion on engines that neither had learned from, and swapped it in while requests kept coming. The same stream was then replayed against the frozen version %s.", d.first, d.o.subsets[0], d.plan.Readings, d.first),
		"RMSE is over all readings of engines whose end is known, truth clipped at 125 cycles; a reading counts for the quarter that its engine belongs to. No engine is scored by a model that learned from it. While a retraining ran, fleet time was slowed: a flight takes hours and a retraining minutes.",
	}, Facts: []report.Fact{
		{Label: "RMSE in the last quarter", Value: num(last.RMSEServed, 1), Note: fmt.Sprintf("frozen version %s: %s", d.first, num(last.RMSEFrozen, 1)), Tone: tone(gain >= 0.3)},
		{Label: "failed requests", Value: strconv.Itoa(s.Failed), Note: fmt.Sprintf("of %d", s.Requests), Tone: tone(s.Failed == 0)},
		{Label: "p95 latency", Value: num(s.Latency.P95, 2) + " ms", Note: "p99 " + num(s.Latency.P99, 2) + " ms, over loopback"},
		{Label: "versions served", Value: strconv.Itoa(len(s.Versions)), Note: strings.Join(s.Versions, ", ")},
		{Label: "drift alarms", Value: strconv.Itoa(s.DriftAlarms), Note: fmt.Sprintf("of %d checks", s.DriftReports)},
		{Label: "time and memory", Value: fmt.Sprintf("%.0f s", s.Seconds), Note: fmt.Sprintf("%.0f MiB at most", float64(s.PeakRSS)/(1<<20))},
	}, Tables: []report.Table{quarterTable(s), championTable(s)}})
	marks := d.marks()
	p.Sections = append(p.Sections,
		report.Section{Title: "Error with and without retraining", Charts: []report.Chart{d.errorChart(marks), quarterChart(s)}},
		report.Section{Title: "Drift", Text: []string{"Population stability index of each sensor, after the effect of the operating condition was taken out, against reference distributions weighted to the fleet's ages. The verdict is drawn from the third-largest, so that no single sensor decides. Two more rules alarm beside it: a measured error far above the validated one, and engines whose sensors no longer go together as the reference's do; the events below say which did."},
			Charts: []report.Chart{d.driftChart(marks), d.driftMap()}},
		report.Section{Title: "Engines", Text: []string{"Predicted remaining life as it was served, with its 90% interval; truth is clipped at 125 cycles, as the model was trained."}, Charts: d.trajectories()},
		report.Section{Title: "What the final champion looks at", Charts: []report.Chart{importanceChart(champion)}},
		report.Section{Title: "Retrainings and events", Tables: []report.Table{retrainTable(s), eventTable(s)}})
	return p
}

func tone(good bool) report.Tone {
	if good {
		return report.Good
	}
	return report.Bad
}

func quarterTable(s demoSummary) report.Table {
	t := report.Table{Header: []string{"quarter", "subset", "engines", "readings", "RMSE served", "RMSE frozen", "PSI mean"}}
	for _, q := range s.Quarters {
		t.Rows = append(t.Rows, []string{q.Name, q.Subset, strconv.Itoa(q.Units), strconv.Itoa(q.Readings), num(q.RMSEServed, 2), num(q.RMSEFrozen, 2), num(q.PSIMean, 3)})
	}
	return t
}

func retrainTable(s demoSummary) report.Table {
	t := report.Table{Title: "Retrainings", Header: []string{"because", "status", "version", "promoted", "seconds", "gate"}}
	for _, r := range s.Retrainings {
		t.Rows = append(t.Rows, []string{r.Reason, string(r.Status), r.Version, map[bool]string{true: "yes", false: "no"}[r.Promoted], fmt.Sprintf("%.1f", r.Seconds), r.Because})
	}
	return t
}

func eventTable(s demoSummary) report.Table {
	t := report.Table{Title: "Events", Header: []string{"tick", "what", ""}}
	for _, e := range s.Events {
		t.Rows = append(t.Rows, []string{strconv.Itoa(e.Tick), e.Kind, e.Text})
	}
	return t
}

// marks are the quarter boundaries and the swaps.
func (d *demo) marks() []report.Mark {
	var out []report.Mark
	for _, e := range d.rec.events {
		switch e.Kind {
		case "quarter":
			out = append(out, report.Mark{X: float64(e.Tick), Label: strings.TrimSuffix(strings.Replace(e.Text, " begins:", "", 1), ".")})
		case "swap":
			out = append(out, report.Mark{X: float64(e.Tick), Label: "v" + strings.TrimSuffix(strings.TrimPrefix(e.Text, "version "), " serves")})
		}
	}
	return out
}

const timeLabel = "fleet time (ticks: each engine in service flies one cycle)"

// errorChart shows the error over the newest readings, as served and frozen.
func (d *demo) errorChart(marks []report.Mark) report.Chart {
	served, frozen := rolling(d.rec), rolling(d.frozen)
	frozen.Name, frozen.Dashed, frozen.Color = "frozen version "+d.first, true, 2
	served.Name, served.Color = "as served, with retraining", 1
	return report.Line{Title: "RMSE over the last 60 ticks", XLabel: timeLabel, YLabel: "RMSE (cycles)", Series: []report.Series{served, frozen}, Marks: marks, FromZero: true, Wide: true,
		Caption: "By the time of the reading; vertical lines mark the quarters and the versions that began to serve."}
}

func rolling(r *recorder) report.Series {
	const window, step = 60, 8
	var s report.Series
	sse, n := 0.0, 0.0
	for t := range r.sse {
		sse, n = sse+r.sse[t], n+r.rows[t]
		if t >= window {
			sse, n = sse-r.sse[t-window], n-r.rows[t-window]
		}
		if t%step == 0 && n >= 100 {
			s.X, s.Y = append(s.X, float64(t)), append(s.Y, math.Sqrt(max(sse, 0)/n))
		}
	}
	return s
}

func quarterChart(s demoSummary) report.Chart {
	b := report.Bars{Title: "RMSE by quarter", ValueLabel: "RMSE (cycles)", LabelLabel: "quarter", Series: []report.BarSeries{{Name: "as served", Color: 1}, {Name: "frozen", Color: 2}}}
	for _, q := range s.Quarters {
		b.Labels = append(b.Labels, q.Name+" "+q.Subset)
		b.Series[0].Values = append(b.Series[0].Values, float64(q.RMSEServed))
		b.Series[1].Values = append(b.Series[1].Values, float64(q.RMSEFrozen))
	}
	return b
}

func (d *demo) driftChart(marks []report.Mark) report.Chart {
	score, mean := report.Series{Name: "score: third-largest PSI", Color: 1, Dots: true}, report.Series{Name: "mean PSI", Color: 3}
	threshold := 0.25
	for _, r := range d.rec.reports {
		if r.Verdict == turbofan.InsufficientData {
			continue
		}
		threshold = r.Threshold
		score.X, score.Y = append(score.X, float64(r.tick)), append(score.Y, float64(r.Score))
		mean.X, mean.Y = append(mean.X, float64(r.tick)), append(mean.Y, float64(r.PSIMean))
	}
	return report.Line{Title: "Drift by check", XLabel: timeLabel, YLabel: "PSI", Series: []report.Series{score, mean}, Marks: marks, FromZero: true, Wide: true,
		Thresholds: []report.Threshold{{Y: threshold, Label: "threshold"}}, Caption: "Each check compares the newest readings with the reference of the version that served at the time: a promotion brings a new reference."}
}

// driftMap is PSI per sensor over the checks.
func (d *demo) driftMap() report.Chart {
	h := report.Heatmap{Title: "PSI by sensor and check", ScaleLabel: "PSI", ColumnLabel: "check at tick", Low: 0, High: 1, Decimals: 2, HideColumnLabels: true, Wide: true,
		Caption: "Empty where a sensor is not in the reference of the version that served. PSI above 1 is shown as 1."}
	rows := map[string]int{}
	var checks []timedReport
	for _, r := range d.rec.reports {
		if r.Verdict != turbofan.InsufficientData {
			checks = append(checks, r)
		}
	}
	const most = 120
	every := max(1, (len(checks)+most-1)/most)
	for i := 0; i < len(checks); i += every {
		for _, c := range checks[i].Channels {
			if _, ok := rows[c.Channel]; !ok {
				rows[c.Channel] = len(h.Rows)
				h.Rows = append(h.Rows, c.Channel)
			}
		}
	}
	for range h.Rows {
		h.Values = append(h.Values, nil)
	}
	for i := 0; i < len(checks); i += every {
		h.Columns = append(h.Columns, strconv.Itoa(checks[i].tick))
		for k := range h.Values {
			h.Values[k] = append(h.Values[k], math.NaN())
		}
		for _, c := range checks[i].Channels {
			k := rows[c.Channel]
			h.Values[k][len(h.Values[k])-1] = float64(c.PSI)
		}
	}
	return h
}

// trajectories shows one engine of each quarter: the one whose own error is the median of its quarter, so that neither
// a good nor a bad one was picked.
func (d *demo) trajectories() []report.Chart {
	var out []report.Chart
	for q := range d.quarters {
		var ids []string
		for id, quarter := range d.rec.quarterOf {
			if quarter == q {
				ids = append(ids, id)
			}
		}
		if len(ids) == 0 {
			continue
		}
		slices.SortFunc(ids, func(a, b string) int {
			if x, y := unitError(d.rec.units[a]), unitError(d.rec.units[b]); x != y {
				return map[bool]int{true: -1, false: 1}[x < y]
			}
			return strings.Compare(a, b)
		})
		id := ids[len(ids)/2]
		out = append(out, trajectory(d.quarters[q].Name, id, d.rec.units[id], d.frozen.units[id]))
	}
	return out
}

func unitError(ps []point) float64 {
	sse := 0.0
	for _, p := range ps {
		e := p.rul - min(p.actual, demoCap)
		sse += e * e
	}
	return sse / float64(max(1, len(ps)))
}

func trajectory(quarter, id string, served, frozen []point) report.Chart {
	pred, truth := report.Series{Name: "predicted", Color: 1}, report.Series{Name: "truth", Color: 4}
	band := report.Band{Name: "90% interval", Color: 1}
	var versions []string
	for _, p := range served {
		x := float64(p.cycle)
		pred.X, pred.Y = append(pred.X, x), append(pred.Y, p.rul)
		truth.X, truth.Y = append(truth.X, x), append(truth.Y, min(p.actual, demoCap))
		band.X, band.Lower, band.Upper = append(band.X, x), append(band.Lower, p.low), append(band.Upper, p.high)
		if !slices.Contains(versions, p.version) {
			versions = append(versions, p.version)
		}
	}
	old := report.Series{Name: "frozen version", Color: 2, Dashed: true}
	for _, p := range frozen {
		old.X, old.Y = append(old.X, float64(p.cycle)), append(old.Y, p.rul)
	}
	return report.Line{Title: fmt.Sprintf("%s: engine %s", quarter, id), XLabel: "cycle", YLabel: "remaining life (cycles)", Series: []report.Series{pred, truth, old}, Bands: []report.Band{band}, FromZero: true,
		Caption: "Served by version " + strings.Join(versions, ", ") + "; the engine with the median error of its quarter."}
}

func importanceChart(m *model.Model) report.Chart {
	b := report.Bars{Title: "Feature importance", ValueLabel: "share of the trees' gain", LabelLabel: "feature", Horizontal: true, Wide: true, Series: []report.BarSeries{{Color: 1}}}
	for _, i := range m.Importances()[:min(15, len(m.Importances()))] {
		b.Labels = append(b.Labels, i.Feature)
		b.Series[0].Values = append(b.Series[0].Values, i.Share)
	}
	return b
}
