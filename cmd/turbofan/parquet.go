package main

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"

	"turbofan"
	"turbofan/dataset"
	"turbofan/httpapi/parquet"
)

const (
	// parquetMagic begins every Parquet file.
	parquetMagic = "PAR1"
	// maxParquet bounds a file and, apart from it, what it holds once decompressed.
	maxParquet     = 2 << 30
	maxParquetRows = 50_000_000
)

// readParquet reads histories from a Parquet file by the column names and the rules of a CSV file of the same table.
func readParquet(r io.Reader, path string, schema turbofan.Schema) (*dataset.Set, error) {
	text, err := parquetCSV(r, path)
	if err != nil {
		return nil, err
	}
	return dataset.ReadCSV(text, path, schema)
}

// parquetCSV returns the table of a Parquet file as CSV.
func parquetCSV(r io.Reader, path string) (io.Reader, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxParquet+1))
	if _, told := errors.AsType[*turbofan.Error](err); told {
		return nil, err
	}
	if err != nil {
		return nil, turbofan.Invalid(path, "cannot be read: %s", pathReason(err))
	}
	if len(b) > maxParquet {
		return nil, turbofan.Invalid(path, "is larger than the 2 GiB that are read of a file")
	}
	columns, rows, err := parquet.Read(b, func(string) bool { return true }, parquet.Limits{Rows: maxParquetRows, Bytes: maxParquet})
	if err != nil {
		return nil, turbofan.Invalid(path, "%s", strings.TrimPrefix(turbofan.ErrorMessage(err), "body: "))
	}
	var text bytes.Buffer
	w := csv.NewWriter(&text)
	record := make([]string, len(columns))
	for i := range columns {
		record[i] = columns[i].Name
	}
	if err := w.Write(record); err != nil {
		return nil, err
	}
	for row := range rows {
		for i := range columns {
			record[i] = cell(&columns[i], row)
		}
		if err := w.Write(record); err != nil {
			return nil, err
		}
	}
	if w.Flush(); w.Error() != nil {
		return nil, w.Error()
	}
	return &text, nil
}

// cell is a value as text; nothing where it is missing.
func cell(c *parquet.Column, row int) string {
	switch {
	case c.Missing != nil && c.Missing[row] || c.Floats != nil && math.IsNaN(c.Floats[row]):
		return ""
	case c.Floats != nil:
		return strconv.FormatFloat(c.Floats[row], 'g', -1, 64)
	case c.Ints != nil:
		return strconv.FormatInt(c.Ints[row], 10)
	}
	return c.Texts[row]
}
