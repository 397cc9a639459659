package drift

import (
	"fmt"
	"time"

	"turbofan"
	"turbofan/condition"
	"turbofan/reference"
	"turbofan/stat"
)

// chunkRows is how many rows are compared at a time.
const chunkRows = 4096

// Collector takes the readings of a window page by page and keeps what Judge needs of them: counts, a sample, and a little
// of each unit. A window of a million readings needs no more memory than one of fifty thousand of as many units. It is
// not safe for concurrent use.
type Collector struct {
	ref    *reference.Reference
	cfg    Config
	places *atlas
	found  *stat.Comparison

	// Rows that were normalised and not compared yet.
	values    [][]float64 // [channel of the profile][row]
	age, unit []int

	rows          int // that can be judged
	judged        int // units with such rows
	foreign       int // readings left out: their condition cannot be used yet
	misfit        int // readings left out: not as many values as the schema has
	known, others *counts
	index         map[string]int // of units, into units
	units         []*unitState   // in order of their first reading
	quality       faults
	from, to      int64
	arrived       []int64 // of each reading, in nanoseconds
	z             []float64
}

// unitState is what a window says of one unit.
type unitState struct {
	id         string
	judged     bool
	newest     int // cycle; 0 before the first reading
	late       int
	twice      int
	runs       []run       // by channel of the profile
	conditions []deviation // by condition of training
}

// NewCollector starts a window. unseen are the conditions learned since training; see Conditions. An error means that
// the configuration breaks a rule or that the reference does not fit together.
func NewCollector(ref *reference.Reference, unseen []condition.Regime, cfg Config) (*Collector, error) {
	if err := cfg.validateRule(); err != nil {
		return nil, err
	}
	cfg.MinRows = min(cfg.MinRows, cfg.Window)
	found, err := ref.Profile.NewComparison()
	if err != nil {
		return nil, fmt.Errorf("judge drift: %w", err)
	}
	c := &Collector{ref: ref, cfg: cfg, places: newAtlas(cfg, ref.Normalizer, unseen), found: found, values: make([][]float64, len(ref.Keep)),
		index: map[string]int{}, quality: newFaults(ref), z: make([]float64, len(ref.Keep))}
	c.known, c.others = newCounts(len(c.places.known.Regimes)), newCounts(len(c.places.others.Regimes))
	return c, nil
}

// Add takes the next readings in order of arrival; it keeps none of them. After an error the collector is of no more use.
func (c *Collector) Add(readings []turbofan.StoredReading) error {
	for i := range readings {
		r := &readings[i]
		if len(c.arrived) == 0 {
			c.from = r.Seq
		}
		c.to, c.arrived = r.Seq, append(c.arrived, r.At.UnixNano())
		u := c.unitOf(&r.Reading)
		if !fits(c.places.known, &r.Reading) {
			c.misfit++
			continue
		}
		c.quality.add(&r.Reading, c.units[u])
		k := c.places.known.Find(r.Settings)
		if k < 0 {
			c.foreign++
			if o := c.places.other(r.Settings); o >= 0 {
				c.others.add(o, u)
			}
			continue
		}
		if k >= c.places.base {
			c.known.add(k, u)
		}
		c.take(&r.Reading, k, u)
		if len(c.age) == chunkRows {
			if err := c.compare(); err != nil {
				return err
			}
		}
	}
	return nil
}

// unitOf returns the index of a reading's unit and notes whether it came in order.
func (c *Collector) unitOf(r *turbofan.Reading) int {
	i, seen := c.index[r.UnitID]
	if !seen {
		i = len(c.units)
		c.index[r.UnitID], c.units = i, append(c.units, &unitState{id: r.UnitID, newest: r.Cycle})
		return i
	}
	u := c.units[i]
	switch {
	case r.Cycle < u.newest:
		u.late++
	case r.Cycle == u.newest:
		u.twice++
	default:
		u.newest = r.Cycle
	}
	return i
}

// take normalises a reading by condition k.
func (c *Collector) take(r *turbofan.Reading, k, unit int) {
	c.ref.Normalize(r, &c.places.known.Regimes[k], c.z)
	for j, v := range c.z {
		c.values[j] = append(c.values[j], v)
	}
	u := c.units[unit]
	if !u.judged {
		u.judged = true
		c.judged++
	}
	u.deviate(c.ref, k, r.Cycle, c.z)
	c.age, c.unit = append(c.age, r.Cycle), append(c.unit, unit)
	c.rows++
}

// compare scores the rows that wait.
func (c *Collector) compare() error {
	if len(c.age) == 0 {
		return nil
	}
	c.quality.far(c.values, c.unit)
	if err := c.found.Add(c.values, c.age, c.unit); err != nil {
		return fmt.Errorf("judge drift: %w", err)
	}
	for j := range c.values {
		c.values[j] = c.values[j][:0]
	}
	c.age, c.unit = c.age[:0], c.unit[:0]
	return nil
}

// conditions describes those that training never saw.
func (c *Collector) conditions() []turbofan.NewCondition {
	return append(c.known.describe(c.places.known.Regimes, true), c.others.describe(c.places.others.Regimes, false)...)
}

// ArrivedSince counts the readings that arrived after at.
func (c *Collector) ArrivedSince(at time.Time) int64 {
	n, after := int64(0), at.UnixNano()
	for _, t := range c.arrived {
		if t > after {
			n++
		}
	}
	return n
}
