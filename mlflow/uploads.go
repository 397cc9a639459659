package mlflow

import (
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"turbofan"
)

// maxUploadParts is how many parts a client may ask for at once.
const maxUploadParts = 10_000

// multipart answers MLflow's calls for a file in parts: create hands out an address for each part, to which the client
// sends it without credentials, as it would to an object store; complete joins them.
func (h *Handler) multipart(w http.ResponseWriter, r *http.Request, rest string) {
	kind, rel, _ := strings.Cut(rest, "/")
	calls := map[string]call{"POST create": startUpload, "POST complete": completeUpload, "POST abort": abortUpload}
	switch c, ok := calls[r.Method+" "+kind]; {
	case ok:
		h.serveJSON(w, r, c, rel)
	case kind == "part" && r.Method == http.MethodPut:
		h.putPart(w, r, rel)
	default:
		h.notFound(w, r)
	}
}

// uploadURI is where the file of an upload call goes: below the folder of its path, under the last name of the path
// that the file has at the client.
func (q *request) uploadURI() (string, error) {
	name := q.need("path")
	if q.err != nil {
		return "", q.err
	}
	folder, err := cleanPath(q.tail)
	if err != nil {
		return "", err
	}
	name, err = cleanPath(path.Base(strings.ReplaceAll(name, "\\", "/")))
	if err != nil {
		return "", err
	}
	return "mlflow-artifacts:/" + joinPath(folder, name), nil
}

func startUpload(h *Handler, q *request, w *answer) error {
	parts := q.integer("num_parts", 1)
	uri, err := q.uploadURI()
	if err != nil {
		return err
	}
	if parts < 1 || parts > maxUploadParts {
		return invalid("Invalid value %d for parameter 'num_parts' supplied. It must be from 1 to %d", parts, maxUploadParts)
	}
	id, err := h.server.StartUpload(q.Context(), uri)
	if err != nil {
		return err
	}
	host, base, expiry, holder := baseURL(q.Request), "/api/2.0"+proxyPath+"mpu/part/"+id+"/", time.Now().Add(transferTime), h.holder(q)
	w.text("upload_id", id)
	w.list("credentials", func() {
		for n := int64(1); n <= parts; n++ {
			w.object("", func() {
				part := base + strconv.FormatInt(n, 10)
				w.text("url", host+part+h.signer.query(holder, http.MethodPut, part, expiry))
				w.integer("part_number", n)
				w.noHeaders()
			})
		}
	})
	return nil
}

// holder is whose addresses those are that a request is answered.
func (h *Handler) holder(q *request) string {
	if h.cfg.SignFor == nil {
		return ""
	}
	return h.cfg.SignFor(q.Context())
}

// noHeaders says that an address needs none: its token allows it. The caller's own are not handed back, for they may be
// those of a proxy that stands before this server.
func (w *answer) noHeaders() { w.object("headers", func() {}) }

// presigned says where a file can be had in ranges, which a client then asks for at the same time.
func (h *Handler) presigned(w http.ResponseWriter, r *http.Request, rest string) {
	if r.Method != http.MethodGet {
		h.notFound(w, r)
		return
	}
	h.serveJSON(w, r, func(h *Handler, q *request, w *answer) error {
		rel, err := cleanPath(rest)
		if err != nil {
			return err
		}
		f, info, err := h.server.OpenArtifact(q.Context(), "mlflow-artifacts:/"+rel)
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return fmt.Errorf("close artifact: %w", err)
		}
		place := "/api/2.0" + proxyPath + "artifacts/" + rel
		w.text("url", baseURL(q.Request)+(&url.URL{Path: place}).EscapedPath()+h.signer.query(h.holder(q), http.MethodGet, place, time.Now().Add(transferTime)))
		w.noHeaders()
		w.integer("file_size", info.Size)
		return nil
	}, rest)
}

// baseURL is the address by which the client calls this server, as far as the request tells. Of several proxies, the
// first to be asked is told first.
func baseURL(r *http.Request) string {
	scheme := "http"
	proto, _, _ := strings.Cut(r.Header.Get("X-Forwarded-Proto"), ",")
	if r.TLS != nil || strings.EqualFold(strings.TrimSpace(proto), "https") {
		scheme = "https"
	}
	return scheme + "://" + r.Host
}

// putPart takes one part.
func (h *Handler) putPart(w http.ResponseWriter, r *http.Request, rest string) {
	id, number, _ := strings.Cut(rest, "/")
	n, err := strconv.Atoi(number)
	if err != nil {
		h.fail(w, r, invalid("Invalid path"))
		return
	}
	allowTransfer(http.NewResponseController(w))
	tag, err := h.server.PutPart(r.Context(), id, n, r.Body)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	w.Header().Set("ETag", `"`+tag+`"`)
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte("{}")) // a client that has gone needs no answer
}

func completeUpload(h *Handler, q *request, _ *answer) error {
	uri, err := q.uploadURI()
	if err != nil {
		return err
	}
	id, sent := q.need("upload_id"), q.objects("parts")
	if len(sent) == 0 {
		q.missing("parts")
	}
	parts := make([]turbofan.UploadPart, 0, len(sent))
	for i, o := range sent {
		n, ok := toInteger(o["part_number"])
		if !ok {
			q.missing(fmt.Sprintf("parts[%d].part_number", i))
		}
		parts = append(parts, turbofan.UploadPart{Number: int(n), Tag: strings.Trim(q.member("parts", o, "etag"), `"`)})
	}
	if q.err != nil {
		return q.err
	}
	allowTransfer(q.control) // it may have a large file to put together
	return h.server.CompleteUpload(q.Context(), uri, id, parts)
}

func abortUpload(h *Handler, q *request, _ *answer) error {
	uri, err := q.uploadURI()
	if err != nil {
		return err
	}
	id := q.need("upload_id")
	if q.err != nil {
		return q.err
	}
	return h.server.AbortUpload(q.Context(), uri, id)
}
