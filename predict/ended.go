package predict

import "context"

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
// asks the store when it was. Without it a service that does not share its store learns of that when it looks at the unit's
// past again. It is not told the cycle: two outcomes may be stored in one order and told in the other.
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
