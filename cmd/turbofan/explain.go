package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"turbofan"
	"turbofan/dataset"
	"turbofan/model"
	"turbofan/tree"
)

// explainOptions are the flags of explain.
type explainOptions struct {
	ref, subset, unit, page string
	cycle, rows, top        int
	asJSON                  bool
}

func newExplainCommand() *cobra.Command {
	var f configFlags
	var o explainOptions
	cmd := &cobra.Command{
		Use:   "explain [FILE]",
		Short: "Show what a model's answers depend on, over a fleet and for one unit",
		Long: strings.TrimSpace(`
Explain a model by exact TreeSHAP: how many cycles each feature adds to an answer or takes from it, beside the
average answer. Over a fleet it tells which features matter and in which direction; for one reading it tells why
the answer is what it is. Readings come from FILE (C-MAPSS text or CSV, "-" for standard input) or from the test
units of a subset. --unit picks the unit that is explained by itself, --cycle its reading; the default is the unit
with the shortest predicted life, at its newest reading.`),
		Example: strings.TrimSpace(`
turbofan explain --html explain.html
turbofan explain fleet.csv --unit pump-7 --json
turbofan explain --model-dir my-forest --subset FD003 --unit 24 --cycle 150`),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef(cmd, "explain takes one FILE at most")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := f.resolve(cmd)
			if err != nil {
				return err
			}
			if err := o.validate(); err != nil {
				return err
			}
			m, err := openModel(cmd, cfg, o.ref, mustString(cmd, "model-dir"))
			if err != nil {
				return err
			}
			units, from, err := explainedUnits(cmd, cfg, o, args, m)
			if err != nil {
				return err
			}
			e, err := explainFleet(cmd.Context(), m, units, o)
			if err != nil {
				return err
			}
			e.Source, e.Digest = from, m.Digest()
			if o.page != "" {
				if err := writePage(o.page, e.pictures()); err != nil {
					return err
				}
				fmt.Fprintf(cmd.ErrOrStderr(), "Pictures: %s\n", o.page)
			}
			if o.asJSON {
				return printJSON(cmd.OutOrStdout(), e)
			}
			return e.print(cmd.OutOrStdout())
		},
	}
	f.addData(cmd)
	f.addStore(cmd)
	fl := cmd.Flags()
	fl.StringVar(&o.ref, "version", "@"+turbofan.ChampionAlias, "version in the registry: a number or @alias")
	fl.String("model-dir", "", "artifact directory to explain instead of a registered version")
	fl.StringVar(&o.subset, "subset", "FD001", "subset whose test units are explained where no FILE is given")
	fl.StringVar(&o.unit, "unit", "", "unit whose answer is explained by itself")
	fl.IntVar(&o.cycle, "cycle", 0, "its reading (default: the newest)")
	fl.IntVar(&o.rows, "rows", 500, "most readings that the fleet's explanation is drawn from, spread evenly")
	fl.IntVar(&o.top, "top", 15, "features that are shown")
	fl.StringVar(&o.page, "html", "", "write a page with pictures to this file")
	fl.BoolVar(&o.asJSON, "json", false, "print the explanation as JSON")
	return cmd
}

// maxExplained bounds the readings of one explanation; its pictures would hold no more.
const maxExplained = 20_000

func (o *explainOptions) validate() error {
	switch {
	case o.rows < 10 || o.rows > maxExplained:
		return turbofan.Invalid("--rows", "must be from 10 to %d", maxExplained)
	case o.top < 1:
		return turbofan.Invalid("--top", "must be at least 1")
	case o.cycle < 0:
		return turbofan.Invalid("--cycle", "must be at least 1")
	case o.cycle > 0 && o.unit == "":
		return turbofan.Invalid("--cycle", "needs --unit")
	}
	return nil
}

func explainedUnits(cmd *cobra.Command, cfg config, o explainOptions, args []string, m *model.Model) ([]turbofan.History, string, error) {
	if len(args) == 1 {
		units, err := readFleet(cmd.InOrStdin(), args[0], m.Spec().Schema)
		return units, args[0], err
	}
	loc, err := locateData(cfg.Dataset.Dir)
	if err != nil {
		return nil, "", err
	}
	_, test, err := dataset.LoadCMAPSS(loc.Dir, o.subset)
	if err != nil {
		return nil, "", err
	}
	return test.Units, "test units of " + o.subset, nil
}

// explanation is what the command found. Contributions are in cycles.
type explanation struct {
	Source   string           `json:"source"`
	Digest   string           `json:"digest"`
	Rows     int              `json:"rows"`
	Base     float64          `json:"base"` // the average answer over the training data
	Features []explainedShare `json:"features"`
	Unit     explainedRow     `json:"unit"`

	phi, value map[string][]float64 // per feature, over the rows
}

// explainedShare is what one feature does over the fleet.
type explainedShare struct {
	Feature string  `json:"feature"`
	Mean    float64 `json:"mean_contribution"` // of its size
	// Direction is the rank correlation of value and contribution: above 0, larger values mean a longer life.
	Direction float64 `json:"direction"`
}

// explainedRow is the answer for one reading and where it comes from, strongest first.
type explainedRow struct {
	UnitID  string            `json:"unit_id"`
	Cycle   int               `json:"cycle"`
	RUL     float64           `json:"rul_prediction"`
	Base    float64           `json:"base"`
	Drivers []turbofan.Driver `json:"drivers"`
}

func explainFleet(ctx context.Context, m *model.Model, units []turbofan.History, o explainOptions) (*explanation, error) {
	rows, err := m.Spec().Transform(ctx, units)
	if err != nil {
		return nil, err
	}
	if rows.Len() == 0 {
		return nil, turbofan.Errorf(turbofan.EInvalid, "explain model: there are no readings")
	}
	columns := m.Spec().Columns
	e := &explanation{Rows: min(o.rows, rows.Len()), phi: map[string][]float64{}, value: map[string][]float64{}}
	x := tree.Matrix{Rows: e.Rows, Cols: len(columns)}
	for k := range e.Rows {
		x.Data = append(x.Data, rows.Row(k*rows.Len()/e.Rows)...)
	}
	base, phi := make([]float64, x.Rows), make([]float64, len(x.Data))
	if err := m.SHAPBatch(x, base, phi); err != nil {
		return nil, err
	}
	e.Base = base[len(base)-1]
	for j, c := range columns {
		e.phi[c], e.value[c] = make([]float64, x.Rows), make([]float64, x.Rows)
		for k := range x.Rows {
			e.phi[c][k], e.value[c][k] = phi[k*x.Cols+j], float64(x.Data[k*x.Cols+j])
		}
	}
	for _, c := range columns {
		s := explainedShare{Feature: c, Direction: rankCorrelation(e.value[c], e.phi[c])}
		for _, v := range e.phi[c] {
			s.Mean += math.Abs(v) / float64(e.Rows)
		}
		if s.Mean > 0 {
			e.Features = append(e.Features, s)
		}
	}
	slices.SortStableFunc(e.Features, func(a, b explainedShare) int { return cmp.Compare(b.Mean, a.Mean) })
	e.Features = e.Features[:min(o.top, len(e.Features))]
	at, err := pickRow(ctx, m, units, o)
	if err != nil {
		return nil, err
	}
	i := 0
	for u := range at.unit {
		i += len(units[u].Readings)
	}
	i += at.reading
	if e.Unit.Base, err = m.SHAP(rows.Row(i), phi[:len(columns)]); err != nil {
		return nil, err
	}
	if e.Unit.Drivers, err = m.Explain(rows.Row(i), len(columns)); err != nil {
		return nil, err
	}
	e.Unit.UnitID, e.Unit.Cycle, e.Unit.RUL = units[at.unit].UnitID, rows.Cycle[i], at.rul
	return e, nil
}

// pickedRow is the reading that is explained by itself.
type pickedRow struct {
	unit, reading int
	rul           float64
}

func pickRow(ctx context.Context, m *model.Model, units []turbofan.History, o explainOptions) (pickedRow, error) {
	answers, err := m.PredictHistories(ctx, units)
	if err != nil {
		return pickedRow{}, err
	}
	best := pickedRow{unit: -1}
	for u := range units {
		if o.unit != "" && units[u].UnitID != o.unit {
			continue
		}
		i := len(units[u].Readings) - 1
		if o.cycle > 0 {
			i = slices.IndexFunc(units[u].Readings, func(r turbofan.Reading) bool { return r.Cycle == o.cycle })
			if i < 0 {
				return best, turbofan.Invalid("--cycle", "unit %s has no reading at cycle %d", o.unit, o.cycle)
			}
		}
		if i >= 0 && (best.unit < 0 || answers[u][i].RUL < best.rul) {
			best = pickedRow{u, i, answers[u][i].RUL}
		}
	}
	if best.unit < 0 {
		return best, turbofan.Invalid("--unit", "there is no unit %q", o.unit)
	}
	return best, nil
}

func (e *explanation) print(w io.Writer) error {
	fmt.Fprintf(w, "%s: %s; the average answer is %.1f cycles\n\n", e.Source, turbofan.Count(e.Rows, "reading"), e.Base)
	err := printTable(w, []string{"feature", "cycles it moves an answer by", "a larger value means"}, e.Features, func(s explainedShare) []string {
		return []string{s.Feature, fmt.Sprintf("%.2f", s.Mean), directionWord(s.Direction)}
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "\nunit %s at cycle %d: %.1f cycles left, from %.1f on average by\n", e.Unit.UnitID, e.Unit.Cycle, e.Unit.RUL, e.Unit.Base)
	return printTable(w, []string{"feature", "value", "cycles"}, e.Unit.Drivers[:min(len(e.Features), len(e.Unit.Drivers))], func(d turbofan.Driver) []string {
		return []string{d.Feature, fmt.Sprintf("%.4g", d.Value), fmt.Sprintf("%+.2f", d.Contribution)}
	})
}

// clearDirection is the rank correlation from which a feature is said to have a direction at all.
const clearDirection = 0.3

func directionWord(r float64) string {
	switch {
	case r >= clearDirection:
		return "longer life"
	case r <= -clearDirection:
		return "shorter life"
	}
	return "no one direction"
}

// rankCorrelation is Spearman's, over the pairs without a missing value; 0 where either does not vary.
func rankCorrelation(x, y []float64) float64 {
	var a, b []float64
	for i := range x {
		if !math.IsNaN(x[i]) && !math.IsNaN(y[i]) {
			a, b = append(a, x[i]), append(b, y[i])
		}
	}
	a, b = ranks(a), ranks(b)
	mean := float64(len(a)-1) / 2
	var xy, xx, yy float64
	for i := range a {
		xy += (a[i] - mean) * (b[i] - mean)
		xx += (a[i] - mean) * (a[i] - mean)
		yy += (b[i] - mean) * (b[i] - mean)
	}
	if xx == 0 || yy == 0 {
		return 0
	}
	return xy / math.Sqrt(xx*yy)
}

// ranks returns the position of each value in ascending order; equal ones share the middle of theirs.
func ranks(v []float64) []float64 {
	order := make([]int, len(v))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(v[a], v[b]) })
	out := make([]float64, len(v))
	for i := 0; i < len(order); {
		j := i + 1
		for j < len(order) && v[order[j]] == v[order[i]] {
			j++
		}
		for _, k := range order[i:j] {
			out[k] = float64(i+j-1) / 2
		}
		i = j
	}
	return out
}
