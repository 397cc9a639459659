package httpapi

import (
	"errors"
	"math"
	"strconv"
	"strings"

	"turbofan"
	"turbofan/httpapi/parquet"
)

// column is one named column of a table of readings, or several side by side: all settings or all sensors. Either
// numbers, whole or texts holds the values, row by row.
type column struct {
	name    string
	numbers []float64
	whole   []int64
	texts   []string
	missing []bool // nil when every value is there
	width   int    // values a row
}

// number returns value i, NaN where it is missing.
func (c *column) number(i int) (float64, bool) {
	switch {
	case c.missing != nil && c.missing[i]:
		return math.NaN(), true
	case c.numbers != nil:
		return c.numbers[i], true
	case c.whole != nil:
		return float64(c.whole[i]), true
	}
	return 0, false
}

// id returns value i as the name of a unit.
func (c *column) id(i int) (string, bool) {
	switch {
	case c.missing != nil && c.missing[i]:
		return "", true
	case c.texts != nil:
		return strings.Clone(c.texts[i]), true // not a piece of the whole request
	case c.whole != nil:
		return strconv.FormatInt(c.whole[i], 10), true
	}
	if v := c.numbers[i]; v == math.Trunc(v) && math.Abs(v) <= 1<<53 {
		return strconv.FormatInt(int64(v), 10), true
	}
	return "", false
}

// tableRows is what errors call the rows of a table that has no name of its own for them.
const tableRows = "rows"

func rowAt(i int) path { return path{tableRows, i} }

// errTooMany reports more values than were asked for.
var errTooMany = errors.New("too many values")

// placed is a column with the field of a reading that it fills.
type placed struct {
	column
	ref fieldRef
}

// place finds what each column of a table holds, and that nothing is missing. what is the noun for a column.
func (d *readingDecoder) place(columns []column, what string) ([]placed, error) {
	out := make([]placed, len(columns))
	have := make(map[fieldRef]bool)
	for i, c := range columns {
		ref, known := d.fields[c.name]
		if !known {
			return nil, unknownField(what+" ", c.name, "a reading", d.names())
		}
		if have[ref] {
			return nil, turbofan.Invalid(what+" "+c.name, "is given more than once")
		}
		width := 1
		switch ref.kind {
		case settingsField:
			width = len(d.schema.Settings)
		case sensorsField:
			width = len(d.schema.Sensors)
		}
		if c.width != width {
			return nil, turbofan.Invalid(what+" "+c.name, "must have %d values a row; it has %d", width, c.width)
		}
		have[ref], out[i] = true, placed{c, ref}
	}
	for _, kind := range []fieldKind{unitField, cycleField} {
		if !have[fieldRef{kind: kind}] {
			return nil, turbofan.Invalid(what+"s", "%s is missing", map[fieldKind]string{unitField: "unit_id", cycleField: "cycle"}[kind])
		}
	}
	for _, g := range []struct {
		all, one fieldKind
		channels []turbofan.Channel
	}{{settingsField, settingField, d.schema.Settings}, {sensorsField, sensorField, d.schema.Sensors}} {
		for i, channel := range g.channels {
			whole, single := have[fieldRef{kind: g.all}], have[fieldRef{g.one, i}]
			if whole && single {
				return nil, turbofan.Invalid(what+" "+channel.Name, "is given more than once: %s holds it already", groupName(g.one))
			}
			if !whole && !single {
				return nil, turbofan.Invalid(what+"s", "%s is missing: give %s, or each channel by its name", channel.Name, groupName(g.one))
			}
		}
	}
	return out, nil
}

// table turns n rows of columns into readings that keep the schema's rules. rows is what errors call the rows, what the
// noun for a column.
func (d *readingDecoder) table(p *partial, columns []column, n int, rows, what string) ([]turbofan.Reading, error) {
	all, err := d.place(columns, what)
	if err != nil {
		return nil, err
	}
	out := make([]turbofan.Reading, 0, n)
	for i := range n {
		d.begin(p)
		for k := range all {
			if err := d.cell(p, &all[k], i, path{rows, i}); err != nil {
				return nil, err
			}
		}
		if err := d.validate(p, path{rows, i}); err != nil {
			return nil, err
		}
		out = append(out, p.reading)
	}
	return out, nil
}

// cell fills what column c says of row i, which errors call at, into the reading.
func (d *readingDecoder) cell(p *partial, c *placed, i int, at path) error {
	switch c.ref.kind {
	case unitField:
		id, ok := c.id(i)
		if !ok {
			return turbofan.Invalid(at.String()+".unit_id", "must be a string or a whole number, not %g", c.numbers[i])
		}
		p.reading.UnitID = id
		return nil
	case cycleField:
		v, ok := c.number(i)
		if !ok || v != math.Trunc(v) || math.Abs(v) > 1<<53 { // NaN too
			return turbofan.Invalid(at.String()+".cycle", "must be a whole number from 1 to %d", turbofan.MaxCycle)
		}
		p.reading.Cycle = int(v)
		return nil
	}
	kind, from := c.ref.kind, c.ref.index
	switch kind {
	case settingsField:
		kind = settingField
	case sensorsField:
		kind = sensorField
	}
	values, channels, _ := d.group(p, kind)
	for k := range c.width {
		v, ok := c.number(i*c.width + k)
		if !ok {
			return notANumber(at.String()+"."+channels[from+k].Name, channels[from+k].Name, kind)
		}
		values[from+k] = v
	}
	return nil
}

// decodeParquet reads a Parquet file of one row a reading.
func (p *predictions) decodeParquet(c *call, req *turbofan.PredictRequest) error {
	if len(c.body) == 0 {
		return turbofan.Invalid("body", "is empty; send a Parquet file")
	}
	opened := int64(0)
	limits := parquet.Limits{Rows: c.api.cfg.MaxReadings, Bytes: c.api.cfg.MaxBodyBytes, Take: func(bytes int64) error {
		if opened += bytes; opened <= smallBody {
			return nil
		}
		return c.reserve(bytes)
	}}
	var unknown error
	read, n, err := parquet.Read(c.body, func(name string) bool {
		ref, known := p.decoder.fields[name]
		if known && ref.kind != settingsField && ref.kind != sensorsField {
			return true
		}
		if unknown == nil && !strings.HasPrefix(name, "__index_level_") { // pandas' row labels
			unknown = unknownField("column ", name, "a reading", p.decoder.columns())
		}
		return false
	}, limits)
	if err == nil {
		err = unknown
	}
	if err != nil {
		return err
	}
	columns := make([]column, len(read))
	for i, r := range read {
		columns[i] = column{name: r.Name, numbers: r.Floats, whole: r.Ints, texts: r.Texts, missing: r.Missing, width: 1}
	}
	req.Readings, err = p.decoder.table(&c.partial, columns, n, tableRows, "column")
	return err
}

// flatten appends the numbers, or the names of units, of arrays nested however deep, row by row: at most most of them, or
// errTooMany.
func flatten(s *scanner, c *column, unit bool, at string, most, depth int) error {
	if depth > maxDepth {
		return s.bad("more than %d levels deep", maxDepth)
	}
	if s.peek() != '[' {
		if len(c.numbers)+len(c.texts) == most {
			return errTooMany
		}
		return scalar(s, c, unit, at)
	}
	s.pos++
	for first := true; ; first = false {
		if more, err := s.nextElement(first); err != nil || !more {
			return err
		}
		if err := flatten(s, c, unit, at, most, depth+1); err != nil {
			return err
		}
	}
}

// scalar appends one number, or the name of a unit.
func scalar(s *scanner, c *column, unit bool, at string) error {
	place := func() string { return at + "[" + strconv.Itoa(len(c.numbers)+len(c.texts)) + "]" }
	if unit {
		switch first := s.peek(); {
		case first == '"':
			b, err := s.str()
			c.texts = append(c.texts, string(b))
			return err
		case first == '-' || first >= '0' && first <= '9':
			b, err := s.number()
			if err != nil {
				return err
			}
			n, ok := wholeNumber(b)
			if !ok {
				return turbofan.Invalid(place(), "must be a string or a whole number, not %s", clip(b))
			}
			c.texts = append(c.texts, strconv.FormatInt(n, 10))
			return nil
		}
		return s.mismatch(place(), "must be a string or a whole number")
	}
	v, ok, err := channelValue(s, sensorField)
	if err != nil {
		return err
	}
	if !ok {
		return s.mismatch(place(), "must be a finite number, or null where it is missing")
	}
	c.numbers = append(c.numbers, v)
	return nil
}
