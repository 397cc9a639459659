package stat

import (
	"fmt"
	"math"
	"slices"
	"sort"

	"gonum.org/v1/gonum/mat"
)

const (
	// minSpreadUnits is the least number of units from which an age band has a mean.
	minSpreadUnits = 10
	// minSpreadRows is the least number of rows that a unit must have in an age band
	// to be counted there.
	minSpreadRows = 2
	// spreadFolds is into how many parts the units are split to learn how far a unit
	// lies from others that it was not counted among.
	spreadFolds = 10
)

// Spread says how the units of a reference differ from one another at the same age,
// over all channels at once: how far their means lie apart, and in which directions
// together. A new kind of wear shows in one unit as channels that no longer go
// together, long before any one channel's distribution over the fleet has moved.
//
// It is the random-effects model of multivariate control charts (Hotelling 1947; Jackson
// 1991, chapter 2): the mean of n rows of a unit in an age band is normal about the
// band's mean with covariance Between + Within/n.
type Spread struct {
	// Channels are those that are nearly always present and vary, by position in the
	// profile.
	Channels []int `json:"channels"`
	// AgeEdges are the inner edges of the age bands, Means the mean of the units in each and
	// Ages the mean age at which it was; a band of fewer than ten units has none and judges
	// nobody. Within a band units wear, see Course.
	AgeEdges []int       `json:"age_edges"`
	Means    [][]float64 `json:"means"`
	Ages     []float64   `json:"ages"`
	// Between and Within are covariances, row by row, of unit means about those of their
	// band and of rows about those of their unit.
	Between [][]float64 `json:"between"`
	Within  [][]float64 `json:"within"`
	// Scales are, by age band, the ninth decile of the distances at which the reference's
	// units lie from the spread of units that they were not counted among.
	Scales []float64 `json:"scales"`
	Units  int       `json:"units"`
}

// HeldOut is a unit of the reference in one age band, seen by the others: its distance
// in multiples of the band's scale.
type HeldOut struct {
	Unit, Band int
	Rows       float64
	Ratio      float64
}

// unitWindow is one unit in one age band.
type unitWindow struct {
	unit, band int
	n          float64
	age        float64 // mean of the rows
	mean       []float64
	scatter    *mat.SymDense // sum of squares of the rows about their mean
}

// BuildSpread learns the spread of units from rows values[channel][row], NaN where a
// reading is missing, with the age and the unit of each row, and says how far each unit
// lies from a spread that was learned without it. Both are nil without an error where
// the units are too few: fewer than twenty, or than three for every channel.
func BuildSpread(values [][]float64, age, unit []int, ageEdges []int) (*Spread, []HeldOut, error) {
	if len(values) == 0 || len(age) != len(values[0]) || len(unit) != len(age) {
		return nil, nil, fmt.Errorf("build spread: values, age and unit must have as many rows")
	}
	s := &Spread{AgeEdges: slices.Clone(ageEdges), Channels: complete(values)}
	windows := s.windows(values, age, unit)
	if !s.fit(windows, nil) {
		return nil, nil, nil
	}
	held := s.holdOut(windows)
	s.Scales = make([]float64, len(s.Means))
	byBand := make([][]float64, len(s.Means))
	for _, h := range held {
		byBand[h.Band] = append(byBand[h.Band], h.Ratio)
	}
	for b, far := range byBand {
		if len(far) < minSpreadUnits {
			s.Means[b] = nil
			continue
		}
		slices.Sort(far)
		s.Scales[b] = sortedQuantile(far, 0.9)
	}
	held = slices.DeleteFunc(held, func(h HeldOut) bool { return !(s.Scales[h.Band] > 0) })
	if len(held) == 0 {
		return nil, nil, nil
	}
	for i := range held {
		held[i].Ratio /= s.Scales[held[i].Band]
	}
	return s, held, nil
}

// holdOut measures each window, in turns, by a spread of the units of all others.
func (s *Spread) holdOut(windows []unitWindow) []HeldOut {
	units := map[int]int{}
	for i := range windows {
		if _, ok := units[windows[i].unit]; !ok {
			units[windows[i].unit] = len(units)
		}
	}
	s.Units = len(units)
	var out []HeldOut
	for fold := range spreadFolds {
		rest := *s
		if !rest.fit(windows, func(w *unitWindow) bool { return units[w.unit]%spreadFolds != fold }) {
			continue
		}
		ruler, d, part := rest.Ruler(), make([]float64, len(s.Channels)), make([]float64, len(s.Channels))
		for i := range windows {
			w := &windows[i]
			if units[w.unit]%spreadFolds != fold || rest.Means[w.band] == nil {
				continue
			}
			rest.deviation(w, d)
			if far, ok := ruler.Distance(d, w.n, part); ok {
				out = append(out, HeldOut{w.unit, w.band, w.n, far})
			}
		}
	}
	return out
}

// complete returns the channels that have a value in nearly every row and vary.
func complete(values [][]float64) []int {
	var out []int
	for c, v := range values {
		n, varies, first := 0, false, math.NaN()
		for _, x := range v {
			if x != x {
				continue
			}
			if n == 0 {
				first = x
			}
			n++
			varies = varies || x != first
		}
		if varies && 10*n >= 9*len(v) {
			out = append(out, c)
		}
	}
	return out
}

// Band returns the age band of an age in cycles, as in a Profile of the same edges.
func (s *Spread) Band(age int) int { return sort.SearchInts(s.AgeEdges, age+1) }

// Course returns how fast the mean of Channels[i] changes at an age of a band that has a mean, per cycle: the mean at
// that age is Means[band][i] and as much for each cycle since Ages[band]. It runs straight from band to band, and beyond
// the first and the last as inside of them. 0 where only one band is known.
func (s *Spread) Course(band, i int, later bool) float64 {
	before, after := s.slope(band-1, band, i), s.slope(band, band+1, i)
	if later && after == after || before != before {
		before = after
	}
	if before != before {
		return 0
	}
	return before
}

// slope is how fast the mean changes from band a to band b, NaN where one has none.
func (s *Spread) slope(a, b, i int) float64 {
	if a < 0 || b >= len(s.Means) || s.Means[a] == nil || s.Means[b] == nil || !(s.Ages[b] > s.Ages[a]) {
		return math.NaN()
	}
	return (s.Means[b][i] - s.Means[a][i]) / (s.Ages[b] - s.Ages[a])
}

// Since returns how many cycles an age lies behind Ages[band], no more than that lies behind the begin of its band: how
// units wear further on is not known.
func (s *Spread) Since(band, age int) float64 {
	begin := 0
	if band > 0 {
		begin = s.AgeEdges[band-1]
	}
	return min(float64(age)-s.Ages[band], s.Ages[band]-float64(begin))
}

// deviation writes to d how far a window lies from the mean of its band at its own mean age: a unit that ended in the
// middle of the band has only its first half.
func (s *Spread) deviation(w *unitWindow, d []float64) {
	since := w.age - s.Ages[w.band]
	for i, m := range w.mean {
		d[i] = m - s.Means[w.band][i] - since*s.Course(w.band, i, since > 0)
	}
}

func (s *Spread) windows(values [][]float64, age, unit []int) []unitWindow {
	type key struct{ unit, band int }
	number := map[key]int{}
	var out []unitWindow
	p := len(s.Channels)
	row := make([]float64, p)
	before := make([]float64, p)
	for r := range age {
		whole := true
		for j, c := range s.Channels {
			row[j] = values[c][r]
			whole = whole && row[j] == row[j]
		}
		if !whole {
			continue
		}
		k := key{unit[r], s.Band(age[r])}
		i, ok := number[k]
		if !ok {
			i = len(out)
			number[k] = i
			out = append(out, unitWindow{unit: k.unit, band: k.band, mean: make([]float64, p), scatter: mat.NewSymDense(max(p, 1), nil)})
		}
		w := &out[i]
		w.n++
		w.age += (float64(age[r]) - w.age) / w.n
		for j, v := range row { // Welford's recurrence in several dimensions
			before[j] = v - w.mean[j]
			w.mean[j] += before[j] / w.n
		}
		for a := range row {
			for b := a; b < p; b++ {
				w.scatter.SetSym(a, b, w.scatter.At(a, b)+before[a]*(row[b]-w.mean[b]))
			}
		}
	}
	return slices.DeleteFunc(out, func(w unitWindow) bool { return w.n < minSpreadRows })
}

// fit sets the means and covariances from the windows that use takes; nil takes all.
// False where they are too few.
func (s *Spread) fit(windows []unitWindow, use func(*unitWindow) bool) bool {
	p := len(s.Channels)
	if p == 0 {
		return false
	}
	s.Means, s.Ages = make([][]float64, len(s.AgeEdges)+1), make([]float64, len(s.AgeEdges)+1)
	units, count := map[int]bool{}, make([]float64, len(s.Means))
	var chosen []*unitWindow
	for i := range windows {
		if w := &windows[i]; use == nil || use(w) {
			chosen = append(chosen, w)
			units[w.unit] = true
			count[w.band]++
		}
	}
	if len(units) < max(2*minSpreadUnits, 3*p) {
		return false
	}
	for b, n := range count {
		if n >= minSpreadUnits {
			s.Means[b] = make([]float64, p)
		}
	}
	for _, w := range chosen {
		if s.Means[w.band] == nil {
			continue
		}
		s.Ages[w.band] += w.age / count[w.band]
		for j, m := range w.mean {
			s.Means[w.band][j] += m / count[w.band]
		}
	}
	return s.covariances(chosen)
}

// covariances are the moment estimates: what unit means scatter beyond what the rows
// that they are of explain. A direction in which that is below 0 has no spread.
func (s *Spread) covariances(windows []*unitWindow) bool {
	p := len(s.Channels)
	within, total := mat.NewSymDense(p, nil), mat.NewSymDense(p, nil)
	freeWithin, freeTotal, inverse, n := 0.0, 0.0, 0.0, 0.0
	d := make([]float64, p)
	bands := map[int]bool{}
	for _, w := range windows {
		within.AddSym(within, w.scatter)
		freeWithin += w.n - 1
		if s.Means[w.band] == nil {
			continue
		}
		bands[w.band] = true
		s.deviation(w, d)
		total.SymRankOne(total, 1, mat.NewVecDense(p, d))
		inverse += 1 / w.n
		n++
	}
	if freeTotal = n - float64(len(bands)); !(freeWithin > float64(p)) || !(freeTotal > float64(p)) {
		return false
	}
	within.ScaleSym(1/freeWithin, within)
	total.ScaleSym(1/freeTotal, total)
	for j := range p { // a channel that is a sum of others would make it singular
		within.SetSym(j, j, within.At(j, j)*(1+1e-6)+1e-12)
	}
	between, ok := beyond(total, within, inverse/n)
	if !ok {
		return false
	}
	s.Between, s.Within = rowsOf(between), rowsOf(within)
	return true
}

// beyond is total - share·within without its negative part, in coordinates in which
// within is the identity.
func beyond(total, within *mat.SymDense, share float64) (*mat.SymDense, bool) {
	p := total.SymmetricDim()
	var chol mat.Cholesky
	if !chol.Factorize(within) {
		return nil, false
	}
	var l mat.TriDense
	chol.LTo(&l)
	var left, white mat.Dense
	if left.Solve(&l, total) != nil || white.Solve(&l, left.T()) != nil {
		return nil, false
	}
	sym := mat.NewSymDense(p, nil)
	for a := range p {
		for b := a; b < p; b++ {
			sym.SetSym(a, b, (white.At(a, b)+white.At(b, a))/2)
		}
	}
	var eig mat.EigenSym
	if !eig.Factorize(sym, true) {
		return nil, false
	}
	var vectors, back mat.Dense
	eig.VectorsTo(&vectors)
	back.Mul(&l, &vectors)
	out := mat.NewSymDense(p, nil)
	for k, v := range eig.Values(nil) {
		if v > share {
			out.SymRankOne(out, v-share, back.ColView(k))
		}
	}
	return out, true
}

func rowsOf(m *mat.SymDense) [][]float64 {
	p := m.SymmetricDim()
	out := make([][]float64, p)
	for a := range p {
		out[a] = make([]float64, p)
		for b := range p {
			out[a][b] = m.At(a, b)
		}
	}
	return out
}

// Validate says whether the parts fit each other and a profile of so many channels.
func (s *Spread) Validate(channels int) error {
	p := len(s.Channels)
	switch {
	case p == 0 || len(s.Between) != p || len(s.Within) != p:
		return fmt.Errorf("check spread: %d channels, %d and %d rows of covariances, must be equal and at least 1", p, len(s.Between), len(s.Within))
	case len(s.Means) != len(s.AgeEdges)+1 || len(s.Scales) != len(s.Means) || len(s.Ages) != len(s.Means):
		return fmt.Errorf("check spread: %d means, %d ages and %d scales for %d age bands", len(s.Means), len(s.Ages), len(s.Scales), len(s.AgeEdges)+1)
	case slices.Min(s.Channels) < 0 || slices.Max(s.Channels) >= channels:
		return fmt.Errorf("check spread: channels must be from 0 to %d", channels-1)
	}
	for b, m := range s.Means {
		if m != nil && (len(m) != p || !(s.Scales[b] > 0)) {
			return fmt.Errorf("check spread: age band %d has a mean of %d values for %d channels, and a scale of %v", b, len(m), p, s.Scales[b])
		}
	}
	for i := range p {
		if len(s.Between[i]) != p || len(s.Within[i]) != p {
			return fmt.Errorf("check spread: a covariance is not square")
		}
	}
	return nil
}
