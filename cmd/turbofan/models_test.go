package main

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"turbofan"
)

// models runs a command below models and returns its exit code with what it printed.
func models(t *testing.T, args ...string) (int, string, string) {
	t.Helper()
	var out, said bytes.Buffer
	code := run(t.Context(), append([]string{"models"}, args...), &out, &said)
	return code, out.String(), said.String()
}

func TestModelsCommands(t *testing.T) {
	dir := dataDir(t)
	if err := shared.command("train", "--data", must(t, shared.fleet), "--data-dir", dir, "--folds", "2", "--model", "extra_trees"); err != nil {
		t.Fatal(err)
	}
	p := serve(t, quick, "--data-dir", dir, "--role", "predict", "--role", "registry", "--role", "feedback")
	p.ready(rolePredict)
	url := p.urls[rolePredict]
	serves := func(version string) func() bool {
		return func() bool {
			s, err := p.predictions().Serving(t.Context())
			return err == nil && s.ModelVersion == version
		}
	}
	step := func(wantCode int, want string, args ...string) {
		t.Helper()
		code, out, said := models(t, args...)
		if code != wantCode || !strings.Contains(out+said, want) {
			t.Errorf("models %s: %d, %s%s; want %d and %q", strings.Join(args, " "), code, out, said, wantCode, want)
		}
	}
	step(exitOK, "version 2 of rul is champion in place of version 1\n"+url+" serves it now", "promote", "2", "--url", url, "--reason", "a test")
	if !serves("2")() {
		t.Error("version 2 does not serve at once")
	}
	unit := histories(t, "FD001")[0]
	if a := ask(t, p.predictions(), unit.Readings[0])[0]; a.ModelVersion != "2" {
		t.Errorf("version %s answered", a.ModelVersion)
	}
	// By the directory, beside the running platform, which takes it within its refresh time.
	step(exitOK, "version 1 of rul is champion in place of version 2\nplatforms over this registry take it", "rollback", "--data-dir", dir)
	p.until("version 1 serves again", serves("1"))
	// By MLflow's protocol, as a real MLflow server would be asked.
	step(exitOK, "version 2 of rul is champion in place of version 1", "promote", "2", "--tracking-uri", p.urls[roleRegistry])
	p.until("version 2 serves again", serves("2"))
	step(exitFailure, `there is no version "7" of rul; the newest is 2`, "promote", "7", "--url", url)
	step(exitFailure, "version 2 is champion already", "promote", "2", "--data-dir", dir)
	step(exitOK, "canary 25%", "canary", "1", "--share", "0.25", "--url", url)
	step(exitOK, "challenger", "challenger", "1", "--url", url)
	step(exitOK, url+" serves version 2", "list", "--url", url)
	step(exitOK, "-", "challenger", "--abort", "--tracking-uri", p.urls[roleRegistry])
	if code, out, said := models(t, "list", "--url", url); code != exitOK || strings.Contains(out, "challenger") {
		t.Errorf("an ended trial is still listed: %s%s", out, said)
	}
	step(exitOK, `"canary_share": 0.25`, "list", "--json", "--tracking-uri", p.urls[roleRegistry])
	step(exitOK, "VERSION", "canary", "--abort", "--url", url)
	step(exitOK, "can serve       yes: it answered its golden histories", "show", "@champion", "--url", url)
	step(exitUsage, "share: must be above 0 and at most 1", "canary", "1", "--share", "2", "--url", url)
	step(exitUsage, "--url and --data-dir name two places", "list", "--url", url, "--data-dir", dir)
	step(exitUsage, "holds no registry", "list", "--data-dir", t.TempDir())
	step(exitUsage, "give one version", "promote")
	for _, c := range []struct{ method, path, body, want string }{
		{http.MethodPost, "/models/promote", `{"version":true}`, `"field":"version"`},
		{http.MethodPost, "/models/promote", `{}`, `version: is missing`},
		{http.MethodPost, "/models/promote", `{"version":"1","why":"x"}`, `why`},
	} {
		if code, body := p.post(rolePredict, c.path, c.body); code != http.StatusBadRequest || !strings.Contains(body, c.want) {
			t.Errorf("%s %s: %d %s, want %s", c.path, c.body, code, body, c.want)
		}
	}
	if code, body := p.post(rolePredict, "/models/promote", `{"version":1}`); code != http.StatusOK || !strings.Contains(body, `"to":"1"`) {
		t.Errorf("a number as version: %d %s", code, body)
	}
	if _, err := p.predictions().Unit(t.Context(), unit.UnitID); turbofan.ErrorCode(err) != "" {
		t.Error(err)
	}
}
