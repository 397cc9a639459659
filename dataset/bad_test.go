package dataset_test

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"turbofan"
	"turbofan/dataset"
)

// boundedPump is the schema of the bad CSV files.
func boundedPump() turbofan.Schema {
	s := pump()
	low, high := -40.0, 150.0
	s.Sensors[1].Min, s.Sensors[1].Max = &low, &high
	return s
}

// read gives a file to the reader that its name calls for.
func read(name string, data []byte) error {
	var err error
	switch {
	case strings.HasPrefix(name, "rul-"):
		_, err = dataset.ReadRUL(bytes.NewReader(data), name)
	case strings.HasSuffix(name, ".csv"):
		_, err = dataset.ReadCSV(bytes.NewReader(data), name, boundedPump())
	case strings.HasSuffix(name, ".yaml"):
		_, err = dataset.ReadSchema(data, name)
	default:
		_, err = dataset.ReadCMAPSS(bytes.NewReader(data), name, "X")
	}
	return err
}

// Each file in testdata/bad breaks one rule; messages.txt holds the message that it must get, word for word.
func TestBadFiles(t *testing.T) {
	f, err := os.Open(filepath.Join("testdata", "messages.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := map[string]string{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, _, _ := strings.Cut(lines.Text(), ":")
		want[name] = lines.Text()
	}
	files, err := filepath.Glob(filepath.Join("testdata", "bad", "*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(want) || len(files) < 25 {
		t.Errorf("%d files and %d messages", len(files), len(want))
	}
	for _, path := range files {
		name := filepath.Base(path)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		err = read(name, data)
		if err == nil {
			t.Errorf("%s was taken", name)
			continue
		}
		if err.Error() != want[name] || turbofan.ErrorMessage(err) != want[name] || turbofan.ErrorCode(err) != turbofan.EInvalid {
			t.Errorf("got  %s (%s)\nwant %s", err, turbofan.ErrorCode(err), want[name])
		}
	}
}
