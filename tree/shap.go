package tree

import (
	"fmt"
	"math"
	"sync"
)

// SHAP writes to phi, which has NumFeatures entries, each column's contribution
// to the prediction for one row, and returns the base: the mean prediction over
// the training rows, by the trees' cover. base plus the sum of phi is Predict(row),
// up to rounding.
//
// These are the exact path-dependent Shapley values of TreeSHAP (Lundberg et
// al., 2020). With o and z the shares of a leaf's path that a feature lets pass
// when known and when unknown, a leaf of value v gives feature i
//
//	v (o_i - z_i) ∫₀¹ ∏_{j≠i} (t o_j + (1-t) z_j) dt,
//
// for the weights of the coalitions are Beta integrals. The integrand is a
// polynomial of lower degree than the path has features, so Gauss-Legendre
// quadrature with half as many points is exact, all its terms are positive, and
// one walk over a tree serves all its leaves, as in Linear TreeSHAP (Yu et al.,
// 2022).
func (e *Ensemble) SHAP(row []float32, phi []float64) (base float64, err error) {
	if err := e.checkRow(len(row)); err != nil {
		return 0, err
	}
	if len(phi) != e.features {
		return 0, fmt.Errorf("phi must have %d entries, got %d", e.features, len(phi))
	}
	clear(phi)
	w := e.walkers.Get().(*shapWalk)
	defer e.walkers.Put(w)
	w.row, w.phi = row, phi
	for t := range e.trees {
		w.root = e.roots[t]
		for _, q := range e.rules[e.points[t]] {
			w.rule = q
			w.visit(w.root, lane{1, 1, 1, 1})
		}
	}
	w.row, w.phi = nil, nil
	for f := range phi {
		phi[f] *= e.scale
	}
	return e.expected, nil
}

// lane holds one number per quadrature point; four fit the registers.
type lane struct{ a, b, c, d float64 }

func (l lane) times(s float64) lane { return lane{l.a * s, l.b * s, l.c * s, l.d * s} }
func (l lane) mul(m lane) lane      { return lane{l.a * m.a, l.b * m.b, l.c * m.c, l.d * m.d} }
func (l lane) add(m lane) lane      { return lane{l.a + m.a, l.b + m.b, l.c + m.c, l.d + m.d} }
func (l lane) dot(m lane) float64   { return (l.a*m.a + l.b*m.b) + (l.c*m.c + l.d*m.d) }

// between is t + (1-t) z at each point: what a feature lets pass that the row
// passes.
func (q *rule) between(z float64) lane {
	return lane{q.t.a + q.u.a*z, q.t.b + q.u.b*z, q.t.c + q.u.c*z, q.t.d + q.u.d*z}
}

func (l lane) div(m lane) lane { return lane{l.a / m.a, l.b / m.b, l.c / m.c, l.d / m.d} }

// rule is up to four points of a quadrature on [0, 1]. Unused ones weigh
// nothing.
type rule struct {
	// t are the points, u = 1-t, w the weights, and wu = w/u.
	t, u, w, wu lane
}

// shapWalk is the state of a walk over one tree for one row.
type shapWalk struct {
	nodes []node
	// share is each node's part of its parent's cover.
	share []float64
	row   []float32
	phi   []float64
	rule  *rule
	root  uint32
	// zero is, per feature, the share of training rows that passes all of its
	// splits on the path so far, and closed whether the row fails one of them.
	zero   []float64
	closed []bool
}

// visit returns the sum over the leaves below node i of value times pass, the
// product of all features' factors on the path.
func (s *shapWalk) visit(i uint32, pass lane) lane {
	n := &s.nodes[i]
	if n.off == 0 {
		return pass.times(float64(n.value))
	}
	f := int(n.feature)
	hot, cold := i+n.off, i+n.off+1
	if n.step(s.row) != n.off {
		hot, cold = cold, hot
	}
	zh, zc := s.share[hot], s.share[cold]
	if s.closed[f] {
		// The row already fails this feature: what it adds below and what
		// the split above takes back are equal.
		return s.visit(hot, pass.times(zh)).add(s.visit(cold, pass.times(zc)))
	}
	q := s.rule
	before := s.zero[f]
	again := before != 1
	var was lane
	if again {
		was = q.between(before)
		pass = pass.div(was)
	}
	zh, zc = zh*before, zc*before
	now := q.between(zh)
	s.zero[f] = zh
	sumHot := s.visit(hot, pass.mul(now))
	s.closed[f] = true
	sumCold := s.visit(cold, pass.mul(q.u).times(zc))
	s.closed[f] = false
	s.zero[f] = before
	gain := (1-zh)*q.w.dot(sumHot.div(now)) - q.wu.dot(sumCold)
	sum := sumHot.add(sumCold)
	if again {
		gain -= (1 - before) * q.w.dot(sum.div(was))
	}
	s.phi[f] += gain
	return sum
}

// minShare stands for the share of a node without cover, which only weights
// too small for float32 can give.
const minShare = 1e-9

// prepareSHAP computes what all rows share.
func (e *Ensemble) prepareSHAP() {
	e.share = make([]float64, len(e.nodes))
	e.points = make([]uint8, e.trees)
	e.rules = make([][]*rule, maxDepth/2+1)
	e.expected = e.base
	onPath := make([]int, e.features)
	for t := range e.trees {
		root := e.roots[t]
		e.share[root] = 1
		sum, distinct := e.summarise(root, onPath, 0)
		e.expected += e.scale * sum
		k := min((distinct+1)/2, math.MaxUint8)
		if e.rules[k] == nil {
			e.rules[k] = gaussLegendre(k)
		}
		e.points[t] = uint8(k)
	}
	e.walkers = &sync.Pool{New: func() any {
		s := &shapWalk{nodes: e.nodes, share: e.share, zero: make([]float64, e.features), closed: make([]bool, e.features)}
		for f := range s.zero {
			s.zero[f] = 1
		}
		return s
	}}
}

// summarise fills share below node i, and returns the mean of its leaves and
// the largest number of different features on a path.
func (e *Ensemble) summarise(i uint32, onPath []int, distinct int) (mean float64, most int) {
	n := &e.nodes[i]
	if n.off == 0 {
		return float64(n.value), distinct
	}
	if onPath[n.feature] == 0 {
		distinct++
	}
	onPath[n.feature]++
	most = distinct
	for child := i + n.off; child <= i+n.off+1; child++ {
		z := float64(e.cover[child]) / float64(e.cover[i])
		if !(z >= minShare) {
			z = minShare
		}
		if z > 1-minShare {
			z = 1 - minShare
		}
		e.share[child] = z
		m, d := e.summarise(child, onPath, distinct)
		mean += z * m
		most = max(most, d)
	}
	onPath[n.feature]--
	return mean, most
}

// gaussLegendre returns k points on [0, 1], in rules of four. They are the
// zeros of the Legendre polynomial, found by Newton's method.
func gaussLegendre(k int) []*rule {
	var rules []*rule
	for i := range k {
		x := math.Cos(math.Pi * (float64(i) + 0.75) / (float64(k) + 0.5))
		slope := 0.0
		for range 100 {
			p0, p1 := 1.0, x
			for j := 2; j <= k; j++ {
				p0, p1 = p1, (float64(2*j-1)*x*p1-float64(j-1)*p0)/float64(j)
			}
			slope = float64(k) * (x*p1 - p0) / (x*x - 1)
			step := p1 / slope
			x -= step
			if math.Abs(step) < 1e-15 {
				break
			}
		}
		if i%4 == 0 {
			half := lane{0.5, 0.5, 0.5, 0.5}
			rules = append(rules, &rule{t: half, u: half})
		}
		r := rules[len(rules)-1]
		t, w := (1+x)/2, 1/((1-x*x)*slope*slope)
		set := func(l *lane, v float64) { *[]*float64{&l.a, &l.b, &l.c, &l.d}[i%4] = v }
		set(&r.t, t)
		set(&r.u, 1-t)
		set(&r.w, w)
		set(&r.wu, w/(1-t))
	}
	return rules
}
