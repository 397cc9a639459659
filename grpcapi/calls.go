package grpcapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"turbofan/grpcapi/inference"
)

// inferenceLength is the header that says where the JSON of a binary message ends.
const inferenceLength = "Inference-Header-Content-Length"

// answer is what the handler said.
type answer struct {
	status int
	header http.Header
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (a *answer) Header() http.Header { return a.header }

// Write implements http.ResponseWriter.
func (a *answer) Write(b []byte) (int, error) { return a.body.Write(b) }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) { a.status = status }

// passed are the metadata of a call that go on as headers of the request.
func passed() []string {
	return []string{"authorization", "x-api-key", "x-request-id", "traceparent", "tracestate"}
}

// ask hands a request to the handler: the JSON head, which may be nil, with binary data behind it.
func (s *server) ask(ctx context.Context, method, path string, head []byte, tail [][]byte) *answer {
	plain, err := url.PathUnescape(path)
	if err != nil {
		plain = path
	}
	r := (&http.Request{
		Method: method, URL: &url.URL{Path: plain, RawPath: path}, RequestURI: path, Proto: "HTTP/2.0", ProtoMajor: 2,
		Header: make(http.Header), Body: http.NoBody, Host: "grpc",
	}).WithContext(ctx)
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		for _, name := range passed() {
			for _, v := range md.Get(name) {
				r.Header.Add(name, v)
			}
		}
	}
	if p, ok := peer.FromContext(ctx); ok {
		r.RemoteAddr = p.Addr.String()
	}
	if head != nil {
		parts := []io.Reader{bytes.NewReader(head)}
		r.ContentLength = int64(len(head))
		for _, b := range tail {
			parts = append(parts, bytes.NewReader(b))
			r.ContentLength += int64(len(b))
		}
		r.Body = io.NopCloser(io.MultiReader(parts...))
		r.Header.Set("Content-Type", "application/octet-stream")
		r.Header.Set(inferenceLength, strconv.Itoa(len(head)))
	}
	a := &answer{status: http.StatusOK, header: make(http.Header)}
	s.handler.ServeHTTP(a, r)
	if id := a.header.Get("X-Bentoml-Request-Id"); id != "" {
		_ = grpc.SetHeader(ctx, metadata.Pairs("x-bentoml-request-id", id)) // fails only once the answer is on its way
	}
	return a
}

// failure returns the error of an answer that is none of success.
func (a *answer) failure(ctx context.Context) error {
	if a.status == http.StatusOK {
		return nil
	}
	var e struct {
		Error string `json:"error"`
	}
	if err := json.Unmarshal(a.body.Bytes(), &e); err != nil || e.Error == "" {
		e.Error = http.StatusText(a.status)
	}
	if seconds, err := strconv.Atoi(a.header.Get("Retry-After")); err == nil {
		_ = grpc.SetTrailer(ctx, metadata.Pairs("grpc-retry-pushback-ms", strconv.Itoa(1000*seconds)))
	}
	return status.Error(codeOf(a.status), e.Error)
}

// codeOf returns gRPC's code for a status of HTTP.
func codeOf(status int) codes.Code {
	switch status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusMethodNotAllowed:
		return codes.InvalidArgument
	case http.StatusUnauthorized:
		return codes.Unauthenticated
	case http.StatusForbidden:
		return codes.PermissionDenied
	case http.StatusNotFound:
		return codes.NotFound
	case http.StatusConflict, http.StatusUnprocessableEntity:
		return codes.FailedPrecondition
	case http.StatusTooManyRequests:
		return codes.ResourceExhausted
	case http.StatusServiceUnavailable:
		return codes.Unavailable
	case http.StatusRequestTimeout, http.StatusGatewayTimeout:
		return codes.DeadlineExceeded
	case 499: // the caller left
		return codes.Canceled
	}
	return codes.Internal
}

// modelPath returns where a model stands below /v2.
func modelPath(name, version, rest string) string {
	path := "/v2/models/" + url.PathEscape(name)
	if version != "" {
		path += "/versions/" + url.PathEscape(version)
	}
	return path + rest
}

// get asks for path and reads the JSON of a good answer into out.
func (s *server) get(ctx context.Context, path string, out proto.Message) error {
	a := s.ask(ctx, http.MethodGet, path, nil, nil)
	if err := a.failure(ctx); err != nil {
		return err
	}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(a.body.Bytes(), out); err != nil {
		return status.Error(codes.Internal, errShort.Error())
	}
	return nil
}

// ServerLive answers true: whoever reads it has reached a live process.
func (s *server) ServerLive(ctx context.Context, _ *inference.ServerLiveRequest) (*inference.ServerLiveResponse, error) {
	out := &inference.ServerLiveResponse{}
	return out, s.get(ctx, "/v2/health/live", out)
}

// ServerReady says whether a model serves.
func (s *server) ServerReady(ctx context.Context, _ *inference.ServerReadyRequest) (*inference.ServerReadyResponse, error) {
	return &inference.ServerReadyResponse{Ready: s.ready(ctx)}, nil
}

// ModelReady says whether the model, or that version of it, serves.
func (s *server) ModelReady(ctx context.Context, req *inference.ModelReadyRequest) (*inference.ModelReadyResponse, error) {
	a := s.ask(ctx, http.MethodGet, modelPath(req.GetName(), req.GetVersion(), "/ready"), nil, nil)
	switch a.status {
	case http.StatusOK, http.StatusNotFound, http.StatusServiceUnavailable:
		return &inference.ModelReadyResponse{Ready: a.status == http.StatusOK}, nil
	}
	return nil, a.failure(ctx)
}

// ServerMetadata says what the server is.
func (s *server) ServerMetadata(ctx context.Context, _ *inference.ServerMetadataRequest) (*inference.ServerMetadataResponse, error) {
	out := &inference.ServerMetadataResponse{}
	if err := s.get(ctx, "/v2", out); err != nil {
		return nil, err
	}
	out.Extensions = nil // binary tensors are an extension of REST alone
	return out, nil
}

// ModelMetadata describes the tensors of a model.
func (s *server) ModelMetadata(ctx context.Context, req *inference.ModelMetadataRequest) (*inference.ModelMetadataResponse, error) {
	out := &inference.ModelMetadataResponse{}
	if err := s.get(ctx, modelPath(req.GetName(), req.GetVersion(), ""), out); err != nil {
		return nil, err
	}
	return out, nil
}

// ModelInfer answers rows of readings with rows of predictions. Raw tensors are answered raw.
func (s *server) ModelInfer(ctx context.Context, req *inference.ModelInferRequest) (*inference.ModelInferResponse, error) {
	head, tail, err := encode(req)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	a := s.ask(ctx, http.MethodPost, modelPath(req.GetModelName(), req.GetModelVersion(), "/infer"), head, tail)
	if err := a.failure(ctx); err != nil {
		return nil, err
	}
	out, err := decode(a)
	if err != nil {
		return nil, status.Error(codes.Internal, fmt.Sprintf("read the handler's answer: %s", err))
	}
	if len(req.GetRawInputContents()) == 0 {
		if err := unpack(out); err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
	}
	return out, nil
}
