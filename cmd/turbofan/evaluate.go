package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"turbofan"
	"turbofan/dataset"
	"turbofan/model"
)

func newEvaluateCommand() *cobra.Command {
	var f configFlags
	var subsets []string
	var ref string
	var rep repeated
	var o evaluateOutput
	cmd := &cobra.Command{
		Use:   "evaluate",
		Short: "Print the protocol's table: both label scales, score, intervals, failure probability",
		Long: strings.TrimSpace(`
Evaluate a model by the test protocol: one prediction a unit, at its last reading, every unit counted.
"clipped" compares with truth clipped at the label cap, "raw" with the truth as it is; the two are not
comparable. A subset without a truth file is judged by cross-validation by unit on its training file,
with a new model of the same kind, and says so.

The model is a version of the registry (--version, default the champion), a directory (--model-dir), or,
with --train KIND, one model for each subset, trained on that subset's training units. Several kinds, or
--seeds N, give a table of mean ± standard deviation over N models that differ in their random state alone,
by cross-validation and, where there is a truth file, by the test units; interrupted, it holds the seeds that were
done. With --together one model learns from
all of --subsets: an engine may wear as another subset's do. --pool tries every group of --subsets and says
from which of them cross-validation would rather learn.`),
		Example: strings.TrimSpace(`
turbofan evaluate
turbofan evaluate --train boosting --subsets FD001,FD002,FD003,FD004
turbofan evaluate --train boosting --subsets FD001,FD003 --pool
turbofan evaluate --train boosting,extra_trees,forest --seeds 5 --subsets FD001,FD003
turbofan evaluate --subsets FD001,FD003 --html evaluation.html
turbofan evaluate --model-dir my-forest --subsets FD001 --json`),
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := f.resolve(cmd)
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("subsets") || cfg.Schema == "" {
				cfg.Dataset.Subsets = subsets
			}
			if len(rep.kinds) > 0 {
				cfg.Model.Kind = rep.kinds[0]
			}
			if err := byFlag(cmd, cfg.validate()); err != nil {
				return err
			}
			if err := rep.check(cmd, cfg.Dataset.Subsets); err != nil {
				return err
			}
			if cfg.Schema != "" {
				return evaluateCSV(cmd, cfg, ref, len(rep.kinds) > 0, o)
			}
			loc, err := locateData(cfg.Dataset.Dir)
			if err != nil {
				return err
			}
			if rep.seeds > 1 || len(rep.kinds) > 1 || rep.together || rep.pool {
				if o.page != "" {
					return usagef(cmd, "--html draws models with one random state: leave out --seeds, --together, --pool and all kinds but one")
				}
				return evaluateSeeds(cmd, cfg, loc.Dir, rep, o.asJSON)
			}
			var fixed *model.Model
			if len(rep.kinds) == 0 {
				if fixed, err = openModel(cmd, cfg, ref, mustString(cmd, "model-dir")); err != nil {
					return err
				}
			}
			table := []model.Metrics{}
			for _, s := range subsets {
				m, err := evaluateSubset(cmd, cfg, loc.Dir, s, fixed)
				if err != nil {
					return err
				}
				table = append(table, m)
			}
			return o.tell(cmd, table, cfg.learner().Coverage)
		},
	}
	f.addData(cmd)
	f.addStore(cmd)
	fl := cmd.Flags()
	fl.StringSliceVar(&subsets, "subsets", dataset.Subsets(), "subsets to evaluate on")
	fl.StringVar(&ref, "version", "@"+turbofan.ChampionAlias, "version in the registry: a number or @alias")
	fl.String("model-dir", "", "artifact directory to evaluate instead of a registered version")
	fl.StringSliceVar(&rep.kinds, "train", nil, "train models of these kinds on each subset first: "+strings.Join(model.Kinds(), ", "))
	fl.IntVar(&rep.seeds, "seeds", 1, "models of each kind and subset, with different random states (needs --train)")
	fl.BoolVar(&rep.together, "together", false, "train one model on all of --subsets, not one for each (needs --train)")
	fl.BoolVar(&rep.pool, "pool", false, "learn from every group of --subsets and say which cross-validation prefers (needs --train)")
	fl.StringVar(&o.page, "html", "", "write a page with pictures to this file")
	fl.BoolVar(&o.asJSON, "json", false, "print an array of objects")
	return cmd
}

// evaluateCSV judges a model of other equipment by the units of cfg.Dataset.CSV.
func evaluateCSV(cmd *cobra.Command, cfg config, ref string, train bool, o evaluateOutput) error {
	if train {
		return usagef(cmd, "--train works on C-MAPSS subsets; `turbofan train` cross-validates on a CSV file")
	}
	if cfg.Dataset.CSV == "" {
		return turbofan.Invalid("dataset.csv", "is missing: name the file of units to evaluate on")
	}
	schema, err := cfg.schema()
	if err != nil {
		return err
	}
	f, err := os.Open(cfg.Dataset.CSV)
	if err != nil {
		return turbofan.Invalid("dataset.csv", "cannot open %s: %s", cfg.Dataset.CSV, pathReason(err))
	}
	defer f.Close()
	set, err := dataset.ReadCSV(f, cfg.Dataset.CSV, schema)
	if err != nil {
		return err
	}
	if !set.HasTruth() {
		return turbofan.Invalid(cfg.Dataset.CSV, "does not tell when each unit failed: a column failed_at_cycle or rul must, for every unit")
	}
	m, err := openModel(cmd, cfg, ref, mustString(cmd, "model-dir"))
	if err != nil {
		return err
	}
	measured, err := m.Evaluate(cmd.Context(), filepath.Base(cfg.Dataset.CSV), set.Units)
	if err != nil {
		return err
	}
	return o.tell(cmd, []model.Metrics{measured}, m.Config().Coverage)
}

func mustString(cmd *cobra.Command, name string) string {
	return cmd.Flags().Lookup(name).Value.String()
}

// openModel opens an artifact directory, or fetches a version from the registry.
func openModel(cmd *cobra.Command, cfg config, ref, dir string) (*model.Model, error) {
	if dir != "" {
		if _, err := os.Stat(filepath.Join(dir, "model.json")); errors.Is(err, os.ErrNotExist) {
			return nil, turbofan.Invalid("--model-dir", "%s is not a model: it has no model.json", dir)
		}
		return model.Open(dir)
	}
	ctx := cmd.Context()
	if _, err := os.Stat(cfg.path("registry.db")); cfg.TrackingURI == "" && errors.Is(err, os.ErrNotExist) {
		return nil, noVersion(cfg.Model.Name, ref) // looking for a model makes no data directory
	}
	reg, _, closeRegistry, err := registryOf(ctx, cfg, cmd)
	if err != nil {
		return nil, err
	}
	defer closeRegistry()
	return fetchModel(ctx, reg, cfg.Model.Name, ref)
}

func fetchModel(ctx context.Context, reg turbofan.Registry, name, ref string) (*model.Model, error) {
	v, err := reg.Version(ctx, name, ref)
	if turbofan.ErrorCode(err) == turbofan.ENotFound {
		return nil, noVersion(name, ref)
	}
	if err != nil {
		return nil, err
	}
	tmp, err := os.MkdirTemp("", "turbofan-model-")
	if err != nil {
		return nil, fmt.Errorf("fetch model: %w", err)
	}
	defer os.RemoveAll(tmp)
	dir := filepath.Join(tmp, "model")
	if err := reg.Fetch(ctx, v, dir); err != nil {
		return nil, err
	}
	return model.Open(dir)
}

func noVersion(name, ref string) error {
	return turbofan.Errorf(turbofan.ENotFound, "there is no version %s of model %q; train one with `turbofan train`, or name a directory with --model-dir", ref, name)
}

// evaluateSubset judges fixed, or a model trained for the subset where fixed is nil. Without a truth file the
// cross-validation of a training on the subset stands in.
func evaluateSubset(cmd *cobra.Command, cfg config, dir, subset string, fixed *model.Model) (model.Metrics, error) {
	train, test, err := dataset.LoadCMAPSS(dir, subset)
	if err != nil {
		return model.Metrics{}, err
	}
	m := fixed
	if m == nil || !test.HasTruth() {
		bar := newProgress(cmd.ErrOrStderr())
		defer bar.done()
		why := "training on " + subset
		if !test.HasTruth() {
			why = subset + " has no truth file: cross-validating on its training units"
		}
		bar.say("%s", why)
		learner := cfg.learner()
		if fixed != nil {
			learner = fixed.Config()
		}
		stage := ""
		if m, err = model.Train(cmd.Context(), learner, model.Data{Schema: train.Schema, Units: train.Units, Digest: train.Digest}, func(now string, share float64) {
			bar.update(share, now != stage, "%s: %s", subset, now)
			stage = now
		}); err != nil {
			return model.Metrics{}, err
		}
	}
	if !test.HasTruth() {
		out := m.Metrics()
		out.Subset = subset
		return out, nil
	}
	return m.Evaluate(cmd.Context(), subset, test.Units)
}

func printMetrics(w io.Writer, table []model.Metrics, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(table)
	}
	tw := tabwriter.NewWriter(w, 2, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "subset\tunits\tprotocol\tRMSE clipped\tRMSE raw\tS\tMAE\tR2\tRMSE RUL<=30\tcoverage\tcov. RUL<=30\twidth\tAUC\tBrier\t")
	for _, m := range table {
		fmt.Fprintf(tw, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", m.Subset, m.Units, m.Protocol, num(m.RMSEClipped, 2), num(m.RMSERaw, 2), num(m.Score, 0),
			num(m.MAE, 2), num(m.R2, 3), num(m.RMSE30, 2), num(m.Coverage, 3), num(m.Coverage30, 3), num(m.Width, 1), num(m.AUC, 4), num(m.Brier, 4))
	}
	return tw.Flush()
}

// num formats a measurement, "-" where it is not known.
func num(n turbofan.Number, decimals int) string {
	if v := float64(n); !math.IsNaN(v) {
		return strconv.FormatFloat(v, 'f', decimals, 64)
	}
	return "-"
}

func millis(v float64) string { return num(turbofan.Number(v), 2) }
