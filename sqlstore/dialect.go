package sqlstore

import (
	"database/sql"
	"errors"
	"strconv"
	"strings"
	"time"

	"modernc.org/sqlite"
	sqlitelib "modernc.org/sqlite/lib"
)

// dialect is where the two databases differ; every query is written once, with "?" for a parameter.
type dialect struct {
	// numbered says that parameters are $1, $2 and so on.
	numbered bool
	// begin opens a writing transaction, and holds off every other writer of the store until it ends. Without that,
	// two replicas could commit out of the order of seq, and a reader that remembers the last seq it saw would miss
	// rows.
	begin []string
	// like returns the condition of a pattern with % and _ on an expression, and its argument; fold does not mind the
	// case of ASCII letters.
	like func(expr, pattern string, fold bool) (string, any)
	// patience is how long a writing statement may take before its connection counts as lost; 0 where a file, which has
	// no connection to lose, bounds its own waits.
	patience time.Duration
	// unindexed writes a column so that the planner does not start from its index. PostgreSQL knows by itself where to
	// start, and would only misjudge how many rows there are.
	unindexed func(column string) string
	// snapshot makes the readings of one transaction see one state of the database; nil where all do.
	snapshot *sql.TxOptions
	// now is the database's clock, in milliseconds since 1970, as an expression.
	now string
	// refused reports whether err means that the database will never take the data, however often it is tried.
	refused func(err error) bool
	// away reports whether err means that the database gave no answer, rather than that it answered no; again, that
	// another connection may get one at once.
	away func(err error) (away, again bool)
	// hint says what an operator should look at, or nothing.
	hint func(err error) string
}

// sqliteDialect is SQLite's through modernc.org/sqlite.
func sqliteDialect() dialect {
	return dialect{
		begin: []string{"BEGIN IMMEDIATE"},
		like: func(expr, pattern string, fold bool) (string, any) {
			if fold {
				return expr + " LIKE ?", pattern
			}
			return expr + " GLOB ?", globPattern(pattern)
		},
		unindexed: func(column string) string { return "+" + column },
		now:       "CAST((julianday('now') - 2440587.5) * 86400000 AS BIGINT)",
		refused: func(err error) bool {
			e, ok := errors.AsType[*sqlite.Error](err)
			if !ok {
				return false
			}
			switch e.Code() & 0xff {
			case sqlitelib.SQLITE_CONSTRAINT, sqlitelib.SQLITE_MISMATCH, sqlitelib.SQLITE_TOOBIG, sqlitelib.SQLITE_RANGE:
				return true
			default:
				return false
			}
		},
		away: func(err error) (away, again bool) {
			e, ok := errors.AsType[*sqlite.Error](err)
			if !ok {
				return false, false
			}
			switch e.Code() & 0xff {
			case sqlitelib.SQLITE_BUSY, sqlitelib.SQLITE_LOCKED, sqlitelib.SQLITE_IOERR, sqlitelib.SQLITE_FULL, sqlitelib.SQLITE_CANTOPEN:
				return true, false
			default:
				return false, false
			}
		},
		hint: sqliteHint,
	}
}

// globPattern writes a LIKE pattern for GLOB, which is SQLite's comparison that minds case.
func globPattern(like string) string {
	return strings.NewReplacer("%", "*", "_", "?", "*", "[*]", "?", "[?]", "[", "[[]").Replace(like)
}

// sqliteHint turns the codes an operator meets into what to look at.
func sqliteHint(err error) string {
	e, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return ""
	}
	switch e.Code() & 0xff {
	case sqlitelib.SQLITE_NOTADB:
		return "the file is not a SQLite database, or it is damaged: restore a backup or move it away"
	case sqlitelib.SQLITE_CORRUPT:
		return "the file is damaged: restore a backup or move it away"
	case sqlitelib.SQLITE_BUSY, sqlitelib.SQLITE_LOCKED:
		return "another process holds the lock of the file"
	case sqlitelib.SQLITE_FULL:
		return "the disk is full"
	case sqlitelib.SQLITE_IOERR:
		return "the disk does not take the write or give the read"
	case sqlitelib.SQLITE_READONLY:
		return "the file is read-only"
	default:
		return ""
	}
}

// rebind writes q's parameters as the database wants them. Queries hold no "?" in a literal.
func (d dialect) rebind(q string) string {
	if !d.numbered {
		return q
	}
	var b strings.Builder
	b.Grow(len(q) + 16)
	n := 0
	for _, r := range q {
		if r != '?' {
			b.WriteRune(r)
			continue
		}
		n++
		b.WriteByte('$')
		b.WriteString(strconv.Itoa(n))
	}
	return b.String()
}
