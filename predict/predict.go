package predict

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"turbofan"
	"turbofan/condition"
	"turbofan/feature"
)

// Predict answers each reading in order. A batch is answered whole or not at all: every reading is checked before any
// unit moves. Sending a unit's newest reading again gets the same answer again; a changed or an older one is an
// EConflict, because what was answered since was built on it.
func (s *Service) Predict(ctx context.Context, req turbofan.PredictRequest) ([]turbofan.Prediction, error) {
	if len(req.Readings) == 0 {
		return nil, turbofan.Invalid("readings", "must hold at least one reading")
	}
	s.swapMu.RLock()
	defer s.swapMu.RUnlock()
	m, err := s.current()
	if err != nil {
		return nil, err
	}
	schema := &m.model.Spec().Schema
	for i := range req.Readings {
		if err := req.Readings[i].Validate(schema, path(req.Readings, i)); err != nil {
			return nil, err
		}
	}
	if req.Stateless {
		return s.predictStateless(m, req)
	}
	return s.predictStored(ctx, m, req)
}

// path is how an error names reading i.
func path(readings []turbofan.Reading, i int) string {
	if len(readings) == 1 {
		return "reading"
	}
	return fmt.Sprintf("readings[%d]", i)
}

func (s *Service) predictStored(ctx context.Context, m *served, req turbofan.PredictRequest) ([]turbofan.Prediction, error) {
	ids := unitIDs(req.Readings)
	units := make(map[string]*unit, len(ids))
	for _, id := range ids { // sorted: two batches never wait for each other
		units[id] = s.lockUnit(id)
	}
	defer func() {
		for id, u := range units {
			if u.served == nil || u.state.Readings == 0 {
				s.forget(id, u)
			}
			u.mu.Unlock()
		}
	}()
	for _, id := range ids {
		if err := s.prepare(ctx, id, units[id], m); err != nil {
			return nil, err
		}
	}
	if err := checkOrder(req.Readings, units); err != nil {
		return nil, err
	}
	out := make([]turbofan.Prediction, len(req.Readings))
	records := make([]turbofan.PredictionRecord, 0, len(req.Readings))
	now := time.Now()
	for i := range req.Readings {
		r, u := &req.Readings[i], units[req.Readings[i].UnitID]
		if r.Cycle == u.state.LastCycle {
			p, err := s.repeat(ctx, m, u, r, req.Explain)
			if err != nil {
				return nil, err
			}
			out[i] = p
			continue
		}
		m.comm.Learn(r.UnitID, r.Cycle, r.Settings, r.Sensors)
		p, err := s.answer(m, u.state, u.row, r, now, req.Explain)
		if err != nil {
			u.served = nil // the state has moved past a reading that was not answered: rebuild it
			return nil, err
		}
		u.last, u.reading, out[i] = p, *r, p
		records = append(records, turbofan.PredictionRecord{Reading: *r, Prediction: p})
	}
	if len(records) == 0 {
		return out, nil
	}
	if err := s.stores.Predictions.Append(ctx, records); err != nil {
		for _, u := range units {
			u.served = nil // nothing of this batch is kept: the next request starts from what the store has
		}
		return nil, err
	}
	return out, nil
}

func unitIDs(readings []turbofan.Reading) []string {
	if len(readings) == 1 {
		return []string{readings[0].UnitID}
	}
	ids := make([]string, len(readings))
	for i := range readings {
		ids[i] = readings[i].UnitID
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// checkOrder refuses a batch in which a reading is not after its unit's newest, but for an exact repeat of that one.
func checkOrder(readings []turbofan.Reading, units map[string]*unit) error {
	last := make(map[string]int, len(units))
	for i := range readings {
		r := &readings[i]
		u := units[r.UnitID]
		newest, sent := last[r.UnitID]
		if !sent {
			newest = u.state.LastCycle
			if r.Cycle == newest && same(r, &u.reading) {
				last[r.UnitID] = r.Cycle
				continue
			}
		}
		if r.Cycle == newest && newest > 0 {
			return &turbofan.Error{Code: turbofan.EConflict, Field: path(readings, i) + ".cycle",
				Message: fmt.Sprintf("cycle %d of unit %s was already sent with other values", r.Cycle, r.UnitID)}
		}
		if r.Cycle < newest {
			return &turbofan.Error{Code: turbofan.EConflict, Field: path(readings, i) + ".cycle",
				Message: fmt.Sprintf("cycle %d of unit %s comes after cycle %d was answered; send a unit's cycles in ascending order", r.Cycle, r.UnitID, newest)}
		}
		last[r.UnitID] = r.Cycle
	}
	return nil
}

// repeat answers a unit's newest reading once more, with the answer it got.
func (s *Service) repeat(ctx context.Context, m *served, u *unit, r *turbofan.Reading, explain bool) (turbofan.Prediction, error) {
	if u.last.ID == "" {
		logged, err := s.stores.Predictions.Predictions(ctx, turbofan.PredictionQuery{UnitID: r.UnitID, Last: 1})
		if err != nil {
			return turbofan.Prediction{}, err
		}
		if len(logged) == 0 || logged[0].Cycle != r.Cycle {
			return turbofan.Prediction{}, turbofan.Errorf(turbofan.EConflict, "cycle %d of unit %s was already sent and its answer is not in the log", r.Cycle, r.UnitID)
		}
		u.last = logged[0]
	}
	p := u.last
	if explain && len(p.Drivers) == 0 && u.served == m {
		var err error
		if p.Drivers, err = m.model.Explain(u.row, s.cfg.Drivers); err != nil {
			return p, err
		}
	}
	return p, nil
}

// answer steps the state by one reading and asks the model.
func (s *Service) answer(m *served, st *feature.State, row []float32, r *turbofan.Reading, now time.Time, explain bool) (turbofan.Prediction, error) {
	spec := m.model.Spec()
	cond, status, err := spec.Step(st, m.comm, r, row)
	if err != nil {
		return turbofan.Prediction{}, err
	}
	late := !spec.HasStart(st)
	a, err := m.model.Predict(row, late)
	if err != nil {
		return turbofan.Prediction{}, err
	}
	p := turbofan.Prediction{
		ID: s.ids.id(), UnitID: r.UnitID, Cycle: r.Cycle, RUL: a.RUL, Lower: a.Lower, Upper: a.Upper,
		FailureProbability: a.FailureProbability, FailureHorizon: m.model.Config().Horizon, Health: a.Health,
		ModelName: m.version.Name, ModelVersion: m.version.Version, Condition: cond, At: now,
	}
	p.Warnings = warnings(r, late, status)
	if explain {
		if p.Drivers, err = m.model.Explain(row, s.cfg.Drivers); err != nil {
			return turbofan.Prediction{}, err
		}
	}
	return p, nil
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
func (s *Service) predictStateless(m *served, req turbofan.PredictRequest) ([]turbofan.Prediction, error) {
	spec := m.model.Spec()
	states := map[string]*feature.State{}
	row := make([]float32, len(spec.Columns))
	out := make([]turbofan.Prediction, len(req.Readings))
	now := time.Now()
	for i := range req.Readings {
		r := &req.Readings[i]
		st := states[r.UnitID]
		if st == nil {
			st = spec.NewState()
			states[r.UnitID] = st
		}
		if r.Cycle <= st.LastCycle {
			return nil, turbofan.Invalid(path(req.Readings, i)+".cycle", "%d of unit %s is not after cycle %d before it", r.Cycle, r.UnitID, st.LastCycle)
		}
		p, err := s.answer(m, st, row, r, now, req.Explain)
		if err != nil {
			return nil, err
		}
		out[i] = p
	}
	return out, nil
}
