package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHealth(t *testing.T) {
	release := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/well", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/ill", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no model serves yet", http.StatusServiceUnavailable)
	})
	mux.HandleFunc("/slow", func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(release) })
	gone := httptest.NewServer(mux)
	gone.Close()
	for _, c := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"well", []string{server.URL + "/well"}, exitOK, ""},
		{"ill", []string{server.URL + "/ill"}, exitFailure, "503 Service Unavailable: no model serves yet"},
		{"slow", []string{server.URL + "/slow", "--timeout", "20ms"}, exitFailure, "deadline exceeded"},
		{"gone", []string{gone.URL + "/well"}, exitFailure, "connection refused"},
		{"no URL", nil, exitUsage, "give one URL"},
		{"not a URL", []string{"localhost:3000"}, exitUsage, "must be an address"},
		{"no time", []string{server.URL + "/well", "--timeout", "0s"}, exitUsage, "--timeout must be above 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := run(t.Context(), append([]string{"health"}, c.args...), &stdout, &stderr); code != c.code || !strings.Contains(stderr.String(), c.says) {
				t.Errorf("exit %d, want %d; it says %q, want %q", code, c.code, stderr.String(), c.says)
			}
		})
	}
}
