package sqlstore_test

import (
	"bufio"
	"database/sql"
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

	_ "github.com/jackc/pgx/v5/stdlib"

	"turbofan"
	"turbofan/sqlstore"
)

// postgres is a real server on a directory of its own.
type postgres struct {
	dir     string
	schemas int
	admin   *sql.DB
}

// startPostgres starts the newest PostgreSQL that is installed, on a socket in a temporary directory. A test is
// skipped where none is installed, but not in CI.
func startPostgres(t *testing.T) *postgres {
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
	server := exec.Command(filepath.Join(bin, "postgres"), "-D", data, "-k", dir, "-c", "listen_addresses=", "-c", "max_connections=50")
	server.SysProcAttr, server.Dir = attr, dir
	log, err := server.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(log)
	ready := false
	for !ready && lines.Scan() {
		ready = strings.Contains(lines.Text(), "ready to accept connections")
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		for lines.Scan() {
			continue // a full pipe would stop the server
		}
	}()
	p := &postgres{dir: dir}
	t.Cleanup(func() {
		if p.admin != nil {
			p.admin.Close()
		}
		if err := server.Process.Signal(syscall.SIGINT); err != nil { // PostgreSQL's fast shutdown
			t.Error(err)
		}
		<-drained
		if err := server.Wait(); err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
	if !ready {
		t.Fatal("the server did not start")
	}
	if p.admin, err = sql.Open("pgx", p.dsn("public")); err != nil {
		t.Fatal(err)
	}
	return p
}

// lesserUser is a user that PostgreSQL lets start it, as it does not let root.
func lesserUser(t *testing.T) *syscall.Credential {
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

func (p *postgres) dsn(schema string) string {
	q := url.Values{"host": {p.dir}, "search_path": {schema}}
	return "postgres://turbofan@/postgres?" + q.Encode()
}

// schema makes an empty schema, which is to a store as a database of its own, and returns its address.
func (p *postgres) schema(t *testing.T) string {
	t.Helper()
	p.schemas++
	name := fmt.Sprintf("s%d", p.schemas)
	if _, err := p.admin.Exec("CREATE SCHEMA " + name); err != nil {
		t.Fatal(err)
	}
	return p.dsn(name)
}

func TestPostgres(t *testing.T) {
	server := startPostgres(t)
	conformance(t, func(t *testing.T) *sqlstore.State { return openState(t, sqlstore.Config{DSN: server.schema(t)}) })
	t.Run("two replicas share a unit", func(t *testing.T) { testReplicas(t, sqlstore.Config{DSN: server.schema(t)}) })
	t.Run("a lost connection is opened again", func(t *testing.T) { testReconnect(t, server) })
	t.Run("a newer schema is refused", func(t *testing.T) { testNewerSchema(t, server) })
}

// testReconnect has the server end every connection of a store that serves.
func testReconnect(t *testing.T, server *postgres) {
	s := openState(t, sqlstore.Config{DSN: server.schema(t)})
	appendRecords(t, s, record("1", 1))
	recordOutcomes(t, s, turbofan.Outcome{UnitID: "1", Cycle: 1, Event: "inspection"})
	if _, err := server.admin.Exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'`); err != nil {
		t.Fatal(err)
	}
	// The first call after that finds the connection dead and may say so; records are kept and written again.
	appendRecords(t, s, record("1", 2))
	for tries := 0; ; tries++ {
		_, err := s.Record(t.Context(), []turbofan.Outcome{{Key: "k", UnitID: "1", FailedAtCycle: new(9)}})
		if err == nil {
			break
		}
		if tries == 3 || turbofan.ErrorCode(err) != turbofan.EUnavailable {
			t.Fatal(err)
		}
	}
	equal(t, "history", len(must[[]turbofan.Reading](t)(s.History(t.Context(), "1", 0))), 2)
}

func testNewerSchema(t *testing.T, server *postgres) {
	dsn := server.schema(t)
	s := openState(t, sqlstore.Config{DSN: dsn})
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, true)`); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = sqlstore.OpenState(t.Context(), sqlstore.Config{DSN: dsn})
	if err == nil || !strings.Contains(err.Error(), "a newer program wrote it: its schema is version 99, this program knows versions up to 1") {
		t.Fatalf("opening a newer schema: %v", err)
	}
}

func TestServersThatCannotServe(t *testing.T) {
	nowhere := filepath.Join(t.TempDir(), "nowhere")
	for _, c := range []struct {
		cfg  sqlstore.Config
		want string
	}{
		{sqlstore.Config{DSN: "postgres://u:secret@:bad/db"}, "open store: cannot parse"},
		{sqlstore.Config{DSN: "postgres://u:secret@/db?host=" + nowhere}, "open store " + nowhere + ":5432/db: the server cannot be reached or does not let us in"},
		{sqlstore.Config{DSN: "postgres://u@h/db", Path: "x"}, "open store: a file and a server are both named, give one"},
	} {
		_, err := sqlstore.OpenState(t.Context(), c.cfg)
		if err == nil || !strings.HasPrefix(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: %v\nwant %s", c.cfg, err, c.want)
		}
	}
}
