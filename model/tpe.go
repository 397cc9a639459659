package model

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
)

// Dimension is one thing that a search may choose: a number between Low and High, or one of Choices.
type Dimension struct {
	Name      string
	Low, High float64
	Log       bool // the range is searched by order of magnitude
	Integer   bool
	Choices   []float64 // unordered values; Low and High are then not used
}

// Observation is a point that a search has tried; Loss is smaller where it is better.
type Observation struct {
	At   []float64 // a value per dimension
	Loss float64
}

// Constants of the tree-structured Parzen estimator, as its authors and Optuna set them.
const (
	tpeStartup    = 10   // random points before the estimator is trusted
	tpeGoodShare  = 0.1  // share of the observations that count as good
	tpeMostGood   = 25   // and the most of them
	tpeCandidates = 24   // draws from the good density, of which the most promising is taken
	tpePrior      = 1.0  // weight of the prior beside each observation's 1
	tpeNarrowest  = 0.01 // least bandwidth, as a share of the range
)

// Suggest proposes the next point by the tree-structured Parzen estimator (Bergstra et al. 2011): each dimension by
// itself, where good points are dense and the others are not. The same observations and random numbers give the same
// point.
func Suggest(space []Dimension, seen []Observation, rng *rand.Rand) []float64 {
	at := make([]float64, len(space))
	if len(seen) < tpeStartup {
		for i := range space {
			at[i] = space[i].draw(rng)
		}
		return at
	}
	order := slices.Clone(seen)
	slices.SortStableFunc(order, func(a, b Observation) int { return cmp.Compare(a.Loss, b.Loss) })
	good := min(int(math.Ceil(tpeGoodShare*float64(len(order)))), tpeMostGood)
	for i := range space {
		d := &space[i]
		better, worse := newParzen(d, order[:good], i), newParzen(d, order[good:], i)
		best := math.Inf(-1)
		for range tpeCandidates {
			x := better.draw(rng)
			if gain := math.Log(better.density(x)) - math.Log(worse.density(x)); gain > best {
				best, at[i] = gain, d.value(x)
			}
		}
	}
	return at
}

// scaled maps a value to [0, 1]; a choice to its index.
func (d *Dimension) scaled(v float64) float64 {
	switch {
	case d.Choices != nil:
		return float64(max(0, slices.Index(d.Choices, v)))
	case d.Log:
		return math.Log(v/d.Low) / math.Log(d.High/d.Low)
	}
	return (v - d.Low) / (d.High - d.Low)
}

// value is the reverse of scaled.
func (d *Dimension) value(x float64) float64 {
	if d.Choices != nil {
		return d.Choices[min(int(x), len(d.Choices)-1)]
	}
	v := d.Low + x*(d.High-d.Low)
	if d.Log {
		v = d.Low * math.Pow(d.High/d.Low, x)
	}
	if d.Integer {
		v = math.Round(v)
	}
	return min(max(v, d.Low), d.High)
}

func (d *Dimension) draw(rng *rand.Rand) float64 {
	if d.Choices != nil {
		return d.Choices[rng.IntN(len(d.Choices))]
	}
	return d.value(rng.Float64())
}

// parzen is a density over one scaled dimension: a normal kernel on each observation and a wide prior, cut at the ends;
// for choices, smoothed counts.
type parzen struct {
	d        *Dimension
	mean, sd []float64
	share    []float64 // of each choice
}

func newParzen(d *Dimension, seen []Observation, i int) *parzen {
	p := &parzen{d: d}
	if n := len(d.Choices); n > 0 {
		p.share = make([]float64, n)
		total := tpePrior + float64(len(seen))
		for k := range p.share {
			p.share[k] = tpePrior / float64(n) / total
		}
		for _, o := range seen {
			p.share[int(d.scaled(o.At[i]))] += 1 / total
		}
		return p
	}
	p.mean = append(p.mean, 0.5)
	for _, o := range seen {
		p.mean = append(p.mean, d.scaled(o.At[i]))
	}
	slices.Sort(p.mean)
	p.sd = make([]float64, len(p.mean))
	prior := false
	for k, m := range p.mean {
		if m == 0.5 && !prior {
			p.sd[k], prior = 1, true
			continue
		}
		// The bandwidth reaches to the farther neighbour; the ends of the range count as neighbours.
		left, right := m, 1-m
		if k > 0 {
			left = m - p.mean[k-1]
		}
		if k < len(p.mean)-1 {
			right = p.mean[k+1] - m
		}
		p.sd[k] = min(max(left, right, tpeNarrowest, 1/(1+float64(len(p.mean)))), 1)
	}
	return p
}

func (p *parzen) draw(rng *rand.Rand) float64 {
	if p.share != nil {
		u := rng.Float64()
		for k, s := range p.share {
			if u < s {
				return float64(k)
			}
			u -= s
		}
		return float64(len(p.share) - 1)
	}
	k := rng.IntN(len(p.mean))
	for {
		if x := p.mean[k] + p.sd[k]*rng.NormFloat64(); x >= 0 && x <= 1 {
			return x
		}
	}
}

func (p *parzen) density(x float64) float64 {
	if p.share != nil {
		return p.share[int(x)]
	}
	sum := 0.0
	for k, m := range p.mean {
		z := (x - m) / p.sd[k]
		inside := normalCDF((1-m)/p.sd[k]) - normalCDF(-m/p.sd[k])
		sum += math.Exp(-z*z/2) / (p.sd[k] * inside)
	}
	return sum / float64(len(p.mean))
}

func normalCDF(z float64) float64 { return math.Erfc(-z/math.Sqrt2) / 2 }
