package drift

import (
	"cmp"
	"fmt"
	"math"
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
	misfit     = "schema"       // not as many values as the model's schema has
)

func qualityKinds() []string { return []string{stuck, absent, outOfRange, duplicate, late, misfit} }

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

// quality lists faults of the data, apart from drift: a broken sensor is to be repaired, not to be learned.
func quality(ref *reference.Reference, readings []turbofan.StoredReading, r *rows) []turbofan.QualityIssue {
	var out []turbofan.QualityIssue
	for _, issues := range [][]turbofan.QualityIssue{
		stuckSensors(ref, readings), missingValues(ref, readings), farValues(ref, r), lateReadings(readings),
	} {
		slices.SortStableFunc(issues, func(a, b turbofan.QualityIssue) int { return cmp.Compare(b.Count, a.Count) })
		out = append(out, issues[:min(len(issues), maxIssues)]...)
	}
	if r.misfit > 0 {
		out = append(out, turbofan.QualityIssue{Kind: misfit, Count: r.misfit, Detail: fmt.Sprintf("%d readings do not have the %d settings and %d sensors of %s",
			r.misfit, len(ref.Schema.Settings), len(ref.Schema.Sensors), ref.Schema.Name)})
	}
	return out
}

// stuckSensors finds sensors that gave one unit the very same value too many readings in a row.
func stuckSensors(ref *reference.Reference, readings []turbofan.StoredReading) []turbofan.QualityIssue {
	if len(ref.Run) == 0 {
		return nil
	}
	type runs struct {
		last    []float64
		length  []int
		longest []int
	}
	units := map[string]*runs{}
	var order []string
	for i := range readings {
		x := &readings[i].Reading
		if !fits(ref.Normalizer, x) {
			continue
		}
		u := units[x.UnitID]
		if u == nil {
			n := len(ref.Keep)
			u = &runs{make([]float64, n), make([]int, n), make([]int, n)}
			units[x.UnitID], order = u, append(order, x.UnitID)
		}
		for j, sensor := range ref.Keep {
			if v := x.Sensors[sensor]; u.length[j] > 0 && v == u.last[j] {
				u.length[j]++
			} else {
				u.last[j], u.length[j] = v, 1
			}
			u.longest[j] = max(u.longest[j], u.length[j])
		}
	}
	var out []turbofan.QualityIssue
	for _, id := range order {
		for j, n := range units[id].longest {
			if n >= stuckRun && n > 2*ref.Run[j] {
				out = append(out, turbofan.QualityIssue{Kind: stuck, Channel: channelName(ref, j), UnitID: id, Count: n,
					Detail: fmt.Sprintf("%d readings in a row with one value; in training at most %d", n, ref.Run[j])})
			}
		}
	}
	return out
}

// missingValues finds sensors that say nothing more often than they did in training.
func missingValues(ref *reference.Reference, readings []turbofan.StoredReading) []turbofan.QualityIssue {
	empty, total := make([]int, len(ref.Keep)), 0
	for i := range readings {
		x := &readings[i].Reading
		if !fits(ref.Normalizer, x) {
			continue
		}
		total++
		for j, sensor := range ref.Keep {
			if math.IsNaN(x.Sensors[sensor]) {
				empty[j]++
			}
		}
	}
	var out []turbofan.QualityIssue
	for j, n := range empty {
		share, usual := float64(n)/float64(max(total, 1)), 1-float64(ref.Profile.Channels[j].Rows)/float64(ref.Profile.Rows)
		if share > usual+missingShare {
			out = append(out, turbofan.QualityIssue{Kind: absent, Channel: channelName(ref, j), Count: n,
				Detail: fmt.Sprintf("%.0f%% of the readings have no value; in training %.0f%%", 100*share, 100*usual)})
		}
	}
	return out
}

// farValues finds values that neither training nor any wear explains.
func farValues(ref *reference.Reference, r *rows) []turbofan.QualityIssue {
	var out []turbofan.QualityIssue
	for j, values := range r.values {
		q := ref.Profile.Channels[j].Quantiles
		if len(q) == 0 {
			continue
		}
		low, high := q[0], q[len(q)-1]
		low, high = low-farMargin*(high-low), high+farMargin*(high-low)
		n, units := 0, map[int]struct{}{}
		for i, v := range values {
			if v < low || v > high {
				n++
				units[r.unit[i]] = struct{}{}
			}
		}
		if n > 0 {
			out = append(out, turbofan.QualityIssue{Kind: outOfRange, Channel: channelName(ref, j), Count: n,
				Detail: fmt.Sprintf("%d readings of %d units are outside of %.3g to %.3g standard deviations; in training all lay within %.3g to %.3g",
					n, len(units), low, high, q[0], q[len(q)-1])})
		}
	}
	return out
}

// lateReadings finds units whose cycles did not arrive in order, or more than once.
func lateReadings(readings []turbofan.StoredReading) []turbofan.QualityIssue {
	newest, lates, twice := map[string]int{}, map[string]int{}, map[string]int{}
	var order []string
	for i := range readings {
		x := &readings[i]
		last, seen := newest[x.UnitID]
		if !seen {
			order = append(order, x.UnitID)
		}
		switch {
		case seen && x.Cycle < last:
			lates[x.UnitID]++
		case seen && x.Cycle == last:
			twice[x.UnitID]++
		}
		newest[x.UnitID] = max(last, x.Cycle)
	}
	var out []turbofan.QualityIssue
	for _, id := range order {
		if n := lates[id]; n > 0 {
			out = append(out, turbofan.QualityIssue{Kind: late, UnitID: id, Count: n, Detail: fmt.Sprintf("%d readings arrived after a later cycle of the unit", n)})
		}
		if n := twice[id]; n > 0 {
			out = append(out, turbofan.QualityIssue{Kind: duplicate, UnitID: id, Count: n, Detail: fmt.Sprintf("%d readings repeat the cycle before them", n)})
		}
	}
	return out
}

func channelName(ref *reference.Reference, j int) string { return ref.Profile.Channels[j].Name }
