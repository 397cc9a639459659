package predict

import (
	"context"
	"fmt"
	"math"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"turbofan"
	"turbofan/feature"
)

const (
	// shadowQueue bounds the readings that wait for the challenger; what comes beyond is dropped and counted.
	shadowQueue = 8192
	// shadowBatch is how many of them are answered and logged together.
	shadowBatch = 256
)

// shadow is a challenger that answers silently. It stands behind the answers that are sent: a reading is copied to its
// queue once its own answer is on its way, and one goroutine, which lives while there is work, answers from there. It
// keeps its own states, because they belong to its own features, and finds in the store what it missed.
type shadow struct {
	s       *Service
	served  *served
	answers prometheus.Counter
	dropped atomic.Int64
	ctx     context.Context // of its reads and writes, until it ends
	cancel  context.CancelFunc

	// states belong to the goroutine that works.
	states map[string]*shadowState

	mu      sync.Mutex
	queue   []silent
	working bool
	closed  bool
	idle    chan struct{} // closed when closed and not working
	failure error         // why it answers no more
}

type shadowState struct {
	state *feature.State
	row   []float32
}

// silent is a reading that waits for the challenger.
type silent struct {
	reading turbofan.Reading
	before  int     // the unit's cycle before this one, 0 for none
	sent    float64 // the remaining life that was answered
	at      time.Time
}

func newShadow(s *Service, m *served) *shadow {
	ctx, cancel := context.WithCancel(context.Background())
	return &shadow{s: s, served: m, ctx: ctx, cancel: cancel, states: map[string]*shadowState{}, idle: make(chan struct{}), answers: s.metrics.shadow.answers.WithLabelValues(m.version.Version)}
}

// endShadow replaces the challenger by next, nil for none, and waits until the one before has ended its work.
func (s *Service) endShadow(next *shadow) {
	old := s.shadow.Swap(next)
	if old == nil {
		return
	}
	s.metrics.trial.DeletePartialMatch(prometheus.Labels{"part": turbofan.ChallengerAlias})
	old.mu.Lock()
	old.drop(len(old.queue))
	old.closed, old.queue = true, nil
	if !old.working {
		close(old.idle)
	}
	old.mu.Unlock()
	old.cancel()
	<-old.idle
	s.metrics.shadow.waiting.Set(0)
}

// broken returns why the challenger answers no more, nil while it does.
func (sh *shadow) broken() error {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return sh.failure
}

// echo collects the readings of one request for the challenger. A nil echo collects nothing.
type echo struct {
	to       *shadow
	readings []silent
	values   []float64 // of all readings
}

func (sh *shadow) echo(readings int) *echo {
	return &echo{to: sh, readings: make([]silent, 0, min(readings, shadowQueue))}
}

// add copies a reading that was just answered by p: the request's memory ends with the request.
func (e *echo) add(r *turbofan.Reading, u *unit, p *turbofan.Prediction) {
	if e == nil {
		return
	}
	if len(e.readings) == cap(e.readings) {
		e.to.drop(1)
		return
	}
	from := len(e.values)
	e.values = append(append(e.values, r.Settings...), r.Sensors...)
	split, end := from+len(r.Settings), len(e.values)
	e.readings = append(e.readings, silent{before: u.reading.Cycle, sent: p.RUL, at: p.At,
		reading: turbofan.Reading{UnitID: u.id, Cycle: r.Cycle, Settings: e.values[from:split:split], Sensors: e.values[split:end:end]}})
}

func (sh *shadow) drop(n int) {
	sh.dropped.Add(int64(n))
	sh.s.metrics.shadow.dropped.Add(float64(n))
}

// send hands the readings over, as many as there is room for. It never waits.
func (e *echo) send() {
	if e == nil || len(e.readings) == 0 {
		return
	}
	sh := e.to
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.closed || sh.failure != nil {
		return
	}
	n := min(len(e.readings), shadowQueue-len(sh.queue))
	sh.queue = append(sh.queue, e.readings[:n]...)
	if n < len(e.readings) {
		sh.drop(len(e.readings) - n)
	}
	sh.s.metrics.shadow.waiting.Set(float64(len(sh.queue)))
	if n > 0 && !sh.working {
		sh.working = true
		go sh.work()
	}
}

// work answers what waits and ends when nothing does.
func (sh *shadow) work() {
	var batch []silent
	var records []turbofan.PredictionRecord
	for {
		sh.mu.Lock()
		n := min(len(sh.queue), shadowBatch)
		batch = append(batch[:0], sh.queue[:n]...)
		sh.queue = slices.Delete(sh.queue, 0, n)
		more := len(sh.queue) > 0
		if n == 0 {
			sh.working, sh.queue = false, nil
			if sh.closed {
				close(sh.idle)
			}
		}
		sh.s.metrics.shadow.waiting.Set(float64(len(sh.queue)))
		sh.mu.Unlock()
		if n == 0 {
			return
		}
		records = sh.answer(batch, records[:0])
		sh.log(records, more)
	}
}

// log writes the answers down. While more waits it goes no faster than the disk, so that the challenger's answers never
// fill the queue that the champion's go through.
func (sh *shadow) log(records []turbofan.PredictionRecord, more bool) {
	if len(records) == 0 {
		return
	}
	err := sh.s.stores.Predictions.Append(sh.ctx, records)
	if err == nil && more {
		err = sh.s.stores.Predictions.Flush(sh.ctx)
	}
	if err != nil {
		if sh.ctx.Err() != nil {
			return // it ended
		}
		sh.s.metrics.shadow.failures.Add(float64(len(records)))
		sh.s.log.Warn("log the challenger's answers", "error", err)
		return
	}
	sh.answers.Add(float64(len(records)))
}

// answer lets the challenger answer a batch. One that panics answers no more: its fault must not end the process.
func (sh *shadow) answer(batch []silent, records []turbofan.PredictionRecord) (_ []turbofan.PredictionRecord) {
	defer func() {
		if p := recover(); p != nil {
			sh.s.log.Error("the challenger panicked and answers no more", "version", sh.served.version.Version, "panic", p, "stack", string(debug.Stack()))
			sh.mu.Lock()
			sh.failure, sh.queue = turbofan.Errorf(turbofan.EInternal, "it panicked: %v", p), nil
			sh.mu.Unlock()
			records = nil
		}
	}()
	if slices.ContainsFunc(batch, func(j silent) bool { return sh.served.foreign(&j.reading, false) }) {
		if _, err := sh.s.prime(sh.ctx, sh.served); err != nil {
			sh.s.log.Warn("teach the challenger a condition", "error", err)
		}
	}
	for i := range batch {
		j := &batch[i]
		var p turbofan.Prediction
		if err := sh.one(j, &p); err != nil {
			sh.s.metrics.shadow.failures.Inc()
			sh.s.log.Debug("answer silently", "unit", j.reading.UnitID, "cycle", j.reading.Cycle, "error", err)
			delete(sh.states, j.reading.UnitID)
			continue
		}
		if d := math.Abs(p.RUL - j.sent); !math.IsNaN(d) {
			sh.s.metrics.shadow.difference.Observe(d)
		}
		records = append(records, turbofan.PredictionRecord{Reading: j.reading, Prediction: p})
	}
	return records
}

// one answers one reading, after a unit of which something was missed has been replayed from the store.
func (sh *shadow) one(j *silent, p *turbofan.Prediction) error {
	m, id := sh.served, j.reading.UnitID
	u := sh.states[id]
	if u == nil {
		for other := range sh.states {
			if len(sh.states) < sh.s.cfg.MaxUnits {
				break
			}
			delete(sh.states, other)
		}
		u = &shadowState{state: m.model.Spec().NewState(), row: make([]float32, len(m.model.Spec().Columns))}
		sh.states[id] = u
	}
	if u.state.LastCycle != j.before || u.state.Provisional && m.comm.Generation() > u.state.Generation {
		if err := sh.replay(u, j); err != nil {
			return fmt.Errorf("replay unit %s: %w", id, err)
		}
	}
	if err := sh.s.answer(m, u.state, u.row, &j.reading, j.at, false, p); err != nil {
		return err
	}
	p.UnitID, p.Shadow = id, true
	return nil
}

// replay brings the unit's state up to the reading before j.
func (sh *shadow) replay(u *shadowState, j *silent) error {
	u.state = sh.served.model.Spec().NewState()
	if j.before == 0 {
		return nil
	}
	history, err := sh.s.stores.Readings.History(sh.ctx, j.reading.UnitID, j.before)
	if err != nil && turbofan.ErrorCode(err) != turbofan.ENotFound {
		return err
	}
	for i := range history {
		if _, _, err := sh.served.model.Spec().Step(u.state, sh.served.comm, &history[i], u.row); err != nil {
			return err
		}
	}
	return nil
}
