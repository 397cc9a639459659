package turbofan

import (
	"context"
	"time"
)

// LeaseStore lets processes that share a store take turns. A lease ends by itself when its holder is heard of no more, by
// the store's clock, so that a process that died blocks nobody for long.
type LeaseStore interface {
	// Acquire gives the lease of that name to holder for ttl, or extends it where holder has it already. It is false
	// while another holder's has not expired.
	Acquire(ctx context.Context, name, holder string, ttl time.Duration) (bool, error)
	// Release gives back a lease that holder has; one that it has no more is left alone.
	Release(ctx context.Context, name, holder string) error
}
