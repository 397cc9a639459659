package drift

import (
	"context"
	"log/slog"
	"time"

	"turbofan"
)

// failurePause is how long a check by rows waits after one that failed: the same rows would fail it again at once.
const failurePause = 5 * time.Second

// Run checks by time and by rows until ctx ends, which is no error. A check that fails is logged and the next one is due
// as if it had not. The first is due when the last stored report is Every old, at once where there is none.
func (s *Service) Run(ctx context.Context) error {
	last, err := s.lastReport(ctx)
	if err != nil {
		s.complain(ctx, &s.away, "drift schedule starts without its past", err)
	}
	var due <-chan time.Time
	var timer *time.Timer
	if s.cfg.Every > 0 {
		timer = time.NewTimer(max(0, time.Until(last.At.Add(s.cfg.Every))))
		defer timer.Stop()
		due = timer.C
	}
	var poll <-chan time.Time
	if s.cfg.EveryRows > 0 {
		ticker := time.NewTicker(s.cfg.Poll)
		defer ticker.Stop()
		poll = ticker.C
	}
	var notBefore time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-due:
			if err := s.scheduled(ctx, s.old); err != nil {
				notBefore = time.Now().Add(failurePause)
			}
		case now := <-poll:
			if now.Before(notBefore) || !s.enough(ctx) {
				continue
			}
			if err := s.scheduled(ctx, s.enough); err != nil {
				notBefore = time.Now().Add(failurePause)
			}
		}
		if timer != nil {
			timer.Reset(s.next(ctx))
		}
	}
}

// old reports whether no replica made a report in the last Every.
func (s *Service) old(ctx context.Context) bool {
	last, err := s.lastReport(ctx)
	return err != nil || time.Since(last.At) >= s.cfg.Every
}

// next is how long it is until a report of this process or of a replica is Every old; Every itself where the last check
// failed, so that the next one is not at once.
func (s *Service) next(ctx context.Context) time.Duration {
	last, err := s.lastReport(ctx)
	if left := time.Until(last.At.Add(s.cfg.Every)); err == nil && left > 0 {
		return left
	}
	return s.cfg.Every
}

// scheduled is one check of the schedule, where it is still due when its turn has come.
func (s *Service) scheduled(ctx context.Context, due func(context.Context) bool) error {
	_, _, err := s.checkIf(ctx, due)
	switch {
	case err == nil:
		s.away = turbofan.Outage{}
	case ctx.Err() != nil:
	case turbofan.ErrorCode(err) == turbofan.ENotFound:
		s.log.InfoContext(ctx, "drift not checked", "because", turbofan.ErrorMessage(err))
	default:
		s.complain(ctx, &s.away, "drift check failed", err)
	}
	return err
}

// complain logs what the schedule, or the next check, tries again: as a warning while that may help by itself. The end of
// the process is no fault of the parts behind.
func (s *Service) complain(ctx context.Context, away *turbofan.Outage, message string, err error, args ...any) {
	if ctx.Err() != nil {
		return
	}
	level := slog.LevelWarn
	if away.Fault(err, time.Now()) {
		level = slog.LevelError
	}
	s.log.Log(ctx, level, message, append(args, "error", err)...)
}

// enough reports whether EveryRows readings arrived since the last report, whoever asked for it.
func (s *Service) enough(ctx context.Context) bool {
	last, err := s.lastReport(ctx)
	if err != nil {
		s.complain(ctx, &s.away, "drift schedule cannot see the last report", err)
		return false
	}
	newest, err := s.stores.Readings.Readings(ctx, turbofan.ReadingQuery{AfterSeq: last.ToSeq, Last: 1})
	if err != nil {
		s.complain(ctx, &s.away, "drift schedule cannot see new readings", err)
		return false
	}
	// Numbers may have gaps but never repeat: a small difference is few readings, a large one must be counted.
	if len(newest) == 0 || newest[0].Seq-last.ToSeq < int64(s.cfg.EveryRows) {
		return false
	}
	fresh, err := s.stores.Readings.Readings(ctx, turbofan.ReadingQuery{AfterSeq: last.ToSeq, Limit: s.cfg.EveryRows})
	if err != nil {
		s.complain(ctx, &s.away, "drift schedule cannot count new readings", err)
		return false
	}
	return len(fresh) >= s.cfg.EveryRows
}

// lastReport returns the newest report, a zero one where there is none.
func (s *Service) lastReport(ctx context.Context) (turbofan.DriftReport, error) {
	reports, err := s.stores.Reports.Reports(ctx, 1)
	if err != nil || len(reports) == 0 {
		return turbofan.DriftReport{}, err
	}
	return reports[0], nil
}
