package console

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"turbofan"
	"turbofan/report"
)

// Bounds of what one page of the registry shows.
const (
	mostRuns    = 100
	mostMetrics = 6  // columns of a table of runs
	mostCharts  = 12 // metrics over steps of one run
	mostPoints  = 2000
	mostFiles   = 500
)

// registryPages shows what a ModelServer keeps.
type registryPages struct {
	console
	server turbofan.ModelServer
}

// NewRegistry returns the pages of a registry: / with the newest runs and the models, /ui/experiments/{id},
// /ui/runs/{id}, /ui/models/{name} and /ui/models/{name}/{version}. The anchors of / are those of the addresses that MLflow's clients print when a
// run ends, so that these lead to the run's row.
func NewRegistry(cfg Config, server turbofan.ModelServer, log *slog.Logger) (http.Handler, error) {
	if server == nil || cfg.Timeout <= 0 || cfg.Refresh < 0 {
		return nil, errors.New("make the registry's pages: a server and a timeout above 0 are needed")
	}
	p := &registryPages{console{cfg: cfg, log: log, now: time.Now}, server}
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", p.page(p.home))
	mux.Handle("GET /ui/experiments/{id}", p.page(p.experiment))
	mux.Handle("GET /ui/runs/{id}", p.page(p.run))
	mux.Handle("GET /ui/models/{name}", p.page(p.model))
	mux.Handle("GET /ui/models/{name}/{version}", p.page(p.version))
	return mux, nil
}

func (p *registryPages) page(build func(context.Context, *http.Request) (report.Page, error)) http.Handler {
	return p.answer([]report.Link{{Text: "Registry", Href: "/"}}, build)
}

func (p *registryPages) home(ctx context.Context, _ *http.Request) (report.Page, error) {
	experiments, _, err := p.server.SearchExperiments(ctx, turbofan.SearchQuery{Limit: mostRuns})
	if err != nil {
		return report.Page{}, err
	}
	models, _, err := p.server.SearchModels(ctx, turbofan.SearchQuery{Limit: mostRuns})
	if err != nil {
		return report.Page{}, err
	}
	page := report.Page{Title: "Registry", Subtitle: "Experiments, runs and models, for people; programs use MLflow's REST API at this address"}
	if len(models) > 0 {
		page.Sections = append(page.Sections, report.Section{Title: "Models", Tables: []report.Table{p.modelTable(models)}})
	}
	e := report.Table{Header: []string{"experiment", "id", "made"}}
	var ids []string
	for _, x := range experiments {
		ids = append(ids, x.ID)
		e.Rows = append(e.Rows, []string{x.Name, x.ID, p.ago(x.CreatedAt)})
		e.Href = append(e.Href, "/ui/experiments/"+url.PathEscape(x.ID))
		e.ID = append(e.ID, "/experiments/"+x.ID)
	}
	page.Sections = append(page.Sections, report.Section{Title: "Experiments", Tables: []report.Table{e}})
	runs, err := p.runs(ctx, ids)
	if err != nil {
		return report.Page{}, err
	}
	page.Sections = append(page.Sections, runs)
	return page, nil
}

func (p *registryPages) modelTable(models []turbofan.RegisteredModel) report.Table {
	t := report.Table{Header: []string{"model", "aliases", "changed", "description"}}
	for _, m := range models {
		var aliases []string
		for _, a := range slices.Sorted(maps.Keys(m.Aliases)) {
			aliases = append(aliases, fmt.Sprintf("%s = version %s", a, m.Aliases[a]))
		}
		t.Rows = append(t.Rows, []string{m.Name, cmp.Or(strings.Join(aliases, ", "), "–"), p.ago(latest(m.CreatedAt, m.UpdatedAt)), cmp.Or(m.Description, "–")})
		t.Href = append(t.Href, "/ui/models/"+url.PathEscape(m.Name))
		t.ID = append(t.ID, "/models/"+m.Name)
	}
	return t
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func (p *registryPages) experiment(ctx context.Context, r *http.Request) (report.Page, error) {
	e, err := p.server.Experiment(ctx, r.PathValue("id"))
	if err != nil {
		return report.Page{}, err
	}
	runs, err := p.runs(ctx, []string{e.ID})
	if err != nil {
		return report.Page{}, err
	}
	page := report.Page{Title: "Experiment " + e.Name, Subtitle: "id " + e.ID + ", files at " + e.ArtifactLocation, Sections: []report.Section{runs}}
	if len(e.Tags) > 0 {
		page.Sections = append(page.Sections, report.Section{Title: "Tags", Tables: []report.Table{pairs(e.Tags)}})
	}
	return page, nil
}

// runs is a table of the newest runs, with the metrics that most of them have.
func (p *registryPages) runs(ctx context.Context, experiments []string) (report.Section, error) {
	s := report.Section{Title: "Newest runs"}
	var runs []turbofan.Run
	if len(experiments) > 0 {
		var err error
		if runs, _, err = p.server.SearchRuns(ctx, turbofan.SearchQuery{ExperimentIDs: experiments, Limit: mostRuns,
			OrderBy: []turbofan.SearchOrder{{Entity: turbofan.EntityAttribute, Key: "start_time", Descending: true}}}); err != nil {
			return s, err
		}
	}
	if len(runs) == 0 {
		s.Text = append(s.Text, "There are none yet: a training makes one, and so does any MLflow client.")
		return s, nil
	}
	keys := commonMetrics(runs)
	t := report.Table{Header: append([]string{"run", "status", "started", "took"}, keys...)}
	for i := range runs {
		run := &runs[i]
		row := []string{cmp.Or(run.Name, run.ID), strings.ToLower(string(run.Status)), p.ago(run.StartedAt), took(run)}
		for _, k := range keys {
			cell := "–"
			if at := slices.IndexFunc(run.Metrics, func(m turbofan.Metric) bool { return m.Key == k }); at >= 0 {
				cell = report.Short(run.Metrics[at].Value)
			}
			row = append(row, cell)
		}
		t.Rows, t.Href = append(t.Rows, row), append(t.Href, "/ui/runs/"+url.PathEscape(run.ID))
		t.ID = append(t.ID, "/experiments/"+run.ExperimentID+"/runs/"+run.ID)
	}
	if len(runs) == mostRuns {
		t.Note = fmt.Sprintf("The newest %d; search for more through the API.", mostRuns)
	}
	s.Tables = append(s.Tables, t)
	return s, nil
}

// commonMetrics are the metrics that most runs have, errors first, at most mostMetrics of them.
func commonMetrics(runs []turbofan.Run) []string {
	count := map[string]int{}
	for _, r := range runs {
		for _, m := range r.Metrics {
			count[m.Key]++
		}
	}
	keys := slices.SortedFunc(maps.Keys(count), func(a, b string) int {
		return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(isError(b), isError(a)), cmp.Compare(a, b))
	})
	return keys[:min(len(keys), mostMetrics)]
}

func isError(key string) int {
	if strings.Contains(key, "rmse") || strings.Contains(key, "loss") {
		return 1
	}
	return 0
}

func took(r *turbofan.Run) string {
	if r.EndedAt.IsZero() {
		return "–"
	}
	return r.EndedAt.Sub(r.StartedAt).Round(100 * time.Millisecond).String()
}

func (p *registryPages) run(ctx context.Context, r *http.Request) (report.Page, error) {
	run, err := p.server.Run(ctx, r.PathValue("id"))
	if err != nil {
		return report.Page{}, err
	}
	page := report.Page{Title: "Run " + cmp.Or(run.Name, run.ID), Subtitle: fmt.Sprintf("%s, started %s, took %s", strings.ToLower(string(run.Status)), p.ago(run.StartedAt), took(&run))}
	metrics := report.Section{Title: "Metrics"}
	t := report.Table{Header: []string{"metric", "last value", "step"}}
	for _, m := range run.Metrics {
		t.Rows = append(t.Rows, []string{m.Key, report.Short(m.Value), fmt.Sprint(m.Step)})
		if m.Step == 0 || len(metrics.Charts) == mostCharts {
			continue
		}
		chart, err := p.overSteps(ctx, run.ID, m.Key)
		if err != nil {
			return report.Page{}, err
		}
		metrics.Charts = append(metrics.Charts, chart)
	}
	metrics.Tables = []report.Table{t}
	page.Sections = append(page.Sections, metrics,
		report.Section{Title: "Parameters", Tables: []report.Table{pairs(run.Params)}},
		report.Section{Title: "Tags", Tables: []report.Table{pairs(run.Tags)}})
	page.Sections = append(page.Sections, p.files(ctx, run.ArtifactURI, "/get-artifact", url.Values{"run_id": {run.ID}}))
	return page, nil
}

func (p *registryPages) overSteps(ctx context.Context, run, key string) (report.Chart, error) {
	points, _, err := p.server.MetricHistory(ctx, turbofan.MetricQuery{RunID: run, Key: key, Limit: mostPoints})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(points, func(a, b turbofan.Metric) int { return cmp.Compare(a.Step, b.Step) })
	var s report.Series
	for _, m := range points {
		s.X, s.Y = append(s.X, float64(m.Step)), append(s.Y, m.Value)
	}
	return report.Line{Title: key, XLabel: "step", YLabel: key, Series: []report.Series{s}}, nil
}

// files lists what lies below a URI, each a link to the file itself: get with the file's path beside params.
func (p *registryPages) files(ctx context.Context, root, get string, params url.Values) report.Section {
	s, t := report.Section{Title: "Files"}, report.Table{Header: []string{"file", "bytes"}}
	for folders := []string{""}; len(folders) > 0 && len(t.Rows) < mostFiles; folders = folders[1:] {
		found, err := p.server.ListArtifacts(ctx, strings.TrimSuffix(root, "/")+strings.TrimSuffix("/"+folders[0], "/"))
		if err != nil {
			s.Text = append(s.Text, missing("Not all can be listed", err))
			break
		}
		for _, f := range found {
			name := path.Join(folders[0], f.Path)
			if f.IsDir {
				folders = append(folders, name)
				continue
			}
			params.Set("path", name)
			t.Rows, t.Href = append(t.Rows, []string{name, fmt.Sprint(f.Size)}), append(t.Href, get+"?"+params.Encode())
		}
	}
	if len(t.Rows) > 0 {
		s.Tables = append(s.Tables, t)
	} else if len(s.Text) == 0 {
		s.Text = append(s.Text, "There are none.")
	}
	return s
}

func (p *registryPages) model(ctx context.Context, r *http.Request) (report.Page, error) {
	m, err := p.server.Model(ctx, r.PathValue("name"))
	if err != nil {
		return report.Page{}, err
	}
	versions, _, err := p.server.SearchModelVersions(ctx, turbofan.SearchQuery{Limit: mostRuns,
		Where:   []turbofan.SearchTerm{{Entity: turbofan.EntityAttribute, Key: "name", Op: turbofan.OpEqual, Text: m.Name}},
		OrderBy: []turbofan.SearchOrder{{Entity: turbofan.EntityAttribute, Key: "version_number", Descending: true}}})
	if err != nil {
		return report.Page{}, err
	}
	t := report.Table{Header: []string{"version", "aliases", "made", "description"}}
	for _, v := range versions {
		t.Rows = append(t.Rows, []string{v.Version, cmp.Or(strings.Join(v.Aliases, ", "), "–"), p.ago(v.CreatedAt), cmp.Or(v.Description, "–")})
		t.Href = append(t.Href, "/ui/models/"+url.PathEscape(m.Name)+"/"+url.PathEscape(v.Version))
	}
	return report.Page{Title: "Model " + m.Name, Subtitle: m.Description, Sections: []report.Section{{Title: "Versions", Tables: []report.Table{t}}}}, nil
}

func (p *registryPages) version(ctx context.Context, r *http.Request) (report.Page, error) {
	v, err := p.server.ModelVersion(ctx, r.PathValue("name"), r.PathValue("version"))
	if err != nil {
		return report.Page{}, err
	}
	page := report.Page{Title: fmt.Sprintf("Model %s, version %s", v.Name, v.Version), Subtitle: strings.Join(v.Aliases, ", ")}
	what := report.Section{Title: "What it is"}
	if v.Description != "" {
		what.Text = append(what.Text, v.Description)
	}
	t := report.Table{Header: []string{"tag", "value"}}
	for _, k := range slices.Sorted(maps.Keys(v.Tags)) {
		t.Rows, t.Href = append(t.Rows, []string{k, v.Tags[k]}), append(t.Href, "")
	}
	if v.RunID != "" {
		t.Rows, t.Href = append(t.Rows, []string{"the run that made it", v.RunID}), append(t.Href, "/ui/runs/"+url.PathEscape(v.RunID))
	}
	what.Tables = append(what.Tables, t)
	page.Sections = append(page.Sections, what, p.files(ctx, cmp.Or(v.Storage, v.Source), "/model-versions/get-artifact", url.Values{"name": {v.Name}, "version": {v.Version}}))
	return page, nil
}

func pairs(kv []turbofan.KeyValue) report.Table {
	t := report.Table{Header: []string{"name", "value"}}
	for _, p := range kv {
		t.Rows = append(t.Rows, []string{p.Key, p.Value})
	}
	return t
}
