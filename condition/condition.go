// Package condition finds the operating conditions a fleet flies in and takes their effect out of the sensors.
//
// A sensor follows the operating condition far more than it follows wear: on C-MAPSS a raw sensor differs between two
// conditions by hundreds of the standard deviations it has within one. A Normalizer holds, for each condition seen in
// training, the mean and the standard deviation of every sensor; what remains after z = (x − mean) / std is comparable
// over conditions. A Commissioner extends it to conditions that training never saw, from the first healthy cycles of
// the first new units, without a label.
//
// Only healthy cycles count, in training too: with the statistics of whole lives in the conditions of training and of
// healthy engines in the new ones, a sensor would have two scales, and a new condition would look like drift.
package condition

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"
)

// Config says how conditions are told apart and how new ones are commissioned.
type Config struct {
	// Tolerance holds, per setting, the distance within which two values mean the same condition; see AutoTolerance.
	Tolerance []float64 `json:"tolerance"`
	// MaxConditions bounds how many conditions are told apart. Settings that need more are continuous: Fit then
	// treats all of them as one condition.
	MaxConditions int `json:"max_conditions"`
	// HealthyCycles is the age up to which a unit is taken to be healthy. Means and standard deviations come from
	// readings up to this age, in training as in commissioning, so that both mean the same.
	HealthyCycles int `json:"healthy_cycles"`
	// CommissionUnits and CommissionRows are the least units and readings that fix a new condition for good.
	// Two units are too few: they give a false alarm two times out of three.
	CommissionUnits int `json:"commission_units"`
	CommissionRows  int `json:"commission_rows"`
	// ProvisionalRows is the least number of readings from which a new condition is normalised at all.
	ProvisionalRows int `json:"provisional_rows"`
}

// DefaultConfig returns the configuration measured on C-MAPSS.
func DefaultConfig() Config {
	return Config{MaxConditions: 32, HealthyCycles: 20, CommissionUnits: 10, CommissionRows: 33, ProvisionalRows: 6}
}

func (c Config) validate(settings int) error {
	switch {
	case len(c.Tolerance) != settings:
		return fmt.Errorf("check tolerance: %d values for %d settings", len(c.Tolerance), settings)
	case c.MaxConditions < 1 || c.MaxConditions > 1024:
		return errors.New("check max_conditions: must be from 1 to 1024")
	case c.HealthyCycles < 1:
		return errors.New("check healthy_cycles: must be at least 1")
	case c.CommissionUnits < 1 || c.CommissionRows < 2:
		return errors.New("check commission_units and commission_rows: must be at least 1 and 2")
	case c.ProvisionalRows < 2:
		return errors.New("check provisional_rows: must be at least 2")
	}
	for i, t := range c.Tolerance {
		if !(t > 0) || math.IsInf(t, 0) {
			return fmt.Errorf("check tolerance[%d]: must be a finite number above 0", i)
		}
	}
	return nil
}

// Regime is one operating condition: the centre of its settings and, per sensor, mean and standard deviation of
// healthy units, or what Normalizer.Silent says in place of the latter. A standard deviation of 0 means that the sensor
// says nothing in this condition; its z is NaN.
type Regime struct {
	Center []float64 `json:"center"`
	Mean   []float64 `json:"mean"`
	Std    []float64 `json:"std"`
	Rows   int       `json:"rows"`
	Units  int       `json:"units"`
	// Commissioned marks a condition that came after training.
	Commissioned bool `json:"commissioned,omitempty"`
}

// Normalizer takes the operating condition out of the sensors. It is immutable and safe for concurrent use.
type Normalizer struct {
	Config  Config   `json:"config"`
	Regimes []Regime `json:"regimes"`
	// Silent is about sensors that keep one value while units are healthy and leave it when they fail, as an error counter
	// does. They have no healthy standard deviation to divide by; in its place stands, in every condition, the root mean
	// square of their distance from the healthy value over all of training. Silent holds that number by sensor, 0 for
	// every other sensor, and is nil where no sensor is silent.
	Silent []float64 `json:"silent,omitempty"`
}

// Sample is one training reading. Unit is any number that tells units apart.
type Sample struct {
	Unit     int
	Age      int // cycles, from 1
	Settings []float64
	Sensors  []float64
}

// AutoTolerance returns a tolerance for each setting from training data: given[i] where it is above 0, else a
// twentieth of the range seen, and 1e-6 of the magnitude for a setting that does not vary. Samples are ranged over once
// a setting; each has as many settings as given.
func AutoTolerance(samples iter.Seq[Sample], given []float64) []float64 {
	out := make([]float64, len(given))
	for j, t := range given {
		if t > 0 {
			out[j] = t
			continue
		}
		lo, hi := math.Inf(1), math.Inf(-1)
		for s := range samples {
			lo, hi = min(lo, s.Settings[j]), max(hi, s.Settings[j])
		}
		out[j] = (hi - lo) / 20
		if !(out[j] > 0) || math.IsInf(out[j], 0) {
			out[j] = 1e-6 * max(1, math.Abs(lo))
			if math.IsInf(out[j], 0) {
				out[j] = 1e-6
			}
		}
	}
	return out
}

// Fit finds the conditions in samples (in any order, but the same order gives the same bytes) and the healthy mean and
// standard deviation of every sensor in each. A condition that no healthy unit visited takes its statistics from all
// readings there; of a sensor that healthy units never move, all readings say by how much it does. Samples are ranged
// over more than once, and two bytes each are held. Errors: no samples, rows of unequal width, a configuration out of bounds.
func Fit(cfg Config, samples iter.Seq[Sample]) (*Normalizer, error) {
	settings, sensors, err := widths(samples)
	if err != nil {
		return nil, fmt.Errorf("fit normalizer: %w", err)
	}
	if err := cfg.validate(settings); err != nil {
		return nil, fmt.Errorf("fit normalizer: %w", err)
	}
	cfg.Tolerance = slices.Clone(cfg.Tolerance)
	centers, of := cluster(cfg, samples)
	if len(centers) == 0 {
		return nil, errors.New("fit normalizer: samples could not be ranged over again")
	}
	healthy := make([]moments, len(centers))
	all := make([]moments, len(centers))
	for i := range centers {
		healthy[i], all[i] = newMoments(sensors), newMoments(sensors)
	}
	i := 0
	for s := range samples {
		k := 0
		if of != nil {
			k = int(of[i])
		}
		i++
		all[k].add(s.Unit, s.Sensors)
		if s.Age <= cfg.HealthyCycles {
			healthy[k].add(s.Unit, s.Sensors)
		}
	}
	n := &Normalizer{Config: cfg}
	for k, c := range centers {
		m := &healthy[k]
		if m.rows < cfg.CommissionRows {
			m = &all[k]
		}
		n.Regimes = append(n.Regimes, m.regime(c))
	}
	n.listen(healthy, all, samples, of)
	return n, nil
}

// widths returns how many settings and sensors every sample has.
func widths(samples iter.Seq[Sample]) (settings, sensors int, err error) {
	n := 0
	for s := range samples {
		if n == 0 {
			settings, sensors = len(s.Settings), len(s.Sensors)
		}
		if len(s.Settings) != settings || len(s.Sensors) != sensors {
			return 0, 0, fmt.Errorf("sample %d has %d settings and %d sensors, the first has %d and %d", n, len(s.Settings), len(s.Sensors), settings, sensors)
		}
		n++
	}
	if n == 0 {
		return 0, 0, errors.New("no samples")
	}
	return settings, sensors, nil
}

// cluster assigns each sample to the first centre within tolerance, making a new one where there is none, then moves
// each centre to the mean of its samples. One pass suffices because conditions, where there are any, lie far apart. A
// nil assignment means that all samples belong to one centre. MaxConditions fits 16 bits.
func cluster(cfg Config, samples iter.Seq[Sample]) (centers [][]float64, of []uint16) {
	var sums [][]float64
	var counts []float64
	for s := range samples {
		k := nearest(centers, cfg.Tolerance, s.Settings)
		if k < 0 {
			if len(centers) == cfg.MaxConditions {
				return single(cfg, samples), nil
			}
			k = len(centers)
			centers = append(centers, slices.Clone(s.Settings))
			sums = append(sums, make([]float64, len(s.Settings)))
			counts = append(counts, 0)
		}
		of = append(of, uint16(k))
		counts[k]++
		for j, v := range s.Settings {
			sums[k][j] += v
		}
	}
	for k := range centers {
		for j := range centers[k] {
			centers[k][j] = sums[k][j] / counts[k]
		}
	}
	return centers, of
}

// single makes one condition of all samples: settings that vary continuously tell no conditions apart. It widens
// cfg.Tolerance in place, so that no reading will be foreign to it.
func single(cfg Config, samples iter.Seq[Sample]) [][]float64 {
	n := 0
	for range samples {
		n++
	}
	center := make([]float64, len(cfg.Tolerance))
	for s := range samples {
		for j, v := range s.Settings {
			center[j] += v / float64(n)
		}
	}
	for j := range cfg.Tolerance {
		cfg.Tolerance[j] = math.MaxFloat64
	}
	return [][]float64{center}
}

// nearest returns the centre closest to settings among those within tolerance in every setting, or -1.
func nearest(centers [][]float64, tolerance, settings []float64) int {
	best, bestDist := -1, math.Inf(1)
	for k, c := range centers {
		if d := distance(c, tolerance, settings); d < bestDist {
			best, bestDist = k, d
		}
	}
	return best
}

// distance is the sum over settings of the distance in tolerances, infinite where one setting is further than its own.
func distance(center, tolerance, settings []float64) float64 {
	if len(center) != len(settings) {
		return math.Inf(1)
	}
	sum := 0.0
	for j, v := range settings {
		d := math.Abs(v - center[j])
		if !(d <= tolerance[j]) {
			return math.Inf(1)
		}
		sum += d / tolerance[j]
	}
	return sum
}

// Find returns the index of the condition that settings belong to, the nearest within Config.Tolerance of every setting, or
// -1 for one that is not known. settings has as many values as Config.Tolerance.
func (n *Normalizer) Find(settings []float64) int {
	best, bestDist := -1, math.Inf(1)
	for k := range n.Regimes {
		if d := distance(n.Regimes[k].Center, n.Config.Tolerance, settings); d < bestDist {
			best, bestDist = k, d
		}
	}
	return best
}

// Z writes the normalised sensors of regime k to out, which has as many values as sensors. A missing sensor, and one
// that does not vary in this condition, is NaN.
func (r *Regime) Z(sensors, out []float64) {
	for i, v := range sensors {
		if s := r.Std[i]; s > 0 {
			out[i] = (v - r.Mean[i]) / s
		} else {
			out[i] = math.NaN()
		}
	}
}

// Varying returns the sensors that vary in every condition, and the silent ones, in ascending order: those worth learning
// from.
func (n *Normalizer) Varying() []int {
	var keep []int
	for i := range n.Regimes[0].Std {
		ok := true
		for k := range n.Regimes {
			ok = ok && n.Regimes[k].Std[i] > 0
		}
		if ok {
			keep = append(keep, i)
		}
	}
	return keep
}

// Validate reports why a normalizer that was read from a file cannot be used with so many settings and sensors.
func (n *Normalizer) Validate(settings, sensors int) error {
	if err := n.Config.validate(settings); err != nil {
		return err
	}
	if len(n.Regimes) == 0 {
		return errors.New("check regimes: there is none")
	}
	for k, r := range n.Regimes {
		if len(r.Center) != settings || len(r.Mean) != sensors || len(r.Std) != sensors {
			return fmt.Errorf("check regime %d: %d settings, %d means, %d stds for %d settings and %d sensors",
				k, len(r.Center), len(r.Mean), len(r.Std), settings, sensors)
		}
	}
	return n.validateSilent(sensors)
}

// moments accumulates mean and variance per sensor by Welford's recurrence (Technometrics 1962), skipping missing values.
type moments struct {
	rows  int
	units map[int]struct{}
	n     []float64
	mean  []float64
	m2    []float64
}

func newMoments(sensors int) moments {
	return moments{units: map[int]struct{}{}, n: make([]float64, sensors), mean: make([]float64, sensors), m2: make([]float64, sensors)}
}

func (m *moments) clone() moments {
	return moments{rows: m.rows, units: maps.Clone(m.units), n: slices.Clone(m.n), mean: slices.Clone(m.mean), m2: slices.Clone(m.m2)}
}

func (m *moments) add(unit int, sensors []float64) {
	m.rows++
	m.units[unit] = struct{}{}
	for i, v := range sensors {
		if math.IsNaN(v) {
			continue
		}
		m.n[i]++
		d := v - m.mean[i]
		m.mean[i] += d / m.n[i]
		m.m2[i] += d * (v - m.mean[i])
	}
}

// constantShare is the standard deviation, as a share of the mean, below which a sensor counts as constant: it is
// rounding, not signal.
const constantShare = 1e-7

func (m *moments) regime(center []float64) Regime {
	r := Regime{Center: slices.Clone(center), Mean: slices.Clone(m.mean), Std: make([]float64, len(m.mean)), Rows: m.rows, Units: len(m.units)}
	for i := range r.Std {
		r.Std[i] = m.std(i)
	}
	return r
}

// std is the standard deviation of sensor i, 0 where it is constant or not known.
func (m *moments) std(i int) float64 {
	if m.n[i] < 2 {
		return 0
	}
	s := math.Sqrt(m.m2[i] / m.n[i])
	if !(s > constantShare*math.Abs(m.mean[i])) {
		return 0
	}
	return s
}
