//go:build bench

// Package bench_test times turbofan/tree on C-MAPSS feature matrices and saves
// the matrices for peers.py, which times scikit-learn and XGBoost on them:
//
//	TREE_BENCH_DIR=/tmp/bench go test -tags bench -run TestSave ./tree/bench
//	python tree/bench/peers.py /tmp/bench
//	TREE_BENCH_DIR=/tmp/bench go test -tags bench -run TestCompare -v ./tree/bench
//
// TREE_BENCH_JOBS (default 2) is the number of workers on both sides. With 1,
// both measure processor time instead of wall time, which stays meaningful on
// a busy machine.
package bench_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"turbofan/tree"
)

// table is a feature matrix with its target and the unit of each row.
type table struct {
	x    tree.Matrix
	y    []float64
	unit []int64
}

// split parts the rows by unit: every fifth unit, from number fold on, is held out.
func (d table) split(fold int64) (train, test table) {
	train.x.Cols, test.x.Cols = d.x.Cols, d.x.Cols
	for i := range d.x.Rows {
		to := &train
		if d.unit[i]%5 == fold {
			to = &test
		}
		to.x.Data = append(to.x.Data, d.x.Row(i)...)
		to.x.Rows++
		to.y = append(to.y, d.y[i])
		to.unit = append(to.unit, d.unit[i])
	}
	return train, test
}

// load builds the features of one training subset: sensors standardised by
// operating condition, their EWMA, the EWMA's change since the unit's first
// forty cycles, and the cycle.
func load(tb testing.TB, name string) table {
	tb.Helper()
	dir := os.Getenv("TURBOFAN_DATA")
	if dir == "" {
		dir = "../../../shared/cmapss"
	}
	raw, err := os.ReadFile(filepath.Join(dir, "train_"+name+".txt"))
	if err != nil {
		if os.Getenv("CI") != "" {
			tb.Fatal(err)
		}
		tb.Skipf("%s: C-MAPSS is not here: set TURBOFAN_DATA", name)
	}
	var lines [][]float64
	for sc := bufio.NewScanner(bytes.NewReader(raw)); sc.Scan(); {
		var v []float64
		for _, f := range strings.Fields(sc.Text()) {
			x, err := strconv.ParseFloat(f, 64)
			if err != nil {
				tb.Fatal(err)
			}
			v = append(v, x)
		}
		lines = append(lines, v)
	}
	return features(lines)
}

// condition numbers the operating regime, by altitude and Mach number.
func condition(v []float64) int {
	return int(math.Round(v[2]))*100 + int(math.Round(v[3]*100))/2
}

func standardise(lines [][]float64) [][]float64 {
	type moments struct{ n, sum, square [21]float64 }
	by := map[int]*moments{}
	for _, v := range lines {
		m := by[condition(v)]
		if m == nil {
			m = &moments{}
			by[condition(v)] = m
		}
		for j := range 21 {
			m.n[j]++
			m.sum[j] += v[5+j]
			m.square[j] += v[5+j] * v[5+j]
		}
	}
	sd := func(m *moments, j int) float64 {
		mean := m.sum[j] / m.n[j]
		return math.Sqrt(max(0, m.square[j]/m.n[j]-mean*mean))
	}
	var keep []int
	for j := range 21 {
		varies := true
		for _, m := range by {
			varies = varies && sd(m, j) > 1e-4
		}
		if varies {
			keep = append(keep, j)
		}
	}
	out := make([][]float64, len(lines))
	for i, v := range lines {
		m := by[condition(v)]
		for _, j := range keep {
			out[i] = append(out[i], (v[5+j]-m.sum[j]/m.n[j])/sd(m, j))
		}
	}
	return out
}

func features(lines [][]float64) table {
	z := standardise(lines)
	k := len(z[0])
	d := table{x: tree.Matrix{Cols: 2*k + 1}}
	for first := 0; first < len(lines); {
		end := first
		for end < len(lines) && lines[end][0] == lines[first][0] {
			end++
		}
		smooth := slices.Clone(z[first])
		base := make([]float64, k)
		for i := first; i < end; i++ {
			age := float64(i - first + 1)
			for j := range k {
				smooth[j] += 0.1 * (z[i][j] - smooth[j])
				if age <= 40 {
					base[j] += (z[i][j] - base[j]) / age
				}
			}
			for j := range k {
				d.x.Data = append(d.x.Data, float32(smooth[j]))
			}
			for j := range k {
				d.x.Data = append(d.x.Data, float32(smooth[j]-base[j]))
			}
			d.x.Data = append(d.x.Data, float32(lines[i][1]))
			d.x.Rows++
			d.y = append(d.y, min(125, float64(end-1-i)))
			d.unit = append(d.unit, int64(lines[i][0]))
		}
		first = end
	}
	return d
}

func forestParams() tree.ForestParams {
	p := tree.DefaultForestParams()
	p.MaxFeatures, p.MinSamplesLeaf, p.NJobs = 0.33, 5, jobs()
	return p
}

// depthParams are XGBoost's: 500 trees of depth 6.
func depthParams() tree.BoostingParams {
	p := tree.DefaultBoostingParams()
	p.MaxIter, p.LearningRate, p.MaxLeafNodes, p.MaxDepth = 500, 0.05, 0, 6
	p.MinSamplesLeaf, p.L2Regularization, p.NJobs = 1, 1, jobs()
	return p
}

// leafParams are scikit-learn's: 250 trees of 31 leaves.
func leafParams() tree.BoostingParams {
	p := tree.DefaultBoostingParams()
	p.MaxIter, p.LearningRate, p.NJobs = 250, 0.05, jobs()
	return p
}

var subsets = []string{"FD001", "FD004"}

// TestSave writes the matrices for peers.py.
func TestSave(t *testing.T) {
	dir := os.Getenv("TREE_BENCH_DIR")
	if dir == "" {
		t.Fatal("TREE_BENCH_DIR is not set")
	}
	for _, name := range subsets {
		d := load(t, name)
		var b bytes.Buffer
		for _, v := range []any{int64(d.x.Rows), int64(d.x.Cols), d.x.Data, d.y, d.unit} {
			if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, name+".bin"), b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func jobs() int {
	n, err := strconv.Atoi(os.Getenv("TREE_BENCH_JOBS"))
	if err != nil {
		return 2
	}
	return n
}

// clock is wall time or, with one worker, the processor time of this process.
func clock() float64 {
	if jobs() > 1 {
		return float64(time.Now().UnixNano()) / 1e9
	}
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return math.NaN()
	}
	return float64(r.Utime.Nano()+r.Stime.Nano()) / 1e9
}

// best runs fn three times and returns the shortest time.
func best(fn func()) float64 {
	least := math.Inf(1)
	for range 3 {
		from := clock()
		fn()
		least = min(least, clock()-from)
	}
	return least
}

type fit func(tree.Matrix, []float64) (*tree.Ensemble, error)

func fits() map[string]fit {
	boosting := func(p tree.BoostingParams) fit {
		return func(x tree.Matrix, y []float64) (*tree.Ensemble, error) {
			return tree.FitBoosting(x, y, nil, p, nil, nil)
		}
	}
	return map[string]fit{
		"forest": func(x tree.Matrix, y []float64) (*tree.Ensemble, error) {
			return tree.FitForest(x, y, nil, forestParams(), nil)
		},
		"depth":  boosting(depthParams()),
		"leaves": boosting(leafParams()),
	}
}

// measure returns what peers.py measures, under the same names.
func measure(t *testing.T, set string) map[string]float64 {
	t.Helper()
	d := load(t, set)
	out := map[string]float64{}
	for name, f := range fits() {
		var e *tree.Ensemble
		var err error
		out[name+" fit s"] = best(func() { e, err = f(d.x, d.y) })
		if err != nil {
			t.Fatal(err)
		}
		out[name+" fit MB"] = memory(t, set, name)
		row := d.x.Row(d.x.Rows / 2)
		const calls = 2000
		out[name+" row us"] = 1e6 / calls * best(func() {
			for range calls {
				_, err = e.Predict(row)
			}
		})
		pred := make([]float64, d.x.Rows)
		out[name+" batch rows/s"] = float64(d.x.Rows) / best(func() { err = e.PredictBatch(d.x, pred, 1) })
		phi := make([]float64, d.x.Cols)
		const shapRows = 20
		out[name+" shap ms"] = 1e3 / shapRows * best(func() {
			for i := range shapRows {
				_, err = e.SHAP(d.x.Row(i*d.x.Rows/shapRows), phi)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		out[name+" rmse"] = crossValidated(t, d, f)
	}
	return out
}

// crossValidated is the RMSE over five folds by unit.
func crossValidated(t *testing.T, d table, f fit) float64 {
	t.Helper()
	sum := 0.0
	for fold := range int64(5) {
		train, test := d.split(fold)
		e, err := f(train.x, train.y)
		if err != nil {
			t.Fatal(err)
		}
		pred := make([]float64, test.x.Rows)
		if err := e.PredictBatch(test.x, pred, jobs()); err != nil {
			t.Fatal(err)
		}
		for i, v := range pred {
			sum += (v - test.y[i]) * (v - test.y[i])
		}
	}
	return math.Sqrt(sum / float64(d.x.Rows))
}

// memory fits one learner in a process of its own and returns by how many MB
// that raised its peak above what it held with the data loaded.
func memory(t *testing.T, set, learner string) float64 {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=TestMemoryOfOneFit$", "-test.v")
	cmd.Env = append(os.Environ(), "TREE_BENCH_ONE="+set+" "+learner)
	out, err := cmd.CombinedOutput()
	_, rest, found := strings.Cut(string(out), "peak MB: ")
	number, _, _ := strings.Cut(rest, "\n")
	v, bad := strconv.ParseFloat(number, 64)
	if err != nil || bad != nil || !found {
		t.Fatalf("measure the memory of a fit: %v\n%s", err, out)
	}
	return v
}

// TestMemoryOfOneFit is the process that memory starts.
func TestMemoryOfOneFit(t *testing.T) {
	set, learner, ok := strings.Cut(os.Getenv("TREE_BENCH_ONE"), " ")
	if !ok {
		t.Skip("TREE_BENCH_ONE is not set: TestCompare sets it")
	}
	d, f := load(t, set), fits()[learner]
	few := min(2000, d.x.Rows)
	if _, err := f(tree.Matrix{Data: d.x.Data[:few*d.x.Cols], Rows: few, Cols: d.x.Cols}, d.y[:few]); err != nil {
		t.Fatal(err)
	}
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil { // the peak starts here
		t.Fatal(err)
	}
	before := resident(t, "VmRSS:")
	if _, err := f(d.x, d.y); err != nil {
		t.Fatal(err)
	}
	t.Logf("peak MB: %f", resident(t, "VmHWM:")-before)
}

func resident(t *testing.T, field string) float64 {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); f[0] == field {
			kb, err := strconv.ParseFloat(f[1], 64)
			if err != nil {
				t.Fatal(err)
			}
			return kb / 1024
		}
	}
	t.Fatalf("/proc/self/status has no %s", field)
	return 0
}

// bars are the least ratios that are promised; the others are for information.
func bars(key string) (float64, bool) {
	switch key {
	case "forest fit s":
		return 4, true
	case "depth fit s":
		return 1.3, true
	case "depth row us":
		return 10, true
	case "depth batch rows/s", "depth shap ms":
		return 3, true
	}
	return 1, strings.HasSuffix(key, " fit s") || strings.HasSuffix(key, " fit MB") || strings.HasSuffix(key, " rmse")
}

// TestCompare measures this package and prints each number beside the peer's
// from peers.json, as a table in Markdown. Ratios above one are in our favour,
// also for errors and memory.
func TestCompare(t *testing.T) {
	dir := os.Getenv("TREE_BENCH_DIR")
	if dir == "" {
		t.Fatal("TREE_BENCH_DIR is not set")
	}
	raw, err := os.ReadFile(filepath.Join(dir, "peers.json"))
	if err != nil {
		t.Fatal("run peers.py first: ", err)
	}
	peers := map[string]map[string]float64{}
	if err := json.Unmarshal(raw, &peers); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d processors, %d workers", runtime.GOMAXPROCS(0), jobs())
	t.Log("| matrix | what | turbofan | peer | ratio | bar |")
	t.Log("|---|---|---|---|---|---|")
	for _, name := range subsets {
		ours := measure(t, name)
		for _, key := range slices.Sorted(mapKeys(ours)) {
			peer, ok := peers[name][key]
			if !ok {
				continue
			}
			ratio := peer / ours[key]
			if strings.HasSuffix(key, "rows/s") {
				ratio = 1 / ratio
			}
			bar := ""
			if least, promised := bars(key); promised {
				bar = "≥ " + strconv.FormatFloat(least, 'g', -1, 64)
				if math.Round(100*ratio) < 100*least {
					bar += " **missed**"
				}
			}
			t.Logf("| %s | %s | %.4g | %.4g | %.2f | %s |", name, key, ours[key], peer, ratio, bar)
		}
	}
}

func mapKeys(m map[string]float64) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func BenchmarkFit(b *testing.B) {
	for _, set := range subsets {
		d := load(b, set)
		for name, f := range fits() {
			b.Run(set+"/"+name, func(b *testing.B) {
				for b.Loop() {
					if _, err := f(d.x, d.y); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
