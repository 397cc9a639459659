package drift

// Distribution is one channel in the bins of the reference, for a picture.
type Distribution struct {
	Channel string `json:"channel"`
	// Edges are the inner edges of the bins, in standard deviations within the operating condition.
	Edges []float64 `json:"edges"`
	// Expected is the share of the reference in each bin at the ages of the window, Current that of the window.
	Expected []float64 `json:"expected"`
	Current  []float64 `json:"current"`
}

// Distributions returns what Judge compared, channel by channel in the order of the reference; a channel without a
// value in the window is left out.
func (c *Collector) Distributions() []Distribution {
	var out []Distribution
	for i := range c.ref.Profile.Channels {
		channel := &c.ref.Profile.Channels[i]
		current, expected := c.found.Counts(i)
		n := 0.0
		for _, k := range current {
			n += k
		}
		if n == 0 {
			continue
		}
		for b := range current {
			current[b] /= n
			expected[b] /= n
		}
		out = append(out, Distribution{Channel: channel.Name, Edges: channel.Edges, Expected: expected, Current: current})
	}
	return out
}
