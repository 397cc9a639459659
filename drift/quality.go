package drift

import (
	"cmp"
	"fmt"
	"slices"

	"turbofan"
	"turbofan/reference"
)

// The kinds of fault in the data.
const (
	stuck      = "stuck"        // a sensor repeats one value for far longer than it ever did in training
	absent     = "missing"      // a sensor says nothing much more often than in training
	outOfRange = "out_of_range" // a value far beyond all of training
	duplicate  = "duplicate"    // a unit sent a cycle twice, one after the other
	late       = "late"         // a cycle arrived after a later one of its unit
	moved      = "constant"     // a sensor that was constant in training says something else
	misfit     = "schema"       // not as many values as the model's schema has
)

func qualityKinds() []string {
	return []string{stuck, absent, outOfRange, duplicate, late, moved, misfit}
}

const (
	// missingShare is how much larger the share of missing values may be than it was in training.
	missingShare = 0.05
	// stuckRun is the least number of equal readings in a row that is called stuck, and twice the longest run of
	// training is needed besides.
	stuckRun = 10
	// farMargin is how far outside the range of training a value must lie to be called impossible, in widths of that
	// range. A fault that training never saw moves sensors by one width; a broken sensor by hundreds.
	farMargin = 3
	// maxIssues bounds what one report lists of each kind; the largest come first.
	maxIssues = 20
)

// issues lists faults of the data, apart from drift: a broken sensor is to be repaired, not to be learned.
func (c *Collector) issues() []turbofan.QualityIssue {
	var out []turbofan.QualityIssue
	for _, issues := range [][]turbofan.QualityIssue{c.stuckSensors(), c.missingValues(), c.farValues(), c.movedConstants(), c.lateReadings()} {
		slices.SortStableFunc(issues, func(a, b turbofan.QualityIssue) int { return cmp.Compare(b.Count, a.Count) })
		out = append(out, issues[:min(len(issues), maxIssues)]...)
	}
	if c.misfit > 0 {
		s := &c.ref.Schema
		out = append(out, turbofan.QualityIssue{Kind: misfit, Count: c.misfit, Detail: fmt.Sprintf("%s without the %d settings and %d sensors of %s",
			turbofan.Count(c.misfit, "reading"), len(s.Settings), len(s.Sensors), s.Name)})
	}
	return out
}

// stuckSensors finds sensors that gave one unit the very same value too many readings in a row.
func (c *Collector) stuckSensors() []turbofan.QualityIssue {
	var out []turbofan.QualityIssue
	for u := range c.units {
		for j := range min(len(c.tracks), len(c.ref.Run)) {
			if n := int(c.tracks[j].runs[u].longest); n >= stuckRun && n > 2*c.ref.Run[j] {
				out = append(out, turbofan.QualityIssue{Kind: stuck, Channel: channelName(c.ref, j), UnitID: c.units[u].id, Count: n,
					Detail: fmt.Sprintf("%d readings in a row with one value; in training at most %d", n, c.ref.Run[j])})
			}
		}
	}
	return out
}

// missingValues finds sensors that say nothing more often than they did in training.
func (c *Collector) missingValues() []turbofan.QualityIssue {
	var out []turbofan.QualityIssue
	for j := range c.tracks {
		n := c.tracks[j].empty
		share, usual := float64(n)/float64(max(c.total, 1)), 1-float64(c.ref.Profile.Channels[j].Rows)/float64(c.ref.Profile.Rows)
		if share > usual+missingShare {
			out = append(out, turbofan.QualityIssue{Kind: absent, Channel: channelName(c.ref, j), Count: n,
				Detail: fmt.Sprintf("%.0f%% of the readings have no value; in training %.0f%%", 100*share, 100*usual)})
		}
	}
	return out
}

// farValues tells of the values that neither training nor any wear explains.
func (c *Collector) farValues() []turbofan.QualityIssue {
	var out []turbofan.QualityIssue
	for j := range c.tracks {
		if t := &c.tracks[j]; t.out > 0 {
			q := c.ref.Profile.Channels[j].Quantiles
			out = append(out, turbofan.QualityIssue{Kind: outOfRange, Channel: channelName(c.ref, j), Count: t.out,
				Detail: fmt.Sprintf("%s of %s outside of %.3g to %.3g standard deviations; in training all lay within %.3g to %.3g",
					turbofan.Count(t.out, "reading"), turbofan.Count(len(t.outUnits), "unit"), t.low, t.high, q[0], q[len(q)-1])})
		}
	}
	return out
}

// movedConstants finds sensors that no longer say what they always said in training, each in the first condition in which
// it does not. They are not watched for drift, as they have no spread.
func (c *Collector) movedConstants() []turbofan.QualityIssue {
	var out []turbofan.QualityIssue
	for i := range c.fixed {
		f := &c.fixed[i]
		k := slices.IndexFunc(f.at, func(s said) bool { return s.off > 0 })
		if k < 0 {
			continue
		}
		off := 0
		for _, s := range f.at {
			off += s.off
		}
		s := &f.at[k]
		detail := fmt.Sprintf("always %.6g in training and from %.6g to %.6g now", s.usual, s.low, s.high)
		if s.low == s.high {
			detail = fmt.Sprintf("always %.6g in training and always %.6g now", s.usual, s.low)
		}
		if regimes := c.ref.Normalizer.Regimes; len(regimes) > 1 {
			detail += fmt.Sprintf(" (operating condition at %.4g)", regimes[k].Center)
		}
		out = append(out, turbofan.QualityIssue{Kind: moved, Channel: c.ref.Schema.Sensors[f.sensor].Name, Count: off, Detail: detail})
	}
	return out
}

// lateReadings finds units whose cycles did not arrive in order, or more than once.
func (c *Collector) lateReadings() []turbofan.QualityIssue {
	var out []turbofan.QualityIssue
	for i := range c.units {
		u := &c.units[i]
		if u.late > 0 {
			out = append(out, turbofan.QualityIssue{Kind: late, UnitID: u.id, Count: u.late, Detail: turbofan.Count(u.late, "reading") + " arrived after a later cycle of the unit"})
		}
		if u.twice > 0 {
			out = append(out, turbofan.QualityIssue{Kind: duplicate, UnitID: u.id, Count: u.twice, Detail: turbofan.Count(u.twice, "reading") + " of the same cycle as the one before"})
		}
	}
	return out
}

func channelName(ref *reference.Reference, j int) string { return ref.Profile.Channels[j].Name }
