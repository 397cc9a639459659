// Package reference keeps what the training data looked like: the reference.json of a model version. A drift detector
// reads it without knowing what a model is; training writes it.
package reference

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"

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
	Keep    []int         `json:"keep"`
	Profile *stat.Profile `json:"profile"`
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

// Build makes the reference of training histories under the conditions of n; keep lists the sensors to watch.
func Build(cfg Config, schema turbofan.Schema, n *condition.Normalizer, keep []int, units []turbofan.History) (*Reference, error) {
	rows := 0
	for i := range units {
		rows += len(units[i].Readings)
	}
	values := make([][]float64, len(keep))
	for i := range values {
		values[i] = make([]float64, 0, rows)
	}
	age, unit := make([]int, 0, rows), make([]int, 0, rows)
	z := make([]float64, len(schema.Sensors))
	c := condition.NewCommissioner(n)
	for u := range units {
		for i := range units[u].Readings {
			r := &units[u].Readings[i]
			c.Normalize(r.Settings, r.Sensors, z)
			for j, ch := range keep {
				values[j] = append(values[j], z[ch])
			}
			age, unit = append(age, r.Cycle), append(unit, u)
		}
	}
	names := make([]string, len(keep))
	for i, ch := range keep {
		names[i] = schema.Sensors[ch].Name
	}
	p, err := stat.BuildProfile(names, values, age, unit, cfg.Bins, cfg.AgeEdges)
	if err != nil {
		return nil, fmt.Errorf("build reference: %w", err)
	}
	return &Reference{Schema: schema, Normalizer: n, Keep: keep, Profile: p, RMSE: math.NaN()}, nil
}

// SetPredictions keeps the distribution of predictions that the model made of units it did not learn from, with the age
// in cycles and the number of the unit of each.
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
	var r Reference
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("read reference %s: %w", path, err)
	}
	if err := r.Validate(); err != nil {
		return nil, fmt.Errorf("read reference %s: %w", path, err)
	}
	return &r, nil
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
	for _, k := range r.Keep {
		if k < 0 || k >= len(r.Schema.Sensors) {
			return turbofan.Invalid("reference.keep", "%d is not a sensor of %s", k, r.Schema.Name)
		}
	}
	return nil
}
