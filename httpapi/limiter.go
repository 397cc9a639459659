package httpapi

import (
	"context"
	"sync/atomic"

	"turbofan"
)

// limiter lets a bounded number of requests work and a bounded number wait.
type limiter struct {
	slots   chan struct{}
	waiting atomic.Int64
	queue   int64
}

func newLimiter(concurrency, queue int) *limiter {
	return &limiter{slots: make(chan struct{}, concurrency), queue: int64(queue)}
}

// acquire takes a slot, waiting for one while ctx lasts. EExhausted when the queue is full, EUnavailable when the time
// is over before a slot is free.
func (l *limiter) acquire(ctx context.Context) error {
	select {
	case l.slots <- struct{}{}:
		return nil
	default:
	}
	if l.waiting.Add(1) > l.queue {
		l.waiting.Add(-1)
		return turbofan.Errorf(turbofan.EExhausted, "too many requests: %d are worked on and %d wait; try again in a second", cap(l.slots), l.queue)
	}
	defer l.waiting.Add(-1)
	select {
	case l.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return because(ctx.Err(), turbofan.EUnavailable, "no turn came while the request waited; try again in a second")
	}
}

func (l *limiter) release() { <-l.slots }
