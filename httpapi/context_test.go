package httpapi_test

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"turbofan"
	"turbofan/httpapi"
)

// TestRequestContext holds the context that a service is given to what context.WithTimeout does.
func TestRequestContext(t *testing.T) {
	const timeout = 30 * time.Second
	for _, c := range []struct {
		name string
		use  func(t *testing.T, ctx context.Context, leave context.CancelFunc) error
		want error // of ctx when the service returns
	}{
		{"not waited for", func(*testing.T, context.Context, context.CancelFunc) error { return nil }, nil},
		{"time over, by the clock", func(_ *testing.T, _ context.Context, _ context.CancelFunc) error {
			<-time.After(timeout)
			return nil
		}, context.DeadlineExceeded},
		{"time over, waited for", func(_ *testing.T, ctx context.Context, _ context.CancelFunc) error {
			<-ctx.Done()
			return nil
		}, context.DeadlineExceeded},
		{"caller left", func(_ *testing.T, ctx context.Context, leave context.CancelFunc) error {
			leave()
			<-ctx.Done()
			return nil
		}, context.Canceled},
		{"caller left before it was waited for", func(_ *testing.T, _ context.Context, leave context.CancelFunc) error {
			leave()
			return nil
		}, context.Canceled},
		{"of a context below it", func(t *testing.T, ctx context.Context, _ context.CancelFunc) error {
			below, stop := context.WithTimeout(ctx, time.Hour)
			defer stop()
			<-below.Done()
			if err := below.Err(); !errors.Is(err, context.DeadlineExceeded) || httpapi.RequestID(below) == "" {
				t.Errorf("below: %v, id %q", err, httpapi.RequestID(below))
			}
			return nil
		}, context.DeadlineExceeded},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				parent, leave := context.WithCancel(context.Background())
				defer leave()
				start := time.Now()
				var kept context.Context
				h := predictionHandler(t, func(cfg *httpapi.Config) { cfg.Timeout = timeout }, httpapi.Options{}, func(ctx context.Context, req turbofan.PredictRequest) ([]turbofan.Prediction, error) {
					if d, ok := ctx.Deadline(); !ok || !d.Equal(start.Add(timeout)) {
						t.Errorf("deadline %v %t", d, ok)
					}
					err := c.use(t, ctx, leave)
					if got := ctx.Err(); !errors.Is(got, c.want) {
						t.Errorf("ended with %v, want %v", got, c.want)
					}
					kept = ctx
					return make([]turbofan.Prediction, len(req.Readings)), err
				})
				r := httptest.NewRequest("POST", "/predict", strings.NewReader(wrapped())).WithContext(parent)
				h.ServeHTTP(httptest.NewRecorder(), r)
				select {
				case <-kept.Done():
				default:
					t.Error("the context lives on after its request")
				}
				if kept.Err() == nil {
					t.Error("the context has no error after its request")
				}
			})
		})
	}
}
