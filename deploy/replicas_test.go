package deploy_test

import (
	"context"
	"testing"
	"time"

	"turbofan"
	"turbofan/httpapi"
)

// TestReplicasShareUnits is what lets predictions scale: a unit whose readings are spread over two replicas, one by one,
// gets the answers of a unit with the same readings that spoke to one replica alone.
func TestReplicasShareUnits(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	data, healthy, _ := fleet(t)
	s := startRoles(ctx, t, data, "registry", "retrain", "predict", "predict")
	s.awaitJob(ctx, t)
	replicas := []turbofan.PredictionService{httpapi.NewPredictionClient(s["predict"].url, nil), httpapi.NewPredictionClient(s["predict2"].url, nil)}
	for _, r := range replicas {
		await(ctx, t, "a model in both replicas", func(ctx context.Context) error {
			_, err := r.Serving(ctx)
			return err
		})
	}
	alone, spread := named("alone-", healthy[:1])[0], named("spread-", healthy[:1])[0]
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
	}
}
