package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"turbofan"
	"turbofan/model"
)

func newTuneCommand() *cobra.Command {
	var f configFlags
	var o tuneOptions
	cmd := &cobra.Command{
		Use:   "tune",
		Short: "Search features and hyper-parameters by cross-validation by unit",
		Long: strings.TrimSpace(`
Search what to train by cross-validation by unit, never by a test file. Points are proposed by a tree-structured
Parzen estimator; after each fold a trial that is worse than the median of the others at that fold is given up.
Every trial is a run in the registry, in the experiment NAME-tune. The search is kept in the data directory after
each trial: the same command goes on where it stopped, until there are --trials of them. --restart forgets it.`),
		Example: strings.TrimSpace(`
turbofan tune --trials 50 --html search.html
turbofan tune --model extra_trees --subsets FD001,FD003 --max-rows 15000
turbofan tune --trials 100 --out tuned`),
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := f.resolve(cmd)
			if err != nil {
				return err
			}
			o.into(cmd, &cfg)
			if err := errors.Join(byFlag(cmd, cfg.validate()), o.validate()); err != nil {
				return err
			}
			if _, err := os.Lstat(o.out); o.out != "" && err == nil {
				return usagef(cmd, "--out %s exists already; name a new directory", o.out)
			}
			return tune(cmd, cfg, o)
		},
	}
	f.addData(cmd)
	f.addStore(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.kind, "model", model.Boosting, "learner: "+strings.Join(model.Kinds(), ", "))
	fl.StringSliceVar(&o.subsets, "subsets", []string{"FD001"}, "subsets whose training units to learn from")
	fl.IntVar(&o.trials, "trials", 50, "trials of the whole search, those of an earlier call included")
	fl.IntVar(&o.folds, "folds", 3, "folds of the cross-validation by unit")
	fl.IntVar(&o.maxRows, "max-rows", 20_000, "training rows of a trial; fewer are faster, 0 takes all")
	fl.Int64Var(&o.seed, "seed", 42, "random state of the search and of its trials")
	fl.BoolVar(&o.restart, "restart", false, "forget the trials of an earlier call")
	fl.StringVar(&o.page, "html", "", "write a page with pictures of the search to this file")
	fl.StringVar(&o.out, "out", "", "train the best configuration on all rows and write the artifact to this new directory")
	fl.BoolVar(&o.asJSON, "json", false, "print the search as JSON")
	return cmd
}

// tuneOptions are the flags of tune.
type tuneOptions struct {
	subsets                []string
	trials, folds, maxRows int
	seed                   int64
	restart, asJSON        bool
	page, out              string
}

// into puts what a trial is told into cfg.
func (o *tuneOptions) into(cmd *cobra.Command, cfg *config) {
	if cmd.Flags().Changed("subsets") {
		cfg.Dataset.Subsets = o.subsets
	}
	cfg.Model.Folds, cfg.Model.MaxRows, cfg.Model.RandomState = o.folds, o.maxRows, o.seed
}

const maxTrials = 10_000

func (o *tuneOptions) validate() error {
	if o.trials < 1 || o.trials > maxTrials {
		return turbofan.Invalid("--trials", "must be from 1 to %d", maxTrials)
	}
	return nil
}

// The states of a trial.
const (
	trialComplete = "complete"
	trialPruned   = "pruned"
)

// trial is one point of a search.
type trial struct {
	Number  int                `json:"number"`
	State   string             `json:"state"`
	Params  map[string]float64 `json:"params"`
	RMSE    []float64          `json:"rmse"` // over the rows held out up to each fold
	RunID   string             `json:"run_id"`
	Seconds float64            `json:"seconds"`
}

// loss is the error over all folds, or of a pruned trial what was known of it.
func (t *trial) loss() float64 { return t.RMSE[len(t.RMSE)-1] }

// study is a search as it is kept between calls.
type study struct {
	FormatVersion int      `json:"format_version"`
	Kind          string   `json:"model"`
	Subsets       []string `json:"subsets"`
	DataDigest    string   `json:"data_digest"`
	Folds         int      `json:"folds"`
	MaxRows       int      `json:"max_rows"`
	Seed          int64    `json:"seed"`
	Space         []string `json:"space"`
	Trials        []trial  `json:"trials"`

	dimensions []model.Dimension
}

const studyFormat = 1

// tune goes on with a search, or starts it.
func tune(cmd *cobra.Command, cfg config, o tuneOptions) (err error) {
	ctx := cmd.Context()
	data, from, err := cfg.baseline()
	if err != nil {
		return err
	}
	if len(data.Units) == 0 {
		return turbofan.Invalid("dataset.csv", "is missing: a search needs a file of units that ran to failure")
	}
	s := newStudy(cfg, data)
	path := cfg.path("tune", s.name()+".json")
	if !o.restart {
		if err := s.resume(path); err != nil {
			return err
		}
	}
	_, tracking, closeRegistry, err := registryOf(ctx, cfg, cmd)
	if err != nil {
		return err
	}
	defer closeRegistry()
	tellLeftRuns(cmd, cfg, tracking)
	own, err := ownRuns(cfg, cfg.Model.Name+"-tune")
	if err != nil {
		return err
	}
	defer func() { own.release(err) }()
	bar := newProgress(cmd.ErrOrStderr())
	defer bar.done()
	bar.say("searching %s on %s of %s; %d of %s done; the search is kept in %s", s.Kind, turbofan.Count(len(data.Units), "unit"), from, len(s.Trials), turbofan.Count(o.trials, "trial"), path)
	for len(s.Trials) < o.trials {
		t, err := s.try(ctx, cfg, data, tracking, own, func(share float64) {
			bar.update((float64(len(s.Trials))+share)/float64(o.trials), false, "trial %d of %d; best RMSE %s", len(s.Trials)+1, o.trials, s.bestText())
		})
		if err != nil {
			return err
		}
		s.Trials = append(s.Trials, t)
		if err := s.save(path); err != nil {
			return err
		}
		bar.update(float64(len(s.Trials))/float64(o.trials), true, "trial %d: RMSE %.3f, %s; best %s", t.Number, t.loss(), t.State, s.bestText())
	}
	bar.done()
	if o.page != "" {
		if err := writePage(o.page, s.pictures()); err != nil {
			return err
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "Pictures: %s\n", o.page)
	}
	if o.out != "" {
		if err := s.trainBest(cmd, cfg, data, o.out); err != nil {
			return err
		}
	}
	return s.print(cmd.OutOrStdout(), o.asJSON)
}

func newStudy(cfg config, data model.Data) *study {
	s := &study{FormatVersion: studyFormat, Kind: cfg.Model.Kind, Subsets: cfg.Dataset.Subsets, DataDigest: data.Digest, Folds: cfg.Model.Folds, MaxRows: cfg.Model.MaxRows,
		Seed: cfg.Model.RandomState, dimensions: searchSpace(cfg.Model.Kind), Trials: []trial{}}
	if cfg.Schema != "" {
		s.Subsets = []string{data.Schema.Name}
	}
	for _, d := range s.dimensions {
		s.Space = append(s.Space, d.Name)
	}
	return s
}

// name is that of the study's file and of its runs.
func (s *study) name() string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) || r == '-' || r == '_' {
			return r
		}
		return '-'
	}, s.Kind+"-"+strings.Join(s.Subsets, "-"))
}

// resume takes the trials of an earlier call, which must have asked the same question.
func (s *study) resume(path string) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("resume search: %w", err)
	}
	var old study
	if err := json.Unmarshal(b, &old); err != nil {
		return turbofan.Invalid(path, "is not a search: %s; --restart begins a new one", err.Error())
	}
	differ := map[string]bool{
		"format": old.FormatVersion != s.FormatVersion, "data": old.DataDigest != s.DataDigest, "--folds": old.Folds != s.Folds,
		"--max-rows": old.MaxRows != s.MaxRows, "--seed": old.Seed != s.Seed, "search space": !slices.Equal(old.Space, s.Space),
	}
	for _, what := range slices.Sorted(maps.Keys(differ)) {
		if differ[what] {
			return turbofan.Invalid(path, "is a search with another %s: errors would not compare; --restart forgets it", what)
		}
	}
	for i := range old.Trials {
		t := &old.Trials[i]
		ok := t.Number == i+1 && len(t.RMSE) > 0 && len(t.RMSE) <= s.Folds && (t.State == trialPruned || t.State == trialComplete && len(t.RMSE) == s.Folds)
		for _, name := range s.Space {
			_, has := t.Params[name]
			ok = ok && has
		}
		if !ok {
			return turbofan.Invalid(path, "trial %d is incomplete; --restart begins a new search", i+1)
		}
	}
	s.Trials = old.Trials
	return nil
}

func (s *study) save(path string) error {
	b, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return fmt.Errorf("keep search: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("keep search: %w", err)
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, b, 0o644); err != nil {
		return fmt.Errorf("keep search: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("keep search: %w", err)
	}
	return nil
}

// errPruned ends a trial that is worse than half of the others were by then.
var errPruned = errors.New("the trial was pruned")

// try runs the next trial and records it as a run.
func (s *study) try(ctx context.Context, cfg config, data model.Data, tracking turbofan.Tracking, own *owner, report func(share float64)) (trial, error) {
	t := trial{Number: len(s.Trials) + 1, State: trialComplete, Params: map[string]float64{}}
	rng := rand.New(rand.NewPCG(uint64(s.Seed), uint64(t.Number)))
	at := model.Suggest(s.dimensions, s.observations(), rng)
	for i, d := range s.dimensions {
		t.Params[d.Name] = at[i]
	}
	learner := configured(cfg.learner(), t.Params)
	tags := runTags("tune", data.Digest, s.Seed, fmt.Sprintf("trial %d of %s", t.Number, s.name()))
	tags["turbofan.study"] = s.name()
	run, err := tracking.StartRun(ctx, cfg.Model.Name+"-tune", fmt.Sprintf("%s-trial-%03d", s.name(), t.Number), own.tags(tags), time.Time{})
	if err != nil {
		return t, fmt.Errorf("start run: %w", err)
	}
	t.RunID = run.ID
	start := time.Now()
	var logged []turbofan.Metric
	result, err := model.CrossValidate(ctx, learner, data, func(fold int, rmse float64) error {
		t.RMSE = append(t.RMSE, rmse)
		logged = append(logged, turbofan.Metric{Key: "cv_rmse_so_far", Value: rmse, Step: int64(fold + 1), At: time.Now()})
		report(float64(fold+1) / float64(s.Folds))
		if fold+1 < s.Folds && rmse > s.median(fold) {
			return errPruned
		}
		return nil
	})
	t.Seconds = time.Since(start).Seconds()
	status := turbofan.RunFinished
	switch {
	case errors.Is(err, errPruned):
		t.State, err = trialPruned, nil
	case err == nil:
		logged = append(logged, turbofan.Metric{Key: "cv_rmse_clipped", Value: float64(result.RMSEClipped), At: time.Now()})
	case ctx.Err() != nil:
		status = turbofan.RunKilled
	default:
		status = turbofan.RunFailed
	}
	after := context.WithoutCancel(ctx) // an interrupted trial is told to the registry too
	if err == nil {
		err = keepPictures(after, tracking, run.ID, func(dir string) error { return drawPage(s.trialPage(&t), dir, "trial.html") })
	}
	return t, errors.Join(err, tracking.LogBatch(after, run.ID, logged, runParams(learner, t.Params), map[string]string{"turbofan.trial": t.State}), tracking.EndRun(after, run.ID, status))
}

// runParams names everything that the learner was told, and what the search chose by its own names.
func runParams(learner model.Config, chosen map[string]float64) map[string]string {
	out := learner.Params()
	for name, v := range chosen {
		if out[name] == "" {
			out[name] = strconv.FormatFloat(v, 'g', 6, 64)
		}
	}
	return out
}

// warmTrials is how many trials must be complete before one is pruned.
const warmTrials = 5

// median is that of the complete trials at a fold; +Inf while there are too few.
func (s *study) median(fold int) float64 {
	var v []float64
	for i := range s.Trials {
		if s.Trials[i].State == trialComplete {
			v = append(v, s.Trials[i].RMSE[fold])
		}
	}
	if len(v) < warmTrials {
		return math.Inf(1)
	}
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// observations are the trials as the estimator wants them. A pruned one counts as no better than the worst complete one:
// what it had after some folds does not compare.
func (s *study) observations() []model.Observation {
	worst := 0.0
	for i := range s.Trials {
		if s.Trials[i].State == trialComplete {
			worst = max(worst, s.Trials[i].loss())
		}
	}
	var out []model.Observation
	for i := range s.Trials {
		t := &s.Trials[i]
		o := model.Observation{Loss: t.loss()}
		if t.State == trialPruned {
			o.Loss = max(o.Loss, worst)
		}
		for _, d := range s.dimensions {
			o.At = append(o.At, t.Params[d.Name])
		}
		out = append(out, o)
	}
	return out
}

// best returns the complete trial with the least error, nil while there is none.
func (s *study) best() *trial {
	var best *trial
	for i := range s.Trials {
		if t := &s.Trials[i]; t.State == trialComplete && (best == nil || t.loss() < best.loss()) {
			best = t
		}
	}
	return best
}

func (s *study) bestText() string {
	if b := s.best(); b != nil {
		return fmt.Sprintf("%.3f", b.loss())
	}
	return "not known yet"
}

// trainBest trains the best configuration on all rows.
func (s *study) trainBest(cmd *cobra.Command, cfg config, data model.Data, out string) error {
	best := s.best()
	if best == nil {
		return turbofan.Errorf(turbofan.EInsufficient, "train the best configuration: no trial is complete")
	}
	learner := configured(cfg.learner(), best.Params)
	learner.Folds, learner.MaxRows = model.DefaultConfig(s.Kind).Folds, 0
	bar := newProgress(cmd.ErrOrStderr())
	defer bar.done()
	m, err := model.Train(cmd.Context(), learner, data, func(stage string, share float64) { bar.update(share, false, "%s", stage) })
	if err != nil {
		return err
	}
	if _, err := m.Save(out); err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "trained trial %d on all rows: cross-validated RMSE %.2f; written to %s\n", best.Number, m.Metrics().RMSEClipped, out)
	return nil
}

func (s *study) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return printJSON(w, struct {
			*study
			Best *trial `json:"best"`
		}{s, s.best()})
	}
	best := s.best()
	if best == nil {
		_, err := fmt.Fprintln(w, "no trial is complete yet")
		return err
	}
	pruned := 0
	for i := range s.Trials {
		if s.Trials[i].State == trialPruned {
			pruned++
		}
	}
	fmt.Fprintf(w, "%s, %d of them pruned; best is trial %d (run %s): cross-validated RMSE %.3f\n", turbofan.Count(len(s.Trials), "trial"), pruned, best.Number, best.RunID, best.loss())
	return printTable(w, []string{"parameter", "best", "default"}, s.Space, func(name string) []string {
		return []string{name, strconv.FormatFloat(best.Params[name], 'g', 4, 64), strconv.FormatFloat(present(model.DefaultConfig(s.Kind), name), 'g', 4, 64)}
	})
}
