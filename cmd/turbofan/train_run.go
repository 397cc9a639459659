package main

import (
	"fmt"
	"maps"
	"math"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"

	"turbofan"
	"turbofan/model"
	"turbofan/report"
)

// Why a model that train made exists, and the tags that every run has.
const (
	reasonByHand = "trained by hand"
	tagData      = "turbofan.data_digest"
	tagReason    = "turbofan.reason"
	tagSeed      = "turbofan.random_state"
)

// sourceTags says, by MLflow's own names, what made a run: MLflow's pages show them as source, version and user. What
// is not known is left out.
func sourceTags(command string) map[string]string {
	b := readBuildInfo()
	tags := map[string]string{"mlflow.source.name": "turbofan " + command, "mlflow.source.type": "LOCAL", "turbofan.version": b.Version}
	if b.Commit != "" {
		tags["mlflow.source.git.commit"] = b.Commit
	}
	if u, err := user.Current(); err == nil && u.Username != "" {
		tags["mlflow.user"] = u.Username
	}
	return tags
}

// runTags are those of a run of a tool: what made it, from which data, with which seed and why.
func runTags(command, digest string, seed int64, reason string) map[string]string {
	tags := sourceTags(command)
	maps.Copy(tags, map[string]string{tagData: digest, tagSeed: strconv.FormatInt(seed, 10), tagReason: reason})
	return tags
}

// drawPage writes a page into a folder of pictures.
func drawPage(page report.Page, dir, name string) error {
	f, err := os.Create(filepath.Join(dir, name))
	if err != nil {
		return fmt.Errorf("draw pictures: %w", err)
	}
	if err := page.Write(f); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("draw pictures: %w", err)
	}
	return nil
}

// drawModel writes the pictures of a training: model.html.
func drawModel(m *model.Model, dir string) error { return drawPage(modelPage(m), dir, "model.html") }

// modelPage shows what the cross-validation of a training found.
func modelPage(m *model.Model) report.Page {
	c, data := m.Metrics(), m.Data()
	return report.Page{
		Title:    "Training of " + m.Config().Kind,
		Subtitle: fmt.Sprintf("%s, %s; model %.12s", turbofan.Count(data.Units, "unit"), turbofan.Count(data.Rows, "reading"), m.Digest()),
		Footer:   "Cross-validated by unit: every unit is answered by models that were not trained on it; truth clipped at the cap, errors in cycles.",
		Sections: []report.Section{
			{ID: "error", Title: "Error", Facts: []report.Fact{
				{Label: "RMSE", Value: known(c.RMSEClipped, 2), Note: "cycles"},
				{Label: "RMSE near the end", Value: known(c.RMSE30, 2), Note: "where RUL is at most 30"},
				{Label: "Interval covers", Value: known(100*c.Coverage, 1), Note: fmt.Sprintf("%%; asked for %.0f %%", 100*m.Config().Coverage)},
				{Label: "Failure AUC", Value: known(c.AUC, 4), Note: "1 is perfect, 0.5 is chance"},
			}, Charts: errorCharts(m), Tables: []report.Table{originTable(c)}},
			{ID: "features", Title: "Features", Charts: []report.Chart{importanceChart(m)}},
		},
	}
}

func known(n turbofan.Number, decimals int) string {
	if math.IsNaN(float64(n)) || math.IsInf(float64(n), 0) {
		return "unknown"
	}
	return report.Number(float64(n), decimals)
}

// errorCharts shows the error by unit and by fold, and how far the failure probability can be trusted.
func errorCharts(m *model.Model) []report.Chart {
	var byUnit []float64
	for _, u := range m.HeldOut() {
		if u.Rows > 0 {
			byUnit = append(byUnit, math.Sqrt(u.SSE/float64(u.Rows)))
		}
	}
	charts := []report.Chart{report.Histogram{Title: "Error of each unit", XLabel: "RMSE over its readings (cycles)", YLabel: "units",
		Samples: []report.Sample{{Name: "units", Values: byUnit}}}}
	if folds := m.FoldRMSE(); len(folds) > 0 {
		bars := report.Bars{Title: "Error of each fold", LabelLabel: "fold", ValueLabel: "RMSE (cycles)", Series: []report.BarSeries{{Name: "RMSE", Values: folds}},
			Caption: "Folds that differ much say that the estimate rests on few units."}
		for f := range folds {
			bars.Labels = append(bars.Labels, strconv.Itoa(f+1))
		}
		charts = append(charts, bars)
	}
	var reliable report.Series
	for _, b := range m.Metrics().Reliability {
		if b.Count > 0 {
			reliable.X, reliable.Y = append(reliable.X, b.Predicted), append(reliable.Y, b.Observed)
		}
	}
	if len(reliable.X) > 0 {
		charts = append(charts, report.Scatter{Title: "Failure probability", XLabel: "predicted", YLabel: "observed", Diagonal: true,
			Series: []report.Series{reliable}, Caption: "On the line a probability means what it says."})
	}
	return charts
}

func originTable(c model.Metrics) report.Table {
	t := report.Table{Title: "By source", Header: []string{"source", "units", "RMSE", "MAE", "interval covers %", "width"}}
	rows := c.Origins
	if len(rows) == 0 {
		rows = []model.Metrics{c}
	}
	for _, o := range rows {
		name := o.Subset
		if name == "" {
			name = "all"
		}
		t.Rows = append(t.Rows, []string{name, strconv.Itoa(o.Units), known(o.RMSEClipped, 2), known(o.MAE, 2), known(100*o.Coverage, 1), known(o.Width, 1)})
	}
	return t
}

// trialPage shows how a trial went, fold by fold, beside the best one before it.
func (s *study) trialPage(t *trial) report.Page {
	series := func(name string, losses []float64) report.Series {
		out := report.Series{Name: name, Dots: true}
		for f, v := range losses {
			out.X, out.Y = append(out.X, float64(f+1)), append(out.Y, v)
		}
		return out
	}
	line := report.Line{Title: "Error as folds are held out", XLabel: "fold", YLabel: "RMSE over all folds so far (cycles)", Wide: true}
	if len(t.RMSE) > 0 {
		line.Series = append(line.Series, series("this trial", t.RMSE))
	}
	if best := s.best(); best != nil {
		line.Series = append(line.Series, series(fmt.Sprintf("trial %d, the best before", best.Number), best.RMSE))
	}
	table := report.Table{Title: "Parameters", Header: []string{"parameter", "value"}}
	for _, name := range slices.Sorted(maps.Keys(t.Params)) {
		table.Rows = append(table.Rows, []string{name, strconv.FormatFloat(t.Params[name], 'g', 6, 64)})
	}
	page := report.Page{Title: fmt.Sprintf("Trial %d: %s", t.Number, t.State), Subtitle: s.name(),
		Sections: []report.Section{{ID: "trial", Title: "The trial", Tables: []report.Table{table}}}}
	if len(line.Series) > 0 {
		page.Sections[0].Charts = []report.Chart{line}
	}
	return page
}
