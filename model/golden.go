package model

import (
	"fmt"
	"math"

	"turbofan"
	"turbofan/condition"
)

// golden is the beginning or a late part of one unit's life with what the model said of each reading when it was
// trained. A model that no longer says so never serves.
type golden struct {
	Readings []goldenReading `json:"readings"`
	RUL      []float64       `json:"rul_prediction"`
	Lower    []float64       `json:"rul_lower"`
	Upper    []float64       `json:"rul_upper"`
	Fails    []float64       `json:"failure_probability"`
}

// goldenReading is a reading whose missing sensors are null.
type goldenReading struct {
	UnitID   string            `json:"unit_id"`
	Cycle    int               `json:"cycle"`
	Settings []float64         `json:"settings"`
	Sensors  []turbofan.Number `json:"sensors"`
}

// history returns the readings as they came.
func (g *golden) history() *turbofan.History {
	h := &turbofan.History{Readings: make([]turbofan.Reading, len(g.Readings))}
	for i, r := range g.Readings {
		h.Readings[i] = turbofan.Reading{UnitID: r.UnitID, Cycle: r.Cycle, Settings: r.Settings, Sensors: make([]float64, len(r.Sensors))}
		for j, v := range r.Sensors {
			h.Readings[i].Sensors[j] = float64(v)
		}
	}
	return h
}

func (g *golden) keep(readings []turbofan.Reading) {
	for _, r := range readings {
		sensors := make([]turbofan.Number, len(r.Sensors))
		for j, v := range r.Sensors {
			sensors[j] = turbofan.Number(v)
		}
		g.Readings = append(g.Readings, goldenReading{UnitID: r.UnitID, Cycle: r.Cycle, Settings: r.Settings, Sensors: sensors})
	}
}

// Sizes of the golden histories, and how far an answer may move: compilers may fuse multiply and add, so another
// machine can differ in the last bits.
const (
	goldenUnits     = 4
	goldenReadings  = 48
	goldenTolerance = 1e-6
)

// makeGolden takes units spread over the training data, every second one from the end of its life as a late joiner.
func makeGolden(m *Model, units []turbofan.History) ([]golden, error) {
	var out []golden
	for k := range min(goldenUnits, len(units)) {
		r := units[k*len(units)/goldenUnits].Readings
		if k%2 == 1 {
			r = r[max(0, len(r)-goldenReadings):]
		}
		var g golden
		g.keep(r[:min(len(r), goldenReadings)])
		answers, err := m.predictHistory(g.history(), condition.NewCommissioner(m.spec.Normalizer))
		if err != nil {
			return nil, fmt.Errorf("make golden histories: %w", err)
		}
		for _, a := range answers {
			g.RUL, g.Lower = append(g.RUL, a.RUL), append(g.Lower, a.Lower)
			g.Upper, g.Fails = append(g.Upper, a.Upper), append(g.Fails, a.FailureProbability)
		}
		out = append(out, g)
	}
	return out, nil
}

// checkGolden replays the golden histories and reports the first answer that moved.
func (m *Model) checkGolden() error {
	if len(m.golden) == 0 {
		return fmt.Errorf("check golden histories: there is none")
	}
	for k, g := range m.golden {
		h := g.history()
		for i := range h.Readings {
			if err := h.Readings[i].Validate(&m.spec.Schema, "reading"); err != nil {
				return fmt.Errorf("check golden history %d: %w", k, err)
			}
		}
		n := len(g.Readings)
		if n == 0 || len(g.RUL) != n || len(g.Lower) != n || len(g.Upper) != n || len(g.Fails) != n {
			return fmt.Errorf("check golden history %d: it is incomplete", k)
		}
		answers, err := m.predictHistory(h, condition.NewCommissioner(m.spec.Normalizer))
		if err != nil {
			return fmt.Errorf("check golden history %d: %w", k, err)
		}
		for i, a := range answers {
			if !near(a.RUL, g.RUL[i]) || !near(a.Lower, g.Lower[i]) || !near(a.Upper, g.Upper[i]) || !near(a.FailureProbability, g.Fails[i]) {
				return fmt.Errorf("check golden history %d: at cycle %d the model says %.6g in [%.6g, %.6g], p %.6g; when it was trained it said %.6g in [%.6g, %.6g], p %.6g",
					k, g.Readings[i].Cycle, a.RUL, a.Lower, a.Upper, a.FailureProbability, g.RUL[i], g.Lower[i], g.Upper[i], g.Fails[i])
			}
		}
	}
	return nil
}

func near(a, b float64) bool {
	return math.Abs(a-b) <= goldenTolerance*max(1, math.Abs(a), math.Abs(b))
}
