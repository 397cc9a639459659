package registry_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"turbofan"
	"turbofan/registry"
	"turbofan/sqlstore"
)

// open opens a registry over a store in dir; both are closed when the test ends.
func open(t *testing.T, dir string, cfg registry.Config, wrap func(turbofan.RegistryStore) turbofan.RegistryStore) *registry.Registry {
	t.Helper()
	ctx := context.Background()
	store, err := sqlstore.OpenRegistry(ctx, filepath.Join(dir, "registry.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	var s turbofan.RegistryStore = store
	if wrap != nil {
		s = wrap(store)
	}
	if cfg.ArtifactRoot == "" {
		cfg.ArtifactRoot = filepath.Join(dir, "artifacts")
	}
	r, err := registry.Open(ctx, cfg, s)
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

func model(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "MLmodel"), []byte("flavors: {}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	if got := turbofan.ErrorCode(err); got != code {
		t.Errorf("error code %q, want %q (%v)", got, code, err)
	}
}

// failing is a database that takes no more versions.
type failing struct{ turbofan.RegistryStore }

func (failing) CreateModelVersion(context.Context, turbofan.ModelVersion) (turbofan.ModelVersion, error) {
	return turbofan.ModelVersion{}, errors.New("the disk is full")
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestFailedVersionLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir, registry.Config{}, func(s turbofan.RegistryStore) turbofan.RegistryStore { return failing{s} })
	if _, err := r.CreateVersion(t.Context(), turbofan.ModelVersion{Name: "rul"}, model(t)); err == nil {
		t.Fatal("a version was created in a full database")
	}
	for _, sub := range []string{"registry", ".staging"} {
		if got := names(t, filepath.Join(dir, "artifacts", sub)); len(got) != 0 {
			t.Errorf("%s holds %v", sub, got)
		}
	}
}

// A process that dies between copying and registering leaves files. The next one deletes them once they are old, and
// only them.
func TestOrphansAreDeleted(t *testing.T) {
	dir := t.TempDir()
	root := filepath.Join(dir, "artifacts")
	first := open(t, dir, registry.Config{}, nil)
	kept, err := first.CreateVersion(t.Context(), turbofan.ModelVersion{Name: "rul"}, model(t))
	if err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-2 * time.Hour)
	for _, name := range []string{"registry/dead", ".staging/dead", "registry/young", ".staging/young"} {
		path := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, "MLmodel"), []byte("half"), 0o644); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "dead") {
			for _, p := range []string{filepath.Join(path, "MLmodel"), path} {
				if err := os.Chtimes(p, old, old); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for _, name := range names(t, filepath.Join(root, "registry")) {
		if name != "dead" && name != "young" {
			if err := os.Chtimes(filepath.Join(root, "registry", name), old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	var log bytes.Buffer
	again := open(t, dir, registry.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}, nil)
	if got := names(t, filepath.Join(root, ".staging")); len(got) != 1 || got[0] != "young" {
		t.Errorf(".staging holds %v", got)
	}
	if got := names(t, filepath.Join(root, "registry")); len(got) != 2 {
		t.Errorf("registry holds %v", got)
	}
	if !strings.Contains(log.String(), "registry/dead") {
		t.Errorf("the log says %q", log.String())
	}
	if err := again.Fetch(t.Context(), kept, filepath.Join(t.TempDir(), "copy")); err != nil {
		t.Error(err)
	}
}

// What cannot be read keeps neither the registry from starting nor the sweep from what lies beside it. A link to itself
// is read by nobody, root included.
func TestOrphansThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	root := filepath.Join(dir, "artifacts")
	open(t, dir, registry.Config{}, nil)
	old := time.Now().Add(-2 * time.Hour)
	for _, sub := range []string{"registry", ".staging"} {
		dead := filepath.Join(root, sub, "dead")
		if err := os.MkdirAll(dead, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(dead, old, old); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("a-loop", filepath.Join(root, sub, "a-loop")); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(root, sub, "closed"), 0); err != nil {
			t.Fatal(err)
		}
	}
	var log bytes.Buffer
	open(t, dir, registry.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}, nil)
	for _, sub := range []string{"registry", ".staging"} {
		if got := names(t, filepath.Join(root, sub)); slices.Contains(got, "dead") || !slices.Contains(got, "a-loop") {
			t.Errorf("%s holds %v", sub, got)
		}
		if want := "level=WARN msg=\"cannot delete what was left of artifacts\" path=" + sub + "/"; !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, log.String())
		}
	}
}

// An upload of which nothing came for a day is given up while the registry serves; one that is in use is not, however
// long ago it began, and its parts make the file.
func TestUploadsAreGivenUp(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir, registry.Config{SweepEvery: time.Millisecond}, nil)
	ctx := t.Context()
	part := func(id string, n int) turbofan.UploadPart {
		tag, err := r.PutPart(ctx, id, n, strings.NewReader(strings.Repeat("x", n)))
		if err != nil {
			t.Fatal(err)
		}
		return turbofan.UploadPart{Number: n, Tag: tag}
	}
	age := func(id string, by time.Duration, except string) {
		folder := filepath.Join(dir, "artifacts", ".staging", "upload-"+id)
		then := time.Now().Add(-by)
		for _, name := range append(names(t, folder), "") {
			if except != "" && strings.Contains(name, except) {
				continue
			}
			if err := os.Chtimes(filepath.Join(folder, name), then, then); err != nil {
				t.Fatal(err)
			}
		}
	}
	ids := map[string]string{}
	parts := map[string][]turbofan.UploadPart{}
	for _, name := range []string{"left", "slow", "lately"} {
		id, err := r.StartUpload(ctx, "mlflow-artifacts:/1/"+name)
		if err != nil {
			t.Fatal(err)
		}
		ids[name], parts[name] = id, []turbofan.UploadPart{part(id, 1), part(id, 2)}
	}
	age(ids["slow"], 23*time.Hour, "")
	age(ids["lately"], 25*time.Hour, parts["lately"][1].Tag)
	age(ids["left"], 25*time.Hour, "")
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- r.Tend(running) }()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for len(names(t, filepath.Join(dir, "artifacts", ".staging"))) > 2 {
		<-tick.C // the test's own deadline ends it where nothing is deleted
	}
	for range 20 { // of the two that stay no later sweep takes one
		<-tick.C
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	for name, want := range map[string]string{"left": turbofan.ENotFound, "slow": "", "lately": ""} {
		if err := r.CompleteUpload(ctx, "mlflow-artifacts:/1/"+name, ids[name], parts[name]); turbofan.ErrorCode(err) != want {
			t.Errorf("%s: %v, want code %q", name, err, want)
		}
	}
	if got := names(t, filepath.Join(dir, "artifacts", "1")); len(got) != 2 {
		t.Errorf("the files are %v", got)
	}
}

func TestVersionNumbersAreNotReused(t *testing.T) {
	r := open(t, t.TempDir(), registry.Config{}, nil)
	ctx := t.Context()
	for range 2 {
		if _, err := r.CreateVersion(ctx, turbofan.ModelVersion{Name: "rul"}, model(t)); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.SetAlias(ctx, "rul", "champion", "2"); err != nil {
		t.Fatal(err)
	}
	if err := r.DeleteModelVersion(ctx, "rul", "2"); err != nil {
		t.Fatal(err)
	}
	_, err := r.Version(ctx, "rul", "@champion")
	wantCode(t, err, turbofan.ENotFound)
	v, err := r.CreateVersion(ctx, turbofan.ModelVersion{Name: "rul"}, model(t))
	if err != nil || v.Version != "3" {
		t.Errorf("after a delete came version %q (%v)", v.Version, err)
	}
}

// Versions that MLflow's clients registered can be fetched, wherever their source says they are.
func TestFetchForeignSources(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	shared := "file://" + filepath.ToSlash(filepath.Join(dir, "shared"))
	for _, root := range []string{"", shared} {
		r := open(t, t.TempDir(), registry.Config{DefaultArtifactRoot: root}, nil)
		run, err := r.StartRun(ctx, "e", "r", nil, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.LogArtifacts(ctx, run.ID, "model", model(t)); err != nil {
			t.Fatal(err)
		}
		logged, err := r.CreateLoggedModel(ctx, turbofan.LoggedModel{ExperimentID: run.ExperimentID, Name: "boosted", SourceRunID: run.ID})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.PutArtifact(ctx, logged.ArtifactURI+"/MLmodel", strings.NewReader("flavors: {}\n")); err != nil {
			t.Fatal(err)
		}
		if _, err := r.CreateModel(ctx, turbofan.RegisteredModel{Name: "rul"}); err != nil {
			t.Fatal(err)
		}
		for _, source := range []string{run.ArtifactURI + "/model", "runs:/" + run.ID + "/model", "runs:/" + run.ID + "/boosted",
			"models:/" + logged.ID, logged.ArtifactURI, "models:/rul/1"} {
			given := turbofan.ModelVersion{Name: "rul", Source: source, RunID: run.ID}
			if source == logged.ArtifactURI {
				given.ModelID = logged.ID
			}
			v, err := r.CreateModelVersion(ctx, given)
			if err != nil {
				t.Errorf("register %s: %v", source, err)
				continue
			}
			if v.Source != source {
				t.Errorf("the source %s became %s", source, v.Source)
			}
			copied := filepath.Join(t.TempDir(), "copy")
			if err := r.Fetch(ctx, v, copied); err != nil {
				t.Errorf("fetch %s: %v", source, err)
			} else if got := names(t, copied); len(got) != 1 || got[0] != "MLmodel" {
				t.Errorf("fetch %s: %v", source, got)
			}
		}
		m, err := r.LoggedModel(ctx, logged.ID)
		if err != nil {
			t.Fatal(err)
		}
		if len(m.Tags) != 1 || m.Tags[0].Value != `[{"name": "rul", "version": 4}, {"name": "rul", "version": 5}]` {
			t.Errorf("registrations: %v", m.Tags)
		}
	}
}

func TestRegisteredFilesAreImmutable(t *testing.T) {
	r := open(t, t.TempDir(), registry.Config{}, nil)
	ctx := t.Context()
	v, err := r.CreateVersion(ctx, turbofan.ModelVersion{Name: "rul"}, model(t))
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, r.PutArtifact(ctx, v.Source+"/MLmodel", strings.NewReader("evil")), turbofan.EConflict)
	wantCode(t, r.DeleteArtifact(ctx, v.Source), turbofan.EConflict)
	wantCode(t, r.DeleteArtifact(ctx, "mlflow-artifacts:/registry"), turbofan.EInvalid)
	wantCode(t, r.DeleteArtifact(ctx, "mlflow-artifacts:/"), turbofan.EInvalid)
	wantCode(t, r.PutArtifact(ctx, "mlflow-artifacts:/.staging/x", strings.NewReader("x")), turbofan.EInvalid)
}

func TestArtifactsAreWhole(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir, registry.Config{}, nil)
	ctx := t.Context()
	uri := "mlflow-artifacts:/1/a/notes.txt"
	if err := r.PutArtifact(ctx, uri, strings.NewReader("first")); err != nil {
		t.Fatal(err)
	}
	broken := io.MultiReader(strings.NewReader("second, but"), &breaking{})
	if err := r.PutArtifact(ctx, uri, broken); err == nil {
		t.Error("half a file was taken")
	}
	f, info, err := r.OpenArtifact(ctx, uri)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if text, err := io.ReadAll(f); err != nil || string(text) != "first" || info.Size != 5 {
		t.Errorf("%q, %+v, %v", text, info, err)
	}
	if got := names(t, filepath.Join(dir, "artifacts", ".staging")); len(got) != 0 {
		t.Errorf(".staging holds %v", got)
	}
	wantCode(t, r.PutArtifact(ctx, uri+"/below", strings.NewReader("x")), turbofan.EInvalid)
	wantCode(t, r.PutArtifact(ctx, "mlflow-artifacts:/1", strings.NewReader("x")), turbofan.EInvalid)
	if list, err := r.ListArtifacts(ctx, "mlflow-artifacts:/1/a"); err != nil || len(list) != 1 || list[0].Size != 5 {
		t.Errorf("list: %v, %v", list, err)
	}
	if list, err := r.ListArtifacts(ctx, uri); err != nil || len(list) != 0 {
		t.Errorf("list of a file: %v, %v", list, err)
	}
}

type breaking struct{}

func (*breaking) Read([]byte) (int, error) { return 0, errors.New("the line went dead") }

// Links could lead out of the folder, whoever made them.
func TestLinksLeadNowhere(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir, registry.Config{}, nil)
	ctx := t.Context()
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir, filepath.Join(dir, "artifacts", "out")); err != nil {
		t.Skip("no links here")
	}
	if _, _, err := r.OpenArtifact(ctx, "mlflow-artifacts:/out/secret"); err == nil {
		t.Error("a link led out")
	}
	if err := r.PutArtifact(ctx, "mlflow-artifacts:/out/evil", strings.NewReader("x")); err == nil {
		t.Error("a link led out")
	}
	linked := model(t)
	if err := os.Symlink(secret, filepath.Join(linked, "link")); err != nil {
		t.Fatal(err)
	}
	_, err := r.CreateVersion(ctx, turbofan.ModelVersion{Name: "rul"}, linked)
	wantCode(t, err, turbofan.EInvalid)
}

func TestOpenRefuses(t *testing.T) {
	store, err := sqlstore.OpenRegistry(t.Context(), filepath.Join(t.TempDir(), "registry.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for _, cfg := range []registry.Config{{}, {ArtifactRoot: "s3://bucket"}, {ArtifactRoot: "file://elsewhere/x"}} {
		_, err := registry.Open(t.Context(), cfg, store)
		wantCode(t, err, turbofan.EInvalid)
	}
	reg := prometheus.NewRegistry()
	r, err := registry.Open(t.Context(), registry.Config{ArtifactRoot: t.TempDir(), Registerer: reg}, store)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if families, err := reg.Gather(); err != nil || len(families) != 2 {
		t.Errorf("metrics: %v, %v", families, err)
	}
}

func FuzzSafePath(f *testing.F) {
	for _, s := range []string{"a/b", "../a", "a/../b", "%2e%2e/a", "%252e%252e%252fa", "/abs", "c:/x", "a\\b", "a\x00b", "file:///x", "", ".", "a//b", "...."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := registry.SafePath(s)
		if err != nil {
			if turbofan.ErrorCode(err) != turbofan.EInvalid {
				t.Fatal(err)
			}
			return
		}
		if !filepath.IsLocal(filepath.FromSlash(got)) {
			t.Fatalf("%q became %q, which leads away", s, got)
		}
	})
}

// A file sent in parts is whole or not there: parts count by number and tag, whatever else was sent.
func TestPartsBecomeOneFile(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir, registry.Config{}, nil)
	ctx := t.Context()
	uri := "mlflow-artifacts:/1/a/weights.bin"
	upload, err := r.StartUpload(ctx, uri)
	if err != nil {
		t.Fatal(err)
	}
	tags := map[string]string{}
	for _, part := range []struct {
		number int
		text   string
	}{{3, "three"}, {1, "one"}, {2, "torn"}, {2, "two"}, {7, "left over"}} {
		if tags[part.text], err = r.PutPart(ctx, upload, part.number, strings.NewReader(part.text)); err != nil {
			t.Fatal(err)
		}
	}
	one, two, three := turbofan.UploadPart{Number: 1, Tag: tags["one"]}, turbofan.UploadPart{Number: 2, Tag: tags["two"]}, turbofan.UploadPart{Number: 3, Tag: tags["three"]}
	for name, parts := range map[string][]turbofan.UploadPart{
		"none":           nil,
		"descending":     {two, one, three},
		"twice the same": {one, two, {Number: 2, Tag: tags["torn"]}, three},
		"another's tag":  {one, {Number: 2, Tag: tags["three"]}, three},
		"no tag":         {one, {Number: 2}, three},
	} {
		if err := r.CompleteUpload(ctx, uri, upload, parts); turbofan.ErrorCode(err) != turbofan.EInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	wantCode(t, r.CompleteUpload(ctx, uri+".other", upload, []turbofan.UploadPart{one, two, three}), turbofan.ENotFound)
	if _, _, err := r.OpenArtifact(ctx, uri); turbofan.ErrorCode(err) != turbofan.ENotFound {
		t.Errorf("a part of the file is there: %v", err)
	}
	if err := r.CompleteUpload(ctx, uri, upload, []turbofan.UploadPart{one, two, three}); err != nil {
		t.Fatal(err)
	}
	f, info, err := r.OpenArtifact(ctx, uri)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if text, err := io.ReadAll(f); err != nil || string(text) != "onetwothree" || info.Size != 11 {
		t.Errorf("%q, %+v, %v", text, info, err)
	}
	if got := names(t, filepath.Join(dir, "artifacts", ".staging")); len(got) != 0 {
		t.Errorf(".staging holds %v", got)
	}
	if _, err := r.PutPart(ctx, upload, 4, strings.NewReader("late")); turbofan.ErrorCode(err) != turbofan.ENotFound {
		t.Errorf("a part of a file that is done: %v", err)
	}
}
