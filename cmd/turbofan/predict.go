package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"turbofan"
	"turbofan/model"
)

func newPredictCommand() *cobra.Command {
	var f configFlags
	var ref, format string
	var all, features bool
	cmd := &cobra.Command{
		Use:   "predict FILE",
		Short: "Predict the remaining life of the units in a file",
		Long: strings.TrimSpace(`
Predict from a file of readings, without a server: C-MAPSS text (26 columns) or CSV with a header (unit_id,
cycle, then the settings and sensors by name). One line a unit, at its newest reading, most urgent first;
--all gives a line for every reading; --features gives, in place of the answer, the row of numbers that the model
reads of every reading, as CSV: what model.predict of an exported model takes. "-" reads standard input.`),
		Example: strings.TrimSpace(`
turbofan predict ../shared/cmapss/test_FD001.txt
turbofan predict --all --format csv fleet.csv > predictions.csv
turbofan predict --features fleet.csv > features.csv`),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef(cmd, "predict wants one FILE, or - for standard input")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := f.resolve(cmd)
			if err != nil {
				return err
			}
			if features && (all || cmd.Flags().Changed("format")) {
				return usagef(cmd, "--features writes CSV with a line for every reading: leave out --all and --format")
			}
			if format != "table" && format != "csv" && format != "json" {
				return usagef(cmd, "--format must be table, csv or json, not %q", format)
			}
			if info, err := os.Stat(args[0]); args[0] != "-" {
				if err != nil {
					return turbofan.Invalid("FILE", "cannot open %s: %s", args[0], pathReason(err))
				}
				if info.IsDir() {
					return turbofan.Invalid("FILE", "%s is a directory", args[0])
				}
			}
			m, err := openModel(cmd, cfg, ref, mustString(cmd, "model-dir"))
			if err != nil {
				return err
			}
			units, err := readFleet(cmd.InOrStdin(), args[0], m.Spec().Schema)
			if err != nil {
				return err
			}
			if features {
				return printFeatures(cmd.Context(), cmd.OutOrStdout(), m, units)
			}
			rows, err := predictFleet(cmd.Context(), m, units, all)
			if err != nil {
				return err
			}
			return printFleet(cmd.OutOrStdout(), rows, format)
		},
	}
	f.addStore(cmd)
	fl := cmd.Flags()
	fl.StringVar(&ref, "version", "@"+turbofan.ChampionAlias, "version in the registry: a number or @alias")
	fl.String("model-dir", "", "artifact directory to use instead of a registered version")
	fl.StringVar(&format, "format", "table", "table, csv or json")
	fl.BoolVar(&all, "all", false, "a line for every reading, not only each unit's newest")
	fl.BoolVar(&features, "features", false, "print the feature rows of the model as CSV, not its answers")
	return cmd
}

// fleetRow is one line of the answer.
type fleetRow struct {
	UnitID             string          `json:"unit_id"`
	Cycle              int             `json:"cycle"`
	RUL                float64         `json:"rul_prediction"`
	Lower              float64         `json:"rul_lower"`
	Upper              float64         `json:"rul_upper"`
	FailureProbability float64         `json:"failure_probability"`
	Health             turbofan.Health `json:"health"`
}

func predictFleet(ctx context.Context, m *model.Model, units []turbofan.History, all bool) ([]fleetRow, error) {
	answers, err := m.PredictHistories(ctx, units)
	if err != nil {
		return nil, err
	}
	rows := []fleetRow{}
	for u := range units {
		r := units[u].Readings
		from := len(r) - 1
		if all {
			from = 0
		}
		for i := max(from, 0); i < len(r); i++ {
			a := answers[u][i]
			rows = append(rows, fleetRow{r[i].UnitID, r[i].Cycle, a.RUL, a.Lower, a.Upper, a.FailureProbability, a.Health})
		}
	}
	if !all {
		sortByUrgency(rows)
	}
	return rows, nil
}

func printFleet(w io.Writer, rows []fleetRow, format string) error {
	if format == "json" {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(rows)
	}
	cells := func(r fleetRow) []string {
		return []string{r.UnitID, strconv.Itoa(r.Cycle), fmt.Sprintf("%.1f", r.RUL), fmt.Sprintf("%.1f", r.Lower), fmt.Sprintf("%.1f", r.Upper), fmt.Sprintf("%.3f", r.FailureProbability), string(r.Health)}
	}
	head := []string{"unit_id", "cycle", "rul_prediction", "rul_lower", "rul_upper", "failure_probability", "health"}
	if format == "csv" {
		cw := csv.NewWriter(w)
		if err := cw.Write(head); err != nil {
			return err
		}
		for _, r := range rows {
			if err := cw.Write(cells(r)); err != nil {
				return err
			}
		}
		cw.Flush()
		return cw.Error()
	}
	return printTable(w, head, rows, cells)
}
