package turbofan

import (
	"context"
	"time"
)

// LeaseStore lets processes that share a store take turns. A lease that its holder does not extend ends by itself, by the
// store's clock, so that a process that died blocks nobody for long.
type LeaseStore interface {
	// Acquire gives the lease of that name to holder for ttl, or extends it where holder has it already. It is false
	// while another holder's has not expired.
	Acquire(ctx context.Context, name, holder string, ttl time.Duration) (bool, error)
	// Release gives back holder's lease. A lease that another holder has by now stays with that one.
	Release(ctx context.Context, name, holder string) error
}
