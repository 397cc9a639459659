package main

import (
	"turbofan/model"
	"turbofan/tree"
)

// tunable is one thing that a search chooses, and where it stands in a configuration.
type tunable struct {
	model.Dimension
	set func(*model.Config, float64)
	get func(model.Config) float64
}

// tunables returns what a search over a kind of learner chooses.
func tunables(kind string) []tunable {
	var out []tunable
	if kind == model.Boosting || kind == model.Blend {
		out = append(out, boostingTunables()...)
	}
	for _, k := range []string{model.Forest, model.ExtraTrees} {
		if kind == k || kind == model.Blend && k == model.ExtraTrees {
			out = append(out, forestTunables(k)...)
		}
	}
	return append(out, featureTunables()...)
}

func whole(name string, low, high float64, at func(*model.Config) *int) tunable {
	return tunable{model.Dimension{Name: name, Low: low, High: high, Log: high >= 8*low, Integer: true},
		func(c *model.Config, v float64) { *at(c) = int(v) }, func(c model.Config) float64 { return float64(*at(&c)) }}
}

func number(name string, low, high float64, at func(*model.Config) *float64) tunable {
	return tunable{model.Dimension{Name: name, Low: low, High: high, Log: high >= 8*low},
		func(c *model.Config, v float64) { *at(c) = v }, func(c model.Config) float64 { return *at(&c) }}
}

func boostingTunables() []tunable {
	return []tunable{
		whole("boosting.max_iter", 100, 800, func(c *model.Config) *int { return &c.Boosting.MaxIter }),
		number("boosting.learning_rate", 0.01, 0.15, func(c *model.Config) *float64 { return &c.Boosting.LearningRate }),
		whole("boosting.max_leaf_nodes", 6, 48, func(c *model.Config) *int { return &c.Boosting.MaxLeafNodes }),
		whole("boosting.min_samples_leaf", 10, 300, func(c *model.Config) *int { return &c.Boosting.MinSamplesLeaf }),
		number("boosting.l2_regularization", 0.01, 100, func(c *model.Config) *float64 { return &c.Boosting.L2Regularization }),
		number("boosting.max_features", 0.15, 1, func(c *model.Config) *float64 { return &c.Boosting.MaxFeatures }),
		number("boosting.subsample", 0.3, 1, func(c *model.Config) *float64 { return &c.Boosting.Subsample }),
	}
}

func forestTunables(kind string) []tunable {
	of := func(c *model.Config) *tree.ForestParams {
		if kind == model.ExtraTrees {
			return &c.ExtraTrees
		}
		return &c.Forest
	}
	return []tunable{
		whole(kind+".min_samples_leaf", 1, 20, func(c *model.Config) *int { return &of(c).MinSamplesLeaf }),
		number(kind+".max_features", 0.15, 1, func(c *model.Config) *float64 { return &of(c).MaxFeatures }),
	}
}

func featureTunables() []tunable {
	out := []tunable{
		whole("feature.baseline_cycles", 15, 60, func(c *model.Config) *int { return &c.Feature.BaselineCycles }),
		number("feature.ewma", 0.04, 0.3, func(c *model.Config) *float64 { return &c.Feature.EWMA[0] }),
		number("feature.ridge_alpha", 0.1, 1000, func(c *model.Config) *float64 { return &c.Feature.RidgeAlpha }),
	}
	modes := whole("feature.fault_modes", 0, 3, func(c *model.Config) *int { return &c.Feature.FaultModes })
	modes.Dimension = model.Dimension{Name: modes.Name, Choices: []float64{0, 2, 3}}
	return append(out, modes)
}

func searchSpace(kind string) []model.Dimension {
	var out []model.Dimension
	for _, t := range tunables(kind) {
		out = append(out, t.Dimension)
	}
	return out
}

// configured returns base with the choices of a trial. It shares nothing with base.
func configured(base model.Config, params map[string]float64) model.Config {
	base.Feature.EWMA = append([]float64(nil), base.Feature.EWMA...)
	for _, t := range tunables(base.Kind) {
		if v, ok := params[t.Name]; ok {
			t.set(&base, v)
		}
	}
	return base
}

// present is what a configuration says of a tunable.
func present(c model.Config, name string) float64 {
	for _, t := range tunables(c.Kind) {
		if t.Name == name {
			return t.get(c)
		}
	}
	return 0
}
