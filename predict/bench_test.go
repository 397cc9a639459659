package predict_test

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"turbofan"
	"turbofan/model"
	"turbofan/predict"
)

// nowhere takes records and knows no past: what is measured is the service.
type nowhere struct {
	turbofan.PredictionStore
	turbofan.ReadingStore
	history []turbofan.Reading
}

func (nowhere) Append(context.Context, []turbofan.PredictionRecord) error { return nil }

func (n nowhere) History(context.Context, string, int) ([]turbofan.Reading, error) {
	if n.history == nil {
		return nil, turbofan.Errorf(turbofan.ENotFound, "unknown")
	}
	return n.history, nil
}

func (nowhere) Readings(context.Context, turbofan.ReadingQuery) ([]turbofan.StoredReading, error) {
	return nil, nil
}

func (w *world) alone(n nowhere, change func(*predict.Config)) *predict.Service {
	return w.serving(options{stores: predict.Stores{Readings: n, Predictions: n}, change: change})
}

// The bar is 20 µs a reading, with no allocation but the answer's.
func BenchmarkPredictKnownUnit(b *testing.B) {
	s := newWorld(b, artifacts.a).alone(nowhere{}, nil)
	r := fleet(1, 7, 0)[0].Readings[:1]
	req := turbofan.PredictRequest{Readings: r}
	r[0].Cycle = 0
	b.ReportAllocs()
	for b.Loop() {
		r[0].Cycle++
		if _, err := s.Predict(b.Context(), req); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPredictBatch1000(b *testing.B) {
	s := newWorld(b, artifacts.a).alone(nowhere{}, nil)
	var rs []turbofan.Reading
	for u := range 1000 {
		r := fleet(1, 7, 0)[0].Readings[0]
		r.UnitID, r.Cycle = fmt.Sprint(u), 0
		rs = append(rs, r)
	}
	b.ReportAllocs()
	for b.Loop() {
		for i := range rs {
			rs[i].Cycle++
		}
		if _, err := s.Predict(b.Context(), turbofan.PredictRequest{Readings: rs}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/row")
}

// The bar is 1 ms for 300 stored readings.
func BenchmarkColdReplay300(b *testing.B) {
	w := newWorld(b, artifacts.a)
	h := fleet(40, 7, 0)
	long := slices.IndexFunc(h, func(h turbofan.History) bool { return len(h.Readings) > 200 })
	rs := slices.Clone(h[long].Readings[:200])
	for i := range 100 {
		rs = append(rs, rs[i])
		rs[200+i].Cycle = 201 + i
	}
	s := w.alone(nowhere{history: rs}, nil)
	next := rs[0]
	next.Cycle = 301
	unit := 0
	for b.Loop() { // every unit is new to the process and has the same past
		unit++
		next.UnitID = fmt.Sprint(unit)
		send(b, s, next)
	}
}

// The bar is 4 KiB, at C-MAPSS's 21 sensors.
func BenchmarkLiveUnitBytes(b *testing.B) {
	full := func(units []turbofan.History) []turbofan.History {
		for u := range units {
			for i := range units[u].Readings {
				x := &units[u].Readings[i].Sensors
				for len(*x) < 21 {
					*x = append(*x, (*x)[1+len(*x)%2]+float64((u*31+i*17+len(*x)*7)%13)/50)
				}
			}
		}
		return units
	}
	cfg := model.DefaultConfig(model.Boosting)
	cfg.Folds, cfg.Boosting.MaxIter = 3, 5
	trained := must[*model.Model](b)(model.Train(b.Context(), cfg, model.Data{Schema: turbofan.CMAPSS(), Units: full(fleet(24, 1, 0))}, nil))
	dir := filepath.Join(b.TempDir(), "full")
	must[string](b)(trained.Save(dir))
	for b.Loop() {
		s := newWorld(b, dir).alone(nowhere{}, nil)
		r := full(fleet(1, 7, 0))[0].Readings[0]
		heap := func() uint64 {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return m.HeapAlloc
		}
		before := heap()
		const units = 20_000
		for u := range units {
			r.UnitID = fmt.Sprint("unit-", u)
			send(b, s, r)
		}
		b.ReportMetric(float64(heap()-before)/units, "bytes/unit")
		runtime.KeepAlive(s)
	}
}

// Latency as callers see it, with and without 200 swaps beside them; the bar is twice the p99.
func BenchmarkSwapLatency(b *testing.B) {
	for _, fleetSize := range []int{32, 320} {
		for _, swapping := range []bool{false, true} {
			b.Run(fmt.Sprintf("units=%d/swaps=%v", fleetSize, swapping), func(b *testing.B) { swapLatency(b, fleetSize, swapping) })
		}
	}
}

func swapLatency(b *testing.B, fleetSize int, swapping bool) {
	for b.Loop() {
		w := newWorld(b, artifacts.a)
		versions := []string{"1", w.register(artifacts.b)}
		s := w.serving(options{})
		r := fleet(1, 7, 0)[0].Readings[0]
		var stop atomic.Bool
		var wg sync.WaitGroup
		took := make([][]time.Duration, 32)
		for g := range took {
			wg.Go(func() {
				r := r
				for i := 0; !stop.Load(); i++ {
					r.UnitID, r.Cycle = fmt.Sprint(g, "-", i%(fleetSize/32)), 1+i/(fleetSize/32)
					began := time.Now()
					if _, err := s.Predict(b.Context(), turbofan.PredictRequest{Readings: []turbofan.Reading{r}}); err != nil {
						b.Error(err)
						return
					}
					took[g] = append(took[g], time.Since(began))
					time.Sleep(2 * time.Millisecond) // 32 callers that are not alone with the machine
				}
			})
		}
		tick := time.NewTicker(100 * time.Millisecond)
		for i := range 30 {
			<-tick.C
			if !swapping {
				continue
			}
			w.promote(versions[(i+1)%2])
			if _, err := s.Refresh(b.Context()); err != nil {
				b.Error(err)
			}
		}
		tick.Stop()
		stop.Store(true)
		wg.Wait()
		all := slices.Concat(took...)
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-µs")
		b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
		b.ReportMetric(float64(len(all)), "answers")
	}
}
