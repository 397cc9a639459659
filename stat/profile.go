package stat

import (
	"fmt"
	"math"
	"slices"
	"sort"

	gonum "gonum.org/v1/gonum/stat"
)

// SampleSize is how many order statistics of each channel a profile keeps per age
// band, for KS and Wasserstein. Being evenly spaced order statistics, not a random
// draw, they miss the band's distribution function by at most 1/(2·SampleSize).
const SampleSize = 128

// Smoothing is the pseudo-count that Compare gives to PSI.
const Smoothing = 0.5

// Profile is what a detector compares current data with: the distribution of every
// channel over the reference rows, kept apart by the age of the unit (in cycles) at
// the time of the row. Sensors drift because engines age; without the ages a younger
// fleet looks like a changed one.
type Profile struct {
	Channels []ChannelProfile `json:"channels"`
	AgeEdges []int            `json:"age_edges"` // ascending; band i holds ages in [AgeEdges[i-1], AgeEdges[i])
	Rows     int              `json:"rows"`
	Units    int              `json:"units"` // 0: not known
	MaxAge   int              `json:"max_age"`
	// UnitRows is the number of rows of the unit that a row belongs to, on average over
	// the rows, CellRows the same within the row's age band; 1 when units are not known.
	UnitRows float64 `json:"unit_rows"`
	CellRows float64 `json:"cell_rows"`
}

// ChannelProfile is the reference of one channel. Its size is bounded by the number of
// bins and age bands, whatever the number of rows.
type ChannelProfile struct {
	Name   string      `json:"name"`
	Edges  []float64   `json:"edges"`  // inner bin edges, see QuantileEdges
	Counts [][]float64 `json:"counts"` // [age band][bin]
	Rows   int         `json:"rows"`   // rows with a value
	Mean   float64     `json:"mean"`
	Std    float64     `json:"std"` // sample standard deviation, 0 when constant
	// BandMeans is the mean in each age band, 0 where Counts has no rows.
	BandMeans []float64 `json:"band_means"`
	// Quantiles are those of QuantileLevels over all ages.
	Quantiles []float64 `json:"quantiles"`
	// Rho is the correlation of two rows of one unit in one age band, over the bins:
	// how much of a channel's spread belongs to the engine and not to the reading. 0
	// when units are not known. RhoKS is the same over the distribution function at the
	// bin edges, which is what KS looks at. See CompareUnits.
	Rho   float64 `json:"rho"`
	RhoKS float64 `json:"rho_ks"`
	// Sample holds, per age band, up to SampleSize evenly spaced order statistics,
	// ascending.
	Sample [][]float64 `json:"sample"`
}

// QuantileLevels are the levels of ChannelProfile.Quantiles, from minimum to maximum.
func QuantileLevels() []float64 {
	return []float64{0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1}
}

// BuildProfile makes the reference profile of channels called names from
// values[channel][row], NaN where a reading is missing. age is the age in cycles of
// the row's unit, unit its number; nil age means that ages are not known and one band
// holds all, nil unit that units are not. bins is the number of quantile bins, 10 by
// custom; ageEdges are the inner edges of the age bands, ascending, nil for one band.
// A channel without any value or with an infinite one is an error.
func BuildProfile(names []string, values [][]float64, age []int, unit []int, bins int, ageEdges []int) (*Profile, error) {
	if err := checkProfile(names, values, age, unit, bins, ageEdges); err != nil {
		return nil, fmt.Errorf("build profile: %w", err)
	}
	p := &Profile{AgeEdges: slices.Clone(ageEdges), Rows: len(values[0])}
	if p.AgeEdges == nil {
		p.AgeEdges = []int{}
	}
	if age != nil {
		p.MaxAge = slices.Max(age)
	}
	p.Units, p.UnitRows = clusters(unit)
	p.Channels = make([]ChannelProfile, len(names))
	band := p.rowBands(age, p.Rows)
	cell := cells(unit, band)
	_, p.CellRows = clusters(cell)
	err := eachChannel(len(names), func(c int) error {
		var err error
		p.Channels[c], err = buildChannel(names[c], values[c], band, cell, bins, len(ageEdges)+1)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("build profile: %w", err)
	}
	return p, nil
}

func checkProfile(names []string, values [][]float64, age, unit []int, bins int, ageEdges []int) error {
	if bins < 2 {
		return fmt.Errorf("bins is %d, must be at least 2", bins)
	}
	if len(ageEdges) > 0 && age == nil {
		return fmt.Errorf("age is missing, needed for %d age edges", len(ageEdges))
	}
	if len(ageEdges) >= math.MaxUint16 {
		return fmt.Errorf("age edges are %d, must be below %d", len(ageEdges), math.MaxUint16)
	}
	for i := 1; i < len(ageEdges); i++ {
		if ageEdges[i] <= ageEdges[i-1] {
			return fmt.Errorf("age edges must ascend, %d follows %d", ageEdges[i], ageEdges[i-1])
		}
	}
	if len(names) == 0 || len(names) != len(values) {
		return fmt.Errorf("values has %d channels for %d names, must be equal and at least one", len(values), len(names))
	}
	rows := len(values[0])
	if rows == 0 {
		return fmt.Errorf("channel %s %w", names[0], errEmpty)
	}
	if unit != nil && len(unit) != rows {
		return fmt.Errorf("unit has %d rows, values has %d, must be equal", len(unit), rows)
	}
	return checkRows(names, values, age)
}

func checkRows(names []string, values [][]float64, age []int) error {
	for c, v := range values {
		if len(v) != len(values[0]) {
			return fmt.Errorf("channel %s has %d rows, channel %s has %d, must be equal", names[c], len(v), names[0], len(values[0]))
		}
	}
	if age != nil && len(age) != len(values[0]) {
		return fmt.Errorf("age has %d rows, values has %d, must be equal", len(age), len(values[0]))
	}
	return nil
}

func buildChannel(name string, values []float64, band []uint16, cell []int, bins, bands int) (ChannelProfile, error) {
	split := make([][]float64, bands)
	for r, x := range values {
		if math.IsInf(x, 0) {
			return ChannelProfile{}, fmt.Errorf("channel %s row %d is %v, must be finite or NaN", name, r, x)
		}
		if x == x {
			split[band[r]] = append(split[band[r]], x)
		}
	}
	all := slices.Concat(split...)
	if len(all) == 0 {
		return ChannelProfile{}, fmt.Errorf("channel %s %w", name, errEmpty)
	}
	slices.Sort(all)
	c := ChannelProfile{
		Name: name, Edges: sortedEdges(all, bins), Rows: len(all), Mean: meanFrom(all[0], all),
		Counts: make([][]float64, bands), BandMeans: make([]float64, bands), Sample: make([][]float64, bands),
	}
	if all[0] < all[len(all)-1] {
		c.Std = gonum.StdDev(all, nil)
	}
	for _, q := range QuantileLevels() {
		c.Quantiles = append(c.Quantiles, sortedQuantile(all, q))
	}
	for b, v := range split {
		c.Counts[b] = make([]float64, len(c.Edges)+1)
		Histogram(v, c.Edges, c.Counts[b])
		if len(v) > 0 {
			c.BandMeans[b] = meanFrom(c.Mean, v)
		}
		slices.Sort(v)
		c.Sample[b] = orderStatistics(v, SampleSize)
	}
	c.Rho, c.RhoKS = c.correlation(values, band, cell)
	return c, nil
}

// meanFrom sums differences from a nearby origin: the sum of a million pressures near
// 8000 would lose digits, and a constant its constancy.
func meanFrom(origin float64, v []float64) float64 {
	var total float64
	for _, x := range v {
		total += x - origin
	}
	return origin + total/float64(len(v))
}

// orderStatistics picks the values in the middle of each of n equal shares of s.
func orderStatistics(s []float64, n int) []float64 {
	n = min(n, len(s))
	out := make([]float64, n)
	for i := range out {
		out[i] = s[(2*i+1)*len(s)/(2*n)]
	}
	return out
}

// Band is the age band of an age in cycles, the index of Expected's curAges.
func (p *Profile) Band(age int) int {
	return sort.SearchInts(p.AgeEdges, age+1)
}

func (p *Profile) rowBands(age []int, rows int) []uint16 {
	band := make([]uint16, rows)
	for r, a := range age {
		band[r] = uint16(p.Band(a))
	}
	return band
}

// Expected is the histogram that the reference lets one expect of current rows of the
// given ages: each age band's shares, weighted by curAges, the number of current rows
// per band. It sums to the sum of curAges. A band in which the reference has no rows
// answers with the nearest younger band that has some (that is the oldest known for
// engines older than any of the reference), or the nearest older one if none is
// younger; Scores.Borrowed tells how many rows that concerns. Nil when channel or the
// number of bands does not fit the profile.
func (p *Profile) Expected(channel int, curAges []float64) []float64 {
	if channel < 0 || channel >= len(p.Channels) || len(curAges) != len(p.AgeEdges)+1 {
		return nil
	}
	c := &p.Channels[channel]
	out := make([]float64, len(c.Edges)+1)
	for b, w := range c.lend(curAges) {
		n := sum(c.Counts[b])
		if n == 0 || w == 0 {
			continue
		}
		for i, k := range c.Counts[b] {
			out[i] += w * k / n
		}
	}
	return out
}

// lend moves the weight of bands without reference rows to the band that answers for
// them.
func (c *ChannelProfile) lend(curAges []float64) []float64 {
	out := make([]float64, len(curAges))
	for b, w := range curAges {
		if w > 0 {
			out[c.lender(b)] += w
		}
	}
	return out
}

func (c *ChannelProfile) lender(band int) int {
	for b := band; b >= 0; b-- {
		if sum(c.Counts[b]) > 0 {
			return b
		}
	}
	for b := band + 1; b < len(c.Counts); b++ {
		if sum(c.Counts[b]) > 0 {
			return b
		}
	}
	return band
}

func sum(v []float64) float64 {
	var s float64
	for _, x := range v {
		s += x
	}
	return s
}
