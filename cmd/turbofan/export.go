package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"turbofan"
	"turbofan/model"
)

func newExportCommand() *cobra.Command {
	var f configFlags
	var ref, out, format string
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Write a model to a folder for Python and other ONNX runtimes",
		Long: strings.TrimSpace(`
Write a model to a new folder that needs neither turbofan nor Go. With --format mlflow it is an MLflow
model, for mlflow.pyfunc.load_model and mlflow.onnx.load_model, and at once what --model-dir of other commands
takes; with --format onnx it is model.onnx alone, for any ONNX runtime, and an example of its input.

The model answers feature rows, not readings: turbofan predict --features makes them of a file. The column
"rul_prediction" is what turbofan predict says; interval and probability are not part of it.`),
		Example: strings.Trim(`
  turbofan export --out champion
  turbofan export --out rul-3 --version 3 --format onnx
  turbofan predict --features --model-dir champion fleet.csv > features.csv`, "\n"),
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := f.resolve(cmd)
			if err != nil {
				return err
			}
			switch {
			case out == "":
				return usagef(cmd, "export wants --out, a new directory")
			case format != "mlflow" && format != "onnx":
				return usagef(cmd, "--format must be mlflow or onnx, not %q", format)
			}
			if _, err := os.Lstat(out); err == nil {
				return usagef(cmd, "--out %s exists already; name a new directory", out)
			}
			m, err := exportModel(cmd, cfg, ref, out, format)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s of %d columns written to %s\n", m.Config().Kind, len(m.Spec().Columns), out)
			return err
		},
	}
	f.addStore(cmd)
	fl := cmd.Flags()
	fl.StringVar(&out, "out", "", "directory to write; it must not exist")
	fl.StringVar(&ref, "version", "@"+turbofan.ChampionAlias, "version in the registry: a number or @alias")
	fl.String("model-dir", "", "artifact directory to use instead of a registered version")
	fl.StringVar(&format, "format", "mlflow", "mlflow or onnx")
	return cmd
}

// exportModel writes the model to out, which appears whole or not at all: the artifact as it was saved, with the digest
// that the registry knows, or what ONNX runtimes need of it.
func exportModel(cmd *cobra.Command, cfg config, ref, out, format string) (_ *model.Model, err error) {
	out = filepath.Clean(out)
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return nil, fmt.Errorf("export model: %w", err)
	}
	work, err := os.MkdirTemp(filepath.Dir(out), ".export-*")
	if err != nil {
		return nil, fmt.Errorf("export model: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	dir := filepath.Join(work, "fetched")
	if err := fetchArtifact(cmd, cfg, ref, dir); err != nil {
		return nil, err
	}
	m, err := model.Open(dir)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, model.ONNXFile)); errors.Is(err, os.ErrNotExist) {
		dir = filepath.Join(work, "saved") // it is older than the export; its digest does not survive
		if _, err := m.Save(dir); err != nil {
			return nil, err
		}
	}
	if format == "onnx" {
		part := filepath.Join(work, "part")
		if err := os.Mkdir(part, 0o755); err != nil {
			return nil, fmt.Errorf("export model: %w", err)
		}
		for _, name := range []string{model.ONNXFile, model.ExampleFile} {
			if err := os.Rename(filepath.Join(dir, name), filepath.Join(part, name)); err != nil {
				return nil, fmt.Errorf("export model: %w", err)
			}
		}
		dir = part
	}
	if err := os.Rename(dir, out); err != nil {
		return nil, fmt.Errorf("export model: %w", err)
	}
	return m, nil
}

// fetchArtifact copies the artifact that --model-dir or a version names into the new directory to.
func fetchArtifact(cmd *cobra.Command, cfg config, ref, to string) error {
	if dir := mustString(cmd, "model-dir"); dir != "" {
		if _, err := os.Stat(filepath.Join(dir, "model.json")); errors.Is(err, os.ErrNotExist) {
			return turbofan.Invalid("--model-dir", "%s is not a model: it has no model.json", dir)
		}
		if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
			return fmt.Errorf("copy model: %w", err)
		}
		return nil
	}
	ctx := cmd.Context()
	if _, err := os.Stat(cfg.path("registry.db")); cfg.TrackingURI == "" && errors.Is(err, os.ErrNotExist) {
		return noVersion(cfg.Model.Name, ref) // looking for a model makes no data directory
	}
	reg, _, closeRegistry, err := registryOf(ctx, cfg, cmd)
	if err != nil {
		return err
	}
	defer closeRegistry()
	v, err := reg.Version(ctx, cfg.Model.Name, ref)
	if turbofan.ErrorCode(err) == turbofan.ENotFound {
		return noVersion(cfg.Model.Name, ref)
	}
	if err != nil {
		return err
	}
	return reg.Fetch(ctx, v, to)
}

// printFeatures writes the rows that the model reads of every reading, as CSV behind the unit: a missing value is an
// empty cell. Whole numbers have a point, because pandas takes a column of 31 for integers and MLflow refuses integers
// where a signature says double.
func printFeatures(ctx context.Context, w io.Writer, m *model.Model, units []turbofan.History) error {
	rows, err := m.Spec().Transform(ctx, units)
	if err != nil {
		return err
	}
	columns := m.Spec().Columns
	keys := []string{"unit_id"}
	if !slices.Contains(columns, "cycle") {
		keys = append(keys, "cycle")
	}
	cw := csv.NewWriter(w)
	if err := cw.Write(slices.Concat(keys, columns)); err != nil {
		return err
	}
	line := make([]string, 0, len(keys)+len(columns))
	for i := range rows.Len() {
		line = append(line[:0], units[rows.Unit[i]].UnitID)
		if len(keys) > 1 {
			line = append(line, strconv.Itoa(rows.Cycle[i]))
		}
		for _, v := range rows.Row(i) {
			line = append(line, floatCell(v))
		}
		if err := cw.Write(line); err != nil {
			return err
		}
	}
	cw.Flush()
	return cw.Error()
}

func floatCell(v float32) string {
	if math.IsNaN(float64(v)) {
		return ""
	}
	s := strconv.FormatFloat(float64(v), 'g', -1, 32)
	if !strings.ContainsAny(s, ".e") {
		s += ".0"
	}
	return s
}
