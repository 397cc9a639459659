package mlflow_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"turbofan"
	"turbofan/internal/porttest"
	"turbofan/mlflow"
	"turbofan/registry"
)

// said is what a server answered.
type said struct {
	status int
	code   string
	text   string
	header http.Header
}

// ask sends a request straight to a handler, so that no client tidies up its path.
func ask(t testing.TB, h http.Handler, method, target, body string, header ...string) said {
	t.Helper()
	r := httptest.NewRequest(method, "http://localhost/", strings.NewReader(body))
	path, query, _ := strings.Cut(target, "?")
	r.URL = &url.URL{Path: path, RawQuery: query}
	if decoded, err := url.PathUnescape(path); err == nil {
		r.URL.Path = decoded
	}
	if method != http.MethodGet {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	s := said{status: w.Code, text: w.Body.String(), header: w.Header()}
	var e struct {
		Code string `json:"error_code"`
	}
	if json.Unmarshal(w.Body.Bytes(), &e) == nil {
		s.code = e.Code
	}
	return s
}

const api = "/api/2.0/mlflow/"

// playground is a handler with an experiment, a run, a registered model and a file, and their names to put in place of
// {exp}, {run} and {root} in requests.
func playground(t testing.TB, cfg registry.Config) (http.Handler, *strings.Replacer) {
	t.Helper()
	r := openRegistryAt(t, t.TempDir(), cfg)
	ctx := t.Context()
	run, err := r.StartRun(ctx, "ground", "r", nil, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.CreateModel(ctx, turbofan.RegisteredModel{Name: "model"}); err != nil {
		t.Fatal(err)
	}
	if err := r.PutArtifact(ctx, run.ArtifactURI+"/notes.txt", strings.NewReader("0123456789")); err != nil {
		t.Fatal(err)
	}
	logged, err := r.CreateLoggedModel(ctx, turbofan.LoggedModel{ExperimentID: run.ExperimentID, Name: "boosted", SourceRunID: run.ID})
	if err != nil {
		t.Fatal(err)
	}
	h := mlflow.NewHandler(r, mlflow.HandlerConfig{MaxBody: 4 << 20})
	return h, strings.NewReplacer("{exp}", run.ExperimentID, "{run}", run.ID, "{root}", run.ArtifactURI, "{logged}", logged.ID,
		"{path}", strings.TrimPrefix(run.ArtifactURI, "file://"))
}

type exchange struct {
	method, target, body string
	status               int
	code, text           string // text is a part of the answer
}

func (c exchange) check(t *testing.T, h http.Handler, names *strings.Replacer) {
	t.Helper()
	got := ask(t, h, c.method, names.Replace(c.target), names.Replace(c.body))
	if got.status != c.status || c.code != "" && got.code != c.code || !strings.Contains(got.text, names.Replace(c.text)) {
		t.Errorf("%s %s %.200s\n got %d %s\nwant %d %s …%s…", c.method, c.target, c.body, got.status, got.text, c.status, c.code, c.text)
	}
}

const (
	badValue = "INVALID_PARAMETER_VALUE"
	exists   = "RESOURCE_ALREADY_EXISTS"
	absent   = "RESOURCE_DOES_NOT_EXIST"
)

// The sentences that MLflow's own tests look for.
func TestSentences(t *testing.T) {
	h, names := playground(t, registry.Config{})
	for _, c := range []exchange{
		{"POST", api + "experiments/create", `{"name":123}`, 400, badValue, `Invalid value 123 for parameter 'name' supplied:  Hint: Value was of type 'int'.`},
		{"POST", api + "experiments/create", `{}`, 400, badValue, `Missing value for required parameter 'name'. See the API docs`},
		{"POST", api + "experiments/create", `not json`, 400, badValue, `Missing value for required parameter 'name'`},
		{"POST", api + "experiments/create", `{"name":"x","artifact_location":9.0}`, 400, badValue, `Invalid value 9.0 for parameter 'artifact_location'`},
		{"POST", api + "experiments/create", `{"name":"x","tags":"5"}`, 400, badValue, `Invalid value \"5\" for parameter 'tags'`},
		{"POST", api + "experiments/create", `{"name":"ground"}`, 400, exists, `already exists`},
		{"POST", api + "experiments/create", `"{\"name\":\"twice encoded\"}"`, 200, "", `experiment_id`},
		{"GET", api + "experiments/get?experiment_id=77", ``, 404, absent, `No Experiment with id=77 exists`},
		{"GET", api + "experiments/get?experiment_id=abc", ``, 404, absent, `No Experiment with id=abc exists`},
		{"GET", api + "experiments/get-by-name?experiment_name=zz", ``, 404, absent, `Could not find experiment with name 'zz'`},
		{"POST", api + "experiments/search", `{}`, 400, badValue, `Invalid value 0 for parameter 'max_results' supplied. It must be a positive integer`},
		{"GET", "/ajax-api/2.0/mlflow/experiments/search?max_results=5", ``, 200, "", `"name":"ground"`},
		{"POST", api + "runs/log-metric", `{"run_id":31,"key":"m","value":1,"timestamp":1}`, 400, badValue, `Invalid value 31 for parameter 'run_id' supplied`},
		{"POST", api + "runs/log-metric", `{"run_id":null,"key":"m","value":1,"timestamp":1}`, 400, badValue, `Missing value for required parameter 'run_id'`},
		{"POST", api + "runs/log-metric", `{"run_id":"{run}","value":1,"timestamp":1}`, 400, badValue, `Missing value for required parameter 'key'`},
		{"POST", api + "runs/log-metric", `{"run_id":"{run}","key":"foo","value":31,"timestamp":59,"step":"foo"}`, 400, badValue, `Invalid value \"foo\" for parameter 'step' supplied`},
		{"POST", api + "runs/log-metric", `{"run_id":"{run}","key":"foo","value":31,"timestamp":"12","step":"12"}`, 200, "", `{}`},
		{"POST", api + "runs/log-metric", `{"run_id":"{run}","key":"foo","value":"NaN","timestamp":1}`, 200, "", `{}`},
		{"POST", api + "runs/log-metric", `{"run_id":"{run}","key":"a/../b","value":1,"timestamp":1}`, 400, badValue,
			`Invalid value \"a/../b\" for parameter 'name' supplied: Names may be treated as files in certain cases, and must not resolve to other names when treated as such. This name would resolve to 'b'`},
		{"POST", api + "runs/log-parameter", `{"run_id":"{run}","key":"a?","value":"1"}`, 400, badValue, `Names may only contain alphanumerics`},
		{"POST", api + "runs/log-parameter", `{"run_id":"{run}","key":"a","value":"1"}`, 200, "", `{}`},
		{"POST", api + "runs/log-parameter", `{"run_id":"{run}","key":"a","value":"2"}`, 400, badValue,
			`Changing param values is not allowed. Param with key='a' was already logged with value='1' for run ID='{run}'. Attempted logging new value '2'.`},
		{"POST", api + "runs/set-tag", `{"run_id":"{run}","key":"t","value":41}`, 400, badValue, `Invalid value 41 for parameter 'value' supplied`},
		{"POST", api + "runs/set-tag", `{"run_uuid":"{run}","key":"t","value":""}`, 200, "", `{}`},
		{"POST", api + "runs/delete-tag", `{"run_id":"{run}","key":"none"}`, 404, absent, `No tag with name: none in run with id {run}`},
		{"POST", api + "runs/log-batch", `{"run_id":"{run}","metrics":"foo"}`, 400, badValue, `Invalid value \"foo\" for parameter 'metrics' supplied`},
		{"POST", api + "runs/log-batch", `{"run_id":"{run}","metrics":[{"key":"mae","value":2.5}]}`, 400, badValue, `Missing value for required parameter 'metrics[0].timestamp'`},
		{"POST", api + "runs/log-batch", `{"run_id":"{run}","params":[{"key":"p","value":"1"},{"key":"p","value":"2"}]}`, 400, badValue, `Duplicate parameter keys have been submitted`},
		{"POST", api + "runs/log-inputs", `{"datasets":[]}`, 400, badValue, `Missing value for required parameter 'run_id'`},
		{"GET", api + "runs/get?run_id=zz", ``, 404, absent, `Run with id=zz not found`},
		{"POST", api + "runs/search", `{"experiment_ids":["{exp}"],"max_results":123456789}`, 400, badValue, `Invalid value 123456789 for parameter 'max_results' supplied`},
		{"POST", api + "runs/search", `{"experiment_ids":["{exp}"],"filter":"metrics.a > 'x'"}`, 400, badValue, `Expected numeric value type for metric. Found 'x'`},
		{"POST", api + "runs/search", `{"experiment_ids":["{exp}"],"filter":"foo.a = 'x'"}`, 400, badValue,
			`Invalid entity type 'foo'. Valid values are ['metric', 'parameter', 'tag', 'attribute', 'dataset']`},
		{"POST", api + "runs/search", `{"experiment_ids":["{exp}"],"filter":"params.a = 'x' OR params.b = 'y'"}`, 400, badValue, `Invalid clause(s) in filter string: 'OR`},
		{"POST", api + "runs/search", `{"experiment_ids":["{exp}"],"page_token":"!!"}`, 400, badValue, `Invalid page token, could not base64-decode`},
		{"GET", "/ajax-api/2.0/mlflow/metrics/get-history-bulk?metric_key=k", ``, 400, badValue, `GetMetricHistoryBulk request must specify at least one run_id`},
		{"GET", "/ajax-api/2.0/mlflow/metrics/get-history-bulk?run_id=1", ``, 400, badValue, `GetMetricHistoryBulk request must specify a metric_key`},
		{"GET", "/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval?metric_key=k", ``, 400, badValue, `Missing value for required parameter 'run_ids'.`},
		{"GET", "/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval?run_ids=1&metric_key=k&max_results=0", ``, 400, badValue, `max_results must be between 1 and 2500`},
		{"GET", "/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval?run_ids=1&metric_key=k&start_step=1&end_step=0", ``, 400, badValue, `end_step must be greater than start_step. `},
		{"GET", "/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval?run_ids=1&metric_key=k&start_step=1", ``, 400, badValue, `If either start step or end step are specified, both must be specified.`},
		{"POST", "/ajax-api/2.0/mlflow/experiments/search-datasets", `{}`, 400, badValue, `SearchDatasets request must specify at least one experiment_id.`},
		{"POST", "/ajax-api/2.0/mlflow/upload-artifact", ``, 400, badValue, `Request must specify run_uuid.`},
		{"POST", "/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run}&path=", ``, 400, badValue, `Request must specify path.`},
		{"POST", "/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run}&path=t.txt", ``, 400, badValue, `Request must specify data.`},
		{"POST", "/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run}&path=t.txt", `hello`, 200, "", `{}`},
		{"GET", "/get-artifact?run_uuid={run}&path=t.txt", ``, 200, "", `hello`},
		{"POST", api + "registered-models/create", `{"name":"model"}`, 400, exists, `Registered Model (name=model) already exists.`},
		{"GET", api + "registered-models/get?name=zz", ``, 404, absent, `Registered Model with name=zz not found`},
		{"GET", api + "registered-models/alias?name=model&alias=zz", ``, 400, badValue, `Registered model alias zz not found.`},
		{"GET", api + "model-versions/get?name=model&version=9", ``, 404, absent, `Model Version (name=model, version=9) not found`},
		{"GET", api + "registered-models/search?filter=" + url.QueryEscape("tag.`mlflow.prompt.is_prompt` != 'true'"), ``, 200, "", `"name":"model"`},
		{"GET", api + "logged-models/m-none", ``, 404, absent, `not found`},
		{"PATCH", api + "logged-models/{logged}", `{"model_id":"{logged}","status":"LOGGED_MODEL_READY"}`, 200, "", `LOGGED_MODEL_READY`},
		{"DELETE", api + "logged-models/{logged}/tags/none", ``, 404, absent, `No tag with key`},
		{"GET", api + "no/such/call", ``, 404, "ENDPOINT_NOT_FOUND", ``},
		{"GET", api + "runs/create", ``, 404, "ENDPOINT_NOT_FOUND", ``},
		{"GET", "/api/3.0/mlflow/server-info", ``, 200, "", `"multipart_uploads_enabled":false`},
		{"GET", "/api/2.0/mlflow-artifacts/artifacts/no/such/file", ``, 404, absent, ``},
		{"GET", "/api/2.0/mlflow-artifacts/artifacts?path=no/such", ``, 200, "", `{}`},
		{"POST", "/graphql", `{"query":"query q {mlflowGetExperiment(input: {experimentId: \"{exp}\"}) { experiment { name } }}"}`, 200, "", `"name":"ground"`},
		{"POST", "/graphql", `{"query":"query q { mlflowGetRun(input: {runId: \"{run}\"}) { run }}"}`, 200, "", `"status":"RUNNING"`},
	} {
		c.check(t, h, names)
	}
}

// hostilePaths leave the folder that they belong to.
func hostilePaths() []exchange {
	const proxy = "/api/2.0/mlflow-artifacts/artifacts"
	return []exchange{
		{"GET", "/get-artifact?run_id={run}&path=../path", ``, 400, badValue, `"message":"Invalid path"`},
		{"GET", "//model-versions/get-artifact?name=model&version=1&path=../path", ``, 400, badValue, `"message":"Invalid path"`},
		{"GET", api + "artifacts/list?run_id={run}&path=../path", ``, 400, badValue, `"message":"Invalid path"`},
		{"GET", api + "artifacts/list?run_id={run}&path=/etc", ``, 400, badValue, `Invalid path`},
		{"GET", api + "artifacts/list?run_id={run}&path=a%252f..%252f..%252fb", ``, 400, badValue, `Invalid path`},
		{"GET", api + "artifacts/list?run_id={run}&path=%2e%2e", ``, 400, badValue, `Invalid path`},
		{"GET", api + "logged-models/{logged}/artifacts/directories?artifact_directory_path=../..", ``, 400, badValue, `Invalid path`},
		{"GET", "/ajax-api/2.0/mlflow/logged-models/{logged}/artifacts/files?artifact_file_path=..%2fx", ``, 400, badValue, `Invalid path`},
		{"GET", proxy + "/../../etc/passwd", ``, 400, badValue, `Invalid path`},
		{"GET", proxy + "/%2e%2e/%2e%2e/etc/passwd", ``, 400, badValue, `Invalid path`},
		{"GET", proxy + "/%252e%252e/etc/passwd", ``, 400, badValue, `Invalid path`},
		{"GET", proxy + "/a/..%255c..%255cwindows", ``, 400, badValue, `Invalid path`},
		{"GET", proxy + "//etc/passwd", ``, 400, badValue, `Invalid path`},
		{"GET", proxy + "/C:/windows", ``, 400, badValue, `Invalid path`},
		{"GET", proxy + "/file:///etc/passwd", ``, 400, badValue, `Invalid path`},
		{"GET", proxy + "/a%00b", ``, 400, badValue, `Invalid path`},
		{"GET", proxy + "/a%23b", ``, 400, badValue, `Invalid path`},
		{"GET", proxy + "/.staging/x", ``, 400, badValue, `Invalid path`},
		{"GET", proxy + "?path=../..", ``, 400, badValue, `Invalid path`},
		{"GET", proxy + "?path=/", ``, 400, badValue, `Invalid path`},
		{"PUT", proxy + "/../evil", `x`, 400, badValue, `Invalid path`},
		{"PUT", proxy + "/..", `x`, 400, badValue, `Invalid path`},
		{"PUT", proxy + "/{exp}", `x`, 400, badValue, `is a folder`},
		{"PUT", proxy + "/{exp}/{run}/artifacts/notes.txt/below", `x`, 400, badValue, ``},
		{"PUT", proxy + "/" + strings.Repeat("n", 300), `x`, 400, badValue, `too long`},
		{"DELETE", proxy + "/.", ``, 400, badValue, `Invalid path`},
		{"DELETE", proxy + "/registry", ``, 400, badValue, `Invalid path`},
		{"DELETE", proxy + "/../..", ``, 400, badValue, `Invalid path`},
		{"POST", "/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run}&path=../t", `x`, 400, badValue, `Invalid path`},
	}
}

// hostileSources are sources of versions outside of the registry's files.
func hostileSources(t *testing.T) []exchange {
	const version = api + "model-versions/create"
	source := func(s string) string {
		return encoded(t, map[string]string{"name": "model", "source": s, "run_id": "{run}"})
	}
	return []exchange{
		{"POST", version, source("/etc"), 400, badValue, `To use a local path as a model version source`},
		{"POST", version, source("file:///etc"), 400, badValue, `To use a local path as a model version source`},
		{"POST", version, source("file:///etc/../etc"), 400, badValue, `To use a local path`},
		{"POST", version, source("mlflow-artifacts://host:9000/models/../../../"), 400, badValue, `If supplying a source as an http, https,`},
		{"POST", version, source("http://host:9000/models/../../../"), 400, badValue, `If supplying a source as an http, https,`},
		{"POST", version, source("s3a://my_bucket/api/2.0/mlflow-artifacts/artifacts/../../../"), 400, badValue, `If supplying a source`},
		{"POST", version, source("mlflow-artifacts://host:9000/models/..%2f..%2fartifacts"), 400, badValue, `If supplying a source`},
		{"POST", version, source("mlflow-artifacts://host:9000/models/artifact%00"), 400, badValue, `If supplying a source`},
		{"POST", version, source("mlflow-artifacts:/%252e%252e/x"), 400, badValue, `If supplying a source`},
		{"POST", version, source("models:/m-none"), 404, absent, ``},
		{"POST", version, source("models:/none/1"), 404, absent, ``},
		{"POST", version, source("runs:/none/x"), 200, "", `"source":"runs:/none/x"`},
		{"GET", "/model-versions/get-artifact?name=model&version=1&path=MLmodel", ``, 404, absent, `Run with id=none not found`},
		{"POST", version, source("mlflow-artifacts:/" + strings.Repeat("a/", 3000)), 400, badValue, `exceeds the maximum length`},
	}
}

// hostileFields are names, filters and values that are too long, mean something else, or are none.
func hostileFields(t *testing.T) []exchange {
	deep := strings.Repeat(`[`, 20_000)
	search := func(filter string) string {
		return encoded(t, map[string]any{"experiment_ids": []string{"{exp}"}, "filter": filter})
	}
	return []exchange{
		{"POST", api + "experiments/create", `{"name":"e1","artifact_location":"s3://b/x?y=../z"}`, 400, badValue, `..`},
		{"POST", api + "experiments/create", `{"name":"e2","artifact_location":"runs:/x"}`, 400, badValue, `runs:/`},
		{"POST", api + "experiments/create", `{"name":"e3","artifact_location":"file:///a#b"}`, 400, badValue, `fragments`},
		{"POST", api + "experiments/create", `{"name":"` + strings.Repeat("n", 501) + `"}`, 400, badValue, `exceeds the maximum length of 500`},
		{"POST", api + "registered-models/create", `{"name":"../x"}`, 400, badValue, `Names cannot contain '/'`},
		{"POST", api + "registered-models/create", `{"name":".."}`, 400, badValue, ``},
		{"POST", api + "registered-models/alias", `{"name":"model","alias":"Latest","version":"1"}`, 400, badValue, `reserved`},
		{"POST", api + "registered-models/alias", `{"name":"model","alias":"v12","version":"1"}`, 400, badValue, `reserved`},
		{"POST", api + "registered-models/alias", `{"name":"model","alias":"a/b","version":"1"}`, 400, badValue, `Invalid alias name`},
		{"POST", api + "runs/search", search("params.a = 'x'; DROP TABLE runs"), 400, badValue, `Invalid clause`},
		{"POST", api + "runs/search", search("params.a = 'x' UNION SELECT 1"), 400, badValue, `Invalid clause`},
		{"POST", api + "runs/search", search("attributes.secret = 'x'"), 400, badValue, `Invalid attribute key 'secret'`},
		{"POST", api + "runs/search", search("params.a = 'unterminated"), 400, badValue, ``},
		{"POST", api + "runs/search", search("params.`a = 'x'"), 400, badValue, ``},
		{"POST", api + "runs/search", search("metrics.a > 1e999"), 400, badValue, ``},
		{"POST", api + "runs/search", search("metrics.a > NaN"), 400, badValue, ``},
		{"POST", api + "runs/search", search("run_id IN ()"), 400, badValue, ``},
		{"POST", api + "runs/search", search("run_id IN (" + strings.Repeat("'a',", 6000) + "'b')"), 400, badValue, ``},
		{"POST", api + "runs/search", search(strings.Repeat("params.a = 'x' AND ", 500) + "params.a = 'x'"), 400, badValue, `more than 100 clauses`},
		{"POST", api + "runs/search", search(strings.Repeat("x", 70_000)), 400, badValue, `longer than`},
		{"POST", api + "runs/search", search("params.`a' OR 1=1 --` = 'x'"), 200, "", `{}`},
		{"POST", api + "runs/search", search("params.a LIKE '%[*?]_%'"), 200, "", `{}`},
		{"POST", api + "runs/search", `{"experiment_ids":["{exp}"],"order_by":["metrics.a; DROP TABLE runs"]}`, 400, badValue, `order_by`},
		{"POST", api + "runs/search", `{"experiment_ids":["{exp}"],"order_by":["metrics.a","metrics.a DESC"]}`, 400, badValue, `duplicate`},
		{"POST", api + "runs/search", `{"experiment_ids":["1 OR 1=1"]}`, 200, "", `{}`},
		{"POST", api + "runs/search", `{"experiment_ids":` + deep, 200, "", `{}`},
		{"POST", api + "runs/search", `{"experiment_ids":["{exp}"],"max_results":-1}`, 400, badValue, `positive integer`},
		{"POST", api + "runs/search", `{"experiment_ids":["{exp}"],"max_results":1e30}`, 400, badValue, ``},
		{"POST", api + "runs/log-batch", `{"run_id":"{run}","params":[{"key":"p","value":"` + strings.Repeat("v", 1_000_001) + `"}]}`, 400, badValue,
			`Batched logging API requests must be at most 1000000 bytes, got a request of size`},
		{"POST", api + "runs/log-batch", `{"run_id":"{run}","metrics":[null]}`, 400, badValue, ``},
		{"POST", api + "runs/log-batch", `{"run_id":"{run}","metrics":[{"key":"m","value":1,"timestamp":1e400}]}`, 400, badValue, ``},
		{"POST", api + "runs/log-batch", `{"run_id":"{run}","tags":[{"key":"` + strings.Repeat("k", 251) + `","value":""}]}`, 400, badValue, `exceeds the maximum length of 250`},
		{"POST", api + "runs/log-metric", `{"run_id":"{run}","key":"m","value":1,"timestamp":-5}`, 400, badValue, `nonnegative`},
		{"POST", api + "runs/set-tag", `{"run_id":"{run}","key":"big","value":"` + strings.Repeat("v", 5<<20) + `"}`, 400, badValue, `larger than`},
	}
}

// encoded is v as JSON.
func encoded(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Paths, sources, filters and bodies that mean harm are refused with a code that tells the client not to try again,
// and never with an internal error.
func TestHostile(t *testing.T) {
	h, names := playground(t, registry.Config{})
	cases := slices.Concat(hostilePaths(), hostileSources(t), hostileFields(t))
	if len(cases) < 40 {
		t.Fatalf("only %d cases", len(cases))
	}
	for _, c := range cases {
		c.check(t, h, names)
	}
	if got := ask(t, h, "POST", api+"experiments/create", `{"name":"y"}`, "Content-Type", "text/plain"); got.code != badValue || !strings.Contains(got.text, "Content-Type must be one of") {
		t.Errorf("text/plain: %+v", got)
	}
	for _, c := range []struct {
		method, target string
		header         []string
		status         int
	}{
		{"GET", api + "experiments/get?experiment_id=0", []string{"Host", "evil.example.com"}, 403},
		{"GET", api + "experiments/get?experiment_id=0", []string{"Host", "mlflow:5000"}, 200},
		{"GET", api + "experiments/get?experiment_id=0", []string{"Host", "10.1.2.3:80"}, 200},
		{"GET", api + "experiments/get?experiment_id=0", []string{"Host", "registry.plant.svc.cluster.local"}, 200},
		{"GET", "/health", []string{"Host", "evil.example.com"}, 200},
		{"POST", api + "experiments/create", []string{"Origin", "http://evil.example.com"}, 403},
		{"POST", api + "experiments/create", []string{"Sec-Fetch-Site", "cross-site"}, 403},
	} {
		if got := ask(t, h, c.method, c.target, `{"name":"o"}`, c.header...); got.status != c.status {
			t.Errorf("%s %s %v: %d %s", c.method, c.target, c.header, got.status, got.text)
		}
	}
}

// Where clients share the disk, a source must be among its own run's files.
func TestLocalSources(t *testing.T) {
	dir := t.TempDir()
	h, names := playground(t, registry.Config{ArtifactRoot: "file://" + filepath.ToSlash(filepath.Join(dir, "shared"))})
	version := api + "model-versions/create"
	for _, c := range []exchange{
		{"POST", version, `{"name":"model","source":"{root}","run_id":"{run}"}`, 200, "", `"version":"1"`},
		{"POST", version, `{"name":"model","source":"{path}","run_id":"{run}"}`, 200, "", `"version":"2"`},
		{"POST", version, `{"name":"model","source":"{root}/model","run_id":"{run}"}`, 200, "", ``},
		{"POST", version, `{"name":"model","source":"{root}/.","run_id":"{run}"}`, 200, "", ``},
		{"POST", version, `{"name":"model","source":"{root}/model/..","run_id":"{run}"}`, 200, "", ``},
		{"POST", version, `{"name":"model","source":"{root}/..","run_id":"{run}"}`, 400, badValue, `To use a local path`},
		{"POST", version, `{"name":"model","source":"{root}"}`, 400, badValue, `To use a local path`},
		{"POST", version, `{"name":"model","source":"file:///tmp","run_id":"{run}"}`, 400, badValue, `To use a local path`},
		{"POST", version, `{"name":"model","source":"mlflow-artifacts:/models///","run_id":"{run}"}`, 200, "", ``},
		{"POST", version, `{"name":"model","source":"mlflow-artifacts://host:9000/models/artifact/..../","run_id":"{run}"}`, 200, "", ``},
		{"POST", version, `{"name":"model","source":"file://123.456.789.123/path","run_id":"{run}"}`, 500, "INTERNAL_ERROR", `is not a valid remote uri`},
		{"GET", api + "artifacts/list?run_id={run}", ``, 200, "", `"path":"notes.txt"`},
		{"GET", "/get-artifact?run_id={run}&path=notes.txt", ``, 200, "", `0123456789`},
	} {
		c.check(t, h, names)
	}
	// An experiment may name any folder; the server does not look into it.
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	created := ask(t, h, "POST", api+"experiments/create", `{"name":"outside","artifact_location":"file://`+dir+`"}`)
	id := strings.Trim(strings.TrimPrefix(created.text, `{"experiment_id":`), `"}`)
	run := ask(t, h, "POST", api+"runs/create", `{"experiment_id":"`+id+`"}`)
	var out struct {
		Run struct {
			Info struct {
				RunID string `json:"run_id"`
			}
		}
	}
	if err := json.Unmarshal([]byte(run.text), &out); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, h, "GET", api+"artifacts/list?run_id="+out.Run.Info.RunID, ""); got.code != badValue {
		t.Errorf("a folder outside: %+v", got)
	}
}

// A version that is made of another has its run, and may be promoted without a word about the others.
func TestVersionsOfVersions(t *testing.T) {
	h, names := playground(t, registry.Config{})
	for _, c := range []exchange{
		{"POST", api + "model-versions/create", `{"name":"model","source":"{root}/m","run_id":"{run}"}`, 200, "", `"version":"1"`},
		{"POST", api + "model-versions/create", `{"name":"model","source":"models:/model/1"}`, 200, "", `"run_id":"{run}"`},
		{"POST", api + "model-versions/create", `{"name":"model","source":"models:/model/1","run_id":"other"}`, 200, "", `"run_id":"other"`},
		{"POST", api + "registered-models/alias", `{"name":"model","alias":"champion","version":"2"}`, 200, "", `{}`},
		{"POST", api + "model-versions/create", `{"name":"model","source":"models:/model@champion"}`, 200, "", `"run_id":"{run}"`},
		{"POST", api + "model-versions/create", `{"name":"model","source":"models:/{logged}"}`, 200, "", `"run_id":"{run}"`},
		{"POST", api + "model-versions/create", `{"name":"model","source":"models:/"}`, 404, absent, ``},
		{"GET", api + "model-versions/get-download-uri?name=model&version=4", ``, 200, "", `"artifact_uri":"{root}/m"`},
		{"POST", api + "model-versions/transition-stage", `{"name":"model","version":"1","stage":"Staging"}`, 200, "", `"current_stage":"Staging"`},
		{"POST", api + "model-versions/transition-stage", `{"name":"model","version":"2","stage":"Staging"}`, 200, "", `"current_stage":"Staging"`},
		{"GET", api + "model-versions/get?name=model&version=1", ``, 200, "", `"current_stage":"Staging"`},
		{"GET", api + "model-versions/search?filter=name%20IN%20('model','x')%20AND%20version_number%20%3D%201", ``, 200, "", `"version":"1"`},
		{"GET", api + "model-versions/search?filter=name%20NOT%20IN%20('model')", ``, 200, "", `{}`},
		{"POST", api + "runs/log-model", `{"run_id":"{run}","model_json":"{\"flavors\":{}}"}`, 400, badValue, `{'artifact_path', 'run_id', 'utc_time_created'}`},
		{"PATCH", api + "logged-models/{logged}/tags", `{"tags":[{"key":"a","value":"b"}]}`, 200, "", `{}`},
	} {
		c.check(t, h, names)
	}
}

// A platform may say where models may come from.
func TestSourcePattern(t *testing.T) {
	h, names := playground(t, registry.Config{SourcePattern: regexp.MustCompile("^mlflow-artifacts:/")})
	version := api + "model-versions/create"
	for _, c := range []exchange{
		{"POST", version, `{"name":"model","source":"s3://path/to/model"}`, 400, badValue, `Invalid model version source: 's3://path/to/model'.`},
		{"POST", version, `{"name":"model","source":"{root}/model","run_id":"{run}"}`, 200, "", `"version":"1"`},
	} {
		c.check(t, h, names)
	}
}

func TestFileHeaders(t *testing.T) {
	h, names := playground(t, registry.Config{})
	file := names.Replace("/api/2.0/mlflow-artifacts/artifacts/{exp}/{run}/artifacts/notes.txt")
	got := ask(t, h, "GET", file, "", "Accept-Encoding", "gzip")
	for k, want := range map[string]string{"Content-Length": "10", "Content-Type": "text/plain", "X-Content-Type-Options": "nosniff",
		"Content-Disposition": "attachment; filename=notes.txt"} {
		if got.header.Get(k) != want {
			t.Errorf("%s is %q, want %q", k, got.header.Get(k), want)
		}
	}
	if got := ask(t, h, "GET", file, "", "Range", "bytes=3-5"); got.status != http.StatusPartialContent || got.text != "345" {
		t.Errorf("a range: %+v", got)
	}
	if got := ask(t, h, "HEAD", file, ""); got.status != 200 || got.text != "" {
		t.Errorf("HEAD: %+v", got)
	}
}

// Whatever a client sends, it is its own mistake or an answer.
func FuzzFilter(f *testing.F) {
	h, names := playground(f, registry.Config{})
	for _, s := range []string{"metrics.a > 1 and params.`b c` LIKE '%x_'", "tags.\"a.b\" != 'c'", "run_id NOT IN ('a','b')", "datasets.name ILIKE 'x'",
		"params.a IS NULL", "attributes.start_time >= 12", "metrics.a<=-1e-3", "'", "`", "a.b.c = 'd'", "name = ''''", "params.a = \"x\" AND "} {
		f.Add(s, "metrics.a DESC")
	}
	f.Fuzz(func(t *testing.T, filter, order string) {
		for _, path := range []string{"runs/search", "experiments/search", "logged-models/search"} {
			body := map[string]any{"experiment_ids": []string{names.Replace("{exp}")}, "max_results": 3, "filter": filter}
			if path != "logged-models/search" {
				body["order_by"] = []string{order}
			}
			text, err := json.Marshal(body)
			if err != nil {
				t.Skip()
			}
			if got := ask(t, h, "POST", api+path, string(text)); got.status != 200 && got.code != badValue {
				t.Errorf("%s %q by %q: %d %s", path, filter, order, got.status, got.text)
			}
		}
	})
}

func FuzzBody(f *testing.F) {
	h, names := playground(f, registry.Config{})
	paths := []string{"experiments/create", "runs/create", "runs/update", "runs/log-metric", "runs/log-batch", "runs/log-inputs", "runs/outputs", "runs/log-model",
		"registered-models/create", "registered-models/alias", "model-versions/create", "logged-models", "logged-models/search", "runs/search"}
	for i := range paths {
		f.Add(uint8(i), `{"name":"x","run_id":"{run}","experiment_id":"{exp}","tags":[{"key":"a","value":"b"}],"metrics":[{"key":"m","value":"NaN","timestamp":1}]}`)
	}
	f.Add(uint8(5), `{"run_id":"{run}","datasets":[{"tags":[{"key":1}],"dataset":{"name":"n"}}],"models":[{"model_id":7}]}`)
	f.Add(uint8(10), `{"name":"model","source":"models:/model@x","run_id":"{run}"}`)
	f.Fuzz(func(t *testing.T, which uint8, body string) {
		path := paths[int(which)%len(paths)]
		if got := ask(t, h, "POST", api+path, names.Replace(body)); got.status >= 500 && !strings.Contains(got.text, "is not a valid remote uri") {
			t.Errorf("%s %q: %d %s", path, body, got.status, got.text)
		}
	})
}

// A server that is busy is asked again; one that refuses is not.
func TestClientRetries(t *testing.T) {
	for _, c := range []struct {
		status, failures, want int
		code                   string
	}{
		{503, 2, 3, ""}, {429, 1, 2, ""}, {500, 1, 2, ""}, {502, 1, 2, ""}, {400, 9, 1, turbofan.EInvalid}, {404, 9, 1, turbofan.ENotFound}, {401, 9, 1, turbofan.EUnauthorized},
	} {
		asked := 0
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				t.Error(err)
			}
			if asked++; asked <= c.failures {
				w.WriteHeader(c.status)
				return
			}
			if _, err := io.WriteString(w, "{}"); err != nil {
				t.Error(err)
			}
		}))
		err := newClient(t, s.URL).SetAlias(t.Context(), "m", "a", "1")
		if turbofan.ErrorCode(err) != c.code || asked != c.want {
			t.Errorf("%d: asked %d times, want %d: %v", c.status, asked, c.want, err)
		}
		s.Close()
	}
	if testing.Short() {
		return
	}
	_, err := newClient(t, "http://"+porttest.Address(t)).Versions(t.Context(), "m")
	wantCode(t, err, turbofan.EUnavailable)
}

func TestNewClientRefuses(t *testing.T) {
	for _, uri := range []string{"", "mlflow:5000", "file:///x", "http://", "::"} {
		_, err := mlflow.NewClient(uri, nil)
		wantCode(t, err, turbofan.EInvalid)
	}
}

// TestOperation holds the names for metrics to what there is, whatever is asked for.
func TestOperation(t *testing.T) {
	h := mlflow.NewHandler(nil, mlflow.HandlerConfig{Pages: http.NotFoundHandler()})
	for target, want := range map[string]string{
		"POST /api/2.0/mlflow/runs/search": "runs/search", "POST //ajax-api/2.0/mlflow/runs/search": "runs/search", "GET /api/2.0/mlflow/runs/search": "other",
		"GET /api/2.0/mlflow/logged-models/m-17": "logged-models/{id}", "DELETE /api/2.0/mlflow/logged-models/m-17/tags/x": "logged-models/{id}",
		"PUT /api/2.0/mlflow-artifacts/artifacts/1/2/model.json": "artifacts", "GET /get-artifact": "artifacts", "POST /graphql": "graphql",
		"GET /": "pages", "GET /ui/models/rul": "pages", "GET /health": "health", "GET /wp-login.php": "other", "GET /api/2.0/mlflow/party": "other",
	} {
		method, path, _ := strings.Cut(target, " ")
		if got := h.Operation(&http.Request{Method: method, URL: &url.URL{Path: path}}); got != want {
			t.Errorf("%s is %q, want %q", target, got, want)
		}
	}
}
