package turbofan_test

import (
	"encoding/json"
	"math"
	"testing"

	"turbofan"
)

// Numbers that are not finite are null in JSON and come back as unknown, all others as they were.
func TestChannelDriftJSON(t *testing.T) {
	b, err := json.Marshal(turbofan.ChannelDrift{Channel: "temp", PSI: 2, Threshold: 0.2, KS: 0, KSPValue: math.NaN(), Wasserstein: math.Inf(1), MeanShift: math.Inf(-1), Drifted: true})
	const want = `{"channel":"temp","psi":2,"threshold":0.2,"ks":0,"ks_p_value":null,"wasserstein":null,"mean_shift":null,"drifted":true}`
	if err != nil || string(b) != want {
		t.Fatalf("%s, %v\nwant %s", b, err, want)
	}
	var c turbofan.ChannelDrift
	if err := json.Unmarshal(b, &c); err != nil || c.Channel != "temp" || c.PSI != 2 || c.Threshold != 0.2 || c.KS != 0 || !c.Drifted {
		t.Errorf("%+v, %v", c, err)
	}
	for _, x := range []float64{c.KSPValue, c.Wasserstein, c.MeanShift} {
		if !math.IsNaN(x) {
			t.Errorf("%v was null, want NaN", x)
		}
	}
}
