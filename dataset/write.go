package dataset

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"turbofan"
)

// Pair is the training and the test set of one subset.
type Pair struct{ Train, Test *Set }

// WriteCMAPSS writes pairs in the format of C-MAPSS into dir, which must be absent or empty: train_, test_ and RUL_ files,
// and the file SyntheticMarker that says that the data was made up. The directory appears whole or not at all.
func WriteCMAPSS(dir string, pairs ...Pair) error {
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return turbofan.Errorf(turbofan.EConflict, "%s is not empty; name a new directory or move it away", dir)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return unavailable(err, "read directory %s", dir)
	}
	dir = filepath.Clean(dir)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return unavailable(err, "create %s", filepath.Dir(dir))
	}
	work, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+".new-")
	if err != nil {
		return unavailable(err, "create a directory beside %s", dir)
	}
	defer os.RemoveAll(work)
	files := map[string][]byte{SyntheticMarker: []byte("This data was made up by `turbofan data synth`. It says nothing about any real engine.\n")}
	for _, p := range pairs {
		if err := checkPair(p); err != nil {
			return err
		}
		files["train_"+p.Train.Name+".txt"] = formatCMAPSS(p.Train)
		files["test_"+p.Test.Name+".txt"] = formatCMAPSS(p.Test)
		if p.Test.HasTruth() {
			files["RUL_"+p.Test.Name+".txt"] = formatRUL(truthOf(p.Test))
		}
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(work, name), data, 0o644); err != nil {
			return unavailable(err, "write %s", name)
		}
	}
	if err := os.Chmod(work, 0o755); err != nil {
		return unavailable(err, "write %s", dir)
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return unavailable(err, "replace empty directory %s", dir)
	}
	if err := os.Rename(work, dir); err != nil {
		return unavailable(err, "move the files to %s", dir)
	}
	return nil
}

// checkPair refuses what the format of C-MAPSS cannot hold.
func checkPair(p Pair) error {
	for _, s := range []*Set{p.Train, p.Test} {
		if err := checkSubset(s.Name); err != nil {
			return err
		}
		if len(s.Schema.Settings) != cmapssSettings || len(s.Schema.Sensors) != cmapssSensors {
			return turbofan.Invalid("schema", "%s has %d settings and %d sensors; the format of C-MAPSS has %d and %d",
				s.Schema.Name, len(s.Schema.Settings), len(s.Schema.Sensors), cmapssSettings, cmapssSensors)
		}
	}
	return nil
}

func formatCMAPSS(s *Set) []byte {
	out := make([]byte, 0, s.Rows()*180)
	for i := range s.Units {
		for _, r := range s.Units[i].Readings {
			out = append(out, r.UnitID...)
			out = append(out, ' ')
			out = strconv.AppendInt(out, int64(r.Cycle), 10)
			for _, v := range r.Settings {
				out = strconv.AppendFloat(append(out, ' '), v, 'f', -1, 64)
			}
			for _, v := range r.Sensors {
				out = strconv.AppendFloat(append(out, ' '), v, 'f', -1, 64)
			}
			out = append(out, '\n')
		}
	}
	return out
}

func formatRUL(truth []float64) []byte {
	var out []byte
	for _, v := range truth {
		out = append(strconv.AppendFloat(out, v, 'f', -1, 64), '\n')
	}
	return out
}

// truthOf returns the remaining life of each unit at its last reading.
func truthOf(s *Set) []float64 {
	out := make([]float64, len(s.Units))
	for i := range s.Units {
		out[i] = float64(s.Units[i].FailedAtCycle - lastCycle(&s.Units[i]))
	}
	return out
}

// WriteCSV writes the set with a header: unit, cycle, settings and sensors by the schema's names and, where the end of
// any unit is known, failed_at_cycle. A missing value is an empty cell. ReadCSV reads it back.
func WriteCSV(w io.Writer, s *Set) error {
	c := csv.NewWriter(w)
	unitColumn, cycleColumn := keyColumns(s.Schema)
	header := append([]string{unitColumn, cycleColumn}, append(s.Schema.SettingNames(), s.Schema.SensorNames()...)...)
	known := false
	for i := range s.Units {
		known = known || s.Units[i].FailedAtCycle > 0
	}
	if known {
		header = append(header, failedColumn)
	}
	if err := c.Write(header); err != nil {
		return fmt.Errorf("write CSV: %w", err)
	}
	row := make([]string, 0, len(header))
	for i := range s.Units {
		u := &s.Units[i]
		for _, r := range u.Readings {
			row = append(row[:0], r.UnitID, strconv.Itoa(r.Cycle))
			for _, values := range [][]float64{r.Settings, r.Sensors} {
				for _, v := range values {
					row = append(row, cell(v))
				}
			}
			if known && u.FailedAtCycle > 0 {
				row = append(row, strconv.Itoa(u.FailedAtCycle))
			} else if known {
				row = append(row, "")
			}
			if err := c.Write(row); err != nil {
				return fmt.Errorf("write CSV: %w", err)
			}
		}
	}
	c.Flush()
	if err := c.Error(); err != nil {
		return fmt.Errorf("write CSV: %w", err)
	}
	return nil
}

// cell writes a value so that reading it gives the same bits; a missing one is empty.
func cell(v float64) string {
	if math.IsNaN(v) {
		return ""
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

// WriteProcessed writes feature rows as a CSV file into dir, which it creates: the columns that say which unit and cycle
// a row belongs to, then the features, then the label where labels is not nil. NaN is an empty cell. The file appears
// whole or not at all. Name is the file's, such as "train_FD001.csv"; units, cycles, labels and rows are parallel.
func WriteProcessed(dir, name string, header []string, units []string, cycles []int, rows [][]float64, labels []float64) error {
	if filepath.Base(name) != name || name == "." || name == "" {
		return turbofan.Invalid("name", "%q must be the name of a file without a directory", name)
	}
	if len(units) != len(rows) || len(cycles) != len(rows) || labels != nil && len(labels) != len(rows) {
		return turbofan.Invalid("rows", "%d rows, %d units, %d cycles and %d labels do not fit together", len(rows), len(units), len(cycles), len(labels))
	}
	for i, row := range rows {
		if len(row) != len(header) {
			return turbofan.Invalid(fmt.Sprintf("rows[%d]", i), "has %d values, the header has %d", len(row), len(header))
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return unavailable(err, "create %s", dir)
	}
	return writeAtomic(filepath.Join(dir, name), func(w io.Writer) error {
		c := csv.NewWriter(w)
		head := append([]string{"unit_id", "cycle"}, header...)
		if labels != nil {
			head = append(head, "rul")
		}
		if err := c.Write(head); err != nil {
			return err
		}
		line := make([]string, 0, len(head))
		for i, row := range rows {
			line = append(line[:0], units[i], strconv.Itoa(cycles[i]))
			for _, v := range row {
				line = append(line, cell(v))
			}
			if labels != nil {
				line = append(line, cell(labels[i]))
			}
			if err := c.Write(line); err != nil {
				return err
			}
		}
		c.Flush()
		return c.Error()
	})
}

// writeAtomic writes a file beside its place and renames it there once it is whole.
func writeAtomic(path string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return unavailable(err, "create a file beside %s", path)
	}
	defer os.Remove(f.Name())
	if err = write(f); err == nil {
		err = f.Chmod(0o644)
	}
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return unavailable(err, "write %s", path)
	}
	return nil
}
