package deploy_test

import (
	"context"
	"slices"
	"sync"
	"testing"

	"turbofan"
	"turbofan/httpapi"
	"turbofan/internal/postgrestest"
)

// TestReplicasShareUnits is what lets predictions scale: a unit whose readings are spread over two replicas, one by one,
// gets the answers of a unit with the same readings that spoke to one replica alone. They share a file on one machine,
// or a PostgreSQL server and nothing else.
func TestReplicasShareUnits(t *testing.T) {
	data, healthy, other := fleet(t)
	t.Run("SQLite", func(t *testing.T) { testReplicas(t, data, "", healthy[0], named("other-", other)[0]) })
	t.Run("PostgreSQL", func(t *testing.T) {
		dsn := postgrestest.Start(t).DSN("public")
		testReplicas(t, data, dsn, healthy[0], named("other-", other)[0])
	})
}

func testReplicas(t *testing.T, data, dsn string, units ...turbofan.History) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	s := startRoles(ctx, t, setup{data: data, dsn: dsn}, "registry", "retrain", "predict", "predict", "feedback")
	s.awaitJob(ctx, t)
	replicas := []turbofan.PredictionService{httpapi.NewPredictionClient(s["predict"].url, nil), httpapi.NewPredictionClient(s["predict2"].url, nil)}
	for _, r := range replicas {
		await(ctx, t, "a model in both replicas", func(ctx context.Context) error {
			_, err := r.Serving(ctx)
			return err
		})
	}
	for _, u := range units {
		alone, spread := named("alone-", []turbofan.History{u})[0], named("spread-", []turbofan.History{u})[0]
		for i := range alone.Readings[:80] {
			want, err := replicas[0].Predict(ctx, turbofan.PredictRequest{Readings: alone.Readings[i : i+1]})
			if err != nil {
				t.Fatal(err)
			}
			got, err := replicas[i%2].Predict(ctx, turbofan.PredictRequest{Readings: spread.Readings[i : i+1]})
			if err != nil {
				t.Fatalf("cycle %d to replica %d: %v", i+1, i%2, err)
			}
			if got[0].RUL != want[0].RUL || got[0].Lower != want[0].Lower || got[0].Upper != want[0].Upper {
				t.Fatalf("cycle %d to replica %d: %v (%v to %v), alone %v (%v to %v)", i+1, i%2, got[0].RUL, got[0].Lower, got[0].Upper,
					want[0].RUL, want[0].Lower, want[0].Upper)
			}
			again, err := replicas[(i+1)%2].Predict(ctx, turbofan.PredictRequest{Readings: spread.Readings[i : i+1]})
			if err != nil || again[0].ID != got[0].ID {
				t.Fatalf("cycle %d once more, to the other replica: %v, %v; it was answered %v", i+1, again, err, got)
			}
		}
		for from := 80; from < 110; from += 5 { // a proxy that waited too long for the one asks the other
			var ids [2][]string
			var both sync.WaitGroup
			for r := range replicas {
				both.Go(func() {
					answers, err := replicas[r].Predict(ctx, turbofan.PredictRequest{Readings: spread.Readings[from : from+5]})
					if err != nil {
						t.Errorf("cycles from %d to replica %d: %v", from+1, r, err)
					}
					for _, a := range answers {
						ids[r] = append(ids[r], a.ID)
					}
				})
			}
			both.Wait()
			if !slices.Equal(ids[0], ids[1]) {
				t.Errorf("cycles from %d at once: %v from one replica, %v from the other", from+1, ids[0], ids[1])
			}
		}
		o := turbofan.Outcome{UnitID: spread.UnitID, FailedAtCycle: &spread.FailedAtCycle}
		receipts, err := httpapi.NewFeedbackClient(s["feedback"].url, nil).Record(ctx, []turbofan.Outcome{o})
		if err != nil || receipts[0].Predictions != 110 {
			t.Errorf("an outcome meets %+v of 110 predictions, %v", receipts, err)
		}
	}
}
