package model

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
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
		return turbofan.Errorf(turbofan.EInsufficient, "train model: %s with a known end; at least %d are needed, one a fold", turbofan.Count(len(d.Units), "unit"), max(minUnits, cfg.Folds))
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
	m := &Model{cfg: cfg, data: summarise(data), heldOut: unitErrors(data, oof.units, weights), spec: final.spec, learner: blend(final.kinds, weights), late: blend(final.late, []float64{1})}
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
	if err := m.reference.SetPredictions(oof.own.answers(cfg.Cap), oof.own.cycle, oof.own.unit); err != nil {
		return nil, err
	}
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
	limit int // of the rows held out that are measured, see judged

	mu       sync.Mutex
	progress Progress
	done     []float64 // share of each fit
}

func newTrainer(ctx context.Context, cfg Config, data Data, progress Progress) *trainer {
	folds := dataset.SplitByUnit(data.Units, cfg.Folds, cfg.RandomState)
	return &trainer{ctx: ctx, cfg: cfg, data: data, folds: folds, limit: judgedLimit(cfg), progress: progress, done: make([]float64, len(folds)+1)}
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
	out := t.newOutOfFold()
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
		parts[f].units = out.units // no unit stands in two folds
		g.Go(func() error { return t.fold(f, &parts[f], inner) })
	}
	if err := g.Wait(); err != nil {
		return nil, fitted{}, err
	}
	for i := range parts {
		out.own.join(&parts[i].own)
		out.late.join(&parts[i].late)
	}
	return out, final, nil
}

func (t *trainer) newOutOfFold() *outOfFold {
	life := make([]int, len(t.data.Units))
	for i := range life {
		life[i] = t.data.Units[i].FailedAtCycle
	}
	return &outOfFold{own: heldOut{life: life}, late: heldOut{life: life}, units: make([]residuals, len(life))}
}

// fit learns features and learners from units.
func (t *trainer) fit(fit int, units []turbofan.History, nJobs int) (fitted, error) {
	t.report(fit, 0)
	spec, err := feature.Fit(t.ctx, t.cfg.Feature, t.data.Schema, units)
	if err != nil {
		return fitted{}, err
	}
	out := fitted{spec: spec}
	rows, late, err := trainingRows(t.ctx, t.cfg, spec, units)
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
	rng := rand.New(rand.NewPCG(uint64(t.cfg.RandomState), uint64(3+f)))
	keep := t.judged(countReadings(units), rng)
	at := 0 // of the fold's readings
	err = m.spec.Blocks(t.ctx, units, feature.Take{}, blockRows, func(rows *feature.Rows) error {
		said, err := answered(m.answering(false), rows, nJobs)
		if err != nil {
			return err
		}
		for i, rul := range rows.RUL {
			var pred [maxKinds]float64
			for k := range said {
				pred[k] = said[k][i]
			}
			unit := held[rows.Unit[i]]
			out.units[unit].add(pred, len(said), min(rul, t.cfg.Cap))
			if keep == nil || len(keep) > 0 && keep[0] == at {
				out.own.add(rows, i, unit, f, said)
				keep = keep[min(1, len(keep)):]
			}
			at++
		}
		return t.ctx.Err()
	})
	if err != nil {
		return err
	}
	take, replayed := joinLate(t.cfg, m.spec, units)
	take.Keep = t.judged(replayed, rng)
	return m.spec.Blocks(t.ctx, units, take, blockRows, func(rows *feature.Rows) error {
		said, err := answered(m.answering(true), rows, nJobs)
		if err != nil {
			return err
		}
		for i := range rows.Len() {
			out.late.add(rows, i, held[rows.Unit[i]], f, said)
		}
		return t.ctx.Err()
	})
}

// blockRows is how many rows are answered at a time.
const blockRows = 16_384

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

// finite reports whether v can be written as JSON.
func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
