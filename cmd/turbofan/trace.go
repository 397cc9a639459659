package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"turbofan"
)

// lastSpans bounds the time in which a process that ends sends the spans it still has.
const lastSpans = 5 * time.Second

// openTracing makes the provider of spans where OpenTelemetry's own variables name a receiver of OTLP over HTTP; sampling,
// headers and the rest are told by those variables too. Nil where none does.
func (p *platform) openTracing(ctx context.Context) error {
	if os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") == "" && os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") == "" || os.Getenv("OTEL_SDK_DISABLED") == "true" {
		return nil
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"} {
		if v := os.Getenv(name); v != "" {
			if err := checkURL(name, v); err != nil {
				return err
			}
		}
	}
	for _, name := range []string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"} {
		if v := os.Getenv(name); v != "" && v != "http/protobuf" {
			return turbofan.Invalid(name, "must be http/protobuf, not %q", v)
		}
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { p.log.Warn("send spans", "error", err) }))
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return fmt.Errorf("open tracing: %w", err)
	}
	own := resource.NewSchemaless(attribute.String("service.name", "turbofan"), attribute.String("service.version", readBuildInfo().Version))
	// What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say comes over our own.
	all, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(own.Attributes()...), resource.WithFromEnv())
	if err != nil {
		return fmt.Errorf("open tracing: %w", err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(all))
	p.tracing = provider
	p.closers = append(p.closers, func() error {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastSpans)
		defer cancel()
		if err := provider.Shutdown(last); err != nil {
			p.log.Warn("send the last spans", "error", err) // whoever ends a platform must not wait for its observer
		}
		return nil
	})
	return nil
}

// tracer returns a part's tracer; nil where nothing is traced.
func (p *platform) tracer(part string) trace.Tracer {
	if p.tracing == nil {
		return nil
	}
	return p.tracing.Tracer("turbofan/" + part)
}
