package sqlstore

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"

	"turbofan"
)

// What follows an insert must read the rows of that commit, not the table: SQLite once walked all of readings in the
// order of its other index, and each commit took as long as the table was.
func TestCommitReadsItsOwnRowsOnly(t *testing.T) {
	s, err := OpenState(t.Context(), Config{Path: filepath.Join(t.TempDir(), "state.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for name, query := range map[string]string{"units": updateUnits, "failures": lateFailures, "actuals": lateActuals} {
		all := plan(t, s, query, 0)
		if !strings.Contains(all, "USING INTEGER PRIMARY KEY (rowid>?)") || strings.Contains(all, "SCAN readings") || strings.Contains(all, "SCAN predictions") {
			t.Errorf("%s: the plan is\n%s", name, all)
		}
	}
}

// A model that is about to serve reads the readings of young units alone, however many others are stored.
func TestYoungReadingsHaveAnIndex(t *testing.T) {
	s, err := OpenState(t.Context(), Config{Path: filepath.Join(t.TempDir(), "state.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for cycle, want := range map[int]bool{20: true, youngIndexed: true, youngIndexed + 1: false, 0: false} {
		query, args := readingsQuery(turbofan.ReadingQuery{AfterSeq: 7, MaxCycle: cycle, Limit: 100})
		if got := plan(t, s, query, args...); strings.Contains(got, "USING INDEX readings_young (seq>?)") != want || strings.Contains(got, "TEMP B-TREE") {
			t.Errorf("through cycle %d the plan is\n%s", cycle, got)
		}
	}
}

// An answer that is asked for once more is found by its unit and cycle, however long the log is.
func TestAnswersAreFoundByCycle(t *testing.T) {
	s, err := OpenState(t.Context(), Config{Path: filepath.Join(t.TempDir(), "state.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, n := range []int{1, 2} {
		query, args := answeredQuery(make([]turbofan.Reading, n))
		got := plan(t, s, query, args...)
		for _, want := range []string{"SEARCH r USING INDEX sqlite_autoindex_readings_1 (unit_id=? AND cycle=?)", "SEARCH p USING INDEX predictions_sent (unit_id=? AND cycle=?)"} {
			if !strings.Contains(got, want) || strings.Contains(got, "SCAN p") {
				t.Errorf("of %d readings the plan is\n%s", n, got)
			}
		}
	}
}

// plan returns how SQLite runs the query.
func plan(t *testing.T, s *State, query string, args ...any) string {
	t.Helper()
	return explained(t, s.db.writer, query, args...)
}

func explained(t *testing.T, db *sql.DB, query string, args ...any) string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, args...)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for rows.Next() {
		var id, parent, unused int
		var detail string
		if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
			t.Fatal(err)
		}
		out = append(out, detail)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return strings.Join(out, "\n")
}
