package mlflow

import (
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"
)

const (
	proxyPath      = "/mlflow-artifacts/"
	maxUploadBytes = 10 << 20
)

// cleanPath refuses a relative path that could lead elsewhere, also after it is decoded as often as it can be. The
// store behind refuses it again.
func cleanPath(p string) (string, error) {
	decoded := p
	for range 32 {
		next, err := url.PathUnescape(decoded)
		if err != nil || next == decoded {
			break
		}
		decoded = next
	}
	bad := strings.ContainsAny(decoded, "\x00\\#") || strings.HasPrefix(decoded, "/") || strings.HasPrefix(decoded, "file:") ||
		len(decoded) > 1 && decoded[1] == ':'
	for part := range strings.SplitSeq(decoded, "/") {
		bad = bad || part == ".."
	}
	if bad {
		return "", invalid("Invalid path")
	}
	if p = path.Clean(p); p == "." {
		p = ""
	}
	return p, nil
}

// serveFiles answers the calls that carry files rather than JSON.
func (h *Handler) serveFiles(w http.ResponseWriter, r *http.Request, p string) bool {
	for _, prefix := range [...]string{"/api/2.0", "/ajax-api/2.0"} {
		if rest, ok := strings.CutPrefix(p, prefix+proxyPath); ok {
			h.proxy(w, r, rest)
			return true
		}
	}
	get := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case p == "/get-artifact" && get:
		h.sendOf(w, r, "path", h.runArtifacts)
	case p == "/model-versions/get-artifact" && get:
		h.sendOf(w, r, "path", h.versionArtifacts)
	case p == "/ajax-api/2.0/mlflow/upload-artifact" && r.Method == http.MethodPost:
		h.upload(w, r)
	case strings.HasPrefix(p, "/ajax-api/2.0/mlflow/logged-models/") && strings.HasSuffix(p, "/artifacts/files") && get:
		id := strings.TrimSuffix(strings.TrimPrefix(p, "/ajax-api/2.0/mlflow/logged-models/"), "/artifacts/files")
		h.sendOf(w, r, "artifact_file_path", func(r *http.Request) (string, error) {
			m, err := h.server.LoggedModel(r.Context(), id)
			return m.ArtifactURI, err
		})
	default:
		return false
	}
	return true
}

// proxy is mlflow-artifacts: files below the artifact root by path.
func (h *Handler) proxy(w http.ResponseWriter, r *http.Request, rest string) {
	kind, rel, _ := strings.Cut(rest, "/")
	switch kind {
	case "mpu":
		h.multipart(w, r, rel)
		return
	case "presigned":
		h.presigned(w, r, rel)
		return
	}
	if kind != "artifacts" {
		h.notFound(w, r)
		return
	}
	if r.Method == http.MethodGet && rel == "" {
		h.serveJSON(w, r, listProxied, "")
		return
	}
	rel, err := cleanPath(rel)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	uri := "mlflow-artifacts:/" + rel
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		h.send(w, r, uri)
		return
	case http.MethodPut:
		allowTransfer(http.NewResponseController(w))
		err = h.server.PutArtifact(r.Context(), uri, r.Body)
	case http.MethodDelete:
		allowTransfer(http.NewResponseController(w)) // a folder may hold many
		err = h.server.DeleteArtifact(r.Context(), uri)
	default:
		h.notFound(w, r)
		return
	}
	if err != nil {
		h.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte("{}")) // a client that has gone needs no answer
}

func listProxied(h *Handler, q *request, w *answer) error {
	folder := q.text("path")
	if q.err != nil {
		return q.err
	}
	rel, err := cleanPath(folder)
	if err != nil {
		return err
	}
	files, err := h.server.ListArtifacts(q.Context(), "mlflow-artifacts:/"+rel)
	if err != nil {
		return err
	}
	w.artifacts("", "", files)
	return nil
}

func listRunArtifacts(h *Handler, q *request, w *answer) error {
	id, folder := q.runID(), q.text("path")
	if q.err != nil {
		return q.err
	}
	if _, err := cleanPath(folder); err != nil {
		return err
	}
	run, err := h.server.Run(q.Context(), id)
	if err != nil {
		return err
	}
	return h.listBelow(q, w, run.ArtifactURI, folder)
}

// listBelow lists a folder of a run or a logged model. The paths are relative to the root.
func (h *Handler) listBelow(q *request, w *answer, root, folder string) error {
	rel, err := cleanPath(folder)
	if err != nil {
		return err
	}
	files, err := h.server.ListArtifacts(q.Context(), joinURI(root, rel))
	if err != nil {
		return err
	}
	w.artifacts(root, rel, files)
	return nil
}

func (h *Handler) runArtifacts(r *http.Request) (string, error) {
	id := r.URL.Query().Get("run_id")
	if id == "" {
		id = r.URL.Query().Get("run_uuid")
	}
	run, err := h.server.Run(r.Context(), id)
	return run.ArtifactURI, err
}

func (h *Handler) versionArtifacts(r *http.Request) (string, error) {
	q := r.URL.Query()
	v, err := h.server.ModelVersion(r.Context(), q.Get("name"), q.Get("version"))
	return v.Storage, err
}

// sendOf sends the file that a query names below a root.
func (h *Handler) sendOf(w http.ResponseWriter, r *http.Request, param string, root func(*http.Request) (string, error)) {
	rel, err := cleanPath(r.URL.Query().Get(param))
	if err == nil && rel == "" {
		err = invalid("Request must include the \"%s\" query parameter.", param)
	}
	var uri string
	if err == nil {
		uri, err = root(r)
	}
	if err != nil {
		h.fail(w, r, err)
		return
	}
	h.send(w, r, joinURI(uri, rel))
}

// send sends one file, or the part of it that is asked for, always as an attachment: what a run left must not act as a
// page of this server.
func (h *Handler) send(w http.ResponseWriter, r *http.Request, uri string) {
	f, info, err := h.server.OpenArtifact(r.Context(), uri)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	defer f.Close()
	allowTransfer(http.NewResponseController(w))
	head := w.Header()
	head.Set("Content-Type", contentType(info.Path))
	head.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": info.Path}))
	if r.Header.Get("Range") == "" {
		// ServeContent would leave the length out for a client that asks for compression.
		head.Set("Content-Length", strconv.FormatInt(info.Size, 10))
		if r.Method == http.MethodGet {
			_, _ = io.Copy(w, f) // a client that has gone needs no answer
		}
		return
	}
	http.ServeContent(w, r, "", time.Time{}, f)
}

// contentType is MLflow's: what a browser can show as text is text, pictures are pictures, the rest is bytes.
func contentType(name string) string {
	switch ext := strings.ToLower(path.Ext(name)); ext {
	case ".txt", ".log", ".err", ".cfg", ".conf", ".cnf", ".cf", ".ini", ".properties", ".prop", ".hocon", ".toml", ".yaml", ".yml", ".xml",
		".json", ".js", ".py", ".py3", ".csv", ".tsv", ".md", ".rst", ".jsonnet", ".html", ".htm", ".css", ".sh", ".r", ".sql":
		return "text/plain"
	case "":
		if n := strings.ToLower(name); n == "mlmodel" || n == "mlproject" {
			return "text/plain"
		}
	case ".png", ".jpg", ".jpeg", ".gif", ".webp", ".pdf":
		if t := mime.TypeByExtension(ext); t != "" {
			return t
		}
	}
	return "application/octet-stream"
}

// upload takes a small file from the UI.
func (h *Handler) upload(w http.ResponseWriter, r *http.Request) {
	if err := h.uploaded(w, r); err != nil {
		h.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte("{}")) // a client that has gone needs no answer
}

func (h *Handler) uploaded(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	id, name := q.Get("run_uuid"), q.Get("path")
	if id == "" {
		return invalid("Request must specify run_uuid.")
	}
	if name == "" {
		return invalid("Request must specify path.")
	}
	rel, err := cleanPath(name)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxUploadBytes))
	switch {
	case err != nil:
		return invalid("Artifact size is too large. Max size is 10MB.")
	case len(body) == 0:
		return invalid("Request must specify data.")
	}
	run, err := h.server.Run(r.Context(), id)
	if err != nil {
		return err
	}
	if err := h.server.PutArtifact(r.Context(), joinURI(run.ArtifactURI, rel), strings.NewReader(string(body))); err != nil {
		return fmt.Errorf("upload artifact: %w", err)
	}
	return nil
}
