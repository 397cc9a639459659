package dataset_test

import (
	"os"
	"path/filepath"
	"testing"

	"turbofan"
	"turbofan/dataset"
)

// cmapssDir returns the directory of the real data set, and skips the test where there is none.
func cmapssDir(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("TURBOFAN_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "cmapss")
	}
	if _, err := os.Stat(filepath.Join(dir, "train_FD001.txt")); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no C-MAPSS data in %s: %v", dir, err)
		}
		t.Skipf("no C-MAPSS data in %s; set TURBOFAN_DATA", dir)
	}
	return dir
}

func TestLoadCMAPSSKnowsTheFacts(t *testing.T) {
	dir := cmapssDir(t)
	facts := []struct {
		subset                                     string
		trainRows, trainUnits, testRows, testUnits int
		shortestTest                               int
	}{
		{"FD001", 20631, 100, 13096, 100, 31},
		{"FD002", 53759, 260, 33991, 259, 21},
		{"FD003", 24720, 100, 16596, 100, 38},
		{"FD004", 61249, 249, 41214, 248, 19},
	}
	for _, f := range facts {
		t.Run(f.subset, func(t *testing.T) {
			train, test, err := dataset.LoadCMAPSS(dir, f.subset)
			if err != nil {
				t.Fatal(err)
			}
			if train.Rows() != f.trainRows || len(train.Units) != f.trainUnits {
				t.Errorf("train has %d rows of %d units, want %d of %d", train.Rows(), len(train.Units), f.trainRows, f.trainUnits)
			}
			if test.Rows() != f.testRows || len(test.Units) != f.testUnits {
				t.Errorf("test has %d rows of %d units, want %d of %d", test.Rows(), len(test.Units), f.testRows, f.testUnits)
			}
			shortest := 1 << 30
			for _, u := range test.Units {
				shortest = min(shortest, len(u.Readings))
			}
			if shortest != f.shortestTest {
				t.Errorf("shortest test unit has %d cycles, want %d", shortest, f.shortestTest)
			}
			if !train.HasTruth() {
				t.Error("a training set knows the end of its units")
			}
			_, err = os.Stat(filepath.Join(dir, "RUL_"+f.subset+".txt"))
			if test.HasTruth() != (err == nil) {
				t.Errorf("test.HasTruth() = %v with truth file error %v", test.HasTruth(), err)
			}
			if train.Name != f.subset || train.Schema.Name != "cmapss" || len(train.Digest) != 64 || train.Digest == test.Digest {
				t.Errorf("train is %q of schema %q, digest %q", train.Name, train.Schema.Name, train.Digest)
			}
			checkReadings(t, train)
			checkReadings(t, test)
		})
	}
}

func checkReadings(t *testing.T, s *dataset.Set) {
	t.Helper()
	for _, u := range s.Units {
		for i := range u.Readings {
			r := &u.Readings[i]
			if r.UnitID != u.UnitID || r.Cycle != i+1 {
				t.Fatalf("unit %s reading %d says unit %s cycle %d", u.UnitID, i, r.UnitID, r.Cycle)
			}
			if err := r.Validate(&s.Schema, "reading"); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestLoadCMAPSSValues(t *testing.T) {
	train, test, err := dataset.LoadCMAPSS(cmapssDir(t), "FD001")
	if err != nil {
		t.Fatal(err)
	}
	first := train.Units[0].Readings[0]
	if first.UnitID != "1" || first.Settings[0] != -0.0007 || first.Settings[2] != 100 || first.Sensors[0] != 518.67 || first.Sensors[20] != 23.4190 {
		t.Errorf("first reading is %+v", first)
	}
	if rul, ok := train.Units[0].RUL(0); !ok || rul != 191 {
		t.Errorf("RUL of the first training reading is %v, %v; want 191", rul, ok)
	}
	u := test.Units[0]
	if rul, ok := u.RUL(len(u.Readings) - 1); !ok || rul != 112 {
		t.Errorf("RUL of the first test unit is %v, %v; want 112", rul, ok)
	}
}

// write puts files into a new directory and returns it.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const sensors = " 0.1 0.2 100.0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21"

func TestLoadCMAPSSWithoutTruth(t *testing.T) {
	rows := "7 1" + sensors + "  \r\n7 2" + sensors + "\r\n9 1" + sensors + "\n\n"
	dir := write(t, map[string]string{"train_X.txt": rows, "test_X.txt": rows})
	train, test, err := dataset.LoadCMAPSS(dir, "X")
	if err != nil {
		t.Fatal(err)
	}
	if test.HasTruth() || test.Units[0].FailedAtCycle != 0 {
		t.Error("a test set without a truth file must not know its units' ends")
	}
	if got := train.Units[0].FailedAtCycle; got != 2 || train.Units[1].UnitID != "9" {
		t.Errorf("unit 7 failed at %d, second unit is %s", got, train.Units[1].UnitID)
	}
	before := train.Digest
	os.WriteFile(filepath.Join(dir, "RUL_X.txt"), []byte("5 \n0 \n"), 0o644)
	_, test, err = dataset.LoadCMAPSS(dir, "X")
	if err != nil {
		t.Fatal(err)
	}
	if !test.HasTruth() || test.Units[0].FailedAtCycle != 7 || test.Units[1].FailedAtCycle != 1 {
		t.Errorf("with truth 5 and 0 the units fail at %d and %d", test.Units[0].FailedAtCycle, test.Units[1].FailedAtCycle)
	}
	if test.Digest == before {
		t.Error("the truth does not change the digest")
	}
}

func TestReadingsDoNotShareCapacity(t *testing.T) {
	dir := write(t, map[string]string{"train_X.txt": "1 1" + sensors + "\n1 2" + sensors, "test_X.txt": "1 1" + sensors})
	train, _, err := dataset.LoadCMAPSS(dir, "X")
	if err != nil {
		t.Fatal(err)
	}
	r := train.Units[0].Readings
	_ = append(r[0].Settings, -1)
	_ = append(r[0].Sensors, -1)
	if r[0].Sensors[0] != 1 || r[1].Settings[0] != 0.1 {
		t.Error("an append to one reading wrote into another")
	}
}

func TestLoadCMAPSSRefuses(t *testing.T) {
	row := "1 1" + sensors + "\n"
	tests := []struct {
		name, subset string
		files        map[string]string
		code, want   string
	}{
		{"no training file", "X", map[string]string{"test_X.txt": row}, turbofan.ENotFound, ""},
		{"no test file", "X", map[string]string{"train_X.txt": row}, turbofan.ENotFound, ""},
		{"truth too short", "X", map[string]string{"train_X.txt": row, "test_X.txt": row + "2 1" + sensors, "RUL_X.txt": "4\n"}, turbofan.EInvalid,
			"RUL_X.txt: has 1 values, but the test file has 2 units; it must have one value a unit"},
		{"subset leaves the directory", "../X", nil, turbofan.EInvalid, `subset: "../X" may hold letters, digits, - and _ only, such as FD001`},
		{"no subset", "", nil, turbofan.EInvalid, "subset: must have 1 to 64 characters, such as FD001"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := dataset.LoadCMAPSS(write(t, tt.files), tt.subset)
			if turbofan.ErrorCode(err) != tt.code || tt.want != "" && err.Error() != tt.want {
				t.Errorf("got %q of code %q\nwant %q of code %q", err, turbofan.ErrorCode(err), tt.want, tt.code)
			}
		})
	}
}

func BenchmarkReadCMAPSS(b *testing.B) {
	dir := cmapssDir(b)
	for b.Loop() {
		f, err := os.Open(filepath.Join(dir, "train_FD004.txt"))
		if err != nil {
			b.Fatal(err)
		}
		info, _ := f.Stat()
		b.SetBytes(info.Size())
		if _, err := dataset.ReadCMAPSS(f, "train_FD004.txt", "FD004"); err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
}
