package httpapi_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"turbofan"
	"turbofan/httpapi"
)

// The parts that requests of the table are made of.
const (
	settings = `[-0.0007,0.0003,100]`
	sensors  = `[518.67,641.82,1589.7,1400.6,14.62,21.61,554.36,2388.06,9046.19,1.3,47.47,521.66,2388.02,8138.62,8.4195,0.03,392,2388,100,39.06,23.419]`
)

// bare returns a reading with its fields replaced: "cycle", "-1" puts that value in.
func bare(replace ...string) string {
	fields := [][2]string{{"unit_id", `"1"`}, {"cycle", "31"}, {"settings", settings}, {"sensors", sensors}}
	var out []string
	for _, f := range fields {
		for i := 0; i < len(replace); i += 2 {
			if replace[i] == f[0] {
				f[1] = replace[i+1]
			}
		}
		if f[1] != "" {
			out = append(out, fmt.Sprintf("%q:%s", f[0], f[1]))
		}
	}
	return "{" + strings.Join(out, ",") + "}"
}

func wrapped(replace ...string) string { return `{"reading":` + bare(replace...) + `}` }

// sensor returns the sensors with the value at i replaced.
func sensor(i int, value string) string {
	values := strings.Split(strings.Trim(sensors, "[]"), ",")
	values[i] = value
	return "[" + strings.Join(values, ",") + "]"
}

func csvTable(rows ...string) string {
	s := turbofan.CMAPSS()
	head := strings.Join(append(append([]string{"unit_id", "cycle"}, s.SettingNames()...), s.SensorNames()...), ",")
	return head + "\n" + strings.Join(rows, "\n") + "\n"
}

func csvRow(unit, cycle string) string {
	return unit + "," + cycle + "," + strings.Trim(settings, "[]") + "," + strings.Trim(sensors, "[]")
}

type badRequest struct {
	role, method, path, body string
	header                   string // "Name: value"
	status                   int
	code, message            string
}

func badPredictions() []badRequest {
	post := func(body, message string) badRequest {
		return badRequest{role: "predict", method: "POST", path: "/predict", body: body, status: 400, code: "invalid", message: message}
	}
	deep := strings.Repeat("[", 100)
	return []badRequest{
		post(``, `body: is empty; send {"reading": {...}}`),
		post(`  `, `body: is empty; send {"reading": {...}}`),
		post(`{}`, `reading: is missing; send {"reading": {"unit_id": ..., "cycle": ..., "settings": [...], "sensors": [...]}}`),
		post(`null`, `body: must be an object such as {"reading": {...}}, not null`),
		post(`nonsense`, `body: is not valid JSON at line 1 column 1: expected a value, found 'n'`),
		post(`[`+bare()+`]`, `body: must be an object such as {"reading": {...}}, not an array`),
		post(`"reading"`, `body: must be an object such as {"reading": {...}}, not a string`),
		post(`{"reading"}`, `body: is not valid JSON at line 1 column 11: expected ':', found '}'`),
		post("{\n  reading: 1}", `body: is not valid JSON at line 2 column 3: expected a key in double quotes, found 'r'`),
		post(`{"reading": {}`, `reading.cycle: is missing`),
		post(wrapped()[:40], `body: is not valid JSON at line 1 column 41: a string does not end`),
		post(wrapped()+`}`, `body: is not valid JSON at line 1 column 217: expected the end, found '}'`),
		post(wrapped()+wrapped(), `body: is not valid JSON at line 1 column 217: expected the end, found '{'`),
		post(`{"reading":`+deep+`}`, `reading: must be an object, not an array`),
		post(`{"explain":`+bare()+`}`, `explain: must be true or false, not an object`),
		post(`{"reading":`+bare()+`,"explain":"yes"}`, `explain: must be true or false, not a string`),
		post(`{"explain":true,"explain":true,"reading":`+bare()+`}`, `explain: is given more than once`),
		post(`{"reading":`+bare()+`,"reading":`+bare()+`}`, `reading: is given more than once`),
		post(`{"reading":`+bare()+`,"readings":[`+bare()+`]}`, `readings: is given beside reading; send one of them`),
		post(`{"reading":`+bare()+`,"cycle":31}`, `body: has fields of a reading beside reading; put them inside`),
		post(`{"reeding":`+bare()+`}`, `reeding: is not a field of a request for predictions; did you mean reading?`),
		post(`{"reading":`+bare()+`,"threshold":0.5}`, `threshold: is not a field of a request for predictions`),
		post(`{"readings":`+bare()+`}`, `readings: must be an array of readings, not an object`),
		post(`{"readings":[]}`, `readings: must hold at least one reading`),
		post(`{"readings":[`+bare()+`,]}`, `body: is not valid JSON at line 1 column 219: expected a value, found ']'`),
		post(`{"readings":[`+bare()+`,`+bare("cycle", "0")+`]}`, `readings[1].cycle: must be a whole number from 1 to 10000000, not 0`),
		post(`{"readings":[`+bare("unit_id", "")+`]}`, `readings[0].unit_id: is missing`),
		post(`{"history":[`+bare()+`,`+bare("unit_id", `"2"`, "cycle", "32")+`]}`, `history[1].unit_id: must be "1" as in history[0]: a history is of one unit`),
		post(`{"history":[]}`, `history: must hold at least one reading`),
		post(wrapped("unit_id", ""), `reading.unit_id: is missing`),
		post(wrapped("unit_id", `""`), `reading.unit_id: is missing`),
		post(wrapped("unit_id", `true`), `reading.unit_id: must be a string or a whole number, not a boolean`),
		post(wrapped("unit_id", `1.5`), `reading.unit_id: must be a string or a whole number, not 1.5`),
		post(wrapped("unit_id", `"a\u0007"`), `reading.unit_id: has the character U+0007, which controls how text is shown and is not seen itself`),
		post(wrapped("unit_id", `"a\u202eb"`), `reading.unit_id: has the character U+202E, which controls how text is shown and is not seen itself`),
		post(wrapped("unit_id", `"a\u200bb"`), `reading.unit_id: has the character U+200B, which controls how text is shown and is not seen itself`),
		post(wrapped("unit_id", `"\ud800"`), `body: is not valid JSON at line 1 column 30: a string has a bad escape`),
		post(wrapped("unit_id", "\"\xff\""), `body: is not valid JSON at line 1 column 24: a string is not UTF-8`),
		post(wrapped("unit_id", `"`+strings.Repeat("x", 129)+`"`), `reading.unit_id: has 129 bytes, more than the 128 allowed`),
		post(wrapped("cycle", ""), `reading.cycle: is missing`),
		post(wrapped("cycle", "null"), `reading.cycle: must be a whole number from 1 to 10000000, not null`),
		post(wrapped("cycle", `"31"`), `reading.cycle: must be a whole number from 1 to 10000000, not a string`),
		post(wrapped("cycle", "31.5"), `reading.cycle: must be a whole number from 1 to 10000000, not 31.5`),
		post(wrapped("cycle", "-1"), `reading.cycle: must be a whole number from 1 to 10000000, not -1`),
		post(wrapped("cycle", "10000001"), `reading.cycle: must be a whole number from 1 to 10000000, not 10000001`),
		post(wrapped("cycle", "1e300"), `reading.cycle: must be a whole number from 1 to 10000000, not 1e300`),
		post(wrapped("cycle", "031"), `body: is not valid JSON at line 1 column 35: expected a number, found '0'`),
		post(`{"reading":{"unit_id":1,"cycle":1,"time_cycles":1}}`, `reading.cycle: is given more than once`),
		post(wrapped("settings", ""), `reading.settings: is missing; it must have 3 values, one a setting of cmapss`),
		post(wrapped("settings", "[1,2]"), `reading.settings: must have 3 values, one a setting of cmapss; it has 2`),
		post(wrapped("settings", "[1,2,null]"), `reading.settings[2]: setting_3 must be a finite number`),
		post(wrapped("settings", "100"), `reading.settings: must be an array of numbers, or an object of numbers by name, not a number`),
		post(wrapped("sensors", ""), `reading.sensors: is missing; it must have 21 values, one a sensor of cmapss`),
		post(wrapped("sensors", "[1]"), `reading.sensors: must have 21 values, one a sensor of cmapss; it has 1`),
		post(wrapped("sensors", sensors[:len(sensors)-1]+`,1,"x"]`), `reading.sensors: must have 21 values, one a sensor of cmapss; it has 23`),
		post(wrapped("sensors", sensor(3, `"NaN"`)), `reading.sensors[3]: sensor_4 must be a finite number, or null where it is missing`),
		post(wrapped("sensors", sensor(3, `true`)), `reading.sensors[3]: sensor_4 must be a finite number, or null where it is missing`),
		post(wrapped("sensors", sensor(0, `-1e101`)), `reading.sensors[0]: sensor_1 is -1e+101, beyond ±1e+100: send null where a value is missing`),
		post(wrapped("settings", "[1,1e101,3]"), `reading.settings[1]: setting_2 is 1e+101, beyond ±1e+100`),
		post(wrapped("sensors", sensor(0, `1e999`)), `reading.sensors[0]: sensor_1 must be a finite number, or null where it is missing`),
		post(wrapped("sensors", sensor(0, `NaN`)), `body: is not valid JSON at line 1 column 81: NaN is not a JSON value; write null where a value is missing`),
		post(wrapped("sensors", sensor(0, `.5`)), `body: is not valid JSON at line 1 column 81: expected a number, found '.'`),
		post(wrapped("sensors", `{"sensor_1":1}`), `reading.sensors: sensor_2 is missing; send null where it has no value`),
		post(wrapped("sensors", `{"sensor_1":1,"s1":2}`), `reading.sensor_1: is given more than once`),
		post(wrapped("sensors", `{"sensr_1":1}`), `reading.sensors.sensr_1: is not one of the sensors of cmapss; did you mean sensor_1?`),
		post(wrapped("sensors", `{"setting_1":1}`), `reading.sensors.setting_1: is not one of the sensors of cmapss`),
		post(wrapped("settings", `{"setting_1":1,"setting_2":null}`), `reading.setting_2: setting_2 must be a finite number`),
		post(`{"unit_id":1,"cycle":31,"setting_1":1,"setting_2":2,"setting_3":3}`, `reading.sensors: is missing; it must have 21 values, one a sensor of cmapss`),
		post(`{"unit_id":1,"cycle":31,"setting_1":1,"sensors":`+sensors+`}`, `reading.settings: setting_2 is missing; every setting must be given`),
		post(`{"unit_id":1,"cycle":31,"settings":`+settings+`,"setting_1":1}`, `reading.setting_1: is given more than once: settings holds it already`),
		post(`{"unit_id":1,"cycle":31,"sensor_99":1}`, `sensor_99: is not a field of a request for predictions; did you mean sensor_9?`),
		post(`{"reading":{"unit_id":1,"cylce":31}}`, `reading.cylce: is not a field of a reading; did you mean cycle?`),
		post(`{"reading":{"\u0000":1}}`, `reading."\x00": is not a field of a reading`),
	}
}

// badCalls are requests of the prediction role of which more than the body is wrong.
func badCalls() []badRequest {
	return []badRequest{
		{"predict", "POST", "/predict", wrapped("unit_id", `"used"`, "cycle", "1"), "", 409, "conflict", `reading.cycle: 1 is not after 5, which unit "used" already sent`},
		{"predict", "POST", "/predict", `{"readings":[` + strings.Repeat(bare()+",", 50) + bare() + `]}`, "", 413, "too_large", `readings: has more than the 50 readings allowed in one request`},
		{"predict", "POST", "/predict", strings.Repeat(" ", 65537), "", 413, "too_large", `body: is larger than the 64 KiB allowed`},
		{"predict", "POST", "/predict", "<reading/>", "Content-Type: text/xml", 415, "invalid", `Content-Type: "text/xml" is not supported; use application/json`},
		{"predict", "POST", "/predict", "reading=1", "Content-Type: application/x-www-form-urlencoded", 415, "invalid", `Content-Type: "application/x-www-form-urlencoded" is not supported; use application/json`},
		{"predict", "POST", "/predict", wrapped(), "Content-Encoding: br", 415, "invalid", `Content-Encoding: "br" is not supported; use gzip or none`},
		{"predict", "POST", "/predict", wrapped(), "Content-Encoding: gzip", 400, "invalid", `body: is not gzip, though Content-Encoding says so`},
		{"predict", "POST", "/predict", gzipped(strings.Repeat(" ", 1<<20)), "Content-Encoding: gzip", 413, "too_large", `body: is larger than the 64 KiB allowed`},
		{"predict", "POST", "/predict", wrapped(), "Sec-Fetch-Site: cross-site", 403, "unauthorized", `a page of another web origin may not send this request`},
		{"predict", "POST", "/predict?explain=1&debug=1", wrapped(), "", 400, "invalid", `debug: is not a field of the query`},
		{"predict", "GET", "/predict", "", "", 405, "invalid", `method: GET is not allowed here; use POST`},
		{"predict", "DELETE", "/units/1", "", "", 405, "invalid", `method: DELETE is not allowed here; use GET, HEAD`},
		{"predict", "POST", "/predct", wrapped(), "", 404, "not_found", `there is no "/predct" here; did you mean /predict?`},
		{"predict", "GET", "/../etc/passwd", "", "", 404, "not_found", `there is no such path here; GET /docs.json lists what there is`},
		{"predict", "GET", "/units?limit=0", "", "", 400, "invalid", `limit: must be a whole number from 1 to 10000, not "0"`},
		{"predict", "GET", "/units?limit=ten", "", "", 400, "invalid", `limit: must be a whole number from 1 to 10000, not "ten"`},
		{"predict", "GET", "/units?limit=1&limit=2", "", "", 400, "invalid", `limit: is given more than once`},
		{"predict", "GET", "/units?ofset=1", "", "", 400, "invalid", `ofset: is not a field of the query; did you mean offset?`},
		{"predict", "GET", "/units?offset=-1", "", "", 400, "invalid", `offset: must be a whole number from 0 to 1000000000, not "-1"`},
		{"predict", "GET", "/units?%zz", "", "", 400, "invalid", `query: cannot be read: invalid URL escape "%zz"`},
		{"predict", "GET", "/units/nobody", "", "", 404, "not_found", `unit "nobody" has sent no reading`},
		{"predict", "GET", "/predictions/p-0", "", "", 404, "not_found", `there is no prediction "p-0"`},
	}
}

func badBatches() []badRequest {
	post := func(kind, body, message string) badRequest {
		return badRequest{"predict", "POST", "/predict_batch", body, "Content-Type: " + kind, 400, "invalid", message}
	}
	return []badRequest{
		post("application/json", ``, `body: is empty; send [{...}, ...] or {"readings": [...]}`),
		post("application/json", `[]`, `readings: must hold at least one reading`),
		post("application/json", `{}`, `readings: is missing`),
		post("application/json", `7`, `body: must be an array of readings, or an object such as {"readings": [...]}, not a number`),
		post("application/json", `{"rows":[]}`, `rows: is not a field of a batch`),
		post("application/json", `[`+bare()+`,7]`, `readings[1]: must be an object, not a number`),
		post("application/json", `[`+bare("cycle", "2")+`,`+bare("cycle", "2")+`]`, ``), // conflict, filled in below
		post("application/x-ndjson", bare()+"\n"+bare("sensors", "[1]")+"\n", `readings[1].sensors: must have 21 values, one a sensor of cmapss; it has 1`),
		post("application/x-ndjson", bare()+"\n{\n", `body: is not valid JSON at line 3 column 1: expected a key in double quotes, found the end`),
		post("application/x-ndjson", "\n\n", `readings: must hold at least one reading`),
		post("text/csv", ``, `body: is empty; send CSV with a header`),
		post("text/csv", csvTable(), `readings: must hold at least one reading`),
		post("text/csv", "unit_id,cycle\n1,1\n", `line 1: the column setting_1 is missing`),
		post("text/csv", "unit_id,cycle,unit\n", `line 1: column unit: is given more than once`),
		post("text/csv", "unit_id,cycle,sensor_22\n", `line 1: column sensor_22: is not a field of a reading; did you mean sensor_2?`),
		post("text/csv", csvTable(csvRow("1", "31"), "1,32"), `body: is not valid CSV at line 3 column 1: wrong number of fields`),
		post("text/csv", csvTable(csvRow("1", "x")), `line 2.cycle: must be a whole number from 1 to 10000000, not "x"`),
		post("text/csv", csvTable(csvRow("", "31")), `line 2.unit_id: is missing`),
		post("text/csv", strings.Replace(csvTable(csvRow("1", "31")), "518.67", "hot", 1), `line 2.sensor_1: sensor_1 must be a finite number, or empty where it is missing; it is "hot"`),
		post("text/csv", strings.Replace(csvTable(csvRow("1", "31")), "0.0003", "", 1), `line 2.setting_2: setting_2 must be a finite number; it is ""`),
		{"predict", "POST", "/predict_batch", csvTable(csvRow("csv", "2"), csvRow("csv", "1")), "Content-Type: text/csv", 409, "conflict", `line 3.cycle: 1 is not after 2, which unit "csv" already sent`},
		{"predict", "POST", "/predict_batch", csvTable(strings.Split(strings.Repeat(csvRow("1", "1")+"\n", 51), "\n")...), "Content-Type: text/csv", 413, "too_large", `body: has more than the 50 readings allowed in one request`},
		{"predict", "POST", "/predict_batch", "PAR1", "Content-Type: application/vnd.apache.parquet", 400, "invalid", `body: is not Parquet that can be read: it does not begin with PAR1`},
		{"predict", "POST", "/predict_batch", "", "Content-Type: application/vnd.apache.parquet", 400, "invalid", `body: is empty; send a Parquet file`},
		{"predict", "POST", "/predict_batch", "", "Content-Type: image/png", 415, "invalid", `Content-Type: "image/png" is not supported; use application/json, application/x-ndjson, text/csv or application/vnd.apache.parquet`},
		{"predict", "POST", "/predict_batch", `[` + bare() + `]`, "Accept: image/png", 406, "invalid", `Accept: "image/png" cannot be answered; ask for application/json, application/x-ndjson or text/csv`},
		{"predict", "POST", "/predict_batch?explain=true", csvTable(csvRow("1", "31")), "Content-Type: text/csv", 400, "invalid", `explain: reasons have no place in CSV; ask for another format by the header Accept: application/x-ndjson`},
		{"predict", "POST", "/predict_batch?explain=maybe", `[]`, "", 400, "invalid", `explain: must be true or false, not "maybe"`},
	}
}

func badOthers() []badRequest {
	feedback := func(body, message string) badRequest {
		return badRequest{"feedback", "POST", "/feedback", body, "", 400, "invalid", message}
	}
	retrain := func(body, message string) badRequest {
		return badRequest{"retrain", "POST", "/retrain", body, "", 400, "invalid", message}
	}
	return []badRequest{
		feedback(``, `body: is empty; send {"unit_id": ..., "failed_at_cycle": ...}`),
		feedback(`{}`, `outcome: is missing; send {"unit_id": ..., "failed_at_cycle": ...} or {"prediction_id": ..., "actual_rul": ...}`),
		feedback(`[]`, `body: must be an object such as {"unit_id": ..., "failed_at_cycle": ...}, not an array`),
		feedback(`{"outcome":[]}`, `outcome: must be an object, not an array`),
		feedback(`{"outcomes":{}}`, `outcomes: must be an array of outcomes, not an object`),
		feedback(`{"outcomes":[]}`, `outcomes: must hold at least one outcome`),
		feedback(`{"outcomes":[{"unit_id":1,"actual_rul":3,"cycle":2},{"unit_id":1,"actual_rul":"3"}]}`, `outcomes[1].actual_rul: must be a finite number, not a string`),
		feedback(`{"outcomes":[{"unit_id":1}],"unit_id":1}`, `body: has more than one of outcome, outcomes and the fields of an outcome; send one of them`),
		feedback(`{"unit_id":1,"predicted_rul":112,"actual_rul":100}`, `predicted_rul: is not a field of an outcome: what was predicted is looked up by prediction_id, or by unit_id and cycle`),
		feedback(`{"outcome":{"unit_id":1,"prediction":112}}`, `outcome.prediction: is not a field of an outcome: what was predicted is looked up by prediction_id, or by unit_id and cycle`),
		feedback(`{"unit_id":1,"actual_RUL":100}`, `actual_RUL: is not a field of an outcome; did you mean actual_rul?`),
		feedback(`{"unit_id":1,"unit_id":2}`, `unit_id: is given more than once`),
		feedback(`{"unit_id":1,"unit":2}`, `outcome.unit_id: is given more than once`),
		feedback(`{"unit_id":1,"failed_at_cycle":192.5}`, `outcome.failed_at_cycle: must be a whole number, not 192.5`),
		feedback(`{"unit_id":1,"failed_at_cycle":"192"}`, `outcome.failed_at_cycle: must be a whole number, not a string`),
		feedback(`{"unit_id":1,"actual_rul":1e999}`, `outcome.actual_rul: must be a finite number, not 1e999`),
		feedback(`{"unit_id":1,"cycle":0,"actual_rul":1}`, `outcome.cycle: must be a whole number from 1 to 10000000, not 0`),
		feedback(`{"unit_id":1,"actual_rul":-1}`, `outcome.actual_rul: must be at least 0, not -1`),
		feedback(`{"outcomes":[{"unit_id":1,"actual_rul":-1}]}`, `outcomes[0].actual_rul: must be at least 0, not -1`),
		feedback(`{"unit_id":1,"actual_rul":1,"failed_at_cycle":2}`, `outcome.actual_rul: is given beside failed_at_cycle; send one of them`),
		feedback(`{"actual_rul":1}`, `outcome.unit_id: is missing`),
		feedback(`{"unit_id":1,"note":7}`, `outcome.note: must be a string, not a number`),
		feedback(`{"unit_id":1,"received_at":"yesterday"}`, `outcome.received_at: must be a time such as "2026-01-31T12:00:00Z", not "yesterday"`),
		{"feedback", "GET", "/feedback?since=yesterday", "", "", 400, "invalid", `since: must be a time such as 2026-01-31T12:00:00Z, not "yesterday"`},
		{"feedback", "GET", "/performance?last=-1", "", "", 400, "invalid", `last: must be a whole number from 0 to 1000000, not "-1"`},
		{"feedback", "PUT", "/feedback", "", "", 405, "invalid", `method: PUT is not allowed here; use POST, GET, HEAD`},
		{"drift", "POST", "/check", `{"window":100}`, "", 400, "invalid", `window: is not a field of this request, which has none`},
		{"drift", "POST", "/check", `[]`, "", 400, "invalid", `body: must be an object such as {}, not an array`},
		{"drift", "GET", "/check", "", "", 405, "invalid", `method: GET is not allowed here; use POST`},
		{"drift", "GET", "/reports?limit=1e3", "", "", 400, "invalid", `limit: must be a whole number from 1 to 10000, not "1e3"`},
		retrain(`{"reason":7}`, `reason: must be a string, not a number`),
		retrain(`{"reason":"`+strings.Repeat("x", 1001)+`"}`, `reason: has 1001 bytes, more than the 1000 allowed`),
		retrain(`{"force":"yes"}`, `force: must be true or false, not a string`),
		retrain(`{"trigger":"mood"}`, `trigger: must be drift, schedule, manual or bootstrap, not "mood"`),
		retrain(`{"dataset":"FD001"}`, `dataset: is not a field of a request to retrain`),
		retrain(`{"reason":"a"`, `body: is not valid JSON at line 1 column 14: expected ',' or '}', found the end`),
		{"retrain", "POST", "/retrain", `{"reason":"nothing to learn from"}`, "", 422, "insufficient", `3 units have a known end; 10 are needed`},
		{"retrain", "GET", "/retrain/status", "", "", 400, "invalid", `task_id is required`},
		{"retrain", "GET", "/retrain/status?task_id=x", "", "", 404, "not_found", `task_id not found`},
		{"retrain", "GET", "/retrain/get?task_id=x", "", "", 404, "not_found", `task_id not found`},
		{"retrain", "PUT", "/retrain/cancel?task_id=x", "", "", 404, "not_found", `task_id not found`},
		{"retrain", "POST", "/retrain/cancel?task_id=x", "", "", 405, "invalid", `method: POST is not allowed here; use PUT`},
		{"retrain", "GET", "/jobs/x", "", "", 404, "not_found", `there is no job "x"`},
		{"retrain", "POST", "/jobs/x/cancel", "", "", 404, "not_found", `there is no job "x"`},
		{"retrain", "GET", "/jobs/x/log", "", "", 404, "not_found", `there is no such path here; GET /docs.json lists what there is`},
	}
}

func gzipped(text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	io.WriteString(z, text)
	z.Close()
	return b.String()
}

// platform serves all four roles with small limits and returns their URLs.
func platform(t testing.TB) map[string]string {
	t.Helper()
	cfg := httpapi.DefaultConfig()
	cfg.MaxBodyBytes, cfg.MaxReadings = 64<<10, 50
	predictions := newMemoryPredictions()
	if _, err := predictions.Predict(t.Context(), turbofan.PredictRequest{Readings: []turbofan.Reading{reading("used", 5)}}); err != nil {
		t.Fatal(err)
	}
	urls := make(map[string]string)
	h, err := httpapi.PredictionHandler(cfg, predictions, httpapi.Options{})
	urls["predict"] = serve(t, h, err)
	h, err = httpapi.FeedbackHandler(cfg, new(memoryFeedback), httpapi.Options{})
	urls["feedback"] = serve(t, h, err)
	h, err = httpapi.DriftHandler(cfg, new(memoryDrift), httpapi.Options{})
	urls["drift"] = serve(t, h, err)
	h, err = httpapi.RetrainingHandler(cfg, new(memoryRetraining), httpapi.Options{})
	urls["retrain"] = serve(t, h, err)
	return urls
}

// send makes one request and returns its answer with the body read.
func send(t testing.TB, method, url, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

func TestBadRequests(t *testing.T) {
	urls := platform(t)
	good := map[string]func(i int) (method, path, body string){
		"predict": func(i int) (string, string, string) {
			return "POST", "/predict", wrapped("unit_id", fmt.Sprint(1000+i))
		},
		"feedback": func(int) (string, string, string) { return "POST", "/feedback", `{"unit_id":7,"failed_at_cycle":192}` },
		"drift":    func(int) (string, string, string) { return "POST", "/check", "" },
		"retrain":  func(int) (string, string, string) { return "GET", "/jobs", "" },
	}
	table := slices.Concat(badPredictions(), badCalls(), badBatches(), badOthers())
	if len(table) < 60 {
		t.Fatalf("the table has %d requests", len(table))
	}
	for i, c := range table {
		if c.message == "" {
			c.status, c.code, c.message = 409, "conflict", `readings[1].cycle: 2 is not after 2, which unit "1" already sent`
		}
		name := fmt.Sprintf("%s %s %.60s", c.method, c.path, c.body)
		var headers []string
		if c.header != "" {
			headers = append(headers, c.header)
		}
		resp, body := send(t, c.method, urls[c.role]+c.path, c.body, headers...)
		var e struct {
			Error, Code, Field string
		}
		d := json.NewDecoder(strings.NewReader(body))
		d.DisallowUnknownFields()
		if err := d.Decode(&e); err != nil {
			t.Errorf("%s: status %d, body is no error object: %q", name, resp.StatusCode, body)
			continue
		}
		if resp.StatusCode != c.status || e.Code != c.code || e.Error != c.message {
			t.Errorf("%s:\n got %d %s %s\nwant %d %s %s", name, resp.StatusCode, e.Code, e.Error, c.status, c.code, c.message)
		}
		if e.Field != "" && !strings.HasPrefix(e.Error, e.Field+": ") {
			t.Errorf("%s: error %q does not begin with its field %q", name, e.Error, e.Field)
		}
		if kind, id := resp.Header.Get("Content-Type"), resp.Header.Get("X-Bentoml-Request-Id"); kind != "application/json" || id == "" {
			t.Errorf("%s: Content-Type %q, request id %q", name, kind, id)
		}
		if resp.StatusCode == 405 && resp.Header.Get("Allow") == "" {
			t.Errorf("%s: no Allow", name)
		}
		method, path, request := good[c.role](i)
		if resp, body := send(t, method, urls[c.role]+path, request); resp.StatusCode != 200 {
			t.Errorf("after %s: a good request got %d %s", name, resp.StatusCode, body)
		}
	}
}
