package reference

import (
	"math"
	"slices"

	"turbofan"
	"turbofan/condition"
)

// dominant is the share of readings in a condition that may show one and the same value. A sensor that shows it more
// often has no distribution to compare: its standard deviation, and with it every normalised value, hangs on a few
// readings.
const dominant = 0.9

// choose sets Keep, Step and Run.
func (r *Reference) choose(keep []int, units []turbofan.History) {
	kept := func(always bool) {
		for _, sensor := range keep {
			if step, share := r.describe(sensor, units); always || share <= dominant {
				r.Keep, r.Step, r.Run = append(r.Keep, sensor), append(r.Step, step), append(r.Run, longestRun(sensor, units))
			}
		}
	}
	if kept(false); len(r.Keep) == 0 {
		kept(true)
	}
}

// longestRun returns the most readings in a row in which a unit gave the same value of a sensor.
func longestRun(sensor int, units []turbofan.History) int {
	longest := 0
	for u := range units {
		run, last := 0, math.NaN()
		for i := range units[u].Readings {
			if v := units[u].Readings[i].Sensors[sensor]; v == last {
				run++
			} else {
				run, last = 1, v
			}
			longest = max(longest, run)
		}
	}
	return longest
}

// describe returns the smallest difference between two values of a sensor within one condition, and the largest share
// of readings in a condition that show the same value.
func (r *Reference) describe(sensor int, units []turbofan.History) (step, share float64) {
	values := make([][]float64, len(r.Normalizer.Regimes))
	for u := range units {
		for i := range units[u].Readings {
			x := &units[u].Readings[i]
			if k := r.Normalizer.Find(x.Settings); k >= 0 && !math.IsNaN(x.Sensors[sensor]) {
				values[k] = append(values[k], x.Sensors[sensor])
			}
		}
	}
	step = math.Inf(1)
	for _, v := range values {
		slices.Sort(v)
		run, longest := 1, min(1, len(v))
		for i := 1; i < len(v); i++ {
			if v[i] == v[i-1] {
				run++
			} else {
				step, run = min(step, v[i]-v[i-1]), 1
			}
			longest = max(longest, run)
		}
		if len(v) > 0 {
			share = max(share, float64(longest)/float64(len(v)))
		}
	}
	if math.IsInf(step, 0) {
		step = 0
	}
	return step, share
}

// place is where a sensor lies in one condition; the std of one that does not vary there is NaN.
type place struct{ mean, std float64 }

func placeOf(sensor int, regime *condition.Regime) place {
	p := place{regime.Mean[sensor], regime.Std[sensor]}
	if !(p.std > 0) {
		p.std = math.NaN()
	}
	return p
}

// z moves a value within its resolution and takes the condition out of it.
func (p place) z(v, step float64, seed uint64) float64 {
	return (v + step*(uniform(seed)-0.5) - p.mean) / p.std
}

func (r *Reference) step(channel int) float64 {
	if channel < len(r.Step) {
		return r.Step[channel]
	}
	return 0
}

// Scale normalises the values of one sensor of Keep, one after the other, as Normalize does with those of a reading.
type Scale struct {
	step   float64
	sensor uint64
	places []place // by condition
}

// Scale returns the scale of Keep[channel] over conditions.
func (r *Reference) Scale(channel int, conditions []condition.Regime) Scale {
	s := Scale{step: r.step(channel), sensor: uint64(r.Keep[channel]), places: make([]place, len(conditions))}
	for k := range conditions {
		s.places[k] = placeOf(r.Keep[channel], &conditions[k])
	}
	return s
}

// Z returns the value v of the reading with that Seed, without the effect of a condition.
func (s *Scale) Z(v float64, seed uint64, condition int) float64 {
	return s.places[condition].z(v, s.step, seed+s.sensor)
}

// Seed names a reading, by its unit and its cycle; see Normalize.
func Seed(x *turbofan.Reading) uint64 { return hash(x.UnitID, x.Cycle) }

// hash is FNV-1a over the unit and the cycle: a name for a reading that every process computes alike.
func hash(unit string, cycle int) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(unit) {
		h = (h ^ uint64(unit[i])) * 1099511628211
	}
	for c := uint64(cycle); c > 0; c >>= 8 {
		h = (h ^ c&0xff) * 1099511628211
	}
	return h
}

// uniform is a number in [0, 1) that depends on seed alone: SplitMix64 (Steele, Lea and Flood 2014).
func uniform(seed uint64) float64 {
	z := seed*0x9e3779b97f4a7c15 + 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return float64(int64((z^z>>31)>>11)) / (1 << 53) // signed: a processor has no conversion from unsigned
}
