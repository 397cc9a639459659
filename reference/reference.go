// Package reference keeps what the training data looked like: the reference.json of a model version. A drift detector
// reads it without knowing what a model is; training writes it.
package reference

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"slices"

	"turbofan"
	"turbofan/condition"
	"turbofan/stat"
)

// FileName is the name of the reference in a model's artifact directory.
const FileName = "reference.json"

// PredictionChannel is the name of the channel of Reference.Prediction.
const PredictionChannel = "rul_prediction"

// maxSize bounds a reference file; one of C-MAPSS has about 300 KiB.
const maxSize = 64 << 20

// Reference describes training readings after the effect of the operating condition was taken out of them.
type Reference struct {
	Schema     turbofan.Schema       `json:"schema"`
	Normalizer *condition.Normalizer `json:"normalizer"`
	// Keep lists the sensors in Profile.Channels, by index into the schema.
	Keep []int `json:"keep"`
	// Step is, for each of Keep, the smallest difference between two values that the sensor gave: its resolution.
	Step []float64 `json:"step"`
	// Run is, for each of Keep, the most cycles in a row at which a unit gave the very same value.
	Run     []int         `json:"run"`
	Profile *stat.Profile `json:"profile"`
	// Spreads say, for each condition of the normalizer, how units differ from one another there; nil for a condition
	// that too few units visited. Empty where SpreadTails are.
	Spreads []*stat.Spread `json:"spreads,omitempty"`
	// SpreadTails say, for each age band of the profile, how rarely a unit of the reference's kind lies how far from the
	// spread of the others at about that age, in the unit of stat.HeldOut and over all its conditions. Empty where the
	// units are too few.
	SpreadTails []stat.Tail `json:"spread_tails,omitempty"`
	// Prediction is the distribution of cross-validated predictions over the same ages; nil where it was not kept.
	Prediction *stat.Profile `json:"prediction,omitempty"`
	// RMSE is the cross-validated error of the model that this reference belongs to, in cycles, clipped at Cap.
	RMSE float64 `json:"rmse"`
	Cap  float64 `json:"cap"`
	// Coverage is the share of truths that the model's intervals promise to cover.
	Coverage float64 `json:"coverage"`
}

// Config says how fine a reference is.
type Config struct {
	Bins     int   `json:"bins"`
	AgeEdges []int `json:"age_edges"` // inner edges of the age bands, in cycles
}

// DefaultConfig returns ten quantile bins and the age bands measured on C-MAPSS.
func DefaultConfig() Config {
	return Config{Bins: 10, AgeEdges: []int{25, 50, 75, 100, 125, 150, 175, 200, 225, 250, 300}}
}

// maxReadings bounds the readings that a reference is measured on: more would not sharpen a comparison with windows of
// thousands, and each takes 350 bytes while it is measured. The four subsets of C-MAPSS together have 160,000.
const maxReadings = 300_000

// spreadOver returns units, or so many of them, evenly from first to last, that they have at most limit readings or
// little more. Whole units, because a reference also says how alike the readings of one unit are.
func spreadOver(units []turbofan.History, limit int) []turbofan.History {
	total := 0
	for i := range units {
		total += len(units[i].Readings)
	}
	if total <= limit {
		return units
	}
	n := max(1, len(units)*limit/total)
	out := make([]turbofan.History, n)
	for i := range out {
		out[i] = units[i*len(units)/n]
	}
	return out
}

// Build makes the reference of training histories under the conditions of n, of a large fleet from an even share of its
// units. keep lists the sensors to watch; those of them that show nearly always the same value are left out, unless all do.
func Build(cfg Config, schema turbofan.Schema, n *condition.Normalizer, keep []int, units []turbofan.History) (*Reference, error) {
	r := &Reference{Schema: schema, Normalizer: n, RMSE: math.NaN()}
	units = spreadOver(units, maxReadings)
	r.choose(keep, units)
	rows := 0
	for i := range units {
		rows += len(units[i].Readings)
	}
	values := make([][]float64, len(r.Keep))
	names := make([]string, len(r.Keep))
	for i, sensor := range r.Keep {
		values[i] = make([]float64, 0, rows)
		names[i] = schema.Sensors[sensor].Name
	}
	age, unit, regime := make([]int, 0, rows), make([]int, 0, rows), make([]int, 0, rows)
	z := make([]float64, len(r.Keep))
	for u := range units {
		for i := range units[u].Readings {
			x := &units[u].Readings[i]
			k := n.Find(x.Settings)
			if k < 0 {
				continue
			}
			r.Normalize(x, &n.Regimes[k], z)
			for j, v := range z {
				values[j] = append(values[j], v)
			}
			age, unit, regime = append(age, x.Cycle), append(unit, u), append(regime, k)
		}
	}
	var err error
	if r.Profile, err = stat.BuildProfile(names, values, age, unit, cfg.Bins, cfg.AgeEdges); err != nil {
		return nil, fmt.Errorf("build reference: %w", err)
	}
	if err := r.spread(cfg, values, age, unit, regime); err != nil {
		return nil, fmt.Errorf("build reference: %w", err)
	}
	return r, nil
}

// tailWindows is from how many windows of units, in age bands beside each other, a tail is learned. Old units differ more
// than young ones, and some of them by far: under one tail for all ages a fleet that grows old alarms.
const tailWindows = 200

// spread sets what is known of how units differ. Each condition has its own spread: how much of a unit's own wear a
// sensor shows depends on it. Silent sensors have no part in it: young units do not differ in them at all, so that the
// first error that one counts would lie outside of any spread.
func (r *Reference) spread(cfg Config, values [][]float64, age, unit, regime []int) error {
	r.Spreads = make([]*stat.Spread, len(r.Normalizer.Regimes))
	type window struct{ unit, band int }
	sum, rows := map[window]float64{}, map[window]float64{}
	var order []window
	for k := range r.Spreads {
		part := make([][]float64, len(values))
		var ages, units []int
		for row, of := range regime {
			if of != k {
				continue
			}
			for j := range values {
				v := values[j][row]
				if r.silent(j) {
					v = math.NaN()
				}
				part[j] = append(part[j], v)
			}
			ages, units = append(ages, age[row]), append(units, unit[row])
		}
		if len(ages) == 0 {
			continue
		}
		var held []stat.HeldOut
		var err error
		if r.Spreads[k], held, err = stat.BuildSpread(part, ages, units, cfg.AgeEdges); err != nil {
			return err
		}
		for _, h := range held {
			w := window{h.Unit, h.Band}
			if rows[w] == 0 {
				order = append(order, w)
			}
			sum[w] += h.Rows * h.Ratio
			rows[w] += h.Rows
		}
	}
	byBand := make([][]float64, len(cfg.AgeEdges)+1)
	for _, w := range order {
		byBand[w.band] = append(byBand[w.band], sum[w]/rows[w])
	}
	if r.SpreadTails = tails(byBand); r.SpreadTails == nil {
		r.Spreads = nil
	}
	return nil
}

// tails learns the tail of each age band from its distances and those of as many bands on either side as it takes; nil
// where all of them together are too few.
func tails(byBand [][]float64) []stat.Tail {
	out := make([]stat.Tail, len(byBand))
	for b := range byBand {
		var near []float64
		for reach := 1; len(near) < tailWindows && reach <= len(byBand); reach++ {
			near = slices.Concat(byBand[max(0, b-reach):min(len(byBand), b+reach+1)]...)
		}
		t := stat.FitTail(near)
		if t == nil {
			return nil
		}
		out[b] = *t
	}
	return out
}

// silent reports whether sensor j of Keep rests at one value while units are healthy.
func (r *Reference) silent(j int) bool {
	return len(r.Normalizer.Silent) > 0 && r.Normalizer.Silent[r.Keep[j]] > 0
}

// Chance returns the probability that a unit of the reference's kind lies as far out as ratio at this age; 1 where it
// cannot be told.
func (r *Reference) Chance(ratio float64, age int) float64 {
	if len(r.SpreadTails) == 0 {
		return 1
	}
	return r.SpreadTails[r.Profile.Band(age)].Chance(ratio)
}

// Learn makes the reference of histories that no model learned from: it finds their conditions by itself and watches
// every sensor that varies. EInsufficient where none does; readings must be of schema.
func Learn(cfg Config, schema turbofan.Schema, units []turbofan.History) (*Reference, error) {
	samples := func(yield func(condition.Sample) bool) {
		for u := range units {
			for i := range units[u].Readings {
				x := &units[u].Readings[i]
				if !yield(condition.Sample{Unit: u, Age: x.Cycle, Settings: x.Settings, Sensors: x.Sensors}) {
					return
				}
			}
		}
	}
	given := make([]float64, len(schema.Settings))
	for i, s := range schema.Settings {
		given[i] = s.Tolerance
	}
	c := condition.DefaultConfig()
	c.Tolerance = condition.AutoTolerance(samples, given)
	n, err := condition.Fit(c, samples)
	if err != nil {
		return nil, fmt.Errorf("learn reference: %w", err)
	}
	keep := n.Varying()
	if len(keep) == 0 {
		return nil, turbofan.Errorf(turbofan.EInsufficient, "no sensor varies within every operating condition: there is nothing to compare")
	}
	return Build(cfg, schema, n, keep, units)
}

// Normalize writes the sensors of Keep to z, with the effect of the condition taken out. A missing sensor, and one that
// does not vary in this condition, is NaN.
//
// A value is first moved within its resolution, by up to half a step either way: a sensor that speaks in whole numbers
// stands on other places of its distribution in every condition, which is rounding and no drift. The move depends on
// the unit, the cycle and the sensor alone, so that the same reading always gives the same values.
func (r *Reference) Normalize(x *turbofan.Reading, regime *condition.Regime, z []float64) {
	seed := hash(x.UnitID, x.Cycle)
	for j, sensor := range r.Keep {
		z[j] = placeOf(sensor, regime).z(x.Sensors[sensor], r.step(j), seed+uint64(sensor))
	}
}

// SetPredictions keeps the distribution of predictions, in cycles, that the model made of units it did not learn from. age (in
// cycles) and unit (any number that tells units apart) are parallel to rul. Errors are those of stat.BuildProfile.
func (r *Reference) SetPredictions(rul []float64, age, unit []int) error {
	p, err := stat.BuildProfile([]string{PredictionChannel}, [][]float64{rul}, age, unit, len(r.Profile.Channels[0].Edges)+1, r.Profile.AgeEdges)
	if err != nil {
		return fmt.Errorf("keep predictions in reference: %w", err)
	}
	r.Prediction = p
	return nil
}

// Read returns the reference in a model's artifact directory, checked.
func Read(path string) (*Reference, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read reference: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read reference %s: %w", path, err)
	}
	if len(b) > maxSize {
		return nil, fmt.Errorf("read reference %s: larger than %d MiB", path, maxSize>>20)
	}
	var s stored
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("read reference %s: %w", path, err)
	}
	r, err := s.reference()
	if err != nil {
		return nil, fmt.Errorf("read reference %s: %w", path, err)
	}
	return r, nil
}

// stored is a reference as files have it. Those from before SpreadTails hold the largest distances of all ages together,
// and of how many they are.
type stored struct {
	Reference
	SpreadTail    []float64 `json:"spread_tail"`
	SpreadWindows int       `json:"spread_windows"`
}

// reference returns what is stored, checked. Of a file from before SpreadTails one tail serves all ages, so that an
// upgrade does not end the judgement of units. Its units were compared with the mean of their band: where the mean
// is known at no age of its own, spreads have no course.
func (s *stored) reference() (*Reference, error) {
	r := &s.Reference
	if len(r.SpreadTails) > 0 {
		return r, r.Validate()
	}
	if len(s.SpreadTail) > s.SpreadWindows {
		return nil, turbofan.Invalid("reference.spread_tail", "has %d values of %d windows", len(s.SpreadTail), s.SpreadWindows)
	}
	t := stat.FitTailTop(s.SpreadTail, s.SpreadWindows)
	if t == nil || r.Profile == nil { // units were too few, or not looked at
		r.Spreads = nil
		return r, r.Validate()
	}
	r.SpreadTails = slices.Repeat([]stat.Tail{*t}, len(r.Profile.AgeEdges)+1)
	for _, spread := range r.Spreads {
		if spread != nil {
			spread.Ages = make([]float64, len(spread.Means))
		}
	}
	return r, r.Validate()
}

// Validate reports why a reference cannot be used.
func (r *Reference) Validate() error {
	if err := r.Schema.Validate(); err != nil {
		return err
	}
	if r.Normalizer == nil || r.Profile == nil {
		return turbofan.Invalid("reference", "has no normalizer or no profile")
	}
	if err := r.Normalizer.Validate(len(r.Schema.Settings), len(r.Schema.Sensors)); err != nil {
		return turbofan.Invalid("reference.normalizer", "%s", err.Error())
	}
	if err := r.Profile.Validate(); err != nil {
		return turbofan.Invalid("reference.profile", "%s", err.Error())
	}
	if r.Prediction != nil {
		if err := r.Prediction.Validate(); err != nil {
			return turbofan.Invalid("reference.prediction", "%s", err.Error())
		}
		if len(r.Prediction.Channels) != 1 {
			return turbofan.Invalid("reference.prediction", "has %d channels, must have one", len(r.Prediction.Channels))
		}
	}
	if len(r.Keep) == 0 {
		return turbofan.Invalid("reference.keep", "lists no sensor")
	}
	if len(r.Keep) != len(r.Profile.Channels) {
		return turbofan.Invalid("reference.keep", "lists %d sensors for %d channels", len(r.Keep), len(r.Profile.Channels))
	}
	if len(r.Step) > 0 && len(r.Step) != len(r.Keep) {
		return turbofan.Invalid("reference.step", "has %d values for %d sensors", len(r.Step), len(r.Keep))
	}
	if len(r.Run) > 0 && len(r.Run) != len(r.Keep) {
		return turbofan.Invalid("reference.run", "has %d values for %d sensors", len(r.Run), len(r.Keep))
	}
	if len(r.Spreads) > 0 && len(r.Spreads) != len(r.Normalizer.Regimes) {
		return turbofan.Invalid("reference.spreads", "has %d entries for %d conditions", len(r.Spreads), len(r.Normalizer.Regimes))
	}
	if n := len(r.SpreadTails); n > 0 && n != len(r.Profile.AgeEdges)+1 {
		return turbofan.Invalid("reference.spread_tails", "has %d entries for %d age bands", n, len(r.Profile.AgeEdges)+1)
	}
	for b := range r.SpreadTails {
		if err := r.SpreadTails[b].Validate(); err != nil {
			return turbofan.Invalid(fmt.Sprintf("reference.spread_tails[%d]", b), "%s", err.Error())
		}
	}
	for k, s := range r.Spreads {
		if s == nil {
			continue
		}
		if err := s.Validate(len(r.Keep)); err != nil {
			return turbofan.Invalid(fmt.Sprintf("reference.spreads[%d]", k), "%s", err.Error())
		}
	}
	for i, s := range r.Step {
		if !(s >= 0) || math.IsInf(s, 0) {
			return turbofan.Invalid(fmt.Sprintf("reference.step[%d]", i), "must be a finite number of at least 0")
		}
	}
	for _, k := range r.Keep {
		if k < 0 || k >= len(r.Schema.Sensors) {
			return turbofan.Invalid("reference.keep", "%d is not a sensor of %s", k, r.Schema.Name)
		}
	}
	return nil
}
