package model

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"turbofan"
	"turbofan/condition"
	"turbofan/feature"
	"turbofan/reference"
	"turbofan/tree"
)

// Model is a trained model with everything it needs to answer. It is immutable and safe for concurrent use.
type Model struct {
	cfg         Config
	spec        *feature.Spec
	learner     []member
	late        []member // for units that joined late; where it is empty, learner answers them too
	calibration Calibration
	// reference is what the training data looked like; of a model that was opened it is the file as it was saved, which
	// whoever watches for drift reads: to decode it takes a third of the time that a model takes to open.
	reference      *reference.Reference
	savedReference json.RawMessage
	golden         []golden
	metrics        Metrics
	data           DataSummary
	heldOut        []UnitError
	foldRMSE       []float64 // after training only
	digest         string
	scratch        sync.Pool // of *explanation
	lateColumn     int       // -1 where rows do not say
}

// DataSummary says what a model was trained on.
type DataSummary struct {
	Units   int            `json:"units"`
	Rows    int            `json:"rows"`
	Digest  string         `json:"digest"`
	Origins map[string]int `json:"origins"` // units by source
	CutOff  time.Time      `json:"cut_off,omitzero"`
}

// member is one ensemble of trees and its weight in the answer.
type member struct {
	kind   string
	weight float64
	trees  *tree.Ensemble
}

func blend(kinds []kind, weights []float64) []member {
	var out []member
	for i, k := range kinds {
		for _, e := range k.members {
			if w := weights[i] / float64(len(k.members)); w > 0 {
				out = append(out, member{kind: k.name, weight: w, trees: e})
			}
		}
	}
	return out
}

// ready makes what a trained or opened model needs to answer.
func (m *Model) ready() {
	n := len(m.spec.Columns)
	m.lateColumn = slices.Index(m.spec.Columns, feature.LateColumn)
	m.scratch.New = func() any { return &explanation{phi: make([]float64, n), member: make([]float64, n)} }
}

// Spec returns the features that the model was trained on.
func (m *Model) Spec() *feature.Spec { return m.spec }

// Config returns what the model was trained with.
func (m *Model) Config() Config { return m.cfg }

// Metrics returns the cross-validated error, measured before the final fit.
func (m *Model) Metrics() Metrics { return m.metrics }

// Data says what the model was trained on.
func (m *Model) Data() DataSummary { return m.data }

// HeldOut returns the cross-validated error of every training unit, each by a model that had not seen it: what a
// challenger is compared with on the same units.
func (m *Model) HeldOut() []UnitError { return m.heldOut }

// FoldRMSE returns the error (truth clipped, in cycles) of each fold of the cross-validation. Only the process that
// trained the model knows it; the artifact does not keep it, and a model that was opened returns nil.
func (m *Model) FoldRMSE() []float64 { return m.foldRMSE }

// Errors returns the model's error on units that it was not trained on, named by origin.
func (m *Model) Errors(ctx context.Context, origin string, units []turbofan.History) ([]UnitError, error) {
	answers, err := m.PredictHistories(ctx, units)
	if err != nil {
		return nil, err
	}
	out := make([]UnitError, len(units))
	for u := range units {
		out[u].Unit = UnitKey(origin, units[u].UnitID)
		for i, a := range answers[u] {
			rul, known := units[u].RUL(i)
			if !known {
				return nil, turbofan.Errorf(turbofan.EInvalid, "judge unit %s: its end is not known", units[u].UnitID)
			}
			e := a.RUL - min(rul, m.cfg.Cap)
			out[u].Rows++
			out[u].SSE += e * e
		}
	}
	return out, nil
}

// Digest identifies the artifact; it is empty until the model was saved or opened.
func (m *Model) Digest() string { return m.digest }

// answering returns the members that answer rows of units with an own start, or of those without.
func (m *Model) answering(late bool) []member {
	if late && len(m.late) > 0 {
		return m.late
	}
	return m.learner
}

// Predict answers one row of Spec().Columns; late says that the row's unit has no own start. It does not allocate.
func (m *Model) Predict(row []float32, late bool) (Answer, error) {
	sum := 0.0
	for _, l := range m.answering(late) {
		v, err := l.trees.Predict(row)
		if err != nil {
			return Answer{}, err
		}
		sum += l.weight * v
	}
	if math.IsNaN(sum) {
		return Answer{}, fmt.Errorf("predict row: the model answered NaN")
	}
	return m.calibration.answer(sum, late), nil
}

// Importance is the share of a feature in what the trees decided.
type Importance struct {
	Feature string  `json:"feature"`
	Share   float64 `json:"share"`
}

// Importances returns the impurity importance of every feature, largest first; they sum to 1.
func (m *Model) Importances() []Importance {
	out := make([]Importance, len(m.spec.Columns))
	for i, c := range m.spec.Columns {
		out[i].Feature = c
	}
	for _, l := range m.learner {
		for i, v := range l.trees.FeatureImportances() {
			out[i].Share += l.weight * v
		}
	}
	slices.SortStableFunc(out, func(a, b Importance) int { return -cmp.Compare(a.Share, b.Share) })
	return out
}

// PredictHistories answers every reading of every history, replayed from its first reading: out[i][j] is the answer to
// reading j of units[i]. Errors are those of feature.Spec.Step, and ctx's when ctx ends.
func (m *Model) PredictHistories(ctx context.Context, units []turbofan.History) ([][]Answer, error) {
	comm, err := m.spec.Commission(units)
	if err != nil {
		return nil, err
	}
	out := make([][]Answer, len(units))
	for u := range units {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		a, err := m.predictHistory(&units[u], comm)
		if err != nil {
			return nil, err
		}
		out[u] = a
	}
	return out, nil
}

func (m *Model) predictHistory(h *turbofan.History, comm *condition.Commissioner) ([]Answer, error) {
	st := m.spec.NewState()
	row := make([]float32, len(m.spec.Columns))
	out := make([]Answer, len(h.Readings))
	for i := range h.Readings {
		if _, _, err := m.spec.Step(st, comm, &h.Readings[i], row); err != nil {
			return nil, err
		}
		var err error
		if out[i], err = m.Predict(row, !m.spec.HasStart(st)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Evaluate scores the model by the test protocol: one prediction a unit, at its last reading, every unit counted. Units
// whose end is not known are an error: there is nothing to judge by.
func (m *Model) Evaluate(ctx context.Context, subset string, units []turbofan.History) (Metrics, error) {
	answers, err := m.PredictHistories(ctx, units)
	if err != nil {
		return Metrics{}, err
	}
	var s []scored
	for u := range units {
		last := len(units[u].Readings) - 1
		if last < 0 {
			return Metrics{}, turbofan.Errorf(turbofan.EInvalid, "evaluate %s: unit %s has no readings", subset, units[u].UnitID)
		}
		rul, known := units[u].RUL(last)
		if !known {
			return Metrics{}, turbofan.Errorf(turbofan.EInvalid, "evaluate %s: the end of unit %s is not known", subset, units[u].UnitID)
		}
		s = append(s, scored{rul: rul, a: answers[u][last], w: 1})
	}
	if len(s) == 0 {
		return Metrics{}, turbofan.Errorf(turbofan.EInvalid, "evaluate %s: there are no units", subset)
	}
	out := measure(m.cfg, s)
	late, err := m.lateAnswers(ctx, units)
	if err != nil {
		return Metrics{}, err
	}
	out.measureLate(m.cfg.Cap, late)
	out.Subset, out.Protocol, out.Units = subset, "test", len(units)
	return out, nil
}

// lateAnswers replays each unit from the middle of its readings and judges its newest one. Units that are too short to
// have joined late are left out.
func (m *Model) lateAnswers(ctx context.Context, units []turbofan.History) ([]scored, error) {
	start := make([]int, len(units))
	for u := range units {
		if mid := len(units[u].Readings) / 2; mid > m.spec.Config.LateStart {
			start[u] = mid
		}
	}
	rows, err := m.spec.TransformSome(ctx, units, feature.Take{Start: start})
	if err != nil {
		return nil, err
	}
	var out []scored
	for i := range rows.Len() {
		if i+1 < rows.Len() && rows.Unit[i+1] == rows.Unit[i] {
			continue
		}
		a, err := m.Predict(rows.Row(i), true)
		if err != nil {
			return nil, err
		}
		out = append(out, scored{rul: rows.RUL[i], a: a, w: 1})
	}
	return out, nil
}
