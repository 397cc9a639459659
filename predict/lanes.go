package predict

import (
	"turbofan"
	"turbofan/condition"
)

// lanes is what answers: the champion and, where one is tried, a canary for a share of the units. It is replaced as a
// whole, so that a request sees one state of affairs from its first reading to its last.
type lanes struct {
	champion *served
	canary   *served // nil for none
	share    float64
}

// of returns the model that answers the unit: always the same one for the same canary version and share, in every
// process, and still the canary when the share grows.
func (l *lanes) of(unit string) *served {
	if l.canary != nil && portion(l.canary.version.Version, unit) < l.share {
		return l.canary
	}
	return l.champion
}

// portion spreads units evenly over [0, 1). The version is part of the hash, so that a unit that met one canary need not
// meet the next. It is FNV-1a with the finalizer of MurmurHash3, whose high bits FNV lacks for short texts.
func portion(version, unit string) float64 {
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset)
	for i := range len(version) {
		h = (h ^ uint64(version[i])) * prime
	}
	h = (h ^ '/') * prime
	for i := range len(unit) {
		h = (h ^ uint64(unit[i])) * prime
	}
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	h ^= h >> 33
	return float64(h>>11) / (1 << 53)
}

// each calls f with every model that answers until one call fails.
func (l *lanes) each(f func(*served) error) error {
	if err := f(l.champion); err != nil || l.canary == nil {
		return err
	}
	return f(l.canary)
}

// learn teaches the reading's condition to every model that answers: their order of learning is that of the store,
// whoever answers the unit.
func (l *lanes) learn(unit string, r *turbofan.Reading) {
	l.champion.comm.Learn(unit, r.Cycle, r.Settings, r.Sensors)
	if l.canary != nil {
		l.canary.comm.Learn(unit, r.Cycle, r.Settings, r.Sensors)
	}
}

// clone returns the same models with all that they have learned until now.
func (l *lanes) clone() *lanes {
	out := &lanes{champion: l.champion.with(l.champion.comm.Clone()), share: l.share}
	if l.canary != nil {
		out.canary = l.canary.with(l.canary.comm.Clone())
	}
	return out
}

// with returns the model with other conditions. States that were built for m are not its own.
func (m *served) with(comm *condition.Commissioner) *served {
	return &served{model: m.model, version: m.version, since: m.since, horizon: m.horizon, answers: m.answers, comm: comm, primed: m.primed}
}
