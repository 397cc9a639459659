package reference

import (
	"math"
	"slices"

	"turbofan"
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
	return float64((z^z>>31)>>11) / (1 << 53)
}
