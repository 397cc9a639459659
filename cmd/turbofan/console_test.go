package main

import (
	"fmt"
	"html"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"turbofan"
	"turbofan/internal/porttest"
)

// TestConsole walks through the pages as a person would, over a platform that has work behind it.
func TestConsole(t *testing.T) {
	p := serve(t, nil, "--data-dir", dataDir(t))
	p.ready(rolePredict)
	fleet := histories(t, "FD001")
	young, old := fleet[0], fleet[1]
	old.UnitID = "<b>old & odd</b>/1"
	for _, h := range []*turbofan.History{&young, &old} {
		for i, r := range h.Readings {
			if h == &young && i == 30 {
				break
			}
			r.UnitID = h.UnitID
			ask(t, p.predictions(), r)
		}
	}
	if code, body := p.post(roleDrift, "/check", ""); code != http.StatusOK {
		t.Fatalf("check: %d %s", code, body)
	}
	page := func(path string, status int, want ...string) string {
		t.Helper()
		code, body := p.get(roleConsole, path)
		if code != status {
			t.Errorf("%s: %d, want %d\n%s", path, code, status, body)
		}
		for _, w := range want {
			if !strings.Contains(body, w) {
				t.Errorf("%s lacks %q", path, w)
			}
		}
		for _, never := range []string{"<script", "localStorage", "sessionStorage", "http://", "NaN"} {
			if strings.Contains(strings.ReplaceAll(body, "http://www.w3.org", ""), never) {
				t.Errorf("%s has %q", path, never)
			}
		}
		return body
	}
	oldHref := "/units/%3Cb%3Eold%20&amp;%20odd%3C%2Fb%3E%2F1"
	fleetPage := page("/", http.StatusOK, "Are the answers right?", "serving version", "Open first", "&lt;b&gt;old &amp; odd&lt;/b&gt;/1", `href="`+oldHref+`"`, `aria-current="page">Fleet`)
	if first, second := strings.Index(fleetPage, oldHref), strings.Index(fleetPage, `href="/units/`+young.UnitID+`"`); second < 0 || first > second {
		t.Errorf("the unit at its end stands at %d, the young one at %d", first, second)
	}
	page(strings.ReplaceAll(oldHref, "&amp;", "&"), http.StatusOK, "Predicted remaining life", "90% interval", "<svg ")
	page("/units/nobody", http.StatusNotFound, "There is no such page", "nobody")
	page("/models", http.StatusOK, "champion", "RMSE in validation")
	page("/drift", http.StatusOK, "insufficient data", "Because ")
	if code, body := p.post(roleDrift, "/check", ""); code != http.StatusOK {
		t.Fatalf("check: %d %s", code, body)
	}
	if body := page("/drift", http.StatusOK, "Score by check"); strings.Contains(body, ` dashed" d="M`) {
		t.Error("a threshold is drawn where nothing was compared")
	}
	page("/jobs", http.StatusOK, "Retrainings")
	registryPages(t, p)
	failed := old.Readings[len(old.Readings)-1].Cycle
	if code, body := p.post(roleFeedback, "/feedback", fmt.Sprintf(`{"unit_id":%q,"failed_at_cycle":%d}`, old.UnitID, failed)); code != http.StatusOK {
		t.Fatalf("feedback: %d %s", code, body)
	}
	page(strings.ReplaceAll(oldHref, "&amp;", "&"), http.StatusOK, fmt.Sprintf("at cycle %d, as reported", failed), "truth", "What moved the answer at cycle", "An index is the wear")
	if body := page("/", http.StatusOK); strings.Contains(body, oldHref) {
		t.Error("a unit that failed is still to be opened first")
	}
	after := old.Readings[len(old.Readings)-1]
	after.UnitID, after.Cycle = old.UnitID, failed+1
	warning := fmt.Sprintf("was reported failed at cycle %d; this reading is of cycle %d", failed, failed+1)
	if ps := ask(t, p.predictions(), after); !slices.ContainsFunc(ps[0].Warnings, func(w string) bool { return strings.Contains(w, warning) }) {
		t.Errorf("a reading after the end is answered with %q", ps[0].Warnings)
	}
	page("/", http.StatusOK, "Reported failed, and still heard of", oldHref)
	page(strings.ReplaceAll(oldHref, "&amp;", "&"), http.StatusOK, warning)
	foreignNames(t, p)
	if code, _ := p.post(roleConsole, "/", "{}"); code != http.StatusMethodNotAllowed {
		t.Errorf("POST to the console: %d", code)
	}
}

// registryPages holds the registry's own pages: each leads to the next, down to a model's files.
func registryPages(t *testing.T, p *process) {
	t.Helper()
	run := regexp.MustCompile(`href="(/ui/runs/[0-9a-f]{32})"`)
	body, registry := text(p, roleRegistry, "/"), []string{"Newest runs", `id="/experiments/`, `href="/ui/models/rul"`, "champion = version 1"}
	for _, w := range registry {
		if !strings.Contains(body, w) {
			t.Errorf("the registry's page lacks %q", w)
		}
	}
	m := run.FindStringSubmatch(body)
	if m == nil {
		t.Fatalf("no run is named on\n%s", body)
	}
	for path, want := range map[string]string{m[1]: "Parameters", "/ui/models/rul": `href="/ui/models/rul/1"`, "/ui/models/rul/1": m[1], "/ui/experiments/1": m[1]} {
		if body := text(p, roleRegistry, path); !strings.Contains(body, want) {
			t.Errorf("%s lacks %q", path, want)
		}
	}
	file := regexp.MustCompile(`href="(/model-versions/get-artifact[^"]*MLmodel[^"]*)"`).FindStringSubmatch(text(p, roleRegistry, "/ui/models/rul/1"))
	if file == nil || !strings.Contains(text(p, roleRegistry, html.UnescapeString(file[1])), "python_function") {
		t.Errorf("the model's files are not to be had: %q", file)
	}
	if code, body := p.get(roleRegistry, "/ui/runs/none"); code != http.StatusNotFound || !strings.Contains(body, "There is no such page") {
		t.Errorf("a run that is not there: %d\n%s", code, body)
	}
}

// foreignNames asks every role under a name that has come to mean this machine.
func foreignNames(t *testing.T, p *process) {
	t.Helper()
	for _, role := range []string{rolePredict, roleFeedback, roleRetrain, roleDrift, roleConsole, roleRegistry} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.urls[role]+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "evil.example"
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusForbidden {
			t.Errorf("%s answers %s under a foreign name", role, res.Status)
		}
	}
}

// TestConsoleAlone shows what there is to show while the services are not there.
func TestConsoleAlone(t *testing.T) {
	var away []string
	for _, role := range []string{rolePredict, roleFeedback, roleRetrain, roleDrift} {
		away = append(away, "TURBOFAN_URLS_"+strings.ToUpper(role)+"=http://"+porttest.Address(t))
	}
	p := serve(t, away, "--data-dir", t.TempDir(), "--role", roleConsole, "--role", roleRegistry)
	for _, path := range []string{"/", "/drift", "/jobs"} {
		if code, body := p.get(roleConsole, path); code != http.StatusServiceUnavailable || !strings.Contains(body, "Not to be shown now") {
			t.Errorf("%s: %d\n%s", path, code, body)
		}
	}
	if code, body := p.get(roleConsole, "/models"); code != http.StatusOK || !strings.Contains(body, "No version of") || !strings.Contains(body, "Live error: ") {
		t.Errorf("/models: %d\n%s", code, body)
	}
}

func text(p *process, role, path string) string {
	p.t.Helper()
	code, body := p.get(role, path)
	if code != http.StatusOK {
		p.t.Errorf("%s %s: %d\n%s", role, path, code, body)
	}
	return body
}
