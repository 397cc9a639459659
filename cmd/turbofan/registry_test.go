package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The registry command serves until it is interrupted, keeps what it was told, and ends cleanly.
func TestRegistryCommand(t *testing.T) {
	dir := t.TempDir()
	db, files := "sqlite:///"+filepath.Join(dir, "new", "r.db"), filepath.Join(dir, "artifacts")
	for _, c := range []struct {
		flags []string
		want  string
	}{
		{[]string{"--db", db, "--artifact-root", files}, `"experiment_id":"1"`},
		{[]string{"--backend-store-uri", db, "--artifacts-destination", files}, "already exists"}, // as mlflow server calls them
	} {
		args := append([]string{"registry", "--port", "0"}, c.flags...)
		ctx, stop := context.WithCancel(t.Context())
		said, log := io.Pipe()
		code := make(chan int, 1)
		go func() {
			code <- run(ctx, args, io.Discard, log)
			log.Close()
		}()
		lines := bufio.NewScanner(said)
		address := ""
		for address == "" && lines.Scan() {
			if _, rest, ok := strings.Cut(lines.Text(), "address="); ok {
				address, _, _ = strings.Cut(rest, " ")
			}
		}
		if address == "" {
			t.Fatal("the registry did not start")
		}
		go io.Copy(io.Discard, said)
		resp, err := http.Post(address+"/api/2.0/mlflow/experiments/create", "application/json", strings.NewReader(`{"name":"kept"}`))
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		if err != nil || !strings.Contains(string(text), c.want) {
			t.Errorf("the answer is %s (%v), want %s", text, err, c.want)
		}
		resp.Body.Close()
		stop()
		if got := <-code; got != exitOK {
			t.Errorf("exit code %d", got)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "new", "r.db")); err != nil {
		t.Error(err)
	}
	if got := run(t.Context(), []string{"registry", "--port", "70000"}, io.Discard, io.Discard); got != exitUsage {
		t.Errorf("a bad port: exit code %d", got)
	}
	var said strings.Builder
	if got := run(t.Context(), []string{"registry", "--db", "mysql://u:secret@h/db"}, io.Discard, &said); got != exitUsage || strings.Contains(said.String(), "secret") {
		t.Errorf("a database of another kind: exit code %d\n%s", got, said.String())
	}
	if got := run(t.Context(), []string{"registry", "--source-pattern", "("}, io.Discard, io.Discard); got != exitUsage {
		t.Errorf("a bad pattern: exit code %d", got)
	}
	for _, c := range []struct{ flags, want string }{
		{"--host 0.0.0.0", "host: \"0.0.0.0\" is not a loopback address and there are no API keys"},
		{"--keys-file " + dir + "/none", "auth.keys_file: cannot read"},
		{"--tls-cert x", "tls: needs both cert and key"},
	} {
		said.Reset()
		if got := run(t.Context(), append([]string{"registry", "--port", "0", "--db", filepath.Join(dir, "y.db"), "--artifact-root", files}, strings.Fields(c.flags)...), io.Discard, &said); got != exitUsage || !strings.Contains(said.String(), c.want) {
			t.Errorf("%s: exit code %d\n%s", c.flags, got, said.String())
		}
	}
	if got := run(t.Context(), []string{"registry", "--port", "0", "--db", filepath.Join(dir, "x.db"), "--artifact-root", "s3://b"}, io.Discard, io.Discard); got != exitUsage {
		t.Errorf("a bad artifact root: exit code %d", got)
	}
}

func TestDatabaseOf(t *testing.T) {
	for uri, want := range map[string]string{
		"r.db": "r.db", "/var/r.db": "/var/r.db", "sqlite:///r.db": "r.db", "sqlite:////var/r.db": "/var/r.db", `C:\r.db`: `C:\r.db`,
		"postgresql://u@h/db": "postgresql://u@h/db", "postgresql+psycopg2://u:p@h:5432/db?sslmode=disable": "postgresql://u:p@h:5432/db?sslmode=disable",
		"postgres://u@h/db": "postgres://u@h/db", "mysql+pymysql://u@h/db": "",
	} {
		if got, err := databaseOf(uri); got != want || (err != nil) != (want == "") {
			t.Errorf("%s: %q, %v", uri, got, err)
		}
	}
}
