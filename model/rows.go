package model

import (
	"context"
	"math/rand/v2"
	"slices"

	"turbofan"
	"turbofan/feature"
)

// trainingRows are the rows of units, and apart from them a share of rows as units that joined late would send. Which
// readings become rows is drawn first, so that a large fleet takes no more memory than the rows that are wanted.
func trainingRows(ctx context.Context, cfg Config, spec *feature.Spec, units []turbofan.History) (own, late *feature.Rows, err error) {
	rng := rand.New(rand.NewPCG(uint64(cfg.RandomState), 2))
	total := countReadings(units)
	take := feature.Take{}
	if cfg.MaxRows > 0 && cfg.MaxRows < total {
		take.Keep = sample(total, cfg.MaxRows, rng)
		total = cfg.MaxRows
	}
	if own, err = spec.TransformSome(ctx, units, take); err != nil {
		return nil, nil, err
	}
	want := int(cfg.LateShare * float64(total))
	if !slices.Contains(spec.Columns, feature.LateColumn) {
		want = 0 // rows that say nothing of a start are alike
	}
	take, replayed := joinLate(cfg, spec, units)
	if want < replayed {
		take.Keep = sample(replayed, want, rng)
	}
	late, err = spec.TransformSome(ctx, units, take)
	return own, late, err
}

func countReadings(units []turbofan.History) int {
	n := 0
	for i := range units {
		n += len(units[i].Readings)
	}
	return n
}

// earlyShare is the weight of a row that the test protocol would never ask for, relative to the mean of those it would.
const earlyShare = 0.1

// rowShares weighs training rows as the test protocol does: every unit the same, spread over the ages at which it would
// be cut. Rows outside of those count a little. The mean is 1.
func rowShares(rows *feature.Rows, units []turbofan.History) []float64 {
	w := make([]float64, rows.Len())
	sum, n := 0.0, 0.0
	for i := range w {
		life := units[rows.Unit[i]].FailedAtCycle
		if from := min(cutFrom, life-2); rows.Cycle[i] >= from && rows.Cycle[i] < life {
			w[i] = 1 / float64(life-from)
			sum, n = sum+w[i], n+1
		}
	}
	if n == 0 {
		return nil
	}
	mean, total := sum/n, 0.0
	for i := range w {
		w[i] = max(w[i], earlyShare*mean)
		total += w[i]
	}
	for i := range w {
		w[i] *= float64(len(w)) / total
	}
	return w
}

// joinLate replays each unit once from a random age on, and says how many readings that takes.
func joinLate(cfg Config, spec *feature.Spec, units []turbofan.History) (take feature.Take, replayed int) {
	rng := rand.New(rand.NewPCG(uint64(cfg.RandomState), 1))
	take.Start = make([]int, len(units))
	for i := range units {
		if n := len(units[i].Readings); n > spec.Config.LateStart+2 && cfg.LateShare > 0 {
			take.Start[i] = spec.Config.LateStart + 1 + rng.IntN(n-spec.Config.LateStart-1)
			replayed += n - take.Start[i]
		}
	}
	return take, replayed
}

// sample returns want of n indices in ascending order, all of them when want reaches n.
func sample(n, want int, rng *rand.Rand) []int {
	out := make([]int, 0, min(n, want))
	for i := range n {
		if left := want - len(out); left > 0 && rng.IntN(n-i) < left {
			out = append(out, i)
		}
	}
	return out
}
