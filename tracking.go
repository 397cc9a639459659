package turbofan

import (
	"context"
	"time"
)

// RunStatus is MLflow's.
type RunStatus string

// The states of a run.
const (
	RunRunning   RunStatus = "RUNNING"
	RunScheduled RunStatus = "SCHEDULED"
	RunFinished  RunStatus = "FINISHED"
	RunFailed    RunStatus = "FAILED"
	RunKilled    RunStatus = "KILLED"
)

// LifecycleStage says whether a run or an experiment was deleted; deleted ones can be restored.
type LifecycleStage string

// The stages of a life.
const (
	StageActive  LifecycleStage = "active"
	StageDeleted LifecycleStage = "deleted"
)

// RunInfo identifies a run.
type RunInfo struct {
	ID           string         `json:"run_id"`
	Name         string         `json:"run_name"`
	ExperimentID string         `json:"experiment_id"`
	UserID       string         `json:"user_id,omitempty"`
	Status       RunStatus      `json:"status"`
	StartedAt    time.Time      `json:"start_time"`
	EndedAt      time.Time      `json:"end_time,omitzero"`
	ArtifactURI  string         `json:"artifact_uri"`
	Stage        LifecycleStage `json:"lifecycle_stage,omitempty"`
}

// Metric is one measured value of a run at a step.
type Metric struct {
	Key   string
	Value float64
	At    time.Time
	Step  int64
	// ModelID, RunID, DatasetName and DatasetDigest say what else the value is about; empty where it is not.
	ModelID       string
	RunID         string
	DatasetName   string
	DatasetDigest string
}

// Tracking records what was tried: a run with its parameters, metrics over steps, tags and files. The embedded
// registry and the client of any MLflow server implement it.
type Tracking interface {
	// StartRun creates a run in the experiment of that name, which it creates when it is new. The run began when it says:
	// a run that is written down once the work is done lasts as long as the work did. The zero time is now.
	StartRun(ctx context.Context, experiment, runName string, tags map[string]string, began time.Time) (RunInfo, error)
	// LogBatch adds metrics, parameters and tags to a run. A parameter keeps its first value: another one is EInvalid. A metric
	// without a time is of now.
	LogBatch(ctx context.Context, runID string, metrics []Metric, params, tags map[string]string) error
	// LogArtifacts copies the files below dir to path below the run's artifact root; an empty path is the root.
	LogArtifacts(ctx context.Context, runID, path, dir string) error
	// EndRun gives a run its status, RunFinished, RunFailed or RunKilled (others are EInvalid), and its end, which is now.
	EndRun(ctx context.Context, runID string, status RunStatus) error
	// OpenRuns lists the runs of the experiment of that name that are RUNNING and have all of these tags, for whoever knows
	// by them that the process that began them has died. An experiment that is not there has none.
	OpenRuns(ctx context.Context, experiment string, tags map[string]string) ([]RunInfo, error)
}

// KeyValue is a parameter or a tag.
type KeyValue struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Experiment is a named set of runs.
type Experiment struct {
	ID               string
	Name             string
	ArtifactLocation string
	Stage            LifecycleStage
	CreatedAt        time.Time
	UpdatedAt        time.Time
	Tags             []KeyValue
}

// Run is all that is known of a run: the latest value of each metric, and the parameters and tags by key.
type Run struct {
	RunInfo
	Metrics  []Metric
	Params   []KeyValue
	Tags     []KeyValue
	Datasets []DatasetInput
	Inputs   []ModelIO
	Outputs  []ModelIO
}

// DatasetInput is a data set that a run read, with tags such as its context.
type DatasetInput struct {
	Name       string
	Digest     string
	SourceType string
	Source     string
	Schema     string
	Profile    string
	Tags       []KeyValue
}

// ModelIO is a logged model that a run read or wrote.
type ModelIO struct {
	ModelID string
	Step    int64
}

// ExperimentUpdate says what changes of an experiment; nil and empty fields change nothing.
type ExperimentUpdate struct {
	Name       *string
	Stage      *LifecycleStage // runs go with their experiment
	SetTags    []KeyValue
	DeleteTags []string
}

// RunUpdate says what changes of a run; nil and empty fields change nothing.
type RunUpdate struct {
	Name       *string
	Status     *RunStatus
	EndedAt    *time.Time
	Stage      *LifecycleStage
	DeleteTags []string
}

// RunRecord is what a run says in one call. It is kept whole or not at all.
type RunRecord struct {
	Metrics  []Metric
	Params   []KeyValue
	Tags     []KeyValue
	Datasets []DatasetInput
	Inputs   []ModelIO
	Outputs  []ModelIO
}

// ExperimentStore keeps experiments. Unknown ones are ENotFound.
type ExperimentStore interface {
	// CreateExperiment gives e an identifier, and where it has no artifact location the default root with it.
	// EConflict when the name is taken, also by a deleted experiment.
	CreateExperiment(ctx context.Context, e Experiment) (Experiment, error)
	// Experiment returns an experiment, deleted or not.
	Experiment(ctx context.Context, id string) (Experiment, error)
	ExperimentByName(ctx context.Context, name string) (Experiment, error)
	// SearchExperiments returns a page and the token of the next; see SearchQuery.
	SearchExperiments(ctx context.Context, q SearchQuery) ([]Experiment, string, error)
	// UpdateExperiment changes what u names, all of it or nothing.
	UpdateExperiment(ctx context.Context, id string, u ExperimentUpdate) error
}

// RunStore keeps runs. Unknown ones are ENotFound; writing to a deleted one is EInvalid.
type RunStore interface {
	// CreateRun stores a run with its tags in an active experiment; another one is EInvalid.
	CreateRun(ctx context.Context, r Run) (Run, error)
	// Run returns a run, deleted or not.
	Run(ctx context.Context, id string) (Run, error)
	// SearchRuns returns a page and the token of the next; see SearchQuery.
	SearchRuns(ctx context.Context, q SearchQuery) ([]Run, string, error)
	// UpdateRun changes what u names, all of it or nothing.
	UpdateRun(ctx context.Context, id string, u RunUpdate) (RunInfo, error)
	// RecordRun adds to a run. A parameter keeps its first value: another one is EInvalid. A tag takes the last.
	RecordRun(ctx context.Context, id string, rec RunRecord) error
	// MetricHistory returns the values of one metric in order of time, step and value.
	MetricHistory(ctx context.Context, q MetricQuery) ([]Metric, string, error)
	// DatasetSummaries lists the data sets that runs of the experiments read, each with its context.
	DatasetSummaries(ctx context.Context, experimentIDs []string) ([]DatasetSummary, error)
}

// DatasetSummary names a data set that was read in an experiment.
type DatasetSummary struct {
	ExperimentID string
	Name         string
	Digest       string
	Context      string
}
