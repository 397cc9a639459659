package main

import (
	"io"
	"sync"
	"time"
)

const (
	// logLinger is how long lines wait for company after others were written; the first after a silence waits for nothing.
	logLinger = 10 * time.Millisecond
	// logQueued is how many bytes may wait before those who log do.
	logQueued = 1 << 20
	// logClosing is how long close waits for a reader that takes no lines, such as a pipe that nobody empties; what waits
	// then is lost.
	logClosing = 2 * time.Second
)

// logQueue takes log lines and writes them, many at a time, from a goroutine of its own: a disk that is busy with the
// store's commits would otherwise hold up every request at the line that tells of it.
type logQueue struct {
	w io.Writer

	mu      sync.Mutex
	room    sync.Cond
	lines   []byte
	closed  bool
	wake    chan struct{} // holds one: there are lines, or the queue was closed
	written chan struct{} // closed when nothing will be written any more
	lost    chan struct{} // closed when close has waited long enough
}

func newLogQueue(w io.Writer) *logQueue {
	q := &logQueue{w: w, wake: make(chan struct{}, 1), written: make(chan struct{}), lost: make(chan struct{})}
	q.room.L = &q.mu
	go q.run()
	return q
}

// Write implements io.Writer. It reports no error: there is nowhere to tell of one. After close it writes by itself,
// unless the lines before it were lost.
func (q *logQueue) Write(line []byte) (int, error) {
	q.mu.Lock()
	for len(q.lines) > 0 && len(q.lines)+len(line) > logQueued && !q.closed {
		q.room.Wait()
	}
	if q.closed {
		q.mu.Unlock()
		select {
		case <-q.written:
		case <-q.lost:
			return len(line), nil
		}
		q.mu.Lock()
		defer q.mu.Unlock()
		return q.w.Write(line)
	}
	q.lines = append(q.lines, line...)
	q.mu.Unlock()
	q.nudge()
	return len(line), nil
}

func (q *logQueue) nudge() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *logQueue) run() {
	defer close(q.written)
	linger := time.NewTicker(logLinger)
	defer linger.Stop()
	var lines []byte
	for {
		<-q.wake
		q.mu.Lock()
		lines, q.lines = q.lines, lines[:0]
		closed := q.closed
		q.room.Broadcast()
		q.mu.Unlock()
		if len(lines) > 0 {
			_, _ = q.w.Write(lines) // see Write
		}
		if closed {
			return
		}
		linger.Reset(logLinger)
		<-linger.C
	}
}

// close writes what waits, as far as it can within logClosing, and ends the goroutine.
func (q *logQueue) close() {
	q.mu.Lock()
	q.closed = true
	q.room.Broadcast()
	q.mu.Unlock()
	q.nudge()
	timer := time.NewTimer(logClosing)
	defer timer.Stop()
	select {
	case <-q.written:
	case <-timer.C:
		close(q.lost)
	}
}
