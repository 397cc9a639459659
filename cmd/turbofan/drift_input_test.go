package main

import (
	"strings"
	"testing"
)

// A reference of one row is bad input, whichever way the two files are compared.
func TestDriftBadInput(t *testing.T) {
	good := put(t, "good.csv", machines(3000, 1, 0))
	row := put(t, "row.txt", "1 1"+strings.Repeat(" 1", 24)+"\n")
	for _, tt := range []struct{ ref, current, want string }{
		{put(t, "one.csv", machines(1, 1, 0)), good, "one.csv"},
		{row, row, "row.txt"},
	} {
		code, _, errs := call(t, "drift", tt.ref, tt.current)
		if code != exitUsage || !strings.Contains(errs, tt.want) {
			t.Errorf("%d %q, want %d %q", code, errs, exitUsage, tt.want)
		}
	}
}
