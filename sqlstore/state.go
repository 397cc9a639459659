package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"turbofan"
)

//go:embed migrations/state
var stateMigrations embed.FS

// Config says where a State is kept and how it writes. Zero values take the defaults named beside them.
type Config struct {
	// Path is the SQLite file, created when it is new. Its directory must exist. Either Path or DSN is given.
	Path string
	// DSN is the address of a PostgreSQL database, such as "postgres://turbofan@db/turbofan"; libpq's environment
	// variables fill in what it leaves out. Several processes may share it.
	DSN string

	// Queue is how many prediction records may wait to be written before Append blocks: 16,384. An outcome waits for
	// all that were queued before it, so a longer queue is a slower answer to feedback under overload.
	Queue int
	// Batch is how many records one commit takes before it stops waiting for more: 2,000.
	Batch int
	// Delay is how long a record may wait for company before it is committed: 10 ms.
	Delay time.Duration
	// Readers is how many connections read beside the writer: 4.
	Readers int
	// BusyTimeout is how long to wait for another process's lock: 5 s.
	BusyTimeout time.Duration

	// Logger hears of commits that fail and are tried again; nil is silent.
	Logger *slog.Logger
	// Registerer takes the store's metrics, named turbofan_store_*; nil leaves them out.
	Registerer prometheus.Registerer
}

// State keeps readings, predictions, outcomes, drift reports and jobs. Its methods may be called from many goroutines.
type State struct {
	db  *database
	w   *writer
	cfg Config

	heard  atomic.Int64 // when a read was answered last, in nanoseconds since 1970
	asking sync.Mutex   // held by the one Ready that asks the database
	asked  time.Time    // under asking
	answer error        // what it said then
}

var (
	_ turbofan.ReadingStore    = (*State)(nil)
	_ turbofan.PredictionStore = (*State)(nil)
	_ turbofan.OutcomeStore    = (*State)(nil)
	_ turbofan.DriftStore      = (*State)(nil)
	_ turbofan.JobStore        = (*State)(nil)
)

// OpenState opens or creates the store that cfg names and brings its schema up to date. A store that cannot be used
// (no directory, not writable, not a database, damaged, locked, of a newer schema) is an error that names it.
func OpenState(ctx context.Context, cfg Config) (*State, error) {
	if cfg.Queue <= 0 {
		cfg.Queue = 16_384
	}
	if cfg.Batch <= 0 {
		cfg.Batch = 2_000
	}
	if cfg.Delay <= 0 {
		cfg.Delay = 10 * time.Millisecond
	}
	if cfg.Readers <= 0 {
		cfg.Readers = defaultReaders
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	db, err := openState(ctx, cfg)
	if err != nil {
		return nil, err
	}
	w, err := newWriter(db, cfg)
	if err != nil {
		return nil, errors.Join(err, db.close())
	}
	s := &State{db: db, w: w, cfg: cfg}
	if err := w.metrics.watch(s.Ready); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func openState(ctx context.Context, cfg Config) (*database, error) {
	if cfg.Path != "" && cfg.DSN != "" {
		return nil, errors.New("open store: a file and a server are both named, give one")
	}
	opt := openOptions{busyTimeout: cfg.BusyTimeout, readers: cfg.Readers, log: cfg.Logger}
	kind, connect, target := "sqlite", open, cfg.Path
	if cfg.DSN != "" {
		kind, connect, target = "postgres", openPostgres, cfg.DSN
	}
	migrations, err := fs.Sub(stateMigrations, "migrations/state/"+kind)
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	return connect(ctx, target, migrations, opt)
}

// Close writes what is queued, for a quarter of a minute at most, and closes the store. Calls after it, and calls that
// it overtakes, are EUnavailable. An error says how many records could not be written.
func (s *State) Close() error {
	return errors.Join(s.w.close(), s.db.close())
}

// Name is what messages call the store: the file, or the server and its database, without user or password.
func (s *State) Name() string { return s.db.name }

// Flush returns once everything appended before the call is on disk.
func (s *State) Flush(ctx context.Context) error {
	return s.w.do(ctx, "flush", func(*txn) error { return nil })
}

// catchUp makes a read see what this process appended before it.
func (s *State) catchUp(ctx context.Context) error {
	if s.w.waiting.Load() == 0 {
		return nil
	}
	return s.Flush(ctx)
}

// rows runs a reading query and calls scan for each row. A query that the server answered nothing to, because it had
// ended the connection, is asked again on another one, of which the pool may hold as many that ended.
func (s *State) rows(ctx context.Context, op, query string, args []any, scan func(*sql.Rows) error) error {
	if !s.w.open() {
		return errClosed()
	}
	for attempt := 0; ; attempt++ {
		scanned, err := s.db.read(ctx, query, args, scan)
		if err == nil {
			s.heard.Store(time.Now().UnixNano())
			return nil
		}
		away, again := s.db.dialect.away(err)
		if ctx.Err() != nil || !away {
			return s.db.wrap(op, err)
		}
		if again && scanned == 0 && attempt <= s.cfg.Readers {
			continue
		}
		return s.db.wrap(op, s.db.unavailable(err))
	}
}

// read runs a query and returns how many rows were scanned.
func (d *database) read(ctx context.Context, query string, args []any, scan func(*sql.Rows) error) (scanned int, err error) {
	stmt, err := d.query(ctx, query)
	if err != nil {
		return 0, err
	}
	rows, err := stmt.QueryContext(ctx, args...)
	if err != nil {
		return 0, err
	}
	for ; rows.Next(); scanned++ {
		if err := scan(rows); err != nil {
			return scanned, errors.Join(err, rows.Close())
		}
	}
	return scanned, errors.Join(rows.Err(), rows.Close())
}

// bound turns a limit of which 0 or less means none into SQL's.
func bound(limit int) int64 {
	if limit <= 0 {
		return math.MaxInt64
	}
	return int64(limit)
}

// nanos is how a moment is stored; the zero time is 0.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// moment is the inverse of nanos.
func moment(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

// known is how a number is stored: NaN, which says unknown, is NULL.
func known(v float64) any {
	if math.IsNaN(v) {
		return nil
	}
	return v
}

// number reads what known wrote.
type number float64

// Scan implements sql.Scanner.
func (n *number) Scan(src any) error {
	var v sql.NullFloat64
	if err := v.Scan(src); err != nil {
		return err
	}
	if !v.Valid {
		v.Float64 = math.NaN()
	}
	*n = number(v.Float64)
	return nil
}
