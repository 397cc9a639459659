package mlflow

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"turbofan"
)

// Client speaks to an MLflow server. Its methods may be called at the same time.
type Client struct {
	base  *url.URL
	http  *http.Client
	wait  time.Duration // before the first retry
	tries int
}

var (
	_ turbofan.Registry = (*Client)(nil)
	_ turbofan.Tracking = (*Client)(nil)
)

const (
	defaultTries   = 6
	defaultWait    = 200 * time.Millisecond
	longestWait    = 10 * time.Second
	maxAnswerBytes = 256 << 20
)

// NewClient returns a client of the MLflow server at trackingURI, such as http://mlflow:5000. A user and a password in
// the URI are sent with every request. A nil httpClient has no time limit of its own: contexts have.
func NewClient(trackingURI string, httpClient *http.Client) (*Client, error) {
	u, err := url.Parse(trackingURI)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, turbofan.Invalid("tracking_uri", "must be an http or https address, not %q", trackingURI)
	}
	u.Path = strings.TrimRight(u.Path, "/")
	u.RawQuery, u.Fragment = "", ""
	if httpClient == nil {
		httpClient = &http.Client{}
	}
	return &Client{base: u, http: httpClient, wait: defaultWait, tries: defaultTries}, nil
}

// send describes one request.
type send struct {
	method string
	path   string // below the server's address
	query  url.Values
	body   any // marshalled as JSON, when it is not nil
	// file opens the body of an upload, once for every try.
	file func() (io.ReadCloser, int64, error)
	// once keeps the client from asking again when the server may have done it already.
	once bool
}

// call sends a request below /api/2.0/mlflow/ and reads the answer into out, which may be nil.
func (c *Client) call(ctx context.Context, s send, out any) error {
	s.path = "/api/2.0/mlflow/" + s.path
	return c.getJSON(ctx, s, out)
}

// getJSON sends a request and reads the answer into out, which may be nil.
func (c *Client) getJSON(ctx context.Context, s send, out any) error {
	resp, err := c.do(ctx, s)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		return unavailable(fmt.Errorf("read answer of MLflow: %w", err))
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("read answer of MLflow to %s: %w", s.path, err)
	}
	return nil
}

// do sends a request, again while the server says that it cannot answer now, and returns an answer of 200.
func (c *Client) do(ctx context.Context, s send) (*http.Response, error) {
	var last error
	for try := range c.tries {
		if try > 0 {
			if err := pause(ctx, c.waitBefore(try, last)); err != nil {
				return nil, fmt.Errorf("wait to ask MLflow again: %w", errors.Join(err, last))
			}
		}
		resp, err := c.try(ctx, s)
		if err == nil {
			return resp, nil
		}
		last = err
		if ctx.Err() != nil || !again(err, s.once) {
			break
		}
	}
	return nil, last
}

// statusError is an answer other than 200.
type statusError struct {
	status int
	after  time.Duration // what the server asks to wait
	err    error
}

func (e *statusError) Error() string { return e.err.Error() }
func (e *statusError) Unwrap() error { return e.err }

// again reports whether another try can help. A request that creates is not repeated unless it surely did nothing.
func again(err error, once bool) bool {
	if s, ok := errors.AsType[*statusError](err); ok {
		switch s.status {
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
			return true
		case http.StatusRequestTimeout, http.StatusInternalServerError, http.StatusBadGateway, http.StatusGatewayTimeout:
			return !once
		}
		return false
	}
	if _, broken := errors.AsType[*sourceError](err); broken {
		return false
	}
	return !once || errors.Is(err, syscall.ECONNREFUSED)
}

func (c *Client) waitBefore(try int, last error) time.Duration {
	wait := min(c.wait<<(try-1), longestWait)
	wait = wait/2 + mathrand.N(wait/2+1)
	if s, ok := errors.AsType[*statusError](last); ok && s.after > wait {
		wait = min(s.after, 3*longestWait)
	}
	return wait
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// sourceError is a failure to read what is to be sent.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

func (c *Client) try(ctx context.Context, s send) (*http.Response, error) {
	u := *c.base
	u.User = nil
	u.Path += s.path
	u.RawQuery = s.query.Encode()
	var body io.Reader
	length := int64(-1)
	switch {
	case s.file != nil:
		f, n, err := s.file()
		if err != nil {
			return nil, &sourceError{err}
		}
		body, length = f, n
		if n == 0 {
			// A body of no bytes is only sent with its length when it is known to be none.
			body = http.NoBody
			if err := f.Close(); err != nil {
				return nil, &sourceError{err}
			}
		}
	case s.body != nil:
		text, err := json.Marshal(s.body)
		if err != nil {
			return nil, &sourceError{fmt.Errorf("write request for MLflow: %w", err)}
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, s.method, u.String(), body)
	if err != nil {
		return nil, &sourceError{fmt.Errorf("write request for MLflow: %w", err)}
	}
	if length > 0 {
		req.ContentLength = length
	}
	if s.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("User-Agent", "turbofan")
	if c.base.User != nil {
		password, _ := c.base.User.Password()
		req.SetBasicAuth(c.base.User.Username(), password)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, unavailable(err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, answerError(resp)
}

func unavailable(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("ask MLflow: %w", err)
	}
	return &turbofan.Error{Code: turbofan.EUnavailable, Message: "the MLflow server does not answer", Err: err}
}

// answerError turns an answer other than 200 into an error of ours.
func answerError(resp *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return unavailable(err)
	}
	var said struct {
		Code    string `json:"error_code"`
		Message string `json:"message"`
	}
	if json.Unmarshal(text, &said) != nil || said.Code == "" {
		said.Message = strings.TrimSpace(string(text[:min(len(text), 200)]))
	}
	e := &turbofan.Error{Code: ourCode(said.Code, resp.StatusCode), Message: said.Message}
	if e.Message == "" {
		e.Message = "MLflow answered " + resp.Status
	}
	out := &statusError{status: resp.StatusCode, err: e}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 {
		out.after = time.Duration(seconds) * time.Second
	}
	return out
}

func ourCode(code string, status int) string {
	switch code {
	case "RESOURCE_DOES_NOT_EXIST", "NOT_FOUND", "ENDPOINT_NOT_FOUND":
		return turbofan.ENotFound
	case "RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS", "RESOURCE_CONFLICT", "ABORTED":
		return turbofan.EConflict
	case "INVALID_PARAMETER_VALUE", "BAD_REQUEST":
		return turbofan.EInvalid
	}
	switch status {
	case http.StatusBadRequest:
		return turbofan.EInvalid
	case http.StatusUnauthorized, http.StatusForbidden:
		return turbofan.EUnauthorized
	case http.StatusNotFound:
		return turbofan.ENotFound
	case http.StatusConflict:
		return turbofan.EConflict
	case http.StatusRequestEntityTooLarge:
		return turbofan.ETooLarge
	case http.StatusTooManyRequests:
		return turbofan.EExhausted
	case http.StatusBadGateway, http.StatusServiceUnavailable:
		return turbofan.EUnavailable
	case http.StatusGatewayTimeout, http.StatusRequestTimeout:
		return turbofan.ETimeout
	}
	return turbofan.EInternal
}

// wireNumber writes a float64 as protocol buffers' JSON does.
type wireNumber float64

// MarshalJSON implements json.Marshaler.
func (n wireNumber) MarshalJSON() ([]byte, error) {
	switch v := float64(n); {
	case math.IsNaN(v):
		return []byte(`"NaN"`), nil
	case math.IsInf(v, 1):
		return []byte(`"Infinity"`), nil
	case math.IsInf(v, -1):
		return []byte(`"-Infinity"`), nil
	default:
		return strconv.AppendFloat(nil, v, 'g', -1, 64), nil
	}
}

// wireInt reads an int64 that comes as a number or, from servers that write JSON as protocol buffers do, as a text.
type wireInt int64

// UnmarshalJSON implements json.Unmarshaler.
func (n *wireInt) UnmarshalJSON(text []byte) error {
	v, err := strconv.ParseInt(strings.Trim(string(text), `"`), 10, 64)
	*n = wireInt(v)
	return err
}

func (n wireInt) time() time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(n))
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
