package model

import (
	"context"
	"math"
)

// CrossValidate estimates the error of a configuration by cross-validation by unit, without a final fit. Folds run one
// after the other; after each, step hears the RMSE (truth clipped) over all rows held out so far and may end the work by
// an error, which CrossValidate returns. The same data, configuration and seed give the same numbers.
func CrossValidate(ctx context.Context, cfg Config, data Data, step func(fold int, rmse float64) error) (Metrics, error) {
	if err := cfg.Validate(); err != nil {
		return Metrics{}, err
	}
	if err := data.validate(cfg); err != nil {
		return Metrics{}, err
	}
	cfg.Feature.Cap = cfg.Cap
	t := newTrainer(ctx, cfg, data, nil)
	if err := t.checkRows(); err != nil {
		return Metrics{}, err
	}
	all := t.newOutOfFold()
	for f := range t.folds {
		if err := ctx.Err(); err != nil {
			return Metrics{}, err
		}
		part := outOfFold{units: all.units}
		if err := t.fold(f, &part, cfg.NJobs); err != nil {
			return Metrics{}, err
		}
		all.own.join(&part.own)
		all.late.join(&part.late)
		all.combine(t.blendWeights(all))
		if err := step(f, all.own.rmse(cfg.Cap)); err != nil {
			return Metrics{}, err
		}
	}
	return crossMetrics(cfg, data.Origin, all)
}

// rmse is the error by the test protocol, truth clipped at limit.
func (h *heldOut) rmse(limit float64) float64 {
	sum, said := 0.0, h.answers(limit)
	for i, w := range h.cutWeights() {
		d := said[i] - min(h.rul[i], limit)
		sum += w * d * d
	}
	return math.Sqrt(sum)
}
