package sqlstore_test

import (
	"fmt"
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
	return openState(t, cfg)
}

func openState(t *testing.T, cfg sqlstore.Config) *sqlstore.State {
	t.Helper()
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

// Roles that run as processes of their own on one machine share the file.
func TestSQLiteSharedByProcesses(t *testing.T) {
	testReplicas(t, sqlstore.Config{Path: filepath.Join(t.TempDir(), "state.db")})
}

// testReplicas lets two stores append one unit's cycles in turn, while a third reads by seq as a drift detector does.
func testReplicas(t *testing.T, cfg sqlstore.Config) {
	opened := make(chan *sqlstore.State)
	for range 2 { // both find an empty database
		go func() {
			s, err := sqlstore.OpenState(t.Context(), cfg)
			if err != nil {
				t.Error(err)
			}
			opened <- s
		}()
	}
	a, b := <-opened, <-opened
	if a == nil || b == nil {
		t.FailNow()
	}
	defer func() {
		for _, s := range []*sqlstore.State{a, b} {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}()
	const cycles = 200
	done := make(chan error, 2)
	for i, s := range []*sqlstore.State{a, b} {
		go func() {
			for cycle := 1 + i; cycle <= cycles; cycle += 2 {
				if err := s.Append(t.Context(), []turbofan.PredictionRecord{record("shared", cycle), record(fmt.Sprint("own", i), cycle)}); err != nil {
					done <- err
					return
				}
			}
			done <- s.Flush(t.Context())
		}()
	}
	reader, seen, running := openState(t, cfg), int64(0), 2
	var read []turbofan.StoredReading
	for running > 0 {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			running--
		default:
		}
		next := must[[]turbofan.StoredReading](t)(reader.Readings(t.Context(), turbofan.ReadingQuery{AfterSeq: seen, Limit: 50}))
		if len(next) > 0 {
			seen = next[len(next)-1].Seq
		}
		read = append(read, next...)
	}
	read = append(read, must[[]turbofan.StoredReading](t)(reader.Readings(t.Context(), turbofan.ReadingQuery{AfterSeq: seen}))...)
	equal(t, "readings seen by following seq", len(read), 2*cycles)
	for _, s := range []*sqlstore.State{a, b} {
		equal(t, "history", len(must[[]turbofan.Reading](t)(s.History(t.Context(), "shared", 0))), cycles)
	}
	for _, u := range must[[]turbofan.UnitSummary](t)(a.Units(t.Context(), 0, 0)) {
		if u.UnitID == "shared" && (u.Readings != cycles || u.FirstCycle != 1 || u.LastCycle != cycles) {
			t.Fatalf("unit is %+v", u)
		}
	}
	first := recordOutcomes(t, a, turbofan.Outcome{Key: "k", UnitID: "shared", FailedAtCycle: new(cycles)})[0]
	equal(t, "matched", first.Predictions, cycles)
	equal(t, "the same outcome by the other", recordOutcomes(t, b, turbofan.Outcome{Key: "k", UnitID: "shared", FailedAtCycle: new(cycles)})[0].Duplicate, true)
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
