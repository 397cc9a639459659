package dataset

import (
	"bytes"
	"errors"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"turbofan"
)

// The optional columns of a CSV file that say when a unit failed: the cycle, the same in each of the unit's rows, or the
// remaining life at each row.
const (
	failedColumn = "failed_at_cycle"
	rulColumn    = "rul"
)

// maxSchemaSize bounds a schema file; CMAPSS's written out has 3 KiB.
const maxSchemaSize = 1 << 20

// LoadSchema reads a schema from a YAML file and validates it. Unknown keys are errors: a misspelt one would otherwise
// be a rule that never applies.
func LoadSchema(path string) (turbofan.Schema, error) {
	f, err := os.Open(path)
	if err != nil {
		return turbofan.Schema{}, turbofan.Invalid("schema", "cannot open %s: %s", path, reason(err))
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSchemaSize+1))
	if err != nil {
		return turbofan.Schema{}, turbofan.Invalid("schema", "cannot read %s: %s", path, reason(err))
	}
	return ReadSchema(data, path)
}

// reason strips the operation and path, which the message around it names already.
func reason(err error) string {
	if p, ok := errors.AsType[*os.PathError](err); ok {
		return p.Err.Error()
	}
	return err.Error()
}

// ReadSchema is LoadSchema for a file that is already read; file is the name that errors carry.
func ReadSchema(data []byte, file string) (turbofan.Schema, error) {
	if len(data) > maxSchemaSize {
		return turbofan.Schema{}, turbofan.Invalid(file, "is larger than the %d KiB allowed", maxSchemaSize>>10)
	}
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	var s turbofan.Schema
	if err := d.Decode(&s); err != nil {
		if errors.Is(err, io.EOF) {
			return turbofan.Schema{}, turbofan.Invalid(file, "is empty; it must be a schema in YAML")
		}
		return turbofan.Schema{}, turbofan.Invalid(file, "%s", yamlMessage(err))
	}
	var more any
	if err := d.Decode(&more); !errors.Is(err, io.EOF) {
		return turbofan.Schema{}, turbofan.Invalid(file, "must hold one YAML document only")
	}
	if err := s.Validate(); err != nil {
		e, ok := errors.AsType[*turbofan.Error](err)
		if !ok {
			return turbofan.Schema{}, err
		}
		return turbofan.Schema{}, turbofan.Invalid(file+": "+e.Field, "%s", e.Message)
	}
	return s, nil
}

// yamlMessage puts the decoder's findings on one line and leaves Go's type names out.
func yamlMessage(err error) string {
	s := strings.TrimPrefix(err.Error(), "yaml: ")
	s = strings.TrimPrefix(s, "unmarshal errors:\n  ")
	s = strings.ReplaceAll(s, "\n  ", "; ")
	for _, t := range [][2]string{
		{" in type turbofan.Schema", " in a schema"}, {" in type turbofan.Channel", " in a channel"},
		{"cannot unmarshal !!seq", "cannot read a list"}, {"cannot unmarshal !!map", "cannot read a mapping"},
		{"cannot unmarshal !!str", "cannot read the text"}, {"cannot unmarshal !!int", "cannot read the number"},
		{"into turbofan.Schema", "as a schema"}, {"into turbofan.Channel", "as a channel"},
		{"into []turbofan.Channel", "as a list of channels"}, {"into []string", "as a list of names"}, {"into float64", "as a number"}, {"into string", "as text"},
	} {
		s = strings.ReplaceAll(s, t[0], t[1])
	}
	for kind, fields := range map[string][]string{
		" not found in a schema":  {"name", "settings", "sensors", "unit_column", "cycle_column"},
		" not found in a channel": {"name", "aliases", "unit", "description", "min", "max", "tolerance"},
	} {
		before, after, found := strings.Cut(s, kind)
		if !found {
			continue
		}
		hint := "; it has " + strings.Join(fields, ", ")
		if near := sameStart(before[strings.LastIndexByte(before, ' ')+1:], fields); near != "" {
			hint = "; did you mean " + near + "?"
		}
		s = before + kind + hint + after
	}
	return s
}

// sameStart returns the name that begins most as text does, "" where none shares three letters.
func sameStart(text string, names []string) string {
	best, most := "", 2
	for _, name := range names {
		n := 0
		for n < min(len(text), len(name)) && text[n]|0x20 == name[n] {
			n++
		}
		if n > most {
			best, most = name, n
		}
	}
	return best
}

// keyColumns returns the names of the unit and cycle columns.
func keyColumns(s turbofan.Schema) (unit, cycle string) {
	unit, cycle = s.UnitColumn, s.CycleColumn
	if unit == "" {
		unit = "unit_id"
	}
	if cycle == "" {
		cycle = "cycle"
	}
	return unit, cycle
}

// ReadCSV reads the histories of equipment of any schema: a header whose names are the schema's columns, channels or
// their aliases, in any order, then one row a reading, the rows of a unit together and its cycles rising. Cycles may
// begin late and have gaps, as real recordings do. An empty cell is a missing sensor value; settings must be there.
// An optional column failed_at_cycle, or rul, tells when the unit failed; empty means that it is not known. Columns that
// the schema does not name are an error. File is the name that errors carry.
func ReadCSV(r io.Reader, file string, schema turbofan.Schema) (*Set, error) {
	if err := schema.Validate(); err != nil {
		return nil, err
	}
	src := newSource(r, file)
	records, err := newCSVRecords(src, file)
	if err != nil {
		return nil, err
	}
	p := csvParser{file: file, schema: schema, seen: map[string]int{}}
	if err := records.table(p.readHeader, p.row); err != nil {
		return nil, err
	}
	return &Set{Name: schema.Name, Schema: schema, Units: p.units, Digest: src.digest()}, nil
}

// csvParser maps columns to channels and gathers units.
type csvParser struct {
	file   string
	schema turbofan.Schema
	header []string
	// unit, cycle, failed and rul are column numbers, -1 where the column is absent; settings and sensors hold one for
	// each channel.
	unit, cycle, failed, rul int
	settings, sensors        []int
	units                    []turbofan.History
	seen                     map[string]int // unit -> line where it began
}

func (p *csvParser) readHeader(header []string) error {
	p.header = make([]string, len(header))
	where := map[string]int{}
	for i, name := range header {
		name = strings.TrimSpace(name)
		if _, twice := where[name]; twice {
			return at(p.file, 1, "header", "the column %q stands twice", name)
		}
		where[name] = i
		p.header[i] = name
	}
	take := func(names ...string) (int, error) {
		found := -1
		for _, n := range names {
			if i, ok := where[n]; ok {
				if found >= 0 {
					return -1, at(p.file, 1, "header", "the columns %q and %q both mean %s", p.header[found], n, names[0])
				}
				found = i
				delete(where, n)
			}
		}
		return found, nil
	}
	must := func(names ...string) (int, error) {
		i, err := take(names...)
		if err == nil && i < 0 {
			err = at(p.file, 1, "header", "lacks the column %s; %s", strings.Join(names, " or "), p.found())
		}
		return i, err
	}
	unitColumn, cycleColumn := keyColumns(p.schema)
	var err error
	if p.unit, err = must(unitColumn); err != nil {
		return err
	}
	if p.cycle, err = must(cycleColumn); err != nil {
		return err
	}
	channels := func(cs []turbofan.Channel) (columns []int, err error) {
		for _, c := range cs {
			i, err := must(append([]string{c.Name}, c.Aliases...)...)
			if err != nil {
				return nil, err
			}
			columns = append(columns, i)
		}
		return columns, nil
	}
	if p.settings, err = channels(p.schema.Settings); err != nil {
		return err
	}
	if p.sensors, err = channels(p.schema.Sensors); err != nil {
		return err
	}
	p.failed, _ = take(failedColumn)
	p.rul, _ = take(rulColumn)
	if p.failed >= 0 && p.rul >= 0 {
		return at(p.file, 1, "header", "has both %s and %s; one of them says it", failedColumn, rulColumn)
	}
	if len(where) > 0 {
		var unknown []string
		for name := range where {
			unknown = append(unknown, strconv.Quote(name))
		}
		slices.Sort(unknown)
		return at(p.file, 1, "header", "the schema %s does not know the column %s", p.schema.Name, strings.Join(unknown, ", "))
	}
	return nil
}

// found says which columns the file has, for an error.
func (p *csvParser) found() string {
	if len(p.header) == 1 && strings.ContainsAny(p.header[0], ";\t|") {
		return "columns must be separated by commas"
	}
	const most = 30
	names := make([]string, min(len(p.header), most))
	for i := range names {
		names[i] = strconv.Quote(clip([]byte(p.header[i])))
	}
	more := ""
	if len(p.header) > most {
		more = " and " + strconv.Itoa(len(p.header)-most) + " more"
	}
	return "it has " + strings.Join(names, ", ") + more
}

// wholeCell reads a whole number from 0 to limit, which a program that thinks in floats may have written as 87.0.
func wholeCell(text string, limit int) (int, bool) {
	if digits, zeros, point := strings.Cut(text, "."); point && zeros != "" && strings.Trim(zeros, "0") == "" {
		text = digits
	}
	return whole([]byte(text), limit)
}

func (p *csvParser) row(record []string, line int) error {
	id := strings.TrimSpace(record[p.unit])
	if err := turbofan.ValidateUnitID(id); err != nil {
		return at(p.file, line, p.header[p.unit], "%s", err.Error())
	}
	cycle, ok := wholeCell(strings.TrimSpace(record[p.cycle]), turbofan.MaxCycle)
	if !ok || cycle == 0 {
		return at(p.file, line, p.header[p.cycle], "%q must be a whole number from 1 to %d", clip([]byte(record[p.cycle])), turbofan.MaxCycle)
	}
	begins := len(p.units) == 0 || p.units[len(p.units)-1].UnitID != id
	if begins {
		if began, back := p.seen[id]; back {
			return at(p.file, line, p.header[p.unit], "unit %s comes back; its rows from line %d on must stand together: sort the file by unit and cycle", id, began)
		}
		id = strings.Clone(id) // the record's text is one string: all of it would be held
		p.seen[id] = line
		p.units = append(p.units, turbofan.History{UnitID: id})
	}
	u := &p.units[len(p.units)-1]
	if last := lastCycle(u); cycle <= last {
		return at(p.file, line, p.header[p.cycle], "%d follows %d; cycles of a unit must rise", cycle, last)
	}
	reading, err := p.reading(record, line, u.UnitID, cycle)
	if err != nil {
		return err
	}
	u.Readings = append(u.Readings, reading)
	return p.end(u, record, line, begins)
}

func (p *csvParser) reading(record []string, line int, id string, cycle int) (turbofan.Reading, error) {
	values := make([]float64, len(p.settings)+len(p.sensors))
	for i, column := range slices.Concat(p.settings, p.sensors) {
		text := strings.TrimSpace(record[column])
		if text == "" {
			if i < len(p.settings) {
				return turbofan.Reading{}, at(p.file, line, p.header[column], "is empty; a setting must be given in every row")
			}
			values[i] = math.NaN()
			continue
		}
		v, ok := number64([]byte(text))
		if !ok {
			return turbofan.Reading{}, at(p.file, line, p.header[column], "%q must be a finite number, or empty where it is missing", clip([]byte(text)))
		}
		values[i] = v
	}
	n := len(p.settings)
	r := turbofan.Reading{UnitID: id, Cycle: cycle, Settings: values[:n:n], Sensors: values[n:]}
	if err := r.Validate(&p.schema, "reading"); err != nil {
		if e, ok := errors.AsType[*turbofan.Error](err); ok {
			return r, at(p.file, line, "reading", "%s", e.Message)
		}
		return r, err
	}
	return r, nil
}

// end reads when the unit failed and holds the unit's rows to one story.
func (p *csvParser) end(u *turbofan.History, record []string, line int, begins bool) error {
	column := max(p.failed, p.rul)
	if column < 0 {
		return nil
	}
	name, text := p.header[column], strings.TrimSpace(record[column])
	failed := 0
	if text != "" {
		v, ok := wholeCell(text, turbofan.MaxCycle)
		if !ok {
			return at(p.file, line, name, "%q must be a whole number of cycles, or empty where it is not known", clip([]byte(text)))
		}
		failed = v
		if p.rul >= 0 {
			failed += lastCycle(u)
		}
		if failed < lastCycle(u) || failed == 0 {
			return at(p.file, line, name, "the unit failed at cycle %d, before this reading at cycle %d", failed, lastCycle(u))
		}
	}
	if begins {
		u.FailedAtCycle = failed
		return nil
	}
	if failed != u.FailedAtCycle {
		return at(p.file, line, name, "the end of unit %s is %s here and %s in its first row", u.UnitID, endOf(failed), endOf(u.FailedAtCycle))
	}
	return nil
}

func endOf(cycle int) string {
	if cycle == 0 {
		return "unknown"
	}
	return "cycle " + strconv.Itoa(cycle)
}
