package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"turbofan"
)

//go:embed migrations/registry
var registryMigrations embed.FS

// RegistryDB is the registry's database, a SQLite file or PostgreSQL, with one writer and several readers. Writes that
// arrive together share a commit.
type RegistryDB struct {
	db     *database
	ops    chan *registryOp
	closed chan struct{} // closed by Close: no write is taken any more
	done   chan struct{} // closed when the writer has ended
	close  sync.Once
	began  atomic.Int64 // when the commit under way did, in nanoseconds since 1970; 0 where none is
}

var _ turbofan.RegistryStore = (*RegistryDB)(nil)

const (
	registryCommitMax = 256 // writes in one commit
	registryCacheKiB  = 8 << 10
	registryReaderKiB = 4 << 10 // the system keeps the file's pages as well
)

// registryVersions is where PostgreSQL keeps the version of the registry's schema: the state may stand beside it.
const registryVersions = "registry_db_version"

// OpenRegistry opens the registry's database file, creating it and bringing its tables up to date.
func OpenRegistry(ctx context.Context, path string) (*RegistryDB, error) {
	return openRegistry(ctx, path, "sqlite", open)
}

// OpenRegistryPostgres opens the registry in the PostgreSQL database at dsn, which may hold a State as well, and brings
// its tables up to date. Several processes may do so at a time.
func OpenRegistryPostgres(ctx context.Context, dsn string) (*RegistryDB, error) {
	return openRegistry(ctx, dsn, "postgres", openPostgres)
}

func openRegistry(ctx context.Context, where, folder string, openStore func(context.Context, string, fs.FS, openOptions) (*database, error)) (*RegistryDB, error) {
	migrations, err := fs.Sub(registryMigrations, "migrations/registry/"+folder)
	if err != nil {
		return nil, fmt.Errorf("read registry migrations: %w", err)
	}
	db, err := openStore(ctx, where, migrations, openOptions{writerCache: registryCacheKiB, readerCache: registryReaderKiB, versionTable: registryVersions})
	if err != nil {
		return nil, err
	}
	d := &RegistryDB{
		db:     db,
		ops:    make(chan *registryOp, registryCommitMax),
		closed: make(chan struct{}), done: make(chan struct{}),
	}
	go d.writer(&registryTx{db: db})
	return d, nil
}

// Name is what logs call the database: the file, or the server and its database, never a password.
func (d *RegistryDB) Name() string { return d.db.name }

// Close waits for writes that were accepted, for a quarter of a minute, and closes the file. Later writes are
// EUnavailable, and so are those that it gives up.
func (d *RegistryDB) Close() error {
	d.close.Do(func() { close(d.closed) })
	d.db.finish(d.done)
	return d.db.close()
}

// registryOp is one write; do may run twice, when another write of its commit fails.
type registryOp struct {
	ctx  context.Context
	do   func(tx *registryTx) error
	err  error
	done chan struct{}
}

// update runs do in a transaction that is on disk when update returns nil.
func (d *RegistryDB) update(ctx context.Context, do func(tx *registryTx) error) error {
	op := &registryOp{ctx: ctx, do: do, done: make(chan struct{})}
	select {
	case <-d.closed:
		return turbofan.Errorf(turbofan.EUnavailable, "the registry is closed")
	case <-ctx.Done():
		return fmt.Errorf("write registry: %w", ctx.Err())
	case d.ops <- op:
	}
	select {
	case <-op.done:
		return op.err
	case <-d.done:
		// The writer may have answered just before it ended.
		select {
		case <-op.done:
			return op.err
		default:
			return turbofan.Errorf(turbofan.EUnavailable, "the registry is closed")
		}
	}
}

func (d *RegistryDB) writer(tx *registryTx) {
	defer close(d.done)
	for {
		select {
		case op := <-d.ops:
			d.commit(tx, op)
		case <-d.closed:
			for len(d.ops) > 0 {
				d.commit(tx, <-d.ops)
			}
			return
		}
	}
}

// commit writes first and what waits behind it.
func (d *RegistryDB) commit(tx *registryTx, first *registryOp) {
	if batch := d.gather(first); len(batch) > 0 {
		d.began.Store(time.Now().UnixNano())
		tx.commit(batch)
		d.began.Store(0)
	}
}

// gather takes the writes that wait by now; their callers' contexts may have ended while they did.
func (d *RegistryDB) gather(first *registryOp) []*registryOp {
	batch := make([]*registryOp, 0, 1+len(d.ops))
	op := first
	for {
		if err := op.ctx.Err(); err != nil {
			op.err = fmt.Errorf("write registry: %w", err)
			close(op.done)
		} else {
			batch = append(batch, op)
		}
		if len(batch) >= registryCommitMax {
			return batch
		}
		select {
		case op = <-d.ops:
		default:
			return batch
		}
	}
}

// registryTx is the writer; within a transaction it has a session.
type registryTx struct {
	db *database
	*session
}

// commit runs a batch in one transaction. When one fails, all are rolled back and each runs alone, so that a failure
// is its own caller's only; but where the server did not answer in time, it would not answer each of them either.
func (tx *registryTx) commit(batch []*registryOp) {
	if err := tx.try(batch); err != nil && !silent(err) && len(batch) > 1 {
		for _, op := range batch {
			op.err = tx.try([]*registryOp{op})
		}
	}
	for _, op := range batch {
		close(op.done)
	}
}

// try runs the batch in a transaction and sets the error of each.
func (tx *registryTx) try(batch []*registryOp) error {
	err := tx.db.unavailable(badValue(tx.transact(batch)))
	for _, op := range batch {
		op.err = err
	}
	return err
}

func (tx *registryTx) transact(batch []*registryOp) error {
	t, err := begin(tx.db)
	if err != nil {
		return tx.db.wrap("write", err)
	}
	tx.session = t.session
	defer func() { tx.session = nil }()
	for i := 0; err == nil && i < len(batch); i++ {
		err = batch[i].do(tx)
	}
	if err == nil {
		err = t.commit()
	}
	if err != nil {
		return errors.Join(err, t.rollback(tx.db))
	}
	return nil
}

func (tx *registryTx) exec(query string, args ...any) error {
	_, err := tx.changed(query, args...)
	return err
}

// changed returns how many rows the statement changed. Only fixed texts may come here and to get: they are prepared
// once, and that cache has no bound.
func (tx *registryTx) changed(query string, args ...any) (int64, error) {
	return tx.session.exec(query, args...)
}

// get scans one row; sql.ErrNoRows when there is none.
func (tx *registryTx) get(dest []any, query string, args ...any) error {
	return tx.row(query, args, dest...)
}

// QueryContext lets the loaders that readers use read within a write.
func (tx *registryTx) QueryContext(_ context.Context, query string, args ...any) (*sql.Rows, error) {
	return tx.query(query, args...)
}

// next takes the next number of a counter, from 1.
func (tx *registryTx) next(counter string) (int64, error) {
	var n int64
	err := tx.get([]any{&n}, `INSERT INTO counters (name, value) VALUES (?, 1)
		ON CONFLICT (name) DO UPDATE SET value = counters.value + 1 RETURNING value`, counter)
	if err != nil {
		return 0, fmt.Errorf("count %s: %w", counter, err)
	}
	return n, nil
}

// queryer is what loaders read from: a reader's snapshot or the writer's transaction.
type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// snapshot is a reading transaction.
type snapshot struct {
	tx      *sql.Tx
	dialect dialect
}

// QueryContext reads, with "?" for each parameter.
func (s snapshot) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	rows, err := s.tx.QueryContext(ctx, s.dialect.rebind(query), args...)
	return rows, badValue(err)
}

// view runs fn on one snapshot of the database.
func (d *RegistryDB) view(ctx context.Context, fn func(q queryer) error) error {
	tx, err := d.db.reader.BeginTx(ctx, d.db.dialect.snapshot)
	if err != nil {
		return d.db.unavailable(fmt.Errorf("read registry: %w", err))
	}
	defer func() { _ = tx.Rollback() }() // nothing was written
	return d.db.unavailable(fn(snapshot{tx, d.db.dialect}))
}

// each calls scan for every row of a query.
func each(ctx context.Context, q queryer, scan func(rows *sql.Rows) error, query string, args ...any) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("query registry: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return fmt.Errorf("scan registry row: %w", err)
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("query registry: %w", err)
	}
	return nil
}

// marks returns n placeholders.
func marks(n int) string {
	if n == 0 {
		return ""
	}
	return strings.Repeat("?,", n-1) + "?"
}

// inChunks calls fn with parts of ids small enough for one statement.
func inChunks[T any](ids []T, fn func(part []T) error) error {
	const size = 500
	for len(ids) > 0 {
		n := min(size, len(ids))
		if err := fn(ids[:n]); err != nil {
			return err
		}
		ids = ids[n:]
	}
	return nil
}

func anys[T any](xs []T) []any {
	out := make([]any, len(xs))
	for i, x := range xs {
		out[i] = x
	}
	return out
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// nullMillis keeps an unknown time apart from 1970.
func nullMillis(t time.Time) sql.NullInt64 {
	return sql.NullInt64{Int64: millis(t), Valid: !t.IsZero()}
}

func fromNullMillis(ms sql.NullInt64) time.Time {
	if !ms.Valid {
		return time.Time{}
	}
	return time.UnixMilli(ms.Int64)
}

// sqlNumber splits a value into what SQL can hold and whether it is NaN.
func sqlNumber(v float64) (float64, int) {
	switch {
	case math.IsNaN(v):
		return 0, 1
	case math.IsInf(v, 1):
		return math.MaxFloat64, 0
	case math.IsInf(v, -1):
		return -math.MaxFloat64, 0
	}
	return v, 0
}

func fromSQLNumber(v float64, isNaN int) float64 {
	if isNaN != 0 {
		return math.NaN()
	}
	return v
}

func notFound(format string, args ...any) error {
	return turbofan.Errorf(turbofan.ENotFound, format, args...)
}

func invalid(format string, args ...any) error {
	return turbofan.Errorf(turbofan.EInvalid, format, args...)
}
