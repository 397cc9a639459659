package mlflow

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"time"

	"turbofan"
)

// answer builds a JSON object. MLflow writes integers as numbers, NaN and the infinities as texts, and leaves out what
// is not set; and pages of a thousand runs are common, so nothing here reflects.
type answer struct{ b []byte }

// expect makes room for all of n things once the first of them tell how long one is: a long list that grows by doubling
// takes three times its length.
func (w *answer) expect(done, n int) {
	const first = 16
	if done == first && n > 4*first {
		w.b = slices.Grow(w.b, len(w.b)/first*(n-first)*9/8)
	}
}

func (w *answer) comma() {
	if n := len(w.b); n > 0 && w.b[n-1] != '{' && w.b[n-1] != '[' && w.b[n-1] != ':' {
		w.b = append(w.b, ',')
	}
}

func (w *answer) key(k string) {
	w.comma()
	w.b = append(w.b, '"')
	w.b = append(w.b, k...)
	w.b = append(w.b, '"', ':')
}

// object writes {…} as the value of k, or as an item of a list for an empty k.
func (w *answer) object(k string, fill func()) { w.nest(k, '{', '}', fill) }

func (w *answer) list(k string, fill func()) { w.nest(k, '[', ']', fill) }

func (w *answer) nest(k string, open, end byte, fill func()) {
	if k == "" {
		w.comma()
	} else {
		w.key(k)
	}
	w.b = append(w.b, open)
	fill()
	w.b = append(w.b, end)
}

func (w *answer) text(k, v string) {
	w.key(k)
	w.b = appendText(w.b, v)
}

// known writes a text unless it is empty.
func (w *answer) known(k, v string) {
	if v != "" {
		w.text(k, v)
	}
}

func (w *answer) item(v string) {
	w.comma()
	w.b = appendText(w.b, v)
}

func (w *answer) integer(k string, v int64) {
	w.key(k)
	w.b = strconv.AppendInt(w.b, v, 10)
}

func (w *answer) millis(k string, t time.Time) { w.integer(k, t.UnixMilli()) }

func (w *answer) boolean(k string, v bool) {
	w.key(k)
	w.b = strconv.AppendBool(w.b, v)
}

func (w *answer) number(k string, v float64) {
	w.key(k)
	switch {
	case math.IsNaN(v):
		w.b = append(w.b, `"NaN"`...)
	case math.IsInf(v, 1):
		w.b = append(w.b, `"Infinity"`...)
	case math.IsInf(v, -1):
		w.b = append(w.b, `"-Infinity"`...)
	default:
		start := len(w.b)
		w.b = strconv.AppendFloat(w.b, v, 'g', -1, 64)
		if !looksFloat(w.b[start:]) {
			w.b = append(w.b, '.', '0') // Python tells 1.0 from 1
		}
	}
}

func looksFloat(b []byte) bool {
	for _, c := range b {
		if c == '.' || c == 'e' {
			return true
		}
	}
	return false
}

// appendText appends a JSON string. Most are plain; the standard library knows the rest.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= 0x7f {
			quoted, err := json.Marshal(s)
			if err != nil {
				return append(b, `""`...) // a string always has a JSON form
			}
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

func (w *answer) keyValues(k string, kvs []turbofan.KeyValue) {
	if len(kvs) == 0 {
		return
	}
	w.list(k, func() {
		for _, kv := range kvs {
			w.object("", func() {
				w.text("key", kv.Key)
				w.text("value", kv.Value)
			})
		}
	})
}

func (w *answer) metric(m turbofan.Metric) {
	w.text("key", m.Key)
	w.number("value", m.Value)
	w.millis("timestamp", m.At)
	w.integer("step", m.Step)
}

func (w *answer) experiment(e turbofan.Experiment) {
	w.object("experiment", func() { w.experimentFields(e) })
}

func (w *answer) experimentFields(e turbofan.Experiment) {
	w.text("experiment_id", e.ID)
	w.text("name", e.Name)
	w.text("artifact_location", e.ArtifactLocation)
	w.text("lifecycle_stage", string(e.Stage))
	w.millis("last_update_time", e.UpdatedAt)
	w.millis("creation_time", e.CreatedAt)
	w.keyValues("tags", e.Tags)
}

func (w *answer) runInfo(k string, r turbofan.RunInfo) {
	w.object(k, func() {
		w.text("run_uuid", r.ID)
		w.text("experiment_id", r.ExperimentID)
		w.text("run_name", r.Name)
		w.text("user_id", r.UserID)
		w.text("status", string(r.Status))
		w.millis("start_time", r.StartedAt)
		if !r.EndedAt.IsZero() {
			w.millis("end_time", r.EndedAt)
		}
		w.text("artifact_uri", r.ArtifactURI)
		w.text("lifecycle_stage", string(r.Stage))
		w.text("run_id", r.ID)
	})
}

func (w *answer) run(k string, r turbofan.Run) {
	w.object(k, func() {
		w.runInfo("info", r.RunInfo)
		w.object("data", func() {
			if len(r.Metrics) > 0 {
				w.list("metrics", func() {
					for _, m := range r.Metrics {
						w.object("", func() { w.metric(m) })
					}
				})
			}
			w.keyValues("params", r.Params)
			w.keyValues("tags", r.Tags)
		})
		w.object("inputs", func() {
			if len(r.Datasets) > 0 {
				w.list("dataset_inputs", func() {
					for _, d := range r.Datasets {
						w.datasetInput(d)
					}
				})
			}
			if len(r.Inputs) > 0 {
				w.list("model_inputs", func() {
					for _, m := range r.Inputs {
						w.object("", func() { w.text("model_id", m.ModelID) })
					}
				})
			}
		})
		if len(r.Outputs) > 0 {
			w.object("outputs", func() {
				w.list("model_outputs", func() {
					for _, m := range r.Outputs {
						w.object("", func() {
							w.text("model_id", m.ModelID)
							w.integer("step", m.Step)
						})
					}
				})
			})
		}
	})
}

func (w *answer) datasetInput(d turbofan.DatasetInput) {
	w.object("", func() {
		w.keyValues("tags", d.Tags)
		w.object("dataset", func() {
			w.text("name", d.Name)
			w.text("digest", d.Digest)
			w.text("source_type", d.SourceType)
			w.text("source", d.Source)
			w.known("schema", d.Schema)
			w.known("profile", d.Profile)
		})
	})
}

func (w *answer) model(k string, m turbofan.RegisteredModel) {
	w.object(k, func() {
		w.text("name", m.Name)
		w.millis("creation_timestamp", m.CreatedAt)
		w.millis("last_updated_timestamp", m.UpdatedAt)
		w.known("description", m.Description)
		if len(m.Latest) > 0 {
			w.list("latest_versions", func() {
				for _, v := range m.Latest {
					v.Aliases = nil
					w.version("", v)
				}
			})
		}
		w.keyValues("tags", sortedKeyValues(m.Tags))
		if len(m.Aliases) > 0 {
			w.list("aliases", func() {
				for _, kv := range sortedKeyValues(m.Aliases) {
					w.object("", func() {
						w.text("alias", kv.Key)
						w.text("version", kv.Value)
					})
				}
			})
		}
	})
}

func (w *answer) version(k string, v turbofan.ModelVersion) {
	w.object(k, func() {
		w.text("name", v.Name)
		w.text("version", v.Version)
		w.millis("creation_timestamp", v.CreatedAt)
		w.millis("last_updated_timestamp", v.UpdatedAt)
		w.known("user_id", v.UserID)
		w.text("current_stage", v.Stage)
		w.text("description", v.Description)
		w.text("source", v.Source)
		w.text("run_id", v.RunID)
		w.text("status", "READY")
		w.text("run_link", v.RunLink)
		w.keyValues("tags", sortedKeyValues(v.Tags))
		if len(v.Aliases) > 0 {
			w.list("aliases", func() {
				for _, a := range v.Aliases {
					w.item(a)
				}
			})
		}
		w.known("model_id", v.ModelID)
	})
}

func (w *answer) loggedModel(k string, m turbofan.LoggedModel) {
	w.object(k, func() {
		w.object("info", func() {
			w.text("model_id", m.ID)
			w.text("experiment_id", m.ExperimentID)
			w.text("name", m.Name)
			w.millis("creation_timestamp_ms", m.CreatedAt)
			w.millis("last_updated_timestamp_ms", m.UpdatedAt)
			w.text("artifact_uri", m.ArtifactURI)
			w.text("status", m.Status)
			w.text("model_type", m.ModelType)
			w.text("source_run_id", m.SourceRunID)
			w.known("status_message", m.StatusMessage)
			w.keyValues("tags", m.Tags)
		})
		w.object("data", func() {
			w.keyValues("params", m.Params)
			if len(m.Metrics) == 0 {
				return
			}
			w.list("metrics", func() {
				for _, x := range m.Metrics {
					w.object("", func() {
						w.metric(x)
						w.known("dataset_name", x.DatasetName)
						w.known("dataset_digest", x.DatasetDigest)
						w.text("model_id", m.ID)
						w.text("run_id", x.RunID)
					})
				}
			})
		})
	})
}

func (w *answer) artifacts(root string, prefix string, files []turbofan.Artifact) {
	w.known("root_uri", root)
	if len(files) == 0 {
		return
	}
	w.list("files", func() {
		for _, f := range files {
			w.object("", func() {
				w.text("path", joinPath(prefix, f.Path))
				w.boolean("is_dir", f.IsDir)
				if !f.IsDir {
					w.integer("file_size", f.Size)
				}
			})
		}
	})
}

func appendInt(b []byte, v int64) []byte { return strconv.AppendInt(b, v, 10) }
