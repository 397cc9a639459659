package model

import (
	"cmp"
	"math"
	"slices"

	"turbofan"
)

// Explain returns the n features that moved the prediction of row most, strongest first, by exact TreeSHAP: each
// contribution in cycles, against the average answer over the training data.
func (m *Model) Explain(row []float32, n int) ([]turbofan.Driver, error) {
	phi, one := make([]float64, len(m.spec.Columns)), make([]float64, len(m.spec.Columns))
	for i := range m.learner {
		if _, err := m.learner[i].trees.SHAP(row, one); err != nil {
			return nil, err
		}
		for j, v := range one {
			phi[j] += m.learner[i].weight * v
		}
	}
	order := make([]int, len(phi))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return -cmp.Compare(math.Abs(phi[a]), math.Abs(phi[b])) })
	var out []turbofan.Driver
	for _, j := range order[:min(n, len(order))] {
		d := turbofan.Driver{Feature: m.spec.Columns[j], Value: float64(row[j]), Contribution: phi[j]}
		if phi[j] == 0 || !finite(d.Value) {
			continue
		}
		out = append(out, d)
	}
	return out, nil
}
