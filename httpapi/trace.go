package httpapi

import (
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// Trace returns next with a span around every request, a child of the span that the caller names by W3C traceparent. A nil
// provider returns next itself: what is not traced costs nothing.
func Trace(next http.Handler, role string, provider trace.TracerProvider) http.Handler {
	if provider == nil {
		return next
	}
	return &traced{next: next, role: attribute.String("turbofan.role", role), tracer: provider.Tracer("turbofan/httpapi")}
}

type traced struct {
	next   http.Handler
	role   attribute.KeyValue
	tracer trace.Tracer
}

// ServeHTTP implements http.Handler. Probes and scrapes have no span: there would be little else.
func (t *traced) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/livez", "/readyz", "/healthz", "/metrics":
		t.next.ServeHTTP(w, r)
		return
	}
	ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	// The route is known later; until then the name is the method alone, as OpenTelemetry's conventions want.
	ctx, span := t.tracer.Start(ctx, r.Method, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(t.role,
		attribute.String("http.request.method", r.Method), attribute.String("url.path", string(HideKeys([]byte(r.URL.Path)))), attribute.String("client.address", r.RemoteAddr)))
	defer span.End()
	answer := &statusWriter{ResponseWriter: w, status: http.StatusOK}
	t.next.ServeHTTP(answer, r.WithContext(ctx))
	span.SetAttributes(attribute.Int("http.response.status_code", answer.status))
	if answer.status >= 500 {
		span.SetStatus(codes.Error, http.StatusText(answer.status))
	}
}

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController find what the writer can do.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// nameSpan names the request's span by its route and links it with the log by the request's id.
func nameSpan(r *http.Request, route, id string) {
	if span := trace.SpanFromContext(r.Context()); span.IsRecording() {
		span.SetName(r.Method + " " + route)
		span.SetAttributes(attribute.String("http.route", route), attribute.String("turbofan.request_id", id))
	}
}

// passTrace lets the receiver of r continue the trace of its context.
func passTrace(r *http.Request) {
	if trace.SpanContextFromContext(r.Context()).IsValid() {
		propagation.TraceContext{}.Inject(r.Context(), propagation.HeaderCarrier(r.Header))
	}
}
