package mlflow

import (
	"fmt"
	"strings"

	"turbofan"
)

func loggedStatusNames() map[int64]string {
	return map[int64]string{1: turbofan.LoggedModelPending, 2: turbofan.LoggedModelReady, 3: turbofan.LoggedModelFailed}
}

func createLoggedModel(h *Handler, q *request, w *answer) error {
	m := turbofan.LoggedModel{ExperimentID: q.need("experiment_id"), Name: q.text("name"), ModelType: q.text("model_type"),
		SourceRunID: q.text("source_run_id"), Params: q.keyValues("params"), Tags: q.keyValues("tags")}
	if q.err != nil {
		return q.err
	}
	m, err := h.server.CreateLoggedModel(q.Context(), m)
	if err != nil {
		return err
	}
	w.loggedModel("model", m)
	return nil
}

func getLoggedModel(h *Handler, q *request, w *answer) error {
	m, err := h.server.LoggedModel(q.Context(), q.tail)
	if err != nil {
		return err
	}
	w.loggedModel("model", m)
	return nil
}

func finalizeLoggedModel(h *Handler, q *request, w *answer) error {
	status := q.enum("status", loggedStatusNames())
	if status == "" {
		q.missing("status")
	}
	if q.err != nil {
		return q.err
	}
	m, err := h.server.UpdateLoggedModel(q.Context(), q.tail, turbofan.LoggedModelUpdate{Status: &status})
	if err != nil {
		return err
	}
	w.loggedModel("model", m)
	return nil
}

func deleteLoggedModel(h *Handler, q *request, _ *answer) error {
	return h.server.DeleteLoggedModel(q.Context(), q.tail)
}

func setLoggedModelTags(h *Handler, q *request, _ *answer) error {
	tags := q.keyValues("tags")
	if q.err != nil {
		return q.err
	}
	_, err := h.server.UpdateLoggedModel(q.Context(), q.tail, turbofan.LoggedModelUpdate{SetTags: tags})
	return err
}

func deleteLoggedModelTag(h *Handler, q *request, _ *answer) error {
	id, key, _ := strings.Cut(q.tail, "/")
	_, err := h.server.UpdateLoggedModel(q.Context(), id, turbofan.LoggedModelUpdate{DeleteTags: []string{key}})
	return err
}

func logLoggedModelParams(h *Handler, q *request, _ *answer) error {
	params := q.keyValues("params")
	if q.err != nil {
		return q.err
	}
	_, err := h.server.UpdateLoggedModel(q.Context(), q.tail, turbofan.LoggedModelUpdate{AddParams: params})
	return err
}

func searchLoggedModels(h *Handler, q *request, w *answer) error {
	s := turbofan.LoggedModelQuery{SearchQuery: turbofan.SearchQuery{
		ExperimentIDs: q.texts("experiment_ids"), Limit: q.limit(50, 50_000), PageToken: q.text("page_token"),
	}}
	if len(s.ExperimentIDs) == 0 {
		q.missing("experiment_ids")
	}
	filter := q.text("filter")
	for i, o := range q.objects("datasets") {
		ref := turbofan.DatasetRef{Name: q.member("datasets", o, "dataset_name"), Digest: q.member("datasets", o, "dataset_digest")}
		if ref.Name == "" {
			q.missing(fmt.Sprintf("datasets[%d].dataset_name", i))
		}
		s.Datasets = append(s.Datasets, ref)
	}
	order, refs := q.loggedModelOrder()
	if q.err != nil {
		return q.err
	}
	g := loggedModelGrammar()
	var err error
	if s.Where, err = g.parseFilter(filter); err != nil {
		return err
	}
	if s.OrderBy, err = g.parseOrder(order); err != nil {
		return err
	}
	for i := range s.OrderBy {
		s.OrderBy[i].Dataset = refs[i]
	}
	found, next, err := h.server.SearchLoggedModels(q.Context(), s)
	if err != nil {
		return err
	}
	if len(found) > 0 {
		w.list("models", func() {
			for _, m := range found {
				w.loggedModel("", m)
			}
		})
	}
	w.known("next_page_token", next)
	return nil
}

// loggedModelOrder reads order_by, which is made of objects here.
func (q *request) loggedModelOrder() ([]string, []turbofan.DatasetRef) {
	const list = "order_by"
	var items []string
	var refs []turbofan.DatasetRef
	for i, o := range q.objects(list) {
		field := q.member(list, o, "field_name")
		if field == "" {
			q.missing(fmt.Sprintf("%s[%d].field_name", list, i))
		}
		if ascending, given := o["ascending"].(bool); given && !ascending {
			field += " DESC"
		}
		ref := turbofan.DatasetRef{Name: q.member(list, o, "dataset_name"), Digest: q.member(list, o, "dataset_digest")}
		if ref.Name == "" && ref.Digest != "" {
			q.fail(invalid("`dataset_digest` can only be specified if `dataset_name` is also specified."))
		}
		items, refs = append(items, field), append(refs, ref)
	}
	return items, refs
}

func listLoggedModelArtifacts(h *Handler, q *request, w *answer) error {
	folder := q.text("artifact_directory_path")
	if q.err != nil {
		return q.err
	}
	m, err := h.server.LoggedModel(q.Context(), q.tail)
	if err != nil {
		return err
	}
	return h.listBelow(q, w, m.ArtifactURI, folder)
}
