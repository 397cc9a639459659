package sqlstore_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"turbofan"
	"turbofan/sqlstore"
)

// openRaw opens the file behind a store as anybody could.
func openRaw(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { db.Close() })
	return db
}

func TestFilesThatCannotServe(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	write := func(name string, content []byte) {
		t.Helper()
		if err := os.WriteFile(path(name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("text.db", bytes.Repeat([]byte("not a database\n"), 1000))
	write("plain", nil)
	newer := openSQLite(t, sqlstore.Config{Path: path("newer.db")})
	if err := newer.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := openRaw(t, path("newer.db")).Exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)`); err != nil {
		t.Fatal(err)
	}
	held := openRaw(t, path("locked.db"))
	if _, err := held.Exec(`BEGIN EXCLUSIVE`); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"text.db":       "open store PATH: the file is not a SQLite database, or it is damaged: restore a backup or move it away",
		"newer.db":      "open store PATH: a newer program wrote it: its schema is version 99, this program knows versions up to 5: use the turbofan that wrote it, or a newer one",
		"locked.db":     "open store PATH: another process holds the lock of the file",
		"missing/it.db": "open store PATH: open PATH: no such file or directory",
		"plain/it.db":   "open store PATH: open PATH: not a directory",
		".":             "open store PATH: open PATH: is a directory",
	} {
		_, err := sqlstore.OpenState(t.Context(), sqlstore.Config{Path: path(name), BusyTimeout: 10 * time.Millisecond})
		if want := strings.ReplaceAll(want, "PATH", path(name)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v\nwant %s", name, err, want)
		}
	}
	if _, err := sqlstore.OpenState(t.Context(), sqlstore.Config{}); err == nil || err.Error() != "open store: the path is missing" {
		t.Errorf("no path: %v", err)
	}
}

func TestStoreOfCyclesAnsweredTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	answeredTwice(t, sqlstore.Config{Path: path}, openRaw(t, path))
}

// answeredTwice puts a store back to schema version 4, in which a cycle could be stored twice, stores one so, and asks what
// is left of it when the store is opened again: what came first, with its truth.
func answeredTwice(t *testing.T, cfg sqlstore.Config, db *sql.DB) {
	s := must[*sqlstore.State](t)(sqlstore.OpenState(t.Context(), cfg))
	silent := record("1", 1)
	silent.Prediction.ID, silent.Prediction.Shadow = "silent", true
	appendRecords(t, s, record("1", 1), silent, record("1", 2))
	must[[]turbofan.OutcomeReceipt](t)(s.Record(t.Context(), []turbofan.Outcome{{UnitID: "1", FailedAtCycle: new(9)}}))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	copied := `unit_id, cycle, rul, failure_horizon, health, model_name, model_version, condition, predicted_at, shadow`
	for _, q := range []string{
		`DROP INDEX predictions_sent`, `DROP INDEX predictions_silent`, `DELETE FROM goose_db_version WHERE version_id = 5`,
		`INSERT INTO predictions (id, ` + copied + `) SELECT 'again ' || id, ` + copied + ` FROM predictions WHERE cycle = 1 ORDER BY seq`,
		`INSERT INTO truths (prediction_seq, model_version, actual_rul) SELECT seq, model_version, 8 FROM predictions WHERE id LIKE 'again %'`,
	} {
		if _, err := db.Exec(q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	for query, want := range map[string]int{`SELECT COUNT(*) FROM predictions`: 5, `SELECT COUNT(*) FROM truths`: 5} {
		var n int
		if err := db.QueryRow(query).Scan(&n); err != nil || n != want {
			t.Fatalf("%s: %d, %v, want %d", query, n, err, want)
		}
	}
	s = openState(t, cfg)
	equal(t, "sent", ids(must[[]turbofan.Prediction](t)(s.Predictions(t.Context(), turbofan.PredictionQuery{Last: 9}))), "p-1-1 p-1-2")
	must[turbofan.Prediction](t)(s.Prediction(t.Context(), "silent"))
	_, err := s.Prediction(t.Context(), "again silent")
	equal(t, "the second silent answer", turbofan.ErrorCode(err), turbofan.ENotFound)
	var truths int
	if err := db.QueryRow(`SELECT COUNT(*) FROM truths`).Scan(&truths); err != nil || truths != 3 {
		t.Fatalf("%d truths are left, want 3 (%v)", truths, err)
	}
	appendRecords(t, s, record("1", 3))
	equal(t, "units", must[[]turbofan.UnitSummary](t)(s.Units(t.Context(), 0, 0))[0].LastCycle, 3)
}

// TestUnwritableDirectory runs a copy of itself as nobody where it is root, whom permissions do not stop.
func TestUnwritableDirectory(t *testing.T) {
	if path := os.Getenv("TURBOFAN_TEST_UNWRITABLE"); path != "" {
		_, err := sqlstore.OpenState(t.Context(), sqlstore.Config{Path: path})
		fmt.Printf("<<%v>>\n", err)
		return
	}
	dir, err := os.MkdirTemp("/tmp", "turbofan-unwritable-") // t.TempDir is below a directory that nobody may enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	binary, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	program, shut := filepath.Join(dir, "sqlstore.test"), filepath.Join(dir, "shut")
	if err := os.WriteFile(program, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(shut, 0o755); err != nil {
		t.Fatal(err)
	}
	inside := filepath.Join(shut, "old.db")
	if err := os.WriteFile(inside, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{dir, inside} {
		if err := os.Chmod(p, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(shut, 0o555); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"new.db": "open store PATH: open PATH: permission denied",
		"old.db": "open store PATH: its directory is not writable: ",
	} {
		path := filepath.Join(shut, name)
		cmd := exec.CommandContext(t.Context(), program, "-test.run", "^TestUnwritableDirectory$")
		cmd.Env = append(os.Environ(), "TURBOFAN_TEST_UNWRITABLE="+path)
		if os.Geteuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if want := "<<" + strings.ReplaceAll(want, "PATH", path); !strings.Contains(string(out), want) {
			t.Errorf("%s: %s\nwant %s", name, out, want)
		}
	}
}

// TestDamagedPages overwrites the middle of a file that opens well.
func TestDamagedPages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := openSQLite(t, sqlstore.Config{Path: path})
	for unit := range 20 {
		appendRecords(t, s, life(fmt.Sprint(unit), 1, 100)...)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	const sound = 32 * 4096 // the schema's pages
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xa5}, int(info.Size())-sound), sound); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	s = openSQLite(t, sqlstore.Config{Path: path})
	_, err = s.Readings(t.Context(), turbofan.ReadingQuery{})
	if want := "read readings from store " + path + ": the file is damaged: restore a backup or move it away"; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Fatalf("reading damaged pages: %v\nwant %s", err, want)
	}
	if turbofan.ErrorMessage(err) != "internal error" {
		t.Fatalf("a caller reads %q", turbofan.ErrorMessage(err))
	}
}

// TestLockedWhileServing holds the file's lock from another connection while the store writes: outcomes are refused,
// predictions wait, and all goes on when the lock is gone.
func TestLockedWhileServing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	registry := prometheus.NewPedanticRegistry()
	s := openSQLite(t, sqlstore.Config{Path: path, BusyTimeout: time.Millisecond, Queue: 10, Registerer: registry})
	appendRecords(t, s, record("1", 1))
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	other := openRaw(t, path)
	if _, err := other.Exec(`BEGIN IMMEDIATE`); err != nil {
		t.Fatal(err)
	}
	_, err := s.Record(t.Context(), []turbofan.Outcome{{UnitID: "1", FailedAtCycle: new(10)}})
	wantError(t, err, turbofan.EUnavailable, "the store does not take writes now")
	if want := "write to store " + path + ": another process holds the lock of the file"; !strings.Contains(err.Error(), want) {
		t.Fatalf("the log reads %v, want %s", err, want)
	}
	appendRecords(t, s, life("1", 2, 11)...)
	// A unit's past waits for no commit: it is what is written with what waits to be, in order and each cycle once.
	appended := must[[]turbofan.Reading](t)(s.History(t.Context(), "1", 0))
	equal(t, "readings that wait", len(appended), 11)
	for i := range appended {
		equal(t, "reading", appended[i], record("1", i+1).Reading)
	}
	equal(t, "readings through cycle 5", len(must[[]turbofan.Reading](t)(s.History(t.Context(), "1", 5))), 5)
	_, err = s.History(t.Context(), "never heard of", 0)
	wantError(t, err, turbofan.ENotFound, `unit "never heard of" has never sent a reading`)
	err = s.Append(t.Context(), life("1", 12, 13))
	wantError(t, err, turbofan.EUnavailable, "the store does not take writes now")
	wantError(t, s.Ready(t.Context()), turbofan.EUnavailable, "the store does not take writes now")
	if _, err := other.Exec(`ROLLBACK`); err != nil {
		t.Fatal(err)
	}
	eventually(t, func(ctx context.Context) error {
		_, err := s.Record(ctx, []turbofan.Outcome{{UnitID: "1", FailedAtCycle: new(11)}})
		return err
	})
	equal(t, "readings", must[[]turbofan.Reading](t)(s.History(t.Context(), "1", 0)), appended)
	equal(t, "metrics", metricNames(t, registry), []string{"turbofan_store_batch_records", "turbofan_store_commit_errors_total",
		"turbofan_store_commit_seconds", "turbofan_store_dropped_records_total", "turbofan_store_queue_records", "turbofan_store_up"})
}

// eventually sends a write again while the store does not take it: a commit that began before the database was there
// again still fails, and what was queued behind it fails with it.
func eventually(t *testing.T, write func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		err := write(ctx)
		if err == nil {
			return
		}
		if turbofan.ErrorCode(err) != turbofan.EUnavailable {
			t.Fatal(err)
		}
	}
}

func metricNames(t *testing.T, registry *prometheus.Registry) (names []string) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		names = append(names, f.GetName())
	}
	return names
}

// TestFullDisk writes under a limit of the file's size, in a process of its own.
func TestFullDisk(t *testing.T) {
	if path := os.Getenv("TURBOFAN_TEST_FULL_DISK"); path != "" {
		writeFullDisk(t, path)
		return
	}
	path := filepath.Join(t.TempDir(), "state.db")
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestFullDisk$")
	cmd.Env = append(os.Environ(), "TURBOFAN_TEST_FULL_DISK="+path)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, told, _ := strings.Cut(string(out), "<<")
	var lost int
	if _, err := fmt.Sscanf(told, "close store "+path+": %d records could not be written", &lost); err != nil {
		t.Fatalf("closing says %s: %v", out, err)
	}
	s := openSQLite(t, sqlstore.Config{Path: path})
	stored := len(must[[]turbofan.StoredReading](t)(s.Readings(t.Context(), turbofan.ReadingQuery{})))
	if lost < 1 || stored+lost != 4_100 {
		t.Fatalf("%d readings are stored and %d were said to be lost, of 4,100", stored, lost)
	}
}

func writeFullDisk(t *testing.T, path string) {
	s, err := sqlstore.OpenState(t.Context(), sqlstore.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	appendRecords(t, s, life("1", 1, 100)...)
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	limit := syscall.Rlimit{Cur: 512 << 10, Max: 512 << 10}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	for unit := range 8 {
		appendRecords(t, s, life(fmt.Sprint("later", unit), 1, 500)...)
	}
	err = s.Flush(t.Context())
	if turbofan.ErrorCode(err) != turbofan.EUnavailable || !strings.Contains(err.Error(), "write to store "+path+": ") {
		t.Fatalf("flushing to a full disk: %v", err)
	}
	fmt.Printf("<<%v>>\n", s.Close())
}
