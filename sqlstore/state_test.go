package sqlstore_test

import (
	"os"
	"path/filepath"
	"testing"

	"turbofan"
	"turbofan/sqlstore"
)

func openSQLite(t *testing.T, cfg sqlstore.Config) *sqlstore.State {
	t.Helper()
	if cfg.Path == "" {
		cfg.Path = filepath.Join(t.TempDir(), "state.db")
	}
	s, err := sqlstore.OpenState(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestSQLite(t *testing.T) {
	conformance(t, func(t *testing.T) *sqlstore.State { return openSQLite(t, sqlstore.Config{}) })
}

func TestReopenedStoreContinues(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "50% ?odd#name")
	if err := os.Mkdir(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "a b?c%20.db")
	s := openSQLite(t, sqlstore.Config{Path: path})
	appendRecords(t, s, life("1", 1, 30)...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openSQLite(t, sqlstore.Config{Path: path})
	appendRecords(t, s, life("1", 31, 32)...)
	readings := must[[]turbofan.StoredReading](t)(s.Readings(t.Context(), turbofan.ReadingQuery{AfterSeq: 29}))
	equal(t, "readings after the 29th", len(readings), 3)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("the file is not where it was asked for: %v", err)
	}
}
