package predict_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"testing"

	"turbofan"
	"turbofan/internal/postgrestest"
	"turbofan/predict"
	"turbofan/sqlstore"
)

// A client that lost the answer to a list sends the list again, whoever answers it, and whatever came between.
func TestListSentAgain(t *testing.T) {
	units := fleet(3, 7, 0)
	units[1].Readings[3].Sensors[1] = math.NaN()
	list := sideBySide(units)[:3*12]
	more := sideBySide(units)[:3*15] // the list, and three readings more of each
	for name, shared := range map[string]bool{"alone": false, "shared": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, artifacts.a)
			o := options{change: func(c *predict.Config) { c.Shared = shared }}
			s := w.serving(o)
			ask := func(s *predict.Service, list []turbofan.Reading) []turbofan.Prediction {
				t.Helper()
				return must[[]turbofan.Prediction](t)(s.Predict(t.Context(), turbofan.PredictRequest{Readings: list, Explain: true}))
			}
			first := ask(s, list)
			again := func(name string, s *predict.Service, list []turbofan.Reading) []turbofan.Prediction {
				t.Helper()
				got := ask(s, list)
				if !reflect.DeepEqual(got[:len(first)], first) {
					t.Fatalf("%s: answered\n%+v\nbefore\n%+v", name, got[:len(first)], first)
				}
				return got
			}
			again("at once", s, list)
			again("by another process", w.serving(o), list)
			longer := again("with readings that are new", s, more)
			again("twice in a request", s, append(append([]turbofan.Reading(nil), list...), list...))
			w.promote(w.register(artifacts.b))
			must[bool](t)(s.Refresh(t.Context()))
			again("after a swap", s, list)
			if n := w.stored(); n != len(more) {
				t.Errorf("%d readings are stored, want %d", n, len(more))
			}
			want := expect(t, open(t, artifacts.a), units)
			for _, p := range longer {
				got := answers{}
				if got.add(p); got[key(p.UnitID, p.Cycle)] != want[key(p.UnitID, p.Cycle)] {
					t.Fatalf("unit %s cycle %d was answered %+v, want %+v", p.UnitID, p.Cycle, p, want[key(p.UnitID, p.Cycle)])
				}
				logged := must[turbofan.Prediction](t)(s.Prediction(t.Context(), p.ID))
				if logged.Cycle != p.Cycle || logged.UnitID != p.UnitID {
					t.Fatalf("prediction %s is %+v", p.ID, logged)
				}
			}
		})
	}
}

// A list that was answered in part before, of which one reading says something else now, is refused whole.
func TestListSentAgainChanged(t *testing.T) {
	w := newWorld(t, artifacts.a)
	s := w.serving(options{})
	u := fleet(1, 7, 0)[0].Readings
	send(t, s, u[:8]...)
	list := append([]turbofan.Reading(nil), u[:10]...)
	list[4].Settings = []float64{0, 1, 100}
	_, err := s.Predict(t.Context(), turbofan.PredictRequest{Readings: list})
	const want = "readings[4].settings[1]: cycle 5 of unit u1 was already sent with 0 for setting_2, not 1"
	if turbofan.ErrorCode(err) != turbofan.EConflict || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if n := w.stored(); n != 8 {
		t.Errorf("%d readings are stored, want 8", n)
	}
	send(t, s, u[:10]...)
}

// While the log cannot be read the answers of before are not known, and nothing is answered in their place.
func TestListSentAgainWhileTheStoreIsAway(t *testing.T) {
	w := newWorld(t, artifacts.a)
	st := &store{PredictionStore: w.state}
	s := w.serving(options{stores: predict.Stores{Predictions: st}})
	u := fleet(1, 7, 0)[0].Readings
	first := send(t, s, u[:8]...)
	down := turbofan.Errorf(turbofan.EUnavailable, "the store does not answer now")
	st.answered = func(context.Context, []turbofan.Reading) ([]turbofan.PredictionRecord, error) { return nil, down }
	if ps, err := s.Predict(t.Context(), turbofan.PredictRequest{Readings: u[:8]}); !errors.Is(err, down) {
		t.Errorf("%v, %v", ps, err)
	}
	send(t, s, u[8]) // what needs no log goes on
	st.answered = nil
	if again := send(t, s, u[:8]...); !reflect.DeepEqual(again, first) {
		t.Errorf("answered %+v, before %+v", again, first)
	}
}

// Two replicas that get the same readings at once, as when a proxy tries another one, answer them once: what each says is
// in the log, and can be told the truth by its id.
func TestReplicasAnswerOnce(t *testing.T) {
	u := fleet(2, 7, 0)
	list := sideBySide(u)[:2*6]
	for name, c := range map[string]struct {
		other []turbofan.Reading // what the other replica gets between the first one's answers and their commit
		want  string
	}{
		"the same list":      {list, ""},
		"a part of the list": {list[:5], ""},
		"one of its units":   {u[1].Readings[:6], ""},
		"other values":       {changedAt(list, 3), "readings[3].sensors[1]: cycle 2 of unit u2 was already sent with 55 for sensor_2, not " + fmt.Sprint(list[3].Sensors[1])},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, artifacts.a)
			shared := func(c *predict.Config) { c.Shared = true }
			st := &store{PredictionStore: w.state}
			one, other := w.serving(options{change: shared, stores: predict.Stores{Predictions: st}}), w.serving(options{change: shared})
			var theirs []turbofan.Prediction
			st.append = func(ctx context.Context, r []turbofan.PredictionRecord) error {
				st.append = nil
				theirs = send(t, other, c.other...)
				return w.state.Append(ctx, r)
			}
			ours, err := one.Predict(t.Context(), turbofan.PredictRequest{Readings: list})
			if c.want != "" {
				if turbofan.ErrorCode(err) != turbofan.EConflict || err.Error() != c.want {
					t.Fatalf("%v, want %s", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			ids := map[string]string{}
			for _, p := range append(theirs, ours...) {
				if k := key(p.UnitID, p.Cycle); ids[k] == "" {
					ids[k] = p.ID
				} else if ids[k] != p.ID {
					t.Errorf("%s is prediction %s and %s", k, ids[k], p.ID)
				}
			}
			for _, p := range ours {
				rul := 100.0
				must[[]turbofan.OutcomeReceipt](t)(w.state.Record(t.Context(), []turbofan.Outcome{{PredictionID: p.ID, ActualRUL: &rul}}))
			}
			want := expect(t, open(t, artifacts.a), u)
			next := answers{}
			next.add(ours...)
			next.add(send(t, one, u[0].Readings[6], u[1].Readings[6])...)
			for k := range next {
				if next[k] != want[k] {
					t.Errorf("%s: answered %+v, want %+v", k, next[k], want[k])
				}
			}
		})
	}
}

// changedAt returns the list up to its reading i, which has another value.
func changedAt(list []turbofan.Reading, i int) []turbofan.Reading {
	out := append([]turbofan.Reading(nil), list[:i+1]...)
	out[i].Sensors = []float64{5, 55, 9}
	return out
}

// What an answer costs that a shared store must keep before it leaves.
func BenchmarkShared(b *testing.B) {
	w := newWorld(b, artifacts.a)
	state := must[*sqlstore.State](b)(sqlstore.OpenState(b.Context(), sqlstore.Config{DSN: postgrestest.Start(b).Schema(b)}))
	defer state.Close()
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprint("units=", n), func(b *testing.B) {
			s := w.serving(options{change: func(c *predict.Config) { c.Shared = true }, stores: predict.Stores{Predictions: state, Readings: state, Outcomes: state}})
			list := make([]turbofan.Reading, n)
			for i := range list {
				list[i] = fleet(1, 7, 0)[0].Readings[0]
				list[i].UnitID, list[i].Cycle = fmt.Sprint(b.Name(), b.N, i), 0
			}
			for b.Loop() {
				for i := range list {
					list[i].Cycle++
				}
				send(b, s, list...)
			}
		})
	}
}

// What a list costs that is sent again, beside the first time.
func BenchmarkListSentAgain(b *testing.B) {
	for _, n := range []int{1, 10, 1000} {
		b.Run(fmt.Sprint("readings=", n), func(b *testing.B) {
			s := newWorld(b, artifacts.a).serving(options{})
			u := fleet(1, 7, 0)[0].Readings[0]
			list := make([]turbofan.Reading, n+1)
			for i := range list {
				list[i] = u
				list[i].Cycle = i + 1
			}
			send(b, s, list...)
			for b.Loop() {
				send(b, s, list[:n]...)
			}
		})
	}
}
