package report

import (
	"math"
	"strconv"
	"strings"
)

// scale maps values to coordinates.
type scale struct {
	low, high float64 // values
	from, to  float64 // coordinates
}

func (s scale) at(v float64) float64 {
	return s.from + (v-s.low)/(s.high-s.low)*(s.to-s.from)
}

// extent is a range of values that grows; it begins empty.
type extent struct{ low, high float64 }

func newExtent() extent { return extent{math.Inf(1), math.Inf(-1)} }

func (e *extent) add(values ...float64) {
	for _, v := range values {
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			e.low, e.high = math.Min(e.low, v), math.Max(e.high, v)
		}
	}
}

func (e *extent) empty() bool { return e.low > e.high }

// widen gives an empty or single-valued range a width, so that no scale divides by zero.
func (e *extent) widen() {
	if e.empty() {
		e.low, e.high = 0, 1
	}
	if span := e.high - e.low; span <= 1e-12*math.Max(math.Abs(e.low), math.Abs(e.high)) || span == 0 {
		pad := math.Max(math.Abs(e.low)*0.01, 0.5)
		if math.Abs(e.low) > 0 && math.Abs(e.low) < 0.5 {
			pad = math.Abs(e.low)
		}
		e.low, e.high = e.low-pad, e.high+pad
	}
}

// pad widens the range by a share of itself on both sides, so that no dot lies on the frame.
func (e *extent) pad(share float64) {
	by := share * (e.high - e.low)
	e.low, e.high = e.low-by, e.high+by
}

// ticks returns about count round values that cover [low, high] from within, and their distance.
func ticks(low, high float64, count int) ([]float64, float64) {
	return ticksBy(low, high, niceStep((high-low)/float64(max(count, 1))))
}

// wholeTicks is ticks for what is counted: there is no cycle 2.5 and no trial 1.2.
func wholeTicks(low, high float64, count int) ([]float64, float64) {
	step := niceStep(math.Max(1, (high-low)/float64(max(count, 1))))
	if step == 2.5 {
		step = 5
	}
	return ticksBy(low, high, step)
}

func ticksBy(low, high, step float64) ([]float64, float64) {
	var out []float64
	for k := math.Ceil(low/step - 1e-9); k*step <= high+step*1e-9; k++ {
		out = append(out, k*step)
	}
	return out, step
}

// niceStep returns the smallest of 1, 2, 2.5 or 5 times a power of ten that is not below raw.
func niceStep(raw float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, m := range []float64{1, 2, 2.5, 5} {
		if raw <= m*power*(1+1e-9) {
			return m * power
		}
	}
	return 10 * power
}

// round extends the range to whole steps of about count ticks, so that the axis begins and ends on a tick.
func (e *extent) round(count int) {
	step := niceStep((e.high - e.low) / float64(count))
	e.low, e.high = math.Floor(e.low/step+1e-9)*step, math.Ceil(e.high/step-1e-9)*step
}

// tickLabel writes v with the decimals that step needs and thousands apart.
func tickLabel(v, step float64) string {
	decimals := 0
	for s := step; decimals < 8 && math.Abs(s-math.Round(s)) > 1e-6*s; decimals++ {
		s *= 10
	}
	if math.Abs(v) < step*1e-6 {
		v = 0
	}
	if math.Abs(v) >= 1e7 || step < 1e-7 {
		return strings.Replace(strconv.FormatFloat(v, 'g', 4, 64), "-", "−", 1)
	}
	return Number(v, decimals)
}

// Number writes v with a fixed number of decimals, thousands apart and a true minus sign; "–" stands for NaN.
func Number(v float64, decimals int) string {
	if math.IsNaN(v) {
		return "–"
	}
	if math.IsInf(v, 0) {
		return strings.NewReplacer("+Inf", "∞", "-Inf", "−∞").Replace(strconv.FormatFloat(v, 'f', 0, 64))
	}
	s := strconv.FormatFloat(math.Abs(v), 'f', decimals, 64)
	whole, fraction, _ := strings.Cut(s, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if fraction != "" {
		whole += "." + fraction
	}
	if v < 0 && strings.Trim(s, "0.") != "" {
		return "−" + whole
	}
	return whole
}

// Short writes v with about four significant digits, for a value beside a bar or in a cell.
func Short(v float64) string {
	a := math.Abs(v)
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return Number(v, 0)
	case a >= 1000 || a == math.Trunc(a):
		return Number(v, 0)
	case a >= 100:
		return Number(v, 1)
	case a >= 10:
		return Number(v, 2)
	case a >= 0.01:
		return Number(v, 3)
	default:
		return strings.Replace(strconv.FormatFloat(v, 'g', 2, 64), "-", "−", 1)
	}
}

// plot is the area inside the axes.
type plot struct {
	*canvas
	x, y                     scale
	left, right, top, bottom float64
}

// axes are the two ranges and what stands at them.
type axes struct {
	x, y           extent
	xLabel, yLabel string
	marks          []Mark
	keys           []key
	noXTicks       bool // categories are drawn by the chart itself
	wholeX         bool // x is counted: only whole numbers are named
	below          float64
}

// newPlot lays the picture out (legend, name of the y axis, labels of marks, plot, ticks, name of the x axis) and draws
// grid and axes.
func newPlot(c *canvas, a axes) *plot {
	p := &plot{canvas: c}
	top := c.legend(a.keys)
	if a.yLabel != "" {
		top += 14
		c.text("name", "start", 4, top-2, a.yLabel)
		top += 6
	}
	rows := markRows(c, a)
	p.top = top + 10 + float64(rows)*14
	p.bottom = c.height - 24 - a.below
	if a.xLabel != "" {
		p.bottom -= 18
	}
	yTicks, yStep := ticks(a.y.low, a.y.high, max(3, int((p.bottom-p.top)/42)))
	gutter := 0.0
	for _, v := range yTicks {
		gutter = math.Max(gutter, textWidth(tickLabel(v, yStep)))
	}
	p.left, p.right = gutter+14, c.width-14
	p.x = scale{a.x.low, a.x.high, p.left, p.right}
	p.y = scale{a.y.low, a.y.high, p.bottom, p.top}
	for _, v := range yTicks {
		y := p.y.at(v)
		c.line("grid", p.left, y, p.right, y)
		c.text("tick", "end", p.left-7, y+4, tickLabel(v, yStep))
	}
	c.line("axis", p.left, p.bottom, p.right, p.bottom)
	if !a.noXTicks {
		p.xTicks(a.x, a.wholeX)
	}
	if a.xLabel != "" {
		c.text("name", "middle", (p.left+p.right)/2, c.height-6, a.xLabel)
	}
	p.marks(a.marks, p.x, p.top, p.bottom)
	return p
}

func (p *plot) xTicks(x extent, whole bool) {
	widest := math.Max(textWidth(Number(x.high, 0)), textWidth(Number(x.low, 0))) + 28
	choose := ticks
	if whole {
		choose = wholeTicks
	}
	values, step := choose(x.low, x.high, max(2, int((p.right-p.left)/math.Max(widest, 56))))
	for _, v := range values {
		at := p.x.at(v)
		p.line("axis", at, p.bottom, at, p.bottom+4)
		label := tickLabel(v, step)
		// A label at the very edge is kept inside the picture.
		at = math.Min(at, p.width-textWidth(label)/2)
		p.text("tick", "middle", at, p.bottom+17, label)
	}
}

// markRows returns how many rows the labels of marks need so that none covers another.
func markRows(c *canvas, a axes) int {
	if len(a.marks) == 0 {
		return 0
	}
	rows := 0
	for _, r := range placeMarks(a.marks, scale{a.x.low, a.x.high, 50, c.width - 14}) {
		rows = max(rows, r+1)
	}
	return rows
}

// placeMarks gives each mark the lowest row in which its label, right of its line, is free. Marks outside the axis get
// row -1.
func placeMarks(marks []Mark, x scale) []int {
	rows := make([]int, len(marks))
	type span struct{ from, to float64 }
	var taken [][]span
	for i, m := range marks {
		if m.X < x.low || m.X > x.high || math.IsNaN(m.X) {
			rows[i] = -1
			continue
		}
		w := markWidth(m)
		at := span{x.at(m.X), x.at(m.X) + w}
		if at.to > x.to {
			at = span{at.from - w, at.from}
		}
		row := 0
		for ; row < len(taken); row++ {
			free := true
			for _, t := range taken[row] {
				free = free && (at.to <= t.from || at.from >= t.to)
			}
			if free {
				break
			}
		}
		if row == len(taken) {
			taken = append(taken, nil)
		}
		taken[row] = append(taken[row], at)
		rows[i] = row
	}
	return rows
}

// marks draws marks whose labels stand in rows above top and whose lines end at bottom. Lines come first: a label of a
// lower row stands on the line that passes through it.
func (c *canvas) marks(marks []Mark, x scale, top, bottom float64) {
	rows := placeMarks(marks, x)
	label := func(row int) float64 { return top - 8 - 14*float64(row) }
	for i, row := range rows {
		if row >= 0 {
			c.line("markline", x.at(marks[i].X), label(row)-9, x.at(marks[i].X), bottom)
		}
	}
	for i, row := range rows {
		if row < 0 {
			continue
		}
		at := x.at(marks[i].X)
		if at+markWidth(marks[i]) > x.to {
			c.text("mark", "end", at-4, label(row), marks[i].Label)
		} else {
			c.text("mark", "start", at+4, label(row), marks[i].Label)
		}
	}
}

// markWidth is the room that a mark's label needs.
func markWidth(m Mark) float64 { return textWidth(m.Label)*0.93 + 8 }

// thresholds draws horizontal limits over everything else.
func (p *plot) thresholds(limits []Threshold) {
	for _, l := range limits {
		if l.Y < p.y.low || l.Y > p.y.high {
			continue
		}
		y := p.y.at(l.Y)
		p.line("limitline", p.left, y, p.right, y)
		if l.Label != "" {
			p.text("limit", "end", p.right-2, y-5, l.Label)
		}
	}
}
