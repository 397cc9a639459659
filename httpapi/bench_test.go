package httpapi_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"turbofan"
	"turbofan/httpapi"
)

// trivial answers at once, so that what is measured is the wire.
func trivial(_ context.Context, req turbofan.PredictRequest) ([]turbofan.Prediction, error) {
	return []turbofan.Prediction{{
		ID: "p-0123456789abcdef", UnitID: req.Readings[0].UnitID, Cycle: req.Readings[0].Cycle, RUL: 112.43817138671875, Lower: 95.12345678, Upper: 125,
		FailureProbability: 0.00412345, FailureHorizon: 30, Health: turbofan.Healthy, ModelName: "rul", ModelVersion: "12", At: memoryStart,
	}}, nil
}

// plainHandler does the same work with encoding/json and no limits, metrics, ids or log: what the handler is measured
// against.
func plainHandler() http.Handler {
	schema := turbofan.CMAPSS()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /predict", func(w http.ResponseWriter, r *http.Request) {
		var req struct {
			Reading turbofan.Reading `json:"reading"`
		}
		d := json.NewDecoder(r.Body)
		d.DisallowUnknownFields()
		if err := d.Decode(&req); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if err := req.Reading.Validate(&schema, "reading"); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		answer, err := trivial(r.Context(), turbofan.PredictRequest{Readings: []turbofan.Reading{req.Reading}})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer[0])
	})
	return mux
}

func benchHandlers(b *testing.B) []struct {
	name string
	h    http.Handler
} {
	return []struct {
		name string
		h    http.Handler
	}{
		{"httpapi", predictionHandler(b, nil, httpapi.Options{}, trivial)},
		{"encoding-json", plainHandler()},
	}
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

// BenchmarkHandler measures POST /predict of one reading without a network.
func BenchmarkHandler(b *testing.B) {
	text := []byte(wrapped())
	for _, c := range benchHandlers(b) {
		b.Run(c.name, func(b *testing.B) {
			r, err := http.NewRequest("POST", "/predict", nil)
			if err != nil {
				b.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/json")
			w := &sink{header: make(http.Header)}
			reader := bytes.NewReader(text)
			r.Body, r.ContentLength = body{reader}, int64(len(text))
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				reader.Reset(text)
				w.status = 0
				c.h.ServeHTTP(w, r)
				if w.status >= 400 {
					b.Fatal(w.status)
				}
			}
		})
	}
}

// BenchmarkLoopback measures the same over loopback from kept-alive connections that each wait for their answer.
func BenchmarkLoopback(b *testing.B) {
	for _, c := range benchHandlers(b) {
		for _, connections := range []int{1, 8, 32} {
			b.Run(fmt.Sprintf("%s/connections=%d", c.name, connections), func(b *testing.B) { benchLoopback(b, c.h, connections) })
		}
	}
}

func benchLoopback(b *testing.B, h http.Handler, connections int) {
	address := strings.TrimPrefix(serve(b, h, nil), "http://")
	text := wrapped()
	request := []byte("POST /predict HTTP/1.1\r\nHost: turbofan\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(text)) + "\r\n\r\n" + text)
	took := make([][]time.Duration, connections)
	var group sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for i := range connections {
		n := b.N / connections
		if i < b.N%connections {
			n++
		}
		group.Go(func() {
			if err := exchange(address, request, n, &took[i]); err != nil {
				b.Error(err)
			}
		})
	}
	group.Wait()
	b.StopTimer()
	all := slices.Concat(took...)
	slices.Sort(all)
	if len(all) > 0 {
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
		b.ReportMetric(float64(all[len(all)/2].Microseconds()), "p50-µs")
		b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
	}
}

// exchange sends the request n times over one connection. It reads answers by their length alone, so that the load
// costs little beside the server.
func exchange(address string, request []byte, n int, took *[]time.Duration) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	r := bufio.NewReaderSize(c, 8<<10)
	for range n {
		start := time.Now()
		if _, err := c.Write(request); err != nil {
			return err
		}
		length := -1
		for first := true; ; first = false {
			line, err := r.ReadSlice('\n')
			if err != nil {
				return err
			}
			if first && !bytes.Contains(line, []byte(" 200 ")) {
				return fmt.Errorf("answer is %s", line)
			}
			if rest, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
				if length, err = strconv.Atoi(string(bytes.TrimSpace(rest))); err != nil {
					return err
				}
			}
			if len(line) <= 2 {
				break
			}
		}
		if length < 0 {
			return fmt.Errorf("answer without a length")
		}
		if _, err := r.Discard(length); err != nil {
			return err
		}
		*took = append(*took, time.Since(start))
	}
	return nil
}

// BenchmarkBatch measures POST /predict_batch by format, without a network.
func BenchmarkBatch(b *testing.B) {
	const rows = 1000
	h := predictionHandler(b, nil, httpapi.Options{}, func(_ context.Context, req turbofan.PredictRequest) ([]turbofan.Prediction, error) {
		return make([]turbofan.Prediction, len(req.Readings)), nil
	})
	table := make([]string, rows)
	for i := range table {
		table[i] = csvRow("1", strconv.Itoa(i+1))
	}
	file, err := os.ReadFile("parquet/testdata/wide.parquet") // 1,500 rows
	if err != nil {
		b.Fatal(err)
	}
	for kind, text := range map[string]string{
		"application/vnd.apache.parquet": string(file),
		"application/json":               `[` + strings.Repeat(bare()+",", rows-1) + bare() + `]`,
		"application/x-ndjson":           strings.Repeat(bare()+"\n", rows),
		"text/csv":                       csvTable(table...),
	} {
		b.Run(kind, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				r, err := http.NewRequest("POST", "/predict_batch", io.NopCloser(strings.NewReader(text)))
				if err != nil {
					b.Fatal(err)
				}
				r.Header.Set("Content-Type", kind)
				w := &sink{header: make(http.Header)}
				if h.ServeHTTP(w, r); w.status != 200 {
					b.Fatal(w.status)
				}
			}
			n := rows
			if kind == "application/vnd.apache.parquet" {
				n = 1500
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
