//go:build !race

package predict_test

import (
	"testing"

	"turbofan"
)

// Without a tracer and a challenger, a reading costs what it did before either was thought of: its answer and its record.
func TestPredictAllocations(t *testing.T) {
	s := newWorld(t, artifacts.a).alone(nowhere{}, nil)
	r := fleet(1, 7, 0)[0].Readings[:1]
	r[0].Cycle = 0
	n := testing.AllocsPerRun(500, func() {
		r[0].Cycle++
		if _, err := s.Predict(t.Context(), turbofan.PredictRequest{Readings: r}); err != nil {
			t.Fatal(err)
		}
	})
	if n > 4 {
		t.Errorf("%v allocations a reading, want at most 4", n)
	}
}
