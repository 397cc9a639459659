package tree

import (
	"fmt"
	"sync"
)

// SHAP writes to phi, which has NumFeatures entries, each column's contribution
// to the prediction for one row, and returns the base: the mean prediction over
// the training rows, by the trees' cover. base plus the sum of phi is Predict(row),
// up to rounding. It allocates nothing once a call has built what all rows share.
//
// These are the exact path-dependent Shapley values of TreeSHAP (Lundberg et
// al., 2020). With o and z the shares of a leaf's path that a feature lets pass
// when known and when unknown, a leaf of value v gives feature i
//
//	v (o_i - z_i) ∫₀¹ ∏_{j≠i} (t o_j + (1-t) z_j) dt,
//
// for the weights of the coalitions are Beta integrals. The integrand is a
// polynomial of lower degree than the path has features, so Gauss-Legendre
// quadrature with half as many points is exact, and one walk over a tree serves
// all its leaves, as in Linear TreeSHAP (Yu et al., 2022).
//
// The walk needs no division. At one point t of the quadrature, u = 1-t, let P
// be the product of the factors above a split, and Q the sum over the leaves
// below it of value times the factors on the way there. Let s be the cover
// share of the child that the row does not take, and z the product of the
// shares of the path's earlier splits on the same feature, all of which the row
// passes (1 where there are none). Then the factors of the two children add up
// to one: with b = uz/(t+uz) the one not taken has bs, the other 1-bs. And the
// split gives its feature, at weight w,
//
//	w (1-b)/(ut) · bs · P (Q_taken - Q_other).
//
// Below a child that fails an earlier split on the feature both children pass
// their share and the feature gets nothing: that is b = 1.
func (e *Ensemble) SHAP(row []float32, phi []float64) (base float64, err error) {
	if err := e.checkRow(len(row)); err != nil {
		return 0, err
	}
	if len(phi) != e.features {
		return 0, fmt.Errorf("phi must have %d entries, got %d", e.features, len(phi))
	}
	p := e.reasons.get(e)
	w := p.walks.Get().(*shapWalk)
	w.row(p, row, phi, e.scale)
	p.walks.Put(w)
	return p.base, nil
}

// reasons keeps an ensemble's plan for SHAP. It is built when the first row
// asks: most ensembles, those of cross-validations, are never explained.
type reasons struct {
	once sync.Once
	plan *shapPlan
}

func (r *reasons) get(e *Ensemble) *shapPlan {
	r.once.Do(func() { r.plan = newShapPlan(e) })
	return r.plan
}

// lane holds four numbers, one per quadrature point. Fields, not an array: the
// compiler keeps only fields in registers.
type lane struct{ a, b, c, d float64 }

// points holds one number per quadrature point of a rule.
type points [2]lane

func eight(v *[8]float64) points {
	return points{{v[0], v[1], v[2], v[3]}, {v[4], v[5], v[6], v[7]}}
}

// rule is up to eight points of a quadrature on [0, 1]; unused ones weigh
// nothing.
type rule struct{ t, u, w [8]float64 }

// small tells that one lane suffices.
func (q *rule) small() bool { return q.w[4] == 0 }

// entry is what a split needs of the points: b as SHAP tells it, and the weight
// of the difference of its children, w (1-b)/(ut).
type entry struct{ b, weight points }

// entry returns the points for splits whose feature let z of the cover pass
// above.
func (q *rule) entry(z float64) entry {
	var b, weight [8]float64
	for k := range b {
		f := q.t[k] + q.u[k]*z
		b[k], weight[k] = q.u[k]*z/f, q.w[k]/(q.u[k]*f)
	}
	return entry{eight(&b), eight(&weight)}
}

// closedEntry is for splits whose feature the row already fails.
func closedEntry() entry {
	one := lane{1, 1, 1, 1}
	return entry{b: points{one, one}}
}

// The first entries of every table; those of repeated splits follow. That of
// failed features has place 0.
const (
	entryClosed = iota
	entryFirst
	entryRepeated
)

// Sizes in bytes, which the assembly knows too.
const (
	pointsSize = 64
	entrySize  = 2 * pointsSize
)

// tests is what a split asks of a row. The arrays lie in the order of the walk:
// per tree the splits that have a split below, parents first, then the others.
type tests struct {
	// column is the feature, with missingLeft where a missing value goes left
	// and missingFails where one fails an earlier split on the feature.
	column []uint32
	// A row passes the earlier splits where its value is above floor and not
	// above ceil; NaN where there are none.
	threshold, floor, ceil []float32
	// share is the left child's part of the cover.
	share []float64
	// entry is the place in the table, in bytes.
	entry []uint32
}

const (
	missingLeft  = 1 << 31
	missingFails = 1 << 30
	columnMask   = 1<<16 - 1
)

// shapTree tells how many of each a tree has.
type shapTree struct {
	// inner splits have a split below, twigs have not; leaves are those below
	// inner splits.
	inner, twigs, leaves, _ uint32
}

// twig is a split above two leaves.
type twig struct{ difference, right float64 }

// looseLeaf is a leaf below an inner split.
type looseLeaf struct {
	slot  uint64
	value float64
}

// shapChunk is a stretch of trees whose decisions fit the first-level cache
// together, or one larger tree.
type shapChunk struct {
	trees []shapTree
	// splits, twigs and leaves are where the chunk's begin in the plan's arrays,
	// and end is behind the last split.
	splits, end, twigs, leaves int
	rules                      []rule
	// z has, per entry of the tables from entryRepeated on, what its split's
	// feature lets pass above.
	z []float64
	// tables has one per rule; it is nil for a large tree, whose table is made
	// for each row instead: it would take more memory than the tree.
	tables [][]entry
}

// shapPlan is what SHAP needs of an ensemble's trees for all rows: about 50
// bytes a split, and 128 for one whose feature is split above it already.
type shapPlan struct {
	base   float64
	chunks []shapChunk
	tests
	// own is where a split finds P and leaves Q, feature where its column's
	// contribution is summed; both in bytes.
	own, feature []uint32
	twigs        []twig
	leaves       []looseLeaf
	// vector is how many points the vector unit walks at once; 0 without one.
	vector int
	walks  sync.Pool // of *shapWalk
}
