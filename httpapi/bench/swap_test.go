//go:build bench

package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"turbofan"
	"turbofan/httpapi"
	"turbofan/mlflow"
)

// swapEvery makes two hundred swaps a minute.
const swapEvery = 300 * time.Millisecond

// TestSwaps compares the latencies of one load without swaps of the champion, with swaps to and fro between the two versions
// that TURBOFAN_LOAD_VERSIONS names, which stay opened, and with swaps to versions that the process never had opened: copies of
// those two, which TURBOFAN_LOAD_REGISTRY was given beforehand. All three take turns, by the prediction role's own API. Any
// answer but 200 fails it. Units live 300 readings, as engines do, since a swap has to bring the past of each to the new model.
func TestSwaps(t *testing.T) {
	versions := strings.Fields(os.Getenv("TURBOFAN_LOAD_VERSIONS"))
	if len(versions) != 2 {
		t.Skip("TestSwaps is run by scripts/bench_http.sh")
	}
	rate, err := strconv.ParseFloat(os.Getenv("TURBOFAN_LOAD_RATE"), 64)
	if err != nil {
		t.Fatal(err)
	}
	const rounds = 3
	targets, each, rows := loadFrom(t)
	releases := httpapi.NewReleaseClient("http://"+targets[0].address, nil)
	loads := []load{{connections: 32, rate: rate, life: 300}, {connections: 32, life: 300}}
	fresh := copies(t, versions, len(loads)*(rounds+1)*int(each/swapEvery+1))
	toAndFro := func() string { versions[0], versions[1] = versions[1], versions[0]; return versions[1] }
	unknown := func() string { v := fresh[0]; fresh = fresh[1:]; return v }
	g := &generator{rows: rows}
	for _, l := range loads {
		kinds := []*swaps{{name: "without swaps"}, {name: "between two versions", next: toAndFro}, {name: "to versions that are new", next: unknown}}
		for round := range rounds + 1 {
			for i := range kinds {
				k := kinds[(i+round)%len(kinds)] // each is first once
				stop := func() {}
				if k.next != nil {
					stop = k.swap(t, releases)
				}
				r, err := g.run(targets[0], l, each)
				stop()
				if err != nil {
					t.Fatalf("%s: %v", targets[0].name, err)
				}
				if round == 0 { // it warms up
					k.took = nil
					continue
				}
				k.p50, k.p99 = append(k.p50, r.p50), append(k.p99, r.p99)
				k.answers += r.answers
			}
		}
		kind := "one request after the other"
		if l.rate > 0 {
			kind = fmt.Sprintf("%.0f requests/s", l.rate)
		}
		t.Logf("| swaps: %s over 32 connections | p50 ms | p99 ms | p99 of each run | ratio | swaps a minute | a swap takes ms, median and longest | answers, none failed |", kind)
		base := median(kinds[0].p99)
		for _, k := range kinds {
			if k.next != nil && len(k.took) == 0 {
				t.Errorf("%s: no swap was done in %s: the ratio says nothing", k.name, rounds*each)
				continue
			}
			t.Logf("| %s | %.3f | %.2f | %s | %.2f | %.0f | %s | %d |", k.name, ms(median(k.p50)), ms(median(k.p99)), k.runs(), ms(median(k.p99))/ms(base),
				float64(len(k.took))/(rounds*each).Minutes(), k.lengths(), k.answers)
		}
	}
}

// swaps is a way to change the champion beside a load, and what was measured meanwhile.
type swaps struct {
	name     string
	next     func() string // the version to change to; nil changes nothing
	p50, p99 []time.Duration
	took     []time.Duration // each swap, from the request to its answer
	answers  int
}

func (k *swaps) runs() string {
	var out []string
	for _, d := range k.p99 {
		out = append(out, fmt.Sprintf("%.2f", ms(d)))
	}
	return strings.Join(out, ", ")
}

func (k *swaps) lengths() string {
	if len(k.took) == 0 {
		return ""
	}
	return fmt.Sprintf("%.0f, %.0f", ms(median(k.took)), ms(slices.Max(k.took)))
}

func median(ds []time.Duration) time.Duration {
	ds = slices.Sorted(slices.Values(ds))
	return ds[len(ds)/2]
}

// copies registers n copies of the versions, by turns, and returns their numbers.
func copies(t *testing.T, versions []string, n int) []string {
	registry, err := mlflow.NewClient(os.Getenv("TURBOFAN_LOAD_REGISTRY"), nil)
	if err != nil {
		t.Fatal(err)
	}
	var dirs []string
	for _, v := range versions {
		known, err := registry.Version(t.Context(), "rul", v)
		if err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, filepath.Join(t.TempDir(), "model"))
		if err := registry.Fetch(t.Context(), known, dirs[len(dirs)-1]); err != nil {
			t.Fatal(err)
		}
	}
	var out []string
	for i := range n {
		v, err := registry.CreateVersion(t.Context(), turbofan.ModelVersion{Name: "rul", Description: "a copy, for a measurement"}, dirs[i%len(dirs)])
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, v.Version)
	}
	return out
}

// swap changes the champion at each tick until the function that it returns is called.
func (k *swaps) swap(t *testing.T, releases turbofan.ReleaseService) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(swapEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			v := k.next()
			// What was begun is brought to its end, and counts: it took its share of the processors.
			began := time.Now()
			switch change, err := releases.Promote(context.WithoutCancel(ctx), turbofan.PromoteRequest{Version: v}); {
			case err == nil && change.Serving == v:
				k.took = append(k.took, time.Since(began))
			case err == nil:
				t.Errorf("version %s was promoted and does not serve: %+v", v, change)
			case turbofan.ErrorCode(err) != turbofan.EConflict: // it is champion already
				t.Errorf("promote version %s: %v", v, err)
			}
		}
	}()
	return func() { cancel(); <-done }
}
