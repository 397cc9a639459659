package dataset

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Table is a file with a header that no schema describes.
type Table struct {
	Columns []TableColumn
	Rows    int
}

// TableColumn is one column of a Table.
type TableColumn struct {
	Name string
	// Values holds a number for each row, NaN where there is none; nil for a column that does not hold numbers.
	Values []float64
	// Reason says why a column without Values does not hold numbers, such as `"A" in line 2 is not a number`.
	Reason string
	// Infinite counts the cells that are no finite number, such as inf or 1e999: NaN in Values.
	Infinite int
	// unfit names the first of these; it becomes Reason where no cell of the column holds a finite number.
	unfit string
	// Texts holds the cells of a column that was asked for by name.
	Texts []string
}

// Column returns the column of that name, nil where there is none.
func (t *Table) Column(name string) *TableColumn {
	for i := range t.Columns {
		if t.Columns[i].Name == name {
			return &t.Columns[i]
		}
	}
	return nil
}

// missingCells are what programs write where they have no number.
var missingCells = [...]string{"", "na", "n/a", "nan", "null", "none", "-", "?"}

// separatorPeek is how much of a file is looked at for what separates its columns.
const separatorPeek = 64 << 10

// ReadTable reads any table: a header, then rows of as many cells, separated by commas, semicolons, tabs or bars, whichever
// the header has most of. Numbers may have a decimal comma where columns are not separated by commas; true and false
// are 1 and 0. The cells of the columns named texts are kept as they are too. File is the name that errors carry.
func ReadTable(r io.Reader, file string, texts ...string) (*Table, error) {
	text := bufio.NewReaderSize(newSource(r, file), separatorPeek)
	head, _ := text.Peek(separatorPeek) // an error comes again
	records, err := newCSVRecords(text, file)
	if err != nil {
		return nil, err
	}
	records.csv.Comma = separator(head)
	t := new(Table)
	err = records.table(func(header []string) error {
		t.Columns = make([]TableColumn, len(header))
		return t.readHeader(header, file)
	}, func(record []string, line int) error {
		for i := range t.Columns {
			t.Columns[i].take(record[i], line, records.csv.Comma != ',')
			if slices.Contains(texts, t.Columns[i].Name) {
				t.Columns[i].Texts = append(t.Columns[i].Texts, strings.Clone(strings.TrimSpace(record[i])))
			}
		}
		t.Rows++
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i := range t.Columns {
		t.Columns[i].settle()
	}
	return t, nil
}

// separator is what the first line has most of outside of quotes; a comma where it has none of them.
func separator(head []byte) rune {
	line, _, _ := bytes.Cut(bytes.TrimLeft(head, "\r\n"), []byte("\n"))
	counts, quoted := map[byte]int{}, false
	for _, c := range line {
		if c == '"' {
			quoted = !quoted
		} else if !quoted {
			counts[c]++
		}
	}
	best := byte(',')
	for _, c := range []byte(";\t|") {
		if counts[c] > counts[best] {
			best = c
		}
	}
	return rune(best)
}

func (t *Table) readHeader(header []string, file string) error {
	numbers := 0
	for i, name := range header {
		name = strings.Clone(strings.TrimSpace(name))
		if name == "" { // pandas writes its index so
			name = "column " + strconv.Itoa(i+1)
		}
		if t.Column(name) != nil {
			return at(file, 1, "header", "the column %q stands twice", name)
		}
		if _, ok := number64([]byte(name)); ok {
			numbers++
		}
		t.Columns[i].Name, t.Columns[i].Values = name, []float64{}
	}
	if numbers == len(header) {
		return at(file, 1, "header", "is missing: the first line holds only numbers, and must name the columns")
	}
	return nil
}

// take adds a cell to the column, or finds that the column is not one of numbers.
func (c *TableColumn) take(cell string, line int, decimalComma bool) {
	if c.Reason != "" {
		return
	}
	text := strings.TrimSpace(cell)
	if decimalComma && strings.Count(text, ",") == 1 && !strings.Contains(text, ".") {
		text = strings.Replace(text, ",", ".", 1)
	}
	v, ok := number64([]byte(text))
	if !ok {
		lower := strings.ToLower(text)
		switch {
		case slices.Contains(missingCells[:], lower):
			v = math.NaN()
		case lower == "true":
			v = 1
		case lower == "false":
			v = 0
		default:
			unfit := fmt.Sprintf("%q in line %d is not a finite number", clip([]byte(cell)), line)
			if !infinite(text) {
				c.Values, c.Infinite, c.Reason = nil, 0, unfit
				return
			}
			if c.Infinite++; c.Infinite == 1 {
				c.unfit = unfit
			}
			v = math.NaN()
		}
	}
	c.Values = append(c.Values, v)
}

// infinite reports whether a cell that is no finite number is a number all the same: a sensor overflows, or a division by
// zero before the export, in a column that is one of numbers.
func infinite(text string) bool {
	if strings.ContainsAny(text, "xXpP_") {
		return false // hexadecimal is no number here, however large
	}
	v, _ := strconv.ParseFloat(text, 64) // out of range is an infinity and an error
	return math.IsInf(v, 0)
}

// settle takes a column out of those of numbers that has infinite cells and not one number.
func (c *TableColumn) settle() {
	if c.Infinite > 0 && !slices.ContainsFunc(c.Values, func(v float64) bool { return v == v }) {
		c.Values, c.Infinite, c.Reason = nil, 0, c.unfit
	}
}
