package retrain_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"turbofan"
	"turbofan/retrain"
)

// brief is a lease that a test can wait for, and that a busy machine renews in time.
func brief(c *retrain.Config) { c.Lease = 3 * time.Second }

// Two processes over one store: one works on the job, and what the other is told of it counts.
func TestOneProcessWorks(t *testing.T) {
	p := newPlant(t)
	hold := make(chan struct{})
	a := p.start(options{hold: hold, change: brief})
	j := must[turbofan.Job](t)(a.Submit(t.Context(), turbofan.RetrainRequest{}))
	<-hold
	b := p.start(options{change: brief})
	other := must[[]turbofan.Job](t)(b.Jobs(t.Context(), 1))
	if len(other) != 1 || other[0].ID != j.ID || other[0].Status != turbofan.JobInProgress {
		t.Fatalf("the other process sees %+v", other)
	}
	if _, err := b.Cancel(t.Context(), j.ID); err != nil {
		t.Fatal(err)
	}
	next := must[turbofan.Job](t)(b.Submit(t.Context(), turbofan.RetrainRequest{}))
	for !ended(next) { // whichever process takes it, the first has let go
		var u turbofan.Job
		select {
		case u = <-a.jobs.updated:
		case u = <-b.jobs.updated:
		case <-time.After(5 * time.Minute):
			t.Fatal("the next job does not end in five minutes")
		}
		if u.ID == next.ID {
			next = u
		}
	}
	if next.Status != turbofan.JobSuccess || next.Result.ModelVersion != "1" {
		t.Errorf("the next job %+v", next)
	}
	if j = must[turbofan.Job](t)(a.Job(t.Context(), j.ID)); j.Status != turbofan.JobCancelled {
		t.Errorf("the cancelled job is %+v", j)
	}
}

// deaf is a lease store that a process no longer reaches.
type deaf struct {
	turbofan.LeaseStore
	cut chan struct{}
}

func (d deaf) Acquire(ctx context.Context, name, holder string, ttl time.Duration) (bool, error) {
	select {
	case <-d.cut:
		return false, errors.New("no route to host")
	default:
		return d.LeaseStore.Acquire(ctx, name, holder, ttl)
	}
}

func (d deaf) Release(ctx context.Context, name, holder string) error {
	select {
	case <-d.cut:
		return errors.New("no route to host")
	default:
		return d.LeaseStore.Release(ctx, name, holder)
	}
}

// A process that is cut off from the store stops; another takes the job over and brings it to its end.
func TestTakeover(t *testing.T) {
	p := newPlant(t)
	hold, cut, letGo := make(chan struct{}), make(chan struct{}), make(chan struct{})
	a := p.start(options{hold: hold, letGo: letGo, leases: deaf{p.state, cut}, change: brief})
	j := must[turbofan.Job](t)(a.Submit(t.Context(), turbofan.RetrainRequest{}))
	<-hold
	close(cut)
	b := p.start(options{change: brief})
	end := b.until(ended)
	if end.ID != j.ID || end.Status != turbofan.JobSuccess || p.serving().Version != "1" {
		t.Errorf("after the takeover the job is %+v", end)
	}
	select {
	case <-letGo:
	case <-time.After(time.Minute):
		t.Error("the process that was cut off goes on")
	}
	a.stop()
	if n := len(must[[]turbofan.ModelVersion](t)(p.reg.Versions(t.Context(), "rul"))); n != 1 {
		t.Errorf("%d versions: both processes trained", n)
	}
}
