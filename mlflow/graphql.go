package mlflow

import (
	"strings"

	"turbofan"
)

// graphQL answers the three documents that MLflow's UI sends, told apart by the field that they ask for. Every field
// that a document of the UI selects is there; what it did not select does no harm.
func graphQL(h *Handler, q *request, w *answer) error {
	query := q.text("query")
	variables, _ := q.fields["variables"].(map[string]any)
	data, _ := variables["data"].(map[string]any)
	if q.err != nil {
		return q.err
	}
	switch {
	case strings.Contains(query, "mlflowGetRun"):
		return h.graphRun(q, w, argument(query, data, "runId"))
	case strings.Contains(query, "mlflowGetExperiment"):
		return h.graphExperiment(q, w, argument(query, data, "experimentId"))
	case strings.Contains(query, "mlflowSearchRuns"):
		return h.graphSearch(q, w, data)
	}
	w.object("data", func() {})
	w.null("errors")
	return nil
}

func (w *answer) null(k string) {
	w.key(k)
	w.b = append(w.b, "null"...)
}

// argument reads an argument from the variables, or from where the document has it written in place.
func argument(query string, data map[string]any, name string) string {
	if s, ok := data[name].(string); ok {
		return s
	}
	_, after, ok := strings.Cut(query, name+":")
	if !ok {
		return ""
	}
	after = strings.TrimLeft(after, " ")
	if !strings.HasPrefix(after, `"`) {
		return ""
	}
	value, _, _ := strings.Cut(after[1:], `"`)
	return value
}

// graphResult writes {"data": {field: …}} with an apiError where the answer is one.
func (w *answer) graphResult(field string, err error, fill func()) {
	w.object("data", func() {
		w.object(field, func() {
			if err == nil {
				fill()
				w.null("apiError")
				return
			}
			code, _ := mlflowCode(err)
			w.object("apiError", func() {
				w.text("code", code)
				w.text("message", turbofan.ErrorMessage(err))
			})
		})
	})
	w.null("errors")
}

func (h *Handler) graphExperiment(q *request, w *answer, id string) error {
	e, err := h.server.Experiment(q.Context(), id)
	w.graphResult("mlflowGetExperiment", err, func() { w.graphExperimentFields(e) })
	return nil
}

func (w *answer) graphExperimentFields(e turbofan.Experiment) {
	w.object("experiment", func() {
		w.text("experimentId", e.ID)
		w.text("name", e.Name)
		w.text("artifactLocation", e.ArtifactLocation)
		w.text("lifecycleStage", string(e.Stage))
		w.graphMillis("lastUpdateTime", e.UpdatedAt.UnixMilli())
		w.graphMillis("creationTime", e.CreatedAt.UnixMilli())
		w.graphTags("tags", e.Tags)
	})
}

// graphMillis writes a long, which GraphQL has as a text.
func (w *answer) graphMillis(k string, ms int64) {
	w.key(k)
	w.b = append(w.b, '"')
	w.b = appendInt(w.b, ms)
	w.b = append(w.b, '"')
}

func (w *answer) graphTags(k string, kvs []turbofan.KeyValue) {
	w.list(k, func() {
		for _, kv := range kvs {
			w.object("", func() {
				w.text("key", kv.Key)
				w.text("value", kv.Value)
			})
		}
	})
}

func (h *Handler) graphRun(q *request, w *answer, id string) error {
	run, err := h.server.Run(q.Context(), id)
	var e turbofan.Experiment
	var versions []turbofan.ModelVersion
	if err == nil {
		e, err = h.server.Experiment(q.Context(), run.ExperimentID)
	}
	if err == nil {
		versions, _, err = h.server.SearchModelVersions(q.Context(), turbofan.SearchQuery{Limit: 1000, Where: []turbofan.SearchTerm{
			{Entity: turbofan.EntityAttribute, Key: "run_id", Op: turbofan.OpEqual, Text: id},
		}})
	}
	w.graphResult("mlflowGetRun", err, func() {
		w.object("run", func() {
			w.graphRunFields(run)
			w.graphExperimentFields(e)
			w.list("modelVersions", func() {
				for _, v := range versions {
					w.object("", func() {
						w.text("name", v.Name)
						w.text("version", v.Version)
						w.text("status", "READY")
						w.text("source", v.Source)
					})
				}
			})
		})
	})
	return nil
}

func (w *answer) graphRunFields(run turbofan.Run) {
	w.object("info", func() {
		w.text("runId", run.ID)
		w.text("runUuid", run.ID)
		w.text("runName", run.Name)
		w.text("experimentId", run.ExperimentID)
		w.text("userId", run.UserID)
		w.text("status", string(run.Status))
		w.graphMillis("startTime", run.StartedAt.UnixMilli())
		if run.EndedAt.IsZero() {
			w.null("endTime")
		} else {
			w.graphMillis("endTime", run.EndedAt.UnixMilli())
		}
		w.text("artifactUri", run.ArtifactURI)
		w.text("lifecycleStage", string(run.Stage))
	})
	w.object("data", func() {
		w.list("metrics", func() {
			for _, m := range run.Metrics {
				w.object("", func() {
					w.text("key", m.Key)
					w.number("value", m.Value)
					w.graphMillis("timestamp", m.At.UnixMilli())
					w.graphMillis("step", m.Step)
				})
			}
		})
		w.graphTags("params", run.Params)
		w.graphTags("tags", run.Tags)
	})
	w.object("inputs", func() {
		w.list("datasetInputs", func() {
			for _, d := range run.Datasets {
				w.object("", func() {
					w.graphTags("tags", d.Tags)
					w.object("dataset", func() {
						w.text("name", d.Name)
						w.text("digest", d.Digest)
						w.text("sourceType", d.SourceType)
						w.text("source", d.Source)
						w.text("schema", d.Schema)
						w.text("profile", d.Profile)
					})
				})
			}
		})
		w.graphModels("modelInputs", run.Inputs)
	})
	w.object("outputs", func() { w.graphModels("modelOutputs", run.Outputs) })
}

func (w *answer) graphModels(k string, models []turbofan.ModelIO) {
	w.list(k, func() {
		for _, m := range models {
			w.object("", func() {
				w.text("modelId", m.ModelID)
				w.graphMillis("step", m.Step)
			})
		}
	})
}

func (h *Handler) graphSearch(q *request, w *answer, data map[string]any) error {
	inner := &request{Request: q.Request, fields: map[string]any{
		"experiment_ids": data["experimentIds"], "filter": data["filter"], "run_view_type": data["runViewType"],
		"max_results": data["maxResults"], "order_by": data["orderBy"], "page_token": data["pageToken"],
	}}
	s := inner.search(runGrammar(), 1000, 50_000)
	s.ExperimentIDs = inner.texts("experiment_ids")
	s.View = turbofan.LifecycleView(inner.enum("run_view_type", viewNames()))
	result := func(err error, found []turbofan.Run, next string) {
		w.graphResult("mlflowSearchRuns", err, func() {
			w.list("runs", func() {
				for _, run := range found {
					w.object("", func() { w.graphRunFields(run) })
				}
			})
			if next == "" {
				w.null("nextPageToken")
			} else {
				w.text("nextPageToken", next)
			}
		})
	}
	err := inner.err
	if err == nil {
		err = h.runPage(inner, s, func(found []turbofan.Run, next string) { result(nil, found, next) })
	}
	if err != nil {
		result(err, nil, "")
	}
	return nil
}
