package turbofan

import (
	"context"
	"time"
)

// EventKind says what happened.
type EventKind string

// What a maintenance system or a chat may want to hear of.
const (
	EventDrift      EventKind = "drift.found"
	EventRetraining EventKind = "retraining.started"
	EventRefused    EventKind = "retraining.refused" // too little data, or the gate said no
	EventFailed     EventKind = "retraining.failed"
	EventPromoted   EventKind = "model.promoted"
	EventRolledBack EventKind = "model.rolled_back"
)

// EventKinds lists every kind.
func EventKinds() []EventKind {
	return []EventKind{EventDrift, EventRetraining, EventRefused, EventFailed, EventPromoted, EventRolledBack}
}

// Event is something that people outside of the platform should hear of.
type Event struct {
	Kind EventKind `json:"kind"`
	At   time.Time `json:"at"`
	// Because is the reason, in words and numbers.
	Because      string `json:"because"`
	ModelName    string `json:"model_name"`
	ModelVersion string `json:"model_version,omitempty"`
	ReportID     string `json:"report_id,omitempty"`
	JobID        string `json:"job_id,omitempty"`
}

// EventSink passes events on. Publish never blocks and never fails: what cannot be passed on is counted and logged by
// the sink, because no service may stop for a listener's sake.
type EventSink interface {
	Publish(ctx context.Context, e Event)
}
