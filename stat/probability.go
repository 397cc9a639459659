package stat

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// AUC is the area under the ROC curve: the probability that a positive case scores
// above a negative one, ties counting one half (Hanley and McNeil 1982, section III).
// It is an error when only one class is there.
func AUC(score []float64, positive []bool) (float64, error) {
	if err := labelled("score", score, positive); err != nil {
		return 0, fmt.Errorf("compute AUC: %w", err)
	}
	order := make([]int, len(score))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(score[a], score[b]) })
	var wins, below, positives float64
	for i := 0; i < len(order); {
		var pos, neg float64
		v := score[order[i]]
		for ; i < len(order) && score[order[i]] == v; i++ {
			if positive[order[i]] {
				pos++
			} else {
				neg++
			}
		}
		wins += pos * (below + neg/2)
		below += neg
		positives += pos
	}
	if below == 0 || positives == 0 {
		return 0, errors.New("compute AUC: positive has one class only, needs both")
	}
	return wins / (below * positives), nil
}

// Brier is the mean squared distance between a probability and what happened, 0 best
// (Brier 1950).
func Brier(p []float64, positive []bool) (float64, error) {
	if err := probabilities(p, positive); err != nil {
		return 0, fmt.Errorf("compute Brier score: %w", err)
	}
	var sum float64
	for i, v := range p {
		if positive[i] {
			v = 1 - v
		}
		sum += v * v
	}
	return sum / float64(len(p)), nil
}

// ReliabilityBin is one point of a reliability diagram: of Count cases whose
// probability lies in [Lower, Upper), Predicted on average, the share Observed was
// positive. The last bin includes 1.
type ReliabilityBin struct {
	Lower     float64 `json:"lower"`
	Upper     float64 `json:"upper"`
	Count     int     `json:"count"`
	Predicted float64 `json:"predicted"`
	Observed  float64 `json:"observed"`
}

// Reliability cuts [0, 1] into equal bins and compares probability with frequency in
// each. Empty bins are left out: nothing is known there.
func Reliability(p []float64, positive []bool, bins int) ([]ReliabilityBin, error) {
	if err := probabilities(p, positive); err != nil {
		return nil, fmt.Errorf("compute reliability: %w", err)
	}
	if bins < 1 {
		return nil, fmt.Errorf("compute reliability: bins is %d, must be at least 1", bins)
	}
	all := make([]ReliabilityBin, bins)
	for i, v := range p {
		b := &all[min(int(v*float64(bins)), bins-1)]
		b.Count++
		b.Predicted += v
		if positive[i] {
			b.Observed++
		}
	}
	var out []ReliabilityBin
	for i, b := range all {
		if b.Count == 0 {
			continue
		}
		b.Lower, b.Upper = float64(i)/float64(bins), float64(i+1)/float64(bins)
		b.Predicted /= float64(b.Count)
		b.Observed /= float64(b.Count)
		out = append(out, b)
	}
	return out, nil
}

func labelled(name string, v []float64, positive []bool) error {
	if len(v) != len(positive) {
		return fmt.Errorf("%s has %d values, positive has %d, must be equal", name, len(v), len(positive))
	}
	return finite(name, v)
}

func probabilities(p []float64, positive []bool) error {
	if err := labelled("p", p, positive); err != nil {
		return err
	}
	for i, v := range p {
		if v < 0 || v > 1 {
			return fmt.Errorf("p[%d] is %v, must be within 0 and 1", i, v)
		}
	}
	return nil
}
