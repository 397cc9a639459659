package simulate

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"turbofan"
)

// FaultKind is a way in which a sensor breaks.
type FaultKind string

// The kinds of fault.
const (
	Stuck   FaultKind = "stuck"   // the sensor says what it said when the fault began
	Offset  FaultKind = "offset"  // the sensor says Size too much
	Dropout FaultKind = "dropout" // the sensor says nothing
)

// Fault breaks one sensor of a share of the units from a tick on.
type Fault struct {
	Kind   FaultKind
	Sensor int // index into the readings' sensors
	// Share is the share of units that are hit, drawn by the seed.
	Share    float64
	FromTick int
	// ToTick is the first tick at which the sensor is whole again; 0 is never.
	ToTick int
	Size   float64 // of an offset, in the sensor's unit
}

func (f *Fault) validate(sensors []float64, i int) error {
	field := fmt.Sprintf("simulate.faults[%d]", i)
	switch {
	case f.Kind != Stuck && f.Kind != Offset && f.Kind != Dropout:
		return turbofan.Invalid(field+".kind", "must be stuck, offset or dropout, not %q", f.Kind)
	case f.Sensor < 0 || f.Sensor >= len(sensors):
		return turbofan.Invalid(field+".sensor", "must be from 0 to %d", len(sensors)-1)
	case !(f.Share > 0 && f.Share <= 1):
		return turbofan.Invalid(field+".share", "must be above 0 and at most 1")
	case f.FromTick < 0 || f.ToTick != 0 && f.ToTick <= f.FromTick:
		return turbofan.Invalid(field+".from_tick", "must be at least 0 and before to_tick")
	case f.Kind == Offset && (f.Size == 0 || math.IsNaN(f.Size) || math.IsInf(f.Size, 0)):
		return turbofan.Invalid(field+".size", "must be a finite number other than 0")
	}
	return nil
}

// breakSensors draws the units that each fault hits, from a source of its own: with and without faults, the same seed
// gives the same fleet.
func (p *Plan) breakSensors() {
	for i := range p.cfg.Faults {
		rng := rand.New(rand.NewPCG(uint64(p.cfg.Seed), 0xfa017+uint64(i)))
		for j := range p.flights {
			if rng.Float64() < p.cfg.Faults[i].Share {
				p.flights[j].faults = append(p.flights[j].faults, &p.cfg.Faults[i])
			}
		}
	}
}

// reading returns what f sends in tick, and its index in the unit's history; false when it sends nothing. It depends on
// the plan and the tick alone, so a stream that is resumed sends the same again.
func (p *Plan) reading(f *flight, tick int) (r turbofan.Reading, i int, ok bool) {
	if i = p.at(f, tick); i < 0 {
		return r, i, false
	}
	r = f.history.Readings[i]
	r.UnitID = f.id
	whole := true
	for _, fault := range f.faults {
		if tick < fault.FromTick || fault.ToTick > 0 && tick >= fault.ToTick || fault.Sensor >= len(r.Sensors) {
			continue
		}
		if whole {
			r.Sensors, whole = slices.Clone(r.Sensors), false
		}
		v := &r.Sensors[fault.Sensor]
		switch fault.Kind {
		case Stuck:
			*v = f.history.Readings[p.at(f, max(fault.FromTick, f.start))].Sensors[fault.Sensor]
		case Offset:
			*v += fault.Size
		case Dropout:
			*v = math.NaN()
		}
	}
	return r, i, true
}

// at returns the index of the reading that f sends in tick, or -1.
func (p *Plan) at(f *flight, tick int) int {
	i := (tick - f.start) * p.cfg.Sample
	if i < 0 || i >= len(f.history.Readings) {
		return -1
	}
	return i
}
