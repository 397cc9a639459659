package httpapi

import (
	"math"
	"net/http"
	"strconv"
	"strings"

	"turbofan"
)

// What follows is the Open Inference Protocol, version 2, on the prediction role: KServe's, Triton's and MLServer's
// clients speak it. A request carries readings as tensors of N rows (unit_id, cycle, settings, sensors; or a tensor a
// channel) and is answered by tensors of N rows. By the protocol's habit an inference leaves nothing behind: the rows are
// whole histories, unless the parameter stateless is false.
//
// https://github.com/kserve/open-inference-protocol, with Triton's extension for binary tensors.

// inferenceLength is the header that says where the JSON of a binary message ends.
const inferenceLength = "Inference-Header-Content-Length"

const mimeBinary = "application/octet-stream"

// appendInferenceError appends the protocol's error object.
func appendInferenceError(dst []byte, message string) []byte {
	return append(appendString(append(dst, `{"error":`...), message), '}')
}

// outputTensor is one column of an answer; one of text, number and whole gives its values.
type outputTensor struct {
	name   string
	text   func(p *turbofan.Prediction) string
	number func(p *turbofan.Prediction) float64
	whole  func(p *turbofan.Prediction) int
}

func (o *outputTensor) datatype() string {
	switch {
	case o.text != nil:
		return "BYTES"
	case o.whole != nil:
		return "INT64"
	}
	return "FP64"
}

// outputTensors are the fields of a prediction, by their names in JSON.
func outputTensors() []outputTensor {
	type pred = *turbofan.Prediction
	return []outputTensor{
		{name: "prediction_id", text: func(p pred) string { return p.ID }},
		{name: "rul_prediction", number: func(p pred) float64 { return p.RUL }},
		{name: "rul_lower", number: func(p pred) float64 { return p.Lower }},
		{name: "rul_upper", number: func(p pred) float64 { return p.Upper }},
		{name: "failure_probability", number: func(p pred) float64 { return p.FailureProbability }},
		{name: "failure_horizon", whole: func(p pred) int { return p.FailureHorizon }},
		{name: "health", text: func(p pred) string { return string(p.Health) }},
		{name: "condition", whole: func(p pred) int { return p.Condition }},
		{name: "model_version", text: func(p pred) string { return p.ModelVersion }},
		{name: "warnings", text: func(p pred) string { return strings.Join(p.Warnings, "; ") }},
	}
}

// tensorInfo is how the metadata describe a tensor.
type tensorInfo struct {
	Name     string `json:"name"`
	Datatype string `json:"datatype"`
	Shape    []int  `json:"shape"`
}

// serverInfo answers GET /v2.
type serverInfo struct {
	Name       string   `json:"name"`
	Version    string   `json:"version"`
	Extensions []string `json:"extensions"`
}

// modelInfo answers GET /v2/models/{model_name}.
type modelInfo struct {
	Name     string       `json:"name"`
	Versions []string     `json:"versions"`
	Platform string       `json:"platform"`
	Inputs   []tensorInfo `json:"inputs"`
	Outputs  []tensorInfo `json:"outputs"`
}

// modelReady answers GET /v2/models/{model_name}/ready.
type modelReady struct {
	Name  string `json:"name"`
	Ready bool   `json:"ready"`
}

// serverLive and serverReady answer GET /v2/health/live and /v2/health/ready.
type serverLive struct {
	Live bool `json:"live"`
}

type serverReady struct {
	Live  bool `json:"live"`
	Ready bool `json:"ready"`
}

func (c *call) inferenceServer() error {
	return c.reply(serverInfo{Name: "turbofan", Version: c.api.cfg.Version, Extensions: []string{"binary_tensor_data"}}, nil)
}

func (c *call) inferenceLive() error { return c.reply(serverLive{Live: true}, nil) }

func (c *call) inferenceReady() error {
	if err := c.ready(); err != nil {
		return err
	}
	c.mime, c.out = c.api.json, c.out[:0]
	return c.reply(serverReady{Live: true, Ready: true}, nil)
}

// serves returns the model that the path names, or why it does not serve.
func (p *predictions) serves(c *call) (turbofan.Serving, error) {
	s, err := p.svc.Serving(c.ctx)
	if err != nil {
		return s, err
	}
	if name := c.params[0]; name != s.ModelName {
		return s, turbofan.Errorf(turbofan.ENotFound, "there is no model %s here; %s serves", strconv.QuoteToASCII(name), s.ModelName)
	}
	return s, p.isVersion(c, s.ModelName, s.ModelVersion)
}

func (p *predictions) isVersion(c *call, name, version string) error {
	if want := c.params[1]; want != "" && want != version {
		return turbofan.Errorf(turbofan.ENotFound, "version %s of %s does not serve; version %s does", strconv.QuoteToASCII(want), name, version)
	}
	return nil
}

func (p *predictions) inferenceModel(c *call) error {
	s, err := p.serves(c)
	if err != nil {
		return err
	}
	return c.reply(modelInfo{
		Name: s.ModelName, Versions: []string{s.ModelVersion}, Platform: "turbofan",
		Inputs: p.inputInfo(), Outputs: outputInfo(),
	}, nil)
}

// inputInfo describes the tensors that a request should have.
func (p *predictions) inputInfo() []tensorInfo {
	schema := p.decoder.schema
	out := []tensorInfo{{"unit_id", "BYTES", []int{-1}}, {"cycle", "INT64", []int{-1}}}
	if n := len(schema.Settings); n > 0 {
		out = append(out, tensorInfo{"settings", "FP64", []int{-1, n}})
	}
	return append(out, tensorInfo{"sensors", "FP64", []int{-1, len(schema.Sensors)}})
}

func outputInfo() []tensorInfo {
	var out []tensorInfo
	for _, o := range outputTensors() {
		out = append(out, tensorInfo{o.name, o.datatype(), []int{-1}})
	}
	return out
}

func (p *predictions) inferenceModelReady(c *call) error {
	s, err := p.serves(c)
	return c.reply(modelReady{Name: s.ModelName, Ready: true}, err)
}

// infer answers tensors of readings with tensors of predictions.
func (p *predictions) infer(c *call) error {
	if _, err := p.serves(c); err != nil {
		return err
	}
	q := c.queryValues()
	if q.err != nil {
		return q.err
	}
	in, err := p.readInference(c)
	if err != nil {
		return err
	}
	req := turbofan.PredictRequest{Stateless: in.stateless}
	if req.Readings, err = p.tensorRows(c, in); err != nil {
		return err
	}
	answers, err := p.call(c, req)
	if err != nil {
		return renameReading(err, rowAt)
	}
	version := answers[0].ModelVersion
	for i := range answers {
		// The model may have been swapped meanwhile, or a canary answers the unit.
		if err := p.isVersion(c, answers[i].ModelName, answers[i].ModelVersion); err != nil {
			return err
		}
		if answers[i].ModelVersion != version {
			version = "" // the answer is of several: the tensor model_version names each row's
		}
	}
	c.writeInference(in, answers[0].ModelName, version, answers)
	return nil
}

// writeInference makes the tensors that were asked for the answer.
func (c *call) writeInference(in *inference, name, version string, answers []turbofan.Prediction) {
	var tail []byte
	binary := false
	dst := append(c.out, `{"model_name":`...)
	dst = appendString(dst, name)
	if version != "" {
		dst = append(dst, `,"model_version":`...)
		dst = appendString(dst, version)
	}
	if in.id != "" {
		dst = append(dst, `,"id":`...)
		dst = appendString(dst, in.id)
	}
	dst = append(dst, `,"outputs":[`...)
	for i := range in.outputs {
		o := &in.outputs[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"name":`...)
		dst = appendString(dst, o.name)
		dst = append(dst, `,"datatype":"`...)
		dst = append(dst, o.datatype()...)
		dst = append(dst, `","shape":[`...)
		dst = strconv.AppendInt(dst, int64(len(answers)), 10)
		if o.binary {
			before := len(tail)
			tail, binary = o.appendBinary(tail, answers), true
			dst = append(dst, `],"parameters":{"binary_data_size":`...)
			dst = append(strconv.AppendInt(dst, int64(len(tail)-before), 10), "}}"...)
			continue
		}
		dst = append(dst, `],"data":`...)
		dst = append(o.appendJSON(dst, answers), '}')
	}
	c.out = append(dst, "]}"...)
	if binary {
		c.w.Header().Set(inferenceLength, strconv.Itoa(len(c.out)))
		c.mime = []string{mimeBinary}
		c.out = append(c.out, tail...)
	}
}

func (o *outputTensor) appendJSON(dst []byte, answers []turbofan.Prediction) []byte {
	dst = append(dst, '[')
	for i := range answers {
		if i > 0 {
			dst = append(dst, ',')
		}
		switch a := &answers[i]; {
		case o.text != nil:
			dst = appendString(dst, o.text(a))
		case o.whole != nil:
			dst = strconv.AppendInt(dst, int64(o.whole(a)), 10)
		default:
			dst = appendFloat(dst, o.number(a))
		}
	}
	return append(dst, ']')
}

// appendBinary appends the values as Triton's extension has them: little-endian, a text behind its length.
func (o *outputTensor) appendBinary(dst []byte, answers []turbofan.Prediction) []byte {
	for i := range answers {
		switch a := &answers[i]; {
		case o.text != nil:
			text := o.text(a)
			dst = append(littleEndian.AppendUint32(dst, uint32(len(text))), text...)
		case o.whole != nil:
			dst = littleEndian.AppendUint64(dst, uint64(o.whole(a)))
		default:
			dst = littleEndian.AppendUint64(dst, math.Float64bits(o.number(a)))
		}
	}
	return dst
}

// inferenceOperations are the protocol's routes.
func (p *predictions) inferenceOperations(schema turbofan.Schema) []*operation {
	sample := samplePrediction()
	serverDoc := docOf(serverInfo{"turbofan", "1.0.0", []string{"binary_tensor_data"}})
	modelDoc := docOf(modelInfo{sample.ModelName, []string{sample.ModelVersion}, "turbofan", p.inputInfo(), outputInfo()})
	readyDoc := docOf(modelReady{sample.ModelName, true})
	input, output := p.inferenceInput(schema), inferenceOutput(sample)
	ops := []*operation{
		{method: http.MethodGet, path: "/v2", summary: "The server, for clients of the Open Inference Protocol.", output: serverDoc, handle: (*call).inferenceServer},
		{method: http.MethodGet, path: "/v2/health/live", infra: true, summary: "200 while the process lives.", output: docOf(serverLive{true}), handle: (*call).inferenceLive},
		{method: http.MethodGet, path: "/v2/health/ready", infra: true, summary: "200 when a model serves, 503 with the reason when none does.", output: docOf(serverReady{true, true}), handle: (*call).inferenceReady},
	}
	for _, of := range []struct{ path, what string }{
		{"/v2/models/{model_name}", "the model"}, {"/v2/models/{model_name}/versions/{model_version}", "one version of the model"},
	} {
		ops = append(ops, &operation{
			method: http.MethodGet, path: of.path, summary: "The tensors of " + of.what + ".", output: modelDoc, errors: []int{404}, handle: p.inferenceModel,
		}, &operation{
			method: http.MethodGet, path: of.path + "/ready", summary: "200 when " + of.what + " serves.", output: readyDoc, errors: []int{404}, handle: p.inferenceModelReady,
		}, &operation{
			method: http.MethodPost, path: of.path + "/infer", summary: "How long will these units last, by " + of.what + "?",
			doc: "Send rows of readings as tensors: unit_id, cycle, settings and sensors, or a tensor a channel in place of the last two. The rows of a unit are its whole life " +
				"so far, in ascending order of cycle, and nothing is kept; with the parameter stateless false they are kept as by /predict. outputs names the tensors to answer; " +
				"none means all. Data may also follow the JSON in binary (extension binary_tensor_data).",
			input: input, output: output, errors: []int{404, 409, 422}, handle: p.infer, done: p.count,
		})
	}
	for _, op := range ops {
		op.dialect = inferenceDialect
	}
	return ops
}

// inferenceInput describes an inference request.
func (p *predictions) inferenceInput(schema turbofan.Schema) *bodyDoc {
	reading := sampleReading(schema)
	settings, sensors := cutArray(string(reading), "settings"), cutArray(string(reading), "sensors")
	inputs := []string{
		`{"name":"unit_id","shape":[1],"datatype":"BYTES","data":["1"]}`,
		`{"name":"cycle","shape":[1],"datatype":"INT64","data":[31]}`,
	}
	if n := len(schema.Settings); n > 0 {
		inputs = append(inputs, `{"name":"settings","shape":[1,`+strconv.Itoa(n)+`],"datatype":"FP64","data":`+settings+`}`)
	}
	inputs = append(inputs, `{"name":"sensors","shape":[1,`+strconv.Itoa(len(schema.Sensors))+`],"datatype":"FP64","data":[`+sensors+`]}`)
	all := `{"id":"a-1","inputs":[` + strings.Join(inputs, ",") + `]`
	// Clients may send parameters of their own: those that the protocol leaves free are not refused.
	flags := func(names ...string) node {
		properties := node{}
		for _, name := range names {
			properties = append(properties, member{name, node{{"type", "boolean"}}})
		}
		return node{{"type", "object"}, {"nullable", true}, {"properties", properties}}
	}
	tensor := node{{"type", "object"}, {"title", "InferenceTensor"}, {"properties", node{
		{"name", node{{"type", "string"}}},
		{"shape", node{{"type", "array"}, {"minItems", 1}, {"items", node{{"type", "integer"}, {"minimum", 1}}}}},
		{"datatype", node{{"type", "string"}, {"enum", inputDatatypes()}}},
		{"parameters", node{{"type", "object"}, {"nullable", true}, {"properties", node{{"binary_data_size", node{{"type", "integer"}, {"minimum", 0}, {"nullable", true}}}}}}},
		{"data", node{{"type", "array"}, {"items", node{}}, {"description", "Row by row, nested or flat; null marks a sensor value that is missing."}}},
	}}, {"required", []string{"name", "shape", "datatype"}}, {"additionalProperties", false}}
	return &bodyDoc{
		describe: func(s *schemas) node {
			if s.components != nil && s.components.get("InferenceTensor") == nil {
				*s.components = append(*s.components, member{"InferenceTensor", tensor})
			}
			return node{{"type", "object"}, {"title", "InferenceRequest"}, {"properties", node{
				{"id", node{{"type", "string"}, {"nullable", true}}},
				{"parameters", flags("stateless", "binary_data_output")},
				{"inputs", node{{"type", "array"}, {"minItems", 1}, {"items", ref("InferenceTensor")}}},
				{"outputs", node{{"type", "array"}, {"nullable", true}, {"items", node{{"type", "object"}, {"properties", node{
					{"name", node{{"type", "string"}, {"enum", outputNames()}}}, {"parameters", flags("binary_data")},
				}}, {"required", []string{"name"}}, {"additionalProperties", false}}}}},
			}}, {"required", []string{"inputs"}}, {"additionalProperties", false}}
		},
		types: []string{mimeBinary},
		examples: []example{
			{name: "one reading", value: raw(all + `}`)},
			{name: "two outputs", value: raw(all + `,"outputs":[{"name":"rul_prediction"},{"name":"failure_probability"}]}`)},
			{name: "kept as by predict", value: raw(all + `,"parameters":{"stateless":false}}`)},
			{name: "JSON alone", mime: mimeBinary, value: raw(appendString(nil, all+"}"))},
		},
	}
}

// cutArray returns the array of that name in a reading that was written as JSON.
func cutArray(reading, name string) string {
	_, rest, _ := strings.Cut(reading, `"`+name+`":`)
	inside, _, _ := strings.Cut(rest, "]")
	return inside + "]"
}

func outputNames() []string {
	var out []string
	for _, o := range outputTensors() {
		out = append(out, o.name)
	}
	return out
}

func inferenceOutput(sample turbofan.Prediction) *bodyDoc {
	answered := &call{w: nil}
	all := &inference{id: "a-1"}
	for _, o := range outputTensors() {
		all.outputs = append(all.outputs, wantedTensor{outputTensor: o})
	}
	answered.writeInference(all, sample.ModelName, sample.ModelVersion, []turbofan.Prediction{sample})
	return &bodyDoc{
		describe: func(s *schemas) node {
			value := node{{"anyOf", []node{{{"type", "string"}}, {{"type", "number"}, {"nullable", true}}}}}
			tensor := node{{"type", "object"}, {"properties", node{
				{"name", node{{"type", "string"}, {"enum", outputNames()}}},
				{"datatype", node{{"type", "string"}, {"enum", []string{"BYTES", "FP64", "INT64"}}}},
				{"shape", node{{"type", "array"}, {"items", node{{"type", "integer"}}}}},
				{"parameters", node{{"type", "object"}, {"properties", node{{"binary_data_size", node{{"type", "integer"}}}}}}},
				{"data", node{{"type", "array"}, {"items", value}}},
			}}, {"required", []string{"name", "datatype", "shape"}}}
			return node{{"type", "object"}, {"title", "InferenceResponse"}, {"properties", node{
				{"model_name", node{{"type", "string"}}},
				{"model_version", node{{"type", "string"}, {"description", "Absent where a canary answers some of the units: the tensor model_version names each row's."}}},
				{"id", node{{"type", "string"}}},
				{"outputs", node{{"type", "array"}, {"items", tensor}}},
			}}, {"required", []string{"model_name", "outputs"}}}
		},
		types:    []string{mimeBinary},
		examples: []example{{name: "answer", value: raw(answered.out)}},
	}
}
