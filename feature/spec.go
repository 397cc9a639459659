// Package feature turns the readings of a unit into one row of numbers for a learner.
//
// A Spec is fitted on training histories and travels inside the model. A State is what one unit's past comes to; Step
// moves it by one reading and fills the row. Training replays histories through the same Step that serving calls, so a
// row cannot mean one thing in training and another in production. Every column depends on readings up to now only.
//
// What carries the signal on C-MAPSS is how far a unit has moved from its own start, over its age: engines leave the
// works with different wear, and the change since then is the rate at which they use themselves up.
package feature

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"iter"
	"math"
	"slices"
	"strconv"

	"turbofan"
	"turbofan/condition"
)

// Config chooses the columns. Window lengths are in readings, ages in cycles.
type Config struct {
	// EWMA lists smoothing factors; each gives a column per sensor, corrected for the bias of its first readings.
	EWMA []float64 `json:"ewma"`
	// BaselineCycles is the age up to which a unit's own start is averaged; the columns "from_start" are the first
	// EWMA minus that mean. 0 leaves them out.
	BaselineCycles int `json:"baseline_cycles"`
	// LateStart is the age at the first reading above which a unit has no own start: its from_start columns and its
	// health index are missing, not zero.
	LateStart int `json:"late_start"`
	// HealthIndex adds a ridge regression of wear on the change since start, smoothed, its slopes and its rate.
	HealthIndex bool `json:"health_index"`
	// FaultModes gives each of so many ways to fail a health index of its own, told apart by how sensors had changed at
	// the end of life. With 0, and where there are too few units to tell, one index serves all.
	FaultModes int `json:"fault_modes"`
	// RidgeAlpha is the ridge penalty of the health index.
	RidgeAlpha   float64 `json:"ridge_alpha"`
	RollingMean  []int   `json:"rolling_mean,omitempty"`
	RollingStd   []int   `json:"rolling_std,omitempty"`
	Slope        []int   `json:"slope,omitempty"`
	Delta        []int   `json:"delta,omitempty"`
	Interactions bool    `json:"settings_interactions,omitempty"`
	// Age adds the column "cycle".
	Age bool `json:"age"`
	// Cap clips the label that the health index learns, in cycles.
	Cap       float64          `json:"cap"`
	Condition condition.Config `json:"condition"`
}

// Record returns the columns that gave the best cross-validated error on C-MAPSS: about forty.
func Record() Config {
	return Config{EWMA: []float64{0.15}, BaselineCycles: 40, LateStart: 5, HealthIndex: true, FaultModes: 3, RidgeAlpha: 5,
		Age: true, Cap: 125, Condition: condition.DefaultConfig()}
}

// Wide returns Record and beside it the rolling, delta, slope and interaction columns that people expect to explore.
func Wide() Config {
	c := Record()
	c.RollingMean, c.RollingStd, c.Slope, c.Delta, c.Interactions = []int{5, 20}, []int{10}, []int{30}, []int{1}, true
	return c
}

// Limits on a configuration, so that a state stays small.
const (
	maxWindow  = 1000
	maxWindows = 16
	maxModes   = 8
)

func (c Config) validate() error {
	if len(c.EWMA) == 0 || len(c.EWMA) > maxWindows {
		return turbofan.Invalid("feature.ewma", "must list 1 to %d smoothing factors", maxWindows)
	}
	for i, a := range c.EWMA {
		if !(a > 0 && a <= 1) {
			return turbofan.Invalid(fmt.Sprintf("feature.ewma[%d]", i), "must be above 0 and at most 1")
		}
	}
	for name, ws := range map[string][]int{"rolling_mean": c.RollingMean, "rolling_std": c.RollingStd, "slope": c.Slope, "delta": c.Delta} {
		if len(ws) > maxWindows {
			return turbofan.Invalid("feature."+name, "must list at most %d windows", maxWindows)
		}
		for i, w := range ws {
			if w < 1 || w > maxWindow {
				return turbofan.Invalid(fmt.Sprintf("feature.%s[%d]", name, i), "must be from 1 to %d", maxWindow)
			}
		}
	}
	if c.BaselineCycles < 0 || c.BaselineCycles > maxWindow {
		return turbofan.Invalid("feature.baseline_cycles", "must be from 0 to %d", maxWindow)
	}
	if c.HealthIndex && c.BaselineCycles == 0 {
		return turbofan.Invalid("feature.health_index", "needs baseline_cycles above 0")
	}
	if c.FaultModes < 0 || c.FaultModes == 1 || c.FaultModes > maxModes {
		return turbofan.Invalid("feature.fault_modes", "must be 0 or from 2 to %d", maxModes)
	}
	if c.FaultModes > 0 && !c.HealthIndex {
		return turbofan.Invalid("feature.fault_modes", "needs health_index")
	}
	if c.LateStart < 1 {
		return turbofan.Invalid("feature.late_start", "must be at least 1")
	}
	if !(c.Cap > 0) {
		return turbofan.Invalid("feature.cap", "must be above 0")
	}
	if c.HealthIndex && !(c.RidgeAlpha > 0) {
		return turbofan.Invalid("feature.ridge_alpha", "must be above 0")
	}
	return nil
}

// Spec is the fitted recipe from readings to rows. It is immutable after Fit.
type Spec struct {
	Config     Config                `json:"config"`
	Schema     turbofan.Schema       `json:"schema"`
	Normalizer *condition.Normalizer `json:"normalizer"`
	// Keep lists the sensors that vary in every training condition, and those that leave one value only when a unit fails,
	// by index into the schema.
	Keep []int `json:"keep"`
	// Health holds the ridge weights of each health index over kept sensors, intercept last. Empty without a health index.
	Health [][]float64 `json:"health,omitempty"`
	// HealthLow and HealthHigh are, by kept sensor, the least and the greatest change since start that the indexes were
	// fitted on; a change beyond counts as that bound. Older models have none, and bound nothing.
	HealthLow  []float64 `json:"health_low,omitempty"`
	HealthHigh []float64 `json:"health_high,omitempty"`
	// Columns names every value of a row, in order.
	Columns []string `json:"columns"`
}

// The smoothing factors and windows of the health index's own columns.
const (
	hiFast, hiSlow             = 0.1, 0.05
	hiMean, hiSlope1, hiSlope2 = 10, 30, 60
)

// LateColumn is 1 in rows of a unit that joined late and so has no own start, else 0.
const LateColumn = "joined_late"

// healthColumns names the columns of one health index; rates are over the age, or its root.
func healthColumns() []string {
	return []string{"ewma_0.1", "ewma_0.05", "mean_10", "slope_30", "slope_60", "rate_0.1", "rate_0.05", "rate_sqrt"}
}

func (s *Spec) columns() []string {
	c := s.Config
	var out []string
	per := func(suffix string) {
		for _, i := range s.Keep {
			out = append(out, s.Schema.Sensors[i].Name+"_"+suffix)
		}
	}
	for _, a := range c.EWMA {
		per("ewma_" + strconv.FormatFloat(a, 'g', -1, 64))
	}
	if c.BaselineCycles > 0 {
		per("from_start_" + strconv.Itoa(c.BaselineCycles))
	}
	for _, column := range [...]struct {
		name    string
		windows []int
	}{{"rolling_mean_", c.RollingMean}, {"rolling_std_", c.RollingStd}, {"slope_", c.Slope}, {"delta_", c.Delta}} {
		for _, w := range column.windows {
			per(column.name + strconv.Itoa(w))
		}
	}
	if c.Interactions {
		n := s.Schema.SettingNames()
		out = append(out, n...)
		for i := range n {
			for j := i; j < len(n); j++ {
				out = append(out, n[i]+"_x_"+n[j])
			}
		}
	}
	if c.Age {
		out = append(out, "cycle")
	}
	if c.BaselineCycles > 0 {
		out = append(out, LateColumn)
	}
	for k := range s.Health {
		name := "health_index_"
		if len(s.Health) > 1 {
			name = "fault_" + strconv.Itoa(k+1) + "_index_"
		}
		for _, column := range healthColumns() {
			out = append(out, name+column)
		}
	}
	return out
}

// Digest identifies the recipe: a state built under one digest is void under another.
func (s *Spec) Digest() string {
	b, err := json.Marshal(s)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// Validate reports why a spec that was read from a file cannot be used.
func (s *Spec) Validate() error {
	if err := s.Schema.Validate(); err != nil {
		return err
	}
	if err := s.Config.validate(); err != nil {
		return err
	}
	if s.Normalizer == nil {
		return turbofan.Invalid("feature.normalizer", "is missing")
	}
	if err := s.Normalizer.Validate(len(s.Schema.Settings), len(s.Schema.Sensors)); err != nil {
		return turbofan.Invalid("feature.normalizer", "%s", err.Error())
	}
	for i, k := range s.Keep {
		if k < 0 || k >= len(s.Schema.Sensors) || i > 0 && k <= s.Keep[i-1] {
			return turbofan.Invalid("feature.keep", "must list sensors in ascending order, each below %d", len(s.Schema.Sensors))
		}
	}
	if len(s.Keep) == 0 {
		return turbofan.Invalid("feature.keep", "no sensor varies")
	}
	if n := len(s.Health); s.Config.HealthIndex != (n > 0) || n > 1 && n != s.Config.FaultModes {
		return turbofan.Invalid("feature.health", "must have one index, or one for each of %d fault modes; it has %d", s.Config.FaultModes, n)
	}
	for i, w := range s.Health {
		if len(w) != len(s.Keep)+1 {
			return turbofan.Invalid(fmt.Sprintf("feature.health[%d]", i), "must have %d weights, it has %d", len(s.Keep)+1, len(w))
		}
	}
	if err := s.validateRange(); err != nil {
		return err
	}
	want := s.columns()
	if len(want) != len(s.Columns) {
		return turbofan.Invalid("feature.columns", "must have %d names, it has %d", len(want), len(s.Columns))
	}
	for i := range want {
		if want[i] != s.Columns[i] {
			return turbofan.Invalid(fmt.Sprintf("feature.columns[%d]", i), "must be %s, not %s", want[i], s.Columns[i])
		}
	}
	return nil
}

func (s *Spec) validateRange() error {
	if len(s.HealthLow) == 0 && len(s.HealthHigh) == 0 {
		return nil
	}
	if len(s.Health) == 0 || len(s.HealthLow) != len(s.Keep) || len(s.HealthHigh) != len(s.Keep) {
		return turbofan.Invalid("feature.health_low", "and health_high must have %d values each, they have %d and %d", len(s.Keep), len(s.HealthLow), len(s.HealthHigh))
	}
	for i, low := range s.HealthLow {
		if high := s.HealthHigh[i]; !(low <= high) || math.IsInf(low, 0) || math.IsInf(high, 0) {
			return turbofan.Invalid(fmt.Sprintf("feature.health_low[%d]", i), "must be a finite number of at most health_high, %g", high)
		}
	}
	return nil
}

// Fit learns the recipe from training histories: the conditions, the sensors that vary and the health index, whose
// label is min(RUL, cap). Histories whose end is not known count for everything but the health index. It stops with ctx's
// error when ctx ends, as every pass over histories here does. EInvalid are a configuration or schema that breaks a rule,
// readings of another schema, none at all, and sensors of which none varies.
func Fit(ctx context.Context, cfg Config, schema turbofan.Schema, units []turbofan.History) (*Spec, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if err := schema.Validate(); err != nil {
		return nil, err
	}
	if err := checkWidths(schema, units); err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(units, func(h turbofan.History) bool { return len(h.Readings) > 0 }) {
		return nil, turbofan.Errorf(turbofan.EInvalid, "fit features: no readings")
	}
	samples := samplesOf(ctx, units)
	given := make([]float64, len(schema.Settings))
	for i, c := range schema.Settings {
		given[i] = c.Tolerance
	}
	cfg.Condition.Tolerance = condition.AutoTolerance(samples, given)
	n, err := condition.Fit(cfg.Condition, samples)
	if ctx.Err() != nil {
		return nil, ctx.Err() // what was fitted has not seen all samples
	}
	if err != nil {
		return nil, fmt.Errorf("fit features: %w", err)
	}
	s := &Spec{Config: cfg, Schema: schema, Normalizer: n, Keep: n.Varying()}
	if len(s.Keep) == 0 {
		return nil, turbofan.Errorf(turbofan.EInvalid, "no sensor varies in every operating condition: there is nothing to learn from (how a sensor varies is measured over the first %d cycles of each unit, while it is healthy; of one that is constant there, over all)", cfg.Condition.HealthyCycles)
	}
	if cfg.HealthIndex {
		if s.Health, err = fitHealth(ctx, s, units); err != nil {
			return nil, err
		}
	}
	s.Columns = s.columns()
	return s, nil
}

// checkEvery is how many readings a pass takes before it asks again whether it is still wanted.
const checkEvery = 4096

// samplesOf gives every reading of units to the normaliser, until ctx ends and none from then on.
func samplesOf(ctx context.Context, units []turbofan.History) iter.Seq[condition.Sample] {
	return func(yield func(condition.Sample) bool) {
		for u := range units {
			for i := range units[u].Readings {
				if i%checkEvery == 0 && ctx.Err() != nil {
					return
				}
				r := &units[u].Readings[i]
				if !yield(condition.Sample{Unit: u, Age: r.Cycle, Settings: r.Settings, Sensors: r.Sensors}) {
					return
				}
			}
		}
	}
}

// checkWidths reports the first reading that has not as many values as the schema has channels.
func checkWidths(schema turbofan.Schema, units []turbofan.History) error {
	for u := range units {
		for i := range units[u].Readings {
			if r := &units[u].Readings[i]; len(r.Settings) != len(schema.Settings) || len(r.Sensors) != len(schema.Sensors) {
				return turbofan.Invalid("reading", "unit %s cycle %d has %d settings and %d sensors, the schema %s has %d and %d",
					r.UnitID, r.Cycle, len(r.Settings), len(r.Sensors), schema.Name, len(schema.Settings), len(schema.Sensors))
			}
		}
	}
	return nil
}

// missing marks a value that is not known.
var missing = float32(math.NaN())
