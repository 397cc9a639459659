//go:build bench

package bench

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"turbofan"
	"turbofan/httpapi"
)

// swapEvery makes two hundred swaps a minute.
const swapEvery = 300 * time.Millisecond

// TestSwaps compares the latencies of one load without and with swaps of the champion between the two versions that
// TURBOFAN_LOAD_VERSIONS names, by the prediction role's own API, in turns. Any answer but 200 fails it. Units live 300
// readings, as engines do, since a swap has to bring the past of each to the new model.
func TestSwaps(t *testing.T) {
	versions := strings.Fields(os.Getenv("TURBOFAN_LOAD_VERSIONS"))
	if len(versions) != 2 {
		t.Skip("TestSwaps is run by scripts/bench_http.sh")
	}
	rate, err := strconv.ParseFloat(os.Getenv("TURBOFAN_LOAD_RATE"), 64)
	if err != nil {
		t.Fatal(err)
	}
	targets, each, rows := loadFrom(t)
	releases := httpapi.NewReleaseClient("http://"+targets[0].address, nil)
	g := &generator{rows: rows}
	for _, l := range []load{{connections: 32, rate: rate, life: 300}, {connections: 32, life: 300}} {
		var p99 [2][]time.Duration
		answers, swaps := 0, 0
		for round := range 4 {
			for with := range 2 {
				stop := func() int { return 0 }
				if with == 1 {
					stop = swapping(t, releases, versions)
				}
				r, err := g.run(targets[0], l, each)
				n := stop()
				if err != nil {
					t.Fatalf("%s: %v", targets[0].name, err)
				}
				if round > 0 { // the first warms up
					p99[with] = append(p99[with], r.p99)
					answers, swaps = answers+r.answers*with, swaps+n
				}
			}
		}
		if swaps == 0 {
			t.Errorf("no swap was done in %s: the ratio says nothing", 3*each)
		}
		kind := "one request after the other"
		if l.rate > 0 {
			kind = fmt.Sprintf("%.0f requests/s", l.rate)
		}
		slices.Sort(p99[0])
		slices.Sort(p99[1])
		t.Logf("| swaps: %s over %d connections | p99 ms without | p99 ms with | ratio | swaps a minute | answers with swaps, none failed |", kind, l.connections)
		t.Logf("| | %.2f | %.2f | %.2f | %.0f | %d |", ms(p99[0][1]), ms(p99[1][1]), ms(p99[1][1])/ms(p99[0][1]), float64(swaps)/(3*each).Minutes(), answers)
	}
}

// swapping changes the champion to and fro until the function that it returns is called, which tells how often it did.
func swapping(t *testing.T, releases turbofan.ReleaseService, versions []string) (stop func() int) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int)
	go func() {
		swaps := 0
		defer func() { done <- swaps }()
		tick := time.NewTicker(swapEvery)
		defer tick.Stop()
		for {
			for _, v := range versions {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				// What was begun is brought to its end, and counts: it took its share of the processors.
				switch change, err := releases.Promote(context.WithoutCancel(ctx), turbofan.PromoteRequest{Version: v}); {
				case err == nil && change.Serving == v:
					swaps++
				case err == nil:
					t.Errorf("version %s was promoted and does not serve: %+v", v, change)
				case turbofan.ErrorCode(err) != turbofan.EConflict: // it is champion already
					t.Errorf("promote version %s: %v", v, err)
				}
			}
		}
	}()
	return func() int { cancel(); return <-done }
}
