package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"turbofan"
	"turbofan/model"
	"turbofan/report"
)

// evaluateOutput says how the protocol's table is told.
type evaluateOutput struct {
	page   string
	asJSON bool
}

// tell writes the page, where one is asked for, and prints the table.
func (o evaluateOutput) tell(cmd *cobra.Command, table []model.Metrics, promised float64) error {
	if o.page != "" {
		if err := writePage(o.page, evaluationPage(table, promised)); err != nil {
			return err
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "Pictures: %s\n", o.page)
	}
	return printMetrics(cmd.OutOrStdout(), table, o.asJSON)
}

// evaluationPage shows the protocol's table, how far intervals keep their promise and whether a probability means what it says.
func evaluationPage(table []model.Metrics, promised float64) report.Page {
	t := report.Table{Title: "The protocol's table", Header: []string{"subset", "units", "protocol", "RMSE clipped", "RMSE raw", "S", "MAE", "R2", "RMSE RUL<=30", "coverage", "cov. RUL<=30", "width", "AUC", "Brier"},
		Note: "Errors and widths in cycles; truth clipped at the cap but for \"raw\". A dash is what cannot be known."}
	coverage := report.Bars{Title: "Truths inside the interval", ValueLabel: "share", LabelLabel: "subset",
		Series: []report.BarSeries{{Name: "all"}, {Name: "RUL at most 30", Color: 2}}, Thresholds: []report.Threshold{{Y: promised, Label: "promised"}}}
	rmse := report.Bars{Title: "Error", ValueLabel: "RMSE (cycles)", LabelLabel: "subset", Series: []report.BarSeries{{Name: "all"}, {Name: "RUL at most 30", Color: 2}}}
	reliable := report.Scatter{Title: "Failure probability", XLabel: "predicted, mean of each tenth", YLabel: "share that failed within the horizon", Diagonal: true, Wide: true,
		Caption: "On the line a probability means what it says. A tenth with few units lies off it by chance."}
	for i, m := range table {
		t.Rows = append(t.Rows, []string{m.Subset, strconv.Itoa(m.Units), m.Protocol, num(m.RMSEClipped, 2), num(m.RMSERaw, 2), num(m.Score, 0), num(m.MAE, 2), num(m.R2, 3),
			num(m.RMSE30, 2), num(m.Coverage, 3), num(m.Coverage30, 3), num(m.Width, 1), num(m.AUC, 4), num(m.Brier, 4)})
		for _, b := range []*report.Bars{&coverage, &rmse} {
			b.Labels = append(b.Labels, m.Subset)
		}
		for j, v := range [][2]turbofan.Number{{m.Coverage, m.RMSEClipped}, {m.Coverage30, m.RMSE30}} {
			coverage.Series[j].Values = append(coverage.Series[j].Values, float64(v[0]))
			rmse.Series[j].Values = append(rmse.Series[j].Values, float64(v[1]))
		}
		s := report.Series{Name: m.Subset, Color: i + 1}
		for _, b := range m.Reliability {
			if b.Count > 0 {
				s.X, s.Y = append(s.X, b.Predicted), append(s.Y, b.Observed)
			}
		}
		if len(s.X) > 0 {
			reliable.Series = append(reliable.Series, s)
		}
	}
	charts := []report.Chart{rmse, coverage}
	if len(reliable.Series) > 0 {
		charts = append(charts, reliable)
	}
	return report.Page{Title: "How good the answers are", Subtitle: fmt.Sprintf("%d subsets, one prediction a unit where there is a truth file", len(table)),
		Sections: []report.Section{{ID: "table", Title: "By subset", Tables: []report.Table{t}, Charts: charts}}, Footer: "Written by turbofan evaluate."}
}
