//go:build unix

package mlflow_test

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// peer is one of the two servers that are asked the same, with the identifiers that it gave.
type peer struct {
	uri   string
	names map[string]string
}

// ask sends one step, "METHOD path body", and returns the status and the decoded answer with the peer's own
// identifiers named and its clock stopped.
func (p *peer) ask(t *testing.T, s step) (int, any) {
	t.Helper()
	method, rest, _ := strings.Cut(s.request, " ")
	target, body, _ := strings.Cut(rest, " ")
	for k, v := range p.names {
		target, body = strings.ReplaceAll(target, "<"+k+">", v), strings.ReplaceAll(body, "<"+k+">", v)
	}
	if !strings.HasPrefix(target, "/") {
		target = api + target
	}
	req, err := http.NewRequestWithContext(t.Context(), method, p.uri+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if method != http.MethodGet {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if s.keep != "" {
		name, path, _ := strings.Cut(s.keep, "=")
		p.names[name] = at(decoded(text), strings.Split(path, "."))
	}
	for k, v := range p.names {
		if len(v) > 8 {
			text = bytes.ReplaceAll(text, []byte(v), []byte("<"+k+">"))
		}
	}
	return resp.StatusCode, stopClock(decoded(text))
}

// decoded is an answer as JSON, or as text where it is none.
func decoded(text []byte) any {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return string(text)
	}
	return v
}

// at returns the text at a path of an answer.
func at(v any, path []string) string {
	for _, key := range path {
		m, _ := v.(map[string]any)
		v = m[key]
	}
	s, _ := v.(string)
	return s
}

var clock = regexp.MustCompile(`^(creation|last_updated?|start|end|creation_timestamp_ms|last_updated_timestamp_ms)_?(time|timestamp|timestamp_ms)?$`)

// stopClock replaces the times that a server reads off its own clock.
func stopClock(v any) any {
	switch v := v.(type) {
	case map[string]any:
		// Newer than the API that we answer: workspaces, and codes of Databricks' beside the error code.
		for _, k := range []string{"workspace", "error_class", "sqlstate"} {
			delete(v, k)
		}
		if text, ok := v["message"].(string); ok {
			v["message"], _, _ = strings.Cut(text, " Error: (sqlite3.") // SQL is nobody's business
		}
		if m, ok := v["outputs"].(map[string]any); ok && len(m) == 0 {
			delete(v, "outputs") // to a protocol buffer no message is an empty one
		}
		if _, ok := v["next_page_token"]; ok {
			v["next_page_token"] = "more"
		}
		if list, ok := v["latest_versions"].([]any); ok {
			slices.SortFunc(list, func(a, b any) int { return strings.Compare(at(a, []string{"version"}), at(b, []string{"version"})) })
		}
		if list, ok := v["metrics"].([]any); ok && v["tags"] != nil {
			sortByKey(list) // the latest metrics of a run have no order
		}
		for k, x := range v {
			if n, ok := x.(json.Number); ok && clock.MatchString(k) && len(n) == 13 {
				v[k] = "now"
				continue
			}
			v[k] = stopClock(x)
		}
	case []any:
		for i := range v {
			v[i] = stopClock(v[i])
		}
		if len(v) > 1 && isKeyed(v[0]) {
			sortByKey(v)
		}
	case json.Number:
		// 1, 1.0 and 1e0 are one number to JSON.
		if f, err := v.Float64(); err == nil {
			return f
		}
	}
	return v
}

func sortByKey(list []any) {
	slices.SortStableFunc(list, func(a, b any) int {
		return strings.Compare(at(a, []string{"key"}), at(b, []string{"key"}))
	})
}

// isKeyed reports whether v is a tag or a parameter: those have no order.
func isKeyed(v any) bool {
	m, ok := v.(map[string]any)
	return ok && m["key"] != nil && m["step"] == nil
}

// step is one request and what is known of its answer.
type step struct {
	request string
	keep    string // "run=run.info.run_id" names a part of the answer
	differs string // why the answers may differ; "" they may not
}

// Our server and MLflow's own answer the same requests with the same status and the same body, errors included. Where
// they do not, the table says why.
func TestAnswersAsMLflow(t *testing.T) {
	bin := python(t, "mlflow3")
	ours := &peer{uri: serve(t, openRegistry(t)), names: map[string]string{}}
	theirs := &peer{uri: realServer(t, bin), names: map[string]string{}}
	worded := 0
	for _, s := range peerSteps() {
		status, answer := ours.ask(t, s)
		wantStatus, want := theirs.ask(t, s)
		same := status == wantStatus && alike(answer, want)
		switch {
		case !same && s.differs == "":
			t.Errorf("%.300s: %d here, %d there: %s", s.request, status, wantStatus, difference(t, "", answer, want))
		case same && s.differs != "":
			t.Errorf("%.300s: the answers are the same, and should differ because %s", s.request, s.differs)
		case same && !reflect.DeepEqual(answer, want):
			worded++
		}
	}
	t.Logf("%d requests; %d refusals in other words", len(peerSteps()), worded)
}

// alike compares two answers: errors by their code, anything else whole. MLflow's sentences hold Python's sets, whose
// order changes from one start to the next; the sentences that clients look for are in TestSentences.
func alike(a, b any) bool {
	x, y := at(a, []string{"error_code"}), at(b, []string{"error_code"})
	if x != "" || y != "" {
		return x == y
	}
	return reflect.DeepEqual(a, b)
}

// difference says where two answers part.
func difference(t *testing.T, where string, a, b any) string {
	t.Helper()
	switch x := a.(type) {
	case map[string]any:
		y, ok := b.(map[string]any)
		if !ok {
			break
		}
		for _, k := range slices.Sorted(maps.Keys(x)) {
			if !reflect.DeepEqual(x[k], y[k]) {
				return difference(t, where+"."+k, x[k], y[k])
			}
		}
		for _, k := range slices.Sorted(maps.Keys(y)) {
			if x[k] == nil {
				return difference(t, where+"."+k, nil, y[k])
			}
		}
	case []any:
		y, ok := b.([]any)
		for i := range min(len(x), len(y)) {
			if !reflect.DeepEqual(x[i], y[i]) {
				return difference(t, where+"["+strconv.Itoa(i)+"]", x[i], y[i])
			}
		}
		if ok {
			where += " has " + strconv.Itoa(len(x)) + " and " + strconv.Itoa(len(y))
		}
	}
	return where + "\n ours   " + compact(t, a) + "\n MLflow " + compact(t, b)
}

func compact(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
