package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"turbofan"
	"turbofan/dataset"
	"turbofan/report"
)

func newDataSynthCommand() *cobra.Command {
	var out string
	var subsets []string
	var seed int64
	var units int
	cmd := &cobra.Command{
		Use:   "synth",
		Short: "Make up fleets of engines, for a machine that is offline",
		Long: strings.TrimSpace(`
Writes synthetic subsets in the format of C-MAPSS, with as many engines, operating conditions and ways
to fail as the originals: FD001 one condition, one fault; FD002 six conditions; FD003 two faults;
FD004 both. Engines begin with some wear, lose health exponentially and fail after about 200 cycles.

The directory is marked as synthetic, and every report on it says so. Numbers obtained on it say
nothing about real engines.`),
		Example: "  turbofan data synth\n  turbofan data synth --out /tmp/small --subsets FD001,FD003 --units 20 --seed 7\n  turbofan data describe --data data/synthetic",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if units < 0 || units > 100_000 {
				return usagef(cmd, "--units must be from 1 to 100000, or 0 for as many as the original has, not %d", units)
			}
			pairs, err := synthesize(cmd, subsets, seed, units)
			if err != nil {
				return err
			}
			if err := dataset.WriteCMAPSS(out, pairs...); err != nil {
				return err
			}
			for _, p := range pairs {
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %s with %s readings, %s with %s\n", p.Train.Name,
					turbofan.Count(len(p.Train.Units), "training engine"), report.Number(float64(p.Train.Rows()), 0), turbofan.Count(len(p.Test.Units), "test engine"), report.Number(float64(p.Test.Rows()), 0))
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "Written to %s. %s\n", out, syntheticNotice)
			return err
		},
	}
	cmd.Flags().StringVar(&out, "out", filepath.Join("data", "synthetic"), "directory to write; it must be absent or empty")
	cmd.Flags().StringSliceVar(&subsets, "subsets", dataset.Subsets(), "subsets to stand in for")
	cmd.Flags().Int64Var(&seed, "seed", 1, "the same seed gives the same engines")
	cmd.Flags().IntVar(&units, "units", 0, "training engines, and as many for testing, of each subset (default: as many as the original)")
	return cmd
}

// synthesize makes the subsets that were named.
func synthesize(cmd *cobra.Command, names []string, seed int64, units int) ([]dataset.Pair, error) {
	var out []dataset.Pair
	for i, name := range names {
		config, known := dataset.SynthSubset(name, seed)
		if !known {
			return nil, usagef(cmd, "--subsets: %q is none of %s", name, strings.Join(dataset.Subsets(), ", "))
		}
		if slices.Contains(names[:i], name) {
			return nil, usagef(cmd, "--subsets names %s twice", name)
		}
		if units > 0 {
			config.TrainUnits, config.TestUnits = units, units
		}
		if err := cmd.Context().Err(); err != nil {
			return nil, err
		}
		train, test := dataset.Synthesize(config)
		out = append(out, dataset.Pair{Train: train, Test: test})
	}
	if len(out) == 0 {
		return nil, turbofan.Invalid("--subsets", "names no subset")
	}
	return out, nil
}
