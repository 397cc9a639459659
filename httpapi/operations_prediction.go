package httpapi

import (
	"net/http"
	"strings"

	"turbofan"
)

func (p *predictions) operations(schema turbofan.Schema) []*operation {
	answer := docOf(samplePrediction())
	unit := turbofan.UnitSummary{UnitID: "1", FirstCycle: 1, LastCycle: 31, Readings: 31, LastSeen: sampleTime()}
	reading := sampleReading(schema)
	examples := []example{
		{name: "one reading", value: `{"reading":` + reading + `}`},
		{name: "the same, bare", value: reading},
		{name: "with reasons", value: `{"reading":` + reading + `,"explain":true}`},
		{name: "several readings", value: `{"readings":[` + reading + `]}`},
		{name: "a unit's whole history, which is not kept", value: `{"history":[` + reading + `]}`},
	}
	stateless := parameter{name: "stateless", kind: "boolean", doc: "Take the readings as whole histories and keep nothing.", or: false}
	one := "Add the strongest reasons to each answer; a history has one. Without it, a list and a history get none."
	if p.explain {
		one = "Add the strongest reasons to each answer; a history has one. Without it, a single reading gets them, a list and a history do not."
	}
	return []*operation{{
		method: http.MethodPost, path: "/predict", name: "predict", summary: "How long will this unit last?",
		doc: "Send one reading, bare or as reading, and get its prediction; several as readings, in ascending order of cycle, and get {\"predictions\": [...]}; or a unit's " +
			"whole life so far as history, which is answered by the prediction for its last reading, with that one's reasons where they are asked for, and not kept. settings and sensors are arrays in the schema's " +
			"order, or objects by name; the channels may also stand beside unit_id and cycle, by name or alias. null marks a sensor value that is missing. " +
			"What was answered before may be sent again as it was, alone or in a list, and gets the same answer.",
		query:  []parameter{{name: "explain", kind: "boolean", doc: one}, stateless},
		input:  &bodyDoc{describe: p.predictInput(schema), bento: predictBento(), examples: examples},
		output: anyOf(answer.examples, answer, listDoc("predictions", samplePrediction())), errors: []int{404, 409, 422}, handle: p.predict, done: p.count,
	}, {
		method: http.MethodPost, path: "/predict_batch", name: "predict_batch", summary: "How long will all these units last?",
		doc: "Send thousands of readings as a JSON array, as {\"readings\": [...]}, as NDJSON (one reading a line), as CSV with a header or as Parquet; any of them may be " +
			"gzipped (Content-Encoding). The answer comes in the format of the request (JSON for Parquet), or the one that Accept names. The batch is answered whole or not at all, " +
			"and may be sent again: what was answered before gets the same answer.",
		query:  []parameter{{name: "explain", kind: "boolean", doc: "Add the strongest reasons to each answer.", or: false}, stateless},
		input:  p.batchInput(schema, reading),
		output: batchOutput(), errors: []int{404, 406, 409, 422}, handle: p.predictBatch, done: p.count,
	}, {
		method: http.MethodGet, path: "/units", summary: "List units, the newest reading first.",
		query:  []parameter{limitParameter(100, 1, maxLimit), {name: "offset", kind: "integer", doc: "How many to pass over.", high: maxOffset, or: 0}},
		output: listDoc("units", unit), handle: p.listUnits,
	}, {
		method: http.MethodGet, path: "/units/{unit_id}", summary: "One unit with its recent predictions, the newest with what drove it where the version that gave it still serves.", errors: []int{404},
		output: docOf(turbofan.UnitStatus{UnitSummary: unit, Recent: []turbofan.Prediction{samplePrediction()}}), handle: p.unit,
	}, {
		method: http.MethodGet, path: "/predictions/{prediction_id}", summary: "One logged prediction.", output: answer, errors: []int{404}, handle: p.prediction,
	}, {
		method: http.MethodGet, path: "/model", summary: "Which model answers now.",
		output: docOf(turbofan.Serving{ModelName: "rul", ModelVersion: "1", Digest: "sha256:1f0c", Since: sampleTime(), Swaps: 1, Units: 100}), handle: p.model,
	}}
}

// sampleReading is a reading of the schema as JSON. For C-MAPSS it is FD001's unit 1 at its first cycle.
func sampleReading(schema turbofan.Schema) raw {
	r := turbofan.Reading{UnitID: "1", Cycle: 31, Settings: make([]float64, len(schema.Settings)), Sensors: make([]float64, len(schema.Sensors))}
	fd001 := []float64{
		518.67, 641.82, 1589.7, 1400.6, 14.62, 21.61, 554.36, 2388.06, 9046.19, 1.3, 47.47, 521.66, 2388.02, 8138.62, 8.4195, 0.03, 392, 2388, 100, 39.06, 23.419,
	}
	for i, c := range schema.Settings {
		r.Settings[i] = inside(c, []float64{-0.0007, -0.0004, 100}[i%3])
	}
	for i, c := range schema.Sensors {
		r.Sensors[i] = inside(c, fd001[i%len(fd001)])
	}
	return raw(appendReading(nil, &r))
}

// inside moves v into the channel's range.
func inside(c turbofan.Channel, v float64) float64 {
	if c.Min != nil {
		v = max(v, *c.Min)
	}
	if c.Max != nil {
		v = min(v, *c.Max)
	}
	return v
}

// readingInput describes a reading as a caller writes it.
func readingInput(schema turbofan.Schema) node {
	return node{
		{"type", "object"}, {"title", "Reading"},
		{"properties", node{
			{"unit_id", unitIDSchema()},
			{"cycle", node{{"type", "integer"}, {"minimum", 1}, {"maximum", turbofan.MaxCycle}}},
			{"settings", channelsInput(schema.Settings, false)},
			{"sensors", channelsInput(schema.Sensors, true)},
		}},
		{"required", []string{"unit_id", "cycle", "settings", "sensors"}},
		{"additionalProperties", false},
	}
}

func channelsInput(channels []turbofan.Channel, nullable bool) node {
	properties, names := node{}, []string{}
	for _, c := range channels {
		n := node{{"type", "number"}}
		if nullable {
			n = append(n, member{"nullable", true})
		}
		if text := c.Description; text != "" {
			if c.Unit != "" {
				text += " (" + c.Unit + ")"
			}
			n = append(n, member{"description", text})
		}
		low, high := -turbofan.MaxValue, turbofan.MaxValue
		if c.Min != nil {
			low = max(low, *c.Min)
		}
		if c.Max != nil {
			high = min(high, *c.Max)
		}
		n = append(n, member{"minimum", low}, member{"maximum", high})
		properties, names = append(properties, member{c.Name, n}), append(names, c.Name)
	}
	item := node{{"type", "number"}, {"minimum", -turbofan.MaxValue}, {"maximum", turbofan.MaxValue}}
	if nullable {
		item = append(item, member{"nullable", true})
	}
	object := node{{"type", "object"}, {"properties", properties}, {"additionalProperties", false}}
	if len(names) > 0 {
		object = append(object, member{"required", names})
	}
	return node{{"oneOf", []node{{{"type", "array"}, {"minItems", len(channels)}, {"maxItems", len(channels)}, {"items", item}}, object}}}
}

// predictInput describes the forms of POST /predict.
func (p *predictions) predictInput(schema turbofan.Schema) func(*schemas) node {
	return func(s *schemas) node {
		if s.components != nil && s.components.get("Reading") == nil {
			*s.components = append(*s.components, member{"Reading", readingInput(schema)})
		}
		explain := func(or bool) member {
			return member{"explain", node{{"type", "boolean"}, {"default", or}, {"description", "Add the strongest reasons to the answer."}}}
		}
		stateless := member{"stateless", node{{"type", "boolean"}, {"default", false}, {"description", "Take the readings as whole histories and keep nothing."}}}
		form := func(name string, value node) node {
			return node{{"type", "object"}, {"properties", node{{name, value}, explain(p.explain && name == "reading"), stateless}}, {"required", []string{name}}, {"additionalProperties", false}}
		}
		list := node{{"type", "array"}, {"minItems", 1}, {"items", ref("Reading")}}
		return node{{"anyOf", []node{form("reading", ref("Reading")), ref("Reading"), form("readings", list), form("history", list)}}}
	}
}

// predictBento describes the same for BentoML's clients. A reading lists no properties, because a client would drop
// every other name that a channel has.
func predictBento() node {
	object := func(title string) node {
		return node{{"type", "object"}, {"title", title}, {"additionalProperties", true}}
	}
	list := func(title string) node {
		return node{{"type", "array"}, {"title", title}, {"items", object("Reading")}}
	}
	return node{{"type", "object"}, {"title", "Input"}, {"properties", node{
		{"reading", object("Reading")},
		{"explain", node{{"type", "boolean"}, {"title", "Explain"}}},
		{"readings", list("Readings")},
		{"history", list("History")},
	}}}
}

// batchInput describes the forms of POST /predict_batch.
func (p *predictions) batchInput(schema turbofan.Schema, reading raw) *bodyDoc {
	cells := strings.NewReplacer("{", "", "}", "", "[", "", "]", "", `"unit_id":`, "", `"cycle":`, "", `"settings":`, "", `"sensors":`, "", `"`, "")
	table := strings.Join(p.decoder.columns(), ",") + "\n" + cells.Replace(string(reading)) + "\n"
	return &bodyDoc{
		describe: func(s *schemas) node {
			list := node{{"type", "array"}, {"minItems", 1}, {"maxItems", p.maxReadings}, {"items", ref("Reading")}}
			return node{{"anyOf", []node{list, {{"type", "object"}, {"properties", node{
				{"readings", list}, {"explain", node{{"type", "boolean"}}}, {"stateless", node{{"type", "boolean"}}},
			}}, {"required", []string{"readings"}}, {"additionalProperties", false}}}}}
		},
		bento: node{{"type", "object"}, {"title", "Input"}, {"properties", node{
			{"readings", node{{"type", "array"}, {"title", "Readings"}, {"items", node{{"type", "object"}, {"additionalProperties", true}}}}},
			{"explain", node{{"type", "boolean"}, {"title", "Explain"}, {"default", false}}},
		}}, {"required", []string{"readings"}}},
		types: []string{mimeNDJSON, mimeCSV, mimeParquet},
		examples: []example{
			{name: "readings", value: `{"readings":[` + reading + `]}`},
			{name: "one line a reading", mime: mimeNDJSON, value: raw(appendString(nil, string(reading)+"\n"))},
			{name: "a table", mime: mimeCSV, value: raw(appendString(nil, table))},
		},
	}
}

func batchOutput() *bodyDoc {
	list := listDoc("predictions", samplePrediction())
	sample := samplePrediction()
	list.types = []string{mimeNDJSON, mimeCSV}
	list.examples = append(list.examples,
		example{name: "one line a prediction", mime: mimeNDJSON, value: raw(appendString(nil, string(appendPrediction(nil, &sample))+"\n"))},
		example{name: "a table", mime: mimeCSV, value: raw(appendString(nil, csvHeader+string(appendCSV(nil, &sample))))},
	)
	return list
}
