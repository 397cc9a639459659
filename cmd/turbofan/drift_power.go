package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"turbofan"
	"turbofan/dataset"
	"turbofan/drift"
	"turbofan/reference"
)

// bar is what the detector is held to on a subset, with a reference of FD001's training engines.
type bar struct {
	share float64
	most  bool // at most share, else at least
}

func newDriftPowerCommand() *cobra.Command {
	cfg := drift.DefaultPowerConfig()
	var dir, split, subset string
	var subsets []string
	var windows []int
	var n, runs int
	var seed uint64
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "power",
		Short: "Measure how often the drift rule alarms on C-MAPSS",
		Long: strings.TrimSpace(`
Simulates staggered fleets of each subset and counts the windows that alarm against a reference of one subset's
training engines. FD001 and FD002 wear in the same way, FD002 in operating conditions that FD001 never flew: an
alarm there is false. FD003 and FD004 bring another fault: a window without an alarm there is missed.

Then fleets go over from the reference's subset to each subset with another fault, its first units mixed among the
last of the old. Bound is what a detector would need that knows each unit that ever leaves the reference's spread
from its first reading on; early counts runs that alarmed before there was anything to find.`),
		Example: strings.Trim(`
  turbofan drift power
  turbofan drift power --split train --subsets FD004
  turbofan drift power --fleet 20 --windows 1000 --json`, "\n"),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef(cmd, "%s does not know %q", cmd.CommandPath(), args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if split != "test" && split != "train" {
				return usagef(cmd, "--split must be test or train, not %q", split)
			}
			where, err := locateData(dir)
			if err != nil {
				return err
			}
			train, _, err := dataset.LoadCMAPSS(where.Dir, subset)
			if err != nil {
				return err
			}
			ref, err := reference.Learn(reference.DefaultConfig(), train.Schema, train.Units)
			if err != nil {
				return err
			}
			rows, err := measurePower(cmd, cfg, ref, where.Dir, split, subsets, windows, n, seed)
			if err != nil {
				return err
			}
			delays, err := measureDelays(cmd, cfg, ref, where.Dir, split, subset, subsets, runs, seed)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), powerReport{rows, delays})
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "Reference: %s training engines. Streams: %s engines in staggered fleets of %d; %d windows each.\n", subset, split, cfg.Fleet, n)
			if where.Synthetic {
				fmt.Fprintln(out, syntheticNotice)
			}
			bars := map[string]bar{}
			if subset == "FD001" && !where.Synthetic && cfg.Fleet == drift.DefaultPowerConfig().Fleet {
				bars = powerBars(split)
			}
			if err := printTable(out, []string{"stream", "window", "alarm", "95% interval", "median score", "median mean PSI", "judged", "bar"}, rows,
				func(r drift.PowerRow) []string { return powerCells(r, bars) }); err != nil || len(delays) == 0 {
				return err
			}
			fmt.Fprintf(out, "\nUnits that enter service after the first of a new kind, until the alarm: medians of %d runs, a check every %d readings.\n", runs, delays[0].Every)
			return printTable(out, []string{"from, to", "units", "of the new kind", "cycles", "bound", "visible", "missed", "early"}, delays, delayCells)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&dir, "data", "", "directory of the data (default: where it is found)")
	fl.StringVar(&subset, "reference", "FD001", "subset whose training engines are the reference")
	fl.StringSliceVar(&subsets, "subsets", dataset.Subsets(), "subsets to stream")
	fl.StringVar(&split, "split", "test", "engines to stream: test or train")
	fl.IntSliceVar(&windows, "windows", []int{500, 1000, 2000}, "window sizes in rows")
	fl.IntVar(&n, "n", 300, "windows of each stream and size")
	fl.IntVar(&runs, "runs", 40, "runs of each transition to a subset with another fault; 0 leaves the delay out")
	fl.IntVar(&cfg.Fleet, "fleet", cfg.Fleet, "units in service at a time")
	fl.Uint64Var(&seed, "seed", 1, "seed of the simulation")
	fl.BoolVar(&asJSON, "json", false, "print the rows as JSON")
	addRuleFlags(cmd, &cfg.Rule)
	return cmd
}

// powerReport is what --json prints.
type powerReport struct {
	Windows []drift.PowerRow `json:"windows"`
	Delays  []delayRow       `json:"delays"`
}

type delayRow struct {
	drift.DelayRow
	Every int `json:"every"`
}

// measureDelays runs the transitions to the subsets with another fault.
func measureDelays(cmd *cobra.Command, power drift.PowerConfig, ref *reference.Reference, dir, split, from string, subsets []string, runs int, seed uint64) ([]delayRow, error) {
	if runs == 0 {
		return nil, nil
	}
	cfg := drift.DefaultDelayConfig()
	cfg.Rule, cfg.Fleet = power.Rule, power.Fleet
	bar := newProgress(cmd.ErrOrStderr())
	defer bar.done()
	old, err := unitsOf(dir, from, split)
	if err != nil {
		return nil, err
	}
	var out []delayRow
	for i, name := range subsets {
		if name == from || name == "FD001" || name == "FD002" {
			continue
		}
		bar.update(float64(i)/float64(len(subsets)), false, "from %s to %s", from, name)
		fresh, err := unitsOf(dir, name, split)
		if err != nil {
			return nil, err
		}
		row, err := drift.Delay(cmd.Context(), cfg, ref, old, fresh, runs, seed)
		if err != nil {
			return nil, err
		}
		row.Stream = from + ", " + name
		out = append(out, delayRow{row, cfg.Every})
	}
	return out, nil
}

func unitsOf(dir, subset, split string) ([]turbofan.History, error) {
	train, test, err := dataset.LoadCMAPSS(dir, subset)
	if err != nil {
		return nil, err
	}
	if split == "train" {
		return train.Units, nil
	}
	return test.Units, nil
}

func delayCells(r delayRow) []string {
	return []string{r.Stream, fmt.Sprintf("%.3g", r.Units), fmt.Sprintf("%.3g", r.New), fmt.Sprintf("%.3g", r.Cycles), fmt.Sprintf("%.3g", r.Bound),
		fmt.Sprintf("%.2f", r.Visible), fmt.Sprintf("%d of %d", r.Missed, r.Runs), fmt.Sprintf("%d of %d", r.Early, r.Runs)}
}

// powerBars are the shares that the project holds itself to.
func powerBars(split string) map[string]bar {
	power4 := bar{share: 0.95}
	if split == "train" {
		power4.share = 0.98
	}
	return map[string]bar{"FD001": {0.01, true}, "FD002": {0.02, true}, "FD003": {share: 0.98}, "FD004": power4}
}

func measurePower(cmd *cobra.Command, cfg drift.PowerConfig, ref *reference.Reference, dir, split string, subsets []string, windows []int, n int, seed uint64) ([]drift.PowerRow, error) {
	bar := newProgress(cmd.ErrOrStderr())
	var out []drift.PowerRow
	for i, name := range subsets {
		if slices.Contains(subsets[:i], name) {
			return nil, usagef(cmd, "--subsets names %s twice", name)
		}
		units, err := unitsOf(dir, name, split)
		if err != nil {
			return nil, err
		}
		for j, size := range windows {
			bar.update(float64(i*len(windows)+j)/float64(len(subsets)*len(windows)), false, "%s, windows of %d rows", name, size)
			rows, err := drift.Power(cmd.Context(), cfg, ref, map[string][]turbofan.History{name: units}, []int{size}, n, seed)
			if err != nil {
				return nil, err
			}
			out = append(out, rows...)
		}
	}
	bar.done()
	return out, nil
}

func powerCells(r drift.PowerRow, bars map[string]bar) []string {
	held := ""
	if b, ok := bars[r.Stream]; ok {
		sign, met := ">=", r.Share >= b.share
		if b.most {
			sign, met = "<=", r.Share <= b.share
		}
		held = fmt.Sprintf("%s %.2f", sign, b.share)
		if !met {
			held += " missed"
		}
	}
	return []string{r.Stream, fmt.Sprint(r.Window), fmt.Sprintf("%.3f", r.Share), fmt.Sprintf("%.3f to %.3f", r.Low, r.High),
		fmt.Sprintf("%.2f", r.Score), fmt.Sprintf("%.2f", r.PSIMean), fmt.Sprintf("%d of %d", r.Judged, r.Judged+r.Insufficient), held}
}
