package sqlstore

import (
	"context"
	"time"

	"turbofan"
)

var _ turbofan.LeaseStore = (*State)(nil)

// Acquire implements turbofan.LeaseStore by the database's clock: those of replicas may differ.
func (s *State) Acquire(ctx context.Context, name, holder string, ttl time.Duration) (bool, error) {
	switch {
	case name == "" || holder == "":
		return false, turbofan.Invalid("lease", "needs a name and a holder")
	case ttl < time.Millisecond:
		return false, turbofan.Invalid("lease", "must last at least a millisecond, not %s", ttl)
	}
	now := s.db.dialect.now
	var n int64
	err := s.w.do(ctx, "acquire lease", func(tx *txn) (err error) {
		n, err = tx.exec(`INSERT INTO leases (name, holder, expires) VALUES (?, ?, `+now+` + CAST(? AS BIGINT))
			ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires = excluded.expires
			WHERE leases.holder = excluded.holder OR leases.expires <= `+now, name, holder, ttl.Milliseconds())
		return err
	})
	if err != nil { // the writer may still be at it, where ctx ended
		return false, err
	}
	return n > 0, nil
}

// Release implements turbofan.LeaseStore.
func (s *State) Release(ctx context.Context, name, holder string) error {
	return s.w.do(ctx, "release lease", func(tx *txn) error {
		_, err := tx.exec(`DELETE FROM leases WHERE name = ? AND holder = ?`, name, holder)
		return err
	})
}
