package httpapi

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"turbofan"
)

// retraining is the handler's side of turbofan.RetrainingService.
type retraining struct{ svc turbofan.RetrainingService }

// RetrainingHandler offers svc over HTTP: POST /retrain, the routes of a BentoML task below it (/retrain/submit, /status,
// /get, /retry, /cancel), GET /jobs, GET /jobs/{job_id} and POST /jobs/{job_id}/cancel.
func RetrainingHandler(cfg Config, svc turbofan.RetrainingService, o Options) (http.Handler, error) {
	a, err := newAPI(cfg, "retrain", "Trains challengers from the baseline and from labelled production data, and promotes the better model.", o)
	if err != nil {
		return nil, err
	}
	for _, op := range (&retraining{svc: svc}).operations() {
		a.add(op)
	}
	return a.finish()
}

func (h *retraining) retrain(c *call) error {
	job, err := h.start(c)
	if err != nil {
		return err
	}
	c.status, c.location = http.StatusAccepted, "/jobs/"+url.PathEscape(job.ID)
	return c.reply(job, nil)
}

func (h *retraining) start(c *call) (turbofan.Job, error) {
	req, err := decodeRetrain(c)
	if err != nil {
		return turbofan.Job{}, err
	}
	return h.svc.Submit(c.ctx, req)
}

// decodeRetrain reads a request to retrain; an empty body asks for the defaults.
func decodeRetrain(c *call) (turbofan.RetrainRequest, error) {
	req := turbofan.RetrainRequest{Trigger: "manual"}
	s := &c.scanner
	s.reset(c.body)
	if s.peek() == 0 && s.pos >= len(s.data) {
		return req, nil
	}
	if err := c.requireJSON(); err != nil {
		return req, err
	}
	s.reset(c.body)
	if err := openRequest(s, `{"reason": "..."}`); err != nil {
		return req, err
	}
	var seen bool
	err := object(s, "", "a request to retrain", []string{"reason", "force", "trigger"}, func(key string) error {
		switch key {
		case "reason":
			return text(s, key, &req.Reason)
		case "force":
			return flag(s, key, &req.Force, &seen)
		}
		if err := text(s, key, &req.Trigger); err != nil {
			return err
		}
		switch req.Trigger {
		case "":
			req.Trigger = "manual"
		case "drift", "schedule", "manual", "bootstrap":
		default:
			return turbofan.Invalid(key, "must be drift, schedule, manual or bootstrap, not %q", clip([]byte(req.Trigger)))
		}
		return nil
	})
	if err == nil {
		err = s.end()
	}
	const longest = 1000
	if err == nil && len(req.Reason) > longest {
		err = turbofan.Invalid("reason", "has %d bytes, more than the %d allowed", len(req.Reason), longest)
	}
	return req, err
}

// The answers of the task routes, and their words for where a task stands. A BentoML client fails on any other word.
type (
	taskCreated struct {
		ID     string `json:"task_id"`
		Status string `json:"status"`
	}
	taskStatus struct {
		ID         string `json:"task_id"`
		Status     string `json:"status"`
		CreatedAt  string `json:"created_at"`
		ExecutedAt string `json:"executed_at,omitempty"`
	}
)

const taskTime = "2006-01-02T15:04:05"

// taskWord says a job's status in BentoML's words. A refused job is a failed task: it has no result.
func taskWord(s turbofan.JobStatus) string {
	switch s {
	case turbofan.JobPending:
		return "pending"
	case turbofan.JobInProgress:
		return "in_progress"
	case turbofan.JobSuccess:
		return "completed"
	case turbofan.JobCancelled:
		return "canceled"
	}
	return "failed"
}

func (h *retraining) submit(c *call) error {
	job, err := h.start(c)
	return c.reply(taskCreated{job.ID, taskWord(job.Status)}, err)
}

// task returns the job that the query's task_id names.
func (h *retraining) task(c *call) (turbofan.Job, error) {
	q := c.queryValues("task_id")
	if q.err != nil {
		return turbofan.Job{}, q.err
	}
	id := q.text("task_id")
	if id == "" {
		return turbofan.Job{}, turbofan.Errorf(turbofan.EInvalid, "task_id is required")
	}
	job, err := h.svc.Job(c.ctx, id)
	return job, taskNotFound(err)
}

// taskNotFound gives a missing task BentoML's words.
func taskNotFound(err error) error {
	if turbofan.ErrorCode(err) == turbofan.ENotFound {
		return turbofan.Errorf(turbofan.ENotFound, "task_id not found")
	}
	return err
}

func (h *retraining) status(c *call) error {
	job, err := h.task(c)
	status := taskStatus{ID: job.ID, Status: taskWord(job.Status), CreatedAt: job.CreatedAt.UTC().Format(taskTime)}
	if !job.StartedAt.IsZero() {
		status.ExecutedAt = job.StartedAt.UTC().Format(taskTime)
	}
	return c.reply(status, err)
}

// result answers with what the task came to, or with the error it ended in.
func (h *retraining) result(c *call) error {
	job, err := h.task(c)
	if err != nil {
		return err
	}
	switch job.Status {
	case turbofan.JobSuccess:
		return c.reply(job, nil)
	case turbofan.JobCancelled:
		return turbofan.Errorf(turbofan.EConflict, "task %s was cancelled", job.ID)
	case turbofan.JobRefused:
		return turbofan.Errorf(turbofan.EInsufficient, "task %s was refused: %s", job.ID, job.Error)
	case turbofan.JobFailure:
		c.status = http.StatusInternalServerError
		return &failedTask{&turbofan.Error{Code: turbofan.EInternal, Message: "task " + job.ID + " failed: " + job.Error}}
	}
	return notCompleted(job)
}

func notCompleted(job turbofan.Job) error {
	return turbofan.Errorf(turbofan.EInvalid, "task %s is not completed yet", job.ID)
}

// failedTask is an internal error that the caller may read, for it is the result that was asked for.
type failedTask struct{ err *turbofan.Error }

func (f *failedTask) Error() string { return f.err.Error() }

// Unwrap lets the error's code and message be found.
func (f *failedTask) Unwrap() error { return f.err }

func isFailedTask(err error) bool {
	_, ok := errors.AsType[*failedTask](err)
	return ok
}

// retry starts a new job for the reason of one that has ended.
func (h *retraining) retry(c *call) error {
	old, err := h.task(c)
	if err != nil {
		return err
	}
	if old.Status.Active() {
		return notCompleted(old)
	}
	job, err := h.svc.Submit(c.ctx, turbofan.RetrainRequest{Reason: old.Reason, Trigger: "manual"})
	return c.reply(taskCreated{job.ID, taskWord(job.Status)}, err)
}

func (h *retraining) cancelTask(c *call) error {
	job, err := h.task(c)
	if err != nil {
		return err
	}
	job, err = h.svc.Cancel(c.ctx, job.ID)
	return c.reply(taskCreated{job.ID, taskWord(job.Status)}, taskNotFound(err))
}

func (h *retraining) jobs(c *call) error {
	q := c.queryValues("limit")
	limit := q.whole("limit", 20, 1, maxLimit)
	if q.err != nil {
		return q.err
	}
	jobs, err := h.svc.Jobs(c.ctx, limit)
	if err != nil {
		return err
	}
	c.list("jobs", jobs)
	return nil
}

func (h *retraining) job(c *call) error {
	job, err := h.svc.Job(c.ctx, c.params[0])
	return c.reply(job, err)
}

func (h *retraining) cancel(c *call) error {
	if err := c.noFields(); err != nil {
		return err
	}
	job, err := h.svc.Cancel(c.ctx, c.params[0])
	return c.reply(job, err)
}

// RetrainingClient is a turbofan.RetrainingService that stands behind a [RetrainingHandler].
type RetrainingClient struct{ *client }

var _ turbofan.RetrainingService = (*RetrainingClient)(nil)

// NewRetrainingClient returns a client of the handler at baseURL, such as "http://127.0.0.1:3003". A nil c takes a client
// with a connection pool of its own.
func NewRetrainingClient(baseURL string, c *http.Client) *RetrainingClient {
	return &RetrainingClient{newClient("retraining", baseURL, c)}
}

// Submit implements turbofan.RetrainingService.
func (r *RetrainingClient) Submit(ctx context.Context, req turbofan.RetrainRequest) (turbofan.Job, error) {
	var job turbofan.Job
	err := r.do(ctx, request{method: http.MethodPost, path: "/retrain", body: r.codec.append(nil, req)}, &job)
	return job, err
}

// Job implements turbofan.RetrainingService.
func (r *RetrainingClient) Job(ctx context.Context, id string) (turbofan.Job, error) {
	var job turbofan.Job
	err := r.getByID(ctx, "/jobs/", id, "", &job)
	return job, err
}

// Jobs implements turbofan.RetrainingService.
func (r *RetrainingClient) Jobs(ctx context.Context, limit int) ([]turbofan.Job, error) {
	var answer struct {
		Jobs []turbofan.Job `json:"jobs"`
	}
	err := r.get(ctx, "/jobs", url.Values{"limit": {strconv.Itoa(limit)}}, &answer)
	return answer.Jobs, err
}

// Cancel implements turbofan.RetrainingService.
func (r *RetrainingClient) Cancel(ctx context.Context, id string) (turbofan.Job, error) {
	var job turbofan.Job
	if err := r.requireID("/jobs/", id); err != nil {
		return job, err
	}
	err := r.do(ctx, request{method: http.MethodPost, path: "/jobs/" + url.PathEscape(id) + "/cancel"}, &job)
	return job, err
}
