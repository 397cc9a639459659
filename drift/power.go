package drift

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"

	"turbofan"
	"turbofan/reference"
)

// PowerConfig says what Power simulates.
type PowerConfig struct {
	// Rule is the configuration whose verdicts are counted; its Window gives way to the windows asked for.
	Rule Config
	// Fleet is how many units are in service at a time: 50.
	Fleet int
	// PerFleet is how many windows are taken of one simulated fleet before the next one is drawn: 10. Windows of one
	// fleet share its commissioning and are less than independent.
	PerFleet int
}

// DefaultPowerConfig returns staggered fleets of fifty under the default rule.
func DefaultPowerConfig() PowerConfig {
	return PowerConfig{Rule: DefaultConfig(), Fleet: 50, PerFleet: 10}
}

// PowerRow says how often windows of one stream alarm.
type PowerRow struct {
	Stream string `json:"stream"`
	Window int    `json:"window"` // rows
	// Judged is how many windows had a verdict; Insufficient how many were asked for beside them and had too little
	// data, most of them because a condition was not commissioned yet.
	Judged       int `json:"judged"`
	Insufficient int `json:"insufficient"`
	Alarms       int `json:"alarms"`
	// Share is Alarms over Judged; Low and High bound it by Wilson's interval at 95% (1927), as if windows were
	// independent.
	Share float64 `json:"share"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
	// Score and PSIMean are medians over the judged windows.
	Score   float64 `json:"median_score"`
	PSIMean float64 `json:"median_psi_mean"`
}

// Power measures the verdicts of the rule: for each stream of units, in the order of names, and each window size, the
// share of n windows that alarm against ref. The fleet is staggered and complete: each place starts with a unit in the
// middle of its life, and a unit that ends is replaced by another of the stream at its first cycle, all of them in a
// random order before any comes again. Conditions are learned from the fleet itself as it goes. A window lies anywhere
// in as many readings as the stream has. The same arguments give the same rows.
func Power(ctx context.Context, cfg PowerConfig, ref *reference.Reference, streams map[string][]turbofan.History, windows []int, n int, seed uint64) ([]PowerRow, error) {
	if cfg.Fleet < 1 || cfg.PerFleet < 1 {
		return nil, turbofan.Invalid("power.fleet", "and per_fleet must be at least 1, not %d and %d", cfg.Fleet, cfg.PerFleet)
	}
	if n < 1 {
		return nil, turbofan.Invalid("power.n", "must be at least 1 window a stream, not %d", n)
	}
	names := make([]string, 0, len(streams))
	for name := range streams {
		names = append(names, name)
	}
	slices.Sort(names)
	var out []PowerRow
	for _, name := range names {
		for _, size := range windows {
			row, err := power(ctx, cfg, ref, streams[name], size, n, seed)
			if err != nil {
				return nil, fmt.Errorf("measure power on %s with %d rows: %w", name, size, err)
			}
			row.Stream = name
			out = append(out, row)
		}
	}
	return out, nil
}

func power(ctx context.Context, cfg PowerConfig, ref *reference.Reference, units []turbofan.History, size, n int, seed uint64) (PowerRow, error) {
	row := PowerRow{Window: size}
	cfg.Rule.Window = size
	total := 0
	for i := range units {
		total += len(units[i].Readings)
	}
	if total < 2*size {
		return row, turbofan.Errorf(turbofan.EInsufficient, "%d readings are less than two windows", total)
	}
	var scores, means []float64
	for fleet := uint64(0); row.Judged+row.Insufficient < n; fleet++ {
		rng := rand.New(rand.NewPCG(seed, fleet))
		ends := make([]int, min(cfg.PerFleet, n-row.Judged-row.Insufficient))
		for i := range ends {
			ends[i] = size + rng.IntN(total-size)
		}
		slices.Sort(ends)
		s := newStream(units, cfg.Fleet, rng)
		seen := NewConditions(ref, cfg.Rule)
		for _, end := range ends {
			if err := ctx.Err(); err != nil {
				return row, err
			}
			for len(s.readings) < end {
				seen.Learn(&s.step().Reading)
			}
			r, err := Judge(ref, Window{Readings: s.readings[end-size : end], Unseen: seen.Unseen()}, cfg.Rule)
			if err != nil {
				return row, err
			}
			if r.Verdict == turbofan.InsufficientData {
				row.Insufficient++
				continue
			}
			row.Judged++
			if r.Verdict == turbofan.Drifted {
				row.Alarms++
			}
			scores, means = append(scores, float64(r.Score)), append(means, float64(r.PSIMean))
		}
	}
	if row.Judged == 0 {
		return row, turbofan.Errorf(turbofan.EInsufficient, "none of %d windows could be judged: they have too few units, or conditions that were not commissioned", n)
	}
	row.Share, row.Low, row.High = wilson(row.Alarms, row.Judged)
	row.Score, row.PSIMean = median(scores), median(means)
	return row, nil
}

// stream is a staggered fleet that never shrinks.
type stream struct {
	units    []turbofan.History
	rng      *rand.Rand
	order    []int
	next     int
	places   []place
	turn     int
	readings []turbofan.StoredReading
}

// place is one unit in service.
type place struct {
	id      string
	history *turbofan.History
	at      int
}

func newStream(units []turbofan.History, fleet int, rng *rand.Rand) *stream {
	s := &stream{units: units, rng: rng, order: rng.Perm(len(units)), places: make([]place, fleet)}
	for i := range s.places {
		s.places[i] = s.draw()
		s.places[i].at = rng.IntN(len(s.places[i].history.Readings))
	}
	return s
}

// draw takes the next unit under a name of its own: a unit that comes again is another one to the detector.
func (s *stream) draw() place {
	if s.next > 0 && s.next%len(s.units) == 0 {
		s.order = s.rng.Perm(len(s.units))
	}
	h := &s.units[s.order[s.next%len(s.units)]]
	s.next++
	return place{id: strconv.Itoa(s.next), history: h}
}

// step appends the next reading: the places take turns.
func (s *stream) step() *turbofan.StoredReading {
	p := &s.places[s.turn%len(s.places)]
	s.turn++
	for p.at >= len(p.history.Readings) {
		*p = s.draw()
	}
	r := turbofan.StoredReading{Reading: p.history.Readings[p.at], Seq: int64(s.turn)}
	r.UnitID = p.id
	p.at++
	s.readings = append(s.readings, r)
	return &s.readings[len(s.readings)-1]
}

// wilson bounds a share by Wilson's score interval at 95%.
func wilson(hits, n int) (share, low, high float64) {
	const z = 1.959964
	m := float64(n)
	share = float64(hits) / m
	centre := share + z*z/(2*m)
	half := z * math.Sqrt(share*(1-share)/m+z*z/(4*m*m))
	return share, max(0, (centre-half)/(1+z*z/m)), min(1, (centre+half)/(1+z*z/m))
}

// median returns the middle value of at least one.
func median(v []float64) float64 {
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}
