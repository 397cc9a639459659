package validate_test

import (
	"bytes"
	"flag"
	"os"
	"testing"

	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the PrometheusRule from the rule files")

const ruleHeader = `# The files of ../../../prometheus/rules for the Prometheus operator, written by
#   cd deploy/validate && go test -run TestPrometheusRule -update
`

// TestPrometheusRule holds what the operator is given to the rules that promtool and a running Prometheus are tested with.
func TestPrometheusRule(t *testing.T) {
	var groups []any
	for _, name := range []string{"recording.yml", "alerts.yml"} {
		b, err := os.ReadFile("../prometheus/rules/" + name)
		if err != nil {
			t.Fatal(err)
		}
		var file struct {
			Groups []any `json:"groups"`
		}
		if err := yaml.UnmarshalStrict(b, &file); err != nil {
			t.Fatal(err)
		}
		groups = append(groups, file.Groups...)
	}
	names := map[any]bool{}
	for _, g := range groups {
		name := g.(map[string]any)["name"]
		if names[name] {
			t.Errorf("two groups are named %v: the operator's list of groups has that as its key, and a server refuses the object", name)
		}
		names[name] = true
	}
	b, err := yaml.Marshal(map[string]any{"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule",
		"metadata": map[string]any{"name": "turbofan"}, "spec": map[string]any{"groups": groups}})
	if err != nil {
		t.Fatal(err)
	}
	want, file := append([]byte(ruleHeader), b...), "../kubernetes/components/servicemonitor/rules.yaml"
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the rule files say; run this test with -update", file)
	}
}
