package feature_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"turbofan"
	"turbofan/condition"
	"turbofan/feature"
)

// fleet makes units in one condition whose second sensor climbs as they wear; each unit starts with its own offset.
func fleet(units int) []turbofan.History {
	rng := rand.New(rand.NewPCG(7, 8))
	out := make([]turbofan.History, units)
	for u := range out {
		life := 120 + rng.IntN(80)
		offset := rng.NormFloat64()
		h := turbofan.History{UnitID: fmt.Sprint(u + 1), FailedAtCycle: life}
		for c := 1; c <= life; c++ {
			wear := math.Exp(4*float64(c)/float64(life)) / 10
			h.Readings = append(h.Readings, turbofan.Reading{UnitID: h.UnitID, Cycle: c,
				Settings: []float64{0.1 * rng.NormFloat64(), 0, 100},
				Sensors:  []float64{5, 100 + offset + wear + 0.3*rng.NormFloat64(), 10 - wear/2 + 0.2*rng.NormFloat64()}})
		}
		out[u] = h
	}
	return out
}

// counting lets the first sensor, which says nothing, count errors in the last quarter of each life.
func counting(units []turbofan.History) []turbofan.History {
	for _, h := range units {
		for i := range h.Readings {
			h.Readings[i].Sensors[0] = float64(max(0, i-3*h.FailedAtCycle/4))
		}
	}
	return units
}

func schema() turbofan.Schema {
	s := turbofan.CMAPSS()
	s.Sensors = s.Sensors[:3]
	return s
}

func fit(t testing.TB, cfg feature.Config, units []turbofan.History) *feature.Spec {
	t.Helper()
	s, err := feature.Fit(t.Context(), cfg, schema(), units)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestColumns(t *testing.T) {
	s := fit(t, feature.Wide(), fleet(12))
	for _, want := range []string{"sensor_2_ewma_0.15", "sensor_3_from_start_40", "sensor_2_rolling_mean_5", "sensor_3_rolling_std_10",
		"sensor_2_slope_30", "sensor_2_delta_1", "setting_1_x_setting_3", "cycle", "health_index_slope_30"} {
		if !slices.Contains(s.Columns, want) {
			t.Errorf("no column %s in %v", want, s.Columns)
		}
	}
	for _, c := range s.Columns {
		if len(c) >= 8 && c[:8] == "sensor_1" {
			t.Errorf("column %s of a sensor that does not vary", c)
		}
	}
}

// A row may depend on readings up to now only: cutting off the future must not change it by one bit.
func TestTruncatedHistoryGivesTheSameRow(t *testing.T) {
	for name, units := range map[string][]turbofan.History{"two sensors": fleet(12), "an error counter": counting(fleet(12))} {
		s := fit(t, feature.Wide(), units)
		full, err := s.Transform(t.Context(), units[:1])
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{1, 2, 5, 39, 40, 41, 77, 3 * len(units[0].Readings) / 4, len(units[0].Readings)} {
			cut := units[0]
			cut.Readings = cut.Readings[:n]
			rows, err := s.Transform(t.Context(), []turbofan.History{cut})
			if err != nil {
				t.Fatal(err)
			}
			for i := range n {
				for j, v := range rows.Row(i) {
					if w := full.Row(i)[j]; math.Float32bits(v) != math.Float32bits(w) && !(v != v && w != w) {
						t.Fatalf("%s: history of %d: row %d column %s is %v, with the future %v", name, n, i, s.Columns[j], v, w)
					}
				}
			}
		}
	}
}

// A sensor that is constant until a unit begins to fail is learned from: it may be the best that there is.
func TestErrorCounterIsAColumn(t *testing.T) {
	units := counting(fleet(12))
	s := fit(t, feature.Record(), units)
	rows, err := s.Transform(t.Context(), units[:1])
	if err != nil {
		t.Fatal(err)
	}
	st, comm, row := s.NewState(), condition.NewCommissioner(s.Normalizer), make([]float32, len(s.Columns))
	for _, name := range []string{"sensor_1_ewma_0.15", "sensor_1_from_start_40"} {
		j := slices.Index(s.Columns, name)
		if j < 0 {
			t.Fatalf("no column %s in %v", name, s.Columns)
		}
		quarter := 3 * units[0].FailedAtCycle / 4
		for i := range rows.Len() {
			if v := rows.Row(i)[j]; i <= quarter && v != 0 || i > quarter && !(v > 0) || math.IsInf(float64(v), 0) {
				t.Fatalf("%s is %v at cycle %d of %d", name, v, i+1, rows.Len())
			}
		}
	}
	for i := range units[0].Readings {
		if _, _, err := s.Step(st, comm, &units[0].Readings[i], row); err != nil {
			t.Fatal(err)
		}
		if !slices.EqualFunc(row, rows.Row(i), func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) || a != a && b != b }) {
			t.Fatalf("cycle %d: streamed %v, in one pass %v", i+1, row, rows.Row(i))
		}
	}
	for u := range units {
		for i := range units[u].Readings {
			x := units[u].Readings[i].Sensors
			x[1], x[2] = 100, 10
		}
	}
	if alone := fit(t, feature.Record(), units); !slices.Equal(alone.Keep, []int{0}) {
		t.Errorf("kept %v of a fleet in which only the counter says anything", alone.Keep)
	}
}

// The formulas, written out once more over the whole history instead of step by step.
func TestRowsMatchTheirDefinition(t *testing.T) {
	units := fleet(12)
	s := fit(t, feature.Wide(), units)
	rows, err := s.Transform(t.Context(), units[:1])
	if err != nil {
		t.Fatal(err)
	}
	h := units[0]
	z := make([]float64, len(h.Readings)) // of sensor 2
	all := make([]float64, 3)
	for i, r := range h.Readings {
		s.Normalizer.Regimes[s.Normalizer.Find(r.Settings)].Z(r.Sensors, all)
		z[i] = all[1]
	}
	const at = 90
	ewma, w := 0.0, 0.0
	for i := range at + 1 {
		ewma, w = 0.85*ewma+0.15*z[i], 0.85*w+0.15
	}
	mean := func(v []float64) (m float64) {
		for _, x := range v {
			m += x / float64(len(v))
		}
		return m
	}
	start := mean(z[:40])
	window := z[at-9 : at+1]
	sd := 0.0
	for _, x := range window {
		sd += (x - mean(window)) * (x - mean(window)) / 10
	}
	num, den := 0.0, 0.0
	for i, x := range z[at-29 : at+1] {
		num += (float64(i) - 14.5) * x
		den += (float64(i) - 14.5) * (float64(i) - 14.5)
	}
	for name, want := range map[string]float64{
		"sensor_2_ewma_0.15":      ewma / w,
		"sensor_2_from_start_40":  ewma/w - start,
		"sensor_2_rolling_mean_5": mean(z[at-4 : at+1]),
		"sensor_2_rolling_std_10": math.Sqrt(sd),
		"sensor_2_slope_30":       num / den,
		"sensor_2_delta_1":        z[at] - z[at-1],
		"setting_3":               100,
		"cycle":                   at + 1,
	} {
		got := float64(rows.Row(at)[slices.Index(s.Columns, name)])
		if math.Abs(got-want) > 1e-4*max(1, math.Abs(want)) {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	hi := slices.Index(s.Columns, "health_index_ewma_0.1")
	first, last := rows.Row(20)[hi], rows.Row(len(z) - 1)[hi]
	if !(last > first+50) {
		t.Errorf("health index goes from %v to %v over a life; it should climb towards the cap", first, last)
	}
}

func TestLateUnitHasNoStart(t *testing.T) {
	units := fleet(12)
	s := fit(t, feature.Record(), units)
	rows, err := s.TransformSome(t.Context(), units[:1], feature.Take{Start: []int{50}})
	if err != nil {
		t.Fatal(err)
	}
	if rows.Len() != len(units[0].Readings)-50 || !rows.Late[0] {
		t.Fatalf("%d late rows of %d", rows.Len(), len(units[0].Readings))
	}
	for _, name := range []string{"sensor_2_from_start_40", "health_index_ewma_0.1"} {
		if v := rows.Row(30)[slices.Index(s.Columns, name)]; !math.IsNaN(float64(v)) {
			t.Errorf("%s of a unit without a start is %v, want missing", name, v)
		}
	}
	if v := rows.Row(0)[slices.Index(s.Columns, "sensor_2_ewma_0.15")]; math.IsNaN(float64(v)) {
		t.Error("the average of a late unit is missing from its first reading on")
	}
}

func TestMissingSensorLeavesTheRestAlone(t *testing.T) {
	units := fleet(12)
	s := fit(t, feature.Record(), units)
	h := units[0]
	h.Readings = slices.Clone(h.Readings)
	gap := h.Readings[60]
	gap.Sensors = []float64{5, math.NaN(), gap.Sensors[2]}
	h.Readings[60] = gap
	rows, err := s.Transform(t.Context(), []turbofan.History{h})
	if err != nil {
		t.Fatal(err)
	}
	for j, v := range rows.Row(60) {
		if math.IsNaN(float64(v)) {
			t.Errorf("%s is missing because one reading lacks sensor_2", s.Columns[j])
		}
	}
}

func TestStepRefusesTheSameCycleTwice(t *testing.T) {
	units := fleet(12)
	s := fit(t, feature.Record(), units)
	st, c, row := s.NewState(), condition.NewCommissioner(s.Normalizer), make([]float32, len(s.Columns))
	if _, _, err := s.Step(st, c, &units[0].Readings[3], row); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Step(st, c, &units[0].Readings[3], row); turbofan.ErrorCode(err) != turbofan.EConflict {
		t.Errorf("the same cycle twice: %v, want a conflict", err)
	}
	if _, _, err := s.Step(st, c, &units[0].Readings[4], row[:3]); turbofan.ErrorCode(err) != turbofan.EInvalid {
		t.Errorf("a short row: %v, want invalid", err)
	}
}

func TestFitRefuses(t *testing.T) {
	flat := fleet(3)
	for u := range flat {
		for i := range flat[u].Readings {
			flat[u].Readings[i].Sensors = []float64{1, 2, 3}
		}
	}
	bad := func(change func(*feature.Config)) feature.Config { c := feature.Record(); change(&c); return c }
	for name, c := range map[string]struct {
		cfg   feature.Config
		units []turbofan.History
		want  string
	}{
		"no units":   {feature.Record(), nil, "fit features: no readings"},
		"flat":       {feature.Record(), flat, "no sensor varies in every operating condition: there is nothing to learn from (how a sensor varies is measured over the first 20 cycles of each unit, while it is healthy; of one that is constant there, over all)"},
		"ewma":       {bad(func(c *feature.Config) { c.EWMA = []float64{1.5} }), fleet(3), "feature.ewma[0]: must be above 0 and at most 1"},
		"window":     {bad(func(c *feature.Config) { c.Slope = []int{0} }), fleet(3), "feature.slope[0]: must be from 1 to 1000"},
		"no start":   {bad(func(c *feature.Config) { c.BaselineCycles = 0 }), fleet(3), "feature.health_index: needs baseline_cycles above 0"},
		"cap":        {bad(func(c *feature.Config) { c.Cap = 0 }), fleet(3), "feature.cap: must be above 0"},
		"late start": {bad(func(c *feature.Config) { c.LateStart = 0 }), fleet(3), "feature.late_start: must be at least 1"},
	} {
		if _, err := feature.Fit(t.Context(), c.cfg, schema(), c.units); err == nil || err.Error() != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

// A sensor that moves further than it ever did in training moves an index no further than the furthest that it did.
func TestHealthIndexIsBounded(t *testing.T) {
	units := fleet(12)
	s := fit(t, feature.Record(), units)
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	index := func(s *feature.Spec, beyond float64) (out []float32) {
		h := units[0]
		h.Readings = slices.Clone(h.Readings[:60])
		r := &h.Readings[59]
		r.Sensors = slices.Clone(r.Sensors)
		r.Sensors[s.Keep[0]] += beyond
		rows, err := s.Transform(t.Context(), []turbofan.History{h})
		if err != nil {
			t.Fatal(err)
		}
		for j, name := range s.Columns {
			if strings.Contains(name, "_index_ewma_") {
				out = append(out, rows.Row(59)[j])
			}
		}
		return out
	}
	if far, further := index(s, 1e3), index(s, 1e6); !slices.Equal(far, further) || len(far) == 0 {
		t.Errorf("index %v for a sensor far beyond training, %v further out", far, further)
	}
	free := *s
	free.HealthLow, free.HealthHigh = nil, nil
	if err := free.Validate(); err != nil {
		t.Errorf("a recipe of before: %v", err)
	}
	if slices.Equal(index(&free, 1e3), index(&free, 1e6)) || !slices.Equal(index(&free, 0), index(s, 0)) {
		t.Error("a recipe of before is bounded too, or bounds change what lies within")
	}
	for name, bad := range map[string]feature.Spec{
		"short":   {HealthLow: s.HealthLow[:1], HealthHigh: s.HealthHigh},
		"crossed": {HealthLow: s.HealthHigh, HealthHigh: s.HealthLow},
	} {
		broken := *s
		broken.HealthLow, broken.HealthHigh = bad.HealthLow, bad.HealthHigh
		if err := broken.Validate(); turbofan.ErrorCode(err) != turbofan.EInvalid || !strings.Contains(err.Error(), "feature.health_low") {
			t.Errorf("%s: %v, want it refused", name, err)
		}
	}
}

func TestStepDoesNotAllocate(t *testing.T) {
	units := fleet(12)
	s := fit(t, feature.Record(), units)
	st, c, row := s.NewState(), condition.NewCommissioner(s.Normalizer), make([]float32, len(s.Columns))
	i := 0
	if n := testing.AllocsPerRun(100, func() {
		if _, _, err := s.Step(st, c, &units[0].Readings[i], row); err != nil {
			t.Fatal(err)
		}
		i++
	}); n != 0 {
		t.Errorf("%.0f allocations a step, want none", n)
	}
}

func BenchmarkStep(b *testing.B) {
	units := fleet(12)
	s := fit(b, feature.Record(), units)
	c, row := condition.NewCommissioner(s.Normalizer), make([]float32, len(s.Columns))
	st := s.NewState()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if i == 100 {
			st, i = s.NewState(), 0
		}
		if _, _, err := s.Step(st, c, &units[0].Readings[i], row); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

// Two ways to fail that move the sensors in different directions have an index each, and the right one rises.
func TestFaultModes(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var units []turbofan.History
	for u := range 24 {
		life := 120 + rng.IntN(80)
		sign := 1 - 2*float64(u%2)
		h := turbofan.History{UnitID: fmt.Sprint(u + 1), FailedAtCycle: life}
		for c := 1; c <= life; c++ {
			wear := math.Exp(4*float64(c)/float64(life)) / 10
			h.Readings = append(h.Readings, turbofan.Reading{UnitID: h.UnitID, Cycle: c, Settings: []float64{0, 0, 100},
				Sensors: []float64{5, 100 + wear + 0.3*rng.NormFloat64(), 10 - sign*wear + 0.2*rng.NormFloat64()}})
		}
		units = append(units, h)
	}
	cfg := feature.Record()
	cfg.FaultModes = 2
	s := fit(t, cfg, units)
	if len(s.Health) != 2 {
		t.Fatalf("found %d health indexes, want one for each of two fault modes", len(s.Health))
	}
	rows, err := s.Transform(t.Context(), units)
	if err != nil {
		t.Fatal(err)
	}
	one, two := slices.Index(s.Columns, "fault_1_index_ewma_0.1"), slices.Index(s.Columns, "fault_2_index_ewma_0.1")
	higher := map[int]map[bool]int{0: {}, 1: {}}
	for i := range rows.Len() {
		if rows.RUL[i] == 0 {
			higher[rows.Unit[i]%2][rows.Row(i)[one] > rows.Row(i)[two]]++
		}
	}
	for mode, count := range higher {
		if len(count) != 1 {
			t.Errorf("mode %d: the first index is the higher one at the end of life for %d units and not for %d", mode, count[true], count[false])
		}
	}
	if len(higher[0]) == 1 && higher[0][true] > 0 == (higher[1][true] > 0) {
		t.Error("the same index is the higher one in both modes")
	}
	few := fit(t, cfg, units[:6])
	if len(few.Health) != 1 || !slices.Contains(few.Columns, "health_index_ewma_0.1") {
		t.Errorf("six units gave %d indexes; they are too few to tell modes apart", len(few.Health))
	}
}

func TestRowsSayWhoJoinedLate(t *testing.T) {
	units := fleet(12)
	s := fit(t, feature.Record(), units)
	start := make([]int, len(units))
	start[0] = 50
	late, err := s.TransformSome(t.Context(), units, feature.Take{Start: start})
	if err != nil {
		t.Fatal(err)
	}
	own, err := s.Transform(t.Context(), units[:1])
	if err != nil {
		t.Fatal(err)
	}
	j := slices.Index(s.Columns, feature.LateColumn)
	if late.Row(0)[j] != 1 || own.Row(0)[j] != 0 {
		t.Errorf("%s is %v for a unit that joined late and %v for one that did not", feature.LateColumn, late.Row(0)[j], own.Row(0)[j])
	}
}

// The readings that are named become the same rows as when all do, in one matrix or in blocks.
func TestSomeRowsAreThoseOfAll(t *testing.T) {
	units := fleet(6)
	s := fit(t, feature.Wide(), units)
	for name, start := range map[string][]int{"own start": nil, "joined late": {60, 0, 10, 1000, 30, 3}} {
		all, err := s.TransformSome(t.Context(), units, feature.Take{Start: start})
		if err != nil {
			t.Fatal(err)
		}
		keep := []int{0, 1, 40, 41, all.Len() / 2, all.Len() - 1}
		some, err := s.TransformSome(t.Context(), units, feature.Take{Start: start, Keep: keep})
		if err != nil {
			t.Fatal(err)
		}
		if some.Len() != len(keep) {
			t.Fatalf("%s: %d rows for %d readings", name, some.Len(), len(keep))
		}
		same := func(what string, got *feature.Rows, i, of int) {
			t.Helper()
			if got.Unit[i] != all.Unit[of] || got.Cycle[i] != all.Cycle[of] || got.RUL[i] != all.RUL[of] || got.Late[i] != all.Late[of] ||
				!slices.EqualFunc(got.Row(i), all.Row(of), func(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) || a != a && b != b }) {
				t.Fatalf("%s: row %d %s differs from row %d of all", name, i, what, of)
			}
		}
		for i, of := range keep {
			same("kept", some, i, of)
		}
		at := 0
		err = s.Blocks(t.Context(), units, feature.Take{Start: start}, 100, func(block *feature.Rows) error {
			for i := range block.Len() {
				same("of a block", block, i, at)
				at++
			}
			return nil
		})
		if err != nil || at != all.Len() {
			t.Errorf("%s: blocks have %d rows of %d, error %v", name, at, all.Len(), err)
		}
		none, err := s.TransformSome(t.Context(), units, feature.Take{Start: start, Keep: []int{}})
		if err != nil || none.Len() != 0 {
			t.Errorf("%s: none of the readings gave %d rows, error %v", name, none.Len(), err)
		}
	}
	stop := errors.New("enough")
	if err := s.Blocks(t.Context(), units, feature.Take{}, 10, func(*feature.Rows) error { return stop }); err != stop {
		t.Errorf("Blocks returned %v, want the error of its function", err)
	}
}

// ending is a context that ends when it was asked so many times.
type ending struct {
	context.Context
	left int
}

func (c *ending) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// Whenever a pass over a fleet is no longer wanted, it stops with the context's error and gives nothing half done.
func TestPassesStopWithTheContext(t *testing.T) {
	units := counting(fleet(12))
	s := fit(t, feature.Record(), units)
	for name, pass := range map[string]func(context.Context) (bool, error){
		"fit": func(ctx context.Context) (bool, error) {
			s, err := feature.Fit(ctx, feature.Record(), schema(), units)
			return s != nil, err
		},
		"transform": func(ctx context.Context) (bool, error) { r, err := s.Transform(ctx, units); return r != nil, err },
		"blocks": func(ctx context.Context) (bool, error) {
			return false, s.Blocks(ctx, units, feature.Take{}, 100, func(*feature.Rows) error { return nil })
		},
		"skipped": func(ctx context.Context) (bool, error) {
			return false, s.Blocks(ctx, units, feature.Take{Keep: []int{1500}}, 100, func(*feature.Rows) error { return nil })
		},
		"late units": func(ctx context.Context) (bool, error) {
			r, err := s.TransformSome(ctx, units, feature.Take{Start: slices.Repeat([]int{60}, len(units))})
			return r != nil, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			for ; ; asked++ {
				gave, err := pass(&ending{t.Context(), asked})
				if err == nil {
					break
				}
				if !errors.Is(err, context.Canceled) || gave {
					t.Fatalf("ended when asked %d times: %v, a result: %v", asked, err, gave)
				}
			}
			if asked < len(units)/2 {
				t.Errorf("asked %d times over %d units", asked, len(units))
			}
		})
	}
}
