package condition

import (
	"fmt"
	"iter"
	"math"
)

// resting is the least share of healthy readings, in every condition, at which a sensor that moved in some of them still
// counts as silent: it raised a false alarm, and is not a coarse reading of something that changes all the time.
const resting = 0.9

// listen finds the silent sensors and sets Normalizer.Silent. There are two kinds: sensors that are constant over the
// healthy readings of each condition, whatever the value is there; and sensors that are constant in some conditions and,
// but for a few readings, keep that same value in all others. A sensor that is constant in some conditions and takes
// several values in others is not silent: C-MAPSS rounds a few sensors that coarsely, and what they say depends on the
// condition. A condition with fewer healthy readings than CommissionRows is not asked. of is the condition of each
// sample; nil means that there is one condition.
func (n *Normalizer) listen(healthy, all []moments, samples iter.Seq[Sample], of []uint16) {
	sensors := len(n.Regimes[0].Mean)
	var doubtful []int
	silent := make([]bool, sensors)
	for i := range sensors {
		switch constant, told := n.constantIn(healthy, i); {
		case constant > 0 && constant == told:
			silent[i] = true
		case constant > 0:
			doubtful = append(doubtful, i)
		}
	}
	if len(doubtful) > 0 {
		n.rest(doubtful, silent, samples, of)
	}
	for i, ok := range silent {
		if !ok {
			continue
		}
		if s := departure(healthy, all, i); s > 0 {
			if n.Silent == nil {
				n.Silent = make([]float64, sensors)
			}
			n.Silent[i] = s
			for k := range n.Regimes {
				if healthy[k].n[i] > 0 {
					n.Regimes[k].Mean[i] = healthy[k].mean[i]
				}
			}
		}
	}
	for k := range n.Regimes {
		n.hear(&n.Regimes[k])
	}
}

// hear puts the unit of silent sensors into a condition.
func (n *Normalizer) hear(r *Regime) {
	for i, s := range n.Silent {
		if s > 0 {
			r.Std[i] = s
		}
	}
}

// constantIn counts the conditions whose healthy readings of sensor i are all the same, of those where they are told.
func (n *Normalizer) constantIn(healthy []moments, i int) (constant, told int) {
	for k := range healthy {
		if healthy[k].n[i] < float64(n.Config.CommissionRows) {
			continue
		}
		if told++; healthy[k].std(i) == 0 {
			constant++
		}
	}
	return constant, told
}

// departure is the root mean square distance of all readings of sensor i from the healthy mean of their conditions, 0
// where it is rounding. Readings in conditions that no healthy unit visited do not count.
func departure(healthy, all []moments, i int) float64 {
	sum, rows, scale := 0.0, 0.0, 0.0
	for k := range all {
		if healthy[k].n[i] == 0 {
			continue
		}
		d := all[k].mean[i] - healthy[k].mean[i]
		sum += all[k].m2[i] + all[k].n[i]*d*d
		rows += all[k].n[i]
		scale = max(scale, math.Abs(healthy[k].mean[i]))
	}
	if s := math.Sqrt(sum / rows); s > constantShare*scale {
		return s
	}
	return 0
}

// rest marks those of the doubtful sensors that rest in every condition at the same value. The value is the one that most
// healthy readings show, found by majority vote (Boyer and Moore 1991), which a second pass counts.
func (n *Normalizer) rest(doubtful []int, silent []bool, samples iter.Seq[Sample], of []uint16) {
	value, votes := make([]float64, len(doubtful)), make([]int, len(doubtful))
	n.eachHealthy(samples, of, func(_ int, s *Sample) {
		for j, i := range doubtful {
			switch v := s.Sensors[i]; {
			case math.IsNaN(v):
			case votes[j] == 0:
				value[j], votes[j] = v, 1
			case v == value[j]:
				votes[j]++
			default:
				votes[j]--
			}
		}
	})
	rows, at := make([][]float64, len(n.Regimes)), make([][]float64, len(n.Regimes))
	for k := range rows {
		rows[k], at[k] = make([]float64, len(doubtful)), make([]float64, len(doubtful))
	}
	n.eachHealthy(samples, of, func(k int, s *Sample) {
		for j, i := range doubtful {
			if v := s.Sensors[i]; !math.IsNaN(v) {
				rows[k][j]++
				if v == value[j] {
					at[k][j]++
				}
			}
		}
	})
	for j, i := range doubtful {
		silent[i] = true
		for k := range rows {
			silent[i] = silent[i] && at[k][j] >= resting*rows[k][j]
		}
	}
}

// eachHealthy calls f with the healthy samples and the condition of each.
func (n *Normalizer) eachHealthy(samples iter.Seq[Sample], of []uint16, f func(k int, s *Sample)) {
	row := 0
	for s := range samples {
		k := 0
		if of != nil {
			k = int(of[row])
		}
		row++
		if s.Age <= n.Config.HealthyCycles {
			f(k, &s)
		}
	}
}

// validateSilent reports why the units of silent sensors cannot be used.
func (n *Normalizer) validateSilent(sensors int) error {
	if len(n.Silent) != 0 && len(n.Silent) != sensors {
		return fmt.Errorf("check silent: %d values for %d sensors", len(n.Silent), sensors)
	}
	for i, s := range n.Silent {
		if !(s >= 0) || math.IsInf(s, 0) {
			return fmt.Errorf("check silent[%d]: must be a finite number of at least 0", i)
		}
	}
	return nil
}
