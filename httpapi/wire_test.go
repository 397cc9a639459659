package httpapi_test

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"turbofan"
	"turbofan/httpapi"
)

// TestFormsOfAReading sends one reading in every spelling that is understood.
func TestFormsOfAReading(t *testing.T) {
	values := strings.Split(strings.Trim(sensors, "[]"), ",")
	named, aliased, measured := []string{}, []string{}, []string{}
	for i, v := range values {
		n := string('0' + rune((i+1)%10))
		if i >= 9 {
			n = string('0'+rune((i+1)/10)) + n
		}
		named = append(named, `"sensor_`+n+`":`+v)
		aliased = append(aliased, `"s`+n+`":`+v)
		measured = append(measured, `"sensor_measurement_`+n+`":`+v)
	}
	byName := `{"setting_3":100,"setting_1":-0.0007,"setting_2":0.0003}`
	flat := `"os1":-0.0007,"op_setting_2":0.0003,"setting_3":100`
	memory := new(capture)
	h := predictionHandler(t, nil, httpapi.Options{}, memory.predict)
	var want []turbofan.Reading
	for i, text := range []string{
		wrapped(), bare(), wrapped("unit_id", "1"), bare("unit_id", "1.0"), bare("cycle", "31.0"), bare("cycle", "3.1e1"),
		wrapped("settings", byName), wrapped("sensors", "{"+strings.Join(named, ",")+"}"), bare("sensors", "{"+strings.Join(aliased, ",")+"}"),
		`{"unit_id":1,"cycle":31,` + flat + `,` + strings.Join(named, ",") + `}`,
		`{"reading":{` + strings.Join(measured, ",") + `,"time_in_cycles":31,` + flat + `,"unit_number":"1"}}`,
		`{"cycle":31,"unit":1,"settings":` + settings + `,` + strings.Join(aliased, ",") + `}`,
		" \r\n\t" + strings.ReplaceAll(wrapped(), ",", " ,\n") + "\n", strings.Replace(wrapped(), "cycle", `\u0063ycle`, 1),
		`{"readings":[` + bare() + `]}`, `{"history":[` + bare() + `]}`, `{"unit_id":1,"history":[` + bare("unit_id", "") + `]}`, `{"readings":[` + bare("unit_id", "") + `],"unit_id":"1"}`,
	} {
		memory.readings = nil
		if w := ask(h, "POST", "/predict", text); w.Code != 200 {
			t.Errorf("%s: %d %s", text, w.Code, w.Body)
		}
		if i == 0 {
			want = memory.readings
		}
		if !same(reflect.ValueOf(memory.readings), reflect.ValueOf(want)) {
			t.Errorf("%s:\nread %+v\nwant %+v", text, memory.readings, want)
		}
	}
	if got := want[0]; got.UnitID != "1" || got.Cycle != 31 || got.Settings[2] != 100 || got.Sensors[20] != 23.419 {
		t.Errorf("read %+v", got)
	}
}

// TestAnswerForms says how each form of a request is answered, and what the service was asked.
func TestAnswerForms(t *testing.T) {
	var asked turbofan.PredictRequest
	memory := new(capture)
	h := predictionHandler(t, nil, httpapi.Options{}, func(ctx context.Context, req turbofan.PredictRequest) ([]turbofan.Prediction, error) {
		asked = req
		return memory.predict(ctx, req)
	})
	two := `[` + bare() + `,` + bare("cycle", "32") + `]`
	for _, c := range []struct {
		path, body         string
		cycles             []int // nil for one object
		cycle              int
		stateless, explain bool
	}{
		{"/predict", bare(), nil, 31, false, false},
		{"/predict", `{"explain":false,"reading":` + bare() + `}`, nil, 31, false, false},
		{"/predict?explain=0", bare(), nil, 31, false, false},
		{"/predict?explain=0", `{"explain":true,"reading":` + bare() + `}`, nil, 31, false, true},
		{"/predict", `{"explain":true,"reading":` + bare() + `}`, nil, 31, false, true},
		{"/predict?explain=1", bare(), nil, 31, false, true},
		{"/predict", `{"stateless":true,"reading":` + bare() + `}`, nil, 31, true, false},
		{"/predict", `{"readings":` + two + `}`, []int{31, 32}, 0, false, false},
		{"/predict", `{"readings":` + two + `,"stateless":true,"explain":false}`, []int{31, 32}, 0, true, false},
		{"/predict", `{"history":` + two + `}`, nil, 32, true, false},
		{"/predict_batch", two, []int{31, 32}, 0, false, false},
		{"/predict_batch?stateless=true&explain=1", two, []int{31, 32}, 0, true, true},
		{"/predict_batch", `{"explain":true,"readings":` + two + `}`, []int{31, 32}, 0, false, true},
	} {
		w := ask(h, "POST", c.path, c.body)
		var got struct {
			Cycle       int
			Predictions []struct{ Cycle int }
		}
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != 200 {
			t.Errorf("%s %s: %d %s", c.path, c.body, w.Code, w.Body)
			continue
		}
		var cycles []int
		for _, p := range got.Predictions {
			cycles = append(cycles, p.Cycle)
		}
		if got.Cycle != c.cycle || !reflect.DeepEqual(cycles, c.cycles) || asked.Stateless != c.stateless || asked.Explain != c.explain ||
			asked.LastOnly != strings.Contains(c.body, `"history"`) {
			t.Errorf("%s %s: answer %s, asked stateless %t explain %t", c.path, c.body, w.Body, asked.Stateless, asked.Explain)
		}
	}
}

// TestExplainByDefault explains single readings, and nothing else, where the request does not say.
func TestExplainByDefault(t *testing.T) {
	var asked turbofan.PredictRequest
	memory := new(capture)
	h := predictionHandler(t, func(c *httpapi.Config) { c.Explain = true }, httpapi.Options{}, func(ctx context.Context, req turbofan.PredictRequest) ([]turbofan.Prediction, error) {
		asked = req
		return memory.predict(ctx, req)
	})
	for _, c := range []struct {
		path, body string
		want       bool
	}{
		{"/predict", bare(), true},
		{"/predict", `{"reading":` + bare() + `}`, true},
		{"/predict?stateless=1", bare(), true},
		{"/predict?explain=0", bare(), false},
		{"/predict", `{"explain":false,"reading":` + bare() + `}`, false},
		{"/predict?explain=0", `{"explain":true,"reading":` + bare() + `}`, true},
		{"/predict", `{"readings":[` + bare() + `]}`, false},
		{"/predict", `{"history":[` + bare() + `]}`, false},
		{"/predict", `{"history":[` + bare() + `],"explain":true}`, true},
		{"/predict_batch", `[` + bare() + `]`, false},
	} {
		if w := ask(h, "POST", c.path, c.body); w.Code != 200 || asked.Explain != c.want {
			t.Errorf("%s %s: %d %s, asked to explain: %t", c.path, c.body, w.Code, w.Body, asked.Explain)
		}
	}
}

// TestBatchFormats crosses every format of a request with every format of an answer, plain and gzipped.
func TestBatchFormats(t *testing.T) {
	bodies := map[string]string{
		"application/json":                `[` + bare() + `,` + bare("unit_id", `"a,\"b\""`, "cycle", "32") + `]`,
		"application/x-ndjson":            bare() + "\n\n" + bare("unit_id", `"a,\"b\""`, "cycle", "32"),
		"text/csv; charset=utf-8":         csvTable(csvRow("1", "31"), csvRow(`"a,""b"""`, "32")),
		"text/csv":                        "\ufeff" + strings.ReplaceAll(csvTable(csvRow("1", "31"), csvRow(`"a,""b"""`, "32")), "\n", "\r\n"),
		"application/jsonl; charset=utf8": bare() + "\r\n" + bare("unit_id", `"a,\"b\""`, "cycle", "32") + "\r\n",
	}
	h := predictionHandler(t, nil, httpapi.Options{}, new(capture).predict)
	for kind, text := range bodies {
		for _, accept := range []string{"", "*/*", "application/json", "application/x-ndjson", "text/html, text/csv;q=0.5"} {
			for _, zip := range []bool{false, true} {
				r := httptest.NewRequest("POST", "/predict_batch", strings.NewReader(text))
				if zip {
					r = httptest.NewRequest("POST", "/predict_batch", strings.NewReader(gzipped(text)))
					r.Header.Set("Content-Encoding", "gzip")
				}
				r.Header.Set("Content-Type", kind)
				if accept != "" {
					r.Header.Set("Accept", accept)
				}
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				got := unitsOf(t, w)
				if w.Code != 200 || strings.Join(got, "|") != `1|a,"b"` {
					t.Errorf("%s to %q (gzip %t): %d %q %s", kind, accept, zip, w.Code, got, w.Body)
				}
				if want := w.Header().Get("Content-Type"); strings.Contains(accept, "json") && want != accept {
					t.Errorf("%s to %q: answered %s", kind, accept, want)
				}
			}
		}
	}
}

// unitsOf reads the units of a batch's answer in whatever format it came.
func unitsOf(t *testing.T, w *httptest.ResponseRecorder) (units []string) {
	t.Helper()
	kind, _, _ := strings.Cut(w.Header().Get("Content-Type"), ";")
	if kind == "text/csv" {
		rows, err := csv.NewReader(w.Body).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rows[1:] {
			units = append(units, row[1])
		}
		return units
	}
	type line struct {
		Unit        string `json:"unit_id"`
		Predictions []struct {
			Unit string `json:"unit_id"`
		}
	}
	d := json.NewDecoder(w.Body)
	for {
		var l line
		if err := d.Decode(&l); err == io.EOF {
			return units
		} else if err != nil {
			t.Fatal(err)
		}
		if kind == "application/x-ndjson" {
			units = append(units, l.Unit)
		}
		for _, p := range l.Predictions {
			units = append(units, p.Unit)
		}
	}
}

// TestTaskRoutes follows tasks of every end through BentoML's routes.
func TestTaskRoutes(t *testing.T) {
	m := new(memoryRetraining)
	h, err := httpapi.RetrainingHandler(httpapi.DefaultConfig(), m, httpapi.Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := func(method, path string, status int, body string) {
		t.Helper()
		if w := ask(h, method, path, ""); w.Code != status || !strings.Contains(w.Body.String(), body) {
			t.Errorf("%s %s: got %d %s, want %d with %s", method, path, w.Code, w.Body, status, body)
		}
	}
	w := ask(h, "POST", "/retrain", `{"reason":"by hand","force":true}`)
	if w.Code != 202 || w.Header().Get("Location") != "/jobs/j-1" || !strings.Contains(w.Body.String(), `"trigger":"manual"`) {
		t.Errorf("retrain: %d %v %s", w.Code, w.Header(), w.Body)
	}
	want("GET", "/retrain/status?task_id=j-1", 200, `{"task_id":"j-1","status":"pending","created_at":"2026-01-31T12:00:00"}`)
	want("GET", "/retrain/get?task_id=j-1", 400, `"task j-1 is not completed yet"`)
	want("POST", "/retrain/retry?task_id=j-1", 400, `"task j-1 is not completed yet"`)
	m.end(turbofan.JobInProgress, "")
	want("GET", "/retrain/status?task_id=j-1", 200, `"status":"in_progress"`)
	m.end(turbofan.JobSuccess, "")
	want("GET", "/retrain/status?task_id=j-1", 200, `{"task_id":"j-1","status":"completed","created_at":"2026-01-31T12:00:00","executed_at":"2026-01-31T12:00:00"}`)
	want("GET", "/retrain/get?task_id=j-1", 200, `"model_version":"8"`)
	want("PUT", "/retrain/cancel?task_id=j-1", 409, `job j-1 has ended`)
	want("POST", "/retrain/retry?task_id=j-1", 200, `{"task_id":"j-2","status":"pending"}`)
	want("PUT", "/retrain/cancel?task_id=j-2", 200, `{"task_id":"j-2","status":"canceled"}`)
	want("GET", "/retrain/get?task_id=j-2", 409, `task j-2 was cancelled`)
	want("POST", "/retrain/submit", 200, `{"task_id":"j-3","status":"pending"}`)
	m.end(turbofan.JobFailure, "the disk is full")
	want("GET", "/retrain/status?task_id=j-3", 200, `"status":"failed"`)
	want("GET", "/retrain/get?task_id=j-3", 500, `{"error":"task j-3 failed: the disk is full","code":"internal"}`)
	want("POST", "/retrain/submit", 200, `j-4`)
	m.end(turbofan.JobRefused, "3 units have a known end; 10 are needed")
	want("GET", "/retrain/get?task_id=j-4", 422, `{"error":"task j-4 was refused: 3 units have a known end; 10 are needed","code":"insufficient"}`)
}

func TestOriginsAndRedirect(t *testing.T) {
	h := predictionHandler(t, func(c *httpapi.Config) { c.TrustedOrigins = []string{"https://console.example.org"} }, httpapi.Options{}, new(capture).predict)
	for origin, status := range map[string]int{"": 200, "http://example.com": 200, "https://console.example.org": 200, "https://evil.example.org": 403, "null": 403} {
		r := httptest.NewRequest("POST", "http://example.com/predict", strings.NewReader(wrapped()))
		if origin != "" {
			r.Header.Set("Origin", origin)
		}
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != status {
			t.Errorf("from %q: %d %s", origin, w.Code, w.Body)
		}
	}
	w := ask(h, "POST", "/predict/", wrapped())
	if w.Code != http.StatusTemporaryRedirect || w.Header().Get("Location") != "/predict" {
		t.Errorf("with a slash: %d %v", w.Code, w.Header())
	}
	if w := ask(h, "POST", "//evil.example.org/predict/", wrapped()); w.Code != 404 {
		t.Errorf("a foreign host in the path: %d %v", w.Code, w.Header())
	}
	if w := ask(h, "HEAD", "/units", ""); w.Code != 200 {
		t.Errorf("HEAD: %d", w.Code)
	}
}

// TestSlowBody holds a sender that never ends to ReadTimeout, and keeps no slot for it meanwhile.
func TestSlowBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := predictionHandler(t, func(c *httpapi.Config) { c.MaxConcurrency, c.MaxQueue = 1, 0 }, httpapi.Options{}, new(capture).predict)
		l := newPipeListener()
		ctx, stop := context.WithCancel(context.Background())
		served := make(chan error, 1)
		go func() { served <- httpapi.Serve(ctx, l, h, httpapi.ServeOptions{ReadTimeout: 9 * time.Second}) }()
		transport := &http.Transport{DialContext: l.dial}
		client := &http.Client{Transport: transport}
		slow := make(chan answer, 1)
		unsent, sender := io.Pipe()
		go func() {
			r, err := http.NewRequest("POST", "http://pipe/predict", unsent)
			if err != nil {
				slow <- answer{err: err}
				return
			}
			resp, err := client.Do(r)
			if err != nil {
				slow <- answer{err: err}
				return
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			slow <- answer{resp.StatusCode, string(b), err}
		}()
		synctest.Wait()
		if a := get(client, "POST", "/predict"); a.status != 200 {
			t.Errorf("beside a slow sender: %+v", a)
		}
		start := time.Now()
		if a := <-slow; a.status != 408 || !strings.Contains(a.body, `{"error":"the request's body did not arrive in time","code":"timeout"}`) {
			t.Errorf("a slow sender got %+v", a)
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("after %s", took)
		}
		sender.Close()
		transport.CloseIdleConnections()
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}
