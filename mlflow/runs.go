package mlflow

import (
	"encoding/json"
	"fmt"
	"strings"

	"turbofan"
)

// MLflow's bounds on one log-batch request.
const (
	maxBatchMetrics = 1000
	maxBatchParams  = 100
	maxBatchTags    = 100
	maxBatchItems   = 1000
	maxBatchBytes   = 1_000_000
)

func runStatusNames() map[int64]string {
	return map[int64]string{1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}
}

func createRun(h *Handler, q *request, w *answer) error {
	run := turbofan.Run{
		RunInfo: turbofan.RunInfo{
			ExperimentID: q.need("experiment_id"), Name: q.text("run_name"), UserID: q.text("user_id"), StartedAt: q.time("start_time"),
		},
		Tags: q.keyValues("tags"),
	}
	if q.err != nil {
		return q.err
	}
	run, err := h.server.CreateRun(q.Context(), run)
	if err != nil {
		return err
	}
	w.run("run", run)
	return nil
}

func getRun(h *Handler, q *request, w *answer) error {
	id := q.runID()
	if q.err != nil {
		return q.err
	}
	run, err := h.server.Run(q.Context(), id)
	if err != nil {
		return err
	}
	w.run("run", run)
	return nil
}

func updateRun(h *Handler, q *request, w *answer) error {
	id := q.runID()
	u := turbofan.RunUpdate{Name: q.pointer("run_name")}
	if status := turbofan.RunStatus(q.enum("status", runStatusNames())); status != "" {
		u.Status = &status
	}
	if q.has("end_time") {
		ended := q.time("end_time")
		u.EndedAt = &ended
	}
	if q.err != nil {
		return q.err
	}
	info, err := h.server.UpdateRun(q.Context(), id, u)
	if err != nil {
		return err
	}
	w.runInfo("run_info", info)
	return nil
}

func deleteRun(h *Handler, q *request, _ *answer) error  { return q.moveRun(h, turbofan.StageDeleted) }
func restoreRun(h *Handler, q *request, _ *answer) error { return q.moveRun(h, turbofan.StageActive) }

func (q *request) moveRun(h *Handler, stage turbofan.LifecycleStage) error {
	id := q.runID()
	if q.err != nil {
		return q.err
	}
	_, err := h.server.UpdateRun(q.Context(), id, turbofan.RunUpdate{Stage: &stage})
	return err
}

func searchRuns(h *Handler, q *request, w *answer) error {
	s := q.search(runGrammar(), 1000, 50_000)
	s.ExperimentIDs = q.texts("experiment_ids")
	s.View = turbofan.LifecycleView(q.enum("run_view_type", viewNames()))
	if q.err != nil {
		return q.err
	}
	if len(s.ExperimentIDs) > 10_000 {
		return invalid("SearchRuns request cannot specify more than 10000 experiment_ids.")
	}
	return h.runPage(q, s, func(found []turbofan.Run, next string) {
		if len(found) > 0 {
			w.list("runs", func() {
				for i := range found {
					w.run("", found[i])
					w.expect(i+1, len(found))
				}
			})
		}
		w.known("next_page_token", next)
	})
}

// runPage has write put one page of runs into the answer. Of large pages few are in the making at a time: what waits to be
// sent, for as long as its client likes, is text alone.
func (h *Handler) runPage(q *request, s turbofan.SearchQuery, write func(found []turbofan.Run, next string)) error {
	if s.Limit > largePage {
		select {
		case h.pages <- struct{}{}:
			defer func() { <-h.pages }()
		case <-q.Context().Done():
			return q.Context().Err()
		}
	}
	found, next, err := h.server.SearchRuns(q.Context(), s)
	if err == nil {
		write(found, next)
	}
	return err
}

// record adds to the run that is asked about. A call that logs a single thing names its fields without an index.
func (q *request) record(h *Handler, id string, rec turbofan.RunRecord, single string) error {
	if q.err != nil {
		return q.err
	}
	err := h.server.RecordRun(q.Context(), id, rec)
	if e, ok := err.(*turbofan.Error); ok && single != "" {
		return &turbofan.Error{Code: e.Code, Message: strings.ReplaceAll(e.Message, single+"[0].", ""), Err: e.Err}
	}
	return err
}

func logMetric(h *Handler, q *request, _ *answer) error {
	id := q.runID()
	m := turbofan.Metric{Key: q.need("key"), Value: q.number("value"), ModelID: q.text("model_id"),
		DatasetName: q.text("dataset_name"), DatasetDigest: q.text("dataset_digest")}
	if !q.has("timestamp") {
		q.missing("timestamp")
	}
	m.At, m.Step = q.time("timestamp"), q.integer("step", 0)
	return q.record(h, id, turbofan.RunRecord{Metrics: []turbofan.Metric{m}}, "metrics")
}

// number returns a number that must be there.
func (q *request) number(name string) float64 {
	v := q.fields[name]
	if v == nil {
		q.missing(name)
		return 0
	}
	f, ok := toNumber(v)
	if !ok {
		q.wrongType(name, v)
	}
	return f
}

func logParameter(h *Handler, q *request, _ *answer) error {
	id := q.runID()
	p := turbofan.KeyValue{Key: q.need("key"), Value: q.text("value")}
	return q.record(h, id, turbofan.RunRecord{Params: []turbofan.KeyValue{p}}, "params")
}

func setTag(h *Handler, q *request, _ *answer) error {
	id := q.runID()
	t := turbofan.KeyValue{Key: q.need("key"), Value: q.text("value")}
	return q.record(h, id, turbofan.RunRecord{Tags: []turbofan.KeyValue{t}}, "tags")
}

func deleteTag(h *Handler, q *request, _ *answer) error {
	id, key := q.runID(), q.need("key")
	if q.err != nil {
		return q.err
	}
	_, err := h.server.UpdateRun(q.Context(), id, turbofan.RunUpdate{DeleteTags: []string{key}})
	return err
}

func logBatch(h *Handler, q *request, _ *answer) error {
	if q.size > maxBatchBytes {
		return invalid("Batched logging API requests must be at most %d bytes, got a request of size %d.", maxBatchBytes, q.size)
	}
	id := q.need("run_id")
	rec := turbofan.RunRecord{Metrics: q.metrics(), Params: q.keyValues("params"), Tags: q.keyValues("tags")}
	if q.err != nil {
		return q.err
	}
	for _, bound := range []struct {
		what      string
		most, got int
	}{
		{"metrics", maxBatchMetrics, len(rec.Metrics)}, {"params", maxBatchParams, len(rec.Params)}, {"tags", maxBatchTags, len(rec.Tags)},
		{"metrics, params, and tags", maxBatchItems, len(rec.Metrics) + len(rec.Params) + len(rec.Tags)},
	} {
		if bound.got > bound.most {
			return invalid("A batch logging request can contain at most %d %s. Got %d %s. Please split up %s across multiple requests and try again.",
				bound.most, bound.what, bound.got, bound.what, bound.what)
		}
	}
	return q.record(h, id, rec, "")
}

func (q *request) metrics() []turbofan.Metric {
	const list = "metrics"
	objects := q.objects(list)
	out := make([]turbofan.Metric, 0, len(objects))
	for i, o := range objects {
		for _, name := range []string{"key", "value", "timestamp"} {
			if o[name] == nil || o[name] == "" {
				q.missing(fmt.Sprintf("%s[%d].%s", list, i, name))
			}
		}
		m := turbofan.Metric{Key: q.member(list, o, "key"), ModelID: q.member(list, o, "model_id"),
			DatasetName: q.member(list, o, "dataset_name"), DatasetDigest: q.member(list, o, "dataset_digest")}
		value, okValue := toNumber(o["value"])
		at, okTime := toInteger(o["timestamp"])
		step, okStep := toInteger(o["step"])
		if !okValue || !okTime || o["step"] != nil && !okStep {
			q.wrongType(list, q.fields[list])
		}
		m.Value, m.At, m.Step = value, millisTime(at), step
		out = append(out, m)
	}
	return out
}

func logInputs(h *Handler, q *request, _ *answer) error {
	id := q.runID()
	rec := turbofan.RunRecord{Inputs: q.models("models")}
	for i, o := range q.objects("datasets") {
		d, ok := o["dataset"].(map[string]any)
		if !ok {
			q.missing(fmt.Sprintf("datasets[%d].dataset", i))
			break
		}
		in := turbofan.DatasetInput{
			Name: q.member("datasets", d, "name"), Digest: q.member("datasets", d, "digest"), SourceType: q.member("datasets", d, "source_type"),
			Source: q.member("datasets", d, "source"), Schema: q.member("datasets", d, "schema"), Profile: q.member("datasets", d, "profile"),
		}
		tags, _ := o["tags"].([]any)
		for _, t := range tags {
			kv, ok := t.(map[string]any)
			if !ok {
				q.wrongType("datasets", q.fields["datasets"])
				break
			}
			in.Tags = append(in.Tags, turbofan.KeyValue{Key: q.member("datasets", kv, "key"), Value: q.member("datasets", kv, "value")})
		}
		rec.Datasets = append(rec.Datasets, in)
	}
	return q.record(h, id, rec, "")
}

func (q *request) models(name string) []turbofan.ModelIO {
	var out []turbofan.ModelIO
	for i, o := range q.objects(name) {
		m := turbofan.ModelIO{ModelID: q.member(name, o, "model_id")}
		if m.ModelID == "" {
			q.missing(fmt.Sprintf("%s[%d].model_id", name, i))
		}
		if o["step"] != nil {
			step, ok := toInteger(o["step"])
			if !ok {
				q.wrongType(name, q.fields[name])
			}
			m.Step = step
		}
		out = append(out, m)
	}
	return out
}

func logOutputs(h *Handler, q *request, _ *answer) error {
	id := q.runID()
	if !q.has("models") {
		q.missing("models")
	}
	return q.record(h, id, turbofan.RunRecord{Outputs: q.models("models")}, "")
}

// tagModelHistory lists the models that 2.x clients logged to a run.
const tagModelHistory = "mlflow.log-model.history"

func logModel(h *Handler, q *request, _ *answer) error {
	id := q.runID()
	text := q.need("model_json")
	if q.err != nil {
		return q.err
	}
	var model map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &model); err != nil {
		return invalid("Malformed model info. \n %s \n is not valid JSON", text)
	}
	var missing []string
	for _, k := range []string{"artifact_path", "flavors", "run_id", "utc_time_created"} {
		if model[k] == nil {
			missing = append(missing, "'"+k+"'")
		}
	}
	if len(missing) > 0 {
		return invalid("Model json is missing mandatory fields: {%s}", strings.Join(missing, ", "))
	}
	run, err := h.server.Run(q.Context(), id)
	if err != nil {
		return err
	}
	var history []json.RawMessage
	for _, t := range run.Tags {
		if t.Key == tagModelHistory && json.Unmarshal([]byte(t.Value), &history) != nil {
			history = nil // a client wrote something else: it is replaced
		}
	}
	all, err := json.Marshal(append(history, json.RawMessage(text)))
	if err != nil {
		return fmt.Errorf("log model: %w", err)
	}
	tag := turbofan.KeyValue{Key: tagModelHistory, Value: string(all)}
	return q.record(h, id, turbofan.RunRecord{Tags: []turbofan.KeyValue{tag}}, "tags")
}
