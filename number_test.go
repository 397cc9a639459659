package turbofan_test

import (
	"encoding/json"
	"math"
	"testing"

	"turbofan"
)

// Numbers that are not finite are null in JSON and come back as unknown, all others as they were.
func TestNumber(t *testing.T) {
	unknown := turbofan.Number(math.NaN())
	for _, c := range []struct {
		n, back turbofan.Number
		text    string
	}{
		{0, 0, "0"}, {-12.5, -12.5, "-12.5"}, {1e-300, 1e-300, "1e-300"}, {math.MaxFloat64, math.MaxFloat64, "1.7976931348623157e+308"},
		{unknown, unknown, "null"}, {turbofan.Number(math.Inf(1)), unknown, "null"}, {turbofan.Number(math.Inf(-1)), unknown, "null"},
	} {
		b, err := json.Marshal(c.n)
		if err != nil || string(b) != c.text {
			t.Errorf("%v is written %s, %v; want %s", c.n, b, err, c.text)
		}
		back := turbofan.Number(7)
		if err := json.Unmarshal(b, &back); err != nil || math.Float64bits(float64(back)) != math.Float64bits(float64(c.back)) {
			t.Errorf("%s is read as %v, %v; want %v", b, back, err, c.back)
		}
	}
	for _, text := range []string{`"1"`, `true`, `[1]`, `1e999`} {
		if err := json.Unmarshal([]byte(text), new(turbofan.Number)); err == nil {
			t.Errorf("%s was read as a number", text)
		}
	}
}

// A comparison that was stored without a number does not read as one that found 0.
func TestAbsentNumbers(t *testing.T) {
	for _, text := range []string{`{"channel":"temp","psi":2,"drifted":true}`, `{"channel":"temp","psi":2,"threshold":null,"ks":null,"drifted":true}`} {
		var c turbofan.ChannelDrift
		if err := json.Unmarshal([]byte(text), &c); err != nil || c.Channel != "temp" || c.PSI != 2 || !c.Drifted {
			t.Errorf("%s is read as %+v, %v", text, c, err)
		}
		for _, n := range []turbofan.Number{c.Threshold, c.KS, c.KSPValue, c.Wasserstein, c.MeanShift} {
			if !math.IsNaN(float64(n)) {
				t.Errorf("%s is read as %+v", text, c)
			}
		}
	}
	if err := json.Unmarshal([]byte(`{"psi":"2"}`), new(turbofan.ChannelDrift)); err == nil {
		t.Error("a text was read as a number")
	}
}

// The nouns that hold such numbers say null for them.
func TestUnknownNumbers(t *testing.T) {
	for _, c := range []struct {
		noun any
		want string
	}{
		{turbofan.ChannelDrift{Channel: "temp", PSI: 2, Threshold: 0.2, KSPValue: turbofan.Number(math.NaN()), Wasserstein: turbofan.Number(math.Inf(1)), Drifted: true},
			`{"channel":"temp","psi":2,"threshold":0.2,"ks":0,"ks_p_value":null,"wasserstein":null,"mean_shift":0,"drifted":true}`},
		{turbofan.Driver{Feature: "age", Value: turbofan.Number(math.NaN()), Contribution: -1.5}, `{"feature":"age","value":null,"contribution":-1.5}`},
	} {
		if b, err := json.Marshal(c.noun); err != nil || string(b) != c.want {
			t.Errorf("%s, %v\nwant %s", b, err, c.want)
		}
	}
}
