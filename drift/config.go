// Package drift watches whether the readings of today still look like those the serving model learned from.
//
// Two things change readings without anything being wrong: the operating condition and the age of the fleet. The first
// is taken out by normalising within conditions, unseen ones after they were commissioned from new units; the second by
// comparing with reference rows of the same ages. What is left is drift. Three rules look for it:
//
//   - Sensors: the population stability index (PSI) of each sensor over the newest readings. The third-largest decides,
//     of equipment with few sensors the second or the largest: one broken sensor is no drift. It needs many units, whose readings are not independent.
//   - Units: whether the sensors of each unit go together as those of the reference's units did at that age. It speaks
//     earlier, while most of the fleet is as it was; two units at least must lie outside.
//   - Error: the live error against the validated one, once enough outcomes are known.
//
// Every verdict says why.
package drift

import (
	"math"
	"time"

	"turbofan"
)

// Config says what is checked, how often, and when a check leads to a retraining.
type Config struct {
	// ModelName and Alias name the serving version in the registry: models:/<ModelName>@<Alias>.
	ModelName, Alias string
	// CacheDir keeps the references of the newest versions; it is created when it is missing.
	CacheDir string

	// Every is the time between checks; 0 checks on demand only.
	Every time.Duration
	// EveryRows also checks after so many new readings; 0 does not.
	EveryRows int
	// Poll is how often the store is asked for new readings where EveryRows is set.
	Poll time.Duration

	// Window is how many of the newest readings a check judges.
	Window int
	// MinRows and MinUnits are the least rows and units that are judged at all: the readings of one unit resemble each
	// other, so that many rows of a few units prove little. A Window below MinRows lowers that to itself.
	MinRows, MinUnits int

	// Threshold is the PSI, beyond what as many rows of as many units show by chance, above which a sensor counts as
	// drifted. Chance adds 0.03 to 0.05 for a thousand rows of fifty engines of C-MAPSS, more for fewer.
	Threshold float64
	// Rank is how many sensors must drift: the Rank-th largest PSI decides. One broken sensor is no drift. 0 asks for three,
	// of equipment with few sensors for fewer; see rankOf.
	Rank int
	// Hysteresis lowers the threshold by this share while the last verdict was drift, so that a score near the
	// threshold does not flap.
	Hysteresis float64

	// SpreadUnits is how many units must lie outside of how the reference's units differ from one another: one odd unit
	// is no drift; 0 leaves the rule out. SpreadAlpha is the probability of as many by chance above which they are none.
	// SpreadEnded is how many units that lay outside must have ended before a retraining is asked for because of them
	// alone.
	SpreadUnits int
	SpreadAlpha float64
	SpreadEnded int

	// ProvisionalUnits is how many new units it takes to normalise by a condition that training never saw;
	// CommissionUnits is how many fix it for good. Until then its mean and spread grow better with each unit.
	ProvisionalUnits, CommissionUnits int

	// ErrorRatio is the live RMSE, in multiples of the reference's, that counts as drift where at least ErrorUnits units
	// have a known end; 0 leaves the error out of the verdict. ScoredRows is how many newest scored predictions count.
	ErrorRatio float64
	ErrorUnits int
	ScoredRows int

	// Retrain submits a retraining after a verdict of drift.
	Retrain bool
	// Cooldown and CooldownRows are how long, and how many new readings, a retraining that promoted nothing silences
	// the next; whichever passes first ends it. CooldownRows of 0 leaves it to the time.
	Cooldown     time.Duration
	CooldownRows int
	// SettleRows is how many new readings a retraining that did promote silences the next, so that the new version is
	// not judged by what it was made for.
	SettleRows int
	// RetryUnits is how many more units must have failed before a retraining that was refused for too little data is
	// asked for again.
	RetryUnits int

	// Events hears of each drift that begins; nil means nobody listens.
	Events turbofan.EventSink
}

// DefaultConfig returns the configuration measured on C-MAPSS, without a model and a cache directory. It checks every
// ten minutes and retrains.
func DefaultConfig() Config {
	return Config{
		Alias: turbofan.ChampionAlias, Every: 10 * time.Minute, Poll: 500 * time.Millisecond,
		Window: 1000, MinRows: 300, MinUnits: 20, Threshold: 0.2, Hysteresis: 0.1,
		SpreadUnits: 2, SpreadAlpha: 0.01, SpreadEnded: 10,
		ProvisionalUnits: 10, CommissionUnits: 50,
		ErrorRatio: 1.5, ErrorUnits: 20, ScoredRows: 5_000,
		Retrain: true, Cooldown: 6 * time.Hour, CooldownRows: 5000, SettleRows: 2000, RetryUnits: 5,
	}
}

// Validate reports the first rule that the configuration breaks.
func (c Config) Validate() error {
	switch {
	case c.ModelName == "":
		return turbofan.Invalid("drift.model_name", "is missing")
	case c.Alias == "":
		return turbofan.Invalid("drift.alias", "is missing")
	case c.CacheDir == "":
		return turbofan.Invalid("drift.cache_dir", "is missing")
	case c.Every < 0:
		return turbofan.Invalid("drift.every", "must be at least 0, not %s", c.Every)
	case c.EveryRows < 0:
		return turbofan.Invalid("drift.every_rows", "must be at least 0, not %d", c.EveryRows)
	case c.EveryRows > 0 && c.Poll <= 0:
		return turbofan.Invalid("drift.poll", "must be above 0, not %s", c.Poll)
	case c.Cooldown < 0:
		return turbofan.Invalid("drift.cooldown", "must be at least 0, not %s", c.Cooldown)
	case c.CooldownRows < 0:
		return turbofan.Invalid("drift.cooldown_rows", "must be at least 0, not %d", c.CooldownRows)
	case c.SettleRows < 0:
		return turbofan.Invalid("drift.settle_rows", "must be at least 0, not %d", c.SettleRows)
	case c.SpreadEnded < 1:
		return turbofan.Invalid("drift.spread_ended", "must be at least 1, not %d", c.SpreadEnded)
	case c.RetryUnits < 1:
		return turbofan.Invalid("drift.retry_units", "must be at least 1, not %d", c.RetryUnits)
	}
	return c.validateRule()
}

// validateRule checks what Judge needs.
func (c Config) validateRule() error {
	switch {
	case c.Window < minWindow || c.Window > MaxWindow:
		return turbofan.Invalid("drift.window", "must be from %d to %d, not %d", minWindow, MaxWindow, c.Window)
	case c.MinRows < 2:
		return turbofan.Invalid("drift.min_rows", "must be at least 2, not %d", c.MinRows)
	case c.MinUnits < 1 || c.MinUnits > c.Window:
		return turbofan.Invalid("drift.min_units", "must be from 1 to the window of %d, not %d", c.Window, c.MinUnits)
	case !(c.Threshold > 0) || math.IsInf(c.Threshold, 0):
		return turbofan.Invalid("drift.threshold", "must be a finite number above 0, not %v", c.Threshold)
	case c.Rank < 0:
		return turbofan.Invalid("drift.rank", "must be at least 0, not %d", c.Rank)
	case !(c.Hysteresis >= 0 && c.Hysteresis < 1):
		return turbofan.Invalid("drift.hysteresis", "must be at least 0 and below 1, not %v", c.Hysteresis)
	case c.SpreadUnits < 0:
		return turbofan.Invalid("drift.spread_units", "must be at least 0, not %d", c.SpreadUnits)
	case c.SpreadUnits > 0 && !(c.SpreadAlpha > 0 && c.SpreadAlpha < 1):
		return turbofan.Invalid("drift.spread_alpha", "must be above 0 and below 1, not %v", c.SpreadAlpha)
	case c.ProvisionalUnits < 2:
		return turbofan.Invalid("drift.provisional_units", "must be at least 2, not %d", c.ProvisionalUnits)
	case c.CommissionUnits < c.ProvisionalUnits:
		return turbofan.Invalid("drift.commission_units", "must be at least provisional_units, %d, not %d", c.ProvisionalUnits, c.CommissionUnits)
	case c.ErrorRatio != 0 && !(c.ErrorRatio > 1) || math.IsInf(c.ErrorRatio, 0):
		return turbofan.Invalid("drift.error_ratio", "must be above 1, or 0 to leave the error out, not %v", c.ErrorRatio)
	case c.ErrorUnits < 2:
		return turbofan.Invalid("drift.error_units", "must be at least 2, not %d", c.ErrorUnits)
	case c.ScoredRows < 1 || c.ScoredRows > maxScored:
		return turbofan.Invalid("drift.scored_rows", "must be from 1 to %d, not %d", maxScored, c.ScoredRows)
	}
	return nil
}

// sensorsPerRank is how many sensors there are on C-MAPSS, where the rule was measured, to each that must drift, or little
// more; mostRank is what it was measured with there.
const sensorsPerRank, mostRank = 7, 3

// rankOf is how many of so many watched sensors must drift where nobody said: 1 of fewer than 7, 2 of fewer than 14.
func rankOf(sensors int) int { return min(1+sensors/sensorsPerRank, mostRank) }

const (
	// minWindow is what ten bins need to say anything.
	minWindow = 50
	// MaxWindow is the most readings of a window; it bounds the memory of a check.
	MaxWindow = 1_000_000
	// maxScored is the most that a query for predictions may ask for.
	maxScored = 100_000
)
