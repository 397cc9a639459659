package sqlstore_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"

	"turbofan"
	"turbofan/internal/postgrestest"
	"turbofan/sqlstore"
)

func TestPostgres(t *testing.T) {
	server := postgrestest.Start(t)
	conformance(t, func(t *testing.T) *sqlstore.State { return openState(t, sqlstore.Config{DSN: server.Schema(t)}) })
	t.Run("two replicas share a unit", func(t *testing.T) { testReplicas(t, sqlstore.Config{DSN: server.Schema(t)}) })
	t.Run("a lost connection is opened again", func(t *testing.T) { testReconnect(t, server) })
	t.Run("a server that is away", func(t *testing.T) { testAway(t, server) })
	t.Run("a registry whose server is away", func(t *testing.T) { testRegistryAway(t, server) })
	t.Run("a newer schema is refused", func(t *testing.T) { testNewerSchema(t, server) })
	t.Run("cycles that were stored twice are stored once", func(t *testing.T) { testOlderSchema(t, server) })
}

// testReconnect has the server end every connection of a store that serves, as its restart does: nobody may notice.
func testReconnect(t *testing.T, server *postgrestest.Server) {
	s := openState(t, sqlstore.Config{DSN: server.Schema(t)})
	appendRecords(t, s, record("1", 1))
	recordOutcomes(t, s, turbofan.Outcome{UnitID: "1", Cycle: 1, Event: "inspection"})
	var readers sync.WaitGroup // so that several connections wait for the next one
	for range 8 {
		readers.Go(func() { equal(t, "history", len(must[[]turbofan.Reading](t)(s.History(t.Context(), "1", 0))), 1) })
	}
	readers.Wait()
	server.Exec(t, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'`)
	equal(t, "history", len(must[[]turbofan.Reading](t)(s.History(t.Context(), "1", 0))), 1)
	appendRecords(t, s, record("1", 2))
	recordOutcomes(t, s, turbofan.Outcome{Key: "k", UnitID: "1", FailedAtCycle: new(9)})
	equal(t, "history", len(must[[]turbofan.Reading](t)(s.History(t.Context(), "1", 0))), 2)
	equal(t, "ready", s.Ready(t.Context()), nil)
}

// testAway stops the server of a store that serves: reads and writes say so at once, and work again once it is back.
func testAway(t *testing.T, server *postgrestest.Server) {
	s := openState(t, sqlstore.Config{DSN: server.Schema(t)})
	appendRecords(t, s, record("1", 1))
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	server.Stop(t)
	_, err := s.History(t.Context(), "1", 0)
	wantError(t, err, turbofan.EUnavailable, "the store does not answer now")
	appendRecords(t, s, record("1", 2)) // kept in memory meanwhile
	_, err = s.Record(t.Context(), []turbofan.Outcome{{UnitID: "1", Cycle: 1, Event: "inspection"}})
	wantError(t, err, turbofan.EUnavailable, "the store does not take writes now")
	wantError(t, s.Ready(t.Context()), turbofan.EUnavailable, "the store does not take writes now")
	server.Run(t)
	equal(t, "history", len(must[[]turbofan.Reading](t)(s.History(t.Context(), "1", 0))), 2)
	eventually(t, func(ctx context.Context) error { return s.Flush(ctx) })
	equal(t, "outcomes", len(must[[]turbofan.Outcome](t)(s.Outcomes(t.Context(), turbofan.OutcomeQuery{}))), 0)
	if err := s.Flush(t.Context()); err != nil { // reading does not wait for the writer, which tries again
		t.Fatal(err)
	}
	equal(t, "ready", s.Ready(t.Context()), nil)
}

func testRegistryAway(t *testing.T, server *postgrestest.Server) {
	db, err := sqlstore.OpenRegistryPostgres(t.Context(), server.Schema(t))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	equal(t, "ready", db.Ready(t.Context()), nil)
	server.Stop(t)
	wantError(t, db.Ready(t.Context()), turbofan.EUnavailable, "the registry's database does not answer now")
	server.Run(t)
	equal(t, "ready", db.Ready(t.Context()), nil)
}

func testNewerSchema(t *testing.T, server *postgrestest.Server) {
	dsn := server.Schema(t)
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
	if err == nil || !strings.Contains(err.Error(), "a newer program wrote it: its schema is version 99, this program knows versions up to 5") {
		t.Fatalf("opening a newer schema: %v", err)
	}
}

// testOlderSchema opens a store of the time when a cycle could be stored twice.
func testOlderSchema(t *testing.T, server *postgrestest.Server) {
	dsn := server.Schema(t)
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	answeredTwice(t, sqlstore.Config{DSN: dsn}, db)
}

func TestServersThatCannotServe(t *testing.T) {
	nowhere := filepath.Join(t.TempDir(), "nowhere")
	for _, c := range []struct {
		cfg  sqlstore.Config
		want string
	}{
		{sqlstore.Config{DSN: "postgres://u:secret@:bad/db"}, "open store: cannot parse"},
		{sqlstore.Config{DSN: "secret"}, "open store: the address must be like postgres://user@host/database"},
		{sqlstore.Config{DSN: "mysql://u:secret@h/db"}, "open store: cannot parse"},
		{sqlstore.Config{DSN: "postgres://u:secret@/db?host=" + nowhere}, "open store " + nowhere + ":5432/db: the server cannot be reached or does not let us in"},
		{sqlstore.Config{DSN: "postgres://u@h/db", Path: "x"}, "open store: a file and a server are both named, give one"},
	} {
		_, err := sqlstore.OpenState(t.Context(), c.cfg)
		if err == nil || !strings.HasPrefix(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: %v\nwant %s", c.cfg, err, c.want)
		}
	}
}
