package model

import (
	"math/rand/v2"

	"turbofan/feature"
	"turbofan/tree"
)

// join appends what another fold held out.
func (h *heldOut) join(o *heldOut) {
	if h.kinds == nil {
		h.kinds = make([][]float64, len(o.kinds))
	}
	for k := range o.kinds {
		h.kinds[k] = append(h.kinds[k], o.kinds[k]...)
	}
	h.unit, h.fold, h.cycle, h.rul = append(h.unit, o.unit...), append(h.fold, o.fold...), append(h.cycle, o.cycle...), append(h.rul, o.rul...)
}

// heldOut is what models said of units they were not trained on.
type heldOut struct {
	unit  []int
	fold  []int
	cycle []int
	rul   []float64
	pred  []float64
	kinds [][]float64 // [kind][row]
	life  []int       // per unit: its last cycle
}

// outOfFold is what the models of a cross-validation said. A large fleet leaves a sample of its rows, and the error of
// every unit over all of its readings.
type outOfFold struct {
	own, late heldOut
	units     []residuals
}

// maxKinds is how many kinds of learner are blended at most.
const maxKinds = 2

// residuals holds the sums of products of the learners' errors over a unit's readings, truth clipped at the cap: enough
// for the error of any blend of them.
type residuals struct {
	rows int
	sum  [maxKinds][maxKinds]float64
}

// add counts one reading, answered by each kind with pred.
func (r *residuals) add(pred [maxKinds]float64, kinds int, rul float64) {
	r.rows++
	for a := range kinds {
		for b := range kinds {
			r.sum[a][b] += (pred[a] - rul) * (pred[b] - rul)
		}
	}
}

// blended is the sum of squared errors of the blend.
func (r *residuals) blended(weights []float64) float64 {
	sse := 0.0
	for a, wa := range weights {
		for b, wb := range weights {
			sse += wa * wb * r.sum[a][b]
		}
	}
	return sse
}

// Rows held out beyond which a fleet's calibration and error are measured on a sample of them: judgedRows for each
// training row of Config.MaxRows, and leastJudged at least. They are not the limit of what is known there; the number of
// units is.
const (
	judgedRows  = 10
	leastJudged = 400_000
)

// judgedLimit is the most rows held out that are measured, 0 for no limit.
func judgedLimit(cfg Config) int {
	if cfg.MaxRows == 0 {
		return 0
	}
	return max(judgedRows*cfg.MaxRows, leastJudged)
}

// judged draws which of n rows of a fold are measured, nil for all of them.
func (t *trainer) judged(n int, rng *rand.Rand) []int {
	total := countReadings(t.data.Units)
	if t.limit == 0 || total <= t.limit {
		return nil
	}
	return sample(n, int(float64(t.limit)*float64(n)/float64(total)), rng)
}

func complement(of []int, n int) []int {
	in := make([]bool, n)
	for _, i := range of {
		in[i] = true
	}
	var out []int
	for i := range n {
		if !in[i] {
			out = append(out, i)
		}
	}
	return out
}

// answered is what each kind says of the rows of a block.
func answered(kinds []kind, rows *feature.Rows, nJobs int) ([][]float64, error) {
	out := make([][]float64, len(kinds))
	for i, k := range kinds {
		var err error
		if out[i], err = k.predict(rows, nJobs); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// add appends row i of a block, whose unit it names by the number that it has among all units.
func (h *heldOut) add(rows *feature.Rows, i, unit, fold int, said [][]float64) {
	if h.kinds == nil {
		h.kinds = make([][]float64, len(said))
	}
	for k := range said {
		h.kinds[k] = append(h.kinds[k], said[k][i])
	}
	h.unit, h.fold = append(h.unit, unit), append(h.fold, fold)
	h.cycle, h.rul = append(h.cycle, rows.Cycle[i]), append(h.rul, rows.RUL[i])
}

func (k kind) predict(rows *feature.Rows, nJobs int) ([]float64, error) {
	sum, one := make([]float64, rows.Len()), make([]float64, rows.Len())
	for _, m := range k.members {
		if err := m.PredictBatch(tree.Matrix{Data: rows.Data, Rows: rows.Len(), Cols: rows.Cols}, one, nJobs); err != nil {
			return nil, err
		}
		for i, v := range one {
			sum[i] += v / float64(len(k.members))
		}
	}
	return sum, nil
}

func (o *outOfFold) combine(weights []float64) {
	for _, h := range []*heldOut{&o.own, &o.late} {
		h.pred = make([]float64, len(h.rul))
		for k, w := range weights[:min(len(weights), len(h.kinds))] {
			if len(h.kinds) == 1 {
				w = 1 // one learner answers units that joined late
			}
			for i := range h.pred {
				h.pred[i] += w * h.kinds[k][i]
			}
		}
	}
}

// answers are the predictions as they would be sent: from 0 to limit.
func (h *heldOut) answers(limit float64) []float64 {
	out := make([]float64, len(h.pred))
	for i, v := range h.pred {
		out[i] = min(max(v, 0), limit)
	}
	return out
}

// cutFrom is the least age at which the protocol cuts a unit: C-MAPSS' shortest test units have 19 to 38 cycles.
const cutFrom = 30

// cutWeights gives each unit a weight of 1 in all, spread over the ages at which the test protocol would cut it: the
// error under them estimates that of a test set of units cut at random. They sum to 1 over all rows.
func (h *heldOut) cutWeights() []float64 {
	n := map[int]float64{}
	in := func(i int) bool {
		life := h.life[h.unit[i]]
		return h.cycle[i] >= min(cutFrom, life-2) && h.cycle[i] < life
	}
	for i := range h.unit {
		if in(i) {
			n[h.unit[i]]++
		}
	}
	w := make([]float64, len(h.unit))
	for i := range w {
		if in(i) {
			w[i] = 1 / n[h.unit[i]] / float64(len(n))
		}
	}
	return w
}

// UnitError is the error of a model on one unit that it was not trained on.
type UnitError struct {
	Unit string  `json:"unit"` // origin/unit id
	Rows int     `json:"rows"`
	SSE  float64 `json:"sse"` // sum of squared errors over its readings, truth clipped at the cap
}

// UnitKey names a unit in HeldOut.
func UnitKey(origin, unitID string) string {
	if origin == "" {
		origin = "train"
	}
	return origin + "/" + unitID
}

func unitErrors(d Data, units []residuals, weights []float64) []UnitError {
	out := make([]UnitError, len(d.Units))
	for i := range d.Units {
		origin := ""
		if d.Origin != nil {
			origin = d.Origin[i]
		}
		out[i] = UnitError{Unit: UnitKey(origin, d.Units[i].UnitID), Rows: units[i].rows, SSE: units[i].blended(weights)}
	}
	return out
}
