package turbofan

import (
	"context"
	"time"
)

// Health is a prediction in one word, for the person who decides what to open this week.
type Health string

// The four states of health, worst last. The bounds belong to the model's calibration.
const (
	Healthy  Health = "healthy"
	Watch    Health = "watch"
	Warning  Health = "warning"
	Critical Health = "critical"
)

// Driver is one reason for a prediction: how many cycles a feature added to (or took from) the model's average answer.
type Driver struct {
	Feature      string `json:"feature"`
	Value        Number `json:"value"`
	Contribution Number `json:"contribution"` // cycles
}

// Prediction is the answer for one reading.
type Prediction struct {
	ID     string `json:"prediction_id"`
	UnitID string `json:"unit_id"`
	Cycle  int    `json:"cycle"`
	// RUL is the predicted remaining useful life in cycles; Lower and Upper bound it at the model's stated coverage.
	RUL   float64 `json:"rul_prediction"`
	Lower float64 `json:"rul_lower"`
	Upper float64 `json:"rul_upper"`
	// FailureProbability is the probability that the unit fails within FailureHorizon cycles.
	FailureProbability float64  `json:"failure_probability"`
	FailureHorizon     int      `json:"failure_horizon"`
	Health             Health   `json:"health"`
	Drivers            []Driver `json:"drivers,omitempty"`
	ModelName          string   `json:"model_name"`
	ModelVersion       string   `json:"model_version"`
	// Condition is the operating condition the reading was normalised by; -1 when it is not known yet.
	Condition int       `json:"condition"`
	Warnings  []string  `json:"warnings,omitempty"`
	At        time.Time `json:"predicted_at"`
	// Shadow marks a challenger's silent answer, which is logged and was never sent.
	Shadow bool `json:"shadow,omitempty"`
}

// PredictRequest asks for a prediction for each reading. Readings of one unit must come in ascending order of cycle. A
// reading that was answered before may be sent again as it was, alone or among others, and gets the answer that it got.
type PredictRequest struct {
	Readings []Reading
	// Stateless treats the readings as whole histories that no store knows or keeps: nothing is written.
	Stateless bool
	// LastOnly, of a stateless request, answers the last reading alone: those before it are the past of its unit.
	LastOnly bool
	// Explain adds the strongest drivers to each answer.
	Explain bool
}

// UnitStatus is a unit with its latest prediction and its recent course.
type UnitStatus struct {
	UnitSummary
	Recent []Prediction `json:"recent,omitempty"` // oldest first
}

// Serving says which model answers now.
type Serving struct {
	ModelName    string    `json:"model_name"`
	ModelVersion string    `json:"model_version"`
	Digest       string    `json:"digest"`
	Since        time.Time `json:"since"`
	Swaps        int       `json:"swaps"`    // since the process started
	Failures     int       `json:"failures"` // candidates that were refused
	LastFailure  string    `json:"last_failure,omitempty"`
	Units        int       `json:"units"` // units with live state in memory
	// Canary answers CanaryShare of the units in the champion's place; Challenger answers all of them silently, and
	// ChallengerDropped counts the readings that it had no time for.
	Canary            string  `json:"canary,omitempty"`
	CanaryShare       float64 `json:"canary_share,omitempty"`
	Challenger        string  `json:"challenger,omitempty"`
	ChallengerDropped int     `json:"challenger_dropped,omitempty"`
	TrialFailure      string  `json:"trial_failure,omitempty"` // why a canary or challenger is not tried
}

// PredictionService answers how long a unit will last.
type PredictionService interface {
	// Predict answers each reading in order. A batch is answered whole or not at all.
	Predict(ctx context.Context, req PredictRequest) ([]Prediction, error)
	// Units lists units, the newest reading first, without the first offset of them; limit is at least 1.
	Units(ctx context.Context, limit, offset int) ([]UnitSummary, error)
	// Unit returns one unit with its recent predictions, the newest with its drivers where the model that gave it still
	// answers the unit; ENotFound for one that never sent a reading.
	Unit(ctx context.Context, unitID string) (UnitStatus, error)
	// Prediction returns a logged prediction by its id, or ENotFound.
	Prediction(ctx context.Context, id string) (Prediction, error)
	// Serving says which model answers; EUnavailable while none does.
	Serving(ctx context.Context) (Serving, error)
}

// PredictionRecord is a reading together with the answer it got.
type PredictionRecord struct {
	Reading    Reading
	Prediction Prediction
}

// PredictionQuery selects logged predictions.
type PredictionQuery struct {
	UnitID       string // "" means any
	ModelVersion string // "" means any
	Last         int    // the newest n; required, at most 100,000
}

// PredictionStore keeps what was read and what was answered.
type PredictionStore interface {
	// Append queues records to be written; the records of one call become visible together. It blocks only while the
	// queue is full. A reading that is already stored (same unit and cycle) is kept as it was first written.
	Append(ctx context.Context, records []PredictionRecord) error
	// Flush returns once everything appended before the call is on disk.
	Flush(ctx context.Context) error
	// Prediction returns one prediction by id, or ENotFound.
	Prediction(ctx context.Context, id string) (Prediction, error)
	// Predictions returns the newest predictions that match and were sent, oldest first.
	Predictions(ctx context.Context, q PredictionQuery) ([]Prediction, error)
	// Answered returns what is stored of the units and cycles of readings, in no order: the reading as it was first
	// written with the answer that was sent for it. It sees all that was appended before the call, and what it returns is
	// on disk.
	Answered(ctx context.Context, readings []Reading) ([]PredictionRecord, error)
}
