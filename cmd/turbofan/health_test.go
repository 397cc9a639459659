package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"turbofan/internal/porttest"
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
	gone := "http://" + porttest.Address(t)
	for _, c := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"well", []string{server.URL + "/well"}, exitOK, ""},
		{"ill", []string{server.URL + "/ill"}, exitFailure, "503 Service Unavailable: no model serves yet"},
		{"slow", []string{server.URL + "/slow", "--timeout", "20ms"}, exitFailure, "deadline exceeded"},
		{"gone", []string{gone + "/well"}, exitFailure, "connection refused"},
		{"two URLs", []string{server.URL, server.URL}, exitUsage, "give one URL"},
		{"no such role", []string{"--role", "party"}, exitUsage, `"party" is not one of`},
		{"any port", []string{"--role", "predict", "--port", "predict=0"}, exitUsage, "ports.predict: is 0, any free port"},
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

// TestHealthOfRoles asks the roles on the ports of the configuration, as a container does that was told by variables.
func TestHealthOfRoles(t *testing.T) {
	role := func(ready int, serve func(http.Handler) *httptest.Server) (port string) {
		mux := http.NewServeMux()
		mux.HandleFunc("/livez", func(http.ResponseWriter, *http.Request) {})
		mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(ready) })
		s := serve(mux)
		t.Cleanup(s.Close)
		return s.URL[strings.LastIndexByte(s.URL, ':')+1:]
	}
	t.Setenv("TURBOFAN_PORTS_PREDICT", role(http.StatusServiceUnavailable, httptest.NewServer))
	t.Setenv("TURBOFAN_PORTS_FEEDBACK", role(http.StatusOK, httptest.NewServer))
	t.Setenv("TURBOFAN_URLS_FEEDBACK", "http://feedback-api.invalid:3001") // how others reach it
	t.Setenv("TURBOFAN_HOST", "0.0.0.0")
	t.Setenv("TURBOFAN_INSECURE_LISTEN", "true")
	for _, c := range []struct {
		roles        string
		args         []string
		code         int
		prints, says string
	}{
		{"feedback", nil, exitOK, "feedback  http://127.0.0.1:", ""},
		{"predict,feedback", nil, exitFailure, "feedback  http://127.0.0.1:", "predict: http://127.0.0.1:"},
		{"predict,feedback", []string{"--live"}, exitOK, "predict   http://127.0.0.1:", ""},
		{"predict", []string{"--role", "feedback"}, exitOK, "feedback  http://127.0.0.1:", ""},
	} {
		t.Setenv("TURBOFAN_ROLES", c.roles)
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), append([]string{"health"}, c.args...), &stdout, &stderr); code != c.code || !strings.Contains(stdout.String(), c.prints) || !strings.Contains(stderr.String(), c.says) {
			t.Errorf("%s %v: exit %d, it prints %q and says %q", c.roles, c.args, code, stdout.String(), stderr.String())
		}
	}
	// A certificate that is for another name, as most are.
	t.Setenv("TURBOFAN_TLS_CERT", "cert.pem")
	t.Setenv("TURBOFAN_TLS_KEY", "key.pem")
	t.Setenv("TURBOFAN_ROLES", "drift")
	t.Setenv("TURBOFAN_PORTS_DRIFT", role(http.StatusOK, httptest.NewTLSServer))
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"health"}, &stdout, &stderr); code != exitOK || !strings.HasPrefix(stdout.String(), "drift     https://127.0.0.1:") {
		t.Errorf("behind TLS: exit %d, it prints %q and says %q", code, stdout.String(), stderr.String())
	}
}

// TestProbes asks every role whether it lives, is ready and what it measures, which all answer alike, and to GET alone.
func TestProbes(t *testing.T) {
	p := serve(t, nil, "--data-dir", dataDir(t))
	p.ready(rolePredict)
	p.ready(roleDrift)
	for _, role := range allRoles() {
		for _, path := range []string{"/livez", "/readyz", "/healthz", "/metrics"} {
			if code, body := p.get(role, path); code != http.StatusOK {
				t.Errorf("%s: GET %s: %d %s", role, path, code, body)
			}
			if code, body := p.post(role, path, "{}"); code != http.StatusMethodNotAllowed {
				t.Errorf("%s: POST %s: %d %s", role, path, code, body)
			}
		}
	}
}
