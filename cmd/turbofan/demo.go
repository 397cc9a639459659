package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"turbofan"
	"turbofan/dataset"
	"turbofan/feedback"
	"turbofan/httpapi"
	"turbofan/model"
	"turbofan/predict"
	"turbofan/simulate"
	"turbofan/sqlstore"
)

type demoOptions struct {
	data, dataDir string
	subsets       []string
	pace          time.Duration
	rate          float64 // readings a second; 0 is as fast as it goes
	rateText      string
	mix           bool
	scenario      string
	seed          int64
	keep          bool
	full          bool // learners as `turbofan serve` trains them
	kind          string
	workers       int
	logFile       string
}

func newDemoCommand() *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Take a model through its whole life: train, serve, drift, retrain, swap, report",
		Long: strings.TrimSpace(`
Start the platform in this process, train on the first subset, stream four quarters of production through
the public API, let the detector find drift and the retrainer repair the model, then replay the same stream
against the frozen first version. The report is turbofan-data/report/index.html, its numbers summary.json.

The exit status is 0 only if every step happened: a model served, no request failed, drift was found,
a retraining was promoted and swapped in.`),
		Example: strings.TrimSpace(`
turbofan demo
turbofan demo --pace 10m
turbofan demo --subsets FD001,FD003 --scenario sudden --seed 7
turbofan demo --keep   # then: turbofan serve --data-dir turbofan-data/demo`),
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(cmd); err != nil {
				return err
			}
			return runDemo(cmd.Context(), o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&o.data, "data", "", "directory with the C-MAPSS files (default: $TURBOFAN_DATA, data/raw, ../shared/cmapss, a download, a synthetic fleet)")
	fl.StringVar(&o.dataDir, "data-dir", "turbofan-data", "directory for the report and the platform's state")
	fl.StringSliceVar(&o.subsets, "subsets", dataset.Subsets(), "subsets in order: the first is trained on, each is one quarter")
	fl.DurationVar(&o.pace, "pace", 0, "spread the stream over this time, such as 10m for watching; 0 goes as fast as it can")
	fl.StringVar(&o.rateText, "rate", "", "readings per time, such as 10/min or 500/s")
	fl.BoolVar(&o.mix, "mix-at-boundaries", true, "mix a few units of the next subset in before each boundary")
	fl.StringVar(&o.scenario, "scenario", string(simulate.Gradual), "gradual or sudden; sudden never mixes")
	fl.Int64Var(&o.seed, "seed", 42, "seed of the model and of the stream")
	fl.BoolVar(&o.keep, "keep", false, "keep the platform's state in DATA-DIR/demo afterwards")
	fl.BoolVar(&o.full, "full", false, "train as large as turbofan serve does, not the smaller models that make the demo quick")
	fl.StringVar(&o.kind, "model", model.Boosting, "learner: "+strings.Join(model.Kinds(), ", "))
	fl.IntVar(&o.workers, "workers", 4, "requests under way at once")
	fl.StringVar(&o.logFile, "log-file", "", "write the platform's log here (default DATA-DIR/report/platform.log)")
	return cmd
}

func (o *demoOptions) check(cmd *cobra.Command) error {
	if err := checkSubsets(cmd, o.subsets, 2); err != nil {
		return err
	}
	if err := checkScenario(cmd, o.scenario); err != nil {
		return err
	}
	if !slices.Contains(model.Kinds(), o.kind) {
		return usagef(cmd, "--model must be one of %s, not %q", strings.Join(model.Kinds(), ", "), o.kind)
	}
	if o.pace < 0 {
		return usagef(cmd, "--pace must be at least 0, not %s", o.pace)
	}
	if o.workers < 1 || o.workers > 256 {
		return usagef(cmd, "--workers must be from 1 to 256, not %d", o.workers)
	}
	if o.rateText != "" {
		r, err := parseRate(o.rateText)
		if err != nil {
			return usagef(cmd, "--rate: %v", err)
		}
		if o.pace > 0 {
			return usagef(cmd, "--pace and --rate both set the speed: give one")
		}
		o.rate = r
	}
	return nil
}

// parseRate reads 10/min, 500/s or 2/hour as readings a second.
func parseRate(s string) (float64, error) {
	count, per, ok := strings.Cut(s, "/")
	n, err := strconv.ParseFloat(count, 64)
	seconds := map[string]float64{"s": 1, "sec": 1, "second": 1, "min": 60, "m": 60, "minute": 60, "h": 3600, "hour": 3600}[per]
	if !ok || err != nil || !(n > 0) || n > 1e9 || seconds == 0 {
		return 0, fmt.Errorf("%q is not a number above 0 per s, min or h, such as 10/min", s)
	}
	return n / seconds, nil
}

// demo is one run, from the data to the report.
type demo struct {
	o        demoOptions
	out, err io.Writer
	bar      *progress
	log      *slog.Logger
	loc      dataset.Location
	plan     *simulate.Plan
	quarters []simulate.Quarter
	platform *platform
	clients  demoClients
	rec      *recorder
	frozen   *recorder
	first    string // version trained before the stream
	began    time.Time
}

type demoClients struct {
	predict  turbofan.PredictionService
	feedback turbofan.FeedbackService
	drift    turbofan.DriftService
	retrain  turbofan.RetrainingService
}

func runDemo(ctx context.Context, o demoOptions, stdout, stderr io.Writer) (err error) {
	d := &demo{o: o, out: stdout, err: stderr, bar: newProgress(stderr), began: time.Now()}
	defer d.bar.done()
	if err := d.prepare(ctx); err != nil {
		return err
	}
	reportDir := filepath.Join(o.dataDir, "report")
	if err := os.MkdirAll(reportDir, 0o755); err != nil {
		return fmt.Errorf("the report directory %s cannot be made: %s; choose another with --data-dir", reportDir, pathReason(err))
	}
	closeLog, err := d.openLog(reportDir)
	if err != nil {
		return err
	}
	defer closeLog()
	state := filepath.Join(o.dataDir, "demo")
	unlock, err := lockDemo(o.dataDir)
	if err != nil {
		return err
	}
	defer unlock()
	if err := os.RemoveAll(state); err != nil {
		return fmt.Errorf("clear the last demo's state: %w", err)
	}
	if !o.keep {
		defer func() { err = errors.Join(err, os.RemoveAll(state)) }()
	}
	stop, err := d.startPlatform(ctx, state)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	if err := d.trainFirst(ctx); err != nil {
		return err
	}
	if err := d.stream(ctx); err != nil {
		return err
	}
	if err := d.replayFrozen(ctx, filepath.Join(state, "frozen")); err != nil {
		return err
	}
	return d.finish(ctx, reportDir)
}

func (d *demo) openLog(reportDir string) (func(), error) {
	path := d.o.logFile
	if path == "" {
		path = filepath.Join(reportDir, "platform.log")
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	d.log = slog.New(quiet{slog.NewTextHandler(f, nil)})
	return func() { f.Close() }, nil
}

// quiet leaves the line of each answered request out of the demo's log: 150,000 of them say nothing.
type quiet struct{ slog.Handler }

func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == "request" && r.Level <= slog.LevelInfo {
		return nil
	}
	return q.Handler.Handle(ctx, r)
}

func (q quiet) WithAttrs(a []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(a)} }
func (q quiet) WithGroup(name string) slog.Handler   { return quiet{q.Handler.WithGroup(name)} }

// lockDemo keeps two demos from clearing each other's state.
func lockDemo(dataDir string) (func(), error) {
	f, err := os.OpenFile(filepath.Join(dataDir, "demo.lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock demo: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, turbofan.Wrap(turbofan.EConflict, err, "another demo runs in %s; choose another --data-dir", dataDir)
	}
	return func() { f.Close() }, nil
}

// prepare finds or makes the data and lays out the stream.
func (d *demo) prepare(ctx context.Context) error {
	var err error
	if d.loc, err = acquireData(ctx, d.o.data, d.o.dataDir, d.o.subsets, d.o.seed, d.bar); err != nil {
		return err
	}
	cfg := simulate.DefaultConfig()
	cfg.Seed, cfg.Scenario = d.o.seed, simulate.Scenario(d.o.scenario)
	if !d.o.mix {
		cfg.MixUnits = 0
	}
	if cfg.Quarters, err = quartersOf(d.loc.Dir, d.o.subsets); err != nil {
		return err
	}
	if first := cfg.Quarters[0].Units; first[0].FailedAtCycle == first[0].Readings[len(first[0].Readings)-1].Cycle {
		return turbofan.Invalid("--subsets", "the first is streamed from its test units, so that no unit is scored by a model that learned from it; %s has no truth file for them", d.o.subsets[0])
	}
	d.quarters = cfg.Quarters
	if d.plan, err = simulate.NewPlan(cfg); err != nil {
		return err
	}
	d.bar.say("stream: %s of %s, a staggered fleet of %d, %s", turbofan.Count(d.plan.Readings, "reading"), turbofan.Count(len(d.quarters), "quarter"), cfg.Fleet, d.o.scenario)
	return nil
}

// startPlatform runs every role on a free port of loopback.
func (d *demo) startPlatform(ctx context.Context, state string) (func() error, error) {
	cfg := defaultConfig()
	cfg.DataDir, cfg.Dataset = state, datasetConfig{Dir: d.loc.Dir, Subsets: d.o.subsets[:1]}
	cfg.Model.Kind, cfg.Model.RandomState, cfg.Model.Folds = d.o.kind, d.o.seed, 3
	if !d.o.full {
		cfg.Model.MaxRows, cfg.Model.Light = 20_000, true
	}
	cfg.Refresh = durationConfig(100 * time.Millisecond)
	cfg.Drift.EveryRows, cfg.Drift.Every = 500, 0
	for role := range cfg.Ports {
		cfg.Ports[role] = 0
	}
	p, err := newPlatform(ctx, cfg, d.log)
	if err != nil {
		return nil, err
	}
	d.platform = p
	d.clients = demoClients{httpapi.NewPredictionClient(p.url(rolePredict), nil), httpapi.NewFeedbackClient(p.url(roleFeedback), nil),
		httpapi.NewDriftClient(p.url(roleDrift), nil), httpapi.NewRetrainingClient(p.url(roleRetrain), nil)}
	d.bar.say("platform is up:\n%s", strings.TrimRight(p.describe(), "\n"))
	return p.start(ctx), nil
}

// trainFirst waits for the platform's own first model: it trains one because the registry is empty.
func (d *demo) trainFirst(ctx context.Context) error {
	stage := ""
	for {
		jobs, err := d.clients.retrain.Jobs(ctx, 1)
		if err != nil && turbofan.ErrorCode(err) != turbofan.EUnavailable {
			return fmt.Errorf("ask for the first training: %w", err)
		}
		if len(jobs) == 1 {
			j := jobs[0]
			now := cmp.Or(j.Stage, "starting")
			d.bar.update(j.Progress, now != stage, "training version 1 on %s: %s", d.o.subsets[0], now)
			stage = now
			if j.Status == turbofan.JobSuccess {
				d.first = j.Result.ModelVersion
				d.bar.say("version %s: cross-validated RMSE %.2f cycles, trained in %.1f s", d.first, j.Result.Metrics["cv_rmse_clipped"], j.Result.Seconds)
				return d.waitServing(ctx)
			}
			if !j.Status.Active() {
				return fmt.Errorf("train the first model: job %s: %s", j.Status, j.Error)
			}
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

func (d *demo) waitServing(ctx context.Context) error {
	deadline := time.Now().Add(30 * time.Second)
	for {
		s, err := d.clients.predict.Serving(ctx)
		if err == nil && s.ModelVersion == d.first {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("wait for version %s to serve: %w", d.first, err)
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, t time.Duration) error {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// Fleet time is slowed to this many ticks a second while a retraining runs: a flight takes hours and a retraining
// minutes, and a stream at full speed would turn that round. Requests keep coming all the while.
const ticksWhileRetraining = 4

func (d *demo) stream(ctx context.Context) error {
	d.rec = newRecorder(d.plan, d.quarters)
	watch := &watcher{d: d, seenJobs: map[string]turbofan.JobStatus{}, seenReports: map[string]bool{}, began: time.Now()}
	r := simulate.Runner{Plan: d.plan, Predictions: d.clients.predict, Feedback: d.clients.feedback, Workers: d.o.workers,
		Hooks: simulate.Hooks{Tick: watch.tick, Sent: d.rec.sent, Outcome: d.rec.outcome}}
	if _, err := r.Run(ctx); err != nil {
		return err
	}
	if err := watch.settle(ctx); err != nil {
		return err
	}
	d.rec.seconds = time.Since(watch.began).Seconds()
	return nil
}

// replayFrozen sends the same stream to the first version alone, through the same service over a store of its own.
func (d *demo) replayFrozen(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("replay against version %s: %w", d.first, err)
	}
	state, err := sqlstore.OpenState(ctx, sqlstore.Config{Path: filepath.Join(dir, "state.db")})
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	defer state.Close()
	c := predict.DefaultConfig()
	c.Version, c.CacheDir = d.first, filepath.Join(dir, "serving")
	svc, err := predict.New(c, d.platform.registry, predict.Stores{Readings: state, Predictions: state}, nil, d.log.With("replay", true))
	if err != nil {
		return err
	}
	if _, err := svc.Refresh(ctx); err != nil {
		return fmt.Errorf("replay against version %s: %w", d.first, err)
	}
	fb, err := feedback.New(feedback.Config{Cap: d.platform.cfg.learner().Cap}, state, nil, d.log)
	if err != nil {
		return err
	}
	d.frozen = newRecorder(d.plan, d.quarters)
	r := simulate.Runner{Plan: d.plan, Predictions: svc, Feedback: fb, Workers: 2, Hooks: simulate.Hooks{
		Tick: func(_ context.Context, tick int) error {
			d.bar.update(float64(tick)/float64(d.plan.Ticks), tick == 0, "replaying the stream against the frozen version %s", d.first)
			return nil
		},
		Sent: d.frozen.sent,
	}}
	if _, err := r.Run(ctx); err != nil {
		return err
	}
	return nil
}
