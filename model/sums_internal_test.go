package model

import (
	"path/filepath"
	"strings"
	"testing"
)

// What is taken as SHA256SUMS is what would be written of it, so that no edit of it is overlooked.
func FuzzParseSums(f *testing.F) {
	sum := strings.Repeat("0a", 32)
	f.Add([]byte(sum + "  MLmodel\n" + sum + "  model.json\n"))
	f.Add([]byte(strings.ToUpper(sum) + "  model.json\n"))
	f.Add([]byte(sum + "  model.json"))
	f.Add([]byte(sum + "  a/b\n"))
	f.Add([]byte("\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		sums, err := parseSums(b)
		if err != nil {
			return
		}
		if string(encodeSums(sums)) != string(b) {
			t.Errorf("%q is taken and reads %v", b, sums)
		}
		for name := range sums {
			if filepath.Base(name) != name {
				t.Errorf("%q is no file of the directory", name)
			}
		}
	})
}
