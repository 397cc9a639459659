package sqlstore_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"turbofan"
	"turbofan/sqlstore"
)

// crashEnv names the store in which a copy of this test binary writes until it is killed.
const crashEnv = "TURBOFAN_TEST_CRASH_STORE"

func TestMain(m *testing.M) {
	if path := os.Getenv(crashEnv); path != "" {
		if err := writeUntilKilled(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// writeUntilKilled records outcomes from several goroutines, each after the prediction that it judges, and prints the
// key of each once it is acknowledged.
func writeUntilKilled(path string) error {
	ctx := context.Background()
	s, err := sqlstore.OpenState(ctx, sqlstore.Config{Path: path})
	if err != nil {
		return err
	}
	errs := make(chan error)
	for g := range 4 {
		unit := fmt.Sprintf("u%d-%d", os.Getpid(), g)
		go func() {
			for n := 1; ; n++ {
				if err := s.Append(ctx, []turbofan.PredictionRecord{record(unit, n)}); err != nil {
					errs <- err
					return
				}
				key := fmt.Sprintf("%s-%d", unit, n)
				if _, err := s.Record(ctx, []turbofan.Outcome{{Key: key, UnitID: unit, Cycle: n, ActualRUL: new(1.0)}}); err != nil {
					errs <- err
					return
				}
				if _, err := fmt.Println(key); err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	return <-errs
}

// TestKilled kills a writing process without notice, twenty times over one file (four under the race detector, where
// each costs seconds). Every outcome that it acknowledged
// must be there, and the file must open as it is.
func TestKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	total := 0
	for round := range kills {
		acknowledged := killWhileWriting(t, path, 5+7*round)
		total += len(acknowledged)
		s := openSQLite(t, sqlstore.Config{Path: path})
		stored := map[string]bool{}
		for _, o := range must[[]turbofan.Outcome](t)(s.Outcomes(t.Context(), turbofan.OutcomeQuery{})) {
			stored[o.Key] = true
		}
		for _, key := range acknowledged {
			if !stored[key] {
				t.Errorf("round %d: outcome %s was acknowledged and is lost", round, key)
			}
		}
		// What is derived must agree with what it is derived from.
		readings := 0
		for _, u := range must[[]turbofan.UnitSummary](t)(s.Units(t.Context(), 0, 0)) {
			readings += u.Readings
		}
		equal(t, "readings counted by unit", readings, len(must[[]turbofan.StoredReading](t)(s.Readings(t.Context(), turbofan.ReadingQuery{}))))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d acknowledged outcomes over %d kills", total, kills)
}

// killWhileWriting starts a writer, kills it once it has acknowledged n outcomes, and returns all it acknowledged.
func killWhileWriting(t *testing.T, path string, n int) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), crashEnv+"="+path)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var keys []string
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		keys = append(keys, lines.Text())
		if len(keys) == n {
			if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || stderr.Len() > 0 || len(keys) < n {
		t.Fatalf("the writer ended by itself after %d outcomes: %v\n%s", len(keys), err, stderr.String())
	}
	return keys
}
