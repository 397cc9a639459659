package retrain_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"turbofan"
)

// awayLeases is a store that fails so many times.
type awayLeases struct {
	turbofan.LeaseStore
	err  error
	left atomic.Int64
}

func (l *awayLeases) Acquire(ctx context.Context, name, holder string, d time.Duration) (bool, error) {
	if l.left.Add(-1) >= 0 {
		return false, l.err
	}
	return l.LeaseStore.Acquire(ctx, name, holder, d)
}

// Whoever is woken by errors in the log is not woken by a life without faults: a store that restarts, a first model, a
// refusal, a conflict, a cancelled job, a promotion and a restart.
func TestLogOfALifeWithoutFaults(t *testing.T) {
	var logged bytes.Buffer
	p := newPlant(t)
	p.log = &logged
	leases := &awayLeases{LeaseStore: p.state, err: turbofan.Errorf(turbofan.EUnavailable, "the store does not answer now")}
	leases.left.Store(1)
	s := p.start(options{leases: leases})
	s.run(turbofan.RetrainRequest{Reason: "first model"})
	s.run(turbofan.RetrainRequest{Trigger: "drift"})
	p.live(fleet("new", 16, 3, newMode), nil)
	s.run(turbofan.RetrainRequest{Trigger: "drift"})
	s.stop()
	hold := make(chan struct{})
	s = p.start(options{hold: hold})
	j := must[turbofan.Job](t)(s.Submit(t.Context(), turbofan.RetrainRequest{Force: true}))
	<-hold
	if _, err := s.Submit(t.Context(), turbofan.RetrainRequest{Force: true}); turbofan.ErrorCode(err) != turbofan.EConflict {
		t.Errorf("a second job beside the first: %v", err)
	}
	must[turbofan.Job](t)(s.Cancel(t.Context(), j.ID))
	s.stop()
	for _, part := range []string{`level=WARN msg="retraining waits for another part"`, `level=INFO msg="retraining refused"`, "promoted=true"} {
		if !strings.Contains(logged.String(), part) {
			t.Errorf("the log lacks %s", part)
		}
	}
	if strings.Contains(logged.String(), "level=ERROR") || t.Failed() {
		t.Errorf("the log of a life without faults:\n%s", logged.String())
	}
}

// A store that refuses and a job that fails are faults, each an error at once.
func TestLogOfFaults(t *testing.T) {
	var logged bytes.Buffer
	p := newPlant(t)
	p.log, p.schema.Name = &logged, ""
	leases := &awayLeases{LeaseStore: p.state, err: errors.New("no such table")}
	leases.left.Store(1)
	s := p.start(options{leases: leases})
	if j := s.run(turbofan.RetrainRequest{}); j.Status != turbofan.JobFailure {
		t.Errorf("a job over a schema without a name: %+v", j)
	}
	s.stop()
	for _, part := range []string{`level=ERROR msg=retraining error="no such table"`, `level=ERROR msg="retraining failed"`} {
		if !strings.Contains(logged.String(), part) {
			t.Errorf("the log lacks %s:\n%s", part, logged.String())
		}
	}
}
