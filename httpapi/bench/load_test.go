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
	perSecond float64
	p50, p99  time.Duration
	answers   int
}

// TestLoad is run by scripts/bench_http.sh, which says in TURBOFAN_LOAD_TARGETS whom to ask. The first target is what the
// others are compared with. Every request is another cycle of a unit of its own, with the sensors of a real engine.
func TestLoad(t *testing.T) {
	var targets []target
	for _, text := range strings.Fields(os.Getenv("TURBOFAN_LOAD_TARGETS")) {
		name, rest, _ := strings.Cut(text, "=")
		address, path, _ := strings.Cut(rest, "/")
		targets = append(targets, target{name, address, "/" + path})
	}
	if len(targets) == 0 {
		t.Skip("TestLoad is run by scripts/bench_http.sh")
	}
	each, err := time.ParseDuration(os.Getenv("TURBOFAN_LOAD_EACH"))
	if err != nil {
		t.Fatal(err)
	}
	rows, err := readings(os.Getenv("TURBOFAN_LOAD_DATA"))
	if err != nil {
		t.Fatal(err)
	}
	const rounds = 3
	g := &generator{rows: rows}
	for _, connections := range []int{1, 32} {
		runs := make(map[string][]result)
		for round := range rounds + 1 {
			for _, target := range targets {
				took := each
				if round == 0 {
					took = each / 3 // to warm up
				}
				r, err := g.run(target, connections, took)
				if err != nil {
					t.Fatalf("%s: %v", target.name, err)
				}
				if round > 0 {
					runs[target.name] = append(runs[target.name], r)
				}
			}
		}
		first := middle(runs[targets[0].name])
		t.Logf("| %d connections | requests/s | p50 ms | p99 ms | requests/s of %s | its p99 of this |", connections, targets[0].name)
		for _, target := range targets {
			r := middle(runs[target.name])
			t.Logf("| %s | %.0f | %.3f | %.2f | %.1f × | %.3f |", target.name, r.perSecond, ms(r.p50), ms(r.p99), first.perSecond/r.perSecond, ms(first.p99)/ms(r.p99))
		}
	}
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

func (g *generator) run(t target, connections int, long time.Duration) (result, error) {
	took := make([][]time.Duration, connections)
	errs := make([]error, connections)
	var group sync.WaitGroup
	start := time.Now()
	end := start.Add(long)
	for i := range connections {
		g.unit++
		unit := fmt.Sprintf("load-%d-%d", os.Getpid(), g.unit)
		group.Go(func() { took[i], errs[i] = g.connection(t, unit, end) })
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
	return result{float64(len(all)) / elapsed.Seconds(), all[len(all)/2], all[len(all)*99/100], len(all)}, nil
}

// connection asks one question after the other until end.
func (g *generator) connection(t target, unit string, end time.Time) ([]time.Duration, error) {
	c, err := net.Dial("tcp", t.address)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var took []time.Duration
	r := bufio.NewReaderSize(c, 16<<10)
	var body, request []byte
	for cycle := 1; time.Now().Before(end); cycle++ {
		body = append(append(append(body[:0], `{"reading":{"unit_id":"`...), unit...), `","cycle":`...)
		body = append(strconv.AppendInt(body, int64(cycle), 10), g.rows[cycle%len(g.rows)]...)
		request = append(append(append(request[:0], "POST "...), t.path...), " HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: "...)
		request = append(strconv.AppendInt(request, int64(len(body)), 10), "\r\n\r\n"...)
		request = append(request, body...)
		start := time.Now()
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
