package turbofan_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"turbofan"
)

func TestOutage(t *testing.T) {
	var o turbofan.Outage
	start := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	away := fmt.Errorf("ask: %w", turbofan.Errorf(turbofan.EUnavailable, "no answer"))
	for _, c := range []struct {
		second int
		err    error
		want   bool
	}{
		{0, away, false}, {59, away, false}, {60, away, true}, {600, away, true}, {601, nil, false},
		{610, away, false}, {611, errors.New("broken"), true}, {669, away, false}, {670, away, true},
		{671, nil, false}, {700, errors.New("broken"), true}, {800, away, false},
	} {
		if got := o.Fault(c.err, start.Add(time.Duration(c.second)*time.Second)); got != c.want {
			t.Errorf("%v after %d s: a fault %v, want %v", c.err, c.second, got, c.want)
		}
	}
}
