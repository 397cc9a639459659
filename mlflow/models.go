package mlflow

import (
	"slices"

	"turbofan"
)

func createModel(h *Handler, q *request, w *answer) error {
	m := turbofan.RegisteredModel{Name: q.need("name"), Description: q.text("description"), Tags: q.keyValueMap("tags")}
	if q.err != nil {
		return q.err
	}
	m, err := h.server.CreateModel(q.Context(), m)
	if err != nil {
		return err
	}
	w.model("registered_model", m)
	return nil
}

func getModel(h *Handler, q *request, w *answer) error {
	name := q.need("name")
	if q.err != nil {
		return q.err
	}
	m, err := h.server.Model(q.Context(), name)
	if err != nil {
		return err
	}
	w.model("registered_model", m)
	return nil
}

// updateModel changes the model that is asked about.
func (q *request) updateModel(h *Handler, u turbofan.ModelUpdate) (turbofan.RegisteredModel, error) {
	name := q.need("name")
	if q.err != nil {
		return turbofan.RegisteredModel{}, q.err
	}
	return h.server.UpdateModel(q.Context(), name, u)
}

func updateModel(h *Handler, q *request, w *answer) error {
	m, err := q.updateModel(h, turbofan.ModelUpdate{Description: q.pointer("description")})
	if err != nil {
		return err
	}
	w.model("registered_model", m)
	return nil
}

func renameModel(h *Handler, q *request, w *answer) error {
	name := q.need("new_name")
	m, err := q.updateModel(h, turbofan.ModelUpdate{Name: &name})
	if err != nil {
		return err
	}
	w.model("registered_model", m)
	return nil
}

func deleteModel(h *Handler, q *request, _ *answer) error {
	name := q.need("name")
	if q.err != nil {
		return q.err
	}
	return h.server.DeleteModel(q.Context(), name)
}

func searchModels(h *Handler, q *request, w *answer) error {
	s := q.search(modelGrammar(), 100, 1000)
	if q.err != nil {
		return q.err
	}
	found, next, err := h.server.SearchModels(q.Context(), s)
	if err != nil {
		return err
	}
	if len(found) > 0 {
		w.list("registered_models", func() {
			for _, m := range found {
				w.model("", m)
			}
		})
	}
	w.known("next_page_token", next)
	return nil
}

func latestVersions(h *Handler, q *request, w *answer) error {
	name, stages := q.need("name"), q.texts("stages")
	if q.err != nil {
		return q.err
	}
	for i, s := range stages {
		stage, ok := canonicalStage(s)
		if !ok {
			return invalid("Invalid Model Version stage: %s. Value must be one of None, Staging, Production, Archived.", s)
		}
		stages[i] = stage
	}
	m, err := h.server.Model(q.Context(), name)
	if err != nil {
		return err
	}
	latest := m.Latest
	if len(stages) > 0 {
		latest = slices.DeleteFunc(latest, func(v turbofan.ModelVersion) bool { return !slices.Contains(stages, v.Stage) })
	}
	if len(latest) > 0 {
		w.list("model_versions", func() {
			for _, v := range latest {
				w.version("", v)
			}
		})
	}
	return nil
}

func setModelTag(h *Handler, q *request, _ *answer) error {
	_, err := q.updateModel(h, turbofan.ModelUpdate{SetTags: map[string]string{q.need("key"): q.text("value")}})
	return err
}

func deleteModelTag(h *Handler, q *request, _ *answer) error {
	_, err := q.updateModel(h, turbofan.ModelUpdate{DeleteTags: []string{q.need("key")}})
	return err
}

func setAlias(h *Handler, q *request, _ *answer) error {
	_, err := q.updateModel(h, turbofan.ModelUpdate{SetAliases: map[string]string{q.need("alias"): q.versionNumber()}})
	return err
}

func deleteAlias(h *Handler, q *request, _ *answer) error {
	_, err := q.updateModel(h, turbofan.ModelUpdate{DeleteAliases: []string{q.need("alias")}})
	return err
}

func getByAlias(h *Handler, q *request, w *answer) error {
	name, alias := q.need("name"), q.need("alias")
	if q.err != nil {
		return q.err
	}
	m, err := h.server.Model(q.Context(), name)
	if err != nil {
		return err
	}
	version, ok := m.Aliases[alias]
	if !ok {
		return invalid("Registered model alias %s not found.", alias)
	}
	v, err := h.server.ModelVersion(q.Context(), name, version)
	if err != nil {
		return err
	}
	w.version("model_version", v)
	return nil
}
