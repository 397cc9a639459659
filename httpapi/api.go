package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"turbofan"
)

// statusClientGone is what the log and the metrics say when the caller left before its answer (nginx's code).
const statusClientGone = 499

// api serves the routes of one role: it finds the route, bounds the work, writes the answer, counts and logs it. The
// routes only decode, call the service and encode.
type api struct {
	cfg     Config
	service string
	about   string // one sentence, for the documents
	o       Options
	metrics *metrics
	limit   *limiter
	origin  *http.CrossOriginProtection
	codec   *codec
	ops     []*operation
	exact   map[string]*route
	params  []*route
	other   *route
	// The Content-Types of most answers, shared: a slice a request would be an allocation a request.
	json, plain []string
	calls       sync.Pool
	// buffered counts the bytes of large bodies in memory.
	buffered atomic.Int64
}

// operation is one method on one path, with what the documents say of it.
type operation struct {
	method, path string
	// name is the method's name in BentoML's clients; empty for what they do not call.
	name    string
	summary string
	doc     string
	query   []parameter
	input   *bodyDoc
	output  *bodyDoc
	status  int   // of a good answer, when it is not 200
	errors  []int // status codes beside those that every operation may answer
	task    bool  // a BentoML task
	infra   bool  // health, metrics and documents: never limited, logged or given an id
	dialect dialect
	// uncounted is for the metrics themselves.
	uncounted bool
	handle    func(c *call) error
	done      func(c *call, took time.Duration) // called after the answer, for counting
}

// dialect is how an operation writes its errors: in the platform's way, or in that of a protocol that others made.
type dialect uint8

const (
	ownDialect       dialect = iota // {"error": ..., "code": ..., "field": ...}
	inferenceDialect                // Open Inference Protocol: {"error": ...}
	mlflowDialect                   // {"error_code": ..., "message": ...}
)

// route is one path with its operations by method.
type route struct {
	template string
	segments []string // "{}" stands for any one segment
	methods  map[string]*operation
	allow    string
	metrics  *routeMetrics
}

// call is one request on its way. Calls are pooled: whatever outlives the request must be copied out.
type call struct {
	api      *api
	ctx      context.Context
	r        *http.Request
	w        http.ResponseWriter
	op       *operation
	params   [2]string // the values of the path's parameters
	id       string
	body     []byte // the request's, whole and decompressed
	reserved int64  // what of it was taken from the budget of all bodies
	out      []byte // the answer's
	status   int
	mime     []string
	location string
	err      error
	scanner  scanner
	partial  partial // the reading being read
	top      partial // the fields of a reading that stand in the request itself
}

func newAPI(cfg Config, service, about string, o Options) (*api, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure %s: %w", service, err)
	}
	if cfg.Version == "" {
		cfg.Version = "not available"
	}
	if cfg.Role == "" {
		cfg.Role = service
	}
	a := &api{
		cfg: cfg, service: cfg.Role, about: about, o: o.withDefaults(), codec: new(codec),
		limit: newLimiter(cfg.MaxConcurrency, cfg.MaxQueue), origin: http.NewCrossOriginProtection(), exact: make(map[string]*route), json: []string{mimeJSON}, plain: []string{"text/plain; charset=utf-8"},
	}
	for _, origin := range cfg.TrustedOrigins {
		if err := a.origin.AddTrustedOrigin(origin); err != nil {
			return nil, turbofan.Invalid("trusted_origins", "%q is not an origin such as https://console.example.org", origin)
		}
	}
	var err error
	if a.metrics, err = newMetrics(a.o.Registry, a.service, cfg.Version); err != nil {
		return nil, err
	}
	a.calls.New = func() any { return &call{api: a} }
	a.other = &route{template: otherEndpoint, metrics: a.metrics.route(otherEndpoint, false)}
	return a, nil
}

// add enters an operation.
func (a *api) add(op *operation) {
	a.ops = append(a.ops, op)
	rt := a.exact[op.path]
	for _, p := range a.params {
		if p.template == op.path {
			rt = p
		}
	}
	if rt == nil {
		rt = &route{template: op.path, methods: make(map[string]*operation), metrics: a.other.metrics}
		if !op.uncounted {
			rt.metrics = a.metrics.route(op.path, !op.infra)
		}
		if strings.Contains(op.path, "{") {
			for _, segment := range strings.Split(op.path[1:], "/") {
				if segment[0] == '{' {
					segment = "{}"
				}
				rt.segments = append(rt.segments, segment)
			}
			a.params = append(a.params, rt)
		} else {
			a.exact[op.path] = rt
		}
	}
	rt.methods[op.method] = op
	if rt.allow != "" {
		rt.allow += ", "
	}
	rt.allow += op.method
	if op.method == http.MethodGet {
		rt.methods[http.MethodHead] = op
		rt.allow += ", " + http.MethodHead
	}
}

// match finds the route of a request and the values of its path parameters.
func (a *api) match(u *url.URL) (rt *route, params [2]string) {
	if rt := a.exact[u.Path]; rt != nil {
		return rt, params
	}
	if len(a.params) == 0 || u.Path == "" {
		return a.other, params
	}
	// Escaped, so that a unit may have a slash in its name.
	segments := strings.Split(strings.TrimPrefix(u.EscapedPath(), "/"), "/")
	for _, rt := range a.params {
		if params, ok := rt.match(segments); ok {
			return rt, params
		}
	}
	return a.other, params
}

func (rt *route) match(segments []string) (params [2]string, ok bool) {
	if len(segments) != len(rt.segments) {
		return params, false
	}
	n := 0
	for i, want := range rt.segments {
		if want != "{}" {
			if segments[i] != want {
				return params, false
			}
			continue
		}
		text, err := url.PathUnescape(segments[i])
		if err != nil || text == "" {
			return params, false
		}
		params[n] = text
		n++
	}
	return params, true
}

// ServeHTTP answers one request.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	rt, params := a.match(r.URL)
	op := rt.methods[r.Method]
	if op != nil && op.uncounted {
		a.bare(op, w, r)
		return
	}
	rt.metrics.inProgress.Inc()
	defer rt.metrics.inProgress.Dec()
	c := a.calls.Get().(*call)
	c.r, c.w, c.op, c.params = r, w, op, params
	c.body, c.out, c.status, c.mime, c.location, c.err = c.body[:0], c.out[:0], http.StatusOK, a.json, "", nil
	if op == nil || !op.infra {
		c.id = requestID(r)
	} else {
		c.id = ""
	}
	nameSpan(r, rt.template, c.id)
	c.err = a.answer(c, rt)
	if c.err != nil {
		c.fail(c.err)
	}
	c.write()
	took := time.Since(start)
	rt.metrics.observe(c.status, start, took)
	if op == nil || !op.infra {
		if op != nil && op.done != nil {
			op.done(c, took)
		}
		a.log(c, rt, took)
	}
	c.forget()
	a.calls.Put(c)
}

// bare answers what is neither counted nor logged: the metrics themselves.
func (a *api) bare(op *operation, w http.ResponseWriter, r *http.Request) {
	c := &call{api: a, ctx: r.Context(), r: r, w: w, op: op}
	if err := op.handle(c); err != nil {
		a.o.Logger.Error("answer failed", "path", op.path, "error", err)
	}
}

// answer runs the operation and turns a panic into an error.
func (a *api) answer(c *call, rt *route) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	if c.op == nil {
		return a.noOperation(c, rt)
	}
	if c.op.infra {
		c.ctx = c.r.Context()
		return c.op.handle(c)
	}
	if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead {
		if err := a.origin.Check(c.r); err != nil {
			c.status = http.StatusForbidden
			return because(err, turbofan.EUnauthorized, "a page of another web origin may not send this request")
		}
	}
	// The body is read before a slot is taken, so that a slow sender holds up nobody but itself.
	if err := c.readBody(); err != nil {
		return err
	}
	ctx := newRequestContext(c.r.Context(), a.cfg.Timeout, c.id)
	defer ctx.end(context.Canceled)
	c.ctx = ctx
	if err := a.limit.acquire(c.ctx); err != nil {
		return err
	}
	defer a.limit.release()
	if err := c.op.handle(c); err != nil {
		return a.contextError(c, err)
	}
	return nil
}

// contextError gives an error that only says that the time is over the code and words for it.
func (a *api) contextError(c *call, err error) error {
	if _, ok := errors.AsType[*turbofan.Error](err); ok || c.ctx.Err() == nil {
		return err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return because(err, turbofan.ETimeout, "not answered within %s; the work was stopped", a.cfg.Timeout)
	}
	if errors.Is(err, context.Canceled) {
		return because(err, turbofan.EUnavailable, "the work was stopped before it was done")
	}
	return err
}

// noOperation answers for a path or a method that does not exist.
func (a *api) noOperation(c *call, rt *route) error {
	if rt != a.other {
		c.w.Header().Set("Allow", rt.allow)
		c.status = http.StatusMethodNotAllowed
		return turbofan.Invalid("method", "%s is not allowed here; use %s", clip([]byte(c.r.Method)), rt.allow)
	}
	p := c.r.URL.Path
	if short := strings.TrimSuffix(p, "/"); short != p && a.exact[short] != nil {
		c.status, c.location = http.StatusTemporaryRedirect, short
		return nil
	}
	if near := nearest(p, a.paths()); near != "" {
		return turbofan.Errorf(turbofan.ENotFound, "there is no %s here; did you mean %s?", strconv.QuoteToASCII(p), near)
	}
	return turbofan.Errorf(turbofan.ENotFound, "there is no such path here; GET /docs.json lists what there is")
}

func (a *api) paths() []string {
	out := make([]string, 0, len(a.ops))
	for _, op := range a.ops {
		if !op.infra {
			out = append(out, op.path)
		}
	}
	return out
}

// statusOf returns the HTTP status for an error code; unknown codes are internal.
func statusOf(code string) int {
	switch code {
	case turbofan.EInvalid:
		return http.StatusBadRequest
	case turbofan.EUnauthorized:
		return http.StatusUnauthorized
	case turbofan.ENotFound:
		return http.StatusNotFound
	case turbofan.EConflict:
		return http.StatusConflict
	case turbofan.ETooLarge:
		return http.StatusRequestEntityTooLarge
	case turbofan.EExhausted:
		return http.StatusTooManyRequests
	case turbofan.EUnavailable:
		return http.StatusServiceUnavailable
	case turbofan.ETimeout:
		return http.StatusGatewayTimeout
	case turbofan.EInsufficient:
		return http.StatusUnprocessableEntity
	}
	return http.StatusInternalServerError
}

// fail makes err the answer. A status that was set beside the error (405, 415) stays; else the code decides.
func (c *call) fail(err error) {
	code, field, message := turbofan.ErrorCode(err), "", turbofan.ErrorMessage(err)
	if e, ok := errors.AsType[*turbofan.Error](err); ok {
		field = e.Field
	}
	if c.status < 400 {
		c.status = statusOf(code)
		if ctx := c.r.Context(); ctx.Err() != nil && !errors.Is(context.Cause(ctx), errDrainOver) {
			c.status = statusClientGone
		}
	}
	if c.status == http.StatusInternalServerError && !isFailedTask(err) {
		code, field, message = turbofan.EInternal, "", "internal error"
	}
	c.mime, c.location = c.api.json, ""
	switch c.dialect() {
	case inferenceDialect:
		c.out = appendInferenceError(c.out[:0], message)
	case mlflowDialect:
		c.out = appendMLflowError(c.out[:0], code, message)
	default:
		c.out = appendError(c.out[:0], code, field, message)
	}
}

// dialect returns how errors of the request are written.
func (c *call) dialect() dialect {
	if c.op == nil && (c.r.URL.Path == "/v2" || strings.HasPrefix(c.r.URL.Path, "/v2/")) {
		return inferenceDialect // a path below that is no route, or a method that it does not have
	}
	if c.op == nil {
		return ownDialect
	}
	return c.op.dialect
}

// write sends the answer whole.
func (c *call) write() {
	h := c.w.Header()
	if c.mime != nil {
		h["Content-Type"] = c.mime
	}
	if c.id != "" {
		h["X-Bentoml-Request-Id"] = []string{c.id}
	}
	if c.location != "" {
		h.Set("Location", c.location)
	}
	if c.status == http.StatusTooManyRequests || c.status == http.StatusServiceUnavailable {
		h.Set("Retry-After", retryAfterSeconds)
	}
	// net/http finds the length of a short answer by itself.
	if len(c.out) > 2<<10 {
		h.Set("Content-Length", strconv.Itoa(len(c.out)))
	}
	c.w.WriteHeader(c.status)
	_, _ = c.w.Write(c.out) // an error means that the caller is gone: there is nobody to tell
}

// forget drops what a pooled call must not keep alive.
func (c *call) forget() {
	const keep = 1 << 20
	if c.reserved > 0 {
		c.api.buffered.Add(-c.reserved)
		c.reserved = 0
	}
	if cap(c.body) > smallBody {
		c.body = nil // a pooled body counts against nothing, so it must be small
	}
	if cap(c.out) > keep {
		c.out = nil
	}
	if cap(c.scanner.scratch) > keep {
		c.scanner.scratch = nil
	}
	c.scanner.data = nil
	c.partial.reading, c.top.reading = turbofan.Reading{}, turbofan.Reading{}
	c.ctx, c.r, c.w, c.op, c.err = nil, nil, nil, nil, nil
}

func (a *api) log(c *call, rt *route, took time.Duration) {
	level := slog.LevelInfo
	if c.status == http.StatusServiceUnavailable { // not ready, draining, or too busy: no fault of this process
		level = slog.LevelWarn
	} else if c.status >= 500 || c.status == statusClientGone && turbofan.ErrorCode(c.err) == turbofan.EInternal {
		level = slog.LevelError
	}
	if !a.o.Logger.Enabled(c.r.Context(), level) {
		return
	}
	attrs := [...]slog.Attr{
		slog.String("method", c.r.Method), slog.String("path", c.r.URL.Path), slog.String("route", rt.template), slog.Int("status", c.status),
		slog.Int("in", len(c.body)), slog.Int("out", len(c.out)), slog.Duration("took", took),
		slog.String("remote", c.r.RemoteAddr), slog.String("request_id", c.id), {}, {},
	}
	n := len(attrs) - 2
	if key := KeyName(c.r.Context()); key != "" {
		attrs[n] = slog.String("key", key)
		n++
	}
	if c.err != nil {
		attrs[n] = slog.Any("error", c.err)
		n++
	}
	a.o.Logger.LogAttrs(c.r.Context(), level, "request", attrs[:n]...)
}

// requestID takes the caller's id where it is sane, and makes one where it is not.
func requestID(r *http.Request) string {
	if given := r.Header["X-Request-Id"]; len(given) == 1 && saneID(given[0]) {
		return given[0]
	}
	const hex = "0123456789abcdef"
	var b [16]byte
	for i, v := 0, rand.Uint64(); i < len(b); i++ {
		b[i] = hex[v&15]
		v >>= 4
	}
	return string(b[:])
}

func saneID(id string) bool {
	if id == "" || len(id) > 64 {
		return false
	}
	for i := range len(id) {
		c := id[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.' {
			continue
		}
		return false
	}
	return true
}

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// because returns an error of the code whose cause is for the log only.
func because(cause error, code, format string, args ...any) error {
	return &turbofan.Error{Code: code, Message: fmt.Sprintf(format, args...), Err: cause}
}
