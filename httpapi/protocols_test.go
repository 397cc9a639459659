package httpapi_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"turbofan"
	"turbofan/httpapi"
)

// venv returns the interpreter of .venv/name, which scripts/venv.sh makes; scripts/test.sh says with which packages.
func venv(t *testing.T, name string) string {
	t.Helper()
	bin, err := filepath.Abs(filepath.Join("..", ".venv", name, "bin", "python"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(bin); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s needs .venv/%s: run scripts/test.sh", t.Name(), name)
		}
		t.Skipf("%s needs .venv/%s: run scripts/test.sh", t.Name(), name)
	}
	return bin
}

// runClient runs a Python client that ends with a line "ok".
func runClient(t *testing.T, python string, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), python, args...).CombinedOutput()
	if err != nil || !strings.HasSuffix(strings.TrimSpace(string(out)), "ok") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestInferenceClient(t *testing.T) {
	python := venv(t, "oip")
	u := serve(t, roles(t)["predict"], nil)
	runClient(t, python, "testdata/oip_http.py", strings.TrimPrefix(u, "http://"))
}

func TestScoringClient(t *testing.T) {
	for _, name := range []string{"mlflow2", "mlflow3"} {
		t.Run(name, func(t *testing.T) {
			u, err := url.Parse(serve(t, roles(t)["predict"], nil))
			if err != nil {
				t.Fatal(err)
			}
			runClient(t, venv(t, name), "testdata/mlflow_client.py", u.Hostname(), u.Port())
		})
	}
}

// tensor writes an input tensor as JSON.
func tensor(name, datatype, shape, data string) string {
	return fmt.Sprintf(`{"name":%q,"shape":%s,"datatype":%q,"data":%s}`, name, shape, datatype, data)
}

// inference writes a request of one reading, with its tensors replaced by name.
func inferenceOf(replace ...string) string {
	inputs := [][2]string{
		{"unit_id", tensor("unit_id", "BYTES", "[1]", `["1"]`)}, {"cycle", tensor("cycle", "INT64", "[1]", "[31]")},
		{"settings", tensor("settings", "FP64", "[1,3]", settings)}, {"sensors", tensor("sensors", "FP64", "[1,21]", "["+sensors+"]")},
	}
	var out []string
	for _, in := range inputs {
		for i := 0; i < len(replace); i += 2 {
			if replace[i] == in[0] {
				in[1] = replace[i+1]
			}
		}
		if in[1] != "" {
			out = append(out, in[1])
		}
	}
	return `{"inputs":[` + strings.Join(out, ",") + `]}`
}

// TestTableForms sends one reading as tensors and as rows in every form that is understood.
func TestTableForms(t *testing.T) {
	schema := turbofan.CMAPSS()
	values := strings.Split(strings.Trim(sensors, "[]"), ",")
	var channels, columns, cells []string
	for i, name := range schema.SettingNames() {
		v := strings.Split(strings.Trim(settings, "[]"), ",")[i]
		channels, columns, cells = append(channels, tensor(name, "FP64", "[1]", "["+v+"]")), append(columns, `"`+name+`"`), append(cells, v)
	}
	for i, name := range schema.SensorNames() {
		channels, columns, cells = append(channels, tensor(name, "FP64", "[1,1]", "[["+values[i]+"]]")), append(columns, `"`+name+`"`), append(cells, values[i])
	}
	var byName []string
	for i := range columns {
		byName = append(byName, columns[i]+":["+cells[i]+"]")
	}
	infer, invoke := "/v2/models/rul/infer", "/invocations"
	memory := new(capture)
	h := predictionHandler(t, nil, httpapi.Options{}, memory.predict)
	var want []turbofan.Reading
	for i, c := range [][2]string{
		{infer, inferenceOf()},
		{"/v2/models/rul/versions/7/infer", inferenceOf()},
		{infer, inferenceOf("unit_id", tensor("unit_id", "INT32", "[1,1]", "[[1]]"), "cycle", tensor("cycle", "FP32", "[1]", "[31.0]"))},
		{infer, inferenceOf("unit_id", tensor("engine_id", "BYTES", "[1]", `["1"]`), "sensors", tensor("sensors", "FP64", "[1,21]", sensors))},
		{infer, inferenceOf("settings", "", "sensors", strings.Join(channels, ","))},
		{infer, inferenceOf("cycle", `{"data":[31],"parameters":{"content_type":"np"},"datatype":"UINT16","shape":[1],"name":"cycle"}`)},
		{invoke, `{"dataframe_records":[` + bare() + `]}`},
		{invoke, `{"instances":[` + bare() + `],"params":null}`},
		{invoke, `{"inputs":[` + bare() + `]}`},
		{invoke, `{"dataframe_split":{"data":[["1",31,` + strings.Join(cells, ",") + `]],"index":[0],"columns":["unit_id","cycle",` + strings.Join(columns, ",") + `]}}`},
		{invoke, `{"dataframe_split":{"columns":["sensors","cycle","unit_id","settings"],"data":[[` + sensors + `,31,1,` + settings + `]]},"params":{}}`},
		{invoke, `{"instances":[["1",31,` + strings.Join(cells, ",") + `]]}`},
		{invoke, `{"inputs":{"unit":["1"],"time_cycles":[31],` + strings.Join(byName, ",") + `}}`},
		{invoke, `{"inputs":{"unit_id":[1],"cycle":[31],"settings":[` + settings + `],"sensors":` + sensors + `}}`},
	} {
		memory.readings = nil
		if w := ask(h, "POST", c[0], c[1]); w.Code != 200 {
			t.Errorf("%s %s: %d %s", c[0], c[1], w.Code, w.Body)
		}
		if i == 0 {
			want = memory.readings
		}
		if !same(reflect.ValueOf(memory.readings), reflect.ValueOf(want)) {
			t.Errorf("%s %s:\nread %+v\nwant %+v", c[0], c[1], memory.readings, want)
		}
	}
	if got := want[0]; got.UnitID != "1" || got.Cycle != 31 || got.Settings[2] != 100 || got.Sensors[20] != 23.419 {
		t.Errorf("read %+v", got)
	}
}

// TestBinaryTensors sends each datatype in binary and reads binary answers.
func TestBinaryTensors(t *testing.T) {
	le := binary.LittleEndian
	memory := new(capture)
	h := predictionHandler(t, nil, httpapi.Options{}, memory.predict)
	unit := append(le.AppendUint32(nil, 2), "u1"...)
	floats := func(n int, v float64) (b []byte) {
		for range n {
			b = le.AppendUint64(b, math.Float64bits(v))
		}
		return b
	}
	for datatype, data := range map[string][]byte{
		"INT8": {7}, "UINT8": {7}, "INT16": {7, 0}, "UINT16": {7, 0}, "INT32": {7, 0, 0, 0}, "UINT32": {7, 0, 0, 0}, "INT64": le.AppendUint64(nil, 7), "UINT64": le.AppendUint64(nil, 7),
		"FP16": le.AppendUint16(nil, 0x4700), "FP32": le.AppendUint32(nil, math.Float32bits(7)), "FP64": floats(1, 7),
	} {
		parts := []struct {
			name, datatype, shape string
			data                  []byte
		}{{"unit_id", "BYTES", "[1]", unit}, {"cycle", datatype, "[1]", data}, {"settings", "FP64", "[1,3]", floats(3, 0.5)}, {"sensors", "FP64", "[1,21]", floats(21, math.NaN())}}
		var inputs []string
		var tail []byte
		for _, p := range parts {
			inputs = append(inputs, fmt.Sprintf(`{"name":%q,"shape":%s,"datatype":%q,"parameters":{"binary_data_size":%d}}`, p.name, p.shape, p.datatype, len(p.data)))
			tail = append(tail, p.data...)
		}
		head := `{"parameters":{"binary_data_output":true},"inputs":[` + strings.Join(inputs, ",") + `],"outputs":[{"name":"health"},{"name":"condition"}]}`
		r := httptest.NewRequest("POST", "/v2/models/rul/infer", strings.NewReader(head+string(tail)))
		r.Header.Set("Inference-Header-Content-Length", fmt.Sprint(len(head)))
		r.Header.Set("Content-Type", "application/octet-stream")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != 200 || w.Header().Get("Content-Type") != "application/octet-stream" {
			t.Errorf("%s: %d %s", datatype, w.Code, w.Body)
			continue
		}
		if got := memory.readings[0]; got.Cycle != 7 || got.UnitID != "u1" || got.Settings[1] != 0.5 || !math.IsNaN(got.Sensors[20]) {
			t.Errorf("%s: read %+v", datatype, got)
		}
		var n int
		if _, err := fmt.Sscan(w.Header().Get("Inference-Header-Content-Length"), &n); err != nil {
			t.Fatal(err)
		}
		answer := w.Body.String()
		if want := `{"model_name":"rul","model_version":"7","outputs":[{"name":"health","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":4}},{"name":"condition","datatype":"INT64","shape":[1],"parameters":{"binary_data_size":8}}]}`; answer[:n] != want {
			t.Errorf("%s: answered %s", datatype, answer[:n])
		}
		if answer[n:] != strings.Repeat("\x00", 12) { // no health, condition 0
			t.Errorf("%s: tail %q", datatype, answer[n:])
		}
	}
}

// badProtocols are requests that must be refused, with the whole body of the answer.
func badProtocols() []badRequest {
	v2 := func(status int, body, message string) badRequest {
		b, _ := json.Marshal(map[string]string{"error": message})
		return badRequest{method: "POST", path: "/v2/models/rul/infer", body: body, status: status, message: string(b)}
	}
	ml := func(status int, code, body, message string) badRequest {
		b, _ := json.Marshal(message)
		return badRequest{method: "POST", path: "/invocations", body: body, status: status, message: `{"error_code":"` + code + `","message":` + string(b) + `}`}
	}
	bad := func(body, message string) badRequest { return ml(400, "BAD_REQUEST", body, message) }
	at := func(method, path string, status int, message string) badRequest {
		r := v2(status, "", message)
		r.method, r.path = method, path
		return r
	}
	with := func(r badRequest, header string) badRequest { r.header = header; return r }
	fifty := strings.TrimSuffix(strings.Repeat(bare()+",", 51), ",")
	return []badRequest{
		v2(400, ``, `body: is empty; send {"inputs": [{"name": ..., "shape": [...], "datatype": ..., "data": [...]}]}`),
		v2(400, `[]`, `body: must be an object such as {"inputs": [{"name": ..., "shape": [...], "datatype": ..., "data": [...]}]}, not an array`),
		v2(400, `{}`, `inputs: must hold at least one tensor`),
		v2(400, `{"input":[]}`, `input: is not a field of an inference request; did you mean inputs?`),
		v2(400, `{"inputs":{}}`, `inputs: must be an array of tensors, not an object`),
		v2(400, `{"inputs":[7]}`, `inputs[0]: must be an object, not a number`),
		v2(400, `{"inputs":[{"shape":[1],"datatype":"FP64","data":[1]}]}`, `inputs[0].name: is missing`),
		v2(400, inferenceOf("cycle", `{"name":"cycle","datatype":"FP64","data":[1]}`), `inputs[1].shape: is missing`),
		v2(400, inferenceOf("cycle", tensor("cycle", "INT64", "[0]", "[]")), `inputs[1].shape: must have 1 to 8 dimensions of at least 1`),
		v2(400, inferenceOf("cycle", tensor("cycle", "INT64", "[1.5]", "[31]")), `inputs[1].shape[0]: must be a whole number, not 1.5`),
		v2(400, inferenceOf("cycle", tensor("cycle", "BOOL", "[1]", "[true]")), `inputs[1].datatype: must be one of BYTES, INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64, FP16, FP32, FP64, not "BOOL"`),
		v2(400, inferenceOf("cycle", `{"name":"cycle","shape":[1],"datatype":"INT64"}`), `inputs[1].data: is missing`),
		v2(400, inferenceOf("cycle", `{"name":"cycle","shape":[1],"datatype":"INT64","data":[31],"parameters":{"binary_data_size":8}}`), `inputs[1].data: is given beside parameters.binary_data_size; send one of them`),
		v2(400, inferenceOf("cycle", `{"name":"cycle","shape":[1],"datatype":"INT64","parameters":{"binary_data_size":8}}`), `inputs[1].parameters.binary_data_size: is 8, but 0 bytes of binary data are left`),
		v2(400, inferenceOf("cycle", tensor("cycle", "INT64", "[1]", "[31,32]")), `inputs[1].data: must have 1 values as its shape says; it has more`),
		v2(400, inferenceOf("cycle", tensor("cycle", "INT64", "[1]", "[]")), `inputs[1].data: must have 1 values as its shape says; it has 0`),
		v2(400, inferenceOf("cycle", tensor("cycle", "INT64", "[1]", "[31.5]")), `inputs[1].data[0]: must be a whole number as datatype INT64 says`),
		v2(400, inferenceOf("cycle", tensor("cycle", "FP64", "[1]", "[31.5]")), `rows[0].cycle: must be a whole number from 1 to 10000000`),
		v2(400, inferenceOf("cycle", tensor("cycle", "FP64", "[1]", "[null]")), `rows[0].cycle: must be a whole number from 1 to 10000000`),
		v2(400, inferenceOf("cycle", tensor("cycle", "INT64", "[1]", "[0]")), `rows[0].cycle: must be a whole number from 1 to 10000000, not 0`),
		v2(400, inferenceOf("cycle", tensor("cycle", "INT64", "[2]", "[1,2]")), `inputs[1].shape: must have as many rows as inputs[0], 1, not 2`),
		v2(400, inferenceOf("cycle", tensor("cycle", "BYTES", "[1]", `["31"]`)), `inputs[1].datatype: of cycle must be a type of numbers, not BYTES`),
		v2(400, inferenceOf("cycle", ""), `inputs: cycle is missing`),
		v2(400, inferenceOf("cycle", tensor("cicle", "INT64", "[1]", "[31]")), `input cicle: is not a field of a reading; did you mean cycle?`),
		v2(400, inferenceOf("unit_id", ""), `inputs: unit_id is missing`),
		v2(400, inferenceOf("unit_id", tensor("unit_id", "BYTES", "[1]", `[""]`)), `rows[0].unit_id: is missing`),
		v2(400, inferenceOf("unit_id", tensor("unit_id", "BYTES", "[1]", `[null]`)), `inputs[0].data[0]: must be a string or a whole number, not null`),
		v2(400, inferenceOf("unit_id", tensor("unit_id", "FP64", "[1]", `[1.5]`)), `inputs[0].data[0]: must be a string or a whole number, not 1.5`),
		v2(400, inferenceOf("settings", ""), `inputs: setting_1 is missing: give settings, or each channel by its name`),
		v2(400, inferenceOf("settings", tensor("settings", "FP64", "[1,2]", `[1,2]`)), `input settings: must have 3 values a row; it has 2`),
		v2(400, inferenceOf("settings", tensor("settings", "FP64", "[1,3]", `[1,null,3]`)), `rows[0].settings[1]: setting_2 must be a finite number`),
		v2(400, inferenceOf("settings", tensor("settings", "FP64", "[1,3]", settings)+","+tensor("settings", "FP64", "[1,3]", settings)), `input settings: is given more than once`),
		v2(400, inferenceOf("settings", tensor("settings", "FP64", "[1,3]", settings)+","+tensor("setting_1", "FP64", "[1]", "[1]")), `input setting_1: is given more than once: settings holds it already`),
		v2(400, inferenceOf("sensors", tensor("sensors", "FP64", "[1,100000]", `[1]`)), `inputs[3].shape: has more than 512 values a row`),
		v2(400, inferenceOf("sensors", tensor("sensors", "FP64", "[1,21]", `[`+strings.Repeat("[", 70)+`]`)), `body: is not valid JSON at line 1 column 338: more than 64 levels deep`),
		v2(400, inferenceOf("sensors", tensor("sensors", "FP64", "[1,21]", `["a"]`)), `inputs[3].data[0]: must be a finite number, or null where it is missing, not a string`),
		v2(413, inferenceOf("unit_id", tensor("unit_id", "BYTES", "[51]", `["1"]`)), `inputs: has more than the 50 readings allowed in one request`),
		v2(400, strings.TrimSuffix(inferenceOf(), "}")+`,"outputs":[{"name":"rul"}]}`, `outputs[0].name: must be one of prediction_id, rul_prediction, rul_lower, rul_upper, failure_probability, failure_horizon, health, condition, model_version, warnings, not "rul"`),
		v2(400, strings.TrimSuffix(inferenceOf(), "}")+`,"outputs":[{"name":"health"},{"name":"health"}]}`, `outputs[1].name: health is asked for more than once`),
		v2(400, strings.TrimSuffix(inferenceOf(), "}")+`,"parameters":{"stateless":"no"}}`, `parameters.stateless: must be true or false, not a string`),
		with(v2(415, `<xml/>`, `Content-Type: "text/xml" is not supported; use application/json`), "Content-Type: text/xml"),
		with(v2(400, inferenceOf(), `Inference-Header-Content-Length: must be a whole number from 0 to the body's 412 bytes, not "9999"`), "Inference-Header-Content-Length: 9999"),
		with(v2(400, inferenceOf()+"xx", `body: has 2 bytes of binary data that belong to no tensor`), "Inference-Header-Content-Length: 412"),
		v2(413, strings.Repeat(" ", 65<<10), `body: is larger than the 64 KiB allowed`),
		at("GET", "/v2/models/rul/infer", 405, `method: GET is not allowed here; use POST`),
		at("GET", "/v2/models/other", 404, `there is no model "other" here; rul serves`),
		at("GET", "/v2/models/rul/versions/8", 404, `version "8" of rul does not serve; version 7 does`),
		at("GET", "/v2/models/rul/versions/8/ready", 404, `version "8" of rul does not serve; version 7 does`),
		at("GET", "/v2/models/rul/config/x", 404, `there is no such path here; GET /docs.json lists what there is`),

		bad(``, `body: is empty; send {"dataframe_split": {"columns": [...], "data": [[...]]}}`),
		bad(`[`+bare()+`]`, `body: must be an object such as {"dataframe_split": {"columns": [...], "data": [[...]]}}, not an array`),
		bad(`{}`, `body: must have one of dataframe_split, dataframe_records, instances, inputs`),
		bad(`{"dataframe_records":[]}`, `body: must hold at least one row`),
		bad(`{"dataframe_record":[]}`, `dataframe_record: is not a field of an invocation; did you mean dataframe_records?`),
		bad(`{"dataframe_records":[`+bare()+`],"inputs":[`+bare()+`]}`, `inputs: is given beside dataframe_records; send one of dataframe_split, dataframe_records, instances, inputs`),
		bad(`{"dataframe_records":[`+bare("cycle", "-1")+`]}`, `dataframe_records[0].cycle: must be a whole number from 1 to 10000000, not -1`),
		bad(`{"dataframe_records":[`+bare("unit_id", "")+`]}`, `dataframe_records[0].unit_id: is missing`),
		bad(`{"dataframe_records":[`+bare("sensors", sensor(0, `"a"`))+`]}`, `dataframe_records[0].sensors[0]: sensor_1 must be a finite number, or null where it is missing`),
		bad(`{"dataframe_split":[]}`, `dataframe_split: must be an object with columns and data, not an array`),
		bad(`{"dataframe_split":{"data":[]}}`, `dataframe_split.columns: is missing`),
		bad(`{"dataframe_split":{"columns":["cycle"]}}`, `dataframe_split.data: is missing`),
		bad(`{"dataframe_split":{"columns":["cycle"],"data":[[1],[2,3]]}}`, `dataframe_split.data[1]: must have 1 values, one a column; it has 2`),
		bad(`{"dataframe_split":{"columns":["cycle"],"data":[7]}}`, `dataframe_split.data[0]: must be an array of values, not a number`),
		bad(`{"dataframe_split":{"columns":["cycle"],"data":[[1]]}}`, `columns: unit_id is missing`),
		bad(`{"dataframe_split":{"columns":["cicle"],"data":[[1]]}}`, `column cicle: is not a field of a reading; did you mean cycle?`),
		bad(`{"dataframe_split":{"columns":[1],"data":[[1]]}}`, `dataframe_split.columns[0]: must be a string, not a number`),
		bad(`{"instances":[["1",31]]}`, `instances[0]: must have 26 values, one a column; it has 2`),
		bad(`{"instances":7}`, `instances: must be an array of rows, not a number`),
		bad(`{"inputs":{"cycle":[1,2],"unit_id":[1]}}`, `inputs.unit_id: must have one value for each of 2 rows; it has 1`),
		bad(`{"inputs":{"sensors":`+sensors+`}}`, `inputs: unit_id is missing`),
		bad(`{"inputs":{"cycle":"1"}}`, `inputs.cycle: must be an array of one value a row, not a string`),
		bad(`{"inputs":[`+bare()+`],"params":{"temperature":1}}`, `params.temperature: is not a field of params`),
		bad(`{"inputs":[`+bare()+`],"params":[]}`, `params: must be an object, not an array`),
		ml(413, "BAD_REQUEST", `{"instances":[`+fifty+`]}`, `instances: has more than the 50 readings allowed in one request`),
		with(ml(415, "BAD_REQUEST", `<xml/>`, `Content-Type: "text/xml" is not supported; use application/json, text/csv or application/vnd.apache.parquet`), "Content-Type: text/xml"),
		with(ml(400, "BAD_REQUEST", "unit_id,cycle\n1,2\n", `line 1: the column setting_1 is missing`), "Content-Type: text/csv"),
		with(ml(400, "BAD_REQUEST", "PAR1", `body: is not Parquet that can be read: it does not begin with PAR1`), "Content-Type: application/vnd.apache.parquet"),
		ml(409, "RESOURCE_CONFLICT", `{"instances":[`+bare("unit_id", `"used"`, "cycle", "2")+`],"params":{"stateless":false}}`, `instances[0].cycle: 2 is not after 5, which unit "used" already sent`),
	}
}

func TestBadProtocolRequests(t *testing.T) {
	u := platform(t)["predict"]
	for i, c := range badProtocols() {
		var headers []string
		if c.header != "" {
			headers = append(headers, c.header)
		}
		resp, body := send(t, c.method, u+c.path, c.body, headers...)
		if resp.StatusCode != c.status || body != c.message {
			t.Errorf("%d: %s %s %.200s:\n got %d %s\nwant %d %s", i, c.method, c.path, c.body, resp.StatusCode, body, c.status, c.message)
		}
		if kind, id := resp.Header.Get("Content-Type"), resp.Header.Get("X-Bentoml-Request-Id"); kind != "application/json" || id == "" {
			t.Errorf("%d: Content-Type %q, request id %q", i, kind, id)
		}
		if resp, body := send(t, "POST", u+"/v2/models/rul/infer", inferenceOf()); resp.StatusCode != 200 {
			t.Errorf("after %d: a good request got %d %s", i, resp.StatusCode, body)
		}
	}
}

// TestProtocolsUnderLimits holds the protocols' routes to the limits, ids and metrics of all others.
func TestProtocolsUnderLimits(t *testing.T) {
	memory := newMemoryPredictions()
	memory.noModel = true
	notReady := httpapi.Options{Ready: func(context.Context) error { return turbofan.Errorf(turbofan.EUnavailable, "no model serves yet") }}
	h := predictionHandler(t, nil, notReady, memory.Predict)
	for path, want := range map[string]string{
		"/v2/health/ready": `{"error":"no model serves yet"}`, "/ping": `{"error_code":"TEMPORARILY_UNAVAILABLE","message":"no model serves yet"}`,
		"/health": `{"error_code":"TEMPORARILY_UNAVAILABLE","message":"no model serves yet"}`,
	} {
		if w := ask(h, "GET", path, ""); w.Code != 503 || w.Body.String() != want || w.Header().Get("Retry-After") == "" {
			t.Errorf("%s: %d %s %v", path, w.Code, w.Body, w.Header())
		}
	}
	if w := ask(h, "GET", "/v2/health/live", ""); w.Code != 200 || w.Body.String() != `{"live":true}` {
		t.Errorf("live: %d %s", w.Code, w.Body)
	}
	w := ask(h, "POST", "/invocations", `{"inputs":[`+bare()+`]}`)
	if w.Code != 503 || w.Header().Get("Retry-After") == "" || w.Body.String() != `{"error_code":"TEMPORARILY_UNAVAILABLE","message":"no model serves yet"}` {
		t.Errorf("invocations: %d %s", w.Code, w.Body)
	}
	metrics := ask(h, "GET", "/metrics", "").Body.String()
	for _, line := range []string{`prediction_requests_total{code="503"} 1`, `endpoint="/invocations",http_response_code="503"`, `endpoint="/v2/health/live",http_response_code="200"`} {
		if !strings.Contains(metrics, line) {
			t.Errorf("metrics lack %s", line)
		}
	}
	full := predictionHandler(t, func(c *httpapi.Config) { c.MaxBufferedBytes, c.MaxBodyBytes = 1<<20, 1<<20 }, httpapi.Options{}, nil)
	r := httptest.NewRequest("POST", "/v2/models/rul/infer", strings.NewReader(inferenceOf()))
	r.Header.Set("X-Request-Id", "mine-1")
	w = httptest.NewRecorder()
	full.ServeHTTP(w, r)
	if w.Code != 200 || w.Header().Get("X-Bentoml-Request-Id") != "mine-1" {
		t.Errorf("id: %d %v", w.Code, w.Header())
	}
}

// TestParquetTakesFromTheBudget sends a file that is small until it is opened, while another is being worked on.
func TestParquetTakesFromTheBudget(t *testing.T) {
	file, err := os.ReadFile("parquet/testdata/wide.parquet")
	if err != nil {
		t.Fatal(err)
	}
	inside, goOn := make(chan struct{}), make(chan struct{})
	h := predictionHandler(t, func(c *httpapi.Config) { c.MaxBodyBytes, c.MaxBufferedBytes = 400<<10, 400<<10 }, httpapi.Options{},
		func(_ context.Context, req turbofan.PredictRequest) ([]turbofan.Prediction, error) {
			inside <- struct{}{}
			<-goOn
			return make([]turbofan.Prediction, len(req.Readings)), nil
		})
	post := func() *httptest.ResponseRecorder {
		r := httptest.NewRequest("POST", "/predict_batch", bytes.NewReader(file))
		r.Header.Set("Content-Type", "application/vnd.apache.parquet")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	first := make(chan *httptest.ResponseRecorder, 1)
	for round := range 2 { // what the first took must be given back
		go func() { first <- post() }()
		<-inside
		if w := post(); w.Code != 429 || w.Header().Get("Retry-After") == "" {
			t.Errorf("round %d: beside another: %d %.300s", round, w.Code, w.Body)
		}
		goOn <- struct{}{}
		if w := <-first; w.Code != 200 {
			t.Errorf("round %d: alone: %d %.300s", round, w.Code, w.Body)
		}
	}
}

// TestInferenceNamesEachVersion asks while a canary answers some of the units.
func TestInferenceNamesEachVersion(t *testing.T) {
	h := predictionHandler(t, nil, httpapi.Options{}, func(_ context.Context, req turbofan.PredictRequest) ([]turbofan.Prediction, error) {
		out := make([]turbofan.Prediction, len(req.Readings))
		for i, r := range req.Readings {
			out[i] = turbofan.Prediction{ModelName: "rul", ModelVersion: map[bool]string{true: "8", false: "7"}[r.UnitID == "canary"]}
		}
		return out, nil
	})
	two := func(units string) string {
		return `{"inputs":[` + strings.Join([]string{
			tensor("unit_id", "BYTES", "[2]", units), tensor("cycle", "INT64", "[2]", "[31,31]"), tensor("settings", "FP64", "[2,3]", "["+settings+","+settings+"]"),
			tensor("sensors", "FP64", "[2,21]", "["+sensors+","+sensors+"]"),
		}, ",") + `],"outputs":[{"name":"model_version"}]}`
	}
	for _, c := range []struct {
		path, units, want string
		status            int
	}{
		{"/v2/models/rul/infer", `["a","b"]`, `{"model_name":"rul","model_version":"7","outputs":[{"name":"model_version","datatype":"BYTES","shape":[2],"data":["7","7"]}]}`, 200},
		{"/v2/models/rul/infer", `["a","canary"]`, `{"model_name":"rul","outputs":[{"name":"model_version","datatype":"BYTES","shape":[2],"data":["7","8"]}]}`, 200},
		{"/v2/models/rul/versions/7/infer", `["a","canary"]`, `{"error":"version \"7\" of rul does not serve; version 8 does"}`, 404},
	} {
		if w := ask(h, "POST", c.path, two(c.units)); w.Code != c.status || w.Body.String() != c.want {
			t.Errorf("%s %s: %d %s, want %s", c.path, c.units, w.Code, w.Body, c.want)
		}
	}
}

// TestSchemaListsProtocols says that BentoML's schema names the paths of other protocols as mounted.
func TestSchemaListsProtocols(t *testing.T) {
	var doc struct {
		Paths map[string]struct{ Mounted bool }
	}
	if err := json.Unmarshal(ask(roles(t)["predict"], "GET", "/schema.json", "").Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	var mounted []string
	for path, p := range doc.Paths {
		if p.Mounted {
			mounted = append(mounted, path)
		}
	}
	for _, path := range []string{"/v2", "/v2/models/{model_name}/infer", "/invocations", "/ping"} {
		if !slices.Contains(mounted, path) {
			t.Errorf("%s is not among %v", path, mounted)
		}
	}
}
