package dataset

import (
	"cmp"
	"math/rand/v2"
	"slices"

	"turbofan"
)

// SplitByUnit deals the units into folds for cross-validation and returns, for each fold, the ascending indices of its
// units. Folds are balanced by length of life: every run of len(folds) units in order of life gives one to each fold.
// The same units, folds and seed give the same split. Sizes differ by one at most; with fewer units than folds there
// are as many folds as units, and none for folds below 1.
func SplitByUnit(units []turbofan.History, folds int, seed int64) [][]int {
	folds = min(folds, len(units))
	if folds < 1 {
		return nil
	}
	rng := rand.New(rand.NewPCG(uint64(seed), 0x9e3779b97f4a7c15))
	out := make([][]int, folds)
	order := byLife(units, rng)
	for start := 0; start < len(order); start += folds {
		deal := rng.Perm(folds)
		for i, unit := range order[start:min(start+folds, len(order))] {
			out[deal[i]] = append(out[deal[i]], unit)
		}
	}
	for _, fold := range out {
		slices.Sort(fold)
	}
	return out
}

// byLife returns the indices of units in order of life, or of age where the end is unknown; ties fall by chance, so that
// the order of the file does not decide.
func byLife(units []turbofan.History, rng *rand.Rand) []int {
	order := rng.Perm(len(units))
	life := func(i int) int { return max(units[i].FailedAtCycle, lastCycle(&units[i])) }
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(life(a), life(b)) })
	return order
}
