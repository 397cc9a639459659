package mlflow

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"turbofan"
)

type wireRun struct {
	Info struct {
		RunID        string  `json:"run_id"`
		RunName      string  `json:"run_name"`
		ExperimentID string  `json:"experiment_id"`
		UserID       string  `json:"user_id"`
		Status       string  `json:"status"`
		StartTime    wireInt `json:"start_time"`
		EndTime      wireInt `json:"end_time"`
		ArtifactURI  string  `json:"artifact_uri"`
		Stage        string  `json:"lifecycle_stage"`
	} `json:"info"`
}

func (r wireRun) info() turbofan.RunInfo {
	i := r.Info
	return turbofan.RunInfo{ID: i.RunID, Name: i.RunName, ExperimentID: i.ExperimentID, UserID: i.UserID, Status: turbofan.RunStatus(i.Status),
		StartedAt: i.StartTime.time(), EndedAt: i.EndTime.time(), ArtifactURI: i.ArtifactURI, Stage: turbofan.LifecycleStage(i.Stage)}
}

// StartRun implements turbofan.Tracking.
func (c *Client) StartRun(ctx context.Context, experiment, runName string, tags map[string]string, began time.Time) (turbofan.RunInfo, error) {
	if began.IsZero() {
		began = time.Now()
	}
	id, err := c.experiment(ctx, experiment)
	if err != nil {
		return turbofan.RunInfo{}, err
	}
	type createRun struct {
		ExperimentID string              `json:"experiment_id"`
		RunName      string              `json:"run_name,omitempty"`
		UserID       string              `json:"user_id,omitempty"`
		StartTime    int64               `json:"start_time"`
		Tags         []turbofan.KeyValue `json:"tags,omitempty"`
	}
	var out struct {
		Run wireRun `json:"run"`
	}
	err = c.call(ctx, send{method: http.MethodPost, path: "runs/create", once: true, body: createRun{
		ExperimentID: id, RunName: runName, UserID: tags["mlflow.user"], StartTime: began.UnixMilli(), Tags: sortedKeyValues(tags),
	}}, &out)
	return out.Run.info(), err
}

// experiment returns the identifier of the experiment of that name, which it creates when it is new.
func (c *Client) experiment(ctx context.Context, name string) (string, error) {
	id, err := c.experimentByName(ctx, name)
	if turbofan.ErrorCode(err) != turbofan.ENotFound {
		return id, err
	}
	var out struct {
		ID string `json:"experiment_id"`
	}
	err = c.call(ctx, send{method: http.MethodPost, path: "experiments/create", body: map[string]string{"name": name}}, &out)
	if turbofan.ErrorCode(err) == turbofan.EConflict { // another caller was first
		return c.experimentByName(ctx, name)
	}
	return out.ID, err
}

func (c *Client) experimentByName(ctx context.Context, name string) (string, error) {
	var out struct {
		Experiment struct {
			ID string `json:"experiment_id"`
		} `json:"experiment"`
	}
	err := c.call(ctx, send{method: http.MethodGet, path: "experiments/get-by-name", query: url.Values{"experiment_name": {name}}}, &out)
	return out.Experiment.ID, err
}

func (c *Client) run(ctx context.Context, id string) (turbofan.RunInfo, error) {
	var out struct {
		Run wireRun `json:"run"`
	}
	err := c.call(ctx, send{method: http.MethodGet, path: "runs/get", query: url.Values{"run_id": {id}}}, &out)
	return out.Run.info(), err
}

type wireMetric struct {
	Key       string     `json:"key"`
	Value     wireNumber `json:"value"`
	Timestamp int64      `json:"timestamp"`
	Step      int64      `json:"step"`
}

type wireBatch struct {
	RunID   string              `json:"run_id"`
	Metrics []wireMetric        `json:"metrics,omitempty"`
	Params  []turbofan.KeyValue `json:"params,omitempty"`
	Tags    []turbofan.KeyValue `json:"tags,omitempty"`

	bytes int
}

func (b *wireBatch) size() int { return len(b.Metrics) + len(b.Params) + len(b.Tags) }

// LogBatch implements turbofan.Tracking. What is too much for one request of MLflow's goes in several, parameters
// first: a failure may then leave a part of it logged.
func (c *Client) LogBatch(ctx context.Context, runID string, metrics []turbofan.Metric, params, tags map[string]string) error {
	b := &wireBatch{RunID: runID}
	flush := func() error {
		if b.size() == 0 {
			return nil
		}
		err := c.call(ctx, send{method: http.MethodPost, path: "runs/log-batch", body: b}, nil)
		b = &wireBatch{RunID: runID}
		return err
	}
	// room makes room for one more thing of n bytes; quotes and escapes at most make it six times as long.
	room := func(n, same, most int) error {
		n = 6*n + 128
		var err error
		if same >= most || b.size() >= maxBatchItems || b.bytes+n > maxBatchBytes-1024 {
			err = flush()
		}
		b.bytes += n
		return err
	}
	for _, p := range sortedKeyValues(params) {
		if err := room(len(p.Key)+len(p.Value), len(b.Params), maxBatchParams); err != nil {
			return err
		}
		b.Params = append(b.Params, p)
	}
	for _, t := range sortedKeyValues(tags) {
		if err := room(len(t.Key)+len(t.Value), len(b.Tags), maxBatchTags); err != nil {
			return err
		}
		b.Tags = append(b.Tags, t)
	}
	now := time.Now()
	for _, m := range metrics {
		if err := room(len(m.Key), len(b.Metrics), maxBatchMetrics); err != nil {
			return err
		}
		if m.At.IsZero() {
			m.At = now
		}
		b.Metrics = append(b.Metrics, wireMetric{m.Key, wireNumber(m.Value), m.At.UnixMilli(), m.Step})
	}
	return flush()
}

// EndRun implements turbofan.Tracking.
func (c *Client) EndRun(ctx context.Context, runID string, status turbofan.RunStatus) error {
	switch status {
	case turbofan.RunFinished, turbofan.RunFailed, turbofan.RunKilled:
	default:
		return turbofan.Invalid("status", "must be FINISHED, FAILED or KILLED, not %q", status)
	}
	return c.call(ctx, send{method: http.MethodPost, path: "runs/update", body: map[string]any{
		"run_id": runID, "status": status, "end_time": time.Now().UnixMilli(),
	}}, nil)
}

// OpenRuns implements turbofan.Tracking. Tags whose key or value has a quote are EInvalid: MLflow's grammar cannot say them.
func (c *Client) OpenRuns(ctx context.Context, experiment string, tags map[string]string) ([]turbofan.RunInfo, error) {
	filter := "attributes.status = 'RUNNING'"
	for _, t := range sortedKeyValues(tags) {
		if strings.ContainsAny(t.Key+t.Value, "'\"`") {
			return nil, invalid("Invalid tag '%s': a search for it cannot hold quotes", t.Key)
		}
		filter += " and tags.`" + t.Key + "` = '" + t.Value + "'"
	}
	id, err := c.experimentByName(ctx, experiment)
	if turbofan.ErrorCode(err) == turbofan.ENotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	type search struct {
		ExperimentIDs []string `json:"experiment_ids"`
		Filter        string   `json:"filter"`
		Limit         int      `json:"max_results"`
		PageToken     string   `json:"page_token,omitempty"`
	}
	var open []turbofan.RunInfo
	for token := ""; ; {
		var page struct {
			Runs []wireRun `json:"runs"`
			Next string    `json:"next_page_token"`
		}
		if err := c.call(ctx, send{method: http.MethodPost, path: "runs/search", body: search{[]string{id}, filter, 1000, token}}, &page); err != nil {
			return nil, err
		}
		for _, r := range page.Runs {
			open = append(open, r.info())
		}
		if token = page.Next; token == "" {
			return open, nil
		}
	}
}

// LogArtifacts implements turbofan.Tracking.
func (c *Client) LogArtifacts(ctx context.Context, runID, path, dir string) error {
	rel, err := cleanPath(path)
	if err != nil {
		return err
	}
	run, err := c.run(ctx, runID)
	if err != nil {
		return err
	}
	return c.uploadTree(ctx, joinURI(run.ArtifactURI, rel), dir)
}
