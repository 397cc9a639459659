//go:build bench && !race

package retrain_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"turbofan"
)

// TestPoisonTable prints, per kind of statement and seed, whether the job promoted and what the champion's error before
// and the challenger's is on engines that neither saw, by the truth. TURBOFAN_POISON_SEEDS seeds (3) from
// TURBOFAN_POISON_FIRST (100) on.
func TestPoisonTable(t *testing.T) {
	number := func(name, usual string) int {
		return must[int](t)(strconv.Atoi(cmp.Or(os.Getenv(name), usual)))
	}
	seeds, first := number("TURBOFAN_POISON_SEEDS", "3"), number("TURBOFAN_POISON_FIRST", "100")
	e := newEngines(t, number("TURBOFAN_POISON_ROWS", "20000"))
	for _, set := range []string{"FD003", "FD002", "FD004", "FD001 test", "FD003 test"} {
		for _, c := range []struct {
			name string
			say  statement
		}{
			{"right", honest}, {"right, 30% silent for 30 cycles", silent(0.3, 30, 0)},
			{"all mixed up", mixed(1, nil)}, {"half mixed up", mixed(0.5, nil)}, {"quarter mixed up", mixed(0.25, nil)},
			{"60 late", silent(0, 0, 60)}, {"60 late, silent for 30", silent(1, 30, 60)},
			{"40 early, silent for 50", silent(1, 50, -40)}, {"40 early, silent for 70", silent(1, 70, -40)},
		} {
			e.print(t, set, c.name, 60, seeds, first, nil, c.say)
		}
	}
	for _, set := range []string{"FD001 test", "FD003"} {
		for _, share := range []float64{1, 0.5} {
			for _, c := range []struct {
				name string
				from int
				how  func(rng *rand.Rand, v float64, since int) float64
			}{
				{"off by 0.6", 60, func(_ *rand.Rand, v float64, _ int) float64 { return v + 0.6 }},
				{"off by 2", 60, func(_ *rand.Rand, v float64, _ int) float64 { return v + 2 }},
				{"off by -0.6", 60, func(_ *rand.Rand, v float64, _ int) float64 { return v - 0.6 }},
				{"off by 0.6 from the start", 0, func(_ *rand.Rand, v float64, _ int) float64 { return v + 0.6 }},
				{"creeping by 0.01", 30, func(_ *rand.Rand, v float64, since int) float64 { return v + 0.01*float64(since) }},
				{"noisy by 0.6", 60, func(rng *rand.Rand, v float64, _ int) float64 { return v + 0.6*rng.NormFloat64() }},
			} {
				e.print(t, set, fmt.Sprintf("Ps30 of %.0f%% %s", 100*share, c.name), 60, seeds, first, nil, broken(share, ps30, c.from, c.how))
			}
		}
	}
	e.print(t, "FD003", "fan's mixed up", 60, seeds, first, nil, mixed(1, byFan))
	e.print(t, "FD003", "fan alone, mixed up", 40, seeds, first, byFan, mixed(1, nil))
	e.print(t, "FD003", "fan alone, right", 40, seeds, first, byFan, honest)
	e.print(t, "FD001 test", "rests mixed up", 60, seeds, first, nil, mixedRests)
}

func (e *engines) print(t *testing.T, set, name string, n, seeds, first int, keep func(*turbofan.History) bool, say statement) {
	t.Run(set+"/"+name, func(t *testing.T) {
		for s := first; s < first+seeds; s++ {
			seed := uint64(s)
			units, rest := e.draw(set, n, seed, keep)
			p, j := e.retrain(t, units, say, seed)
			sent, ends := say(rand.New(rand.NewPCG(seed, 5)), units)
			told, wrong := 0, 0
			for i := range sent {
				if ends[i] >= len(sent[i].Readings) { // else the store refuses it
					told++
					if ends[i] != units[i].FailedAtCycle {
						wrong++
					}
				}
			}
			before, after := rmse(t, e.m, rest), "-"
			if j.Result != nil {
				after = strconv.FormatFloat(rmse(t, p.challenger(j), rest), 'f', 1, 64)
			}
			t.Logf("%s | %s | %d | %d ends, %d wrong, %d units doubted | promoted %t | %.1f | %s | %s", set, name, seed, told, wrong, len(j.Doubted), promoted(j), before, after, because(j))
		}
	})
}

// mixedRests exchanges what units lived on after their last reading, so that no end lies before it.
func mixedRests(rng *rand.Rand, units []turbofan.History) ([]turbofan.History, []int) {
	out := make([]int, len(units))
	for i, j := range rng.Perm(len(units)) {
		out[i] = len(units[i].Readings) + units[j].FailedAtCycle - len(units[j].Readings)
	}
	return units, out
}
