// Package dataset brings run-to-failure data into the house and describes it: NASA's C-MAPSS files, CSV files of other
// equipment by schema, the download of the public archive with checksums, and a synthetic fleet for machines that are
// offline. Whatever it splits, it splits by unit: rows of one unit never stand on both sides.
//
// Every reader is strict. A row that breaks a rule is refused with a [turbofan.Error] of code invalid that reads
// "file:line: field: rule"; nothing is repaired, skipped or guessed.
package dataset

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"

	"turbofan"
)

// Set is one file of histories, in the order of the file.
type Set struct {
	Name   string // of the subset, such as "FD001"
	Schema turbofan.Schema
	Units  []turbofan.History
	Digest string // SHA-256, in hexadecimal, of the source; for a test set with truth, of both files' digests
}

// Rows returns the number of readings of all units.
func (s *Set) Rows() int {
	n := 0
	for i := range s.Units {
		n += len(s.Units[i].Readings)
	}
	return n
}

// HasTruth reports whether the end of every unit is known, so that predictions for them can be scored.
func (s *Set) HasTruth() bool {
	for i := range s.Units {
		if s.Units[i].FailedAtCycle == 0 {
			return false
		}
	}
	return len(s.Units) > 0
}

// RunToFailure declares that every unit failed right after its last reading, as in a training file.
func (s *Set) RunToFailure() {
	for i := range s.Units {
		s.Units[i].FailedAtCycle = lastCycle(&s.Units[i])
	}
}

// lastCycle returns the age of the unit at its last reading, 0 when it has none.
func lastCycle(h *turbofan.History) int {
	if len(h.Readings) == 0 {
		return 0
	}
	return h.Readings[len(h.Readings)-1].Cycle
}

// maxFileSize bounds what a reader takes into memory: twenty times the largest file of C-MAPSS.
const maxFileSize = 256 << 20

// readAll returns the whole source and its digest.
func readAll(r io.Reader, file string) ([]byte, string, error) {
	var b bytes.Buffer
	if f, ok := r.(*os.File); ok {
		// Growing step by step would copy a large file several times.
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			b.Grow(int(min(info.Size(), maxFileSize)) + bytes.MinRead)
		}
	}
	if _, err := b.ReadFrom(io.LimitReader(r, maxFileSize+1)); err != nil {
		return nil, "", unavailable(err, "read %s", file)
	}
	data := b.Bytes()
	if len(data) > maxFileSize {
		return nil, "", turbofan.Errorf(turbofan.ETooLarge, "%s: file: is larger than the %d MiB allowed", file, maxFileSize>>20)
	}
	return data, digest(data), nil
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// unavailable returns an EUnavailable error whose cause stays out of the message that a caller over HTTP may read.
func unavailable(cause error, format string, args ...any) error {
	return &turbofan.Error{Code: turbofan.EUnavailable, Message: fmt.Sprintf(format, args...), Err: cause}
}
