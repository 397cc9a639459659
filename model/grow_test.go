//go:build bench

package model_test

import (
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"turbofan/model"
)

// TestTrainingGrows tells how time and memory of a training grow with the rows, up to TURBOFAN_BENCH_ROWS.
func TestTrainingGrows(t *testing.T) {
	most, err := strconv.Atoi(os.Getenv("TURBOFAN_BENCH_ROWS"))
	if err != nil {
		t.Fatal("TURBOFAN_BENCH_ROWS is not set: the most rows to train on")
	}
	for rows := 10_000; rows <= most; rows *= 10 {
		data := synthetic(t, rows)
		n := 0
		for i := range data.Units {
			n += len(data.Units[i].Readings)
		}
		for _, limit := range []int{0, 40_000} {
			cfg := model.DefaultConfig(model.Boosting)
			cfg.Folds, cfg.MaxRows = 2, limit
			runtime.GC()
			heap := watchHeap()
			start := time.Now()
			m, err := model.Train(t.Context(), cfg, data, nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%8d rows, max_rows %6d: %6.1f s, heap at most %5d MB beside %d MB of readings; RMSE %.2f", n, limit, time.Since(start).Seconds(), heap()>>20, readingBytes(n)>>20, m.Metrics().RMSEClipped)
		}
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
