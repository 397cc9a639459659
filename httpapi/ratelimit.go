package httpapi

import (
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// rates bounds how often each key is used, by a token bucket a key. Buckets are found by name: a key that is replaced by
// another of its name, as at a rotation, goes on with what is left.
type rates struct {
	rate  float64
	burst int
	mu    sync.Mutex
	keys  map[string]*rate.Limiter
}

func newRates(perSecond float64, burst int) *rates {
	return &rates{rate: perSecond, burst: burst, keys: map[string]*rate.Limiter{}}
}

// take counts one use of the key and returns 0, or after how many seconds the next may come. There are as many buckets
// as names that were ever valid.
func (l *rates) take(k Key) (waitSeconds int) {
	perSecond := k.Rate
	if perSecond == 0 {
		perSecond = l.rate
	}
	if perSecond == 0 {
		return 0
	}
	l.mu.Lock()
	b := l.keys[k.Name]
	if b == nil || b.Limit() != rate.Limit(perSecond) {
		burst := l.burst
		if burst < 1 {
			burst = max(1, int(math.Ceil(perSecond)))
		}
		b = rate.NewLimiter(rate.Limit(perSecond), burst)
		l.keys[k.Name] = b
	}
	l.mu.Unlock()
	now := time.Now()
	r := b.ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait == 0 {
		return 0
	}
	r.CancelAt(now)
	return int(math.Ceil(wait.Seconds()))
}
