package httpapi

import (
	"net/http"
	"reflect"
	"time"

	"turbofan"
)

func errorCodes() []string {
	return []string{
		turbofan.EInvalid, turbofan.EUnauthorized, turbofan.ENotFound, turbofan.EConflict, turbofan.ETooLarge,
		turbofan.EExhausted, turbofan.EUnavailable, turbofan.ETimeout, turbofan.EInsufficient, turbofan.EInternal,
	}
}

// descriptions are the sentences that the documents say of types and fields.
func descriptions() map[string]string {
	return map[string]string{
		"Prediction":                     "How long one unit will last, as seen at one reading.",
		"Prediction.rul_prediction":      "Remaining useful life, in cycles.",
		"Prediction.rul_lower":           "Lower bound of the interval, at the model's stated coverage.",
		"Prediction.rul_upper":           "Upper bound of the interval.",
		"Prediction.failure_probability": "Probability that the unit fails within failure_horizon cycles.",
		"Prediction.condition":           "The operating condition that the reading was normalised by; -1 while it is not known.",
		"Prediction.drivers":             "The strongest reasons, strongest first, where they were asked for.",
		"Driver.contribution":            "Cycles that the feature added to the model's average answer.",
		"UnitSummary.failed_at_cycle":    "Absent while the unit lives.",
		"Receipt.status":                 "Always stored: the outcome is on disk.",
		"Receipt.duplicate":              "The same outcome was stored before.",
		"Receipt.matched_predictions":    "How many logged predictions have a truth because of this outcome; of a withdrawal, how many had theirs from the end that it took back.",
		"Performance":                    "The measured error of one model version; truth is clipped at cap.",
		"DriftReport.because":            "The reason for the verdict, in words and numbers.",
		"ChannelDrift.psi":               "Population stability index.",
		"Job.progress":                   "From 0 to 1.",
		"RetrainResult.because":          "Why the gate promoted the challenger, or did not.",
		"GateComparison.difference_low":  "Lower bound of challenger minus champion.",
		"Serving.failures":               "Candidates that were refused since the process started.",
		"Outcome.failed_at_cycle":        "The last cycle of the unit's life: the truth for all its predictions.",
		"Outcome.actual_rul":             "The life, in cycles, that turned out to remain at cycle.",
		"Outcome.key":                    "Makes sending the outcome twice harmless.",
		"Outcome.event":                  "failure, maintenance or inspection; withdrawn takes the end at failed_at_cycle back.",
		"Outcome.prediction_id":          "Stands for unit_id and cycle.",
		"DriftReport.psi_mean":           "Over the channels, adjusted for age and condition; null as score is.",
		"DriftReport.retraining_job":     "The job that the report started, if it did.",
		"UnitStatus.recent":              "The newest predictions, oldest first.",
		"Serving.units":                  "Units with live state in memory.",
		"Job.doubted_units":              "New units whose sensors or stated ends cannot be trusted; at most a hundred.",
		"DoubtedUnit.used":               "The job learned from it all the same, because it was forced.",
		"Job.data_cut_off":               "Production data up to this moment was used.",
		"RetrainResult.train_units":      "Training units by origin.",
		"DriftReport.reference_rmse":     "The error that the version showed in validation.",
		"ChannelDrift.wasserstein":       "In standard deviations of the reference.",
		"ChannelDrift.mean_shift":        "In standard deviations of the reference.",
		"NewCondition.commissioned":      "Enough new units were seen to normalise by it.",
		"Prediction.warnings":            "What was unusual about the reading, in words.",
		"DriftReport.new_conditions":     "Operating conditions that the model never saw in training.",
		"DriftReport.quality":            "Faults of the data, kept apart from drift.",
		"GateComparison.difference_high": "Upper bound of challenger minus champion.",
		"ChannelDrift.threshold":         "The PSI above which the channel counts as drifted.",
		"RetrainResult.held_out":         "Champion and challenger on the same held-out units.",
		"UnitSummary.last_prediction":    "The newest prediction.",
		"Prediction.failure_horizon":     "In cycles.",
		"Performance.coverage":           "The share of truths inside the predicted interval.",
		"DriftReport.verdict":            "no_drift, drift or insufficient_data.",
		"Job.stage":                      "What the job does now.",
		"Job.error":                      "Why the job failed or was refused.",
		"Job.trigger":                    "drift, schedule, manual or bootstrap.",
		"DriftReport.score":              "The statistic that the verdict is drawn from; null where there was too little data to judge.",
		"DriftReport.threshold":          "The bound of score.",
		"Outcome.unit_id":                "The unit that the outcome speaks of.",
		"Outcome.received_at":            "When the outcome was received.",
		"Receipt.feedback_id":            "The outcome's id.",
		"Serving.digest":                 "The digest of the artifact that answers.",
		"Serving.since":                  "When it began to answer.",
		"Serving.swaps":                  "Models swapped in since the process started.",
		"QualityIssue.kind":              "stuck, missing, out_of_range, constant (it was in training), duplicate, late or schema.",
		"DriftReport.prediction":         "The predictions compared with those of the reference.",
		"DriftReport.rmse":               "The live error where outcomes are known.",
		"UnitSummary.last_seen":          "When the newest reading came.",
		"RetrainResult.promoted":         "The challenger became champion.",
		"RetrainResult.metrics":          "The challenger's metrics by name.",
		"Prediction.health":              "The prediction in one word.",
		"Prediction.prediction_id":       "Feedback may name it.",
		"ModelSummary.champion_since":    "When the version last became champion.",
		"ModelSummary.replaced":          "The champion before it: what a rollback goes back to.",
		"ModelSummary.rolled_back":       "Why the version was taken back.",
		"ModelSummary.canary_share":      "The share of units that it answers as canary.",
		"ModelList.serving":              "The version that the process that was asked answers with.",
		"ModelDetail.problem":            "Why the version could not serve; absent when it could.",
		"ModelChange.serving":            "The version that the process that was asked answers with now.",
	}
}

// listDoc describes an object with one list.
func listDoc[T any](name string, sample T) *bodyDoc {
	value := append([]byte(`{"`+name+`":[`), new(codec).append(nil, sample)...)
	return &bodyDoc{
		describe: func(s *schemas) node {
			items := s.of(reflect.TypeFor[T]())
			return node{
				{"type", "object"},
				{"properties", node{{name, node{{"type", "array"}, {"items", items}}}}},
				{"required", []string{name}},
			}
		},
		examples: []example{{name: "answer", value: raw(append(value, "]}"...))}},
	}
}

// anyOf describes a body that has one of several forms.
func anyOf(examples []example, docs ...*bodyDoc) *bodyDoc {
	return &bodyDoc{
		describe: func(s *schemas) node {
			var forms []node
			for _, d := range docs {
				forms = append(forms, d.describe(s))
			}
			return node{{"anyOf", forms}}
		},
		examples: examples,
	}
}

func limitParameter(or, low, high int) parameter {
	return parameter{name: "limit", kind: "integer", doc: "How many at most.", low: low, high: high, or: or}
}

func sampleTime() time.Time { return time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC) }

func samplePrediction() turbofan.Prediction {
	return turbofan.Prediction{
		ID: "p-6f1c", UnitID: "1", Cycle: 31, RUL: 112.4, Lower: 95.1, Upper: 125, FailureProbability: 0.004, FailureHorizon: 30,
		Health: turbofan.Healthy, ModelName: "rul", ModelVersion: "1", At: sampleTime(),
	}
}

func (f *feedback) operations() []*operation {
	receiptDoc := docOf(receipt{stored, turbofan.OutcomeReceipt{FeedbackID: "f-1", UnitID: "1", Predictions: 187}})
	outcomeSchema := func(s *schemas) node { return outcomeInput() }
	sample := turbofan.Outcome{UnitID: "1", FailedAtCycle: new(192), At: sampleTime()}
	return []*operation{{
		method: http.MethodPost, path: "/feedback", name: "feedback", summary: "Store what really happened to a unit.",
		doc: "Send one outcome, bare or as outcome, or a list as outcomes. Say when the unit failed (failed_at_cycle), or what life remained at a cycle " +
			"(actual_rul with cycle, or with prediction_id), or that it was serviced (event). A wrong end is taken back by event withdrawn with that failed_at_cycle, which needs the key of an operator where keys are on. The answer comes when the outcome is on disk; sending it again is harmless.",
		input: &bodyDoc{
			describe: func(s *schemas) node {
				return node{{"anyOf", []node{
					outcomeSchema(s),
					{{"type", "object"}, {"properties", node{{"outcome", outcomeSchema(s)}}}, {"required", []string{"outcome"}}, {"additionalProperties", false}},
					{{"type", "object"}, {"properties", node{{"outcomes", node{{"type", "array"}, {"minItems", 1}, {"items", outcomeSchema(s)}}}}}, {"required", []string{"outcomes"}}, {"additionalProperties", false}},
				}}}
			},
			bento: node{{"type", "object"}, {"title", "Input"}, {"properties", node{
				{"outcome", node{{"type", "object"}, {"title", "Outcome"}, {"additionalProperties", true}}},
				{"outcomes", node{{"type", "array"}, {"title", "Outcomes"}, {"items", node{{"type", "object"}, {"additionalProperties", true}}}}},
			}}},
			examples: []example{
				{name: "failure", value: `{"unit_id":1,"failed_at_cycle":192}`},
				{name: "remaining life", value: `{"unit_id":1,"cycle":31,"actual_rul":161}`},
				{name: "withdrawal", value: `{"unit_id":1,"failed_at_cycle":192,"event":"withdrawn"}`},
				{name: "several", value: `{"outcomes":[{"unit_id":1,"failed_at_cycle":192},{"unit_id":2,"failed_at_cycle":287}]}`},
			},
		},
		output: anyOf(receiptDoc.examples, receiptDoc, listDoc("receipts", receipt{})), errors: []int{404, 409}, handle: f.record,
	}, {
		method: http.MethodGet, path: "/feedback", summary: "List outcomes in order of arrival.",
		query: []parameter{
			{name: "unit_id", kind: "string", doc: "Only of this unit."}, limitParameter(100, 0, maxLast),
			{name: "since", kind: "string", format: "date-time", doc: "Received at this time or later (RFC 3339)."}, {name: "until", kind: "string", format: "date-time", doc: "Received before this time (RFC 3339)."},
		},
		output: listDoc("outcomes", sample), handle: f.outcomes,
	}, {
		method: http.MethodGet, path: "/performance", summary: "The measured error of each model version.",
		query:  []parameter{{name: "last", kind: "integer", doc: "Over the newest so many scored predictions; 0 means all.", high: maxLast, or: 0}},
		output: listDoc("performance", turbofan.Performance{ModelVersion: "1", Predictions: 1870, Units: 10, RMSE: 14.2, MAE: 10.1, Coverage: 0.91, Cap: 125}), handle: f.performance,
	}}
}

// outcomeInput describes an outcome as a caller writes it.
func outcomeInput() node {
	nullable := member{"nullable", true} // null is as good as absent
	return node{{"type", "object"}, {"title", "Outcome"}, {"properties", node{
		{"unit_id", unitIDSchema()},
		{"cycle", node{{"type", "integer"}, {"minimum", 1}, {"maximum", turbofan.MaxCycle}, nullable}},
		{"prediction_id", node{{"type", "string"}, nullable}},
		{"failed_at_cycle", node{{"type", "integer"}, {"minimum", 1}, nullable}},
		{"actual_rul", node{{"type", "number"}, {"minimum", 0}, nullable}},
		{"event", node{{"type", "string"}, {"enum", []raw{`"failure"`, `"maintenance"`, `"inspection"`, `"withdrawn"`, `""`, `null`}}, nullable}},
		{"note", node{{"type", "string"}, nullable}},
		{"key", node{{"type", "string"}, nullable}},
		{"received_at", node{{"type", "string"}, {"format", "date-time"}, nullable}},
	}}, {"additionalProperties", false}}
}

func unitIDSchema() node {
	return node{{"oneOf", []node{{{"type", "string"}, {"minLength", 1}, {"maxLength", turbofan.MaxUnitIDLen}, {"pattern", `^[^\u0000-\u001f\u007f\ufffd]+$`}}, {{"type", "integer"}}}}}
}

func (d *drift) operations() []*operation {
	report := turbofan.DriftReport{
		ID: "d-1", At: sampleTime(), ModelName: "rul", ModelVersion: "1", Verdict: turbofan.Drifted, Because: "psi(sensor_11) = 0.31 > 0.20 over 1500 rows",
		Rows: 1500, Units: 20, FromSeq: 1, ToSeq: 1500, Score: 0.31, Threshold: 0.2, PSIMean: 0.12, PSIMax: 0.31, Seconds: 0.04,
		Channels: []turbofan.ChannelDrift{{Channel: "sensor_11", PSI: 0.31, Threshold: 0.2, KS: 0.22, KSPValue: 0.001, Wasserstein: 0.6, MeanShift: 0.5, Drifted: true}},
	}
	return []*operation{{
		method: http.MethodPost, path: "/check", name: "check", summary: "Judge the newest readings now.", doc: "A check that finds drift may start a retraining.",
		input: &bodyDoc{optional: true, describe: func(*schemas) node {
			return node{{"type", "object"}, {"title", "Input"}, {"properties", node{}}, {"additionalProperties", false}}
		}, examples: []example{{name: "nothing to say", value: `{}`}}},
		output: docOf(report), errors: []int{409, 422}, handle: d.check,
	}, {
		method: http.MethodGet, path: "/reports", summary: "List drift reports, newest first.", query: []parameter{limitParameter(20, 1, maxLimit)},
		output: listDoc("reports", report), handle: d.reports,
	}}
}

func (h *retraining) operations() []*operation {
	job := turbofan.Job{ID: "j-1", Status: turbofan.JobPending, Reason: "a new fleet", Trigger: "manual", CreatedAt: sampleTime()}
	input := &bodyDoc{
		optional: true,
		describe: func(*schemas) node {
			return node{{"type", "object"}, {"title", "Input"}, {"properties", node{
				{"reason", node{{"type", "string"}, {"maxLength", 1000}, {"nullable", true}, {"default", ""}, {"title", "Reason"}}},
				{"force", node{{"type", "boolean"}, {"default", false}, {"title", "Force"}}},
				{"trigger", node{{"type", "string"}, {"enum", []raw{`"drift"`, `"schedule"`, `"manual"`, `"bootstrap"`, `null`}}, {"nullable", true}, {"default", "manual"}, {"title", "Trigger"}}},
			}}, {"additionalProperties", false}}
		},
		examples: []example{{name: "by hand", value: `{"reason":"a new fleet","force":false}`}},
	}
	created := docOf(taskCreated{"j-1", "in_progress"})
	task := []parameter{{name: "task_id", kind: "string", doc: "The id that submit answered.", required: true}}
	return []*operation{{
		method: http.MethodPost, path: "/retrain", name: "retrain", task: true, summary: "Train a challenger.", status: http.StatusAccepted,
		doc:   "The job runs on by itself; ask /jobs/{job_id} how it goes. force trains even where there is less data than configured, and from units whose stated ends are in doubt; the gate still judges.",
		input: input, output: docOf(job), errors: []int{409, 422}, handle: h.retrain,
	}, {
		method: http.MethodPost, path: "/retrain/submit", summary: "Train a challenger, as a BentoML task.", input: input, output: created, errors: []int{409, 422}, handle: h.submit,
	}, {
		method: http.MethodGet, path: "/retrain/status", summary: "Where a task stands.", query: task,
		output: docOf(taskStatus{"j-1", "completed", "2026-01-31T12:00:00", "2026-01-31T12:00:01"}), errors: []int{404}, handle: h.status,
	}, {
		method: http.MethodGet, path: "/retrain/get", summary: "What a task came to.", query: task, output: docOf(job), errors: []int{404, 409, 422}, handle: h.result,
	}, {
		method: http.MethodPost, path: "/retrain/retry", summary: "Start a task again that has ended.", query: task, output: created, errors: []int{404, 409, 422}, handle: h.retry,
	}, {
		method: http.MethodPut, path: "/retrain/cancel", summary: "Stop a task that waits or runs.", query: task, output: created, errors: []int{404, 409}, handle: h.cancelTask,
	}, {
		method: http.MethodGet, path: "/jobs", summary: "List jobs, newest first.", query: []parameter{limitParameter(20, 1, maxLimit)}, output: listDoc("jobs", job), handle: h.jobs,
	}, {
		method: http.MethodGet, path: "/jobs/{job_id}", summary: "One job.", output: docOf(job), errors: []int{404}, handle: h.job,
	}, {
		method: http.MethodPost, path: "/jobs/{job_id}/cancel", summary: "Stop a job that waits or runs.", output: docOf(job), errors: []int{404, 409}, handle: h.cancel,
	}}
}
