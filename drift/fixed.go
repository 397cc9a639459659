package drift

import (
	"math"
	"slices"

	"turbofan"
	"turbofan/reference"
)

// fixed follows a sensor that always said the same in each condition of training, and so has no spread to be compared with.
type fixed struct {
	sensor int    // by the schema
	at     []said // by condition of training
}

// said is what such a sensor says in one condition: usual in training, from low to high now.
type said struct {
	usual, slack float64 // no distance from usual up to slack is a change
	low, high    float64
	off          int // values that are not the usual one
}

// newFixed lists the sensors that were constant in each condition of training. A condition with few healthy rows proves
// no constant.
func newFixed(ref *reference.Reference) []fixed {
	n := ref.Normalizer
	var out []fixed
	for j := range ref.Schema.Sensors {
		f := fixed{sensor: j, at: make([]said, len(n.Regimes))}
		constant := !slices.Contains(ref.Keep, j)
		for k := range n.Regimes {
			r := &n.Regimes[k]
			constant = constant && r.Std[j] == 0
			f.at[k] = said{usual: r.Mean[j], slack: 1e-9 * math.Abs(r.Mean[j]), low: math.Inf(1), high: math.Inf(-1)} // the mean of equal values may be off by rounding
			if r.Rows < n.Config.CommissionRows {
				f.at[k].slack = math.Inf(1)
			}
		}
		if constant {
			out = append(out, f)
		}
	}
	return out
}

// add takes readings and their conditions.
func (f *fixed) add(readings []turbofan.StoredReading, condition []int32) {
	for i, k := range condition {
		if k < 0 || int(k) >= len(f.at) {
			continue
		}
		v, s := readings[i].Sensors[f.sensor], &f.at[k]
		if v < s.low {
			s.low = v
		}
		if v > s.high {
			s.high = v
		}
		if math.Abs(v-s.usual) > s.slack {
			s.off++
		}
	}
}
