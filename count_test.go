package turbofan_test

import (
	"testing"

	"turbofan"
)

func TestCount(t *testing.T) {
	for n, want := range map[int]string{0: "0 units", 1: "1 unit", 2: "2 units", 1000: "1000 units"} {
		if got := turbofan.Count(n, "unit"); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
