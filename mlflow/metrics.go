package mlflow

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"

	"turbofan"
)

const (
	maxHistory         = 25_000
	maxHistoryRuns     = 100
	maxIntervalResults = 2500
)

func millisTime(ms int64) time.Time { return time.UnixMilli(ms) }

func metricHistory(h *Handler, q *request, w *answer) error {
	query := turbofan.MetricQuery{RunID: q.runID(), Key: q.need("metric_key"), PageToken: q.text("page_token")}
	if q.has("max_results") {
		query.Limit = q.limit(0, math.MaxInt32)
	}
	if q.err != nil {
		return q.err
	}
	found, next, err := h.server.MetricHistory(q.Context(), query)
	if err != nil {
		return err
	}
	if len(found) > 0 {
		w.list("metrics", func() {
			for _, m := range found {
				w.object("", func() { w.metric(m) })
			}
		})
	}
	w.known("next_page_token", next)
	return nil
}

func (w *answer) runMetrics(metrics []turbofan.Metric) {
	w.list("metrics", func() {
		for _, m := range metrics {
			w.object("", func() {
				w.metric(m)
				w.text("run_id", m.RunID)
			})
		}
	})
}

func metricHistoryBulk(h *Handler, q *request, w *answer) error {
	ids, key := q.texts("run_id"), q.text("metric_key")
	limit := int(min(q.integer("max_results", maxHistory), maxHistory))
	switch {
	case q.err != nil:
		return q.err
	case len(ids) == 0:
		return invalid("GetMetricHistoryBulk request must specify at least one run_id.")
	case len(ids) > maxHistoryRuns:
		return invalid("GetMetricHistoryBulk request cannot specify more than %d run_ids. Received %d run_ids.", maxHistoryRuns, len(ids))
	case key == "":
		return invalid("GetMetricHistoryBulk request must specify a metric_key.")
	case limit < 1:
		return invalid("Invalid value %d for parameter 'max_results' supplied. It must be a positive integer", limit)
	}
	slices.Sort(ids)
	var all []turbofan.Metric
	for _, id := range ids {
		found, _, err := h.server.MetricHistory(q.Context(), turbofan.MetricQuery{RunID: id, Key: key, Limit: limit})
		if err != nil && turbofan.ErrorCode(err) != turbofan.ENotFound {
			return err
		}
		if all = append(all, found...); len(all) >= limit {
			all = all[:limit]
			break
		}
	}
	w.runMetrics(all)
	return nil
}

func metricHistoryInterval(h *Handler, q *request, w *answer) error {
	ids, key := q.texts("run_ids"), q.text("metric_key")
	switch {
	case q.err != nil:
	case len(ids) == 0:
		q.missing("run_ids")
	case len(ids) > maxHistoryRuns:
		return invalid("GetMetricHistoryBulkInterval request must specify at most %d run_ids. Received %d run_ids.", maxHistoryRuns, len(ids))
	case key == "":
		q.missing("metric_key")
	}
	limit := q.integer("max_results", maxIntervalResults)
	if q.err == nil && (limit < 1 || limit > maxIntervalResults) {
		return invalid("max_results must be between 1 and %d.", maxIntervalResults)
	}
	first, last := q.integer("start_step", math.MinInt64), q.integer("end_step", math.MaxInt64)
	if q.err != nil {
		return q.err
	}
	if q.has("start_step") != q.has("end_step") {
		return invalid("If either start step or end step are specified, both must be specified.")
	}
	if first > last {
		return invalid("end_step must be greater than start_step. Found start_step=%d and end_step=%d.", first, last)
	}
	found, err := h.sampledHistory(q.Context(), ids, key, int(limit), first, last)
	if err != nil {
		return err
	}
	w.runMetrics(found)
	return nil
}

// sampledHistory returns the values of about limit steps, evenly spread over the steps that any of the runs has, and
// of every run's first and last step.
func (h *Handler) sampledHistory(ctx context.Context, ids []string, key string, limit int, first, last int64) ([]turbofan.Metric, error) {
	histories := make([][]turbofan.Metric, len(ids))
	keep := map[int64]bool{}
	seen := map[int64]bool{}
	for i, id := range ids {
		found, _, err := h.server.MetricHistory(ctx, turbofan.MetricQuery{RunID: id, Key: key})
		if err != nil {
			return nil, err
		}
		found = slices.DeleteFunc(found, func(m turbofan.Metric) bool { return m.Step < first || m.Step > last })
		slices.SortStableFunc(found, func(a, b turbofan.Metric) int {
			return cmp.Or(cmp.Compare(a.Step, b.Step), a.At.Compare(b.At), cmp.Compare(a.Value, b.Value))
		})
		histories[i] = found
		for _, m := range found {
			seen[m.Step] = true
		}
		if len(found) > 0 {
			keep[found[0].Step] = true
			keep[found[len(found)-1].Step] = true
		}
	}
	steps := make([]int64, 0, len(seen))
	for s := range seen {
		steps = append(steps, s)
	}
	slices.Sort(steps)
	for _, s := range sampleSteps(steps, limit) {
		keep[s] = true
	}
	var out []turbofan.Metric
	for _, found := range histories {
		n := 0
		for _, m := range found {
			if keep[m.Step] && n < maxIntervalResults {
				out = append(out, m)
				n++
			}
		}
	}
	return out, nil
}

// sampleSteps picks limit of the sorted steps, evenly spread, and the last one.
func sampleSteps(steps []int64, limit int) []int64 {
	if len(steps) <= limit {
		return steps
	}
	out := make([]int64, 0, limit+1)
	interval := float64(len(steps)) / float64(limit)
	for i := range limit {
		out = append(out, steps[int(float64(i)*interval)])
	}
	return append(out, steps[len(steps)-1])
}
