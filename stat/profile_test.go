package stat_test

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"turbofan/stat"
)

// fleet draws rows of wearing engines: channel 0 rises with age, channel 1 does not.
func fleet(seed uint64, rows, maxAge int) (values [][]float64, age, unit []int) {
	rng := rand.New(rand.NewPCG(seed, 1))
	values = [][]float64{make([]float64, rows), make([]float64, rows)}
	age, unit = make([]int, rows), make([]int, rows)
	for r := range rows {
		age[r], unit[r] = 1+rng.IntN(maxAge), rng.IntN(40)
		values[0][r] = float64(age[r])/50 + rng.NormFloat64()
		values[1][r] = rng.NormFloat64()
	}
	return values, age, unit
}

func build(t *testing.T, values [][]float64, age, unit, edges []int) *stat.Profile {
	t.Helper()
	p, err := stat.BuildProfile([]string{"s1", "s2"}, values, age, unit, 10, edges)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func compare(t *testing.T, p *stat.Profile, values [][]float64, age []int) []stat.Scores {
	t.Helper()
	s, err := p.Compare(values, age)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestCompareForgivesAgeAndSeesDrift(t *testing.T) {
	edges := []int{10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120, 130, 140, 150, 160, 170, 180, 190}
	values, age, unit := fleet(1, 20000, 200)
	p := build(t, values, age, unit, edges)
	young, youngAge, _ := fleet(2, 4000, 60)

	adjusted := compare(t, p, young, youngAge)[0]
	if adjusted.PSI > 0.02 || adjusted.KS > 0.04 || math.Abs(adjusted.MeanShift) > 0.05 || adjusted.Wasserstein > 0.1 {
		t.Errorf("a younger fleet looks changed: %+v", adjusted)
	}
	plain := compare(t, build(t, values, age, unit, nil), young, youngAge)[0]
	if plain.PSI < 0.5 || plain.KS < 0.3 {
		t.Errorf("without age bands the younger fleet should look changed: %+v", plain)
	}
	for i := range young[1] {
		young[1][i]++
	}
	if s := compare(t, p, young, youngAge)[1]; s.PSI < 0.5 || s.PSIP > 1e-6 || s.KSP > 1e-6 || math.Abs(s.MeanShift-1) > 0.1 || math.Abs(s.Wasserstein-1) > 0.1 {
		t.Errorf("a shift by one standard deviation scores %+v", s)
	}
}

func TestCompareWithoutBandsEqualsPlainStatistics(t *testing.T) {
	values, _, _ := fleet(3, 120, 200)
	current, _, _ := fleet(4, 300, 200)
	p := build(t, values, nil, nil, nil)
	for c, s := range compare(t, p, current, nil) {
		d, _, err := stat.KS(values[c], current[c])
		if err != nil {
			t.Fatal(err)
		}
		w, err := stat.Wasserstein(values[c], current[c])
		if err != nil {
			t.Fatal(err)
		}
		// 120 rows fit the sample, so nothing is approximate.
		near(t, "KS", s.KS, d, 1e-12)
		near(t, "Wasserstein", s.Wasserstein, w, 1e-12)
		near(t, "reference rows", s.Reference, 120, 1e-12)
		if s.N != 300 {
			t.Errorf("n = %d", s.N)
		}
	}
}

func TestSketchedDistancesAreClose(t *testing.T) {
	values, age, unit := fleet(5, 30000, 200)
	p := build(t, values, age, unit, []int{50, 100, 150})
	current, currentAge, _ := fleet(6, 80000, 200)
	for i := range current[0] {
		current[0][i] += 0.4
	}
	got := compare(t, p, current, currentAge)[0]
	// The same ages on both sides: the weights are near one and plain KS is the truth.
	d, _, err := stat.KS(values[0], current[0])
	if err != nil {
		t.Fatal(err)
	}
	w, err := stat.Wasserstein(values[0], current[0])
	if err != nil {
		t.Fatal(err)
	}
	near(t, "KS", got.KS, d, 0.012)
	near(t, "Wasserstein", got.Wasserstein, w, 0.03)
}

func TestNullKSPValueIsUniformUnderAgeAdjustment(t *testing.T) {
	values, age, unit := fleet(7, 20000, 200)
	p := build(t, values, age, unit, []int{50, 100, 150})
	low := 0
	for seed := range uint64(400) {
		current, currentAge, _ := fleet(100+seed, 300, 200)
		if compare(t, p, current, currentAge)[1].KSP < 0.1 {
			low++
		}
	}
	if low < 18 || low > 66 {
		t.Errorf("%d of 400 p-values below 0.1, want about 40", low)
	}
}

func TestAgesWithoutReferenceBorrow(t *testing.T) {
	values := [][]float64{{1, 1, 2, 2}, {0, 1, 0, 1}}
	p := build(t, values, []int{15, 15, 25, 25}, []int{1, 1, 1, 1}, []int{10, 20, 30, 40})
	for _, c := range []struct {
		name string
		ages []float64
		want []float64
	}{
		{"own bands", []float64{0, 3, 1, 0, 0}, []float64{3, 1}},
		{"older than any reference", []float64{0, 0, 0, 0, 2}, []float64{0, 2}},
		{"younger than any reference", []float64{5, 0, 0, 0, 0}, []float64{5, 0}},
	} {
		got := p.Expected(0, c.ages)
		if len(got) < 2 || !slices.Equal([]float64{got[0], sum(got[1:])}, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	if got := p.Expected(2, make([]float64, 5)); got != nil {
		t.Errorf("a channel that is not there gives %v", got)
	}
	s := compare(t, p, [][]float64{{1, 2, 2, 2}, {0, 1, 0, 1}}, []int{15, 25, 35, 99})
	near(t, "borrowed", s[0].Borrowed, 0.5, 0)
	near(t, "expected mean", s[0].Expected, 1.75, 0)
}

func sum(v []float64) (s float64) {
	for _, x := range v {
		s += x
	}
	return s
}

func TestProfileJSON(t *testing.T) {
	values, age, unit := fleet(8, 8000, 350)
	values[1] = slices.Repeat([]float64{518.67}, len(age))
	values[0][3] = math.NaN()
	p := build(t, values, age, unit, []int{100, 200, 900})
	if p.Rows != 8000 || p.Units != 40 || p.MaxAge != 350 || p.Channels[0].Rows != 7999 || p.Channels[1].Std != 0 {
		t.Errorf("rows %d units %d oldest %d channel rows %d constant's std %v", p.Rows, p.Units, p.MaxAge, p.Channels[0].Rows, p.Channels[1].Std)
	}
	first, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if len(first) > 40_000 {
		t.Errorf("%d bytes", len(first))
	}
	second, err := json.Marshal(build(t, values, age, unit, []int{100, 200, 900}))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("the same rows give other bytes")
	}
	var back stat.Profile
	if err := json.Unmarshal(first, &back); err != nil {
		t.Fatal(err)
	}
	a, b := compare(t, p, values, age), compare(t, &back, values, age)
	if !slices.Equal(a, b) {
		t.Errorf("read back: %+v, want %+v", b, a)
	}
	if a[1].PSI != 0 || a[1].KS > 1e-9 || a[1].KSP != 1 || a[1].MeanShift != 0 {
		t.Errorf("an unchanged constant scores %+v", a[1])
	}
	up := [][]float64{values[0], slices.Repeat([]float64{519}, len(age))}
	if s := compare(t, p, up, age)[1]; s.PSI < 1 || s.KS < 1-1e-9 {
		t.Errorf("a constant that rises scores %+v", s)
	}
}

func TestCompareLeavesOutMissingChannels(t *testing.T) {
	values, age, unit := fleet(9, 500, 100)
	p := build(t, values, age, unit, nil)
	gone := slices.Repeat([]float64{math.NaN()}, 500)
	if s := compare(t, p, [][]float64{gone, values[1]}, age); len(s) != 1 || s[0].Name != "s2" {
		t.Errorf("scores %+v", s)
	}
	rare := slices.Repeat([]float64{math.NaN()}, stat.MaxCompareRows*3)
	rare[17], rare[18] = 1, 2
	if s := compare(t, p, [][]float64{rare, rare}, make([]int, len(rare))); s[0].N != 2 || math.IsNaN(s[0].KS) {
		t.Errorf("two values among many rows score %+v", s[0])
	}
}

func TestProfileRefusesBadInput(t *testing.T) {
	ok := [][]float64{{1, 2}, {1, 2}}
	names := []string{"s1", "s2"}
	inf := [][]float64{{1, 2}, {1, math.Inf(1)}}
	for _, c := range []struct {
		name      string
		names     []string
		values    [][]float64
		age, unit []int
		bins      int
		edges     []int
		want      string
	}{
		{"names", names[:1], ok, nil, nil, 10, nil, "2 channels for 1 names"},
		{"ragged", names, [][]float64{{1, 2}, {1}}, nil, nil, 10, nil, "channel s2 has 1 rows"},
		{"age", names, ok, []int{1}, nil, 10, nil, "age has 1 rows"},
		{"no age", names, ok, nil, nil, 10, []int{5}, "age is missing"},
		{"unit", names, ok, nil, []int{1}, 10, nil, "unit has 1 rows"},
		{"bins", names, ok, nil, nil, 1, nil, "bins is 1"},
		{"edges", names, ok, []int{1, 2}, nil, 10, []int{5, 5}, "must ascend"},
		{"infinite", names, inf, nil, nil, 10, nil, "channel s2 row 1 is +Inf"},
		{"empty channel", names, [][]float64{{1, 2}, {math.NaN(), math.NaN()}}, nil, nil, 10, nil, "channel s2 has no values"},
		{"no rows", names, [][]float64{{}, {}}, nil, nil, 10, nil, "channel s1 has no values"},
	} {
		if _, err := stat.BuildProfile(c.names, c.values, c.age, c.unit, c.bins, c.edges); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	p := build(t, ok, []int{1, 2}, nil, []int{2})
	for name, c := range map[string]struct {
		values [][]float64
		age    []int
	}{"channels": {ok[:1], []int{1, 2}}, "no age": {ok, nil}, "infinite": {inf, []int{1, 2}}, "ages": {ok, []int{1}}} {
		if _, err := p.Compare(c.values, c.age); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	p.Channels[0].Counts[0] = p.Channels[0].Counts[0][:1]
	if _, err := p.Compare(ok, []int{1, 2}); err == nil {
		t.Error("a torn profile was compared")
	}
}

func BenchmarkCompare(b *testing.B) {
	const rows, channels = 1_000_000, 24
	one, age, unit := fleet(10, rows, 350)
	values, names := make([][]float64, channels), make([]string, channels)
	for c := range values {
		values[c], names[c] = one[c%2], "s"
	}
	var edges []int
	for e := 20; e < 300; e += 20 {
		edges = append(edges, e)
	}
	ref := make([][]float64, channels)
	for c := range ref {
		ref[c] = values[c][:20000]
	}
	p, err := stat.BuildProfile(names, ref, age[:20000], unit[:20000], 10, edges)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.CompareUnits(values, age, unit); err != nil {
			b.Fatal(err)
		}
	}
}
