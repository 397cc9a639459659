package drift

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

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

// outsider is a unit by how far it lies out.
type outsider struct {
	unit   string
	ratio  float64
	chance float64   // that a unit of the reference's kind lies as far out, at its age
	part   []float64 // by channel of the reference
}

// unitSpread judges each unit by itself, at its age and only in conditions that training knew: how units differ from one
// another in a condition that was commissioned is not known. It is nil where the reference does not say how its units
// differ, or no unit of the window can be judged.
//
// How likely a unit of the reference's kind is to lie as far out as each does at its age is learned from the reference's
// own (stat.Tail). Under no drift the k-th least of n such probabilities is as small as it is with that of k successes of
// n. That is asked for each k from SpreadUnits to maxOutside, so that few units far out and more that are only odd are
// both seen; half of what may alarm by chance goes to the first, half of the rest to each that follows.
//
// A sensor that drifted by itself has no part in it: that is the affair of the rule on sensors, which asks for more than
// one. Without this a sensor that is off in the whole fleet, and so is the one that each unit is not judged by, leaves
// all others, of which the reference's units leave out the furthest too.
func (c *Collector) unitSpread(channels []turbofan.ChannelDrift) *turbofan.UnitSpread {
	ref, cfg := c.ref, c.cfg
	if cfg.SpreadUnits == 0 || len(ref.SpreadTails) == 0 {
		return nil
	}
	out := &turbofan.UnitSpread{PValue: 1}
	off := make([]bool, len(c.tracks))
	for _, d := range channels {
		if d.Drifted {
			off[slices.IndexFunc(ref.Profile.Channels, func(p stat.ChannelProfile) bool { return p.Name == d.Channel })] = true
		}
	}
	units := c.distances(off)
	if len(units) == 0 {
		return nil
	}
	out.Units = len(units)
	slices.SortStableFunc(units, func(a, b outsider) int { return cmp.Or(cmp.Compare(a.chance, b.chance), cmp.Compare(b.ratio, a.ratio)) })
	last := max(maxOutside, cfg.SpreadUnits)
	for k := cfg.SpreadUnits; k <= min(last, len(units)); k++ {
		p := stat.BinomialTail(k, len(units), units[k-1].chance) * math.Exp2(float64(k-cfg.SpreadUnits+1))
		if p < out.PValue {
			out.PValue, out.Outside = p, k
		}
	}
	if out.Outside == last { // there may be more
		for out.Outside < len(units) && float64(len(units))*units[out.Outside].chance < cfg.SpreadAlpha {
			out.Outside++
		}
	}
	out.Drifted = out.PValue < cfg.SpreadAlpha
	name(out, ref, units[:out.Outside])
	return out
}

// distances returns how far each unit lies out by the sensors that are not off, where that can be told, in order of their
// first reading.
func (c *Collector) distances(off []bool) []outsider {
	rulers := make([]*stat.Ruler, len(c.ref.Spreads))
	for k, s := range c.ref.Spreads {
		if s != nil {
			rulers[k] = s.Ruler()
		}
	}
	found := make([]outsider, len(c.units))
	blocks := (len(found) + unitBlock - 1) / unitBlock
	each(blocks, c.rows, func(block int) {
		for u := block * unitBlock; u < min((block+1)*unitBlock, len(found)); u++ {
			if ratio, part, ok := c.distance(u, rulers, off); ok {
				found[u] = outsider{c.units[u].id, ratio, c.ref.Chance(ratio, c.units[u].newest), part}
			}
		}
	})
	return slices.DeleteFunc(found, func(o outsider) bool { return o.part == nil })
}

// unitBlock is how many units one processor takes.
const unitBlock = 64

// distance is how far a unit lies out, over its conditions by their readings, and by how much of that each sensor does.
func (c *Collector) distance(unit int, rulers []*stat.Ruler, off []bool) (ratio float64, part []float64, ok bool) {
	rows := 0.0
	at := c.cellOf[unit*len(c.places.known.Regimes):]
	var mean, parts []float64
	for k, s := range c.ref.Spreads {
		cell := &c.cells[at[k]]
		if cell.rows < 1 {
			continue
		}
		mean, parts = resize(mean, len(s.Channels)), resize(parts, len(s.Channels))
		least := cell.rows
		for i, j := range s.Channels {
			mean[i] = math.NaN()
			// A sensor that is mostly silent says nothing of the unit.
			if d := c.tracks[j].sums[at[k]]; !off[j] && 2*d.n >= cell.rows {
				mean[i], least = d.sum/d.n, min(least, d.n)
			}
		}
		far, usable := rulers[k].Distance(mean, least, parts)
		if !usable {
			continue
		}
		if part == nil {
			part = make([]float64, len(c.tracks))
		}
		rows += cell.rows
		ratio += cell.rows * far / (cell.scale / cell.rows)
		for i, j := range s.Channels {
			part[j] += cell.rows * parts[i]
		}
	}
	if rows < spreadRows {
		return 0, nil, false
	}
	return ratio / rows, part, true
}

func resize(v []float64, n int) []float64 { return slices.Grow(v[:0], n)[:n] }

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
