//go:build bench

package bench

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"turbofan/httpapi"
	"turbofan/predict"
	"turbofan/sqlstore"
)

// fleet is how many units the requests of TestFlat are of.
const fleet = 10_000

// TestFlat sends TURBOFAN_LOAD_REQUESTS readings of a fleet of constant size through the handler, the service and a store
// in a file, and tells at ten points on the way how much memory the process holds and how large the store is. Behind the
// first tenth, in which the units become known and the caches fill, the live heap may not grow by an eighth.
func TestFlat(t *testing.T) {
	total, err := strconv.Atoi(os.Getenv("TURBOFAN_LOAD_REQUESTS"))
	if err != nil || total < 10*fleet {
		t.Skip("TestFlat needs TURBOFAN_LOAD_REQUESTS, at least a hundred thousand, and TURBOFAN_LOAD_MODEL")
	}
	dir := t.TempDir()
	store, err := sqlstore.OpenState(t.Context(), sqlstore.Config{Path: filepath.Join(dir, "state.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	h, err := httpapi.PredictionHandler(httpapi.DefaultConfig(), service(t, predict.Stores{Readings: store, Predictions: store, Outcomes: store}), httpapi.Options{})
	if err != nil {
		t.Fatal(err)
	}
	rows, err := readings(os.Getenv("TURBOFAN_LOAD_DATA"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequest(http.MethodPost, "/predict", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	reader := bytes.NewReader(nil)
	r.Body = body{reader}
	w := &sink{header: make(http.Header)}
	var text []byte
	var first uint64
	start := time.Now()
	t.Logf("| requests | live heap MB | resident MB | store MB | its log MB | bytes an answer | minutes |")
	for n := range total {
		text = strconv.AppendInt(append(text[:0], `{"reading":{"unit_id":"engine-`...), int64(n%fleet), 10)
		text = strconv.AppendInt(append(text, `","cycle":`...), int64(n/fleet+1), 10)
		text = append(text, rows[n%len(rows)]...)
		reader.Reset(text)
		r.ContentLength = int64(len(text))
		if h.ServeHTTP(w, r); w.status != http.StatusOK {
			t.Fatalf("request %d was answered %d", n, w.status)
		}
		if (n+1)%(total/10) != 0 {
			continue
		}
		if err := store.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		db, wal := size(t, filepath.Join(dir, "state.db")), size(t, filepath.Join(dir, "state.db-wal"))
		t.Logf("| %d | %.1f | %s | %d | %d | %d | %.1f |", n+1, float64(m.HeapAlloc)/1e6, resident(t), db/1e6, wal/1e6, db/int64(n+1), time.Since(start).Minutes())
		if first == 0 {
			first = m.HeapAlloc
		}
		if m.HeapAlloc > first+first/8 {
			t.Errorf("after %d requests the live heap is %d bytes, after a tenth of all it was %d", n+1, m.HeapAlloc, first)
		}
	}
}

func size(t *testing.T, file string) int64 {
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// resident returns the memory of the process that is in RAM, in MB.
func resident(t *testing.T) string {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(kib * 1024 / 1e6)
}
