package drift_test

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"turbofan"
	"turbofan/drift"
	"turbofan/reference"
)

// odd returns a window in which the first few units of a fleet have some sensors off, by standard deviations.
func odd(seed uint64, units int, sensors []int, off float64) []turbofan.StoredReading {
	w := stored(newFleet(60, seed).read(world{load: 1}, 1000))
	hit := map[string]bool{}
	for i := range w {
		if len(hit) < units {
			hit[w[i].UnitID] = true
		}
		if hit[w[i].UnitID] {
			for _, s := range sensors {
				w[i].Sensors[s] += 2 * off
			}
		}
	}
	return w
}

// A few units whose sensors no longer go together are drift, though the fleet's distributions hardly move; one such
// unit, and one sensor that is off in many, are not.
func TestOddUnits(t *testing.T) {
	ref := pumpReference(t)
	for _, c := range []struct {
		name    string
		window  []turbofan.StoredReading
		outside int
		drifted bool
	}{
		{"nothing odd", odd(21, 0, nil, 0), 0, false},
		{"three units in two sensors", odd(21, 3, []int{1, 4}, 3), 3, true},
		{"one unit in two sensors", odd(21, 1, []int{1, 4}, 3), 0, false},
		{"one sensor of five units", odd(21, 5, []int{1}, 3), 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			report := judge(t, ref, drift.Window{Readings: c.window})
			s := report.Spread
			if s == nil || s.Units < 60 || s.Drifted != c.drifted || (report.Verdict == turbofan.Drifted) != c.drifted {
				t.Fatalf("%s because %q, %+v", report.Verdict, report.Because, s)
			}
			if !c.drifted {
				return
			}
			if s.Outside != c.outside || len(s.UnitIDs) != c.outside || s.Channels[0] != "b" && s.Channels[0] != "e" ||
				!strings.HasPrefix(report.Because, "3 of 63 units lie outside the spread of the reference's units at their age, most in ") {
				t.Errorf("%q, %+v", report.Because, s)
			}
		})
	}
	old := *ref
	old.Spreads, old.SpreadTails = nil, nil
	if r := judge(t, &old, drift.Window{Readings: odd(21, 3, []int{1, 4}, 3)}); r.Spread != nil || r.Verdict != turbofan.NoDrift {
		t.Errorf("a reference that does not know its spread gives %s, %+v", r.Verdict, r.Spread)
	}
}

// The champion that an older version trained goes on judging units: testdata has what that version (commit 925f2d5) wrote of
// the spread of pumpReference's pumps, and what it said of these windows.
func TestOddUnitsBeforeTails(t *testing.T) {
	old := map[string]any{}
	for _, read := range []func() ([]byte, error){
		func() ([]byte, error) { return json.Marshal(pumpReference(t)) },
		func() ([]byte, error) { return os.ReadFile(filepath.Join("testdata", "pump_spread_before_tails.json")) },
	} {
		b, err := read()
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &old); err != nil {
			t.Fatal(err)
		}
	}
	delete(old, "spread_tails")
	b, err := json.Marshal(old)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), reference.FileName)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	ref, err := reference.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	for odds, want := range map[int]turbofan.Verdict{0: turbofan.NoDrift, 1: turbofan.NoDrift, 3: turbofan.Drifted} {
		report := judge(t, ref, drift.Window{Readings: odd(21, odds, []int{1, 4}, 3)})
		if s := report.Spread; report.Verdict != want || s == nil || s.Units < 60 || s.Drifted && s.Outside != odds {
			t.Errorf("of %d odd units: %s because %q, %+v", odds, report.Verdict, report.Because, s)
		}
	}
}

// Where nothing changes, alarms are as rare as the rule says: the reference and each fleet are drawn anew, so that
// neither chance is left out.
func TestNullAlarmsAreAsStated(t *testing.T) {
	const references, fleets = 60, 3
	cfg := drift.DefaultConfig()
	spread, any := 0, 0
	for r := range references {
		ref := pumpReferenceOf(t, uint64(100+r), 60)
		for f := range fleets {
			rng := rand.New(rand.NewPCG(uint64(r), uint64(f)))
			w := drift.Window{Readings: stored(newFleet(50, rng.Uint64()).read(world{load: 1}, 1000))}
			report := judge(t, ref, w)
			if report.Spread == nil || report.Spread.Units < 50 {
				t.Fatalf("the units are not judged: %+v", report.Spread)
			}
			if report.Spread.Drifted {
				spread++
			}
			if report.Verdict == turbofan.Drifted {
				any++
			}
		}
	}
	n := float64(references * fleets)
	// Three standard errors above what is stated: once in a thousand times this fails by chance.
	limit := n*cfg.SpreadAlpha + 3*math.Sqrt(n*cfg.SpreadAlpha)
	t.Logf("%d of %.0f windows alarm by units, %d in all; at most %.1f are expected", spread, n, any, limit)
	if float64(spread) > limit || any != spread {
		t.Errorf("%d of %.0f windows alarm by units and %d in all where %.3g of them is stated", spread, n, any, cfg.SpreadAlpha)
	}
}
