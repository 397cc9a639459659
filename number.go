package turbofan

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
)

// Number is a measurement that may be unknown: NaN in Go, null in JSON, never 0. It is always written, because encoding/json
// leaves a field as it was where it is absent: what must read such texts begins from NaN, as ChannelDrift does.
type Number float64

// MarshalJSON writes null for a number that is not finite.
func (n Number) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(n)) || math.IsInf(float64(n), 0) {
		return []byte("null"), nil
	}
	return json.Marshal(float64(n))
}

// UnmarshalJSON reads null as NaN.
func (n *Number) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*n = Number(math.NaN())
		return nil
	}
	v, err := strconv.ParseFloat(string(b), 64)
	if err != nil {
		return fmt.Errorf("must be a number or null, not %s", b)
	}
	*n = Number(v)
	return nil
}
