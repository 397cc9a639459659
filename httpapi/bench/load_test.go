//go:build bench

// Package bench puts one load on several servers of the same question and prints what each answered, side by side.
package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"math"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// target is a server: NAME=HOST:PORT/PATH.
type target struct{ name, address, path string }

// result is what one run measured.
type result struct {
	perSecond      float64
	p50, p99, p999 time.Duration
	answers        int
}

// TestLoad is run by scripts/bench_http.sh, which says in TURBOFAN_LOAD_TARGETS whom to ask. The first target is what the
// others are compared with. Every request is another cycle of a unit of its own, with the sensors of a real engine.
func TestLoad(t *testing.T) {
	targets, each, rows := loadFrom(t)
	g := &generator{rows: rows}
	for _, l := range []load{{connections: 1}, {connections: 32}} {
		runs := g.rounds(t, targets, l, each)
		first := middle(runs[targets[0].name])
		t.Logf("| %d connections | requests/s | p50 ms | p99 ms | requests/s of %s | its p99 of this |", l.connections, targets[0].name)
		for _, target := range targets {
			r := middle(runs[target.name])
			t.Logf("| %s | %.0f | %.3f | %.2f | %.1f × | %.3f |", target.name, r.perSecond, ms(r.p50), ms(r.p99), first.perSecond/r.perSecond, ms(first.p99)/ms(r.p99))
		}
	}
}

// TestPaced asks at a given rate whatever the answers do, as a fleet of sensors does: TURBOFAN_LOAD_RATE requests a second
// over 32 connections. The latency counts from the moment at which a request should have been sent, so that a server
// that pauses is not spared the requests that would have come meanwhile.
func TestPaced(t *testing.T) {
	text := os.Getenv("TURBOFAN_LOAD_RATE")
	if text == "" {
		t.Skip("TestPaced is run by scripts/bench_http.sh")
	}
	rate, err := strconv.ParseFloat(text, 64)
	if err != nil || rate <= 0 {
		t.Fatalf("TURBOFAN_LOAD_RATE must be above 0, not %q", text)
	}
	targets, each, rows := loadFrom(t)
	runs := (&generator{rows: rows}).rounds(t, targets, load{connections: 32, rate: rate}, each)
	t.Logf("| %.0f requests/s over 32 connections | answered/s | p50 ms | p99 ms | p99.9 ms | p99 of each run |", rate)
	for _, target := range targets {
		var all []string
		for _, r := range runs[target.name] {
			all = append(all, fmt.Sprintf("%.2f", ms(r.p99)))
		}
		r := middle(runs[target.name])
		t.Logf("| %s | %.0f | %.3f | %.2f | %.2f | %s |", target.name, r.perSecond, ms(r.p50), ms(r.p99), ms(r.p999), strings.Join(all, ", "))
	}
}

// loadFrom reads what scripts/bench_http.sh says: whom to ask, for how long, and with which readings.
func loadFrom(t *testing.T) (targets []target, each time.Duration, rows []string) {
	t.Helper()
	for _, text := range strings.Fields(os.Getenv("TURBOFAN_LOAD_TARGETS")) {
		name, rest, _ := strings.Cut(text, "=")
		address, path, _ := strings.Cut(rest, "/")
		targets = append(targets, target{name, address, "/" + path})
	}
	if len(targets) == 0 {
		t.Skip("the load is put on by scripts/bench_http.sh")
	}
	each, err := time.ParseDuration(os.Getenv("TURBOFAN_LOAD_EACH"))
	if err != nil {
		t.Fatal(err)
	}
	if rows, err = readings(os.Getenv("TURBOFAN_LOAD_DATA")); err != nil {
		t.Fatal(err)
	}
	return targets, each, rows
}

// load is how a server is asked: with one request after the other on each connection, or, where rate is above 0, with
// so many a second over all of them.
type load struct {
	connections int
	rate        float64
	life        int // readings of a unit before the connection speaks for a new one; 0 is without end
}

// rounds puts the load on each target in turns, once to warm up and three times to measure.
func (g *generator) rounds(t *testing.T, targets []target, l load, each time.Duration) map[string][]result {
	t.Helper()
	const rounds = 3
	runs := make(map[string][]result)
	for round := range rounds + 1 {
		for _, target := range targets {
			took := each
			if round == 0 {
				took = each / 3
			}
			r, err := g.run(target, l, took)
			if err != nil {
				t.Fatalf("%s: %v", target.name, err)
			}
			if round > 0 {
				runs[target.name] = append(runs[target.name], r)
			}
		}
	}
	return runs
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// middle returns the run whose rate is the median.
func middle(runs []result) result {
	slices.SortFunc(runs, func(a, b result) int { return int(math.Copysign(1, a.perSecond-b.perSecond)) })
	return runs[len(runs)/2]
}

// readings returns the settings and sensors of C-MAPSS rows as JSON.
func readings(file string) ([]string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) != 26 {
			return nil, fmt.Errorf("a row of %s has %d columns", file, len(f))
		}
		out = append(out, `,"settings":[`+strings.Join(f[2:5], ",")+`],"sensors":[`+strings.Join(f[5:], ",")+`]}}`)
	}
	return out, nil
}

// generator makes requests that no server has seen.
type generator struct {
	rows []string
	unit int
}

func (g *generator) run(t target, l load, long time.Duration) (result, error) {
	took := make([][]time.Duration, l.connections)
	errs := make([]error, l.connections)
	var group sync.WaitGroup
	start := time.Now()
	end := start.Add(long)
	for i := range l.connections {
		g.unit++
		c := connection{unit: fmt.Sprintf("load-%d-%d", os.Getpid(), g.unit), end: end, life: l.life}
		if l.rate > 0 {
			c.every = time.Duration(float64(l.connections) / l.rate * float64(time.Second))
			c.next = start.Add(c.every * time.Duration(i+1) / time.Duration(l.connections))
		}
		group.Go(func() { took[i], errs[i] = g.ask(t, c) })
	}
	group.Wait()
	elapsed := time.Since(start)
	for _, err := range errs {
		if err != nil {
			return result{}, err
		}
	}
	all := slices.Concat(took...)
	if len(all) == 0 {
		return result{}, fmt.Errorf("nothing was answered within %s", long)
	}
	slices.Sort(all)
	return result{float64(len(all)) / elapsed.Seconds(), all[len(all)/2], all[len(all)*99/100], all[len(all)*999/1000], len(all)}, nil
}

// connection asks about one unit until end: at once when the answer before has come, or, where every is above 0, at next
// and at every such distance from it.
type connection struct {
	unit  string
	end   time.Time
	every time.Duration
	next  time.Time
	life  int
}

// due waits for the moment of the next question and returns it.
func (c *connection) due() time.Time {
	if c.every == 0 {
		return time.Now()
	}
	at := c.next
	c.next = at.Add(c.every)
	time.Sleep(time.Until(at))
	return at
}

// ask asks one question after the other and returns how long each answer took.
func (g *generator) ask(t target, how connection) ([]time.Duration, error) {
	c, err := net.Dial("tcp", t.address)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var took []time.Duration
	r := bufio.NewReaderSize(c, 16<<10)
	var body, request []byte
	unit, lives := how.unit, 0
	for cycle := 1; time.Now().Before(how.end); cycle++ {
		if how.life > 0 && cycle > how.life {
			lives, cycle = lives+1, 1
			unit = how.unit + "-" + strconv.Itoa(lives)
		}
		body = append(append(append(body[:0], `{"reading":{"unit_id":"`...), unit...), `","cycle":`...)
		body = append(strconv.AppendInt(body, int64(cycle), 10), g.rows[cycle%len(g.rows)]...)
		request = append(append(append(request[:0], "POST "...), t.path...), " HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: "...)
		request = append(strconv.AppendInt(request, int64(len(body)), 10), "\r\n\r\n"...)
		request = append(request, body...)
		start := how.due()
		if _, err := c.Write(request); err != nil {
			return nil, err
		}
		if err := answer(r); err != nil {
			return nil, err
		}
		took = append(took, time.Since(start))
	}
	return took, nil
}

// answer reads one answer by its length alone, so that the load costs little beside the server.
func answer(r *bufio.Reader) error {
	length := -1
	for first := true; ; first = false {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if first && !bytes.Contains(line, []byte(" 200 ")) {
			rest := make([]byte, 2000)
			n, _ := r.Read(rest)
			return fmt.Errorf("answered %s%s", line, rest[:n])
		}
		if name, value, ok := bytes.Cut(line, []byte(":")); ok && bytes.EqualFold(name, []byte("content-length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return err
			}
		}
		if len(line) <= 2 {
			break
		}
	}
	if length < 0 {
		return fmt.Errorf("an answer without a length")
	}
	_, err := r.Discard(length)
	return err
}
