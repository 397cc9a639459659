package condition_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"turbofan/condition"
)

// reading draws one reading of a sensor pair whose level depends on the condition, not on the unit.
func reading(rng *rand.Rand, cond int) (settings, sensors []float64) {
	settings = []float64{float64(cond*10) + 0.01*rng.NormFloat64(), 100}
	return settings, []float64{500*float64(cond+1) + 2*rng.NormFloat64(), 7}
}

func fit(t *testing.T, conditions int) (*condition.Normalizer, *rand.Rand) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	var samples []condition.Sample
	for u := range 20 {
		for age := 1; age <= 60; age++ {
			s, x := reading(rng, (u+age)%conditions)
			samples = append(samples, condition.Sample{Unit: u, Age: age, Settings: s, Sensors: x})
		}
	}
	cfg := condition.DefaultConfig()
	cfg.Tolerance = condition.AutoTolerance(slices.Values(samples), []float64{1, 0})
	n, err := condition.Fit(cfg, slices.Values(samples))
	if err != nil {
		t.Fatal(err)
	}
	return n, rng
}

func TestFitFindsConditions(t *testing.T) {
	n, rng := fit(t, 3)
	if len(n.Regimes) != 3 {
		t.Fatalf("found %d conditions, want 3", len(n.Regimes))
	}
	if got := n.Varying(); len(got) != 1 || got[0] != 0 {
		t.Fatalf("varying sensors %v, want [0]", got)
	}
	z, sum, sq := make([]float64, 2), 0.0, 0.0
	for i := range 3000 {
		s, x := reading(rng, i%3)
		k := n.Find(s)
		if k < 0 {
			t.Fatalf("settings %v belong to no condition", s)
		}
		n.Regimes[k].Z(x, z)
		sum, sq = sum+z[0], sq+z[0]*z[0]
		if !math.IsNaN(z[1]) {
			t.Fatal("a constant sensor must have no z")
		}
	}
	if mean, sd := sum/3000, math.Sqrt(sq/3000); math.Abs(mean) > 0.1 || math.Abs(sd-1) > 0.1 {
		t.Errorf("z has mean %.2f and sd %.2f, want 0 and 1", mean, sd)
	}
	if n.Find([]float64{55, 100}) != -1 || n.Find([]float64{math.NaN(), 100}) != -1 {
		t.Error("foreign settings must not be found")
	}
}

func TestContinuousSettingsAreOneCondition(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var samples []condition.Sample
	for i := range 2000 {
		samples = append(samples, condition.Sample{Unit: i / 50, Age: i%50 + 1, Settings: []float64{1000 * rng.Float64()}, Sensors: []float64{rng.NormFloat64()}})
	}
	cfg := condition.DefaultConfig()
	cfg.Tolerance = []float64{0.5}
	n, err := condition.Fit(cfg, slices.Values(samples))
	if err != nil {
		t.Fatal(err)
	}
	if len(n.Regimes) != 1 || n.Find([]float64{-1e9}) != 0 {
		t.Errorf("want one condition that holds any settings, got %d", len(n.Regimes))
	}
	if cfg.Tolerance[0] != 0.5 {
		t.Error("Fit changed its caller's configuration")
	}
}

func TestCommissioning(t *testing.T) {
	n, rng := fit(t, 1)
	c := condition.NewCommissioner(n)
	z := make([]float64, 2)
	foreign, x := reading(rng, 4)
	if _, status := c.Normalize(foreign, x, z); status != condition.Unrecognised || !math.IsNaN(z[0]) {
		t.Fatalf("an unseen condition is %v with z %v, want Unrecognised and NaN", status, z[0])
	}
	fixedAt := 0
	for i := range 60 {
		s, x := reading(rng, 4)
		c.Learn(string(rune('a'+i%12)), i/12+1, s, x)
		_, status := c.Normalize(s, x, z)
		if status == condition.Known && fixedAt == 0 {
			fixedAt = i + 1
		}
		if i == 20 && status != condition.Provisional {
			t.Errorf("after 21 readings the condition is %v, want Provisional", status)
		}
	}
	if fixedAt != n.Config.CommissionRows || c.Generation() != 1 {
		t.Errorf("fixed after %d readings at generation %d, want %d and 1", fixedAt, c.Generation(), n.Config.CommissionRows)
	}
	sum := 0.0
	for range 1000 {
		s, x := reading(rng, 4)
		c.Normalize(s, x, z)
		sum += z[0]
	}
	if math.Abs(sum/1000) > 0.5 {
		t.Errorf("mean z in the commissioned condition is %.2f, want about 0", sum/1000)
	}
	if u := c.Unseen(); len(u) != 1 || !u[0].Commissioned || u[0].Units != 12 && u[0].Units != 10 {
		t.Errorf("unseen conditions %+v", u)
	}
	if len(n.Regimes) != 1 {
		t.Error("commissioning changed the training's normalizer")
	}
}

func TestOldOrFewUnitsDoNotCommission(t *testing.T) {
	n, rng := fit(t, 1)
	c := condition.NewCommissioner(n)
	for i := range 500 {
		s, x := reading(rng, 5)
		c.Learn("only", i%20+1, s, x)          // one unit, however many readings
		c.Learn("old", 21+i, s, x)             // beyond its healthy cycles
		c.Learn("third", min(i+1, 2000), s, x) // a second young one
	}
	if c.Generation() != 0 {
		t.Error("two young units fixed a condition")
	}
}

func TestFitRefuses(t *testing.T) {
	good := []condition.Sample{{Unit: 1, Age: 1, Settings: []float64{1}, Sensors: []float64{1}}}
	cfg := condition.DefaultConfig()
	cfg.Tolerance = []float64{1}
	for name, c := range map[string]struct {
		cfg     func() condition.Config
		samples []condition.Sample
		want    string
	}{
		"no samples":      {func() condition.Config { return cfg }, nil, "no samples"},
		"ragged":          {func() condition.Config { return cfg }, append(good, condition.Sample{Settings: []float64{1}}), "sample 1 has 1 settings and 0 sensors"},
		"no tolerance":    {func() condition.Config { c := cfg; c.Tolerance = nil; return c }, good, "0 values for 1 settings"},
		"bad tolerance":   {func() condition.Config { c := cfg; c.Tolerance = []float64{math.NaN()}; return c }, good, "tolerance[0]"},
		"no conditions":   {func() condition.Config { c := cfg; c.MaxConditions = 0; return c }, good, "max_conditions"},
		"no healthy age":  {func() condition.Config { c := cfg; c.HealthyCycles = 0; return c }, good, "healthy_cycles"},
		"one provisional": {func() condition.Config { c := cfg; c.ProvisionalRows = 1; return c }, good, "provisional_rows"},
	} {
		if _, err := condition.Fit(c.cfg(), slices.Values(c.samples)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		}
	}
}

// A setting that jitters at random must not keep real conditions from being commissioned.
func TestBrokenSettingDoesNotFillTheTable(t *testing.T) {
	n, rng := fit(t, 1)
	c := condition.NewCommissioner(n)
	z := make([]float64, 2)
	for i := range 400 {
		_, x := reading(rng, 1)
		c.Learn("broken", 1+i%20, []float64{1000 + 100*float64(i), 100}, x)
		if i%5 == 0 {
			s, x := reading(rng, 3)
			c.Learn("unit "+string(rune('a'+i/5%12)), 1+i%20, s, x)
		}
	}
	s, x := reading(rng, 3)
	if k, status := c.Normalize(s, x, z); status != condition.Known {
		t.Errorf("condition %d, status %v: a real condition was not commissioned beside a broken setting", k, status)
	}
}

func TestCloneLearnsByItself(t *testing.T) {
	n, rng := fit(t, 1)
	c := condition.NewCommissioner(n)
	learn := func(c *condition.Commissioner, units int) {
		for i := range 40 {
			s, x := reading(rng, 3)
			c.Learn("unit "+string(rune('a'+i%units)), 1+i%20, s, x)
		}
	}
	learn(c, 2)
	before := c.Clone()
	learn(c, 12)
	if c.Generation() != 1 || before.Generation() != 0 {
		t.Fatalf("generations %d and %d, want 1, and 0 for the clone", c.Generation(), before.Generation())
	}
	s, x := reading(rng, 3)
	z := make([]float64, 2)
	if _, status := before.Normalize(s, x, z); status != condition.Provisional {
		t.Errorf("the clone's condition is %v, want it provisional as it was", status)
	}
	learn(before, 12)
	if before.Generation() != 1 {
		t.Error("the clone does not learn")
	}
}
