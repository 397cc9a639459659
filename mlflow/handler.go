package mlflow

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"

	"turbofan"
)

// HandlerConfig says how the server behaves; the zero value is a server for one machine or one private network.
type HandlerConfig struct {
	Logger *slog.Logger
	// AllowedHosts are further names by which the server may be called, such as mlflow.example.com; "*" allows any.
	// Addresses, single words and names of private networks always are: a page elsewhere cannot make a browser send
	// those, and that is what the check is against.
	AllowedHosts []string
	// MaxBody bounds the JSON bodies in bytes, 4 MiB by default. Artifacts have no bound.
	MaxBody int64
	// SignFor, where there is one, has the addresses signed that are handed out for parts and ranges, so that they need no
	// key: see [Handler.Signed], which whoever checks keys must ask. It names the key of the request that asks for them, in
	// 16 bytes at most: with that key they end.
	SignFor func(context.Context) string
	// Pages answers / and what is below /ui/, for people; nil leaves both out.
	Pages http.Handler
}

const defaultMaxBody = 4 << 20

// Of the bodies above largeBody bytes so many are read at once; the next waits. What JSON decodes to can be thirty times
// as large as its text.
const (
	largeBody = 64 << 10
	atOnce    = 4
)

// Of pages with more than largePage runs so many are made at once; the next waits. A run takes some kilobytes until it is
// written as JSON.
const (
	largePage   = 200
	pagesAtOnce = 2
)

// serverVersion is the MLflow version whose REST surface this is. Clients read it to know what they may ask; below 3.4
// they do not try to send traces by OpenTelemetry.
const serverVersion = "3.3.2"

// Handler answers MLflow's REST API.
type Handler struct {
	server turbofan.ModelServer
	cfg    HandlerConfig
	log    *slog.Logger
	calls  map[string]call
	cross  *http.CrossOriginProtection
	large  chan struct{}
	pages  chan struct{}
	signer *signer // nil where addresses need no signature
	answer sync.Pool
}

// call answers one request in JSON; what it wrote is dropped when it returns an error.
type call func(h *Handler, q *request, w *answer) error

// NewHandler returns MLflow's REST API 2.0 over server: tracking, model registry, logged models, the artifact proxy
// and what the UI asks for, under /api and /ajax-api.
func NewHandler(server turbofan.ModelServer, cfg HandlerConfig) *Handler {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.MaxBody == 0 {
		cfg.MaxBody = defaultMaxBody
	}
	h := &Handler{server: server, cfg: cfg, log: cfg.Logger, calls: calls(), cross: http.NewCrossOriginProtection(), large: make(chan struct{}, atOnce), pages: make(chan struct{}, pagesAtOnce),
		answer: sync.Pool{New: func() any { return &answer{b: make([]byte, 0, 4096)} }}}
	if cfg.SignFor != nil {
		h.signer = newSigner()
	}
	return h
}

// calls is every JSON call by method and path below /api/2.0/mlflow/.
func calls() map[string]call {
	return map[string]call{
		"POST experiments/create":                createExperiment,
		"GET experiments/get":                    getExperiment,
		"GET experiments/get-by-name":            getExperimentByName,
		"GET experiments/search":                 searchExperiments,
		"POST experiments/search":                searchExperiments,
		"POST experiments/update":                updateExperiment,
		"POST experiments/delete":                deleteExperiment,
		"POST experiments/restore":               restoreExperiment,
		"POST experiments/set-experiment-tag":    setExperimentTag,
		"POST experiments/delete-experiment-tag": deleteExperimentTag,
		"POST experiments/search-datasets":       searchDatasets,

		"POST runs/create":        createRun,
		"GET runs/get":            getRun,
		"POST runs/update":        updateRun,
		"POST runs/delete":        deleteRun,
		"POST runs/restore":       restoreRun,
		"POST runs/search":        searchRuns,
		"POST runs/log-metric":    logMetric,
		"POST runs/log-parameter": logParameter,
		"POST runs/set-tag":       setTag,
		"POST runs/delete-tag":    deleteTag,
		"POST runs/log-batch":     logBatch,
		"POST runs/log-inputs":    logInputs,
		"POST runs/outputs":       logOutputs,
		"POST runs/log-model":     logModel,

		"GET metrics/get-history":               metricHistory,
		"GET metrics/get-history-bulk":          metricHistoryBulk,
		"GET metrics/get-history-bulk-interval": metricHistoryInterval,
		"GET artifacts/list":                    listRunArtifacts,

		"POST registered-models/create":              createModel,
		"GET registered-models/get":                  getModel,
		"PATCH registered-models/update":             updateModel,
		"POST registered-models/rename":              renameModel,
		"DELETE registered-models/delete":            deleteModel,
		"GET registered-models/search":               searchModels,
		"GET registered-models/get-latest-versions":  latestVersions,
		"POST registered-models/get-latest-versions": latestVersions,
		"POST registered-models/set-tag":             setModelTag,
		"DELETE registered-models/delete-tag":        deleteModelTag,
		"POST registered-models/alias":               setAlias,
		"DELETE registered-models/alias":             deleteAlias,
		"GET registered-models/alias":                getByAlias,

		"POST model-versions/create":           createVersion,
		"GET model-versions/get":               getVersion,
		"PATCH model-versions/update":          updateVersion,
		"POST model-versions/transition-stage": transitionStage,
		"DELETE model-versions/delete":         deleteVersion,
		"GET model-versions/search":            searchVersions,
		"GET model-versions/get-download-uri":  downloadURI,
		"POST model-versions/set-tag":          setVersionTag,
		"DELETE model-versions/delete-tag":     deleteVersionTag,

		"POST logged-models":                           createLoggedModel,
		"POST logged-models/search":                    searchLoggedModels,
		"GET logged-models/{id}":                       getLoggedModel,
		"PATCH logged-models/{id}":                     finalizeLoggedModel,
		"DELETE logged-models/{id}":                    deleteLoggedModel,
		"PATCH logged-models/{id}/tags":                setLoggedModelTags,
		"DELETE logged-models/{id}/tags/{key}":         deleteLoggedModelTag,
		"POST logged-models/{id}/params":               logLoggedModelParams,
		"GET logged-models/{id}/artifacts/directories": listLoggedModelArtifacts,
		"GET server-info":                              serverInfo,
		"POST traces/search":                           noTraces,
		"POST datasets/search":                         noDatasets,
	}
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("X-Frame-Options", "SAMEORIGIN")
	path := "/" + strings.TrimLeft(r.URL.Path, "/")
	switch path {
	case "/health":
		writeText(w, "OK")
		return
	case "/version":
		writeText(w, serverVersion)
		return
	}
	if !h.allowedHost(r.Host) {
		http.Error(w, "Invalid Host header - possible DNS rebinding attack detected", http.StatusForbidden)
		return
	}
	if err := h.cross.Check(r); err != nil {
		http.Error(w, "Cross-origin request blocked", http.StatusForbidden)
		return
	}
	if h.serveFiles(w, r, path) {
		return
	}
	if h.cfg.Pages != nil && (path == "/" || strings.HasPrefix(path, "/ui/")) {
		h.cfg.Pages.ServeHTTP(w, r)
		return
	}
	if path == "/graphql" && r.Method == http.MethodPost {
		h.serveJSON(w, r, graphQL, "")
		return
	}
	rest, ok := apiPath(path)
	if !ok {
		h.notFound(w, r)
		return
	}
	if c, ok := h.calls[r.Method+" "+rest]; ok {
		h.serveJSON(w, r, c, "")
		return
	}
	if c, tail, ok := h.loggedModelCall(r.Method, rest); ok {
		h.serveJSON(w, r, c, tail)
		return
	}
	h.notFound(w, r)
}

// apiPath cuts /api/2.0/mlflow/ and its relatives off a path.
func apiPath(path string) (string, bool) {
	for _, prefix := range [...]string{"/api/2.0/mlflow/", "/ajax-api/2.0/mlflow/", "/api/3.0/mlflow/", "/ajax-api/3.0/mlflow/",
		"/api/2.0/preview/mlflow/", "/ajax-api/2.0/preview/mlflow/"} {
		if rest, ok := strings.CutPrefix(path, prefix); ok {
			return rest, true
		}
	}
	return "", false
}

// loggedModelCall finds the calls that carry an identifier in their path. The tail is "id" or "id/key".
func (h *Handler) loggedModelCall(method, rest string) (call, string, bool) {
	after, ok := strings.CutPrefix(rest, "logged-models/")
	if !ok {
		return nil, "", false
	}
	id, sub, deeper := strings.Cut(after, "/")
	pattern, tail := "logged-models/{id}", id
	if deeper {
		if key, ok := strings.CutPrefix(sub, "tags/"); ok {
			pattern, tail = pattern+"/tags/{key}", id+"/"+key
		} else {
			pattern += "/" + sub
		}
	}
	c, ok := h.calls[method+" "+pattern]
	return c, tail, ok && id != ""
}

func (h *Handler) notFound(w http.ResponseWriter, r *http.Request) {
	writeErrorCode(w, http.StatusNotFound, "ENDPOINT_NOT_FOUND", "No such endpoint: "+r.Method+" "+r.URL.Path)
}

func writeText(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte(text)) // a client that has gone needs no answer
}

// serveJSON runs one call.
func (h *Handler) serveJSON(w http.ResponseWriter, r *http.Request, c call, tail string) {
	entered := false
	defer func() {
		if entered {
			<-h.large
		}
	}()
	q, err := readRequest(w, r, h.cfg.MaxBody, func() error {
		select {
		case h.large <- struct{}{}:
			entered = true
			return nil
		case <-r.Context().Done():
			return r.Context().Err()
		}
	})
	if err != nil {
		h.fail(w, r, err)
		return
	}
	q.tail = tail
	a := h.answer.Get().(*answer)
	defer h.release(a)
	a.b = append(a.b[:0], '{')
	if err := c(h, q, a); err != nil {
		h.fail(w, r, err)
		return
	}
	a.b = append(a.b, '}')
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(a.b) // a client that has gone needs no answer
}

// release gives a buffer back, unless one large page would stay with the server for good.
func (h *Handler) release(a *answer) {
	if cap(a.b) <= 1<<20 {
		h.answer.Put(a)
	}
}

// fail answers an error in MLflow's words.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	code, status := mlflowCode(err)
	message := turbofan.ErrorMessage(err)
	if code == "INTERNAL_ERROR" {
		if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
			return // the client has gone
		}
		h.log.Error("MLflow request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	writeErrorCode(w, status, code, message)
}

func writeErrorCode(w http.ResponseWriter, status int, code, message string) {
	a := answer{b: []byte{'{'}}
	a.text("error_code", code)
	a.text("message", message)
	a.b = append(a.b, '}')
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(a.b) // a client that has gone needs no answer
}

// mlflowCode is the error code of MLflow, and the status that goes with it, for ours.
func mlflowCode(err error) (string, int) {
	switch turbofan.ErrorCode(err) {
	case turbofan.EInvalid, turbofan.EInsufficient:
		return "INVALID_PARAMETER_VALUE", http.StatusBadRequest
	case turbofan.ENotFound:
		return "RESOURCE_DOES_NOT_EXIST", http.StatusNotFound
	case turbofan.EConflict:
		return "RESOURCE_ALREADY_EXISTS", http.StatusBadRequest
	case turbofan.ETooLarge:
		return "INVALID_PARAMETER_VALUE", http.StatusBadRequest
	case turbofan.EUnauthorized:
		return "UNAUTHENTICATED", http.StatusUnauthorized
	case turbofan.EExhausted:
		return "RESOURCE_EXHAUSTED", http.StatusTooManyRequests
	case turbofan.EUnavailable:
		return "TEMPORARILY_UNAVAILABLE", http.StatusServiceUnavailable
	case turbofan.ETimeout:
		return "DEADLINE_EXCEEDED", http.StatusGatewayTimeout
	}
	return "INTERNAL_ERROR", http.StatusInternalServerError
}

// allowedHost refuses public names nobody allowed: a page could point its own name at this address and speak to the
// server as if it were that page's.
func (h *Handler) allowedHost(hostport string) bool {
	// Longer than any name of DNS with a port; an upload's addresses repeat it ten thousand times.
	if len(hostport) > 260 {
		return false
	}
	if turbofan.PrivateHost(hostport) {
		return true
	}
	host := hostport
	if name, _, err := net.SplitHostPort(hostport); err == nil {
		host = name
	}
	return slices.ContainsFunc(h.cfg.AllowedHosts, func(allowed string) bool {
		return allowed == "*" || strings.EqualFold(allowed, strings.TrimSuffix(host, "."))
	})
}

// serverInfo offers no files in parts, though they work: a client that reads the offer has no other way left where a
// proxy changes paths. Who wants them sets MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD, or …_DOWNLOAD.
func serverInfo(_ *Handler, _ *request, w *answer) error {
	w.text("store_type", "SqlStore")
	w.boolean("workspaces_enabled", false)
	w.boolean("trace_archival_enabled", false)
	w.boolean("multipart_uploads_enabled", false)
	w.boolean("multipart_downloads_enabled", false)
	return nil
}

// noTraces and noDatasets answer what newer UIs ask of features that are not here.
func noTraces(_ *Handler, _ *request, w *answer) error {
	w.list("traces", func() {})
	return nil
}

func noDatasets(_ *Handler, _ *request, w *answer) error {
	w.list("datasets", func() {})
	return nil
}
