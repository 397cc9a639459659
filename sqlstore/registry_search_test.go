package sqlstore_test

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"turbofan"
	"turbofan/internal/postgrestest"
	"turbofan/sqlstore"
)

func TestRegistry(t *testing.T) {
	registrySuite(t, func(t testing.TB) string { return filepath.Join(t.TempDir(), "registry.db") })
}

func TestRegistryOnPostgres(t *testing.T) {
	server := postgrestest.Start(t)
	registrySuite(t, server.Schema)
	t.Run("beside the state", func(t *testing.T) { testBesideState(t, server.Schema(t)) })
	t.Run("a lost connection is opened again", func(t *testing.T) { testRegistryReconnect(t, server) })
	t.Run("what it cannot hold", func(t *testing.T) { testZeroBytes(t, openRegistryDB(t, server.Schema(t))) })
}

// registrySuite is what a registry's database must do; where names a new one.
func registrySuite(t *testing.T, where func(t testing.TB) string) {
	for name, test := range map[string]func(*testing.T, *sqlstore.RegistryDB){
		"searches": testSearchRunsAgainstModel, "page tokens": testSearchRefusesTokens, "failures": testFailuresStayAlone,
		"latest metric": testLatestMetric, "order of texts": testTextOrder,
	} {
		t.Run(name, func(t *testing.T) { test(t, openRegistryDB(t, where(t))) })
	}
	t.Run("kept", func(t *testing.T) { testRegistryKept(t, where(t)) })
}

// testBesideState has a state and a registry share a database.
func testBesideState(t *testing.T, dsn string) {
	s := openState(t, sqlstore.Config{DSN: dsn})
	d := openRegistryDB(t, dsn)
	appendRecords(t, s, record("1", 1))
	if _, err := d.CreateModel(t.Context(), turbofan.RegisteredModel{Name: "rul"}); err != nil {
		t.Fatal(err)
	}
	equal(t, "history", len(must[[]turbofan.Reading](t)(s.History(t.Context(), "1", 0))), 1)
}

// testRegistryReconnect has the server end every connection of a registry that serves.
func testRegistryReconnect(t *testing.T, server *postgrestest.Server) {
	d := openRegistryDB(t, server.Schema(t))
	if _, err := d.CreateModel(t.Context(), turbofan.RegisteredModel{Name: "before"}); err != nil {
		t.Fatal(err)
	}
	server.Exec(t, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'`)
	if _, err := d.CreateModel(t.Context(), turbofan.RegisteredModel{Name: "after"}); err != nil {
		t.Fatal(err)
	}
	if m, err := d.Model(t.Context(), "before"); err != nil || m.Name != "before" {
		t.Errorf("%+v, %v", m, err)
	}
}

func testZeroBytes(t *testing.T, d *sqlstore.RegistryDB) {
	if _, err := d.CreateModel(t.Context(), turbofan.RegisteredModel{Name: "a\x00b"}); turbofan.ErrorCode(err) != turbofan.EInvalid {
		t.Errorf("written: %v", err)
	}
	if _, err := d.Model(t.Context(), "a\x00b"); turbofan.ErrorCode(err) != turbofan.EInvalid {
		t.Errorf("read: %v", err)
	}
	if _, err := d.CreateModel(t.Context(), turbofan.RegisteredModel{Name: "ab"}); err != nil {
		t.Errorf("after that: %v", err)
	}
}

// testTextOrder wants texts by their bytes, whatever the server's language, also from page to page, and patterns that
// mind the case only where asked.
func testTextOrder(t *testing.T, d *sqlstore.RegistryDB) {
	for _, name := range []string{"b", "a", "B", "ä", "Z", "a_b", "a%b", "axb", `a\b`} {
		if _, err := d.CreateModel(t.Context(), turbofan.RegisteredModel{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	names := func(op turbofan.SearchOp, pattern string) string {
		var out []string
		q := turbofan.SearchQuery{Limit: 2, OrderBy: []turbofan.SearchOrder{{Entity: turbofan.EntityAttribute, Key: "name"}},
			Where: []turbofan.SearchTerm{{Entity: turbofan.EntityAttribute, Key: "name", Op: op, Text: pattern}}}
		for {
			page, next, err := d.SearchModels(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range page {
				out = append(out, m.Name)
			}
			if q.PageToken = next; next == "" {
				return strings.Join(out, " ")
			}
		}
	}
	for _, c := range []struct {
		op            turbofan.SearchOp
		pattern, want string
	}{
		{turbofan.OpLike, "%", `B Z a a%b a\b a_b axb b ä`},
		{turbofan.OpLike, "b", "b"},
		{turbofan.OpILike, "b", "B b"},
		{turbofan.OpLike, "a_b", `a%b a\b a_b axb`},
		{turbofan.OpILike, "A%B", `a%b a\b a_b axb`},
		{turbofan.OpLike, `a\%`, `a\b`},
		{turbofan.OpNotEqual, "b", `B Z a a%b a\b a_b axb ä`},
	} {
		if got := names(c.op, c.pattern); got != c.want {
			t.Errorf("%s %s: %s, want %s", c.op, c.pattern, got, c.want)
		}
	}
}

// testRegistryKept opens a database twice.
func testRegistryKept(t *testing.T, where string) {
	for _, want := range []string{"", turbofan.EConflict} {
		d, err := openRegistry(t.Context(), where)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.CreateModel(t.Context(), turbofan.RegisteredModel{Name: "x"}); turbofan.ErrorCode(err) != want {
			t.Errorf("created: %v, want code %q", err, want)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// openRegistry opens a file, or a PostgreSQL database by its address.
func openRegistry(ctx context.Context, where string) (*sqlstore.RegistryDB, error) {
	if strings.Contains(where, "://") {
		return sqlstore.OpenRegistryPostgres(ctx, where)
	}
	return sqlstore.OpenRegistry(ctx, where)
}

func openRegistryDB(t testing.TB, where string) *sqlstore.RegistryDB {
	t.Helper()
	d, err := openRegistry(context.Background(), where)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// searchModel is the plain truth that searches are held against.
type searchModel struct {
	runs []turbofan.Run
}

func (m *searchModel) metric(r turbofan.Run, key string) (float64, bool) {
	for _, x := range r.Metrics {
		if x.Key == key {
			return x.Value, true
		}
	}
	return 0, false
}

func (m *searchModel) matches(r turbofan.Run, t turbofan.SearchTerm) bool {
	switch t.Entity {
	case turbofan.EntityMetric:
		v, ok := m.metric(r, t.Key)
		if !ok {
			return false
		}
		switch t.Op {
		case turbofan.OpLess:
			return v < t.Number
		case turbofan.OpGreaterEqual:
			return v >= t.Number
		case turbofan.OpNotEqual:
			return v != t.Number
		}
	case turbofan.EntityParam:
		for _, p := range r.Params {
			if p.Key == t.Key {
				switch t.Op {
				case turbofan.OpEqual:
					return p.Value == t.Text
				case turbofan.OpLike:
					return strings.HasPrefix(p.Value, strings.TrimSuffix(t.Text, "%"))
				case turbofan.OpIsNull:
					return false
				}
			}
		}
		return t.Op == turbofan.OpIsNull
	}
	panic("a term that the model does not know")
}

// compare orders as MLflow does: numbers, then NaN, then runs without the metric; then the newest, then by identifier.
func (m *searchModel) compare(a, b turbofan.Run, orders []turbofan.SearchOrder) int {
	for _, o := range orders {
		av, aok := m.metric(a, o.Key)
		bv, bok := m.metric(b, o.Key)
		rank := func(v float64, ok bool) int {
			switch {
			case !ok:
				return 2
			case math.IsNaN(v):
				return 1
			}
			return 0
		}
		if c := cmp.Compare(rank(av, aok), rank(bv, bok)); c != 0 {
			return c
		}
		if rank(av, aok) > 0 {
			continue
		}
		if c := cmp.Compare(av, bv); c != 0 {
			if o.Descending {
				return -c
			}
			return c
		}
	}
	return cmp.Or(b.StartedAt.Compare(a.StartedAt), cmp.Compare(a.ID, b.ID))
}

func (m *searchModel) search(q turbofan.SearchQuery) []string {
	var found []turbofan.Run
	for _, r := range m.runs {
		ok := true
		for _, t := range q.Where {
			ok = ok && m.matches(r, t)
		}
		if ok {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b turbofan.Run) int { return m.compare(a, b, q.OrderBy) })
	ids := make([]string, len(found))
	for i, r := range found {
		ids[i] = r.ID
	}
	return ids
}

// Searches of every shape, page by page, find what a plain loop finds, in its order.
func testSearchRunsAgainstModel(t *testing.T, d *sqlstore.RegistryDB) {
	ctx := t.Context()
	e, err := d.CreateExperiment(ctx, turbofan.Experiment{Name: "e", ArtifactLocation: "x/"})
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	m := &searchModel{}
	var wg sync.WaitGroup
	for i := range 700 {
		r := turbofan.Run{RunInfo: turbofan.RunInfo{ID: fmt.Sprintf("%032x", rng.Uint64()), ExperimentID: e.ID, Status: turbofan.RunRunning,
			StartedAt: time.UnixMilli(int64(rng.IntN(50)))}}
		for _, key := range []string{"loss", "rare"} {
			switch n := rng.IntN(10); {
			case n == 0:
				r.Metrics = append(r.Metrics, turbofan.Metric{Key: key, Value: math.NaN(), At: time.UnixMilli(1)})
			case n < 7 && (key == "loss" || i%100 == 0):
				r.Metrics = append(r.Metrics, turbofan.Metric{Key: key, Value: float64(rng.IntN(40)) - 20, At: time.UnixMilli(1)})
			}
		}
		if rng.IntN(3) > 0 {
			r.Params = append(r.Params, turbofan.KeyValue{Key: "lr", Value: fmt.Sprintf("v%d", rng.IntN(4))})
		}
		m.runs = append(m.runs, r)
		wg.Go(func() {
			if _, err := d.CreateRun(ctx, r); err != nil {
				t.Error(err)
			}
			if err := d.RecordRun(ctx, r.ID, turbofan.RunRecord{Metrics: r.Metrics, Params: r.Params}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	metric := func(key string, op turbofan.SearchOp, v float64) turbofan.SearchTerm {
		return turbofan.SearchTerm{Entity: turbofan.EntityMetric, Key: key, Op: op, Number: v}
	}
	param := func(op turbofan.SearchOp, v string) turbofan.SearchTerm {
		return turbofan.SearchTerm{Entity: turbofan.EntityParam, Key: "lr", Op: op, Text: v}
	}
	wheres := [][]turbofan.SearchTerm{
		nil,
		{metric("loss", turbofan.OpLess, 0)},
		{metric("loss", turbofan.OpGreaterEqual, 15), param(turbofan.OpEqual, "v1")},
		{metric("loss", turbofan.OpNotEqual, 3)},
		{metric("rare", turbofan.OpLess, 100), metric("loss", turbofan.OpLess, 100)},
		{param(turbofan.OpLike, "v%")}, {param(turbofan.OpIsNull, "")}, {param(turbofan.OpEqual, "absent")},
		{metric("absent", turbofan.OpLess, 1)},
		{metric("loss", turbofan.OpLess, 0), param(turbofan.OpLike, "v%")},
		{metric("loss", turbofan.OpLess, 15), metric("loss", turbofan.OpGreaterEqual, -10)},
		{metric("loss", turbofan.OpGreaterEqual, -20), metric("loss", turbofan.OpNotEqual, 3), metric("rare", turbofan.OpNotEqual, 1)},
	}
	order := func(key string, desc bool) turbofan.SearchOrder {
		return turbofan.SearchOrder{Entity: turbofan.EntityMetric, Key: key, Descending: desc}
	}
	orders := [][]turbofan.SearchOrder{nil, {order("loss", false)}, {order("loss", true)}, {order("rare", false), order("loss", true)}, {order("absent", true)}}
	for i, where := range wheres {
		for j, by := range orders {
			q := turbofan.SearchQuery{ExperimentIDs: []string{e.ID}, Where: where, OrderBy: by, Limit: 97 + 150*(i%3)}
			want := m.search(q)
			var got []string
			for {
				page, next, err := d.SearchRuns(ctx, q)
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range page {
					got = append(got, r.ID)
				}
				if q.PageToken = next; next == "" {
					break
				}
				if len(page) != q.Limit {
					t.Fatalf("filter %d order %d: a page of %d with more to come", i, j, len(page))
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("filter %d order %d: %d runs, want %d (or another order)", i, j, len(got), len(want))
			}
		}
	}
}

func testSearchRefusesTokens(t *testing.T, d *sqlstore.RegistryDB) {
	ctx := t.Context()
	for i := range 3 {
		if _, err := d.CreateExperiment(ctx, turbofan.Experiment{Name: fmt.Sprint(i), ArtifactLocation: "x/"}); err != nil {
			t.Fatal(err)
		}
	}
	q := turbofan.SearchQuery{Limit: 1}
	_, token, err := d.SearchExperiments(ctx, q)
	if err != nil || token == "" {
		t.Fatalf("token %q, %v", token, err)
	}
	q.OrderBy = []turbofan.SearchOrder{{Entity: turbofan.EntityAttribute, Key: "name"}}
	for _, bad := range []string{token, "!", "bm90IGpzb24=", "e30=", "eyJvIjoxLCJrIjpbbnVsbF19"} {
		q.PageToken = bad
		if _, _, err := d.SearchExperiments(ctx, q); turbofan.ErrorCode(err) != turbofan.EInvalid {
			t.Errorf("token %q: %v", bad, err)
		}
	}
}

// A write that fails takes no other of its commit with it.
func testFailuresStayAlone(t *testing.T, d *sqlstore.RegistryDB) {
	ctx := t.Context()
	var wg sync.WaitGroup
	errs := make([]error, 200)
	for i := range errs {
		wg.Go(func() {
			_, errs[i] = d.CreateExperiment(ctx, turbofan.Experiment{Name: fmt.Sprint(i / 2), ArtifactLocation: "x/"})
		})
	}
	wg.Wait()
	for i := 0; i < len(errs); i += 2 {
		a, b := turbofan.ErrorCode(errs[i]), turbofan.ErrorCode(errs[i+1])
		if a+b != turbofan.EConflict {
			t.Errorf("name %d: %v and %v", i/2, errs[i], errs[i+1])
		}
	}
	found, _, err := d.SearchExperiments(ctx, turbofan.SearchQuery{Limit: 1000})
	if err != nil || len(found) != 100 {
		t.Errorf("%d experiments, %v", len(found), err)
	}
}

func TestClosedRegistryRefuses(t *testing.T) {
	d, err := sqlstore.OpenRegistry(t.Context(), filepath.Join(t.TempDir(), "registry.db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.CreateModel(t.Context(), turbofan.RegisteredModel{Name: "x"}); turbofan.ErrorCode(err) != turbofan.EUnavailable {
		t.Errorf("a closed registry said %v", err)
	}
	if err := d.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
}

func testLatestMetric(t *testing.T, d *sqlstore.RegistryDB) {
	ctx := t.Context()
	e, err := d.CreateExperiment(ctx, turbofan.Experiment{Name: "e", ArtifactLocation: "x/"})
	if err != nil {
		t.Fatal(err)
	}
	r, err := d.CreateRun(ctx, turbofan.Run{RunInfo: turbofan.RunInfo{ID: "r", ExperimentID: e.ID, Status: turbofan.RunRunning}})
	if err != nil {
		t.Fatal(err)
	}
	at := func(step, ms int64, v float64) turbofan.Metric {
		return turbofan.Metric{Key: "m", Value: v, Step: step, At: time.UnixMilli(ms)}
	}
	for _, c := range []struct {
		log  []turbofan.Metric
		want float64
	}{
		{[]turbofan.Metric{at(1, 10, 5)}, 5},
		{[]turbofan.Metric{at(0, 99, 7)}, 5}, // an earlier step is not the latest, however late it comes
		{[]turbofan.Metric{at(1, 11, 3), at(1, 9, 100)}, 3},
		{[]turbofan.Metric{at(1, 11, 2)}, 3}, // of the same step and time the greatest
		{[]turbofan.Metric{at(2, 1, math.Inf(-1))}, -math.MaxFloat64},
		{[]turbofan.Metric{at(3, 1, math.NaN())}, math.NaN()},
		{[]turbofan.Metric{at(3, 1, math.NaN())}, math.NaN()},
	} {
		if err := d.RecordRun(ctx, r.ID, turbofan.RunRecord{Metrics: c.log}); err != nil {
			t.Fatal(err)
		}
		got, err := d.Run(ctx, r.ID)
		if err != nil {
			t.Fatal(err)
		}
		if v := got.Metrics[0].Value; v != c.want && !(math.IsNaN(v) && math.IsNaN(c.want)) {
			t.Errorf("after %v the latest is %v, want %v", c.log, v, c.want)
		}
	}
	all, next, err := d.MetricHistory(ctx, turbofan.MetricQuery{RunID: "r", Key: "m"})
	if err != nil || next != "" || len(all) != 7 {
		t.Errorf("history of %d, %q, %v", len(all), next, err)
	}
	var paged []turbofan.Metric
	for q := (turbofan.MetricQuery{RunID: "r", Key: "m", Limit: 2}); ; {
		page, next, err := d.MetricHistory(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		paged = append(paged, page...)
		if q.PageToken = next; next == "" {
			break
		}
	}
	if len(paged) != len(all) {
		t.Errorf("in pages there are %d of %d", len(paged), len(all))
	}
}
