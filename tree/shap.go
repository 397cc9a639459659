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
//	w/(ut) · (1-b) · bs · P (Q_taken - Q_other),
//
// whose first factor is the point's alone and can wait until all is summed. Below a child that fails an earlier split on the feature both children pass
// their share and the feature gets nothing: that is b = 1.
func (e *Ensemble) SHAP(row []float32, phi []float64) (base float64, err error) {
	if err := e.checkRow(len(row)); err != nil {
		return 0, err
	}
	if len(phi) != e.features {
		return 0, fmt.Errorf("phi must have %d entries, got %d", e.features, len(phi))
	}
	p := e.reasons.get(e)
	p.explain(row, phi, e.scale)
	return p.base, nil
}

func (p *shapPlan) explain(row []float32, phi []float64, scale float64) {
	w := p.walks.Get().(*shapWalk)
	w.row(p, row, phi, scale)
	p.walks.Put(w)
}

// reasons keeps an ensemble's plan for SHAP. It is built when the first row
// asks: most ensembles, those of cross-validations, are never explained.
type reasons struct {
	once sync.Once
	plan *shapPlan
}

func (r *reasons) get(e *Ensemble) *shapPlan {
	r.once.Do(func() { r.plan = newShapPlan(e, vectorShap()) })
	return r.plan
}

// lane holds four numbers, one per quadrature point. Fields, not an array: the
// compiler keeps only fields in registers.
type lane struct{ a, b, c, d float64 }

// rule is the points of a quadrature on [0, 1] that are walked at once, and what
// their sums weigh; unused ones weigh nothing.
type rule struct{ t, u, weight []float64 }

// lanes is how many lanes the points take: one, or two where the vector unit
// takes eight numbers.
func (q *rule) lanes() int { return len(q.t) / 4 }

// set puts f of each point into lanes.
func (q *rule) set(to []lane, f func(t, u float64) float64) {
	for i := range to {
		t, u := q.t[4*i:][:4], q.u[4*i:][:4]
		to[i] = lane{f(t[0], u[0]), f(t[1], u[1]), f(t[2], u[2]), f(t[3], u[3])}
	}
}

// The first entries of every table of b; those of repeated splits follow. That
// of features that the row fails already has place 0.
const (
	entryClosed = iota
	entryFirst
	entryRepeated
)

// laneSize is in bytes, as are all places, which the assembly reads.
const laneSize = 32

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
	// entry is the place in the table.
	entry []uint32
}

const (
	missingLeft  = 1 << 31
	missingFails = 1 << 30
	columnMask   = 1<<16 - 1
)

// shapGroup tells how many of each a group of trees has that are walked together,
// level by level, so that one does not wait for another.
type shapGroup struct {
	// inner splits have a split below, twigs have not; leaves are those below
	// inner splits.
	inner, twigs, leaves, roots uint32
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
	groups []shapGroup
	// splits, twigs and leaves are where the chunk's begin in the plan's arrays,
	// and end is behind the last split.
	splits, end, twigs, leaves int
	rules                      []rule
	// z has, per entry of the tables from entryRepeated on, what its split's
	// feature lets pass above.
	z []float64
	// tables has one per rule; it is nil for a large tree, whose table is made
	// for each row instead: it would take more memory than the tree.
	tables [][]lane
}

// shapPlan is what SHAP needs of an ensemble's trees for all rows: about 50
// bytes a split, and 32 or 64 for one whose feature is split above it already.
type shapPlan struct {
	base   float64
	chunks []shapChunk
	tests
	// own is where a split finds P and leaves Q, feature where its column's
	// contribution is summed.
	own, feature []uint32
	twigs        []twig
	leaves       []looseLeaf
	// vector is how many points the vector unit walks at once; 0 without one.
	vector int
	walks  sync.Pool // of *shapWalk
}
