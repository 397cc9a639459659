package mlflow_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"turbofan"
	"turbofan/internal/postgrestest"
	"turbofan/mlflow"
	"turbofan/registry"
	"turbofan/sqlstore"
)

// service is what every registry must be: the embedded one and the client of any MLflow server.
type service interface {
	turbofan.Registry
	turbofan.Tracking
}

// openRegistry opens an embedded registry in a folder of its own.
func openRegistry(t testing.TB) *registry.Registry {
	t.Helper()
	return openRegistryAt(t, t.TempDir(), registry.Config{})
}

func openRegistryAt(t testing.TB, dir string, cfg registry.Config) *registry.Registry {
	t.Helper()
	store, err := sqlstore.OpenRegistry(context.Background(), filepath.Join(dir, "registry.db"))
	if err != nil {
		t.Fatal(err)
	}
	return openRegistryOver(t, store, dir, cfg)
}

// openRegistryOver opens a registry over a database, which it closes at the end, with its files in dir.
func openRegistryOver(t testing.TB, store *sqlstore.RegistryDB, dir string, cfg registry.Config) *registry.Registry {
	t.Helper()
	ctx := context.Background()
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	if cfg.ArtifactRoot == "" {
		cfg.ArtifactRoot = filepath.Join(dir, "artifacts")
	}
	r, err := registry.Open(ctx, cfg, store)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func TestConformanceInProcess(t *testing.T) {
	conformance(t, openRegistry(t))
}

func TestConformanceOverHTTP(t *testing.T) {
	conformance(t, newClient(t, serve(t, openRegistry(t))))
}

// Two registries over one PostgreSQL database and one folder, as two replicas are: what one writes the other knows.
func TestConformanceOverPostgres(t *testing.T) {
	dsn, dir := postgrestest.Start(t).Schema(t), t.TempDir()
	for range 2 {
		store, err := sqlstore.OpenRegistryPostgres(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		conformance(t, newClient(t, serve(t, openRegistryOver(t, store, dir, registry.Config{}))))
	}
}

// Clients that share the server's disk write there by themselves.
func TestConformanceOverSharedDisk(t *testing.T) {
	dir := t.TempDir()
	r := openRegistryAt(t, dir, registry.Config{ArtifactRoot: "file://" + filepath.ToSlash(filepath.Join(dir, "shared"))})
	conformance(t, newClient(t, serve(t, r)))
}

func serve(t testing.TB, r turbofan.ModelServer) string {
	t.Helper()
	s := httptest.NewServer(mlflow.NewHandler(r, mlflow.HandlerConfig{}))
	t.Cleanup(s.Close)
	return s.URL
}

func newClient(t testing.TB, uri string) *mlflow.Client {
	t.Helper()
	c, err := mlflow.NewClient(uri, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// conformance is the contract of turbofan.Registry and turbofan.Tracking. The service may hold other things already:
// names carry the time.
func conformance(t *testing.T, s service) {
	stamp := fmt.Sprint(time.Now().UnixNano())
	for _, c := range []struct {
		name string
		run  func(t *testing.T, s service, name string)
	}{
		{"VersionLife", versionLife},
		{"FetchWhole", fetchWhole},
		{"FetchChecked", fetchChecked},
		{"Refusals", refusals},
		{"ConcurrentVersions", concurrentVersions},
		{"RunLife", runLife},
		{"BigBatch", bigBatch},
		{"Cancelled", cancelled},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, s, c.name+"-"+stamp) })
	}
}

// modelFolder writes a folder shaped like a model.
func modelFolder(t *testing.T, mark string) string {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "MLmodel"), "flavors:\n  python_function:\n    loader_module: mlflow.onnx\n# "+mark+"\n")
	writeFile(t, filepath.Join(dir, "data", "model.onnx"), strings.Repeat(mark, 100_000))
	writeFile(t, filepath.Join(dir, "data", "empty"), "")
	return dir
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	if got := turbofan.ErrorCode(err); got != code {
		t.Errorf("error code %q, want %q (%v)", got, code, err)
	}
}

func versionLife(t *testing.T, s service, name string) {
	ctx := t.Context()
	if got, err := s.Versions(ctx, name); err != nil || len(got) != 0 {
		t.Fatalf("versions of an unknown name: %v, %v", got, err)
	}
	_, err := s.Version(ctx, name, "1")
	wantCode(t, err, turbofan.ENotFound)
	_, err = s.Version(ctx, name, "@champion")
	wantCode(t, err, turbofan.ENotFound)

	given := turbofan.ModelVersion{Name: name, Description: "first", Tags: map[string]string{"rmse": "12.5", "empty": ""}}
	v1, err := s.CreateVersion(ctx, given, modelFolder(t, "one"))
	if err != nil {
		t.Fatal(err)
	}
	if v1.Version != "1" || v1.Name != name || v1.Source == "" || v1.CreatedAt.IsZero() {
		t.Errorf("first version: %+v", v1)
	}
	v2, err := s.CreateVersion(ctx, turbofan.ModelVersion{Name: name}, modelFolder(t, "two"))
	if err != nil {
		t.Fatal(err)
	}
	if v2.Version != "2" {
		t.Errorf("second version is %q", v2.Version)
	}
	got, err := s.Version(ctx, name, "1")
	if err != nil {
		t.Fatal(err)
	}
	if got.Description != "first" || got.Tags["rmse"] != "12.5" || got.Source != v1.Source {
		t.Errorf("read back %+v", got)
	}
	if d := got.CreatedAt.Sub(v1.CreatedAt); d.Abs() >= time.Second {
		t.Errorf("created at %v, read back %v", v1.CreatedAt, got.CreatedAt)
	}
	_, err = s.Version(ctx, name, "@champion")
	wantCode(t, err, turbofan.ENotFound)
	for _, version := range []string{"1", "2"} {
		if err := s.SetAlias(ctx, name, turbofan.ChampionAlias, version); err != nil {
			t.Fatal(err)
		}
		champion, err := s.Version(ctx, name, "@"+turbofan.ChampionAlias)
		if err != nil {
			t.Fatal(err)
		}
		if champion.Version != version || len(champion.Aliases) != 1 || champion.Aliases[0] != turbofan.ChampionAlias {
			t.Errorf("champion is %+v, want version %s", champion, version)
		}
	}
	if err := s.SetVersionTags(ctx, name, "1", map[string]string{"rmse": "13", "gate": "lost"}); err != nil {
		t.Fatal(err)
	}
	all, err := s.Versions(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 || all[0].Version != "1" || all[1].Version != "2" {
		t.Fatalf("versions: %+v", all)
	}
	if tags := all[0].Tags; tags["rmse"] != "13" || tags["gate"] != "lost" {
		t.Errorf("tags: %v", tags)
	}
}

func fetchWhole(t *testing.T, s service, name string) {
	ctx := t.Context()
	source := modelFolder(t, "whole")
	v, err := s.CreateVersion(ctx, turbofan.ModelVersion{Name: name}, source)
	if err != nil {
		t.Fatal(err)
	}
	want := readFile(t, filepath.Join(source, "MLmodel"))
	writeFile(t, filepath.Join(source, "MLmodel"), "changed after it was registered")
	dir := filepath.Join(t.TempDir(), "deep", "copy")
	if err := s.Fetch(ctx, v, dir); err != nil {
		t.Fatal(err)
	}
	if got := readFile(t, filepath.Join(dir, "MLmodel")); got != want {
		t.Errorf("MLmodel is %q", got)
	}
	if got := readFile(t, filepath.Join(dir, "data", "model.onnx")); got != strings.Repeat("whole", 100_000) {
		t.Errorf("model.onnx has %d bytes", len(got))
	}
	if got := readFile(t, filepath.Join(dir, "data", "empty")); got != "" {
		t.Errorf("empty file has %q", got)
	}
	if err := s.Fetch(ctx, v, dir); err == nil {
		t.Error("fetching into a folder that is there went well")
	}
	entries, err := os.ReadDir(filepath.Dir(dir))
	if err != nil || len(entries) != 1 {
		t.Errorf("beside the copy stand %v (%v)", entries, err)
	}
	again, err := s.Version(ctx, name, v.Version)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Fetch(ctx, again, filepath.Join(t.TempDir(), "again")); err != nil {
		t.Error(err)
	}
}

// fetchChecked wants the files that the version was registered with: others than its digest says are refused, and
// nothing is left of them. Versions of other tools have no digest.
func fetchChecked(t *testing.T, s service, name string) {
	ctx := t.Context()
	const manifest = `{"format_version": 2}`
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte(manifest)))
	with := modelFolder(t, "with")
	writeFile(t, filepath.Join(with, turbofan.ManifestFile), manifest)
	for _, tt := range []struct {
		what, digest, dir, want string
	}{
		{"the registered files", sum, with, ""},
		{"no tag", "", with, ""},
		{"no tag and no manifest", "", modelFolder(t, "without"), ""},
		{"other files", strings.Repeat("0", 64), with, fmt.Sprintf("their digest is %.12s…, its tag turbofan.digest says 000000000000…", sum)},
		{"files of another tool", sum, modelFolder(t, "without"), fmt.Sprintf("they have no model.json, its tag turbofan.digest says %.12s…", sum)},
	} {
		v := turbofan.ModelVersion{Name: name}
		if tt.digest != "" {
			v.Tags = map[string]string{turbofan.TagDigest: tt.digest}
		}
		created, err := s.CreateVersion(ctx, v, tt.dir)
		if err != nil {
			t.Fatal(err)
		}
		if created, err = s.Version(ctx, name, created.Version); err != nil {
			t.Fatal(err)
		}
		parent := t.TempDir()
		err = s.Fetch(ctx, created, filepath.Join(parent, "copy"))
		entries, readErr := os.ReadDir(parent)
		if tt.want == "" {
			if err != nil || len(entries) != 1 {
				t.Errorf("%s: %v, %v", tt.what, err, entries)
			}
			continue
		}
		if turbofan.ErrorCode(err) != turbofan.EInvalid || !strings.Contains(fmt.Sprint(err), tt.want) || !strings.HasPrefix(fmt.Sprint(err), "version "+created.Version+" of model ") {
			t.Errorf("%s: %v", tt.what, err)
		}
		if readErr != nil || len(entries) > 0 {
			t.Errorf("%s: left are %v, %v", tt.what, entries, readErr)
		}
	}
}

func refusals(t *testing.T, s service, name string) {
	ctx := t.Context()
	dir := modelFolder(t, "x")
	_, err := s.CreateVersion(ctx, turbofan.ModelVersion{Name: ""}, dir)
	wantCode(t, err, turbofan.EInvalid)
	_, err = s.CreateVersion(ctx, turbofan.ModelVersion{Name: "a/b"}, dir)
	wantCode(t, err, turbofan.EInvalid)
	_, err = s.CreateVersion(ctx, turbofan.ModelVersion{Name: name}, filepath.Join(dir, "absent"))
	wantCode(t, err, turbofan.EInvalid)
	if got, err := s.Versions(ctx, name); err != nil || len(got) != 0 {
		t.Errorf("after refusals there are %d versions (%v)", len(got), err)
	}
	wantCode(t, s.SetAlias(ctx, name, "champion", "1"), turbofan.ENotFound)
	if _, err := s.CreateVersion(ctx, turbofan.ModelVersion{Name: name}, dir); err != nil {
		t.Fatal(err)
	}
	wantCode(t, s.SetAlias(ctx, name, "champion", "7"), turbofan.ENotFound)
	wantCode(t, s.SetAlias(ctx, name, "latest", "1"), turbofan.EInvalid)
	wantCode(t, s.SetVersionTags(ctx, name, "7", map[string]string{"a": "b"}), turbofan.ENotFound)
	_, err = s.Version(ctx, name, "7")
	wantCode(t, err, turbofan.ENotFound)
	wantCode(t, s.LogBatch(ctx, strings.Repeat("0", 32), nil, map[string]string{"a": "b"}, nil), turbofan.ENotFound)
	wantCode(t, s.EndRun(ctx, strings.Repeat("0", 32), turbofan.RunFinished), turbofan.ENotFound)
}

func concurrentVersions(t *testing.T, s service, name string) {
	const n = 6
	var wg sync.WaitGroup
	versions := make([]turbofan.ModelVersion, n)
	errs := make([]error, n)
	dir := modelFolder(t, "c")
	for i := range n {
		wg.Go(func() {
			versions[i], errs[i] = s.CreateVersion(t.Context(), turbofan.ModelVersion{Name: name}, dir)
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, v := range versions {
		seen[v.Version] = true
	}
	for i := range n {
		if !seen[fmt.Sprint(i+1)] {
			t.Errorf("version %d is missing of %v", i+1, seen)
		}
	}
}

func runLife(t *testing.T, s service, name string) {
	ctx := t.Context()
	began := time.Now().Add(-time.Hour).Truncate(time.Second)
	run, err := s.StartRun(ctx, name, "first", map[string]string{"git_commit": "abc"}, began)
	if err != nil {
		t.Fatal(err)
	}
	if run.ID == "" || run.Name != "first" || run.ExperimentID == "" || run.Status != turbofan.RunRunning || run.ArtifactURI == "" || !run.StartedAt.Equal(began) {
		t.Errorf("run: %+v", run)
	}
	second, err := s.StartRun(ctx, name, "", nil, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if second.ExperimentID != run.ExperimentID || second.ID == run.ID || second.Name == "" || time.Since(second.StartedAt).Abs() > time.Minute {
		t.Errorf("second run: %+v", second)
	}
	now := time.Now()
	metrics := []turbofan.Metric{
		{Key: "rmse", Value: 20, At: now, Step: 0}, {Key: "rmse", Value: 15, At: now, Step: 1},
		{Key: "nan", Value: math.NaN(), At: now}, {Key: "inf", Value: math.Inf(1), At: now}, {Key: "no time", Value: 1},
	}
	params := map[string]string{"n_estimators": "100", "empty": ""}
	if err := s.LogBatch(ctx, run.ID, metrics, params, map[string]string{"reason": "drift"}); err != nil {
		t.Fatal(err)
	}
	// MLflow's own server takes no NaN twice.
	if err := s.LogBatch(ctx, run.ID, metrics[:2], params, nil); err != nil {
		t.Errorf("the same again: %v", err)
	}
	wantCode(t, s.LogBatch(ctx, run.ID, nil, map[string]string{"n_estimators": "200"}, nil), turbofan.EInvalid)
	wantCode(t, s.LogBatch(ctx, run.ID, []turbofan.Metric{{Key: "a/../b", Value: 1, At: now}}, nil, nil), turbofan.EInvalid)
	if err := s.LogArtifacts(ctx, run.ID, "pictures", modelFolder(t, "p")); err != nil {
		t.Fatal(err)
	}
	if err := s.LogArtifacts(ctx, run.ID, "", modelFolder(t, "p")); err != nil {
		t.Fatal(err)
	}
	wantCode(t, s.LogArtifacts(ctx, run.ID, "../../up", modelFolder(t, "p")), turbofan.EInvalid)
	open := func(experiment string, tags map[string]string) int {
		t.Helper()
		found, err := s.OpenRuns(ctx, experiment, tags)
		if err != nil {
			t.Error(err)
		}
		for _, r := range found {
			if r.Status != turbofan.RunRunning || r.ID != run.ID && r.ID != second.ID {
				t.Errorf("open: %+v", r)
			}
		}
		return len(found)
	}
	wantOpen := func(when string, all, tagged int) {
		t.Helper()
		if a, b := open(name, nil), open(name, map[string]string{"git_commit": "abc", "reason": "drift"}); a != all || b != tagged {
			t.Errorf("%s %d runs are open, %d with the tags; want %d and %d", when, a, b, all, tagged)
		}
	}
	wantOpen("at first", 2, 1)
	if n := open(name+" that is not there", nil) + open(name, map[string]string{"git_commit": "abc", "reason": "schedule"}); n != 0 {
		t.Errorf("%d runs are open where there are none", n)
	}
	defer wantOpen("after the end of one", 1, 0)
	if err := s.EndRun(ctx, run.ID, turbofan.RunFinished); err != nil {
		t.Fatal(err)
	}
	v, err := s.CreateVersion(ctx, turbofan.ModelVersion{Name: name, RunID: run.ID}, modelFolder(t, "of a run"))
	if err != nil {
		t.Fatal(err)
	}
	if v.RunID != run.ID {
		t.Errorf("the version's run is %q", v.RunID)
	}
	if err := s.Fetch(ctx, v, filepath.Join(t.TempDir(), "copy")); err != nil {
		t.Error(err)
	}
}

// bigBatch is more than one MLflow request may carry.
func bigBatch(t *testing.T, s service, name string) {
	ctx := t.Context()
	run, err := s.StartRun(ctx, name, "big", nil, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	var metrics []turbofan.Metric
	params, tags := map[string]string{}, map[string]string{}
	at := time.UnixMilli(1_700_000_000_000)
	for i := range 2300 {
		metrics = append(metrics, turbofan.Metric{Key: "loss", Value: 1 / float64(i+1), At: at, Step: int64(i)})
	}
	for i := range 230 {
		params[fmt.Sprintf("p%d", i)] = fmt.Sprint(i)
		tags[fmt.Sprintf("t%d", i)] = fmt.Sprint(i)
	}
	if err := s.LogBatch(ctx, run.ID, metrics, params, tags); err != nil {
		t.Fatal(err)
	}
	if err := s.EndRun(ctx, run.ID, turbofan.RunFailed); err != nil {
		t.Error(err)
	}
}

func cancelled(t *testing.T, s service, name string) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.CreateVersion(ctx, turbofan.ModelVersion{Name: name}, modelFolder(t, "x")); err == nil {
		t.Error("a cancelled call made a version")
	}
	if got, err := s.Versions(t.Context(), name); err != nil || len(got) != 0 {
		t.Errorf("after a cancelled call there are %v (%v)", got, err)
	}
}
