package dataset

import (
	"cmp"
	"math"
	"slices"

	"turbofan"
	"turbofan/stat"
)

// Description holds the numbers of an exploratory look at one or more sets.
type Description struct {
	Sets []SetDescription `json:"sets"`
}

// SetDescription describes one set. Where the set flies several operating conditions, what is said of sensors is said
// within a condition: across conditions every sensor merely follows the settings.
type SetDescription struct {
	Name   string  `json:"subset"`
	Digest string  `json:"sha256,omitempty"`
	Units  int     `json:"units"`
	Rows   int     `json:"rows"`
	Cycles Summary `json:"cycles_per_unit"`
	// RUL is over all rows whose unit's end is known; its Count is 0 where none is.
	RUL        Summary                `json:"rul"`
	Conditions []ConditionDescription `json:"conditions"`
	Sensors    []SensorDescription    `json:"sensors"`
	// Varying names the sensors that vary; Correlation is Pearson's between them, within a condition.
	Varying     []string    `json:"varying_sensors"`
	Correlation [][]float64 `json:"correlation"`
	Missing     int         `json:"missing_values"`

	tolerance []float64
	means     [][]float64 // condition, sensor
	sds       [][]float64
}

// Summary says how Count values spread; where Count is 0 the rest says nothing.
type Summary struct {
	Count  int     `json:"count"`
	Min    float64 `json:"min"`
	P10    float64 `json:"p10"`
	Median float64 `json:"median"`
	Mean   float64 `json:"mean"`
	P90    float64 `json:"p90"`
	Max    float64 `json:"max"`
}

// ConditionDescription is one operating condition: a cluster of settings.
type ConditionDescription struct {
	Settings []float64 `json:"settings"` // its centre
	Rows     int       `json:"rows"`
	Units    int       `json:"units"`
}

// Variation says how much a sensor moves within an operating condition.
type Variation string

// The kinds of variation.
const (
	Constant       Variation = "constant"        // one value in every condition
	NearlyConstant Variation = "nearly constant" // no condition shows more than a handful of values
	Varies         Variation = "varies"
)

// SensorDescription describes one sensor.
type SensorDescription struct {
	Name        string    `json:"name"`
	Description string    `json:"description,omitempty"`
	Unit        string    `json:"unit,omitempty"`
	Min         float64   `json:"min"`
	Mean        float64   `json:"mean"`
	Max         float64   `json:"max"`
	Missing     int       `json:"missing"`
	Variation   Variation `json:"variation"`
	Distinct    int       `json:"most_values_in_a_condition"`
	// SD is the standard deviation within a condition, pooled over conditions.
	SD float64 `json:"sd_within_condition"`
	// RULCorrelation is Pearson's correlation with remaining life within a condition; nil where no life is known or the
	// sensor does not vary.
	RULCorrelation *float64 `json:"rul_correlation"`
}

// handful is how many values a nearly constant sensor may show: C-MAPSS rounds some sensors so far that they flicker
// between two to four neighbouring values.
const handful = 4

// maxConditions is how many clusters of settings count as operating conditions; beyond it the settings are taken to
// vary freely and the set is described as one condition.
const maxConditions = 64

// Describe computes the numbers of an exploratory look at each set.
func Describe(sets ...*Set) Description {
	d := Description{Sets: make([]SetDescription, 0, len(sets))}
	for _, s := range sets {
		d.Sets = append(d.Sets, describe(s))
	}
	return d
}

func describe(s *Set) SetDescription {
	d := SetDescription{Name: s.Name, Digest: s.Digest, Units: len(s.Units), Rows: s.Rows(), Varying: []string{}}
	var cycles, rul []float64
	for i := range s.Units {
		u := &s.Units[i]
		cycles = append(cycles, float64(len(u.Readings)))
		for j := range u.Readings {
			if v, ok := u.RUL(j); ok {
				rul = append(rul, v)
			}
		}
	}
	d.Cycles, d.RUL = summarise(cycles), summarise(rul)
	d.findConditions(s)
	d.describeSensors(s)
	d.correlate(s)
	return d
}

func summarise(v []float64) Summary {
	if len(v) == 0 {
		return Summary{}
	}
	q := stat.Quantiles(v, 0, 0.1, 0.5, 0.9, 1)
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	return Summary{Count: len(v), Min: q[0], P10: q[1], Median: q[2], Mean: sum / float64(len(v)), P90: q[3], Max: q[4]}
}

// findConditions groups the settings of all rows: a row belongs to the first centre within the schema's tolerances, or
// founds one. Centres are then moved to the mean of their rows and ordered by their settings.
func (d *SetDescription) findConditions(s *Set) {
	d.tolerance = tolerances(s)
	type group struct {
		sum    []float64
		units  map[string]bool
		rows   int
		centre []float64
	}
	var groups []*group
	settings := len(s.Schema.Settings)
	for i := range s.Units {
		for j := range s.Units[i].Readings {
			r := &s.Units[i].Readings[j]
			at := slices.IndexFunc(groups, func(g *group) bool { return d.near(g.centre, r.Settings) })
			if at < 0 {
				at = len(groups)
				if at == maxConditions {
					d.oneCondition(s)
					return
				}
				groups = append(groups, &group{sum: make([]float64, settings), units: map[string]bool{}, centre: r.Settings})
			}
			g := groups[at]
			for k, v := range r.Settings {
				g.sum[k] += v
			}
			g.rows++
			g.units[r.UnitID] = true
		}
	}
	for _, g := range groups {
		for k := range g.sum {
			g.sum[k] /= float64(g.rows)
		}
		d.Conditions = append(d.Conditions, ConditionDescription{Settings: g.sum, Rows: g.rows, Units: len(g.units)})
	}
	slices.SortFunc(d.Conditions, func(a, b ConditionDescription) int { return slices.Compare(a.Settings, b.Settings) })
}

// oneCondition describes a set whose settings vary freely.
func (d *SetDescription) oneCondition(s *Set) {
	d.Conditions = []ConditionDescription{{Settings: make([]float64, len(s.Schema.Settings)), Rows: d.Rows, Units: d.Units}}
	for k := range d.tolerance {
		d.tolerance[k] = math.Inf(1)
	}
}

// tolerances returns, for each setting, the schema's tolerance or, where it leaves the choice open, a twentieth of the
// range.
func tolerances(s *Set) []float64 {
	out := make([]float64, len(s.Schema.Settings))
	for k, c := range s.Schema.Settings {
		if c.Tolerance > 0 {
			out[k] = c.Tolerance
			continue
		}
		low, high := math.Inf(1), math.Inf(-1)
		for i := range s.Units {
			for _, r := range s.Units[i].Readings {
				low, high = math.Min(low, r.Settings[k]), math.Max(high, r.Settings[k])
			}
		}
		if high > low {
			out[k] = (high - low) / 20
		}
	}
	return out
}

func (d *SetDescription) near(centre, settings []float64) bool {
	for k, v := range settings {
		if math.Abs(v-centre[k]) > d.tolerance[k] {
			return false
		}
	}
	return true
}

// Condition returns the index in Conditions of the one nearest to settings, measured in tolerances; -1 when there is
// none.
func (d *SetDescription) Condition(settings []float64) int {
	best, at := math.Inf(1), -1
	for i, c := range d.Conditions {
		distance := 0.0
		for k, v := range settings {
			if t := d.tolerance[k]; t > 0 && !math.IsInf(t, 1) {
				distance += (v - c.Settings[k]) * (v - c.Settings[k]) / (t * t)
			}
		}
		if distance < best {
			best, at = distance, i
		}
	}
	return at
}

// Normal returns a sensor's value in standard deviations from its mean in the reading's condition: NaN where it is
// missing or does not vary there.
func (d *SetDescription) Normal(r *turbofan.Reading, sensor int) float64 {
	c := d.Condition(r.Settings)
	if c < 0 {
		return math.NaN()
	}
	return d.normal(c, sensor, r.Sensors[sensor])
}

func (d *SetDescription) normal(condition, sensor int, v float64) float64 {
	sd := d.sds[condition][sensor]
	if !(sd > 0) {
		return math.NaN()
	}
	return (v - d.means[condition][sensor]) / sd
}

func (d *SetDescription) describeSensors(s *Set) {
	conditions := make([][]int, len(s.Units))
	for i := range s.Units {
		conditions[i] = make([]int, len(s.Units[i].Readings))
		for j := range s.Units[i].Readings {
			conditions[i][j] = d.Condition(s.Units[i].Readings[j].Settings)
		}
	}
	d.means, d.sds = matrix(len(d.Conditions), len(s.Schema.Sensors)), matrix(len(d.Conditions), len(s.Schema.Sensors))
	for k, c := range s.Schema.Sensors {
		sensor := SensorDescription{Name: c.Name, Description: c.Description, Unit: c.Unit}
		d.describeSensor(s, k, conditions, &sensor)
		d.Missing += sensor.Missing
		if sensor.Variation == Varies {
			d.Varying = append(d.Varying, c.Name)
		}
		d.Sensors = append(d.Sensors, sensor)
	}
}

func matrix(rows, columns int) [][]float64 {
	out := make([][]float64, rows)
	for i := range out {
		out[i] = make([]float64, columns)
	}
	return out
}

// describeSensor fills in one sensor and its means and deviations by condition; it takes two passes over the rows, for
// a sum of squares loses the deviations of a sensor such as the core speed, 9000 ± 20.
func (d *SetDescription) describeSensor(s *Set, k int, conditions [][]int, out *SensorDescription) {
	n := make([]float64, len(d.Conditions))
	distinct := make([]map[float64]struct{}, len(d.Conditions))
	low, high, sum, count := math.Inf(1), math.Inf(-1), 0.0, 0.0
	eachValue(s, k, conditions, func(c int, v float64) {
		if math.IsNaN(v) {
			out.Missing++
			return
		}
		low, high = math.Min(low, v), math.Max(high, v)
		sum += v
		count++
		n[c]++
		d.means[c][k] += v
		if distinct[c] == nil {
			distinct[c] = map[float64]struct{}{}
		}
		if len(distinct[c]) < 1000 {
			distinct[c][v] = struct{}{}
		}
	})
	if count == 0 {
		out.Variation = Constant
		return
	}
	for c := range n {
		if n[c] > 0 {
			d.means[c][k] /= n[c]
		}
		out.Distinct = max(out.Distinct, len(distinct[c]))
	}
	squares := 0.0
	eachValue(s, k, conditions, func(c int, v float64) {
		if !math.IsNaN(v) {
			e := v - d.means[c][k]
			d.sds[c][k] += e * e
			squares += e * e
		}
	})
	for c := range n {
		d.sds[c][k] = math.Sqrt(d.sds[c][k] / math.Max(n[c], 1))
		if len(distinct[c]) <= 1 {
			// One value repeated differs from its own mean by rounding alone.
			d.sds[c][k] = 0
		}
	}
	out.Min, out.Max, out.Mean, out.SD = low, high, sum/count, math.Sqrt(squares/count)
	switch {
	case out.Distinct <= 1:
		out.Variation, out.SD = Constant, 0
	case out.Distinct <= handful:
		out.Variation = NearlyConstant
	default:
		out.Variation = Varies
	}
	if out.Variation != Constant {
		out.RULCorrelation = d.rulCorrelation(s, k, conditions)
	}
}

func eachValue(s *Set, k int, conditions [][]int, f func(condition int, v float64)) {
	for i := range s.Units {
		for j := range s.Units[i].Readings {
			f(conditions[i][j], s.Units[i].Readings[j].Sensors[k])
		}
	}
}

func (d *SetDescription) rulCorrelation(s *Set, k int, conditions [][]int) *float64 {
	var p pearson
	for i := range s.Units {
		u := &s.Units[i]
		for j := range u.Readings {
			rul, ok := u.RUL(j)
			z := d.normal(conditions[i][j], k, u.Readings[j].Sensors[k])
			if ok && !math.IsNaN(z) {
				p.add(z, rul)
			}
		}
	}
	if r := p.r(); !math.IsNaN(r) {
		return &r
	}
	return nil
}

// pearson gathers a correlation by Welford's recurrence, which keeps the digits that sums of products lose.
type pearson struct{ n, mx, my, xx, yy, xy float64 }

func (p *pearson) add(x, y float64) {
	p.n++
	dx, dy := x-p.mx, y-p.my
	p.mx += dx / p.n
	p.my += dy / p.n
	p.xx += dx * (x - p.mx)
	p.yy += dy * (y - p.my)
	p.xy += dx * (y - p.my)
}

func (p *pearson) r() float64 {
	if p.n < 2 || p.xx <= 0 || p.yy <= 0 {
		return math.NaN()
	}
	return p.xy / math.Sqrt(p.xx*p.yy)
}

// correlate fills in the correlation between the sensors that vary, over rows where both are present.
func (d *SetDescription) correlate(s *Set) {
	var index []int
	for k, sensor := range d.Sensors {
		if sensor.Variation == Varies {
			index = append(index, k)
		}
	}
	sums := make([][]pearson, len(index))
	for a := range sums {
		sums[a] = make([]pearson, a+1)
	}
	z := make([]float64, len(index))
	for i := range s.Units {
		for j := range s.Units[i].Readings {
			r := &s.Units[i].Readings[j]
			c := d.Condition(r.Settings)
			for a, k := range index {
				z[a] = d.normal(c, k, r.Sensors[k])
				for b := range a {
					if !math.IsNaN(z[a]) && !math.IsNaN(z[b]) {
						sums[a][b].add(z[a], z[b])
					}
				}
			}
		}
	}
	d.Correlation = matrix(len(index), len(index))
	for a := range index {
		d.Correlation[a][a] = 1
		for b := range a {
			r := sums[a][b].r()
			if math.IsNaN(r) {
				// Two sensors that never vary together; JSON has no word for "not a number".
				r = 0
			}
			d.Correlation[a][b], d.Correlation[b][a] = r, r
		}
	}
}

// Ranked returns the sensors by the strength of their correlation with remaining life, strongest first; those without
// one come last.
func (d *SetDescription) Ranked() []SensorDescription {
	out := slices.Clone(d.Sensors)
	strength := func(s SensorDescription) float64 {
		if s.RULCorrelation == nil {
			return -1
		}
		return math.Abs(*s.RULCorrelation)
	}
	slices.SortStableFunc(out, func(a, b SensorDescription) int { return cmp.Compare(strength(b), strength(a)) })
	return out
}
