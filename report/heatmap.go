package report

import (
	"fmt"
	"math"

	"turbofan"
)

// Heatmap shows a matrix by colour: a correlation matrix, or the drift of each channel over time.
type Heatmap struct {
	Title, Caption   string
	Columns, Rows    []string
	Values           [][]float64 // a row of values for each of Rows; NaN is shown as an empty cell
	Low, High        float64     // the ends of the colour scale; both 0 fits the data
	Diverging        bool        // two colours from a neutral zero, over [-High, High]
	ScaleLabel       string      // what the colour means
	ColumnLabel      string      // what the columns are
	Decimals         int         // of the numbers in the cells
	ShowValues       bool        // writes the number into each cell that has room
	HideColumnLabels bool        // for many columns, such as a time axis; every few are then shown
	Marks            []Mark      // vertical lines; X counts columns, 0 is the left edge of the first
	Wide             bool
}

func (h Heatmap) frame() chartFrame { return chartFrame{h.Title, h.Caption, h.Wide} }

func (h Heatmap) check() error {
	if len(h.Values) != len(h.Rows) {
		return turbofan.Invalid(chartField(h.Title), "has %d rows of values for %d row labels; they must be as many", len(h.Values), len(h.Rows))
	}
	for i, row := range h.Values {
		if len(row) != len(h.Columns) {
			return turbofan.Invalid(chartField(h.Title), "row %d (%s) has %d values for %d columns; they must be as many", i+1, h.Rows[i], len(row), len(h.Columns))
		}
	}
	return nil
}

// bounds returns the ends of the colour scale.
func (h Heatmap) bounds() (low, high float64) {
	low, high = h.Low, h.High
	if low == 0 && high == 0 {
		e := newExtent()
		for _, row := range h.Values {
			e.add(row...)
		}
		e.add(0)
		low, high = e.low, e.high
	}
	if h.Diverging {
		high = math.Max(math.Abs(low), math.Abs(high))
		low = -high
	}
	if low >= high {
		high = low + 1
	}
	return low, high
}

// shade returns the class of a value and whether it is so strong that text on it must be inverted.
func (h Heatmap) shade(v, low, high float64) (string, bool) {
	if math.IsNaN(v) {
		return "missing", false
	}
	side, share := "q", (v-low)/(high-low)
	if h.Diverging {
		side, share = "p", v/high
		if v < 0 {
			side, share = "n", -v/high
		}
	}
	step := int(math.Round(math.Min(math.Max(share, 0), 1) * heatSteps))
	return fmt.Sprintf("%s%d", side, step), step > heatSteps*11/20
}

func (h Heatmap) draw() *canvas {
	c := newCanvas(h.Wide, 0)
	low, high := h.bounds()
	gutter := 0.0
	for _, r := range h.Rows {
		gutter = math.Max(gutter, textWidth(r))
	}
	gutter = math.Min(gutter+12, c.width*0.4)
	top := h.scaleBar(c, low, high) + 8
	across := scale{0, math.Max(float64(len(h.Columns)), 1), gutter, c.width - 6}
	for _, r := range placeMarks(h.Marks, across) {
		top = math.Max(top, 32+14*float64(r+1))
	}
	cell := (c.width - gutter - 6) / math.Max(float64(len(h.Columns)), 1)
	tall := math.Min(math.Max(cell, 17), 26)
	for i, row := range h.Values {
		y := top + tall*float64(i)
		c.text("cat", "end", gutter-8, y+tall/2+4, h.Rows[i])
		for j, v := range row {
			class, strong := h.shade(v, low, high)
			x := gutter + cell*float64(j)
			gap := 1.0
			if cell < 6 {
				gap = 0
			}
			c.rect(class, x, y, cell-gap, tall-1, fmt.Sprintf("%s, %s: %s", h.Rows[i], h.Columns[j], Short(v)))
			text := Number(v, h.Decimals)
			if h.ShowValues && !math.IsNaN(v) && textWidth(text)*0.84 < cell {
				on := "cell"
				if strong {
					on = "cell on"
				}
				c.text(on, "middle", x+(cell-gap)/2, y+tall/2+3.5, text)
			}
		}
	}
	c.marks(h.Marks, across, top, top+tall*float64(len(h.Rows)))
	c.height = h.columnLabels(c, gutter, top+tall*float64(len(h.Rows)), cell)
	return c
}

// columnLabels writes the labels below the cells, slanted or thinned out as room allows, and returns the height of
// the whole.
func (h Heatmap) columnLabels(c *canvas, left, y, cell float64) float64 {
	widest := 0.0
	for _, l := range h.Columns {
		widest = math.Max(widest, textWidth(l))
	}
	every, slant := 1, false
	switch {
	case widest+8 <= cell:
	case h.HideColumnLabels:
		every = int(math.Ceil((widest + 14) / cell))
	default:
		slant = true
		every = int(math.Ceil(13 / cell))
	}
	for j := 0; j < len(h.Columns); j += every {
		x := left + cell*(float64(j)+0.5)
		if slant {
			c.slanted("cat", x+5, y+12, h.Columns[j])
		} else {
			half := textWidth(h.Columns[j]) / 2
			c.text("cat", "middle", math.Min(x, c.width-half), y+16, h.Columns[j])
		}
	}
	height := y + 24
	if slant {
		height = y + widest*0.62 + 20
	}
	if h.ColumnLabel != "" {
		height += 16
		c.text("name", "middle", (left+c.width)/2, height-6, h.ColumnLabel)
	}
	return height
}

// scaleBar draws the colour scale at the top right and returns its height.
func (h Heatmap) scaleBar(c *canvas, low, high float64) float64 {
	const shades, width = 33, 6.0
	right := c.width - 8
	lowText, highText := Short(low), Short(high)
	x := right - textWidth(highText) - 6 - shades*width
	for i := range shades {
		v := low + (high-low)*float64(i)/(shades-1)
		class, _ := h.shade(v, low, high)
		c.rect(class, x+width*float64(i), 4, width, 12, "")
	}
	c.text("tick", "start", right-textWidth(highText), 14, highText)
	c.text("tick", "end", x-6, 14, lowText)
	if h.ScaleLabel != "" {
		c.text("name", "end", x-6-textWidth(lowText)-10, 14, h.ScaleLabel)
	}
	return 22
}
