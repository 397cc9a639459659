package predict

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"turbofan"
	"turbofan/condition"
	"turbofan/feature"
)

// Predict answers each reading in order. A batch is answered whole or not at all: every reading is checked before any
// unit moves, and what had moved when something failed is rebuilt from the store. A reading that is sent again as it was
// gets the same answer again, so that a request whose answer was lost can be repeated; a changed one, and one that comes
// after a later cycle was answered without it, is an EConflict, because what was answered since was built on the others.
// Where processes share the store, one that loses a cycle to another, which sent other values for it at that moment, answers
// EConflict too, and the rest of its batch is stored: sent again without that reading, it is answered.
func (s *Service) Predict(ctx context.Context, req turbofan.PredictRequest) ([]turbofan.Prediction, error) {
	if len(req.Readings) == 0 {
		return nil, turbofan.Invalid("readings", "must hold at least one reading")
	}
	defer s.gate.enter().RUnlock()
	next := s.candidate.Load() // before the model: a request that sees no candidate sees what became of it
	l, err := s.current()
	if err != nil {
		return nil, err
	}
	schema := &l.champion.model.Spec().Schema
	for i := range req.Readings {
		if err := req.Readings[i].Validate(schema, "reading"); err != nil {
			return nil, named(err, req.Readings, i)
		}
	}
	if req.Stateless {
		return s.predictStateless(ctx, l, req)
	}
	return s.predictStored(ctx, &call{}, l, next, req)
}

// named lets an error about "reading" say which one of a batch it means. Names are made for errors alone: a batch of ten
// thousand good readings pays for none.
func named(err error, readings []turbofan.Reading, i int) error {
	if e, ok := errors.AsType[*turbofan.Error](err); ok && len(readings) > 1 {
		e.Field = fmt.Sprintf("readings[%d]%s", i, strings.TrimPrefix(e.Field, "reading"))
	}
	return err
}

// call is the units that a request speaks of. A request with one reading needs no memory but its own.
type call struct {
	units []*unit // in the order of their ids, so that two batches never wait for each other; locked
	each  []*unit // per reading
	one   [1]*unit
	// again holds the answers of the log to readings that are sent again, by their place in the request; nil for none.
	again map[int]turbofan.Prediction
}

// lock locks the units and finds that of each reading.
func (s *Service) lock(c *call, readings []turbofan.Reading, now time.Time) {
	if len(readings) == 1 {
		c.one[0] = s.lockUnit(readings[0].UnitID, now)
		c.units, c.each = c.one[:], c.one[:]
		return
	}
	ids := make([]string, len(readings))
	for i := range readings {
		ids[i] = readings[i].UnitID
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	c.units, c.each = make([]*unit, len(ids)), make([]*unit, len(readings))
	for i, id := range ids {
		c.units[i] = s.lockUnit(id, now)
	}
	for i := range readings {
		at, _ := slices.BinarySearch(ids, readings[i].UnitID)
		c.each[i] = c.units[at]
	}
}

// unlock gives the units back, and drops those that have nothing to keep.
func (s *Service) unlock(c *call) {
	for _, u := range c.units {
		u.sent = nil
		if u.served == nil || u.state.Readings == 0 || len(c.units) > 1 && s.crowded(u.id) {
			s.forget(u)
		}
		u.mu.Unlock()
	}
}

func (s *Service) predictStored(ctx context.Context, c *call, l *lanes, next *served, req turbofan.PredictRequest) (_ []turbofan.Prediction, err error) {
	now := time.Now().UTC()
	stateCtx, span := s.span(ctx, "state")
	s.lock(c, req.Readings, now)
	defer s.unlock(c)
	err = s.ready(stateCtx, c, l, req.Readings)
	end(span, err)
	if err != nil {
		return nil, err
	}
	var before *lanes
	if s.foreign(l, next, req.Readings) {
		// What is learned and what is stored must keep one order, or a restart would learn something else.
		s.learnMu.Lock()
		defer s.learnMu.Unlock()
		if now := s.lanes.Load(); now != l { // a request that failed has taken back what it had learned
			l = now
			if err = s.ready(ctx, c, l, req.Readings); err != nil {
				return nil, err
			}
		}
		if s.cfg.Shared {
			err = l.each(func(m *served) error { _, err := s.prime(ctx, m); return err })
		} else {
			before = l.clone()
		}
		if err != nil {
			return nil, err
		}
	}
	out, err := s.move(ctx, c, l, req, now, before != nil)
	if err != nil {
		// Nothing of this batch is kept: its units start again from what the store has, and so do all others where it
		// had taught the conditions.
		for _, u := range c.units {
			u.served, u.warm = nil, nil
		}
		if before != nil {
			s.lanes.Store(before)
		}
		return nil, err
	}
	return out, nil
}

// ready brings each unit to the model that answers it, checks the order of the readings and recalls the answers to those
// that are sent again.
func (s *Service) ready(ctx context.Context, c *call, l *lanes, readings []turbofan.Reading) error {
	for _, u := range c.units {
		u.sent = nil
		if err := s.prepare(ctx, u, l.of(u.id)); err != nil {
			return err
		}
	}
	if err := s.ends(ctx, c.units); err != nil {
		return err
	}
	resent, err := checkOrder(readings, c.each)
	if err != nil || len(resent) == 0 {
		return err
	}
	return s.recall(ctx, c, readings, resent)
}

// move steps the units through the readings, stores them with their answers and returns those.
func (s *Service) move(ctx context.Context, c *call, l *lanes, req turbofan.PredictRequest, now time.Time, learn bool) ([]turbofan.Prediction, error) {
	out := make([]turbofan.Prediction, len(req.Readings))
	records := make([]turbofan.PredictionRecord, 0, len(req.Readings))
	var silent *echo
	if sh := s.shadow.Load(); sh != nil {
		silent = sh.echo(len(req.Readings))
	}
	modelCtx, span := s.span(ctx, "model")
	records, err := s.step(modelCtx, c, l, req, now, learn, out, records, silent)
	end(span, err)
	if err != nil || len(records) == 0 {
		return out, err
	}
	storeCtx, span := s.span(ctx, "store")
	err = s.stores.Predictions.Append(storeCtx, records)
	if err == nil && s.cfg.Shared { // the replica that the unit speaks to next must find it
		records, err = s.confirm(storeCtx, c, records, req.Readings, out)
	}
	end(span, err)
	if err != nil {
		return out, err
	}
	for i := range records {
		l.of(records[i].Prediction.UnitID).answers.Inc()
	}
	silent.send()
	return out, nil
}

// step answers the readings in order into out and returns, behind records, what has to be stored.
func (s *Service) step(ctx context.Context, c *call, l *lanes, req turbofan.PredictRequest, now time.Time, learn bool, out []turbofan.Prediction,
	records []turbofan.PredictionRecord, silent *echo) ([]turbofan.PredictionRecord, error) {
	for i := range req.Readings {
		if i%256 == 255 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		r, u := &req.Readings[i], c.each[i]
		if r.Cycle <= u.state.LastCycle {
			if err := s.repeat(c, i, r, req.Explain, &out[i]); err != nil {
				return nil, err
			}
			continue
		}
		if learn {
			l.learn(u.id, r)
		}
		if err := s.answer(u.served, u.state, u.row, r, now, req.Explain, &out[i]); err != nil {
			return nil, err
		}
		out[i].UnitID = u.id
		if u.failed > 0 && r.Cycle > u.failed {
			out[i].Warnings = append(out[i].Warnings, fmt.Sprintf("unit %s was reported failed at cycle %d; this reading is of cycle %d", u.id, u.failed, r.Cycle))
		}
		silent.add(r, u, &out[i])
		u.last = out[i]
		u.keep(r)
		u.step(r)
		records = append(records, turbofan.PredictionRecord{Reading: *r, Prediction: out[i]})
	}
	return records, nil
}

// foreign reports whether a reading teaches a model that answers, or next, which is about to serve, something of a
// condition that it does not know. next then has to catch up with the store before it serves.
func (s *Service) foreign(l *lanes, next *served, readings []turbofan.Reading) bool {
	found := false
	for i := range readings {
		r := &readings[i]
		found = found || l.champion.foreign(r, s.cfg.Shared) || l.canary != nil && l.canary.foreign(r, s.cfg.Shared)
		if next != nil && next.foreign(r, false) {
			next.behind.Store(true)
			found = true
		}
	}
	return found
}

// answer steps the state by one reading and asks the model.
func (s *Service) answer(m *served, st *feature.State, row []float32, r *turbofan.Reading, now time.Time, explain bool, p *turbofan.Prediction) error {
	spec := m.model.Spec()
	cond, status, err := spec.Step(st, m.comm, r, row)
	if err != nil {
		return err
	}
	late := !spec.HasStart(st)
	a, err := m.model.Predict(row, late)
	if err != nil {
		return err
	}
	*p = turbofan.Prediction{
		ID: s.ids.id(), UnitID: r.UnitID, Cycle: r.Cycle, RUL: a.RUL, Lower: a.Lower, Upper: a.Upper,
		FailureProbability: a.FailureProbability, FailureHorizon: m.horizon, Health: a.Health,
		ModelName: m.version.Name, ModelVersion: m.version.Version, Condition: cond, At: now,
	}
	p.Warnings = warnings(r, late, status)
	if explain {
		p.Drivers, err = m.model.Explain(row, s.cfg.Drivers)
	}
	return err
}

// The warnings of an answer, each a sentence that a reliability engineer can act on.
const (
	warnLate         = "the unit was first seen late in its life: without its own start the interval is wider"
	warnProvisional  = "the operating condition is new and still being commissioned: the answer may move"
	warnUnrecognised = "the operating condition is new and not commissioned yet: this reading's sensors were not used"
	warnMissing      = "a sensor is missing in this reading"
)

func warnings(r *turbofan.Reading, late bool, status condition.Status) []string {
	var out []string
	if late {
		out = append(out, warnLate)
	}
	switch status {
	case condition.Provisional:
		out = append(out, warnProvisional)
	case condition.Unrecognised:
		out = append(out, warnUnrecognised)
	}
	if slices.ContainsFunc(r.Sensors, math.IsNaN) {
		out = append(out, warnMissing)
	}
	return out
}

// predictStateless answers histories that come with the request. Nothing is read, learned or written.
func (s *Service) predictStateless(ctx context.Context, l *lanes, req turbofan.PredictRequest) ([]turbofan.Prediction, error) {
	type life struct {
		by    *served
		state *feature.State
		row   []float32
	}
	lives := map[string]*life{}
	answered := 0 // from here on readings are answered
	if req.LastOnly {
		answered = len(req.Readings) - 1
	}
	out := make([]turbofan.Prediction, len(req.Readings)-answered)
	now := time.Now().UTC()
	for i := range req.Readings {
		if i%256 == 255 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		r := &req.Readings[i]
		u := lives[r.UnitID]
		if u == nil {
			m := l.of(r.UnitID)
			spec := m.model.Spec()
			u = &life{by: m, state: spec.NewState(), row: make([]float32, len(spec.Columns))}
			lives[r.UnitID] = u
		}
		if r.Cycle <= u.state.LastCycle {
			return nil, named(turbofan.Invalid("reading.cycle", "%d of unit %s is not after cycle %d before it", r.Cycle, r.UnitID, u.state.LastCycle), req.Readings, i)
		}
		if i < answered {
			if _, _, err := u.by.model.Spec().Step(u.state, u.by.comm, r, u.row); err != nil {
				return nil, err
			}
			continue
		}
		if err := s.answer(u.by, u.state, u.row, r, now, req.Explain, &out[i-answered]); err != nil {
			return nil, err
		}
	}
	return out, nil
}
