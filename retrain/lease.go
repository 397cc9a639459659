package retrain

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"turbofan"
)

// leaseName is what the processes that share a store take turns at.
const leaseName = "retrain"

// errLostTurn is why a job stops here without a word: its lease ran out, and another process works on it.
var errLostTurn = errors.New("the lease was lost")

// turn does what is due, where no other process is at it.
func (s *Service) turn(ctx context.Context) error {
	if s.stores.Leases != nil {
		got, err := s.stores.Leases.Acquire(ctx, leaseName, s.id, s.cfg.Lease)
		if err != nil || !got {
			return err
		}
		defer func() {
			if err := s.stores.Leases.Release(context.WithoutCancel(ctx), leaseName, s.id); err != nil {
				s.log.Warn("retraining lease stays until it ends", "error", err)
			}
		}()
	}
	var errs []error
	for _, step := range []func(context.Context) error{s.watch, s.schedule, s.work} {
		errs = append(errs, step(ctx))
	}
	return errors.Join(errs...)
}

// mine makes sure that this process still has the lease, and has it for as long again: a process that slept through its
// turn, such as one on a machine that was suspended, learns of it before it changes what others see. The error is
// errLostTurn where another process has it.
func (s *Service) mine(ctx context.Context) error {
	if s.stores.Leases == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Lease)
	defer cancel()
	got, err := s.stores.Leases.Acquire(ctx, leaseName, s.id, s.cfg.Lease)
	if err == nil && !got {
		return errLostTurn
	}
	return err
}

// sweep removes what a process that died left of a job in the working directory, which trainers may share.
func (s *Service) sweep(key string) error {
	left, err := filepath.Glob(filepath.Join(s.cfg.WorkDir, key+"-*"))
	for _, dir := range left {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return err
}

// hold keeps the lease while a job runs, until the function it returns is called, and stops the job where the lease is
// lost or another process cancelled the job.
func (s *Service) hold(ctx context.Context, id string, stop context.CancelCauseFunc) (release func()) {
	if s.stores.Leases == nil {
		return func() {}
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(s.cfg.Lease / 6)
		defer tick.Stop()
		heard := time.Now()
		for {
			select {
			case <-quit:
				return
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			var ended bool
			if heard, ended = s.renew(ctx, id, heard, stop); ended {
				return
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}

// renew extends the lease and looks whether the job is still active. heard is when the store last confirmed the lease: a
// store that does not answer is waited for until that lease ends, no longer. It returns when the store confirmed the
// lease, and whether the job was stopped.
func (s *Service) renew(ctx context.Context, id string, heard time.Time, stop context.CancelCauseFunc) (time.Time, bool) {
	ctx, cancel := context.WithDeadline(ctx, heard.Add(s.cfg.Lease))
	defer cancel()
	asked := time.Now()
	got, err := s.stores.Leases.Acquire(ctx, leaseName, s.id, s.cfg.Lease)
	switch {
	case err == nil && got:
		heard = asked
	case err == nil || time.Since(heard) >= s.cfg.Lease:
		stop(errLostTurn)
		return heard, true
	}
	if j, err := s.stores.Jobs.Job(ctx, id); err == nil && !j.Status.Active() {
		stop(context.Canceled)
		return heard, true
	}
	return heard, false
}

// cancelled reports whether a job was cancelled by another process, whose word stands.
func (s *Service) cancelled(ctx context.Context, j *turbofan.Job) bool {
	stored, err := s.stores.Jobs.Job(ctx, j.ID)
	return err == nil && stored.Status == turbofan.JobCancelled
}
