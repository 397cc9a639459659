package feedback

import (
	"unicode"
	"unicode/utf8"

	"turbofan"
)

const (
	maxKey  = 128  // bytes of a key or a prediction id
	maxNote = 4096 // bytes
)

// The events an outcome can tell of.
const (
	eventFailure     = "failure"
	eventMaintenance = "maintenance"
	eventInspection  = "inspection"
)

// validate reports the first rule that o breaks; path comes before the names of fields.
func validate(o *turbofan.Outcome, path string) error {
	for _, check := range [...]func(*turbofan.Outcome, string) error{checkSubject, checkEvent, checkTruth, checkTexts} {
		if err := check(o, path); err != nil {
			return err
		}
	}
	return nil
}

// checkSubject wants to know which unit the outcome is about.
func checkSubject(o *turbofan.Outcome, path string) error {
	if o.UnitID == "" && o.PredictionID == "" {
		return turbofan.Invalid(path+"unit_id", "is missing: name the unit, or give prediction_id")
	}
	if o.UnitID != "" {
		if err := turbofan.ValidateUnitID(o.UnitID); err != nil {
			return turbofan.Invalid(path+"unit_id", "%s", err.Error())
		}
	}
	if o.Cycle < 0 || o.Cycle > turbofan.MaxCycle {
		return turbofan.Invalid(path+"cycle", "must be a whole number from 1 to %d, not %d", turbofan.MaxCycle, o.Cycle)
	}
	return nil
}

func checkEvent(o *turbofan.Outcome, path string) error {
	switch o.Event {
	case "", eventFailure, eventMaintenance, eventInspection, turbofan.EventWithdrawn:
		return nil
	default:
		return turbofan.Invalid(path+"event", "must be %q, %q, %q or %q, not %q", eventFailure, eventMaintenance, eventInspection, turbofan.EventWithdrawn, o.Event)
	}
}

// checkTruth wants exactly one truth, or an event that needs none.
func checkTruth(o *turbofan.Outcome, path string) error {
	if o.Withdraws() && o.FailedAtCycle == nil {
		return turbofan.Invalid(path+"failed_at_cycle", "is missing: name the end that is withdrawn")
	}
	if o.FailedAtCycle != nil && o.ActualRUL != nil {
		return turbofan.Invalid(path+"actual_rul", "cannot stand beside failed_at_cycle: give exactly one of them")
	}
	if at := o.FailedAtCycle; at != nil {
		if *at < 1 || *at > turbofan.MaxCycle {
			return turbofan.Invalid(path+"failed_at_cycle", "must be a whole number from 1 to %d, not %d", turbofan.MaxCycle, *at)
		}
		if *at < o.Cycle {
			return turbofan.Invalid(path+"failed_at_cycle", "is %d, before cycle %d that the outcome speaks of", *at, o.Cycle)
		}
		return nil
	}
	if rul := o.ActualRUL; rul != nil {
		if !finite(*rul) || *rul < 0 || *rul > turbofan.MaxCycle {
			return turbofan.Invalid(path+"actual_rul", "must be a number from 0 to %d, not %v", turbofan.MaxCycle, *rul)
		}
		if o.Cycle == 0 && o.PredictionID == "" {
			return turbofan.Invalid(path+"cycle", "is missing: actual_rul is the remaining life at a cycle; name the cycle, or give prediction_id")
		}
		return nil
	}
	if o.Event != eventMaintenance && o.Event != eventInspection {
		return turbofan.Invalid(path+"actual_rul", "is missing: give exactly one of failed_at_cycle and actual_rul, unless event is %q or %q",
			eventMaintenance, eventInspection)
	}
	return nil
}

func checkTexts(o *turbofan.Outcome, path string) error {
	for _, f := range [...]struct {
		name, text string
		limit      int
		lines      bool // may hold line breaks and tabs
	}{
		{"key", o.Key, maxKey, false},
		{"prediction_id", o.PredictionID, maxKey, false},
		{"note", o.Note, maxNote, true},
	} {
		if len(f.text) > f.limit {
			return turbofan.Invalid(path+f.name, "has %d bytes, more than the %d allowed", len(f.text), f.limit)
		}
		if !utf8.ValidString(f.text) {
			return turbofan.Invalid(path+f.name, "is not UTF-8 text")
		}
		if !f.lines {
			if err := turbofan.ValidateVisible(f.text); err != nil {
				return turbofan.Invalid(path+f.name, "%s", err)
			}
			continue
		}
		for _, r := range f.text {
			if unicode.IsControl(r) && r != '\n' && r != '\r' && r != '\t' {
				return turbofan.Invalid(path+f.name, "has the control character %U", r)
			}
		}
	}
	return nil
}
