package dataset_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"turbofan"
	"turbofan/dataset"
	"turbofan/internal/porttest"
)

// noise is text that no compressor makes small, so that an archive has many bytes to break off in.
func noise(n int) string {
	var b strings.Builder
	sum := sha256.Sum256([]byte("noise"))
	for b.Len() < n {
		sum = sha256.Sum256(sum[:])
		b.WriteString(hex.EncodeToString(sum[:]))
	}
	return b.String()
}

func published() map[string]string {
	return map[string]string{"train_X.txt": noise(60_000), "test_X.txt": "1 1" + sensors + "\n", "RUL_X.txt": "7\n"}
}

func want(files map[string]string) map[string]string {
	out := map[string]string{}
	for name, text := range files {
		sum := sha256.Sum256([]byte(text))
		out[name] = hex.EncodeToString(sum[:])
	}
	return out
}

func zipped(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, text := range files {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// nested is the archive as NASA's bucket serves it: a zip in a folder of a zip.
func nested(t *testing.T) []byte {
	return zipped(t, map[string]string{
		"6. Turbofan/CMAPSSData.zip": string(zipped(t, withReadme(published()))), "6. Turbofan/readme.pdf": "pdf"})
}

func withReadme(files map[string]string) map[string]string {
	files["readme.txt"] = "read me"
	return files
}

func mirror(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL + "/CMAPSSData.zip"
}

func serveContent(data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}
}

func checkFetched(t *testing.T, dir string) {
	t.Helper()
	for name, text := range published() {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || string(got) != text {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	entries, _ := os.ReadDir(filepath.Dir(dir))
	for _, e := range entries {
		if e.Name() != filepath.Base(dir) {
			t.Errorf("%s was left beside the data", e.Name())
		}
	}
	files, _ := os.ReadDir(dir)
	if len(files) != len(published()) {
		t.Errorf("the directory holds %d files, want %d", len(files), len(published()))
	}
}

func TestFetchUnpacksNestedArchives(t *testing.T) {
	for name, archive := range map[string][]byte{"nested": nested(t), "plain": zipped(t, published())} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "raw")
			var last dataset.Progress
			most := int64(0)
			f := dataset.Fetcher{Mirrors: []string{mirror(t, serveContent(archive))}, Want: want(published()), Progress: func(p dataset.Progress) { last, most = p, max(most, p.Done) }}
			if err := f.Fetch(t.Context(), dir); err != nil {
				t.Fatal(err)
			}
			checkFetched(t, dir)
			if last.Stage != "done" || most != int64(len(archive)) {
				t.Errorf("last progress %+v, %d bytes told of %d", last, most, len(archive))
			}
		})
	}
}

func TestFetchResumesABrokenConnection(t *testing.T) {
	archive := nested(t)
	var requests, ranged atomic.Int32
	url := mirror(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") != "" {
			ranged.Add(1)
		}
		if requests.Add(1) <= 2 {
			// Promise the rest, send a third of it, hang up.
			start := 0
			if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &start); err == nil {
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, len(archive)-1, len(archive)))
			}
			w.Header().Set("ETag", `"v1"`)
			w.Header().Set("Content-Length", fmt.Sprint(len(archive)-start))
			if start > 0 {
				w.WriteHeader(http.StatusPartialContent)
			}
			w.Write(archive[start : start+(len(archive)-start)/3])
			panic(http.ErrAbortHandler)
		}
		serveContent(archive)(w, r)
	})
	dir := filepath.Join(t.TempDir(), "raw")
	f := dataset.Fetcher{Mirrors: []string{url}, Want: want(published())}
	if err := f.Fetch(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	checkFetched(t, dir)
	if requests.Load() != 3 || ranged.Load() != 2 {
		t.Errorf("%d requests, %d of them for a range; want 3 and 2", requests.Load(), ranged.Load())
	}
}

// An interrupted download goes on in the next call, from the mirror that it began with.
func TestFetchResumesInTheNextCall(t *testing.T) {
	archive := nested(t)
	half := len(archive) / 2
	ctx, cancel := context.WithCancel(t.Context())
	var resumedAt atomic.Int64
	url := mirror(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") == "" {
			w.Header().Set("ETag", `"v1"`)
			w.Header().Set("Content-Length", fmt.Sprint(len(archive)))
			w.Write(archive[:half])
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			return
		}
		var from int64
		fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
		resumedAt.Store(from)
		serveContent(archive)(w, r)
	})
	dead := mirror(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	dir := filepath.Join(t.TempDir(), "raw")
	f := dataset.Fetcher{Mirrors: []string{dead, url}, Want: want(published()), Progress: func(p dataset.Progress) {
		if p.Done == int64(half) {
			cancel()
		}
	}}
	if err := f.Fetch(ctx, dir); !errors.Is(err, context.Canceled) {
		t.Fatalf("interrupted: %v", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Fatal("an interrupted download left a directory of data")
	}
	f.Progress = nil
	if err := f.Fetch(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if resumedAt.Load() != int64(half) {
		t.Errorf("resumed at byte %d, want %d", resumedAt.Load(), half)
	}
	checkFetched(t, dir)
}

func TestFetchStartsAnewWhenTheArchiveChanged(t *testing.T) {
	archive := nested(t)
	var requests atomic.Int32
	url := mirror(t, func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) == 1 {
			w.Header().Set("ETag", `"v0"`)
			w.Header().Set("Content-Length", fmt.Sprint(len(archive)))
			w.Write(bytes.Repeat([]byte("x"), len(archive)/2))
			panic(http.ErrAbortHandler)
		}
		serveContent(archive)(w, r) // its ETag is another, so If-Range brings the whole
	})
	dir := filepath.Join(t.TempDir(), "raw")
	f := dataset.Fetcher{Mirrors: []string{url}, Want: want(published())}
	if err := f.Fetch(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	checkFetched(t, dir)
}

// Every bad mirror is passed over, with its reason told, and the good one at the end delivers.
func TestFetchPassesBadMirrors(t *testing.T) {
	good := nested(t)
	wrong := published()
	wrong["train_X.txt"] = strings.Replace(wrong["train_X.txt"], "a", "b", 1)
	lacking := published()
	delete(lacking, "RUL_X.txt")
	bad := []struct {
		name   string
		h      http.HandlerFunc
		reason string
	}{
		{"gone", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }, "answered 404 Not Found"},
		{"a page instead of the archive", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>Please log in</html>") }, "what came is not a zip archive: zip: not a valid zip file"},
		{"broken", serveContent(good[:len(good)/2]), "what came is not a zip archive: zip: not a valid zip file"},
		{"changed", serveContent(zipped(t, wrong)), "the archive holds another train_X.txt than was published (SHA-256 differs)"},
		{"incomplete", serveContent(zipped(t, lacking)), "the archive lacks RUL_X.txt"},
		{"twice the same file", serveContent(zipped(t, map[string]string{"a/RUL_X.txt": "7\n", "b/RUL_X.txt": "7\n"})), "the archive holds RUL_X.txt twice"},
		{"too large", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "100000000") }, "offers 95 MiB, more than the 64 MiB that the archive may have"},
		{"a bomb", serveContent(bomb(t)), "the archive unpacks to more than 1 MiB"},
	}
	var mirrors []string
	reasons := map[string]string{}
	for _, b := range bad {
		url := mirror(t, b.h)
		mirrors = append(mirrors, url)
		reasons[url] = b.reason
	}
	got := map[string]string{}
	dir := filepath.Join(t.TempDir(), "raw")
	f := dataset.Fetcher{Mirrors: append(mirrors, mirror(t, serveContent(good))), Want: want(published()), MaxUnpacked: 1 << 20, Progress: func(p dataset.Progress) {
		if p.Note != "" {
			got[p.Source] = p.Note
		}
	}}
	if err := f.Fetch(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	checkFetched(t, dir)
	for i, b := range bad {
		if got[mirrors[i]] != b.reason {
			t.Errorf("%s: told %q, want %q", b.name, got[mirrors[i]], b.reason)
		}
	}
}

// bomb is a small archive with a wanted file of 2 MiB.
func bomb(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.Create("train_X.txt")
	if err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, 1<<20)
	for range 2 {
		if _, err := w.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestFetchGivesUpOnASilentMirror(t *testing.T) {
	url := mirror(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "PK")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	f := dataset.Fetcher{Mirrors: []string{url}, Want: want(published()), Stall: 100 * time.Millisecond}
	err := f.Fetch(t.Context(), filepath.Join(t.TempDir(), "raw"))
	if turbofan.ErrorCode(err) != turbofan.EUnavailable || !strings.Contains(err.Error(), "sent nothing for 100ms") {
		t.Errorf("got %v", err)
	}
}

func TestFetchOffline(t *testing.T) {
	url := "http://" + porttest.Address(t) + "/CMAPSSData.zip" // where nobody listens
	dir := filepath.Join(t.TempDir(), "raw")
	err := dataset.Fetch(t.Context(), dir, []string{url, url}, nil)
	if turbofan.ErrorCode(err) != turbofan.EUnavailable {
		t.Fatalf("got %v", err)
	}
	for _, part := range []string{"could not download C-MAPSS from any of 2 mirrors", "connection refused", "turbofan data synth", dataset.Homepage} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not say %q: %v", part, err)
		}
	}
	if entries, _ := os.ReadDir(filepath.Dir(dir)); len(entries) != 0 {
		t.Errorf("a failed download left %v", entries)
	}
}

func TestFetchRespectsWhatIsThere(t *testing.T) {
	calls := 0
	url := mirror(t, func(w http.ResponseWriter, r *http.Request) { calls++; serveContent(nested(t))(w, r) })
	there := write(t, published())
	f := dataset.Fetcher{Mirrors: []string{url}, Want: want(published())}
	if err := f.Fetch(t.Context(), there); err != nil || calls != 0 {
		t.Errorf("the data is there already: %d requests, %v", calls, err)
	}
	other := write(t, map[string]string{"notes.txt": "mine"})
	if err := f.Fetch(t.Context(), other); turbofan.ErrorCode(err) != turbofan.EConflict {
		t.Errorf("a directory with other files: %v", err)
	}
	if text, err := os.ReadFile(filepath.Join(other, "notes.txt")); err != nil || string(text) != "mine" {
		t.Errorf("the other file is gone: %v", err)
	}
	if calls != 0 {
		t.Errorf("%d requests for a directory that cannot be used", calls)
	}
	empty := filepath.Join(t.TempDir(), "raw")
	if err := os.Mkdir(empty, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := f.Fetch(t.Context(), empty); err != nil {
		t.Fatal(err)
	}
	checkFetched(t, empty)
}

func TestVerify(t *testing.T) {
	if _, err := dataset.Verify(filepath.Join(t.TempDir(), "nowhere")); turbofan.ErrorCode(err) != turbofan.ENotFound {
		t.Errorf("a directory that is not there: %v", err)
	}
	dir := write(t, map[string]string{"train_FD001.txt": "changed"})
	if _, err := dataset.Verify(filepath.Join(dir, "train_FD001.txt")); turbofan.ErrorCode(err) != turbofan.EInvalid {
		t.Errorf("a file: %v", err)
	}
	report, err := dataset.Verify(dir)
	if err != nil || report.OK() || len(report.Files) != 13 {
		t.Fatalf("%d files, ok %v, %v", len(report.Files), report.OK(), err)
	}
	if got := report.Names(dataset.FileDiffers); len(got) != 1 || got[0] != "train_FD001.txt" {
		t.Errorf("different: %v", got)
	}
	if !strings.Contains(report.String(), "0 of 13 files match the published SHA-256; missing: train_FD002.txt") || !strings.HasSuffix(report.String(), "different: train_FD001.txt") {
		t.Errorf("%s", report)
	}
}
