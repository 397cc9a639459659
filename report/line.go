package report

import (
	"fmt"
	"math"
	"strings"

	"turbofan"
)

// Series is one curve or cloud of points. A NaN in Y is a gap.
type Series struct {
	Name string // in the legend; empty leaves it out
	X, Y []float64
	// Color picks one of the palette's eight colours, from 1; 0 takes the series' own place in the chart.
	Color  int
	Dashed bool
	Thin   bool // one of many: drawn fine and faint
	Step   bool // the value holds until the next one
	Dots   bool // a dot at each point
	// Radius is that of the dots of a Scatter, 0 chooses by how many there are.
	Radius float64
}

// Band is a filled range, such as a prediction interval. NaN bounds are gaps.
type Band struct {
	Name            string
	X, Lower, Upper []float64
	Color           int // as of Series; 0 is the first
}

// Mark is a labelled vertical line: a quarter begins, a version is promoted.
type Mark struct {
	X     float64
	Label string
}

// Threshold is a labelled horizontal limit.
type Threshold struct {
	Y     float64
	Label string
}

// Line is a chart of curves over a numeric axis.
type Line struct {
	Title, Caption string
	XLabel, YLabel string // with the unit, such as "cycle" or "RMSE (cycles)"
	Series         []Series
	Bands          []Band
	Marks          []Mark
	Thresholds     []Threshold
	FromZero       bool    // the y axis includes zero
	YMax           float64 // 0 fits the data; otherwise the axis ends here and what lies above is cut
	Wide           bool    // takes the whole width of the page
	Height         float64 // 0 is the usual one
}

func (l Line) frame() chartFrame { return chartFrame{l.Title, l.Caption, l.Wide} }

func (l Line) check() error {
	if err := checkSeries(l.Title, l.Series); err != nil {
		return err
	}
	for i, b := range l.Bands {
		if len(b.X) != len(b.Lower) || len(b.X) != len(b.Upper) {
			return turbofan.Invalid(chartField(l.Title), "band %d has %d x, %d lower and %d upper values; they must be as many", i+1, len(b.X), len(b.Lower), len(b.Upper))
		}
	}
	return nil
}

func chartField(title string) string { return fmt.Sprintf("chart %q", title) }

func checkSeries(title string, series []Series) error {
	for i, s := range series {
		if len(s.X) != len(s.Y) {
			return turbofan.Invalid(chartField(title), "series %d (%s) has %d x and %d y values; they must be as many", i+1, s.Name, len(s.X), len(s.Y))
		}
		for j, x := range s.X {
			if math.IsNaN(x) || math.IsInf(x, 0) {
				return turbofan.Invalid(chartField(title), "series %d (%s) has no finite x at point %d", i+1, s.Name, j+1)
			}
		}
	}
	return nil
}

// colorClass returns the class of a palette colour; own is the place that 0 stands for, from 0.
func colorClass(color, own int) string {
	if color > 0 {
		own = color - 1
	}
	return fmt.Sprintf("s%d", own%8)
}

// counted reports whether x is a whole number at every point, of which there are two at least, as cycles and trials are.
func counted(series []Series) bool {
	low, high := math.Inf(1), math.Inf(-1)
	for _, s := range series {
		for _, x := range s.X {
			if x != math.Trunc(x) {
				return false
			}
			low, high = math.Min(low, x), math.Max(high, x)
		}
	}
	return high-low >= 1
}

func (l Line) draw() *canvas {
	c := newCanvas(l.Wide, l.Height)
	a := axes{x: newExtent(), y: newExtent(), xLabel: l.XLabel, yLabel: l.YLabel, marks: l.Marks, wholeX: counted(l.Series)}
	for i, s := range l.Series {
		a.x.add(s.X...)
		a.y.add(s.Y...)
		if s.Name != "" {
			a.keys = append(a.keys, key{s.Name, curveClass(s, i), "line"})
		}
	}
	for _, b := range l.Bands {
		a.x.add(b.X...)
		a.y.add(b.Lower...)
		a.y.add(b.Upper...)
		if b.Name != "" {
			a.keys = append(a.keys, key{b.Name, "band " + colorClass(b.Color, 0), "box"})
		}
	}
	for _, t := range l.Thresholds {
		a.y.add(t.Y)
	}
	for _, m := range l.Marks {
		a.x.add(m.X)
	}
	if l.FromZero {
		a.y.add(0)
	}
	a.x.widen()
	a.y.widen()
	if l.YMax > 0 {
		a.y.high = l.YMax
		a.y.low = math.Min(a.y.low, l.YMax/2)
	}
	a.y.round(5)
	p := newPlot(c, a)
	for _, b := range l.Bands {
		for _, d := range bandPaths(p, b) {
			c.path("band "+colorClass(b.Color, 0), d)
		}
	}
	for i, s := range l.Series {
		c.path(curveClass(s, i), curvePath(p, s))
		if s.Dots {
			for j := range s.X {
				if !math.IsNaN(s.Y[j]) {
					c.circle("dot "+colorClass(s.Color, i), p.x.at(s.X[j]), p.clampY(s.Y[j]), 3)
				}
			}
		}
	}
	p.thresholds(l.Thresholds)
	return c
}

func curveClass(s Series, place int) string {
	class := "curve " + colorClass(s.Color, place)
	if s.Dashed {
		class += " dashed"
	}
	if s.Thin {
		class += " thin"
	}
	return class
}

// clampY keeps a value that lies beyond the axis at its edge.
func (p *plot) clampY(v float64) float64 {
	return math.Max(p.top, math.Min(p.bottom, p.y.at(v)))
}

// curvePath returns the path of a series. Where there are more points than the picture has columns it keeps, for each
// half column, the first, lowest, highest and last point, which draws the same line in a fraction of the bytes.
func curvePath(p *plot, s Series) string {
	var b strings.Builder
	open := false
	move := func(x, y float64) {
		if open {
			b.WriteByte('L')
		} else {
			b.WriteByte('M')
			open = true
		}
		b.WriteString(coord(x))
		b.WriteByte(' ')
		b.WriteString(coord(y))
	}
	var last float64
	for _, i := range thin(p, s) {
		if math.IsNaN(s.Y[i]) || math.IsInf(s.Y[i], 0) {
			open = false
			continue
		}
		x, y := p.x.at(s.X[i]), p.clampY(s.Y[i])
		if s.Step && open {
			move(x, last)
		}
		move(x, y)
		last = y
	}
	return b.String()
}

// thin returns the indices of the points worth drawing, in order.
func thin(p *plot, s Series) []int {
	n := len(s.X)
	columns := int(2 * (p.right - p.left))
	out := make([]int, 0, min(n, 4*columns))
	if n <= 4*columns {
		for i := range n {
			out = append(out, i)
		}
		return out
	}
	for start := 0; start < n; {
		column := int(2 * p.x.at(s.X[start]))
		end, low, high := start, start, start
		for ; end < n && int(2*p.x.at(s.X[end])) == column; end++ {
			if math.IsNaN(s.Y[end]) {
				break
			}
			if s.Y[end] < s.Y[low] {
				low = end
			}
			if s.Y[end] > s.Y[high] {
				high = end
			}
		}
		if end == start {
			out = append(out, start)
			start++
			continue
		}
		at := -1
		for _, i := range []int{start, min(low, high), max(low, high), end - 1} {
			if i > at {
				out = append(out, i)
				at = i
			}
		}
		start = end
	}
	return out
}

// bandPaths returns one closed path for each unbroken piece of a band.
func bandPaths(p *plot, b Band) []string {
	var out []string
	present := func(i int) bool { return !math.IsNaN(b.Lower[i]) && !math.IsNaN(b.Upper[i]) && !math.IsNaN(b.X[i]) }
	for start := 0; start < len(b.X); start++ {
		if !present(start) {
			continue
		}
		end := start
		for end < len(b.X) && present(end) {
			end++
		}
		var d strings.Builder
		for i := start; i < end; i++ {
			fmt.Fprintf(&d, "%s%s %s", map[bool]string{true: "M", false: "L"}[i == start], coord(p.x.at(b.X[i])), coord(p.clampY(b.Upper[i])))
		}
		for i := end - 1; i >= start; i-- {
			fmt.Fprintf(&d, "L%s %s", coord(p.x.at(b.X[i])), coord(p.clampY(b.Lower[i])))
		}
		d.WriteByte('Z')
		out = append(out, d.String())
		start = end
	}
	return out
}
