package httpapi

import (
	"compress/gzip"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"turbofan"
)

// The formats a body may have.
const (
	mimeJSON    = "application/json"
	mimeNDJSON  = "application/x-ndjson"
	mimeCSV     = "text/csv"
	mimeParquet = "application/vnd.apache.parquet" // of requests alone
)

// readBody reads the request's body whole, at most MaxBodyBytes of it before and after decompression.
func (c *call) readBody() error {
	if c.r.Body == nil || c.r.Body == http.NoBody {
		return nil
	}
	limit := c.api.cfg.MaxBodyBytes
	if c.r.ContentLength > limit {
		return tooLarge(limit)
	}
	var err error
	encoding := c.r.Header.Get("Content-Encoding")
	switch strings.ToLower(encoding) {
	case "", "identity":
		err = c.readAll(c.r.Body, limit)
	case "gzip", "x-gzip":
		var z *gzip.Reader
		// The compressed bytes are bounded too: a stream may be of empty blocks without end. One more than allowed is read,
		// or a stream that goes on after the bound would look like one that ended there.
		sent := &io.LimitedReader{R: c.r.Body, N: limit + 1}
		if z, err = gzip.NewReader(sent); err == nil {
			err = c.readAll(z, limit)
		}
		if sent.N == 0 {
			return tooLarge(limit)
		}
		if err != nil && turbofan.ErrorCode(err) == turbofan.EInternal && !isTimeout(err) {
			return turbofan.Invalid("body", "is not gzip, though Content-Encoding says so")
		}
	default:
		c.status = http.StatusUnsupportedMediaType
		return turbofan.Invalid("Content-Encoding", "%q is not supported; use gzip or none", clip([]byte(encoding)))
	}
	switch {
	case err == nil:
		if c.reserved > 0 { // or net/http would cancel the work once the sender's time is over
			c.readUntil(time.Now().Add(2 * c.api.cfg.Timeout))
		}
		return nil
	case isTimeout(err):
		c.status = http.StatusRequestTimeout
		if c.reserved > 0 {
			return because(err, turbofan.ETimeout, "the request's body did not arrive in time: of a large one, each doubling must come within %s", c.api.cfg.BodyPace)
		}
		return because(err, turbofan.ETimeout, "the request's body did not arrive in time")
	case turbofan.ErrorCode(err) != turbofan.EInternal:
		return err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return turbofan.Invalid("body", "ends before the length that its header promised")
	}
	return &turbofan.Error{Code: turbofan.EInvalid, Field: "body", Message: "could not be read", Err: err}
}

func tooLarge(limit int64) error {
	return &turbofan.Error{Code: turbofan.ETooLarge, Field: "body", Message: "is larger than the " + byteCount(limit) + " allowed"}
}

// smallBody is how large a body may become before it counts against the bytes that all bodies share.
const smallBody = 64 << 10

// readAll reads everything r has into the call's body, up to limit bytes.
func (c *call) readAll(r io.Reader, limit int64) error {
	for {
		if len(c.body) == cap(c.body) {
			if err := c.growBody(); err != nil {
				return err
			}
		}
		n, err := r.Read(c.body[len(c.body):cap(c.body)])
		c.body = c.body[:len(c.body)+n]
		if int64(len(c.body)) > limit {
			return tooLarge(limit)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// growBody doubles the room for the body. What goes beyond a small body is taken from the budget of all requests; it is
// never reserved by a Content-Length, which costs a sender nothing to claim. Whoever takes from the budget must be as
// fast as what it takes is large: each room has to be filled within BodyPace, or a few slow senders would keep all others
// out.
func (c *call) growBody() error {
	limit := c.api.cfg.MaxBodyBytes
	size := min(max(2*int64(cap(c.body)), 1<<10), limit+1) // one more, to see that there is more
	if size > smallBody {
		if err := c.reserve(min(size, limit) - c.reserved); err != nil {
			return err
		}
		c.readUntil(time.Now().Add(c.api.cfg.BodyPace))
	}
	c.body = append(make([]byte, 0, size), c.body...)
	return nil
}

// readUntil bounds the time of reading the body. What has no deadline, such as a test's recorder, keeps none.
func (c *call) readUntil(deadline time.Time) {
	_ = http.NewResponseController(c.w).SetReadDeadline(deadline)
}

// reserve takes bytes from the budget of all requests. They are given back when the request has ended.
func (c *call) reserve(bytes int64) error {
	if c.api.buffered.Add(bytes) > c.api.cfg.MaxBufferedBytes {
		c.api.buffered.Add(-bytes)
		return turbofan.Errorf(turbofan.EExhausted, "too many large requests at once; try again in a second")
	}
	c.reserved += bytes
	return nil
}

// requireJSON reports a body that is something else. What curl -d sends without a header is taken as JSON when it
// begins like JSON, for nobody pastes a form here.
func (c *call) requireJSON() error {
	switch kind := c.contentType(); {
	case kind == "" || kind == mimeJSON || strings.HasSuffix(kind, "+json"):
		return nil
	case (kind == "application/x-www-form-urlencoded" || kind == "text/plain") && c.looksLikeJSON():
		return nil
	default:
		return c.unsupported(mimeJSON)
	}
}

func (c *call) looksLikeJSON() bool {
	c.scanner.reset(c.body)
	first := c.scanner.peek()
	return first == '{' || first == '['
}

func (c *call) unsupported(use string) error {
	c.status = http.StatusUnsupportedMediaType
	return turbofan.Invalid("Content-Type", "%q is not supported; use %s", clip([]byte(c.contentType())), use)
}

// contentType returns the media type of the request's body in lower case, without parameters.
func (c *call) contentType() string {
	values := c.r.Header["Content-Type"]
	if len(values) == 0 {
		return ""
	}
	if values[0] == mimeJSON {
		return mimeJSON
	}
	kind, _, err := mime.ParseMediaType(values[0])
	if err != nil && kind == "" {
		kind, _, _ = strings.Cut(values[0], ";")
		kind = strings.ToLower(strings.TrimSpace(kind))
	}
	return kind
}

// byteCount says n as a person would: 16 MiB, or plain bytes where that is not whole.
func byteCount(n int64) string {
	for _, u := range []struct {
		size int64
		name string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= u.size && n%u.size == 0 {
			return strconv.FormatInt(n/u.size, 10) + " " + u.name
		}
	}
	return strconv.FormatInt(n, 10) + " bytes"
}
