package mlflow

import (
	"turbofan"
)

// viewNames and the other maps below are MLflow's protocol buffer enums.
func viewNames() map[int64]string {
	return map[int64]string{1: "ACTIVE_ONLY", 2: "DELETED_ONLY", 3: "ALL"}
}

func createExperiment(h *Handler, q *request, w *answer) error {
	e := turbofan.Experiment{Name: q.need("name"), ArtifactLocation: q.text("artifact_location"), Tags: q.keyValues("tags")}
	if q.err != nil {
		return q.err
	}
	e, err := h.server.CreateExperiment(q.Context(), e)
	if err != nil {
		return err
	}
	w.text("experiment_id", e.ID)
	return nil
}

func getExperiment(h *Handler, q *request, w *answer) error {
	id := q.need("experiment_id")
	if q.err != nil {
		return q.err
	}
	e, err := h.server.Experiment(q.Context(), id)
	if err != nil {
		return err
	}
	w.experiment(e)
	return nil
}

func getExperimentByName(h *Handler, q *request, w *answer) error {
	name := q.need("experiment_name")
	if q.err != nil {
		return q.err
	}
	e, err := h.server.ExperimentByName(q.Context(), name)
	if err != nil {
		return err
	}
	w.experiment(e)
	return nil
}

func (q *request) search(g *grammar, absentLimit, maxLimit int64) turbofan.SearchQuery {
	s := turbofan.SearchQuery{Limit: q.limit(absentLimit, maxLimit), PageToken: q.text("page_token")}
	filter, order := q.text("filter"), q.texts("order_by")
	if q.err != nil {
		return s
	}
	var err error
	if s.Where, err = g.parseFilter(filter); err != nil {
		q.fail(err)
	}
	if s.OrderBy, err = g.parseOrder(order); err != nil {
		q.fail(err)
	}
	return s
}

func searchExperiments(h *Handler, q *request, w *answer) error {
	s := q.search(experimentGrammar(), 0, 50_000)
	s.View = turbofan.LifecycleView(q.enum("view_type", viewNames()))
	if q.err != nil {
		return q.err
	}
	found, next, err := h.server.SearchExperiments(q.Context(), s)
	if err != nil {
		return err
	}
	if len(found) > 0 {
		w.list("experiments", func() {
			for _, e := range found {
				w.object("", func() { w.experimentFields(e) })
			}
		})
	}
	w.known("next_page_token", next)
	return nil
}

func (q *request) updateExperiment(h *Handler, u turbofan.ExperimentUpdate) error {
	id := q.need("experiment_id")
	if q.err != nil {
		return q.err
	}
	return h.server.UpdateExperiment(q.Context(), id, u)
}

func updateExperiment(h *Handler, q *request, _ *answer) error {
	name := q.need("new_name")
	return q.updateExperiment(h, turbofan.ExperimentUpdate{Name: &name})
}

func deleteExperiment(h *Handler, q *request, _ *answer) error {
	stage := turbofan.StageDeleted
	return q.updateExperiment(h, turbofan.ExperimentUpdate{Stage: &stage})
}

func restoreExperiment(h *Handler, q *request, _ *answer) error {
	stage := turbofan.StageActive
	return q.updateExperiment(h, turbofan.ExperimentUpdate{Stage: &stage})
}

func setExperimentTag(h *Handler, q *request, _ *answer) error {
	tag := turbofan.KeyValue{Key: q.need("key"), Value: q.text("value")}
	return q.updateExperiment(h, turbofan.ExperimentUpdate{SetTags: []turbofan.KeyValue{tag}})
}

func deleteExperimentTag(h *Handler, q *request, _ *answer) error {
	return q.updateExperiment(h, turbofan.ExperimentUpdate{DeleteTags: []string{q.need("key")}})
}

func searchDatasets(h *Handler, q *request, w *answer) error {
	const most = 20
	ids := q.texts("experiment_ids")
	switch {
	case q.err != nil:
		return q.err
	case len(ids) == 0:
		return invalid("SearchDatasets request must specify at least one experiment_id.")
	case len(ids) > most:
		return invalid("SearchDatasets request cannot specify more than %d experiment_ids. Received %d experiment_ids.", most, len(ids))
	}
	found, err := h.server.DatasetSummaries(q.Context(), ids)
	if err != nil || len(found) == 0 {
		return err
	}
	w.list("dataset_summaries", func() {
		for _, d := range found {
			w.object("", func() {
				w.text("experiment_id", d.ExperimentID)
				w.text("name", d.Name)
				w.text("digest", d.Digest)
				w.known("context", d.Context)
			})
		}
	})
	return nil
}
