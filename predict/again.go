package predict

import (
	"context"
	"fmt"

	"turbofan"
)

// checkOrder refuses a batch in which a reading is not after its unit's newest, but for those that may have been sent
// before. It returns the places of those whose answers have to be recalled from the log; there are none where a unit's
// newest reading alone is repeated, whose answer is at hand.
func checkOrder(readings []turbofan.Reading, units []*unit) (resent []int, err error) {
	for i := range readings {
		r, u := &readings[i], units[i]
		newest := u.sent
		if newest == nil {
			newest = &u.reading
		}
		switch {
		case r.Cycle > newest.Cycle:
			u.sent = r
		case r.Cycle == newest.Cycle:
			if err := changed(r, newest, &u.served.model.Spec().Schema); err != nil {
				return nil, named(err, readings, i)
			}
			if u.sent == nil && u.last.ID == "" {
				resent = append(resent, i)
			}
		case r.Cycle <= u.reading.Cycle:
			resent = append(resent, i)
		default:
			return nil, named(disorder(r, u, newest.Cycle), readings, i)
		}
	}
	return resent, nil
}

// disorder is why a reading is refused that was not sent before its unit's later cycles were answered.
func disorder(r *turbofan.Reading, u *unit, newest int) error {
	err := &turbofan.Error{Code: turbofan.EConflict, Field: "reading.cycle"}
	if u.failed > 0 {
		err.Message = fmt.Sprintf("cycle %d of unit %s comes after cycle %d was answered, and the unit was reported failed at cycle %d: a new life needs a unit_id of its own, such as %s.2",
			r.Cycle, r.UnitID, newest, u.failed, r.UnitID)
		return err
	}
	err.Message = fmt.Sprintf("cycle %d of unit %s comes after cycle %d was answered; send a unit's cycles in ascending order", r.Cycle, r.UnitID, newest)
	return err
}

// changed names the first value in which a reading differs from what was sent before; nil where they say the same,
// missing values included.
func changed(r, before *turbofan.Reading, schema *turbofan.Schema) error {
	err := &turbofan.Error{Code: turbofan.EConflict, Field: "reading.cycle"}
	if len(r.Settings) != len(before.Settings) || len(r.Sensors) != len(before.Sensors) { // of another equipment's schema, from before
		err.Message = fmt.Sprintf("cycle %d of unit %s was already sent with other channels", r.Cycle, r.UnitID)
		return err
	}
	tell := func(group, channel string, i int, now, was float64) error {
		err.Field = fmt.Sprintf("reading.%s[%d]", group, i)
		err.Message = fmt.Sprintf("cycle %d of unit %s was already sent with %s for %s, not %s", r.Cycle, r.UnitID, value(was), channel, value(now))
		return err
	}
	for i, v := range r.Settings {
		if !alike(v, before.Settings[i]) {
			return tell("settings", schema.Settings[i].Name, i, v, before.Settings[i])
		}
	}
	for i, v := range r.Sensors {
		if !alike(v, before.Sensors[i]) {
			return tell("sensors", schema.Sensors[i].Name, i, v, before.Sensors[i])
		}
	}
	return nil
}

func alike(a, b float64) bool { return a == b || a != a && b != b }

// value is how messages write a value of a reading: as a client would.
func value(v float64) string {
	if v != v {
		return "null"
	}
	return fmt.Sprint(v)
}

// recall finds in the log what was answered to the readings at the places resent, each of which is not after its unit's
// newest. One that was not sent before, or with other values, is a conflict.
func (s *Service) recall(ctx context.Context, c *call, readings []turbofan.Reading, resent []int) error {
	ask := make([]turbofan.Reading, len(resent))
	for n, i := range resent {
		ask[n] = readings[i]
	}
	found, err := s.stores.Predictions.Answered(ctx, ask)
	if err != nil {
		return err
	}
	logged := byCycle(found)
	c.again = make(map[int]turbofan.Prediction, len(resent))
	for _, i := range resent {
		r, u := &readings[i], c.each[i]
		before := logged[cycleOf(r)]
		if before == nil {
			return named(disorder(r, u, u.reading.Cycle), readings, i)
		}
		if err := changed(r, &before.Reading, &u.served.model.Spec().Schema); err != nil {
			if u.failed > 0 { // a new life under the name of one that ended
				err = disorder(r, u, u.reading.Cycle)
			}
			return named(err, readings, i)
		}
		c.again[i] = before.Prediction
		if r.Cycle == u.reading.Cycle {
			u.last = before.Prediction
		}
	}
	return nil
}

// confirm waits until the records of a request are on disk and returns those that were kept. A cycle that another replica
// answered meanwhile keeps that answer: out, which has one per reading, then tells it too, so that whatever was answered is
// what the log has, and its unit is brought up to date when it speaks next. Kept with other values it is an EConflict.
func (s *Service) confirm(ctx context.Context, c *call, records []turbofan.PredictionRecord, readings []turbofan.Reading, out []turbofan.Prediction) ([]turbofan.PredictionRecord, error) {
	ask := make([]turbofan.Reading, len(records))
	for i := range records {
		ask[i] = records[i].Reading
	}
	found, err := s.stores.Predictions.Answered(ctx, ask)
	if err != nil {
		return nil, err
	}
	logged := byCycle(found)
	kept := records[:0]
	for i := range records {
		r := &records[i]
		first := logged[cycleOf(&r.Reading)]
		if first == nil {
			return nil, turbofan.Errorf(turbofan.EUnavailable, "the store did not keep cycle %d of unit %s", r.Reading.Cycle, r.Reading.UnitID)
		}
		if first.Prediction.ID == r.Prediction.ID {
			kept = append(kept, *r)
		}
	}
	if len(kept) == len(records) {
		return kept, nil
	}
	for i := range readings {
		r, u := &readings[i], c.each[i]
		first := logged[cycleOf(r)]
		if first == nil || first.Prediction.ID == out[i].ID {
			continue // it was answered before, or by us
		}
		if err := changed(r, &first.Reading, &u.served.model.Spec().Schema); err != nil {
			return nil, named(err, readings, i)
		}
		out[i] = first.Prediction
		u.last = turbofan.Prediction{}
	}
	return kept, nil
}

// unitCycle names one reading.
type unitCycle struct {
	unit  string
	cycle int
}

func cycleOf(r *turbofan.Reading) unitCycle { return unitCycle{r.UnitID, r.Cycle} }

// byCycle finds records by unit and cycle.
func byCycle(records []turbofan.PredictionRecord) map[unitCycle]*turbofan.PredictionRecord {
	out := make(map[unitCycle]*turbofan.PredictionRecord, len(records))
	for i := range records {
		out[cycleOf(&records[i].Reading)] = &records[i]
	}
	return out
}

// repeat answers reading i of a request once more, with the answer that it got.
func (s *Service) repeat(c *call, i int, r *turbofan.Reading, explain bool, p *turbofan.Prediction) error {
	u := c.each[i]
	if logged, ok := c.again[i]; ok {
		*p = logged
	} else {
		*p = u.last
	}
	// The features of older readings are not kept, and another version's reasons would not explain this version's numbers.
	if m := u.served; explain && len(p.Drivers) == 0 && r.Cycle == u.state.LastCycle && p.ModelName == m.version.Name && p.ModelVersion == m.version.Version {
		var err error
		p.Drivers, err = m.model.Explain(u.row, s.cfg.Drivers)
		return err
	}
	return nil
}
