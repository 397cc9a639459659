package predict

import (
	"context"
	"hash/maphash"
	"strings"
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
	id      string
	mu      sync.Mutex
	evicted bool // set under mu: whoever waited for the lock must look the unit up again
	served  *served
	state   *feature.State
	row     []float32
	last    turbofan.Prediction // answer to the newest reading, for a client that repeats it
	reading turbofan.Reading    // the newest, in memory of its own
	sent    *turbofan.Reading   // the newest that the request under way has been checked up to
	warm    *warm               // while a model is about to serve
	// failed is the cycle at which the unit was reported to have failed, 0 while nobody has; see ends. It is known once
	// asked is true.
	failed int
	asked  bool
	used   atomic.Int64 // unix seconds
}

// keep copies a reading: the request's memory, which may be that of a large batch, must not live as long as the unit.
func (u *unit) keep(r *turbofan.Reading) {
	u.reading.UnitID, u.reading.Cycle = u.id, r.Cycle
	u.reading.Settings = append(u.reading.Settings[:0], r.Settings...)
	u.reading.Sensors = append(u.reading.Sensors[:0], r.Sensors...)
}

var hashSeed = maphash.MakeSeed()

func (s *Service) shard(id string) *shard { return &s.shards[maphash.String(hashSeed, id)%shards] }

// lockUnit returns the unit with its lock held, making an empty one where there is none.
func (s *Service) lockUnit(id string, now time.Time) *unit {
	for {
		sh := s.shard(id)
		sh.mu.Lock()
		u := sh.units[id]
		if u == nil {
			s.makeRoom(sh)
			u = &unit{id: strings.Clone(id)} // not a piece of a whole request's text
			sh.units[u.id] = u
		}
		sh.mu.Unlock()
		u.mu.Lock()
		if !u.evicted {
			u.used.Store(now.Unix())
			return u
		}
		u.mu.Unlock()
	}
}

// makeRoom drops the longest silent of a few units when the shard is full. The caller holds the shard's lock. Map order
// is random, so a few samples are enough to keep units that speak. A unit under way is passed over: the shard then holds
// one more, see crowded.
func (s *Service) makeRoom(sh *shard) {
	if len(sh.units) < s.cfg.MaxUnits/shards {
		return
	}
	var oldest *unit
	n := 0
	for _, u := range sh.units {
		if oldest == nil || u.used.Load() < oldest.used.Load() {
			oldest = u
		}
		if n++; n == 8 {
			break
		}
	}
	if oldest != nil && oldest.mu.TryLock() {
		oldest.evicted = true
		oldest.mu.Unlock()
		delete(sh.units, oldest.id)
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

// crowded reports whether the shard of a unit holds more than its share, as after a batch of more units than may live.
func (s *Service) crowded(id string) bool {
	sh := s.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return len(sh.units) > s.cfg.MaxUnits/shards
}

// forget drops a unit whose lock is held, so that a refused first reading leaves nothing behind. No one waits for a
// unit's lock with a shard's lock held, so taking that one here cannot deadlock.
func (s *Service) forget(u *unit) {
	sh := s.shard(u.id)
	sh.mu.Lock()
	if sh.units[u.id] == u {
		delete(sh.units, u.id)
	}
	sh.mu.Unlock()
	u.evicted = true
}

// prepare brings the unit's state to m: a unit that is new to this process, that another model's state was kept for, or
// that was normalised by a condition fixed since, is replayed from its stored readings.
func (s *Service) prepare(ctx context.Context, u *unit, m *served) error {
	if u.served == m && !(u.state.Provisional && m.comm.Generation() > u.state.Generation) {
		if current, err := s.isCurrent(ctx, u); current || err != nil {
			return err
		}
	}
	if w := u.warm; u.served != m && w != nil && w.served == m && w.state != nil && w.state.LastCycle == u.reading.Cycle && !s.cfg.Shared {
		u.served, u.state, u.row, u.warm = m, w.state, w.row, nil
		return s.prepare(ctx, u, m) // a condition may have been fixed since
	}
	row := make([]float32, len(m.model.Spec().Columns))
	st, err := s.replay(ctx, u.id, m, row, func(newest *turbofan.Reading) {
		if u.last.Cycle != newest.Cycle || s.cfg.Shared {
			u.last = turbofan.Prediction{}
		}
		u.keep(newest)
	})
	if err != nil {
		return err
	}
	u.served, u.state, u.row = m, st, row
	if u.warm != nil && u.warm.served == m {
		u.warm = nil
	}
	return nil
}

// isCurrent reports whether no other replica has answered the unit since this one did.
func (s *Service) isCurrent(ctx context.Context, u *unit) (bool, error) {
	if !s.cfg.Shared {
		return true, nil
	}
	newest, err := s.stores.Predictions.Predictions(ctx, turbofan.PredictionQuery{UnitID: u.id, Last: 1})
	return err == nil && len(newest) == 1 && newest[0].ID == u.last.ID, err
}
