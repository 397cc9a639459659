package turbofan_test

import (
	"math"
	"strings"
	"testing"

	"turbofan"
)

func TestSchemaRefusesBoundsThatBoundNothing(t *testing.T) {
	for name, edit := range map[string]func(c *turbofan.Channel, v *float64){
		"min": func(c *turbofan.Channel, v *float64) { c.Min = v },
		"max": func(c *turbofan.Channel, v *float64) { c.Max = v },
	} {
		for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
			s := turbofan.CMAPSS()
			edit(&s.Sensors[3], &v)
			if err := s.Validate(); turbofan.ErrorCode(err) != turbofan.EInvalid || !strings.Contains(err.Error(), "schema.sensors[3]: the bounds of channel sensor_4 must be finite") {
				t.Errorf("%s %v: %v", name, v, err)
			}
		}
	}
	if err := turbofan.CMAPSS().Validate(); err != nil {
		t.Error(err)
	}
}
