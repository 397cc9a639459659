package predict_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"turbofan"
	"turbofan/predict"
)

// try points an alias at a version; share is for the canary.
func (w *world) try(s *predict.Service, alias, version, share string) error {
	w.t.Helper()
	if share != "" {
		if err := w.reg.SetVersionTags(w.t.Context(), "rul", version, map[string]string{turbofan.TagCanaryShare: share}); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := w.reg.SetAlias(w.t.Context(), "rul", alias, version); err != nil {
		w.t.Fatal(err)
	}
	_, err := s.Refresh(w.t.Context())
	return err
}

func (w *world) end(s *predict.Service, alias string) {
	w.t.Helper()
	err := w.reg.DeleteAlias(w.t.Context(), "rul", alias)
	if err == nil {
		_, err = s.Refresh(w.t.Context())
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// byVersion says which version answered each unit, and fails when a unit met two.
func byVersion(t *testing.T, ps []turbofan.Prediction) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, p := range ps {
		if v := out[p.UnitID]; v != "" && v != p.ModelVersion {
			t.Fatalf("unit %s met versions %s and %s", p.UnitID, v, p.ModelVersion)
		}
		out[p.UnitID] = p.ModelVersion
	}
	return out
}

// Each unit of a canary is answered by the canary from its first reading to its last, with the numbers that the model
// gives for its whole history, one at a time and in batches, through a growing share, an abort and a promotion.
func TestCanary(t *testing.T) {
	w := newWorld(t, artifacts.a)
	second := w.register(artifacts.b)
	s := w.serving(options{})
	units := fleet(60, 11, 0)
	expected := map[string]answers{"1": expect(t, open(t, artifacts.a), units), second: expect(t, open(t, artifacts.b), units)}
	at := 0
	// next sends the next cycle of each unit, every second round in one batch, and checks the numbers.
	next := func() map[string]string {
		t.Helper()
		var batch []turbofan.Reading
		for u := range units {
			batch = append(batch, units[u].Readings[at])
		}
		at++
		var got []turbofan.Prediction
		if at%2 == 0 {
			got = send(t, s, batch...)
		} else {
			for _, r := range batch {
				got = append(got, send(t, s, r)...)
			}
		}
		for _, p := range got {
			a := answers{}
			a.add(p)
			if k := key(p.UnitID, p.Cycle); a[k] != expected[p.ModelVersion][k] {
				t.Fatalf("%s: version %s answered %+v, alone it says %+v", k, p.ModelVersion, a[k], expected[p.ModelVersion][k])
			}
		}
		return byVersion(t, got)
	}
	of := func(by map[string]string) map[string]bool {
		out := map[string]bool{}
		for unit, v := range by {
			if v == second {
				out[unit] = true
			}
		}
		return out
	}
	for range 5 {
		if n := len(of(next())); n != 0 {
			t.Fatalf("%d units met a canary that is none", n)
		}
	}
	if err := w.try(s, turbofan.CanaryAlias, second, "0.3"); err != nil {
		t.Fatal(err)
	}
	first := of(next())
	if n := len(first); n < 8 || n > 30 {
		t.Errorf("%d of 60 units are the canary's, its share is 0.3", n)
	}
	for range 4 {
		if now := of(next()); fmt.Sprint(now) != fmt.Sprint(first) {
			t.Fatalf("the canary's units changed from %v to %v", first, now)
		}
	}
	if v := must[turbofan.Serving](t)(s.Serving(t.Context())); v.ModelVersion != "1" || v.Canary != second || v.CanaryShare != 0.3 {
		t.Errorf("serving %+v", v)
	}
	// Another process agrees, and so does a request that carries its history.
	other := w.serving(options{})
	stateless := must[[]turbofan.Prediction](t)(other.Predict(t.Context(), turbofan.PredictRequest{Stateless: true, Readings: sideBySide(units)[:120]}))
	if now := of(byVersion(t, stateless)); fmt.Sprint(now) != fmt.Sprint(first) {
		t.Errorf("another process gives the canary %v, this one %v", now, first)
	}
	// A larger share keeps the units of the smaller one.
	if err := w.try(s, turbofan.CanaryAlias, second, "0.7"); err != nil {
		t.Fatal(err)
	}
	grown := of(next())
	for unit := range first {
		if !grown[unit] {
			t.Errorf("unit %s left the canary when its share grew", unit)
		}
	}
	if len(grown) <= len(first) {
		t.Errorf("a share of 0.7 has %d units, one of 0.3 had %d", len(grown), len(first))
	}
	w.end(s, turbofan.CanaryAlias)
	if n := len(of(next())); n != 0 {
		t.Fatalf("%d units are the canary's after its end", n)
	}
	// A canary that is promoted answers everybody.
	if err := w.try(s, turbofan.CanaryAlias, second, "0.5"); err != nil {
		t.Fatal(err)
	}
	next()
	w.promote(second)
	if swapped, err := s.Refresh(t.Context()); err != nil || !swapped {
		t.Fatal(swapped, err)
	}
	if n := len(of(next())); n != len(units) {
		t.Errorf("%d of %d units are answered by the new champion", n, len(units))
	}
	if v := must[turbofan.Serving](t)(s.Serving(t.Context())); v.ModelVersion != second || v.Canary != "" || v.Swaps != 1 {
		t.Errorf("serving %+v", v)
	}
}

// A canary that cannot serve leaves its units to the champion, and the reason can be read.
func TestBadCanaryAnswersNobody(t *testing.T) {
	for name, c := range map[string]struct {
		artifact, share, want string
		damage                bool
	}{
		"corrupt":        {artifacts.b, "0.5", "learner.bin is not the file that was saved", true},
		"other channels": {artifacts.other, "0.5", `its schema "pumps"`, false},
		"no share":       {artifacts.b, "", `must be a share above 0 and at most 1, not ""`, false},
		"mad share":      {artifacts.b, "lots", `must be a share above 0 and at most 1, not "lots"`, false},
		"share of NaN":   {artifacts.b, "NaN", `must be a share above 0`, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, artifacts.a)
			s := w.serving(options{})
			bad := w.register(c.artifact)
			if c.damage {
				w.damage("learner.bin", false)
			}
			if err := w.try(s, turbofan.CanaryAlias, bad, c.share); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("refreshed with %v, want %q", err, c.want)
			}
			if v := must[turbofan.Serving](t)(s.Serving(t.Context())); v.ModelVersion != "1" || v.Canary != "" || !strings.Contains(v.TrialFailure, c.want) {
				t.Errorf("serving %+v", v)
			}
			for _, p := range send(t, s, sideBySide(fleet(40, 3, 0))[:40]...) {
				if p.ModelVersion != "1" {
					t.Fatalf("version %s answered", p.ModelVersion)
				}
			}
			w.end(s, turbofan.CanaryAlias)
			if v := must[turbofan.Serving](t)(s.Serving(t.Context())); v.TrialFailure != "" {
				t.Errorf("the failure outlives its cause: %s", v.TrialFailure)
			}
		})
	}
}

// Champion and canary learn a condition that neither knows from all units, whoever answers them: after it both say what
// a process says that starts over the same store.
func TestCanaryLearnsConditions(t *testing.T) {
	w := newWorld(t, artifacts.a)
	second := w.register(artifacts.b)
	s := w.serving(options{})
	if err := w.try(s, turbofan.CanaryAlias, second, "0.5"); err != nil {
		t.Fatal(err)
	}
	units := fleet(24, 5, 1) // a condition that training never saw
	rs := sideBySide(units)
	for at := 0; at < 40*len(units); at += len(units) {
		send(t, s, rs[at:at+len(units)]...)
	}
	fresh := w.serving(options{})
	last := rs[40*len(units) : 41*len(units)]
	a, b := send(t, s, last...), must[[]turbofan.Prediction](t)(fresh.Predict(t.Context(), turbofan.PredictRequest{Readings: renew(last)}))
	for i := range a {
		if a[i].RUL != b[i].RUL || a[i].ModelVersion != b[i].ModelVersion || a[i].Condition != b[i].Condition {
			t.Fatalf("unit %s: %+v, after a restart %+v", a[i].UnitID, a[i], b[i])
		}
		if a[i].Condition < 0 {
			t.Errorf("unit %s: the condition is still not known to version %s", a[i].UnitID, a[i].ModelVersion)
		}
	}
}

func renew(rs []turbofan.Reading) []turbofan.Reading { return append([]turbofan.Reading(nil), rs...) }

// await waits until f holds, looking again whenever the store has been appended to, and a little later: what is counted
// is counted after the append.
func await(t *testing.T, changed <-chan struct{}, what string, f func() bool) {
	t.Helper()
	deadline := time.After(15 * time.Minute)
	for !f() {
		select {
		case <-changed:
		case <-time.After(20 * time.Millisecond):
		case <-deadline:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// signals makes a store that tells of each append of silent answers.
func signals(w *world) (*store, chan struct{}) {
	changed := make(chan struct{}, 1)
	st := &store{PredictionStore: w.state}
	st.append = func(ctx context.Context, rs []turbofan.PredictionRecord) error {
		err := w.state.Append(ctx, rs)
		if rs[0].Prediction.Shadow {
			select {
			case changed <- struct{}{}:
			default:
			}
		}
		return err
	}
	return st, changed
}

// The challenger answers each reading silently, with the numbers it would have given as champion, also for units that
// lived before it came; feedback tells the error of both versions.
func TestChallengerAnswersSilently(t *testing.T) {
	w := newWorld(t, artifacts.a)
	second := w.register(artifacts.b)
	st, changed := signals(w)
	metrics := prometheus.NewRegistry()
	s := w.serving(options{stores: predict.Stores{Predictions: st}, prom: metrics})
	units := fleet(10, 21, 0)
	rs := sideBySide(units)
	before := rs[:5*len(units)]
	send(t, s, before...)
	if err := w.try(s, turbofan.ChallengerAlias, second, ""); err != nil {
		t.Fatal(err)
	}
	const cycles = 30
	for _, r := range rs[5*len(units) : (5+cycles)*len(units)] {
		if p := send(t, s, r)[0]; p.ModelVersion != "1" || p.Shadow {
			t.Fatalf("answered %+v", p)
		}
	}
	await(t, changed, "all readings are answered silently", func() bool {
		return counter(t, metrics, "turbofan_shadow_answers_total") == cycles*float64(len(units))
	})
	for u := range units {
		end := units[u].FailedAtCycle
		must[[]turbofan.OutcomeReceipt](t)(w.state.Record(t.Context(), []turbofan.Outcome{{UnitID: units[u].UnitID, FailedAtCycle: &end}}))
	}
	expected := map[string]answers{"1": expect(t, open(t, artifacts.a), units), second: expect(t, open(t, artifacts.b), units)}
	seen := map[string]int{}
	for _, p := range must[[]turbofan.ScoredPrediction](t)(w.state.Scored(t.Context(), turbofan.PredictionQuery{})) {
		seen[p.ModelVersion]++
		if want := expected[p.ModelVersion][key(p.UnitID, p.Cycle)].RUL; p.RUL != want {
			t.Fatalf("version %s said %g of unit %s at %d, alone it says %g", p.ModelVersion, p.RUL, p.UnitID, p.Cycle, want)
		}
	}
	if seen["1"] != (5+cycles)*len(units) || seen[second] != cycles*len(units) {
		t.Errorf("scored by version: %v", seen)
	}
	// What is asked about a unit tells what was sent, and how it ended.
	status := must[turbofan.UnitStatus](t)(s.Unit(t.Context(), units[0].UnitID))
	if status.FailedAtCycle != units[0].FailedAtCycle {
		t.Errorf("the unit failed at cycle %d, it says %d", units[0].FailedAtCycle, status.FailedAtCycle)
	}
	for _, p := range status.Recent {
		if p.ModelVersion != "1" {
			t.Fatalf("the unit's course shows a silent answer: %+v", p)
		}
	}
	for _, u := range must[[]turbofan.UnitSummary](t)(s.Units(t.Context(), 100, 0)) {
		if u.Last == nil || u.Last.ModelVersion != "1" {
			t.Fatalf("the list shows %+v", u.Last)
		}
	}
	if n := w.stored(); n != (5+cycles)*len(units) {
		t.Errorf("%d readings are stored", n)
	}
}

// A challenger that cannot keep up or cannot be logged costs the champion nothing: what it misses is counted, and it goes
// on with right numbers from what the store has.
func TestChallengerNeverHoldsUpTheChampion(t *testing.T) {
	w := newWorld(t, artifacts.a)
	second := w.register(artifacts.b)
	st, changed := signals(w)
	inner := st.append
	hold, held := make(chan struct{}), make(chan struct{})
	var once sync.Once
	fails := true
	st.append = func(ctx context.Context, rs []turbofan.PredictionRecord) error {
		if rs[0].Prediction.Shadow {
			once.Do(func() { close(held); <-hold })
			if fails {
				fails = false
				return errors.New("disk full")
			}
		}
		return inner(ctx, rs)
	}
	metrics := prometheus.NewRegistry()
	s := w.serving(options{stores: predict.Stores{Predictions: st}, prom: metrics})
	if err := w.try(s, turbofan.ChallengerAlias, second, ""); err != nil {
		t.Fatal(err)
	}
	units := fleet(100, 31, 0)
	rs := sideBySide(units)
	send(t, s, rs[0])
	<-held // the challenger's first answer hangs in the store
	for at := 1; at < 10_000; at += 99 {
		for _, p := range send(t, s, rs[at:at+99]...) {
			if p.ModelVersion != "1" {
				t.Fatalf("version %s answered", p.ModelVersion)
			}
		}
	}
	dropped := must[turbofan.Serving](t)(s.Serving(t.Context())).ChallengerDropped
	if dropped == 0 || counter(t, metrics, "turbofan_shadow_dropped_total") != float64(dropped) {
		t.Errorf("%d readings dropped, the metric says %v", dropped, counter(t, metrics, "turbofan_shadow_dropped_total"))
	}
	close(hold)
	done := func() float64 {
		return counter(t, metrics, "turbofan_shadow_answers_total") + counter(t, metrics, "turbofan_shadow_failures_total") + float64(dropped)
	}
	await(t, changed, "the queue is empty", func() bool { return done() == 10_000 })
	if n := counter(t, metrics, "turbofan_shadow_failures_total"); n != 1 {
		t.Errorf("%v failures counted, want the one answer that the store refused", n)
	}
	// After the gap its numbers are right again.
	send(t, s, rs[10_000:10_100]...)
	await(t, changed, "the last readings are answered", func() bool { return done() == 10_100 })
	expected := expect(t, open(t, artifacts.b), units)
	ends := make([]turbofan.Outcome, len(units))
	for u := range units {
		ends[u] = turbofan.Outcome{UnitID: units[u].UnitID, FailedAtCycle: &units[u].FailedAtCycle}
	}
	must[[]turbofan.OutcomeReceipt](t)(w.state.Record(t.Context(), ends))
	n := 0
	for _, p := range must[[]turbofan.ScoredPrediction](t)(w.state.Scored(t.Context(), turbofan.PredictionQuery{ModelVersion: second})) {
		n++
		if want := expected[key(p.UnitID, p.Cycle)].RUL; p.RUL != want {
			t.Fatalf("unit %s at %d: %g, alone %g", p.UnitID, p.Cycle, p.RUL, want)
		}
	}
	if n != 10_100-dropped-1 {
		t.Errorf("%d silent answers are logged, %d dropped", n, dropped)
	}
}

// A challenger that ends, also with its queue full, leaves nothing running.
func TestChallengerEnds(t *testing.T) {
	w := newWorld(t, artifacts.a)
	second := w.register(artifacts.b)
	s := w.serving(options{})
	rs := sideBySide(fleet(50, 41, 0))
	for round := range 4 {
		if err := w.try(s, turbofan.ChallengerAlias, second, ""); err != nil {
			t.Fatal(err)
		}
		send(t, s, rs[round*500:(round+1)*500]...)
		w.end(s, turbofan.ChallengerAlias)
		if v := must[turbofan.Serving](t)(s.Serving(t.Context())); v.Challenger != "" {
			t.Fatalf("%+v", v)
		}
	}
}
