package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"turbofan"
)

// ServeOptions bound a server. A zero field takes the default that its comment names.
type ServeOptions struct {
	// ReadHeaderTimeout bounds the arrival of a request's header (5 s), ReadTimeout of the whole request (60 s). Past
	// ReadTimeout net/http also cancels the context of a request that is still worked on, so it must be longer than the
	// handlers' own timeout.
	ReadHeaderTimeout, ReadTimeout time.Duration
	// WriteTimeout bounds a request from its header to the end of its answer (90 s); it must be longer than the
	// handlers' own timeout, or their 504 never leaves.
	WriteTimeout time.Duration
	// IdleTimeout closes a connection that waits for its next request (120 s).
	IdleTimeout time.Duration
	// DrainDelay is how long the server still takes new requests after its context ended, while /readyz already says
	// 503: the time a load balancer needs to notice (0).
	DrainDelay time.Duration
	// DrainTimeout is how long requests in flight may take to end after that, before their work is cancelled (30 s).
	DrainTimeout time.Duration
	// Logger receives what goes wrong with connections. Nil discards it.
	Logger *slog.Logger
}

// errDrainOver is the cause of a context that was cancelled because the drain took too long.
var errDrainOver = errors.New("the server stops")

func or(v, def time.Duration) time.Duration {
	if v == 0 {
		return def
	}
	return v
}

// Serve answers requests on l with h until ctx ends, and returns when it has drained: first /readyz turns 503, after
// DrainDelay no new connection is taken, and requests in flight are answered. It returns nil after a clean drain, an
// error when requests had to be cut off, and the listener's error when that fails.
func Serve(ctx context.Context, l net.Listener, h http.Handler, o ServeOptions) error {
	log := o.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	work, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	d := &drainable{Handler: h}
	srv := &http.Server{
		Handler:           d,
		ReadHeaderTimeout: or(o.ReadHeaderTimeout, 5*time.Second),
		ReadTimeout:       or(o.ReadTimeout, 60*time.Second),
		WriteTimeout:      or(o.WriteTimeout, 90*time.Second),
		IdleTimeout:       or(o.IdleTimeout, 120*time.Second),
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		BaseContext:       func(net.Listener) context.Context { return work },
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	d.draining.Store(true)
	if o.DrainDelay > 0 {
		timer := time.NewTimer(o.DrainDelay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case err := <-failed:
			return fmt.Errorf("serve %s: %w", l.Addr(), err)
		}
	}
	return drain(srv, l, stop, or(o.DrainTimeout, 30*time.Second))
}

// drain waits for requests in flight, cancels their work when that takes too long, and cuts off what is left.
func drain(srv *http.Server, l net.Listener, stop context.CancelCauseFunc, timeout time.Duration) error {
	within, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	err := srv.Shutdown(within)
	if err == nil {
		return nil
	}
	stop(errDrainOver)
	const lastWords = time.Second // for cancelled work to be answered 503
	last, cancelLast := context.WithTimeout(context.Background(), lastWords)
	defer cancelLast()
	if srv.Shutdown(last) != nil {
		srv.Close() //nolint:errcheck // it only repeats that the listener is closed
	}
	return fmt.Errorf("drain %s: requests were still in flight after %s", l.Addr(), timeout)
}

// drainable turns /readyz to 503 while its server drains.
type drainable struct {
	http.Handler
	draining atomic.Bool
}

func (d *drainable) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if d.draining.Load() {
		// Every answer asks for the end of its connection, or a busy one would outlive the drain.
		w.Header().Set("Connection", "close")
		if r.URL.Path == "/readyz" {
			notReady(w, turbofan.Errorf(turbofan.EUnavailable, "the server drains"))
			return
		}
	}
	d.Handler.ServeHTTP(w, r)
}
