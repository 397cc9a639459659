package model_test

import (
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"turbofan/dataset"
	"turbofan/model"
)

// synthetic makes the training engines of a fleet like FD001's with at least so many readings.
func synthetic(tb testing.TB, rows int) model.Data {
	tb.Helper()
	cfg, ok := dataset.SynthSubset("FD001", 1)
	if !ok {
		tb.Fatal("there is no synthetic FD001")
	}
	cfg.TrainUnits, cfg.TestUnits = max(20, rows/150), 1
	train, _ := dataset.Synthesize(cfg)
	d := model.Data{Schema: train.Schema}
	for n := 0; n < rows && len(d.Units) < len(train.Units); n += len(d.Units[len(d.Units)-1].Readings) {
		d.Units = append(d.Units, train.Units[len(d.Units)])
	}
	return d
}

func benchmarkRow(b *testing.B, each func(m *model.Model, row []float32) error) {
	data := synthetic(b, 6000)
	for _, kind := range model.Kinds() {
		b.Run(kind, func(b *testing.B) {
			cfg := model.DefaultConfig(kind)
			cfg.Folds = 2
			m, err := model.Train(b.Context(), cfg, data, nil)
			if err != nil {
				b.Fatal(err)
			}
			rows, err := m.Spec().Transform(data.Units[:4])
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if err := each(m, rows.Row(i%rows.Len())); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}

func BenchmarkAnswer(b *testing.B) {
	benchmarkRow(b, func(m *model.Model, row []float32) error {
		_, err := m.Predict(row, false)
		return err
	})
}

func BenchmarkReasons(b *testing.B) {
	benchmarkRow(b, func(m *model.Model, row []float32) error {
		_, err := m.Explain(row, 3)
		return err
	})
}

// TestTrainingGrows tells how time and memory of a training grow with the rows, up to TURBOFAN_BENCH_ROWS.
func TestTrainingGrows(t *testing.T) {
	most, err := strconv.Atoi(os.Getenv("TURBOFAN_BENCH_ROWS"))
	if err != nil {
		t.Skip("TURBOFAN_BENCH_ROWS is not set: the most rows to train on")
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
