package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
)

// session is the writing connection with the statements prepared on it. Statements belong to the connection and not
// to the pool, because the pool of writers has one connection and it is busy whenever a statement is needed.
type session struct {
	conn    *sql.Conn
	dialect dialect
	stmts   map[string]*sql.Stmt
}

// txn is one writing transaction. Its statements take no context: a caller that gives up must not undo the work of
// those that share the commit.
type txn struct{ *session }

// begin starts a transaction on the store's session, which it opens when there is none, and anew when the server has
// ended the one there was.
func begin(db *database) (*txn, error) {
	used := db.session != nil
	tx, err := beginOn(db)
	if away, again := db.dialect.away(err); used && away && again {
		return beginOn(db)
	}
	return tx, err
}

func beginOn(db *database) (*txn, error) {
	ctx := context.Background()
	if db.session == nil {
		conn, err := db.writer.Conn(ctx)
		if err != nil {
			return nil, err
		}
		db.session = &session{conn: conn, dialect: db.dialect, stmts: map[string]*sql.Stmt{}}
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

func (s *session) prepared(q string) (*sql.Stmt, error) {
	if stmt, ok := s.stmts[q]; ok {
		return stmt, nil
	}
	stmt, err := s.conn.PrepareContext(context.Background(), s.dialect.rebind(q))
	if err != nil {
		return nil, err
	}
	s.stmts[q] = stmt
	return stmt, nil
}

// exec runs a statement and returns how many rows it touched.
func (s *session) exec(q string, args ...any) (int64, error) {
	stmt, err := s.prepared(q)
	if err != nil {
		return 0, err
	}
	result, err := stmt.ExecContext(context.Background(), args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// row reads the one row of a query into dest; sql.ErrNoRows when there is none.
func (s *session) row(q string, args []any, dest ...any) error {
	stmt, err := s.prepared(q)
	if err != nil {
		return err
	}
	return stmt.QueryRowContext(context.Background(), args...).Scan(dest...)
}

// close gives the connection back to its pool.
func (s *session) close() error {
	var errs []error
	for _, stmt := range s.stmts {
		errs = append(errs, stmt.Close())
	}
	return errors.Join(append(errs, s.conn.Close())...)
}

// discard closes the connection for good, with whatever transaction it may still hold.
func (s *session) discard() error {
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
