package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"turbofan"
)

// connectTimeout is how long a server may take to let us in, where the address does not say.
const connectTimeout = 5 * time.Second

const (
	// statementFor is how long a writing statement may take. A connection that a firewall forgot, or whose server was
	// replaced, is silent for ever: nothing else would tell it from a slow one.
	statementFor = 10 * time.Second
	// An idle connection whose other side does not answer probes ends within a quarter of a minute.
	keepaliveIdle, keepaliveInterval, keepaliveCount = 6 * time.Second, 3 * time.Second, 3
)

// writeLock is the key of the advisory lock that one writing transaction of a database holds at a time.
const writeLock = 0x7475_7262_6f66_616e

func postgresDialect() dialect {
	return dialect{
		numbered: true, patience: statementFor,
		begin: []string{"BEGIN", "SELECT pg_advisory_xact_lock(" + strconv.Itoa(writeLock) + ")"},
		like: func(expr, pattern string, fold bool) (string, any) {
			if fold {
				return expr + " ILIKE ? ESCAPE ''", pattern
			}
			return expr + " LIKE ? ESCAPE ''", pattern
		},
		unindexed: func(column string) string { return column },
		snapshot:  &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true},
		now:       "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)",
		refused: func(err error) bool {
			e, ok := errors.AsType[*pgconn.PgError](err)
			// Class 22 is data that no column takes, class 23 a broken constraint.
			return ok && (strings.HasPrefix(e.Code, "22") || strings.HasPrefix(e.Code, "23"))
		},
		away: postgresAway,
		hint: postgresHint,
	}
}

// postgresAway tells a server that is down, restarts or has no room from one that answers. A connection that it had ended
// says nothing of the next one.
func postgresAway(err error) (away, again bool) {
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true, false
	}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch {
		case strings.HasPrefix(e.Code, "57P"), strings.HasPrefix(e.Code, "08"): // it shuts down, crashed or starts
			return true, true
		case strings.HasPrefix(e.Code, "53"): // no disk, no memory, no connection
			return true, false
		}
		return false, false
	}
	_, network := errors.AsType[net.Error](err)
	gone := network || pgconn.SafeToRetry(err) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	return gone, gone
}

// postgresHint turns the failures an operator meets into what to look at.
func postgresHint(err error) string {
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return "the server cannot be reached or does not let us in"
	}
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return ""
	}
	switch e.Code {
	case "53100":
		return "the server's disk is full"
	case "53300":
		return "the server has no connection left"
	case "25006":
		return "the server is read-only, perhaps a standby"
	case "42501":
		return "the user lacks a privilege"
	default:
		return ""
	}
}

// badValue makes a value that PostgreSQL cannot hold, such as a text with a zero byte, its sender's mistake.
func badValue(err error) error {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && strings.HasPrefix(e.Code, "22") {
		return &turbofan.Error{Code: turbofan.EInvalid, Message: "The database cannot hold one of the values: " + e.Message, Err: err}
	}
	return err
}

// openPostgres opens the database at dsn and brings its schema up to the migrations at the top of migrations; a lock
// lets one of several processes that start together do that.
func openPostgres(ctx context.Context, dsn string, migrations fs.FS, opt openOptions) (*database, error) {
	if !strings.Contains(dsn, "://") && !strings.Contains(dsn, "=") { // not quoted: it may be a password alone
		return nil, errors.New("open store: the address must be like postgres://user@host/database or host=… dbname=…")
	}
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if opt.readers <= 0 {
		opt.readers = defaultReaders
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = connectTimeout
	}
	cfg.DialFunc = (&net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: keepaliveIdle, Interval: keepaliveInterval, Count: keepaliveCount,
	}}).DialContext
	d := &database{
		name:    net.JoinHostPort(cfg.Host, strconv.Itoa(int(cfg.Port))) + "/" + cfg.Database,
		dialect: postgresDialect(), stmts: map[string]*sql.Stmt{}, until: until(),
		writer: stdlib.OpenDB(*cfg, stdlib.OptionAfterConnect(guardSession)), reader: stdlib.OpenDB(*cfg, stdlib.OptionAfterConnect(guardSession)),
	}
	d.writer.SetMaxOpenConns(1)
	d.reader.SetMaxOpenConns(opt.readers)
	d.reader.SetMaxIdleConns(opt.readers)
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open store %s: %w", d.name, err), d.close())
	}
	if err := d.writer.PingContext(ctx); err != nil {
		return nil, errors.Join(d.wrap("open", err), d.close())
	}
	options := []goose.ProviderOption{goose.WithSessionLocker(locker)}
	if opt.versionTable != "" {
		options = append(options, goose.WithTableName(opt.versionTable))
	}
	if err := d.migrate(ctx, goose.DialectPostgres, migrations, opt.log, options...); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

// guardSession has the server end a connection whose process or machine is gone: in the middle of a transaction that would
// hold up every other writer.
func guardSession(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, "SET idle_in_transaction_session_timeout = '30s'; SET tcp_keepalives_idle = 15; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3")
	return err
}
