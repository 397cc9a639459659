package dataset

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"turbofan"
)

// FileStatus is what Verify found of one known file.
type FileStatus string

// The states of a known file.
const (
	FileOK      FileStatus = "ok"
	FileMissing FileStatus = "missing"
	FileDiffers FileStatus = "differs"
)

// FileReport is one line of a Report.
type FileReport struct {
	Name   string     `json:"name"`
	Status FileStatus `json:"status"`
	// Optional is true for a file that readers can do without: the truth of a test set, and the read-me.
	Optional bool   `json:"optional"`
	Size     int64  `json:"size_bytes,omitempty"`
	SHA256   string `json:"sha256,omitempty"` // as found
	Want     string `json:"want_sha256"`      // as published
}

// Report compares a directory with the published files.
type Report struct {
	Dir   string       `json:"dir"`
	Files []FileReport `json:"files"`
	// Synthetic is true when the directory says that its data was generated; it then differs by nature.
	Synthetic bool `json:"synthetic"`
}

// OK reports whether all files that must be there are there and nothing differs.
func (r Report) OK() bool {
	for _, f := range r.Files {
		if f.Status == FileDiffers || f.Status == FileMissing && !f.Optional {
			return false
		}
	}
	return len(r.Files) > 0
}

// Names returns the names of the files in that state, in order.
func (r Report) Names(status FileStatus) []string {
	var out []string
	for _, f := range r.Files {
		if f.Status == status {
			out = append(out, f.Name)
		}
	}
	return out
}

// String says in one sentence how the directory compares.
func (r Report) String() string {
	ok, missing, differs := r.Names(FileOK), r.Names(FileMissing), r.Names(FileDiffers)
	s := fmt.Sprintf("%d of %d files match the published SHA-256", len(ok), len(r.Files))
	if len(missing) > 0 {
		s += "; missing: " + strings.Join(missing, ", ")
	}
	if len(differs) > 0 {
		s += "; different: " + strings.Join(differs, ", ")
	}
	return s
}

// knownFile is one file of the public archive.
type knownFile struct {
	name, sha256 string
	optional     bool
}

// knownFiles returns the SHA-256 of the files as NASA published them.
func knownFiles() []knownFile {
	return []knownFile{
		{"train_FD001.txt", "963b5e22825b34d8b21c69e1aeb4af3e647050eb672ee8834ba4b5d91d2de0f8", false},
		{"train_FD002.txt", "dac6c4dbc4e7c1bdeb5747da3d313d05c395bb99801b44a002b26a2ba13d788f", false},
		{"train_FD003.txt", "2abbe9968cc5e8eb091980f51b20f62bb4127336d3482cb52071d53bf23329e2", false},
		{"train_FD004.txt", "27ef6160b6a1dcb2613a88de9c239f763b223f02cdc41dc5cdedc5dc189b6218", false},
		{"test_FD001.txt", "3cda7109ce17bafb5443f2ac926cfcf88154b941b8c4cf95eb55d1ddd6f52851", false},
		{"test_FD002.txt", "de7b5bf7e998a985c378488480528b7c02cff1406a46740def362dda8d9b4e02", false},
		{"test_FD003.txt", "299babd63c8d987cef079c4a425429f33b3a34797d803bbe2ad48c29dbd0d790", false},
		{"test_FD004.txt", "1dc675fff0624bac10786927c6715b37d1297657137400d2b1a3138d777a3ba5", false},
		{"RUL_FD001.txt", "a19c8ec94931949d0485bdc35118206e9c81c4547b422efb9cf86f4ceddbceca", true},
		{"RUL_FD002.txt", "c851dd96a6ea6998d3c4a8f834d3c8013aa90e93a6ed950dc826ad0655b2906b", true},
		{"RUL_FD003.txt", "df1e0566306b174a2de41c67a3e7a51877889598b78643fc3e5685259091b7cb", true},
		{"RUL_FD004.txt", "196b836b85a95ac7fdbbf29c5fdf1657382eafa445644d114ffaaf50dc2975e1", true},
		{"readme.txt", "4f5270554b775c67e73aff383c5436fd329d6e4cc3d3a116913276fae511269b", true},
	}
}

// Verify compares the files in dir with the SHA-256 of NASA's. Missing and different files are findings, not errors;
// an error means that the directory cannot be read.
func Verify(dir string) (Report, error) {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return Report{}, turbofan.Errorf(turbofan.ENotFound, "the directory %s does not exist", dir)
	}
	if err != nil {
		return Report{}, unavailable(err, "verify %s", dir)
	}
	if !info.IsDir() {
		return Report{}, turbofan.Invalid(dir, "is a file; it must be a directory")
	}
	report := Report{Dir: dir}
	if _, err := os.Stat(filepath.Join(dir, SyntheticMarker)); err == nil {
		report.Synthetic = true
	}
	for _, k := range knownFiles() {
		f := FileReport{Name: k.name, Optional: k.optional, Want: k.sha256, Status: FileMissing}
		sum, size, err := hashFile(filepath.Join(dir, k.name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return Report{}, unavailable(err, "verify %s", k.name)
		default:
			f.SHA256, f.Size, f.Status = sum, size, FileDiffers
			if sum == k.sha256 {
				f.Status = FileOK
			}
		}
		report.Files = append(report.Files, f)
	}
	return report, nil
}

func hashFile(path string) (sum string, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	if size, err = io.Copy(h, f); err != nil {
		return "", 0, err
	}
	return hex.EncodeToString(h.Sum(nil)), size, nil
}
