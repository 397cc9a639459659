package dataset

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"turbofan"
)

// Subsets returns the names of the four C-MAPSS subsets in order.
func Subsets() []string { return []string{"FD001", "FD002", "FD003", "FD004"} }

// LoadCMAPSS reads train_<subset>.txt, test_<subset>.txt and, where it exists, RUL_<subset>.txt from dir. Training units
// fail at their last cycle; test units fail at their last cycle plus the truth, or at an unknown cycle where there is no
// truth file, which is no error: test.HasTruth is then false.
func LoadCMAPSS(dir, subset string) (train, test *Set, err error) {
	if err := checkSubset(subset); err != nil {
		return nil, nil, err
	}
	if train, err = loadFile(dir, "train_"+subset+".txt", subset); err != nil {
		return nil, nil, err
	}
	train.RunToFailure()
	if test, err = loadFile(dir, "test_"+subset+".txt", subset); err != nil {
		return nil, nil, err
	}
	name := "RUL_" + subset + ".txt"
	data, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return train, test, nil
	}
	if err != nil {
		return nil, nil, unavailable(err, "read %s", name)
	}
	truth, err := ReadRUL(bytes.NewReader(data), name)
	if err != nil {
		return nil, nil, err
	}
	if err := test.ApplyTruth(truth, name); err != nil {
		return nil, nil, err
	}
	test.Digest = truthDigest(test.Digest, digest(data))
	return train, test, nil
}

// truthDigest combines the digests of a test file and its truth file.
func truthDigest(test, truth string) string { return digest([]byte(test + "\n" + truth + "\n")) }

// checkSubset keeps a subset name from leaving the directory or naming nothing.
func checkSubset(subset string) error {
	if subset == "" || len(subset) > 64 {
		return turbofan.Invalid("subset", "must have 1 to 64 characters, such as FD001")
	}
	for _, c := range subset {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '_' && c != '-' {
			return turbofan.Invalid("subset", "%q may hold letters, digits, - and _ only, such as FD001", subset)
		}
	}
	return nil
}

func loadFile(dir, file, name string) (*Set, error) {
	f, err := os.Open(filepath.Join(dir, file))
	if errors.Is(err, fs.ErrNotExist) && !slices.Contains(Subsets(), name) {
		return nil, turbofan.Errorf(turbofan.ENotFound, "%s is not in %s; the subsets of C-MAPSS are %s", file, dir, strings.Join(Subsets(), ", "))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, turbofan.Errorf(turbofan.ENotFound, "%s is not in %s; `turbofan data fetch` downloads it, `turbofan data synth` makes a stand-in", file, dir)
	}
	if err != nil {
		return nil, unavailable(err, "open %s", file)
	}
	defer f.Close()
	return ReadCMAPSS(f, file, name)
}

// ApplyTruth sets the end of each unit from the truth of its last reading: rul holds one value a unit, in the units'
// order. It refuses a truth of the wrong length; file is named in the error.
func (s *Set) ApplyTruth(rul []float64, file string) error {
	if len(rul) != len(s.Units) {
		return turbofan.Invalid(file, "has %d values, but the test file has %d units; it must have one value a unit", len(rul), len(s.Units))
	}
	for i := range s.Units {
		s.Units[i].FailedAtCycle = lastCycle(&s.Units[i]) + int(rul[i])
	}
	return nil
}

// ReadCMAPSS reads one training or test file: 26 columns separated by blanks, no header. The units' ends are left
// unknown; see Set.RunToFailure and Set.ApplyTruth. The readings of a unit share two backing arrays. File is the name
// that errors carry, name becomes the set's.
func ReadCMAPSS(r io.Reader, file, name string) (*Set, error) {
	src := newSource(r, file)
	p := cmapssParser{file: file, schema: turbofan.CMAPSS(), seen: map[int]int{}}
	if err := eachLine(src, file, p.row); err != nil {
		return nil, err
	}
	if p.unit == 0 {
		return nil, turbofan.Invalid(file, "is empty; it must hold at least one row")
	}
	p.closeUnit()
	return &Set{Name: name, Schema: p.schema, Units: p.units, Digest: src.digest()}, nil
}

// ReadRUL reads a truth file: one whole number of cycles a line, for the test units in order. A line that is none is EInvalid
// and named by file and line.
func ReadRUL(r io.Reader, file string) ([]float64, error) {
	var out []float64
	err := eachLine(newSource(r, file), file, func(line []byte, number int) error {
		var columns [2][]byte
		if n := split(line, columns[:]); n != 1 {
			return at(file, number, "row", "has %d columns; a truth file must have 1", n)
		}
		v, ok := whole(columns[0], turbofan.MaxCycle)
		if !ok {
			return at(file, number, "rul", "%q must be a whole number of cycles from 0 to %d", clip(columns[0]), turbofan.MaxCycle)
		}
		out = append(out, float64(v))
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(out) == 0 {
		return nil, turbofan.Invalid(file, "is empty; it must hold one value a test unit")
	}
	return out, nil
}

// cmapssParser gathers the rows of one unit and closes it when the next begins.
type cmapssParser struct {
	file   string
	schema turbofan.Schema
	units  []turbofan.History
	seen   map[int]int // unit number -> line where it began
	unit   int         // number of the unit being gathered, 0 before the first
	cycle  int         // its last cycle
	values []float64   // its settings and sensors, row after row; reused from unit to unit
}

// The layout of a C-MAPSS row.
const (
	cmapssKeys     = 2
	cmapssSettings = 3
	cmapssSensors  = 21
	cmapssValues   = cmapssSettings + cmapssSensors
	cmapssColumns  = cmapssKeys + cmapssValues
)

func (p *cmapssParser) row(line []byte, number int) error {
	var columns [cmapssColumns + 1][]byte
	if n := split(line, columns[:]); n != cmapssColumns {
		if n > cmapssColumns {
			return at(p.file, number, "row", "has more than %d columns; it must have unit, cycle, 3 settings and 21 sensors", cmapssColumns)
		}
		return at(p.file, number, "row", "has %d columns; it must have %d: unit, cycle, 3 settings and 21 sensors", n, cmapssColumns)
	}
	unit, ok := whole(columns[0], math.MaxInt32)
	if !ok || unit == 0 {
		return at(p.file, number, "unit_id", "%q must be a whole number of at least 1", clip(columns[0]))
	}
	cycle, ok := whole(columns[1], turbofan.MaxCycle)
	if !ok || cycle == 0 {
		return at(p.file, number, "cycle", "%q must be a whole number from 1 to %d", clip(columns[1]), turbofan.MaxCycle)
	}
	if unit != p.unit {
		if began, back := p.seen[unit]; back {
			return at(p.file, number, "unit_id", "unit %d comes back; its rows from line %d on must stand together: sort the file by unit and cycle", unit, began)
		}
		p.closeUnit()
		p.seen[unit] = number
		p.unit, p.cycle = unit, 0
	}
	if err := nextCycle(p.cycle, cycle); err != "" {
		return at(p.file, number, "cycle", "%s", err)
	}
	p.cycle = cycle
	for i, c := range columns[cmapssKeys:cmapssColumns] {
		v, ok := number64(c)
		if !ok {
			return at(p.file, number, p.channel(i), "%q must be a finite number", clip(c))
		}
		p.values = append(p.values, v)
	}
	return nil
}

// nextCycle says which rule a unit's next cycle breaks, or nothing; last is 0 before its first.
func nextCycle(last, cycle int) string {
	switch {
	case cycle == last+1:
		return ""
	case last == 0:
		return "the first cycle is " + strconv.Itoa(cycle) + "; a unit must start at cycle 1"
	case cycle == last:
		return "cycle " + strconv.Itoa(cycle) + " stands twice; cycles must rise by 1"
	case cycle < last:
		return strconv.Itoa(cycle) + " follows " + strconv.Itoa(last) + ": out of order; cycles must rise by 1"
	default:
		return strconv.Itoa(cycle) + " follows " + strconv.Itoa(last) + ": a gap; cycles must rise by 1"
	}
}

func (p *cmapssParser) channel(i int) string {
	if i < cmapssSettings {
		return p.schema.Settings[i].Name
	}
	return p.schema.Sensors[i-cmapssSettings].Name
}

// closeUnit copies what was gathered into arrays of the exact size. Capacities are cut, so that an append to one
// reading's slice cannot write into the next reading.
func (p *cmapssParser) closeUnit() {
	if p.unit == 0 {
		return
	}
	id := strconv.Itoa(p.unit)
	rows := len(p.values) / cmapssValues
	values := append(make([]float64, 0, len(p.values)), p.values...)
	readings := make([]turbofan.Reading, rows)
	for i := range readings {
		v := values[i*cmapssValues : (i+1)*cmapssValues : (i+1)*cmapssValues]
		readings[i] = turbofan.Reading{
			UnitID: id, Cycle: i + 1,
			Settings: v[:cmapssSettings:cmapssSettings], Sensors: v[cmapssSettings:],
		}
	}
	p.units = append(p.units, turbofan.History{UnitID: id, Readings: readings})
	p.values = p.values[:0]
}
