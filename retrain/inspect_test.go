package retrain_test

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"turbofan"
	"turbofan/model"
	"turbofan/retrain"
)

// Nothing of this may become champion.
func TestPoisonIsNotPromoted(t *testing.T) {
	for name, c := range map[string]struct {
		mode  float64
		end   func(units []turbofan.History) func(int) int
		spoil func(r *turbofan.Reading, i int)
		units int
	}{
		"shuffled ends":                             {mode: knownMode, end: shuffled},
		"shuffled ends of a new fault mode":         {mode: newMode, end: shuffled},
		"shuffled ends of many of a new fault mode": {mode: newMode, end: shuffled, units: 90},
		"more shuffled ends":                        {mode: newMode, end: shuffledBy(2), units: 60},
		"yet more shuffled ends":                    {mode: newMode, end: shuffledBy(3), units: 40},
		"ends 60 cycles late":                       {mode: knownMode, end: shifted},
		"ends 60 cycles late of a new fault mode":   {mode: newMode, end: shifted},
		"stuck sensor":                              {mode: knownMode, spoil: func(r *turbofan.Reading, _ int) { r.Sensors[1] = 101.5 }},
		"stuck sensor of a new fault mode":          {mode: newMode, spoil: func(r *turbofan.Reading, _ int) { r.Sensors[2] = 9.75 }},
		"sensor stuck half way": {mode: knownMode, spoil: func(r *turbofan.Reading, i int) {
			if i > 50 {
				r.Sensors[2] = 9.75
			}
		}},
		"sensor off": {mode: knownMode, spoil: func(r *turbofan.Reading, _ int) { r.Sensors[1] += 6 }},
		"sensor off half way": {mode: newMode, spoil: func(r *turbofan.Reading, i int) {
			if i > 50 {
				r.Sensors[3] -= 4
			}
		}},
		"sensor gone": {mode: knownMode, spoil: func(r *turbofan.Reading, _ int) { r.Sensors[3] = math.NaN() }},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlant(t)
			p.champion(p.base)
			units := fleet("poison", cmp.Or(c.units, 24), 3, c.mode)
			for u := range units {
				for i := range units[u].Readings {
					if c.spoil != nil {
						c.spoil(&units[u].Readings[i], i)
					}
				}
			}
			var end func(int) int
			if c.end != nil {
				end = c.end(units)
			}
			p.live(units, end)
			j := p.start(options{}).run(turbofan.RetrainRequest{Trigger: "drift"})
			if j.Status != turbofan.JobRefused && (j.Status != turbofan.JobSuccess || j.Result.Promoted) {
				t.Errorf("job %+v, %+v", j, j.Result)
			}
			if v := p.serving(); v.Version != "1" {
				t.Errorf("version %s serves", v.Version)
			}
			if j.Result != nil {
				t.Logf("the gate refused it: %s", j.Result.Because)
			} else {
				t.Logf("refused: %s", j.Error)
			}
		})
	}
}

func shuffled(units []turbofan.History) func(int) int { return shuffledBy(1)(units) }

func shuffledBy(seed uint64) func(units []turbofan.History) func(int) int {
	return func(units []turbofan.History) func(int) int {
		order := rand.New(rand.NewPCG(seed, 1)).Perm(len(units))
		return func(i int) int { return units[order[i]].FailedAtCycle }
	}
}

func shifted(units []turbofan.History) func(int) int {
	return func(i int) int { return units[i].FailedAtCycle + 60 }
}

// A unit of which the champion saw other readings than the challenger tells nothing of which is better.
func TestUnitsThatChangedAreNotCompared(t *testing.T) {
	p := newPlant(t)
	p.champion(p.base)
	p.base = slices.Clone(p.base)
	for i := range 4 {
		p.base[i].Readings = p.base[i].Readings[10:]
	}
	j := p.start(options{}).run(turbofan.RetrainRequest{Force: true})
	if j.Status != turbofan.JobSuccess || len(j.Result.HeldOut) == 0 {
		t.Fatalf("job %+v, %+v", j, j.Result)
	}
	for _, g := range j.Result.HeldOut {
		if g.Units != 20 {
			t.Errorf("compared on %d units: %+v", g.Units, g)
		}
	}
}

// sparse are units that fall silent 30 cycles before their end.
func sparse(name string, units int, seed uint64) []turbofan.History {
	out := fleet(name, units, seed, newMode)
	for i := range out {
		out[i].Readings = out[i].Readings[:len(out[i].Readings)-30]
	}
	return out
}

// Where the fleet wears in a way that the champion does not know, it expects no end rightly. The challenger does, by those
// units that were heard of to the end.
func TestChallengerConfirmsEnds(t *testing.T) {
	p := newPlant(t)
	p.champion(p.base)
	p.live(fleet("heard", 16, 3, newMode), nil)
	p.live(sparse("silent", 24, 4), nil)
	j := p.start(options{}).run(turbofan.RetrainRequest{Trigger: "drift"})
	if j.Status != turbofan.JobSuccess || !j.Result.Promoted || p.serving().Version != "2" {
		t.Fatalf("job %+v, %+v", j, j.Result)
	}
	agreed := 0
	for _, d := range j.Doubted {
		if !strings.HasPrefix(d.UnitID, "silent") || d.Used {
			t.Errorf("the job doubts %+v", d)
		}
		if strings.HasSuffix(d.Because, "; the challenger expects it") {
			agreed++
		}
	}
	t.Logf("%d of 24 doubted, the challenger expects %d of them: %s", len(j.Doubted), agreed, j.Result.Because)
	if len(j.Doubted) < 20 || agreed < len(j.Doubted)*9/10 || !strings.Contains(j.Result.Because, "stated ends: 24 of 40 new units") {
		t.Errorf("%d doubted, %d of them expected by the challenger, because %s", len(j.Doubted), agreed, j.Result.Because)
	}
}

// A few odd ends among many that are as expected stop nothing: some engines surprise every model.
func TestFewOddEndsStopNothing(t *testing.T) {
	p := newPlant(t)
	p.champion(p.base)
	p.live(fleet("heard", 16, 3, newMode), nil)
	expected := fleet("expected", 24, 4, knownMode)
	for i := range expected {
		expected[i].Readings = expected[i].Readings[:len(expected[i].Readings)-30]
	}
	p.live(expected, nil)
	odd := fleet("odd", 2, 5, knownMode)
	p.live(odd, func(i int) int { return odd[i].FailedAtCycle + 60 })
	j := p.start(options{}).run(turbofan.RetrainRequest{Trigger: "drift"})
	if j.Status != turbofan.JobSuccess || !j.Result.Promoted || !strings.Contains(j.Result.Because, "the challenger contradicts 2") {
		t.Fatalf("job %+v, %+v", j, j.Result)
	}
}

// oddEnds is how many units of an oddPlant have an end stated that nobody can believe.
const oddEnds = 3

// oddPlant is a plant whose gate asks for no gain on new units, with thirty units of a new mode that were heard of to the end and
// oddEnds that were not.
func oddPlant(t *testing.T) (*plant, *process) {
	t.Helper()
	p := newPlant(t)
	p.champion(p.base)
	p.live(fleet("heard", 30, 3, newMode), nil)
	odd := fleet("odd", oddEnds, 9, newMode)
	p.live(odd, func(i int) int { return odd[i].FailedAtCycle + 60 })
	return p, p.start(options{change: func(c *retrain.Config) { c.Gate.MinBetter = 0 }})
}

// Ends that stayed in doubt when the champion was trained do not speak against units that ended after that.
func TestOddEndsOfThePastStopNothing(t *testing.T) {
	p, s := oddPlant(t)
	for i, want := range []string{"2", "3"} {
		j := s.run(turbofan.RetrainRequest{Trigger: "drift"})
		if j.Status != turbofan.JobSuccess || !j.Result.Promoted || p.serving().Version != want || len(j.Doubted) < oddEnds {
			t.Fatalf("job %d: %+v, %+v", i+1, j, j.Result)
		}
		p.live(fleet("later", 16, 7, newMode), nil)
	}
}

// A unit that was left out when the champion learned is not new to the next job, which would read everything and then be
// refused.
func TestUnitsLeftOutAreNotNewAgain(t *testing.T) {
	p, s := oddPlant(t)
	j := s.run(turbofan.RetrainRequest{Trigger: "drift"})
	if j.Status != turbofan.JobSuccess || !j.Result.Promoted || j.Result.NewUnits != 33 || len(j.Doubted) < oddEnds {
		t.Fatalf("job %+v, %+v", j, j.Result)
	}
	p.live(fleet("later", 6, 7, newMode), nil)
	if j = s.run(turbofan.RetrainRequest{Trigger: "drift"}); j.Status != turbofan.JobRefused || !strings.HasPrefix(j.Error, "6 new units with a known end since version 2; 8 needed, 2 missing") {
		t.Errorf("job %+v", j)
	}
	p.live(fleet("last", 4, 8, newMode), nil)
	if j = s.run(turbofan.RetrainRequest{Trigger: "drift"}); j.Status != turbofan.JobSuccess || j.Result.NewUnits != 10 {
		t.Errorf("job %+v, %+v", j, j.Result)
	}
}

// Where nobody was heard of to the end, nothing tells right ends from wrong ones but who stated them.
func TestForceBelievesEnds(t *testing.T) {
	p := newPlant(t)
	p.champion(p.base)
	p.live(sparse("silent", 24, 4), nil)
	s := p.start(options{})
	j := s.run(turbofan.RetrainRequest{Trigger: "drift"})
	if j.Status != turbofan.JobRefused || len(j.Doubted) < 17 || !strings.Contains(j.Error, "force the job where they are right") {
		t.Fatalf("job %+v", j)
	}
	doubted := len(j.Doubted)
	j = s.run(turbofan.RetrainRequest{Force: true, Reason: "the works confirmed the ends"})
	if j.Status != turbofan.JobSuccess || !j.Result.Promoted || j.Reason != "the works confirmed the ends" || len(j.Doubted) != doubted || !j.Doubted[0].Used ||
		!strings.Contains(j.Result.Because, fmt.Sprintf("forced: the ends stated for %d units are in doubt and were believed", doubted)) {
		t.Errorf("the forced job %+v, %+v", j, j.Result)
	}
}

// stuck is a fleet one of whose sensors says the same from the first reading to the last.
func stuck(sensor int, value float64) []turbofan.History {
	broken := fleet("broken", 8, 4, newMode)
	for _, h := range broken {
		for i := range h.Readings {
			h.Readings[i].Sensors[sensor] = value
		}
	}
	return broken
}

func TestBrokenUnitsAreLeftOut(t *testing.T) {
	p := newPlant(t)
	p.champion(p.base)
	p.live(fleet("new", 5, 3, newMode), nil)
	broken := stuck(1, 101.5)
	p.live(broken, nil)
	j := p.start(options{}).run(turbofan.RetrainRequest{})
	if want := "8 of 13 new units were left out, because their sensors or their stated ends cannot be trusted (the job names them); 5 left, 8 needed, 3 missing"; j.Error != want {
		t.Errorf("%q, want %q", j.Error, want)
	}
}

// What a broken sensor said teaches nothing, whoever asks, and the job names the units; sound units of the same batch do.
func TestBrokenSensorsNeverTeach(t *testing.T) {
	p := newPlant(t)
	p.champion(p.base)
	p.live(fleet("sound", 16, 3, newMode), nil)
	broken := stuck(2, 9.75)
	p.live(broken, nil)
	j := p.start(options{}).run(turbofan.RetrainRequest{Force: true})
	if j.Status != turbofan.JobSuccess || !j.Result.Promoted || len(j.Doubted) != len(broken) {
		t.Fatalf("job %+v, %+v", j, j.Result)
	}
	for _, d := range j.Doubted {
		if !strings.HasPrefix(d.UnitID, "broken") || d.Used || !strings.Contains(d.Because, "repeats itself") {
			t.Errorf("the job names %+v", d)
		}
	}
	dir := filepath.Join(t.TempDir(), "m")
	if err := p.reg.Fetch(t.Context(), p.serving(), dir); err != nil {
		t.Fatal(err)
	}
	m := must[*model.Model](t)(model.Open(dir))
	sound := 0
	for _, u := range m.HeldOut() {
		if strings.HasPrefix(u.Unit, model.UnitKey(retrain.Production, "broken")) {
			t.Errorf("the champion learned from %s", u.Unit)
		} else if strings.HasPrefix(u.Unit, model.UnitKey(retrain.Production, "sound")) {
			sound++
		}
	}
	if sound != 16 {
		t.Errorf("it learned from %d sound units of 16", sound)
	}
}

// A sensor that knows a few values only stands where it stands: a unit whose own start is another of them is sound.
func TestSensorsOfFewValuesAreNotLevelled(t *testing.T) {
	steps := func(units []turbofan.History, start func(u int) float64) []turbofan.History {
		for u := range units {
			for i := range units[u].Readings {
				v := start(u)
				if 3*i > 2*units[u].FailedAtCycle {
					v++
				}
				units[u].Readings[i].Sensors[3] = v
			}
		}
		return units
	}
	p := newPlant(t)
	p.base = steps(p.base, func(u int) float64 {
		if u == 0 {
			return 51
		}
		return 50
	})
	p.champion(p.base)
	p.live(steps(fleet("new", 8, 3, knownMode), func(u int) float64 { return 50 + 3*float64(u%2) }), nil)
	if j := p.start(options{}).run(turbofan.RetrainRequest{}); j.Status != turbofan.JobSuccess || len(j.Doubted) > 0 || j.Result.NewUnits != 8 {
		t.Errorf("job %+v, %+v", j, j.Result)
	}
}
