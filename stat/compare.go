package stat

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	gonum "gonum.org/v1/gonum/stat"
)

// MaxCompareRows bounds the current rows that Compare sorts for KS and Wasserstein.
// PSI, means and counts use every row.
const MaxCompareRows = 1 << 15

// Alpha is the probability with which PSI passes Scores.PSIThreshold under no drift.
const Alpha = 0.05

// Scores say how far the current rows of one channel lie from the reference rows of
// the same ages.
type Scores struct {
	Name string `json:"name"`
	// PSI over the profile's bins, smoothed by Smoothing, and the value it passes with
	// probability Alpha if nothing changed (PSIThreshold with Independent and Reference
	// rows); PSIP is that probability for this PSI. PSIExcess is PSI less what as many
	// independent rows give on average by chance: comparable over window sizes.
	PSI          float64 `json:"psi"`
	PSIExcess    float64 `json:"psi_excess"`
	PSIThreshold float64 `json:"psi_threshold"`
	PSIP         float64 `json:"psi_p"`
	// KS is the largest distance between the distribution functions, KSP its p-value,
	// Wasserstein the area between them in the channel's unit.
	KS          float64 `json:"ks"`
	KSP         float64 `json:"ks_p"`
	Wasserstein float64 `json:"wasserstein"`
	// MeanShift is current mean less expected mean, in reference standard deviations;
	// in the channel's unit when the reference is constant.
	MeanShift float64 `json:"mean_shift"`
	Mean      float64 `json:"mean"`     // current
	Expected  float64 `json:"expected"` // reference mean at the current ages
	N         int     `json:"n"`        // current rows with a value
	// Reference is the number of independent rows that the age-weighted reference is
	// worth, (sum w)²/(sum w²) of Kish (1965, section 11.7), and Independent that of the
	// current rows: N when units are not known, fewer when they are.
	Reference   float64 `json:"reference"`
	Independent float64 `json:"independent"`
	// Borrowed is the share of current rows whose age band has no reference rows and
	// is judged by a neighbouring band (see Profile.Expected).
	Borrowed float64 `json:"borrowed"`
}

// Compare scores each channel of current rows, values[channel][row] in the profile's
// order with NaN where a reading is missing, against the reference rows weighted to
// the same ages. age is parallel to the rows; nil only for a profile of one band. A
// channel without any current value is left out of the result: nothing is known of it.
//
// KS and Wasserstein compare at most MaxCompareRows current rows, one drawn from each
// of as many equal stretches by a fixed seed, with the age-weighted order statistics
// of the profile; the p-value of KS takes no more current rows than were drawn. The same arguments give the same scores.
func (p *Profile) Compare(values [][]float64, age []int) ([]Scores, error) {
	return p.CompareUnits(values, age, nil)
}

// CompareUnits is Compare with the unit of each row. The readings of one engine
// resemble each other, so that 2000 rows of 50 engines tell less than 2000 independent
// rows; with the units known, Independent, Reference and with them PSIThreshold, PSIP
// and KSP count rows by the design effect 1+(m-1)rho (Kish 1965, section 5.4; Rao and
// Scott 1981 for chi-squared tests), m the rows per unit and rho the channel's Rho.
//
// For KS, rho is RhoKS and the reference counts rows per unit and age band: that
// overlooks what a unit's bands have in common, and the law of KS overlooks that ages
// are matched, which makes the distance smaller; the two about cancel. On halves of
// C-MAPSS FD001 that share no unit, 50 units each and windows of 500 to 2000 rows,
// p below 0.05 happens in 3 to 4% of the channels by PSI and 3 to 5% by KS; with rows
// taken for independent, in 64 to 88%.
func (p *Profile) CompareUnits(values [][]float64, age, unit []int) ([]Scores, error) {
	if len(values) != len(p.Channels) || len(values) == 0 {
		return nil, fmt.Errorf("compare with profile: values has %d channels, the profile %d, must be equal", len(values), len(p.Channels))
	}
	if err := p.Validate(); err != nil {
		return nil, fmt.Errorf("compare with profile: %w", err)
	}
	names := make([]string, len(values))
	for i, c := range p.Channels {
		names[i] = c.Name
	}
	if err := checkRows(names, values, age); err != nil {
		return nil, fmt.Errorf("compare with profile: %w", err)
	}
	if age == nil && len(p.AgeEdges) > 0 {
		return nil, errors.New("compare with profile: age is missing, the profile has age bands")
	}
	if unit != nil && len(unit) != len(values[0]) {
		return nil, fmt.Errorf("compare with profile: unit has %d rows, values has %d, must be equal", len(unit), len(values[0]))
	}
	w := window{band: p.rowBands(age, len(values[0])), rows: spread(len(values[0]), MaxCompareRows), known: unit != nil}
	_, w.unitRows = clusters(unit)
	all := make([]Scores, len(values))
	err := eachChannel(len(values), func(c int) error {
		var err error
		all[c], err = p.compareChannel(c, values[c], w)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("compare with profile: %w", err)
	}
	return slices.DeleteFunc(all, func(s Scores) bool { return s.N == 0 }), nil
}

// window is what all channels of one comparison share.
type window struct {
	band     []uint16
	rows     []int // drawn for KS and Wasserstein
	unitRows float64
	known    bool // units are
}

func (p *Profile) compareChannel(channel int, values []float64, w window) (Scores, error) {
	c := &p.Channels[channel]
	s := Scores{Name: c.Name}
	hist, ages, mean, err := c.tally(values, w.band)
	if err != nil {
		return s, err
	}
	s.N = int(sum(ages))
	if s.N == 0 {
		return s, nil
	}
	for b, n := range ages {
		if n > 0 && c.lender(b) != b {
			s.Borrowed += n / float64(s.N)
		}
	}
	share := c.lend(ages)
	var worth, shift float64
	for b, n := range share {
		share[b] = n / float64(s.N)
		if n > 0 {
			worth += share[b] * share[b] / sum(c.Counts[b])
			shift += share[b] * (c.BandMeans[b] - c.Mean)
		}
	}
	s.Reference, s.Independent = 1/worth, float64(s.N)
	if w.known {
		s.Reference /= designEffect(p.UnitRows, c.Rho)
		s.Independent /= designEffect(w.unitRows, c.Rho)
	}
	s.Mean, s.Expected = mean, c.Mean+shift
	s.MeanShift = s.Mean - s.Expected
	if c.Std > 0 {
		s.MeanShift /= c.Std
	}
	if s.PSI, err = PSI(p.Expected(channel, ages), hist, Smoothing); err != nil {
		return s, fmt.Errorf("channel %s: %w", c.Name, err)
	}
	s.PSIThreshold = PSIThreshold(len(hist), s.Reference, s.Independent, Alpha)
	s.PSIP = PSIPValue(s.PSI, len(hist), s.Reference, s.Independent)
	s.PSIExcess = s.PSI - float64(len(hist)-1)*(worth+1/float64(s.N))
	drawn := c.distances(&s, values, w.rows, share)
	nr, nc := 1/worth, float64(s.N)
	if w.known {
		nr /= designEffect(p.CellRows, c.RhoKS)
		nc /= designEffect(w.unitRows, c.RhoKS)
	}
	s.KSP = ksPValue(s.KS, nr, min(nc, float64(drawn)))
	return s, nil
}

// tally is one pass over the rows of a channel: counts per bin and per age band of the
// rows that have a value, and their mean.
func (c *ChannelProfile) tally(values []float64, band []uint16) (hist, ages []float64, mean float64, err error) {
	hist, ages = make([]float64, len(c.Edges)+1), make([]float64, len(c.Counts))
	// Differences from the reference mean, for the reason given at meanFrom.
	var total, n float64
	for r, x := range values {
		if x-x != 0 {
			if x != x {
				continue
			}
			return nil, nil, 0, fmt.Errorf("channel %s row %d is %v, must be finite or NaN", c.Name, r, x)
		}
		hist[bin(c.Edges, x)]++
		ages[band[r]]++
		total += x - c.Mean
		n++
	}
	return hist, ages, c.Mean + total/n, nil
}

// distances sets KS and Wasserstein and returns the number of current rows they took.
func (c *ChannelProfile) distances(s *Scores, values []float64, rows []int, share []float64) (drawn int) {
	current := make([]float64, 0, len(rows))
	for _, r := range rows {
		if x := values[r]; x == x {
			current = append(current, x)
		}
	}
	if len(current) == 0 {
		// The few values there are all lie between the rows drawn.
		current = present(values)
		current = current[:min(len(current), MaxCompareRows)]
	}
	slices.Sort(current)
	type point struct{ v, w float64 }
	var points []point
	for b, w := range share {
		for _, v := range c.Sample[b] {
			if w > 0 {
				points = append(points, point{v, w / float64(len(c.Sample[b]))})
			}
		}
	}
	slices.SortFunc(points, func(a, b point) int { return cmp.Compare(a.v, b.v) })
	ref, weight := make([]float64, len(points)), make([]float64, len(points))
	for i, q := range points {
		ref[i], weight[i] = q.v, q.w
	}
	s.KS = gonum.KolmogorovSmirnov(ref, weight, current, nil)
	s.Wasserstein = sortedWasserstein(ref, weight, current)
	return len(current)
}

// spread draws one of each of n equal stretches of rows, all rows when there are no
// more than n. A fixed stride would see the same engine every time when a fleet
// reports in turn.
func spread(rows, n int) []int {
	out := make([]int, min(rows, n))
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range out {
		lo, hi := i*rows/len(out), (i+1)*rows/len(out)
		out[i] = lo + rng.IntN(hi-lo)
	}
	return out
}

// Validate says whether the profile's parts fit each other. Call it on a profile read
// from a file.
func (p *Profile) Validate() error {
	bands := len(p.AgeEdges) + 1
	if bands > math.MaxUint16 {
		return fmt.Errorf("check profile: age_edges has %d, must be below %d", len(p.AgeEdges), math.MaxUint16)
	}
	for _, c := range p.Channels {
		if len(c.Counts) != bands || len(c.Sample) != bands || len(c.BandMeans) != bands {
			return fmt.Errorf("check profile: channel %s has %d bands of counts, %d of sample, %d of means, must be %d",
				c.Name, len(c.Counts), len(c.Sample), len(c.BandMeans), bands)
		}
		if len(c.Edges) == 0 || !slices.IsSorted(c.Edges) {
			return fmt.Errorf("check profile: channel %s needs at least one edge, ascending", c.Name)
		}
		var rows float64
		for b, k := range c.Counts {
			if len(k) != len(c.Edges)+1 {
				return fmt.Errorf("check profile: channel %s has %d bins in band %d, must be %d", c.Name, len(k), b, len(c.Edges)+1)
			}
			if n := sum(k); (n > 0) != (len(c.Sample[b]) > 0) || slices.Min(k) < 0 || math.IsNaN(n) {
				return fmt.Errorf("check profile: channel %s has counts in band %d that are negative or do not fit its sample", c.Name, b)
			}
			rows += sum(k)
		}
		if rows == 0 {
			return fmt.Errorf("check profile: channel %s %w", c.Name, errEmpty)
		}
	}
	return nil
}

// eachChannel calls f for 0..n-1 on all processors and returns the error of the lowest
// channel that has one.
func eachChannel(n int, f func(int) error) error {
	errs := make([]error, n)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			for c := int(next.Add(1)) - 1; c < n; c = int(next.Add(1)) - 1 {
				errs[c] = f(c)
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
