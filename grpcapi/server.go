// Package grpcapi answers the Open Inference Protocol over gRPC. A call is turned into the request of the protocol's REST
// form and goes to the handler that answers that one. Limits, keys, request ids, metrics and the log therefore hold for
// both, without a second copy of any.
package grpcapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"

	"turbofan/grpcapi/inference"
)

// Options bound a server. A zero field takes the default that its comment names.
type Options struct {
	// TLS has the server's certificate; nil serves in the clear.
	TLS *tls.Config
	// MaxMessageBytes bounds a request (4 MiB, gRPC's own default: some 20,000 readings). The handler's limit holds too.
	MaxMessageBytes int
	// MaxCalls bounds the calls that are under way at once, over all connections (256). Calls beyond are refused with
	// RESOURCE_EXHAUSTED before their message is read, so that MaxCalls times MaxMessageBytes is all they can take.
	MaxCalls int64
	// DrainDelay is how long new calls are still taken after ctx ended, while ServerReady and grpc.health.v1 already say
	// no: the time a load balancer needs to notice (0).
	DrainDelay time.Duration
	// DrainTimeout is how long calls under way may take once ctx ended, before they are cut off (30 s).
	DrainTimeout time.Duration
}

func (o Options) withDefaults() Options {
	if o.MaxMessageBytes == 0 {
		o.MaxMessageBytes = 4 << 20
	}
	if o.MaxCalls == 0 {
		o.MaxCalls = 256
	}
	if o.DrainTimeout == 0 {
		o.DrainTimeout = 30 * time.Second
	}
	return o
}

// Serve answers the protocol on l, and grpc.health.v1 beside it, with what h answers below /v2, until ctx ends; then it
// lets the calls under way end. It returns nil after a clean drain, an error when calls had to be cut off, and the
// listener's error when that fails.
func Serve(ctx context.Context, l net.Listener, h http.Handler, o Options) error {
	o = o.withDefaults()
	var calls atomic.Int64
	options := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(o.MaxMessageBytes),
		grpc.MaxConcurrentStreams(uint32(o.MaxCalls)),
		grpc.ConnectionTimeout(5 * time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: 2 * time.Minute, Time: time.Minute}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.WaitForHandlers(true),
		grpc.InTapHandle(bound(&calls, o.MaxCalls)),
	}
	if o.TLS != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(o.TLS)))
	}
	srv := grpc.NewServer(options...)
	s := &server{handler: h}
	inference.RegisterGRPCInferenceServiceServer(srv, s)
	health.RegisterHealthServer(srv, &healthServer{server: s})
	reflection.Register(srv)

	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve gRPC on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	s.draining.Store(true)
	if o.DrainDelay > 0 {
		notice := time.NewTimer(o.DrainDelay)
		defer notice.Stop()
		select {
		case <-notice.C:
		case err := <-failed:
			return fmt.Errorf("serve gRPC on %s: %w", l.Addr(), err)
		}
	}
	drained := make(chan struct{})
	go func() { srv.GracefulStop(); close(drained) }()
	late := time.NewTimer(o.DrainTimeout)
	defer late.Stop()
	select {
	case <-drained:
		return nil
	case <-late.C:
		srv.Stop()
		<-drained
		return fmt.Errorf("drain gRPC on %s: calls were still under way after %s", l.Addr(), o.DrainTimeout)
	}
}

// bound refuses calls beyond most. The context of a call ends with the call.
func bound(calls *atomic.Int64, most int64) tap.ServerInHandle {
	return func(ctx context.Context, _ *tap.Info) (context.Context, error) {
		if calls.Add(1) > most {
			calls.Add(-1)
			return ctx, status.Errorf(codes.ResourceExhausted, "too many calls: %d are under way; try again in a second", most)
		}
		context.AfterFunc(ctx, func() { calls.Add(-1) })
		return ctx, nil
	}
}

// server implements the protocol's service.
type server struct {
	inference.UnimplementedGRPCInferenceServiceServer
	handler  http.Handler
	draining atomic.Bool
}

// ready reports whether a model serves and the server takes calls.
func (s *server) ready(ctx context.Context) bool {
	return !s.draining.Load() && s.ask(ctx, http.MethodGet, "/v2/health/ready", nil, nil).status == http.StatusOK
}

// healthServer implements grpc.health.v1, which Kubernetes' probes ask.
type healthServer struct {
	health.UnimplementedHealthServer
	*server
}

// Check answers SERVING while a model serves.
func (s *healthServer) Check(ctx context.Context, req *health.HealthCheckRequest) (*health.HealthCheckResponse, error) {
	if name := req.GetService(); name != "" && name != inference.GRPCInferenceService_ServiceDesc.ServiceName {
		return nil, status.Errorf(codes.NotFound, "there is no service %q here", name)
	}
	out := &health.HealthCheckResponse{Status: health.HealthCheckResponse_SERVING}
	if !s.ready(ctx) {
		out.Status = health.HealthCheckResponse_NOT_SERVING
	}
	return out, nil
}

var errShort = errors.New("the handler's answer is not what the protocol says")
