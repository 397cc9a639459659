package turbofan

import (
	"context"
	"time"
)

// JobStatus is where a job stands. The words are BentoML's for tasks, with cancelled and refused beside them.
type JobStatus string

// The states of a job. Pending and InProgress are the active ones.
const (
	JobPending    JobStatus = "pending"
	JobInProgress JobStatus = "in_progress"
	JobSuccess    JobStatus = "success"
	JobFailure    JobStatus = "failure"
	JobCancelled  JobStatus = "cancelled"
	// JobRefused is a polite no: too little data. Error says how much is missing.
	JobRefused JobStatus = "refused"
)

// Active reports whether the job still waits or runs.
func (s JobStatus) Active() bool { return s == JobPending || s == JobInProgress }

// Job is one retraining, from its trigger to the gate.
type Job struct {
	ID     string    `json:"job_id"`
	Status JobStatus `json:"status"`
	// Reason is why it was started: the because of a drift report, "schedule", or what a person wrote.
	Reason    string    `json:"reason"`
	Trigger   string    `json:"trigger"` // "drift", "schedule", "manual"
	CreatedAt time.Time `json:"created_at"`
	StartedAt time.Time `json:"started_at,omitzero"`
	EndedAt   time.Time `json:"ended_at,omitzero"`
	Stage     string    `json:"stage,omitempty"` // what it does now, such as "cross-validation 2 of 5"
	Progress  float64   `json:"progress"`        // 0 to 1
	Error     string    `json:"error,omitempty"`
	// DataCutOff is the moment up to which production data was used.
	DataCutOff time.Time      `json:"data_cut_off,omitzero"`
	Result     *RetrainResult `json:"result,omitempty"`
	// Force trains even where data is less than the configured minimum, and believes stated ends that are in doubt.
	Force bool `json:"force,omitempty"`
	// Doubted names the new units, a hundred at most, whose sensors or whose stated end cannot be trusted.
	Doubted []DoubtedUnit `json:"doubted_units,omitempty"`
}

// DoubtedUnit is a unit that a retraining did not simply believe.
type DoubtedUnit struct {
	UnitID  string `json:"unit_id"`
	Because string `json:"because"`
	// Used says that the job learned from the unit all the same, because it was forced.
	Used bool `json:"used"`
}

// RetrainResult is what a retraining came to.
type RetrainResult struct {
	ModelVersion string `json:"model_version"`
	// Champion is the version that the challenger was judged beside; "" when there was none.
	Champion string `json:"champion_version,omitempty"`
	// NewUnits is how many units, those that were left out among them, ended since the champion's data were taken.
	NewUnits int    `json:"new_units"`
	RunID    string `json:"run_id"`
	Promoted bool   `json:"promoted"`
	// Because is the gate's reason.
	Because string `json:"because"`
	// TrainUnits counts training units by origin, such as "baseline" and "production".
	TrainUnits map[string]int `json:"train_units"`
	// HeldOut compares champion and challenger on the same held-out units, per group.
	HeldOut []GateComparison   `json:"held_out"`
	Metrics map[string]float64 `json:"metrics"`
	Seconds float64            `json:"seconds"`
}

// GateComparison is champion against challenger on one group of held-out units.
type GateComparison struct {
	Group      string  `json:"group"`
	Units      int     `json:"units"`
	Rows       int     `json:"rows"`
	Champion   float64 `json:"champion_rmse"`
	Challenger float64 `json:"challenger_rmse"`
	// Low and High bound challenger minus champion: 90% paired bootstrap over units.
	Low  float64 `json:"difference_low"`
	High float64 `json:"difference_high"`
}

// RetrainRequest asks for a new model.
type RetrainRequest struct {
	Reason  string `json:"reason"`
	Trigger string `json:"trigger,omitempty"`
	// Force trains even where the data is less than the configured minimum; the gate still judges.
	Force bool `json:"force,omitempty"`
}

// RetrainingService trains challengers and promotes the better model.
type RetrainingService interface {
	// Submit creates a job. EConflict when one is already active; its message names that job.
	Submit(ctx context.Context, req RetrainRequest) (Job, error)
	// Job returns a job by its id, or ENotFound.
	Job(ctx context.Context, id string) (Job, error)
	// Jobs returns the newest jobs, newest first; limit is at least 1.
	Jobs(ctx context.Context, limit int) ([]Job, error)
	// Cancel stops a job that waits or runs. One that has ended is EConflict, one that never was ENotFound.
	Cancel(ctx context.Context, id string) (Job, error)
}

// JobStore keeps jobs.
type JobStore interface {
	// CreateJob stores a pending job unless one is active (EConflict): at most one job is active in a store.
	CreateJob(ctx context.Context, j Job) error
	// UpdateJob replaces a job; ENotFound when there is none of that id, EConflict when it has ended and the
	// replacement has not.
	UpdateJob(ctx context.Context, j Job) error
	// Job returns a job by its id, or ENotFound.
	Job(ctx context.Context, id string) (Job, error)
	// Jobs returns the newest jobs, newest first; a limit of 0 means no bound.
	Jobs(ctx context.Context, limit int) ([]Job, error)
}
