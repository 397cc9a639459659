package dataset

import (
	"bufio"
	"encoding/csv"
	"errors"
	"io"

	"turbofan"
)

// byteOrderMark is what spreadsheets begin a file with.
const byteOrderMark = "\ufeff"

// maxRecord bounds the bytes of one record, with the blank lines before it, to within a read of the file. A quote that is never closed makes the rest of
// a file one cell, and a file may be as large as maxFileSize.
const maxRecord = 1 << 20

// csvRecords reads the records of a file, none longer than maxRecord.
type csvRecords struct {
	csv  *csv.Reader
	text *recordBound
	file string
	line int // where the record before began
}

func newCSVRecords(r io.Reader, file string) (*csvRecords, error) {
	bound := &recordBound{r: r}
	text := bufio.NewReader(bound)                                               // which csv.NewReader takes as it is
	if mark, _ := text.Peek(len(byteOrderMark)); string(mark) == byteOrderMark { // the error comes again
		if _, err := text.Discard(len(mark)); err != nil {
			return nil, csvError(file, err)
		}
	}
	c := csv.NewReader(text)
	c.ReuseRecord = true
	c.FieldsPerRecord = -1
	return &csvRecords{csv: c, text: bound, file: file, line: 1}, nil
}

// next returns a record, which the next call overwrites, and the line where it begins. After the last one it returns
// io.EOF alone; its other errors are ready for the caller.
func (c *csvRecords) next() (record []string, line int, err error) {
	record, err = c.csv.Read()
	if c.text.cut {
		return nil, 0, c.tooLong(record, err)
	}
	c.text.start = c.csv.InputOffset()
	if errors.Is(err, io.EOF) {
		return nil, 0, io.EOF
	}
	if err != nil {
		return nil, 0, csvError(c.file, err)
	}
	c.line, _ = c.csv.FieldPos(0)
	return record, c.line, nil
}

// table hands over a header and then each row, which has as many cells and begins on the line given. Both are
// overwritten by what follows. A file without a header or without a row is refused.
func (c *csvRecords) table(header func(record []string) error, row func(record []string, line int) error) error {
	first, _, err := c.next()
	if errors.Is(err, io.EOF) {
		return turbofan.Invalid(c.file, "is empty; it must begin with a header")
	}
	if err != nil {
		return err
	}
	width := len(first)
	if err := header(first); err != nil {
		return err
	}
	for rows := 0; ; rows++ {
		record, line, err := c.next()
		if errors.Is(err, io.EOF) {
			if rows == 0 {
				return turbofan.Invalid(c.file, "has a header only; it must hold at least one row")
			}
			return nil
		}
		if err != nil {
			return err
		}
		if len(record) != width {
			return at(c.file, line, "row", "has %d columns; the header has %d", len(record), width)
		}
		if err := row(record, line); err != nil {
			return err
		}
	}
}

// tooLong tells which record is longer than maxRecord by what the reader made of its beginning.
func (c *csvRecords) tooLong(record []string, err error) error {
	if e, ok := errors.AsType[*csv.ParseError](err); ok {
		return at(c.file, e.StartLine, "row", `is longer than the %d KiB allowed: a quote that begins in it may never be closed`, maxRecord>>10)
	}
	if len(record) == 0 {
		return at(c.file, c.line, "row", "is followed by more than %d KiB of blank lines", maxRecord>>10)
	}
	line, _ := c.csv.FieldPos(0)
	return at(c.file, line, "row", "is longer than the %d KiB allowed", maxRecord>>10)
}

// recordBound ends a text where a record becomes longer than maxRecord. It is asked for more only while a record goes on,
// so all that it gave since start is of that record.
type recordBound struct {
	r        io.Reader
	start, n int64 // where the record begins; what was given
	cut      bool
}

// Read implements io.Reader.
func (b *recordBound) Read(p []byte) (int, error) {
	if b.n-b.start > maxRecord {
		b.cut = true
		return 0, io.EOF
	}
	n, err := b.r.Read(p)
	b.n += int64(n)
	return n, err
}

func csvError(file string, err error) error {
	if _, ok := errors.AsType[*turbofan.Error](err); ok {
		return err
	}
	e, ok := errors.AsType[*csv.ParseError](err)
	if !ok {
		return unavailable(err, "read %s", file)
	}
	if e.Line != e.StartLine { // most often because of a quote where the record begins
		return at(file, e.StartLine, "row", "%s; it goes on to line %d", e.Err, e.Line)
	}
	return at(file, e.Line, "row", "%s", e.Err)
}
