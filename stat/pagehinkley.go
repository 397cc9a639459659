package stat

import (
	"errors"
	"fmt"
	"math"
)

// PageHinkley detects a change of the mean of a stream, one value at a time (Page
// 1954; Mouss et al. 2004). Parameters, defaults and answers are river's
// drift.PageHinkley in mode "both". All fields are exported so that a detector
// survives a restart as JSON; make one with NewPageHinkley.
type PageHinkley struct {
	MinInstances int     `json:"min_instances"` // no verdict before that many values
	Delta        float64 `json:"delta"`         // change per value that is tolerated
	Threshold    float64 `json:"threshold"`     // larger: fewer false alarms, later true ones
	Alpha        float64 `json:"alpha"`         // forgetting factor, just below 1

	N         int     `json:"n"`
	Mean      float64 `json:"mean"`
	Up        float64 `json:"up"`         // cumulative deviation less Delta
	UpLow     float64 `json:"up_low"`     // its lowest value
	Down      float64 `json:"down"`       // cumulative deviation plus Delta
	DownHigh  float64 `json:"down_high"`  // its highest value
	IsDrifted bool    `json:"is_drifted"` // the last value completed a change
}

// NewPageHinkley has river's defaults: 30 instances, delta 0.005, threshold 50, alpha
// 0.9999. Change the parameters before the first Update.
func NewPageHinkley() *PageHinkley {
	return &PageHinkley{MinInstances: 30, Delta: 0.005, Threshold: 50, Alpha: 1 - 0.0001}
}

// Update takes the next value and reports whether it completes a change; the value
// after one starts afresh. A value that is not finite is an error and changes nothing.
func (d *PageHinkley) Update(x float64) (bool, error) {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return false, fmt.Errorf("update Page-Hinkley: x is %v, must be finite", x)
	}
	if d.MinInstances < 1 || !(d.Threshold > 0) || !(d.Alpha > 0 && d.Alpha <= 1) {
		return false, errors.New("update Page-Hinkley: min_instances must be at least 1, threshold above 0, alpha above 0 and at most 1")
	}
	if d.IsDrifted {
		*d = PageHinkley{MinInstances: d.MinInstances, Delta: d.Delta, Threshold: d.Threshold, Alpha: d.Alpha}
	}
	d.N++
	d.Mean += (x - d.Mean) / float64(d.N)
	deviation := x - d.Mean
	d.Up = d.Alpha*d.Up + deviation - d.Delta
	d.Down = d.Alpha*d.Down + deviation + d.Delta
	if d.N == 1 {
		// river starts the highest value at -1, not at minus infinity.
		d.UpLow, d.DownHigh = d.Up, max(d.Down, -1)
	}
	d.UpLow, d.DownHigh = min(d.UpLow, d.Up), max(d.DownHigh, d.Down)
	d.IsDrifted = d.N >= d.MinInstances &&
		(d.Up-d.UpLow > d.Threshold || d.DownHigh-d.Down > d.Threshold)
	return d.IsDrifted, nil
}
