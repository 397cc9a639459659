package turbofan

import "time"

// patience is how long a part behind may be away before that is a fault: longer than a restart takes.
const patience = time.Minute

// Outage tells what somebody should be woken for from what passes by itself, for whoever asks again anyway: a part behind
// that restarts is away for a moment. The zero value is ready; it is not safe for concurrent use.
type Outage struct{ since time.Time }

// Fault reports whether err is a fault: any error but an EUnavailable of the first minute. No error ends the outage.
func (o *Outage) Fault(err error, now time.Time) bool {
	switch {
	case err == nil:
		*o = Outage{}
		return false
	case ErrorCode(err) != EUnavailable:
		return true
	case o.since.IsZero():
		o.since = now
	}
	return now.Sub(o.since) >= patience
}
