package dataset

import (
	"os"
	"path/filepath"
	"strings"

	"turbofan"
)

// Location is a directory that holds C-MAPSS files and how it was found.
type Location struct {
	Dir string `json:"dir"`
	// Source says where the directory came from: "--data", "TURBOFAN_DATA", or the place that was searched.
	Source string `json:"found_by"`
	// Verified is true when every file that must be there is there and has the published SHA-256.
	Verified bool `json:"verified"`
	// Synthetic is true when the directory says of itself that its data was generated.
	Synthetic bool `json:"synthetic"`
}

// SyntheticMarker is the name of the file that WriteCMAPSS leaves beside generated data.
const SyntheticMarker = "SYNTHETIC.txt"

// Locate finds the C-MAPSS files: in the directory explicit, else in env (the value of TURBOFAN_DATA), else in data/raw,
// else in ../shared/cmapss. A directory that was named but holds no subset is an error, never silently passed over; when
// nothing was named and nothing is found, the error is ENotFound.
func Locate(explicit, env string) (Location, error) {
	named := []struct{ dir, source string }{{explicit, "--data"}, {env, "TURBOFAN_DATA"}}
	for _, n := range named {
		if n.dir == "" {
			continue
		}
		if !holdsSubset(n.dir) {
			return Location{}, turbofan.Invalid(n.source, "%s holds no C-MAPSS subset: there is no pair of train_<subset>.txt and test_<subset>.txt in it", n.dir)
		}
		return locate(n.dir, n.source)
	}
	searched := []string{filepath.Join("data", "raw"), filepath.Join("..", "shared", "cmapss")}
	for _, dir := range searched {
		if holdsSubset(dir) {
			return locate(dir, dir)
		}
	}
	return Location{}, turbofan.Errorf(turbofan.ENotFound, "no C-MAPSS data in %s; name a directory with --data or TURBOFAN_DATA, or run `turbofan data fetch`", strings.Join(searched, " or "))
}

func locate(dir, source string) (Location, error) {
	report, err := Verify(dir)
	if err != nil {
		return Location{}, err
	}
	return Location{Dir: dir, Source: source, Verified: report.OK(), Synthetic: report.Synthetic}, nil
}

// holdsSubset reports whether dir has a training file with its test file.
func holdsSubset(dir string) bool {
	trains, err := filepath.Glob(filepath.Join(escapeGlob(dir), "train_*.txt"))
	if err != nil {
		return false
	}
	for _, train := range trains {
		test := "test_" + strings.TrimPrefix(filepath.Base(train), "train_")
		if info, err := os.Stat(filepath.Join(dir, test)); err == nil && info.Mode().IsRegular() {
			return true
		}
	}
	return false
}

// escapeGlob lets a directory have brackets, stars and question marks in its name.
func escapeGlob(dir string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(dir)
}
