package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

const configurationPage = "../../docs/configuration.md"

// defaultText is how the page writes a default.
func defaultText(v any) string {
	switch v := v.(type) {
	case []string:
		return strings.Join(v, ", ")
	case durationConfig:
		text := time.Duration(v).String()
		for _, zero := range []string{"0s", "0m"} {
			if t := strings.TrimSuffix(text, zero); t != "" && t != text && !strings.HasSuffix(t, ".") && strings.ContainsAny(t, "hm") {
				text = t
			}
		}
		return text
	}
	return fmt.Sprint(v)
}

var settingRow = regexp.MustCompile("^\\| `([a-z_.]+)` \\| (.*) \\| `(TURBOFAN_[A-Z_]+)` \\| (.+) \\|$")

// TestConfigurationPage holds the page to the settings: each is told once, with its default and its variable, and
// nothing else is.
func TestConfigurationPage(t *testing.T) {
	page, err := os.ReadFile(configurationPage)
	if err != nil {
		t.Fatal(err)
	}
	type row struct{ def, env string }
	rows := map[string]row{}
	for line := range strings.Lines(string(page)) {
		if m := settingRow.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			if _, twice := rows[m[1]]; twice {
				t.Errorf("%s is told twice", m[1])
			}
			rows[m[1]] = row{strings.Trim(m[2], "`"), m[3]}
		}
	}
	c := defaultConfig()
	for _, s := range c.settings() {
		got, ok := rows[s.key]
		if !ok {
			t.Errorf("%s is not told; its default is %q, its variable %s", s.key, defaultText(s.get()), s.env())
			continue
		}
		if want := (row{defaultText(s.get()), s.env()}); got != want {
			t.Errorf("%s: the page says %+v, it is %+v", s.key, got, want)
		}
		delete(rows, s.key)
	}
	for key := range rows {
		t.Errorf("%s is told and is no setting", key)
	}
}

var yamlBlock = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// TestConfigurationExamples reads the page's examples as a configuration, those that begin with a name as a schema.
func TestConfigurationExamples(t *testing.T) {
	page, err := os.ReadFile(configurationPage)
	if err != nil {
		t.Fatal(err)
	}
	examples := yamlBlock.FindAllStringSubmatch(string(page), -1)
	if len(examples) < 2 {
		t.Fatalf("%d examples", len(examples))
	}
	for _, m := range examples {
		if strings.HasPrefix(m[1], "name:") {
			path := t.TempDir() + "/schema.yaml"
			if err := os.WriteFile(path, []byte(m[1]), 0o644); err != nil {
				t.Fatal(err)
			}
			c := config{Schema: path}
			if _, err := c.schema(); err != nil {
				t.Errorf("%v\n%s", err, m[1])
			}
			continue
		}
		c := defaultConfig()
		if err := c.readYAML([]byte(m[1]), "example"); err != nil {
			t.Errorf("%v\n%s", err, m[1])
		} else if err := c.validate(); err != nil {
			t.Errorf("%v\n%s", err, m[1])
		}
	}
}

// TestConfigurationOrder lays a file, the environment and flags over each other.
func TestConfigurationOrder(t *testing.T) {
	file := t.TempDir() + "/turbofan.yaml"
	if err := os.WriteFile(file, []byte("host: localhost\nports: {predict: 4000, drift: 4004}\nlog: {level: debug, format: json}\nroles: [predict]\ndrift:\nmodel: {folds: 3}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TURBOFAN_CONFIG", file)
	t.Setenv("TURBOFAN_LOG_LEVEL", "warn")
	t.Setenv("TURBOFAN_PORTS_PREDICT", "4100")
	t.Setenv("TURBOFAN_ROLES", "predict, drift")
	t.Setenv("TURBOFAN_DATA_DIR", "from-env")
	t.Setenv("TURBOFAN_TRACKING_URI", "") // empty is not there
	t.Setenv("TURBOFAN_PREDICT_SERVICE_HOST", "10.0.0.7")
	var f configFlags
	cmd := &cobra.Command{}
	f.addData(cmd)
	f.addStore(cmd)
	f.addServe(cmd)
	if err := cmd.ParseFlags([]string{"--log-level", "error", "--port", "drift=4204"}); err != nil {
		t.Fatal(err)
	}
	got, err := f.resolve(cmd)
	if err != nil {
		t.Fatal(err)
	}
	want := defaultConfig()
	want.Host, want.Log, want.Roles, want.DataDir, want.Model.Folds = "localhost", logConfig{"error", "json"}, []string{"predict", "drift"}, "from-env", 3
	want.Ports["predict"], want.Ports["drift"] = 4100, 4204
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}
