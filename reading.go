package turbofan

import (
	"context"
	"fmt"
	"math"
	"time"
	"unicode"
)

// Reading is what one unit said in one cycle, in the order of its Schema. NaN stands for a missing sensor value;
// settings must be finite.
type Reading struct {
	UnitID   string    `json:"unit_id"`
	Cycle    int       `json:"cycle"` // age of the unit in cycles, from 1
	Settings []float64 `json:"settings"`
	Sensors  []float64 `json:"sensors"`
}

// MaxValue is the largest value of a setting or a sensor, either way. No machine says more, and squares of what it says
// can be summed over any number of readings; the largest floating-point number, which some historians store for "no
// value", is beyond it.
const MaxValue = 1e100

// Validate reports the first rule of the schema that the reading breaks; field is the path that errors name.
func (r *Reading) Validate(s *Schema, field string) error {
	if err := ValidateUnitID(r.UnitID); err != nil {
		return Invalid(field+".unit_id", "%s", err.Error())
	}
	if r.Cycle < 1 || r.Cycle > MaxCycle {
		return Invalid(field+".cycle", "must be a whole number from 1 to %d, not %d", MaxCycle, r.Cycle)
	}
	if len(r.Settings) != len(s.Settings) {
		return Invalid(field+".settings", "must have %d values, one a setting of %s; it has %d", len(s.Settings), s.Name, len(r.Settings))
	}
	if len(r.Sensors) != len(s.Sensors) {
		return Invalid(field+".sensors", "must have %d values, one a sensor of %s; it has %d", len(s.Sensors), s.Name, len(r.Sensors))
	}
	for i, v := range r.Settings {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return Invalid(fmt.Sprintf("%s.settings[%d]", field, i), "%s must be a finite number", s.Settings[i].Name)
		}
		if math.Abs(v) > MaxValue {
			return Invalid(fmt.Sprintf("%s.settings[%d]", field, i), "%s is %g, beyond ±%g", s.Settings[i].Name, v, MaxValue)
		}
		if err := s.Settings[i].check(v); err != nil {
			return Invalid(fmt.Sprintf("%s.settings[%d]", field, i), "%s", err.Error())
		}
	}
	for i, v := range r.Sensors {
		if math.IsInf(v, 0) {
			return Invalid(fmt.Sprintf("%s.sensors[%d]", field, i), "%s must be a finite number, or null where it is missing", s.Sensors[i].Name)
		}
		if math.Abs(v) > MaxValue {
			return Invalid(fmt.Sprintf("%s.sensors[%d]", field, i), "%s is %g, beyond ±%g: send null where a value is missing", s.Sensors[i].Name, v, MaxValue)
		}
		if err := s.Sensors[i].check(v); err != nil {
			return Invalid(fmt.Sprintf("%s.sensors[%d]", field, i), "%s", err.Error())
		}
	}
	return nil
}

func (c *Channel) check(v float64) error {
	if c.Min != nil && v < *c.Min {
		return fmt.Errorf("%s is %g, below its least possible value %g", c.Name, v, *c.Min)
	}
	if c.Max != nil && v > *c.Max {
		return fmt.Errorf("%s is %g, above its greatest possible value %g", c.Name, v, *c.Max)
	}
	return nil
}

// ValidateUnitID reports why id cannot name a unit: it must have 1 to MaxUnitIDLen bytes of characters that are seen and
// stay in their order, so that two units that look alike on a screen, or in a log, are one.
func ValidateUnitID(id string) error {
	if id == "" {
		return fmt.Errorf("is missing")
	}
	if len(id) > MaxUnitIDLen {
		return fmt.Errorf("has %d bytes, more than the %d allowed", len(id), MaxUnitIDLen)
	}
	return ValidateVisible(id)
}

// ValidateVisible reports the first character of a name that is not seen, or that moves others: a control character, a mark
// of writing direction, a character without width, or a byte that is not UTF-8.
func ValidateVisible(name string) error {
	for _, r := range name {
		switch {
		case r >= 0x20 && r < 0x7f: // nearly all
		case r == 0xfffd:
			return fmt.Errorf("has bytes that are not UTF-8, or the sign that stands for such")
		case unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp):
			return fmt.Errorf("has the character %U, which controls how text is shown and is not seen itself", r)
		}
	}
	return nil
}

// History is the life of one unit so far: readings in ascending order of cycle and, where it is known, the cycle at
// which the unit failed.
type History struct {
	UnitID   string
	Readings []Reading
	// FailedAtCycle is the unit's last cycle of life; 0 means that its end is not known.
	FailedAtCycle int
}

// RUL returns the true remaining useful life at reading i, in cycles, and false when the unit's end is unknown.
func (h *History) RUL(i int) (float64, bool) {
	if h.FailedAtCycle == 0 {
		return math.NaN(), false
	}
	return float64(h.FailedAtCycle - h.Readings[i].Cycle), true
}

// StoredReading is a reading with its place in the order of arrival.
type StoredReading struct {
	Reading
	Seq int64     // grows with arrival; unique in one store
	At  time.Time // when it was received
}

// ReadingQuery selects stored readings in order of arrival.
type ReadingQuery struct {
	AfterSeq int64 // only readings that arrived after this one
	Last     int   // the newest n that match; 0 means no such bound
	Limit    int   // the oldest n that match; 0 means no such bound
	MaxCycle int   // only readings of units at most this old; 0 means any age
}

// ReadingStore gives back readings. They are written with their predictions by PredictionStore.Append.
type ReadingStore interface {
	// History returns the readings of one unit in order of cycle, at most up to throughCycle (0: all).
	// A unit that never sent one is an ENotFound error.
	History(ctx context.Context, unitID string, throughCycle int) ([]Reading, error)
	// Readings returns readings in order of arrival.
	Readings(ctx context.Context, q ReadingQuery) ([]StoredReading, error)
	// Units lists the units seen, the newest reading first, without the first offset of them; a limit of 0 means no bound.
	Units(ctx context.Context, limit, offset int) ([]UnitSummary, error)
}

// UnitSummary is what the store knows of a unit.
type UnitSummary struct {
	UnitID        string      `json:"unit_id"`
	FirstCycle    int         `json:"first_cycle"`
	LastCycle     int         `json:"last_cycle"`
	Readings      int         `json:"readings"`
	LastSeen      time.Time   `json:"last_seen"`
	FailedAtCycle int         `json:"failed_at_cycle,omitempty"` // 0 while the unit lives
	Last          *Prediction `json:"last_prediction,omitempty"`
}
