package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	gonum "gonum.org/v1/gonum/stat"

	"turbofan"
	"turbofan/dataset"
	"turbofan/feature"
	"turbofan/report"
	"turbofan/stat"
)

// baselineFile holds what the processed training rows look like.
const baselineFile = "baseline_stats.json"

func newDataProcessCommand() *cobra.Command {
	var dir, out string
	var subsets []string
	var labelCap float64
	cmd := &cobra.Command{
		Use:   "process",
		Short: "Write feature rows of the data as CSV, for a notebook",
		Long: strings.TrimSpace(`
Writes train_SUBSET.csv and test_SUBSET.csv with a row for each reading: unit_id, cycle, features such as
sensor_11_rolling_mean_5, and the label rul; and baseline_stats.json with mean, deviation, percentiles and bin
edges of every channel and feature over the training rows. A missing value is an empty cell.

The features are fitted on the training engines of all subsets together, so that every file has the same
columns, and hold only what is known up to the reading. There are more of them than a model reads: for those,
see turbofan predict --features.`),
		Example: "  turbofan data process --subsets FD001\n  turbofan data process --subsets FD001,FD003 --out /tmp/processed --cap 0",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if labelCap < 0 || math.IsNaN(labelCap) {
				return usagef(cmd, "--cap must be above 0, or 0 for labels as they are, not %g", labelCap)
			}
			where, err := dataset.Locate(dir, os.Getenv("TURBOFAN_DATA"))
			if err != nil {
				return err
			}
			loaded, err := loadSubsets(cmd, where, subsets)
			if err != nil {
				return err
			}
			p := processing{cmd: cmd, where: where, out: out, cap: labelCap}
			return p.run(loaded)
		},
	}
	cmd.Flags().StringVar(&dir, "data", "", "directory of the data (default: where it is found)")
	cmd.Flags().StringSliceVar(&subsets, "subsets", []string{"FD001"}, "subsets to process, such as FD001,FD002")
	cmd.Flags().StringVar(&out, "out", filepath.Join("data", "processed"), "directory to write; files of the same names are replaced")
	cmd.Flags().Float64Var(&labelCap, "cap", 125, "greatest label, in cycles; 0 leaves labels as they are")
	return cmd
}

// processing writes feature rows of subsets.
type processing struct {
	cmd   *cobra.Command
	where dataset.Location
	out   string
	cap   float64
}

// baselineStats is what baseline_stats.json holds.
type baselineStats struct {
	Source  dataset.Location  `json:"data_source"`
	Schema  string            `json:"schema"`
	Subsets map[string]string `json:"subsets"` // name to digest of the training file
	Units   int               `json:"units"`
	Rows    int               `json:"rows"`
	// Channels are settings and sensors as they were read, Features the columns of the files.
	Channels []columnStats `json:"channels"`
	Features []columnStats `json:"features"`
}

// columnStats describes one column over the training rows.
type columnStats struct {
	Name    string   `json:"name"`
	Rows    int      `json:"rows"` // with a value
	Missing int      `json:"missing"`
	Mean    *float64 `json:"mean"` // null where no row has a value
	Std     *float64 `json:"std"`  // of the sample; null below two rows
	// Percentiles maps p0, p1, p5, p25, p50, p75, p95, p99 and p100 to values.
	Percentiles map[string]float64 `json:"percentiles,omitempty"`
	// BinEdges are the inner edges of ten bins of about equal number; bin i is [edge i-1, edge i).
	BinEdges  []float64 `json:"bin_edges,omitempty"`
	BinCounts []float64 `json:"bin_counts,omitempty"`
}

func (p *processing) run(loaded []subsetData) error {
	var all []turbofan.History
	stats := baselineStats{Source: p.where, Schema: loaded[0].train.Schema.Name, Subsets: map[string]string{}}
	for _, s := range loaded {
		all = append(all, s.train.Units...)
		stats.Subsets[s.train.Name] = s.train.Digest
	}
	schema := loaded[0].train.Schema
	spec, err := feature.Fit(p.cmd.Context(), feature.Wide(), schema, all)
	if err != nil {
		return err
	}
	train, err := spec.Transform(p.cmd.Context(), all)
	if err != nil {
		return err
	}
	stats.Units, stats.Rows = len(all), train.Len()
	stats.Channels = describeChannels(schema, all)
	for j, name := range spec.Columns {
		stats.Features = append(stats.Features, describeColumn(name, train.Len(), func(i int) float64 { return float64(train.Row(i)[j]) }))
	}
	for _, s := range loaded {
		for _, set := range []struct {
			prefix string
			set    *dataset.Set
		}{{"train_", s.train}, {"test_", s.test}} {
			if err := p.cmd.Context().Err(); err != nil {
				return err
			}
			if err := p.write(spec, set.prefix+s.train.Name+".csv", set.set.Units); err != nil {
				return err
			}
		}
	}
	b, err := json.MarshalIndent(stats, "", " ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", baselineFile, err)
	}
	if err := writeWhole(filepath.Join(p.out, baselineFile), append(b, '\n')); err != nil {
		return err
	}
	if p.where.Synthetic {
		fmt.Fprintln(p.cmd.OutOrStdout(), syntheticNotice)
	}
	_, err = fmt.Fprintf(p.cmd.OutOrStdout(), "%s: %d channels and %d features over %s training rows\n", filepath.Join(p.out, baselineFile),
		len(stats.Channels), len(stats.Features), report.Number(float64(stats.Rows), 0))
	return err
}

// write writes one file of rows. The age is in the column cycle, which every file has, and is not written twice.
func (p *processing) write(spec *feature.Spec, name string, units []turbofan.History) error {
	rows, err := spec.Transform(p.cmd.Context(), units)
	if err != nil {
		return err
	}
	var header []string
	var columns []int
	for j, c := range spec.Columns {
		if c != "cycle" {
			header, columns = append(header, c), append(columns, j)
		}
	}
	ids, values, labels := make([]string, rows.Len()), make([][]float64, rows.Len()), rows.RUL
	for i := range ids {
		ids[i], values[i] = units[rows.Unit[i]].UnitID, make([]float64, len(columns))
		for k, j := range columns {
			values[i][k] = shortest(rows.Row(i)[j])
		}
		if p.cap > 0 {
			labels[i] = min(labels[i], p.cap) // NaN, of a unit whose end is not known, stays
		}
	}
	if err := dataset.WriteProcessed(p.out, name, header, ids, rows.Cycle, values, labels); err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.cmd.OutOrStdout(), "%s: %s rows of %s, %s\n", filepath.Join(p.out, name), report.Number(float64(rows.Len()), 0), turbofan.Count(len(units), "unit"), turbofan.Count(len(spec.Columns), "feature"))
	return err
}

// shortest is the float64 with the fewest digits that is v as a float32: 0.1, not 0.10000000149011612.
func shortest(v float32) float64 {
	f, err := strconv.ParseFloat(strconv.FormatFloat(float64(v), 'g', -1, 32), 64)
	if err != nil {
		return float64(v)
	}
	return f
}

func describeChannels(schema turbofan.Schema, units []turbofan.History) []columnStats {
	var readings []*turbofan.Reading
	for u := range units {
		for i := range units[u].Readings {
			readings = append(readings, &units[u].Readings[i])
		}
	}
	var out []columnStats
	for j, name := range schema.SettingNames() {
		out = append(out, describeColumn(name, len(readings), func(i int) float64 { return readings[i].Settings[j] }))
	}
	for j, name := range schema.SensorNames() {
		out = append(out, describeColumn(name, len(readings), func(i int) float64 { return readings[i].Sensors[j] }))
	}
	return out
}

func describeColumn(name string, rows int, value func(i int) float64) columnStats {
	v := make([]float64, 0, rows)
	for i := range rows {
		if x := value(i); !math.IsNaN(x) {
			v = append(v, x)
		}
	}
	c := columnStats{Name: name, Rows: len(v), Missing: rows - len(v)}
	if len(v) == 0 {
		return c
	}
	slices.Sort(v)
	mean, std := v[0], 0.0
	if v[0] < v[len(v)-1] {
		mean, std = gonum.MeanStdDev(v, nil)
	}
	if c.Mean = &mean; len(v) > 1 {
		c.Std = &std
	}
	c.Percentiles = map[string]float64{}
	levels := stat.QuantileLevels()
	for i, q := range stat.Quantiles(v, levels...) {
		c.Percentiles["p"+strconv.FormatFloat(100*levels[i], 'g', -1, 64)] = q
	}
	c.BinEdges = stat.QuantileEdges(v, 10)
	c.BinCounts = make([]float64, len(c.BinEdges)+1)
	stat.Histogram(v, c.BinEdges, c.BinCounts)
	return c
}

// writeWhole writes a file that is either the old one or the whole new one.
func writeWhole(path string, b []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(tmp.Name())
	if _, err = tmp.Write(b); err == nil {
		err = tmp.Chmod(0o644)
	}
	if closing := tmp.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
