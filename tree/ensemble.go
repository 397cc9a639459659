package tree

import (
	"fmt"
	"math"
	"slices"
)

// node is 16 bytes, so that a pair of siblings shares half a cache line. A leaf
// has off 0 and threshold +Inf: a step from a leaf stays on it, which lets
// several trees be walked in lockstep without asking which has arrived.
type node struct {
	threshold float32
	// off is the distance to the left child; the right child follows it.
	off uint32
	// feature is the column compared; x <= threshold goes left.
	feature uint16
	// missingRight is 1 where a missing value goes right.
	missingRight uint16
	value        float32
}

// Ensemble is a fitted sum or mean of regression trees. It never changes after
// the fit and is safe for concurrent use. The zero value predicts nothing; use
// FitForest, FitBoosting or UnmarshalBinary.
type Ensemble struct {
	features int
	// A prediction is base + scale * (sum of one leaf per tree).
	base, scale float64
	nodes       []node
	// compact holds the nodes as the vector walk reads them, if it can.
	compact []uint64
	// cover is the weight of training rows that passed each node.
	cover []float32
	// roots has one entry per tree, padded to a multiple of two lanes with the
	// empty leaf that ends nodes.
	roots       []uint32
	trees       int
	importances []float64
	// gained is what boosting's importances were divided by; 0 when unknown,
	// after reading.
	gained  float64
	oob     []float64
	reasons *reasons
}

// lanes is how many trees are walked together, and how many partial sums a
// prediction has: tree t adds to sum t mod lanes on every machine, so that all
// give the same bits.
const lanes = 16

// grown is a tree as the growers leave it; children are adjacent and follow
// their parent.
type grown struct {
	nodes []node
	cover []float32
	// gain holds the improvement of each column's splits.
	gain []float64
}

func assemble(features int, base, scale float64, trees []*grown) *Ensemble {
	e := &Ensemble{features: features, base: base, scale: scale, trees: len(trees)}
	total := 1
	for _, t := range trees {
		total += len(t.nodes)
	}
	e.nodes = make([]node, 0, total)
	e.cover = make([]float32, 0, total)
	for _, t := range trees {
		e.roots = append(e.roots, uint32(len(e.nodes)))
		e.nodes = append(e.nodes, t.nodes...)
		e.cover = append(e.cover, t.cover...)
	}
	e.pad()
	return e
}

// grownTrees returns the trees as their grower left them, but for the gains.
func (e *Ensemble) grownTrees() []*grown {
	out := make([]*grown, e.trees)
	for t := range out {
		first, end := e.span(t)
		out[t] = &grown{nodes: e.nodes[first:end], cover: e.cover[first:end]}
	}
	return out
}

// checkGrowth reports why e cannot grow to so many trees on x.
func (e *Ensemble) checkGrowth(name string, x Matrix, trees int) error {
	if e.features != x.Cols {
		return fmt.Errorf("x must have the %d columns of the ensemble, got %d", e.features, x.Cols)
	}
	if trees <= e.trees {
		return fmt.Errorf("%s must be above the %d trees that the ensemble has, got %d", name, e.trees, trees)
	}
	return nil
}

func leafNode(value float32) node {
	return node{threshold: float32(math.Inf(1)), value: value}
}

func (e *Ensemble) pad() {
	for len(e.roots)%(2*lanes) != 0 {
		e.roots = append(e.roots, uint32(len(e.nodes)))
	}
	e.nodes = append(e.nodes, leafNode(0))
	e.cover = append(e.cover, 0)
	e.compact = e.compactNodes()
	e.reasons = &reasons{}
}

// NumFeatures is the number of columns a row must have.
func (e *Ensemble) NumFeatures() int { return e.features }

// NumTrees is the number of trees kept by the fit.
func (e *Ensemble) NumTrees() int { return e.trees }

// NumNodes is the number of nodes, leaves included, over all trees.
func (e *Ensemble) NumNodes() int { return max(0, len(e.nodes)-1) }

// FeatureImportances returns each column's share of the improvement made by all
// splits: for forests the mean over trees of the normalised impurity decrease,
// for boosting the normalised gain. It sums to 1, or is all zero for a model
// without splits.
func (e *Ensemble) FeatureImportances() []float64 { return slices.Clone(e.importances) }

// OOBPrediction returns, for a forest fitted with bootstrap, the prediction for
// each training row by the trees that did not see it; NaN where every tree saw
// it. It is nil for other ensembles and is not serialized.
func (e *Ensemble) OOBPrediction() []float64 { return slices.Clone(e.oob) }

func (e *Ensemble) checkRow(n int) error {
	if n != e.features {
		return fmt.Errorf("row must have %d features, got %d", e.features, n)
	}
	if e.features == 0 {
		return fmt.Errorf("ensemble is empty: fit or unmarshal it first")
	}
	return nil
}

// Predict returns the prediction for one row of NumFeatures values. It
// allocates nothing on success.
func (e *Ensemble) Predict(row []float32) (float64, error) {
	if err := e.checkRow(len(row)); err != nil {
		return 0, err
	}
	var acc [lanes]float64
	e.addLeaves(0, len(e.roots)/(2*lanes), row, &acc)
	return e.base + e.scale*total(&acc), nil
}

func total(acc *[lanes]float64) float64 {
	sum := 0.0
	for _, v := range acc {
		sum += v
	}
	return sum
}

// PredictBatch writes the prediction for each row of x to out, in parallel over
// blocks of rows on nJobs goroutines (0 = GOMAXPROCS). Each value has the same
// bits as Predict's.
func (e *Ensemble) PredictBatch(x Matrix, out []float64, nJobs int) error {
	if x.Rows == 0 && len(out) == 0 {
		return nil
	}
	if err := checkMatrix("x", x); err != nil {
		return err
	}
	if err := e.checkRow(x.Cols); err != nil {
		return err
	}
	if len(out) != x.Rows {
		return fmt.Errorf("out must have one value per row: got %d values for %d rows", len(out), x.Rows)
	}
	if err := checkAtLeast("n_jobs", nJobs, 0); err != nil {
		return err
	}
	blocks := (x.Rows + blockRows - 1) / blockRows
	p := newPool(min(workers(nJobs), blocks))
	defer p.close()
	p.run(blocks, func(_, b int) {
		first := b * blockRows
		e.predictBlock(x, first, out[first:min(first+blockRows, x.Rows)])
	})
	return nil
}

// blockRows is how many rows see a group of trees while it is in the
// first-level cache.
const blockRows = 64

func (e *Ensemble) predictBlock(x Matrix, first int, out []float64) {
	var acc [blockRows][lanes]float64
	for g := range len(e.roots) / (2 * lanes) {
		for i := range out {
			e.addLeaves(g, 1, x.Row(first+i), &acc[i])
		}
	}
	for i := range out {
		out[i] = e.base + e.scale*total(&acc[i])
	}
}

// addLeavesScalar walks four trees in lockstep: enough to hide the latency of
// dependent loads, few enough to stay in registers.
func (e *Ensemble) addLeavesScalar(first, pairs int, row []float32, acc *[lanes]float64) {
	missing := hasNaN(row)
	for t := first * 2 * lanes; t < (first+pairs)*2*lanes; t += 4 {
		roots := (*[4]uint32)(e.roots[t:])
		sums := (*[4]float64)(acc[t%lanes:])
		if missing {
			walkMissing(e.nodes, roots, row, sums)
		} else {
			walk(e.nodes, roots, row, sums)
		}
	}
}

func hasNaN(row []float32) bool {
	for _, v := range row {
		if v != v {
			return true
		}
	}
	return false
}

func b2u(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

// walk adds the leaves of four trees reached by a row without missing values.
func walk(nodes []node, roots *[4]uint32, row []float32, sums *[4]float64) {
	a, b, c, d := roots[0], roots[1], roots[2], roots[3]
	for {
		na, nb, nc, nd := &nodes[a], &nodes[b], &nodes[c], &nodes[d]
		if na.off|nb.off|nc.off|nd.off == 0 {
			addFour(sums, na, nb, nc, nd)
			return
		}
		a += na.off + b2u(row[na.feature] > na.threshold)
		b += nb.off + b2u(row[nb.feature] > nb.threshold)
		c += nc.off + b2u(row[nc.feature] > nc.threshold)
		d += nd.off + b2u(row[nd.feature] > nd.threshold)
	}
}

// walkMissing is walk for rows with missing values.
func walkMissing(nodes []node, roots *[4]uint32, row []float32, sums *[4]float64) {
	a, b, c, d := roots[0], roots[1], roots[2], roots[3]
	for {
		na, nb, nc, nd := &nodes[a], &nodes[b], &nodes[c], &nodes[d]
		if na.off|nb.off|nc.off|nd.off == 0 {
			addFour(sums, na, nb, nc, nd)
			return
		}
		a += na.step(row)
		b += nb.step(row)
		c += nc.step(row)
		d += nd.step(row)
	}
}

func addFour(sums *[4]float64, a, b, c, d *node) {
	sums[0] += float64(a.value)
	sums[1] += float64(b.value)
	sums[2] += float64(c.value)
	sums[3] += float64(d.value)
}

// step is the distance to the child a row goes to, 0 at a leaf.
func (n *node) step(row []float32) uint32 {
	v := row[n.feature]
	return n.off + (b2u(v > n.threshold) | b2u(v != v)&uint32(n.missingRight))
}
