// Package dataset brings run-to-failure data into the house and describes it: NASA's C-MAPSS files, CSV files of other
// equipment by schema, the download of the public archive with checksums, and a synthetic fleet for machines that are
// offline. Whatever it splits, it splits by unit: rows of one unit never stand on both sides.
//
// Every reader is strict. A row that breaks a rule is refused with a [turbofan.Error] of code invalid that reads
// "file:line: field: rule"; nothing is repaired, skipped or guessed.
package dataset

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"

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

// maxFileSize bounds what a reader takes: files of 25 million readings of C-MAPSS, which are 6.5 GB in memory.
const maxFileSize = 4 << 30

// source reads a file once, without holding it: it counts and hashes what passes. Its errors are ready for the caller.
type source struct {
	r    io.Reader
	file string
	sum  hash.Hash
	n    int64
}

func newSource(r io.Reader, file string) *source {
	return &source{r: r, file: file, sum: sha256.New()}
}

// Read implements io.Reader. What the reader behind says with a code of its own, as one that unpacks does, stays as it is.
func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.sum.Write(p[:n])
	if s.n += int64(n); s.n > maxFileSize {
		return 0, turbofan.Errorf(turbofan.ETooLarge, "%s: file: is larger than the %d GiB allowed", s.file, int64(maxFileSize)>>30)
	}
	if _, told := errors.AsType[*turbofan.Error](err); err != nil && !told && !errors.Is(err, io.EOF) {
		err = unavailable(err, "read %s", s.file)
	}
	return n, err
}

// digest is that of the whole file, once it was read to its end.
func (s *source) digest() string { return hex.EncodeToString(s.sum.Sum(nil)) }

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// unavailable returns an EUnavailable error whose cause stays out of the message that a caller over HTTP may read.
func unavailable(cause error, format string, args ...any) error {
	return &turbofan.Error{Code: turbofan.EUnavailable, Message: fmt.Sprintf(format, args...), Err: cause}
}
