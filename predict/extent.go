package predict

import (
	"slices"

	"turbofan/condition"
)

// extent is within which settings the store's young readings lie, as far as they were read. A model that knows all of it
// need not read them before it serves: there is nothing in them that it could learn. The zero extent is of no reading.
type extent struct {
	seq    int64 // the place in the store up to which they were read
	cycles int   // up to which age
	boxes  []box
	// wide says that there are more boxes than are kept: no model is known to know them all.
	wide bool
}

// box is the least and the greatest of each setting over readings of one condition.
type box struct{ low, high []float64 }

// maxBoxes is how many conditions an extent tells apart. Every reading is compared with all of them.
const maxBoxes = 64

// add widens the extent by a reading. Those within the tolerance of one box's middle share the box.
func (e *extent) add(settings, tolerance []float64) {
	for i := range e.boxes {
		b := &e.boxes[i]
		near := true
		for j, v := range settings {
			near = near && v >= b.high[j]-tolerance[j] && v <= b.low[j]+tolerance[j] // it grows no wider than the tolerance
		}
		if !near {
			continue
		}
		for j, v := range settings {
			b.low[j], b.high[j] = min(b.low[j], v), max(b.high[j], v)
		}
		return
	}
	if len(e.boxes) == maxBoxes {
		e.wide = true
		return
	}
	e.boxes = append(e.boxes, box{slices.Clone(settings), slices.Clone(settings)})
}

// known reports whether every reading within the extent is in a condition that n knows. Where the nearest condition of a
// box's two ends is one, its tolerance holds all between them.
func (e *extent) known(n *condition.Normalizer) bool {
	if e.wide || n.Config.HealthyCycles > e.cycles {
		return false
	}
	for i := range e.boxes {
		if k := n.Find(e.boxes[i].low); k < 0 || k != n.Find(e.boxes[i].high) {
			return false
		}
	}
	return true
}

// clone returns an extent that goes on by itself.
func (e *extent) clone() extent {
	out := *e
	out.boxes = make([]box, len(e.boxes))
	for i, b := range e.boxes {
		out.boxes[i] = box{slices.Clone(b.low), slices.Clone(b.high)}
	}
	return out
}
