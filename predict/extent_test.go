package predict_test

import (
	"context"
	"reflect"
	"slices"
	"testing"

	"turbofan"
	"turbofan/model"
	"turbofan/predict"
	"turbofan/registry"
)

// asked is a store of readings that remembers from where it was asked for those of young units, and how many it gave.
type asked struct {
	turbofan.ReadingStore
	from []int64
	gave int
}

func (a *asked) Readings(ctx context.Context, q turbofan.ReadingQuery) ([]turbofan.StoredReading, error) {
	rs, err := a.ReadingStore.Readings(ctx, q)
	a.from, a.gave = append(a.from, q.AfterSeq), a.gave+len(rs)
	return rs, err
}

// A version that is new to the process reads only the young readings that nobody read before it, unless some of the others
// are in a condition that it does not know: those it has to learn.
func TestSwapReadsWhatMayTeach(t *testing.T) {
	for name, c := range map[string]struct {
		units  []turbofan.History
		shared bool
		whole  bool
	}{
		"all in a condition that it knows": {fleet(6, 7, 0), false, false},
		"some in another":                  {append(named(fleet(2, 8, 1)), fleet(4, 7, 0)...), false, true},
		"others write to the store":        {fleet(6, 7, 0), true, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, artifacts.a)
			readings := &asked{ReadingStore: w.state}
			s := w.serving(options{stores: predict.Stores{Readings: readings}, change: func(cfg *predict.Config) { cfg.Shared = c.shared }})
			all := sideBySide(c.units)
			send(t, s, all[:6*10]...)
			for i, artifact := range []string{artifacts.b, artifacts.a, artifacts.b, artifacts.a} {
				send(t, s, all[6*(10+i):6*(11+i)]...)
				readings.from, readings.gave = nil, 0
				w.promote(w.register(artifact))
				if swapped, err := s.Refresh(t.Context()); !swapped {
					t.Fatal(err)
				}
				want := 6 // what came since the swap before
				if c.whole || i == 0 {
					want = 6 * (11 + i)
				}
				if again := slices.Index(readings.from[1:], 0) >= 0; readings.gave != want && !(again && readings.gave == 2*want) {
					t.Errorf("swap %d read %d readings, from %v; want %d", i, readings.gave, readings.from, want)
				}
			}
		})
	}
}

// What a version has read is known up to the age to which it reads, whatever the one before it had read.
func TestSwapReadsWhatAYoungerVersionLeftOut(t *testing.T) {
	w := newWorld(t, artifacts.a)
	readings := &asked{ReadingStore: w.state}
	s := w.serving(options{stores: predict.Stores{Readings: readings}})
	all := sideBySide(fleet(6, 7, 0))
	for i, artifact := range []string{artifacts.b, artifacts.young, artifacts.a} {
		send(t, s, all[6*7*i:6*7*(i+1)]...)
		readings.gave = 0
		w.promote(w.register(artifact))
		if swapped, err := s.Refresh(t.Context()); !swapped {
			t.Fatal(err)
		}
		if want := []int{6 * 7, 6 * 3, 6 * 20}[i]; readings.gave != want {
			t.Errorf("swap %d read %d readings, want %d", i, readings.gave, want)
		}
	}
}

// A unit's page tells why, though nobody asked when the answer was given, and whoever gave it.
func TestUnitTellsWhy(t *testing.T) {
	w := newWorld(t, artifacts.a)
	s := w.serving(options{})
	u := fleet(1, 7, 0)[0].Readings[:30]
	send(t, s, u...)
	want := must[[]turbofan.Prediction](t)(s.Predict(t.Context(), turbofan.PredictRequest{Readings: u[29:], Explain: true}))[0]
	if len(want.Drivers) == 0 {
		t.Fatal("the answer has no drivers")
	}
	for name, s := range map[string]*predict.Service{"that answered": s, "another": w.serving(options{})} {
		got := must[turbofan.UnitStatus](t)(s.Unit(t.Context(), "u1"))
		if !reflect.DeepEqual(*got.Last, want) || !reflect.DeepEqual(got.Recent[len(got.Recent)-1], want) {
			t.Errorf("a process %s tells %+v, want %+v", name, *got.Last, want)
		}
	}
	w.promote(w.register(artifacts.b))
	must[bool](t)(s.Refresh(t.Context()))
	if got := must[turbofan.UnitStatus](t)(s.Unit(t.Context(), "u1")); len(got.Last.Drivers) > 0 || got.Last.ID != want.ID {
		t.Errorf("another version explains the answer: %+v", got.Last)
	}
	if n := w.stored(); n != len(u) {
		t.Errorf("%d readings are stored, want %d", n, len(u))
	}
}

// named gives units names of their own.
func named(units []turbofan.History) []turbofan.History {
	for u := range units {
		for i := range units[u].Readings {
			units[u].Readings[i].UnitID = "other-" + units[u].UnitID
		}
	}
	return units
}

// fetches counts what is fetched from a registry.
type fetches struct {
	*registry.Registry
	n int
}

func (f *fetches) Fetch(ctx context.Context, v turbofan.ModelVersion, dir string) error {
	f.n++
	return f.Registry.Fetch(ctx, v, dir)
}

// What was opened for a change is not fetched and opened once more by the swap; a version that cannot serve is not kept.
func TestOpenedOnceForAChange(t *testing.T) {
	w := newWorld(t, artifacts.a)
	reg := &fetches{Registry: w.reg}
	s := w.serving(options{reg: reg})
	version := func(n string) turbofan.ModelVersion {
		return must[turbofan.ModelVersion](t)(w.reg.Version(t.Context(), "rul", n))
	}
	if s.Answering(version("1")) == nil {
		t.Error("the champion does not answer")
	}
	second := version(w.register(artifacts.b))
	reg.n = 0
	m := must[*model.Model](t)(s.Open(t.Context(), second))
	if s.Answering(second) != nil {
		t.Error("a version answers that was opened alone")
	}
	w.promote(second.Version)
	if swapped, err := s.Refresh(t.Context()); !swapped || reg.n != 1 {
		t.Errorf("swapped %v, %v, after %d fetches", swapped, err, reg.n)
	}
	if s.Answering(second) != m {
		t.Error("what answers is not what was opened")
	}
	third := version(w.register(artifacts.b))
	w.damage("learner.bin", false)
	if _, err := s.Open(t.Context(), third); err == nil {
		t.Error("a damaged version was opened")
	}
	w.promote(third.Version)
	if swapped, err := s.Refresh(t.Context()); swapped || err == nil {
		t.Errorf("a damaged version serves: %v", err)
	}
}
