package httpapi_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// documented is one operation of a role's OpenAPI document.
type documented struct {
	role, method, path string
	op, schemas        map[string]any
}

func documentedOperations(t *testing.T, handlers map[string]http.Handler) (out []documented) {
	t.Helper()
	for _, role := range slices.Sorted(maps.Keys(handlers)) {
		var doc struct {
			Paths      map[string]map[string]map[string]any
			Components struct{ Schemas map[string]any }
		}
		if err := json.Unmarshal(ask(handlers[role], "GET", "/docs.json", "").Body.Bytes(), &doc); err != nil {
			t.Fatal(err)
		}
		for _, path := range slices.Sorted(maps.Keys(doc.Paths)) {
			for _, method := range slices.Sorted(maps.Keys(doc.Paths[path])) {
				out = append(out, documented{role, strings.ToUpper(method), path, doc.Paths[path][method], doc.Components.Schemas})
			}
		}
	}
	return out
}

// TestDocumentedAnswers sends requests made by chance from what the documents say, most of them damaged, and holds every
// answer to the documents: a status that is listed and a body that its schema describes, and never a 5xx.
func TestDocumentedAnswers(t *testing.T) {
	handlers := roles(t)
	ops := documentedOperations(t, handlers)
	if len(ops) < 40 {
		t.Fatalf("the documents have %d operations", len(ops))
	}
	good, total := 0, 6000
	for seed := range total {
		rng := rand.New(rand.NewPCG(uint64(seed), 1))
		d := ops[rng.IntN(len(ops))]
		r := chanceRequest(rng, d)
		shown := fmt.Sprintf("seed %d: %s %s %s", seed, d.role, r.Method, r.URL)
		w := httptest.NewRecorder()
		handlers[d.role].ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Errorf("%s: %d %s", shown, w.Code, w.Body)
			continue
		}
		if w.Code < 300 {
			good++
		}
		answer, ok := d.op["responses"].(map[string]any)[fmt.Sprint(w.Code)].(map[string]any)
		if !ok {
			t.Errorf("%s: status %d is not documented: %s", shown, w.Code, w.Body)
			continue
		}
		kind, _, _ := strings.Cut(w.Header().Get("Content-Type"), ";")
		media, ok := answer["content"].(map[string]any)[kind].(map[string]any)
		if !ok {
			t.Errorf("%s: status %d as %s is not documented", shown, w.Code, kind)
			continue
		}
		if kind != "application/json" || strings.HasSuffix(d.path, ".json") {
			continue
		}
		var value any
		if err := json.Unmarshal(w.Body.Bytes(), &value); err != nil {
			t.Errorf("%s: %v: %s", shown, err, w.Body)
		} else if err := conforms(value, media["schema"].(map[string]any), d.schemas); err != nil {
			t.Errorf("%s: status %d: %v: %s", shown, w.Code, err, w.Body)
		}
	}
	if good < total/10 || good > total*9/10 {
		t.Errorf("%d of %d requests were good: the test tries too little of the other kind", good, total)
	}
}

// chanceRequest makes a request for an operation.
func chanceRequest(rng *rand.Rand, d documented) *http.Request {
	values := []string{"1", "2", "0", "-1", "", "j-1", "p-1-31", "7", "a b", "%00", "9999999999", "true", "x/y", "2026-01-31T12:00:00Z"}
	path, query := d.path, url.Values{}
	if parameters, ok := d.op["parameters"].([]any); ok {
		for _, p := range parameters {
			p := p.(map[string]any)
			value := values[rng.IntN(len(values))]
			if example, ok := p["example"].(string); ok && rng.IntN(4) > 0 {
				value = example
			}
			switch {
			case p["in"] == "path" && value == "":
				path = strings.Replace(path, "{"+p["name"].(string)+"}", "x", 1)
			case p["in"] == "path":
				path = strings.Replace(path, "{"+p["name"].(string)+"}", url.PathEscape(value), 1)
			case rng.IntN(3) == 0:
				query.Set(p["name"].(string), value)
			}
		}
	}
	body, kind := "", "application/json"
	if input, ok := d.op["requestBody"].(map[string]any); ok {
		content := input["content"].(map[string]any)
		kinds := slices.Sorted(maps.Keys(content))
		kind = kinds[rng.IntN(len(kinds))]
		text := "PAR1....PAR1" // of Parquet there is no example
		if examples, ok := content[kind].(map[string]any)["examples"].(map[string]any); ok {
			names := slices.Sorted(maps.Keys(examples))
			value := examples[names[rng.IntN(len(names))]].(map[string]any)["value"]
			if text, ok = value.(string); !ok {
				b, _ := json.Marshal(value)
				text = string(b)
			}
		}
		// A unit's cycles only rise, so every good reading needs its own unit.
		body = strings.ReplaceAll(text, `"unit_id":"1"`, fmt.Sprintf(`"unit_id":"u%d"`, rng.Uint64()))
		for range rng.IntN(3) {
			body = damage(rng, body)
		}
	}
	r := httptest.NewRequest(d.method, path+"?"+query.Encode(), strings.NewReader(body))
	r.Header.Set("Content-Type", kind)
	return r
}

// damage changes a text in one place.
func damage(rng *rand.Rand, text string) string {
	if text == "" {
		return "{"
	}
	i := rng.IntN(len(text))
	switch rng.IntN(5) {
	case 0:
		return text[:i]
	case 1:
		return text[:i] + string(rune(rng.IntN(256))) + text[i:]
	case 2:
		return text[:i] + text[i+1:]
	case 3:
		words := []string{"null", "true", "-1", "1e400", `"x"`, "[]", "{}", "NaN", "0.5"}
		end := i + 1
		for end < len(text) && !strings.ContainsRune(",]}:", rune(text[end])) {
			end++
		}
		return text[:i] + words[rng.IntN(len(words))] + text[end:]
	}
	j := rng.IntN(len(text))
	return text[:min(i, j)] + text[max(i, j):]
}
