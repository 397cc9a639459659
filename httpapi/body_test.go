package httpapi_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"turbofan"
	"turbofan/httpapi"
)

// A compressed body that stands, whole so far, at the bound of its bytes while its stream goes on is neither taken as ended
// there nor waited for without end, and what it held goes to the next one.
func TestGzipAtBound(t *testing.T) {
	const limit = 128 << 10
	var exact bytes.Buffer // members that end right at limit
	member := func(size int, text string) {
		var bare bytes.Buffer
		plain, _ := gzip.NewWriterLevel(&bare, gzip.BestCompression)
		io.WriteString(plain, text)
		plain.Close()
		z, _ := gzip.NewWriterLevel(&exact, gzip.BestCompression)
		z.Extra = make([]byte, size-bare.Len()-2)
		io.WriteString(z, text)
		z.Close()
	}
	member(1024, strings.Replace(wrapped(), "{", "{"+strings.Repeat(" ", 100_000), 1))
	for exact.Len() < limit {
		member(512, "")
	}
	if exact.Len() != limit {
		t.Fatalf("the members have %d bytes", exact.Len())
	}
	const tooLarge = `{"error":"body: is larger than the 128 KiB allowed","code":"too_large","field":"body"}`
	for _, test := range []struct {
		name   string
		more   string // after the members
		status int
		body   string
		after  time.Duration
	}{
		{"ends", "0\r\n\r\n", 200, `"prediction_id"`, 0},
		{"stays open", "", 408, `did not arrive in time`, 10 * time.Second},
		{"one byte more", "1\r\n\x1f\r\n0\r\n\r\n", 413, tooLarge, 0},
		{"one byte more, stays open", "1\r\n\x1f\r\n", 413, tooLarge, 10 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := predictionHandler(t, func(c *httpapi.Config) {
					c.MaxBodyBytes, c.MaxBufferedBytes, c.BodyPace = limit, limit, 10*time.Second
				}, httpapi.Options{}, func(_ context.Context, req turbofan.PredictRequest) ([]turbofan.Prediction, error) {
					return make([]turbofan.Prediction, len(req.Readings)), nil
				})
				l := newPipeListener()
				ctx, stop := context.WithCancel(t.Context())
				served := make(chan error, 1)
				go func() { served <- httpapi.Serve(ctx, l, h, httpapi.ServeOptions{}) }()
				for range 2 { // the second needs what the first held
					start := time.Now()
					c, err := l.dial(ctx, "", "")
					if err != nil {
						t.Fatal(err)
					}
					go fmt.Fprintf(c, "POST /predict HTTP/1.1\r\nHost: pipe\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n"+
						"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n%s", exact.Len(), exact.Bytes(), test.more)
					resp, err := http.ReadResponse(bufio.NewReader(c), nil)
					if err != nil {
						t.Fatal(err)
					}
					body, err := io.ReadAll(resp.Body)
					if took := time.Since(start); resp.StatusCode != test.status || !strings.Contains(string(body), test.body) || took != test.after || err != nil {
						t.Errorf("%d %s after %s, %v", resp.StatusCode, body, took, err)
					}
					c.Close()
					synctest.Wait()
				}
				stop()
				if err := <-served; err != nil {
					t.Error(err)
				}
			})
		})
	}
}
