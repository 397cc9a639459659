package httpapi

import (
	"context"
	"sync"
	"time"
)

// requestContext ends the work on a request when its time is over or its caller leaves, and carries the request's id to
// what is called on its behalf. It is a context.WithTimeout that makes its channel and its timer only when somebody
// waits: the hot path answers before anybody does, and would pay for both at each reading.
type requestContext struct {
	parent   context.Context
	id       string
	deadline time.Time

	mu    sync.Mutex
	done  chan struct{} // nil until Done is called
	err   error         // nil until the end
	timer *time.Timer
	leave func() bool // stops listening to the parent
}

func newRequestContext(parent context.Context, timeout time.Duration, id string) *requestContext {
	deadline := time.Now().Add(timeout)
	if earlier, ok := parent.Deadline(); ok && earlier.Before(deadline) {
		deadline = earlier
	}
	return &requestContext{parent: parent, id: id, deadline: deadline}
}

// Deadline implements context.Context.
func (c *requestContext) Deadline() (time.Time, bool) { return c.deadline, true }

// Done implements context.Context.
func (c *requestContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done != nil {
		return c.done
	}
	c.done = make(chan struct{})
	if c.err != nil {
		close(c.done)
		return c.done
	}
	c.timer = time.AfterFunc(time.Until(c.deadline), func() { c.end(context.DeadlineExceeded) })
	c.leave = context.AfterFunc(c.parent, func() { c.end(c.parent.Err()) })
	return c.done
}

// Err implements context.Context. It looks at the clock itself, for the timer may not have been made, or not have had
// its turn.
func (c *requestContext) Err() error {
	c.mu.Lock()
	err := c.err
	c.mu.Unlock()
	if err != nil {
		return err
	}
	if err = c.parent.Err(); err == nil && !time.Now().Before(c.deadline) {
		err = context.DeadlineExceeded
	}
	if err != nil {
		c.end(err)
	}
	return err
}

// Value implements context.Context.
func (c *requestContext) Value(key any) any {
	if _, ok := key.(requestIDKey); ok {
		return c.id
	}
	return c.parent.Value(key)
}

// end ends the context with err, unless it has ended.
func (c *requestContext) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = err
	if c.done == nil {
		return
	}
	close(c.done)
	c.timer.Stop()
	c.leave()
}

type requestIDKey struct{}

// RequestID returns the id of the request that ctx belongs to, or "". The package's clients pass it on, so that one id
// runs through the logs of all roles that a request touches.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}
