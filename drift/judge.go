package drift

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"turbofan"
	"turbofan/condition"
	"turbofan/reference"
	"turbofan/stat"
)

// Window is what one check judges.
type Window struct {
	// Readings are in order of arrival, the newest last.
	Readings []turbofan.StoredReading
	// Unseen are the conditions learned since training; see Conditions.
	Unseen []condition.Regime
	Evidence
}

// Evidence is what speaks for or against drift beside the readings of a window.
type Evidence struct {
	// Scored are predictions of the reference's model whose truth is known; may be empty.
	Scored []turbofan.ScoredPrediction
	// Predictions are the answers of the reference's model to the readings; may be empty.
	Predictions []turbofan.Prediction
	// Drifting says that the last verdict was drift by the sensors' distributions.
	Drifting bool
}

// Judge compares a window with the reference and draws a verdict; a Collector does the same page by page. The report has
// no identity, time or model: those belong to the caller. The same arguments give the same report. An error means that
// the configuration breaks a rule or that the reference does not fit together.
func Judge(ref *reference.Reference, w Window, cfg Config) (turbofan.DriftReport, error) {
	c, err := NewCollector(ref, w.Unseen, cfg)
	if err != nil {
		return turbofan.DriftReport{}, err
	}
	if err := c.Add(w.Readings); err != nil {
		return turbofan.DriftReport{}, err
	}
	return c.Judge(w.Evidence)
}

// Judge draws the verdict on what was added; see the function of that name.
func (c *Collector) Judge(e Evidence) (turbofan.DriftReport, error) {
	unknown := turbofan.Number(math.NaN())
	report := turbofan.DriftReport{Score: unknown, PSIMean: unknown, PSIMax: unknown}
	report.FromSeq, report.ToSeq = c.from, c.to
	report.Rows, report.Units, report.NewConditions = c.rows, c.judged, c.conditions()
	report.Quality = c.issues()
	liveError(&report, c.ref, e.Scored, c.cfg)
	estimateError(&report, c.ref, e.Predictions)
	if err := comparePredictions(&report, c.ref, e.Predictions, c.cfg); err != nil {
		return report, fmt.Errorf("judge drift: %w", err)
	}
	if report.Rows < c.cfg.MinRows || report.Units < c.cfg.MinUnits {
		report.Verdict, report.Because = turbofan.InsufficientData, c.missing(&report)
		report.Threshold = c.cfg.Threshold
		return report, nil
	}
	scores, err := c.found.Scores()
	if err != nil {
		return report, fmt.Errorf("judge drift: %w", err)
	}
	v := newBounds(c.cfg, e.Drifting)
	for i := range scores {
		report.Channels = append(report.Channels, v.channel(&scores[i], channelOf(c.ref.Profile, scores[i].Name)))
	}
	report.Spread = c.unitSpread(report.Channels)
	conclude(&report, c.cfg)
	return report, nil
}

// counts counts rows and units by condition.
type counts struct{ rows, units []int }

// add counts a row in condition k, the first of its unit there or a further one.
func (c *counts) add(k int, first bool) {
	for k >= len(c.rows) {
		c.rows, c.units = append(c.rows, 0), append(c.units, 0)
	}
	c.rows[k]++
	if first {
		c.units[k]++
	}
}

func (c *counts) describe(regimes []condition.Regime, commissioned bool) []turbofan.NewCondition {
	var out []turbofan.NewCondition
	for k, n := range c.rows {
		if n > 0 {
			out = append(out, turbofan.NewCondition{Settings: slices.Clone(regimes[k].Center), Rows: n, Units: c.units[k], Commissioned: commissioned})
		}
	}
	return out
}

// missing says what a window lacks to be judged.
func (c *Collector) missing(report *turbofan.DriftReport) string {
	var short []string
	if report.Rows < c.cfg.MinRows {
		short = append(short, fmt.Sprintf("%d of %d rows", report.Rows, c.cfg.MinRows))
	}
	if report.Units < c.cfg.MinUnits {
		short = append(short, fmt.Sprintf("%d of %d units", report.Units, c.cfg.MinUnits))
	}
	why := "only " + strings.Join(short, " and ")
	if c.foreign > 0 {
		why += fmt.Sprintf("; %s left out, in an operating condition that is not commissioned yet (it takes %s)", turbofan.Count(c.foreign, "row"), turbofan.Count(c.cfg.ProvisionalUnits, "new unit"))
	}
	if c.misfit > 0 {
		why += fmt.Sprintf("; %s left out for another schema than the model's", turbofan.Count(c.misfit, "row"))
	}
	return why
}

// bounds are the thresholds of one window.
type bounds struct {
	threshold float64 // for PSI less what chance gives
}

func newBounds(cfg Config, drifting bool) bounds {
	t := cfg.Threshold
	if drifting {
		t *= 1 - cfg.Hysteresis
	}
	return bounds{threshold: t}
}

// channel gives the scores of one channel of p their threshold: what the configuration says, beyond the PSI that as many
// independent rows give by chance on average, and never less than chance gives in one of twenty windows. Rows of one unit
// count by their design effect, so that a window of few units needs a larger PSI.
func (b bounds) channel(s *stat.Scores, p *stat.ChannelProfile) turbofan.ChannelDrift {
	chance := float64(len(p.Edges)) * (1/s.Reference + 1/s.Independent)
	threshold, far := max(b.threshold+chance, s.PSIThreshold), s.Wasserstein
	if p.Std > 0 {
		far /= p.Std
	}
	return turbofan.ChannelDrift{
		Channel: s.Name, PSI: turbofan.Number(s.PSI), Threshold: turbofan.Number(threshold), KS: turbofan.Number(s.KS), KSPValue: turbofan.Number(s.KSP),
		Wasserstein: turbofan.Number(far), MeanShift: turbofan.Number(s.MeanShift), Drifted: s.PSI > threshold,
	}
}

// channelOf returns the profile of a channel that the profile has.
func channelOf(p *stat.Profile, name string) *stat.ChannelProfile {
	return &p.Channels[slices.IndexFunc(p.Channels, func(c stat.ChannelProfile) bool { return c.Name == name })]
}

// conclude draws the verdict from the channels and the live error.
func conclude(report *turbofan.DriftReport, cfg Config) {
	if len(report.Channels) == 0 {
		report.Verdict, report.Because = turbofan.InsufficientData, "no sensor has a value in the window"
		report.Threshold = cfg.Threshold
		return
	}
	ranked := slices.Clone(report.Channels)
	slices.SortStableFunc(ranked, func(a, b turbofan.ChannelDrift) int { return cmp.Compare(b.PSI/b.Threshold, a.PSI/a.Threshold) })
	report.PSIMean, report.PSIMax = 0, 0
	for i := range ranked {
		report.PSIMean += ranked[i].PSI / turbofan.Number(len(ranked))
		report.PSIMax = max(report.PSIMax, ranked[i].PSI)
	}
	// Where fewer sensors than Rank say anything, all of those decide.
	rank := min(cfg.Rank, len(ranked))
	decisive := ranked[rank-1]
	report.Score, report.Threshold = decisive.PSI, float64(decisive.Threshold)
	switch {
	case decisive.Drifted:
		report.Verdict, report.Because = turbofan.Drifted, becauseDrifted(report, ranked, rank)
	case report.Spread != nil && report.Spread.Drifted:
		report.Verdict = turbofan.Drifted
		report.Because = fmt.Sprintf("%s; psi alone gives no alarm: %s", becauseSpread(report.Spread), becauseStable(report, ranked, rank))
	case errorTooLarge(report, cfg):
		report.Verdict = turbofan.Drifted
		report.Because = fmt.Sprintf("rmse=%.1f > %.3g x %.1f in validation over completed units; psi alone gives no alarm: %s",
			*report.RMSE, cfg.ErrorRatio, *report.ReferenceRMSE, becauseStable(report, ranked, rank))
	default:
		report.Verdict, report.Because = turbofan.NoDrift, becauseStable(report, ranked, rank)
	}
}

// becauseDrifted names the sensors that decided, such as
// "psi(sensor_11)=0.31, psi(sensor_4)=0.29, psi(sensor_7)=0.27 > 0.25 over 1500 rows of 41 units".
func becauseDrifted(report *turbofan.DriftReport, ranked []turbofan.ChannelDrift, rank int) string {
	why := list(ranked[:rank]) + fmt.Sprintf(" > %.3g %s", report.Threshold, over(report))
	more := 0
	for _, c := range ranked[rank:] {
		if c.Drifted {
			more++
		}
	}
	if more > 0 {
		why += ", and " + turbofan.Count(more, "more sensor")
	}
	return why
}

func becauseStable(report *turbofan.DriftReport, ranked []turbofan.ChannelDrift, rank int) string {
	last := "the last"
	if rank == 1 {
		last = "it"
	}
	return list(ranked[:rank]) + fmt.Sprintf(": %s is not above %.3g %s", last, report.Threshold, over(report))
}

// over says how much was looked at; where each row is a unit of its own, units say nothing.
func over(report *turbofan.DriftReport) string {
	rows := "over " + turbofan.Count(report.Rows, "row")
	if report.Units == report.Rows {
		return rows
	}
	return rows + " of " + turbofan.Count(report.Units, "unit")
}

func list(channels []turbofan.ChannelDrift) string {
	parts := make([]string, len(channels))
	for i, c := range channels {
		parts[i] = fmt.Sprintf("psi(%s)=%.2f", c.Channel, c.PSI)
	}
	return strings.Join(parts, ", ")
}
