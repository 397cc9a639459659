package httpapi

import (
	"bytes"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"turbofan"
)

// maxDepth bounds the nesting of JSON that a scanner follows: deeper input would cost stack for no meaning.
const maxDepth = 64

// scanner reads one JSON text strictly (RFC 8259), a token at a time, without building anything. Every error it returns
// is an EInvalid about the field "body" that says where the text stops being JSON.
type scanner struct {
	data    []byte
	pos     int
	scratch []byte // holds the last string that had escapes
	// nan takes NaN as null where a number may be missing: Python's json writes it so.
	nan bool
}

func (s *scanner) reset(data []byte) { s.data, s.pos, s.nan = data, 0, false }

// peek returns the first byte of the next token, or 0 at the end of the text.
func (s *scanner) peek() byte {
	for s.pos < len(s.data) {
		switch c := s.data[s.pos]; c {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return c
		}
	}
	return 0
}

// bad returns the error for text that is not JSON at the current place.
func (s *scanner) bad(format string, args ...any) error {
	at := min(s.pos, len(s.data))
	line := 1 + bytes.Count(s.data[:at], []byte{'\n'})
	column := at - bytes.LastIndexByte(s.data[:at], '\n')
	return turbofan.Invalid("body", "is not valid JSON at line %d column %d: %s", line, column, fmt.Sprintf(format, args...))
}

// expected returns the error for a token that cannot stand here.
func (s *scanner) expected(what string) error {
	c := s.peek()
	if c == 0 && s.pos >= len(s.data) {
		return s.bad("expected %s, found the end", what)
	}
	for _, word := range []string{"NaN", "Infinity", "-Infinity"} {
		if bytes.HasPrefix(s.data[s.pos:], []byte(word)) {
			return s.bad("%s is not a JSON value; write null where a value is missing", word)
		}
	}
	r, _ := utf8.DecodeRune(s.data[s.pos:])
	return s.bad("expected %s, found %q", what, r)
}

// end reports an error unless nothing but white space is left.
func (s *scanner) end() error {
	if s.peek() != 0 || s.pos < len(s.data) {
		return s.expected("the end")
	}
	return nil
}

// begins reports whether the next token begins with word.
func (s *scanner) begins(word string) bool {
	s.peek()
	return bytes.HasPrefix(s.data[s.pos:], []byte(word))
}

// kind names the next value for a message such as "must be a string, not a number".
func (s *scanner) kind() string {
	switch c := s.peek(); {
	case c == '"':
		return "a string"
	case c == '{':
		return "an object"
	case c == '[':
		return "an array"
	case s.begins("true") || s.begins("false"):
		return "a boolean"
	case s.begins("null"):
		return "null"
	case c == '-' || c >= '0' && c <= '9':
		return "a number"
	}
	return ""
}

// mismatch returns the error for a value of the wrong kind at field; text that is no value at all is bad JSON instead.
func (s *scanner) mismatch(field, rule string) error {
	kind := s.kind()
	if kind == "" {
		return s.expected("a value")
	}
	return turbofan.Invalid(field, "%s, not %s", rule, kind)
}

// open consumes the delimiter that begins an object or an array.
func (s *scanner) open(c byte) error {
	if s.peek() != c {
		return s.expected(strconv.QuoteRune(rune(c)))
	}
	s.pos++
	return nil
}

// nextKey returns the next key of the object that was opened, or false after its end. The key is valid until the next
// call of a method of s.
func (s *scanner) nextKey(first bool) (key []byte, more bool, err error) {
	c := s.peek()
	if c == '}' {
		s.pos++
		return nil, false, nil
	}
	if !first {
		if c != ',' {
			return nil, false, s.expected("',' or '}'")
		}
		s.pos++
		c = s.peek()
	}
	if c != '"' {
		return nil, false, s.expected("a key in double quotes")
	}
	if key, err = s.str(); err != nil {
		return nil, false, err
	}
	if s.peek() != ':' {
		return nil, false, s.expected("':'")
	}
	s.pos++
	return key, true, nil
}

// nextElement reports whether another element of the array that was opened follows.
func (s *scanner) nextElement(first bool) (more bool, err error) {
	c := s.peek()
	if c == ']' {
		s.pos++
		return false, nil
	}
	if first {
		return true, nil
	}
	if c != ',' {
		return false, s.expected("',' or ']'")
	}
	s.pos++
	if s.peek() == ']' {
		return false, s.expected("a value")
	}
	return true, nil
}

// literal consumes word, which the next token begins with.
func (s *scanner) literal(word string) error {
	s.peek()
	if !bytes.HasPrefix(s.data[s.pos:], []byte(word)) {
		return s.expected("a value")
	}
	s.pos += len(word)
	return nil
}

// null consumes a null if that is what follows.
func (s *scanner) null() (bool, error) {
	if s.peek() != 'n' {
		return false, nil
	}
	return true, s.literal("null")
}

// boolean reads true or false; the next token begins with 't' or 'f'.
func (s *scanner) boolean() (bool, error) {
	if s.peek() == 't' {
		return true, s.literal("true")
	}
	return false, s.literal("false")
}

// number returns the text of the next number.
func (s *scanner) number() ([]byte, error) {
	s.peek()
	d, start, i := s.data, s.pos, s.pos
	digits := func() bool {
		from := i
		for i < len(d) && d[i] >= '0' && d[i] <= '9' {
			i++
		}
		return i > from
	}
	if i < len(d) && d[i] == '-' {
		i++
	}
	whole := i
	ok := digits() && (d[whole] != '0' || i == whole+1)
	if ok && i < len(d) && d[i] == '.' {
		i++
		ok = digits()
	}
	if ok && i < len(d) && (d[i] == 'e' || d[i] == 'E') {
		i++
		if i < len(d) && (d[i] == '+' || d[i] == '-') {
			i++
		}
		ok = digits()
	}
	if !ok {
		return nil, s.expected("a number")
	}
	s.pos = i
	return d[start:i], nil
}

// str reads the next string, which begins with a double quote. It is valid until the next call of a method of s.
func (s *scanner) str() ([]byte, error) {
	start := s.pos + 1
	for i := start; i < len(s.data); i++ {
		switch c := s.data[i]; {
		case c == '"':
			s.pos = i + 1
			if text := s.data[start:i]; utf8.Valid(text) {
				return text, nil
			}
			s.pos = start
			return nil, s.bad("a string is not UTF-8")
		case c == '\\':
			return s.escaped(start, i)
		case c < 0x20:
			s.pos = i
			return nil, s.bad("a string has a control character; write \\u%04x", c)
		}
	}
	s.pos = len(s.data)
	return nil, s.bad("a string does not end")
}

// escaped continues str at the first backslash.
func (s *scanner) escaped(start, i int) ([]byte, error) {
	out := append(s.scratch[:0], s.data[start:i]...)
	defer func() { s.scratch = out }()
	for i < len(s.data) {
		c := s.data[i]
		switch {
		case c == '"':
			s.pos = i + 1
			if !utf8.Valid(out) {
				return nil, s.bad("a string is not UTF-8")
			}
			return out, nil
		case c < 0x20:
			s.pos = i
			return nil, s.bad("a string has a control character; write \\u%04x", c)
		case c != '\\':
			out = append(out, c)
			i++
			continue
		}
		var ok bool
		if out, i, ok = unescape(out, s.data, i); !ok {
			s.pos = min(i, len(s.data))
			return nil, s.bad("a string has a bad escape")
		}
	}
	s.pos = len(s.data)
	return nil, s.bad("a string does not end")
}

// unescape appends what the escape at data[i] stands for and returns the place after it.
func unescape(out, data []byte, i int) ([]byte, int, bool) {
	if i+1 >= len(data) {
		return out, i, false
	}
	const from, to = `"\/bfnrt`, "\"\\/\b\f\n\r\t"
	if k := bytes.IndexByte([]byte(from), data[i+1]); k >= 0 {
		return append(out, to[k]), i + 2, true
	}
	r, ok := hex4(data, i)
	if !ok {
		return out, i, false
	}
	i += 6
	if utf16.IsSurrogate(r) {
		low, ok := hex4(data, i)
		if r = utf16.DecodeRune(r, low); !ok || r == utf8.RuneError {
			return out, i, false
		}
		i += 6
	}
	return utf8.AppendRune(out, r), i, true
}

// hex4 reads the escape \uXXXX at data[i].
func hex4(data []byte, i int) (rune, bool) {
	if i+6 > len(data) || data[i] != '\\' || data[i+1] != 'u' {
		return 0, false
	}
	v, err := strconv.ParseUint(string(data[i+2:i+6]), 16, 32)
	return rune(v), err == nil
}

// skip consumes the next value, whatever it is.
func (s *scanner) skip(depth int) error {
	if depth > maxDepth {
		return s.bad("more than %d levels deep", maxDepth)
	}
	switch c := s.peek(); c {
	case '"':
		_, err := s.str()
		return err
	case 't', 'f':
		_, err := s.boolean()
		return err
	case 'n':
		_, err := s.null()
		return err
	case 'N':
		if s.nan {
			return s.literal("NaN")
		}
	case '{':
		s.pos++
		for first := true; ; first = false {
			if _, more, err := s.nextKey(first); err != nil || !more {
				return err
			}
			if err := s.skip(depth + 1); err != nil {
				return err
			}
		}
	case '[':
		s.pos++
		for first := true; ; first = false {
			if more, err := s.nextElement(first); err != nil || !more {
				return err
			}
			if err := s.skip(depth + 1); err != nil {
				return err
			}
		}
	}
	_, err := s.number()
	return err
}
