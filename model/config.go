// Package model joins a learner, its features, its calibration and its reference into one artifact that can be trained,
// saved, checked and served. It is the only place where those meet.
//
// Train fits once a fold, on all units but those of the fold, and once on all units. The answers out of fold give the
// error, the calibration and the predictions of the reference; the last fit is what serves. Save writes them as one
// directory with one digest; Open checks every file of it and lets the model answer its golden histories again. Predict
// answers one row, and Explain says which features moved the answer.
package model

import (
	"strconv"

	"turbofan"
	"turbofan/feature"
	"turbofan/reference"
	"turbofan/tree"
)

// The kinds of learner.
const (
	Forest     = "forest"
	ExtraTrees = "extra_trees"
	Boosting   = "boosting"
	Blend      = "blend" // boosting and extra trees, weighted by their out-of-fold error
)

// Kinds returns the learners that can be asked for.
func Kinds() []string { return []string{Forest, ExtraTrees, Boosting, Blend} }

// Config says what to train. The zero value is not usable: see DefaultConfig.
type Config struct {
	Kind       string              `json:"kind"`
	Feature    feature.Config      `json:"feature"`
	Forest     tree.ForestParams   `json:"forest"`
	ExtraTrees tree.ForestParams   `json:"extra_trees"`
	Boosting   tree.BoostingParams `json:"boosting"`
	// Members is how many boosting models with different seeds are averaged.
	Members int `json:"members"`
	// Cap is the label cap in cycles: labels are min(RUL, Cap).
	Cap float64 `json:"cap"`
	// Horizon is the horizon of the failure probability, in cycles.
	Horizon int `json:"failure_horizon"`
	// Coverage is the share of truths that an interval promises to cover.
	Coverage float64 `json:"coverage"`
	// Folds of the cross-validation by unit that calibrates the model and estimates its error.
	Folds int `json:"folds"`
	// LateShare is how many rows, as a share of the others, the learner for units that joined late has: units replayed
	// from a random age on. 0 leaves that learner out.
	LateShare float64 `json:"late_share"`
	// MaxRows bounds the training rows; beyond it every unit gives an even share of its rows. Of a fleet many times as
	// large, error and calibration are measured on a sample of the rows held out. 0 means all.
	MaxRows     int              `json:"max_rows,omitempty"`
	RandomState int64            `json:"random_state"`
	Reference   reference.Config `json:"reference"`
	// NJobs is the number of workers; it changes the time, never the result. 0 means all processors.
	NJobs int `json:"-"`
}

// DefaultConfig returns the configuration of the given kind that cross-validation by unit chose on C-MAPSS.
func DefaultConfig(kind string) Config {
	c := Config{
		Kind: kind, Feature: feature.Record(), Forest: tree.DefaultForestParams(), ExtraTrees: tree.DefaultForestParams(),
		Boosting: tree.DefaultBoostingParams(), Members: 1, Cap: 125, Horizon: 30, Coverage: 0.9, Folds: 5, LateShare: 0.1,
		RandomState: 42, Reference: reference.DefaultConfig(),
	}
	c.Forest.NEstimators, c.Forest.MinSamplesLeaf, c.Forest.MaxFeatures = 100, 5, 0.33
	c.ExtraTrees.NEstimators, c.ExtraTrees.MinSamplesLeaf, c.ExtraTrees.MaxFeatures = 100, 5, 0.7
	c.ExtraTrees.ExtraTrees, c.ExtraTrees.Bootstrap = true, false
	c.Boosting.MaxIter, c.Boosting.LearningRate, c.Boosting.MaxLeafNodes = 400, 0.03, 24
	c.Boosting.MinSamplesLeaf, c.Boosting.L2Regularization = 120, 1
	c.Boosting.MaxFeatures, c.Boosting.Subsample = 0.5, 0.8
	return c
}

// Validate reports the first rule that the configuration breaks.
func (c Config) Validate() error {
	switch {
	case c.Kind != Forest && c.Kind != ExtraTrees && c.Kind != Boosting && c.Kind != Blend:
		return turbofan.Invalid("model.kind", "must be one of %v, not %q", Kinds(), c.Kind)
	case !(c.Cap > 0):
		return turbofan.Invalid("model.cap", "must be above 0")
	case c.Horizon < 1 || float64(c.Horizon) >= c.Cap:
		return turbofan.Invalid("model.failure_horizon", "must be from 1 to below the cap %g", c.Cap)
	case !(c.Coverage > 0 && c.Coverage < 1):
		return turbofan.Invalid("model.coverage", "must be above 0 and below 1")
	case c.Folds < 2 || c.Folds > 100:
		return turbofan.Invalid("model.folds", "must be from 2 to 100, not %d", c.Folds)
	case c.Members < 1 || c.Members > 50:
		return turbofan.Invalid("model.members", "must be from 1 to 50")
	case c.LateShare < 0 || c.LateShare > 0.5:
		return turbofan.Invalid("model.late_share", "must be from 0 to 0.5")
	case c.MaxRows < 0:
		return turbofan.Invalid("model.max_rows", "must be at least 0")
	}
	return nil
}

// Params returns the configuration by name, for a run; names are scikit-learn's where they exist.
func (c Config) Params() map[string]string {
	out := map[string]string{
		"model": c.Kind, "cap": format(c.Cap), "failure_horizon": strconv.Itoa(c.Horizon), "coverage": format(c.Coverage), "folds": strconv.Itoa(c.Folds),
		"late_share": format(c.LateShare), "random_state": strconv.FormatInt(c.RandomState, 10), "baseline_cycles": strconv.Itoa(c.Feature.BaselineCycles),
		"health_index": strconv.FormatBool(c.Feature.HealthIndex),
	}
	if c.Kind == Boosting || c.Kind == Blend {
		b := c.Boosting
		out["boosting.max_iter"], out["boosting.learning_rate"] = strconv.Itoa(b.MaxIter), format(b.LearningRate)
		out["boosting.max_leaf_nodes"], out["boosting.min_samples_leaf"] = strconv.Itoa(b.MaxLeafNodes), strconv.Itoa(b.MinSamplesLeaf)
		out["boosting.l2_regularization"], out["boosting.members"] = format(b.L2Regularization), strconv.Itoa(c.Members)
	}
	for kind, f := range map[string]tree.ForestParams{Forest: c.Forest, ExtraTrees: c.ExtraTrees} {
		if c.Kind == kind || c.Kind == Blend && kind == ExtraTrees {
			out[kind+".n_estimators"], out[kind+".min_samples_leaf"] = strconv.Itoa(f.NEstimators), strconv.Itoa(f.MinSamplesLeaf)
			out[kind+".max_features"], out[kind+".max_depth"] = format(f.MaxFeatures), strconv.Itoa(f.MaxDepth)
		}
	}
	return out
}

func format(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
