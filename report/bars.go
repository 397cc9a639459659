package report

import (
	"fmt"
	"math"
	"strings"

	"turbofan"
)

// BarSeries is one bar for each label. NaN draws none.
type BarSeries struct {
	Name   string
	Values []float64
	Color  int // as of Series
}

// Bars is a chart of one or several bars for each label.
type Bars struct {
	Title, Caption string
	// ValueLabel names the axis of values with its unit, LabelLabel that of the labels.
	ValueLabel, LabelLabel string
	Labels                 []string
	Series                 []BarSeries
	Thresholds             []Threshold // upright bars only
	Horizontal             bool        // for long labels, such as the names of features
	Wide                   bool
	Height                 float64 // 0 is the usual one; lying bars take what they need
}

func (b Bars) frame() chartFrame { return chartFrame{b.Title, b.Caption, b.Wide} }

func (b Bars) check() error {
	for i, s := range b.Series {
		if len(s.Values) != len(b.Labels) {
			return turbofan.Invalid(chartField(b.Title), "series %d (%s) has %d values for %d labels; they must be as many", i+1, s.Name, len(s.Values), len(b.Labels))
		}
	}
	return nil
}

func (b Bars) keys() []key {
	var out []key
	for i, s := range b.Series {
		if s.Name != "" {
			out = append(out, key{s.Name, "bar " + colorClass(s.Color, i), "box"})
		}
	}
	return out
}

func (b Bars) draw() *canvas {
	values := newExtent()
	values.add(0)
	for _, s := range b.Series {
		values.add(s.Values...)
	}
	if b.Horizontal {
		return b.drawLying(values)
	}
	for _, t := range b.Thresholds {
		values.add(t.Y)
	}
	values.widen()
	values.high += (values.high - values.low) * 0.06
	values.round(5)
	c := newCanvas(b.Wide, b.Height)
	slot := (c.width - 60) / math.Max(float64(len(b.Labels)), 1)
	widest := 0.0
	for _, l := range b.Labels {
		widest = math.Max(widest, textWidth(l))
	}
	slant := widest+6 > slot
	below := 0.0
	if slant {
		below = math.Min(widest*0.62, 110)
	}
	p := newPlot(c, axes{x: extent{0, math.Max(float64(len(b.Labels)), 1)}, y: values, xLabel: b.LabelLabel, yLabel: b.ValueLabel, keys: b.keys(), noXTicks: true, below: below})
	slot = p.x.at(1) - p.x.at(0)
	width := math.Min(slot*0.78/math.Max(float64(len(b.Series)), 1), 64)
	for i, label := range b.Labels {
		middle := p.x.at(float64(i) + 0.5)
		if slant {
			c.slanted("cat", middle+5, p.bottom+14, label)
		} else {
			c.text("cat", "middle", middle, p.bottom+17, label)
		}
		for k, s := range b.Series {
			v := s.Values[i]
			if math.IsNaN(v) || math.IsInf(v, 0) {
				continue
			}
			x := middle + (float64(k)-float64(len(b.Series))/2)*width
			top, bottom := p.y.at(math.Max(v, 0)), p.y.at(math.Min(v, 0))
			c.rect("bar "+colorClass(s.Color, k), x+1, top, width-2, bottom-top, tip(label, s.Name, v))
			if textWidth(Short(v))*0.9 < width+6 {
				c.text("value", "middle", x+width/2, top-4, Short(v))
			}
		}
	}
	c.line("zero", p.left, p.y.at(0), p.right, p.y.at(0))
	p.thresholds(b.Thresholds)
	return c
}

func tip(label, series string, v float64) string {
	return strings.TrimSpace(fmt.Sprintf("%s %s: %s", label, series, Short(v)))
}

// drawLying draws bars to the right of their labels, as tall as the number of labels asks.
func (b Bars) drawLying(values extent) *canvas {
	values.widen()
	values.round(5)
	thick := 15.0
	if len(b.Series) > 1 {
		thick = 11
	}
	slot := thick*float64(max(len(b.Series), 1)) + 8
	c := newCanvas(b.Wide, 0)
	top := c.legend(b.keys()) + 4
	if b.LabelLabel != "" {
		c.text("name", "start", 4, top+8, b.LabelLabel)
		top += 16
	}
	gutter := 0.0
	for _, l := range b.Labels {
		gutter = math.Max(gutter, textWidth(l))
	}
	gutter = math.Min(gutter+12, c.width*0.5)
	bottom := top + slot*float64(len(b.Labels))
	c.height = bottom + 24
	if b.ValueLabel != "" {
		c.height += 18
		c.text("name", "middle", (gutter+c.width)/2, c.height-6, b.ValueLabel)
	}
	x := scale{values.low, values.high, gutter, c.width - 56}
	marks, step := ticks(values.low, values.high, int((x.to-x.from)/80))
	for _, v := range marks {
		c.line("grid", x.at(v), top, x.at(v), bottom)
		c.text("tick", "middle", x.at(v), bottom+16, tickLabel(v, step))
	}
	for i, label := range b.Labels {
		y := top + slot*float64(i) + 4
		c.text("cat", "end", gutter-8, y+(slot-8)/2+4, label)
		for k, s := range b.Series {
			v := s.Values[i]
			if math.IsNaN(v) || math.IsInf(v, 0) {
				continue
			}
			from, to := x.at(math.Min(v, 0)), x.at(math.Max(v, 0))
			at := y + thick*float64(k)
			c.rect("bar "+colorClass(s.Color, k), from, at, to-from, thick-1, tip(label, s.Name, v))
			c.text("value", "start", to+5, at+thick-4, Short(v))
		}
	}
	c.line("zero", x.at(0), top, x.at(0), bottom)
	return c
}
