package httpapi_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"turbofan"
	"turbofan/httpapi"
)

// capture keeps what a handler decoded and answers each reading.
type capture struct{ readings []turbofan.Reading }

func (c *capture) predict(_ context.Context, req turbofan.PredictRequest) ([]turbofan.Prediction, error) {
	c.readings = req.Readings
	out := make([]turbofan.Prediction, len(req.Readings))
	for i := range out {
		out[i] = turbofan.Prediction{UnitID: req.Readings[i].UnitID, Cycle: req.Readings[i].Cycle, ModelName: "rul", ModelVersion: "7", At: memoryStart}
	}
	if req.LastOnly {
		return out[len(out)-1:], nil
	}
	return out, nil
}

// through returns a client whose network is the handler itself.
func through(h http.Handler) *httpapi.PredictionClient {
	return httpapi.NewPredictionClient("http://handler", &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Result(), nil
	})})
}

// FuzzDecodeReading sends any bytes as a request: the handler never panics, answers good or bad, and what it accepts is
// read the same after the client has written it again.
func FuzzDecodeReading(f *testing.F) {
	for _, seed := range []string{
		wrapped(), bare(), `{"readings":[` + bare() + `]}`, `{"history":[` + bare() + `],"unit_id":7}`, `{"reading":` + bare("unit_id", "7", "cycle", "3.1e1") + `,"explain":true}`,
		wrapped("sensors", sensor(3, "null")), wrapped("sensors", sensor(0, "-1.5e-300")), wrapped("unit_id", `"\u00e9\ud83d\ude00\/\""`), `{`, ``, `[[[[`, "\"\\",
	} {
		f.Add("/predict", "application/json", []byte(seed))
	}
	f.Add("/predict_batch", "application/json", []byte(`[`+bare()+`,`+bare("cycle", "32")+`]`))
	f.Add("/predict_batch", "application/x-ndjson", []byte(bare()+"\n"+bare("cycle", "32")))
	f.Add("/predict_batch", "text/csv", []byte(csvTable(csvRow("1", "31"), csvRow(`"a,b"`, "1"))))
	f.Add("/predict_batch", "text/csv", []byte(strings.Replace(csvTable(csvRow("1", "31")), "518.67", "", 1)))
	memory := new(capture)
	h := predictionHandler(f, nil, httpapi.Options{}, memory.predict)
	client := through(h)
	f.Fuzz(func(t *testing.T, path, kind string, text []byte) {
		if path != "/predict" && path != "/predict_batch" {
			return
		}
		r, err := http.NewRequest("POST", "http://handler"+path, strings.NewReader(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", kind)
		w := httptest.NewRecorder()
		memory.readings = nil
		h.ServeHTTP(w, r)
		answer, _ := io.ReadAll(w.Body)
		if w.Code >= 500 {
			t.Fatalf("%d %s", w.Code, answer)
		}
		if w.Code != 200 {
			return
		}
		first := memory.readings
		if _, err := client.Predict(context.Background(), turbofan.PredictRequest{Readings: first}); err != nil {
			t.Fatalf("what was accepted is refused when it is sent again: %v\n%+v", err, first)
		}
		if !same(reflect.ValueOf(first), reflect.ValueOf(memory.readings)) {
			t.Fatalf("read %+v\nthen %+v", first, memory.readings)
		}
	})
}

// FuzzProtocols sends any bytes as a request of the other protocols: the handler never panics and answers good or bad, and
// what it accepts are as many readings as it answers.
func FuzzProtocols(f *testing.F) {
	reading := bare()
	for _, seed := range []string{
		inferenceOf(), inferenceOf("cycle", ""), `{"inputs":[` + tensor("sensors", "FP64", "[1,21]", "[["+sensors+"]]") + `],"outputs":[{"name":"health"}]}`,
		`{"dataframe_records":[` + reading + `]}`, `{"dataframe_split":{"columns":["cycle","sensors"],"data":[[1,` + sensors + `]]}}`,
		`{"inputs":{"unit_id":[1],"cycle":[31],"settings":[` + settings + `],"sensors":` + sensors + `},"params":{"stateless":false}}`, `{"instances":[[NaN]]}`, `[[[`, ``,
	} {
		f.Add([]byte(seed), uint16(0))
		f.Add([]byte(seed+"\x01\x00\x00\x00a"), uint16(len(seed)))
	}
	memory := new(capture)
	h := predictionHandler(f, func(c *httpapi.Config) { c.MaxReadings = 100 }, httpapi.Options{}, memory.predict)
	f.Fuzz(func(t *testing.T, body []byte, head uint16) {
		for _, path := range []string{"/v2/models/rul/infer", "/invocations"} {
			memory.readings = nil
			r := httptest.NewRequest("POST", path, bytes.NewReader(body))
			if head > 0 {
				r.Header.Set("Inference-Header-Content-Length", strconv.Itoa(int(head)))
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code >= 500 || w.Code == 200 && (len(memory.readings) == 0 || len(memory.readings) > 100) {
				t.Fatalf("%s %q: %d %s after %d readings", path, body, w.Code, w.Body, len(memory.readings))
			}
		}
	})
}
