// Package simulate streams units through the public API as a plant would: a staggered fleet, cycle after cycle, in
// quarters of which each brings another kind of unit, with outcomes that come late or never. The same seed gives the
// same stream.
package simulate

import (
	"cmp"
	"math/rand/v2"
	"slices"

	"turbofan"
)

// Scenario says how one quarter follows another.
type Scenario string

// The scenarios.
const (
	Gradual Scenario = "gradual" // units of the next quarter are mixed in before each boundary
	Sudden  Scenario = "sudden"  // every unit of a quarter starts before any of the next
)

// Quarter is one stretch of production: the units of one subset.
type Quarter struct {
	Name   string // T0, T1, ...
	Subset string
	Units  []turbofan.History
}

// Config says what to stream. Times are in ticks: each unit in the air sends one reading a tick.
type Config struct {
	Quarters []Quarter
	// Fleet is how many units are in service at a time.
	Fleet    int
	Scenario Scenario
	// MixShare is the share of a quarter's units that come after the first unit of the next one was mixed in; MixUnits
	// is how many of the next quarter's units are mixed in there.
	MixShare float64
	MixUnits int
	// Sample sends every n-th cycle of each unit; 1 sends all.
	Sample int
	// FeedbackDelay is how many ticks after a unit's end its outcome is known.
	FeedbackDelay int
	// MissingFeedback is the share of units whose outcome is never sent.
	MissingFeedback float64
	// Faults break sensors of some units. They change no other part of the stream.
	Faults []Fault
	Seed   int64
}

// DefaultConfig returns a staggered fleet of fifty with a few units mixed in before each boundary.
func DefaultConfig() Config {
	return Config{Fleet: 50, Scenario: Gradual, MixShare: 0.25, MixUnits: 8, Sample: 1, FeedbackDelay: 2, Seed: 42}
}

func (c Config) validate() error {
	switch {
	case len(c.Quarters) == 0:
		return turbofan.Invalid("simulate.quarters", "must name at least one")
	case c.Fleet < 1 || c.Fleet > 100_000:
		return turbofan.Invalid("simulate.fleet", "must be from 1 to 100000")
	case c.Scenario != Gradual && c.Scenario != Sudden:
		return turbofan.Invalid("simulate.scenario", "must be gradual or sudden, not %q", c.Scenario)
	case c.MixShare < 0 || c.MixShare > 1 || c.MissingFeedback < 0 || c.MissingFeedback > 1:
		return turbofan.Invalid("simulate.mix_share", "and missing_feedback must be from 0 to 1")
	case c.MixUnits < 0:
		return turbofan.Invalid("simulate.mix_units", "must be at least 0")
	case c.Sample < 1:
		return turbofan.Invalid("simulate.sample", "must be at least 1")
	case c.FeedbackDelay < 0:
		return turbofan.Invalid("simulate.feedback_delay", "must be at least 0")
	}
	seen := map[string]bool{}
	for i, q := range c.Quarters {
		if len(q.Units) == 0 {
			return turbofan.Invalid("simulate.quarters", "%s (%s, number %d) has no units", q.Name, q.Subset, i+1)
		}
		for j := range q.Units {
			h := &q.Units[j]
			if len(h.Readings) == 0 {
				return turbofan.Invalid("simulate.quarters", "unit %s of %s has no readings", h.UnitID, q.Subset)
			}
			id := unitID(q.Subset, h)
			if seen[id] {
				return turbofan.Invalid("simulate.quarters", "unit %s of %s is there twice: its cycles would come again", h.UnitID, q.Subset)
			}
			seen[id] = true
		}
	}
	for i := range c.Faults {
		if err := c.Faults[i].validate(c.Quarters[0].Units[0].Readings[0].Sensors, i); err != nil {
			return err
		}
	}
	return nil
}

// unitID is the name under which a unit sends; units of two subsets may have the same number.
func unitID(subset string, h *turbofan.History) string { return subset + "-" + h.UnitID }

// flight is one unit's place in the stream.
type flight struct {
	id      string
	quarter int
	history *turbofan.History
	start   int // tick of its first reading
	silent  bool
	faults  []*Fault
}

// Plan is the whole stream, fixed before it begins.
type Plan struct {
	cfg      Config
	flights  []flight // by start
	Ticks    int
	Readings int
	// Boundaries holds, per quarter, the tick at which its first unit after the mixing starts.
	Boundaries []int
}

// NewPlan lays out the stream.
func NewPlan(cfg Config) (*Plan, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(uint64(cfg.Seed), 0x5eed))
	p := &Plan{cfg: cfg, Boundaries: make([]int, len(cfg.Quarters))}
	queue, first := order(cfg, rng)
	free := make([]int, cfg.Fleet) // tick at which each place in the fleet is free
	for i := range free {
		free[i] = rng.IntN(200) // a fleet that did not begin on one day
	}
	for i, f := range queue {
		place := 0
		for j := range free {
			if free[j] < free[place] {
				place = j
			}
		}
		f.start = free[place]
		n := (len(f.history.Readings) + cfg.Sample - 1) / cfg.Sample
		free[place] += n
		f.silent = rng.Float64() < cfg.MissingFeedback
		if first[f.quarter] == i {
			p.Boundaries[f.quarter] = f.start
		}
		p.Readings += n
		p.Ticks = max(p.Ticks, f.start+n, p.outcomeTick(&f)+1)
		p.flights = append(p.flights, f)
	}
	p.breakSensors()
	slices.SortStableFunc(p.flights, func(a, b flight) int { return cmp.Compare(a.start, b.start) })
	return p, nil
}

// order returns the units in the order in which they enter service and, per quarter, the place of the first one that
// is not there by mixing.
func order(cfg Config, rng *rand.Rand) (queue []flight, first []int) {
	byQuarter := make([][]flight, len(cfg.Quarters))
	for q := range cfg.Quarters {
		for _, i := range rng.Perm(len(cfg.Quarters[q].Units)) {
			h := &cfg.Quarters[q].Units[i]
			byQuarter[q] = append(byQuarter[q], flight{id: unitID(cfg.Quarters[q].Subset, h), quarter: q, history: h})
		}
	}
	first = make([]int, len(cfg.Quarters))
	for q := range byQuarter {
		own := byQuarter[q]
		var guests []flight
		if cfg.Scenario == Gradual && q+1 < len(byQuarter) {
			n := min(cfg.MixUnits, len(byQuarter[q+1])/2)
			guests, byQuarter[q+1] = byQuarter[q+1][:n], byQuarter[q+1][n:]
		}
		first[q] = len(queue)
		tail := int(cfg.MixShare * float64(len(own)))
		queue = append(queue, own[:len(own)-tail]...)
		mixed := append(slices.Clone(own[len(own)-tail:]), guests...)
		rng.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
		queue = append(queue, mixed...)
	}
	return queue, first
}

// outcomeTick is when the outcome of a unit is known: the tick of its end, after the delay.
func (p *Plan) outcomeTick(f *flight) int {
	life := f.history.FailedAtCycle - f.history.Readings[0].Cycle + 1
	return f.start + (life+p.cfg.Sample-1)/p.cfg.Sample + p.cfg.FeedbackDelay
}
