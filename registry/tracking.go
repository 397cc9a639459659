package registry

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"turbofan"
)

// Tags that MLflow gives a meaning.
const (
	tagRunName = "mlflow.runName"
	tagUser    = "mlflow.user"
)

// CreateExperiment implements turbofan.ExperimentStore: e needs a name only.
func (r *Registry) CreateExperiment(ctx context.Context, e turbofan.Experiment) (turbofan.Experiment, error) {
	if err := checkExperimentName(e.Name); err != nil {
		return e, err
	}
	if err := checkExperimentTags(e.Tags); err != nil {
		return e, err
	}
	switch {
	case e.ArtifactLocation == "":
		e.ArtifactLocation = r.defaultRoot + "/" // the store adds the identifier
	default:
		if err := checkLocation(e.ArtifactLocation); err != nil {
			return e, err
		}
		if scheme, _ := splitScheme(e.ArtifactLocation); scheme == "" {
			abs, err := filepath.Abs(e.ArtifactLocation)
			if err != nil {
				return e, fmt.Errorf("create experiment: %w", err)
			}
			e.ArtifactLocation = abs
		} else {
			e.ArtifactLocation = strings.TrimRight(e.ArtifactLocation, "/")
		}
	}
	now := r.now()
	e.ID, e.Stage, e.CreatedAt, e.UpdatedAt = "", turbofan.StageActive, now, now
	return r.store.CreateExperiment(ctx, e)
}

// UpdateExperiment implements turbofan.ExperimentStore.
func (r *Registry) UpdateExperiment(ctx context.Context, id string, u turbofan.ExperimentUpdate) error {
	if u.Name != nil {
		if err := checkExperimentName(*u.Name); err != nil {
			return err
		}
	}
	if err := checkExperimentTags(u.SetTags); err != nil {
		return err
	}
	return r.store.UpdateExperiment(ctx, id, u)
}

// CreateRun implements turbofan.RunStore: r needs an experiment only.
func (r *Registry) CreateRun(ctx context.Context, run turbofan.Run) (turbofan.Run, error) {
	tags, err := checkRunTags(run.Tags)
	if err != nil {
		return run, err
	}
	at := slices.IndexFunc(tags, func(t turbofan.KeyValue) bool { return t.Key == tagRunName })
	switch {
	case at >= 0 && run.Name != "" && tags[at].Value != run.Name:
		return run, invalid("Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different values (run_name='%s', mlflow.runName='%s').",
			run.Name, tags[at].Value)
	case at >= 0:
		run.Name = tags[at].Value
	}
	if strings.TrimSpace(run.Name) == "" {
		run.Name = randomName()
	}
	if at < 0 {
		tags = append(tags, turbofan.KeyValue{})
		at = len(tags) - 1
	}
	tags[at] = turbofan.KeyValue{Key: tagRunName, Value: run.Name}
	run.Tags = tags
	e, err := r.store.Experiment(ctx, run.ExperimentID)
	if err != nil {
		return run, err
	}
	run.ID = newID()
	run.Status = turbofan.RunRunning
	run.ArtifactURI = join(e.ArtifactLocation, run.ID+"/artifacts")
	if run.StartedAt.IsZero() {
		run.StartedAt = r.now()
	}
	return r.store.CreateRun(ctx, run)
}

// UpdateRun implements turbofan.RunStore.
func (r *Registry) UpdateRun(ctx context.Context, id string, u turbofan.RunUpdate) (turbofan.RunInfo, error) {
	if u.Name != nil {
		name := cut(*u.Name, maxTagValue)
		u.Name = &name
		if name == "" {
			u.Name = nil
		}
	}
	return r.store.UpdateRun(ctx, id, u)
}

// RecordRun implements turbofan.RunStore.
func (r *Registry) RecordRun(ctx context.Context, id string, rec turbofan.RunRecord) error {
	rec, err := checkRecord(rec)
	if err != nil {
		return err
	}
	for i, m := range rec.Metrics {
		if m.At.IsZero() {
			rec.Metrics = slices.Clone(rec.Metrics)
			rec.Metrics[i].At = r.now()
		}
	}
	return r.store.RecordRun(ctx, id, rec)
}

// StartRun implements turbofan.Tracking.
func (r *Registry) StartRun(ctx context.Context, experiment, runName string, tags map[string]string, began time.Time) (turbofan.RunInfo, error) {
	e, err := r.store.ExperimentByName(ctx, experiment)
	if turbofan.ErrorCode(err) == turbofan.ENotFound {
		e, err = r.CreateExperiment(ctx, turbofan.Experiment{Name: experiment})
		if turbofan.ErrorCode(err) == turbofan.EConflict { // another caller was first
			e, err = r.store.ExperimentByName(ctx, experiment)
		}
	}
	if err != nil {
		return turbofan.RunInfo{}, err
	}
	run := turbofan.Run{RunInfo: turbofan.RunInfo{ExperimentID: e.ID, Name: runName, UserID: tags[tagUser], StartedAt: began}, Tags: keyValues(tags)}
	run, err = r.CreateRun(ctx, run)
	return run.RunInfo, err
}

// keyValues returns a map as a list sorted by key.
func keyValues(m map[string]string) []turbofan.KeyValue {
	out := make([]turbofan.KeyValue, 0, len(m))
	for k, v := range m {
		out = append(out, turbofan.KeyValue{Key: k, Value: v})
	}
	slices.SortFunc(out, func(a, b turbofan.KeyValue) int { return strings.Compare(a.Key, b.Key) })
	return out
}

// LogBatch implements turbofan.Tracking. A metric without a time is of now.
func (r *Registry) LogBatch(ctx context.Context, runID string, metrics []turbofan.Metric, params, tags map[string]string) error {
	return r.RecordRun(ctx, runID, turbofan.RunRecord{Metrics: metrics, Params: keyValues(params), Tags: keyValues(tags)})
}

// LogArtifacts implements turbofan.Tracking.
func (r *Registry) LogArtifacts(ctx context.Context, runID, path, dir string) error {
	run, err := r.store.Run(ctx, runID)
	if err != nil {
		return err
	}
	base := run.ArtifactURI
	if path != "" {
		rel, err := SafePath(path)
		if err != nil {
			return err
		}
		base = join(base, rel)
	}
	return fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("log artifacts: %w", err)
		}
		if d.IsDir() {
			return nil
		}
		if !d.Type().IsRegular() {
			return invalid("'%s' is neither a file nor a folder", name)
		}
		f, err := os.Open(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			return fmt.Errorf("log artifacts: %w", err)
		}
		defer f.Close()
		return r.PutArtifact(ctx, join(base, name), f)
	})
}

// EndRun implements turbofan.Tracking.
func (r *Registry) EndRun(ctx context.Context, runID string, status turbofan.RunStatus) error {
	switch status {
	case turbofan.RunFinished, turbofan.RunFailed, turbofan.RunKilled:
	default:
		return turbofan.Invalid("status", "must be FINISHED, FAILED or KILLED, not %q", status)
	}
	now := r.now()
	_, err := r.store.UpdateRun(ctx, runID, turbofan.RunUpdate{Status: &status, EndedAt: &now})
	return err
}

// OpenRuns implements turbofan.Tracking.
func (r *Registry) OpenRuns(ctx context.Context, experiment string, tags map[string]string) ([]turbofan.RunInfo, error) {
	e, err := r.store.ExperimentByName(ctx, experiment)
	if turbofan.ErrorCode(err) == turbofan.ENotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	q := turbofan.SearchQuery{ExperimentIDs: []string{e.ID}, Limit: 1000, Where: []turbofan.SearchTerm{
		{Entity: turbofan.EntityAttribute, Key: "status", Op: turbofan.OpEqual, Text: string(turbofan.RunRunning)}}}
	for _, t := range keyValues(tags) {
		q.Where = append(q.Where, turbofan.SearchTerm{Entity: turbofan.EntityTag, Key: t.Key, Op: turbofan.OpEqual, Text: t.Value})
	}
	var open []turbofan.RunInfo
	for {
		page, next, err := r.store.SearchRuns(ctx, q)
		if err != nil {
			return nil, err
		}
		for i := range page {
			open = append(open, page[i].RunInfo)
		}
		if q.PageToken = next; next == "" {
			return open, nil
		}
	}
}

// randomName makes up a name for a run, such as calm-turbine-417.
func randomName() string {
	adjectives := [...]string{"able", "bold", "bright", "calm", "clever", "crisp", "eager", "fair", "fine", "gentle", "grand", "keen",
		"kind", "light", "lively", "loud", "merry", "mild", "neat", "noble", "proud", "quick", "quiet", "rapid", "rare", "sharp",
		"sleek", "smart", "smooth", "steady", "stout", "swift", "tidy", "upbeat", "vivid", "wise"}
	nouns := [...]string{"airfoil", "bearing", "blade", "blower", "casing", "cowl", "crane", "duct", "falcon", "fan", "gear", "gull",
		"hawk", "heron", "igniter", "impeller", "jet", "kite", "lark", "nacelle", "nozzle", "owl", "piston", "pump", "raven",
		"rotor", "shaft", "spool", "stator", "stork", "swallow", "swift", "turbine", "valve", "vane", "wren"}
	return fmt.Sprintf("%s-%s-%d", adjectives[rand.IntN(len(adjectives))], nouns[rand.IntN(len(nouns))], rand.IntN(1000))
}

// CreateLoggedModel implements turbofan.LoggedModelStore: m needs an experiment only.
func (r *Registry) CreateLoggedModel(ctx context.Context, m turbofan.LoggedModel) (turbofan.LoggedModel, error) {
	if m.Name == "" {
		m.Name = randomName()
	}
	if err := checkLoggedModelName(m.Name); err != nil {
		return m, err
	}
	rec, err := checkRecord(turbofan.RunRecord{Params: m.Params, Tags: m.Tags})
	if err != nil {
		return m, err
	}
	m.Params, m.Tags = rec.Params, rec.Tags
	e, err := r.store.Experiment(ctx, m.ExperimentID)
	if err != nil {
		return m, err
	}
	m.ID = "m-" + newID()
	m.Status = turbofan.LoggedModelPending
	m.ArtifactURI = join(e.ArtifactLocation, "models/"+m.ID+"/artifacts")
	m.CreatedAt = r.now().Truncate(time.Millisecond)
	m.UpdatedAt = m.CreatedAt
	return r.store.CreateLoggedModel(ctx, m)
}

// UpdateLoggedModel implements turbofan.LoggedModelStore.
func (r *Registry) UpdateLoggedModel(ctx context.Context, id string, u turbofan.LoggedModelUpdate) (turbofan.LoggedModel, error) {
	rec, err := checkRecord(turbofan.RunRecord{Params: u.AddParams, Tags: u.SetTags})
	if err != nil {
		return turbofan.LoggedModel{}, err
	}
	u.AddParams, u.SetTags = rec.Params, rec.Tags
	return r.store.UpdateLoggedModel(ctx, id, u)
}
