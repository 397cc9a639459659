package httpapi_test

import (
	"context"
	"errors"
	"math"
	"net"
	"net/http"
	"reflect"
	"testing"
	"time"

	"turbofan"
	"turbofan/httpapi"
)

// serve answers with h on a real loopback listener until the test ends, and returns its URL.
func serve(t testing.TB, h http.Handler, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- httpapi.Serve(ctx, l, h, httpapi.ServeOptions{}) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return "http://" + l.Addr().String()
}

// both runs a suite over the service itself and over the same kind of service behind a handler and a client.
func both[S any](t *testing.T, memory func() S, remote func(t *testing.T, s S) S, suite func(t *testing.T, s S)) {
	t.Run("in process", func(t *testing.T) { suite(t, memory()) })
	t.Run("remote", func(t *testing.T) { suite(t, remote(t, memory())) })
}

// same compares deeply; NaN equals NaN, times are compared as moments, and an empty list equals a nil one.
func same(a, b reflect.Value) bool {
	if at, ok := a.Interface().(time.Time); ok {
		return at.Equal(b.Interface().(time.Time))
	}
	switch a.Kind() {
	case reflect.Float64:
		return a.Float() == b.Float() || math.IsNaN(a.Float()) && math.IsNaN(b.Float())
	case reflect.Pointer:
		if a.IsNil() || b.IsNil() {
			return a.IsNil() == b.IsNil()
		}
		return same(a.Elem(), b.Elem())
	case reflect.Slice:
		if a.Len() != b.Len() {
			return false
		}
		for i := range a.Len() {
			if !same(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return true
	case reflect.Map:
		if a.Len() != b.Len() {
			return false
		}
		for _, k := range a.MapKeys() {
			if !b.MapIndex(k).IsValid() || !same(a.MapIndex(k), b.MapIndex(k)) {
				return false
			}
		}
		return true
	case reflect.Struct:
		for i := range a.NumField() {
			if !same(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	}
	return a.Interface() == b.Interface()
}

func wantSame(t *testing.T, what string, got, want any) {
	t.Helper()
	if !same(reflect.ValueOf(got), reflect.ValueOf(want)) {
		t.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

// wantError holds err to code, field and message.
func wantError(t *testing.T, err error, code, field, message string) {
	t.Helper()
	e, ok := errors.AsType[*turbofan.Error](err)
	if !ok {
		t.Errorf("error is %v, want one of code %s", err, code)
		return
	}
	if e.Code != code || e.Field != field || e.Message != message {
		t.Errorf("error is {%s %s %q}, want {%s %s %q}", e.Code, e.Field, e.Message, code, field, message)
	}
}

func ok[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func reading(unit string, cycle int) turbofan.Reading {
	r := turbofan.Reading{UnitID: unit, Cycle: cycle, Settings: []float64{-0.0007, 0.0003, 100}, Sensors: make([]float64, 21)}
	for i := range r.Sensors {
		r.Sensors[i] = 500 + 1/float64(i+cycle)
	}
	return r
}

func TestPredictionConformance(t *testing.T) {
	remote := func(t *testing.T, s turbofan.PredictionService) turbofan.PredictionService {
		h, err := httpapi.PredictionHandler(httpapi.DefaultConfig(), s, httpapi.Options{})
		c := httpapi.NewPredictionClient(serve(t, h, err), nil)
		t.Cleanup(c.Close)
		return c
	}
	both(t, func() turbofan.PredictionService { return newMemoryPredictions() }, remote, func(t *testing.T, s turbofan.PredictionService) {
		ctx := context.Background()
		reference := newMemoryPredictions()
		ask := func(what string, req turbofan.PredictRequest) {
			t.Helper()
			got, err := s.Predict(ctx, req)
			want, wantErr := reference.Predict(ctx, req)
			if wantErr != nil {
				e := wantErr.(*turbofan.Error)
				wantError(t, err, e.Code, e.Field, e.Message)
				return
			}
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			wantSame(t, what, got, want)
		}
		gaps := reading("a/b c?d%", 5)
		gaps.Sensors[3], gaps.Sensors[20] = math.NaN(), math.NaN()
		late, inf, short, anonymous := reading("1", 1), reading("1", 9), reading("1", 9), reading("", 9)
		inf.Settings[1] = math.Inf(1)
		short.Sensors = short.Sensors[:20]
		ask("one", turbofan.PredictRequest{Readings: []turbofan.Reading{reading("1", 1)}})
		ask("explained", turbofan.PredictRequest{Readings: []turbofan.Reading{reading("1", 2)}, Explain: true})
		ask("several units", turbofan.PredictRequest{Readings: []turbofan.Reading{reading("2", 1), reading("1", 3), reading("2", 2)}})
		ask("missing values", turbofan.PredictRequest{Readings: []turbofan.Reading{gaps}})
		ask("stateless", turbofan.PredictRequest{Readings: []turbofan.Reading{reading("new", 1), reading("new", 2)}, Stateless: true})
		ask("conflict", turbofan.PredictRequest{Readings: []turbofan.Reading{late}})
		ask("none", turbofan.PredictRequest{})
		ask("too short", turbofan.PredictRequest{Readings: []turbofan.Reading{reading("1", 8), short}})
		ask("no unit", turbofan.PredictRequest{Readings: []turbofan.Reading{anonymous}})
		ask("bad cycle", turbofan.PredictRequest{Readings: []turbofan.Reading{reading("1", 0)}})
		ask("infinite", turbofan.PredictRequest{Readings: []turbofan.Reading{inf}})

		wantSame(t, "units", ok[[]turbofan.UnitSummary](t)(s.Units(ctx, 2, 1)), ok[[]turbofan.UnitSummary](t)(reference.Units(ctx, 2, 1)))
		wantSame(t, "no units", ok[[]turbofan.UnitSummary](t)(s.Units(ctx, 2, 100)), []turbofan.UnitSummary(nil))
		_, err := s.Units(ctx, 0, 0)
		wantError(t, err, turbofan.EInvalid, "limit", `must be a whole number from 1 to 10000, not "0"`)
		for _, id := range []string{"1", "a/b c?d%"} {
			wantSame(t, "unit "+id, ok[turbofan.UnitStatus](t)(s.Unit(ctx, id)), ok[turbofan.UnitStatus](t)(reference.Unit(ctx, id)))
		}
		for _, id := range []string{"new", "..", "x/y", "?"} {
			_, err = s.Unit(ctx, id)
			_, want := reference.Unit(ctx, id)
			wantError(t, err, turbofan.ENotFound, "", want.(*turbofan.Error).Message)
		}
		if _, err = s.Unit(ctx, ""); turbofan.ErrorCode(err) != turbofan.ENotFound {
			t.Errorf("unit without a name: %v", err)
		}
		wantSame(t, "prediction", ok[turbofan.Prediction](t)(s.Prediction(ctx, "p-a/b c?d%-5")), ok[turbofan.Prediction](t)(reference.Prediction(ctx, "p-a/b c?d%-5")))
		_, err = s.Prediction(ctx, "p-0")
		wantError(t, err, turbofan.ENotFound, "", `there is no prediction "p-0"`)
		wantSame(t, "serving", ok[turbofan.Serving](t)(s.Serving(ctx)), ok[turbofan.Serving](t)(reference.Serving(ctx)))

		cancelled, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := s.Predict(cancelled, turbofan.PredictRequest{Readings: []turbofan.Reading{reading("1", 99)}}); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
}

func TestFeedbackConformance(t *testing.T) {
	remote := func(t *testing.T, s turbofan.FeedbackService) turbofan.FeedbackService {
		h, err := httpapi.FeedbackHandler(httpapi.DefaultConfig(), s, httpapi.Options{})
		c := httpapi.NewFeedbackClient(serve(t, h, err), nil)
		t.Cleanup(c.Close)
		return c
	}
	both(t, func() turbofan.FeedbackService { return new(memoryFeedback) }, remote, func(t *testing.T, s turbofan.FeedbackService) {
		ctx := context.Background()
		first := turbofan.Outcome{Key: "k", UnitID: "1", FailedAtCycle: new(192), Event: "failure", Note: "fan\nblade", At: memoryStart}
		second := turbofan.Outcome{PredictionID: "p-1-31", ActualRUL: new(0.5), At: memoryStart.Add(time.Second)}
		third := turbofan.Outcome{UnitID: "3", Cycle: 4, ActualRUL: new(0.0), At: memoryStart.Add(time.Minute)}
		got := ok[[]turbofan.OutcomeReceipt](t)(s.Record(ctx, []turbofan.Outcome{first, second}))
		wantSame(t, "receipts", got, []turbofan.OutcomeReceipt{{FeedbackID: "f-1", UnitID: "1", Predictions: 3}, {FeedbackID: "f-2", Predictions: 3}})
		got = ok[[]turbofan.OutcomeReceipt](t)(s.Record(ctx, []turbofan.Outcome{first, third}))
		wantSame(t, "again", got, []turbofan.OutcomeReceipt{{FeedbackID: "f-2", UnitID: "1", Duplicate: true, Predictions: 3}, {FeedbackID: "f-3", UnitID: "3", Predictions: 3}})

		list := func(q turbofan.OutcomeQuery, want ...turbofan.Outcome) {
			t.Helper()
			wantSame(t, "outcomes", ok[[]turbofan.Outcome](t)(s.Outcomes(ctx, q)), want)
		}
		list(turbofan.OutcomeQuery{}, first, second, third)
		list(turbofan.OutcomeQuery{Limit: 1}, first)
		list(turbofan.OutcomeQuery{UnitID: "3"}, third)
		list(turbofan.OutcomeQuery{UnitID: "nobody"})
		list(turbofan.OutcomeQuery{Since: second.At, Until: third.At}, second)

		_, err := s.Record(ctx, nil)
		wantError(t, err, turbofan.EInvalid, "outcomes", "must hold at least one outcome")
		_, err = s.Record(ctx, []turbofan.Outcome{first, {Note: "?"}})
		wantError(t, err, turbofan.EInvalid, "outcomes[1].unit_id", "is missing")
		_, err = s.Record(ctx, []turbofan.Outcome{{UnitID: "1", ActualRUL: new(-1.0)}})
		wantError(t, err, turbofan.EInvalid, "outcomes[0].actual_rul", "must be at least 0, not -1")
		list(turbofan.OutcomeQuery{}, first, second, third)

		want := ok[[]turbofan.Performance](t)(new(memoryFeedback).Performance(ctx, 50))
		wantSame(t, "performance", ok[[]turbofan.Performance](t)(s.Performance(ctx, 50)), want)
	})
}

func TestDriftConformance(t *testing.T) {
	remote := func(t *testing.T, s turbofan.DriftService) turbofan.DriftService {
		h, err := httpapi.DriftHandler(httpapi.DefaultConfig(), s, httpapi.Options{})
		c := httpapi.NewDriftClient(serve(t, h, err), nil)
		t.Cleanup(c.Close)
		return c
	}
	both(t, func() turbofan.DriftService { return new(memoryDrift) }, remote, func(t *testing.T, s turbofan.DriftService) {
		ctx := context.Background()
		reference := new(memoryDrift)
		wantSame(t, "no reports", ok[[]turbofan.DriftReport](t)(s.Reports(ctx, 5)), []turbofan.DriftReport(nil))
		for range 3 {
			wantSame(t, "check", ok[turbofan.DriftReport](t)(s.Check(ctx)), ok[turbofan.DriftReport](t)(reference.Check(ctx)))
		}
		wantSame(t, "reports", ok[[]turbofan.DriftReport](t)(s.Reports(ctx, 2)), ok[[]turbofan.DriftReport](t)(reference.Reports(ctx, 2)))
	})
}

func TestRetrainingConformance(t *testing.T) {
	// end reaches past the wire: jobs end by themselves, not by a call of their service.
	var end func(turbofan.JobStatus, string)
	memory := func() turbofan.RetrainingService {
		m := new(memoryRetraining)
		end = m.end
		return m
	}
	remote := func(t *testing.T, s turbofan.RetrainingService) turbofan.RetrainingService {
		h, err := httpapi.RetrainingHandler(httpapi.DefaultConfig(), s, httpapi.Options{})
		c := httpapi.NewRetrainingClient(serve(t, h, err), nil)
		t.Cleanup(c.Close)
		return c
	}
	both(t, memory, remote, func(t *testing.T, s turbofan.RetrainingService) {
		ctx := context.Background()
		reference := new(memoryRetraining)
		req := turbofan.RetrainRequest{Reason: "psi(sensor_11)=0.31 > 0.20", Trigger: "drift"}
		submit := func() turbofan.Job {
			t.Helper()
			job := ok[turbofan.Job](t)(s.Submit(ctx, req))
			wantSame(t, "submit", job, ok[turbofan.Job](t)(reference.Submit(ctx, req)))
			return job
		}
		job := submit()
		_, err := s.Submit(ctx, req)
		wantError(t, err, turbofan.EConflict, "", "job j-1 is active")
		end(turbofan.JobSuccess, "")
		reference.end(turbofan.JobSuccess, "")
		wantSame(t, "job", ok[turbofan.Job](t)(s.Job(ctx, job.ID)), ok[turbofan.Job](t)(reference.Job(ctx, job.ID)))
		_, err = s.Cancel(ctx, job.ID)
		wantError(t, err, turbofan.EConflict, "", "job j-1 has ended: success")
		_, err = s.Submit(ctx, turbofan.RetrainRequest{Reason: "nothing to learn from", Trigger: "manual"})
		wantError(t, err, turbofan.EInsufficient, "", "3 units have a known end; 10 are needed")
		job = submit()
		wantSame(t, "cancel", ok[turbofan.Job](t)(s.Cancel(ctx, job.ID)), ok[turbofan.Job](t)(reference.Cancel(ctx, job.ID)))
		wantSame(t, "jobs", ok[[]turbofan.Job](t)(s.Jobs(ctx, 10)), ok[[]turbofan.Job](t)(reference.Jobs(ctx, 10)))
		_, err = s.Job(ctx, "j-9")
		wantError(t, err, turbofan.ENotFound, "", `there is no job "j-9"`)
		_, err = s.Cancel(ctx, "j-9")
		wantError(t, err, turbofan.ENotFound, "", `there is no job "j-9"`)
	})
}
