package httpapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"turbofan"
	"turbofan/httpapi"
)

// roles returns a handler of each role.
func roles(t testing.TB) map[string]http.Handler {
	t.Helper()
	out := make(map[string]http.Handler)
	keep := func(role string, h http.Handler, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		out[role] = h
	}
	cfg := httpapi.DefaultConfig()
	h, err := httpapi.PredictionHandler(cfg, newMemoryPredictions(), httpapi.Options{Releases: newMemoryReleases()})
	keep("predict", h, err)
	h, err = httpapi.FeedbackHandler(cfg, new(memoryFeedback), httpapi.Options{})
	keep("feedback", h, err)
	h, err = httpapi.DriftHandler(cfg, new(memoryDrift), httpapi.Options{})
	keep("drift", h, err)
	h, err = httpapi.RetrainingHandler(cfg, new(memoryRetraining), httpapi.Options{})
	keep("retrain", h, err)
	return out
}

// Where keys are asked for, the document tells how one is sent, and which operations need none.
func TestSecurityInDocs(t *testing.T) {
	for _, keys := range []bool{false, true} {
		h, err := httpapi.PredictionHandler(httpapi.DefaultConfig(), newMemoryPredictions(), httpapi.Options{Keys: keys})
		if err != nil {
			t.Fatal(err)
		}
		var doc struct {
			Security   []map[string][]string
			Components struct {
				SecuritySchemes map[string]struct{ Type, Scheme, Name string }
			}
			Paths map[string]map[string]struct{ Security *[]any }
		}
		if err := json.Unmarshal(ask(h, "GET", "/docs.json", "").Body.Bytes(), &doc); err != nil {
			t.Fatal(err)
		}
		schemes := doc.Components.SecuritySchemes
		if got := len(doc.Security) == 3 && schemes["bearer"].Scheme == "bearer" && schemes["header"].Name == "X-Api-Key" && schemes["basic"].Type == "http"; got != keys {
			t.Errorf("keys %v: %v %v", keys, doc.Security, schemes)
		}
		for path, open := range map[string]bool{"/predict": false, "/units": false, "/v2/models/{model_name}": false, "/readyz": true, "/v2/health/live": true, "/ping": true} {
			for method, op := range doc.Paths[path] {
				if got := op.Security != nil && len(*op.Security) == 0; got != (open && keys) {
					t.Errorf("keys %v: %s %s is open: %v", keys, method, path, got)
				}
			}
			if doc.Paths[path] == nil {
				t.Errorf("%s is not in the document", path)
			}
		}
	}
}

// TestBentoMLClient runs BentoML's Python clients against all roles. TURBOFAN_PYTHON names the interpreter that has
// bentoml; without one that has it the test is skipped.
func TestBentoMLClient(t *testing.T) {
	python := os.Getenv("TURBOFAN_PYTHON")
	if python == "" {
		python = "python3"
	}
	if err := exec.Command(python, "-c", "import bentoml").Run(); err != nil {
		t.Skipf("TestBentoMLClient needs %s with bentoml installed (pip install bentoml): %v", python, err)
	}
	handlers := roles(t)
	args := []string{"testdata/bentoml_client.py"}
	for _, role := range []string{"predict", "feedback", "drift", "retrain"} {
		args = append(args, serve(t, handlers[role], nil))
	}
	out, err := exec.Command(python, args...).CombinedOutput()
	if err != nil || !strings.HasSuffix(strings.TrimSpace(string(out)), "\nok") {
		t.Errorf("%v\n%s", err, out)
	}
}

type bentoRoute struct {
	Name, Route   string
	Input, Output map[string]any
	IsTask        bool `json:"is_task"`
}

// TestSchemaJSON holds /schema.json to what BentoML's clients trip over.
func TestSchemaJSON(t *testing.T) {
	want := map[string]string{
		"predict": "predict:/predict predict_batch:/predict_batch", "feedback": "feedback:/feedback", "drift": "check:/check", "retrain": "retrain:/retrain",
	}
	for role, h := range roles(t) {
		w := ask(h, "GET", "/schema.json", "")
		var doc struct {
			Name, Type, Description string
			Routes                  []bentoRoute
			Paths                   map[string]map[string]bool
		}
		if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
			t.Fatalf("%s: %v", role, err)
		}
		var names []string
		for _, r := range doc.Routes {
			names = append(names, r.Name+":"+r.Route)
			if _, ok := r.Input["properties"].(map[string]any); !ok {
				t.Errorf("%s: input of %s has no properties", role, r.Name)
			}
			if mounted, ok := doc.Paths[r.Route]["mounted"]; !ok || mounted {
				t.Errorf("%s: paths lack %s", role, r.Route)
			}
			if r.IsTask != (r.Name == "retrain") {
				t.Errorf("%s: is_task of %s is %t", role, r.Name, r.IsTask)
			}
			arraysHaveItems(t, role+"."+r.Name, r.Input)
			arraysHaveItems(t, role+"."+r.Name, r.Output)
		}
		if got := strings.Join(names, " "); got != want[role] || doc.Name != role || doc.Type != "service" || doc.Description == "" {
			t.Errorf("%s: %s %s offers %s", role, doc.Type, doc.Name, got)
		}
	}
}

func arraysHaveItems(t *testing.T, at string, v any) {
	t.Helper()
	switch v := v.(type) {
	case map[string]any:
		if v["type"] == "array" && v["items"] == nil {
			t.Errorf("%s: an array without items", at)
		}
		for k, inner := range v {
			arraysHaveItems(t, at+"."+k, inner)
		}
	case []any:
		for _, inner := range v {
			arraysHaveItems(t, at, inner)
		}
	}
}

// TestDocsJSON walks the OpenAPI document of each role: every reference leads somewhere, ids are unique, every example
// of a request is accepted, and the answer has only fields that its schema lists.
func TestDocsJSON(t *testing.T) {
	for role, h := range roles(t) {
		var doc map[string]any
		if err := json.Unmarshal(ask(h, "GET", "/docs.json", "").Body.Bytes(), &doc); err != nil {
			t.Fatalf("%s: %v", role, err)
		}
		if doc["openapi"] != "3.0.2" {
			t.Errorf("%s: openapi is %v", role, doc["openapi"])
		}
		schemas := doc["components"].(map[string]any)["schemas"].(map[string]any)
		references(t, role, doc, schemas)
		ids := make(map[string]bool)
		for path, methods := range doc["paths"].(map[string]any) {
			for method, v := range methods.(map[string]any) {
				op := v.(map[string]any)
				id := op["operationId"].(string)
				if ids[id] {
					t.Errorf("%s: operation %s is there twice", role, id)
				}
				ids[id] = true
				tryExamples(t, roles(t)[role], strings.ToUpper(method), path, op, schemas)
			}
		}
		for _, infra := range []string{"/livez", "/healthz", "/readyz", "/metrics", "/schema.json", "/docs.json"} {
			if doc["paths"].(map[string]any)[infra] == nil {
				t.Errorf("%s: docs lack %s", role, infra)
			}
		}
	}
}

func references(t *testing.T, at string, v any, schemas map[string]any) {
	t.Helper()
	switch v := v.(type) {
	case map[string]any:
		if ref, ok := v["$ref"].(string); ok && schemas[strings.TrimPrefix(ref, "#/components/schemas/")] == nil {
			t.Errorf("%s: %s leads nowhere", at, ref)
		}
		for _, inner := range v {
			references(t, at, inner, schemas)
		}
	case []any:
		for _, inner := range v {
			references(t, at, inner, schemas)
		}
	}
}

func tryExamples(t *testing.T, h http.Handler, method, path string, op, schemas map[string]any) {
	t.Helper()
	input, ok := op["requestBody"].(map[string]any)
	if !ok {
		return
	}
	for mime, media := range input["content"].(map[string]any) {
		examples, _ := media.(map[string]any)["examples"].(map[string]any) // Parquet has none
		for name, e := range examples {
			value := e.(map[string]any)["value"]
			text, isText := value.(string)
			if !isText {
				b, err := json.Marshal(value)
				if err != nil {
					t.Fatal(err)
				}
				text = string(b)
			}
			// Examples speak of one unit: a clean role for each.
			fresh := roles(t)[strings.Split(op["operationId"].(string), "__")[0]]
			r := httptest.NewRequest(method, strings.NewReplacer("{model_name}", "rul", "{model_version}", "7").Replace(path), strings.NewReader(text))
			r.Header.Set("Content-Type", mime)
			w := httptest.NewRecorder()
			fresh.ServeHTTP(w, r)
			good, ok := op["responses"].(map[string]any)[fmt.Sprint(w.Code)]
			if !ok || w.Code >= 300 {
				t.Errorf("%s %s: example %q (%s) got %d %s", method, path, name, mime, w.Code, w.Body)
				continue
			}
			if mime != "application/json" {
				continue
			}
			var answer any
			if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
				t.Fatal(err)
			}
			schema := good.(map[string]any)["content"].(map[string]any)["application/json"].(map[string]any)["schema"]
			if err := conforms(answer, schema.(map[string]any), schemas); err != nil {
				t.Errorf("%s %s: the answer to example %q: %v", method, path, name, err)
			}
		}
	}
}

// conforms holds a JSON value to as much of OpenAPI's schemas as the documents use. An object may have no field that its
// schema does not list.
func conforms(v any, schema, schemas map[string]any) error {
	if len(schema) == 0 {
		return nil // anything
	}
	if ref, ok := schema["$ref"].(string); ok {
		return conforms(v, schemas[strings.TrimPrefix(ref, "#/components/schemas/")].(map[string]any), schemas)
	}
	for _, word := range []string{"anyOf", "allOf"} {
		if forms, ok := schema[word].([]any); ok {
			var err error
			for _, form := range forms {
				if err = conforms(v, form.(map[string]any), schemas); err == nil {
					return nil
				}
			}
			return err
		}
	}
	if v == nil {
		if schema["nullable"] != true {
			return fmt.Errorf("null for %v", schema)
		}
		return nil
	}
	switch v := v.(type) {
	case string:
		if words, ok := schema["enum"].([]any); schema["type"] != "string" || ok && !slices.Contains(words, any(v)) {
			return fmt.Errorf("%q for %v", v, schema)
		}
	case float64:
		if schema["type"] != "number" && (schema["type"] != "integer" || v != float64(int64(v))) {
			return fmt.Errorf("%g for %v", v, schema)
		}
	case bool:
		if schema["type"] != "boolean" {
			return fmt.Errorf("%t for %v", v, schema)
		}
	case []any:
		items, ok := schema["items"].(map[string]any)
		if schema["type"] != "array" || !ok {
			return fmt.Errorf("an array for %v", schema)
		}
		for _, e := range v {
			if err := conforms(e, items, schemas); err != nil {
				return err
			}
		}
	case map[string]any:
		return conformsObject(v, schema, schemas)
	}
	return nil
}

func conformsObject(v, schema, schemas map[string]any) error {
	if schema["type"] != "object" {
		return fmt.Errorf("an object for %v", schema)
	}
	properties, _ := schema["properties"].(map[string]any)
	more, _ := schema["additionalProperties"].(map[string]any)
	for key, value := range v {
		property, ok := properties[key].(map[string]any)
		if !ok {
			property = more
		}
		if property == nil {
			return fmt.Errorf("the field %s is not listed", key)
		}
		if err := conforms(value, property, schemas); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	required, _ := schema["required"].([]any)
	for _, name := range required {
		if _, ok := v[name.(string)]; !ok {
			return fmt.Errorf("the field %s is missing", name)
		}
	}
	return nil
}

// TestAnswersMatchTags holds the encoder that is written by hand to encoding/json and the tags.
func TestAnswersMatchTags(t *testing.T) {
	p := ok[[]turbofan.Prediction](t)(newMemoryPredictions().Predict(t.Context(), turbofan.PredictRequest{Readings: []turbofan.Reading{reading("x", 3)}, Explain: true}))[0]
	p.Drivers[0].Value = 1e21 // the other one is NaN
	p.Warnings = []string{"a <b> & \"c\"", "tab\t"}
	h := predictionHandler(t, nil, httpapi.Options{}, trivialAnswer(p))
	var got, want any
	if err := json.Unmarshal(ask(h, "POST", "/predict", wrapped()).Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

func TestSwaggerUI(t *testing.T) {
	h := roles(t)["drift"]
	page := ask(h, "GET", "/", "")
	if page.Code != 200 || !strings.HasPrefix(page.Header().Get("Content-Type"), "text/html") {
		t.Fatalf("page: %d %v", page.Code, page.Header())
	}
	if policy := page.Header().Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'") {
		t.Errorf("policy is %q", policy)
	}
	text := page.Body.String()
	for part := range strings.SplitSeq(text, `"`) {
		path, ok := strings.CutPrefix(part, "./static_content")
		if !ok {
			continue
		}
		plain := ask(h, "GET", "/static_content"+path, "")
		r := httptest.NewRequest("GET", "/static_content"+path, nil)
		r.Header.Set("Accept-Encoding", "gzip, br")
		zipped := httptest.NewRecorder()
		h.ServeHTTP(zipped, r)
		if plain.Code != 200 || zipped.Code != 200 || plain.Body.Len() < 100 || zipped.Body.Len() > plain.Body.Len() {
			t.Errorf("%s: %d with %d bytes, %d with %d gzipped", path, plain.Code, plain.Body.Len(), zipped.Code, zipped.Body.Len())
		}
	}
	if strings.Contains(text, "http://") || strings.Contains(text, "https://") {
		t.Errorf("the page loads from elsewhere: %s", text)
	}
}
