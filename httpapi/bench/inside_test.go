//go:build bench

package bench

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"turbofan"
	"turbofan/httpapi"
	"turbofan/predict"
	"turbofan/registry"
	"turbofan/sqlstore"
)

// nowhere takes records and knows no past: what is measured is the service.
type nowhere struct {
	turbofan.PredictionStore
	turbofan.ReadingStore
}

func (nowhere) Append(context.Context, []turbofan.PredictionRecord) error { return nil }

func (nowhere) Flush(context.Context) error { return nil }

func (nowhere) History(context.Context, string, int) ([]turbofan.Reading, error) {
	return nil, turbofan.Errorf(turbofan.ENotFound, "unknown")
}

func (nowhere) Readings(context.Context, turbofan.ReadingQuery) ([]turbofan.StoredReading, error) {
	return nil, nil
}

// service returns a prediction service over stores of the artifact in TURBOFAN_LOAD_MODEL, which every alias in aliases
// names as a version of its own, beside the champion.
func service(b testing.TB, stores predict.Stores, aliases ...string) *predict.Service {
	b.Helper()
	dir := os.Getenv("TURBOFAN_LOAD_MODEL")
	if dir == "" {
		b.Skip("needs TURBOFAN_LOAD_MODEL, the directory of an artifact: scripts/bench_http.sh names one")
	}
	check := func(err error) {
		if err != nil {
			b.Helper()
			b.Fatal(err)
		}
	}
	db, err := sqlstore.OpenRegistry(b.Context(), filepath.Join(b.TempDir(), "registry.db"))
	check(err)
	b.Cleanup(func() { db.Close() })
	reg, err := registry.Open(b.Context(), registry.Config{ArtifactRoot: filepath.Join(b.TempDir(), "artifacts")}, db)
	check(err)
	b.Cleanup(func() { reg.Close() })
	for _, alias := range append([]string{turbofan.ChampionAlias}, aliases...) {
		v, err := reg.CreateVersion(b.Context(), turbofan.ModelVersion{Name: "rul"}, dir)
		check(err)
		check(reg.SetAlias(b.Context(), "rul", alias, v.Version))
	}
	cfg := predict.DefaultConfig()
	cfg.CacheDir = b.TempDir()
	s, err := predict.New(cfg, reg, stores, nil, slog.New(slog.DiscardHandler))
	check(err)
	_, err = s.Refresh(b.Context())
	check(err)
	return s
}

// processor starts to measure processor time, which a busy machine does not inflate as it does the clock. The function
// that it returns reports it.
func processor(b *testing.B) func() {
	used := func() int64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return u.Utime.Nano() + u.Stime.Nano()
	}
	before := used()
	return func() { b.ReportMetric(float64(used()-before)/float64(b.N)/1000, "processor-µs/op") }
}

// BenchmarkChallenger is BenchmarkService without and with a challenger that answers every reading silently; the readings
// come in spurts that its queue holds, so that none is dropped, and the processor time is that of both.
func BenchmarkChallenger(b *testing.B) {
	for name, aliases := range map[string][]string{"none": nil, "one": {turbofan.ChallengerAlias}} {
		b.Run("challenger="+name, func(b *testing.B) {
			s := service(b, predict.Stores{Readings: nowhere{}, Predictions: nowhere{}}, aliases...)
			go s.Run(b.Context())
			r := benchReading()
			report := processor(b)
			for b.Loop() {
				r.Cycle++
				if _, err := s.Predict(b.Context(), turbofan.PredictRequest{Readings: []turbofan.Reading{r}}); err != nil {
					b.Fatal(err)
				}
				if r.Cycle%1000 == 0 {
					runtime.Gosched()
				}
			}
			report()
			serving, err := s.Serving(b.Context())
			if err != nil || (serving.Challenger != "") != (aliases != nil) {
				b.Fatalf("%+v, %v", serving, err)
			}
			b.ReportMetric(float64(serving.ChallengerDropped)/float64(b.N), "dropped/op")
		})
	}
}

// BenchmarkService is one reading of a known unit inside the process: feature step, model, interval, probability.
func BenchmarkService(b *testing.B) {
	s := service(b, predict.Stores{Readings: nowhere{}, Predictions: nowhere{}})
	r := benchReading()
	for _, explain := range []bool{false, true} {
		b.Run("explain="+strconv.FormatBool(explain), func(b *testing.B) {
			b.ReportAllocs()
			report := processor(b)
			for b.Loop() {
				r.Cycle++
				if _, err := s.Predict(b.Context(), turbofan.PredictRequest{Readings: []turbofan.Reading{r}, Explain: explain}); err != nil {
					b.Fatal(err)
				}
			}
			report()
		})
	}
}

// benchReading is a reading of C-MAPSS at cycle 0.
func benchReading() turbofan.Reading {
	return turbofan.Reading{UnitID: "1", Settings: []float64{-0.0007, 0.0003, 100}, Sensors: []float64{
		518.67, 641.82, 1589.7, 1400.6, 14.62, 21.61, 554.36, 2388.06, 9046.19, 1.3, 47.47, 521.66, 2388.02, 8138.62, 8.4195, 0.03, 392, 2388, 100, 39.06, 23.419,
	}}
}

// sink is a ResponseWriter that keeps nothing.
type sink struct {
	header http.Header
	status int
}

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) Write(p []byte) (int, error) { return len(p), nil }
func (s *sink) WriteHeader(status int)      { s.status = status }

type body struct{ *bytes.Reader }

func (body) Close() error { return nil }

// BenchmarkRequest is the same through the handler, without a network: decoding, limits, metrics, id and encoding too.
func BenchmarkRequest(b *testing.B) {
	h, err := httpapi.PredictionHandler(httpapi.DefaultConfig(), service(b, predict.Stores{Readings: nowhere{}, Predictions: nowhere{}}), httpapi.Options{})
	if err != nil {
		b.Fatal(err)
	}
	r, err := http.NewRequest(http.MethodPost, "/predict", nil)
	if err != nil {
		b.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	reader := bytes.NewReader(nil)
	r.Body = body{reader}
	w := &sink{header: make(http.Header)}
	var text []byte
	cycle := 0
	for _, explain := range []bool{false, true} {
		b.Run("explain="+strconv.FormatBool(explain), func(b *testing.B) {
			b.ReportAllocs()
			report := processor(b)
			for b.Loop() {
				cycle++
				text = strconv.AppendBool(append(text[:0], `{"explain":`...), explain)
				text = strconv.AppendInt(append(text, `,"reading":{"unit_id":"engine-7","cycle":`...), int64(cycle), 10)
				text = append(text, `,"settings":[-0.0007,0.0003,100],"sensors":[518.67,641.82,1589.7,1400.6,14.62,21.61,554.36,2388.06,9046.19,1.3,47.47,521.66,2388.02,8138.62,8.4195,0.03,392,2388,100,39.06,23.419]}}`...)
				reader.Reset(text)
				r.ContentLength = int64(len(text))
				if h.ServeHTTP(w, r); w.status != http.StatusOK {
					b.Fatal(w.status)
				}
			}
			report()
		})
	}
}
