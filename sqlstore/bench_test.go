package sqlstore_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"turbofan"
	"turbofan/sqlstore"
)

func benchStore(b *testing.B) *sqlstore.State {
	b.Helper()
	s, err := sqlstore.OpenState(b.Context(), sqlstore.Config{Path: filepath.Join(b.TempDir(), "state.db")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

// fleetRecord is the nth record of a fleet of 100 units, with ids like a server's: they grow.
func fleetRecord(n int64) turbofan.PredictionRecord {
	r := record(fmt.Sprintf("unit-%d", n%100), int(n/100)+1)
	r.Prediction.ID = fmt.Sprintf("5f3a9c0e17b2%012x", n)
	return r
}

// BenchmarkAppend is how fast records reach the disk: the clock stops when the last one is there.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{1, 100} {
		b.Run(fmt.Sprintf("records=%d", size), func(b *testing.B) {
			s := benchStore(b)
			records := make([]turbofan.PredictionRecord, b.N*size)
			for i := range records {
				records[i] = fleetRecord(int64(i))
			}
			b.ReportAllocs()
			b.ResetTimer()
			before := cpu(b)
			for i := range b.N {
				if err := s.Append(b.Context(), records[i*size:(i+1)*size]); err != nil {
					b.Fatal(err)
				}
			}
			if err := s.Flush(b.Context()); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "records/s")
			b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N*size), "cpu-µs/record")
		})
	}
}

// cpu is the processor time that the process took so far: on a busy machine it says more than a clock.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkAppendCaller is what Append costs its caller while the queue has room.
func BenchmarkAppendCaller(b *testing.B) {
	s := benchStore(b)
	one := []turbofan.PredictionRecord{fleetRecord(0)}
	b.ReportAllocs()
	for i := range b.N {
		if i%10_000 == 9_999 {
			b.StopTimer()
			if err := s.Flush(b.Context()); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
		if err := s.Append(b.Context(), one); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRecord is durable outcomes by many callers at once, against one commit an outcome on the same disk.
func BenchmarkRecord(b *testing.B) {
	b.Run("group", func(b *testing.B) {
		s := benchStore(b)
		if err := s.Append(b.Context(), []turbofan.PredictionRecord{record("1", 1)}); err != nil {
			b.Fatal(err)
		}
		var n atomic.Int64
		b.SetParallelism(16)
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := s.Record(context.Background(), []turbofan.Outcome{{UnitID: "1", Cycle: int(n.Add(1)), ActualRUL: new(3.0)}}); err != nil {
					b.Error(err)
					return
				}
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	})
	b.Run("naive", func(b *testing.B) {
		db := naiveStore(b)
		var n atomic.Int64
		b.SetParallelism(16)
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := db.Exec(`INSERT INTO outcomes (key, unit_id, cycle, rul) VALUES (?, '1', ?, 3)`, fmt.Sprint(n.Add(1)), n.Load()); err != nil {
					b.Error(err)
					return
				}
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	})
}

// BenchmarkAppendNaive commits each record by itself, as a handler that writes its own row does.
func BenchmarkAppendNaive(b *testing.B) {
	db := naiveStore(b)
	b.ResetTimer()
	for i := range b.N {
		r := fleetRecord(int64(i))
		tx, err := db.Begin()
		if err != nil {
			b.Fatal(err)
		}
		_, err = tx.Exec(`INSERT INTO readings (unit_id, cycle, channels) VALUES (?, ?, ?)`, r.Reading.UnitID, r.Reading.Cycle, make([]byte, 194))
		if err != nil {
			b.Fatal(err)
		}
		_, err = tx.Exec(`INSERT INTO predictions (id, unit_id, cycle, rul) VALUES (?, ?, ?, ?)`, r.Prediction.ID, r.Reading.UnitID, r.Reading.Cycle, 1.5)
		if err != nil {
			b.Fatal(err)
		}
		if err := tx.Commit(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

// naiveStore is a database with the store's durability and none of its grouping.
func naiveStore(b *testing.B) *sql.DB {
	b.Helper()
	db, err := sql.Open("sqlite", filepath.Join(b.TempDir(), "naive.db")+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(1)
	for _, q := range []string{
		`CREATE TABLE readings (seq INTEGER PRIMARY KEY, unit_id TEXT, cycle INTEGER, channels BLOB, UNIQUE (unit_id, cycle))`,
		`CREATE TABLE predictions (seq INTEGER PRIMARY KEY, id TEXT UNIQUE, unit_id TEXT, cycle INTEGER, rul REAL)`,
		`CREATE TABLE outcomes (seq INTEGER PRIMARY KEY, key TEXT UNIQUE, unit_id TEXT, cycle INTEGER, rul REAL)`,
	} {
		if _, err := db.Exec(q); err != nil {
			b.Fatal(err)
		}
	}
	return db
}

// BenchmarkQueries asks what services ask of a store of 10^6 predictions, of which an old half has its truth. It takes
// a while to fill, so it needs -benchtime=Nx and an explicit name: go test -bench Queries.
func BenchmarkQueries(b *testing.B) {
	if testing.Short() {
		b.Skip("fills a store with 10^6 predictions")
	}
	s := benchStore(b)
	const total, units = 1_000_000, 5_000
	batch := make([]turbofan.PredictionRecord, 0, 1000)
	for n := range total {
		r := record(fmt.Sprintf("unit-%d", n%units), n/units+1)
		r.Prediction.ID = fleetRecord(int64(n)).Prediction.ID
		if n < 1000 {
			r.Prediction.ModelVersion = "0"
		}
		if batch = append(batch, r); len(batch) == cap(batch) {
			if err := s.Append(b.Context(), batch); err != nil {
				b.Fatal(err)
			}
			batch = batch[:0]
		}
		if n == total/2 {
			outcomes := make([]turbofan.Outcome, units)
			for u := range outcomes {
				outcomes[u] = turbofan.Outcome{UnitID: fmt.Sprintf("unit-%d", u), Cycle: n / units, ActualRUL: new(5.0)}
				if u < units/2 {
					outcomes[u] = turbofan.Outcome{UnitID: fmt.Sprintf("unit-%d", u), FailedAtCycle: new(n/units + 1)}
				}
			}
			if _, err := s.Record(b.Context(), outcomes); err != nil {
				b.Fatal(err)
			}
		}
	}
	ctx := b.Context()
	known := fleetRecord(777_777).Prediction.ID
	for _, c := range []struct {
		name string
		ask  func() (int, error)
		want int
	}{
		{"Scored last 1000", func() (int, error) {
			out, err := s.Scored(ctx, turbofan.PredictionQuery{Last: 1000})
			return len(out), err
		}, 1000},
		{"Scored last 1000 of a version", func() (int, error) {
			out, err := s.Scored(ctx, turbofan.PredictionQuery{Last: 1000, ModelVersion: "0"})
			return len(out), err
		}, 1000},
		{"Scored of a unit", func() (int, error) {
			out, err := s.Scored(ctx, turbofan.PredictionQuery{UnitID: "unit-7"})
			return len(out), err
		}, 101},
		{"Predictions last 100 of a version", func() (int, error) {
			out, err := s.Predictions(ctx, turbofan.PredictionQuery{Last: 100, ModelVersion: "0"})
			return len(out), err
		}, 100},
		{"Prediction", func() (int, error) { _, err := s.Prediction(ctx, known); return 1, err }, 1},
		{"History", func() (int, error) { out, err := s.History(ctx, "unit-42", 0); return len(out), err }, 200},
		{"Units 100", func() (int, error) { out, err := s.Units(ctx, 100, 0); return len(out), err }, 100},
		{"Readings last 2000", func() (int, error) {
			out, err := s.Readings(ctx, turbofan.ReadingQuery{Last: 2000})
			return len(out), err
		}, 2000},
	} {
		b.Run(c.name, func(b *testing.B) {
			for range b.N {
				if n, err := c.ask(); err != nil || n != c.want {
					b.Fatalf("%d answers, want %d: %v", n, c.want, err)
				}
			}
		})
	}
}
