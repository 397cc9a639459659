package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"turbofan"
	"turbofan/internal/postgrestest"
	"turbofan/mlflow"
)

// load sends predictions and feedback from several goroutines and remembers what was acknowledged.
type load struct {
	mu        sync.Mutex
	outcomes  map[string]bool // keys
	cycles    map[string]int  // by unit, the newest that was answered
	predicted int
	next      atomic.Int64
}

// run loads p until it dies. Each worker has units of its own: cycles of a unit must not overtake each other.
func (l *load) run(p *process, round int, readings []turbofan.Reading) (wait func()) {
	ctx, stop := context.WithCancel(context.Background())
	predict, feedback := p.predictions(), p.feedback()
	var workers sync.WaitGroup
	for w := range 3 {
		workers.Go(func() {
			for i := 0; ; i++ {
				unit := fmt.Sprintf("r%d-w%d-%d", round, w, i/len(readings))
				r := renamed(unit, readings[i%len(readings):i%len(readings)+1])
				if _, err := predict.Predict(ctx, turbofan.PredictRequest{Readings: r}); err != nil {
					return
				}
				l.mu.Lock()
				l.predicted++
				l.cycles[unit] = r[0].Cycle
				l.mu.Unlock()
			}
		})
	}
	unit := fmt.Sprintf("known-%d", round)
	if _, err := predict.Predict(ctx, turbofan.PredictRequest{Readings: renamed(unit, readings[:1])}); err != nil {
		p.t.Fatal(err)
	}
	for range 3 {
		workers.Go(func() {
			for {
				key, rul := fmt.Sprintf("outcome-%d", l.next.Add(1)), 100.0
				if _, err := feedback.Record(ctx, []turbofan.Outcome{{Key: key, UnitID: unit, Cycle: 1, ActualRUL: &rul}}); err != nil {
					return
				}
				l.mu.Lock()
				l.outcomes[key] = true
				l.mu.Unlock()
			}
		})
	}
	return func() {
		<-p.exited
		stop() // a client tries again for a while; nobody will answer
		workers.Wait()
	}
}

// TestServeKill kills a platform under load twenty times, at any moment, also while the champion changes. After every
// restart all feedback that was ever acknowledged is there, what serves is the registry's champion, and every unit
// goes on where it was.
func TestServeKill(t *testing.T) {
	dir := dataDir(t)
	if err := shared.command("train", "--data", must(t, shared.fleet), "--data-dir", dir, "--folds", "2", "--model", "forest", "--seed", "7"); err != nil {
		t.Fatal(err)
	}
	env := []string{"TURBOFAN_REFRESH_EVERY=20ms"}
	l := &load{outcomes: map[string]bool{}, cycles: map[string]int{}}
	random := rand.New(rand.NewPCG(1, 2))
	readings := histories(t, "FD001")[0].Readings
	const rounds = 20
	swaps := 0
	p := serve(t, env, "--data-dir", dir)
	p.ready(rolePredict)
	for round := range rounds {
		wait := l.run(p, round, readings)
		// The alias changes at one moment of the round and the kill comes at another.
		kill := time.NewTimer(time.Duration(20+random.IntN(200)) * time.Millisecond)
		swap := time.NewTimer(time.Duration(random.IntN(200)) * time.Millisecond)
		reg, err := mlflow.NewClient(p.urls[roleRegistry], nil)
		if err != nil {
			t.Fatal(err)
		}
		wanted := fmt.Sprint(1 + round%2)
		swapped := make(chan error, 1)
		ctx, giveUp := context.WithCancel(t.Context())
		go func() {
			<-swap.C
			swapped <- reg.SetAlias(ctx, "rul", turbofan.ChampionAlias, wanted)
		}()
		<-kill.C
		p.kill()
		giveUp()
		wait()
		if <-swapped == nil {
			swaps++
		} else {
			wanted = ""
		}

		p = serve(t, env, "--data-dir", dir)
		p.ready(rolePredict)
		checkAfterKill(t, p, l, wanted)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.outcomes) == 0 || l.predicted == 0 {
		t.Fatal("nothing was acknowledged")
	}
	t.Logf("%d kills: %d feedbacks and %d predictions acknowledged, %d swaps of the champion", rounds, len(l.outcomes), l.predicted, swaps)
}

// checkAfterKill compares what p knows with what was acknowledged. champion is the version that an acknowledged change
// of the alias named, "" where the change may or may not have come through.
func checkAfterKill(t *testing.T, p *process, l *load, champion string) {
	t.Helper()
	outcomes, err := p.feedback().Outcomes(t.Context(), turbofan.OutcomeQuery{})
	if err != nil {
		t.Fatal(err)
	}
	kept := map[string]bool{}
	for _, o := range outcomes {
		if kept[o.Key] {
			t.Errorf("outcome %s is kept twice", o.Key)
		}
		kept[o.Key] = true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for key := range l.outcomes {
		if !kept[key] {
			t.Errorf("%s was acknowledged and is gone", key)
		}
	}
	reg, err := mlflow.NewClient(p.urls[roleRegistry], nil)
	if err != nil {
		t.Fatal(err)
	}
	v, err := reg.Version(t.Context(), "rul", "@"+turbofan.ChampionAlias)
	if err != nil {
		t.Fatal(err)
	}
	if champion != "" && v.Version != champion {
		t.Errorf("the champion is %s, acknowledged was %s", v.Version, champion)
	}
	client := p.predictions()
	serving, err := client.Serving(t.Context())
	if err != nil || serving.ModelVersion != v.Version {
		t.Errorf("%s serves, the champion is %s: %v", serving.ModelVersion, v.Version, err)
	}
	for unit := range l.cycles {
		goesOn(t, client, unit)
		delete(l.cycles, unit)
	}
}

// goesOn sends a unit's next reading, and nothing in between: a cycle that was answered and not kept would show as a gap
// that the unit cannot close.
func goesOn(t *testing.T, c turbofan.PredictionService, unit string) {
	t.Helper()
	cycle := 1
	status, err := c.Unit(t.Context(), unit)
	switch turbofan.ErrorCode(err) {
	case "":
		cycle = status.LastCycle + 1
		if status.Readings != status.LastCycle {
			t.Errorf("unit %s has %d readings up to cycle %d", unit, status.Readings, status.LastCycle)
		}
	case turbofan.ENotFound: // an answer may be given before it is on disk
	default:
		t.Fatal(err)
	}
	r := turbofan.Reading{UnitID: unit, Cycle: cycle, Settings: make([]float64, 3), Sensors: make([]float64, 21)}
	if _, err := c.Predict(t.Context(), turbofan.PredictRequest{Readings: []turbofan.Reading{r}}); err != nil {
		t.Errorf("unit %s cannot go on: %v", unit, err)
	}
}

// TestServeKillWhileTraining kills a platform in the middle of its first training. The next one takes the job up, and
// the registry holds one version, which serves.
func TestServeKillWhileTraining(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	args := []string{"--data", must(t, shared.fleet), "--data-dir", dir}
	env := []string{"TURBOFAN_MODEL_KIND=blend", "TURBOFAN_MODEL_FOLDS=4", "TURBOFAN_REFRESH_EVERY=100ms"}
	p := serve(t, env, args...)
	var id string
	p.until("the training is under way", func() bool {
		jobs, err := p.retraining().Jobs(t.Context(), 1)
		if err != nil || len(jobs) == 0 {
			return false
		}
		id = jobs[0].ID
		return jobs[0].Status == turbofan.JobInProgress && jobs[0].Progress > 0.1
	})
	p.kill()

	p = serve(t, env, args...)
	if job := p.job(id); job.Status != turbofan.JobSuccess || job.Result.ModelVersion != "1" || !job.Result.Promoted {
		t.Fatalf("the job after the restart: %+v", job)
	}
	p.ready(rolePredict)
	jobs, err := p.retraining().Jobs(t.Context(), 10)
	if err != nil || len(jobs) != 1 {
		t.Errorf("%d jobs, %v", len(jobs), err)
	}
	reg, err := mlflow.NewClient(p.urls[roleRegistry], nil)
	if err != nil {
		t.Fatal(err)
	}
	versions, err := reg.Versions(t.Context(), "rul")
	if err != nil || len(versions) != 1 {
		t.Fatalf("%d versions, %v", len(versions), err)
	}
	checkSwept(t, dir)
}

func checkSwept(t *testing.T, dir string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(dir, "training", "*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left over from the training: %q, %v", left, err)
	}
}

// TestTrainersTakeOver runs several trainers over one store, a file on one machine or a server that they share alone. One
// of them works on a job; when it is killed another brings the job to its end, and every job is done once.
func TestTrainersTakeOver(t *testing.T) {
	t.Run("SQLite", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "data")
		takeOver(t, func() string { return dir })
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		server := postgrestest.Start(t)
		takeOver(t, func() string { return filepath.Join(t.TempDir(), "data") }, "TURBOFAN_STORE_DSN="+server.DSN("public"))
	})
}

// takeOver gives each trainer the directory that dir names.
func takeOver(t *testing.T, dir func() string, env ...string) {
	registry := serve(t, nil, "--role", roleRegistry, "--data-dir", filepath.Join(t.TempDir(), "registry"))
	// A blend takes seconds to train: a kill comes in between.
	env = append(env, "TURBOFAN_URLS_REGISTRY="+registry.urls[roleRegistry], "TURBOFAN_RETRAIN_LEASE=1s", "TURBOFAN_MODEL_KIND=blend", "TURBOFAN_MODEL_FOLDS=2")
	var dirs []string
	trainer := func() *process {
		dirs = append(dirs, dir())
		return serve(t, env, "--role", roleRetrain, "--data", must(t, shared.fleet), "--data-dir", dirs[len(dirs)-1])
	}
	var job turbofan.Job
	underWay := func(p *process) {
		p.until("a training is under way", func() bool {
			jobs, err := p.retraining().Jobs(t.Context(), 1)
			if err != nil || len(jobs) == 0 {
				return false
			}
			job = jobs[0]
			return job.Status == turbofan.JobInProgress && job.Progress > 0.1
		})
	}
	first := trainer()
	underWay(first)
	second := trainer()
	if jobs, err := second.retraining().Jobs(t.Context(), 10); err != nil || len(jobs) != 1 || jobs[0].ID != job.ID {
		t.Fatalf("beside the first training, job %s, the second trainer knows %+v, %v", job.ID, jobs, err)
	}
	if _, err := second.retraining().Submit(t.Context(), turbofan.RetrainRequest{}); turbofan.ErrorCode(err) != turbofan.EConflict {
		t.Errorf("a second job beside the one that runs: %v", err)
	}
	first.kill()
	if end := second.job(job.ID); end.Status != turbofan.JobSuccess || end.Result.ModelVersion != "1" || !end.Result.Promoted {
		t.Fatalf("the job after the takeover: %+v, %+v", end, end.Result)
	}
	second.await("retraining done")

	// The same once more, with a champion to be judged beside: whichever trainer has the job is killed.
	third := trainer()
	next, err := third.retraining().Submit(t.Context(), turbofan.RetrainRequest{Force: true})
	if err != nil {
		t.Fatal(err)
	}
	underWay(third)
	second.kill()
	fourth := trainer()
	third.kill()
	if end := fourth.job(next.ID); end.Status != turbofan.JobSuccess || end.Result.ModelVersion != "2" || end.Result.Champion != "1" {
		t.Fatalf("the forced job after all its trainers died: %+v, %+v", end, end.Result)
	}
	if jobs, err := fourth.retraining().Jobs(t.Context(), 10); err != nil || len(jobs) != 2 {
		t.Errorf("%d jobs, %v", len(jobs), err)
	}
	reg, err := mlflow.NewClient(registry.urls[roleRegistry], nil)
	if err != nil {
		t.Fatal(err)
	}
	versions, err := reg.Versions(t.Context(), "rul")
	if err != nil || len(versions) != 2 {
		t.Errorf("%d versions, %v", len(versions), err)
	}
	checkSwept(t, dirs[len(dirs)-1])
}

// TestTrainersOfTwoRegistries starts two platforms over one server, each with a registry of its own.
func TestTrainersOfTwoRegistries(t *testing.T) {
	server := postgrestest.Start(t)
	env := []string{"TURBOFAN_STORE_DSN=" + server.DSN("public"), "TURBOFAN_RETRAIN_BOOTSTRAP=false"}
	dir := t.TempDir()
	p := serve(t, env, "--data-dir", filepath.Join(dir, "a"))
	other := serve(t, env, "--data-dir", filepath.Join(dir, "b"))
	want := "with a registry of its own; let both use one: store.registry, tracking_uri, or urls.registry without the role registry"
	if code := other.wait(); code != exitFailure || !strings.HasSuffix(other.log(), want) {
		t.Errorf("the second: %d\n%s", code, other.log())
	}
	// As after the other took over while this one was not heard of: it goes too.
	server.Exec(t, `UPDATE leases SET holder = 'other' WHERE name = 'registry'`)
	if code := p.wait(); code != exitFailure || !strings.HasSuffix(p.log(), want) {
		t.Errorf("the first, replaced: %d\n%s", code, p.log())
	}
	server.Exec(t, `DELETE FROM leases`)
	p = serve(t, env, "--data-dir", filepath.Join(dir, "a"))
	p.kill()
	serve(t, env, "--data-dir", filepath.Join(dir, "a")).signal(syscall.SIGTERM) // the same registry, at once
	p = serve(t, env, "--data-dir", filepath.Join(dir, "b"))                     // and another after an end in order
	if code, body := p.get(roleRetrain, "/jobs"); code != http.StatusOK {
		t.Errorf("it answers %d %s", code, body)
	}
}
