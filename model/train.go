package model

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"turbofan"
	"turbofan/dataset"
	"turbofan/feature"
	"turbofan/reference"
	"turbofan/tree"
)

// Data is what a model learns from. Every unit's end must be known.
type Data struct {
	Schema turbofan.Schema
	Units  []turbofan.History
	// Origin names the source of each unit, such as "FD001" or "production"; nil when there is one source only.
	// Origin and unit id together name a unit in HeldOut.
	Origin []string
	// Digest identifies the data.
	Digest string
	// CutOff is the moment up to which production data was taken; zero for a file.
	CutOff time.Time
}

// Progress tells how far a training is: share is from 0 to 1 over the whole training.
type Progress func(stage string, share float64)

// Limits on what can be trained at all.
const minUnits = 4

func (d Data) validate(cfg Config) error {
	if len(d.Units) < max(minUnits, cfg.Folds) {
		return turbofan.Errorf(turbofan.EInsufficient, "train model: %d units with a known end; at least %d are needed, one a fold", len(d.Units), max(minUnits, cfg.Folds))
	}
	if d.Origin != nil && len(d.Origin) != len(d.Units) {
		return turbofan.Invalid("data.origin", "has %d names for %d units", len(d.Origin), len(d.Units))
	}
	for i := range d.Units {
		h := &d.Units[i]
		if len(h.Readings) == 0 {
			return turbofan.Invalid("data.units", "unit %s has no readings", h.UnitID)
		}
		if last := h.Readings[len(h.Readings)-1].Cycle; h.FailedAtCycle < last {
			return turbofan.Invalid("data.units", "unit %s: its end at cycle %d is unknown or before its last reading at cycle %d", h.UnitID, h.FailedAtCycle, last)
		}
	}
	return nil
}

// Train fits a model: cross-validation by unit for the error and the calibration, then a fit on all units. It stops
// with ctx's error when ctx ends. The same data, configuration and seed give the same bytes whatever NJobs is.
func Train(ctx context.Context, cfg Config, data Data, progress Progress) (*Model, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := data.validate(cfg); err != nil {
		return nil, err
	}
	cfg.Feature.Cap = cfg.Cap
	t := newTrainer(ctx, cfg, data, progress)
	if err := t.checkRows(); err != nil {
		return nil, err
	}
	oof, final, err := t.run()
	if err != nil {
		return nil, err
	}
	weights := t.blendWeights(oof)
	oof.combine(weights)
	m := &Model{cfg: cfg, data: summarise(data), heldOut: unitErrors(cfg, data, &oof.own), spec: final.spec, learner: blend(final.kinds, weights), late: blend(final.late, []float64{1})}
	m.foldRMSE = oof.own.byFold(cfg.Folds, cfg.Cap)
	m.ready()
	if m.calibration, err = calibrate(cfg, &oof.own, &oof.late); err != nil {
		return nil, err
	}
	if m.metrics, err = crossMetrics(cfg, data.Origin, oof); err != nil {
		return nil, err
	}
	m.reference, err = reference.Build(cfg.Reference, data.Schema, final.spec.Normalizer, final.spec.Keep, data.Units)
	if err != nil {
		return nil, err
	}
	m.reference.RMSE, m.reference.Cap, m.reference.Coverage = float64(m.metrics.RMSEClipped), cfg.Cap, cfg.Coverage
	m.golden, err = makeGolden(m, data.Units)
	return m, err
}

// trainer runs the fits of one training: one a fold and one on all units. They share nothing, so each takes one
// processor: side by side they need no synchronisation, which inside a single fit collapses on a busy machine.
type trainer struct {
	ctx   context.Context
	cfg   Config
	data  Data
	folds [][]int

	mu       sync.Mutex
	progress Progress
	done     []float64 // share of each fit
}

func newTrainer(ctx context.Context, cfg Config, data Data, progress Progress) *trainer {
	folds := dataset.SplitByUnit(data.Units, cfg.Folds, cfg.RandomState)
	return &trainer{ctx: ctx, cfg: cfg, data: data, folds: folds, progress: progress, done: make([]float64, len(folds)+1)}
}

// checkRows tells before any fit what calibrating would find after all of them: intervals for a fold come from the others.
func (t *trainer) checkRows() error {
	total, largest := 0, 0
	for _, fold := range t.folds {
		n := 0
		for _, u := range fold {
			n += len(t.data.Units[u].Readings)
		}
		total, largest = total+n, max(largest, n)
	}
	if total-largest < 2*minBandRows {
		return turbofan.Errorf(turbofan.EInsufficient, "train model: %d readings of units with a known end, %d without the largest fold; at least %d are needed to calibrate intervals", total, total-largest, 2*minBandRows)
	}
	return nil
}

// report tells the progress of one fit.
func (t *trainer) report(fit int, share float64) {
	if t.progress == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done[fit] = share
	sum, ended := 0.0, 0
	for _, d := range t.done {
		sum += d
		if d >= 1 {
			ended++
		}
	}
	t.progress(fmt.Sprintf("fit %d of %d: one a fold of the cross-validation, one on all units", min(ended+1, len(t.done)), len(t.done)), sum/float64(len(t.done)))
}

// fitted is the features and learners of one fit.
type fitted struct {
	spec  *feature.Spec
	kinds []kind
	// late answers rows of units that joined late. In one model with the others their missing values would cost those
	// accuracy: on C-MAPSS half a cycle. Empty where LateShare is 0: kinds then answer all.
	late []kind
}

// answering returns the learners of rows with an own start, or of those without.
func (f *fitted) answering(late bool) []kind {
	if late && len(f.late) > 0 {
		return f.late
	}
	return f.kinds
}

// run does all fits, as many at a time as there are workers.
func (t *trainer) run() (*outOfFold, fitted, error) {
	life := make([]int, len(t.data.Units))
	for i := range life {
		life[i] = t.data.Units[i].FailedAtCycle
	}
	parts := make([]outOfFold, len(t.folds))
	var final fitted
	workers := t.cfg.NJobs
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	inner := max(1, workers/(len(t.folds)+1)) // processors beyond one a fit
	g, ctx := errgroup.WithContext(t.ctx)
	t.ctx = ctx // the first fit that fails stops the others
	g.SetLimit(workers)
	g.Go(func() (err error) {
		final, err = t.fit(len(t.folds), t.data.Units, inner)
		return err
	})
	for f := range t.folds {
		g.Go(func() error { return t.fold(f, &parts[f], inner) })
	}
	if err := g.Wait(); err != nil {
		return nil, fitted{}, err
	}
	out := &outOfFold{own: heldOut{life: life}, late: heldOut{life: life}}
	for i := range parts {
		out.own.join(&parts[i].own)
		out.late.join(&parts[i].late)
	}
	return out, final, nil
}

// fit learns features and learners from units.
func (t *trainer) fit(fit int, units []turbofan.History, nJobs int) (fitted, error) {
	t.report(fit, 0)
	spec, err := feature.Fit(t.cfg.Feature, t.data.Schema, units)
	if err != nil {
		return fitted{}, err
	}
	out := fitted{spec: spec}
	rows, late, err := trainingRows(t.cfg, spec, units)
	if err != nil {
		return out, err
	}
	names := []string{t.cfg.Kind}
	if t.cfg.Kind == Blend {
		names = []string{Boosting, ExtraTrees}
	}
	own := 1.0 // share of the work
	if late.Len() > 0 {
		own = 1 - t.cfg.LateShare
	}
	if out.kinds, err = t.fitKinds(rows, units, names, 1, nJobs, func(share float64) { t.report(fit, own*share) }); err != nil {
		return out, err
	}
	if late.Len() > 0 {
		leaf := float64(late.Len()) / float64(rows.Len())
		out.late, err = t.fitKinds(late, units, names[:1], leaf, nJobs, func(share float64) { t.report(fit, own+(1-own)*share) })
	}
	t.report(fit, 1)
	return out, err
}

// fold trains on all units but those of fold f and lets the result answer these.
func (t *trainer) fold(f int, out *outOfFold, nJobs int) error {
	held := t.folds[f]
	m, err := t.fit(f, t.pick(complement(held, len(t.data.Units))), nJobs)
	if err != nil {
		return err
	}
	units := t.pick(held)
	own, err := m.spec.Transform(units)
	if err != nil {
		return err
	}
	if err := out.own.add(m.answering(false), own, held, f, nJobs); err != nil {
		return err
	}
	late, err := lateRows(t.cfg, m.spec, units)
	if err != nil {
		return err
	}
	return out.late.add(m.answering(true), late, held, f, nJobs)
}

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

func (t *trainer) pick(units []int) []turbofan.History {
	out := make([]turbofan.History, len(units))
	for i, u := range units {
		out[i] = t.data.Units[u]
	}
	return out
}

// kind is the models of one learner kind, averaged.
type kind struct {
	name    string
	members []*tree.Ensemble
}

// fitKinds trains every kind of learner of names on rows, whose units index units. Leaves may be smaller by the factor
// leaf: fewer rows are to be told apart as finely.
func (t *trainer) fitKinds(rows *feature.Rows, units []turbofan.History, names []string, leaf float64, nJobs int, report func(share float64)) ([]kind, error) {
	x := tree.Matrix{Data: rows.Data, Rows: rows.Len(), Cols: rows.Cols}
	y := make([]float64, rows.Len())
	for i, r := range rows.RUL {
		y[i] = min(r, t.cfg.Cap)
	}
	weights := rowShares(rows, units)
	total := 0
	for _, n := range names {
		total += t.members(n)
	}
	var out []kind
	done := 0
	for _, n := range names {
		k := kind{name: n}
		for i := range t.members(n) {
			e, err := t.fitOne(n, int64(i), x, y, weights, leaf, nJobs, func(d, of int) error {
				report(min(0.99, (float64(done)+float64(d)/float64(of))/float64(total)))
				return t.ctx.Err()
			})
			if err != nil {
				return nil, fmt.Errorf("fit %s: %w", n, err)
			}
			k.members = append(k.members, e)
			done++
		}
		out = append(out, k)
	}
	return out, nil
}

func (t *trainer) members(kind string) int {
	if kind == Boosting {
		return t.cfg.Members
	}
	return 1
}

func (t *trainer) fitOne(name string, member int64, x tree.Matrix, y, weights []float64, leaf float64, nJobs int, progress tree.Progress) (*tree.Ensemble, error) {
	seed := t.cfg.RandomState + 7919*member
	if name == Boosting {
		p := t.cfg.Boosting
		p.RandomState, p.NJobs, p.MinSamplesLeaf = seed, nJobs, max(1, int(leaf*float64(p.MinSamplesLeaf)))
		return tree.FitBoosting(x, y, weights, p, nil, progress)
	}
	p := t.cfg.Forest
	if name == ExtraTrees {
		p = t.cfg.ExtraTrees
	}
	p.RandomState, p.NJobs, p.MinSamplesLeaf = seed, nJobs, max(1, int(leaf*float64(p.MinSamplesLeaf)))
	return tree.FitForest(x, y, weights, p, progress)
}

// trainingRows are the rows of units, and apart from them a share of rows as units that joined late would send.
func trainingRows(cfg Config, spec *feature.Spec, units []turbofan.History) (own, late *feature.Rows, err error) {
	if own, err = spec.Transform(units); err != nil {
		return nil, nil, err
	}
	if late, err = lateRows(cfg, spec, units); err != nil {
		return nil, nil, err
	}
	rng := rand.New(rand.NewPCG(uint64(cfg.RandomState), 2))
	if cfg.MaxRows > 0 {
		own = thin(own, cfg.MaxRows, rng)
	}
	want := int(cfg.LateShare * float64(own.Len()))
	if !slices.Contains(spec.Columns, feature.LateColumn) {
		want = 0 // rows that say nothing of a start are alike
	}
	return own, thin(late, want, rng), nil
}

// thin draws want rows of rows, evenly, or all of them.
func thin(rows *feature.Rows, want int, rng *rand.Rand) *feature.Rows {
	if want >= rows.Len() {
		return rows
	}
	out := &feature.Rows{Cols: rows.Cols}
	for _, i := range sample(rows.Len(), want, rng) {
		appendRow(out, rows, i)
	}
	return out
}

// earlyShare is the weight of a row that the test protocol would never ask for, relative to the mean of those it would.
const earlyShare = 0.1

// rowShares weighs training rows as the test protocol does: every unit the same, spread over the ages at which it would
// be cut. Rows outside of those count a little. The mean is 1.
func rowShares(rows *feature.Rows, units []turbofan.History) []float64 {
	w := make([]float64, rows.Len())
	sum, n := 0.0, 0.0
	for i := range w {
		life := units[rows.Unit[i]].FailedAtCycle
		if from := min(cutFrom, life-2); rows.Cycle[i] >= from && rows.Cycle[i] < life {
			w[i] = 1 / float64(life-from)
			sum, n = sum+w[i], n+1
		}
	}
	if n == 0 {
		return nil
	}
	mean, total := sum/n, 0.0
	for i := range w {
		w[i] = max(w[i], earlyShare*mean)
		total += w[i]
	}
	for i := range w {
		w[i] *= float64(len(w)) / total
	}
	return w
}

// lateRows replays each unit once from a random age on.
func lateRows(cfg Config, spec *feature.Spec, units []turbofan.History) (*feature.Rows, error) {
	rng := rand.New(rand.NewPCG(uint64(cfg.RandomState), 1))
	start := make([]int, len(units))
	for i := range units {
		if n := len(units[i].Readings); n > spec.Config.LateStart+2 && cfg.LateShare > 0 {
			start[i] = spec.Config.LateStart + 1 + rng.IntN(n-spec.Config.LateStart-1)
		}
	}
	return spec.TransformLate(units, start)
}

// sample returns want of n indices in ascending order, all of them when want reaches n.
func sample(n, want int, rng *rand.Rand) []int {
	out := make([]int, 0, min(n, want))
	for i := range n {
		if left := want - len(out); left > 0 && rng.IntN(n-i) < left {
			out = append(out, i)
		}
	}
	return out
}

func appendRow(to, from *feature.Rows, i int) {
	to.Data = append(to.Data, from.Row(i)...)
	to.Unit = append(to.Unit, from.Unit[i])
	to.Cycle = append(to.Cycle, from.Cycle[i])
	to.RUL = append(to.RUL, from.RUL[i])
	to.Late = append(to.Late, from.Late[i])
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

type outOfFold struct{ own, late heldOut }

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

func (h *heldOut) add(kinds []kind, rows *feature.Rows, units []int, fold, nJobs int) error {
	if rows.Len() == 0 {
		return nil
	}
	if h.kinds == nil {
		h.kinds = make([][]float64, len(kinds))
	}
	for i, k := range kinds {
		p, err := k.predict(rows, nJobs)
		if err != nil {
			return err
		}
		h.kinds[i] = append(h.kinds[i], p...)
	}
	for i := range rows.Len() {
		h.unit = append(h.unit, units[rows.Unit[i]])
		h.fold = append(h.fold, fold)
	}
	h.cycle = append(h.cycle, rows.Cycle...)
	h.rul = append(h.rul, rows.RUL...)
	return nil
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

// blendWeights returns the weights on the simplex that minimise the weighted squared error out of fold; for one kind it
// is 1, for two the closed form.
func (t *trainer) blendWeights(o *outOfFold) []float64 {
	if len(o.own.kinds) == 1 {
		return []float64{1}
	}
	a, b := o.own.kinds[0], o.own.kinds[1]
	num, den := 0.0, 0.0
	w := o.own.cutWeights()
	for i, r := range o.own.rul {
		d := a[i] - b[i]
		num += w[i] * d * (min(r, t.cfg.Cap) - b[i])
		den += w[i] * d * d
	}
	share := 1.0
	if den > 0 {
		share = min(max(num/den, 0), 1)
	}
	return []float64{share, 1 - share}
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

// summarise keeps what the artifact says of its training data.
func summarise(d Data) DataSummary {
	s := DataSummary{Units: len(d.Units), Digest: d.Digest, Origins: map[string]int{}, CutOff: d.CutOff}
	for i := range d.Units {
		s.Rows += len(d.Units[i].Readings)
		origin := "train"
		if d.Origin != nil {
			origin = d.Origin[i]
		}
		s.Origins[origin]++
	}
	return s
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

func unitErrors(cfg Config, d Data, h *heldOut) []UnitError {
	out := make([]UnitError, len(d.Units))
	for i := range d.Units {
		origin := ""
		if d.Origin != nil {
			origin = d.Origin[i]
		}
		out[i].Unit = UnitKey(origin, d.Units[i].UnitID)
	}
	for i, u := range h.unit {
		e := h.pred[i] - min(h.rul[i], cfg.Cap)
		out[u].Rows++
		out[u].SSE += e * e
	}
	return out
}

// finite reports whether v can be written as JSON.
func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
