package stat

import (
	"cmp"
	"fmt"
	"math"
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
// KS and Wasserstein compare at most MaxCompareRows current values of a channel, of more
// one drawn from each of as many equal stretches by a fixed seed, with the age-weighted
// order statistics of the profile;
// the p-value of KS takes no more current rows than were drawn. The same arguments give
// the same scores. See Comparison for rows that come in parts.
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
	c, err := p.NewComparison()
	if err != nil {
		return nil, err
	}
	if err := c.Add(values, age, unit); err != nil {
		return nil, err
	}
	return c.Scores()
}

// compareChannel scores what was tallied of a channel. worth is the number of rows of a row's unit, on average, and
// known says whether units are.
func (p *Profile) compareChannel(channel int, t *tally, worth float64, known bool) (Scores, error) {
	c := &p.Channels[channel]
	s := Scores{Name: c.Name, N: int(sum(t.ages))}
	if s.N == 0 {
		return s, nil
	}
	for b, n := range t.ages {
		if n > 0 && c.lender(b) != b {
			s.Borrowed += n / float64(s.N)
		}
	}
	share := c.lend(t.ages)
	var inverse, shift float64
	for b, n := range share {
		share[b] = n / float64(s.N)
		if n > 0 {
			inverse += share[b] * share[b] / sum(c.Counts[b])
			shift += share[b] * (c.BandMeans[b] - c.Mean)
		}
	}
	s.Reference, s.Independent = 1/inverse, float64(s.N)
	if known {
		s.Reference /= designEffect(p.UnitRows, c.Rho)
		s.Independent /= designEffect(worth, c.Rho)
	}
	s.Mean, s.Expected = c.Mean+t.total/float64(s.N), c.Mean+shift
	s.MeanShift = s.Mean - s.Expected
	if c.Std > 0 {
		s.MeanShift /= c.Std
	}
	var err error
	if s.PSI, err = PSI(p.Expected(channel, t.ages), t.hist, Smoothing); err != nil {
		return s, fmt.Errorf("channel %s: %w", c.Name, err)
	}
	s.PSIThreshold = PSIThreshold(len(t.hist), s.Reference, s.Independent, Alpha)
	s.PSIP = PSIPValue(s.PSI, len(t.hist), s.Reference, s.Independent)
	s.PSIExcess = s.PSI - float64(len(t.hist)-1)*(inverse+1/float64(s.N))
	c.distances(&s, t.sample, share)
	nr, nc := 1/inverse, float64(s.N)
	if known {
		nr /= designEffect(p.CellRows, c.RhoKS)
		nc /= designEffect(worth, c.RhoKS)
	}
	s.KSP = ksPValue(s.KS, nr, min(nc, float64(len(t.sample))))
	return s, nil
}

// distances sets KS and Wasserstein by a sample of the current values.
func (c *ChannelProfile) distances(s *Scores, sample, share []float64) {
	current := slices.Clone(sample)
	sortFloats(current)
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
