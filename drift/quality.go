package drift

import (
	"turbofan"
	"turbofan/reference"
)

// The kinds of fault in the data.
const (
	stuck      = "stuck"
	absent     = "missing"
	outOfRange = "out_of_range"
	late       = "late"
	misfit     = "schema"
)

func qualityKinds() []string { return []string{stuck, absent, outOfRange, late, misfit} }

// quality lists faults of the data, apart from drift.
func quality(*reference.Reference, []turbofan.StoredReading, *rows) []turbofan.QualityIssue {
	return nil
}
