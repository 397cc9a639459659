// Package postgrestest runs a real PostgreSQL server for tests, on a directory and a socket of its own.
package postgrestest

import (
	"bufio"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Server is a running server; the end of the test that started it ends it.
type Server struct {
	dir, bin string
	attr     *syscall.SysProcAttr
	server   *exec.Cmd
	drained  chan struct{} // closed once the server's log has ended
	schemas  int
}

// Start starts the newest PostgreSQL that is installed, on a socket in a temporary directory. A test is skipped where
// none is installed, but fails in CI.
func Start(t testing.TB) *Server {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("PostgreSQL is not installed: apt-get install postgresql")
		}
		t.Skip("PostgreSQL is not installed: apt-get install postgresql")
	}
	slices.SortFunc(found, func(a, b string) int { return len(a) - len(b) })
	bin := filepath.Dir(found[len(found)-1])
	dir, err := os.MkdirTemp("/tmp", "turbofan-pg-") // a socket's path is short, and t.TempDir is shut to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	var attr *syscall.SysProcAttr
	if os.Geteuid() == 0 {
		attr = &syscall.SysProcAttr{Credential: lesserUser(t)}
		if err := os.Chown(dir, int(attr.Credential.Uid), int(attr.Credential.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	data := filepath.Join(dir, "data")
	initdb := exec.CommandContext(t.Context(), filepath.Join(bin, "initdb"), "-D", data, "-U", "turbofan", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
	initdb.SysProcAttr, initdb.Dir = attr, dir
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	s := &Server{dir: dir, bin: bin, attr: attr}
	t.Cleanup(func() { s.Stop(t) })
	s.Run(t)
	return s
}

// Run starts the server, anew after Stop, and waits until it takes connections.
func (s *Server) Run(t testing.TB) {
	t.Helper()
	server := exec.Command(filepath.Join(s.bin, "postgres"), "-D", filepath.Join(s.dir, "data"), "-k", s.dir, "-c", "listen_addresses=", "-c", "max_connections=50",
		"-c", "fsync=off") // no test outlives a crash of the machine
	server.SysProcAttr, server.Dir = s.attr, s.dir
	log, err := server.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	s.server = server
	lines := bufio.NewScanner(log)
	ready := false
	for !ready && lines.Scan() {
		ready = strings.Contains(lines.Text(), "ready to accept connections")
	}
	drained := make(chan struct{})
	s.drained = drained
	go func() {
		defer close(drained)
		for lines.Scan() {
			continue // a full pipe would stop the server
		}
	}()
	if !ready {
		t.Fatal("the server did not start")
	}
}

// Stop ends the server, with the connections that it has, as its restart does. It may be called twice.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	if s.server == nil {
		return
	}
	if err := s.server.Process.Signal(syscall.SIGINT); err != nil { // PostgreSQL's fast shutdown
		t.Error(err)
	}
	<-s.drained
	if err := s.server.Wait(); err != nil {
		t.Errorf("the server ended with %v", err)
	}
	s.server = nil
}

// lesserUser is a user that PostgreSQL lets start it, as it does not let root.
func lesserUser(t testing.TB) *syscall.Credential {
	t.Helper()
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			t.Fatal(err)
		}
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// DSN is the address of a schema of the server; "public" is there from the beginning.
func (s *Server) DSN(schema string) string {
	q := url.Values{"host": {s.dir}, "search_path": {schema}}
	return "postgres://turbofan@/postgres?" + q.Encode()
}

// Schema makes an empty schema, which is to a store as a database of its own, and returns its address.
func (s *Server) Schema(t testing.TB) string {
	t.Helper()
	s.schemas++
	name := fmt.Sprintf("s%d", s.schemas)
	s.Exec(t, "CREATE SCHEMA "+name)
	return s.DSN(name)
}

// Exec has the server run statements, and returns what psql prints of them: rows without headers.
func (s *Server) Exec(t testing.TB, statements string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), filepath.Join(s.bin, "psql"), "-h", s.dir, "-U", "turbofan", "-d", "postgres", "-qtAX", "-v", "ON_ERROR_STOP=1", "-c", statements).CombinedOutput()
	if err != nil {
		t.Fatalf("psql: %v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}
