package drift

import (
	"cmp"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"turbofan"
	"turbofan/reference"
	"turbofan/stat"
)

const (
	// spreadRows is the least number of readings of a unit, in conditions of training, by which it is judged.
	spreadRows = 3
	// maxOutside is the most units of a window whose distance is looked at one by one.
	maxOutside = 5
	// namedUnits and namedChannels bound what a report names.
	namedUnits    = 20
	namedChannels = 3
)

// deviation is a unit in one condition: its mean deviation from the reference's units of its age.
type deviation struct {
	sum, n []float64 // by channel of the condition's spread
	rows   float64
	scale  float64 // of its ages, summed over the rows
}

// outsider is a unit by how far it lies out.
type outsider struct {
	unit  string
	ratio float64
	part  []float64 // by channel of the reference
}

// unitSpread judges each unit by itself, at its age and only in conditions that training knew: how units differ from one
// another in a condition that was commissioned is not known. It is nil where the reference does not say how its units
// differ, or no unit of the window can be judged.
//
// Under no drift the units of the window and of the reference lie in a random order, by distance: how likely it is that
// the k-th furthest comes as early as it does needs no law of the distances (stat.PrecedenceP). That is asked for each
// k from SpreadUnits to maxOutside, so that few units far out and more that are only odd are both seen; half of what
// may alarm by chance goes to the first, half of the rest to each that follows.
func (c *Collector) unitSpread() *turbofan.UnitSpread {
	ref, cfg := c.ref, c.cfg
	if cfg.SpreadUnits == 0 || ref.SpreadWindows == 0 {
		return nil
	}
	out := &turbofan.UnitSpread{PValue: 1}
	units := c.distances()
	if len(units) == 0 {
		return nil
	}
	out.Units = len(units)
	slices.SortStableFunc(units, func(a, b outsider) int { return cmp.Compare(b.ratio, a.ratio) })
	last := max(maxOutside, cfg.SpreadUnits)
	for k := cfg.SpreadUnits; k <= min(last, len(units)); k++ {
		above, ok := ref.Further(units[k-1].ratio)
		if !ok {
			break
		}
		p := stat.PrecedenceP(k, len(units), above, ref.SpreadWindows) * math.Exp2(float64(k-cfg.SpreadUnits+1))
		if p < out.PValue {
			out.PValue, out.Outside = p, k
		}
	}
	if out.Outside == last { // there may be more
		for out.Outside < len(units) && units[out.Outside].ratio >= ref.SpreadTail[0] {
			out.Outside++
		}
	}
	out.Drifted = out.PValue < cfg.SpreadAlpha
	name(out, ref, units[:out.Outside])
	return out
}

// distances returns how far each unit lies out, where that can be told, in order of their first reading.
func (c *Collector) distances() []outsider {
	found := make([]*outsider, len(c.units))
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(len(found), runtime.GOMAXPROCS(0)) {
		workers.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(found); i = int(next.Add(1)) - 1 {
				if ratio, part, ok := distance(c.ref, c.units[i].conditions); ok {
					found[i] = &outsider{c.units[i].id, ratio, part}
				}
			}
		})
	}
	workers.Wait()
	var out []outsider
	for _, f := range found {
		if f != nil {
			out = append(out, *f)
		}
	}
	return out
}

// deviate sums up, condition by condition, how far a unit's readings lie from the reference's means. z is a reading in
// standard deviations of condition k.
func (u *unitState) deviate(ref *reference.Reference, k, age int, z []float64) {
	if k >= len(ref.Spreads) || ref.Spreads[k] == nil {
		return
	}
	s := ref.Spreads[k]
	band := s.Band(age)
	mean := s.Means[band]
	if mean == nil {
		return
	}
	if u.conditions == nil {
		u.conditions = make([]deviation, len(ref.Spreads))
	}
	d := &u.conditions[k]
	if d.sum == nil {
		d.sum, d.n = make([]float64, len(mean)), make([]float64, len(mean))
	}
	d.rows++
	d.scale += s.Scales[band]
	for j, c := range s.Channels {
		if v := z[c]; v == v {
			d.sum[j] += v - mean[j]
			d.n[j]++
		}
	}
}

// distance is how far a unit lies out, over its conditions by their readings, and by how much of that each sensor does.
func distance(ref *reference.Reference, conditions []deviation) (ratio float64, part []float64, ok bool) {
	rows := 0.0
	part = make([]float64, len(ref.Keep))
	for k := range conditions {
		d := &conditions[k]
		if d.rows < 1 {
			continue
		}
		s := ref.Spreads[k]
		least := d.rows
		mean := make([]float64, len(d.sum))
		for j, n := range d.n {
			mean[j] = math.NaN()
			if 2*n >= d.rows { // a sensor that is mostly silent says nothing of the unit
				mean[j], least = d.sum[j]/n, min(least, n)
			}
		}
		far, parts, usable := s.Distance(mean, least)
		if !usable {
			continue
		}
		rows += d.rows
		ratio += d.rows * far / (d.scale / d.rows)
		for j, c := range s.Channels {
			part[c] += d.rows * parts[j]
		}
	}
	if rows < spreadRows {
		return 0, nil, false
	}
	return ratio / rows, part, true
}

// name says which units are outside and which sensors put them there.
func name(out *turbofan.UnitSpread, ref *reference.Reference, outside []outsider) {
	if len(outside) == 0 {
		return
	}
	share := make([]float64, len(ref.Keep))
	for _, o := range outside {
		if len(out.UnitIDs) < namedUnits {
			out.UnitIDs = append(out.UnitIDs, o.unit)
		}
		total := 0.0
		for _, p := range o.part {
			total += p
		}
		for j, p := range o.part {
			share[j] += p / total
		}
	}
	order := make([]int, len(share))
	for j := range order {
		order[j] = j
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(share[b], share[a]) })
	for _, j := range order[:min(namedChannels, len(order))] {
		out.Channels = append(out.Channels, channelName(ref, j))
	}
}

// becauseSpread is such as "5 of 51 units lie outside the spread of the reference's units at their age, most in
// sensor_15, sensor_8 and sensor_13: p=2e-09".
func becauseSpread(s *turbofan.UnitSpread) string {
	return fmt.Sprintf("%d of %d units lie outside the spread of the reference's units at their age, most in %s: p=%.2g",
		s.Outside, s.Units, strings.Join(s.Channels, ", "), s.PValue)
}
