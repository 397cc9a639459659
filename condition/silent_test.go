package condition_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"turbofan/condition"
)

// failing makes ten units of a hundred cycles that change between conditions, with a sensor that says what says returns.
func failing(conditions int, says func(unit, age, cond int) float64) []condition.Sample {
	var out []condition.Sample
	for u := range 10 {
		for age := 1; age <= 100; age++ {
			k := (u + age) % conditions
			out = append(out, condition.Sample{Unit: u, Age: age, Settings: []float64{float64(10 * k)}, Sensors: []float64{says(u, age, k)}})
		}
	}
	return out
}

func fitSamples(t *testing.T, samples []condition.Sample) *condition.Normalizer {
	t.Helper()
	cfg := condition.DefaultConfig()
	cfg.Tolerance = []float64{1}
	n, err := condition.Fit(cfg, slices.Values(samples))
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Validate(1, 1); err != nil {
		t.Fatal(err)
	}
	return n
}

// What is constant while units are healthy is kept where it speaks later, and its z is counted in what it comes to then.
func TestSilentSensors(t *testing.T) {
	late := func(age int) float64 { return max(0, float64(age-80)) }
	for _, c := range []struct {
		name       string
		conditions int
		says       func(unit, age, cond int) float64
		silent     bool
	}{
		{"a counter", 1, func(_, age, _ int) float64 { return late(age) }, true},
		{"a counter in three conditions", 3, func(_, age, _ int) float64 { return late(age) }, true},
		{"one that speaks in one condition alone", 3, func(_, age, k int) float64 { return late(age) * float64(k%2) }, true},
		{"one that rests at a value of each condition", 3, func(_, age, k int) float64 { return float64(100*k) - late(age) }, true},
		{"a counter with a false alarm of a healthy unit", 3, func(u, age, _ int) float64 {
			if u == 4 && age == 7 {
				return 1
			}
			return late(age)
		}, true},
		{"a number that is missing now and then", 3, func(u, age, _ int) float64 {
			if (7*u+age)%10 == 0 {
				return math.NaN()
			}
			return late(age)
		}, true},
		{"a constant", 3, func(_, _, k int) float64 { return float64(k) }, false},
		{"rounding", 1, func(_, age, _ int) float64 { return 1e6 + 1e-4*late(age)/20 }, false},
		{"nothing at all", 1, func(_, _, _ int) float64 { return math.NaN() }, false},
		{"one that is coarse in one of three conditions", 3, func(u, age, k int) float64 {
			if k == 0 && age <= 20 {
				return 5
			}
			return float64(5 + (u+age)%3)
		}, false},
		{"a number that varies", 1, func(u, age, _ int) float64 { return float64((u * age) % 7) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			samples := failing(c.conditions, c.says)
			n := fitSamples(t, samples)
			if got := len(n.Silent) > 0; got != c.silent {
				t.Fatalf("silent %v, want %v", n.Silent, c.silent)
			}
			if !c.silent {
				return
			}
			if got := n.Varying(); len(got) != 1 {
				t.Fatalf("varying sensors %v: the silent one is not learned from", got)
			}
			z, sum, rows := []float64{0}, 0.0, 0.0
			for _, s := range samples {
				n.Regimes[n.Find(s.Settings)].Z(s.Sensors, z)
				if math.IsNaN(s.Sensors[0]) != math.IsNaN(z[0]) {
					t.Fatalf("z %v of the value %v", z[0], s.Sensors[0])
				}
				if math.IsNaN(z[0]) {
					continue
				}
				if s.Age <= 20 && math.Abs(z[0]) > 0.3 {
					t.Fatalf("z %v of a unit at age %d, want about 0", z[0], s.Age)
				}
				sum, rows = sum+z[0]*z[0], rows+1
			}
			if rms := math.Sqrt(sum / rows); math.Abs(rms-1) > 1e-9 {
				t.Errorf("root mean square of z is %v, want 1", rms)
			}
		})
	}
}

// Few healthy readings do not show that a sensor rests.
func TestFewHealthyReadingsMakeNoSilentSensor(t *testing.T) {
	var samples []condition.Sample
	for age := 20; age <= 300; age++ {
		samples = append(samples, condition.Sample{Age: age, Settings: []float64{0}, Sensors: []float64{math.Sin(float64(age))}})
	}
	if n := fitSamples(t, samples); n.Silent != nil || len(n.Varying()) != 1 {
		t.Errorf("silent %v, varying %v: one healthy reading says nothing", n.Silent, n.Varying())
	}
}

// A condition that training never saw has no healthy spread of a silent sensor either: the one of training serves there.
func TestSilentSensorInANewCondition(t *testing.T) {
	n := fitSamples(t, failing(1, func(_, age, _ int) float64 { return max(0, float64(age-80)) }))
	c := condition.NewCommissioner(n)
	z := []float64{0}
	for i := range 40 {
		c.Learn(fmt.Sprint(i%12), 1+i/12, []float64{70}, []float64{3})
		_, status := c.Normalize([]float64{70}, []float64{3 + 2*n.Silent[0]}, z)
		if want := i+1 >= n.Config.ProvisionalRows; want && math.Abs(z[0]-2) > 1e-9 || want == (status == condition.Unrecognised) {
			t.Fatalf("after %d readings z is %v with status %v, want 2", i+1, z[0], status)
		}
	}
	if c.Generation() != 1 || c.Normalizer().Silent[0] != n.Silent[0] || c.Unseen()[0].Std[0] != n.Silent[0] {
		t.Errorf("generation %d, silent %v, unseen %+v", c.Generation(), c.Normalizer().Silent, c.Unseen())
	}
}

func TestValidateSilent(t *testing.T) {
	for want, silent := range map[string][]float64{
		"check silent: 2 values for 1 sensors": {1, 2}, "check silent[0]": {math.NaN()}, "at least 0": {-1}, "finite": {math.Inf(1)},
	} {
		n := fitSamples(t, failing(1, func(_, age, _ int) float64 { return max(0, float64(age-80)) }))
		n.Silent = silent
		if err := n.Validate(1, 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %s", silent, err, want)
		}
	}
}
