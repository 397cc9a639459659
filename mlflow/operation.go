package mlflow

import (
	"net/http"
	"strings"
)

// Operation names what a request asks for, for metrics: a call such as "runs/search", or one of artifacts, pages,
// graphql, health, version and other. There are as many names as there are calls, whatever is asked for.
func (h *Handler) Operation(r *http.Request) string {
	path := "/" + strings.TrimLeft(r.URL.Path, "/")
	if rest, ok := apiPath(path); ok {
		if _, ok := h.calls[r.Method+" "+rest]; ok {
			return rest
		}
		if _, _, ok := h.loggedModelCall(r.Method, rest); ok {
			return "logged-models/{id}"
		}
	}
	switch {
	case path == "/health", path == "/version", path == "/graphql":
		return path[1:]
	case strings.Contains(path, proxyPath), strings.HasSuffix(path, "/get-artifact"), strings.HasSuffix(path, "/upload-artifact"), strings.HasSuffix(path, "/artifacts/files"):
		return "artifacts"
	case h.cfg.Pages != nil && (path == "/" || strings.HasPrefix(path, "/ui/")):
		return "pages"
	}
	return "other"
}
