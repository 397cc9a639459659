package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// progress shows how far long work is: one line that is drawn again and again on a terminal, a plain line now and then
// elsewhere. It may be used from several goroutines.
type progress struct {
	w     io.Writer
	width func() int // of the terminal, nil where w is none

	mu    sync.Mutex
	last  time.Time
	said  string
	drawn bool // the terminal's last line is the bar
}

const (
	lineEvery = 3 * time.Second        // the least time between two plain lines
	drawEvery = 100 * time.Millisecond // and between two drawings
)

func newProgress(w io.Writer) *progress {
	p := &progress{w: w}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
		p.width = func() int {
			if n, _, err := term.GetSize(int(f.Fd())); err == nil && n > 0 {
				return n
			}
			return 80
		}
	}
	return p
}

// update shows the share done, from 0 to 1, and what is going on. With headline, it is shown at once.
func (p *progress) update(share float64, headline bool, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	share = max(0, min(share, 1))
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.width != nil {
		if headline || now.Sub(p.last) >= drawEvery {
			p.last, p.drawn = now, true
			// A line that reached the last column would wrap, and the next drawing could not take it back.
			fmt.Fprintf(p.w, "\r\x1b[K%s", barLine(share, text, p.width()-1))
		}
		return
	}
	if text != p.said && (headline || now.Sub(p.last) >= lineEvery) {
		p.last, p.said = now, text
		fmt.Fprintf(p.w, "%3.0f%%  %s\n", 100*share, text)
	}
}

// barLine is a bar and a text in at most width columns; the text gives way first.
func barLine(share float64, text string, width int) string {
	cells := 20
	if width < 100 {
		cells = 10
	}
	full := int(share*float64(cells) + 0.5)
	line := []rune(fmt.Sprintf("%3.0f%% %s%s %s", 100*share, strings.Repeat("━", full), strings.Repeat("╌", cells-full), text))
	if len(line) > width {
		line = append(line[:max(0, width-1)], '…')
	}
	return string(line)
}

// say writes a line of its own, above the bar.
func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	fmt.Fprintf(p.w, format+"\n", args...)
}

func (p *progress) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
}

func (p *progress) erase() {
	if p.drawn {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.drawn = false
	}
}
