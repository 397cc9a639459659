package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"turbofan"
	"turbofan/dataset"
	"turbofan/drift"
	"turbofan/reference"
)

func newDriftCommand() *cobra.Command {
	rule := drift.DefaultConfig()
	var schemaFile, page string
	var roles columnRoles
	var asJSON, exitCode bool
	cmd := &cobra.Command{
		Use:   "drift REFERENCE CURRENT",
		Short: "Say whether readings still look like those a model learned from",
		Long: strings.TrimSpace(`
Compare the readings in a file with a reference, without a server. REFERENCE is a model's directory or its
reference.json, or a file of readings; CURRENT is a file of readings, "-" for standard input. Files are C-MAPSS
text (26 columns), CSV with a header or Parquet, also with gzip; --schema names the columns of other equipment.

Any two tables can be compared without a schema, by the columns of numbers that both have. Where they have
unit_id and cycle, or --unit-column and --cycle-column name such, rows are those of units at their ages, and of
fewer than fourteen columns fewer than three decide; else each row stands by itself, fifty rows are enough and
one column that drifts is drift. --settings names columns that tell the operating condition.

Operating conditions and the age of the fleet are taken out first: sensors are normalised within conditions,
unseen ones after the first healthy cycles of ten new units, and compared with reference rows of the same ages.
The third-largest population stability index decides, of fewer than fourteen sensors the second and of fewer than
seven the largest, beyond what chance gives for so many rows of so many units; so do
units whose sensors do not go together as those of the reference's units do at their age.`),
		Example: strings.Trim(`
  turbofan drift train_FD001.txt test_FD003.txt
  turbofan drift turbofan-data/model fleet.csv --html drift.html
  turbofan drift last-year.csv this-year.csv --unit-column pump --cycle-column hour --settings load
  turbofan drift --schema pumps.yaml last-year.csv this-year.csv --json
  turbofan drift power                    how often the rule alarms on C-MAPSS`, "\n"),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usagef(cmd, "drift wants a REFERENCE and a CURRENT file")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := compareFiles(cmd, args[0], args[1], schemaFile, roles, rule)
			if err != nil {
				return err
			}
			if page != "" {
				if err := writePage(page, c.page()); err != nil {
					return err
				}
				fmt.Fprintf(cmd.ErrOrStderr(), "Pictures: %s\n", page)
			}
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), c)
			} else {
				err = c.print(cmd.OutOrStdout())
			}
			if err == nil && exitCode && c.Report.Verdict == turbofan.Drifted {
				return fmt.Errorf("drift: %s", c.Report.Because)
			}
			return err
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&schemaFile, "schema", "", "YAML file that names the columns (default: C-MAPSS, or what the model's reference says)")
	fl.StringVar(&page, "html", "", "write a page with pictures to this file")
	fl.BoolVar(&asJSON, "json", false, "print the report as JSON")
	fl.BoolVar(&exitCode, "exit-code", false, "exit with status 1 when the verdict is drift")
	addRuleFlags(cmd, &rule)
	roles.addFlags(cmd)
	cmd.AddCommand(newDriftPowerCommand())
	return cmd
}

// addRuleFlags lets the verdict's rule be changed.
func addRuleFlags(cmd *cobra.Command, rule *drift.Config) {
	fl := cmd.Flags()
	fl.Float64Var(&rule.Threshold, "threshold", rule.Threshold, "PSI beyond chance above which a sensor counts as drifted")
	fl.IntVar(&rule.Rank, "rank", rule.Rank, "how many sensors must drift; 0 asks for 3, 2 of fewer than 14 and 1 of fewer than 7")
	fl.IntVar(&rule.MinRows, "min-rows", rule.MinRows, "least rows that are judged")
	fl.IntVar(&rule.MinUnits, "min-units", rule.MinUnits, "least units that are judged")
}

// comparison is what the command found.
type comparison struct {
	Reference     string               `json:"reference"`
	Current       string               `json:"current"`
	Report        turbofan.DriftReport `json:"report"`
	Distributions []drift.Distribution `json:"distributions"`
	LeftOut       int                  `json:"rows_left_out"` // no usable condition, or not of the schema
	// ColumnsLeftOut are those of a table without a schema that were not compared.
	ColumnsLeftOut []leftColumn `json:"columns_left_out,omitempty"`
	rowsAlone      bool         // no units are known
}

func compareFiles(cmd *cobra.Command, refPath, curPath, schemaFile string, roles columnRoles, rule drift.Config) (*comparison, error) {
	if schemaFile == "" {
		table, err := isTable(refPath)
		if err != nil {
			return nil, err
		}
		if table {
			return compareTables(cmd, refPath, curPath, roles, rule)
		}
	}
	if roles.given() {
		return nil, usagef(cmd, "--unit-column, --cycle-column, --settings and --columns are for two tables that no schema describes")
	}
	schema := turbofan.CMAPSS()
	if schemaFile != "" {
		var err error
		if schema, err = dataset.LoadSchema(schemaFile); err != nil {
			return nil, err
		}
	}
	ref, err := openReference(refPath, schema)
	if err != nil {
		return nil, err
	}
	units, err := readFleet(cmd.InOrStdin(), curPath, ref.Schema)
	if err != nil {
		return nil, err
	}
	c, err := compareUnits(ref, units, rule, curPath)
	if err != nil {
		return nil, err
	}
	c.Reference = refPath
	return c, nil
}

// compareUnits judges all readings of units as one window.
func compareUnits(ref *reference.Reference, units []turbofan.History, rule drift.Config, path string) (*comparison, error) {
	readings := arrivals(units)
	if len(readings) > drift.MaxWindow {
		return nil, turbofan.Invalid(path, "has %d rows, more than the %d that one comparison takes: give the newest, or a sample", len(readings), drift.MaxWindow)
	}
	// The whole file is the window; its bounds are those of the rule.
	rule.Window = max(len(readings), rule.MinRows, rule.MinUnits, 1000)
	seen := drift.NewConditions(ref, rule)
	for i := range readings {
		seen.Learn(&readings[i].Reading)
	}
	window, err := drift.NewCollector(ref, seen.Unseen(), rule)
	if err != nil {
		return nil, err
	}
	if err := window.Add(readings); err != nil {
		return nil, err
	}
	c := &comparison{Current: path}
	if c.Report, err = window.Judge(drift.Evidence{}); err != nil {
		return nil, err
	}
	c.Distributions = window.Distributions()
	c.LeftOut = len(readings) - c.Report.Rows
	return c, nil
}

// openReference reads a model's reference, or learns one from a file of readings.
func openReference(path string, schema turbofan.Schema) (*reference.Reference, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, turbofan.Invalid("REFERENCE", "cannot open %s: it does not exist or may not be read", path)
	}
	if info.IsDir() {
		path = filepath.Join(path, reference.FileName)
	}
	if filepath.Ext(path) == ".json" {
		ref, err := reference.Read(path)
		if err != nil {
			return nil, turbofan.Invalid("REFERENCE", "%s", err.Error())
		}
		return ref, nil
	}
	units, err := readFleet(strings.NewReader(""), path, schema)
	if err != nil {
		return nil, err
	}
	ref, err := reference.Learn(reference.DefaultConfig(), schema, units)
	if err != nil {
		return nil, unlearned(path, err)
	}
	return ref, nil
}

// unlearned names the file that no reference could be learned from. One that says too little is bad input.
func unlearned(path string, err error) error {
	if turbofan.ErrorCode(err) == turbofan.EInsufficient {
		return turbofan.Errorf(turbofan.EInvalid, "%s: %s", path, turbofan.ErrorMessage(err))
	}
	return fmt.Errorf("%s: %w", path, err)
}

// arrivals puts histories in an order in which a fleet that started together would have sent them.
func arrivals(units []turbofan.History) []turbofan.StoredReading {
	n := 0
	for u := range units {
		n += len(units[u].Readings)
	}
	out := make([]turbofan.StoredReading, 0, n)
	for i, more := 0, true; more; i++ {
		more = false
		for u := range units {
			if i < len(units[u].Readings) {
				out = append(out, turbofan.StoredReading{Reading: units[u].Readings[i], Seq: int64(len(out) + 1)})
				more = true
			}
		}
	}
	return out
}

func (c *comparison) print(w io.Writer) error {
	r := &c.Report
	fmt.Fprintf(w, "%s: %s\n", strings.ReplaceAll(string(r.Verdict), "_", " "), r.Because)
	fmt.Fprintf(w, "Reference %s; current %s, %s\n", c.Reference, c.Current, c.looked())
	if r.Verdict == turbofan.InsufficientData {
		fmt.Fprintln(w, "--min-rows and --min-units say how much is enough")
	}
	if hint := c.alone(); hint != "" {
		fmt.Fprintln(w, hint)
	}
	for _, l := range c.ColumnsLeftOut {
		fmt.Fprintf(w, "Not compared, %s: %s\n", l.Name, l.Reason)
	}
	for _, n := range r.NewConditions {
		state := "not enough new units yet to normalise by it"
		if n.Commissioned {
			state = "normalised by its own healthy units"
		}
		fmt.Fprintf(w, "New operating condition at %.4g: %s of %s, %s\n", n.Settings, turbofan.Count(n.Rows, "row"), turbofan.Count(n.Units, "unit"), state)
	}
	for _, q := range r.Quality {
		fmt.Fprintf(w, "Data quality, %s: %s\n", strings.TrimSpace(strings.ReplaceAll(q.Kind, "_", " ")+" "+q.Channel+" "+q.UnitID), q.Detail)
	}
	if len(r.Channels) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	return printTable(w, channelHeader(), r.Channels, channelCells)
}

// looked says how much was compared.
func (c *comparison) looked() string {
	out := turbofan.Count(c.Report.Rows, "row")
	if c.rowsAlone {
		out += ", each by itself"
	} else {
		out += " of " + turbofan.Count(c.Report.Units, "unit")
	}
	if c.LeftOut > 0 {
		out += fmt.Sprintf(", %d left out", c.LeftOut)
	}
	return out
}

// alone names sensors that drifted where fewer did than the verdict asks for.
func (c *comparison) alone() string {
	if c.Report.Verdict != turbofan.NoDrift {
		return ""
	}
	var names []string
	for _, ch := range c.Report.Channels {
		if ch.Drifted {
			names = append(names, ch.Channel)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return fmt.Sprintf("Drifted, but fewer than --rank asks for: %s", strings.Join(names, ", "))
}

func channelHeader() []string {
	return []string{"sensor", "psi", "threshold", "ks", "p", "wasserstein", "mean shift", ""}
}

func channelCells(c turbofan.ChannelDrift) []string {
	mark := ""
	if c.Drifted {
		mark = "drifted"
	}
	return []string{c.Channel, fmt.Sprintf("%.3f", c.PSI), fmt.Sprintf("%.3f", c.Threshold), fmt.Sprintf("%.3f", c.KS), fmt.Sprintf("%.2g", c.KSPValue),
		deviations("%.2f", float64(c.Wasserstein)), deviations("%+.2f", float64(c.MeanShift)), mark}
}

// deviations prints a number of standard deviations; one that is out of all reason takes no more room than others.
func deviations(format string, x float64) string {
	if math.Abs(x) >= 1e5 {
		format = strings.Replace(format, ".2f", ".2g", 1)
	}
	return fmt.Sprintf(format, x)
}
