package model

import (
	"maps"
	"math"
	"slices"
	"time"

	"turbofan"
	"turbofan/stat"
)

// CrossValidation is the protocol of Metrics of units held out in a training.
const CrossValidation = "cross-validation"

// Metrics is the protocol's table for one set of predictions. Errors are in cycles.
type Metrics struct {
	Subset string `json:"subset"`
	Units  int    `json:"units"`
	// Protocol is "test" for one prediction a unit at its last cycle, CrossValidation for units held out by fold
	// and cut at every age from 30 cycles on with equal weight a unit.
	Protocol    string          `json:"protocol"`
	RMSEClipped turbofan.Number `json:"rmse_clipped"` // truth clipped at the cap
	RMSERaw     turbofan.Number `json:"rmse_raw"`
	Score       turbofan.Number `json:"score"` // NASA's, over clipped truth; under cross-validation a mean times the units
	MAE         turbofan.Number `json:"mae"`   // clipped
	R2          turbofan.Number `json:"r2"`    // clipped
	RMSE30      turbofan.Number `json:"rmse_rul30"`
	Coverage    turbofan.Number `json:"coverage"`
	Coverage30  turbofan.Number `json:"coverage_rul30"`
	Width       turbofan.Number `json:"width"`
	AUC         turbofan.Number `json:"auc"` // of the failure probability within the horizon
	Brier       turbofan.Number `json:"brier"`
	// LateRMSE and LateCoverage are for units replayed as if they had joined late: under cross-validation from a random
	// age on, under the test protocol from the middle of their readings.
	LateRMSE     turbofan.Number `json:"rmse_late"`
	LateCoverage turbofan.Number `json:"coverage_late"`
	// Reliability compares the failure probability with how often units failed within the horizon, by tenths.
	Reliability []stat.ReliabilityBin `json:"reliability,omitempty"`
	// Origins is the same table for the units of each source, where a cross-validation held out units of several; what
	// is measured of units that joined late is measured over all of them alone.
	Origins []Metrics `json:"origins,omitempty"`
}

// scored is one prediction against its truth, with a weight.
type scored struct {
	unit int // of a cross-validation
	rul  float64
	a    Answer
	w    float64
}

// measure computes the protocol's table. Weights count for every mean; the AUC ignores them.
func measure(cfg Config, s []scored) Metrics {
	var m Metrics
	var w, clipped, raw, score, abs, mean, in, width, brier, w30, se30, in30 float64
	for _, x := range s {
		t := min(x.rul, cfg.Cap)
		w += x.w
		mean += x.w * t
	}
	mean /= w
	total := 0.0
	var ranks, probs []float64
	var failed []bool
	for _, x := range s {
		t := min(x.rul, cfg.Cap)
		d := x.a.RUL - t
		clipped += x.w * d * d
		raw += x.w * (x.a.RUL - x.rul) * (x.a.RUL - x.rul)
		abs += x.w * math.Abs(d)
		total += x.w * (t - mean) * (t - mean)
		score += x.w * stat.NASAPenalty(d)
		covered := 0.0
		if t >= x.a.Lower && t <= x.a.Upper {
			covered = x.w
		}
		in += covered
		width += x.w * (x.a.Upper - x.a.Lower)
		fails := x.rul <= float64(cfg.Horizon)
		p := x.a.FailureProbability
		if fails {
			brier += x.w * (1 - p) * (1 - p)
			w30 += x.w
			se30 += x.w * d * d
			in30 += covered
		} else {
			brier += x.w * p * p
		}
		if x.w > 0 {
			ranks, probs, failed = append(ranks, x.a.rank()), append(probs, p), append(failed, fails)
		}
	}
	m.RMSEClipped, m.RMSERaw, m.MAE = turbofan.Number(math.Sqrt(clipped/w)), turbofan.Number(math.Sqrt(raw/w)), turbofan.Number(abs/w)
	m.Score, m.R2, m.Coverage, m.Width, m.Brier = turbofan.Number(score), turbofan.Number(1-clipped/total), turbofan.Number(in/w), turbofan.Number(width/w), turbofan.Number(brier/w)
	m.RMSE30, m.Coverage30 = turbofan.Number(math.Sqrt(se30/w30)), turbofan.Number(in30/w30)
	m.AUC, m.LateRMSE, m.LateCoverage = turbofan.Number(math.NaN()), turbofan.Number(math.NaN()), turbofan.Number(math.NaN())
	if auc, err := stat.AUC(ranks, failed); err == nil {
		m.AUC = turbofan.Number(auc)
	}
	if bins, err := stat.Reliability(probs, failed, reliabilityBins); err == nil {
		m.Reliability = bins
	}
	return m
}

const reliabilityBins = 10

// measureLate adds what was measured of units that joined late.
func (m *Metrics) measureLate(limit float64, s []scored) {
	var se, in float64
	for _, x := range s {
		t := min(x.rul, limit)
		se += (x.a.RUL - t) * (x.a.RUL - t)
		if t >= x.a.Lower && t <= x.a.Upper {
			in++
		}
	}
	m.LateRMSE, m.LateCoverage = turbofan.Number(math.Sqrt(se/float64(len(s)))), turbofan.Number(in/float64(len(s)))
}

// crossMetrics is the table out of fold. Each fold's intervals and probabilities come from a calibration on the other
// folds, so that nothing judges itself.
func crossMetrics(cfg Config, origin []string, o *outOfFold) (Metrics, error) {
	var s, joined []scored
	of := map[string][]scored{}
	w := o.own.cutWeights()
	for f := range cfg.Folds {
		own, late := o.own.without(f), o.late.without(f)
		if len(own.rul) == 0 || len(own.rul) == len(o.own.rul) {
			continue
		}
		c, err := calibrate(cfg, own, late)
		if err != nil {
			return Metrics{}, err
		}
		for i := range o.own.rul {
			if o.own.fold[i] != f || w[i] == 0 {
				continue
			}
			x := scored{unit: o.own.unit[i], rul: o.own.rul[i], a: c.answer(o.own.pred[i], false), w: w[i]}
			s = append(s, x)
			if origin != nil {
				of[origin[x.unit]] = append(of[origin[x.unit]], x)
			}
		}
		for i := range o.late.rul {
			if o.late.fold[i] == f {
				joined = append(joined, scored{rul: o.late.rul[i], a: c.answer(o.late.pred[i], true), w: 1})
			}
		}
	}
	m := measureCross(cfg, s)
	m.measureLate(cfg.Cap, joined)
	if len(of) > 1 {
		for _, name := range slices.Sorted(maps.Keys(of)) {
			part := measureCross(cfg, of[name])
			part.Subset = name
			m.Origins = append(m.Origins, part)
		}
	}
	return m, nil
}

// measureCross is measure for units held out, each with several rows.
func measureCross(cfg Config, s []scored) Metrics {
	m := measure(cfg, s)
	units, total := map[int]bool{}, 0.0
	for _, x := range s {
		units[x.unit] = true
		total += x.w
	}
	m.Protocol, m.Units = CrossValidation, len(units)
	m.Score *= turbofan.Number(float64(len(units)) / total)
	return m
}

func (h *heldOut) without(fold int) *heldOut {
	out := &heldOut{life: h.life}
	for i := range h.rul {
		if h.fold[i] != fold {
			out.unit, out.cycle = append(out.unit, h.unit[i]), append(out.cycle, h.cycle[i])
			out.rul, out.pred = append(out.rul, h.rul[i]), append(out.pred, h.pred[i])
		}
	}
	return out
}

// byFold is the error by the test protocol of each fold's units, truth clipped at limit.
func (h *heldOut) byFold(folds int, limit float64) []float64 {
	out := make([]float64, folds)
	for f := range out {
		part := &heldOut{life: h.life}
		for i := range h.rul {
			if h.fold[i] == f {
				part.unit, part.cycle = append(part.unit, h.unit[i]), append(part.cycle, h.cycle[i])
				part.rul, part.pred = append(part.rul, h.rul[i]), append(part.pred, h.pred[i])
			}
		}
		out[f] = part.rmse(limit)
	}
	return out
}

// FoldMetrics returns the error of each fold as a metric whose step is the fold, from 1.
func (m *Model) FoldMetrics(at time.Time) []turbofan.Metric {
	var out []turbofan.Metric
	for f, rmse := range m.foldRMSE {
		if finite(rmse) {
			out = append(out, turbofan.Metric{Key: "cv_rmse_fold", Value: rmse, Step: int64(f + 1), At: at})
		}
	}
	return out
}

// MetricValues returns the cross-validated table by name, for a run; what is not known is left out.
func (m *Model) MetricValues() map[string]float64 {
	out := map[string]float64{}
	for k, v := range map[string]turbofan.Number{
		"cv_rmse_clipped": m.metrics.RMSEClipped, "cv_rmse_raw": m.metrics.RMSERaw, "cv_nasa_score": m.metrics.Score, "cv_mae": m.metrics.MAE,
		"cv_r2": m.metrics.R2, "cv_rmse_rul30": m.metrics.RMSE30, "cv_coverage": m.metrics.Coverage, "cv_width": m.metrics.Width,
		"cv_auc": m.metrics.AUC, "cv_brier": m.metrics.Brier, "cv_rmse_late": m.metrics.LateRMSE, "cv_coverage_late": m.metrics.LateCoverage,
		"cv_coverage_rul30": m.metrics.Coverage30,
	} {
		if finite(float64(v)) {
			out[k] = float64(v)
		}
	}
	return out
}
