package feature

import (
	"math"

	"turbofan"
	"turbofan/condition"
)

// State is what the past of one unit comes to under one Spec. The zero value is not usable: see NewState. It is not
// safe for concurrent use.
type State struct {
	LastCycle int // 0 before the first reading
	Readings  int
	first     int // age at the first reading

	ewma   []float64 // per smoothing factor and kept sensor
	ewmaW  []float64 // weight of each, for the bias correction
	base   []float64 // sum over the unit's own start, per kept sensor
	baseN  []float64
	health []track // per health index
	window []ring  // per kept sensor, only where the recipe has windows

	// Provisional is true when a reading so far was normalised by a condition that was not fixed yet: the state
	// should be rebuilt from the readings once it is.
	Provisional bool
	Generation  int64

	z []float64 // scratch, all sensors
}

// track follows one health index.
type track struct {
	fast, slow   float64 // averages, not corrected for the bias of the first values
	fastW, slowW float64 // their weights
	recent       ring
}

// NewState returns the state of a unit that has sent nothing yet.
func (s *Spec) NewState() *State {
	k := len(s.Keep)
	st := &State{
		ewma: make([]float64, k*len(s.Config.EWMA)), ewmaW: make([]float64, k*len(s.Config.EWMA)),
		base: make([]float64, k), baseN: make([]float64, k), z: make([]float64, len(s.Schema.Sensors)),
	}
	if n := len(s.Health); n > 0 {
		st.health = make([]track, n)
		for i := range st.health {
			st.health[i].recent = newRing(hiSlope2)
		}
	}
	if w := s.longestWindow(); w > 0 {
		st.window = make([]ring, k)
		for i := range st.window {
			st.window[i] = newRing(w)
		}
	}
	return st
}

func (s *Spec) longestWindow() int {
	w := 0
	for _, ws := range [][]int{s.Config.RollingMean, s.Config.RollingStd, s.Config.Slope} {
		for _, n := range ws {
			w = max(w, n)
		}
	}
	for _, n := range s.Config.Delta {
		w = max(w, n+1)
	}
	return w
}

// Step moves st by one reading, whose cycle must be above st.LastCycle, and fills row, which has len(s.Columns) values
// or is nil where none is wanted. Missing values are NaN. It returns the operating condition as Commissioner.Normalize does.
// A cycle that is not above is EConflict, a reading or row of another width EInvalid; st is then as it was. It does not
// allocate.
func (s *Spec) Step(st *State, c *condition.Commissioner, r *turbofan.Reading, row []float32) (int, condition.Status, error) {
	if r.Cycle <= st.LastCycle {
		return 0, 0, turbofan.Errorf(turbofan.EConflict, "cycle %d of unit %s is not after cycle %d, its newest", r.Cycle, r.UnitID, st.LastCycle)
	}
	if row != nil && len(row) != len(s.Columns) || len(r.Sensors) != len(s.Schema.Sensors) || len(r.Settings) != len(s.Schema.Settings) {
		return 0, 0, turbofan.Errorf(turbofan.EInvalid, "reading has %d settings and %d sensors and the row %d columns; the recipe wants %d, %d and %d",
			len(r.Settings), len(r.Sensors), len(row), len(s.Schema.Settings), len(s.Schema.Sensors), len(s.Columns))
	}
	gen := c.Generation()
	k, status := c.Normalize(r.Settings, r.Sensors, st.z)
	if status != condition.Known && !st.Provisional {
		st.Provisional, st.Generation = true, gen
	}
	if st.Readings == 0 {
		st.first = r.Cycle
	}
	st.Readings++
	st.LastCycle = r.Cycle
	s.advance(st, r.Cycle)
	if row != nil {
		s.fill(st, r, row)
	}
	return k, status, nil
}

// HasStart reports whether the unit was seen from the beginning of its life.
func (s *Spec) HasStart(st *State) bool { return st.Readings > 0 && st.first <= s.Config.LateStart }

func (s *Spec) advance(st *State, cycle int) {
	for i, ch := range s.Keep {
		z := st.z[ch]
		if math.IsNaN(z) {
			continue
		}
		for e, a := range s.Config.EWMA {
			j := e*len(s.Keep) + i
			st.ewma[j] = (1-a)*st.ewma[j] + a*z
			st.ewmaW[j] = (1-a)*st.ewmaW[j] + a
		}
		if cycle <= s.Config.BaselineCycles {
			st.base[i] += z
			st.baseN[i]++
		}
	}
	for i, ch := range s.Keep {
		if st.window == nil {
			break
		}
		st.window[i].push(st.z[ch])
	}
	if len(st.health) > 0 && s.HasStart(st) {
		s.advanceHealth(st)
	}
}

// advanceHealth adds one value to each health index. A reading that lacks a sensor is left out: it would shift an index by
// an unknown amount. Changes are clipped to those of training: a way to fail that training never saw can move one sensor so
// far that it alone would decide, by a weight that means nothing there.
func (s *Spec) advanceHealth(st *State) {
	for i, ch := range s.Keep {
		if st.baseN[i] == 0 || math.IsNaN(st.z[ch]) {
			return
		}
	}
	n := len(s.Keep)
	for k := range st.health {
		w := s.Health[k]
		h := w[n]
		for i, ch := range s.Keep {
			d := st.z[ch] - st.base[i]/st.baseN[i]
			if len(s.HealthLow) > 0 {
				d = min(max(d, s.HealthLow[i]), s.HealthHigh[i])
			}
			h += w[i] * d
		}
		st.health[k].push(h)
	}
}

func (t *track) push(h float64) {
	t.fast = (1-hiFast)*t.fast + hiFast*h
	t.slow = (1-hiSlow)*t.slow + hiSlow*h
	t.fastW = (1-hiFast)*t.fastW + hiFast
	t.slowW = (1-hiSlow)*t.slowW + hiSlow
	t.recent.push(h)
}

func (s *Spec) fill(st *State, r *turbofan.Reading, row []float32) {
	c, n := &s.Config, len(s.Keep)
	at := 0
	for j := range st.ewma {
		row[at+j] = ratio(st.ewma[j], st.ewmaW[j])
	}
	at += len(st.ewma)
	if c.BaselineCycles > 0 {
		start := s.HasStart(st)
		for i := range n {
			row[at+i] = missing
			if start && st.baseN[i] > 0 && st.ewmaW[i] > 0 {
				row[at+i] = float32(st.ewma[i]/st.ewmaW[i] - st.base[i]/st.baseN[i])
			}
		}
		at += n
	}
	at = s.fillWindows(st, row, at)
	if c.Interactions {
		for _, v := range r.Settings {
			row[at] = float32(v)
			at++
		}
		for i, v := range r.Settings {
			for _, w := range r.Settings[i:] {
				row[at] = float32(v * w)
				at++
			}
		}
	}
	if c.Age {
		row[at] = float32(r.Cycle)
		at++
	}
	if c.BaselineCycles > 0 {
		row[at] = 0
		if !s.HasStart(st) {
			row[at] = 1
		}
		at++
	}
	for k := range st.health {
		width := (len(row) - at) / (len(st.health) - k)
		st.health[k].fill(r.Cycle, row[at:at+width])
		at += width
	}
}

func (s *Spec) fillWindows(st *State, row []float32, at int) int {
	for _, column := range [...]struct {
		windows []int
		of      func(*ring, int) float64
	}{{s.Config.RollingMean, (*ring).mean}, {s.Config.RollingStd, (*ring).std}, {s.Config.Slope, (*ring).slope}, {s.Config.Delta, (*ring).delta}} {
		for _, w := range column.windows {
			for i := range st.window {
				row[at] = float32(column.of(&st.window[i], w))
				at++
			}
		}
	}
	return at
}

// fill writes the values of healthColumns.
func (t *track) fill(cycle int, row []float32) {
	if t.fastW == 0 {
		for i := range row {
			row[i] = missing
		}
		return
	}
	fast, slow := t.fast/t.fastW, t.slow/t.slowW
	age := float64(cycle)
	row[0], row[1] = float32(fast), float32(slow)
	row[2] = float32(t.recent.mean(hiMean))
	row[3], row[4] = float32(t.recent.slope(hiSlope1)), float32(t.recent.slope(hiSlope2))
	row[5], row[6], row[7] = float32(fast/age), float32(slow/age), float32(fast/math.Sqrt(age))
}

func ratio(a, w float64) float32 {
	if w == 0 {
		return missing
	}
	return float32(a / w)
}

// ring holds the newest values of one series, missing ones as NaN.
type ring struct {
	v    []float32
	next int
	n    int
}

func newRing(size int) ring { return ring{v: make([]float32, size)} }

func (r *ring) push(x float64) {
	r.v[r.next] = float32(x)
	r.next++
	if r.next == len(r.v) {
		r.next = 0
	}
	r.n = min(r.n+1, len(r.v))
}

// back returns the value i steps before the newest.
func (r *ring) back(i int) float64 {
	j := r.next - 1 - i
	if j < 0 {
		j += len(r.v)
	}
	return float64(r.v[j])
}

func (r *ring) mean(w int) float64 {
	sum, n := 0.0, 0.0
	for i := range min(w, r.n) {
		if x := r.back(i); !math.IsNaN(x) {
			sum += x
			n++
		}
	}
	return sum / n
}

func (r *ring) std(w int) float64 {
	m := r.mean(w)
	sum, n := 0.0, 0.0
	for i := range min(w, r.n) {
		if x := r.back(i); !math.IsNaN(x) {
			sum += (x - m) * (x - m)
			n++
		}
	}
	return math.Sqrt(sum / n)
}

// minSlope is the least number of values a slope is drawn through; with fewer it is missing.
const minSlope = 5

// slope is the least-squares slope per reading over the newest w values.
func (r *ring) slope(w int) float64 {
	var n, st, sx, stt, stx float64
	for i := range min(w, r.n) {
		x := r.back(i)
		if math.IsNaN(x) {
			continue
		}
		t := -float64(i)
		n++
		st += t
		sx += x
		stt += t * t
		stx += t * x
	}
	if n < minSlope {
		return math.NaN()
	}
	return (stx - st*sx/n) / (stt - st*st/n)
}

func (r *ring) delta(w int) float64 {
	if r.n <= w {
		return math.NaN()
	}
	return r.back(0) - r.back(w)
}
