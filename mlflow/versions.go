package mlflow

import (
	"encoding/json"
	"strings"

	"turbofan"
)

// versionNumber returns the version that is asked about, which clients write as a text and some as a number.
func (q *request) versionNumber() string {
	if n, ok := q.fields["version"].(json.Number); ok {
		return string(n)
	}
	return q.need("version")
}

func canonicalStage(s string) (string, bool) {
	for _, stage := range []string{"None", "Staging", "Production", "Archived"} {
		if strings.EqualFold(s, stage) {
			return stage, true
		}
	}
	return "", false
}

func createVersion(h *Handler, q *request, w *answer) error {
	v := turbofan.ModelVersion{Name: q.need("name"), Source: q.need("source"), RunID: q.text("run_id"), RunLink: q.text("run_link"),
		Description: q.text("description"), Tags: q.keyValueMap("tags"), ModelID: q.text("model_id")}
	if q.err != nil {
		return q.err
	}
	v, err := h.server.CreateModelVersion(q.Context(), v)
	if err != nil {
		return err
	}
	w.version("model_version", v)
	return nil
}

func (q *request) getVersion(h *Handler) (turbofan.ModelVersion, error) {
	name, version := q.need("name"), q.versionNumber()
	if q.err != nil {
		return turbofan.ModelVersion{}, q.err
	}
	return h.server.ModelVersion(q.Context(), name, version)
}

func getVersion(h *Handler, q *request, w *answer) error {
	v, err := q.getVersion(h)
	if err != nil {
		return err
	}
	w.version("model_version", v)
	return nil
}

func (q *request) updateVersion(h *Handler, u turbofan.VersionUpdate) (turbofan.ModelVersion, error) {
	name, version := q.need("name"), q.versionNumber()
	if q.err != nil {
		return turbofan.ModelVersion{}, q.err
	}
	return h.server.UpdateModelVersion(q.Context(), name, version, u)
}

func updateVersion(h *Handler, q *request, w *answer) error {
	v, err := q.updateVersion(h, turbofan.VersionUpdate{Description: q.pointer("description")})
	if err != nil {
		return err
	}
	w.version("model_version", v)
	return nil
}

func transitionStage(h *Handler, q *request, w *answer) error {
	stage := q.need("stage")
	v, err := q.updateVersion(h, turbofan.VersionUpdate{Stage: &stage, ArchiveOthers: q.boolean("archive_existing_versions")})
	if err != nil {
		return err
	}
	w.version("model_version", v)
	return nil
}

func deleteVersion(h *Handler, q *request, _ *answer) error {
	name, version := q.need("name"), q.versionNumber()
	if q.err != nil {
		return q.err
	}
	return h.server.DeleteModelVersion(q.Context(), name, version)
}

func searchVersions(h *Handler, q *request, w *answer) error {
	s := q.search(versionGrammar(), 10_000, 200_000)
	if q.err != nil {
		return q.err
	}
	if len(s.OrderBy) == 0 {
		s.OrderBy = []turbofan.SearchOrder{{Entity: turbofan.EntityAttribute, Key: "last_updated_timestamp", Descending: true},
			{Entity: turbofan.EntityAttribute, Key: "name"}}
	}
	found, next, err := h.server.SearchModelVersions(q.Context(), s)
	if err != nil {
		return err
	}
	if len(found) > 0 {
		w.list("model_versions", func() {
			for _, v := range found {
				w.version("", v)
			}
		})
	}
	w.known("next_page_token", next)
	return nil
}

func downloadURI(h *Handler, q *request, w *answer) error {
	v, err := q.getVersion(h)
	if err != nil {
		return err
	}
	w.text("artifact_uri", v.Storage)
	return nil
}

func setVersionTag(h *Handler, q *request, _ *answer) error {
	_, err := q.updateVersion(h, turbofan.VersionUpdate{SetTags: map[string]string{q.need("key"): q.text("value")}})
	return err
}

func deleteVersionTag(h *Handler, q *request, _ *answer) error {
	_, err := q.updateVersion(h, turbofan.VersionUpdate{DeleteTags: []string{q.need("key")}})
	return err
}
