package dataset_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"turbofan"
	"turbofan/dataset"
)

func lives(n int) []turbofan.History {
	units := make([]turbofan.History, n)
	for i := range units {
		// A permutation of lives that has nothing to do with the order of the units.
		units[i] = turbofan.History{UnitID: fmt.Sprint(i + 1), FailedAtCycle: 128 + (i*37)%n*3}
	}
	return units
}

func TestSplitByUnit(t *testing.T) {
	for _, n := range []int{2, 5, 99, 100, 260} {
		for _, folds := range []int{1, 2, 5, 10} {
			units := lives(n)
			split := dataset.SplitByUnit(units, folds, 42)
			if len(split) != min(folds, n) {
				t.Fatalf("%d units in %d folds: got %d folds", n, folds, len(split))
			}
			var all []int
			small, large := n, 0
			for _, fold := range split {
				all = append(all, fold...)
				small, large = min(small, len(fold)), max(large, len(fold))
			}
			slices.Sort(all)
			for i, unit := range all {
				if unit != i {
					t.Fatalf("%d units in %d folds: place %d holds unit %d", n, folds, i, unit)
				}
			}
			if len(all) != n || large-small > 1 {
				t.Errorf("%d units in %d folds: %d dealt, sizes from %d to %d", n, folds, len(all), small, large)
			}
		}
	}
}

func TestSplitByUnitIsBalancedAndDeterministic(t *testing.T) {
	units := lives(100)
	first := dataset.SplitByUnit(units, 5, 1)
	again := dataset.SplitByUnit(units, 5, 1)
	other := dataset.SplitByUnit(units, 5, 2)
	same := true
	for i := range first {
		if !slices.Equal(first[i], again[i]) {
			t.Fatal("the same seed gave another split")
		}
		same = same && slices.Equal(first[i], other[i])
		if !slices.IsSorted(first[i]) {
			t.Error("indices are not in order")
		}
		if m := meanLife(units, first[i]); math.Abs(m-meanLife(units, nil)) > 6 {
			t.Errorf("fold %d lives %.1f cycles on average, all live %.1f", i, m, meanLife(units, nil))
		}
	}
	if same {
		t.Error("another seed gave the same split")
	}
	if got := dataset.SplitByUnit(units, 0, 1); got != nil {
		t.Errorf("0 folds gave %v", got)
	}
	if got := dataset.SplitByUnit(nil, 5, 1); got != nil {
		t.Errorf("no units gave %v", got)
	}
}

func meanLife(units []turbofan.History, of []int) float64 {
	if of == nil {
		of = make([]int, len(units))
		for i := range of {
			of[i] = i
		}
	}
	sum := 0.0
	for _, i := range of {
		sum += float64(units[i].FailedAtCycle)
	}
	return sum / float64(len(of))
}
