package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"turbofan"
	"turbofan/dataset"
	"turbofan/model"
)

const maxSeeds = 100

// seedRow is one line of the table over seeds: a subset judged by one protocol, by models of one kind that differ in
// their random state alone, and with it in the folds of their cross-validation.
type seedRow struct {
	Subset      string                `json:"subset"`
	Model       string                `json:"model"`
	LearnedFrom []string              `json:"learned_from"`
	Protocol    string                `json:"protocol"`
	Units       int                   `json:"units"`
	Seeds       []int64               `json:"seeds"`
	Measured    map[string]seedSpread `json:"measured"`
	// Preferred marks, of the lines by cross-validation of one subset, that with the least error. Only --pool sets it.
	Preferred bool `json:"preferred,omitempty"`
}

// seedSpread is what one measurement was over the seeds.
type seedSpread struct {
	Mean   turbofan.Number   `json:"mean"`
	SD     turbofan.Number   `json:"sd"` // of a single seed; null for one
	Values []turbofan.Number `json:"values"`
}

func spreadOf(v []turbofan.Number) seedSpread {
	n := float64(len(v))
	mean, square := 0.0, 0.0
	for _, x := range v {
		mean += float64(x) / n
	}
	for _, x := range v {
		square += (float64(x) - mean) * (float64(x) - mean)
	}
	s := seedSpread{Mean: turbofan.Number(mean), SD: turbofan.Number(math.NaN()), Values: v}
	if n > 1 {
		s.SD = turbofan.Number(math.Sqrt(square / (n - 1)))
	}
	return s
}

// seedColumn is one measurement of the table.
type seedColumn struct {
	key, title string
	decimals   int
	of         func(model.Metrics) turbofan.Number
}

func seedColumns() []seedColumn {
	return []seedColumn{
		{"rmse_clipped", "RMSE clipped", 2, func(m model.Metrics) turbofan.Number { return m.RMSEClipped }},
		{"rmse_raw", "RMSE raw", 2, func(m model.Metrics) turbofan.Number { return m.RMSERaw }},
		{"score", "S", 0, func(m model.Metrics) turbofan.Number { return m.Score }},
		{"rmse_rul30", "RMSE RUL<=30", 2, func(m model.Metrics) turbofan.Number { return m.RMSE30 }},
		{"coverage", "coverage", 3, func(m model.Metrics) turbofan.Number { return m.Coverage }},
		{"coverage_rul30", "cov. RUL<=30", 3, func(m model.Metrics) turbofan.Number { return m.Coverage30 }},
		{"width", "width", 1, func(m model.Metrics) turbofan.Number { return m.Width }},
		{"auc", "AUC", 4, func(m model.Metrics) turbofan.Number { return m.AUC }},
		{"brier", "Brier", 4, func(m model.Metrics) turbofan.Number { return m.Brier }},
	}
}

func newSeedRow(kind string, seeds []int64, measured []model.Metrics) seedRow {
	row := seedRow{Subset: measured[0].Subset, Model: kind, Protocol: measured[0].Protocol, Units: measured[0].Units, Seeds: seeds, Measured: map[string]seedSpread{}}
	for _, c := range seedColumns() {
		var v []turbofan.Number
		for _, m := range measured {
			v = append(v, c.of(m))
		}
		row.Measured[c.key] = spreadOf(v)
	}
	return row
}

// repeated says what to train again and again.
type repeated struct {
	kinds    []string
	seeds    int
	together bool // one model learns from all subsets
	pool     bool // models learn from every group of the subsets
}

// maxPooled bounds the subsets whose groups are tried: four have fifteen.
const maxPooled = 4

// groups returns the subsets that one model each learns from, small groups first.
func (r repeated) groups(subsets []string) [][]string {
	if r.together {
		return [][]string{subsets}
	}
	var out [][]string
	if !r.pool {
		for _, s := range subsets {
			out = append(out, []string{s})
		}
		return out
	}
	for mask := 1; mask < 1<<len(subsets); mask++ {
		var g []string
		for i, s := range subsets {
			if mask>>i&1 == 1 {
				g = append(g, s)
			}
		}
		out = append(out, g)
	}
	slices.SortStableFunc(out, func(a, b []string) int { return cmp.Compare(len(a), len(b)) })
	return out
}

// prefer marks the line of each subset that has the least cross-validated error, and says for each from what to learn.
func prefer(table []seedRow) []string {
	var advice []string
	best, alone := map[string]*seedRow{}, map[string]*seedRow{}
	var subsets []string
	rmse := func(r *seedRow) float64 { return float64(r.Measured["rmse_clipped"].Mean) }
	for i := range table {
		r := &table[i]
		if r.Protocol != model.CrossValidation {
			continue
		}
		if best[r.Subset] == nil {
			subsets = append(subsets, r.Subset)
		}
		if b := best[r.Subset]; b == nil || rmse(r) < rmse(b) {
			best[r.Subset] = r
		}
		if a := alone[r.Subset]; len(r.LearnedFrom) == 1 && (a == nil || rmse(r) < rmse(a)) {
			alone[r.Subset] = r
		}
	}
	for _, s := range subsets {
		b, a := best[s], alone[s]
		b.Preferred = true
		line := fmt.Sprintf("%s: cross-validation prefers %s learned from %s, RMSE %.2f", s, b.Model, strings.Join(b.LearnedFrom, "+"), rmse(b))
		if a != nil && a != b {
			line += fmt.Sprintf("; %s learned from %s alone has %.2f", a.Model, s, rmse(a))
		}
		advice = append(advice, line)
	}
	return advice
}

// evaluateSeeds trains models of each kind, one for each seed, on each subset or on all of them together, and judges every
// one by the cross-validation of its training and, where there is a truth file, by the test units.
func evaluateSeeds(cmd *cobra.Command, cfg config, dir string, rep repeated, asJSON bool) error {
	bar := newProgress(cmd.ErrOrStderr())
	defer bar.done()
	tests := map[string]*dataset.Set{}
	for _, s := range cfg.Dataset.Subsets {
		_, test, err := dataset.LoadCMAPSS(dir, s)
		if err != nil {
			return err
		}
		if tests[s] = test; !test.HasTruth() {
			bar.say("%s has no truth file: it is judged by cross-validation on its training units alone", s)
		}
	}
	groups := rep.groups(cfg.Dataset.Subsets)
	var table []seedRow
	total, done := float64(len(groups)*len(rep.kinds)*rep.seeds), 0.0
	var failed error // an interrupt keeps what was done: a table of seeds may take hours
	for _, group := range groups {
		data, err := baselineOf(dir, group)
		if err != nil {
			return err
		}
		for _, kind := range rep.kinds {
			if failed != nil {
				break
			}
			var seeds []int64
			var models []*model.Model
			for i := range rep.seeds {
				cfg := cfg
				cfg.Model.Kind, cfg.Model.RandomState = kind, cfg.Model.RandomState+int64(i)
				m, err := model.Train(cmd.Context(), cfg.learner(), data, func(stage string, share float64) {
					bar.update((done+share)/total, share == 0, "%s: %s, seed %d: %s", strings.Join(group, "+"), kind, cfg.Model.RandomState, stage)
				})
				if failed = err; err != nil {
					break
				}
				done++
				seeds, models = append(seeds, cfg.Model.RandomState), append(models, m)
			}
			if len(models) == 0 {
				continue
			}
			rows, err := judgeSeeds(context.WithoutCancel(cmd.Context()), kind, seeds, models, group, tests)
			if err != nil {
				return err
			}
			table = append(table, rows...)
		}
	}
	bar.done()
	if failed != nil && len(table) == 0 {
		return failed
	}
	var advice []string
	if rep.pool && failed == nil {
		advice = prefer(table)
	}
	if asJSON {
		return errors.Join(printJSON(cmd.OutOrStdout(), table), failed)
	}
	if err := printSeeds(cmd.OutOrStdout(), table); err != nil {
		return err
	}
	for _, line := range advice {
		fmt.Fprintln(cmd.OutOrStdout(), line)
	}
	return failed
}

// judgeSeeds returns the lines of models that learned from a group of subsets.
func judgeSeeds(ctx context.Context, kind string, seeds []int64, models []*model.Model, group []string, tests map[string]*dataset.Set) ([]seedRow, error) {
	var table []seedRow
	for _, subset := range group {
		var cross, tested []model.Metrics
		for _, m := range models {
			c := m.Metrics()
			for _, o := range c.Origins {
				if o.Subset == subset {
					c = o
				}
			}
			c.Subset = subset
			cross = append(cross, c)
			if tests[subset].HasTruth() {
				t, err := m.Evaluate(ctx, subset, tests[subset].Units)
				if err != nil {
					return nil, err
				}
				tested = append(tested, t)
			}
		}
		for _, measured := range [][]model.Metrics{cross, tested} {
			if len(measured) > 0 {
				row := newSeedRow(kind, seeds, measured)
				row.LearnedFrom = group
				table = append(table, row)
			}
		}
	}
	return table, nil
}

func printSeeds(w io.Writer, table []seedRow) error {
	head := []string{"subset", "model", "learned from", "protocol", "units", "seeds"}
	for _, c := range seedColumns() {
		head = append(head, c.title)
	}
	return printTable(w, head, table, func(r seedRow) []string {
		cells := []string{r.Subset, r.Model, strings.Join(r.LearnedFrom, "+"), r.Protocol, fmt.Sprint(r.Units), fmt.Sprint(len(r.Seeds))}
		for _, c := range seedColumns() {
			s := r.Measured[c.key]
			cell := num(s.Mean, c.decimals)
			if !math.IsNaN(float64(s.SD)) {
				cell += " ± " + num(s.SD, c.decimals)
			}
			cells = append(cells, cell)
		}
		return cells
	})
}

// check reports what of the flags of a table over seeds does not hold together.
func (r repeated) check(cmd *cobra.Command, subsets []string) error {
	if r.seeds < 1 || r.seeds > maxSeeds {
		return turbofan.Invalid("--seeds", "must be from 1 to %d", maxSeeds)
	}
	if (r.seeds > 1 || r.together || r.pool) && len(r.kinds) == 0 {
		return usagef(cmd, "--seeds, --together and --pool are about a training: name what to train with --train %s", strings.Join(model.Kinds(), ","))
	}
	if r.pool && (r.together || len(subsets) > maxPooled) {
		return usagef(cmd, "--pool tries every group of at most %d --subsets, all of them together too: leave out --together", maxPooled)
	}
	for _, k := range r.kinds {
		if err := model.DefaultConfig(k).Validate(); err != nil {
			return byFlag(cmd, err)
		}
	}
	return nil
}
