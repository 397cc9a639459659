package stat

import (
	"math"
	"sync"
)

// Distance is the squared Mahalanobis distance (Mahalanobis 1936) of the mean of a unit's
// n rows from the means of the reference's units. The one channel that adds most to it is
// left out: a broken sensor disagrees with all others, and is no new kind of wear.
//
// deviation is the unit's mean less the reference's mean at its age, one value for each of
// Channels, NaN where it is not known. part, as long, is what each channel adds that the
// others do not explain, 0 where it is not known. ok is false where fewer than two
// channels are known.
func (s *Spread) Distance(deviation []float64, n float64) (distance float64, part []float64, ok bool) {
	part = make([]float64, len(deviation))
	distance, ok = s.Ruler().Distance(deviation, n, part)
	return distance, part, ok
}

// maxWhitenings bounds what a Ruler remembers: 2.6 MiB for 25 channels.
const maxWhitenings = 256

// Ruler measures many units by one spread, as Spread.Distance does: what depends on the number of rows alone, and is
// most of the work, it computes once for each. It is safe for concurrent use.
type Ruler struct {
	spread *Spread
	all    []int // channels

	mu    sync.Mutex
	whole map[float64]*whitening // by rows, where every channel is known; nil where the covariance has no inverse
}

// Ruler returns a ruler that remembers nothing yet.
func (s *Spread) Ruler() *Ruler {
	r := &Ruler{spread: s, all: make([]int, len(s.Between)), whole: map[float64]*whitening{}}
	for j := range r.all {
		r.all[j] = j
	}
	return r
}

// Distance is Spread.Distance; part, as long as deviation, is written over.
func (r *Ruler) Distance(deviation []float64, n float64, part []float64) (distance float64, ok bool) {
	known := 0
	for _, d := range deviation {
		if d == d {
			known++
		}
	}
	if known < 2 || !(n > 0) {
		return 0, false
	}
	if known == len(deviation) {
		w := r.whitening(n)
		if w == nil {
			return 0, false
		}
		return w.distance(deviation, part), true
	}
	at, d := make([]int, 0, known), make([]float64, 0, known)
	for j, v := range deviation {
		if v == v {
			at, d = append(at, j), append(d, v)
		}
	}
	w := r.spread.whitening(at, n)
	if w == nil {
		return 0, false
	}
	some := make([]float64, known)
	distance = w.distance(d, some)
	clear(part)
	for a, j := range at {
		part[j] = some[a]
	}
	return distance, true
}

// whitening returns that of all channels for n rows, a new one where none is remembered.
func (r *Ruler) whitening(n float64) *whitening {
	r.mu.Lock()
	w, ok := r.whole[n]
	r.mu.Unlock()
	if ok {
		return w
	}
	w = r.spread.whitening(r.all, n)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.whole) < maxWhitenings {
		r.whole[n] = w
	}
	return w
}

// whitening makes deviations of some channels, of means of so many rows, independent and of variance 1.
type whitening struct {
	lower    []float64 // L, row by row: the Cholesky factor of the covariance
	inverse  []float64 // of L, column by column
	diagonal []float64 // of the inverse of the covariance
}

// whitening returns that of the channels at for means of n rows; nil where their covariance has no inverse.
func (s *Spread) whitening(at []int, n float64) *whitening {
	p := len(at)
	cov := make([]float64, p*p)
	for a, i := range at {
		for b, j := range at[:a+1] {
			cov[a*p+b] = s.Between[i][j] + s.Within[i][j]/n
		}
	}
	if !cholesky(cov, p) {
		return nil
	}
	w := &whitening{lower: cov, inverse: invert(cov, p), diagonal: make([]float64, p)}
	for a := range p {
		for _, v := range w.inverse[a*p+a : a*p+p] {
			w.diagonal[a] += v * v
		}
	}
	return w
}

// distance writes each channel's part over part, and returns their sum in effect without the largest.
func (w *whitening) distance(deviation, part []float64) float64 {
	p := len(deviation)
	total, largest := 0.0, 0.0
	white := part // L⁻¹ d: its products with the columns of L⁻¹ give what the inverse of the covariance would
	for i, d := range deviation {
		row := w.lower[i*p : i*p+i+1]
		for k, x := range row[:i] {
			d -= x * white[k]
		}
		white[i] = d / row[i]
	}
	for a := range p { // what is left of white is not needed once its place is written over
		var e float64
		left := white[a:p]
		for b, x := range w.inverse[a*p+a : a*p+p] {
			e += x * left[b]
		}
		total += white[a] * white[a]
		part[a] = e * e / w.diagonal[a]
		largest = max(largest, part[a])
	}
	return max(0, total-largest)
}

// singular is how much smaller than its variance what a channel adds to those before it may be.
const singular = 1e-13

// cholesky replaces the lower triangle of a covariance matrix of p rows by its Cholesky factor. False where the matrix
// is not positive definite. For so few channels this takes a third of what LAPACK's general routines do.
func cholesky(cov []float64, p int) bool {
	for i := range p {
		row := cov[i*p : i*p+i+1]
		variance := row[i]
		for j := range i {
			other := cov[j*p : j*p+j+1]
			v := row[j]
			for k, x := range other[:j] {
				v -= row[k] * x
			}
			row[j] = v / other[j]
			row[i] -= row[j] * row[j]
		}
		if !(row[i] > singular*variance) {
			return false
		}
		row[i] = math.Sqrt(row[i])
	}
	return true
}

// invert returns the inverse of a lower triangular matrix of p rows, column by column.
func invert(lower []float64, p int) []float64 {
	out := make([]float64, p*p)
	for i := range p { // row i needs those before it, already inverted, and its own
		row := lower[i*p : i*p+i+1]
		for j := range i {
			v := 0.0
			for k, x := range out[j*p+j : j*p+i] {
				v += row[j+k] * x
			}
			out[j*p+i] = -v / row[i]
		}
		out[i*p+i] = 1 / row[i]
	}
	return out
}
