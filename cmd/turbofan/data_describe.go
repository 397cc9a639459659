package main

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"turbofan"
	"turbofan/dataset"
	"turbofan/report"
)

// subsetData is one subset with the numbers that describe it.
type subsetData struct {
	Name  string                 `json:"subset"`
	Train dataset.SetDescription `json:"train"`
	Test  dataset.SetDescription `json:"test"`
	// HasTruth says whether the ends of the test units are known.
	HasTruth bool `json:"has_truth"`

	train, test *dataset.Set
}

// answer is one question of the first look at the data.
type answer struct {
	Question string `json:"question"`
	Answer   string `json:"answer"`
}

func newDataDescribeCommand() *cobra.Command {
	var dir, out string
	var subsets []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "describe",
		Short: "Answer the first questions about the data, in words and pictures",
		Long: strings.TrimSpace(`
Reads the subsets and answers: how many engines are there, how long do they live, which sensors vary,
how is remaining useful life (RUL) distributed, what moves together, which operating conditions are
flown, is anything missing. The answers are printed; the pictures go into one HTML file that needs
nothing else.`),
		Example: strings.Trim(`
  turbofan data describe
  turbofan data describe --subsets FD001,FD003 --out fd001-fd003.html
  turbofan data describe --json --out ''`, "\n"),
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			where, err := dataset.Locate(dir, os.Getenv("TURBOFAN_DATA"))
			if err != nil {
				return err
			}
			loaded, err := loadSubsets(cmd, where, subsets)
			if err != nil {
				return err
			}
			answers := answerQuestions(loaded)
			if out != "" {
				if err := writePage(out, describePage(where, loaded, answers)); err != nil {
					return err
				}
				fmt.Fprintf(cmd.ErrOrStderr(), "Pictures: %s\n", out)
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), struct {
					DataSource dataset.Location `json:"data_source"`
					Answers    []answer         `json:"answers"`
					Subsets    []subsetData     `json:"subsets"`
				}{where, answers, loaded})
			}
			return printDescription(cmd.OutOrStdout(), where, loaded, answers)
		},
	}
	cmd.Flags().StringVar(&dir, "data", "", "directory of the data (default: where it is found)")
	cmd.Flags().StringSliceVar(&subsets, "subsets", nil, "subsets to describe, such as FD001,FD002 (default: all four, where present)")
	cmd.Flags().StringVar(&out, "out", filepath.Join("turbofan-data", "report", "data.html"), "HTML file for the pictures; '' writes none")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the numbers as JSON")
	return cmd
}

// loadSubsets reads and describes what was asked for, or every known subset that is there.
func loadSubsets(cmd *cobra.Command, where dataset.Location, names []string) ([]subsetData, error) {
	all := len(names) == 0
	if all {
		names = dataset.Subsets()
	}
	var out []subsetData
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			return nil, usagef(cmd, "--subsets names %s twice", name)
		}
		train, test, err := dataset.LoadCMAPSS(where.Dir, name)
		if all && turbofan.ErrorCode(err) == turbofan.ENotFound {
			continue
		}
		if err != nil {
			return nil, err
		}
		d := dataset.Describe(train, test)
		out = append(out, subsetData{Name: name, Train: d.Sets[0], Test: d.Sets[1], HasTruth: test.HasTruth(), train: train, test: test})
	}
	if len(out) == 0 {
		return nil, turbofan.Errorf(turbofan.ENotFound, "%s holds none of %s; name what it holds with --subsets", where.Dir, strings.Join(names, ", "))
	}
	return out, nil
}

// answerQuestions puts the numbers into sentences.
func answerQuestions(subsets []subsetData) []answer {
	var lives, rul, varying, moves, conditions, missing []string
	trainUnits, testUnits, rows, absent := 0, 0, 0, 0
	var noTruth []string
	for _, s := range subsets {
		trainUnits += s.Train.Units
		testUnits += s.Test.Units
		rows += s.Train.Rows + s.Test.Rows
		absent += s.Train.Missing + s.Test.Missing
		lives = append(lives, fmt.Sprintf("%s %.0f to %.0f, %.0f on average", s.Name, s.Train.Cycles.Min, s.Train.Cycles.Max, s.Train.Cycles.Mean))
		rul = append(rul, fmt.Sprintf("%s median %.0f, 80%% of rows between %.0f and %.0f", s.Name, s.Train.RUL.Median, s.Train.RUL.P10, s.Train.RUL.P90))
		varying = append(varying, fmt.Sprintf("%s %d of %d", s.Name, len(s.Train.Varying), len(s.Train.Sensors)))
		moves = append(moves, s.Name+" "+strings.Join(strongest(s.Train, 3), ", "))
		conditions = append(conditions, fmt.Sprintf("%s %d", s.Name, len(s.Train.Conditions)))
		if !s.HasTruth {
			noTruth = append(noTruth, s.Name)
		}
	}
	first := subsets[0].Train
	missing = append(missing, fmt.Sprintf("%d of %s sensor values are missing.", absent, report.Number(float64(rows*len(first.Sensors)), 0)))
	if len(noTruth) > 0 {
		missing = append(missing, "There is no truth file for the test engines of "+strings.Join(noTruth, " and ")+": judge those subsets by cross-validation over training engines.")
	}
	return []answer{
		{"How many engines are there?", fmt.Sprintf("%d that ran to failure, for training, and %d that were stopped before, for testing: %s readings in all.", trainUnits, testUnits, report.Number(float64(rows), 0))},
		{"How long do engines live?", "In cycles: " + strings.Join(lives, "; ") + "."},
		{"How is remaining life distributed?", "Over the rows of engines that ran to failure: " + strings.Join(rul, "; ") + ". Every engine passes through low values and only long lives reach high ones."},
		{"Which sensors vary?", fmt.Sprintf("Within an operating condition: %s. In %s nothing is to be learned from %s.", strings.Join(varying, "; "), subsets[0].Name, idle(first))},
		{"What tells remaining life?", "The strongest correlations with it, within a condition: " + strings.Join(moves, "; ") + "."},
		{"Which operating conditions are flown?", "Clusters of the settings: " + strings.Join(conditions, "; ") + ". Where there are several, compare sensors within a condition only."},
		{"Is anything missing?", strings.Join(missing, " ")},
	}
}

// strongest names the n sensors that correlate most with remaining life, with the correlation.
func strongest(d dataset.SetDescription, n int) []string {
	var out []string
	for _, s := range d.Ranked() {
		if s.RULCorrelation != nil && len(out) < n {
			out = append(out, fmt.Sprintf("%s (%s)", s.Name, report.Number(*s.RULCorrelation, 2)))
		}
	}
	return out
}

// idle names the sensors that do not vary.
func idle(d dataset.SetDescription) string {
	var out []string
	for _, s := range d.Sensors {
		if s.Variation != dataset.Varies {
			out = append(out, s.Name)
		}
	}
	if len(out) == 0 {
		return "no sensor"
	}
	return strings.Join(out, ", ")
}

// dataSource says in a phrase where the data came from and whether it is NASA's.
func dataSource(where dataset.Location) string {
	switch {
	case where.Synthetic:
		return where.Dir + ", a synthetic fleet"
	case where.Verified:
		return where.Dir + ", every file as NASA published it (SHA-256)"
	default:
		return where.Dir + ", not verified: run `turbofan data verify` to see what differs from NASA's files"
	}
}

// syntheticNotice is what every page and every terminal says of made-up data.
const syntheticNotice = "SYNTHETIC DATA: these engines were made up by a generator. No number here says anything about a real engine."

func printDescription(w io.Writer, where dataset.Location, subsets []subsetData, answers []answer) error {
	fmt.Fprintf(w, "Data: %s\n", dataSource(where))
	if where.Synthetic {
		fmt.Fprintln(w, syntheticNotice)
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	header, rows := subsetTable(subsets)
	fmt.Fprintln(t, strings.Join(header, "\t")+"\t")
	for _, row := range rows {
		fmt.Fprintln(t, strings.Join(row, "\t")+"\t")
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, a := range answers {
		fmt.Fprintf(w, "\n%s\n%s\n", a.Question, wrap(a.Answer, 96, "  "))
	}
	return nil
}

func subsetTable(subsets []subsetData) (header []string, rows [][]string) {
	header = []string{"subset", "train engines", "train rows", "test engines", "test rows", "life min", "mean", "max", "conditions", "varying sensors", "truth"}
	count := func(n int) string { return report.Number(float64(n), 0) }
	for _, s := range subsets {
		truth := "no"
		if s.HasTruth {
			truth = "yes"
		}
		rows = append(rows, []string{
			s.Name, count(s.Train.Units), count(s.Train.Rows), count(s.Test.Units), count(s.Test.Rows),
			report.Number(s.Train.Cycles.Min, 0), report.Number(s.Train.Cycles.Mean, 1), report.Number(s.Train.Cycles.Max, 0),
			count(len(s.Train.Conditions)), count(len(s.Train.Varying)), truth,
		})
	}
	return header, rows
}

// wrap breaks text into lines of at most width, each after the indent.
func wrap(text string, width int, indent string) string {
	var b strings.Builder
	column := math.MaxInt32
	for word := range strings.FieldsSeq(text) {
		if column+1+utf8.RuneCountInString(word) > width {
			if b.Len() > 0 {
				b.WriteByte('\n')
			}
			b.WriteString(indent)
			column = len(indent)
		} else {
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += utf8.RuneCountInString(word)
	}
	return b.String()
}

// writePage renders a page into a file that is either the old one or the whole new one.
func writePage(path string, page report.Page) error {
	var b bytes.Buffer
	if err := page.Write(&b); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("create directory of report: %w", err)
	}
	return writeWhole(path, b.Bytes())
}
