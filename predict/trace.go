package predict

import (
	"context"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// span begins a span where requests are traced. Without a tracer it is nothing, and costs nothing.
func (s *Service) span(ctx context.Context, name string) (context.Context, trace.Span) {
	if s.cfg.Tracer == nil {
		return ctx, noop.Span{}
	}
	return s.cfg.Tracer.Start(ctx, name)
}

// end ends a span with what came of it.
func end(span trace.Span, err error) {
	if err != nil {
		span.RecordError(err)
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}
