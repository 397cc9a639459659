package dataset

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strconv"

	"turbofan"
)

// at returns the error of one place in a file: "file:line: field: rule".
func at(file string, line int, field, format string, args ...any) error {
	return turbofan.Invalid(file+":"+strconv.Itoa(line)+": "+field, format, args...)
}

// maxLine bounds a line of text, a hundred times as long as one of C-MAPSS.
const maxLine = 64 << 10

// eachLine calls row for every line of r with its number from 1; the line is overwritten after. Trailing blanks, carriage
// returns and blank lines at the end are dropped; a blank line between rows is an error, for it hides a lost row.
func eachLine(r io.Reader, file string, row func(line []byte, number int) error) error {
	lines := bufio.NewReaderSize(r, maxLine)
	empty := 0 // number of the first of the blank lines that end here
	for number := 1; ; number++ {
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return at(file, number, "row", "is longer than the %d KiB allowed", maxLine>>10)
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		line = bytes.TrimRight(line, " \t\r\n")
		switch {
		case len(line) == 0 && empty == 0:
			empty = number
		case len(line) > 0 && empty > 0:
			return at(file, empty, "row", "is empty; blank lines may stand at the end only")
		case len(line) > 0:
			if err := row(line, number); err != nil {
				return err
			}
		}
		if err != nil {
			return nil
		}
	}
}

// split cuts line at runs of blanks into columns and returns how many there are, at most len(columns).
func split(line []byte, columns [][]byte) int {
	n, i := 0, 0
	for n < len(columns) {
		for i < len(line) && (line[i] == ' ' || line[i] == '\t') {
			i++
		}
		if i == len(line) {
			return n
		}
		start := i
		for i < len(line) && line[i] != ' ' && line[i] != '\t' {
			i++
		}
		columns[n] = line[start:i]
		n++
	}
	return n
}

// whole reads a whole number from 0 to limit, written in digits only.
func whole(b []byte, limit int) (int, bool) {
	if len(b) == 0 || len(b) > 10 {
		return 0, false
	}
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, n <= limit
}

// exact holds the powers of ten that a float64 represents exactly and that number64 can need.
var exact = [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15}

// number64 reads a finite decimal number. Up to fifteen digits it divides two exactly represented floats, which
// rounds once and so gives what strconv gives (Clinger 1990), at a fraction of the time; the rest goes to strconv.
func number64(b []byte) (float64, bool) {
	s, negative := b, false
	if len(s) > 0 && (s[0] == '-' || s[0] == '+') {
		negative, s = s[0] == '-', s[1:]
	}
	var mantissa uint64
	digits, point := 0, -1
	for i, c := range s {
		switch {
		case c >= '0' && c <= '9':
			mantissa = mantissa*10 + uint64(c-'0')
			digits++
		case c == '.' && point < 0:
			point = i
		default:
			return slowNumber(b)
		}
		if digits > 15 {
			return slowNumber(b)
		}
	}
	if digits == 0 {
		return 0, false
	}
	v := float64(mantissa)
	if point >= 0 {
		v /= exact[len(s)-1-point]
	}
	if negative {
		v = -v
	}
	return v, true
}

// slowNumber reads what has an exponent or many digits; strconv alone would also take hexadecimal, "inf" and "nan".
func slowNumber(b []byte) (float64, bool) {
	for _, c := range b {
		if (c < '0' || c > '9') && c != '.' && c != '-' && c != '+' && c != 'e' && c != 'E' {
			return 0, false
		}
	}
	v, err := strconv.ParseFloat(string(b), 64)
	return v, err == nil
}

// clip shortens a value from a file for an error message.
func clip(b []byte) string {
	const limit = 32
	if len(b) > limit {
		return string(b[:limit]) + "…"
	}
	return string(b)
}
