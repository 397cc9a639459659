package sqlstore

import (
	"path/filepath"
	"strings"
	"testing"
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
		rows, err := s.db.writer.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, 0)
		if err != nil {
			t.Fatal(err)
		}
		var plan []string
		for rows.Next() {
			var id, parent, unused int
			var detail string
			if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
				t.Fatal(err)
			}
			plan = append(plan, detail)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		all := strings.Join(plan, "\n")
		if !strings.Contains(all, "USING INTEGER PRIMARY KEY (rowid>?)") || strings.Contains(all, "SCAN readings") || strings.Contains(all, "SCAN predictions") {
			t.Errorf("%s: the plan is\n%s", name, all)
		}
	}
}
