package main

import (
	"context"
	"errors"
	"net"
	"strconv"
	"time"

	"turbofan"
	"turbofan/grpcapi"
)

// doorGRPC names the listener of the prediction role's second door.
const doorGRPC = "grpc"

// listenGRPC takes the port of gRPC where it is wanted and the prediction role is here.
func (p *platform) listenGRPC() error {
	if !p.cfg.GRPC.Enabled || !p.has(rolePredict) || p.listeners[doorGRPC] != nil {
		return nil
	}
	addr := net.JoinHostPort(p.cfg.Host, strconv.Itoa(p.cfg.GRPC.Port))
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return turbofan.Wrap(turbofan.EUnavailable, err, "gRPC cannot listen on %s; choose another port with --grpc-port NUMBER", addr)
	}
	p.listeners[doorGRPC] = l
	p.closers = append(p.closers, func() error {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	return nil
}

// serveGRPC answers on l with the handler of the prediction role.
func (p *platform) serveGRPC(ctx context.Context, l net.Listener) error {
	return grpcapi.Serve(ctx, l, p.handlers[rolePredict], grpcapi.Options{TLS: p.tls, DrainDelay: time.Duration(p.cfg.DrainDelay)})
}
