package httpapi

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"turbofan"
)

// batchFormat is how many readings, or predictions, are written down.
type batchFormat struct {
	mime    string
	aliases []string
}

func batchFormats() []batchFormat {
	return []batchFormat{
		{mimeJSON, []string{"", "text/json", "application/x-www-form-urlencoded"}},
		{mimeNDJSON, []string{"application/ndjson", "application/jsonl", "application/x-jsonlines", "application/jsonlines"}},
		{mimeCSV, []string{"application/csv"}},
	}
}

// batchFormatOf returns the format that a media type names, or "".
func batchFormatOf(kind string) string {
	for _, f := range batchFormats() {
		if kind == f.mime || slices.Contains(f.aliases, kind) {
			return f.mime
		}
	}
	return ""
}

// isParquet reports whether a media type is Parquet's: the registered one, or that which was used before.
func isParquet(kind string) bool {
	return kind == mimeParquet || kind == "application/parquet" || kind == "application/x-parquet"
}

// predictBatch answers many readings, in the format they came in or the one that Accept asks for.
func (p *predictions) predictBatch(c *call) error {
	req, _, err := c.options()
	if err != nil {
		return err
	}
	format := batchFormatOf(c.contentType())
	if isParquet(c.contentType()) {
		format = mimeParquet
	}
	if format == "" {
		return c.unsupported(mimeJSON + ", " + mimeNDJSON + ", " + mimeCSV + " or " + mimeParquet)
	}
	answer, err := c.accepted(format)
	if err != nil {
		return err
	}
	var lines []int // of each reading, in a CSV body
	switch format {
	case mimeJSON:
		err = p.decodeBatch(c, &req)
	case mimeNDJSON:
		err = p.decodeNDJSON(c, &req)
	case mimeCSV:
		lines, err = p.decodeCSV(c, &req)
	case mimeParquet:
		err = p.decodeParquet(c, &req)
	}
	if err != nil {
		return err
	}
	if len(req.Readings) == 0 {
		return turbofan.Invalid("readings", "must hold at least one reading")
	}
	if req.Explain && answer == mimeCSV {
		return turbofan.Invalid("explain", "reasons have no place in CSV; ask for another format by the header Accept: %s", mimeNDJSON)
	}
	predictions, err := p.call(c, req)
	if err != nil {
		return renameReading(err, func(i int) path {
			if i < len(lines) {
				return path{"line", lines[i]}
			}
			if format == mimeParquet {
				return rowAt(i)
			}
			return readingsForm.at(i)
		})
	}
	c.writeBatch(answer, predictions)
	return nil
}

// accepted returns the format that the caller wants its answer in.
func (c *call) accepted(format string) (string, error) {
	if format == mimeParquet {
		format = mimeJSON // it is read, not written
	}
	accept := strings.Join(c.r.Header["Accept"], ",")
	if accept == "" {
		return format, nil
	}
	for kind := range strings.SplitSeq(accept, ",") {
		kind, _, _ = strings.Cut(kind, ";")
		kind = strings.ToLower(strings.TrimSpace(kind))
		if strings.HasSuffix(kind, "/*") {
			return format, nil
		}
		if f := batchFormatOf(kind); f != "" && kind != "" {
			return f, nil
		}
	}
	c.status = http.StatusNotAcceptable
	return "", turbofan.Invalid("Accept", "%q cannot be answered; ask for %s, %s or %s", clip([]byte(accept)), mimeJSON, mimeNDJSON, mimeCSV)
}

// decodeBatch reads a JSON array of readings, or an object that has one.
func (p *predictions) decodeBatch(c *call, req *turbofan.PredictRequest) error {
	s := &c.scanner
	s.reset(c.body)
	if s.peek() == 0 && s.pos >= len(s.data) {
		return turbofan.Invalid("body", `is empty; send [{...}, ...] or {"readings": [...]}`)
	}
	var err error
	switch s.peek() {
	case '[':
		s.pos++
		if req.Readings, err = p.list(c, "readings"); err == nil {
			err = p.units(c, req.Readings, readingsForm, false)
		}
	case '{':
		s.pos++
		var seen [2]bool
		given := false
		err = object(s, "", "a batch", []string{"readings", "explain", "stateless"}, func(key string) error {
			switch key {
			case "explain":
				return flag(s, key, &req.Explain, &seen[0])
			case "stateless":
				return flag(s, key, &req.Stateless, &seen[1])
			}
			given = true
			if err := p.many(c, req, readingsForm, bareForm); err != nil {
				return err
			}
			return p.units(c, req.Readings, readingsForm, false)
		})
		if err == nil && !given {
			return turbofan.Invalid("readings", "is missing")
		}
	default:
		return s.mismatch("body", `must be an array of readings, or an object such as {"readings": [...]}`)
	}
	if err != nil {
		return err
	}
	return s.end()
}

// decodeNDJSON reads one reading after the other; line breaks part them, as any other white space would.
func (p *predictions) decodeNDJSON(c *call, req *turbofan.PredictRequest) error {
	s := &c.scanner
	s.reset(c.body)
	for s.peek() != 0 || s.pos < len(s.data) {
		if len(req.Readings) == c.api.cfg.MaxReadings {
			return tooMany("readings", "readings", c.api.cfg.MaxReadings)
		}
		if err := p.decoder.decode(s, &c.partial, path{"readings", len(req.Readings)}); err != nil {
			return err
		}
		req.Readings = append(req.Readings, c.partial.reading)
	}
	return p.units(c, req.Readings, readingsForm, false)
}

// decodeCSV reads a table whose header names unit, cycle and every channel, in any order. It returns the line of each
// reading.
func (p *predictions) decodeCSV(c *call, req *turbofan.PredictRequest) ([]int, error) {
	r := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(c.body, []byte("\xef\xbb\xbf"))))
	r.ReuseRecord, r.TrimLeadingSpace = true, true
	header, err := r.Read()
	if errors.Is(err, io.EOF) {
		return nil, turbofan.Invalid("body", "is empty; send CSV with a header")
	}
	if err != nil {
		return nil, badCSV(err)
	}
	columns, err := p.decoder.header(header)
	if err != nil {
		return nil, err
	}
	var lines []int
	for {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			return lines, nil
		}
		if err != nil {
			return nil, badCSV(err)
		}
		if len(req.Readings) == c.api.cfg.MaxReadings {
			return nil, tooMany("body", "readings", c.api.cfg.MaxReadings)
		}
		line, _ := r.FieldPos(0)
		if err := p.decoder.record(&c.partial, columns, record, path{"line", line}); err != nil {
			return nil, err
		}
		req.Readings, lines = append(req.Readings, c.partial.reading), append(lines, line)
	}
}

func badCSV(err error) error {
	if e, ok := errors.AsType[*csv.ParseError](err); ok {
		return turbofan.Invalid("body", "is not valid CSV at line %d column %d: %s", e.Line, e.Column, e.Err)
	}
	return fmt.Errorf("read CSV: %w", err)
}

// header finds what each column of a table holds.
func (d *readingDecoder) header(names []string) ([]fieldRef, error) {
	out := make([]fieldRef, len(names))
	have := make(map[fieldRef]bool)
	for i, name := range names {
		name = strings.TrimSpace(name)
		ref, known := d.fields[name]
		if !known || ref.kind == settingsField || ref.kind == sensorsField {
			return nil, unknownField("line 1: column ", name, "a reading", d.columns())
		}
		if have[ref] {
			return nil, turbofan.Invalid("line 1: column "+name, "is given more than once")
		}
		out[i], have[ref] = ref, true
	}
	for _, name := range d.columns() {
		if !have[d.fields[name]] {
			return nil, turbofan.Invalid("line 1", "the column %s is missing", name)
		}
	}
	return out, nil
}

// columns returns the names that a table must have.
func (d *readingDecoder) columns() []string {
	return append(append([]string{"unit_id", "cycle"}, d.schema.SettingNames()...), d.schema.SensorNames()...)
}

// record reads one row of a table.
func (d *readingDecoder) record(p *partial, columns []fieldRef, cells []string, at path) error {
	d.begin(p)
	for i, ref := range columns {
		cell := strings.TrimSpace(cells[i])
		switch ref.kind {
		case unitField:
			p.reading.UnitID = strings.Clone(cell) // the record's memory is used again
		case cycleField:
			n, ok := wholeNumber([]byte(cell))
			if !ok {
				return turbofan.Invalid(at.String()+".cycle", "must be a whole number from 1 to %d, not %q", turbofan.MaxCycle, clip([]byte(cell)))
			}
			p.reading.Cycle = int(n)
		default:
			values, channels, _ := d.group(p, ref.kind)
			v, ok := cellValue(cell, ref.kind)
			if !ok {
				rule := "%s must be a finite number"
				if ref.kind == sensorField {
					rule += ", or empty where it is missing"
				}
				return turbofan.Invalid(at.String()+"."+channels[ref.index].Name, rule+"; it is %q", channels[ref.index].Name, clip([]byte(cell)))
			}
			values[ref.index] = v
		}
	}
	return d.validate(p, at)
}

// cellValue reads a number. What tables write for a value that is missing is NaN, which only a sensor may be.
func cellValue(cell string, kind fieldKind) (float64, bool) {
	switch cell {
	case "", "NaN", "nan", "NA", "null":
		return math.NaN(), kind == sensorField
	}
	v, err := strconv.ParseFloat(cell, 64)
	return v, err == nil && !math.IsInf(v, 0) && !math.IsNaN(v)
}

// writeBatch makes predictions the answer.
func (c *call) writeBatch(format string, predictions []turbofan.Prediction) {
	c.out = slices.Grow(c.out, 384*len(predictions))
	switch format {
	case mimeNDJSON:
		c.mime = []string{mimeNDJSON}
		for i := range predictions {
			c.out = append(appendPrediction(c.out, &predictions[i]), '\n')
		}
	case mimeCSV:
		c.mime = []string{mimeCSV + "; charset=utf-8"}
		c.out = append(c.out, csvHeader...)
		for i := range predictions {
			c.out = appendCSV(c.out, &predictions[i])
		}
	default:
		c.out = appendPredictions(c.out, predictions)
	}
}

const csvHeader = "prediction_id,unit_id,cycle,rul_prediction,rul_lower,rul_upper,failure_probability,failure_horizon,health,model_name,model_version,condition,warnings,predicted_at\n"

func appendCSV(dst []byte, p *turbofan.Prediction) []byte {
	text := func(s string) {
		if strings.ContainsAny(s, ",\"\r\n") || s != strings.TrimSpace(s) {
			s = `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
		}
		dst = append(append(dst, s...), ',')
	}
	number := func(v float64) {
		if !math.IsNaN(v) && !math.IsInf(v, 0) { // unknown is an empty cell
			dst = appendFloat(dst, v)
		}
		dst = append(dst, ',')
	}
	whole := func(n int) { dst = append(strconv.AppendInt(dst, int64(n), 10), ',') }
	text(p.ID)
	text(p.UnitID)
	whole(p.Cycle)
	number(p.RUL)
	number(p.Lower)
	number(p.Upper)
	number(p.FailureProbability)
	whole(p.FailureHorizon)
	text(string(p.Health))
	text(p.ModelName)
	text(p.ModelVersion)
	whole(p.Condition)
	text(strings.Join(p.Warnings, "; "))
	dst = p.At.AppendFormat(dst, "2006-01-02T15:04:05.999999999Z07:00")
	return append(dst, '\n')
}
