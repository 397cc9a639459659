// Package report writes self-contained HTML pages with pictures: one file that can be mailed, printed and opened
// offline. Charts are drawn as inline SVG whose colours come from the page's style, so that one page reads well on a
// light screen, on a dark one and on paper. No page loads anything from outside itself, and none runs a script.
package report

import (
	"bytes"
	"fmt"
	"html/template"
	"io"
	"strings"
	"unicode"

	"turbofan"
)

// Page is one HTML document.
type Page struct {
	Title    string
	Subtitle string
	// Notice is shown in a loud banner at the top and again at the end; it is where "SYNTHETIC DATA" is said.
	Notice   string
	Sections []Section
	// Footer stands small at the end: how and when the page was made.
	Footer string
	// Site leads to the other pages of a site; a page that stands alone has none.
	Site []Link
	// Refresh is after how many seconds a browser loads the page again; 0 is never.
	Refresh int
}

// Link leads to another page.
type Link struct {
	Text, Href string
	Current    bool // this is the page
}

// Section is a part of a page with a heading. Its pieces appear in the order of the fields.
type Section struct {
	ID     string // anchor within the page; empty derives one from Title
	Title  string
	Text   []string // paragraphs
	Facts  []Fact
	Tables []Table
	Charts []Chart
}

// Fact is one large number with a label.
type Fact struct {
	Label string
	Value string
	Note  string // a few words below, such as the bar that the number must clear
	Tone  Tone
}

// Tone colours a fact.
type Tone string

// The tones of a fact.
const (
	Neutral Tone = ""
	Good    Tone = "good"
	Bad     Tone = "bad"
)

// Table is a table of text. A column whose every cell is a number is aligned to the right.
type Table struct {
	Title  string
	Header []string
	Rows   [][]string
	// Href says where the first cell of each row leads; nil, or "" for one row, leads nowhere.
	Href []string
	// ID anchors each row, so that an address with a # can name it; nil or "" anchors nothing.
	ID   []string
	Note string
}

// Chart is a picture: a Line, Bars, Histogram, Scatter or Heatmap.
type Chart interface {
	// check reports the first rule that the chart breaks, as an error of code invalid.
	check() error
	// draw renders the inside of the SVG and returns its width and height.
	draw() *canvas
	frame() chartFrame
}

// chartFrame is what the page says around a picture.
type chartFrame struct {
	title, caption string
	wide           bool
}

// Write renders the page. It refuses a chart or table whose parts do not fit together, with an error of code invalid
// that names it, before anything is written.
func (p Page) Write(w io.Writer) error {
	view, err := p.view()
	if err != nil {
		return err
	}
	t, err := template.New("page").Parse(pageTemplate)
	if err != nil {
		return fmt.Errorf("parse page template: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, view); err != nil {
		return fmt.Errorf("render page %q: %w", p.Title, err)
	}
	if _, err := w.Write(out.Bytes()); err != nil {
		return fmt.Errorf("write page %q: %w", p.Title, err)
	}
	return nil
}

type pageView struct {
	Page
	Style    template.CSS
	Sections []sectionView
}

type sectionView struct {
	Section
	ID      string
	Tables  []tableView
	Figures []figureView
}

type tableView struct {
	Table
	Numeric []bool
}

type figureView struct {
	Title, Caption string
	Wide           bool
	SVG            template.HTML
}

func (p Page) view() (pageView, error) {
	v := pageView{Page: p, Style: template.CSS(pageStyle + heatStyle())}
	used := map[string]bool{}
	for _, s := range p.Sections {
		sv := sectionView{Section: s, ID: anchor(s, used)}
		for _, t := range s.Tables {
			tv, err := t.view()
			if err != nil {
				return pageView{}, err
			}
			sv.Tables = append(sv.Tables, tv)
		}
		for _, c := range s.Charts {
			f := c.frame()
			if err := c.check(); err != nil {
				return pageView{}, err
			}
			drawn := c.draw()
			// The canvas escapes every text it is given, so its markup may pass through the template as it is.
			sv.Figures = append(sv.Figures, figureView{f.title, f.caption, f.wide, template.HTML(drawn.svg(f))})
		}
		v.Sections = append(v.Sections, sv)
	}
	return v, nil
}

// anchor returns an id that is unique in the page and safe in a URL.
func anchor(s Section, used map[string]bool) string {
	source := s.ID
	if source == "" {
		source = s.Title
	}
	id := strings.Trim(strings.Map(func(r rune) rune {
		if r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
			return unicode.ToLower(r)
		}
		return '-'
	}, source), "-")
	if id == "" {
		id = "section"
	}
	unique := id
	for n := 2; used[unique]; n++ {
		unique = fmt.Sprintf("%s-%d", id, n)
	}
	used[unique] = true
	return unique
}

func (t Table) view() (tableView, error) {
	v := tableView{Table: t, Numeric: make([]bool, len(t.Header))}
	if t.Href != nil && len(t.Href) != len(t.Rows) {
		return v, turbofan.Invalid(fmt.Sprintf("table %q", t.Title), "has %d links for %d rows; they must be as many", len(t.Href), len(t.Rows))
	}
	if t.ID != nil && len(t.ID) != len(t.Rows) {
		return v, turbofan.Invalid(fmt.Sprintf("table %q", t.Title), "has %d anchors for %d rows; they must be as many", len(t.ID), len(t.Rows))
	}
	for i := range v.Numeric {
		v.Numeric[i] = len(t.Rows) > 0
	}
	for r, row := range t.Rows {
		if len(row) != len(t.Header) {
			return v, turbofan.Invalid(fmt.Sprintf("table %q", t.Title), "row %d has %d cells, the header has %d", r+1, len(row), len(t.Header))
		}
		for i, cell := range row {
			v.Numeric[i] = v.Numeric[i] && numeric(cell)
		}
	}
	return v, nil
}

// numeric reports whether a cell is a number, a placeholder for one, or a number with a unit or an interval: whatever
// starts with a digit after its sign and has more digits than letters.
func numeric(cell string) bool {
	cell = strings.TrimLeft(strings.TrimSpace(cell), "+-−±<>≤≥~≈ ")
	if cell == "" || cell == "–" || cell == "—" {
		return true
	}
	if cell[0] < '0' || cell[0] > '9' {
		return false
	}
	digits, letters := 0, 0
	for _, r := range cell {
		switch {
		case unicode.IsDigit(r):
			digits++
		case unicode.IsLetter(r):
			letters++
		}
	}
	return digits >= letters
}
