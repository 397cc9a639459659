package httpapi

import (
	"net/url"
	"slices"
	"strconv"
	"time"

	"turbofan"
)

// The bounds of what a list may be asked for.
const (
	maxLimit  = 10_000
	maxOffset = 1_000_000_000
	maxLast   = 1_000_000
)

// queryReader reads the parameters of a URL's query and keeps the first error.
type queryReader struct {
	values url.Values
	err    error
}

// queryValues returns the query's parameters; those that are not among known are errors, for a misspelt limit must not
// read as no limit.
func (c *call) queryValues(known ...string) *queryReader {
	q := new(queryReader)
	values, err := url.ParseQuery(c.r.URL.RawQuery)
	if err != nil {
		q.err = turbofan.Invalid("query", "cannot be read: %s", err)
		return q
	}
	q.values = values
	for name, given := range values {
		if !slices.Contains(known, name) {
			q.err = unknownField("", name, "the query", known)
			if len(known) == 0 {
				q.err = turbofan.Invalid("query", "takes no parameters here")
			}
			return q
		}
		if len(given) > 1 {
			q.err = turbofan.Invalid(name, "is given more than once")
			return q
		}
	}
	return q
}

func (q *queryReader) text(name string) string { return q.values.Get(name) }

// whole reads a whole number from low to high; absent, it is or.
func (q *queryReader) whole(name string, or, low, high int) int {
	text := q.values.Get(name)
	if !q.values.Has(name) || q.err != nil {
		return or
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < low || n > high {
		q.err = turbofan.Invalid(name, "must be a whole number from %d to %d, not %q", low, high, clip([]byte(text)))
		return or
	}
	return n
}

// boolean reads true or false; absent, it is false.
func (q *queryReader) boolean(name string) bool {
	switch text := q.values.Get(name); {
	case q.err != nil || !q.values.Has(name) || text == "false" || text == "0":
		return false
	case text == "true" || text == "1":
		return true
	default:
		q.err = turbofan.Invalid(name, "must be true or false, not %q", clip([]byte(text)))
		return false
	}
}

// moment reads a time as RFC 3339 writes it; absent, it is the zero time.
func (q *queryReader) moment(name string) time.Time {
	text := q.values.Get(name)
	if !q.values.Has(name) || q.err != nil {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		q.err = turbofan.Invalid(name, "must be a time such as 2026-01-31T12:00:00Z, not %q", clip([]byte(text)))
	}
	return t
}
