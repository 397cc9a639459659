package tree

import (
	"runtime"
	"sync/atomic"
)

// pool runs numbered tasks on a fixed set of goroutines. Growing one tree
// makes thousands of rounds of a few microseconds, so an idle worker spins
// briefly before it sleeps.
type pool struct {
	workers int
	fn      func(worker, task int)
	tasks   int64
	next    atomic.Int64
	busy    atomic.Int64
	round   atomic.Uint64
	stop    atomic.Bool
	asleep  []atomic.Bool
	wake    []chan struct{}
	// yields is how often an idle worker looks again before it sleeps; none
	// when there are more workers than processors to spin on.
	yields int
}

const (
	spinLoads  = 30
	spinYields = 60
)

func newPool(workers int) *pool {
	p := &pool{workers: workers}
	if workers <= runtime.GOMAXPROCS(0) {
		p.yields = spinYields
	}
	p.asleep = make([]atomic.Bool, workers)
	p.wake = make([]chan struct{}, workers)
	for w := 1; w < workers; w++ {
		p.wake[w] = make(chan struct{}, 1)
		go p.work(w)
	}
	return p
}

// close ends the goroutines; the pool must be idle.
func (p *pool) close() {
	p.stop.Store(true)
	p.start()
}

// start opens a round. A worker is woken only by whoever clears its asleep
// flag, so a wake-up is never sent twice.
func (p *pool) start() {
	p.round.Add(1)
	for w := 1; w < p.workers; w++ {
		if p.asleep[w].CompareAndSwap(true, false) {
			p.wake[w] <- struct{}{}
		}
	}
}

// run calls fn for every task in [0, tasks) and returns when all are done. The
// caller is worker 0.
func (p *pool) run(tasks int, fn func(worker, task int)) {
	if p.workers == 1 || tasks < 2 {
		for t := range tasks {
			fn(0, t)
		}
		return
	}
	p.fn, p.tasks = fn, int64(tasks)
	p.next.Store(0)
	p.busy.Store(int64(p.workers - 1))
	p.start()
	p.claim(0)
	for i := 0; p.busy.Load() != 0; i++ {
		if i%spinLoads == spinLoads-1 {
			runtime.Gosched()
		}
	}
	p.fn = nil
}

func (p *pool) claim(worker int) {
	for {
		t := p.next.Add(1) - 1
		if t >= p.tasks {
			return
		}
		p.fn(worker, int(t))
	}
}

func (p *pool) work(worker int) {
	seen := uint64(0)
	for {
		p.await(worker, seen)
		seen++
		if p.stop.Load() {
			return
		}
		p.claim(worker)
		p.busy.Add(-1)
	}
}

// await returns when a round after seen is open. The caller of start may be
// slow to reach a worker that has already done its part of that round and gone
// to sleep, so a wake-up alone does not mean a new round.
func (p *pool) await(worker int, seen uint64) {
	for {
		for range p.yields {
			for range spinLoads {
				if p.round.Load() != seen {
					return
				}
			}
			runtime.Gosched()
		}
		p.asleep[worker].Store(true)
		if p.round.Load() != seen && p.asleep[worker].CompareAndSwap(true, false) {
			return
		}
		<-p.wake[worker]
		if p.round.Load() != seen {
			return
		}
	}
}
