package drift

import (
	"math"
	"slices"

	"turbofan"
	"turbofan/condition"
	"turbofan/reference"
)

// track follows one sensor through a window, whatever its unit.
type track struct {
	scale     reference.Scale
	low, high float64     // beyond which a value is out of range
	means     []float64   // of the reference's units, by place in usual
	slopes    []float64   // of the means, per cycle
	watched   bool        // whether the reference says how long a sensor may say the same
	runs      []run       // by unit, where that is watched
	sums      []deviation // by cell
	empty     int         // readings without a value
	out       int         // values beyond low or high
	outUnits  map[int32]struct{}
}

// run is how long the sensor of a unit has said the same.
type run struct {
	last            float64
	length, longest int32
}

func (r *run) add(v float64) {
	if v == r.last {
		r.length++
		r.longest = max(r.longest, r.length)
	} else {
		r.last, r.length = v, 1
	}
}

// deviation is how far a unit's values lie, together, from those of the reference's units at its age, and how many
// they are.
type deviation struct{ sum, n float64 }

func newTrack(ref *reference.Reference, channel int, conditions []condition.Regime, u *usual) track {
	t := track{scale: ref.Scale(channel, conditions), low: math.Inf(-1), high: math.Inf(1), means: u.means[channel], slopes: u.slopes[channel],
		watched: channel < len(ref.Run), outUnits: map[int32]struct{}{}}
	if q := ref.Profile.Channels[channel].Quantiles; len(q) > 0 {
		low, high := q[0], q[len(q)-1]
		t.low, t.high = low-farMargin*(high-low), high+farMargin*(high-low)
	}
	return t
}

// add takes a chunk's values of this channel and leaves there those of the rows that can be judged, normalised. There are
// so many units and cells by now.
func (t *track) add(c *chunk, channel, units, cells int) {
	t.sums = extend(t.sums, cells, deviation{})
	if t.watched { // a million units of a row each need not be remembered otherwise
		t.runs = extend(t.runs, units, run{last: math.NaN()})
	}
	column, n := c.columns[channel], 0
	for i, k := range c.condition {
		if k == misfitRow {
			continue
		}
		v := column[i]
		if t.watched {
			t.runs[c.unit[i]].add(v)
		}
		if v != v {
			t.empty++
		}
		if k == foreignRow {
			continue
		}
		// Readings that were stored before MaxValue was a rule: their sums would not be finite.
		z := t.scale.Z(min(max(v, -turbofan.MaxValue), turbofan.MaxValue), c.seed[i], int(k))
		at := c.meanPlace[i]
		if off := z - t.means[at] - t.slopes[at]*c.since[i]; off == off {
			d := &t.sums[c.cell[i]]
			d.sum += off
			d.n++
		}
		if z < t.low || z > t.high {
			t.out++
			t.outUnits[c.unit[i]] = struct{}{}
		}
		column[n] = z
		n++
	}
}

// extend appends fill until there are n. It makes room for twice as many at a time: append alone would copy a growing table five times.
func extend[T any](v []T, n int, fill T) []T {
	if n > cap(v) {
		v = slices.Grow(v, 2*n-len(v))
	}
	for len(v) < n {
		v = append(v, fill)
	}
	return v
}

// usual says what the reference's units are like at each age in each condition of training: tables by place, two for
// each condition and age band, before the mean age of the band and after. Place 0 is where nothing is known.
type usual struct {
	ref    *reference.Reference
	start  []int32     // of a condition's places; 0 where its units' spread is not known
	scales []float64   // by place
	means  [][]float64 // [channel][place], NaN where it is not known
	slopes [][]float64 // of the means, per cycle
}

func newUsual(ref *reference.Reference) usual {
	u := usual{ref: ref, start: make([]int32, len(ref.Spreads)), scales: make([]float64, 1), means: make([][]float64, len(ref.Keep)), slopes: make([][]float64, len(ref.Keep))}
	for k, s := range ref.Spreads {
		if s == nil {
			continue
		}
		u.start[k] = int32(len(u.scales))
		for _, scale := range s.Scales {
			u.scales = append(u.scales, scale, scale)
		}
	}
	for j := range u.means {
		u.means[j], u.slopes[j] = make([]float64, len(u.scales)), make([]float64, len(u.scales))
		for p := range u.means[j] {
			u.means[j][p] = math.NaN()
		}
	}
	for k, s := range ref.Spreads {
		if s == nil {
			continue
		}
		for band, mean := range s.Means {
			for i, m := range mean {
				for half := range 2 {
					j, at := s.Channels[i], int(u.start[k])+2*band+half
					u.means[j][at], u.slopes[j][at] = m, s.Course(band, i, half == 1)
				}
			}
		}
	}
	return u
}

// knows reports whether the spread of the reference's units in condition k is known.
func (u *usual) knows(k int) bool { return k < len(u.start) && u.start[k] > 0 }

// place returns where to look up a reading in condition k, 0 where that is nowhere, and how many cycles it came after
// the age of the mean there.
func (u *usual) place(k, age int) (at int32, since float64) {
	if k < 0 || !u.knows(k) {
		return 0, 0
	}
	s := u.ref.Spreads[k]
	band := s.Band(age)
	if s.Means[band] == nil {
		return 0, 0
	}
	at, since = u.start[k]+2*int32(band), s.Since(band, age)
	if since > 0 {
		at++
	}
	return at, since
}
