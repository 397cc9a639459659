package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"turbofan"
	"turbofan/dataset"
	"turbofan/httpapi"
	"turbofan/simulate"
)

type simulateOptions struct {
	data, predictURL, feedbackURL string
	subsets                       []string
	rateText, scenario            string
	mix                           bool
	fleet, sample, delay, workers int
	missing, mixShare             float64
	mixUnits                      int
	faultText                     []string
	faults                        []simulate.Fault
	seed                          int64
	resume, listen                string
	ticks                         int
}

func newSimulateCommand() *cobra.Command {
	var o simulateOptions
	cmd := &cobra.Command{
		Use:   "simulate",
		Short: "Stream a fleet of engines to a running platform, quarter after quarter",
		Long: strings.TrimSpace(`
Stream the subsets as quarters to any deployment through its public API: a staggered fleet, units of the next
subset mixed in before each boundary, outcomes that come late or never. The same seed gives the same stream.
The first subset is streamed from its test units where its truth file is there, so that a model trained on it
is not scored by what it learned. With --resume FILE a stopped stream goes on where it was.`),
		Example: strings.TrimSpace(`
turbofan simulate --subsets FD001,FD002,FD003,FD004 --rate 10/min --mix-at-boundaries
turbofan simulate --scenario sudden --missing-feedback 0.3 --fault offset:sensor_11,share=0.2,from=300,size=1.5
turbofan simulate --rate 500/s --resume turbofan-data/stream.json
turbofan simulate --predict-url http://plant:3000 --feedback-url http://plant:3001`),
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	def := simulate.DefaultConfig()
	fl := cmd.Flags()
	fl.StringVar(&o.data, "data", "", "directory with the C-MAPSS files (default: $TURBOFAN_DATA, data/raw, ../shared/cmapss)")
	fl.StringVar(&o.predictURL, "predict-url", "http://127.0.0.1:3000", "where the prediction role answers")
	fl.StringVar(&o.feedbackURL, "feedback-url", "http://127.0.0.1:3001", "where the feedback role answers")
	fl.StringSliceVar(&o.subsets, "subsets", dataset.Subsets(), "subsets in order, one quarter each")
	fl.StringVar(&o.rateText, "rate", "", "readings per time, such as 10/min or 500/s (default as fast as it goes)")
	fl.BoolVar(&o.mix, "mix-at-boundaries", true, "mix a few units of the next subset in before each boundary")
	fl.IntVar(&o.mixUnits, "mix-units", def.MixUnits, "how many units of the next subset are mixed in")
	fl.Float64Var(&o.mixShare, "mix-share", def.MixShare, "share of a subset's units that come after the first of the next one")
	fl.StringArrayVar(&o.faultText, "fault", nil, "break a sensor: KIND:SENSOR[,share=S][,from=TICK][,to=TICK][,size=X], KIND stuck, offset or dropout; may be repeated")
	fl.StringVar(&o.scenario, "scenario", string(simulate.Gradual), "gradual or sudden")
	fl.IntVar(&o.fleet, "fleet", def.Fleet, "units in service at a time")
	fl.IntVar(&o.sample, "sample", def.Sample, "send every n-th cycle of each unit")
	fl.IntVar(&o.delay, "feedback-delay", def.FeedbackDelay, "ticks from a unit's end to its outcome")
	fl.Float64Var(&o.missing, "missing-feedback", 0, "share of units whose outcome is never sent")
	fl.IntVar(&o.workers, "workers", 4, "requests under way at once")
	fl.Int64Var(&o.seed, "seed", def.Seed, "seed of the stream")
	fl.StringVar(&o.resume, "resume", "", "file that keeps the place in the stream")
	fl.StringVar(&o.listen, "listen", "", "address that answers /metrics while the stream lasts, such as 127.0.0.1:3005")
	fl.IntVar(&o.ticks, "ticks", 0, "stop after this many ticks of fleet time; 0 goes to the end")
	return cmd
}

// place is what --resume keeps. Another plan's place would send other units' cycles, so it is tied to its options.
type place struct {
	Options string `json:"options"`
	Tick    int    `json:"tick"`
}

func (o *simulateOptions) run(cmd *cobra.Command) error {
	rate := 0.0
	if o.rateText != "" {
		var err error
		if rate, err = parseRate(o.rateText); err != nil {
			return usagef(cmd, "--rate: %v", err)
		}
	}
	if err := o.check(cmd); err != nil {
		return err
	}
	plan, quarters, err := o.plan()
	if err != nil {
		return err
	}
	from, err := o.readPlace()
	if err != nil {
		return err
	}
	bar := newProgress(cmd.ErrOrStderr())
	defer bar.done()
	until := ""
	if o.ticks > 0 && from+o.ticks < plan.Ticks {
		until = fmt.Sprintf(" to %d", from+o.ticks)
	}
	bar.say("a stream of %s over %s, from tick %d%s, to %s", turbofan.Count(plan.Readings, "reading"), turbofan.Count(plan.Ticks, "tick"), from, until, o.predictURL)
	return o.stream(cmd, plan, quarters, from, rate, bar)
}

func (o *simulateOptions) check(cmd *cobra.Command) error {
	if err := checkSubsets(cmd, o.subsets, 1); err != nil {
		return err
	}
	if err := errors.Join(checkURL("--predict-url", o.predictURL), checkURL("--feedback-url", o.feedbackURL)); err != nil {
		return err
	}
	for _, rule := range []struct {
		name       string
		n, low, up int
	}{{"workers", o.workers, 1, 256}, {"fleet", o.fleet, 1, 100_000}, {"sample", o.sample, 1, turbofan.MaxCycle}, {"feedback-delay", o.delay, 0, turbofan.MaxCycle}, {"ticks", o.ticks, 0, turbofan.MaxCycle}, {"mix-units", o.mixUnits, 0, 100_000}} {
		if rule.n < rule.low || rule.n > rule.up {
			return usagef(cmd, "--%s must be from %d to %d, not %d", rule.name, rule.low, rule.up, rule.n)
		}
	}
	for name, share := range map[string]float64{"missing-feedback": o.missing, "mix-share": o.mixShare} {
		if !(share >= 0 && share <= 1) {
			return usagef(cmd, "--%s must be from 0 to 1, not %g", name, share)
		}
	}
	schema := turbofan.CMAPSS()
	for _, text := range o.faultText {
		f, err := parseFault(text, schema.Sensors)
		if err != nil {
			return usagef(cmd, "--fault %s: %v", text, err)
		}
		o.faults = append(o.faults, f)
	}
	return checkScenario(cmd, o.scenario)
}

// checkSubsets refuses fewer subsets than least and one that is named twice.
func checkSubsets(cmd *cobra.Command, subsets []string, least int) error {
	if len(subsets) < least {
		return usagef(cmd, "--subsets must name at least %d, such as %s", least, strings.Join(dataset.Subsets()[:least], ","))
	}
	seen := map[string]bool{}
	for _, s := range subsets {
		if seen[s] {
			return usagef(cmd, "--subsets names %s twice", s)
		}
		seen[s] = true
	}
	return nil
}

// parseFault reads offset:sensor_11,share=0.2,from=300,to=600,size=1.5. Without a share all units are hit, without from
// the fault is there from the start, and without to it stays.
func parseFault(text string, sensors []turbofan.Channel) (simulate.Fault, error) {
	head, rest, _ := strings.Cut(text, ",")
	kind, sensor, ok := strings.Cut(head, ":")
	f := simulate.Fault{Kind: simulate.FaultKind(kind), Share: 1}
	f.Sensor = slices.IndexFunc(sensors, func(c turbofan.Channel) bool { return c.Name == sensor })
	switch {
	case !ok || f.Kind != simulate.Stuck && f.Kind != simulate.Offset && f.Kind != simulate.Dropout:
		return f, errors.New("must begin with stuck:SENSOR, offset:SENSOR or dropout:SENSOR")
	case f.Sensor < 0:
		return f, fmt.Errorf("there is no sensor %q", sensor)
	}
	for part := range strings.SplitSeq(rest, ",") {
		if part == "" {
			continue
		}
		key, value, _ := strings.Cut(part, "=")
		var err error
		switch key {
		case "share":
			f.Share, err = strconv.ParseFloat(value, 64)
		case "size":
			f.Size, err = strconv.ParseFloat(value, 64)
		case "from":
			f.FromTick, err = strconv.Atoi(value)
		case "to":
			f.ToTick, err = strconv.Atoi(value)
		default:
			return f, fmt.Errorf("%q is not share, size, from or to", key)
		}
		if err != nil {
			return f, fmt.Errorf("%s must be a number, not %q", key, value)
		}
	}
	return f, nil
}

func checkScenario(cmd *cobra.Command, name string) error {
	if name != string(simulate.Gradual) && name != string(simulate.Sudden) {
		return usagef(cmd, "--scenario must be gradual or sudden, not %q", name)
	}
	return nil
}

func (o *simulateOptions) plan() (*simulate.Plan, []simulate.Quarter, error) {
	loc, err := locateData(o.data)
	if err != nil {
		return nil, nil, err
	}
	cfg := simulate.Config{Fleet: o.fleet, Scenario: simulate.Scenario(o.scenario), MixShare: o.mixShare, MixUnits: o.mixUnits, Faults: o.faults,
		Sample: o.sample, FeedbackDelay: o.delay, MissingFeedback: o.missing, Seed: o.seed}
	if !o.mix {
		cfg.MixUnits = 0
	}
	cfg.Quarters, err = quartersOf(loc.Dir, o.subsets)
	if err != nil {
		return nil, nil, err
	}
	plan, err := simulate.NewPlan(cfg)
	return plan, cfg.Quarters, err
}

// quartersOf reads one quarter a subset: the first from its test units where their ends are known.
func quartersOf(dir string, subsets []string) ([]simulate.Quarter, error) {
	var out []simulate.Quarter
	for i, name := range subsets {
		train, test, err := dataset.LoadCMAPSS(dir, name)
		if err != nil {
			return nil, err
		}
		units := train.Units
		if i == 0 && test.HasTruth() {
			units = test.Units
		}
		out = append(out, simulate.Quarter{Name: fmt.Sprintf("T%d", i), Subset: name, Units: units})
	}
	return out, nil
}

func (o *simulateOptions) options() string {
	text := fmt.Sprintf("%s fleet=%d sample=%d delay=%d missing=%g mix=%v %s seed=%d", strings.Join(o.subsets, ","), o.fleet, o.sample, o.delay, o.missing, o.mix, o.scenario, o.seed)
	if def := simulate.DefaultConfig(); o.mix && (o.mixUnits != def.MixUnits || o.mixShare != def.MixShare) {
		text += fmt.Sprintf(" mix-units=%d mix-share=%g", o.mixUnits, o.mixShare)
	}
	if len(o.faultText) > 0 {
		text += " fault=" + strings.Join(o.faultText, " fault=")
	}
	return text
}

func (o *simulateOptions) readPlace() (int, error) {
	if o.resume == "" {
		return 0, nil
	}
	b, err := os.ReadFile(o.resume)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, turbofan.Invalid("--resume", "%s", err.Error())
	}
	var p place
	if err := json.Unmarshal(b, &p); err != nil || p.Tick < 0 {
		return 0, turbofan.Invalid("--resume", "%s does not hold a place in a stream", o.resume)
	}
	if p.Options != o.options() {
		return 0, turbofan.Invalid("--resume", "%s belongs to another stream (%s); use its options, or another file", o.resume, p.Options)
	}
	return p.Tick, nil
}

func (o *simulateOptions) savePlace(tick int) error {
	if o.resume == "" {
		return nil
	}
	b, err := json.Marshal(place{o.options(), tick})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(o.resume), 0o755); err != nil {
		return fmt.Errorf("save the place in the stream: %w", err)
	}
	tmp := o.resume + ".tmp"
	if err := os.WriteFile(tmp, b, 0o644); err != nil {
		return fmt.Errorf("save the place in the stream: %w", err)
	}
	return os.Rename(tmp, o.resume)
}

// errEnough ends a stream at --ticks.
var errEnough = errors.New("enough ticks")

func (o *simulateOptions) stream(cmd *cobra.Command, plan *simulate.Plan, quarters []simulate.Quarter, from int, rate float64, bar *progress) error {
	rec := newRecorder(plan, quarters)
	began := time.Now()
	r := simulate.Runner{Plan: plan, Predictions: httpapi.NewPredictionClient(o.predictURL, apiClient()), Feedback: httpapi.NewFeedbackClient(o.feedbackURL, apiClient()),
		Workers: o.workers, FromTick: from, Hooks: simulate.Hooks{Sent: rec.sent, Outcome: rec.outcome}}
	r.Hooks.Tick = func(ctx context.Context, tick int) error {
		if o.ticks > 0 && tick >= from+o.ticks {
			return errEnough
		}
		rec.mu.Lock()
		requests, failed, failure, known := rec.requests, rec.failed, rec.failure, rec.known
		rec.mu.Unlock()
		if known && failed == requests {
			return turbofan.Errorf(turbofan.EConflict, "%s knows the units of this stream already: go on where a stream stopped with --resume FILE, given from its first run on, or stream other --subsets (%s)", o.predictURL, failure)
		}
		if failed > 0 && failed == requests {
			return fmt.Errorf("nothing answers at %s: %s", o.predictURL, failure)
		}
		bar.update(float64(tick)/float64(plan.Ticks), false, "tick %d  %s, %d failed", tick, turbofan.Count(requests, "request"), failed)
		if rate > 0 {
			due := time.Duration(float64(requests) / rate * float64(time.Second))
			if t := due - time.Since(began); t > 0 {
				return pause(ctx, t)
			}
		}
		return nil
	}
	closeMetrics, err := o.serveMetrics(cmd, &r, quarters)
	if err != nil {
		return err
	}
	tick, err := r.Run(cmd.Context())
	err = errors.Join(err, closeMetrics())
	if errors.Is(err, errEnough) {
		err = nil
	}
	if saveErr := o.savePlace(tick); saveErr != nil {
		err = errors.Join(err, saveErr)
	}
	bar.done()
	rec.summarize(cmd.OutOrStdout(), tick, plan.Ticks)
	if err == nil && rec.failed > 0 {
		return fmt.Errorf("%d of %s failed, the first: %s", rec.failed, turbofan.Count(rec.requests, "request"), rec.failure)
	}
	return err
}

// summarize says what a stream came to, and how much of it the platform knew: a second run of the same stream sends
// nothing new, although nothing fails.
func (r *recorder) summarize(w io.Writer, tick, ticks int) {
	fmt.Fprintf(w, "%s, %d failed, %s; p50 %s ms, p95 %s ms; next tick %d of %d\n", turbofan.Count(r.requests, "request"), r.failed, turbofan.Count(r.outcomes, "outcome"),
		millis(r.percentile(.5)), millis(r.percentile(.95)), tick, ticks)
	if r.replayed > 0 {
		fmt.Fprintf(w, "%s had been answered before this run began and got the answers of then: the platform counts no reading twice\n", turbofan.Count(r.replayed, "reading"))
	}
}

// serveMetrics has a runner tell where it is, where that was asked for.
func (o *simulateOptions) serveMetrics(cmd *cobra.Command, r *simulate.Runner, quarters []simulate.Quarter) (stop func() error, err error) {
	if o.listen == "" {
		return func() error { return nil }, nil
	}
	m, err := newStreamMetrics(r.Plan, quarters)
	if err != nil {
		return nil, err
	}
	m.watch(r)
	ctx, cancel := context.WithCancel(cmd.Context())
	url, wait, err := m.serve(ctx, o.listen, slog.New(slog.DiscardHandler))
	if err != nil {
		cancel()
		return nil, err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "metrics at %s\n", url)
	return func() error {
		cancel()
		return wait()
	}, nil
}
