package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"turbofan"
	"turbofan/dataset"
)

func newDataCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "data",
		Short: "Fetch, check, describe, process or make up run-to-failure data",
		Long: strings.TrimSpace(`
Everything about the data that models learn from: NASA's C-MAPSS turbofan engines, run to failure.

Other commands look for the data in --data, then in the directory that TURBOFAN_DATA names, then in
data/raw, then in ../shared/cmapss.`),
		Example: strings.Trim(`
  turbofan data fetch                       download C-MAPSS into data/raw and check every file
  turbofan data verify                      compare what is there with the published checksums
  turbofan data describe                    answer the first questions, in words and pictures
  turbofan data process                     write feature rows as CSV, for a notebook
  turbofan data synth --out data/synthetic  make engines up, for a machine that is offline`, "\n"),
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newDataFetchCommand(), newDataVerifyCommand(), newDataDescribeCommand(), newDataProcessCommand(), newDataSynthCommand())
	return cmd
}

// printJSON writes v, indented, as the only thing on stdout.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func newDataVerifyCommand() *cobra.Command {
	var dir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Compare the data with NASA's published files, by SHA-256",
		Long: strings.TrimSpace(`
Computes the SHA-256 of each C-MAPSS file and compares it with that of the file NASA published.

The truth files (RUL_FD00x.txt) and the read-me may be absent: training does not need them. The exit
status is 0 when everything that is needed is there and nothing differs, else 1.`),
		Example: "  turbofan data verify --data data/raw\n  turbofan data verify --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dir == "" {
				found, err := dataset.Locate("", os.Getenv("TURBOFAN_DATA"))
				if err != nil {
					return err
				}
				dir = found.Dir
			}
			report, err := dataset.Verify(dir)
			if err != nil {
				return err
			}
			if asJSON {
				if err := printJSON(cmd.OutOrStdout(), report); err != nil {
					return err
				}
			} else {
				printVerification(cmd.OutOrStdout(), report)
			}
			if !report.OK() {
				return turbofan.Errorf(turbofan.EConflict, "%s is not NASA's data: %s", dir, report)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "data", "", "directory to check (default: where the data is found)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

func printVerification(w io.Writer, report dataset.Report) {
	fmt.Fprintf(w, "%s\n", report.Dir)
	if report.Synthetic {
		fmt.Fprintln(w, "  made by `turbofan data synth`: it differs from NASA's files by nature")
	}
	for _, f := range report.Files {
		note := ""
		switch {
		case f.Status == dataset.FileMissing && f.Optional:
			note = "  (can be done without)"
		case f.Status == dataset.FileDiffers:
			note = fmt.Sprintf("  sha256 is %s, published is %s", f.SHA256, f.Want)
		}
		fmt.Fprintf(w, "  %-8s %s%s\n", f.Status, f.Name, note)
	}
	fmt.Fprintf(w, "%s\n", report)
}
