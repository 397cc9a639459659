package drift

import (
	"fmt"
	"math"

	"github.com/prometheus/client_golang/prometheus"

	"turbofan"
)

// metrics tell the last check and count all of them.
type metrics struct {
	psi, ks                                 *prometheus.GaugeVec
	psiMean, score, threshold               prometheus.Gauge
	conditions, rows, units, rmse, rmseKept prometheus.Gauge
	outside, estimated, pending, detected   prometheus.Gauge
	checkOK, askOK                          prometheus.Gauge
	checks, triggers                        *prometheus.CounterVec
	seconds                                 prometheus.Histogram
	quality                                 *prometheus.GaugeVec
}

// checkError is the verdict label of a check that drew none.
const checkError = "error"

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	vec := func(name, help, label string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{label})
	}
	counter := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	m := &metrics{
		psi:        vec("turbofan_drift_psi", "Population stability index of each sensor in the last check, age-adjusted and normalised by condition.", "channel"),
		ks:         vec("turbofan_drift_ks", "Kolmogorov-Smirnov distance of each sensor in the last check, age-adjusted and normalised by condition.", "channel"),
		psiMean:    gauge("turbofan_drift_psi_mean", "Mean over the sensors of turbofan_drift_psi."),
		score:      gauge("turbofan_drift_score", "The statistic that decided the last check: the PSI of the sensor ranked third, or as configured."),
		threshold:  gauge("turbofan_drift_threshold", "What turbofan_drift_score must exceed for the verdict drift."),
		conditions: gauge("turbofan_drift_new_conditions", "Operating conditions seen so far that the serving model never saw in training."),
		pending:    gauge("turbofan_drift_pending_conditions", "New operating conditions among the readings of the last check in which too few units flew to normalise by: answers in them warn."),
		rows:       gauge("turbofan_drift_window_rows", "Readings that the last check judged."),
		units:      gauge("turbofan_drift_window_units", "Units that the last check judged."),
		outside:    gauge("turbofan_drift_units_outside", "Units in the last check that lay outside of how the units of the reference differ from one another at their age."),
		rmse:       gauge("turbofan_drift_rmse", "Live RMSE of the serving version in cycles where enough outcomes are known, else NaN."),
		estimated:  gauge("turbofan_drift_estimated_rmse", "RMSE in cycles that the intervals of the newest predictions promise, before outcomes are known, else NaN."),
		rmseKept:   gauge("turbofan_drift_reference_rmse", "RMSE in cycles that the serving version showed in validation, else NaN."),
		checks:     counter("turbofan_drift_checks_total", "Checks by verdict; error for one that drew none.", "verdict"),
		detected:   gauge("turbofan_drift_detected", "1 where the last check that could judge found drift, by whatever rule, else 0; NaN before the first on the serving version."),
		checkOK:    gauge("turbofan_drift_check_success", "1 where the last check drew a verdict, 0 where it failed, NaN before the first."),
		askOK:      gauge("turbofan_drift_retraining_request_success", "0 where the last verdict of drift could not ask for a retraining, 1 where it could or there is no drift since, NaN before the first verdict on the serving version."),
		triggers:   counter("turbofan_drift_retraining_requests_total", "Verdicts of drift by what became of them: submitted, active, cooling, early, failed or off.", "result"),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "turbofan_drift_check_seconds", Help: "Time a check took, in seconds.", Buckets: prometheus.ExponentialBuckets(0.001, 2.5, 12),
		}),
		quality: vec("turbofan_data_quality_issues", "Faults of the data found in the last check, by kind; they are no drift.", "kind"),
	}
	for _, v := range []string{string(turbofan.NoDrift), string(turbofan.Drifted), string(turbofan.InsufficientData), checkError} {
		m.checks.WithLabelValues(v)
	}
	for _, r := range []string{triggerSubmitted, triggerActive, triggerCooling, triggerEarly, triggerFailed, triggerOff} {
		m.triggers.WithLabelValues(r)
	}
	for _, k := range qualityKinds() {
		m.quality.WithLabelValues(k).Set(math.NaN())
	}
	// Until the first check, nothing is known; a dashboard would draw a line up from 0.
	for _, unknown := range []prometheus.Gauge{m.checkOK, m.askOK, m.psiMean, m.score, m.threshold, m.conditions, m.pending, m.rows, m.units, m.outside, m.detected,
		m.rmse, m.estimated, m.rmseKept} {
		unknown.Set(math.NaN())
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.psi, m.ks, m.psiMean, m.score, m.threshold, m.conditions, m.rows, m.units, m.outside, m.estimated, m.rmse, m.rmseKept,
		m.pending, m.detected, m.checkOK, m.askOK, m.checks, m.triggers, m.seconds, m.quality} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register drift metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) failed() {
	m.checks.WithLabelValues(checkError).Inc()
	m.checkOK.Set(0)
}

// trigger counts what became of a verdict of drift. An alert ends with the first that is not failed.
func (m *metrics) trigger(result string) {
	m.triggers.WithLabelValues(result).Inc()
	if result == triggerFailed {
		m.askOK.Set(0)
	} else {
		m.askOK.Set(1)
	}
}

// reset forgets what checks said of the version before: the next may draw no verdict on this one.
func (m *metrics) reset() {
	m.psi.Reset()
	m.ks.Reset()
	for _, unknown := range []prometheus.Gauge{m.psiMean, m.score, m.outside, m.detected, m.askOK} {
		unknown.Set(math.NaN())
	}
}

func (m *metrics) checked(r *turbofan.DriftReport, conditions int) {
	m.checks.WithLabelValues(string(r.Verdict)).Inc()
	m.checkOK.Set(1)
	if r.Verdict == turbofan.NoDrift { // nothing to ask for any more
		m.askOK.Set(1)
	}
	m.seconds.Observe(r.Seconds)
	m.conditions.Set(float64(conditions))
	pending := 0
	for _, c := range r.NewConditions {
		if !c.Commissioned {
			pending++
		}
	}
	m.pending.Set(float64(pending))
	m.rows.Set(float64(r.Rows))
	m.units.Set(float64(r.Units))
	m.rmse.Set(orNaN(r.RMSE))
	m.estimated.Set(orNaN(r.EstimatedRMSE))
	m.rmseKept.Set(orNaN(r.ReferenceRMSE))
	found := map[string]int{}
	for _, q := range r.Quality {
		found[q.Kind]++
	}
	for _, k := range qualityKinds() {
		m.quality.WithLabelValues(k).Set(float64(found[k]))
	}
	if r.Verdict == turbofan.InsufficientData {
		return
	}
	m.detected.Set(0)
	if r.Verdict == turbofan.Drifted {
		m.detected.Set(1)
	}
	switch {
	case r.Spread == nil: // not looked at; the last value would alarm for ever
		m.outside.Set(math.NaN())
	case r.Spread.Drifted:
		m.outside.Set(float64(r.Spread.Outside))
	default:
		m.outside.Set(0)
	}
	m.psiMean.Set(float64(r.PSIMean))
	m.score.Set(float64(r.Score))
	m.threshold.Set(r.Threshold)
	for _, c := range r.Channels {
		m.psi.WithLabelValues(c.Channel).Set(float64(c.PSI))
		m.ks.WithLabelValues(c.Channel).Set(float64(c.KS))
	}
}
