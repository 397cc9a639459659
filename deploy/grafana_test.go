package deploy_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

type dashboard struct {
	UID           string `json:"uid"`
	Title         string `json:"title"`
	SchemaVersion int    `json:"schemaVersion"`
	Templating    struct {
		List []struct {
			Name, Type, Query string
		} `json:"list"`
	} `json:"templating"`
	Annotations struct {
		List []struct {
			Name       string
			BuiltIn    int `json:"builtIn"`
			Expr       string
			Datasource datasource
		} `json:"list"`
	} `json:"annotations"`
	Panels []panel `json:"panels"`
}

type panel struct {
	ID          int        `json:"id"`
	Type        string     `json:"type"`
	Title       string     `json:"title"`
	Datasource  datasource `json:"datasource"`
	GridPos     grid       `json:"gridPos"`
	MaxPoints   int        `json:"maxDataPoints"`
	FieldConfig struct {
		Defaults struct{ Unit string } `json:"defaults"`
	} `json:"fieldConfig"`
	Targets []struct {
		RefID      string `json:"refId"`
		Expr       string
		Datasource datasource
	} `json:"targets"`
}

type grid struct{ X, Y, W, H int }

func (g grid) overlaps(o grid) bool {
	return g.X < o.X+o.W && o.X < g.X+g.W && g.Y < o.Y+o.H && o.Y < g.Y+g.H
}

type datasource struct{ Type, UID string }

// panelTypes are what Grafana itself brings; any other would need a plugin.
var panelTypes = []string{"timeseries", "stat", "gauge", "bargauge", "heatmap", "histogram", "table", "state-timeline", "status-history", "text", "row"}

func readDashboards(t *testing.T) map[string]dashboard {
	t.Helper()
	files, err := filepath.Glob("grafana/dashboards/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("dashboards: %v, %v", files, err)
	}
	out := map[string]dashboard{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var d dashboard
		if err := json.Unmarshal(b, &d); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		out[filepath.Base(f)] = d
	}
	return out
}

func TestDashboards(t *testing.T) {
	all, uids, titles := readDashboards(t), map[string]string{}, []string{}
	for file, d := range all {
		if other := uids[d.UID]; d.UID == "" || len(d.UID) > 40 || other != "" {
			t.Errorf("%s: uid %q must be its own, of 1 to 40 letters; %s has it", file, d.UID, other)
		}
		uids[d.UID] = file
		titles = append(titles, d.Title)
		if d.SchemaVersion < 36 {
			t.Errorf("%s: schemaVersion %d is older than the panels it uses", file, d.SchemaVersion)
		}
		if v := d.Templating.List; len(v) == 0 || v[0].Name != "datasource" || v[0].Type != "datasource" || v[0].Query != "prometheus" {
			t.Errorf("%s: the first variable must choose the datasource", file)
		}
		checkPanels(t, file, d)
		for _, a := range d.Annotations.List {
			if a.BuiltIn == 0 && (a.Name == "" || a.Expr == "" || a.Datasource != (datasource{"prometheus", "${datasource}"})) {
				t.Errorf("%s: annotation %q needs a name, an expr and the datasource variable", file, a.Name)
			}
		}
	}
	slices.Sort(titles)
	if want := "[Drift Monitoring Model Performance System Health]"; fmt.Sprint(titles) != want {
		t.Errorf("dashboards are %v, want %s", titles, want)
	}
}

func checkPanels(t *testing.T, file string, d dashboard) {
	t.Helper()
	ids := map[int]string{}
	for i, p := range d.Panels {
		where := fmt.Sprintf("%s: panel %d %q", file, p.ID, p.Title)
		if p.ID < 1 || ids[p.ID] != "" {
			t.Errorf("%s: its id must be positive and its own", where)
		}
		ids[p.ID] = "taken"
		if p.Title == "" || !slices.Contains(panelTypes, p.Type) {
			t.Errorf("%s: needs a title and a type that Grafana has, not %q", where, p.Type)
		}
		if g := p.GridPos; g.X < 0 || g.W < 1 || g.H < 1 || g.X+g.W > 24 {
			t.Errorf("%s: %+v is not on the grid of 24 columns", where, g)
		}
		for _, o := range d.Panels[:i] {
			if p.GridPos.overlaps(o.GridPos) {
				t.Errorf("%s: lies over %q", where, o.Title)
			}
		}
		if p.Type == "row" {
			continue
		}
		// Grafana draws none of a status history with more points than half its pixels, as a few hours would have.
		if cells := p.Type == "status-history" || p.Type == "heatmap"; cells && (p.MaxPoints < 1 || p.MaxPoints > 100) {
			t.Errorf("%s: draws cells, and needs at most 100 maxDataPoints, not %d", where, p.MaxPoints)
		}
		if p.Datasource != (datasource{"prometheus", "${datasource}"}) || p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 {
			t.Errorf("%s: needs the datasource variable, a unit and a target", where)
		}
		refs := map[string]bool{}
		for _, target := range p.Targets {
			if target.Expr == "" || refs[target.RefID] || target.RefID == "" || target.Datasource != p.Datasource {
				t.Errorf("%s: target %q needs an expr, a refId of its own and the panel's datasource", where, target.RefID)
			}
			refs[target.RefID] = true
		}
	}
}

// expressions of all panels and annotations, their variables filled in, by where they stand.
func dashboardExpressions(t *testing.T) (panels, annotations map[string]string) {
	t.Helper()
	panels, annotations = map[string]string{}, map[string]string{}
	fill := strings.NewReplacer("$__rate_interval", "1m", "$window", "1000")
	for file, d := range readDashboards(t) {
		for _, p := range d.Panels {
			for _, target := range p.Targets {
				expr := fill.Replace(target.Expr)
				if strings.Contains(expr, "$") {
					t.Errorf("%s: panel %q: nothing fills in a variable of %s", file, p.Title, expr)
				}
				panels[fmt.Sprintf("%s: panel %q target %s", file, p.Title, target.RefID)] = expr
			}
		}
		for _, a := range d.Annotations.List {
			if a.BuiltIn == 0 {
				annotations[fmt.Sprintf("%s: annotation %q", file, a.Name)] = fill.Replace(a.Expr)
			}
		}
	}
	return panels, annotations
}

func TestGrafanaProvisioning(t *testing.T) {
	var sources struct {
		APIVersion  int `yaml:"apiVersion"`
		Datasources []struct {
			Name, UID, Type, Access, URL string
			IsDefault                    bool           `yaml:"isDefault"`
			JSONData                     map[string]any `yaml:"jsonData"`
		}
	}
	strictYAML(t, "grafana/provisioning/datasources/prometheus.yml", &sources)
	if s := sources.Datasources; sources.APIVersion != 1 || len(s) != 1 || s[0].Type != "prometheus" || s[0].UID == "" || !s[0].IsDefault {
		t.Errorf("one Prometheus must be the default datasource: %+v", sources)
	}
	var providers struct {
		APIVersion int `yaml:"apiVersion"`
		Providers  []struct {
			Name, Folder, Type    string
			DisableDeletion       bool `yaml:"disableDeletion"`
			UpdateIntervalSeconds int  `yaml:"updateIntervalSeconds"`
			Options               struct{ Path string }
		}
	}
	strictYAML(t, "grafana/provisioning/dashboards/turbofan.yml", &providers)
	if p := providers.Providers; len(p) != 1 || p[0].Type != "file" || p[0].Options.Path != "/var/lib/grafana/dashboards" {
		t.Errorf("dashboards must come from files: %+v", providers)
	}
}

// strictYAML reads a file of one document into v and refuses keys that v does not have.
func strictYAML(t *testing.T, path string, v any) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dec := yaml.NewDecoder(f)
	dec.KnownFields(true)
	if err := dec.Decode(v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}
