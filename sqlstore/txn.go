package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
)

// session is the writing connection with the statements prepared on it. Statements belong to the connection and not
// to the pool, because the pool of writers has one connection and it is busy whenever a statement is needed.
type session struct {
	conn    *sql.Conn
	dialect dialect
	stmts   map[string]*sql.Stmt
	until   context.Context // of the store
	read    func()          // frees the clock of the newest query
}

// txn is one writing transaction. Its statements take no caller's context: one that gives up must not undo the work of
// those that share the commit. Each has the dialect's patience instead, and the connection of one that took longer is
// never used again.
type txn struct{ *session }

// begin starts a transaction on the store's session, which it opens when there is none, and anew when the server has
// ended the one there was.
func begin(db *database) (*txn, error) {
	if err := db.until.ctx.Err(); err != nil {
		return nil, err
	}
	used := db.session != nil
	tx, err := beginOn(db)
	if away, again := db.dialect.away(err); used && away && again {
		return beginOn(db)
	}
	return tx, err
}

func beginOn(db *database) (*txn, error) {
	if db.session == nil {
		s := &session{dialect: db.dialect, stmts: map[string]*sql.Stmt{}, until: db.until.ctx, read: func() {}}
		ctx, cancel := s.clock()
		defer cancel()
		var err error
		if s.conn, err = db.writer.Conn(ctx); err != nil {
			return nil, err
		}
		db.session = s
	}
	tx := &txn{db.session}
	for _, q := range db.dialect.begin {
		if _, err := tx.exec(q); err != nil {
			db.session = nil
			return nil, errors.Join(err, tx.discard())
		}
	}
	return tx, nil
}

func (t *txn) commit() error {
	_, err := t.exec("COMMIT")
	return err
}

// rollback undoes the transaction. A connection that cannot is not used again.
func (t *txn) rollback(db *database) error {
	if _, err := t.exec("ROLLBACK"); err != nil {
		db.session = nil
		return t.discard()
	}
	return nil
}

// operate runs op so that its failure undoes op alone. The error it returns is the transaction's, not op's.
func (t *txn) operate(op *operation) error {
	if op.ctx.Err() != nil {
		op.err = op.ctx.Err()
		return nil
	}
	if _, err := t.exec("SAVEPOINT operation"); err != nil {
		return err
	}
	if op.err = op.do(t); op.err != nil {
		if _, err := t.exec("ROLLBACK TO SAVEPOINT operation"); err != nil {
			return errors.Join(op.err, err)
		}
	}
	_, err := t.exec("RELEASE SAVEPOINT operation")
	return err
}

// clock is the context of one statement.
func (s *session) clock() (context.Context, context.CancelFunc) {
	if s.dialect.patience == 0 {
		return context.Background(), func() {} // one that can end costs SQLite's driver a goroutine for each statement
	}
	return context.WithTimeout(s.until, s.dialect.patience)
}

// lost says of a statement that its clock ran out.
func (s *session) lost(ctx context.Context, err error) error {
	if err == nil || !silent(ctx.Err()) {
		return err
	}
	return fmt.Errorf("the server did not answer within %s, its connection is given up: %w", s.dialect.patience, err)
}

func (s *session) prepared(ctx context.Context, q string) (*sql.Stmt, error) {
	if stmt, ok := s.stmts[q]; ok {
		return stmt, nil
	}
	stmt, err := s.conn.PrepareContext(ctx, s.dialect.rebind(q))
	if err != nil {
		return nil, err
	}
	s.stmts[q] = stmt
	return stmt, nil
}

// exec runs a statement and returns how many rows it touched.
func (s *session) exec(q string, args ...any) (int64, error) {
	ctx, cancel := s.clock()
	defer cancel()
	stmt, err := s.prepared(ctx, q)
	if err != nil {
		return 0, s.lost(ctx, err)
	}
	result, err := stmt.ExecContext(ctx, args...)
	if err != nil {
		return 0, s.lost(ctx, err)
	}
	return result.RowsAffected()
}

// row reads the one row of a query into dest; sql.ErrNoRows when there is none.
func (s *session) row(q string, args []any, dest ...any) error {
	ctx, cancel := s.clock()
	defer cancel()
	stmt, err := s.prepared(ctx, q)
	if err != nil {
		return s.lost(ctx, err)
	}
	return s.lost(ctx, stmt.QueryRowContext(ctx, args...).Scan(dest...))
}

// query returns the rows of a query, which are read before the session's next one.
func (s *session) query(q string, args ...any) (*sql.Rows, error) {
	s.read()
	ctx, cancel := s.clock()
	s.read = cancel
	return s.conn.QueryContext(ctx, s.dialect.rebind(q), args...)
}

// close gives the connection back to its pool.
func (s *session) close() error {
	s.read()
	var errs []error
	for _, stmt := range s.stmts {
		errs = append(errs, stmt.Close())
	}
	return errors.Join(append(errs, s.conn.Close())...)
}

// discard closes the connection for good, with whatever transaction it may still hold.
func (s *session) discard() error {
	s.read()
	for _, stmt := range s.stmts {
		if stmt.Close() != nil {
			break // the connection is gone, and its statements with it
		}
	}
	err := s.conn.Raw(func(any) error { return driver.ErrBadConn })
	if err != nil && !errors.Is(err, driver.ErrBadConn) && !errors.Is(err, sql.ErrConnDone) {
		return err
	}
	if err := s.conn.Close(); err != nil && !errors.Is(err, sql.ErrConnDone) && !errors.Is(err, driver.ErrBadConn) {
		return err
	}
	return nil
}
