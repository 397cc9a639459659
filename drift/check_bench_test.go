//go:build bench

package drift_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"turbofan"
	"turbofan/drift"
	"turbofan/reference"
)

// plantOf is equipment with so many sensors and six operating conditions.
func plantOf(sensors int) turbofan.Schema {
	s := turbofan.Schema{Name: "plant", Settings: []turbofan.Channel{{Name: "load", Tolerance: 0.5}, {Name: "speed", Tolerance: 0.5}, {Name: "heat", Tolerance: 0.5}}}
	for i := range sensors {
		s.Sensors = append(s.Sensors, turbofan.Channel{Name: fmt.Sprint("s", i)})
	}
	return s
}

// plantReadings writes the next readings of a staggered fleet of 500 to out, in one of six conditions each.
type plantReadings struct {
	rng     *rand.Rand
	sensors int
	sent    int
}

func (p *plantReadings) next(out []turbofan.StoredReading) {
	const fleet, life = 500, 200
	for i := range out {
		turn, place := p.sent/fleet, p.sent%fleet
		age := (turn+place*life/fleet)%life + 1
		p.sent++
		r := &out[i]
		if r.Sensors == nil {
			r.Settings, r.Sensors = make([]float64, 3), make([]float64, p.sensors)
		}
		r.Seq, r.UnitID, r.Cycle = int64(p.sent), fmt.Sprintf("unit-%d-%d", place, (turn+place*life/fleet)/life), age
		load := float64(p.rng.IntN(6))
		r.Settings[0], r.Settings[1], r.Settings[2] = load*10, 100-load, load
		wear := float64(age) / life
		for j := range r.Sensors {
			r.Sensors[j] = 10*load + wear*wear + p.rng.NormFloat64()
		}
	}
}

func plantReference(t testing.TB, sensors int) *reference.Reference {
	rng := rand.New(rand.NewPCG(5, 5))
	var units []turbofan.History
	for u := range 100 {
		h := turbofan.History{UnitID: fmt.Sprint("r", u), FailedAtCycle: 200}
		for age := 1; age <= 200; age++ {
			r := turbofan.Reading{UnitID: h.UnitID, Cycle: age, Sensors: make([]float64, sensors)}
			load := float64(rng.IntN(6))
			r.Settings = []float64{load * 10, 100 - load, load}
			wear := float64(age) / 200
			for j := range r.Sensors {
				r.Sensors[j] = 10*load + wear*wear + rng.NormFloat64()
			}
			h.Readings = append(h.Readings, r)
		}
		units = append(units, h)
	}
	ref, err := reference.Learn(reference.DefaultConfig(), plantOf(sensors), units)
	if err != nil {
		t.Fatal(err)
	}
	ref.RMSE, ref.Cap, ref.Coverage = 10, 125, 0.9 // of a model
	return ref
}

// TestBenchJudge measures one whole check, from readings to the verdict: conditions, scores, units, faults of the data.
// Making the readings is not counted. BENCH_DRIFT_ROWS sets how many there are.
func TestBenchJudge(t *testing.T) {
	rows, sensors := 1_000_000, 24
	if s := os.Getenv("BENCH_DRIFT_ROWS"); s != "" {
		var err error
		if rows, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	ref := plantReference(t, sensors)
	cfg := drift.DefaultConfig()
	cfg.Window = rows
	source := plantReadings{rng: rand.New(rand.NewPCG(6, 6)), sensors: sensors}
	page := make([]turbofan.StoredReading, 5000)
	source.next(page)
	source.sent = 0
	runtime.GC()
	_ = residentPeak(t)
	before := residentPeak(t)
	var wall, cpu time.Duration
	timed := func(f func()) {
		at, used := time.Now(), processorTime()
		f()
		wall, cpu = wall+time.Since(at), cpu+processorTime()-used
	}
	var c *drift.Collector
	var err error
	timed(func() { c, err = drift.NewCollector(ref, nil, cfg) })
	for left := rows; err == nil && left > 0; left -= len(page) {
		page = page[:min(left, len(page))]
		source.next(page)
		timed(func() { err = c.Add(page) })
	}
	if err != nil {
		t.Fatal(err)
	}
	var report turbofan.DriftReport
	timed(func() { report, err = c.Judge(drift.Evidence{}) })
	if err != nil || report.Verdict != turbofan.NoDrift || report.Rows != rows {
		t.Fatalf("%+v, %v", report, err)
	}
	memory := float64(residentPeak(t)-before) / (1 << 20)
	t.Logf("%d rows x %d channels of %d units, whole check: %.2f s (%.2f s of processor), %.0f MiB resident beside the page", rows, sensors, report.Units, wall.Seconds(), cpu.Seconds(), memory)
	if memory > 200 {
		t.Errorf("%.0f MiB, more than 200", memory)
	}
}

// TestBenchStoredCheck measures a check of the service over a store in a file, reading included.
func TestBenchStoredCheck(t *testing.T) {
	const rows, sensors = 1_000_000, 24
	r := newRig(t)
	r.cfg.Window = rows
	r.open(t)
	defer r.close(t)
	r.serve(t, plantReference(t, sensors))
	source := plantReadings{rng: rand.New(rand.NewPCG(6, 6)), sensors: sensors}
	for range rows / 5000 {
		page, readings := make([]turbofan.StoredReading, 5000), make([]turbofan.Reading, 5000)
		source.next(page)
		for i := range page {
			readings[i] = page[i].Reading
		}
		r.send(t, readings)
	}
	runtime.GC()
	_ = residentPeak(t)
	before, at, used := residentPeak(t), time.Now(), processorTime()
	report := r.check(t)
	if report.Rows != rows {
		t.Fatalf("%+v", report)
	}
	t.Logf("%d rows x %d channels, check over SQLite: %.2f s (%.2f s of processor), %.0f MiB resident", rows, sensors, time.Since(at).Seconds(),
		(processorTime() - used).Seconds(), float64(residentPeak(t)-before)/(1<<20))
}

// processorTime is what this process has used.
func processorTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return math.MinInt64
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// residentPeak is the most memory that the process has held since the last call, which starts the next peak.
func residentPeak(t *testing.T) int64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip("needs /proc")
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
	return kib << 10
}
