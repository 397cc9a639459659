package tree

import (
	"math"
	"math/bits"
)

// fields tells how one int64 holds several sums over rows: the gradient (or
// target) in the high bits, signed, and below it the weight and the number of
// rows. Adding two such words adds every field, so a histogram bin costs one
// integer addition per row. Where all rows weigh one, weight and count are the
// same bits. When the sums do not fit one word, the weight and count take a
// second (see sums).
type fields struct {
	gradShift   uint
	weightShift uint
	weightMask  int64
	countMask   int64
}

// unitFields lays out gradient and count for nodes of at most n rows.
func unitFields(n int) fields {
	c := uint(bits.Len(uint(n)))
	m := int64(1)<<c - 1
	return fields{gradShift: c, weightMask: m, countMask: m}
}

// weightFields lays out gradient, integer weight and count.
func weightFields(n int, weight int64) fields {
	c, w := uint(bits.Len(uint(n))), uint(bits.Len64(uint64(weight)))
	return fields{
		gradShift: c + w, weightShift: c,
		weightMask: int64(1)<<w - 1, countMask: int64(1)<<c - 1,
	}
}

// wideFields lays out weight and count in a word of their own.
func wideFields(n int) fields {
	c := uint(bits.Len(uint(n)))
	return fields{weightShift: c, weightMask: int64(1)<<(63-c) - 1, countMask: int64(1)<<c - 1}
}

// room is the largest magnitude each of n terms may have so that their sum
// fits in the given number of bits, sign excluded; at most 2^30.
func room(valueBits uint, n int) float64 {
	return math.Min(1<<30, math.Floor(math.Exp2(float64(valueBits))/float64(n)))
}

// sums are the totals over a set of rows. In the packed form a holds all
// fields; in the wide form a holds the gradient and b weight and count.
type sums struct{ a, b int64 }

func (s sums) minus(t sums) sums { return sums{s.a - t.a, s.b - t.b} }

// column is the histogram of one column: one word per bin, missing rows last.
type column [256]int64

// split is a way to part a node. feature is a column of the matrix.
type split struct {
	gain     float64
	feature  int32
	bin      uint8
	missLeft bool
	// sawMissing tells that rows of the node lack the feature.
	sawMissing bool
	// left holds the totals of the left child.
	left sums
}

// scanner holds what a search for the best split of a node needs to know
// besides the histograms.
type scanner struct {
	fields
	wide bool
	// vector is set where scanLanes has the instructions it needs.
	vector  bool
	total   sums
	minLeaf int64
	// lambda is the L2 term in units of the weight field.
	lambda float64
	// lower and upper bound a child's value, in units of gradient field over
	// weight field; the wide search alone heeds them.
	lower, upper float64
}

func (s *scanner) count(t sums) int64 {
	if s.wide {
		return t.b & s.countMask
	}
	return t.a & s.countMask
}

// grad and weight give the fields in their integer units.
func (s *scanner) grad(t sums) float64 { return float64(t.a >> s.gradShift) }

func (s *scanner) weight(t sums) float64 {
	if s.wide {
		return float64(t.b >> s.weightShift)
	}
	return float64(t.a >> s.weightShift & s.weightMask)
}

// minGain is the share of a node's own score below which an improvement is
// rounding, not information.
const minGain = 1e-12

// search looks for the best split on one column and keeps it in best when it
// improves on what is there. h2 is used in the wide form only.
func (s *scanner) search(f int, bins int, missing bool, cst int8, h, h2 *column, best *split) {
	missing = missing && (h[missingBin] != 0 || s.wide && h2[missingBin] != 0)
	before := best.gain
	if s.wide {
		s.scanWide(f, bins, cst, sums{}, false, h, h2, best)
		if missing {
			s.scanWide(f, bins, cst, sums{h[missingBin], h2[missingBin]}, true, h, h2, best)
		}
	} else {
		s.scan(f, bins, 0, false, h, best)
		if missing {
			s.scan(f, bins, h[missingBin], true, h, best)
		}
	}
	if best.gain > before {
		best.sawMissing = missing
	}
}

// choice is the best of the splits tried so far: its score as a fraction, the
// last bin on the left, and the packed totals of the left. Scores are compared
// by cross-multiplication: a division per bin would take longer than the rest.
type choice struct {
	num, den float64
	bin      int
	acc      int64
}

// scan tries every bin boundary; acc holds what is on the left already.
func (s *scanner) scan(f, bins int, acc int64, missLeft bool, h *column, best *split) {
	c := choice{den: 1, bin: -1}
	if s.vector {
		s.scanLanes(bins, acc, h, &c)
	} else {
		s.scanBins(bins, acc, h, &c)
	}
	s.keep(f, missLeft, &c, best)
}

// keep turns a choice into a gain and keeps it in best if it is greater.
func (s *scanner) keep(f int, missLeft bool, c *choice, best *split) {
	if c.bin < 0 {
		return
	}
	G, H := s.grad(s.total), s.weight(s.total)+s.lambda
	own := G * G / H
	gain := c.num/c.den - own
	if gain > best.gain && gain > own*minGain {
		*best = split{gain: gain, feature: int32(f), bin: uint8(c.bin), missLeft: missLeft, left: sums{a: c.acc}}
	}
}

func (s *scanner) scanBins(bins int, acc int64, h *column, best *choice) {
	total := s.total.a
	G, H := float64(total>>s.gradShift), float64(total>>s.weightShift&s.weightMask)+2*s.lambda
	gs, ws, wm, cm := s.gradShift&63, s.weightShift&63, s.weightMask, s.countMask
	lambda, minLeaf := s.lambda, s.minLeaf
	last := (total & cm) - minLeaf
	bestNum, bestDen := best.num, best.den
	for b, v := range h[:bins-1] {
		// An empty bin moves nothing. Deep nodes hold few values of a column,
		// side by side, so the branch is easy to predict.
		if v == 0 {
			continue
		}
		acc += v
		c := acc & cm
		if c < minLeaf {
			continue
		}
		if c > last {
			break
		}
		gl := float64(acc >> gs)
		hl := float64(acc>>ws&wm) + lambda
		gr, hr := G-gl, H-hl
		num, den := gl*gl*hr+gr*gr*hl, hl*hr
		if num*bestDen > bestNum*den {
			bestNum, bestDen, best.bin, best.acc = num, den, b, acc
		}
	}
	best.num, best.den = bestNum, bestDen
}

// occupied has a bit for each bin that holds rows.
type occupied [4]uint64

// scanSparse is scan for a node of few rows: it visits the bins that hold any.
func (s *scanner) scanSparse(f int, occ *occupied, acc int64, missLeft bool, h *column, best *split) {
	total := s.total.a
	G, H := float64(total>>s.gradShift), float64(total>>s.weightShift&s.weightMask)+2*s.lambda
	gs, ws, wm, cm := s.gradShift&63, s.weightShift&63, s.weightMask, s.countMask
	lambda, minLeaf := s.lambda, s.minLeaf
	last := (total & cm) - minLeaf
	top := choice{den: 1, bin: -1}
	for k, word := range occ {
		for word != 0 {
			b := uint8(k<<6 | bits.TrailingZeros64(word))
			word &= word - 1
			acc += h[b]
			c := acc & cm
			if c < minLeaf || c > last {
				continue
			}
			gl, hl := float64(acc>>gs), float64(acc>>ws&wm)+lambda
			gr, hr := G-gl, H-hl
			num, den := gl*gl*hr+gr*gr*hl, hl*hr
			if num*top.den > top.num*den {
				top = choice{num: num, den: den, bin: int(b), acc: acc}
			}
		}
	}
	s.keep(f, missLeft, &top, best)
}

// searchSparse is search for a node of few rows.
func (s *scanner) searchSparse(f int, occ *occupied, h *column, best *split) {
	miss := h[missingBin]
	occ[missingBin>>6] &^= 1 << (missingBin & 63)
	before := best.gain
	s.scanSparse(f, occ, 0, false, h, best)
	if miss != 0 {
		s.scanSparse(f, occ, miss, true, h, best)
	}
	if best.gain > before {
		best.sawMissing = miss != 0
	}
}

// scanWide is scan for rows of unequal weight, and for monotone constraints:
// with bounds the children's values are clipped to them before the gain is
// taken, and a split whose values run against cst is refused.
func (s *scanner) scanWide(f, bins int, cst int8, acc sums, missLeft bool, h, h2 *column, best *split) {
	G, H := s.grad(s.total), s.weight(s.total)
	last := s.count(s.total) - s.minLeaf
	own := s.score(G, H, s.value(G, H))
	for b := range bins - 1 {
		acc.a += h[b]
		acc.b += h2[b]
		c := acc.b & s.countMask
		if c < s.minLeaf {
			continue
		}
		if c > last {
			break
		}
		gl, hl := float64(acc.a), float64(acc.b>>s.weightShift)
		gr, hr := G-gl, H-hl
		if hl <= 0 || hr <= 0 {
			continue
		}
		vl, vr := s.value(gl, hl), s.value(gr, hr)
		if cst > 0 && vl > vr || cst < 0 && vl < vr {
			continue
		}
		gain := s.score(gl, hl, vl) + s.score(gr, hr, vr) - own
		if gain > best.gain && gain > own*minGain {
			*best = split{gain: gain, feature: int32(f), bin: uint8(b), missLeft: missLeft, left: acc}
		}
	}
}

// value is a node's bounded Newton step.
func (s *scanner) value(g, h float64) float64 {
	return min(max(-g/(h+s.lambda), s.lower), s.upper)
}

// score is twice the loss a node's value takes away.
func (s *scanner) score(g, h, v float64) float64 {
	return -(2*g*v + (h+s.lambda)*v*v)
}

// try scores one split, given the totals of its left child.
func (s *scanner) try(f int, bin uint8, missLeft bool, left sums, best *split) {
	c := s.count(left)
	if c < s.minLeaf || s.count(s.total)-c < s.minLeaf {
		return
	}
	G, H := s.grad(s.total), s.weight(s.total)
	gl, hl := s.grad(left), s.weight(left)
	gr, hr := G-gl, H-hl
	if hl <= 0 || hr <= 0 {
		return
	}
	own := G * G / H
	if gain := gl*gl/hl + gr*gr/hr - own; gain > best.gain && gain > own*minGain {
		*best = split{gain: gain, feature: int32(f), bin: bin, missLeft: missLeft, left: left}
	}
}
