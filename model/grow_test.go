//go:build bench

package model_test

import (
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"turbofan/model"
)

// TestTrainingGrows tells how time and memory of a training grow with the rows, from TURBOFAN_BENCH_FROM (ten thousand) up
// to TURBOFAN_BENCH_ROWS. All rows are trained on up to a hundred thousand only.
func TestTrainingGrows(t *testing.T) {
	most, err := strconv.Atoi(os.Getenv("TURBOFAN_BENCH_ROWS"))
	if err != nil {
		t.Fatal("TURBOFAN_BENCH_ROWS is not set: the most rows to train on")
	}
	from, err := strconv.Atoi(os.Getenv("TURBOFAN_BENCH_FROM"))
	if err != nil {
		from = 10_000
	}
	for rows := from; rows <= most; rows *= 10 {
		data := synthetic(t, rows)
		n := 0
		for i := range data.Units {
			n += len(data.Units[i].Readings)
		}
		for _, limit := range []int{40_000, 0} {
			if limit == 0 && rows > 100_000 {
				continue
			}
			cfg := model.DefaultConfig(model.Boosting)
			cfg.MaxRows = limit
			debug.FreeOSMemory()
			heap, resident := watchHeap(), residentPeak()
			wall, cpu := time.Now(), processorTime(t)
			m, err := model.Train(t.Context(), cfg, data, nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%8d rows, max_rows %6d: %6.1f s, %6.1f s of processor; heap at most %5d MB, resident %5d MB, %d MB of them readings; RMSE %.2f",
				n, limit, time.Since(wall).Seconds(), (processorTime(t) - cpu).Seconds(), heap()>>20, resident()>>10, readingBytes(n)>>20, m.Metrics().RMSEClipped)
		}
	}
}

func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// residentPeak forgets how much memory the process has had; the returned function tells the most since, in KiB, 0 where
// the system is not Linux.
func residentPeak() func() int {
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
	return func() int {
		b, _ := os.ReadFile("/proc/self/status")
		for line := range strings.Lines(string(b)) {
			if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
				n, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(v), " kB"))
				return n
			}
		}
		return 0
	}
}

// readingBytes is about what n readings of C-MAPSS take: 24 values and their headers.
func readingBytes(n int) int { return n * (24*8 + 2*24 + 16 + 16) }

// watchHeap samples the live heap until the returned function is called, which gives the most that was seen.
func watchHeap() (stop func() uint64) {
	var most atomic.Uint64
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		for {
			metrics.Read(sample)
			if v := sample[0].Value.Uint64(); v > most.Load() {
				most.Store(v)
			}
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	}()
	return func() uint64 {
		close(done)
		<-ended
		return most.Load()
	}
}
