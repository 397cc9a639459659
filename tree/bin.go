package tree

import (
	"math"
	"slices"
)

const (
	missingBin = 255
	// binSample is how many rows the edges of a column are chosen from, as in
	// scikit-learn's _BinMapper.
	binSample = 200_000
)

// binned is a matrix cut into bins, column-major. Constant columns stay
// out of used, since nothing can be split on them.
type binned struct {
	rows    int
	cols    int
	columns [][]uint8
	// edges[f][b] separates bins b and b+1 of column f: x <= edge goes left.
	edges [][]float32
	// low[f][b] and high[f][b] are the smallest and largest value in a bin.
	low, high [][]float32
	// missing tells the columns that hold a NaN.
	missing []bool
	used    []int
}

func newBinned(x Matrix, maxBins int, p *pool) *binned {
	b := &binned{
		rows: x.Rows, cols: x.Cols,
		columns: make([][]uint8, x.Cols),
		edges:   make([][]float32, x.Cols),
		low:     make([][]float32, x.Cols),
		high:    make([][]float32, x.Cols),
		missing: make([]bool, x.Cols),
	}
	scratch := make([]binScratch, p.workers)
	p.run(x.Cols, func(worker, f int) {
		b.binColumn(x, f, maxBins, &scratch[worker])
	})
	for f := range b.columns {
		if len(b.edges[f]) > 0 {
			b.used = append(b.used, f)
		}
	}
	return b
}

type binScratch struct{ keys, swap []uint32 }

func (b *binned) binColumn(x Matrix, f, maxBins int, s *binScratch) {
	step := 1
	if x.Rows > binSample {
		// An odd stride does not beat with the period of a row pattern as
		// easily as an even one.
		step = (x.Rows/binSample + 1) | 1
	}
	s.keys = s.keys[:0]
	for i := f; i < len(x.Data); i += step * x.Cols {
		if v := x.Data[i]; v == v {
			s.keys = append(s.keys, orderedKey(v))
		}
	}
	if cap(s.swap) < len(s.keys) {
		s.swap = make([]uint32, len(s.keys))
	}
	sortKeys(s.keys, s.swap[:len(s.keys)])
	// The last bin of a column with missing rows is kept free, so that one
	// more edge can part all values from the missing.
	cuts := cutPoints(s.keys, min(maxBins, missingBin-1))
	edges := b.edgesAt(f, s.keys, cuts)
	col := make([]uint8, x.Rows)
	b.missing[f] = assignBins(x, f, edges, col)
	if b.missing[f] && len(s.keys) > 0 {
		edges = append(edges, math.MaxFloat32)
		b.low[f] = append(b.low[f], float32(math.Inf(1)))
		b.high[f] = append(b.high[f], float32(math.Inf(1)))
	}
	b.columns[f] = col
	b.edges[f] = edges
}

// orderedKey maps floats to integers of the same order; -0 and +0 are one key.
func orderedKey(v float32) uint32 {
	u := math.Float32bits(v + 0)
	if u&0x80000000 != 0 {
		return ^u
	}
	return u | 0x80000000
}

func keyValue(k uint32) float32 {
	if k&0x80000000 != 0 {
		return math.Float32frombits(k &^ 0x80000000)
	}
	return math.Float32frombits(^k)
}

// sortKeys is a radix sort in three passes of 11 bits; a comparison sort of
// every column would cost as much as growing the trees.
func sortKeys(keys, swap []uint32) {
	if len(keys) < 2048 {
		slices.Sort(keys)
		return
	}
	var count [3][2048]uint32
	for _, k := range keys {
		count[0][k&2047]++
		count[1][k>>11&2047]++
		count[2][k>>22]++
	}
	src, dst := keys, swap
	for pass := range 3 {
		shift := 11 * pass
		c := &count[pass]
		sum := uint32(0)
		for i, n := range c {
			c[i] = sum
			sum += n
		}
		for _, k := range src {
			d := k >> shift & 2047
			dst[c[d]] = k
			c[d]++
		}
		src, dst = dst, src
	}
	copy(keys, src)
}

// cutPoints returns where to cut sorted keys: i stands for a cut between keys i
// and i+1, which differ. All distinct values are parted when they are few, else
// the cuts are those nearest the quantiles.
func cutPoints(keys []uint32, maxBins int) []int {
	var cuts []int
	for i := 1; i < len(keys) && len(cuts) < maxBins; i++ {
		if keys[i] != keys[i-1] {
			cuts = append(cuts, i-1)
		}
	}
	if len(cuts) < maxBins {
		return cuts
	}
	cuts = cuts[:0]
	last := -1
	for b := 1; b < maxBins; b++ {
		i := b * (len(keys) - 1) / maxBins
		if i <= last {
			continue
		}
		for i+1 < len(keys) && keys[i+1] == keys[i] {
			i++
		}
		if i+1 == len(keys) {
			break
		}
		cuts = append(cuts, i)
		last = i
	}
	return cuts
}

// edgesAt turns cuts into thresholds and records the extent of the bins.
func (b *binned) edgesAt(f int, keys []uint32, cuts []int) []float32 {
	if len(keys) == 0 {
		return nil
	}
	edges := make([]float32, 0, len(cuts)+1)
	low := append(make([]float32, 0, len(cuts)+2), keyValue(keys[0]))
	high := make([]float32, 0, len(cuts)+2)
	for _, i := range cuts {
		edges = append(edges, midpoint(keys[i], keys[i+1]))
		high = append(high, keyValue(keys[i]))
		low = append(low, keyValue(keys[i+1]))
	}
	b.low[f], b.high[f] = low, append(high, keyValue(keys[len(keys)-1]))
	return edges
}

// midpoint returns a threshold t with a <= t < b, also when rounding or an
// infinity spoils the arithmetic mean.
func midpoint(ka, kb uint32) float32 {
	a, b := keyValue(ka), keyValue(kb)
	t := float32((float64(a) + float64(b)) / 2)
	if !(t >= a && t < b) {
		return a
	}
	return t
}

// assignBins writes each row's bin, the number of edges below its value, and
// tells whether any row is missing. The search has no data-dependent branch.
func assignBins(x Matrix, f int, edges []float32, out []uint8) (missing bool) {
	var table [256]float32
	for i := range table {
		table[i] = float32(math.Inf(1))
	}
	copy(table[:], edges)
	for i := range out {
		v := x.Data[i*x.Cols+f]
		if v != v {
			out[i] = missingBin
			missing = true
			continue
		}
		pos := 0
		for step := 128; step > 0; step >>= 1 {
			if table[(pos+step-1)&255] < v {
				pos += step
			}
		}
		out[i] = uint8(pos)
	}
	return missing
}
