package report

import (
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The sizes of a picture in user units; the page scales it to its column.
const (
	narrowWidth   = 560.0
	wideWidth     = 1140.0
	defaultHeight = 320.0
	rowHeight     = 18.0 // of a line of legend or labels
)

// canvas gathers SVG elements. Every text passes through escape, so that no name of a channel or a unit can become
// markup.
type canvas struct {
	b             strings.Builder
	width, height float64
}

func newCanvas(wide bool, height float64) *canvas {
	c := &canvas{width: narrowWidth, height: height}
	if wide {
		c.width = wideWidth
	}
	if c.height <= 0 {
		c.height = defaultHeight
	}
	return c
}

// svg returns the whole element with the words that stand for the picture where it cannot be seen.
func (c *canvas) svg(f chartFrame) string {
	label := strings.TrimSpace(f.title + ". " + f.caption)
	return fmt.Sprintf(`<svg viewBox="0 0 %s %s" role="img" aria-label="%s">%s</svg>`,
		coord(c.width), coord(c.height), html.EscapeString(label), c.b.String())
}

func (c *canvas) line(class string, x1, y1, x2, y2 float64) {
	fmt.Fprintf(&c.b, `<line class="%s" x1="%s" y1="%s" x2="%s" y2="%s"/>`, class, coord(x1), coord(y1), coord(x2), coord(y2))
}

// rect draws a rectangle; a tip appears where a pointer rests on it.
func (c *canvas) rect(class string, x, y, w, h float64, tip string) {
	fmt.Fprintf(&c.b, `<rect class="%s" x="%s" y="%s" width="%s" height="%s"`, class, coord(x), coord(y), coord(math.Max(w, 0)), coord(math.Max(h, 0)))
	if tip == "" {
		c.b.WriteString("/>")
		return
	}
	fmt.Fprintf(&c.b, "><title>%s</title></rect>", html.EscapeString(tip))
}

func (c *canvas) circle(class string, x, y, r float64) {
	fmt.Fprintf(&c.b, `<circle class="%s" cx="%s" cy="%s" r="%s"/>`, class, coord(x), coord(y), coord(r))
}

func (c *canvas) path(class, d string) {
	if d != "" {
		fmt.Fprintf(&c.b, `<path class="%s" d="%s"/>`, class, d)
	}
}

// text draws s; anchor is start, middle or end.
func (c *canvas) text(class, anchor string, x, y float64, s string) {
	fmt.Fprintf(&c.b, `<text class="%s" text-anchor="%s" x="%s" y="%s">%s</text>`, class, anchor, coord(x), coord(y), html.EscapeString(s))
}

// slanted draws s ending at x, y and rising towards it.
func (c *canvas) slanted(class string, x, y float64, s string) {
	fmt.Fprintf(&c.b, `<text class="%s" text-anchor="end" transform="translate(%s %s) rotate(-38)">%s</text>`, class, coord(x), coord(y), html.EscapeString(s))
}

// coord writes a coordinate to a tenth of a unit, which no screen can tell from more.
func coord(v float64) string {
	return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64)
}

// textWidth estimates the width of s at 12 units of height: what matters is never to reserve too little.
func textWidth(s string) float64 { return 7 * float64(utf8.RuneCountInString(s)) }

// key is one entry of a legend.
type key struct {
	name  string
	class string // of the swatch
	shape string // "line" or "box"
}

// legend draws keys in rows from the top and returns the height it took.
func (c *canvas) legend(keys []key) float64 {
	if len(keys) == 0 {
		return 0
	}
	x, y := 4.0, 12.0
	for _, k := range keys {
		w := 30 + textWidth(k.name) + 12
		if x+w > c.width && x > 4 {
			x, y = 4, y+rowHeight
		}
		if k.shape == "line" {
			c.line(k.class, x, y-4, x+22, y-4)
		} else {
			c.rect(k.class, x+8, y-10, 14, 11, "")
		}
		c.text("key", "start", x+28, y, k.name)
		x += w
	}
	return y + 8
}
