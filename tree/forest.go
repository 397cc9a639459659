package tree

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
)

// ForestParams are the parameters of a random forest or, with ExtraTrees, of
// extremely randomised trees, named as scikit-learn names them.
type ForestParams struct {
	NEstimators int
	// MaxDepth bounds a tree's depth; 0 = none (a hard limit of 512 stays).
	MaxDepth int
	// MinSamplesLeaf counts distinct rows, however often the bootstrap drew them.
	MinSamplesLeaf int
	// MaxFeatures is the share of columns searched for each split, in (0, 1].
	MaxFeatures float64
	MaxBins     int
	// Bootstrap draws MaxSamples of the rows, with replacement, for each tree.
	Bootstrap bool
	// ExtraTrees draws one threshold per column searched, uniformly over its
	// range in the node, instead of searching all (Geurts et al., 2006).
	ExtraTrees  bool
	MaxSamples  float64
	RandomState int64
	// NJobs is the number of workers, 0 = GOMAXPROCS. It never changes the result.
	NJobs int
}

// DefaultForestParams returns scikit-learn's defaults for a random forest.
func DefaultForestParams() ForestParams {
	return ForestParams{
		NEstimators: 100, MinSamplesLeaf: 1, MaxFeatures: 1, MaxBins: 255, Bootstrap: true, MaxSamples: 1,
	}
}

// Validate checks the parameters.
func (p *ForestParams) Validate() error {
	if err := checkAtLeast("n_estimators", p.NEstimators, 1); err != nil {
		return err
	}
	if err := checkCommon(p.MaxDepth, p.MinSamplesLeaf, p.MaxBins, p.NJobs); err != nil {
		return err
	}
	if err := checkShare("max_features", p.MaxFeatures); err != nil {
		return err
	}
	if err := checkShare("max_samples", p.MaxSamples); err != nil {
		return err
	}
	if !p.Bootstrap && p.MaxSamples != 1 {
		return fmt.Errorf("max_samples must be 1 without bootstrap, got %v", p.MaxSamples)
	}
	return nil
}

// FitForest fits a random forest (Breiman, 2001) on binned columns. y must be
// finite; sampleWeight nil means one. Rows of weight zero are left out. A matrix
// of constant columns gives the constant model. The result depends on the data,
// the parameters and RandomState alone.
func FitForest(x Matrix, y, sampleWeight []float64, p ForestParams, progress Progress) (*Ensemble, error) {
	return fitForest(nil, x, y, sampleWeight, p, progress)
}

// GrowForest is FitForest that keeps the trees of e and adds to them until there
// are p.NEstimators, scikit-learn's warm_start. With the data and the parameters
// of e's own fit it gives what one fit of p.NEstimators trees would; with other
// data OOBPrediction means nothing. e does not change.
func GrowForest(e *Ensemble, x Matrix, y, sampleWeight []float64, p ForestParams, progress Progress) (*Ensemble, error) {
	if e == nil {
		return nil, errors.New("there is no ensemble to grow")
	}
	if e.trees > 0 && e.scale != 1/float64(e.trees) {
		return nil, errors.New("the ensemble is no forest: it grows by GrowBoosting")
	}
	if err := e.checkGrowth("n_estimators", x, p.NEstimators); err != nil {
		return nil, err
	}
	return fitForest(e, x, y, sampleWeight, p, progress)
}

// fitForest fits trees beside those of from, which may be nil.
func fitForest(from *Ensemble, x Matrix, y, sampleWeight []float64, p ForestParams, progress Progress) (*Ensemble, error) {
	if err := checkMatrix("x", x); err != nil {
		return nil, err
	}
	if err := checkTarget("", x, y, sampleWeight); err != nil {
		return nil, err
	}
	if err := p.Validate(); err != nil {
		return nil, err
	}
	f := newForest(x, y, unitWeights(sampleWeight), p)
	if from != nil {
		f.kept = from.grownTrees()
	}
	if err := f.growAll(progress); err != nil {
		return nil, err
	}
	e := assemble(x.Cols, 0, 1/float64(p.NEstimators), f.trees)
	e.importances = make([]float64, x.Cols)
	if from != nil {
		split := 0.0 // trees with a split, over which the mean was taken
		for _, t := range f.kept {
			if len(t.nodes) > 1 {
				split++
			}
		}
		for c, v := range from.importances {
			e.importances[c] = v * split
		}
	}
	for _, t := range f.trees[len(f.kept):] {
		normalise(t.gain)
		for c, g := range t.gain {
			e.importances[c] += g
		}
	}
	normalise(e.importances)
	if p.Bootstrap {
		e.oob = f.outOfBag()
	}
	return e, nil
}

// forest holds what the trees share.
type forest struct {
	p      ForestParams
	vector bool
	x      Matrix
	bin    *binned
	y, w   []float64
	// rows are those of positive weight.
	rows []uint32
	// target is y about its mean in fixed point, 31 bits with sign.
	target []int32
	// unit is the value of one step of target.
	unit float64
	// wideGrad and wideWeight are each row's share of the two-word sums.
	wideGrad, wideWeight []int64
	wideUnit             float64
	oobScale             float64
	// kept are the trees that were there before.
	kept  []*grown
	trees []*grown
	oob   []*oobSums
}

type oobSums struct {
	sum   []int64
	count []int32
}

func newForest(x Matrix, y, w []float64, p ForestParams) *forest {
	f := &forest{vector: vectorUnit(), p: p, x: x, y: y, w: w, trees: make([]*grown, p.NEstimators)}
	pl := newPool(workers(p.NJobs))
	f.bin = newBinned(x, p.MaxBins, pl)
	pl.close()
	for i := range y {
		if w == nil || w[i] > 0 {
			f.rows = append(f.rows, uint32(i))
		}
	}
	f.quantise()
	return f
}

// quantise puts the targets, and the products with unequal weights, into fixed
// point. They serve to choose splits; leaf values come from y itself.
func (f *forest) quantise() {
	mean, largest, total := 0.0, 0.0, 0.0
	for _, i := range f.rows {
		wi := 1.0
		if f.w != nil {
			wi = f.w[i]
		}
		total += wi
		mean += (f.y[i] - mean) * wi / total
	}
	topWeight := 1.0
	for _, i := range f.rows {
		largest = max(largest, math.Abs(f.y[i]-mean))
		if f.w != nil {
			topWeight = max(topWeight, f.w[i])
		}
	}
	if largest == 0 {
		largest = 1
	}
	f.unit = largest / (1 << 30)
	f.oobScale = (1 << 30) / (largest + math.Abs(mean))
	f.target = make([]int32, len(f.y))
	for _, i := range f.rows {
		f.target[i] = int32(math.RoundToEven((f.y[i] - mean) / f.unit))
	}
	if f.w == nil {
		return
	}
	samples := len(f.rows)
	fd := wideFields(samples)
	gradStep := largest * topWeight / room(62, samples)
	weightStep := topWeight / room(63-fd.weightShift, samples)
	f.wideUnit = gradStep / math.Sqrt(weightStep)
	f.wideGrad, f.wideWeight = make([]int64, len(f.y)), make([]int64, len(f.y))
	for _, i := range f.rows {
		f.wideGrad[i] = int64(math.RoundToEven(f.w[i] * (f.y[i] - mean) / gradStep))
		f.wideWeight[i] = int64(math.RoundToEven(f.w[i] / weightStep))
	}
}

// growAll grows the trees on NJobs goroutines and reports each to progress from
// this one.
func (f *forest) growAll(progress Progress) error {
	jobs := min(workers(f.p.NJobs), f.p.NEstimators)
	done := make(chan struct{}, f.p.NEstimators)
	var next atomic.Int64
	var wg sync.WaitGroup
	f.oob = make([]*oobSums, jobs)
	for j := range jobs {
		wg.Go(func() {
			g := newGrower(f)
			for {
				t := int(next.Add(1)) - 1
				if t >= f.p.NEstimators {
					break
				}
				f.trees[t] = g.tree(t)
				done <- struct{}{}
			}
			f.oob[j] = g.oob
		})
	}
	defer wg.Wait()
	for i := range f.p.NEstimators {
		<-done
		if progress == nil {
			continue
		}
		if err := progress(i+1, f.p.NEstimators); err != nil {
			next.Store(int64(f.p.NEstimators))
			return err
		}
	}
	return nil
}

// outOfBag joins the workers' sums. They are integers, so the order in which
// workers took the trees leaves no trace.
func (f *forest) outOfBag() []float64 {
	out := make([]float64, f.x.Rows)
	for i := range out {
		sum, count := int64(0), int32(0)
		for _, o := range f.oob {
			sum += o.sum[i]
			count += o.count[i]
		}
		out[i] = math.NaN()
		if count > 0 {
			out[i] = float64(sum) / float64(count) / f.oobScale
		}
	}
	return out
}
