package predict_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"turbofan"
	"turbofan/predict"
)

func TestAnswersAreTheModels(t *testing.T) {
	units := fleet(4, 7, 0)
	units[1].Readings[40].Sensors[1] = math.NaN()
	units[1].Readings[0].Sensors[2] = math.NaN()
	units[2].Readings = units[2].Readings[60:] // joined late
	units[3].Readings = slices.Concat(units[3].Readings[:30], units[3].Readings[50:])
	want := expect(t, open(t, artifacts.a), units)
	all := sideBySide(units)
	for _, size := range []int{1, 7, len(all)} {
		t.Run(fmt.Sprint("in requests of ", size), func(t *testing.T) {
			w := newWorld(t, artifacts.a)
			s, got := w.serving(options{}), answers{}
			for part := range slices.Chunk(all, size) {
				ps := send(t, s, part...)
				for i, p := range ps {
					if p.UnitID != part[i].UnitID || p.Cycle != part[i].Cycle || p.ModelVersion != "1" || p.ID == "" || p.Condition != 0 {
						t.Fatalf("answer %d to unit %s cycle %d is %+v", i, part[i].UnitID, part[i].Cycle, p)
					}
				}
				got.add(ps...)
			}
			got.equal(t, want)
			if n := w.stored(); n != len(all) {
				t.Errorf("%d readings stored, want %d", n, len(all))
			}
		})
	}
	t.Run("the last of a history", func(t *testing.T) {
		w := newWorld(t, artifacts.a)
		s := w.serving(options{})
		u := units[0].Readings
		each := must[[]turbofan.Prediction](t)(s.Predict(t.Context(), turbofan.PredictRequest{Readings: u, Stateless: true, Explain: true}))
		got := must[[]turbofan.Prediction](t)(s.Predict(t.Context(), turbofan.PredictRequest{Readings: u, Stateless: true, LastOnly: true, Explain: true}))
		last := each[len(each)-1]
		if len(got) != 1 || len(got[0].Drivers) == 0 || got[0].Cycle != last.Cycle || got[0].RUL != last.RUL || !slices.Equal(got[0].Drivers, last.Drivers) {
			t.Errorf("the last reading is answered by %+v, want %+v", got, last)
		}
	})
	t.Run("stateless", func(t *testing.T) {
		w := newWorld(t, artifacts.a)
		s, got := w.serving(options{}), answers{}
		got.add(must[[]turbofan.Prediction](t)(s.Predict(t.Context(), turbofan.PredictRequest{Readings: all, Stateless: true}))...)
		got.equal(t, want)
		v := must[turbofan.Serving](t)(s.Serving(t.Context()))
		if n := w.stored(); n != 0 || v.Units != 0 {
			t.Errorf("a stateless request left %d readings and %d units behind", n, v.Units)
		}
		if _, err := s.Unit(t.Context(), "u1"); turbofan.ErrorCode(err) != turbofan.ENotFound {
			t.Errorf("the unit of a stateless request: %v, want not found", err)
		}
	})
}

func TestWarnings(t *testing.T) {
	w := newWorld(t, artifacts.a)
	s := w.serving(options{})
	u := fleet(1, 7, 0)[0]
	if p := send(t, s, u.Readings[0])[0]; len(p.Warnings) != 0 {
		t.Errorf("a young unit's warnings: %q", p.Warnings)
	}
	r := u.Readings[70]
	r.UnitID, r.Sensors = "old", []float64{5, math.NaN(), 9}
	p := send(t, s, r)[0]
	if len(p.Warnings) != 2 || !strings.Contains(p.Warnings[0], "first seen late") || !strings.Contains(p.Warnings[1], "missing") {
		t.Errorf("warnings of an old unit with a missing sensor: %q", p.Warnings)
	}
}

func TestRestartAndEvictionChangeNothing(t *testing.T) {
	units := fleet(90, 7, 0)
	for u := range units {
		units[u].Readings = units[u].Readings[:12]
	}
	want := expect(t, open(t, artifacts.a), units)
	for name, restart := range map[string]bool{"restart": true, "eviction": false} {
		t.Run(name, func(t *testing.T) {
			w, got := newWorld(t, artifacts.a), answers{}
			few := options{change: func(c *predict.Config) { c.MaxUnits = 64 }}
			s := w.serving(few)
			for i, part := range slices.Collect(slices.Chunk(sideBySide(units), len(units))) {
				if i%5 == 0 && restart {
					s = w.serving(options{})
				}
				if i%2 == 0 {
					got.add(send(t, s, part...)...)
					continue
				}
				for _, r := range part {
					got.add(send(t, s, r)...)
				}
			}
			got.equal(t, want)
			if v := must[turbofan.Serving](t)(s.Serving(t.Context())); !restart && v.Units > 64 {
				t.Errorf("%d units live where 64 are allowed", v.Units)
			}
		})
	}
}

func TestRepeatGetsTheSameAnswer(t *testing.T) {
	w := newWorld(t, artifacts.a)
	s := w.serving(options{})
	u := fleet(1, 7, 0)[0]
	send(t, s, u.Readings[:10]...)
	first := send(t, s, u.Readings[10])[0]
	again := func(name string, s *predict.Service, ps []turbofan.Prediction) {
		t.Helper()
		if p := ps[len(ps)-1]; p.ID != first.ID || p.RUL != first.RUL || p.ModelVersion != "1" || !p.At.Equal(first.At) || p.At.Location() != first.At.Location() {
			t.Errorf("%s: answered %+v, before %+v", name, p, first)
		}
	}
	again("alone", s, send(t, s, u.Readings[10]))
	again("twice in a batch", s, send(t, s, u.Readings[10], u.Readings[10]))
	again("after a restart", s, send(t, w.serving(options{}), u.Readings[10]))
	s = w.serving(options{})
	w.promote(w.register(artifacts.b))
	if swapped, err := s.Refresh(t.Context()); !swapped {
		t.Fatal(err)
	}
	ps := must[[]turbofan.Prediction](t)(s.Predict(t.Context(), turbofan.PredictRequest{Readings: u.Readings[10:11], Explain: true}))
	again("after a swap", s, ps)
	if len(ps[0].Drivers) > 0 {
		t.Errorf("version 2's reasons %v explain version 1's answer", ps[0].Drivers)
	}
	ps = must[[]turbofan.Prediction](t)(s.Predict(t.Context(), turbofan.PredictRequest{Readings: u.Readings[10:12], Explain: true}))
	again("before the next reading", s, ps[:1])
	if ps[1].ModelVersion != "2" || len(ps[1].Drivers) == 0 {
		t.Errorf("the next reading's answer is %+v", ps[1])
	}
	if n := w.stored(); n != 12 {
		t.Errorf("%d readings stored, want 12", n)
	}
	missing := u.Readings[12]
	missing.Sensors = []float64{5, math.NaN(), 9}
	if a, b := send(t, s, missing)[0], send(t, s, missing)[0]; a.ID != b.ID {
		t.Error("a repeat with a missing sensor was answered anew")
	}
}

func TestRefusals(t *testing.T) {
	w := newWorld(t, artifacts.a)
	s := w.serving(options{})
	u, v := fleet(2, 7, 0)[0], fleet(2, 7, 0)[1]
	send(t, s, u.Readings[1:5]...)
	changed, older := u.Readings[4], u.Readings[2]
	changed.Sensors, older.Sensors = []float64{5, 101, 9}, []float64{5, math.NaN(), 9}
	was := fmt.Sprint(u.Readings[4].Sensors[1])
	short, inf, noUnit, cycle := v.Readings[0], v.Readings[0], v.Readings[0], v.Readings[0]
	short.Sensors, inf.Settings, noUnit.UnitID, cycle.Cycle = short.Sensors[:2], []float64{0, math.Inf(1), 100}, "", 0
	for name, c := range map[string]struct {
		readings  []turbofan.Reading
		stateless bool
		code      string
		want      string
	}{
		"none":            {nil, false, turbofan.EInvalid, "readings: must hold at least one reading"},
		"changed":         {[]turbofan.Reading{changed}, false, turbofan.EConflict, "reading.sensors[1]: cycle 5 of unit u1 was already sent with " + was + " for sensor_2, not 101"},
		"changed, older":  {[]turbofan.Reading{u.Readings[1], older}, false, turbofan.EConflict, "readings[1].sensors[1]: cycle 3 of unit u1 was already sent with " + fmt.Sprint(u.Readings[2].Sensors[1]) + " for sensor_2, not null"},
		"older":           {u.Readings[:1], false, turbofan.EConflict, "reading.cycle: cycle 1 of unit u1 comes after cycle 5 was answered; send a unit's cycles in ascending order"},
		"older in batch":  {[]turbofan.Reading{v.Readings[0], u.Readings[5], v.Readings[2], v.Readings[1]}, false, turbofan.EConflict, "readings[3].cycle: cycle 2 of unit u2 comes after cycle 3 was answered; send a unit's cycles in ascending order"},
		"changed, batch":  {[]turbofan.Reading{v.Readings[0], u.Readings[4], changed}, false, turbofan.EConflict, "readings[2].sensors[1]: cycle 5 of unit u1 was already sent with " + was + " for sensor_2, not 101"},
		"short":           {[]turbofan.Reading{u.Readings[5], short}, false, turbofan.EInvalid, "readings[1].sensors: must have 3 values, one a sensor of cmapss; it has 2"},
		"infinite":        {[]turbofan.Reading{inf}, false, turbofan.EInvalid, "reading.settings[1]: setting_2 must be a finite number"},
		"no unit":         {[]turbofan.Reading{u.Readings[5], noUnit}, false, turbofan.EInvalid, "readings[1].unit_id: is missing"},
		"cycle":           {[]turbofan.Reading{cycle}, false, turbofan.EInvalid, "reading.cycle: must be a whole number from 1 to 10000000, not 0"},
		"stateless order": {[]turbofan.Reading{v.Readings[1], u.Readings[1], v.Readings[0]}, true, turbofan.EInvalid, "readings[2].cycle: 1 of unit u2 is not after cycle 2 before it"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.Predict(t.Context(), turbofan.PredictRequest{Readings: c.readings, Stateless: c.stateless})
			if turbofan.ErrorCode(err) != c.code || err.Error() != c.want {
				t.Errorf("%q (%s), want %q (%s)", err, turbofan.ErrorCode(err), c.want, c.code)
			}
			if n := w.stored(); n != 4 {
				t.Errorf("%d readings stored, want the 4 from before", n)
			}
			if v := must[turbofan.Serving](t)(s.Serving(t.Context())); v.Units != 1 {
				t.Errorf("%d units live, want the one from before", v.Units)
			}
		})
	}
	got, want := answers{}, expect(t, open(t, artifacts.a), []turbofan.History{{UnitID: u.UnitID, Readings: u.Readings[1:]}})
	got.add(send(t, s, u.Readings[5:]...)...)
	for c := 1; c <= 5; c++ {
		delete(want, key("u1", c))
	}
	got.equal(t, want)
}

// A batch that cannot be stored, or that its caller gave up, must leave the units and the conditions as they were.
func TestFailedRequestLeavesNoTrace(t *testing.T) {
	units := fleet(12, 7, 1) // in a condition that the model does not know: these readings teach
	all := sideBySide(units)[:12*40]
	want := func() answers {
		w, got := newWorld(t, artifacts.a), answers{}
		s := w.serving(options{})
		for part := range slices.Chunk(all, 9) {
			got.add(send(t, s, part...)...)
		}
		return got
	}()
	down := turbofan.Errorf(turbofan.EUnavailable, "the store does not take writes now")
	w := newWorld(t, artifacts.a)
	st, got := &store{PredictionStore: w.state}, answers{}
	s := w.serving(options{stores: predict.Stores{Predictions: st}})
	for i, part := range slices.Collect(slices.Chunk(all, 9)) {
		ctx, cancel := context.WithCancel(t.Context())
		st.append = func(context.Context, []turbofan.PredictionRecord) error { return down }
		if i%3 == 1 {
			st.append = func(ctx context.Context, r []turbofan.PredictionRecord) error { cancel(); return ctx.Err() }
		}
		if i%3 != 2 {
			ps, err := s.Predict(ctx, turbofan.PredictRequest{Readings: part})
			if ps != nil || !errors.Is(err, down) && !errors.Is(err, context.Canceled) {
				t.Fatalf("request %d: %v, %v", i, len(ps), err)
			}
		}
		cancel()
		st.append = nil
		got.add(send(t, s, part...)...)
	}
	n := 0
	for k, a := range got { // while a condition is provisional, a state that was rebuilt may differ; once it is fixed, none may
		if _, cycle, _ := strings.Cut(k, "@"); len(cycle) < 2 || cycle < "22" {
			continue
		}
		if n++; a != want[k] {
			t.Fatalf("%s: answered %+v, without failures %+v", k, a, want[k])
		}
	}
	if n != 12*19 {
		t.Fatalf("%d answers compared", n)
	}
}

// What a shared store did not take is answered 503, and counts as no answer.
func TestAnswerCountsOnceItIsKept(t *testing.T) {
	w, metrics := newWorld(t, artifacts.a), prometheus.NewRegistry()
	ctx, cancel := context.WithCancel(t.Context())
	st := &store{PredictionStore: w.state}
	st.append = func(ctx context.Context, r []turbofan.PredictionRecord) error {
		defer cancel() // before Flush
		return w.state.Append(ctx, r)
	}
	s := w.serving(options{prom: metrics, stores: predict.Stores{Predictions: st}, change: func(c *predict.Config) { c.Shared = true }})
	readings := fleet(1, 1, 0)[0].Readings[:5]
	if ps, err := s.Predict(ctx, turbofan.PredictRequest{Readings: readings}); ps != nil || !errors.Is(err, context.Canceled) {
		t.Fatalf("%d answers, %v", len(ps), err)
	}
	if n := counter(t, metrics, "turbofan_answers_total"); n != 0 {
		t.Errorf("%v answers are counted, none was given", n)
	}
}

func TestCancelledBatchIsNotAnswered(t *testing.T) {
	w := newWorld(t, artifacts.a)
	s := w.serving(options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, stateless := range []bool{false, true} {
		_, err := s.Predict(ctx, turbofan.PredictRequest{Readings: sideBySide(fleet(4, 7, 0)), Stateless: stateless})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("stateless %v: %v, want cancelled", stateless, err)
		}
	}
	if n := w.stored(); n != 0 {
		t.Errorf("%d readings of a cancelled batch are stored", n)
	}
}

func TestNewConditionIsCommissioned(t *testing.T) {
	units := fleet(12, 7, 1)
	w := newWorld(t, artifacts.a)
	s := w.serving(options{})
	order := []string{}
	got, end := answers{}, answers{}
	for i, part := range slices.Collect(slices.Chunk(sideBySide(units), 12))[:60] {
		for _, r := range part {
			p := send(t, s, r)[0]
			status := "known"
			if len(p.Warnings) > 0 {
				status = p.Warnings[0]
			}
			if len(order) == 0 || order[len(order)-1] != status {
				order = append(order, status)
			}
			if i >= 20 {
				got.add(p)
			}
		}
	}
	if len(order) != 3 || !strings.Contains(order[0], "not commissioned yet") || !strings.Contains(order[1], "still being commissioned") || order[2] != "known" {
		t.Fatalf("the condition went through %q", order)
	}
	// A service that starts now finds the same condition in the store: every state was rebuilt when it was fixed.
	s = w.serving(options{})
	for _, part := range slices.Collect(slices.Chunk(sideBySide(units), 12))[60:70] {
		end.add(send(t, s, part...)...)
	}
	for u := range units {
		units[u].Readings = units[u].Readings[:70]
	}
	want := expect(t, open(t, artifacts.a), units)
	for k, v := range want {
		if a, ok := got[k]; ok && a != v {
			t.Fatalf("%s: %+v, the model says %+v once the condition is known", k, a, v)
		}
		if a, ok := end[k]; ok && a != v {
			t.Fatalf("%s after a restart: %+v, the model says %+v", k, a, v)
		}
	}
	if len(got) != 40*12 || len(end) != 10*12 {
		t.Fatalf("%d and %d answers compared", len(got), len(end))
	}
}

// Units may speak to any of the replicas that share a store, young ones in unknown conditions too.
func TestSharedStore(t *testing.T) {
	units := append(fleet(12, 7, 1), fleet(3, 8, 0)...)
	for u := range units {
		units[u].UnitID = fmt.Sprint("unit ", u)
		units[u].Readings = units[u].Readings[:50]
		for i := range units[u].Readings {
			units[u].Readings[i].UnitID = units[u].UnitID
		}
	}
	w := newWorld(t, artifacts.a)
	shared := options{change: func(c *predict.Config) { c.Shared = true }}
	replicas := []*predict.Service{w.serving(shared), w.serving(shared)}
	rng, got := rand.New(rand.NewPCG(1, 1)), answers{}
	for _, part := range slices.Collect(slices.Chunk(sideBySide(units), len(units))) {
		for _, r := range part {
			at := rng.IntN(2)
			p := send(t, replicas[at], r)[0]
			if q := send(t, replicas[1-at], r)[0]; p.ID != q.ID {
				t.Fatalf("unit %s cycle %d was answered twice", r.UnitID, r.Cycle)
			}
			if r.Cycle > 21 {
				got.add(p)
			}
		}
	}
	want := expect(t, open(t, artifacts.a), units)
	for k := range want {
		if _, ok := got[k]; !ok {
			delete(want, k)
		}
	}
	got.equal(t, want)
}

// Whatever overlaps, each unit's answers are those of its readings in order.
func TestConcurrentRequests(t *testing.T) {
	units := fleet(20, 7, 0)
	for u := range units {
		units[u].Readings = units[u].Readings[:30]
	}
	want := expect(t, open(t, artifacts.a), units)
	w := newWorld(t, artifacts.a)
	s := w.serving(options{change: func(c *predict.Config) { c.MaxUnits = 64 }})
	var mu sync.Mutex
	got := answers{}
	var wg sync.WaitGroup
	for g := range 6 {
		wg.Go(func() { // every goroutine sends every unit: all but the first sender of a cycle get a repeat or a conflict
			rng := rand.New(rand.NewPCG(uint64(g), 3))
			for c := range 30 {
				order := rng.Perm(len(units))
				for part := range slices.Chunk(order, 1+rng.IntN(12)) {
					var rs []turbofan.Reading
					for _, u := range part {
						rs = append(rs, units[u].Readings[c])
					}
					ps, err := s.Predict(t.Context(), turbofan.PredictRequest{Readings: rs})
					if err != nil && turbofan.ErrorCode(err) != turbofan.EConflict {
						t.Error(err)
						return
					}
					mu.Lock()
					for _, p := range ps {
						k := key(p.UnitID, p.Cycle)
						a := answers{}
						if a.add(p); a[k] != want[k] {
							t.Errorf("%s: %+v, want %+v", k, a[k], want[k])
						}
					}
					got.add(ps...)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	for _, u := range units { // gaps cannot come: a unit's first sender of a cycle has sent all before it
		h := must[[]turbofan.Reading](t)(w.state.History(t.Context(), u.UnitID, 0))
		for i := range h {
			if h[i].Cycle != i+1 {
				t.Fatalf("unit %s: reading %d has cycle %d", u.UnitID, i, h[i].Cycle)
			}
		}
	}
}
