package main

import (
	"context"
	"fmt"
	"math"
	"strconv"

	"turbofan"
	"turbofan/dataset"
	"turbofan/model"
	"turbofan/report"
	"turbofan/retrain"
)

// championSummary is the error of the version that serves at the end, on engines that it did not learn from.
type championSummary struct {
	Version string           `json:"version"`
	Subsets []championSubset `json:"subsets"`
}

type championSubset struct {
	Subset string `json:"subset"`
	// RMSE is over all readings of the engines of its quarter that the champion learned from, each answered by those of
	// its cross-validation that had not; as of the last promotion, so that later engines are missing.
	Units int             `json:"units"`
	RMSE  turbofan.Number `json:"rmse"`
	// RMSETest is by the test protocol, at the last reading of test engines that never flew; unknown where there is no
	// truth file, and for the first subset, whose test engines are its quarter.
	TestUnits int             `json:"test_units"`
	RMSETest  turbofan.Number `json:"rmse_test"`
}

// subsetComparison is the error of two versions on the engines of a subset that both learned from.
type subsetComparison struct {
	Subset     string  `json:"subset"`
	Units      int     `json:"units"`
	Champion   float64 `json:"champion"`
	Challenger float64 `json:"challenger"`
	Ratio      float64 `json:"ratio"`
}

// worstSubset is where a promotion cost most; nil where no engine was known before one.
func worstSubset(rs []retrainSummary) *subsetComparison {
	var worst *subsetComparison
	for i := range rs {
		for j := range rs[i].Subsets {
			if c := &rs[i].Subsets[j]; worst == nil || c.Ratio > worst.Ratio {
				worst = c
			}
		}
	}
	return worst
}

// judgeVersions measures the last champion, which it returns, and what each promotion changed on what was known.
func (d *demo) judgeVersions(ctx context.Context, s *demoSummary) (*model.Model, error) {
	name := d.platform.cfg.Model.Name
	last, err := d.platform.registry.Version(ctx, name, "@"+turbofan.ChampionAlias)
	if err != nil {
		return nil, fmt.Errorf("resolve the last champion: %w", err)
	}
	models := map[string]*model.Model{}
	open := func(version string) (*model.Model, error) {
		if models[version] != nil {
			return models[version], nil
		}
		m, err := fetchModel(ctx, d.platform.registry, name, version)
		models[version] = m
		return m, err
	}
	for i := range s.Retrainings {
		r := &s.Retrainings[i]
		if !r.Promoted || r.before == "" || r.Trigger == "rollback" {
			continue
		}
		before, err := open(r.before)
		if err != nil {
			return nil, err
		}
		after, err := open(r.Version)
		if err != nil {
			return nil, err
		}
		r.Subsets = d.compareSubsets(before, after)
	}
	champion, err := open(last.Version)
	if err != nil {
		return nil, err
	}
	s.Champion, err = d.judgeChampion(ctx, last.Version, champion)
	return champion, err
}

// subsetOf numbers the quarter of an engine that a model learned from; the baseline's engines, which never flew, come
// after the last one.
func (d *demo) subsetOf(key string, quarters map[string]int) int {
	if q, flew := quarters[key]; flew {
		return q
	}
	return len(d.quarters)
}

// quarterKeys are the engines that flew, by the names that models know them by.
func (d *demo) quarterKeys() map[string]int {
	out := map[string]int{}
	for id, q := range d.rec.quarterOf {
		out[model.UnitKey(retrain.Production, id)] = q
	}
	return out
}

// errorSum adds up the held-out errors of units.
type errorSum struct {
	units     int
	sse, rows float64
}

// rmse is NaN where nothing was added.
func (e errorSum) rmse() float64 { return math.Sqrt(e.sse / e.rows) }

// bySubset adds up what m's cross-validation said of the units it learned from, those that keep takes, by subsetOf.
func (d *demo) bySubset(m *model.Model, keep func(model.UnitError) bool) []errorSum {
	quarters := d.quarterKeys()
	out := make([]errorSum, len(d.quarters)+1)
	for _, u := range m.HeldOut() {
		if keep(u) {
			e := &out[d.subsetOf(u.Unit, quarters)]
			e.units, e.sse, e.rows = e.units+1, e.sse+u.SSE, e.rows+float64(u.Rows)
		}
	}
	return out
}

// knownTo reports of a unit whether m learned from it too, from the same readings.
func knownTo(m *model.Model) func(model.UnitError) bool {
	rows := map[string]int{}
	for _, u := range m.HeldOut() {
		rows[u.Unit] = u.Rows
	}
	return func(u model.UnitError) bool { return u.Rows > 0 && rows[u.Unit] == u.Rows }
}

func (d *demo) compareSubsets(before, after *model.Model) []subsetComparison {
	olds, news := d.bySubset(before, knownTo(after)), d.bySubset(after, knownTo(before))
	var out []subsetComparison
	for q, old := range olds {
		if old.units < 2 {
			continue
		}
		name := d.quarters[0].Subset + ", baseline"
		if q < len(d.quarters) {
			name = d.quarters[q].Subset
		}
		was, is := old.rmse(), news[q].rmse()
		out = append(out, subsetComparison{name, old.units, was, is, is / was})
	}
	return out
}

func (d *demo) judgeChampion(ctx context.Context, version string, m *model.Model) (championSummary, error) {
	out := championSummary{Version: version}
	sums := d.bySubset(m, func(model.UnitError) bool { return true })
	for i, q := range d.quarters {
		c := championSubset{Subset: q.Subset, Units: sums[i].units, RMSE: turbofan.Number(sums[i].rmse()), RMSETest: turbofan.Number(math.NaN())}
		if i > 0 {
			_, test, err := dataset.LoadCMAPSS(d.loc.Dir, q.Subset)
			if err != nil {
				return out, err
			}
			if test.HasTruth() {
				measured, err := m.Evaluate(ctx, q.Subset, test.Units)
				if err != nil {
					return out, err
				}
				c.TestUnits, c.RMSETest = measured.Units, measured.RMSEClipped
			}
		}
		out.Subsets = append(out.Subsets, c)
	}
	return out, nil
}

func championTable(s demoSummary) report.Table {
	t := report.Table{Title: "The last champion, version " + s.Champion.Version + ", on engines that it did not learn from",
		Header: []string{"subset", "RMSE over all readings", "engines", "RMSE of test engines", "engines"}}
	for _, c := range s.Champion.Subsets {
		t.Rows = append(t.Rows, []string{c.Subset, num(c.RMSE, 2), strconv.Itoa(c.Units), num(c.RMSETest, 2), strconv.Itoa(c.TestUnits)})
	}
	return t
}
