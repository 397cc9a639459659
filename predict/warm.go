package predict

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"turbofan"
	"turbofan/feature"
)

// gate lets an install wait for the requests that began before it without holding up those that begin after it.
type gate struct {
	epoch atomic.Uint32
	mu    [2]sync.RWMutex
}

// enter returns what the request unlocks for reading when it ends.
func (g *gate) enter() *sync.RWMutex {
	for {
		e := g.epoch.Load()
		mu := &g.mu[e&1]
		mu.RLock()
		if g.epoch.Load() == e {
			return mu
		}
		mu.RUnlock()
	}
}

// synchronize returns once every request has ended that entered before it. One caller at a time.
func (g *gate) synchronize() {
	mu := &g.mu[(g.epoch.Add(1)-1)&1]
	mu.Lock()
	defer mu.Unlock()
}

// warm is a unit's state under the model that is about to serve, so that the unit's next reading need not wait for the
// store after the swap.
type warm struct {
	served *served
	state  *feature.State // nil until the unit's past was replayed
	row    []float32
	tail   []turbofan.Reading // what came since the past was asked for
}

// step moves the state by a reading that was just answered. The caller holds the unit's lock. A state that cannot
// follow is dropped: the unit is rebuilt from the store instead.
func (u *unit) step(r *turbofan.Reading) {
	w := u.warm
	switch {
	case w == nil:
	case w.served.refused.Load():
		u.warm = nil
	case w.state == nil:
		kept := turbofan.Reading{UnitID: u.id, Cycle: r.Cycle, Settings: slices.Clone(r.Settings), Sensors: slices.Clone(r.Sensors)}
		w.tail = append(w.tail, kept)
	default:
		if _, _, err := w.served.model.Spec().Step(w.state, w.served.comm, r, w.row); err != nil {
			u.warm = nil
		}
	}
}

const (
	// warmers is how many units are warmed side by side: one, because requests want the processors too. With two, and units
	// of the last five seconds, swaps cost the slowest answers four fifths more time instead of one fifth.
	warmers = 1
	// warmSpoken is how many seconds ago a unit may have spoken to be worth it: one that speaks seldom is rebuilt when it
	// does, which takes less than a millisecond of that one answer.
	warmSpoken = 1
)

// warmUp rebuilds the states under next of the units that speak often, that next answers after the swap and does not answer
// now, those that spoke last first, until all are warm or Config.Prewarm has passed. Units that are left are rebuilt when
// they speak.
func (s *Service) warmUp(ctx context.Context, next *served, after *lanes) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Prewarm)
	defer cancel()
	now, since := s.lanes.Load(), time.Now().Unix()-warmSpoken
	var units []*unit
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		for _, u := range sh.units {
			if u.used.Load() >= since && after.of(u.id) == next && (now == nil || now.of(u.id) != next) {
				units = append(units, u)
			}
		}
		sh.mu.Unlock()
	}
	used := make(map[*unit]int64, len(units))
	for _, u := range units {
		used[u] = u.used.Load()
	}
	slices.SortFunc(units, func(a, b *unit) int { return -cmp.Compare(used[a], used[b]) })
	work := make(chan *unit)
	var wg sync.WaitGroup
	for range min(warmers, len(units)) {
		wg.Go(func() {
			for u := range work {
				s.warmUnit(ctx, u, next)
			}
		})
	}
	for _, u := range units {
		if ctx.Err() != nil {
			break
		}
		work <- u
	}
	close(work)
	wg.Wait()
}

// warmUnit replays the unit's past while the unit goes on, and lets it catch up at the end. What fails here is tried
// again, and told, when the unit speaks.
func (s *Service) warmUnit(ctx context.Context, u *unit, next *served) {
	w := &warm{served: next, row: make([]float32, len(next.model.Spec().Columns))}
	u.mu.Lock()
	if !u.evicted {
		u.warm = w
	}
	u.mu.Unlock()
	st, err := s.replay(ctx, u.id, next, w.row, nil)
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.warm != w {
		return
	}
	if err != nil || st.Readings == 0 {
		u.warm = nil
		return
	}
	w.state = st
	for i := range w.tail {
		if r := &w.tail[i]; u.warm != nil && r.Cycle > st.LastCycle {
			u.step(r)
		}
	}
	w.tail = nil
}

// replay builds a unit's state under m from its stored readings; newest, where given, is told the last of them.
func (s *Service) replay(ctx context.Context, id string, m *served, row []float32, newest func(*turbofan.Reading)) (*feature.State, error) {
	began := time.Now()
	history, err := s.stores.Readings.History(ctx, id, 0)
	if err != nil && turbofan.ErrorCode(err) != turbofan.ENotFound {
		return nil, err
	}
	st := m.model.Spec().NewState()
	for i := range history {
		if _, _, err := m.model.Spec().Step(st, m.comm, &history[i], row); err != nil {
			return nil, err
		}
	}
	if n := len(history); n > 0 {
		s.metrics.rebuilds.Inc()
		s.metrics.rebuild.Observe(time.Since(began).Seconds())
		if newest != nil {
			newest(&history[n-1])
		}
	}
	return st, nil
}
