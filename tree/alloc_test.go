//go:build !race

package tree_test

import (
	"testing"

	"turbofan/tree"
)

// The race detector makes a sync.Pool forget, so it is not asked here.
func TestSHAPAllocatesNothing(t *testing.T) {
	x, y := friedman(500, 0.1, 12)
	e, err := tree.FitBoosting(x, y, nil, tree.DefaultBoostingParams(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	phi := make([]float64, x.Cols)
	if n := testing.AllocsPerRun(200, func() { _, err = e.SHAP(x.Row(1), phi) }); n > 0 || err != nil {
		t.Errorf("%v allocations a row, error %v", n, err)
	}
}
