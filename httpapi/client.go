package httpapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"turbofan"
)

const (
	// attempts is how often a request is sent at most.
	attempts = 4
	// firstBackoff doubles with each attempt; half of it is chance, so that many clients do not come back together.
	firstBackoff = 50 * time.Millisecond
	// longestWait bounds what a server may ask for by Retry-After.
	longestWait = 10 * time.Second
	// maxAnswer bounds what a client reads of an answer.
	maxAnswer = 256 << 20
)

// client is what the clients of all services share.
type client struct {
	service string // for messages
	base    string
	http    *http.Client
	codec   *codec
}

func newClient(service, baseURL string, c *http.Client) *client {
	if c == nil {
		c = &http.Client{Transport: newTransport()}
	}
	return &client{service: service, base: strings.TrimSuffix(baseURL, "/"), http: c, codec: new(codec)}
}

func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		MaxIdleConns:        256,
		MaxIdleConnsPerHost: 256, // the default of 2 would open a connection a request under load
		IdleConnTimeout:     60 * time.Second,
		TLSHandshakeTimeout: 5 * time.Second,
	}
}

// request is one call to be made.
type request struct {
	method, path string
	query        url.Values
	body         []byte
	// idempotent says that sending it twice does no more than sending it once. What is not may be repeated only when
	// the server said that it did nothing, by 503.
	idempotent bool
}

func (c *client) get(ctx context.Context, path string, query url.Values, answer any) error {
	return c.do(ctx, request{method: http.MethodGet, path: path, query: query, idempotent: true}, answer)
}

// getByID asks for path + id + rest. An empty id names nothing, and would name the list in the URL.
func (c *client) getByID(ctx context.Context, path, id, rest string, answer any) error {
	if err := c.requireID(path, id); err != nil {
		return err
	}
	return c.get(ctx, path+url.PathEscape(id)+rest, nil, answer)
}

func (c *client) requireID(path, id string) error {
	if id == "" {
		return turbofan.Errorf(turbofan.ENotFound, "%s without an id names nothing", strings.Trim(path, "/"))
	}
	return nil
}

// do sends the request, again where that is safe and may help, and decodes the answer. Errors of the service come back
// as the *turbofan.Error that it returned; a service that cannot be reached is EUnavailable.
func (c *client) do(ctx context.Context, req request, answer any) error {
	for attempt := 1; ; attempt++ {
		wait, err := c.once(ctx, req, answer)
		if err == nil || wait < 0 || attempt == attempts {
			return err
		}
		backoff := firstBackoff << (attempt - 1)
		wait = max(min(wait, longestWait), backoff/2+rand.N(backoff/2+1))
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < wait {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}

// once sends the request. A negative wait says that sending it again is unsafe or useless.
func (c *client) once(ctx context.Context, req request, answer any) (wait time.Duration, err error) {
	target := c.base + req.path
	if len(req.query) > 0 {
		target += "?" + req.query.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, req.method, target, bytes.NewReader(req.body))
	if err != nil {
		return -1, fmt.Errorf("make request to %s service: %w", c.service, err)
	}
	if len(req.body) > 0 {
		r.Header.Set("Content-Type", mimeJSON)
	}
	if id := RequestID(ctx); id != "" {
		r.Header.Set("X-Request-Id", id)
	}
	passTrace(r)
	resp, err := c.http.Do(r)
	if err != nil {
		return c.unreachable(ctx, req, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return c.unreachable(ctx, req, err)
	}
	if resp.StatusCode >= 400 {
		wait = -1
		if resp.StatusCode == http.StatusServiceUnavailable {
			wait = retryAfter(resp.Header)
		}
		return wait, c.remoteError(resp, body)
	}
	if err := c.codec.decode(body, answer); err != nil {
		return -1, fmt.Errorf("read answer of %s service: %w", c.service, withoutCode(err))
	}
	return 0, nil
}

// unreachable words a failure of the network.
func (c *client) unreachable(ctx context.Context, req request, err error) (time.Duration, error) {
	if ctxErr := ctx.Err(); ctxErr != nil {
		if errors.Is(ctxErr, context.DeadlineExceeded) {
			return -1, because(ctxErr, turbofan.ETimeout, "the %s service at %s did not answer in time", c.service, c.base)
		}
		return -1, fmt.Errorf("call %s service: %w", c.service, ctxErr)
	}
	wait := time.Duration(-1)
	// A connection that was refused carried nothing, so any request may be sent again.
	if opErr, ok := errors.AsType[*net.OpError](err); req.idempotent || ok && opErr.Op == "dial" {
		wait = 0
	}
	return wait, because(err, turbofan.EUnavailable, "the %s service at %s cannot be reached", c.service, c.base)
}

// remoteError rebuilds the error that the service returned.
func (c *client) remoteError(resp *http.Response, body []byte) error {
	var e struct {
		Error string `json:"error"`
		Code  string `json:"code"`
		Field string `json:"field"`
	}
	if err := c.codec.decode(body, &e); err != nil || e.Code == "" {
		// Not one of ours: a proxy in between.
		return turbofan.Errorf(codeOf(resp.StatusCode), "the %s service at %s answered %s", c.service, c.base, resp.Status)
	}
	message := e.Error
	if e.Field != "" {
		message = strings.TrimPrefix(message, e.Field+": ")
	}
	return &turbofan.Error{Code: e.Code, Field: e.Field, Message: message}
}

// codeOf returns the error code for a status that came without one.
func codeOf(status int) string {
	switch status {
	case http.StatusBadGateway, http.StatusServiceUnavailable:
		return turbofan.EUnavailable
	case http.StatusUnauthorized, http.StatusForbidden:
		return turbofan.EUnauthorized
	}
	for _, code := range []string{
		turbofan.EInvalid, turbofan.ENotFound, turbofan.EConflict, turbofan.ETooLarge,
		turbofan.EExhausted, turbofan.ETimeout, turbofan.EInsufficient,
	} {
		if statusOf(code) == status {
			return code
		}
	}
	return turbofan.EInternal
}

// withoutCode keeps a malformed answer from looking like the caller's own mistake.
func withoutCode(err error) error { return errors.New(err.Error()) }

func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return time.Duration(min(seconds, int(longestWait/time.Second))) * time.Second
}

// Close closes the connections that wait for another request.
func (c *client) Close() { c.http.CloseIdleConnections() }
