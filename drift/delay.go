package drift

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"

	"turbofan"
	"turbofan/reference"
)

// DelayConfig says what Delay simulates.
type DelayConfig struct {
	// Rule is the configuration whose verdicts are counted.
	Rule Config
	// Fleet is how many units are in service at a time: 50.
	Fleet int
	// MixShare is the share of the old kind's units that enter service after the first of the new kind did, and MixUnits
	// how many of the new kind enter among them, in a random order: 0.25 and 8, as in the simulator.
	MixShare float64
	MixUnits int
	// Every is how many readings arrive between two checks: 250, five of each unit.
	Every int
}

// DefaultDelayConfig returns the mixing of the simulator under the default rule.
func DefaultDelayConfig() DelayConfig {
	return DelayConfig{Rule: DefaultConfig(), Fleet: 50, MixShare: 0.25, MixUnits: 8, Every: 250}
}

// DelayRow says how long it takes until a new kind of unit is noticed.
type DelayRow struct {
	Stream string `json:"stream"`
	Runs   int    `json:"runs"`
	// Missed counts runs without an alarm until the last unit of the new kind was in service, Early runs that alarmed
	// before its first.
	Missed int `json:"missed"`
	Early  int `json:"early"`
	// Units is the median over runs of how many units entered service after the first of the new kind until the alarm,
	// New how many of them were of the new kind, and Cycles how many cycles that first one had lived. A missed run
	// counts as one that comes later than any other.
	Units  float64 `json:"median_units"`
	New    float64 `json:"median_new_units"`
	Cycles float64 `json:"median_cycles"`
	// Bound is the median of Units for a detector that knows, from its first reading on, each unit that ever lies
	// outside of the reference's spread, and alarms at as many as the rule asks for. No rule that wants as many is
	// faster. Visible is the share of the new kind that ever does.
	Bound   float64 `json:"median_units_bound"`
	Visible float64 `json:"visible_share"`
}

// Delay measures, in runs of a staggered fleet that goes over from units of the old kind to those of the new one, how
// many units pass until the first alarm. The same arguments give the same row.
func Delay(ctx context.Context, cfg DelayConfig, ref *reference.Reference, old, fresh []turbofan.History, runs int, seed uint64) (DelayRow, error) {
	row := DelayRow{Runs: runs}
	switch {
	case cfg.Fleet < 1 || cfg.Every < 1 || runs < 1:
		return row, turbofan.Invalid("delay.fleet", "every and runs must be at least 1, not %d, %d and %d", cfg.Fleet, cfg.Every, runs)
	case len(old) == 0 || len(fresh) == 0:
		return row, turbofan.Invalid("delay.units", "there must be units of the old and of the new kind")
	case !(cfg.MixShare >= 0 && cfg.MixShare <= 1) || cfg.MixUnits < 0:
		return row, turbofan.Invalid("delay.mix_share", "must be from 0 to 1 and mix_units at least 0, not %v and %d", cfg.MixShare, cfg.MixUnits)
	}
	visible, err := everOutside(ref, fresh, cfg.Rule)
	if err != nil {
		return row, err
	}
	for _, v := range visible {
		if v {
			row.Visible += 1 / float64(len(visible))
		}
	}
	var units, news, cycles, bounds []float64
	for run := range runs {
		r := newTransition(cfg, old, fresh, visible, rand.New(rand.NewPCG(seed, uint64(run))))
		if err := r.run(ctx, cfg, ref); err != nil {
			return row, err
		}
		if r.early {
			row.Early++
		}
		if r.missed {
			row.Missed++
		}
		units, news, cycles = append(units, float64(r.units)), append(news, float64(r.news)), append(cycles, float64(r.cycles))
		bounds = append(bounds, float64(r.bound))
	}
	row.Units, row.New, row.Cycles, row.Bound = median(units), median(news), median(cycles), median(bounds)
	return row, nil
}

// everOutside says of each unit whether it ever lies further out than one in a thousand of the reference's kind at its
// age: in any stretch of as many of its readings as a window of the rule holds of one.
func everOutside(ref *reference.Reference, units []turbofan.History, rule Config) ([]bool, error) {
	const stretch = 20
	const visible = 0.001
	out := make([]bool, len(units))
	readings := make([]turbofan.StoredReading, stretch)
	for u := range units {
		h := &units[u]
		for from := 0; from+stretch <= len(h.Readings) && !out[u]; from += stretch {
			for i := range readings {
				readings[i].Reading = h.Readings[from+i]
			}
			c, err := NewCollector(ref, nil, rule)
			if err != nil {
				return nil, err
			}
			if err := c.Add(readings); err != nil {
				return nil, err
			}
			for _, o := range c.distances(make([]bool, len(ref.Keep))) {
				out[u] = out[u] || o.chance < visible
			}
		}
	}
	return out, nil
}

// transition is one run from the old kind to the new.
type transition struct {
	queue    []entrant
	places   []seat
	readings []turbofan.StoredReading
	next     int
	turn     int
	first    int // place in the queue of the first new unit; what follows counts
	// what came of it
	early, missed              bool
	units, news, cycles, bound int
}

type entrant struct {
	history      *turbofan.History
	new, visible bool
}

type seat struct {
	id string
	entrant
	at int
}

func newTransition(cfg DelayConfig, old, fresh []turbofan.History, visible []bool, rng *rand.Rand) *transition {
	t := &transition{places: make([]seat, cfg.Fleet)}
	for _, i := range rng.Perm(len(old)) {
		t.queue = append(t.queue, entrant{history: &old[i]})
	}
	// The fleet that is in service at the start, and what fills a window before the first new unit.
	for len(t.queue) < 3*cfg.Fleet {
		t.queue = append(t.queue, t.queue...)
	}
	tail := len(t.queue) - int(cfg.MixShare*float64(len(old)))
	var news []entrant
	for _, i := range rng.Perm(len(fresh)) {
		news = append(news, entrant{&fresh[i], true, visible[i]})
	}
	n := min(cfg.MixUnits, len(news))
	mixed := append(slices.Clone(t.queue[tail:]), news[:n]...)
	rng.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
	t.queue = slices.Concat(t.queue[:tail], mixed, news[n:])
	t.first = slices.IndexFunc(t.queue, func(e entrant) bool { return e.new })
	for i := range t.places {
		t.places[i] = t.enter()
		t.places[i].at = rng.IntN(len(t.places[i].history.Readings))
	}
	return t
}

func (t *transition) enter() seat {
	s := seat{id: strconv.Itoa(t.next), entrant: t.queue[t.next]}
	t.next++
	return s
}

// run streams until the alarm, or until all units are in service. The first check is that of the first window before
// the first new unit, so that a rule that alarms at once is not called fast.
func (t *transition) run(ctx context.Context, cfg DelayConfig, ref *reference.Reference) error {
	t.bound = t.perfect(max(cfg.Rule.SpreadUnits, 1))
	seen := NewConditions(ref, cfg.Rule)
	start := -1 // how many readings there were when the first new unit spoke
	for sinceCheck := 0; t.next < len(t.queue); {
		r := t.step()
		seen.Learn(&r.Reading)
		sinceCheck++
		if start < 0 && t.next > t.first {
			start = len(t.readings)
		}
		if sinceCheck < cfg.Every || len(t.readings) < cfg.Rule.Window {
			continue
		}
		sinceCheck = 0
		if err := ctx.Err(); err != nil {
			return err
		}
		report, err := Judge(ref, Window{Readings: t.readings[len(t.readings)-cfg.Rule.Window:], Unseen: seen.Unseen()}, cfg.Rule)
		if err != nil {
			return fmt.Errorf("measure delay: %w", err)
		}
		if report.Verdict != turbofan.Drifted {
			continue
		}
		if start < 0 {
			t.early = true
			continue
		}
		t.count(start)
		return nil
	}
	t.missed = true
	t.count(start)
	return nil
}

func (t *transition) count(start int) {
	t.units = t.next - 1 - t.first
	for _, e := range t.queue[t.first+1 : t.next] {
		if e.new {
			t.news++
		}
	}
	t.cycles = (len(t.readings)-start)/len(t.places) + 1
}

// perfect is how many units enter service after the first new one until k visible ones have.
func (t *transition) perfect(k int) int {
	for i, e := range t.queue[t.first:] {
		if e.visible {
			k--
		}
		if k == 0 {
			return i
		}
	}
	return len(t.queue) - t.first
}

// step appends the next reading: the places take turns.
func (t *transition) step() *turbofan.StoredReading {
	p := &t.places[t.turn%len(t.places)]
	t.turn++
	if p.at >= len(p.history.Readings) {
		*p = t.enter()
	}
	r := turbofan.StoredReading{Reading: p.history.Readings[p.at], Seq: int64(t.turn)}
	r.UnitID = p.id
	p.at++
	t.readings = append(t.readings, r)
	return &t.readings[len(t.readings)-1]
}
