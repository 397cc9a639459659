package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"turbofan"
)

// asked is a queryer that keeps what it is asked, and answers nothing.
type asked struct {
	query string
	args  []any
}

var errAsked = errors.New("asked")

func (a *asked) QueryContext(_ context.Context, query string, args ...any) (*sql.Rows, error) {
	a.query, a.args = query, args
	return nil, errAsked
}

// A search ordered by a metric reads the index of values alone until it knows its runs, and looks at other conditions run
// by run: SQLite once walked the index of values for every run, and a page took as long as all of them.
func TestSearchPlans(t *testing.T) {
	d, err := OpenRegistry(t.Context(), filepath.Join(t.TempDir(), "registry.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	below := func(key string) turbofan.SearchTerm {
		return turbofan.SearchTerm{Entity: turbofan.EntityMetric, Key: key, Op: turbofan.OpLess, Number: 1}
	}
	query := turbofan.SearchQuery{Where: []turbofan.SearchTerm{below("loss"), below("other")}, Limit: 10,
		OrderBy: []turbofan.SearchOrder{{Entity: turbofan.EntityMetric, Key: "loss"}}}
	bounds, others := boundsOfOrder(query)
	along, ok, err := alongMetric(d.db.dialect, query, bounds, others)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	general, err := runsTable().search(d.db.dialect, query.Where, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		s         *searchSQL
		elsewhere bool
		want      []string
	}{
		{along, true, []string{"SEARCH o1 USING COVERING INDEX latest_metrics_value (key=? AND is_nan=? AND value<?)", "SEARCH r USING INTEGER PRIMARY KEY", "SEARCH o EXISTS USING PRIMARY KEY (run_id=? AND key=?)"}},
		{general, false, []string{"SEARCH r USING INDEX runs_newest", "SEARCH o EXISTS USING PRIMARY KEY (run_id=? AND key=?)"}},
	} {
		var a asked
		if _, _, err := tt.s.runs(t.Context(), &a, query, []int64{1}, tt.elsewhere); !errors.Is(err, errAsked) {
			t.Fatal(err)
		}
		got := explained(t, d.db.reader, a.query, a.args...)
		for _, want := range tt.want {
			if !strings.Contains(got, want) {
				t.Errorf("the plan is\n%s\nand lacks %s", got, want)
			}
		}
	}
}

// A registry of the first schema keeps its runs when it is opened by a program that stores them in another way.
func TestRegistryOfTheFirstSchema(t *testing.T) {
	all, err := fs.Sub(registryMigrations, "migrations/registry/sqlite")
	if err != nil {
		t.Fatal(err)
	}
	text, err := fs.ReadFile(all, "00001_registry.sql")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "registry.db")
	old, err := open(t.Context(), path, fstest.MapFS{"00001_registry.sql": {Data: text}}, openOptions{versionTable: registryVersions})
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{
		"INSERT INTO experiments VALUES (1, 'e', 'x/1', 'active', 1, 1)", "INSERT INTO counters VALUES ('runs', 1)",
		"INSERT INTO runs VALUES (1, 'abc', 1, 'calm', 'me', 'RUNNING', 5, NULL, 'x/1/abc/artifacts', 'active')",
		"INSERT INTO metrics VALUES (1, 'loss', 1, 0, 3.5, 0), (1, 'loss', 2, 1, 0, 1)", "INSERT INTO latest_metrics VALUES (1, 'loss', 0, 1, 1, 2), (1, 'mae', 2.5, 0, 0, 1)",
		"INSERT INTO params VALUES (1, 'lr', '0.1')", "INSERT INTO run_tags VALUES (1, 'mlflow.runName', 'calm')",
	} {
		if _, err := old.writer.ExecContext(t.Context(), q); err != nil {
			t.Fatal(q, err)
		}
	}
	if err := old.close(); err != nil {
		t.Fatal(err)
	}
	d, err := OpenRegistry(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	// Written once more, in the new shape: the same value is kept once, another is the newest.
	if err := d.RecordRun(t.Context(), "abc", turbofan.RunRecord{Metrics: []turbofan.Metric{
		{Key: "loss", Value: 3.5, At: fromNullMillis(sql.NullInt64{Int64: 1, Valid: true})}, {Key: "mae", Value: 1.5, Step: 3, At: fromNullMillis(sql.NullInt64{Int64: 9, Valid: true})}}}); err != nil {
		t.Fatal(err)
	}
	found, _, err := d.SearchRuns(t.Context(), turbofan.SearchQuery{ExperimentIDs: []string{"1"}, Limit: 9,
		Where: []turbofan.SearchTerm{{Entity: turbofan.EntityMetric, Key: "mae", Op: turbofan.OpLess, Number: 2}, {Entity: turbofan.EntityParam, Key: "lr", Op: turbofan.OpEqual, Text: "0.1"}}})
	if err != nil || len(found) != 1 || found[0].ID != "abc" || len(found[0].Metrics) != 2 || found[0].Metrics[1].Value != 1.5 || len(found[0].Tags) != 1 {
		t.Errorf("found %+v, %v", found, err)
	}
	history, _, err := d.MetricHistory(t.Context(), turbofan.MetricQuery{RunID: "abc", Key: "loss"})
	if err != nil || len(history) != 2 || history[0].Value != 3.5 || history[1].Value == history[1].Value {
		t.Errorf("history %+v, %v", history, err)
	}
}
