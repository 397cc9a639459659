package stat

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
)

// Comparison scores current rows that come in parts: it keeps counts and, of each channel, a sample of at most
// MaxCompareRows values, so that its memory does not grow with the rows. Get one from Profile.NewComparison. It is not
// safe for concurrent use.
type Comparison struct {
	profile  *Profile
	names    []string
	channels []tally
	rows     int
	units    map[int]float64 // rows of each
	known    bool            // units are
}

// tally is what a Comparison keeps of a channel.
type tally struct {
	bins       *bins
	hist, ages []float64 // counts per bin and per age band of the rows that have a value
	total      float64   // of the differences from the reference mean, for the reason given at meanFrom
	sample     []float64
	// The values come in stretches of this length, and the sample holds one value of each, drawn at random: with a fixed
	// stride a fleet that reports in turn would show the same engine every time. wait counts down to the value that was
	// drawn, after which rest values of its stretch are left, and then to the first of the next stretch.
	stretch, wait, rest int
	drawn               bool
	rng                 *rand.PCG
}

// NewComparison returns a comparison without rows. An error says which parts of the profile do not fit each other.
func (p *Profile) NewComparison() (*Comparison, error) {
	if err := p.Validate(); err != nil {
		return nil, fmt.Errorf("compare with profile: %w", err)
	}
	c := &Comparison{profile: p, names: make([]string, len(p.Channels)), channels: make([]tally, len(p.Channels)), units: map[int]float64{}}
	for i := range p.Channels {
		c.names[i] = p.Channels[i].Name
		c.channels[i] = tally{bins: newBins(p.Channels[i].Edges), hist: make([]float64, len(p.Channels[i].Edges)+1), ages: make([]float64, len(p.AgeEdges)+1), stretch: 1, rng: rand.NewPCG(1, uint64(i))}
	}
	return c, nil
}

// Add takes further rows, as Profile.CompareUnits does: values[channel][row], the age and the unit of each row. Units are
// either known in all parts or in none. After an error the comparison is of no more use.
func (c *Comparison) Add(values [][]float64, age, unit []int) error {
	if len(values) != len(c.channels) || len(values) == 0 {
		return fmt.Errorf("compare with profile: values has %d channels, the profile %d, must be equal", len(values), len(c.channels))
	}
	if err := checkRows(c.names, values, age); err != nil {
		return fmt.Errorf("compare with profile: %w", err)
	}
	rows := len(values[0])
	switch {
	case age == nil && len(c.profile.AgeEdges) > 0:
		return errors.New("compare with profile: age is missing, the profile has age bands")
	case unit != nil && len(unit) != rows:
		return fmt.Errorf("compare with profile: unit has %d rows, values has %d, must be equal", len(unit), rows)
	case c.rows > 0 && (unit != nil) != c.known:
		return errors.New("compare with profile: units are known of some rows only, must be of all or of none")
	}
	band := c.profile.rowBands(age, rows)
	ages := make([]float64, len(c.profile.AgeEdges)+1)
	for _, b := range band {
		ages[b]++
	}
	// The units are counted beside the channels, first because that takes longest.
	err := eachChannel(1+len(values), func(i int) error {
		if i > 0 {
			return c.channels[i-1].add(&c.profile.Channels[i-1], values[i-1], band, ages, c.rows)
		}
		for _, u := range unit {
			c.units[u]++
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("compare with profile: %w", err)
	}
	c.rows, c.known = c.rows+rows, unit != nil
	return nil
}

// Scores scores the rows so far, channel by channel in the profile's order; a channel without any value is left out:
// nothing is known of it.
func (c *Comparison) Scores() ([]Scores, error) {
	worth := 1.0
	if c.known && c.rows > 0 {
		// Squares of whole numbers add up exactly, so the order of the map does not matter.
		var pairs float64
		for _, n := range c.units {
			pairs += n * n
		}
		worth = pairs / float64(c.rows)
	}
	all := make([]Scores, len(c.channels))
	err := eachChannel(len(all), func(i int) error {
		var err error
		all[i], err = c.profile.compareChannel(i, &c.channels[i], worth, c.known)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("compare with profile: %w", err)
	}
	return slices.DeleteFunc(all, func(s Scores) bool { return s.N == 0 }), nil
}

// Counts returns the current rows of a channel in the profile's bins, and what the reference lets one expect of as many
// rows of the same ages; both sum to the number of rows that have a value.
func (c *Comparison) Counts(channel int) (current, expected []float64) {
	t := &c.channels[channel]
	return slices.Clone(t.hist), c.profile.Expected(channel, t.ages)
}

// add is one pass over rows of a channel; the first of them is the comparison's row first. ages counts the rows by band.
func (t *tally) add(c *ChannelProfile, values []float64, band []uint16, ages []float64, first int) error {
	for b, n := range ages {
		t.ages[b] += n
	}
	counts := make([]uint32, len(t.hist)) // adding 1 to a double takes four times as long
	total, mean, table, missing := t.total, c.Mean, t.bins, 0
	for r, x := range values {
		if x-x != 0 {
			if x != x {
				t.ages[band[r]]--
				missing++
				continue
			}
			return fmt.Errorf("channel %s row %d is %v, must be finite or NaN", c.Name, first+r, x)
		}
		counts[table.of(x)]++
		total += x - mean
	}
	t.total = total
	for i, n := range counts {
		t.hist[i] += float64(n)
	}
	if missing > 0 {
		values = present(values)
	}
	at := t.wait
	for at < len(values) {
		at += 1 + t.draw(values[at])
	}
	t.wait = at - len(values)
	return nil
}

// draw takes x, the first of a stretch or the value drawn of one, and returns how many values come before the next such.
// A full sample is halved, one of each two neighbours, and the stretches are twice as long from there on.
func (t *tally) draw(x float64) int {
	if !t.drawn {
		if len(t.sample) == MaxCompareRows {
			for i := range MaxCompareRows / 2 {
				t.sample[i] = t.sample[2*i+t.below(2)]
			}
			t.sample, t.stretch = t.sample[:MaxCompareRows/2], 2*t.stretch
		}
		pick := t.below(t.stretch)
		t.rest = t.stretch - 1 - pick
		if pick > 0 {
			t.drawn = true
			return pick - 1
		}
	}
	t.drawn = false
	t.sample = append(t.sample, x)
	return t.rest
}

// below draws a number from 0 to n-1; n is a power of two.
func (t *tally) below(n int) int { return int(t.rng.Uint64() & uint64(n-1)) }
