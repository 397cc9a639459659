package simulate_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"testing"

	"turbofan"
	"turbofan/simulate"
)

// quarter makes units of different lengths whose first sensor tells unit and cycle.
func quarter(i, units int) simulate.Quarter {
	q := simulate.Quarter{Name: fmt.Sprint("T", i), Subset: fmt.Sprint("S", i)}
	for u := range units {
		h := turbofan.History{UnitID: fmt.Sprint(u + 1), FailedAtCycle: 20 + (7*u)%15}
		for c := 1; c <= h.FailedAtCycle; c++ {
			h.Readings = append(h.Readings, turbofan.Reading{UnitID: h.UnitID, Cycle: c, Settings: []float64{1}, Sensors: []float64{float64(1000*u + c), 5}})
		}
		q.Units = append(q.Units, h)
	}
	return q
}

func config() simulate.Config {
	c := simulate.DefaultConfig()
	c.Fleet, c.MixUnits, c.Quarters = 6, 4, []simulate.Quarter{quarter(0, 20), quarter(1, 20), quarter(2, 20)}
	return c
}

// server answers as the platform does, and writes down what it was sent.
type server struct {
	turbofan.PredictionService
	turbofan.FeedbackService
	mu       sync.Mutex
	tick     int
	got      map[string]turbofan.Reading // unit@cycle
	at       map[string]int              // unit@cycle to tick
	again    int                         // repeats of the newest reading
	outcomes map[string]int
	outAt    map[string]int
	fail     func(unit string, tick int) error
	failOut  func(outcomes []turbofan.Outcome, tick int) error
	problems []string
}

func newServer() *server {
	return &server{got: map[string]turbofan.Reading{}, at: map[string]int{}, outcomes: map[string]int{}, outAt: map[string]int{}}
}

func (s *server) Predict(_ context.Context, req turbofan.PredictRequest) ([]turbofan.Prediction, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := req.Readings[0]
	if s.fail != nil {
		if err := s.fail(r.UnitID, s.tick); err != nil {
			return nil, err
		}
	}
	key := fmt.Sprintf("%s@%d", r.UnitID, r.Cycle)
	if old, sent := s.got[key]; sent {
		s.again++
		if !slices.EqualFunc(old.Sensors, r.Sensors, func(a, b float64) bool { return a == b || a != a && b != b }) {
			s.problems = append(s.problems, key+" was sent with other values")
		}
	}
	if r.Cycle > 1 {
		if _, sent := s.got[fmt.Sprintf("%s@%d", r.UnitID, r.Cycle-1)]; !sent && s.fail == nil {
			s.problems = append(s.problems, key+" came before the cycle before it")
		}
	}
	s.got[key], s.at[key] = r, s.tick
	return []turbofan.Prediction{{UnitID: r.UnitID, Cycle: r.Cycle}}, nil
}

func (s *server) Record(_ context.Context, outcomes []turbofan.Outcome) ([]turbofan.OutcomeReceipt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failOut != nil {
		if err := s.failOut(outcomes, s.tick); err != nil {
			return nil, err
		}
	}
	for _, o := range outcomes {
		if old, sent := s.outcomes[o.UnitID]; sent && old != *o.FailedAtCycle {
			s.problems = append(s.problems, "two ends of "+o.UnitID)
		}
		s.outcomes[o.UnitID], s.outAt[o.UnitID] = *o.FailedAtCycle, s.tick
	}
	return make([]turbofan.OutcomeReceipt, len(outcomes)), nil
}

// stream sends the plan of cfg from a tick on; hooks may be changed before.
func stream(t *testing.T, cfg simulate.Config, s *server, from int, change func(*simulate.Runner)) (*simulate.Plan, int, error) {
	t.Helper()
	p, err := simulate.NewPlan(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r := &simulate.Runner{Plan: p, Predictions: s, Feedback: s, Workers: 3, FromTick: from}
	r.Hooks.Tick = func(_ context.Context, tick int) error { s.tick = tick; return nil }
	if change != nil {
		change(r)
	}
	tick, err := r.Run(t.Context())
	for _, p := range s.problems {
		t.Error(p)
	}
	return p, tick, err
}

func whole(t *testing.T, cfg simulate.Config) (*server, *simulate.Plan) {
	t.Helper()
	s := newServer()
	p, tick, err := stream(t, cfg, s, 0, nil)
	if err != nil || tick != p.Ticks || len(s.got) != p.Readings {
		t.Fatalf("%d of %d readings in %d of %d ticks, %v", len(s.got), p.Readings, tick, p.Ticks, err)
	}
	return s, p
}

func TestSameSeedSameStream(t *testing.T) {
	a, _ := whole(t, config())
	b, _ := whole(t, config())
	if !maps.Equal(a.at, b.at) || !maps.Equal(a.outAt, b.outAt) {
		t.Error("the same seed gave another stream")
	}
	other := config()
	other.Seed = 7
	if c, _ := whole(t, other); maps.Equal(a.at, c.at) {
		t.Error("another seed gave the same stream")
	}
	if len(a.outcomes) != 60 {
		t.Errorf("%d outcomes of 60 units", len(a.outcomes))
	}
	for id, end := range a.outcomes {
		if last := a.at[fmt.Sprintf("%s@%d", id, end)]; a.outAt[id] != last+1+2 {
			t.Errorf("unit %s sent its last reading in tick %d, its outcome came in %d", id, last, a.outAt[id])
		}
	}
}

func TestResumeSendsNothingElse(t *testing.T) {
	want, p := whole(t, config())
	stop := errors.New("stop")
	for _, at := range []int{0, 1, p.Ticks / 3, p.Ticks / 2, p.Ticks - 2} {
		s := newServer()
		_, tick, err := stream(t, config(), s, 0, func(r *simulate.Runner) {
			r.Hooks.Tick = func(_ context.Context, tick int) error {
				if s.tick = tick; tick == at {
					return stop
				}
				return nil
			}
		})
		if !errors.Is(err, stop) || tick != at {
			t.Fatalf("stopped at %d: %v", tick, err)
		}
		if _, _, err := stream(t, config(), s, tick, nil); err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(s.at, want.at) || !maps.Equal(s.outcomes, want.outcomes) || s.again != 0 {
			t.Errorf("stopped at tick %d: %d readings and %d outcomes, %d sent again; unbroken %d and %d", at, len(s.at), len(s.outcomes), s.again, len(want.at), len(want.outcomes))
		}
	}
	// In the middle of a tick some readings of it come again, with the same values.
	s := newServer()
	ctx, cancel := context.WithCancel(t.Context())
	pl, err := simulate.NewPlan(config())
	if err != nil {
		t.Fatal(err)
	}
	r := &simulate.Runner{Plan: pl, Predictions: s, Feedback: s, Workers: 1}
	n := 0
	r.Hooks.Tick = func(_ context.Context, tick int) error { s.tick = tick; return nil }
	r.Hooks.Sent = func(simulate.Event) {
		if n++; n == 503 {
			cancel()
		}
	}
	tick, err := r.Run(ctx)
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if _, _, err := stream(t, config(), s, tick, nil); err != nil {
		t.Fatal(err)
	}
	if len(s.got) != len(want.got) || s.again > 6 {
		t.Errorf("%d readings, %d again, want %d and at most a tick's", len(s.got), s.again, len(want.got))
	}
}

func TestMixing(t *testing.T) {
	for _, scenario := range []simulate.Scenario{simulate.Gradual, simulate.Sudden} {
		cfg := config()
		cfg.Scenario = scenario
		s, p := whole(t, cfg)
		early := 0
		for key, tick := range s.at {
			var q, unit, cycle int
			if _, err := fmt.Sscanf(key, "S%d-%d@%d", &q, &unit, &cycle); err != nil {
				t.Fatal(err)
			}
			if cycle == 1 && tick < p.Boundaries[q] {
				early++
			}
		}
		if want := map[simulate.Scenario]int{simulate.Gradual: 8, simulate.Sudden: 0}[scenario]; early != want && (scenario == simulate.Sudden || early == 0 || early > want) {
			t.Errorf("%s: %d units before their quarter, want %d", scenario, early, want)
		}
	}
}

func TestSamplingAndMissingFeedback(t *testing.T) {
	cfg := config()
	cfg.Sample, cfg.MissingFeedback = 5, 0.5
	s := newServer()
	s.fail = func(string, int) error { return nil } // gaps are meant
	p, _, err := stream(t, cfg, s, 0, nil)
	if err != nil || len(s.got) != p.Readings {
		t.Fatalf("%d of %d readings, %v", len(s.got), p.Readings, err)
	}
	for key, r := range s.got {
		if r.Cycle%5 != 1 {
			t.Errorf("%s was sent where every fifth cycle is", key)
		}
	}
	if n := len(s.outcomes); n < 15 || n > 45 {
		t.Errorf("%d of 60 outcomes where half should be missing", n)
	}
}

func TestFaults(t *testing.T) {
	sound, _ := whole(t, config())
	for kind, check := range map[simulate.FaultKind]func(was, is, before float64) bool{
		simulate.Offset:  func(was, is, _ float64) bool { return is == was+3 },
		simulate.Dropout: func(_, is, _ float64) bool { return math.IsNaN(is) },
		simulate.Stuck:   func(_, is, before float64) bool { return is == before },
	} {
		cfg := config()
		cfg.Faults = []simulate.Fault{{Kind: kind, Sensor: 0, Share: 0.5, FromTick: 100, ToTick: 200, Size: 3}}
		s, _ := whole(t, cfg)
		if !maps.Equal(s.at, sound.at) {
			t.Errorf("%s: the fault changed more than its sensor", kind)
		}
		hit, spared := map[string]bool{}, map[string]bool{}
		for key, r := range s.got {
			was := sound.got[key]
			changed := r.Sensors[0] != was.Sensors[0]
			if r.Sensors[1] != was.Sensors[1] || changed && (s.at[key] < 100 || s.at[key] >= 200) {
				t.Fatalf("%s %s: %v became %v in tick %d", kind, key, was.Sensors, r.Sensors, s.at[key])
			}
			if s.at[key] >= 100 && s.at[key] < 200 {
				if changed {
					hit[r.UnitID] = true
					first := slices.MinFunc(slices.Collect(maps.Values(s.got)), func(a, b turbofan.Reading) int {
						return rank(s, a, r.UnitID) - rank(s, b, r.UnitID)
					})
					if !check(was.Sensors[0], r.Sensors[0], sound.got[fmt.Sprintf("%s@%d", r.UnitID, first.Cycle)].Sensors[0]) {
						t.Fatalf("%s %s: %v became %v", kind, key, was.Sensors, r.Sensors)
					}
				} else if r.Cycle > 1 && s.at[key] > 100 {
					spared[r.UnitID] = true
				}
			}
		}
		if len(hit) < 5 || len(spared) < 5 {
			t.Errorf("%s: %d units hit, %d spared, of a half each", kind, len(hit), len(spared))
		}
	}
}

// rank orders readings so that the first that unit sent from tick 100 on is least.
func rank(s *server, r turbofan.Reading, unit string) int {
	tick := s.at[fmt.Sprintf("%s@%d", r.UnitID, r.Cycle)]
	if r.UnitID != unit || tick < 100 {
		return 1 << 30
	}
	return tick
}

func TestServerThatFails(t *testing.T) {
	down := turbofan.Errorf(turbofan.EUnavailable, "draining")
	s := newServer()
	s.fail = func(_ string, tick int) error {
		if tick >= 50 && tick < 60 {
			return down
		}
		return nil
	}
	bad := ""
	s.failOut = func(outcomes []turbofan.Outcome, tick int) error {
		if tick >= 70 && tick < 90 {
			return down
		}
		if bad == "" && len(outcomes) > 1 {
			bad = outcomes[0].UnitID
		}
		for _, o := range outcomes {
			if o.UnitID == bad {
				return turbofan.Invalid("failed_at_cycle", "cannot be")
			}
		}
		return nil
	}
	var mu sync.Mutex
	failed, toldBad := 0, 0
	p, tick, err := stream(t, config(), s, 0, func(r *simulate.Runner) {
		r.Hooks.Sent = func(e simulate.Event) {
			mu.Lock()
			defer mu.Unlock()
			if e.Err != nil {
				failed++
			}
		}
		r.Hooks.Outcome = func(o turbofan.Outcome, err error) {
			if err != nil && o.UnitID == bad {
				toldBad++
			}
		}
	})
	if err != nil || tick != p.Ticks {
		t.Fatalf("the stream stopped at tick %d: %v", tick, err)
	}
	if failed == 0 || len(s.got)+failed != p.Readings {
		t.Errorf("%d readings taken and %d told as failed, of %d", len(s.got), failed, p.Readings)
	}
	if bad == "" || len(s.outcomes) != 59 || toldBad == 0 {
		t.Errorf("%d outcomes taken, want all but that of %q, of which %d failures were told", len(s.outcomes), bad, toldBad)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for want, change := range map[string]func(*simulate.Config){
		"simulate.quarters: must name at least one":                                   func(c *simulate.Config) { c.Quarters = nil },
		"simulate.quarters: T9 (S9, number 1) has no units":                           func(c *simulate.Config) { c.Quarters = []simulate.Quarter{{Name: "T9", Subset: "S9"}} },
		"simulate.quarters: unit 1 of S0 is there twice: its cycles would come again": func(c *simulate.Config) { c.Quarters[1] = c.Quarters[0] },
		"simulate.quarters: unit 3 of S1 has no readings":                             func(c *simulate.Config) { c.Quarters[1].Units[2].Readings = nil },
		"simulate.fleet: must be from 1 to 100000":                                    func(c *simulate.Config) { c.Fleet = 0 },
		`simulate.scenario: must be gradual or sudden, not "slow"`:                    func(c *simulate.Config) { c.Scenario = "slow" },
		"simulate.mix_share: and missing_feedback must be from 0 to 1":                func(c *simulate.Config) { c.MissingFeedback = 1.5 },
		"simulate.mix_units: must be at least 0":                                      func(c *simulate.Config) { c.MixUnits = -1 },
		"simulate.sample: must be at least 1":                                         func(c *simulate.Config) { c.Sample = 0 },
		"simulate.feedback_delay: must be at least 0":                                 func(c *simulate.Config) { c.FeedbackDelay = -1 },
		`simulate.faults[0].kind: must be stuck, offset or dropout, not ""`:           func(c *simulate.Config) { c.Faults = []simulate.Fault{{Share: 1}} },
		"simulate.faults[0].sensor: must be from 0 to 1":                              func(c *simulate.Config) { c.Faults = []simulate.Fault{{Kind: simulate.Stuck, Sensor: 2, Share: 1}} },
		"simulate.faults[0].share: must be above 0 and at most 1":                     func(c *simulate.Config) { c.Faults = []simulate.Fault{{Kind: simulate.Stuck}} },
		"simulate.faults[0].from_tick: must be at least 0 and before to_tick": func(c *simulate.Config) {
			c.Faults = []simulate.Fault{{Kind: simulate.Stuck, Share: 1, FromTick: 5, ToTick: 5}}
		},
		"simulate.faults[0].size: must be a finite number other than 0": func(c *simulate.Config) { c.Faults = []simulate.Fault{{Kind: simulate.Offset, Share: 1}} },
	} {
		c := config()
		change(&c)
		if _, err := simulate.NewPlan(c); fmt.Sprint(err) != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
