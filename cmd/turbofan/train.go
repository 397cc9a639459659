package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"turbofan"
	"turbofan/dataset"
	"turbofan/mlflow"
	"turbofan/model"
)

// registryOf opens the registry that a tool works on: an MLflow server by URI, else the one in the data directory.
func registryOf(ctx context.Context, cfg config, cmd *cobra.Command) (turbofan.Registry, turbofan.Tracking, func() error, error) {
	if cfg.TrackingURI != "" {
		c, err := mlflow.NewClient(cfg.TrackingURI, registryClient(true))
		return c, c, func() error { return nil }, err
	}
	log, err := newLogger(logConfig{Level: "warn", Format: "text"}, cmd.ErrOrStderr())
	if err != nil {
		return nil, nil, nil, err
	}
	db, own, err := openRegistryFiles(ctx, cfg, log, nil)
	if err != nil {
		return nil, nil, nil, err
	}
	return own, own, func() error { return errors.Join(own.Close(), db.Close()) }, nil
}

func newTrainCommand() *cobra.Command {
	var f configFlags
	var subsets []string
	var out string
	var seed int64
	var folds int
	var promote, register, asJSON bool
	cmd := &cobra.Command{
		Use:   "train",
		Short: "Train a model and register it",
		Long: strings.TrimSpace(`
Train a model on the training units of one or more subsets. Its error is estimated by cross-validation by
unit; test files are never looked at. The model is registered under the next version and becomes champion
where there is none, or with --promote. --out writes the artifact to a directory as well, with
--register=false to that alone.`),
		Example: strings.TrimSpace(`
turbofan train
turbofan train --model forest --subsets FD001 --out my-forest --register=false
turbofan train --model blend --subsets FD001,FD003 --promote`),
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := f.resolve(cmd)
			if err != nil {
				return err
			}
			if out == "" && !register {
				return usagef(cmd, "--register=false without --out would throw the model away")
			}
			if cmd.Flags().Changed("subsets") {
				cfg.Dataset.Subsets = subsets
			}
			if cmd.Flags().Changed("seed") {
				cfg.Model.RandomState = seed
			}
			if cmd.Flags().Changed("folds") {
				cfg.Model.Folds = folds
			}
			if err := byFlag(cmd, cfg.validate()); err != nil {
				return err
			}
			if _, err := os.Lstat(out); out != "" && err == nil {
				return usagef(cmd, "--out %s exists already; name a new directory", out)
			}
			began := time.Now()
			m, err := trainModel(cmd, cfg)
			if err != nil {
				return err
			}
			dir, cleanup, err := saveTrained(m, out)
			if err != nil {
				return err
			}
			defer cleanup()
			var v turbofan.ModelVersion
			promoted := false
			if register {
				if v, promoted, err = registerTrained(cmd, cfg, m, dir, promote, began); err != nil {
					return err
				}
			}
			return printTrained(cmd.OutOrStdout(), asJSON, m, v, promoted, out)
		},
	}
	f.addData(cmd)
	f.addStore(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.kind, "model", model.Boosting, "learner: "+strings.Join(model.Kinds(), ", "))
	fl.StringSliceVar(&subsets, "subsets", []string{"FD001"}, "subsets whose training units to learn from")
	fl.Int64Var(&seed, "seed", 42, "random state; the same seed gives the same bytes")
	fl.IntVar(&folds, "folds", 5, "folds of the cross-validation by unit")
	fl.StringVar(&out, "out", "", "also write the artifact to this new directory")
	fl.BoolVar(&register, "register", true, "register the model in the registry")
	fl.BoolVar(&promote, "promote", false, "make it champion even where there is one; no gate judges it")
	fl.BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

func trainModel(cmd *cobra.Command, cfg config) (*model.Model, error) {
	data, from, err := cfg.baseline()
	if err != nil {
		return nil, err
	}
	if len(data.Units) == 0 {
		return nil, turbofan.Invalid("dataset.csv", "is missing: training needs a file of units that ran to failure")
	}
	bar := newProgress(cmd.ErrOrStderr())
	defer bar.done()
	bar.say("training %s on %s of %s", cfg.Model.Kind, turbofan.Count(len(data.Units), "unit"), from)
	stage := ""
	m, err := model.Train(cmd.Context(), cfg.learner(), data, func(now string, share float64) {
		bar.update(share, now != stage, "%s", now)
		stage = now
	})
	if err != nil || cfg.Schema != "" || len(cfg.Dataset.Subsets) > 1 {
		return m, err
	}
	if kin := kinOf(cfg, m); len(kin) > 0 {
		bar.say("the same operating conditions are flown in %s: `turbofan evaluate --train %s --subsets %s --pool` tells whether it is better to learn from both",
			strings.Join(kin, ", "), cfg.Model.Kind, strings.Join(slices.Concat(cfg.Dataset.Subsets, kin), ","))
	}
	return m, nil
}

// kinOf names the subsets that m did not learn from and whose engines fly just the conditions that it knows. What cannot
// be read is left out: this is a hint.
func kinOf(cfg config, m *model.Model) []string {
	loc, err := locateData(cfg.Dataset.Dir)
	if err != nil {
		return nil
	}
	var kin []string
	known := m.Spec().Normalizer
	for _, name := range dataset.Subsets() {
		if slices.Contains(cfg.Dataset.Subsets, name) {
			continue
		}
		train, _, err := dataset.LoadCMAPSS(loc.Dir, name)
		if err != nil {
			continue
		}
		flown := map[int]bool{}
		for _, u := range train.Units {
			for i := range u.Readings {
				flown[known.Find(u.Readings[i].Settings)] = true
			}
		}
		if !flown[-1] && len(flown) == len(known.Regimes) {
			kin = append(kin, name)
		}
	}
	return kin
}

// saveTrained writes the artifact to out, or to a temporary directory that cleanup removes.
func saveTrained(m *model.Model, out string) (dir string, cleanup func(), err error) {
	cleanup = func() {}
	if dir = out; dir == "" {
		tmp, err := os.MkdirTemp("", "turbofan-model-")
		if err != nil {
			return "", cleanup, fmt.Errorf("save model: %w", err)
		}
		cleanup = func() { os.RemoveAll(tmp) }
		dir = filepath.Join(tmp, "model")
	}
	if _, err = m.Save(dir); err != nil {
		cleanup()
	}
	return dir, cleanup, err
}

func registerTrained(cmd *cobra.Command, cfg config, m *model.Model, dir string, promote bool, began time.Time) (v turbofan.ModelVersion, promoted bool, err error) {
	ctx := cmd.Context()
	reg, tracking, closeRegistry, err := registryOf(ctx, cfg, cmd)
	if err != nil {
		return turbofan.ModelVersion{}, false, err
	}
	defer closeRegistry()
	name := cfg.Model.Name
	tellLeftRuns(cmd, cfg, tracking)
	own, err := ownRuns(cfg, name)
	if err != nil {
		return turbofan.ModelVersion{}, false, err
	}
	defer func() { own.release(err) }()
	run, err := tracking.StartRun(ctx, name, "train-"+cfg.Model.Kind, own.tags(runTags("train", m.Data().Digest, m.Config().RandomState, reasonByHand)), began)
	if err != nil {
		return turbofan.ModelVersion{}, false, fmt.Errorf("start run: %w", err)
	}
	v, promoted, err = func() (turbofan.ModelVersion, bool, error) {
		var logged []turbofan.Metric
		for k, x := range m.MetricValues() {
			logged = append(logged, turbofan.Metric{Key: k, Value: x, At: time.Now()})
		}
		logged = append(logged, m.FoldMetrics(time.Now())...)
		if err := tracking.LogBatch(ctx, run.ID, logged, m.Config().Params(), nil); err != nil {
			return turbofan.ModelVersion{}, false, fmt.Errorf("log run: %w", err)
		}
		if err := keepPictures(ctx, tracking, run.ID, func(dir string) error { return drawModel(m, dir) }); err != nil {
			return turbofan.ModelVersion{}, false, err
		}
		v, err := reg.CreateVersion(ctx, turbofan.ModelVersion{Name: name, RunID: run.ID, Tags: map[string]string{turbofan.TagDigest: m.Digest(), tagReason: reasonByHand,
			tagData: m.Data().Digest, tagSeed: strconv.FormatInt(m.Config().RandomState, 10)}}, dir)
		if err != nil {
			return v, false, fmt.Errorf("register model: %w", err)
		}
		before, err := reg.Version(ctx, name, "@"+turbofan.ChampionAlias)
		if !promote && turbofan.ErrorCode(err) != turbofan.ENotFound {
			return v, false, err
		}
		if err := reg.SetAlias(ctx, name, turbofan.ChampionAlias, v.Version); err != nil {
			return v, false, err
		}
		change := turbofan.ModelChange{ModelName: name, From: before.Version, To: v.Version, Because: reasonByHand, At: time.Now()}
		return v, true, change.Record(ctx, reg)
	}()
	status := turbofan.RunFinished
	if err != nil {
		status = turbofan.RunFailed
	}
	return v, promoted, errors.Join(err, tracking.EndRun(context.WithoutCancel(ctx), run.ID, status))
}

// keepPictures draws into a folder and keeps what is there as pictures of a run.
func keepPictures(ctx context.Context, tracking turbofan.Tracking, runID string, draw func(dir string) error) error {
	dir, err := os.MkdirTemp("", "turbofan-pictures-")
	if err != nil {
		return fmt.Errorf("draw pictures: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := draw(dir); err != nil {
		return err
	}
	if err := tracking.LogArtifacts(ctx, runID, "pictures", dir); err != nil {
		return fmt.Errorf("keep pictures: %w", err)
	}
	return nil
}

// leftOut names the sensors that the model does not look at.
func leftOut(m *model.Model) []string {
	names := []string{}
	for i, c := range m.Spec().Schema.Sensors {
		if !slices.Contains(m.Spec().Keep, i) {
			names = append(names, c.Name)
		}
	}
	return names
}

func printTrained(w io.Writer, asJSON bool, m *model.Model, v turbofan.ModelVersion, promoted bool, out string) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(map[string]any{"model_name": v.Name, "model_version": v.Version, "promoted": promoted, "digest": m.Digest(), "directory": out,
			"metrics": m.Metrics(), "importances": m.Importances()[:min(10, len(m.Importances()))], "data": m.Data(), "sensors_left_out": leftOut(m)})
	}
	c := m.Metrics()
	fmt.Fprintf(w, "cross-validated by unit (%d units): RMSE %.2f, MAE %.2f, R2 %.3f, RMSE where RUL <= 30 %.2f, 90%% interval covers %.1f%% at width %.1f, AUC %.4f\n",
		c.Units, c.RMSEClipped, c.MAE, c.R2, c.RMSE30, 100*c.Coverage, c.Width, c.AUC)
	for _, o := range c.Origins {
		fmt.Fprintf(w, "  %s (%s): RMSE %.2f, interval covers %.1f%% at width %.1f\n", o.Subset, turbofan.Count(o.Units, "unit"), o.RMSEClipped, 100*o.Coverage, o.Width)
	}
	if names := leftOut(m); len(names) > 0 {
		fmt.Fprintf(w, "left out, for they are missing or do not vary in every operating condition: %s\n", strings.Join(names, ", "))
	}
	if out != "" {
		fmt.Fprintf(w, "written to %s\n", out)
	}
	if v.Version != "" {
		state := fmt.Sprintf("registered; the champion stays: `turbofan models challenger %s` has it answer silently beside it, `turbofan models promote %s` puts it in its place", v.Version, v.Version)
		if promoted {
			state = "registered and champion"
		}
		fmt.Fprintf(w, "model %s version %s: %s\n", v.Name, v.Version, state)
	}
	tw := tabwriter.NewWriter(w, 2, 4, 2, ' ', 0)
	fmt.Fprintln(tw, "top features\tshare")
	for _, i := range m.Importances()[:min(10, len(m.Importances()))] {
		fmt.Fprintf(tw, "%s\t%.3f\n", i.Feature, i.Share)
	}
	return tw.Flush()
}
