package predict_test

import (
	"slices"
	"testing"

	"turbofan"
	"turbofan/predict"
)

// A reading of a unit after its stated failure is answered, with a warning; what would begin a life anew under the old id
// is refused with the way out.
func TestReadingAfterFailure(t *testing.T) {
	for name, shared := range map[string]bool{"one process": false, "shared store": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, artifacts.a)
			change := options{change: func(c *predict.Config) { c.Shared = shared }}
			s := w.serving(change)
			u := fleet(1, 7, 0)[0]
			failedAt := func(s *predict.Service, want string, r turbofan.Reading) {
				t.Helper()
				p := send(t, s, r)[0]
				if (want != "") != (len(p.Warnings) > 0) || want != "" && !slices.Contains(p.Warnings, want) {
					t.Errorf("cycle %d has the warnings %q, want %q", r.Cycle, p.Warnings, want)
				}
			}
			for _, r := range u.Readings[:5] {
				failedAt(s, "", r)
			}
			if err := w.state.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			at := 6
			must[[]turbofan.OutcomeReceipt](t)(w.state.Record(t.Context(), []turbofan.Outcome{{UnitID: "u1", Event: "maintenance"}, {UnitID: "u1", FailedAtCycle: &at}}))
			if !shared {
				s.Ended("u1")
				s.Ended("nobody")
			}
			failedAt(s, "", u.Readings[5]) // the last of its life, late
			failedAt(s, "unit u1 was reported failed at cycle 6; this reading is of cycle 7", u.Readings[6])
			failedAt(s, "unit u1 was reported failed at cycle 6; this reading is of cycle 7", u.Readings[6]) // repeated
			if err := w.state.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			again := w.serving(change) // restarted: the store tells
			failedAt(again, "unit u1 was reported failed at cycle 6; this reading is of cycle 8", u.Readings[7])
			overhauled := u.Readings[0]
			overhauled.Sensors = u.Readings[1].Sensors
			_, err := again.Predict(t.Context(), turbofan.PredictRequest{Readings: []turbofan.Reading{overhauled}})
			const want = "reading.cycle: cycle 1 of unit u1 comes after cycle 8 was answered, and the unit was reported failed at cycle 6: a new life needs a unit_id of its own, such as u1.2"
			if turbofan.ErrorCode(err) != turbofan.EConflict || err.Error() != want {
				t.Errorf("a new life under the old id: %v", err)
			}
			next := u.Readings[0]
			next.UnitID = "u1.2"
			failedAt(again, "", next)
			must[[]turbofan.OutcomeReceipt](t)(w.state.Record(t.Context(), []turbofan.Outcome{{UnitID: "u1", FailedAtCycle: &at, Event: turbofan.EventWithdrawn}}))
			must[bool](t)(again.Refresh(t.Context())) // the feedback role of another process stored it
			failedAt(again, "", u.Readings[8])
		})
	}
}
