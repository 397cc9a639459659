package turbofan

import (
	"context"
	"time"
)

// ChampionAlias names the version that serves.
const ChampionAlias = "champion"

// ModelVersion is an immutable model in the registry. Names are MLflow's.
type ModelVersion struct {
	Name        string            `json:"name"`
	Version     string            `json:"version"` // a whole number from 1, as MLflow writes it
	RunID       string            `json:"run_id,omitempty"`
	Source      string            `json:"source"` // URI of the artifact directory
	Description string            `json:"description,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
	Aliases     []string          `json:"aliases,omitempty"`
	CreatedAt   time.Time         `json:"created_at"`
}

// Registry keeps model versions and says which one is champion. The embedded registry and the client of any MLflow
// server implement it.
type Registry interface {
	// CreateVersion registers the artifact directory dir under the next version of name, creating the registered
	// model when it is new. The directory is copied whole before the version is visible.
	CreateVersion(ctx context.Context, v ModelVersion, dir string) (ModelVersion, error)
	// Version resolves ref: a version number such as "3", or an alias such as "@champion". ENotFound when there is none.
	Version(ctx context.Context, name, ref string) (ModelVersion, error)
	// Versions lists all versions of name, oldest first; an unknown name has none.
	Versions(ctx context.Context, name string) ([]ModelVersion, error)
	// SetAlias points alias at a version that exists.
	SetAlias(ctx context.Context, name, alias, version string) error
	// SetVersionTags adds or replaces tags of a version.
	SetVersionTags(ctx context.Context, name, version string, tags map[string]string) error
	// Fetch copies the artifact directory of v into dir, which must not exist yet.
	Fetch(ctx context.Context, v ModelVersion, dir string) error
}

// RunStatus is MLflow's.
type RunStatus string

// The states of a run.
const (
	RunRunning  RunStatus = "RUNNING"
	RunFinished RunStatus = "FINISHED"
	RunFailed   RunStatus = "FAILED"
	RunKilled   RunStatus = "KILLED"
)

// RunInfo identifies a run.
type RunInfo struct {
	ID           string    `json:"run_id"`
	Name         string    `json:"run_name"`
	ExperimentID string    `json:"experiment_id"`
	Status       RunStatus `json:"status"`
	StartedAt    time.Time `json:"start_time"`
	EndedAt      time.Time `json:"end_time,omitzero"`
	ArtifactURI  string    `json:"artifact_uri"`
}

// Metric is one measured value of a run at a step.
type Metric struct {
	Key   string
	Value float64
	At    time.Time
	Step  int64
}

// Tracking records what was tried: a run with its parameters, metrics over steps, tags and files. The embedded
// registry and the client of any MLflow server implement it.
type Tracking interface {
	// StartRun creates a run in the experiment of that name, which it creates when it is new.
	StartRun(ctx context.Context, experiment, runName string, tags map[string]string) (RunInfo, error)
	LogBatch(ctx context.Context, runID string, metrics []Metric, params, tags map[string]string) error
	// LogArtifacts copies the files below dir to path below the run's artifact root.
	LogArtifacts(ctx context.Context, runID, path, dir string) error
	EndRun(ctx context.Context, runID string, status RunStatus) error
}
