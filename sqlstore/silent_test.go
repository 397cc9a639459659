package sqlstore_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"turbofan"
	"turbofan/internal/postgrestest"
	"turbofan/sqlstore"
)

// soon is far above what our own limits come to, 15 s to give a connection up and open the next, and far below the quarter
// of an hour that the kernel goes on for.
const soon = 3 * time.Minute

// silentProxy stands before a server as a firewall does: it can forget the connections that it has, which then are open
// and silent for ever, and still let new ones through.
type silentProxy struct {
	net.Listener
	server string
	refuse atomic.Bool // new connections are silent too

	mu        sync.Mutex
	forgotten *atomic.Bool // of the connections that come now
	conns     []net.Conn
}

func startSilentProxy(t *testing.T, dsn string) (*silentProxy, string) {
	t.Helper()
	address, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	q := address.Query()
	p := &silentProxy{Listener: l, server: filepath.Join(q.Get("host"), ".s.PGSQL.5432"), forgotten: new(atomic.Bool)}
	var serving sync.WaitGroup
	serving.Go(func() { p.serve(&serving) })
	t.Cleanup(func() {
		l.Close()
		p.mu.Lock()
		for _, c := range p.conns {
			c.Close()
		}
		p.conns = nil
		p.mu.Unlock()
		serving.Wait()
	})
	q.Del("host")
	q.Set("sslmode", "disable")
	address.Host, address.RawQuery = l.Addr().String(), q.Encode()
	return p, address.String()
}

func (p *silentProxy) serve(serving *sync.WaitGroup) {
	for {
		client, err := p.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("unix", p.server)
		if err != nil {
			client.Close()
			return
		}
		p.mu.Lock()
		p.conns = append(p.conns, client, server)
		forgotten := p.forgotten
		p.mu.Unlock()
		pass := func(to, from net.Conn) {
			io.Copy(silencer{to, func() bool { return forgotten.Load() || p.refuse.Load() }}, struct{ io.Reader }{from})
			to.Close()
		}
		serving.Go(func() { pass(server, client) })
		serving.Go(func() { pass(client, server) })
	}
}

// forget makes the connections that there are silent.
func (p *silentProxy) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forgotten.Store(true)
	p.forgotten = new(atomic.Bool)
}

type silencer struct {
	net.Conn
	silent func() bool
}

func (s silencer) Write(b []byte) (int, error) {
	if s.silent() {
		return len(b), nil
	}
	return s.Conn.Write(b)
}

// A connection may fall silent without a word. The writer must notice, say so, and go on over a new one; and a store
// that is closed meanwhile must write what it can, and tell what it could not.
func TestSilentConnections(t *testing.T) {
	server := postgrestest.Start(t)
	open := func(t *testing.T) (*silentProxy, *sqlstore.State, string) {
		dsn := server.Schema(t)
		p, through := startSilentProxy(t, dsn)
		s, err := sqlstore.OpenState(t.Context(), sqlstore.Config{DSN: through})
		if err != nil {
			t.Fatal(err)
		}
		appendRecords(t, s, record("1", 1))
		if err := s.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		return p, s, dsn
	}
	t.Run("together", func(t *testing.T) { // the server outlives them all
		first, flushed, _ := open(t)
		second, closed, closedDSN := open(t)
		third, lost, _ := open(t)
		dsn := server.Schema(t)
		t.Run("writes go on", func(t *testing.T) { t.Parallel(); testSilentWrites(t, first, flushed) })
		t.Run("close writes what waits", func(t *testing.T) { t.Parallel(); testSilentClose(t, second, closed, closedDSN) })
		t.Run("close gives up", func(t *testing.T) { t.Parallel(); testSilentForEver(t, third, lost) })
		t.Run("registry", func(t *testing.T) { t.Parallel(); testSilentRegistry(t, dsn) })
	})
}

func testSilentWrites(t *testing.T, p *silentProxy, s *sqlstore.State) {
	defer s.Close()
	p.forget()
	began := time.Now()
	appendRecords(t, s, record("1", 2))
	flushed := make(chan error, 1)
	go func() { flushed <- s.Flush(t.Context()) }()
	for range 50 { // who asks and goes away leaves nothing behind
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		if got, err := s.Acquire(ctx, "turn", "gone", time.Hour); got || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a lease from a store that hangs: %v, %v", got, err)
		}
		cancel()
	}
	awaitReady(t, "a store whose writer hangs", s.Ready, false)
	if err := <-flushed; err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > soon {
		t.Errorf("the next connection was opened after %s", took)
	}
	awaitReady(t, "a store that writes again", s.Ready, true)
	equal(t, "a lease that nobody holds", must[bool](t)(s.Acquire(t.Context(), "turn", "next", time.Hour)), true)
	equal(t, "history", len(must[[]turbofan.Reading](t)(s.History(t.Context(), "1", 0))), 2)
}

func testSilentClose(t *testing.T, p *silentProxy, s *sqlstore.State, dsn string) {
	p.forget()
	appendRecords(t, s, record("1", 2))
	began := time.Now()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > soon {
		t.Errorf("Close took %s", took)
	}
	again := openState(t, sqlstore.Config{DSN: dsn})
	equal(t, "history", len(must[[]turbofan.Reading](t)(again.History(t.Context(), "1", 0))), 2)
}

func testSilentForEver(t *testing.T, p *silentProxy, s *sqlstore.State) {
	p.refuse.Store(true)
	appendRecords(t, s, record("1", 2), record("1", 3))
	began := time.Now()
	err := s.Close()
	if err == nil || !strings.Contains(err.Error(), "2 records could not be written") {
		t.Errorf("Close says %v", err)
	}
	if took := time.Since(began); took > soon {
		t.Errorf("Close took %s", took)
	}
}

func testSilentRegistry(t *testing.T, dsn string) {
	p, through := startSilentProxy(t, dsn)
	db, err := sqlstore.OpenRegistryPostgres(t.Context(), through)
	if err != nil {
		t.Fatal(err)
	}
	create := func(name string) error {
		_, err := db.CreateExperiment(t.Context(), turbofan.Experiment{Name: name, ArtifactLocation: "x:/" + name})
		return err
	}
	if err := create("a"); err != nil {
		t.Fatal(err)
	}
	p.forget()
	created := make(chan error, 1)
	go func() { created <- create("b") }()
	awaitReady(t, "a registry whose writer hangs", db.Ready, false)
	if err := <-created; err != nil {
		t.Fatal(err)
	}
	awaitReady(t, "a registry that writes again", db.Ready, true)
	p.refuse.Store(true)
	go func() { created <- create("c") }()
	if err := <-created; turbofan.ErrorCode(err) != turbofan.EUnavailable {
		t.Errorf("a write that got no answer: %v", err)
	}
	began := time.Now()
	if err := db.Close(); err != nil && !strings.Contains(err.Error(), "close") {
		t.Error(err)
	}
	if took := time.Since(began); took > soon {
		t.Errorf("Close took %s", took)
	}
}

// awaitReady asks until the answer is as wanted.
func awaitReady(t *testing.T, what string, ready func(context.Context) error, want bool) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), soon, errors.New(what+" does not say so"))
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for (ready(ctx) == nil) != want {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal(context.Cause(ctx))
		}
	}
}
