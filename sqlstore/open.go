package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/pressly/goose/v3"

	"turbofan"
)

const (
	defaultBusyTimeout = 5 * time.Second
	defaultReaders     = 4
	// The page cache of one connection is bounded in KiB.
	writerCacheKiB = 64 << 10
	readerCacheKiB = 8 << 10

	migrationAttempts = 3

	// finishFor is how long Close tries to write what is queued: longer than a statement may take, so that a
	// connection that turns out to be lost then can still be opened anew.
	finishFor = statementFor + connectTimeout
	// releaseFor is how long it waits for connections to close.
	releaseFor = 10 * time.Second
)

var errNewerSchema = errors.New("a newer program wrote it")

// database is one store: a single connection that writes and a pool that reads beside it.
type database struct {
	name    string // what errors call it: the file, or the server and its database
	writer  *sql.DB
	reader  *sql.DB
	dialect dialect

	// session belongs to the writing goroutine.
	session *session
	// until ends what is being written when a Close has waited long enough.
	until lifetime

	mu    sync.Mutex
	stmts map[string]*sql.Stmt // prepared on the pool of readers
}

// openOptions are what a store can choose about its file; zero values mean the defaults.
type openOptions struct {
	busyTimeout time.Duration
	readers     int
	writerCache int // KiB, of a file
	readerCache int // KiB, of a file, for each reader
	// versionTable keeps the version of the schema in a database that holds another store as well.
	versionTable string
	log          *slog.Logger
}

// open opens, or creates, the SQLite file at path and brings its schema up to the migrations at the top of migrations.
// The writer holds one connection, in WAL mode, with every commit synced to disk; readers see what is committed.
// A file that cannot serve (no directory, not writable, not a database, locked, of a newer schema) is an error that
// names it.
func open(ctx context.Context, path string, migrations fs.FS, opt openOptions) (*database, error) {
	if opt.busyTimeout <= 0 {
		opt.busyTimeout = defaultBusyTimeout
	}
	if opt.readers <= 0 {
		opt.readers = defaultReaders
	}
	if opt.writerCache <= 0 {
		opt.writerCache = writerCacheKiB
	}
	if opt.readerCache <= 0 {
		opt.readerCache = readerCacheKiB
	}
	if err := probeFile(path); err != nil {
		return nil, err
	}
	d := &database{name: path, dialect: sqliteDialect(), stmts: map[string]*sql.Stmt{}, until: until()}
	var err error
	if d.writer, err = sql.Open("sqlite", sqliteDSN(path, opt.busyTimeout, opt.writerCache, false)); err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	d.writer.SetMaxOpenConns(1)
	d.writer.SetConnMaxIdleTime(0)
	if d.reader, err = sql.Open("sqlite", sqliteDSN(path, opt.busyTimeout, opt.readerCache, true)); err != nil {
		return nil, errors.Join(fmt.Errorf("open store %s: %w", path, err), d.writer.Close())
	}
	d.reader.SetMaxOpenConns(opt.readers)
	d.reader.SetMaxIdleConns(opt.readers)
	if err := d.migrate(ctx, goose.DialectSQLite3, migrations, opt.log); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

// probeFile says in the system's words why path cannot be a database: SQLite itself would only say "unable to open
// database file".
func probeFile(path string) error {
	if path == "" {
		return errors.New("open store: the path is missing")
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return fmt.Errorf("open store %s: %w", path, err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("open store %s: %w", path, err)
	}
	// WAL needs to create files beside the database.
	beside, err := os.CreateTemp(filepath.Dir(path), ".turbofan-probe-*")
	if err != nil {
		return fmt.Errorf("open store %s: its directory is not writable: %w", path, err)
	}
	return errors.Join(beside.Close(), os.Remove(beside.Name()))
}

func sqliteDSN(path string, busy time.Duration, cacheKiB int, readOnly bool) string {
	q := url.Values{}
	q.Add("_pragma", "busy_timeout("+strconv.FormatInt(busy.Milliseconds(), 10)+")")
	q.Add("_pragma", "journal_mode(WAL)")
	q.Add("_pragma", "synchronous(FULL)")
	q.Add("_pragma", "foreign_keys(ON)")
	q.Add("_pragma", "cache_size(-"+strconv.Itoa(cacheKiB)+")")
	// What one statement or operation could undo stays in memory; in a file it would cost a fifth of every insert.
	q.Add("_pragma", "temp_store(MEMORY)")
	q.Add("_pragma", "wal_autocheckpoint(4000)")
	if readOnly {
		q.Add("_pragma", "query_only(ON)")
	} else {
		q.Set("_txlock", "immediate")
	}
	// The path is escaped as SQLite reads it: a "?" or "%" in a directory's name is not the start of a parameter.
	return "file:" + (&url.URL{Path: filepath.ToSlash(path)}).EscapedPath() + "?" + q.Encode()
}

// migrate applies what is missing and refuses a schema that this program does not know yet.
func (d *database) migrate(ctx context.Context, gd goose.Dialect, migrations fs.FS, log *slog.Logger, options ...goose.ProviderOption) error {
	options = append(options, goose.WithDisableGlobalRegistry(true))
	if log != nil {
		options = append(options, goose.WithSlog(log))
	}
	provider, err := goose.NewProvider(gd, d.writer, migrations, options...)
	if err != nil {
		return d.wrap("read migrations for", err)
	}
	for attempt := 1; ; attempt++ {
		err := d.migrateOnce(ctx, provider)
		// A process that started at the same moment may have come first; what it did is then found done.
		if err == nil || errors.Is(err, errNewerSchema) || attempt == migrationAttempts || ctx.Err() != nil {
			return err
		}
	}
}

func (d *database) migrateOnce(ctx context.Context, provider *goose.Provider) error {
	current, target, err := provider.GetVersions(ctx)
	if err != nil {
		return d.wrap("open", err)
	}
	if current > target {
		return fmt.Errorf("open store %s: %w: its schema is version %d, this program knows versions up to %d: use the turbofan that wrote it, or a newer one",
			d.name, errNewerSchema, current, target)
	}
	if current == target {
		return nil
	}
	if _, err := provider.Up(ctx); err != nil {
		return d.wrap(fmt.Sprintf("migrate to schema version %d", target), err)
	}
	return nil
}

// wrap names the operation and the store in err.
func (d *database) wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	if hint := d.dialect.hint(err); hint != "" {
		return fmt.Errorf("%s store %s: %s: %w", op, d.name, hint, err)
	}
	return fmt.Errorf("%s store %s: %w", op, d.name, err)
}

// unavailable gives an error that means that the database does not answer the code that says so.
func (d *database) unavailable(err error) error {
	if err == nil || turbofan.ErrorCode(err) != turbofan.EInternal {
		return err
	}
	if away, _ := d.dialect.away(err); !away {
		return err
	}
	return turbofan.Wrap(turbofan.EUnavailable, err, "the store does not answer now")
}

// query returns the statement for q, written with "?" for each parameter, prepared on the readers.
func (d *database) query(ctx context.Context, q string) (*sql.Stmt, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if stmt, ok := d.stmts[q]; ok {
		return stmt, nil
	}
	stmt, err := d.reader.PrepareContext(ctx, d.dialect.rebind(q))
	if err != nil {
		return nil, err
	}
	d.stmts[q] = stmt
	return stmt, nil
}

// lifetime is the context of everything that a store writes.
type lifetime struct {
	ctx context.Context
	end context.CancelFunc
}

func until() (l lifetime) {
	l.ctx, l.end = context.WithCancel(context.Background())
	return l
}

// finish waits until a writer that was told to close is done. One that is not in time has its statements ended, and
// gives up what it could not write.
func (d *database) finish(done <-chan struct{}) {
	timer := time.NewTimer(finishFor)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		d.until.end()
		<-done
	}
}

// close releases statements and connections. It does not wait for ever for a server that does not say goodbye.
func (d *database) close() error {
	d.until.end()
	released := make(chan error, 1)
	go func() { released <- d.release() }()
	timer := time.NewTimer(releaseFor)
	defer timer.Stop()
	select {
	case err := <-released:
		return err
	case <-timer.C:
		return fmt.Errorf("close store %s: its connections did not close within %s", d.name, releaseFor)
	}
}

func (d *database) release() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for _, stmt := range d.stmts {
		errs = append(errs, stmt.Close())
	}
	clear(d.stmts)
	if d.session != nil {
		errs = append(errs, d.session.close())
		d.session = nil
	}
	// The writer closes last: the last connection to leave folds the WAL into the file.
	errs = append(errs, d.reader.Close(), d.writer.Close())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close store %s: %w", d.name, err)
	}
	return nil
}
