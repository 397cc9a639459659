package dataset

import (
	"cmp"
	"math"
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
	rng := generator(seed)
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

// HoldOut sets a share of the units aside, short and long lives alike, and returns the ascending indices of both sides.
// The same units, share and seed give the same split. A share above 0 holds out at least one unit, a share below 1
// keeps at least one, where there are two units or more.
func HoldOut(units []turbofan.History, share float64, seed int64) (train, held []int) {
	n := len(units)
	count := 0
	if share > 0 && n > 0 {
		count = int(math.Round(min(share, 1) * float64(n)))
		if n > 1 && count == 0 {
			count = 1
		}
		if n > 1 && count == n && share < 1 {
			count = n - 1
		}
	}
	rng := generator(seed)
	order := byLife(units, rng)
	out := make([]bool, n)
	for k := range count {
		low, high := k*n/count, (k+1)*n/count
		out[order[low+rng.IntN(high-low)]] = true
	}
	for i := range units {
		if out[i] {
			held = append(held, i)
		} else {
			train = append(train, i)
		}
	}
	return train, held
}

func generator(seed int64) *rand.Rand {
	return rand.New(rand.NewPCG(uint64(seed), 0x9e3779b97f4a7c15))
}

// byLife returns the indices of units in order of life, or of age where the end is unknown; ties fall by chance, so that
// the order of the file does not decide.
func byLife(units []turbofan.History, rng *rand.Rand) []int {
	order := rng.Perm(len(units))
	life := func(i int) int { return max(units[i].FailedAtCycle, lastCycle(&units[i])) }
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(life(a), life(b)) })
	return order
}
