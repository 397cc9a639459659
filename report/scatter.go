package report

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"turbofan"
)

// Scatter is a chart of points.
type Scatter struct {
	Title, Caption string
	XLabel, YLabel string
	Series         []Series
	Curves         []Series // drawn over the points, such as a mean
	Diagonal       bool     // draws the line on which y equals x
	Thresholds     []Threshold
	Wide           bool
	Height         float64
}

func (s Scatter) frame() chartFrame { return chartFrame{s.Title, s.Caption, s.Wide} }

func (s Scatter) check() error {
	if err := checkSeries(s.Title, s.Series); err != nil {
		return err
	}
	return checkSeries(s.Title, s.Curves)
}

func (s Scatter) draw() *canvas {
	c := newCanvas(s.Wide, s.Height)
	a := axes{x: newExtent(), y: newExtent(), xLabel: s.XLabel, yLabel: s.YLabel, wholeX: counted(slices.Concat(s.Series, s.Curves))}
	for i, p := range s.Series {
		a.x.add(p.X...)
		a.y.add(p.Y...)
		if p.Name != "" {
			a.keys = append(a.keys, key{p.Name, "dot " + colorClass(p.Color, i), "box"})
		}
	}
	for i, p := range s.Curves {
		a.x.add(p.X...)
		a.y.add(p.Y...)
		if p.Name != "" {
			a.keys = append(a.keys, key{p.Name, curveClass(p, len(s.Series)+i), "line"})
		}
	}
	a.x.widen()
	a.y.widen()
	if !s.Diagonal {
		a.y.pad(0.03)
	}
	a.x.round(6)
	a.y.round(5)
	p := newPlot(c, a)
	if s.Diagonal {
		low, high := math.Max(a.x.low, a.y.low), math.Min(a.x.high, a.y.high)
		if low < high {
			c.line("diagonal", p.x.at(low), p.y.at(low), p.x.at(high), p.y.at(high))
		}
	}
	for i, series := range s.Series {
		s.points(p, series, i)
	}
	for i, curve := range s.Curves {
		c.path(curveClass(curve, len(s.Series)+i), curvePath(p, curve))
	}
	p.thresholds(s.Thresholds)
	return c
}

// points draws one dot for each place that holds any point: what falls on the same half unit looks the same once. All
// dots of a series are one path of zero-length strokes, a tenth of the bytes of as many circles.
func (s Scatter) points(p *plot, series Series, place int) {
	seen := map[[2]int]bool{}
	var b strings.Builder
	for i := range series.X {
		if math.IsNaN(series.Y[i]) || math.IsInf(series.Y[i], 0) {
			continue
		}
		x, y := p.x.at(series.X[i]), p.clampY(series.Y[i])
		at := [2]int{int(math.Round(x * 2)), int(math.Round(y * 2))}
		if seen[at] {
			continue
		}
		seen[at] = true
		fmt.Fprintf(&b, "M%s %sh0", coord(float64(at[0])/2), coord(float64(at[1])/2))
	}
	if b.Len() == 0 {
		return
	}
	radius := series.Radius
	switch {
	case radius > 0:
	case len(seen) <= 200:
		radius = 4
	default:
		radius = 2.2
	}
	fmt.Fprintf(&p.b, `<path class="points %s" stroke-width="%s" d="%s"/>`, colorClass(series.Color, place), coord(2*radius), b.String())
}

// Sample is a set of values whose distribution is shown.
type Sample struct {
	Name   string
	Values []float64 // NaN is left out
	Color  int       // as of Series
}

// Histogram shows how the values of one or several samples are distributed, over common bins.
type Histogram struct {
	Title, Caption string
	XLabel, YLabel string
	Samples        []Sample
	Bins           int  // 0 chooses by the number of values
	Share          bool // heights are percent of the sample, so that samples of different size compare
	Wide           bool
	Height         float64
}

func (h Histogram) frame() chartFrame { return chartFrame{h.Title, h.Caption, h.Wide} }

func (h Histogram) check() error {
	if h.Bins < 0 || h.Bins > 1000 {
		return turbofan.Invalid(chartField(h.Title), "bins must be from 0 to 1000, not %d", h.Bins)
	}
	return nil
}

func (h Histogram) draw() *canvas {
	c := newCanvas(h.Wide, h.Height)
	a := axes{x: newExtent(), y: newExtent(), xLabel: h.XLabel, yLabel: h.YLabel}
	largest := 0
	for i, s := range h.Samples {
		a.x.add(s.Values...)
		largest = max(largest, len(s.Values))
		if s.Name != "" {
			a.keys = append(a.keys, key{s.Name, h.class(i), "box"})
		}
	}
	a.x.widen()
	bins := h.Bins
	if bins == 0 {
		bins = min(max(int(2*math.Cbrt(float64(largest))), 8), 40)
	}
	step := niceStep(0.7 * (a.x.high - a.x.low) / float64(bins))
	a.x.low, a.x.high = math.Floor(a.x.low/step+1e-9)*step, math.Floor(a.x.high/step+1e-9)*step+step
	bins = max(int(math.Round((a.x.high-a.x.low)/step)), 1)
	counts := make([][]float64, len(h.Samples))
	for i, s := range h.Samples {
		counts[i] = h.count(s.Values, a.x.low, step, bins)
		a.y.add(counts[i]...)
	}
	a.y.add(0)
	a.y.widen()
	a.y.round(5)
	p := newPlot(c, a)
	for i := range h.Samples {
		c.path(h.class(i), stairs(p, counts[i], a.x.low, step))
	}
	return c
}

// class fills the shapes of one or two samples; more would mix to mud, and get outlines.
func (h Histogram) class(sample int) string {
	shape := "area "
	if len(h.Samples) > 2 {
		shape = "area outline "
	}
	return shape + colorClass(h.Samples[sample].Color, sample)
}

func (h Histogram) count(values []float64, low, step float64, bins int) []float64 {
	counts := make([]float64, bins)
	n := 0.0
	for _, v := range values {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			continue
		}
		n++
		counts[min(max(int((v-low)/step), 0), bins-1)]++
	}
	if h.Share && n > 0 {
		for i := range counts {
			counts[i] *= 100 / n
		}
	}
	return counts
}

// stairs returns the outline of a histogram, open along the axis, which has a line of its own.
func stairs(p *plot, counts []float64, low, step float64) string {
	var b strings.Builder
	fmt.Fprintf(&b, "M%s %s", coord(p.x.at(low)), coord(p.bottom))
	for i, n := range counts {
		y := coord(p.y.at(n))
		fmt.Fprintf(&b, "V%sH%s", y, coord(p.x.at(low+step*float64(i+1))))
	}
	fmt.Fprintf(&b, "V%s", coord(p.bottom))
	return b.String()
}
