package main

import (
	"net/http"
	"strings"
	"testing"
)

// TestServeTellsWhatAFirstStartWaitsFor begins without a model: the log and /readyz say what happens, or what is missing.
func TestServeTellsWhatAFirstStartWaitsFor(t *testing.T) {
	for name, c := range map[string]struct {
		data       func() (string, error)
		ready, log string
	}{
		"with data": {shared.fleet, "a training is under way: ", `msg=retraining role=retrain`},
		"without":   {func() (string, error) { return "", nil }, "there is no training data to make one: give --data, or register one by turbofan train", "no model and no training data"},
	} {
		t.Run(name, func(t *testing.T) {
			args := []string{"--data-dir", t.TempDir()}
			if dir := must(t, c.data); dir != "" {
				args = append(args, "--data", dir)
			}
			p := serve(t, nil, args...)
			p.until("the reason is told", func() bool {
				code, body := p.get(rolePredict, "/readyz")
				return code == http.StatusServiceUnavailable && strings.Contains(body, c.ready)
			})
			p.await(c.log)
		})
	}
}
