package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"turbofan"
)

const (
	firstRetry = 50 * time.Millisecond
	lastRetry  = 5 * time.Second

	restAfter   = 500 * time.Microsecond
	longestRest = time.Millisecond
)

// writer owns the one connection that writes. Entries are committed in the order they came, many to a commit.
type writer struct {
	db      *database
	log     *slog.Logger
	metrics *metrics
	insert  *inserter
	// worked is how long the writing goroutine has worked since it last rested.
	worked time.Duration

	queue int
	batch int
	delay time.Duration

	// waiting counts entries that are not on disk yet.
	waiting atomic.Int64
	// wake tells the writing goroutine to look at the queue again.
	wake chan struct{}
	done chan struct{}

	mu      sync.Mutex
	entries []entry
	records int           // in entries
	flying  int           // records taken from the queue and not on disk yet
	batched []entry       // that hold them
	began   time.Time     // when they were taken
	marks   [4096]int32   // how many of the records in memory are of the units of each hash
	urgent  int           // entries that somebody waits for
	room    chan struct{} // closed, and replaced, whenever records leave the writer
	closed  bool
	failing error // why the newest commit failed, nil after one that did not
	lost    int   // records that Close gave up
}

// entry is one call: records to insert, or an operation that its caller waits for.
type entry struct {
	records []record
	op      *operation
}

// operation is a write that its caller waits for. do runs inside the transaction of the batch; an error undoes this
// operation alone.
type operation struct {
	ctx  context.Context
	do   func(*txn) error
	err  error
	done chan error
}

func newWriter(db *database, cfg Config) (*writer, error) {
	w := &writer{
		db: db, log: cfg.Logger, queue: cfg.Queue, batch: cfg.Batch, delay: cfg.Delay,
		wake: make(chan struct{}, 1), done: make(chan struct{}), room: make(chan struct{}),
		insert: &inserter{},
	}
	var err error
	if w.metrics, err = newMetrics(cfg.Registerer, w.length); err != nil {
		return nil, err
	}
	w.insert.rest = w.rest
	go w.run()
	return w, nil
}

// rest leaves the processor to the requests for as long as the writer has used it since the last rest, unless somebody
// waits for this commit or the queue grows meanwhile. A commit of hundreds of records would otherwise take a processor for
// milliseconds in one piece, which the slowest answers then wait for.
func (w *writer) rest(worked time.Duration) {
	if w.worked += worked; w.worked < restAfter {
		return
	}
	w.mu.Lock()
	hurry := w.urgent > 0 || w.closed || w.records >= w.batch
	w.mu.Unlock()
	if !hurry {
		time.Sleep(min(w.worked, longestRest))
	}
	w.worked = 0
}

func (w *writer) length() float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return float64(w.held())
}

// append queues records; they are committed together.
func (w *writer) append(ctx context.Context, records []record) error {
	w.mu.Lock()
	for w.held() > 0 && w.held()+len(records) > w.queue && !w.closed {
		if failing := w.failing; failing != nil {
			w.mu.Unlock()
			return refusing(failing)
		}
		room := w.room
		w.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return fmt.Errorf("append to store %s: %w", w.db.name, ctx.Err())
		}
		w.mu.Lock()
	}
	defer w.mu.Unlock()
	if w.closed {
		return errClosed()
	}
	wasEmpty := len(w.entries) == 0
	w.entries = append(w.entries, entry{records: records})
	w.records += len(records)
	w.mark(records, 1)
	w.waiting.Add(1)
	if wasEmpty || w.records >= w.batch {
		w.nudge()
	}
	return nil
}

// held counts the records in memory. The caller holds mu.
func (w *writer) held() int { return w.records + w.flying }

// mark counts records by the hash of their unit. The caller holds mu.
func (w *writer) mark(records []record, by int32) {
	for i := range records {
		w.marks[markOf(records[i].prediction.UnitID)] += by
	}
}

func markOf(unitID string) int {
	h := uint32(2166136261) // FNV-1a
	for i := range len(unitID) {
		h = (h ^ uint32(unitID[i])) * 16777619
	}
	return int((h ^ h>>12) & 4095)
}

// unwritten returns the records of a unit that are not known to be on disk, oldest first.
func (w *writer) unwritten(unitID string) []record {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.marks[markOf(unitID)] == 0 {
		return nil
	}
	var out []record
	for _, entries := range [...][]entry{w.batched, w.entries} {
		for _, e := range entries {
			for i := range e.records {
				if e.records[i].prediction.UnitID == unitID {
					out = append(out, e.records[i])
				}
			}
		}
	}
	return out
}

// landed takes the records of the batch, which left the writer or went back to its queue, off what is under way. The
// caller holds mu.
func (w *writer) landed(records int) {
	w.batched, w.began = nil, time.Time{}
	w.flying -= records
	close(w.room)
	w.room = make(chan struct{})
}

// do queues an operation and waits until it is on disk, or failed.
func (w *writer) do(ctx context.Context, name string, f func(*txn) error) error {
	op := &operation{ctx: ctx, do: f, done: make(chan error, 1)}
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return errClosed()
	}
	w.entries = append(w.entries, entry{op: op})
	w.urgent++
	w.waiting.Add(1)
	w.nudge()
	w.mu.Unlock()
	select {
	case err := <-op.done:
		if _, told := errors.AsType[*turbofan.Error](err); told {
			return err
		}
		return w.db.wrap(name+" in", err)
	case <-ctx.Done():
		w.abandon(op)
		return fmt.Errorf("%s: %w", name, ctx.Err())
	}
}

// abandon takes an operation whose caller has gone out of the queue, unless it is being written: callers that come and go
// while the database does not answer would fill the memory.
func (w *writer) abandon(op *operation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.IndexFunc(w.entries, func(e entry) bool { return e.op == op })
	if i < 0 {
		return
	}
	w.entries = slices.Delete(w.entries, i, i+1)
	w.urgent--
	w.waiting.Add(-1)
}

// open reports whether the writer still takes entries.
func (w *writer) open() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.closed
}

// cause is when the commit under way began, if one is, and why the newest one failed, nil after one that did not.
func (w *writer) cause() (began time.Time, failing error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.began, w.failing
}

// silent reports whether err is of a statement that the database did not answer in time.
func silent(err error) bool { return errors.Is(err, context.DeadlineExceeded) }

// refusing is what callers get while commits fail; the cause is for the log.
func refusing(cause error) error {
	return &turbofan.Error{Code: turbofan.EUnavailable, Message: "the store does not take writes now", Err: cause}
}

func errClosed() error { return turbofan.Errorf(turbofan.EUnavailable, "the store is closed") }

func (w *writer) nudge() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// close commits what is queued and ends the writing goroutine. What is not written within finishFor is given up.
func (w *writer) close() error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		<-w.done
		return nil
	}
	w.closed = true
	close(w.room)
	w.room = make(chan struct{})
	w.nudge()
	w.mu.Unlock()
	w.db.finish(w.done)
	w.metrics.unregister()
	if w.lost > 0 {
		return fmt.Errorf("close store %s: %d records could not be written: %w", w.db.name, w.lost, w.failing)
	}
	return nil
}

// run commits batches until the writer is closed and its queue is empty.
func (w *writer) run() {
	defer close(w.done)
	var batch []entry
	retry := firstRetry
	for {
		var last bool
		batch, last = w.next(batch[:0])
		if len(batch) == 0 {
			return
		}
		if err := w.commit(batch); err == nil {
			retry = firstRetry
		} else if !last {
			w.pause(retry)
			retry = min(2*retry, lastRetry)
		}
		clear(batch)
	}
}

// next waits for entries and takes one commit's worth of them. It lingers for company only while nobody waits for an
// answer. last is true when nothing can come any more, but what the commit puts back; with no batch, it is over.
func (w *writer) next(batch []entry) (_ []entry, last bool) {
	var timer *time.Timer
	var expired <-chan time.Time
	late := false
	for {
		w.mu.Lock()
		if len(w.entries) > 0 && (late || w.urgent > 0 || w.records >= w.batch || w.closed) {
			batch = w.take(batch)
			last = w.closed && len(w.entries) == 0
			w.mu.Unlock()
			if timer != nil {
				timer.Stop()
			}
			return batch, last
		}
		if w.closed && len(w.entries) == 0 {
			w.mu.Unlock()
			return batch, true
		}
		if len(w.entries) > 0 && timer == nil {
			timer = time.NewTimer(w.delay)
			expired = timer.C
		}
		w.mu.Unlock()
		select {
		case <-w.wake:
		case <-expired:
			late = true
		}
	}
}

// take moves entries from the queue to batch, whole calls up to the first that completes a batch.
func (w *writer) take(batch []entry) []entry {
	n, records := 0, 0
	for n < len(w.entries) && records < w.batch {
		records += len(w.entries[n].records)
		if w.entries[n].op != nil {
			w.urgent--
		}
		n++
	}
	batch = append(batch, w.entries[:n]...)
	rest := copy(w.entries, w.entries[n:])
	clear(w.entries[rest:])
	w.entries = w.entries[:rest]
	w.records -= records
	w.flying += records
	w.batched, w.began = batch, time.Now()
	return batch
}

// pause waits before a failed commit is tried again; somebody who waits for an answer, or Close, cuts it short.
func (w *writer) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return
		case <-w.wake:
			w.mu.Lock()
			hurry := w.urgent > 0 || w.closed
			w.mu.Unlock()
			if hurry {
				w.nudge()
				return
			}
		}
	}
}

// commit writes batch in one transaction. When that fails, operations learn why, and records go back to the head of the
// queue to be tried again. They do not where the database refuses the records themselves; nor, while the store is closing,
// for any other reason than a lost connection.
func (w *writer) commit(batch []entry) error {
	start := time.Now()
	err := w.transact(batch)
	records := 0
	for _, e := range batch {
		records += len(e.records)
	}
	w.metrics.committed(records, time.Since(start), err)
	if err == nil {
		w.mu.Lock()
		w.failing = nil
		for _, e := range batch {
			w.mark(e.records, -1)
		}
		w.landed(records)
		w.mu.Unlock()
		w.waiting.Add(-int64(len(batch)))
		for _, e := range batch {
			if e.op != nil {
				e.op.done <- e.op.err
			}
		}
		return nil
	}
	err = w.db.wrap("write to", err)
	w.log.Error("commit failed", "store", w.db.name, "records", records, "error", err)
	w.recover(batch, records, err)
	return err
}

// recover deals with a batch of so many records whose transaction failed with err.
func (w *writer) recover(batch []entry, records int, err error) {
	keep := make([]entry, 0, len(batch))
	for _, e := range batch {
		switch {
		case e.op != nil:
			continue
		case !w.db.dialect.refused(err):
			keep = append(keep, e)
		default:
			// One record that the database will never take must not hold up all others for ever: write each call
			// of the batch alone and drop the ones at fault.
			alone := w.transact([]entry{e})
			if alone != nil && !w.db.dialect.refused(alone) {
				keep = append(keep, e)
				continue
			}
			if alone != nil {
				w.log.Error("records refused by the database are dropped", "store", w.db.name, "records", len(e.records), "error", alone)
				w.metrics.drop(len(e.records))
			}
			w.waiting.Add(-1)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failing = err
	for _, e := range batch {
		w.mark(e.records, -1)
		if e.op != nil { // not before failing is set: whoever is told may ask Ready at once
			e.op.done <- refusing(err)
			w.waiting.Add(-1)
		}
	}
	w.landed(records)
	if w.closed && (!silent(err) || w.db.until.ctx.Err() != nil) {
		for _, e := range keep {
			w.lost += len(e.records)
			w.waiting.Add(-1)
		}
		return
	}
	for _, e := range keep {
		w.records += len(e.records)
		w.mark(e.records, 1)
	}
	if len(keep) == 0 {
		return
	}
	// Operations further down the queue cannot overtake the records that stay at its head: they fail too.
	for _, e := range w.entries {
		if e.op == nil {
			keep = append(keep, e)
			continue
		}
		e.op.done <- refusing(err)
		w.urgent--
		w.waiting.Add(-1)
	}
	w.entries = keep
}

// transact runs batch in one transaction.
func (w *writer) transact(batch []entry) (err error) {
	tx, err := begin(w.db)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, tx.rollback(w.db))
		}
	}()
	pending := w.insert.buffer[:0]
	for _, e := range batch {
		if e.op == nil {
			pending = append(pending, e.records...)
			continue
		}
		if err := w.insert.records(tx, pending); err != nil {
			return err
		}
		pending = pending[:0]
		if err := tx.operate(e.op); err != nil {
			return err
		}
	}
	err = w.insert.records(tx, pending)
	clear(pending[:cap(pending)])
	w.insert.buffer = pending[:0]
	if err != nil {
		return err
	}
	return tx.commit()
}
