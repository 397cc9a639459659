package httpapi

import (
	"math"
	"slices"
	"strconv"
	"time"

	"turbofan"
)

// object reads the fields of an object that was opened: read gets each key and consumes its value. Keys outside names
// are refused with a hint, and so are keys that come twice. prefix is the path that leads to a field.
func object(s *scanner, prefix, what string, names []string, read func(key string) error) error {
	var seen []string
	for first := true; ; first = false {
		b, more, err := s.nextKey(first)
		if err != nil || !more {
			return err
		}
		key := string(b)
		if !slices.Contains(names, key) {
			return unknownField(prefix, key, what, names)
		}
		if slices.Contains(seen, key) {
			return turbofan.Invalid(prefix+key, "is given more than once")
		}
		seen = append(seen, key)
		if err := read(key); err != nil {
			return err
		}
	}
}

// text reads a string into v; null leaves it empty.
func text(s *scanner, field string, v *string) error {
	if null, err := s.null(); null || err != nil {
		return err
	}
	if s.peek() != '"' {
		return s.mismatch(field, "must be a string")
	}
	b, err := s.str()
	*v = string(b)
	return err
}

// whole reads a whole number; nil for null.
func whole(s *scanner, field string) (*int, error) {
	if null, err := s.null(); null || err != nil {
		return nil, err
	}
	if c := s.peek(); c != '-' && (c < '0' || c > '9') {
		return nil, s.mismatch(field, "must be a whole number")
	}
	b, err := s.number()
	if err != nil {
		return nil, err
	}
	n, ok := wholeNumber(b)
	if !ok || n != int64(int(n)) {
		return nil, turbofan.Invalid(field, "must be a whole number, not %s", clip(b))
	}
	v := int(n)
	return &v, nil
}

// finite reads a number; nil for null.
func finite(s *scanner, field string) (*float64, error) {
	if null, err := s.null(); null || err != nil {
		return nil, err
	}
	if c := s.peek(); c != '-' && (c < '0' || c > '9') {
		return nil, s.mismatch(field, "must be a finite number")
	}
	b, err := s.number()
	if err != nil {
		return nil, err
	}
	v, err := strconv.ParseFloat(string(b), 64)
	if err != nil || math.IsInf(v, 0) {
		return nil, turbofan.Invalid(field, "must be a finite number, not %s", clip(b))
	}
	return &v, nil
}

// moment reads a time; null leaves it zero.
func moment(s *scanner, field string, v *time.Time) error {
	const rule = "must be a time such as \"2026-01-31T12:00:00Z\""
	if null, err := s.null(); null || err != nil {
		return err
	}
	if s.peek() != '"' {
		return s.mismatch(field, rule)
	}
	b, err := s.str()
	if err != nil {
		return err
	}
	if *v, err = time.Parse(time.RFC3339Nano, string(b)); err != nil {
		return turbofan.Invalid(field, rule+", not %q", clip(b))
	}
	return nil
}

// reply makes v, or err, the answer.
func (c *call) reply(v any, err error) error {
	if err != nil {
		return err
	}
	c.out = c.api.codec.append(c.out, v)
	return nil
}

// list makes an object with one list the answer.
func (c *call) list(name string, v any) {
	c.out = append(c.out, '{')
	c.out = appendString(c.out, name)
	c.out = append(c.out, ':')
	c.out = c.api.codec.append(c.out, v)
	c.out = append(c.out, '}')
}
