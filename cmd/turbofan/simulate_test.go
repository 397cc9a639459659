package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"turbofan"
	"turbofan/simulate"
)

func TestParseFault(t *testing.T) {
	sensors := turbofan.CMAPSS().Sensors
	f, err := parseFault("offset:sensor_11,share=0.2,from=300,to=600,size=-1.5", sensors)
	if want := (simulate.Fault{Kind: simulate.Offset, Sensor: 10, Share: 0.2, FromTick: 300, ToTick: 600, Size: -1.5}); err != nil || f != want {
		t.Errorf("%+v, %v", f, err)
	}
	if f, err = parseFault("dropout:sensor_2", sensors); err != nil || f != (simulate.Fault{Kind: simulate.Dropout, Sensor: 1, Share: 1}) {
		t.Errorf("%+v, %v", f, err)
	}
	for text, want := range map[string]string{
		"sensor_2":                "must begin with stuck:SENSOR",
		"loud:sensor_2":           "must begin with stuck:SENSOR",
		"stuck:sensor_99":         `there is no sensor "sensor_99"`,
		"stuck:sensor_2,share=x":  `share must be a number, not "x"`,
		"stuck:sensor_2,colour=1": `"colour" is not share, size, from or to`,
	} {
		if _, err := parseFault(text, sensors); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	for want, args := range map[string][]string{
		"turbofan: --fault stuck:x: there is no sensor \"x\"\n":            {"--fault", "stuck:x"},
		"turbofan: --mix-share must be from 0 to 1, not 2\n":               {"--mix-share", "2"},
		"turbofan: --mix-units must be from 0 to 100000, not -1\n":         {"--mix-units", "-1"},
		"turbofan: --missing-feedback must be from 0 to 1, not -1\n":       {"--missing-feedback", "-1"},
		"turbofan: --scenario must be gradual or sudden, not \"gently\"\n": {"--scenario", "gently"},
	} {
		if code, _, errs := call(t, append([]string{"simulate"}, args...)...); code != exitUsage || !strings.HasPrefix(errs, want) {
			t.Errorf("%q: %d %q, want %q", args, code, errs, want)
		}
	}
}

// A stream that a platform has seen before fails nowhere and tells it nothing: that is said.
func TestStreamTellsWhatWasKnown(t *testing.T) {
	r := newRecorder(&simulate.Plan{Ticks: 3}, []simulate.Quarter{{}})
	said := func() string {
		var out bytes.Buffer
		r.summarize(&out, 3, 3)
		return out.String()
	}
	send := func(at time.Time) {
		r.sent(simulate.Event{UnitID: "a", ActualRUL: 9, Latency: time.Millisecond, Prediction: turbofan.Prediction{RUL: 10, At: at}})
	}
	send(time.Now())
	send(time.Now().Add(-2 * time.Second)) // the platform's clock is behind
	if got := said(); !strings.HasPrefix(got, "2 requests, 0 failed, 0 outcomes; p50 ") || strings.Contains(got, "before this run") {
		t.Errorf("said %q of new readings", got)
	}
	send(time.Now().Add(-time.Hour))
	if got := said(); !strings.Contains(got, "\n1 reading had been answered before this run began") {
		t.Errorf("said %q of a reading that was known", got)
	}
}
