package tree

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// BoostingParams are the parameters of histogram gradient boosting, named as
// scikit-learn's HistGradientBoostingRegressor names them.
type BoostingParams struct {
	// Loss is what the fit minimises; Quantile is the level of QuantileLoss.
	Loss     Loss
	Quantile float64
	// MaxIter is the number of trees, each shrunk by LearningRate.
	MaxIter      int
	LearningRate float64
	// MaxLeafNodes bounds a tree's leaves, grown best first; 0 = no bound.
	MaxLeafNodes int
	// MaxDepth bounds a tree's depth; 0 = none (a hard limit of 512 stays).
	MaxDepth         int
	MinSamplesLeaf   int
	L2Regularization float64
	MaxBins          int
	// Subsample is the share of rows drawn, without replacement, for each tree.
	Subsample float64
	// MaxFeatures is the share of columns drawn for each split.
	MaxFeatures float64
	// MonotonicCst has 1 (never falls), -1 (never rises) or 0 per column; nil =
	// no constraint.
	MonotonicCst []int8
	RandomState  int64
	// NJobs is the number of workers, 0 = GOMAXPROCS. It never changes the result.
	NJobs int
	// EarlyStopping ends the fit when the loss on the validation set has not
	// improved by more than Tol for NIterNoChange trees, and drops the trees
	// after the best.
	EarlyStopping bool
	NIterNoChange int
	Tol           float64
}

// DefaultBoostingParams returns scikit-learn's defaults, with early stopping off.
func DefaultBoostingParams() BoostingParams {
	return BoostingParams{
		Loss: SquaredError, Quantile: 0.5, MaxIter: 100, LearningRate: 0.1, MaxLeafNodes: 31,
		MinSamplesLeaf: 20, MaxBins: 255, Subsample: 1, MaxFeatures: 1, NIterNoChange: 10, Tol: 1e-7,
	}
}

// Validate checks the parameters for a matrix of cols columns.
func (p *BoostingParams) Validate(cols int) error {
	switch p.Loss {
	case SquaredError, NASALoss:
	case QuantileLoss:
		if !(p.Quantile > 0 && p.Quantile < 1) {
			return fmt.Errorf("quantile must be in (0, 1), got %v", p.Quantile)
		}
	default:
		return fmt.Errorf("loss must be squared_error, quantile or nasa, got %q", string(p.Loss))
	}
	if err := checkAtLeast("max_iter", p.MaxIter, 1); err != nil {
		return err
	}
	if !(p.LearningRate > 0) || math.IsInf(p.LearningRate, 0) {
		return fmt.Errorf("learning_rate must be positive and finite, got %v", p.LearningRate)
	}
	if p.MaxLeafNodes < 0 || p.MaxLeafNodes == 1 {
		return fmt.Errorf("max_leaf_nodes must be 0 or at least 2, got %d", p.MaxLeafNodes)
	}
	if err := checkCommon(p.MaxDepth, p.MinSamplesLeaf, p.MaxBins, p.NJobs); err != nil {
		return err
	}
	if !(p.L2Regularization >= 0) || math.IsInf(p.L2Regularization, 0) {
		return fmt.Errorf("l2_regularization must be finite and not negative, got %v", p.L2Regularization)
	}
	if err := checkShare("subsample", p.Subsample); err != nil {
		return err
	}
	if err := checkShare("max_features", p.MaxFeatures); err != nil {
		return err
	}
	if err := p.checkMonotonic(cols); err != nil {
		return err
	}
	if !p.EarlyStopping {
		return nil
	}
	if err := checkAtLeast("n_iter_no_change", p.NIterNoChange, 1); err != nil {
		return err
	}
	if !(p.Tol >= 0) {
		return fmt.Errorf("tol must not be negative, got %v", p.Tol)
	}
	return nil
}

func (p *BoostingParams) checkMonotonic(cols int) error {
	if p.MonotonicCst == nil {
		return nil
	}
	if len(p.MonotonicCst) != cols {
		return fmt.Errorf("monotonic_cst must have one entry per column: got %d entries for %d columns", len(p.MonotonicCst), cols)
	}
	for f, c := range p.MonotonicCst {
		if c < -1 || c > 1 {
			return fmt.Errorf("monotonic_cst must be -1, 0 or 1: column %d is %d", f, c)
		}
	}
	return nil
}

func (p *BoostingParams) monotone() bool {
	for _, c := range p.MonotonicCst {
		if c != 0 {
			return true
		}
	}
	return false
}

// Validation is a set held back for early stopping. The caller splits it off,
// by unit: rows of one unit on both sides would never stop the fit. W nil means
// weight one.
type Validation struct {
	X    Matrix
	Y, W []float64
}

// FitBoosting fits gradient boosting (Friedman, 2001) with histograms. y must
// be finite; sampleWeight nil means one. Rows of weight zero are left out. A
// matrix of constant columns gives the constant model. valid may be nil unless
// early stopping is asked for. The result depends on the data, the parameters
// and RandomState alone.
func FitBoosting(x Matrix, y, sampleWeight []float64, p BoostingParams, valid *Validation, progress Progress) (*Ensemble, error) {
	return fitBoosting(nil, x, y, sampleWeight, p, valid, progress)
}

// GrowBoosting is FitBoosting that keeps the trees of e and adds to them until
// there are p.MaxIter, scikit-learn's warm_start. With the data and the
// parameters of e's own fit it gives what one fit of p.MaxIter trees would;
// with newer data, the new trees correct what e says of it. e does not change.
func GrowBoosting(e *Ensemble, x Matrix, y, sampleWeight []float64, p BoostingParams, valid *Validation, progress Progress) (*Ensemble, error) {
	if e == nil {
		return nil, errors.New("there is no ensemble to grow")
	}
	if e.scale != 1 {
		return nil, errors.New("the ensemble is a forest: it grows by GrowForest")
	}
	if err := e.checkGrowth("max_iter", x, p.MaxIter); err != nil {
		return nil, err
	}
	return fitBoosting(e, x, y, sampleWeight, p, valid, progress)
}

// fitBoosting fits trees on top of those of from, which may be nil.
func fitBoosting(from *Ensemble, x Matrix, y, sampleWeight []float64, p BoostingParams, valid *Validation, progress Progress) (*Ensemble, error) {
	if err := checkMatrix("x", x); err != nil {
		return nil, err
	}
	if err := checkTarget("", x, y, sampleWeight); err != nil {
		return nil, err
	}
	if err := p.Validate(x.Cols); err != nil {
		return nil, err
	}
	if err := checkValidation(x, p, valid); err != nil {
		return nil, err
	}
	pool := newPool(workers(p.NJobs))
	defer pool.close()
	b := newBooster(x, y, unitWeights(sampleWeight), p, pool)
	return b.fit(from, x, valid, progress)
}

func checkValidation(x Matrix, p BoostingParams, valid *Validation) error {
	if valid == nil {
		if p.EarlyStopping {
			return errors.New("early_stopping needs a validation set, got none")
		}
		return nil
	}
	if err := checkMatrix("validation x", valid.X); err != nil {
		return err
	}
	if valid.X.Cols != x.Cols {
		return fmt.Errorf("validation x must have %d columns as x has, got %d", x.Cols, valid.X.Cols)
	}
	return checkTarget("validation ", valid.X, valid.Y, valid.W)
}

// stopper watches the loss on the validation set.
type stopper struct {
	p     *BoostingParams
	valid *Validation
	pred  []float64
	best  float64
	// kept is the number of trees at the best loss.
	kept int
}

func newStopper(p *BoostingParams, valid *Validation, base float64) *stopper {
	s := &stopper{p: p, valid: valid, pred: make([]float64, valid.X.Rows)}
	for i := range s.pred {
		s.pred[i] = base
	}
	s.best = p.meanLoss(s.pred, valid.Y, valid.W)
	return s
}

// add takes in tree number n and tells whether to stop.
func (s *stopper) add(t *grown, n int) bool {
	for i := range s.pred {
		s.pred[i] += float64(t.leaf(s.valid.X.Row(i)))
	}
	if loss := s.p.meanLoss(s.pred, s.valid.Y, s.valid.W); loss < s.best-s.p.Tol {
		s.best, s.kept = loss, n
	}
	return n-s.kept >= s.p.NIterNoChange
}

func (t *grown) leaf(row []float32) float32 {
	n := &t.nodes[0]
	i := uint32(0)
	for n.off != 0 {
		i += n.step(row)
		n = &t.nodes[i]
	}
	return n.value
}

func (b *booster) fit(from *Ensemble, x Matrix, valid *Validation, progress Progress) (*Ensemble, error) {
	trees := b.resume(from, x)
	var stop *stopper
	if b.p.EarlyStopping {
		stop = newStopper(&b.p, valid, b.base)
		for i, t := range trees {
			stop.add(t, i+1)
		}
	}
	for i := len(trees); i < b.p.MaxIter; i++ {
		t := b.iterate(i)
		trees = append(trees, t)
		if progress != nil {
			if err := progress(i+1, b.p.MaxIter); err != nil {
				return nil, err
			}
		}
		if stop != nil && stop.add(t, i+1) {
			break
		}
	}
	if stop != nil {
		trees = trees[:stop.kept]
	}
	e := assemble(b.cols, b.base, 1, trees)
	e.importances = make([]float64, b.cols)
	for _, t := range trees {
		for f, g := range t.gain {
			e.importances[f] += g
		}
	}
	for _, g := range e.importances {
		e.gained += g
	}
	normalise(e.importances)
	return e, nil
}

// resume takes over the trees of from and what they say of every row, as if they
// had just been grown.
func (b *booster) resume(from *Ensemble, x Matrix) []*grown {
	if from == nil {
		return nil
	}
	b.base = from.base
	trees := from.grownTrees()
	if len(trees) > 0 {
		trees[0].gain = slices.Clone(from.importances)
		for f := range trees[0].gain {
			trees[0].gain[f] *= from.gained
		}
	}
	b.pool.run((b.n+predictRows-1)/predictRows, func(_, task int) {
		for i := task * predictRows; i < min((task+1)*predictRows, b.n); i++ {
			b.pred[i] = b.base
			row := x.Row(i)
			for _, t := range trees {
				b.pred[i] += float64(t.leaf(row))
			}
		}
	})
	return trees
}

// predictRows is how many rows a worker predicts at a time.
const predictRows = 1024

func normalise(v []float64) {
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	if sum > 0 {
		for i := range v {
			v[i] /= sum
		}
	}
}
