package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"

	"turbofan"
	"turbofan/dataset"
)

// openTable opens a file of readings, or standard input, and unpacks gzip.
func openTable(stdin io.Reader, path string) (*bufio.Reader, io.Closer, error) {
	in := io.NopCloser(stdin)
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, nil, turbofan.Invalid("FILE", "cannot open %s: %s", path, pathReason(err))
		}
		if info, err := f.Stat(); err == nil && info.IsDir() {
			return nil, nil, errors.Join(turbofan.Invalid(path, "is a directory, not a file of readings"), f.Close())
		}
		in = f
	}
	br := bufio.NewReader(in)
	head, _ := br.Peek(4) // an error shows again when the reader is read
	for _, x := range []struct{ magic, what string }{
		{"\xff\xfe", "is UTF-16: save it as UTF-8"}, {"\xfe\xff", "is UTF-16: save it as UTF-8"},
		{"PK\x03\x04", "is a zip archive or a spreadsheet: unpack it, or save it as CSV"},
	} {
		if bytes.HasPrefix(head, []byte(x.magic)) {
			return nil, nil, errors.Join(turbofan.Invalid(path, "%s", x.what), in.Close())
		}
	}
	if bytes.HasPrefix(head, []byte("\x1f\x8b")) {
		z, err := gzip.NewReader(br)
		if err != nil {
			return nil, nil, errors.Join(badGzip(path, err), in.Close())
		}
		br = bufio.NewReader(&unpacked{z, path})
	}
	return br, in, nil
}

// unpacked reads what gzip packed. That it cannot be unpacked is the file's fault, not that of the reading.
type unpacked struct {
	z    *gzip.Reader
	path string
}

// Read implements io.Reader.
func (u *unpacked) Read(p []byte) (int, error) {
	n, err := u.z.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = badGzip(u.path, err)
	}
	return n, err
}

func badGzip(path string, err error) error {
	if _, ok := errors.AsType[*os.PathError](err); ok {
		return err
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return turbofan.Invalid(path, "is gzip that was cut short: copy it again")
	}
	return turbofan.Invalid(path, "is gzip that cannot be unpacked: %s", strings.TrimPrefix(err.Error(), "gzip: "))
}

// readFleet reads C-MAPSS text, CSV or Parquet; a file whose first line starts with a number is C-MAPSS text.
func readFleet(stdin io.Reader, path string, schema turbofan.Schema) ([]turbofan.History, error) {
	br, in, err := openTable(stdin, path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	if head, _ := br.Peek(len(parquetMagic)); string(head) == parquetMagic {
		s, err := readParquet(br, path, schema)
		if err != nil {
			return nil, err
		}
		return s.Units, nil
	}
	if isCMAPSSText(br) {
		if engines := turbofan.CMAPSS(); len(schema.Settings) != len(engines.Settings) || len(schema.Sensors) != len(engines.Sensors) {
			return nil, turbofan.Invalid(path, "is C-MAPSS text, and the model was trained on %s, with %d settings and %d sensors: give it a CSV file with a header", schema.Name, len(schema.Settings), len(schema.Sensors))
		}
		s, err := dataset.ReadCMAPSS(br, path, path)
		if err != nil {
			return nil, err
		}
		return s.Units, nil
	}
	s, err := dataset.ReadCSV(br, path, schema)
	if err != nil {
		return nil, err
	}
	return s.Units, nil
}

// isCMAPSSText reports whether the first line starts with a number and has no commas.
func isCMAPSSText(br *bufio.Reader) bool {
	head, _ := br.Peek(256) // an error shows again when the reader is read
	line, _, _ := strings.Cut(strings.TrimLeft(string(head), " \t\r\n"), "\n")
	first := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' })
	if len(first) == 0 || strings.Contains(line, ",") {
		return false
	}
	_, err := strconv.ParseFloat(first[0], 64)
	return err == nil
}
