package predict

import (
	"context"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"turbofan"
	"turbofan/feature"
)

// shards spreads the units over locks; a power of two.
const shards = 64

type shard struct {
	mu    sync.Mutex
	units map[string]*unit
}

// unit is the live state of one unit. Its lock orders the unit's readings.
type unit struct {
	mu      sync.Mutex
	evicted bool // set under mu: whoever waited for the lock must look the unit up again
	served  *served
	state   *feature.State
	row     []float32
	last    turbofan.Prediction // answer to the newest reading, for a client that repeats it
	reading turbofan.Reading
	used    atomic.Int64 // unix seconds
}

var hashSeed = maphash.MakeSeed()

func (s *Service) shard(id string) *shard { return &s.shards[maphash.String(hashSeed, id)%shards] }

// lockUnit returns the unit with its lock held, making an empty one where there is none.
func (s *Service) lockUnit(id string) *unit {
	for {
		sh := s.shard(id)
		sh.mu.Lock()
		u := sh.units[id]
		if u == nil {
			s.makeRoom(sh)
			u = &unit{}
			sh.units[id] = u
		}
		sh.mu.Unlock()
		u.mu.Lock()
		if !u.evicted {
			u.used.Store(time.Now().Unix())
			return u
		}
		u.mu.Unlock()
	}
}

// makeRoom drops the longest silent of a few units when the shard is full. The caller holds the shard's lock. Map
// order is random, so a few samples are enough to keep units that speak.
func (s *Service) makeRoom(sh *shard) {
	if len(sh.units) < s.cfg.MaxUnits/shards {
		return
	}
	var oldest string
	var at int64
	n := 0
	for id, u := range sh.units {
		if used := u.used.Load(); n == 0 || used < at {
			oldest, at = id, used
		}
		if n++; n == 8 {
			break
		}
	}
	if u := sh.units[oldest]; u.mu.TryLock() {
		u.evicted = true
		u.mu.Unlock()
		delete(sh.units, oldest)
	}
}

func (s *Service) liveUnits() int {
	n := 0
	for i := range s.shards {
		s.shards[i].mu.Lock()
		n += len(s.shards[i].units)
		s.shards[i].mu.Unlock()
	}
	return n
}

// forget drops a unit that was locked but has no state, so that a refused first reading leaves nothing behind.
func (s *Service) forget(id string, u *unit) {
	sh := s.shard(id)
	sh.mu.Lock()
	if sh.units[id] == u {
		delete(sh.units, id)
	}
	sh.mu.Unlock()
	u.evicted = true
}

// prepare brings the unit's state to m: a unit that is new to this process, that another model's state was kept for, or
// that was normalised by a condition fixed since, is replayed from its stored readings.
func (s *Service) prepare(ctx context.Context, id string, u *unit, m *served) error {
	if u.served == m && !(u.state.Provisional && m.comm.Generation() > u.state.Generation) {
		return nil
	}
	began := time.Now()
	history, err := s.stores.Readings.History(ctx, id, 0)
	if err != nil && turbofan.ErrorCode(err) != turbofan.ENotFound {
		return err
	}
	spec := m.model.Spec()
	st, row := spec.NewState(), make([]float32, len(spec.Columns))
	for i := range history {
		if _, _, err := spec.Step(st, m.comm, &history[i], row); err != nil {
			return err
		}
	}
	if n := len(history); n > 0 {
		if u.reading.Cycle != history[n-1].Cycle {
			u.last = turbofan.Prediction{}
		}
		u.reading = history[n-1]
		s.metrics.rebuilds.Inc()
		s.metrics.rebuild.Observe(time.Since(began).Seconds())
	}
	u.served, u.state, u.row = m, st, row
	return nil
}

// same reports whether two readings say the same, missing values included.
func same(a, b *turbofan.Reading) bool {
	eq := func(x, y float64) bool { return x == y || x != x && y != y }
	return a.Cycle == b.Cycle && slices.EqualFunc(a.Settings, b.Settings, eq) && slices.EqualFunc(a.Sensors, b.Sensors, eq)
}
