package drift

import (
	"math"
	"slices"

	"turbofan"
	"turbofan/condition"
	"turbofan/reference"
)

// Conditions learns operating conditions that training never saw from the first cycles of new units. The same readings
// in the same order give the same conditions. It is not safe for concurrent use.
type Conditions struct {
	base    *condition.Normalizer
	learner *condition.Commissioner
}

// NewConditions starts from the conditions that the reference knows.
func NewConditions(ref *reference.Reference, cfg Config) *Conditions {
	base := *ref.Normalizer
	rows := float64(base.Config.CommissionRows) / float64(base.Config.CommissionUnits)
	base.Config.CommissionUnits = cfg.CommissionUnits
	base.Config.CommissionRows = max(2, int(math.Round(rows*float64(cfg.CommissionUnits))))
	return &Conditions{base: &base, learner: condition.NewCommissioner(&base)}
}

// HealthyCycles is the age up to which readings teach anything.
func (c *Conditions) HealthyCycles() int { return c.base.Config.HealthyCycles }

// Learn takes the next reading in order of arrival; one that is too old, that does not fit the schema or whose
// condition is known changes nothing.
func (c *Conditions) Learn(r *turbofan.Reading) {
	if fits(c.base, r) {
		c.learner.Learn(r.UnitID, r.Cycle, r.Settings, r.Sensors)
	}
}

// Unseen returns the conditions learned so far: those fixed for good in the order in which they were, then the others.
func (c *Conditions) Unseen() []condition.Regime { return c.learner.Unseen() }

// fits reports whether the reading has as many values as the conditions are made of.
func fits(n *condition.Normalizer, r *turbofan.Reading) bool {
	return len(r.Settings) == len(n.Regimes[0].Center) && len(r.Sensors) == len(n.Regimes[0].Mean)
}

// usable reports whether a condition that training never saw is known well enough to normalise by it.
func (c *Config) usable(base *condition.Normalizer, r *condition.Regime) bool {
	return r.Commissioned || r.Units >= c.ProvisionalUnits && r.Rows >= base.Config.CommissionRows
}

// atlas finds the condition of a reading among those of training, those learned since, and places never described.
type atlas struct {
	known  *condition.Normalizer // training's conditions and the usable ones
	others *condition.Normalizer // what cannot be used yet
	base   int                   // how many of known come from training
}

func newAtlas(cfg Config, base *condition.Normalizer, unseen []condition.Regime) *atlas {
	known := &condition.Normalizer{Config: base.Config, Regimes: slices.Clone(base.Regimes)}
	others := &condition.Normalizer{Config: base.Config}
	for _, r := range unseen {
		if cfg.usable(base, &r) {
			known.Regimes = append(known.Regimes, r)
		} else {
			others.Regimes = append(others.Regimes, r)
		}
	}
	return &atlas{known: known, others: others, base: len(base.Regimes)}
}

// other returns the number of the condition that settings belong to among those that cannot be used, a new one where
// there is none; -1 where there are too many to tell apart.
func (a *atlas) other(settings []float64) int {
	if k := a.others.Find(settings); k >= 0 {
		return k
	}
	if len(a.known.Regimes)+len(a.others.Regimes) >= a.known.Config.MaxConditions {
		return -1
	}
	a.others.Regimes = append(a.others.Regimes, condition.Regime{Center: slices.Clone(settings)})
	return len(a.others.Regimes) - 1
}
