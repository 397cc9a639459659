package stat

import (
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/mathext"
)

// tailShare is the share of values from which a Tail begins.
const tailShare = 0.1

// minTail is the least number of values beyond its begin that tell how a tail falls off.
const minTail = 5

// Tail says how values above 0 fall off beyond the furthest tenth of a sample: as a power, which is to be on the safe
// side of any lighter tail. A new value may lie beyond all of the sample, and is then not merely as rare as the number
// of values lets one count.
type Tail struct {
	// From is where the tail begins, and Share the share of values that lie beyond.
	From  float64 `json:"from"`
	Share float64 `json:"share"`
	// Count is how many those were, and Excess the sum of how much their logarithms exceed that of From.
	Count  int     `json:"count"`
	Excess float64 `json:"excess"`
}

// FitTail returns the tail of values (Hill 1975), in any order; nil where they are fewer than fifty, or do not differ
// there, or are not above 0.
func FitTail(values []float64) *Tail { return FitTailTop(values, len(values)) }

// FitTailTop is FitTail of n values of which only the largest are known: where those are less than a tenth, the tail
// begins at the least of them.
func FitTailTop(largest []float64, n int) *Tail {
	sorted := slices.Sorted(slices.Values(largest))
	slices.Reverse(sorted)
	k := min(int(tailShare*float64(n)), len(sorted)-1)
	if k < minTail || !(sorted[k] > 0) {
		return nil
	}
	t := Tail{From: sorted[k], Share: float64(k) / float64(n), Count: k}
	for _, x := range sorted[:k] {
		t.Excess += math.Log(x / t.From)
	}
	if !(t.Excess > 0) || math.IsInf(t.Excess, 0) {
		return nil
	}
	return &t
}

// Chance returns the probability that one more value lies at x or beyond, 1 before the tail begins. It is that of a new
// value and a new sample alike: beside Count exponential excesses of which only the sum S is known, one more exceeds y
// with probability (1 + y/S)^-Count.
func (t *Tail) Chance(x float64) float64 {
	if !(x > t.From) {
		return 1
	}
	return t.Share * math.Pow(1+math.Log(x/t.From)/t.Excess, -float64(t.Count))
}

// Validate says why a tail that was read from a file cannot be used.
func (t *Tail) Validate() error {
	if !(t.From > 0 && t.Excess > 0) || math.IsInf(t.From, 0) || math.IsInf(t.Excess, 0) || !(t.Share > 0 && t.Share <= 1) || t.Count < 1 {
		return fmt.Errorf("check tail: from and excess must be finite and above 0, share above 0 and at most 1, count at least 1, not %v, %v, %v and %d",
			t.From, t.Excess, t.Share, t.Count)
	}
	return nil
}

// BinomialTail is the probability of at least k successes in n independent trials that each succeed with probability p.
func BinomialTail(k, n int, p float64) float64 {
	switch {
	case k < 1:
		return 1
	case k > n || !(p > 0):
		return 0
	case p >= 1:
		return 1
	}
	return mathext.RegIncBeta(float64(k), float64(n-k+1), p)
}
