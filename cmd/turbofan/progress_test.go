package main

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestBarLineNeverWraps(t *testing.T) {
	text := "T1 FD003  RMSE 20.4  PSI 0.25 of 0.24  version 12 (retraining)  6320 readings/s × ∞"
	for width := 1; width < 130; width++ {
		for _, share := range []float64{0, 0.004, 0.5, 0.996, 1} {
			line := barLine(share, text, width)
			if n := utf8.RuneCountInString(line); n > width {
				t.Fatalf("width %d: %d columns: %q", width, n, line)
			}
			if width > 12 && !strings.Contains(line, "%") {
				t.Fatalf("width %d: %q", width, line)
			}
		}
	}
	if line := barLine(1, "done", 120); line != "100% "+strings.Repeat("━", 20)+" done" {
		t.Errorf("got %q", line)
	}
}

func TestProgressOnATerminalIsOneLine(t *testing.T) {
	var out bytes.Buffer
	p := newProgress(&out)
	p.width = func() int { return 40 }
	p.update(0.1, true, "%s", strings.Repeat("long ", 20))
	p.update(0.2, true, "half")
	p.say("an event")
	p.update(0.3, true, "on")
	p.done()
	lines := strings.Split(out.String(), "\n")
	if len(lines) != 2 || !strings.HasSuffix(lines[0], "\r\x1b[Kan event") || !strings.HasSuffix(lines[1], "\r\x1b[K") {
		t.Errorf("drew %q", out.String())
	}
}

func TestProgressElsewhereIsPlainLines(t *testing.T) {
	var out bytes.Buffer
	p := newProgress(&out)
	p.update(0.1, true, "fit %d", 1)
	p.update(0.15, false, "fit 1")
	p.update(0.2, false, "too soon")
	p.update(2, true, "fit 2")
	p.say("done with %s", "it")
	p.done()
	if want := " 10%  fit 1\n100%  fit 2\ndone with it\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}
