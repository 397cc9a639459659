package httpapi

import (
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"

	"turbofan"
)

// What follows is the interface of MLflow's scoring server on the prediction role, so that its clients, SageMaker's
// containers and whatever else speaks it can ask without knowing the platform. The rows are readings, in any of MLflow's
// forms, and the predictions are objects as POST /predict_batch answers them. By its habit an invocation leaves nothing
// behind: the rows are whole histories, unless params.stateless is false.

// appendMLflowError appends an error as MLflow writes it.
func appendMLflowError(dst []byte, code, message string) []byte {
	dst = appendString(append(dst, `{"error_code":`...), mlflowCode(code))
	return append(appendString(append(dst, `,"message":`...), message), '}')
}

// mlflowCode returns MLflow's word for an error code.
func mlflowCode(code string) string {
	switch code {
	case turbofan.EInvalid, turbofan.ETooLarge, turbofan.EInsufficient:
		return "BAD_REQUEST"
	case turbofan.EUnauthorized:
		return "PERMISSION_DENIED"
	case turbofan.ENotFound:
		return "RESOURCE_DOES_NOT_EXIST"
	case turbofan.EConflict:
		return "RESOURCE_CONFLICT"
	case turbofan.EExhausted:
		return "REQUEST_LIMIT_EXCEEDED"
	case turbofan.EUnavailable:
		return "TEMPORARILY_UNAVAILABLE"
	case turbofan.ETimeout:
		return "DEADLINE_EXCEEDED"
	}
	return "INTERNAL_ERROR"
}

func mlflowCodes() []string {
	var out []string
	for _, code := range errorCodes() {
		if word := mlflowCode(code); len(out) == 0 || out[len(out)-1] != word {
			out = append(out, word)
		}
	}
	return out
}

// The forms of rows in JSON.
const (
	splitForm     = "dataframe_split"
	splitRows     = splitForm + ".data"
	recordsForm   = "dataframe_records"
	instancesForm = "instances"
	inputsForm    = "inputs"
)

func invocationForms() []string { return []string{splitForm, recordsForm, instancesForm, inputsForm} }

// invocations answers rows in the way of MLflow's scoring server.
func (p *predictions) invocations(c *call) error {
	if q := c.queryValues(); q.err != nil {
		return q.err
	}
	req := turbofan.PredictRequest{Stateless: true}
	var err error
	at := rowAt
	switch kind := c.contentType(); {
	case batchFormatOf(kind) == mimeCSV:
		var lines []int
		if lines, err = p.decodeCSV(c, &req); err == nil {
			at = func(i int) path { return path{"line", lines[i]} }
		}
	case isParquet(kind):
		err = p.decodeParquet(c, &req)
	case c.requireJSON() != nil:
		return c.unsupported(mimeJSON + ", " + mimeCSV + " or " + mimeParquet)
	default:
		var rows string
		rows, err = p.decodeInvocation(c, &req)
		at = func(i int) path { return path{rows, i} }
	}
	if err != nil {
		return err
	}
	if len(req.Readings) == 0 {
		return turbofan.Invalid("body", "must hold at least one row")
	}
	answers, err := p.call(c, req)
	if err != nil {
		return renameReading(err, at)
	}
	c.out = appendPredictions(c.out, answers)
	return nil
}

// decodeInvocation reads a JSON request and returns what errors call its rows.
func (p *predictions) decodeInvocation(c *call, req *turbofan.PredictRequest) (string, error) {
	s := &c.scanner
	s.reset(c.body)
	s.nan = true
	if err := openRequest(s, `{"dataframe_split": {"columns": [...], "data": [[...]]}}`); err != nil {
		return "", err
	}
	form, rows := "", ""
	known := append(invocationForms(), "params")
	err := object(s, "", "an invocation", known, func(key string) error {
		if key == "params" {
			return invocationParams(s, req)
		}
		if form != "" {
			return turbofan.Invalid(key, "is given beside %s; send one of %s", form, strings.Join(invocationForms(), ", "))
		}
		form, rows = key, key
		var err error
		switch {
		case key == splitForm:
			rows = splitRows
			req.Readings, err = p.split(c)
		case key == inputsForm && s.peek() == '{':
			rows = tableRows
			req.Readings, err = p.byColumn(c)
		default:
			req.Readings, err = p.rows(c, key)
		}
		return err
	})
	if err == nil {
		err = s.end()
	}
	if err == nil && form == "" {
		return "", turbofan.Invalid("body", "must have one of %s", strings.Join(invocationForms(), ", "))
	}
	return rows, err
}

// invocationParams reads the options of an invocation.
func invocationParams(s *scanner, req *turbofan.PredictRequest) error {
	if null, err := s.null(); null || err != nil {
		return err
	}
	if s.peek() != '{' {
		return s.mismatch("params", "must be an object")
	}
	s.pos++
	return object(s, "params.", "params", []string{"stateless", "explain"}, func(key string) error {
		seen := false
		if key == "explain" {
			return flag(s, "params.explain", &req.Explain, &seen)
		}
		return flag(s, "params.stateless", &req.Stateless, &seen)
	})
}

// split reads {"columns": [...], "data": [[...]]}, as pandas writes a table by orient="split".
func (p *predictions) split(c *call) ([]turbofan.Reading, error) {
	s := &c.scanner
	if s.peek() != '{' {
		return nil, s.mismatch(splitForm, "must be an object with columns and data")
	}
	s.pos++
	var names []string
	from := -1
	err := object(s, splitForm+".", "a table", []string{"columns", "data", "index"}, func(key string) error {
		switch key {
		case "columns":
			return texts(s, splitForm+".columns", turbofan.MaxChannels+2, &names)
		case "data":
			s.peek()
			from = s.pos
		}
		return s.skip(1)
	})
	switch {
	case err != nil:
		return nil, err
	case names == nil:
		return nil, turbofan.Invalid(splitForm+".columns", "is missing")
	case from < 0:
		return nil, turbofan.Invalid(splitForm+".data", "is missing")
	}
	end := s.pos
	s.pos = from
	out, err := p.arrays(c, splitRows, names)
	if err == nil {
		s.pos = end
	}
	return out, err
}

// texts reads an array of at most most strings.
func texts(s *scanner, at string, most int, out *[]string) error {
	if s.peek() != '[' {
		return s.mismatch(at, "must be an array of strings")
	}
	s.pos++
	*out = []string{}
	for first := true; ; first = false {
		more, err := s.nextElement(first)
		if err != nil || !more {
			return err
		}
		if len(*out) == most {
			return turbofan.Invalid(at, "has more than %d names", most)
		}
		if s.peek() != '"' {
			return s.mismatch(at+"["+strconv.Itoa(len(*out))+"]", "must be a string")
		}
		b, err := s.str()
		if err != nil {
			return err
		}
		*out = append(*out, string(b))
	}
}

// arrays reads an array of rows, each an array of one value a column.
func (p *predictions) arrays(c *call, at string, names []string) ([]turbofan.Reading, error) {
	s := &c.scanner
	if s.peek() != '[' {
		return nil, s.mismatch(at, "must be an array of rows")
	}
	s.pos++
	columns := make([]column, len(names))
	for i, name := range names {
		columns[i] = column{name: name, width: 1}
	}
	n := 0
	for first := true; ; first, n = false, n+1 {
		more, err := s.nextElement(first)
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
		if n == c.api.cfg.MaxReadings {
			return nil, tooMany(at, "rows", n)
		}
		if err := p.array(s, path{at, n}, columns); err != nil {
			return nil, err
		}
	}
	return p.decoder.table(&c.partial, columns, n, at, "column")
}

// array reads one row into the columns.
func (p *predictions) array(s *scanner, at path, columns []column) error {
	if s.peek() != '[' {
		return s.mismatch(at.String(), "must be an array of values")
	}
	s.pos++
	k := 0
	for first := true; ; first, k = false, k+1 {
		more, err := s.nextElement(first)
		if err != nil {
			return err
		}
		if !more {
			break
		}
		if k >= len(columns) {
			if err := s.skip(1); err != nil {
				return err
			}
			continue
		}
		c := &columns[k]
		unit := p.decoder.fields[c.name].kind == unitField
		before := len(c.numbers) + len(c.texts)
		if err := flatten(s, c, unit, at.String()+"."+c.name, math.MaxInt, 1); err != nil {
			return err
		}
		if got := len(c.numbers) + len(c.texts) - before; before == 0 {
			c.width = got // settings and sensors may stand in a cell as an array
		} else if got != c.width {
			return turbofan.Invalid(at.String()+"."+c.name, "must have %d values as in the first row; it has %d", c.width, got)
		}
	}
	if k != len(columns) {
		return turbofan.Invalid(at.String(), "must have %d values, one a column; it has %d", len(columns), k)
	}
	return nil
}

// byColumn reads {"column": [...], ...}.
func (p *predictions) byColumn(c *call) ([]turbofan.Reading, error) {
	s := &c.scanner
	s.pos++
	var columns []column
	most := c.api.cfg.MaxReadings * turbofan.MaxChannels
	for first := true; ; first = false {
		key, more, err := s.nextKey(first)
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
		if len(columns) > turbofan.MaxChannels+2 {
			return nil, turbofan.Invalid(inputsForm, "has more columns than a reading has fields")
		}
		col := column{name: string(key)}
		if s.peek() != '[' {
			return nil, s.mismatch(inputsForm+"."+col.name, "must be an array of one value a row")
		}
		switch err := flatten(s, &col, p.decoder.fields[col.name].kind == unitField, inputsForm+"."+col.name, most, 1); {
		case errors.Is(err, errTooMany):
			return nil, tooMany(inputsForm+"."+col.name, "values", most)
		case err != nil:
			return nil, err
		}
		columns = append(columns, col)
	}
	n := -1
	for i := range columns { // the columns of one value say how many rows there are
		if kind := p.decoder.fields[columns[i].name].kind; kind == unitField || kind == cycleField {
			n = len(columns[i].numbers) + len(columns[i].texts)
			break
		}
	}
	if n < 0 {
		return nil, turbofan.Invalid(inputsForm, "unit_id is missing")
	}
	if n > c.api.cfg.MaxReadings {
		return nil, tooMany(inputsForm, "rows", c.api.cfg.MaxReadings)
	}
	for i := range columns {
		got := len(columns[i].numbers) + len(columns[i].texts)
		if n == 0 || got%n != 0 || got == 0 {
			return nil, turbofan.Invalid(inputsForm+"."+columns[i].name, "must have one value for each of %d rows; it has %d", n, got)
		}
		columns[i].width = got / n
	}
	return p.decoder.table(&c.partial, columns, n, tableRows, "column")
}

// rows reads an array of objects, or of arrays in the order unit_id, cycle, settings, sensors.
func (p *predictions) rows(c *call, form string) ([]turbofan.Reading, error) {
	s := &c.scanner
	if s.peek() != '[' {
		return nil, s.mismatch(form, "must be an array of rows")
	}
	from := s.pos
	s.pos++
	if s.peek() == '[' && form != recordsForm {
		s.pos = from
		return p.arrays(c, form, p.decoder.columns())
	}
	out, err := p.list(c, form)
	if err != nil {
		return nil, err
	}
	for i := range out {
		if out[i].UnitID == "" {
			return nil, turbofan.Invalid(path{form, i}.String()+".unit_id", "is missing")
		}
	}
	return out, nil
}

// version answers GET /version, as MLflow's scoring server does.
func (c *call) version() error {
	c.mime, c.out = c.api.plain, append(c.out, c.api.cfg.Version...)
	return nil
}

// invocationOperations are the scoring server's routes.
func (p *predictions) invocationOperations(schema turbofan.Schema) []*operation {
	reading := sampleReading(schema)
	cells := string(reading)
	for _, cut := range []string{`"unit_id":`, `"cycle":`, `"settings":`, `"sensors":`, "[", "]", "{", "}"} {
		cells = strings.ReplaceAll(cells, cut, "")
	}
	names := string(appendList(nil, p.decoder.columns()))
	table := strings.Join(p.decoder.columns(), ",") + "\n" + strings.ReplaceAll(cells, `"`, "") + "\n"
	record := raw(`{"dataframe_records":[` + reading + `]}`)
	params := node{{"type", "object"}, {"nullable", true}, {"properties", node{
		{"stateless", node{{"type", "boolean"}, {"default", true}, {"description", "false keeps the rows, as /predict does."}}},
		{"explain", node{{"type", "boolean"}, {"default", false}}},
	}}, {"additionalProperties", false}}
	form := func(name string, value node) node {
		return node{{"type", "object"}, {"properties", node{{name, value}, {"params", params}}}, {"required", []string{name}}, {"additionalProperties", false}}
	}
	array := node{{"type", "array"}, {"items", node{}}}
	records := node{{"type", "array"}, {"minItems", 1}, {"items", ref("Reading")}}
	input := &bodyDoc{
		describe: func(*schemas) node {
			return node{{"anyOf", []node{
				form(recordsForm, records), form(instancesForm, records), form(inputsForm, records),
				form(instancesForm, node{{"type", "array"}, {"minItems", 1}, {"items", array}}),
				form(inputsForm, node{{"type", "object"}, {"additionalProperties", array}}),
				form(splitForm, node{{"type", "object"}, {"properties", node{
					{"columns", node{{"type", "array"}, {"items", node{{"type", "string"}}}}}, {"data", node{{"type", "array"}, {"items", array}}}, {"index", array},
				}}, {"required", []string{"columns", "data"}}, {"additionalProperties", false}}),
			}}}
		},
		types: []string{mimeCSV, mimeParquet},
		examples: []example{
			{name: "records", value: record},
			{name: "split", value: raw(`{"dataframe_split":{"columns":` + names + `,"data":[[` + cells + `]]}}`)},
			{name: "instances", value: raw(`{"instances":[[` + cells + `]]}`)},
			{name: "kept as by predict", value: raw(`{"dataframe_records":[` + reading + `],"params":{"stateless":false}}`)},
			{name: "a table", mime: mimeCSV, value: raw(appendString(nil, table))},
		},
	}
	health := func(path string) *operation {
		return &operation{method: http.MethodGet, path: path, infra: true, dialect: mlflowDialect, summary: "200 when a model serves, as MLflow's scoring server says it.", handle: (*call).ready}
	}
	return []*operation{{
		method: http.MethodPost, path: "/invocations", summary: "How long will these units last, in the way of MLflow's scoring server?", dialect: mlflowDialect,
		doc: "Send rows of readings as dataframe_split, dataframe_records, instances or inputs, as CSV or as Parquet. The rows of a unit are its whole life so far, in ascending " +
			"order of cycle, and nothing is kept; with params.stateless false they are kept as by /predict.",
		input: input, output: listDoc("predictions", samplePrediction()), errors: []int{404, 409, 422}, handle: p.invocations, done: p.count,
	}, health("/ping"), health("/health"), {
		method: http.MethodGet, path: "/version", infra: true, summary: "The version of the program.", handle: (*call).version,
	}}
}
