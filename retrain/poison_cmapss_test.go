//go:build !race

package retrain_test

import (
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"turbofan"
	"turbofan/dataset"
	"turbofan/model"
	"turbofan/retrain"
)

// engines are NASA's, with a champion that knows FD001's training set alone.
type engines struct {
	sets map[string]*dataset.Set // such as "FD003" and "FD003 test"
	cfg  model.Config
	m    *model.Model
	dir  string // of m
}

func newEngines(t *testing.T, maxRows int) *engines {
	t.Helper()
	e := &engines{sets: map[string]*dataset.Set{}, cfg: model.DefaultConfig(model.Boosting), dir: filepath.Join(t.TempDir(), "champion")}
	for _, s := range dataset.Subsets() {
		e.sets[s], e.sets[s+" test"] = cmapss(t, s)
	}
	e.cfg.Folds, e.cfg.MaxRows = 3, maxRows
	b := &e.cfg.Boosting // as model.light has it
	b.MaxIter, b.LearningRate, b.MaxLeafNodes, b.MinSamplesLeaf, b.MaxFeatures, b.Subsample = 200, 0.06, 15, 40, 0.5, 1
	base := e.sets["FD001"]
	e.m = must[*model.Model](t)(model.Train(t.Context(), e.cfg, model.Data{Schema: base.Schema, Units: base.Units, Digest: base.Digest}, nil))
	must[string](t)(e.m.Save(e.dir))
	return e
}

// draw returns up to n engines of a set for production, and others to judge by.
func (e *engines) draw(set string, n int, seed uint64, keep func(*turbofan.History) bool) (units, rest []turbofan.History) {
	all := e.sets[set].Units
	for _, i := range rand.New(rand.NewPCG(seed, 77)).Perm(len(all)) {
		switch h := all[i]; {
		case keep != nil && !keep(&h):
		case len(units) < n:
			units = append(units, h)
		default:
			rest = append(rest, h)
		}
	}
	return units, rest
}

// byFan tells engines of FD003 whose fan wears: the pressure at the compressor's outlet rises, with a worn compressor it falls.
func byFan(h *turbofan.History) bool {
	const p30 = 6
	mean := func(rs []turbofan.Reading) (m float64) {
		for i := range rs {
			m += rs[i].Sensors[p30] / float64(len(rs))
		}
		return m
	}
	return mean(h.Readings[len(h.Readings)-10:]) > mean(h.Readings[:30])
}

// A statement says which readings of units came and what ends were stated for them.
type statement func(rng *rand.Rand, units []turbofan.History) (sent []turbofan.History, ends []int)

// mixed exchanges the ends of a share of the units, of those that satisfy of where it is given.
func mixed(share float64, of func(*turbofan.History) bool) statement {
	return func(rng *rand.Rand, units []turbofan.History) ([]turbofan.History, []int) {
		ends := ends(units)
		var who []int
		for _, i := range rng.Perm(len(units)) {
			if of == nil || of(&units[i]) {
				who = append(who, i)
			}
		}
		who = who[:int(share*float64(len(who))+0.5)]
		for k, j := range rng.Perm(len(who)) {
			ends[who[k]] = units[who[j]].FailedAtCycle
		}
		return units, ends
	}
}

func ends(units []turbofan.History) []int {
	out := make([]int, len(units))
	for i := range units {
		out[i] = units[i].FailedAtCycle
	}
	return out
}

// silent has a share of the units stop sending cycles before their last reading, and states every end late by so many.
func silent(share float64, cycles, late int) statement {
	return func(rng *rand.Rand, units []turbofan.History) ([]turbofan.History, []int) {
		sent, ends := append([]turbofan.History(nil), units...), ends(units)
		for i := range sent {
			if rs := sent[i].Readings; rng.Float64() < share {
				sent[i].Readings = rs[:max(min(30, len(rs)), len(rs)-cycles)]
			}
			ends[i] += late
		}
		return sent, ends
	}
}

// ps30 is the static pressure at the compressor's outlet, which has a standard deviation of 0.18 psia while engines are new
// and is the sensor that speaks most of their wear.
const ps30 = 10

// broken has a sensor of a share of the units speak wrongly from a cycle on: how says what it says, of what it would say
// and by how many cycles it is broken.
func broken(share float64, sensor, from int, how func(rng *rand.Rand, v float64, since int) float64) statement {
	return func(rng *rand.Rand, units []turbofan.History) ([]turbofan.History, []int) {
		sent := append([]turbofan.History(nil), units...)
		for i := range sent {
			if rng.Float64() >= share {
				continue
			}
			sent[i].Readings = slices.Clone(sent[i].Readings)
			for k := from; k < len(sent[i].Readings); k++ {
				v := slices.Clone(sent[i].Readings[k].Sensors)
				v[sensor] = how(rng, v[sensor], k-from)
				sent[i].Readings[k].Sensors = v
			}
		}
		return sent, ends(units)
	}
}

func honest(rng *rand.Rand, units []turbofan.History) ([]turbofan.History, []int) {
	return silent(0, 0, 0)(rng, units)
}

// plant returns one whose champion is the engines', and the service that retrains there.
func (e *engines) plant(t *testing.T) (*plant, *process) {
	p := newPlant(t)
	p.base, p.schema = e.sets["FD001"].Units, e.sets["FD001"].Schema
	p.promote(must[turbofan.ModelVersion](t)(p.reg.CreateVersion(t.Context(), turbofan.ModelVersion{Name: "rul"}, e.dir)).Version)
	return p, p.start(options{change: func(c *retrain.Config) { c.Model, c.MinNewUnits = e.cfg, retrain.DefaultConfig().MinNewUnits }})
}

// retrain tells a plant of units as say has it and returns the job that follows.
func (e *engines) retrain(t *testing.T, units []turbofan.History, say statement, seed uint64) (*plant, turbofan.Job) {
	p, s := e.plant(t)
	sent, ends := say(rand.New(rand.NewPCG(seed, 5)), units)
	p.live(sent, func(i int) int { return ends[i] })
	return p, s.run(turbofan.RetrainRequest{Trigger: "drift"})
}

func promoted(j turbofan.Job) bool { return j.Result != nil && j.Result.Promoted }

func because(j turbofan.Job) string {
	if j.Result != nil {
		return j.Result.Because
	}
	return j.Error
}

// rmse is a model's error over all readings of units, by their true ends.
func rmse(t *testing.T, m *model.Model, units []turbofan.History) float64 {
	t.Helper()
	sse, n := 0.0, 0
	for _, u := range must[[]model.UnitError](t)(m.Errors(t.Context(), retrain.Production, units)) {
		sse, n = sse+u.SSE, n+u.Rows
	}
	return math.Sqrt(sse / float64(n))
}

// What TestPoisonIsNotPromoted shows of synthetic engines holds for NASA's, and what is right is learned from.
// TestPoisonTable, under the tag bench, has more kinds and seeds.
func TestPoisonedEnginesAreNotPromoted(t *testing.T) {
	e := newEngines(t, 6000)
	for name, c := range map[string]struct {
		set  string
		seed uint64
		say  statement
		want bool
	}{
		"right ends":                     {"FD003", 1, honest, true},
		"right ends of sparse telemetry": {"FD003", 1, silent(0.3, 30, 0), true},
		"right ends of silent engines":   {"FD003 test", 301, honest, true},
		"half of silent engines' mixed":  {"FD003 test", 301, mixed(0.5, nil), false},
		"all mixed up":                   {"FD003", 1, mixed(1, nil), false},
		"half mixed up":                  {"FD003", 1, mixed(0.5, nil), false},
		"half mixed up, few in doubt":    {"FD002", 101, mixed(0.5, nil), false},
		"the new fault's mixed up":       {"FD003", 1, mixed(1, byFan), false},
		"60 cycles late after a silence": {"FD003", 1, silent(1, 30, 60), false},
	} {
		t.Run(name, func(t *testing.T) {
			units, _ := e.draw(c.set, 60, c.seed, nil)
			if _, j := e.retrain(t, units, c.say, c.seed); promoted(j) != c.want || j.Status == turbofan.JobFailure {
				t.Errorf("promoted %t, want %t: %s", promoted(j), c.want, because(j))
			} else {
				t.Log(because(j))
			}
		})
	}
}

// challenger opens the model that a job trained, promoted or not.
func (p *plant) challenger(j turbofan.Job) *model.Model {
	dir := filepath.Join(p.t.TempDir(), "m")
	v := must[turbofan.ModelVersion](p.t)(p.reg.Version(p.t.Context(), "rul", j.Result.ModelVersion))
	if err := p.reg.Fetch(p.t.Context(), v, dir); err != nil {
		p.t.Fatal(err)
	}
	return must[*model.Model](p.t)(model.Open(dir))
}

// Engines whose best sensor broke half way teach nothing where it is far off. Where it is off by no more than wear moves
// it, nothing tells it from wear: the champion errs on such engines, and one that learned from them may take its place,
// but only as long as it is no worse on engines whose sensors are sound.
func TestBrokenSensorsHarmNoSoundEngine(t *testing.T) {
	e := newEngines(t, 6000)
	for name, c := range map[string]struct {
		set  string
		off  float64
		left bool
	}{
		"far off, wear that is known":      {"FD001 test", 2, true},
		"far off, wear that is new":        {"FD003", 2, true},
		"a little off, wear that is new":   {"FD003", 0.6, false},
		"a little off, wear that is known": {"FD001 test", 0.6, false},
	} {
		t.Run(name, func(t *testing.T) {
			units, sound := e.draw(c.set, 60, 1, nil)
			p, j := e.retrain(t, units, broken(1, ps30, 60, func(_ *rand.Rand, v float64, _ int) float64 { return v + c.off }), 1)
			t.Logf("%d units left out, promoted %t: %s", len(j.Doubted), promoted(j), because(j))
			if left := j.Status == turbofan.JobRefused && strings.Contains(j.Error, "units were left out"); left != c.left {
				t.Errorf("refused before it learned: %t, want %t: %s", left, c.left, because(j))
			}
			if !promoted(j) {
				return
			}
			before, after := rmse(t, e.m, sound), rmse(t, p.challenger(j), sound)
			t.Logf("%.2f cycles on sound engines before, %.2f after", before, after)
			if after > retrain.DefaultConfig().Gate.Margin*before {
				t.Errorf("the error on sound engines rose from %.2f to %.2f cycles", before, after)
			}
		})
	}
}

// A remaining life stated for one reading is scored and never learned from, right or wrong.
func TestActualRULNeverTeaches(t *testing.T) {
	p := newPlant(t)
	p.champion(p.base)
	units := fleet("new", 24, 3, newMode)
	p.live(units, func(int) int { return 0 })
	for i, j := range rand.New(rand.NewPCG(1, 1)).Perm(len(units)) {
		rul := float64(units[j].FailedAtCycle / 2)
		if _, err := p.state.Record(t.Context(), []turbofan.Outcome{{UnitID: units[i].UnitID, Cycle: 50, ActualRUL: &rul}}); err != nil {
			t.Fatal(err)
		}
	}
	j := p.start(options{}).run(turbofan.RetrainRequest{Trigger: "drift"})
	if j.Status != turbofan.JobRefused || !strings.HasPrefix(j.Error, "0 new units with a known end") {
		t.Errorf("job %+v", j)
	}
}
