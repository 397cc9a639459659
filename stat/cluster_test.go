package stat_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"turbofan/stat"
)

// engines draws units of one level each: two rows of a unit correlate by half.
func engines(rng *rand.Rand, units, rows int) (values [][]float64, unit []int) {
	values = [][]float64{nil}
	for u := range units {
		level := rng.NormFloat64()
		for range rows {
			values[0] = append(values[0], (level+rng.NormFloat64())/math.Sqrt2)
			unit = append(unit, u)
		}
	}
	return values, unit
}

func TestCompareUnitsHoldsItsFalseAlarmRate(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 1))
	const runs = 300
	var psi, ks, naive, seen float64
	for range runs {
		reference, unit := engines(rng, 100, 20)
		p, err := stat.BuildProfile([]string{"s"}, reference, nil, unit, 10, nil)
		if err != nil {
			t.Fatal(err)
		}
		current, currentUnit := engines(rng, 40, 10)
		s, err := p.CompareUnits(current, nil, currentUnit)
		if err != nil {
			t.Fatal(err)
		}
		if s[0].PSIP < 0.05 {
			psi++
		}
		if s[0].KSP < 0.05 {
			ks++
		}
		if s[0].Independent >= 400 || s[0].Independent < 40 {
			t.Fatalf("400 rows of 40 units are worth %v", s[0].Independent)
		}
		rows, err := p.Compare(current, nil)
		if err != nil {
			t.Fatal(err)
		}
		if rows[0].Independent != 400 || rows[0].Reference < 1999 {
			t.Fatalf("without units 400 rows are worth %v, 2000 %v", rows[0].Independent, rows[0].Reference)
		}
		if rows[0].PSIP < 0.05 {
			naive++
		}
		for i := range current[0] {
			current[0][i] += 1
		}
		if s, err = p.CompareUnits(current, nil, currentUnit); err != nil {
			t.Fatal(err)
		}
		if s[0].PSI > s[0].PSIThreshold && s[0].KSP < 0.05 {
			seen++
		}
	}
	if psi/runs > 0.11 || ks/runs > 0.09 || ks == 0 || psi == 0 {
		t.Errorf("false alarms: PSI %.3f, KS %.3f, want about 0.05", psi/runs, ks/runs)
	}
	if naive/runs < 0.3 {
		t.Errorf("with rows taken for independent %.3f alarm: this test tests nothing", naive/runs)
	}
	if seen/runs < 0.95 {
		t.Errorf("a shift by one standard deviation is seen in %.3f", seen/runs)
	}
}

func TestRhoOfIndependentRowsIsNearZero(t *testing.T) {
	values, age, unit := fleet(12, 20000, 200)
	p := build(t, values, age, unit, []int{50, 100, 150})
	if r := p.Channels[1].Rho; r > 0.002 {
		t.Errorf("rho = %v for independent rows", r)
	}
	if r := p.Channels[1].RhoKS; r > 0.002 {
		t.Errorf("KS rho = %v for independent rows", r)
	}
	near(t, "rows per unit", p.UnitRows, 500, 0.02)
	near(t, "rows per unit and band", p.CellRows, 125, 0.05)
	if _, err := p.CompareUnits(values, age, unit[:5]); err == nil {
		t.Error("unit of another length: no error")
	}
}
