package drift_test

import (
	"encoding/json"
	"math"
	"slices"
	"testing"

	"turbofan/drift"
)

// The size of the pages changes nothing, also where a comparison has a sample of the rows only.
func TestPages(t *testing.T) {
	ref := pumpReference(t)
	cfg := drift.DefaultConfig()
	cfg.Window = 50_000
	readings := stored(newFleet(60, 21).read(world{load: 1, shift: 0.3}, cfg.Window))
	readings[70].Cycle = readings[10].Cycle // a unit's cycle twice, over the border of two pages
	whole, err := drift.Judge(ref, drift.Window{Readings: readings}, cfg)
	if err != nil {
		t.Fatal(err)
	}
	want := must(t)(json.Marshal(whole))
	for _, page := range []int{1, 61, 4096, 5000} {
		c, err := drift.NewCollector(ref, nil, cfg)
		if err != nil {
			t.Fatal(err)
		}
		for p := range slices.Chunk(readings, page) {
			if err := c.Add(p); err != nil {
				t.Fatal(err)
			}
		}
		report, err := c.Judge(drift.Evidence{})
		if err != nil {
			t.Fatal(err)
		}
		if got := must(t)(json.Marshal(report)); string(got) != string(want) {
			t.Errorf("in pages of %d:\n%s\nin one:\n%s", page, got, want)
		}
	}
	if len(whole.Quality) == 0 || whole.Rows != cfg.Window {
		t.Errorf("%+v", whole)
	}
}

func must(t *testing.T) func([]byte, error) []byte {
	return func(b []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
}

// The service reads a window that is larger than a page: the newest readings, each once.
func TestWindowOfManyPages(t *testing.T) {
	r := newRig(t)
	r.cfg.Window = 11_000
	r.open(t)
	defer r.close(t)
	ref := pumpReference(t)
	r.serve(t, ref)
	all := newFleet(60, 22).read(world{load: 1}, 13_000)
	r.send(t, all)
	got := r.check(t)
	want, err := drift.Judge(ref, drift.Window{Readings: stored(all[2000:])}, r.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if got.Rows != r.cfg.Window || got.ToSeq-got.FromSeq != int64(r.cfg.Window-1) || math.Abs(float64(got.Score-want.Score)) > 1e-12 || got.Units != want.Units {
		t.Errorf("%d rows from %d to %d of %d units with score %v, want %d of %d with %v", got.Rows, got.FromSeq, got.ToSeq, got.Units, got.Score, want.Rows, want.Units, want.Score)
	}
}
