package simulate

import (
	"context"
	"fmt"
	"sync"
	"time"

	"turbofan"
)

// Event is one reading that was sent.
type Event struct {
	Tick    int
	Quarter int
	UnitID  string
	Cycle   int
	// ActualRUL is the truth, NaN where the unit's end is not known.
	ActualRUL  float64
	Prediction turbofan.Prediction
	Latency    time.Duration
	Err        error
}

// Hooks let the caller watch and slow the stream. Every field may be nil.
type Hooks struct {
	// Tick runs before each tick, in one goroutine; an error ends the stream. It may wait, to keep a pace.
	Tick func(ctx context.Context, tick int) error
	// Sent is told of each reading, from several goroutines, in order of cycle for each unit.
	Sent func(Event)
	// Outcome is told of each outcome sent.
	Outcome func(o turbofan.Outcome, err error)
}

// Runner sends a plan to a deployment.
type Runner struct {
	Plan        *Plan
	Predictions turbofan.PredictionService
	Feedback    turbofan.FeedbackService
	// Workers is how many requests are under way at once; at least 1.
	Workers int
	// FromTick resumes a stream that was stopped: everything before this tick was sent. A unit's newest reading may be
	// sent twice; the API answers it the same.
	FromTick int
	Hooks    Hooks
}

// Run streams until the plan or ctx ends. A request that fails is reported to Hooks.Sent and the stream goes on: a
// plant does not stop because a server does. It returns the first tick that was not sent whole. The error is ctx's, that
// of Hooks.Tick, or EInvalid for a Runner without a plan or a service.
func (r *Runner) Run(ctx context.Context) (int, error) {
	if r.Plan == nil || r.Predictions == nil || r.Feedback == nil {
		return 0, turbofan.Invalid("simulate.runner", "needs a plan, a prediction service and a feedback service")
	}
	active := make([]*flight, 0, r.Plan.cfg.Fleet)
	var ended []*flight // waiting for their outcome
	next := 0
	for tick := 0; tick < r.Plan.Ticks; tick++ {
		for next < len(r.Plan.flights) && r.Plan.flights[next].start <= tick {
			active = append(active, &r.Plan.flights[next])
			next++
		}
		if tick >= r.FromTick {
			if r.Hooks.Tick != nil {
				if err := r.Hooks.Tick(ctx, tick); err != nil {
					return tick, err
				}
			}
			if err := ctx.Err(); err != nil {
				return tick, err
			}
			r.sendReadings(ctx, tick, active)
			if ctx.Err() != nil {
				return tick, ctx.Err()
			}
		}
		active, ended = r.land(tick, active, ended)
		var err error
		if ended, err = r.sendOutcomes(ctx, tick, ended); err != nil {
			return tick, err
		}
	}
	return r.Plan.Ticks, nil
}

func (r *Runner) sendReadings(ctx context.Context, tick int, active []*flight) {
	work := make(chan *flight)
	var wg sync.WaitGroup
	for range min(max(r.Workers, 1), max(len(active), 1)) {
		wg.Go(func() {
			for f := range work {
				r.send(ctx, tick, f)
			}
		})
	}
	for _, f := range active {
		work <- f
	}
	close(work)
	wg.Wait()
}

func (r *Runner) send(ctx context.Context, tick int, f *flight) {
	reading, i, ok := r.Plan.reading(f, tick)
	if !ok || ctx.Err() != nil {
		return
	}
	rul, _ := f.history.RUL(i)
	began := time.Now()
	ps, err := r.Predictions.Predict(ctx, turbofan.PredictRequest{Readings: []turbofan.Reading{reading}})
	e := Event{Tick: tick, Quarter: f.quarter, UnitID: f.id, Cycle: reading.Cycle, ActualRUL: rul, Latency: time.Since(began), Err: err}
	if err == nil && len(ps) != 1 {
		e.Err = fmt.Errorf("predict unit %s cycle %d: %d answers for one reading", f.id, reading.Cycle, len(ps))
	}
	if e.Err == nil {
		e.Prediction = ps[0]
	}
	if r.Hooks.Sent != nil && (err == nil || ctx.Err() == nil) {
		r.Hooks.Sent(e)
	}
}

// land takes units whose last reading was sent out of service.
func (r *Runner) land(tick int, active, ended []*flight) (flying, landed []*flight) {
	flying = active[:0]
	for _, f := range active {
		if r.Plan.at(f, tick+1) >= 0 {
			flying = append(flying, f)
		} else if f.history.FailedAtCycle > 0 && !f.silent {
			ended = append(ended, f)
		}
	}
	return flying, ended
}

// sendOutcomes tells the ends that are known by now, in one call. What a server that is away did not take is sent again
// in the next tick, as a technician would; where one outcome is at fault the others are sent without it.
func (r *Runner) sendOutcomes(ctx context.Context, tick int, ended []*flight) ([]*flight, error) {
	var due []*flight
	waiting := ended[:0]
	for _, f := range ended {
		if r.Plan.outcomeTick(f) > tick {
			waiting = append(waiting, f)
		} else {
			due = append(due, f)
		}
	}
	if len(due) == 0 || tick < r.FromTick {
		return waiting, nil
	}
	err := r.record(ctx, due)
	if refused(err) && len(due) > 1 {
		for _, f := range due {
			one := []*flight{f}
			if err := r.record(ctx, one); err != nil && !refused(err) {
				waiting = append(waiting, f)
			}
			if ctx.Err() != nil {
				return waiting, ctx.Err()
			}
		}
		return waiting, nil
	}
	if err != nil && !refused(err) {
		waiting = append(waiting, due...)
	}
	return waiting, ctx.Err()
}

// record sends the outcomes of flights and tells the hook, unless they will be sent one by one.
func (r *Runner) record(ctx context.Context, due []*flight) error {
	outcomes := make([]turbofan.Outcome, len(due))
	for i, f := range due {
		end := f.history.FailedAtCycle
		outcomes[i] = turbofan.Outcome{Key: "failure-" + f.id, UnitID: f.id, FailedAtCycle: &end, Event: "failure"}
	}
	_, err := r.Feedback.Record(ctx, outcomes)
	if r.Hooks.Outcome != nil && ctx.Err() == nil && (len(due) == 1 || !refused(err)) {
		for _, o := range outcomes {
			r.Hooks.Outcome(o, err)
		}
	}
	return err
}

// refused reports whether sending the same again cannot help.
func refused(err error) bool {
	switch turbofan.ErrorCode(err) {
	case turbofan.EInvalid, turbofan.ENotFound, turbofan.EConflict, turbofan.ETooLarge:
		return true
	}
	return false
}
