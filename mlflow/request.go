package mlflow

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"turbofan"
)

// seeDocs ends MLflow's sentences about a request.
const seeDocs = " See the API docs for more information about request parameters."

// request holds the fields of one call, from its query or its JSON body. The getters keep the first rule that is
// broken in err, so that a handler reads all it needs and then looks once.
type request struct {
	*http.Request
	control *http.ResponseController
	fields  map[string]any
	size    int    // of the body
	tail    string // what of the path the route left open
	err     error
}

// readRequest reads the fields. A body that is no JSON object says nothing, as to MLflow's own server, and so does a GET's.
// It calls enter before it goes on with a body that turns out to be large.
func readRequest(w http.ResponseWriter, r *http.Request, limit int64, enter func() error) (*request, error) {
	q := &request{Request: r, control: http.NewResponseController(w)}
	if r.Method == http.MethodGet {
		q.fields = queryFields(r.URL.Query())
		return q, nil
	}
	if r.Method == http.MethodDelete && r.ContentLength == 0 {
		return q, nil // the path says it all
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, invalid("Bad Request. Content-Type must be one of ['application/json'].")
	}
	body, err := readBody(http.MaxBytesReader(w, r.Body, limit), enter)
	if err != nil {
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			return nil, turbofan.Errorf(turbofan.ETooLarge, "The request body is larger than %d bytes.", limit)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, turbofan.Wrap(turbofan.ETimeout, err, "The request body did not come in time.")
		}
		return nil, fmt.Errorf("read request: %w", err)
	}
	q.size = len(body)
	q.fields = decodeFields(body)
	return q, nil
}

// readBody reads as much as a small body has before it enters: a sender that says little, and slowly, keeps nobody out.
func readBody(from io.Reader, enter func() error) ([]byte, error) {
	var b bytes.Buffer
	n, err := b.ReadFrom(io.LimitReader(from, largeBody+1))
	if err != nil || n <= largeBody {
		return b.Bytes(), err
	}
	if err := enter(); err != nil {
		return nil, err
	}
	_, err = b.ReadFrom(from)
	return b.Bytes(), err
}

func queryFields(values url.Values) map[string]any {
	fields := make(map[string]any, len(values))
	for k, vs := range values {
		if len(vs) == 1 {
			fields[k] = vs[0]
			continue
		}
		list := make([]any, len(vs))
		for i, v := range vs {
			list[i] = v
		}
		fields[k] = list
	}
	return fields
}

// decodeFields reads a JSON object, also one that an old client wrapped into a JSON string.
func decodeFields(body []byte) map[string]any {
	for range 2 {
		d := json.NewDecoder(bytes.NewReader(body))
		d.UseNumber()
		var v any
		if d.Decode(&v) != nil {
			return nil
		}
		if _, err := d.Token(); err != io.EOF {
			return nil // what follows an object spoils it
		}
		switch v := v.(type) {
		case map[string]any:
			return v
		case string:
			body = []byte(v)
		default:
			return nil
		}
	}
	return nil
}

func (q *request) fail(err error) {
	if q.err == nil {
		q.err = err
	}
}

func (q *request) missing(name string) {
	q.fail(invalid("Missing value for required parameter '%s'.%s", name, seeDocs))
}

// wrongType is MLflow's sentence about a value of the wrong type; it names Python's.
func (q *request) wrongType(name string, v any) {
	q.fail(invalid("Invalid value %s for parameter '%s' supplied:  Hint: Value was of type '%s'.%s", compactJSON(v), name, pythonType(v), seeDocs))
}

func compactJSON(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Sprint(v)
	}
	text := strings.TrimSpace(b.String())
	if len(text) > maxEcho {
		text = strings.ToValidUTF8(text[:maxEcho], "") + "…"
	}
	return text
}

// maxEcho bounds how much of a bad value its error tells, in bytes.
const maxEcho = 1000

func pythonType(v any) string {
	switch v := v.(type) {
	case nil:
		return "NoneType"
	case string:
		return "str"
	case bool:
		return "bool"
	case []any:
		return "list"
	case map[string]any:
		return "dict"
	case json.Number:
		if strings.ContainsAny(string(v), ".eE") {
			return "float"
		}
	}
	return "int"
}

// has reports whether the field is there and is not null.
func (q *request) has(name string) bool { return q.fields[name] != nil }

// text returns an optional text.
func (q *request) text(name string) string {
	v := q.fields[name]
	if v == nil {
		return ""
	}
	s, ok := v.(string)
	if !ok {
		q.wrongType(name, v)
	}
	return s
}

// need returns a text that must not be empty.
func (q *request) need(name string) string {
	s := q.text(name)
	if s == "" {
		q.missing(name)
	}
	return s
}

// pointer returns a text where it is given at all.
func (q *request) pointer(name string) *string {
	if !q.has(name) {
		return nil
	}
	s := q.text(name)
	return &s
}

// runID returns the run that is asked about, by either of its names.
func (q *request) runID() string {
	if q.has("run_id") {
		return q.need("run_id")
	}
	if id := q.text("run_uuid"); id != "" {
		return id
	}
	q.missing("run_id")
	return ""
}

// integer returns a whole number, which may come as a text.
func (q *request) integer(name string, absent int64) int64 {
	v := q.fields[name]
	if v == nil {
		return absent
	}
	n, ok := toInteger(v)
	if !ok {
		q.wrongType(name, v)
	}
	return n
}

func toInteger(v any) (int64, bool) {
	s := ""
	switch v := v.(type) {
	case json.Number:
		s = string(v)
	case string:
		s = v
	default:
		return 0, false
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n, true
	}
	// 5.0 is a whole number as well; what float64 cannot tell apart is not.
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return 0, false
	}
	return int64(f), true
}

func toNumber(v any) (float64, bool) {
	switch v := v.(type) {
	case json.Number:
		f, err := v.Float64()
		return f, err == nil || math.IsInf(f, 0)
	case string:
		switch v {
		case "NaN":
			return math.NaN(), true
		case "Infinity":
			return math.Inf(1), true
		case "-Infinity":
			return math.Inf(-1), true
		}
		f, err := strconv.ParseFloat(v, 64)
		return f, err == nil
	}
	return 0, false
}

func (q *request) boolean(name string) bool {
	switch v := q.fields[name].(type) {
	case nil:
		return false
	case bool:
		return v
	case string:
		if q.Method == http.MethodGet {
			switch strings.ToLower(v) {
			case "true":
				return true
			case "false":
				return false
			}
			q.fail(invalid("Invalid boolean value: %s, must be 'true' or 'false'.", v))
			return false
		}
		q.wrongType(name, v)
	default:
		q.wrongType(name, v)
	}
	return false
}

func (q *request) time(name string) time.Time {
	if !q.has(name) {
		return time.Time{}
	}
	return time.UnixMilli(q.integer(name, 0))
}

// list returns a list; in a query a single value is one.
func (q *request) list(name string) []any {
	switch v := q.fields[name].(type) {
	case nil:
		return nil
	case []any:
		return v
	default:
		if q.Method == http.MethodGet {
			return []any{v}
		}
		q.wrongType(name, v)
		return nil
	}
}

func (q *request) texts(name string) []string {
	list := q.list(name)
	out := make([]string, 0, len(list))
	for _, v := range list {
		s, ok := v.(string)
		if !ok {
			q.wrongType(name, q.fields[name])
			return nil
		}
		out = append(out, s)
	}
	return out
}

// objects returns the objects of a list.
func (q *request) objects(name string) []map[string]any {
	list := q.list(name)
	out := make([]map[string]any, 0, len(list))
	for _, v := range list {
		o, ok := v.(map[string]any)
		if !ok {
			q.wrongType(name, q.fields[name])
			return nil
		}
		out = append(out, o)
	}
	return out
}

// member returns a text of an object in a list.
func (q *request) member(list string, o map[string]any, name string) string {
	switch v := o[name].(type) {
	case nil:
		return ""
	case string:
		return v
	default:
		q.wrongType(list, q.fields[list])
		return ""
	}
}

// keyValues returns tags or parameters; each must have a key.
func (q *request) keyValues(name string) []turbofan.KeyValue {
	objects := q.objects(name)
	out := make([]turbofan.KeyValue, 0, len(objects))
	for i, o := range objects {
		kv := turbofan.KeyValue{Key: q.member(name, o, "key"), Value: q.member(name, o, "value")}
		if kv.Key == "" {
			q.missing(fmt.Sprintf("%s[%d].key", name, i))
		}
		out = append(out, kv)
	}
	return out
}

func (q *request) keyValueMap(name string) map[string]string {
	kvs := q.keyValues(name)
	m := make(map[string]string, len(kvs))
	for _, kv := range kvs {
		m[kv.Key] = kv.Value
	}
	return m
}

// enum returns a name of a protocol buffer's enum, given by name or by number.
func (q *request) enum(name string, names map[int64]string) string {
	v := q.fields[name]
	if v == nil {
		return ""
	}
	if s, ok := v.(string); ok {
		for _, n := range names {
			if n == s {
				return s
			}
		}
	}
	if n, ok := toInteger(v); ok && names[n] != "" {
		return names[n]
	}
	q.wrongType(name, v)
	return ""
}

// limit returns max_results.
func (q *request) limit(absent, most int64) int {
	n := q.integer("max_results", absent)
	switch {
	case q.err != nil:
	case n < 1:
		q.fail(invalid("Invalid value %d for parameter 'max_results' supplied. It must be a positive integer", n))
	case n > most:
		q.fail(invalid("Invalid value %d for parameter 'max_results' supplied. It must be at most %d", n, most))
	}
	return int(n)
}

func sortedKeyValues(m map[string]string) []turbofan.KeyValue {
	out := make([]turbofan.KeyValue, 0, len(m))
	for k, v := range m {
		out = append(out, turbofan.KeyValue{Key: k, Value: v})
	}
	slices.SortFunc(out, func(a, b turbofan.KeyValue) int { return cmp.Compare(a.Key, b.Key) })
	return out
}

// joinPath joins names with a slash.
func joinPath(prefix, name string) string {
	if prefix == "" || prefix == "." {
		return name
	}
	return path.Join(prefix, name)
}

// joinURI adds a relative path to a URI.
func joinURI(uri, rel string) string {
	rel = strings.Trim(rel, "/")
	if rel == "" || rel == "." {
		return uri
	}
	return strings.TrimRight(uri, "/") + "/" + rel
}

func invalid(format string, args ...any) error {
	return turbofan.Errorf(turbofan.EInvalid, format, args...)
}
