package main

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"turbofan"
	"turbofan/dataset"
	"turbofan/drift"
	"turbofan/reference"
)

// columnRoles say what the columns of a table mean that no schema describes.
type columnRoles struct {
	unit, cycle       string
	settings, columns []string
}

func (r *columnRoles) addFlags(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&r.unit, "unit-column", "", "of a table without a schema: the column that names the unit (default: unit_id, where cycle is there too)")
	fl.StringVar(&r.cycle, "cycle-column", "", "of a table without a schema: the column with the age of the unit")
	fl.StringSliceVar(&r.settings, "settings", nil, "of a table without a schema: columns that tell the operating condition")
	fl.StringSliceVar(&r.columns, "columns", nil, "of a table without a schema: compare these columns only")
}

func (r *columnRoles) given() bool {
	return r.unit != "" || r.cycle != "" || len(r.settings)+len(r.columns) > 0
}

// leftColumn is a column that was not compared.
type leftColumn struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

// isTable reports whether a REFERENCE is a table that names other columns than C-MAPSS's.
func isTable(path string) (bool, error) {
	if info, err := os.Stat(path); err != nil || info.IsDir() || filepath.Ext(path) == ".json" {
		return false, nil // openReference tells what is wrong, where something is
	}
	br, in, err := openTable(strings.NewReader(""), path)
	if err != nil {
		return false, err
	}
	defer in.Close()
	if isCMAPSSText(br) {
		return false, nil
	}
	var table io.Reader = br
	if head, _ := br.Peek(len(parquetMagic)); string(head) == parquetMagic {
		if table, err = parquetCSV(br, path); err != nil {
			return false, err
		}
	}
	line, _, _ := bufio.NewReader(table).ReadLine() // an error shows again when the table is read
	header, err := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(line, []byte("\ufeff")))).Read()
	if err != nil {
		return true, nil
	}
	for i := range header {
		header[i] = strings.TrimSpace(header[i])
	}
	engines := turbofan.CMAPSS()
	for _, c := range slices.Concat(engines.Settings, engines.Sensors) {
		if !slices.ContainsFunc(append(c.Aliases, c.Name), func(name string) bool { return slices.Contains(header, name) }) {
			return true, nil
		}
	}
	return false, nil
}

// readTable reads a table that no schema describes; the cells of the unit column are kept.
func readTable(stdin io.Reader, path, unit string) (*dataset.Table, error) {
	br, in, err := openTable(stdin, path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	var table io.Reader = br
	if head, _ := br.Peek(len(parquetMagic)); string(head) == parquetMagic {
		if table, err = parquetCSV(br, path); err != nil {
			return nil, err
		}
	}
	return dataset.ReadTable(table, path, unit)
}

// tables are two tables whose common columns of numbers are compared.
type tables struct {
	refPath, curPath   string
	reference, current *dataset.Table
	roles              columnRoles
	units              bool // rows tell their unit and its age
	schema             turbofan.Schema
	left               []leftColumn
}

// compareTables compares two tables by the columns that they have in common: each row a unit's at its age where columns
// say so, else each by itself.
func compareTables(cmd *cobra.Command, refPath, curPath string, roles columnRoles, rule drift.Config) (*comparison, error) {
	t := &tables{refPath: refPath, curPath: curPath, roles: roles}
	keys := columnRoles{unit: "unit_id", cycle: "cycle"}
	if roles.unit != "" {
		keys.unit = roles.unit
	}
	if roles.cycle != "" {
		keys.cycle = roles.cycle
	}
	var err error
	if t.reference, err = readTable(strings.NewReader(""), refPath, keys.unit); err != nil {
		return nil, err
	}
	if t.current, err = readTable(cmd.InOrStdin(), curPath, keys.unit); err != nil {
		return nil, err
	}
	has := func(name string) bool { return t.reference.Column(name) != nil && t.current.Column(name) != nil }
	if t.units = has(keys.unit) && has(keys.cycle); t.units || roles.unit != "" || roles.cycle != "" {
		t.units, t.roles.unit, t.roles.cycle = true, keys.unit, keys.cycle
	}
	if err := t.choose(); err != nil {
		return nil, err
	}
	old, err := t.histories(t.reference, refPath)
	if err != nil {
		return nil, err
	}
	ref, err := reference.Learn(reference.DefaultConfig(), t.schema, old)
	if err != nil {
		return nil, unlearned(refPath, err)
	}
	t.tellUnwatched(ref)
	fresh, err := t.histories(t.current, curPath)
	if err != nil {
		return nil, err
	}
	if !t.units {
		if !cmd.Flags().Changed("rank") {
			rule.Rank = 1
		}
		ref.Run = nil // nothing repeats itself over rows that have nothing to do with each other
		if !cmd.Flags().Changed("min-rows") {
			rule.MinRows = 50
		}
		rule.MinUnits = min(rule.MinUnits, rule.MinRows)
	}
	c, err := compareUnits(ref, fresh, rule, curPath)
	if err != nil {
		return nil, err
	}
	c.Reference, c.ColumnsLeftOut, c.rowsAlone = refPath, t.left, !t.units
	c.Report.Quality = append(c.Report.Quality, t.infinite()...)
	return c, nil
}

// infinite tells of the cells of compared columns that are infinite.
func (t *tables) infinite() []turbofan.QualityIssue {
	var out []turbofan.QualityIssue
	for _, s := range t.schema.Sensors {
		old, fresh := t.reference.Column(s.Name).Infinite, t.current.Column(s.Name).Infinite
		if old+fresh > 0 {
			out = append(out, turbofan.QualityIssue{Kind: "infinite", Channel: s.Name, Count: old + fresh,
				Detail: fmt.Sprintf("%s in REFERENCE and %d in CURRENT are infinite: taken as missing", turbofan.Count(old, "cell"), fresh)})
		}
	}
	return out
}

func (t *tables) leave(name, format string, args ...any) {
	t.left = append(t.left, leftColumn{name, fmt.Sprintf(format, args...)})
}

// choose makes the schema of the columns that both tables have, and notes why others are left out.
func (t *tables) choose() error {
	for _, named := range []struct {
		flag  string
		names []string
	}{{"unit-column", []string{t.roles.unit}}, {"cycle-column", []string{t.roles.cycle}}, {"settings", t.roles.settings}, {"columns", t.roles.columns}} {
		for _, name := range named.names {
			for path, table := range map[string]*dataset.Table{t.refPath: t.reference, t.curPath: t.current} {
				if name != "" && table.Column(name) == nil {
					return turbofan.Invalid("--"+named.flag, "%s has no column %q; it has %s", path, name, columnList(table))
				}
			}
		}
	}
	t.schema = turbofan.Schema{Name: "table"}
	for i := range t.reference.Columns {
		old := &t.reference.Columns[i]
		fresh := t.current.Column(old.Name)
		if t.units && (old.Name == t.roles.unit || old.Name == t.roles.cycle) {
			continue
		}
		setting := slices.Contains(t.roles.settings, old.Name)
		switch {
		case len(t.roles.columns) > 0 && !setting && !slices.Contains(t.roles.columns, old.Name):
		case fresh == nil:
			t.leave(old.Name, "only REFERENCE has it")
		case old.Reason != "":
			t.leave(old.Name, "%s: %s", t.refPath, old.Reason)
		case fresh.Reason != "":
			t.leave(old.Name, "%s: %s", t.curPath, fresh.Reason)
		case setting && (missing(old.Values) > 0 || missing(fresh.Values) > 0):
			return turbofan.Invalid("--settings", "%s is missing in some rows; a setting must be there in every row", old.Name)
		case setting:
			t.schema.Settings = append(t.schema.Settings, turbofan.Channel{Name: old.Name})
		case missing(old.Values) == len(old.Values):
			t.leave(old.Name, "REFERENCE has no value of it")
		case !slices.Contains(t.roles.columns, old.Name) && climbs(old.Values) && climbs(fresh.Values):
			t.leave(old.Name, "never falls from row to row: an index or a time; --columns compares it all the same")
		default:
			t.schema.Sensors = append(t.schema.Sensors, turbofan.Channel{Name: old.Name})
		}
	}
	for i := range t.current.Columns {
		if name := t.current.Columns[i].Name; t.reference.Column(name) == nil && len(t.roles.columns) == 0 {
			t.leave(name, "only CURRENT has it")
		}
	}
	for _, s := range t.roles.settings {
		if !slices.ContainsFunc(t.schema.Settings, func(c turbofan.Channel) bool { return c.Name == s }) {
			return turbofan.Invalid("--settings", "%s is not a column of numbers", s)
		}
	}
	if len(t.schema.Sensors) == 0 {
		why := ""
		for _, l := range t.left {
			why += "; " + l.Name + ": " + l.Reason
		}
		return turbofan.Invalid(t.curPath, "has no column of numbers in common with %s%s", t.refPath, why)
	}
	if err := t.schema.Validate(); err != nil {
		return turbofan.Invalid(t.refPath, "cannot be compared: %s", turbofan.ErrorMessage(err))
	}
	return nil
}

func columnList(t *dataset.Table) string {
	const most = 30
	var names []string
	for i := range t.Columns[:min(len(t.Columns), most)] {
		names = append(names, strconv.Quote(t.Columns[i].Name))
	}
	if more := len(t.Columns) - most; more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(names, ", ")
}

func missing(v []float64) (n int) {
	for _, x := range v {
		if x != x {
			n++
		}
	}
	return n
}

// fewSteps is how often a column must rise without ever falling to be no chance.
const fewSteps = 10

// climbs reports whether the values never fall and rise often.
func climbs(v []float64) bool {
	steps := 0
	for i := 1; i < len(v); i++ {
		if !(v[i] >= v[i-1]) {
			return false
		}
		if v[i] > v[i-1] {
			steps++
		}
	}
	return steps >= fewSteps
}

// bounds are the least and the greatest value.
func bounds(v []float64) (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, x := range v {
		if x == x {
			low, high = min(low, x), max(high, x)
		}
	}
	return low, high
}

// tellUnwatched notes columns that the reference does not watch: they say nearly always the same there.
func (t *tables) tellUnwatched(ref *reference.Reference) {
	for i := range t.schema.Sensors {
		if slices.Contains(ref.Keep, i) {
			continue
		}
		name := t.schema.Sensors[i].Name
		low, high := bounds(t.reference.Column(name).Values)
		if low < high {
			t.leave(name, "REFERENCE says the same in nearly every row of some operating condition")
			continue
		}
		switch now, most := bounds(t.current.Column(name).Values); {
		case now > most:
			t.leave(name, "always %.6g in REFERENCE; CURRENT has no value of it", low)
		case now == low && most == low:
			t.leave(name, "always %.6g", low)
		default:
			t.leave(name, "always %.6g in REFERENCE", low)
		}
	}
}

// histories makes units of a table's rows, in the order of their first row.
func (t *tables) histories(table *dataset.Table, path string) ([]turbofan.History, error) {
	var columns [][]float64
	for _, c := range slices.Concat(t.schema.Settings, t.schema.Sensors) {
		columns = append(columns, table.Column(c.Name).Values)
	}
	n := len(t.schema.Settings)
	// In one piece each: a million rows by themselves are as many histories of one reading.
	all := make([]float64, table.Rows*len(columns))
	var alone []turbofan.Reading
	var out []turbofan.History
	if !t.units {
		alone, out = make([]turbofan.Reading, table.Rows), make([]turbofan.History, 0, table.Rows)
	}
	at := map[string]int{}
	for row := range table.Rows {
		id, cycle, err := t.key(table, path, row)
		if err != nil {
			return nil, err
		}
		values := all[row*len(columns) : (row+1)*len(columns) : (row+1)*len(columns)]
		for i, v := range columns {
			values[i] = v[row]
		}
		u, seen := 0, false
		if t.units { // else each row's is another
			u, seen = at[id]
		}
		if !seen {
			u = len(out)
			out = append(out, turbofan.History{UnitID: id})
			if t.units {
				at[id] = u
			} else {
				out[u].Readings = alone[row : row : row+1]
			}
		}
		out[u].Readings = append(out[u].Readings, turbofan.Reading{UnitID: id, Cycle: cycle, Settings: values[:n:n], Sensors: values[n:]})
	}
	for u := range out {
		slices.SortStableFunc(out[u].Readings, func(a, b turbofan.Reading) int { return a.Cycle - b.Cycle })
	}
	return out, nil
}

// key is the unit and the age of a row; a row by itself is a young unit.
func (t *tables) key(table *dataset.Table, path string, row int) (unit string, cycle int, err error) {
	if !t.units {
		return strconv.Itoa(row + 1), 1, nil
	}
	field := func(name string) string { return fmt.Sprintf("%s: row %d: %s", path, row+1, name) }
	unit = table.Column(t.roles.unit).Texts[row]
	if err := turbofan.ValidateUnitID(unit); err != nil {
		return "", 0, turbofan.Invalid(field(t.roles.unit), "%s", err.Error())
	}
	ages := table.Column(t.roles.cycle)
	if ages.Values == nil {
		return "", 0, turbofan.Invalid(path, "the column %s must hold whole numbers: %s", t.roles.cycle, ages.Reason)
	}
	age := ages.Values[row]
	if !(age >= 0 && age <= turbofan.MaxCycle) || age != math.Trunc(age) {
		return "", 0, turbofan.Invalid(field(t.roles.cycle), "%v must be a whole number from 0 to %d", age, turbofan.MaxCycle)
	}
	return unit, int(age), nil
}
