package stat_test

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"turbofan/stat"
)

// spreadRows draws units whose means differ by between in the direction (1, 1, 0) and rows about them.
func spreadRows(units, perUnit int, between float64, rng *rand.Rand) (values [][]float64, age, unit []int) {
	values = make([][]float64, 3)
	for u := range units {
		own := between * rng.NormFloat64()
		for a := 1; a <= perUnit; a++ {
			for c, shared := range []float64{own, own, 0} {
				values[c] = append(values[c], shared+rng.NormFloat64()+float64(a/20))
			}
			age, unit = append(age, a), append(unit, u)
		}
	}
	return values, age, unit
}

func TestSpread(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	s, held, err := spread(spreadRows(400, 40, 2, rng))
	if err != nil || s == nil || s.Units != 400 || len(held) != 800 {
		t.Fatalf("%+v, %d held out, %v", s, len(held), err)
	}
	for i, want := range [][]float64{{4, 4, 0}, {4, 4, 0}, {0, 0, 0}} {
		for j, w := range want {
			if math.Abs(s.Between[i][j]-w) > 0.6 {
				t.Errorf("between[%d][%d] is %.2f, want about %.0f", i, j, s.Between[i][j], w)
			}
			if within := s.Within[i][j]; i == j && math.Abs(within-1) > 0.05 || i != j && math.Abs(within) > 0.05 {
				t.Errorf("within[%d][%d] is %.2f", i, j, within)
			}
		}
	}
	if beyond := 0; true { // a tenth lies beyond the ninth decile
		for _, h := range held {
			if h.Ratio > 1 {
				beyond++
			}
		}
		if beyond < 70 || beyond > 90 {
			t.Errorf("%d of 800 lie beyond the ninth decile", beyond)
		}
	}
	// Along the direction in which units differ, three standard deviations are little; across it, one is much.
	along, _, _ := s.Distance([]float64{3, 3, 0}, 20)
	across, part, ok := s.Distance([]float64{1.5, -1.5, 1}, 20)
	if !ok || along > 4 || across < 15 || part[2] < 10 {
		t.Errorf("distance %.1f along and %.1f across, parts %.1f", along, across, part)
	}
	// One channel alone is that channel's own affair.
	if alone, _, _ := s.Distance([]float64{0, 0, 50}, 20); alone > 1e-6 {
		t.Errorf("one channel gives %.2f", alone)
	}
	if _, _, ok := s.Distance([]float64{math.NaN(), 1, math.NaN()}, 20); ok {
		t.Error("one known channel gives a distance")
	}
}

func TestSpreadOfLittle(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 1))
	if s, held, err := spread(spreadRows(15, 40, 1, rng)); s != nil || held != nil || err != nil {
		t.Errorf("fifteen units give %+v, %v", s, err)
	}
	values, age, unit := spreadRows(40, 40, 1, rng)
	for r := range values[1] {
		values[1][r] = 7 // never varies
		if r%20 == 0 {
			values[2][r] = math.NaN()
		}
	}
	s, _, err := stat.BuildSpread(values, age, unit, []int{20})
	if err != nil || s == nil || !reflect.DeepEqual(s.Channels, []int{0, 2}) {
		t.Fatalf("%+v, %v", s, err)
	}
	b, err := json.Marshal(s)
	var back stat.Spread
	if err != nil || json.Unmarshal(b, &back) != nil || !reflect.DeepEqual(*s, back) || back.Validate(3) != nil {
		t.Errorf("it is not the same after JSON: %v", err)
	}
	for name, spoil := range map[string]func(*stat.Spread){
		"channel": func(s *stat.Spread) { s.Channels = []int{0, 3} },
		"means":   func(s *stat.Spread) { s.Means = s.Means[:1] },
		"mean":    func(s *stat.Spread) { s.Means = [][]float64{{1}, {1, 2}} },
		"ages":    func(s *stat.Spread) { s.Ages = nil },
		"scales":  func(s *stat.Spread) { s.Scales = []float64{0, 0} },
		"between": func(s *stat.Spread) { s.Between = [][]float64{{1}, {1, 2}} },
	} {
		bad := back
		spoil(&bad)
		if bad.Validate(3) == nil {
			t.Errorf("a spread with a false %s is valid", name)
		}
	}
}

// Units wear within an age band: a unit is compared with those of its age, not of its band's middle.
func TestSpreadAtAnAge(t *testing.T) {
	s := &stat.Spread{AgeEdges: []int{20, 40, 60}, Means: [][]float64{{1}, {3}, {9}, nil}, Ages: []float64{10, 30, 50, 0}}
	for _, c := range []struct {
		age  int
		want float64
	}{{1, 0.1}, {10, 1}, {19, 1.9}, {20, 2}, {30, 3}, {35, 4.5}, {40, 6}, {59, 11.7}} {
		band := s.Band(c.age)
		since := s.Since(band, c.age)
		if got := s.Means[band][0] + since*s.Course(band, 0, since > 0); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("mean %v at age %d, want %v", got, c.age, c.want)
		}
	}
	// Nobody knows how those wear that grow older than the last band says.
	open := &stat.Spread{AgeEdges: []int{20}, Means: [][]float64{nil, {3}}, Ages: []float64{0, 30}}
	if since, course := open.Since(1, 500), open.Course(1, 0, true); since != 10 || course != 0 {
		t.Errorf("%v cycles and %v a cycle beyond the only band", since, course)
	}
}

func spread(values [][]float64, age, unit []int) (*stat.Spread, []stat.HeldOut, error) {
	return stat.BuildSpread(values, age, unit, []int{20})
}
