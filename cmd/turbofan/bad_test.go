package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// jargon is what no message may hold: names of Go, of its libraries and of what they are made of.
var jargon = regexp.MustCompile(`strconv|unmarshal|!!|goroutine|panic|runtime error|\.go:| yaml: |main\.|turbofan\.[A-Z]|interface|nil pointer|<nil>|%!`)

// TestBadConfigurations holds the message for every file in testdata/config: line, setting and rule.
func TestBadConfigurations(t *testing.T) {
	tests := []struct{ name, want string }{
		{"alias", "alias.bad.yaml:2: host is an alias; write the value out"},
		{"csv_without_schema", "schema: is missing: dataset.csv needs the file that names its columns"},
		{"empty_data_dir", "data_dir: is missing"},
		{"empty_roles", "roles: must name at least one of predict, feedback, retrain, drift, registry, console"},
		{"float_for_number", `float_for_number.bad.yaml:2: ports.predict must be a whole number, not "3000.5"`},
		{"key_twice", "key_twice.bad.yaml:3: data_dir is given twice, first on line 1"},
		{"list_for_section", "list_for_section.bad.yaml:2: ports must hold keys and values such as predict: …, not a list"},
		{"list_for_text", "list_for_text.bad.yaml:1: data_dir must be a single value, not a list"},
		{"log_format", `log.format: must be text or json, not "xml"`},
		{"log_level", `log.level: must be debug, info, warn or error, not "loud"`},
		{"map_in_list", "map_in_list.bad.yaml:3: roles[1] must be text, not keys and values"},
		{"negative_drain", "drain_delay: must be at least 0, not -5s"},
		{"negative_every", "drift.every: must be at least 0, not -1m0s"},
		{"negative_rows", "model.max_rows: must be at least 0"},
		{"no_body", "limits.max_body_bytes: must be from 1 to 1073741824, not 0"},
		{"no_name", "model.name: is missing"},
		{"no_new_units", "retrain.min_new_units: must be at least 1, not 0"},
		{"no_readings", "limits.max_readings: must be at least 1, not -5"},
		{"no_refresh", "refresh_every: must be above 0, not 0s"},
		{"no_subset", "dataset.subsets: must name at least one subset such as FD001"},
		{"no_timeout", "limits.timeout: must be above 0, not 0s"},
		{"not_utf8", "not_utf8.bad.yaml: is not YAML: the file must be text in UTF-8"},
		{"number_for_duration", `number_for_duration.bad.yaml:2: drift.every must be a duration such as 10m or 500ms, not "5"`},
		{"one_fold", "model.folds: must be from 2 to 100, not 1"},
		{"port_negative", "ports.drift: must be from 0 to 65535, not -1"},
		{"port_shared", "ports.feedback: 4000 is already the port of predict"},
		{"port_too_high", "ports.drift: must be from 0 to 65535, not 70000"},
		{"public_host", `host: "0.0.0.0" is not a loopback address and there are no API keys: anyone who reaches it could write to it; make keys by turbofan keys new and give --keys-file, or add --insecure-listen if the network is yours alone`},
		{"relative_url", `urls.retrain: must be an address such as http://127.0.0.1:3000, not "plant:3003"`},
		{"schema_absent", "schema: cannot open nowhere.yaml: no such file or directory"},
		{"schema_with_dir", "dataset.dir: holds C-MAPSS files, which have a schema of their own; give dataset.csv beside schema"},
		{"section_for_value", "section_for_value.bad.yaml:2: host must be a single value, not keys and values"},
		{"small_window", "drift.window: must be from 50 to 1000000, not 3"},
		{"subset_twice", "dataset.subsets: names FD001 twice"},
		{"tab", "tab.bad.yaml: is not YAML: a line may not begin with a tab or one of @ and `; indent with blanks"},
		{"text_for_list", `text_for_list.bad.yaml:1: roles must be a list such as [predict, feedback, retrain, drift, registry, console], not "predict"`},
		{"text_for_number", `text_for_number.bad.yaml:2: model.folds must be a whole number, not "many"`},
		{"text_for_section", `text_for_section.bad.yaml:1: drift must hold keys and values such as every: …, not "often"`},
		{"top_level_list", "top_level_list.bad.yaml:1: the file must hold keys and values such as data_dir: …, not a list"},
		{"top_level_text", `top_level_text.bad.yaml:1: the file must hold keys and values such as data_dir: …, not "serve everything"`},
		{"tracking_uri", `tracking_uri: must be an address such as http://127.0.0.1:3000, not "file:///mlruns"`},
		{"registry_without_store", "store.registry: needs store.dsn: the registry is a file of the data directory otherwise"},
		{"two_stores", "store.dsn_file: is given beside store.dsn; give one"},
		{"two_colons", "two_colons.bad.yaml: is not YAML: a value may not hold a colon and a blank unless it is quoted"},
		{"two_documents", "two_documents.bad.yaml:2: a second document begins here; a configuration is one"},
		{"unclosed_bracket", "unclosed_bracket.bad.yaml:2: is not YAML: a bracket or brace that was opened is not closed"},
		{"unclosed_quote", "unclosed_quote.bad.yaml:2: is not YAML: a quote that was opened is not closed"},
		{"unknown_key", `unknown_key.bad.yaml:2: "port" is not a setting; did you mean ports?`},
		{"unknown_key_far", `unknown_key_far.bad.yaml:1: "colour" is not a setting; docs/configuration.md tells all of them`},
		{"unknown_key_nested", `unknown_key_nested.bad.yaml:3: "windw" is not a setting of drift; did you mean window?`},
		{"unknown_kind", `model.kind: must be one of forest, extra_trees, boosting, blend, not "xgboost"`},
		{"unknown_role", `unknown_role.bad.yaml:3: "scoring" is not a setting of ports; it has predict, feedback, retrain, drift, registry, console`},
		{"wrong_role", `roles[1]: "train" is not one of predict, feedback, retrain, drift, registry, console`},
		{"yes_for_bool", `yes_for_bool.bad.yaml:2: retrain.bootstrap must be true or false, not "maybe"`},
	}
	files, err := filepath.Glob("testdata/config/*.bad.yaml")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("TURBOFAN_DATA", "")
	for _, f := range files {
		if name := strings.TrimSuffix(filepath.Base(f), ".bad.yaml"); !slices.ContainsFunc(tests, func(tt struct{ name, want string }) bool { return tt.name == name }) {
			t.Errorf("%s is in no row of the table", f)
		}
	}
	t.Chdir("testdata/config")
	for _, tt := range tests {
		code, out, errs := call(t, "serve", "--config", tt.name+".bad.yaml")
		if want := "turbofan: " + tt.want + "\n"; code != exitUsage || errs != want || out != "" {
			t.Errorf("%s\ngot  %d %q %q\nwant %d %q", tt.name, code, errs, out, exitUsage, want)
		}
		if jargon.MatchString(errs) {
			t.Errorf("%s: %q speaks of our parts", tt.name, errs)
		}
	}
	if _, err := os.Stat("turbofan-data"); err == nil {
		t.Error("a refused configuration made a data directory")
	}
}

func TestBadEnvironment(t *testing.T) {
	for _, tt := range []struct{ name, value, want string }{
		{"TURBOFAN_PORTS_PREDICT", "many", `TURBOFAN_PORTS_PREDICT: must be a whole number, not "many"`},
		{"TURBOFAN_PORTS_PREDICT", "70000", "ports.predict: must be from 0 to 65535, not 70000"},
		{"TURBOFAN_DRIFT_EVERY", "10", `TURBOFAN_DRIFT_EVERY: must be a duration such as 10m or 500ms, not "10"`},
		{"TURBOFAN_DRIFT_RETRAIN", "yes", `TURBOFAN_DRIFT_RETRAIN: must be true or false, not "yes"`},
		{"TURBOFAN_MODEL_RANDOM_STATE", "1e3", `TURBOFAN_MODEL_RANDOM_STATE: must be a whole number, not "1e3"`},
		{"TURBOFAN_ROLES", "predict,train", `roles[1]: "train" is not one of predict, feedback, retrain, drift, registry, console`},
		{"TURBOFAN_HOST", "0.0.0.0", `host: "0.0.0.0" is not a loopback address and there are no API keys: anyone who reaches it could write to it; make keys by turbofan keys new and give --keys-file, or add --insecure-listen if the network is yours alone`},
		{"TURBOFAN_TRACKING_URI", "plant", `tracking_uri: must be an address such as http://127.0.0.1:3000, not "plant"`},
		{"TURBOFAN_CONFIG", "nowhere.yaml", "--config: cannot open nowhere.yaml: no such file or directory"},
	} {
		t.Run(tt.name+"="+tt.value, func(t *testing.T) {
			t.Setenv(tt.name, tt.value)
			if code, _, errs := call(t, "serve"); code != exitUsage || errs != "turbofan: "+tt.want+"\n" {
				t.Errorf("got %d %q, want %q", code, errs, tt.want)
			}
		})
	}
}

// A start that is refused because of a file that a setting names has opened no store: an old one is not migrated by a
// program that then does not serve.
func TestRefusedStartsLeaveStoresAlone(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, text := range map[string]string{"keys": "ops root sha256:zz\n", "cert.pem": "junk", "empty": "",
		"hooks.yaml": "webhooks: {urls: ['http://127.0.0.1:1/'], secret_file: empty}\n", "dsn.yaml": "store: {dsn_file: nowhere}\n"} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const ports = " --port predict=0 --port feedback=0 --port retrain=0 --port drift=0 --port registry=0 --port console=0"
	for _, tt := range []struct{ args, want string }{
		{"serve --keys-file keys" + ports, "turbofan: keys:1: "},
		{"serve --keys-file nowhere" + ports, "turbofan: auth.keys_file: cannot read nowhere: "},
		{"serve --tls-cert cert.pem --tls-key cert.pem" + ports, "turbofan: tls: cannot use cert.pem with cert.pem: "},
		{"serve --config hooks.yaml" + ports, "turbofan: webhooks.secret_file: empty must hold a secret"},
		{"serve --config dsn.yaml" + ports, "turbofan: store.dsn_file: cannot read nowhere: "},
		{"registry --port 0 --keys-file keys", "turbofan: keys:1: "},
		{"registry --port 0 --tls-cert cert.pem --tls-key cert.pem", "turbofan: tls: cannot use cert.pem with cert.pem: "},
	} {
		code, _, errs := call(t, strings.Fields(tt.args)...)
		if code != exitUsage || !strings.HasPrefix(errs, tt.want) {
			t.Errorf("turbofan %s\ngot  %d %swant %d %s", tt.args, code, errs, exitUsage, tt.want)
		}
		for _, pattern := range []string{"*.db*", "artifacts"} {
			if left, err := filepath.Glob(filepath.Join("turbofan-data", pattern)); err != nil || len(left) > 0 {
				t.Errorf("turbofan %s: left are %v, %v", tt.args, left, err)
			}
		}
	}
}

// badFiles are what the rows of TestBadCommands name.
func badFiles(t *testing.T) {
	t.Helper()
	const pump = "pump,hour,speed,fluid,pressure,flow,temperature,vibration,current\n"
	for name, text := range map[string]string{
		"pumps.yaml": `name: pumps
unit_column: pump
cycle_column: hour
settings:
  - {name: speed, tolerance: 10}
  - {name: fluid, tolerance: 0.5}
sensors:
  - {name: pressure, min: 0}
  - {name: flow, min: 0}
  - {name: temperature}
  - {name: vibration, min: 0}
  - {name: current, min: 0}
`,
		"badschema.yaml": "name: pumps\nsensor:\n  - {name: pressure}\n",
		"pumps.csv":      pump + "p1,1,1000,1,1,2,3,4,5\n",
		"short.csv":      pump + "p1,1,1000,1,1,2,3,4\n",
		"word.csv":       pump + "p1,1,1000,1,1,2,hot,4,5\n",
		"order.csv":      pump + "p1,2,1000,1,1,2,3,4,5\np1,1,1000,1,1,2,3,4,5\n",
		"column.csv":     strings.Replace(pump, "current", "noise", 1) + "p1,1,1000,1,1,2,3,4,5\n",
		"range.csv":      pump + "p1,1,1000,1,-1,2,3,4,5\n",
		"empty.csv":      "",
		"noise.bin":      "\x7fELF\x00\x01\xff\xfe\x00 \x90\x90",
		"short.txt":      "1 1 0 0 100 1 2 3\n",
		"word.txt":       "1 1 0 0 100" + strings.Repeat(" 1", 21) + "\n1 2 0 0 x" + strings.Repeat(" 1", 21) + "\n",
		"order.txt":      "1 1 0 0 100" + strings.Repeat(" 1", 21) + "\n1 1 0 0 100" + strings.Repeat(" 1", 21) + "\n",
		"place.json":     `{"options":"x","tick":3}`,
		"junk.json":      "junk",
	} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	fleet, trained := must(t, shared.fleet), must(t, shared.trained)
	found, err := filepath.Glob(filepath.Join(trained, "artifacts", "registry", "*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("the trained model: %q, %v", found, err)
	}
	for _, c := range [][2]string{{"fleet", fleet}, {"truth", fleet}, {"negative", fleet}, {"data", trained}, {"brokenmodel", found[0]}, {"cutmodel", found[0]}} {
		if err := os.CopyFS(c[0], os.DirFS(c[1])); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"truth/RUL_FD001.txt": "9\n9\n", "negative/RUL_FD001.txt": "9\n-4\n", "brokenmodel/model.json": "{", "cutmodel/learner.bin": "junk"} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir("nodata", 0o755); err != nil {
		t.Fatal(err)
	}
}

// badCommand is a command line that breaks a rule.
type badCommand struct {
	args string
	code int
	want string
	try  string // the command that the second line points to
}

func badServes() []badCommand {
	return []badCommand{
		{"serv", 2, `turbofan does not know "serv"; did you mean serve?`, "turbofan --help"},
		{"data ftch", 2, `turbofan data does not know "ftch"; did you mean fetch?`, "turbofan data --help"},
		{"serve now", 2, `turbofan serve takes no argument "now"`, "turbofan serve --help"},
		{"serve --prot predict=1", 2, "unknown flag: --prot; did you mean --port?", "turbofan serve --help"},
		{"serve --config", 2, "--config wants a value", "turbofan serve --help"},
		{"serve --config nowhere.yaml", 2, "--config: cannot open nowhere.yaml: no such file or directory", ""},
		{"serve --config nodata", 2, "--config: cannot read nodata: is a directory", ""},
		{"serve --port predict", 2, "--port predict: write it as role=number, such as predict=3000", "turbofan serve --help"},
		{"serve --port predict=many", 2, "--port predict=many: write it as role=number, such as predict=3000", "turbofan serve --help"},
		{"serve --port scoring=3000", 2, `--port scoring=3000: "scoring" is not one of predict, feedback, retrain, drift, registry, console`, "turbofan serve --help"},
		{"serve --port predict=70000", 2, "ports.predict: must be from 0 to 65535, not 70000", ""},
		{"serve --port predict=4000 --port drift=4000", 2, "ports.drift: 4000 is already the port of predict", ""},
		{"serve --role scoring", 2, `roles[0]: "scoring" is not one of predict, feedback, retrain, drift, registry, console`, ""},
		{"serve --host example.com", 2, `host: "example.com" is not a loopback address and there are no API keys: anyone who reaches it could write to it; make keys by turbofan keys new and give --keys-file, or add --insecure-listen if the network is yours alone`, ""},
		{"serve --host", 2, "--host wants a value", "turbofan serve --help"},
		{"serve --model xgboost", 2, `--model: must be one of forest, extra_trees, boosting, blend, not "xgboost"`, ""},
		{"serve --log-level loud", 2, `--log-level: must be debug, info, warn or error, not "loud"`, ""},
		{"serve --log-json=maybe", 2, `--log-json must be true or false, not "maybe"`, "turbofan serve --help"},
		{"serve --tracking-uri plant", 2, `--tracking-uri: must be an address such as http://127.0.0.1:3000, not "plant"`, ""},
		{"serve --data-dir=", 2, "data_dir: is missing", ""},
		{"serve --data-dir pumps.csv --role feedback --port feedback=0", 1, "the data directory pumps.csv cannot be made: not a directory; choose another with --data-dir", ""},
		{"serve --schema nowhere.yaml", 2, "schema: cannot open nowhere.yaml: no such file or directory", ""},
		{"serve --schema badschema.yaml", 2, "badschema.yaml: line 2: field sensor not found in a schema; did you mean sensors?", ""},
		{"serve --schema pumps.yaml --data fleet", 2, "dataset.dir: holds C-MAPSS files, which have a schema of their own; give dataset.csv beside schema", ""},
		{"serve --csv pumps.csv", 2, "schema: is missing: dataset.csv needs the file that names its columns", ""},
		{"version 1", 2, `turbofan version takes no argument "1"`, "turbofan version --help"},
		{"version --jsn", 2, "unknown flag: --jsn; did you mean --json?", "turbofan version --help"},
		{"registry --port 70000", 2, "--port must be from 0 to 65535, not 70000", "turbofan registry --help"},
		{"registry --port many", 2, `--port must be a whole number, not "many"`, "turbofan registry --help"},
	}
}

func badTrainings() []badCommand {
	return []badCommand{
		{"train --data fleet --folds many", 2, `--folds must be a whole number, not "many"`, "turbofan train --help"},
		{"train --data fleet --folds 1", 2, "--folds: must be from 2 to 100, not 1", ""},
		{"train --data fleet --folds 50 --data-dir fresh", 1, "train model: 24 units with a known end; at least 50 are needed, one a fold", ""},
		{"train --data fleet --subsets FD001,FD001", 2, "--subsets: names FD001 twice", ""},
		{"train --data fleet --subsets=", 2, "--subsets: must name at least one subset such as FD001", ""},
		{"train --data fleet --subsets FD009", 1, "train_FD009.txt is not in fleet; the subsets of C-MAPSS are FD001, FD002, FD003, FD004", ""},
		{"train --data nodata", 2, "--data: nodata holds no C-MAPSS subset: there is no pair of train_<subset>.txt and test_<subset>.txt in it", ""},
		{"train --data nowhere", 2, "--data: nowhere holds no C-MAPSS subset: there is no pair of train_<subset>.txt and test_<subset>.txt in it", ""},
		{"train --data fleet --model xgboost", 2, `--model: must be one of forest, extra_trees, boosting, blend, not "xgboost"`, ""},
		{"train --data fleet --register=false", 2, "--register=false without --out would throw the model away", "turbofan train --help"},
		{"train --data fleet --out fleet", 2, "--out fleet exists already; name a new directory", "turbofan train --help"},
		{"train --data fleet --seed 1.5", 2, `--seed must be a whole number, not "1.5"`, "turbofan train --help"},
		{"train --schema pumps.yaml --data-dir fresh", 2, "dataset.csv: is missing: training needs a file of units that ran to failure", ""},
		{"train --schema pumps.yaml --csv nowhere.csv", 2, "dataset.csv: cannot open nowhere.csv: no such file or directory", ""},
		{"train --schema pumps.yaml --csv pumps.csv", 1, "train model: 1 unit with a known end; at least 5 are needed, one a fold", ""},
		{"train --schema pumps.yaml --csv short.csv", 2, "short.csv:2: row: has 8 columns; the header has 9", ""},
		{"train --schema pumps.yaml --csv word.csv", 2, `word.csv:2: temperature: "hot" must be a finite number, or empty where it is missing`, ""},
		{"train --schema pumps.yaml --csv order.csv", 2, "order.csv:3: hour: 1 follows 2; cycles of a unit must rise", ""},
		{"train --schema pumps.yaml --csv column.csv", 2, `column.csv:1: header: lacks the column current; it has "pump", "hour", "speed", "fluid", "pressure", "flow", "temperature", "vibration", "noise"`, ""},
		{"train --schema pumps.yaml --csv range.csv", 2, "range.csv:2: reading: pressure is -1, below its least possible value 0", ""},
		{"train --schema pumps.yaml --csv empty.csv", 2, "empty.csv: is empty; it must begin with a header", ""},
		{"train --schema pumps.yaml --csv noise.bin", 2, `noise.bin:1: header: lacks the column pump; it has "\x7fELF\x00\x01\xff\xfe\x00 \x90\x90"`, ""},
	}
}

func badAnswers() []badCommand {
	return []badCommand{
		{"evaluate --data fleet --data-dir fresh", 1, "there is no version @champion of model \"rul\"; train one with `turbofan train`, or name a directory with --model-dir", ""},
		{"evaluate --data fleet --version 99 --data-dir data", 1, "there is no version 99 of model \"rul\"; train one with `turbofan train`, or name a directory with --model-dir", ""},
		{"evaluate --data fleet --version v1 --data-dir data", 1, "there is no version v1 of model \"rul\"; train one with `turbofan train`, or name a directory with --model-dir", ""},
		{"evaluate --data fleet --model-dir nowhere", 2, "--model-dir: nowhere is not a model: it has no model.json", ""},
		{"evaluate --data fleet --model-dir brokenmodel", 2, "open model brokenmodel: model.json is not the file that was saved: its SHA-256 is not the one in SHA256SUMS", ""},
		{"evaluate --data fleet --model-dir cutmodel", 2, "open model cutmodel: learner.bin is not the file that was saved: its SHA-256 differs", ""},
		{"evaluate --data fleet --train xgboost", 2, `--train: must be one of forest, extra_trees, boosting, blend, not "xgboost"`, ""},
		{"evaluate --data fleet --subsets FD001,FD001", 2, "--subsets: names FD001 twice", ""},
		{"evaluate --data fleet --subsets FD002 --data-dir data", 1, "train_FD002.txt is not in fleet; `turbofan data fetch` downloads it, `turbofan data synth` makes a stand-in", ""},
		{"evaluate --data truth --subsets FD001 --data-dir data", 2, "RUL_FD001.txt: has 2 values, but the test file has 24 units; it must have one value a unit", ""},
		{"evaluate --data negative --subsets FD001 --data-dir data", 2, `RUL_FD001.txt:2: rul: "-4" must be a whole number of cycles from 0 to 10000000`, ""},
		{"evaluate --schema pumps.yaml --csv pumps.csv --data-dir data", 2, "pumps.csv: does not tell when each unit failed: a column failed_at_cycle or rul must, for every unit", ""},
		{"evaluate --schema pumps.yaml --csv pumps.csv --train forest", 2, "--train works on C-MAPSS subsets; `turbofan train` cross-validates on a CSV file", "turbofan evaluate --help"},
		{"predict", 2, "predict wants one FILE, or - for standard input", "turbofan predict --help"},
		{"predict fleet/test_FD001.txt pumps.csv", 2, "predict wants one FILE, or - for standard input", "turbofan predict --help"},
		{"predict nowhere.txt --data-dir data", 2, "FILE: cannot open nowhere.txt: no such file or directory", ""},
		{"predict nodata --data-dir data", 2, "FILE: nodata is a directory", ""},
		{"predict fleet/test_FD001.txt --data-dir fresh", 1, "there is no version @champion of model \"rul\"; train one with `turbofan train`, or name a directory with --model-dir", ""},
		{"predict fleet/test_FD001.txt --data-dir data --format xml", 2, `--format must be table, csv or json, not "xml"`, "turbofan predict --help"},
		{"predict fleet/test_FD001.txt --data-dir data --version @canary", 1, "there is no version @canary of model \"rul\"; train one with `turbofan train`, or name a directory with --model-dir", ""},
		{"predict short.txt --data-dir data", 2, "short.txt:1: row: has 8 columns; it must have 26: unit, cycle, 3 settings and 21 sensors", ""},
		{"predict word.txt --data-dir data", 2, `word.txt:2: setting_3: "x" must be a finite number`, ""},
		{"predict order.txt --data-dir data", 2, "order.txt:2: cycle: cycle 1 stands twice; cycles must rise by 1", ""},
		{"predict empty.csv --data-dir data", 2, "empty.csv: is empty; it must begin with a header", ""},
		{"predict noise.bin --data-dir data", 2, `noise.bin:1: header: lacks the column unit_id; it has "\x7fELF\x00\x01\xff\xfe\x00 \x90\x90"`, ""},
		{"predict pumps.csv --data-dir data", 2, `pumps.csv:1: header: lacks the column unit_id; it has "pump", "hour", "speed", "fluid", "pressure", "flow", "temperature", "vibration", "current"`, ""},
	}
}

func badStreams() []badCommand {
	return []badCommand{
		{"simulate --rate fast", 2, `--rate: "fast" is not a number above 0 per s, min or h, such as 10/min`, "turbofan simulate --help"},
		{"simulate --rate 0/s", 2, `--rate: "0/s" is not a number above 0 per s, min or h, such as 10/min`, "turbofan simulate --help"},
		{"simulate --rate 10/fortnight", 2, `--rate: "10/fortnight" is not a number above 0 per s, min or h, such as 10/min`, "turbofan simulate --help"},
		{"simulate --workers 0", 2, "--workers must be from 1 to 256, not 0", "turbofan simulate --help"},
		{"simulate --fleet 0", 2, "--fleet must be from 1 to 100000, not 0", "turbofan simulate --help"},
		{"simulate --sample 0", 2, "--sample must be from 1 to 10000000, not 0", "turbofan simulate --help"},
		{"simulate --feedback-delay -1", 2, "--feedback-delay must be from 0 to 10000000, not -1", "turbofan simulate --help"},
		{"simulate --missing-feedback 1.5", 2, "--missing-feedback must be from 0 to 1, not 1.5", "turbofan simulate --help"},
		{"simulate --missing-feedback some", 2, `--missing-feedback must be a number, not "some"`, "turbofan simulate --help"},
		{"simulate --scenario slow", 2, `--scenario must be gradual or sudden, not "slow"`, "turbofan simulate --help"},
		{"simulate --ticks -1", 2, "--ticks must be from 0 to 10000000, not -1", "turbofan simulate --help"},
		{"simulate --subsets=", 2, "--subsets must name at least 1, such as FD001", "turbofan simulate --help"},
		{"simulate --subsets FD001,FD001", 2, "--subsets names FD001 twice", "turbofan simulate --help"},
		{"simulate --predict-url plant:3000", 2, `--predict-url: must be an address such as http://127.0.0.1:3000, not "plant:3000"`, ""},
		{"simulate --feedback-url ftp://plant", 2, `--feedback-url: must be an address such as http://127.0.0.1:3000, not "ftp://plant"`, ""},
		{"simulate --data fleet --subsets FD001 --resume junk.json", 2, "--resume: junk.json does not hold a place in a stream", ""},
		{"simulate --data fleet --subsets FD001 --resume place.json", 2, "--resume: place.json belongs to another stream (x); use its options, or another file", ""},
		{"simulate --data fleet --subsets FD001 --resume nodata", 2, "--resume: read nodata: is a directory", ""},
		{"simulate --data fleet --subsets FD001 --predict-url http://127.0.0.1:1", 1, `nothing answers at http://127.0.0.1:1: unit FD001-7 cycle 1: the prediction service at http://127.0.0.1:1 cannot be reached: Post "http://127.0.0.1:1/predict": dial tcp 127.0.0.1:1: connect: connection refused`, ""},
		{"demo --subsets FD001", 2, "--subsets must name at least 2, such as FD001,FD002", "turbofan demo --help"},
		{"demo --subsets FD001,FD001", 2, "--subsets names FD001 twice", "turbofan demo --help"},
		{"demo --data fleet --subsets FD001,FD004", 1, "train_FD004.txt is not in fleet; `turbofan data fetch` downloads it, `turbofan data synth` makes a stand-in", ""},
		{"demo --pace -1s", 2, "--pace must be at least 0, not -1s", "turbofan demo --help"},
		{"demo --pace soon", 2, `--pace must be a duration such as 10m or 500ms, not "soon"`, "turbofan demo --help"},
		{"demo --pace 1m --rate 10/min", 2, "--pace and --rate both set the speed: give one", "turbofan demo --help"},
		{"demo --rate 10", 2, `--rate: "10" is not a number above 0 per s, min or h, such as 10/min`, "turbofan demo --help"},
		{"demo --workers 300", 2, "--workers must be from 1 to 256, not 300", "turbofan demo --help"},
		{"demo --scenario slow", 2, `--scenario must be gradual or sudden, not "slow"`, "turbofan demo --help"},
		{"demo --model xgboost", 2, `--model must be one of forest, extra_trees, boosting, blend, not "xgboost"`, "turbofan demo --help"},
		{"demo --seed x", 2, `--seed must be a whole number, not "x"`, "turbofan demo --help"},
		{"demo --data nowhere", 2, "--data: nowhere holds no C-MAPSS subset: there is no pair of train_<subset>.txt and test_<subset>.txt in it", ""},
		{"demo --data fleet --subsets FD001,FD003 --data-dir pumps.csv", 1, "the report directory pumps.csv/report cannot be made: not a directory; choose another with --data-dir", ""},
		{"demo --mix-at-boundaries=perhaps", 2, `--mix-at-boundaries must be true or false, not "perhaps"`, "turbofan demo --help"},
	}
}

// TestBadCommands holds the exit status and the exact message of command lines and files that break a rule.
func TestBadCommands(t *testing.T) {
	t.Setenv("TURBOFAN_DATA", "")
	t.Chdir(t.TempDir())
	badFiles(t)
	for _, tt := range slices.Concat(badServes(), badTrainings(), badAnswers(), badStreams()) {
		code, _, errs := call(t, strings.Fields(tt.args)...)
		want := "turbofan: " + tt.want + "\n"
		if tt.try != "" {
			want += "Try: " + tt.try + "\n"
		}
		// Progress may stand before it.
		if code != tt.code || !strings.HasSuffix("\n"+errs, "\n"+want) {
			t.Errorf("turbofan %s\ngot  %d %s\nwant %d %s", tt.args, code, errs, tt.code, want)
		}
		if jargon.MatchString(errs) {
			t.Errorf("turbofan %s: %q speaks of our parts", tt.args, errs)
		}
	}
	if code, _, errs := call(t, "nonsense"); code != exitUsage || !strings.HasPrefix(errs, `turbofan: turbofan does not know "nonsense"; it knows data, demo, `) {
		t.Errorf("got %d %s", code, errs)
	}
	for _, left := range []string{"fresh", "turbofan-data"} {
		if _, err := os.Stat(left); err == nil {
			t.Errorf("a refused command made %s", left)
		}
	}
}

// TestBadRequests sends requests that break a rule to a running platform; after each of them the role answers a good one.
func TestBadRequests(t *testing.T) {
	p := serve(t, nil, "--data-dir", dataDir(t))
	p.ready(rolePredict)
	var values []string
	for _, v := range histories(t, "FD001")[0].Readings[0].Sensors {
		values = append(values, fmt.Sprint(v))
	}
	reading := func(head string) string { return "{" + head + `,"sensors":[` + strings.Join(values, ",") + "]}" }
	if code, body := p.post(rolePredict, "/predict", reading(`"unit_id":"ok","cycle":5,"settings":[0,0,100]`)); code != http.StatusOK {
		t.Fatal(code, body)
	}
	good := map[string]string{rolePredict: "/model", roleFeedback: "/feedback", roleRetrain: "/jobs", roleDrift: "/reports", roleRegistry: "/health"}
	const get = "\x00" // in place of a body
	for _, tt := range []struct {
		role, path, body string
		code             int
		want             string
	}{
		{rolePredict, "/predict", reading(`"unit_id":"ok","cycle":4,"settings":[0,0,100]`), 409, `{"error":"reading.cycle: cycle 4 of unit ok comes after cycle 5 was answered; send a unit's cycles in ascending order","code":"conflict","field":"reading.cycle"}`},
		{rolePredict, "/predict", reading(`"unit_id":"ok","cycle":5,"settings":[0,0,99]`), 409, `{"error":"reading.settings[2]: cycle 5 of unit ok was already sent with 100 for setting_3, not 99","code":"conflict","field":"reading.settings[2]"}`},
		{rolePredict, "/predict", reading(`"cycle":1,"settings":[0,0,100]`), 400, `{"error":"reading.unit_id: is missing","code":"invalid","field":"reading.unit_id"}`},
		{rolePredict, "/predict", reading(`"unit_id":"x","cycle":0,"settings":[0,0,100]`), 400, `{"error":"reading.cycle: must be a whole number from 1 to 10000000, not 0","code":"invalid","field":"reading.cycle"}`},
		{rolePredict, "/predict", reading(`"unit_id":"x","cycle":1.5,"settings":[0,0,100]`), 400, `{"error":"reading.cycle: must be a whole number from 1 to 10000000, not 1.5","code":"invalid","field":"reading.cycle"}`},
		{rolePredict, "/predict", reading(`"unit_id":"x","cycle":1,"settings":[0,0]`), 400, `{"error":"reading.settings: must have 3 values, one a setting of cmapss; it has 2","code":"invalid","field":"reading.settings"}`},
		{rolePredict, "/predict", reading(`"unit_id":"x","cycle":1,"settings":[0,0,"fast"]`), 400, `{"error":"reading.settings[2]: setting_3 must be a finite number","code":"invalid","field":"reading.settings[2]"}`},
		{rolePredict, "/predict", reading(`"unit_id":"x","cycle":1,"setting":[0,0,100]`), 400, `{"error":"setting: is not a field of a request for predictions; did you mean settings?","code":"invalid","field":"setting"}`},
		{rolePredict, "/predict", `{"unit_id":"x"`, 400, `{"error":"body: is not valid JSON at line 1 column 15: expected ',' or '}', found the end","code":"invalid","field":"body"}`},
		{rolePredict, "/predict", "", 400, `{"error":"body: is empty; send {\"reading\": {...}}","code":"invalid","field":"body"}`},
		{rolePredict, "/predict", get, 405, `{"error":"method: GET is not allowed here; use POST","code":"invalid","field":"method"}`},
		{rolePredict, "/nothing", get, 404, `{"error":"there is no such path here; GET /docs.json lists what there is","code":"not_found"}`},
		{rolePredict, "/units/nobody", get, 404, `{"error":"unit \"nobody\" has never sent a reading","code":"not_found"}`},
		{roleFeedback, "/feedback", `{"unit_id":"nobody","failed_at_cycle":9}`, 404, `{"error":"outcome.unit_id: unit \"nobody\" has never sent a reading","code":"not_found","field":"outcome.unit_id"}`},
		{roleFeedback, "/feedback", `{"unit_id":"ok"}`, 400, `{"error":"outcome.actual_rul: is missing: give exactly one of failed_at_cycle and actual_rul, unless event is \"maintenance\" or \"inspection\"","code":"invalid","field":"outcome.actual_rul"}`},
		{roleFeedback, "/feedback", `{"unit_id":"ok","failed_at_cycle":2}`, 400, `{"error":"outcome.failed_at_cycle: is 2, but unit \"ok\" sent a reading at cycle 5: a unit sends none after it failed","code":"invalid","field":"outcome.failed_at_cycle"}`},
		{roleFeedback, "/feedback", `{"unit_id":"ok","cycle":5,"actual_rul":-1}`, 400, `{"error":"outcome.actual_rul: must be a number from 0 to 10000000, not -1","code":"invalid","field":"outcome.actual_rul"}`},
		{roleRetrain, "/retrain", `{"reason":7}`, 400, `{"error":"reason: must be a string, not a number","code":"invalid","field":"reason"}`},
		{roleRetrain, "/jobs/none", get, 404, `{"error":"there is no job \"none\"","code":"not_found"}`},
		{roleRetrain, "/jobs/none/cancel", "", 404, `{"error":"there is no job \"none\"","code":"not_found"}`},
		{roleDrift, "/check", get, 405, `{"error":"method: GET is not allowed here; use POST","code":"invalid","field":"method"}`},
		{roleDrift, "/reports?limit=many", get, 400, `{"error":"limit: must be a whole number from 1 to 10000, not \"many\"","code":"invalid","field":"limit"}`},
		{roleRegistry, "/api/2.0/mlflow/registered-models/get?name=none", get, 404, `{"error_code":"RESOURCE_DOES_NOT_EXIST","message":"Registered Model with name=none not found"}`},
		{roleRegistry, "/api/2.0/mlflow/runs/create", `{"experiment_id":"77"}`, 404, `{"error_code":"RESOURCE_DOES_NOT_EXIST","message":"No Experiment with id=77 exists"}`},
	} {
		var code int
		var body string
		if tt.body == get {
			code, body = p.get(tt.role, tt.path)
		} else {
			code, body = p.post(tt.role, tt.path, tt.body)
		}
		if code != tt.code || strings.TrimSpace(body) != tt.want {
			t.Errorf("%s %s %s\ngot  %d %s\nwant %d %s", tt.role, tt.path, tt.body, code, body, tt.code, tt.want)
		}
		if code, body := p.get(tt.role, good[tt.role]); code != http.StatusOK {
			t.Errorf("%s: after %s %s a good request gets %d %s", tt.role, tt.path, tt.body, code, body)
		}
	}
}
