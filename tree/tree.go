// Package tree fits and evaluates ensembles of regression trees: random
// forests, extremely randomised trees and histogram gradient boosting.
//
// Every learner first cuts each column into at most 255 bins and grows its
// trees on the bins. Thresholds lie between neighbouring bins, so a raw row is
// routed in prediction exactly as its bins were in training. NaN means missing
// and has a bin of its own; each split learns the side it goes to.
//
// Sums over rows are kept in fixed point. Integer addition is associative, so a
// fit gives the same bits for a seed whatever the number of workers.
//
// Parameter names, and defaults where they exist, are scikit-learn's.
package tree

import (
	"fmt"
	"math"
	"runtime"
)

// Matrix is a dense row-major table of features: row i is
// Data[i*Cols : (i+1)*Cols]. NaN means missing; infinities are ordinary values
// at the ends of the scale.
type Matrix struct {
	Data []float32
	Rows int
	Cols int
}

// Row returns row i without copying it.
func (m Matrix) Row(i int) []float32 {
	return m.Data[i*m.Cols : (i+1)*m.Cols : (i+1)*m.Cols]
}

// Progress hears of each finished tree (or boosting iteration) of a fit, always
// from the goroutine that called the fit. A non-nil error stops the fit, which
// returns that error.
type Progress func(done, total int) error

// maxDepth bounds every tree, grown or read from bytes, so that recursion over
// it is safe.
const maxDepth = 512

// maxFeatures is the number of columns a node's feature number can name.
const maxFeatures = 65535

// maxTarget keeps leaf values within float32 and squared sums within float64.
const maxTarget = 1e30

func checkMatrix(name string, x Matrix) error {
	if x.Rows < 1 || x.Cols < 1 {
		return fmt.Errorf("%s must have at least one row and one column, got %d x %d", name, x.Rows, x.Cols)
	}
	if x.Cols > maxFeatures {
		return fmt.Errorf("%s must have at most %d columns, got %d", name, maxFeatures, x.Cols)
	}
	if x.Rows > math.MaxInt32 {
		return fmt.Errorf("%s must have at most %d rows, got %d", name, math.MaxInt32, x.Rows)
	}
	if len(x.Data) != x.Rows*x.Cols {
		return fmt.Errorf("%s holds %d values, but %d rows of %d columns need %d",
			name, len(x.Data), x.Rows, x.Cols, x.Rows*x.Cols)
	}
	return nil
}

func checkTarget(prefix string, x Matrix, y, w []float64) error {
	if len(y) != x.Rows {
		return fmt.Errorf("%sy must have one value per row: got %d values for %d rows", prefix, len(y), x.Rows)
	}
	for i, v := range y {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("%sy must be finite: row %d is %v", prefix, i, v)
		}
	}
	for i, v := range y {
		if math.Abs(v) > maxTarget {
			return fmt.Errorf("%sy must not exceed %v in size: row %d is %v", prefix, maxTarget, i, v)
		}
	}
	if w == nil {
		return nil
	}
	if len(w) != x.Rows {
		return fmt.Errorf("%ssample_weight must have one value per row: got %d values for %d rows", prefix, len(w), x.Rows)
	}
	total := 0.0
	for i, v := range w {
		if !(v >= 0) || math.IsInf(v, 0) {
			return fmt.Errorf("%ssample_weight must be finite and not negative: row %d is %v", prefix, i, v)
		}
		total += v
	}
	if !(total > 0) || math.IsInf(total, 0) {
		return fmt.Errorf("%ssample_weight must have a positive finite sum, got %v", prefix, total)
	}
	return nil
}

// unitWeights returns nil for weights that are all one: the growers have a
// faster path for rows of equal weight.
func unitWeights(w []float64) []float64 {
	for _, v := range w {
		if v != 1 {
			return w
		}
	}
	return nil
}

func checkAtLeast(name string, v, least int) error {
	if v < least {
		return fmt.Errorf("%s must be at least %d, got %d", name, least, v)
	}
	return nil
}

func checkShare(name string, v float64) error {
	if !(v > 0 && v <= 1) {
		return fmt.Errorf("%s must be in (0, 1], got %v", name, v)
	}
	return nil
}

func checkCommon(maxDep, minLeaf, maxBins, nJobs int) error {
	if err := checkAtLeast("max_depth", maxDep, 0); err != nil {
		return err
	}
	if err := checkAtLeast("min_samples_leaf", minLeaf, 1); err != nil {
		return err
	}
	if maxBins < 2 || maxBins > 255 {
		return fmt.Errorf("max_bins must be in [2, 255], got %d", maxBins)
	}
	return checkAtLeast("n_jobs", nJobs, 0)
}

func workers(nJobs int) int {
	if nJobs == 0 {
		return runtime.GOMAXPROCS(0)
	}
	return nJobs
}

func depthLimit(d int) int {
	if d == 0 || d > maxDepth {
		return maxDepth
	}
	return d
}

// rng is splitmix64 (Steele, Lea and Flood, 2014): one word of state, so each
// tree and node can own a generator derived from its place in the ensemble
// rather than from the order in which workers reach it.
type rng uint64

func (r *rng) next() uint64 {
	*r += 0x9e3779b97f4a7c15
	z := uint64(*r)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// below returns a number in [0, n); its bias is under n/2^32.
func (r *rng) below(n int) int {
	return int(r.next() >> 32 * uint64(n) >> 32)
}

func (r *rng) float() float64 {
	return float64(r.next()>>11) / (1 << 53)
}

// derive gives an independent generator for a numbered part of a stream.
func derive(seed, part uint64) rng {
	r := rng(seed ^ part*0xd1342543de82ef95)
	r.next()
	return rng(r.next())
}
