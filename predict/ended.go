package predict

import (
	"context"

	"turbofan"
)

// ends finds out whether the unit, whose lock the caller holds, was reported failed. A unit that never sent a reading has
// no outcomes. Where the store is shared the outcome may have come to another process: it is then asked each time.
func (s *Service) ends(ctx context.Context, u *unit) error {
	if s.stores.Outcomes == nil || u.reading.Cycle == 0 || u.asked && !s.cfg.Shared {
		return nil
	}
	failed, err := s.failedAt(ctx, u.id)
	if err == nil {
		u.failed, u.asked = failed, true
	}
	return err
}

// failedAt returns the cycle at which a unit was reported to have failed; 0 where nobody did.
func (s *Service) failedAt(ctx context.Context, unitID string) (int, error) {
	outcomes, err := s.stores.Outcomes.Outcomes(ctx, turbofan.OutcomeQuery{UnitID: unitID})
	if err != nil {
		return 0, err
	}
	failed := 0
	for _, o := range outcomes { // the newest says what is known
		if o.FailedAtCycle != nil {
			failed = *o.FailedAtCycle
		}
	}
	return failed, nil
}

// Ended tells the service that an outcome was stored by which the unit failed at a cycle, so that the unit's next reading
// is answered with a warning. Without it a service that does not share its store learns of the end when it looks at the
// unit's past again.
func (s *Service) Ended(unitID string, failedAtCycle int) {
	sh := s.shard(unitID)
	sh.mu.Lock()
	u := sh.units[unitID]
	sh.mu.Unlock()
	if u == nil {
		return // the store tells when it speaks
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.failed, u.asked = failedAtCycle, true
}
