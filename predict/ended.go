package predict

import (
	"context"
	"fmt"
	"time"

	"turbofan"
)

// ends finds out which of the units, whose locks the caller holds, were reported failed. A unit that never sent a reading
// has no outcomes. Where the store is shared an outcome may have come to another process: it is then asked each time, for
// all units of a request at once.
func (s *Service) ends(ctx context.Context, units []*unit) error {
	if s.stores.Outcomes == nil {
		return nil
	}
	var ids []string
	for _, u := range units {
		if u.reading.Cycle > 0 && (!u.asked || s.cfg.Shared) {
			ids = append(ids, u.id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	failed, err := s.stores.Outcomes.FailedAt(ctx, ids)
	if err != nil {
		return err
	}
	for _, u := range units {
		if u.reading.Cycle > 0 && (!u.asked || s.cfg.Shared) {
			u.failed, u.asked = failed[u.id], true
		}
	}
	return nil
}

// Ended tells the service that an outcome was stored which stated the unit's end or took it back, so that its next reading
// asks the store when it was. Of outcomes that another process stored a service that does not share its store hears at the
// next Refresh. It is not told the cycle: two outcomes may be stored in one order and told in the other.
func (s *Service) Ended(unitID string) {
	sh := s.shard(unitID)
	sh.mu.Lock()
	u := sh.units[unitID]
	sh.mu.Unlock()
	if u == nil {
		return // the store tells when it speaks
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.asked = false
}

// heedSlack is how much later an outcome may be on disk than it was received, so that it is looked for once more.
const heedSlack = 30 * time.Second

// heed asks the store for the ends that were stated or taken back since it did so last. Where the store is shared, each
// request asks.
func (s *Service) heed(ctx context.Context) error {
	if s.stores.Outcomes == nil || s.cfg.Shared || s.lanes.Load() == nil {
		return nil
	}
	now := time.Now()
	outcomes, err := s.stores.Outcomes.Outcomes(ctx, turbofan.OutcomeQuery{Since: s.heeded.Add(-heedSlack)})
	if err != nil {
		return fmt.Errorf("hear of ends: %w", err)
	}
	for i := range outcomes {
		if outcomes[i].FailedAtCycle != nil {
			s.Ended(outcomes[i].UnitID)
		}
	}
	s.heeded = now
	return nil
}
