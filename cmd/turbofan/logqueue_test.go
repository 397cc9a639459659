package main

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"turbofan/httpapi"
)

// stuck is a disk that takes no line until it is let go.
type stuck struct {
	let chan struct{}

	mu     sync.Mutex
	writes int
	bytes.Buffer
}

func (s *stuck) Write(p []byte) (int, error) {
	<-s.let
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	return s.Buffer.Write(p)
}

// Who logs does not wait for the disk until a great many lines wait; every line is written once, in order, in few writes,
// and none is lost at the end.
func TestLogQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &stuck{let: make(chan struct{})}
		q := newLogQueue(disk)
		var want strings.Builder
		line := func(n int) string { return fmt.Sprintf("line %d %s\n", n, strings.Repeat("x", 1000)) }
		n := 0
		for ; want.Len() < logQueued; n++ {
			want.WriteString(line(n))
			if _, err := q.Write([]byte(line(n))); err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				synctest.Wait() // the disk has the first line and keeps the writer
			}
		}
		full := make(chan struct{})
		go func() {
			defer close(full)
			for range 2 {
				_, _ = q.Write([]byte(line(n)))
				n++
			}
		}()
		synctest.Wait()
		select {
		case <-full:
			t.Error("more lines wait than may")
		default:
		}
		close(disk.let)
		<-full
		want.WriteString(line(n-2) + line(n-1))
		q.close()
		_, _ = q.Write([]byte("after the end\n"))
		if got := disk.String(); got != want.String()+"after the end\n" {
			t.Errorf("%d bytes were written of %d", len(got), want.Len())
		}
		if disk.writes > 6 {
			t.Errorf("%d lines took %d writes", n, disk.writes)
		}
	})
}

// A sink that takes nothing any more does not keep the process from ending, nor whoever still logs.
func TestLogQueueOverABlockedSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &stuck{let: make(chan struct{})}
		q := newLogQueue(sink)
		_, _ = q.Write([]byte("line\n"))
		synctest.Wait() // the sink keeps the writer
		start := time.Now()
		q.close()
		if took := time.Since(start); took != logClosing {
			t.Errorf("closing took %s, want %s", took, logClosing)
		}
		if n, err := q.Write([]byte("after\n")); n != len("after\n") || err != nil {
			t.Errorf("a line after the end: %d, %v", n, err)
		}
		close(sink.let)
		<-q.written
	})
}

// A line after a silence is written at once.
func TestLogQueueLoneLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &stuck{let: make(chan struct{})}
		close(disk.let)
		q := newLogQueue(disk)
		defer q.close()
		start := time.Now()
		for range 3 {
			time.Sleep(time.Second)
			_, _ = q.Write([]byte("line\n"))
			synctest.Wait()
		}
		if disk.writes != 3 || time.Since(start) != 3*time.Second {
			t.Errorf("%d writes after %s", disk.writes, time.Since(start))
		}
	})
}

// A key that somebody put into a URL, or that an error repeats, is in no line.
func TestLogHidesKeys(t *testing.T) {
	secret, _, err := httpapi.NewKey("a", httpapi.Viewer)
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"text", "json"} {
		var out bytes.Buffer
		log, err := newLogger(logConfig{Level: "info", Format: format}, &out)
		if err != nil {
			t.Fatal(err)
		}
		log.Info("request", "path", "/units/"+secret, "error", fmt.Errorf("there is no %q", "/units/"+secret))
		if strings.Contains(out.String(), secret) || strings.Count(out.String(), "tfk_…") != 2 {
			t.Errorf("%s: %s", format, out.String())
		}
	}
}

// TestDurationsInLogs reads how long something took, in both formats, with its unit.
func TestDurationsInLogs(t *testing.T) {
	for format, want := range map[string]string{"text": "took=1.5ms", "json": `"took_seconds":0.0015`} {
		var out bytes.Buffer
		log, err := newLogger(logConfig{Level: "info", Format: format}, &out)
		if err != nil {
			t.Fatal(err)
		}
		log.Info("request", "took", 1500*time.Microsecond)
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s: %s does not say %s", format, out.String(), want)
		}
	}
}
