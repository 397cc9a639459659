package stat

import (
	"encoding/json"
	"math"
	"os"
	"testing"
)

func TestKolmogorovSurvivalMatchesScipy(t *testing.T) {
	b, err := os.ReadFile("testdata/goldens.json")
	if err != nil {
		t.Fatal(err)
	}
	var g struct{ KSTwo []struct{ N, D, SF float64 } }
	if err := json.Unmarshal(b, &g); err != nil {
		t.Fatal(err)
	}
	if len(g.KSTwo) == 0 {
		t.Fatal("no goldens")
	}
	for _, c := range g.KSTwo {
		got := kolmogorovSurvival(c.N, c.D)
		if math.Abs(got-c.SF) > 1e-6*c.SF+1e-100 {
			t.Errorf("n=%v d=%v: %v, want %v (relative %g)", c.N, c.D, got, c.SF, got/c.SF-1)
		}
	}
}
