package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progress shows how far long work is: a bar on a terminal, a plain line now and then elsewhere.
type progress struct {
	w    io.Writer
	bar  *progressbar.ProgressBar // nil where w is no terminal
	last time.Time
	said string
}

// lineEvery is the least time between two plain lines.
const lineEvery = 3 * time.Second

func newProgress(w io.Writer) *progress {
	p := &progress{w: w}
	if isTerminal(w) {
		p.bar = progressbar.NewOptions(1000, progressbar.OptionSetWriter(w), progressbar.OptionSetWidth(24), progressbar.OptionSetPredictTime(false),
			progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionSetElapsedTime(false))
	}
	return p
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// update shows the share done, from 0 to 1, and what is going on. With headline, a plain line is written at once.
func (p *progress) update(share float64, headline bool, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if p.bar != nil {
		p.bar.Describe(text)
		_ = p.bar.Set(int(1000 * share)) // drawing is best effort
		return
	}
	if now := time.Now(); text != p.said && (headline || now.Sub(p.last) >= lineEvery) {
		p.last, p.said = now, text
		fmt.Fprintf(p.w, "%3.0f%%  %s\n", 100*share, text)
	}
}

// say writes a line of its own, above the bar.
func (p *progress) say(format string, args ...any) {
	if p.bar != nil {
		_ = p.bar.Clear()
	}
	fmt.Fprintf(p.w, format+"\n", args...)
}

func (p *progress) done() {
	if p.bar != nil {
		_ = p.bar.Finish()
	}
}
