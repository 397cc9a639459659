package httpapi_test

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"turbofan"
)

// The services below keep everything in memory and follow the contracts of the root package. They are what the wire is
// held against: called directly and through a handler and a client they must be indistinguishable.

var memoryStart = time.Date(2026, 1, 31, 12, 0, 0, 123456789, time.UTC)

type memoryPredictions struct {
	mu          sync.Mutex
	units       map[string][]turbofan.Prediction
	order       []string
	predictions map[string]turbofan.Prediction
	noModel     bool
}

func newMemoryPredictions() *memoryPredictions {
	return &memoryPredictions{units: make(map[string][]turbofan.Prediction), predictions: make(map[string]turbofan.Prediction)}
}

func (m *memoryPredictions) Predict(ctx context.Context, req turbofan.PredictRequest) ([]turbofan.Prediction, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.noModel {
		return nil, turbofan.Errorf(turbofan.EUnavailable, "no model serves yet")
	}
	if len(req.Readings) == 0 {
		return nil, turbofan.Invalid("readings", "must hold at least one reading")
	}
	schema := turbofan.CMAPSS()
	var out []turbofan.Prediction
	last := make(map[string]int)
	for i := range req.Readings {
		r := &req.Readings[i]
		at := "reading"
		if len(req.Readings) > 1 {
			at = fmt.Sprintf("readings[%d]", i)
		}
		if err := r.Validate(&schema, at); err != nil {
			return nil, err
		}
		before, ok := last[r.UnitID]
		if known := m.units[r.UnitID]; !ok && !req.Stateless && len(known) > 0 {
			before = known[len(known)-1].Cycle
		}
		if r.Cycle <= before {
			return nil, &turbofan.Error{Code: turbofan.EConflict, Field: at + ".cycle", Message: fmt.Sprintf("%d is not after %d, which unit %q already sent", r.Cycle, before, r.UnitID)}
		}
		last[r.UnitID] = r.Cycle
		out = append(out, m.answer(r, req.Explain))
	}
	if !req.Stateless {
		for _, p := range out {
			if m.units[p.UnitID] == nil {
				m.order = append([]string{p.UnitID}, m.order...)
			}
			m.units[p.UnitID] = append(m.units[p.UnitID], p)
			m.predictions[p.ID] = p
		}
	}
	if req.LastOnly {
		return out[len(out)-1:], nil
	}
	return out, nil
}

func (m *memoryPredictions) answer(r *turbofan.Reading, explain bool) turbofan.Prediction {
	sum, missing := 0.0, 0
	for _, v := range r.Sensors {
		if math.IsNaN(v) {
			missing++
			continue
		}
		sum += v
	}
	p := turbofan.Prediction{
		ID: fmt.Sprintf("p-%s-%d", r.UnitID, r.Cycle), UnitID: r.UnitID, Cycle: r.Cycle, RUL: math.Mod(sum, 125) + r.Settings[0], Lower: 1e-7, Upper: 1e22 / 3,
		FailureProbability: 1.0 / 3, FailureHorizon: 30, Health: turbofan.Watch, ModelName: "rul", ModelVersion: "7", Condition: -1, At: memoryStart,
	}
	if missing > 0 {
		p.Warnings = []string{fmt.Sprintf("%d sensors are missing", missing), "quotes \" and \\ and \u2028 and \x07"}
	}
	if explain {
		p.Drivers = []turbofan.Driver{{Feature: "sensor_11_rolling_mean_5", Value: 47.25, Contribution: -12.5}, {Feature: "age", Value: turbofan.Number(math.NaN()), Contribution: 0.1}}
	}
	return p
}

func (m *memoryPredictions) Units(_ context.Context, limit, offset int) ([]turbofan.UnitSummary, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if limit < 1 || limit > 10_000 {
		return nil, turbofan.Invalid("limit", "must be a whole number from 1 to 10000, not %q", fmt.Sprint(limit))
	}
	var out []turbofan.UnitSummary
	for i := offset; i < len(m.order) && len(out) < limit; i++ {
		out = append(out, m.summary(m.order[i]))
	}
	return out, nil
}

func (m *memoryPredictions) summary(id string) turbofan.UnitSummary {
	ps := m.units[id]
	return turbofan.UnitSummary{UnitID: id, FirstCycle: ps[0].Cycle, LastCycle: ps[len(ps)-1].Cycle, Readings: len(ps), LastSeen: memoryStart, Last: &ps[len(ps)-1]}
}

func (m *memoryPredictions) Unit(_ context.Context, id string) (turbofan.UnitStatus, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.units[id] == nil {
		return turbofan.UnitStatus{}, turbofan.Errorf(turbofan.ENotFound, "unit %q has sent no reading", id)
	}
	return turbofan.UnitStatus{UnitSummary: m.summary(id), Recent: m.units[id]}, nil
}

func (m *memoryPredictions) Prediction(_ context.Context, id string) (turbofan.Prediction, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, ok := m.predictions[id]
	if !ok {
		return p, turbofan.Errorf(turbofan.ENotFound, "there is no prediction %q", id)
	}
	return p, nil
}

func (m *memoryPredictions) Serving(context.Context) (turbofan.Serving, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.noModel {
		return turbofan.Serving{}, turbofan.Errorf(turbofan.EUnavailable, "no model serves yet")
	}
	return turbofan.Serving{ModelName: "rul", ModelVersion: "7", Digest: "d", Since: memoryStart, Swaps: 3, Failures: 1, LastFailure: "golden rows differ", Units: len(m.units)}, nil
}

type memoryFeedback struct {
	mu       sync.Mutex
	outcomes []turbofan.Outcome
	broken   error
}

func (m *memoryFeedback) Record(_ context.Context, outcomes []turbofan.Outcome) ([]turbofan.OutcomeReceipt, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken != nil {
		return nil, m.broken
	}
	if len(outcomes) == 0 {
		return nil, turbofan.Invalid("outcomes", "must hold at least one outcome")
	}
	var out []turbofan.OutcomeReceipt
	for i, o := range outcomes {
		at := fmt.Sprintf("outcomes[%d]", i)
		switch {
		case o.UnitID == "" && o.PredictionID == "":
			return nil, turbofan.Invalid(at+".unit_id", "is missing")
		case o.ActualRUL != nil && o.FailedAtCycle != nil:
			return nil, turbofan.Invalid(at+".actual_rul", "is given beside failed_at_cycle; send one of them")
		case o.ActualRUL != nil && *o.ActualRUL < 0:
			return nil, turbofan.Invalid(at+".actual_rul", "must be at least 0, not %g", *o.ActualRUL)
		}
		duplicate := false
		for _, old := range m.outcomes {
			duplicate = duplicate || o.Key != "" && old.Key == o.Key
		}
		if !duplicate {
			m.outcomes = append(m.outcomes, o)
		}
		out = append(out, turbofan.OutcomeReceipt{FeedbackID: fmt.Sprintf("f-%d", len(m.outcomes)), UnitID: o.UnitID, Duplicate: duplicate, Predictions: 3})
	}
	return out, nil
}

func (m *memoryFeedback) Outcomes(_ context.Context, q turbofan.OutcomeQuery) ([]turbofan.Outcome, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []turbofan.Outcome
	for _, o := range m.outcomes {
		if q.UnitID != "" && o.UnitID != q.UnitID || !q.Since.IsZero() && o.At.Before(q.Since) || !q.Until.IsZero() && !o.At.Before(q.Until) {
			continue
		}
		if out = append(out, o); len(out) == q.Limit {
			break
		}
	}
	return out, nil
}

func (m *memoryFeedback) Performance(_ context.Context, last int) ([]turbofan.Performance, error) {
	return []turbofan.Performance{
		{ModelVersion: "1", Predictions: last, Units: 2, RMSE: 14.25, MAE: 10, Coverage: 0.9, Cap: 125},
		{ModelVersion: "2", RMSE: math.NaN(), MAE: math.NaN(), Coverage: math.NaN(), Cap: 125},
	}, nil
}

type memoryDrift struct {
	mu      sync.Mutex
	reports []turbofan.DriftReport
	broken  error
}

func (m *memoryDrift) Check(context.Context) (turbofan.DriftReport, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken != nil {
		return turbofan.DriftReport{}, m.broken
	}
	r := turbofan.DriftReport{
		ID: fmt.Sprintf("d-%d", len(m.reports)+1), At: memoryStart, ModelName: "rul", ModelVersion: "7", Verdict: turbofan.Drifted, Because: "psi(sensor_11)=0.31 > 0.20",
		Rows: 1500, Units: 20, FromSeq: 1, ToSeq: 1500, Score: 0.31, Threshold: 0.2, PSIMean: 0.1, PSIMax: 0.31,
		Channels:      []turbofan.ChannelDrift{{Channel: "sensor_11", PSI: 0.31, Threshold: 0.2, KSPValue: turbofan.Number(math.NaN()), Drifted: true}},
		Prediction:    &turbofan.ChannelDrift{Channel: "prediction", PSI: 0.1},
		NewConditions: []turbofan.NewCondition{{Settings: []float64{35, 0.84, 100}, Rows: 3, Units: 1}},
		Quality:       []turbofan.QualityIssue{{Kind: "stuck", Channel: "sensor_1", Count: 4, Detail: "one value"}},
		RMSE:          new(17.5), Seconds: 0.25, RetrainingJob: "j-1",
	}
	m.reports = append([]turbofan.DriftReport{r}, m.reports...)
	return r, nil
}

func (m *memoryDrift) Reports(_ context.Context, limit int) ([]turbofan.DriftReport, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reports[:min(limit, len(m.reports))], nil
}

type memoryRetraining struct {
	mu   sync.Mutex
	jobs []turbofan.Job
}

func (m *memoryRetraining) Submit(_ context.Context, req turbofan.RetrainRequest) (turbofan.Job, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, j := range m.jobs {
		if j.Status.Active() {
			return turbofan.Job{}, turbofan.Errorf(turbofan.EConflict, "job %s is active", j.ID)
		}
	}
	if req.Reason == "nothing to learn from" && !req.Force {
		return turbofan.Job{}, turbofan.Errorf(turbofan.EInsufficient, "3 units have a known end; 10 are needed")
	}
	j := turbofan.Job{ID: fmt.Sprintf("j-%d", len(m.jobs)+1), Status: turbofan.JobPending, Reason: req.Reason, Trigger: req.Trigger, CreatedAt: memoryStart, DataCutOff: memoryStart.Add(time.Hour)}
	m.jobs = append([]turbofan.Job{j}, m.jobs...)
	return j, nil
}

// end finishes the newest job.
func (m *memoryRetraining) end(status turbofan.JobStatus, message string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	j := &m.jobs[0]
	j.Status, j.Error, j.StartedAt, j.EndedAt, j.Progress = status, message, memoryStart, memoryStart.Add(time.Minute), 1
	if status == turbofan.JobSuccess {
		j.Result = &turbofan.RetrainResult{
			ModelVersion: "8", RunID: "r", Promoted: true, Because: "better on every group", TrainUnits: map[string]int{"baseline": 100, "production": 12},
			HeldOut: []turbofan.GateComparison{{Group: "all", Units: 20, Champion: 18, Challenger: 14, Low: -6, High: -2}, {Group: "new", Champion: math.NaN(), Challenger: 12}},
			Metrics: map[string]float64{"rmse": 14, "score": math.NaN()}, Seconds: 61,
		}
	}
}

func (m *memoryRetraining) Job(_ context.Context, id string) (turbofan.Job, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, j := range m.jobs {
		if j.ID == id {
			return j, nil
		}
	}
	return turbofan.Job{}, turbofan.Errorf(turbofan.ENotFound, "there is no job %q", id)
}

func (m *memoryRetraining) Jobs(_ context.Context, limit int) ([]turbofan.Job, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]turbofan.Job(nil), m.jobs[:min(limit, len(m.jobs))]...), nil
}

func (m *memoryRetraining) Cancel(_ context.Context, id string) (turbofan.Job, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.jobs {
		if j := &m.jobs[i]; j.ID == id {
			if !j.Status.Active() {
				return turbofan.Job{}, turbofan.Errorf(turbofan.EConflict, "job %s has ended: %s", id, j.Status)
			}
			j.Status, j.EndedAt = turbofan.JobCancelled, memoryStart
			return *j, nil
		}
	}
	return turbofan.Job{}, turbofan.Errorf(turbofan.ENotFound, "there is no job %q", id)
}
