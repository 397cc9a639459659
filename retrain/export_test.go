package retrain

import (
	"context"

	"turbofan"
	"turbofan/model"
)

// Fault lets tests ask why a unit is left out.
func Fault(m *model.Model, baseline []turbofan.History, h turbofan.History) (string, error) {
	why, _, err := newInspector(baseline, &champion{model: m}).fault(context.Background(), &h)
	return why, err
}
