package httpapi

import (
	"bytes"
	"compress/gzip"
	"embed"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
)

// parameter is a parameter of a path or a query.
type parameter struct {
	name, kind string // kind is a type of JSON Schema
	format     string // of a string
	doc        string
	low, high  int // bounds of an integer
	or         any // what it is when it is absent; nil when it has no default
	required   bool
}

// bodyDoc describes a request's or an answer's body.
type bodyDoc struct {
	// describe gives the schema in OpenAPI's dialect; types of the root go through s.
	describe func(s *schemas) node
	// bento is the schema for BentoML's clients. They drop every field that it does not list, so it says less where an
	// object may have several forms. Nil derives it from describe.
	bento    node
	types    []string // media types beside JSON
	examples []example
	optional bool
}

type example struct {
	name  string
	value raw // JSON
	mime  string
}

// docOf describes values of type T, with one of them as the example.
func docOf[T any](sample T) *bodyDoc {
	return &bodyDoc{
		describe: func(s *schemas) node { return s.of(reflect.TypeFor[T]()) },
		examples: []example{{name: "answer", value: raw(new(codec).append(nil, sample))}},
	}
}

// documents adds /schema.json, /docs.json and the Swagger UI.
func (a *api) documents() error {
	schema, docs := a.schemaJSON(), a.docsJSON()
	for _, d := range []struct {
		path, summary string
		body          []byte
	}{
		{"/schema.json", "What BentoML's Python clients read to build their methods.", schema},
		{"/docs.json", "This document.", docs},
	} {
		body := d.body
		a.add(&operation{method: http.MethodGet, path: d.path, infra: true, summary: d.summary, handle: func(c *call) error {
			c.out = append(c.out, body...)
			return nil
		}})
	}
	return a.swagger()
}

// schemaJSON returns the service's description in BentoML's shape and key order.
func (a *api) schemaJSON() []byte {
	inline := &schemas{codec: a.codec}
	var routes []node
	paths := node{}
	for _, op := range a.ops {
		if op.name == "" {
			continue
		}
		input, output := op.input.forBento(inline), op.output.forBento(inline)
		if input.get("properties") == nil {
			input = input.with("properties", node{}) // a client fails without it
		}
		routes = append(routes, node{
			{"name", op.name},
			{"route", op.path},
			{"doc", strings.TrimSpace(op.summary + "\n\n" + op.doc)},
			{"batchable", false},
			{"input", input},
			{"output", output},
			{"is_task", op.task},
		})
		paths = append(paths, member{op.path, node{{"mounted", false}}})
	}
	for _, op := range a.ops { // what stands beside BentoML's methods and follows other protocols
		if paths.get(op.path) == nil && op.dialect != ownDialect {
			paths = append(paths, member{op.path, node{{"mounted", true}}})
		}
	}
	return node{
		{"name", a.service}, {"type", "service"}, {"routes", routes}, {"description", a.about}, {"paths", paths},
	}.append(nil)
}

func (b *bodyDoc) forBento(s *schemas) node {
	switch {
	case b == nil:
		return node{{"type", "object"}, {"title", "Input"}, {"properties", node{}}}
	case b.bento != nil:
		return b.bento
	}
	return b.describe(s)
}

// docsJSON returns the OpenAPI document of the role.
func (a *api) docsJSON() []byte {
	components := &node{}
	s := &schemas{codec: a.codec, components: components, describe: descriptions()}
	*components = append(*components, member{"Error", errorSchema()})
	for _, op := range a.ops {
		if name, schema := op.dialect.errorSchema(); components.get(name) == nil {
			*components = append(*components, member{name, schema})
		}
	}
	paths := node{}
	infra := func(path, summary string, how dialect) {
		media := node{{"text/plain", node{{"schema", node{{"type", "string"}}}}}}
		if strings.HasSuffix(path, ".json") {
			media = node{{mimeJSON, node{{"schema", node{{"type", "object"}}}}}}
		}
		get := node{
			{"tags", []string{"Infrastructure"}}, {"summary", summary}, {"operationId", a.service + "__" + strings.Trim(strings.ReplaceAll(path, ".", "_"), "/")},
			{"responses", responses(node{{"description", "Successful Response"}, {"content", media}}, "200", infraErrors(path), how)},
		}
		get = a.openDoc(get, http.MethodGet, path)
		paths = append(paths, member{path, node{{"get", get}}})
	}
	for _, op := range a.ops {
		if op.infra && op.output == nil {
			infra(op.path, op.summary, op.dialect)
			continue
		}
		paths = paths.operation(op, a.operationDoc(op, s))
	}
	infra("/schema.json", "What BentoML's Python clients read to build their methods.", ownDialect)
	infra("/docs.json", "This document.", ownDialect)
	doc := node{
		{"openapi", "3.0.2"},
		{"info", node{{"title", a.service}, {"version", a.cfg.Version}, {"description", a.about}}},
		{"servers", []node{{{"url", "."}}}},
		{"tags", []node{
			{{"name", "Service APIs"}, {"description", a.about}},
			{{"name", "Infrastructure"}, {"description", "Health, metrics and documents."}},
		}},
		{"paths", paths},
	}
	if !a.o.Keys {
		return append(doc, member{"components", node{{"schemas", *components}}}).append(nil)
	}
	return append(doc,
		member{"components", node{{"schemas", *components}, {"securitySchemes", node{
			{"bearer", node{{"type", "http"}, {"scheme", "bearer"}, {"description", "An API key, as turbofan keys new makes them."}}},
			{"header", node{{"type", "apiKey"}, {"in", "header"}, {"name", "X-Api-Key"}, {"description", "The same key."}}},
			{"basic", node{{"type", "http"}, {"scheme", "basic"}, {"description", "The same key as the password; the name says nothing."}}},
		}}}},
		member{"security", []node{{{"bearer", []string{}}}, {{"header", []string{}}}, {{"basic", []string{}}}}},
	).append(nil)
}

// openDoc says of an operation that needs no key that it needs none, where others do.
func (a *api) openDoc(doc node, method, path string) node {
	if a.o.Keys && needs(a.service, &http.Request{Method: method, URL: &url.URL{Path: path}}, false) == Open {
		doc = append(doc, member{"security", []node{}})
	}
	return doc
}

func infraErrors(path string) []int {
	switch path {
	case "/readyz", "/v2/health/ready", "/ping", "/health":
		return []int{http.StatusServiceUnavailable}
	}
	return nil
}

// operation adds a method to the path that it belongs to.
func (n node) operation(op *operation, doc node) node {
	method := strings.ToLower(op.method)
	for i, m := range n {
		if m.key == op.path {
			n[i].value = m.value.(node).with(method, doc)
			return n
		}
	}
	return append(n, member{op.path, node{{method, doc}}})
}

func (a *api) operationDoc(op *operation, s *schemas) node {
	tag := "Service APIs"
	if op.infra {
		tag = "Infrastructure"
	}
	doc := node{{"tags", []string{tag}}, {"summary", op.summary}}
	if op.doc != "" {
		doc = append(doc, member{"description", op.doc})
	}
	id := op.name
	if id == "" {
		id = strings.ToLower(op.method) + strings.NewReplacer("/", "_", "{", "", "}", "").Replace(op.path)
	} else {
		doc = append(doc, member{"x-bentoml-name", op.name})
	}
	doc = append(doc, member{"operationId", a.service + "__" + id})
	if parameters := op.parameters(); len(parameters) > 0 {
		doc = append(doc, member{"parameters", parameters})
	}
	if op.input != nil {
		doc = append(doc, member{"requestBody", node{{"required", !op.input.optional}, {"content", op.input.content(s)}}})
	}
	status := "200"
	if op.status != 0 {
		status = fmt.Sprint(op.status)
	}
	good := node{{"description", "Successful Response"}, {"content", op.output.content(s)}}
	codes := append([]int{400, 401, 403, 429, 500, 503, 504}, op.errors...)
	if op.infra {
		codes = infraErrors(op.path)
	}
	if op.input != nil {
		codes = append(codes, 408, 413, 415)
	}
	return a.openDoc(append(doc, member{"responses", responses(good, status, codes, op.dialect)}), op.method, op.path)
}

// pathExample returns what a parameter of a path may be.
func pathExample(name string) string {
	switch name {
	case "model_name":
		return samplePrediction().ModelName
	case "prediction_id":
		return samplePrediction().ID
	case "job_id":
		return "j-1"
	}
	return "1" // a unit, a version
}

func (op *operation) parameters() []node {
	var out []node
	for _, part := range strings.Split(op.path, "{")[1:] {
		name, _, _ := strings.Cut(part, "}")
		out = append(out, node{{"name", name}, {"in", "path"}, {"required", true}, {"example", pathExample(name)}, {"schema", node{{"type", "string"}, {"minLength", 1}}}})
	}
	for _, p := range op.query {
		schema := node{{"type", p.kind}}
		if p.kind == "integer" {
			schema = append(schema, member{"minimum", p.low}, member{"maximum", p.high})
		}
		if p.format != "" {
			schema = append(schema, member{"format", p.format})
		}
		if p.or != nil {
			schema = append(schema, member{"default", p.or})
		}
		out = append(out, node{{"name", p.name}, {"in", "query"}, {"required", p.required}, {"description", p.doc}, {"schema", schema}})
	}
	return out
}

func (b *bodyDoc) content(s *schemas) node {
	examples := map[string]node{}
	for _, e := range b.examples {
		kind := e.mime
		if kind == "" {
			kind = mimeJSON
		}
		examples[kind] = examples[kind].with(e.name, node{{"value", e.value}})
	}
	media := func(schema node, kind string) member {
		m := node{{"schema", schema}}
		if n := examples[kind]; len(n) > 0 {
			m = append(m, member{"examples", n})
		}
		return member{kind, m}
	}
	out := node{media(b.describe(s), mimeJSON)}
	for _, kind := range b.types {
		schema := node{{"type", "string"}}
		if kind == mimeParquet || kind == mimeBinary {
			schema = append(schema, member{"format", "binary"})
		}
		out = append(out, media(schema, kind))
	}
	return out
}

func responses(good node, status string, codes []int, how dialect) node {
	out := node{{status, good}}
	name, _ := how.errorSchema()
	content := node{{mimeJSON, node{{"schema", ref(name)}}}}
	for _, code := range codes {
		out = append(out, member{fmt.Sprint(code), node{{"description", http.StatusText(code)}, {"content", content}}})
	}
	return out
}

// errorSchema returns the name and the schema of the errors of a dialect.
func (d dialect) errorSchema() (string, node) {
	one := func(name string) node { return node{{"type", "string"}, {"description", name}} }
	switch d {
	case inferenceDialect:
		return "InferenceError", node{
			{"type", "object"}, {"title", "InferenceError"}, {"properties", node{{"error", one("What went wrong; it begins with the field at fault.")}}},
			{"required", []string{"error"}},
		}
	case mlflowDialect:
		return "InvocationError", node{
			{"type", "object"}, {"title", "InvocationError"},
			{"properties", node{
				{"error_code", node{{"type", "string"}, {"enum", mlflowCodes()}}}, {"message", one("What went wrong; it begins with the field at fault.")},
			}},
			{"required", []string{"error_code", "message"}},
		}
	}
	return "Error", errorSchema()
}

func errorSchema() node {
	return node{
		{"type", "object"}, {"title", "Error"},
		{"properties", node{
			{"error", node{{"type", "string"}, {"description", "What went wrong, for a person; it begins with the field at fault."}}},
			{"code", node{{"type", "string"}, {"enum", errorCodes()}}},
			{"field", node{{"type", "string"}, {"description", "The path of the input at fault, where there is one."}}},
		}},
		{"required", []string{"error", "code"}},
		{"example", node{{"error", "reading.sensors[3]: sensor_4 must be a finite number, or null where it is missing"}, {"code", "invalid"}, {"field", "reading.sensors[3]"}}},
	}
}

// The built files of swagger-ui-dist 5.35.0 (Apache-2.0, see LICENSE and NOTICE beside them), gzipped, without the
// comments that point to source maps.
//
//go:embed swagger
var swaggerFiles embed.FS

// contentPolicy lets the page load and call what it came from, and nothing else. Swagger UI sets inline styles.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

const swaggerPage = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>%s</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="./static_content/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="./static_content/swagger-ui-bundle.js"></script>
<script src="./static_content/swagger-ui-standalone-preset.js"></script>
<script src="./static_content/swagger-initializer.js"></script>
</body>
</html>
`

// validatorUrl is null because the badge would otherwise send the document's address to a server on the internet.
const swaggerInitializer = `window.onload = function () {
  window.ui = SwaggerUIBundle({
    url: "./docs.json",
    dom_id: "#swagger-ui",
    deepLinking: true,
    validatorUrl: null,
    presets: [SwaggerUIBundle.presets.apis, SwaggerUIStandalonePreset],
    layout: "StandaloneLayout"
  });
};
`

// swagger adds the page at / and its files below /static_content.
func (a *api) swagger() error {
	page := []byte(fmt.Sprintf(swaggerPage, a.service))
	a.static("/", "text/html; charset=utf-8", page, nil)
	a.static("/static_content/swagger-initializer.js", "text/javascript; charset=utf-8", []byte(swaggerInitializer), nil)
	for name, mime := range map[string]string{
		"swagger-ui.css":                  "text/css; charset=utf-8",
		"swagger-ui-bundle.js":            "text/javascript; charset=utf-8",
		"swagger-ui-standalone-preset.js": "text/javascript; charset=utf-8",
	} {
		zipped, err := swaggerFiles.ReadFile("swagger/" + name + ".gz")
		if err != nil {
			return fmt.Errorf("read embedded %s: %w", name, err)
		}
		a.static("/static_content/"+name, mime, nil, zipped)
	}
	return nil
}

// static adds a file that is plain or gzipped.
func (a *api) static(path, mime string, plain, zipped []byte) {
	types := []string{mime}
	a.add(&operation{method: http.MethodGet, path: path, infra: true, summary: "Swagger UI.", handle: func(c *call) error {
		h := c.w.Header()
		h.Set("Content-Security-Policy", contentPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-cache")
		c.mime = types
		if zipped == nil {
			c.out = append(c.out, plain...)
			return nil
		}
		h.Set("Vary", "Accept-Encoding")
		if strings.Contains(c.r.Header.Get("Accept-Encoding"), "gzip") {
			h.Set("Content-Encoding", "gzip")
			c.out = append(c.out, zipped...)
			return nil
		}
		z, err := gzip.NewReader(bytes.NewReader(zipped))
		if err != nil {
			return fmt.Errorf("unpack %s: %w", path, err)
		}
		text, err := io.ReadAll(z)
		c.out = append(c.out, text...)
		return err
	}})
}
