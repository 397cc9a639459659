package turbofan

import (
	"context"
	"encoding/json"
	"math"
	"time"
)

// ChannelDrift compares one channel of the current window with the reference. Of values near the largest double some numbers
// are unknown: they have no finite mean.
type ChannelDrift struct {
	Channel     string `json:"channel"`
	PSI         Number `json:"psi"`
	Threshold   Number `json:"threshold"` // the PSI above which this channel counts as drifted
	KS          Number `json:"ks"`
	KSPValue    Number `json:"ks_p_value"`
	Wasserstein Number `json:"wasserstein"` // in reference standard deviations
	MeanShift   Number `json:"mean_shift"`  // in reference standard deviations
	Drifted     bool   `json:"drifted"`
}

// UnmarshalJSON reads numbers that are null or absent as NaN.
func (c *ChannelDrift) UnmarshalJSON(b []byte) error {
	unknown := Number(math.NaN())
	type plain ChannelDrift
	p := plain{PSI: unknown, Threshold: unknown, KS: unknown, KSPValue: unknown, Wasserstein: unknown, MeanShift: unknown}
	if err := json.Unmarshal(b, &p); err != nil {
		return err
	}
	*c = ChannelDrift(p)
	return nil
}

// Verdict is the outcome of a drift check.
type Verdict string

// The verdicts of a drift check.
const (
	NoDrift          Verdict = "no_drift"
	Drifted          Verdict = "drift"
	InsufficientData Verdict = "insufficient_data" // too few rows or units to judge
)

// DriftReport is one check: the newest readings against the reference of the serving model.
type DriftReport struct {
	ID           string    `json:"report_id"`
	At           time.Time `json:"checked_at"`
	ModelName    string    `json:"model_name"`
	ModelVersion string    `json:"model_version"`
	Verdict      Verdict   `json:"verdict"`
	// Because is the reason for the verdict, in words and numbers.
	Because string `json:"because"`
	Rows    int    `json:"rows"`
	Units   int    `json:"units"`
	FromSeq int64  `json:"from_seq"`
	ToSeq   int64  `json:"to_seq"`
	// Score is the statistic the verdict is drawn from, Threshold its bound. It and the PSI are unknown where there was
	// too little data to judge.
	Score     Number  `json:"score"`
	Threshold float64 `json:"threshold"`
	// PSIMean and PSIMax are over the channels, age-adjusted and normalised by condition.
	PSIMean  Number         `json:"psi_mean"`
	PSIMax   Number         `json:"psi_max"`
	Channels []ChannelDrift `json:"channels"`
	// Spread says how many units lie outside of how the reference's units differ from one another; nil where that is not
	// known.
	Spread *UnitSpread `json:"unit_spread,omitempty"`
	// Prediction compares the predictions themselves, where the reference holds them.
	Prediction *ChannelDrift `json:"prediction,omitempty"`
	// NewConditions are operating conditions in the window that the model never saw in training: an event of its own.
	NewConditions []NewCondition `json:"new_conditions,omitempty"`
	// Quality lists stuck, missing, out-of-range or out-of-order data, kept apart from drift.
	Quality []QualityIssue `json:"quality,omitempty"`
	// RMSE is the live error of the serving version where outcomes are known, nil where they are not.
	RMSE *float64 `json:"rmse,omitempty"`
	// ReferenceRMSE is the error the version showed in validation.
	ReferenceRMSE *float64 `json:"reference_rmse,omitempty"`
	// EstimatedRMSE is the error that the intervals of the window's predictions promise, before any outcome is known; nil
	// where the version gave none. EstimateRatio is the live error as a multiple of what the intervals of the very same
	// predictions promised, and Coverage the share of truths within them: near 1 and near ReferenceCoverage, the
	// estimate can be believed. Both are nil while too few outcomes are known.
	EstimatedRMSE     *float64 `json:"estimated_rmse,omitempty"`
	EstimateRatio     *float64 `json:"estimate_ratio,omitempty"`
	Coverage          *float64 `json:"coverage,omitempty"`
	ReferenceCoverage *float64 `json:"reference_coverage,omitempty"`
	// RetrainingJob is the job that this report started, if it did.
	RetrainingJob string  `json:"retraining_job,omitempty"`
	Seconds       float64 `json:"seconds"`
}

// UnitSpread compares each unit of the window with those of the reference at its age, over all sensors at once.
type UnitSpread struct {
	Units   int `json:"units"`   // judged
	Outside int `json:"outside"` // so far off that as many are no chance
	// PValue is the probability that as many lie outside when nothing changed.
	PValue float64 `json:"p_value"`
	// Channels are the sensors that part the units outside from the others, the strongest first, and UnitIDs those
	// units, the furthest first; a few of each.
	Channels []string `json:"channels,omitempty"`
	UnitIDs  []string `json:"unit_ids,omitempty"`
	Drifted  bool     `json:"drifted"`
}

// NewCondition is an operating condition that the reference does not know.
type NewCondition struct {
	Settings []float64 `json:"settings"` // its centre
	Rows     int       `json:"rows"`
	Units    int       `json:"units"`
	// Commissioned is true once enough new units were seen to normalise by it.
	Commissioned bool `json:"commissioned"`
}

// QualityIssue is a fault of the data, not of the world.
type QualityIssue struct {
	Kind    string `json:"kind"` // "stuck", "missing", "infinite", "out_of_range", "constant", "duplicate", "late", "schema"
	Channel string `json:"channel,omitempty"`
	UnitID  string `json:"unit_id,omitempty"`
	Count   int    `json:"count"`
	Detail  string `json:"detail"`
}

// DriftService watches whether the world still looks like the training data.
type DriftService interface {
	// Check judges the newest readings now. One check runs at a time; a second waits for its turn. ENotFound while there is
	// no champion; too few readings are a verdict, not an error.
	Check(ctx context.Context) (DriftReport, error)
	// Reports returns the newest reports, newest first; limit is at least 1.
	Reports(ctx context.Context, limit int) ([]DriftReport, error)
}

// DriftStore keeps drift reports.
type DriftStore interface {
	// SaveReport stores r, in the place of a report with the same id; when it returns nil, r is on disk.
	SaveReport(ctx context.Context, r DriftReport) error
	// Reports returns the newest reports, newest first; a limit of 0 means no bound.
	Reports(ctx context.Context, limit int) ([]DriftReport, error)
}
