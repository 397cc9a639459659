//go:build bench

package bench_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"turbofan/stat"
)

// peer is what evidently said of the same tables, and how long it took; see peers.py.
type peer struct {
	Rows     int       `json:"rows"`
	Channels int       `json:"channels"`
	Seconds  float64   `json:"seconds"`
	CPU      float64   `json:"cpu"`
	PSI      []float64 `json:"psi"`
	KSP      []float64 `json:"ks_p"`
}

// TestCheck compares one check over a million rows with evidently's: the time, the memory that it takes beside the
// table, and the verdict of PSI and KS for each channel. scripts/bench_drift.sh makes what it reads.
func TestCheck(t *testing.T) {
	dir := os.Getenv("TURBOFAN_BENCH_DIR")
	b, err := os.ReadFile(filepath.Join(dir, "evidently.json"))
	if err != nil {
		t.Fatalf("run scripts/bench_drift.sh: %v", err)
	}
	var p peer
	if err := json.Unmarshal(b, &p); err != nil {
		t.Fatal(err)
	}
	names := make([]string, p.Channels)
	for i := range names {
		names[i] = fmt.Sprint("c", i)
	}
	profile, err := stat.BuildProfile(names, table(t, filepath.Join(dir, "reference.f64"), p), nil, nil, 10, nil)
	if err != nil {
		t.Fatal(err)
	}
	current := table(t, filepath.Join(dir, "current.f64"), p)
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start, cpu := time.Now(), processor()
	scores, err := profile.Compare(current, nil)
	wall, busy := time.Since(start).Seconds(), processor()-cpu
	if err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	memory := float64(after.TotalAlloc-before.TotalAlloc) / (1 << 20)
	t.Logf("%d rows x %d channels: turbofan %.2f s (%.2f s of processor, %.0f MiB beside the table), evidently %.2f s (%.2f s): %.0f times",
		p.Rows, p.Channels, wall, busy, memory, p.Seconds, p.CPU, p.CPU/busy)
	for i, s := range scores {
		if (s.PSI > 0.1) != (p.PSI[i] > 0.1) || (s.KSP < 0.001) != (p.KSP[i] < 0.001) {
			t.Errorf("%s: psi %.3f and p %.3g, evidently says %.3f and %.3g", s.Name, s.PSI, s.KSP, p.PSI[i], p.KSP[i])
		}
	}
	if memory > 200 {
		t.Errorf("%.0f MiB beside the table, more than 200", memory)
	}
}

// table reads channels of doubles, one after the other.
func table(t *testing.T, path string, p peer) [][]float64 {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) != 8*p.Rows*p.Channels {
		t.Fatalf("%s has %d bytes, want %d", path, len(b), 8*p.Rows*p.Channels)
	}
	out := make([][]float64, p.Channels)
	for c := range out {
		out[c] = make([]float64, p.Rows)
		for r := range out[c] {
			out[c][r] = math.Float64frombits(binary.LittleEndian.Uint64(b[8*(c*p.Rows+r):]))
		}
	}
	return out
}

// processor is the processor time of this process, in seconds.
func processor() float64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return math.NaN()
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// BenchmarkCheck is one check of a million rows of 24 channels, without evidently beside it.
func BenchmarkCheck(b *testing.B) {
	const rows, channels = 1_000_000, 24
	rng := rand.New(rand.NewPCG(7, 7))
	values, names := make([][]float64, channels), make([]string, channels)
	for c := range values {
		values[c], names[c] = make([]float64, rows), fmt.Sprint("c", c)
		for r := range values[c] {
			values[c][r] = rng.NormFloat64()
		}
	}
	part := make([][]float64, channels)
	for c := range part {
		part[c] = values[c][:100_000]
	}
	profile, err := stat.BuildProfile(names, part, nil, nil, 10, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	cpu := processor()
	for b.Loop() {
		if _, err := profile.Compare(values, nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric((processor()-cpu)/float64(b.N), "cpu-s/op")
}
