// Package stat holds the numbers a prognostics service is judged by: errors of a
// remaining-life estimate, calibration of a failure probability, and the distance
// between the data a model was fitted on and the data it sees now.
//
// Slices go in, numbers come out. Nothing here keeps state between calls but types that
// say so, draws unseeded random numbers, or changes its arguments. Functions that cannot give a number return an error that names the
// argument and the rule; a missing value in drift data is NaN and is left out.
package stat

import (
	"errors"
	"fmt"
	"math"
)

var errEmpty = errors.New("has no values, needs at least one")

func finite(name string, v []float64) error {
	if len(v) == 0 {
		return fmt.Errorf("%s %w", name, errEmpty)
	}
	for i, x := range v {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return fmt.Errorf("%s[%d] is %v, must be finite", name, i, x)
		}
	}
	return nil
}

func paired(nameA string, a []float64, nameB string, b []float64) error {
	if len(a) != len(b) {
		return fmt.Errorf("%s has %d values, %s has %d, must be equal", nameA, len(a), nameB, len(b))
	}
	if err := finite(nameA, a); err != nil {
		return err
	}
	return finite(nameB, b)
}

// present copies v without its NaN values.
func present(v []float64) []float64 {
	out := make([]float64, 0, len(v))
	for _, x := range v {
		if x == x {
			out = append(out, x)
		}
	}
	return out
}
