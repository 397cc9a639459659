package condition

import (
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
)

// Status says how far a condition can be trusted.
type Status int

// The states of a condition, as Normalize returns them.
const (
	Known        Status = iota // from training, or commissioned for good
	Provisional                // being commissioned: normalised by what was seen so far
	Unrecognised               // too few readings to normalise at all
)

// Commissioner extends a Normalizer with conditions that training never saw. The result depends only on the readings
// learned and their order, so replaying stored readings rebuilds it after a restart. It is safe for concurrent use;
// readings in known conditions take no lock.
type Commissioner struct {
	base  *Normalizer
	known atomic.Pointer[Normalizer] // base and what was commissioned for good

	mu         sync.Mutex
	pending    []pending
	turns      int // readings learned so far
	generation atomic.Int64
}

type pending struct {
	center []float64
	m      moments
	units  map[string]int
	turn   int // when it last learned
}

// regime is the condition as far as it is known, under the silent sensors of n.
func (p *pending) regime(n *Normalizer) Regime {
	r := p.m.regime(p.center)
	n.hear(&r)
	return r
}

// NewCommissioner starts from the conditions that training knew.
func NewCommissioner(base *Normalizer) *Commissioner {
	c := &Commissioner{base: base}
	c.known.Store(base)
	return c
}

// Clone returns a Commissioner that has learned the same and from now on learns by itself. It lets a caller take back
// what it taught: a reading that could not be stored must not be learned either.
func (c *Commissioner) Clone() *Commissioner {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := &Commissioner{base: c.base, turns: c.turns}
	out.known.Store(c.known.Load())
	out.generation.Store(c.generation.Load())
	for _, p := range c.pending {
		out.pending = append(out.pending, pending{center: slices.Clone(p.center), m: p.m.clone(), units: maps.Clone(p.units), turn: p.turn})
	}
	return out
}

// Normalizer returns the conditions fixed so far, in the order in which they were fixed, those of training first.
func (c *Commissioner) Normalizer() *Normalizer { return c.known.Load() }

// Generation grows by one whenever a condition is fixed for good. State computed from a provisional condition under an
// older generation should be rebuilt.
func (c *Commissioner) Generation() int64 { return c.generation.Load() }

// Normalize writes the normalised sensors to z and returns the condition's index (-1 unless it is Known) and its
// status. With Unrecognised, every z is NaN. It learns nothing: a reading may be normalised any number of times.
func (c *Commissioner) Normalize(settings, sensors, z []float64) (int, Status) {
	n := c.known.Load()
	if k := n.Find(settings); k >= 0 {
		n.Regimes[k].Z(sensors, z)
		return k, Known
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n = c.known.Load()
	if k := n.Find(settings); k >= 0 {
		n.Regimes[k].Z(sensors, z)
		return k, Known
	}
	p := c.find(settings)
	if p < 0 || c.pending[p].m.rows < n.Config.ProvisionalRows {
		for i := range z {
			z[i] = math.NaN()
		}
		return -1, Unrecognised
	}
	r := c.pending[p].regime(n)
	r.Z(sensors, z)
	return -1, Provisional
}

// Learn counts a reading towards its condition where that is not known yet and the unit is healthy, that is not older
// than HealthyCycles. Call it once for each reading, in order of arrival.
func (c *Commissioner) Learn(unit string, age int, settings, sensors []float64) {
	n := c.known.Load()
	if age > n.Config.HealthyCycles || n.Find(settings) >= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n = c.known.Load()
	if n.Find(settings) >= 0 {
		return
	}
	k := c.find(settings)
	if k < 0 {
		if len(n.Regimes)+len(c.pending) >= n.Config.MaxConditions && !c.makeRoom() {
			return
		}
		k = len(c.pending)
		c.pending = append(c.pending, pending{center: slices.Clone(settings), m: newMoments(len(sensors)), units: map[string]int{}})
	}
	p := &c.pending[k]
	c.turns++
	p.turn = c.turns
	id, seen := p.units[unit]
	if !seen {
		id = len(p.units)
		p.units[unit] = id
	}
	p.m.add(id, sensors)
	for j, v := range settings {
		p.center[j] += (v - p.center[j]) / float64(p.m.rows)
	}
	if len(p.units) >= n.Config.CommissionUnits && p.m.rows >= n.Config.CommissionRows {
		c.fix(k)
	}
}

// fix moves pending condition k among the known ones. The caller holds the lock.
func (c *Commissioner) fix(k int) {
	old := c.known.Load()
	r := c.pending[k].regime(old)
	r.Commissioned = true
	n := &Normalizer{Config: old.Config, Regimes: append(slices.Clone(old.Regimes), r), Silent: old.Silent}
	c.pending = slices.Delete(c.pending, k, k+1)
	c.known.Store(n)
	c.generation.Add(1)
}

// makeRoom drops the pending condition that the fewest units flew in, and of several such the one that has not been seen
// for longest. Otherwise one unit with a broken setting could fill the table, and no real condition would ever be
// commissioned. It reports false when nothing is pending. The caller holds the lock.
func (c *Commissioner) makeRoom() bool {
	least := -1
	for i := range c.pending {
		p := &c.pending[i]
		if least < 0 || len(p.units) < len(c.pending[least].units) || len(p.units) == len(c.pending[least].units) && p.turn < c.pending[least].turn {
			least = i
		}
	}
	if least < 0 {
		return false
	}
	c.pending = slices.Delete(c.pending, least, least+1)
	return true
}

// find returns the pending condition that settings belong to, or -1. The caller holds the lock.
func (c *Commissioner) find(settings []float64) int {
	best, bestDist := -1, math.Inf(1)
	for i := range c.pending {
		if d := distance(c.pending[i].center, c.base.Config.Tolerance, settings); d < bestDist {
			best, bestDist = i, d
		}
	}
	return best
}

// Unseen describes the conditions that training never saw: those fixed since, then those still pending.
func (c *Commissioner) Unseen() []Regime {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := slices.Clone(c.known.Load().Regimes[len(c.base.Regimes):])
	for i := range c.pending {
		out = append(out, c.pending[i].regime(c.base))
	}
	return out
}
