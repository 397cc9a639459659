package turbofan

import (
	"context"
	"time"
)

// EventWithdrawn is the event of an outcome that takes a stated end back: FailedAtCycle is the end that is wrong. Both
// statements stay among the outcomes; the truths, and what retrainings learn from, are as if the end had never been
// stated, and another may be.
const EventWithdrawn = "withdrawn"

// Outcome is what really happened to a unit. Exactly one of FailedAtCycle and ActualRUL is given, or neither for a
// maintenance event that only tells that the unit was serviced.
type Outcome struct {
	// Key makes sending an outcome twice harmless: the second is answered like the first and stored once. Empty lets
	// the store derive one from the content.
	Key string `json:"key,omitempty"`
	// UnitID and Cycle say what the outcome speaks of; PredictionID can stand for both.
	UnitID       string `json:"unit_id,omitempty"`
	Cycle        int    `json:"cycle,omitempty"`
	PredictionID string `json:"prediction_id,omitempty"`
	// FailedAtCycle is the last cycle of the unit's life: the truth for every prediction of that unit. With
	// EventWithdrawn it never was.
	FailedAtCycle *int `json:"failed_at_cycle,omitempty"`
	// ActualRUL is the remaining life, in cycles, that the unit turned out to have at Cycle.
	ActualRUL *float64  `json:"actual_rul,omitempty"`
	Event     string    `json:"event,omitempty"` // "failure", "maintenance", "inspection", EventWithdrawn
	Note      string    `json:"note,omitempty"`
	At        time.Time `json:"received_at"`
}

// Withdraws reports whether the outcome takes a stated end back.
func (o *Outcome) Withdraws() bool { return o.Event == EventWithdrawn }

// OutcomeReceipt says what became of an outcome.
type OutcomeReceipt struct {
	FeedbackID string `json:"feedback_id"`
	UnitID     string `json:"unit_id"`
	// Duplicate is true when the same outcome was already stored.
	Duplicate bool `json:"duplicate"`
	// Predictions is how many logged predictions now have a truth because of this outcome; of a withdrawal, how many had
	// theirs from the end that it took back.
	Predictions int `json:"matched_predictions"`
}

// OutcomeQuery selects outcomes in order of arrival.
type OutcomeQuery struct {
	UnitID string
	Since  time.Time // received at or after; zero means from the beginning
	Until  time.Time // received before; zero means no bound
	Limit  int       // 0 means no bound
}

// OutcomeStore keeps outcomes and joins them to predictions.
type OutcomeStore interface {
	// Record stores outcomes; when it returns nil they are on disk. All of a call are stored or none.
	Record(ctx context.Context, outcomes []Outcome) ([]OutcomeReceipt, error)
	Outcomes(ctx context.Context, q OutcomeQuery) ([]Outcome, error)
	// Scored returns predictions, sent or silent, whose truth is known, by arrival of the prediction, newest Last of them (0: all).
	Scored(ctx context.Context, q PredictionQuery) ([]ScoredPrediction, error)
	// FailedUnits returns the units whose last cycle is known by outcomes received before until (zero: now).
	FailedUnits(ctx context.Context, until time.Time) ([]FailedUnit, error)
	// FailedAt returns the last cycle of those among the units for which it is known.
	FailedAt(ctx context.Context, unitIDs []string) (map[string]int, error)
}

// FailedUnit is a unit whose end is known.
type FailedUnit struct {
	UnitID        string
	FailedAtCycle int
	At            time.Time // when the outcome was received
}

// ScoredPrediction is a prediction with its truth.
type ScoredPrediction struct {
	PredictionID string
	UnitID       string
	Cycle        int
	ModelVersion string
	RUL          float64
	Lower, Upper float64
	ActualRUL    float64 // not clipped
	PredictedAt  time.Time
}

// Performance is the measured error of one model version on predictions whose truth came in.
// RMSE, MAE and coverage are over truth clipped at the label cap, as the model was trained.
type Performance struct {
	ModelVersion string  `json:"model_version"`
	Predictions  int     `json:"predictions"`
	Units        int     `json:"units"`
	RMSE         float64 `json:"rmse"`
	MAE          float64 `json:"mae"`
	Coverage     float64 `json:"coverage"`
	Cap          float64 `json:"cap"`
}

// FeedbackService takes outcomes and tells the error they reveal.
type FeedbackService interface {
	// Record stores outcomes durably, all or none; see OutcomeStore.Record.
	Record(ctx context.Context, outcomes []Outcome) ([]OutcomeReceipt, error)
	// Outcomes returns what was recorded, in order of arrival.
	Outcomes(ctx context.Context, q OutcomeQuery) ([]Outcome, error)
	// Performance returns the error of each model version over the newest last scored predictions (0: all).
	Performance(ctx context.Context, last int) ([]Performance, error)
}
