package predict_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"testing"

	"turbofan"
	"turbofan/predict"
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
