package drift

import (
	"turbofan/reference"
	"turbofan/stat"
)

// Distribution is one channel in the bins of the reference, for a picture.
type Distribution struct {
	Channel string `json:"channel"`
	// Edges are the inner edges of the bins, in standard deviations within the operating condition.
	Edges []float64 `json:"edges"`
	// Expected is the share of the reference in each bin at the ages of the window, Current that of the window.
	Expected []float64 `json:"expected"`
	Current  []float64 `json:"current"`
}

// Distributions returns what Judge compares, channel by channel in the order of the reference; a channel without a
// value in the window is left out.
func Distributions(ref *reference.Reference, w Window, cfg Config) []Distribution {
	rows := gather(ref, w, cfg)
	var out []Distribution
	for i := range ref.Profile.Channels {
		c := &ref.Profile.Channels[i]
		ages, n := make([]float64, len(ref.Profile.AgeEdges)+1), 0.0
		for r, v := range rows.values[i] {
			if v == v {
				ages[ref.Profile.Band(rows.age[r])]++
				n++
			}
		}
		if n == 0 {
			continue
		}
		d := Distribution{Channel: c.Name, Edges: c.Edges, Expected: ref.Profile.Expected(i, ages), Current: make([]float64, len(c.Edges)+1)}
		stat.Histogram(rows.values[i], c.Edges, d.Current)
		for b := range d.Current {
			d.Expected[b] /= n
			d.Current[b] /= n
		}
		out = append(out, d)
	}
	return out
}
