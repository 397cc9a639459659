package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"turbofan"
	"turbofan/model"
)

// The roles that a process can have.
const (
	rolePredict  = "predict"
	roleFeedback = "feedback"
	roleRetrain  = "retrain"
	roleDrift    = "drift"
	roleRegistry = "registry"
)

func allRoles() []string {
	return []string{rolePredict, roleFeedback, roleRetrain, roleDrift, roleRegistry}
}

// config is what a platform process is told: defaults, then the file, then flags.
type config struct {
	DataDir string `yaml:"data_dir"`
	Host    string `yaml:"host"`
	// Insecure allows to listen beyond loopback, where there are no API keys yet.
	Insecure bool           `yaml:"insecure_listen"`
	Roles    []string       `yaml:"roles"`
	Ports    map[string]int `yaml:"ports"`
	// URLs say where roles of other processes are; the default is this host and the role's port.
	URLs map[string]string `yaml:"urls"`
	// TrackingURI is an MLflow server to use as registry in place of the embedded one.
	TrackingURI string         `yaml:"tracking_uri"`
	Dataset     datasetConfig  `yaml:"dataset"`
	Model       modelConfig    `yaml:"model"`
	Drift       driftConfig    `yaml:"drift"`
	Retrain     retrainConfig  `yaml:"retrain"`
	Log         logConfig      `yaml:"log"`
	Limits      limitsConfig   `yaml:"limits"`
	Refresh     durationConfig `yaml:"refresh_every"`
}

type datasetConfig struct {
	Dir     string   `yaml:"dir"`
	Subsets []string `yaml:"subsets"` // whose training units are the baseline
}

type modelConfig struct {
	Name        string `yaml:"name"`
	Kind        string `yaml:"kind"`
	Folds       int    `yaml:"folds"`
	MaxRows     int    `yaml:"max_rows"`
	RandomState int64  `yaml:"random_state"`
}

type driftConfig struct {
	Every     durationConfig `yaml:"every"`
	EveryRows int            `yaml:"every_rows"`
	Window    int            `yaml:"window"`
	Retrain   bool           `yaml:"retrain"`
}

type retrainConfig struct {
	MinNewUnits int `yaml:"min_new_units"`
	// Bootstrap trains a first model from the dataset where the registry has none.
	Bootstrap bool `yaml:"bootstrap"`
}

type logConfig struct {
	Level  string `yaml:"level"`
	Format string `yaml:"format"` // text or json
}

type limitsConfig struct {
	MaxBodyBytes int64          `yaml:"max_body_bytes"`
	MaxReadings  int            `yaml:"max_readings"`
	Timeout      durationConfig `yaml:"timeout"`
}

// durationConfig is a duration written as in Go: 10m, 500ms.
type durationConfig time.Duration

func (d *durationConfig) UnmarshalYAML(n *yaml.Node) error {
	v, err := time.ParseDuration(n.Value)
	if err != nil {
		return fmt.Errorf("line %d: %q is not a duration such as 10m or 500ms", n.Line, n.Value)
	}
	*d = durationConfig(v)
	return nil
}

func defaultConfig() config {
	return config{
		DataDir: "turbofan-data", Host: "127.0.0.1", Roles: allRoles(),
		Ports:   map[string]int{rolePredict: 3000, roleFeedback: 3001, roleRetrain: 3003, roleDrift: 3004, roleRegistry: 5001},
		Dataset: datasetConfig{Subsets: []string{"FD001"}},
		Model:   modelConfig{Name: "rul", Kind: model.Boosting, Folds: 5, RandomState: 42},
		Drift:   driftConfig{Every: durationConfig(10 * time.Minute), Window: 1000, Retrain: true},
		Retrain: retrainConfig{MinNewUnits: 16, Bootstrap: true},
		Log:     logConfig{Level: "info", Format: "text"},
		Limits:  limitsConfig{MaxBodyBytes: 16 << 20, MaxReadings: 20_000, Timeout: durationConfig(30 * time.Second)},
		Refresh: durationConfig(5 * time.Second),
	}
}

const maxConfigSize = 1 << 20

// read overlays the file at path; a field that does not exist is an error that names its line.
func (c *config) read(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return turbofan.Invalid("--config", "%s", err.Error())
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxConfigSize+1))
	if err != nil {
		return turbofan.Invalid("--config", "%s", err.Error())
	}
	if len(b) > maxConfigSize {
		return turbofan.Invalid("--config", "%s is larger than 1 MiB", path)
	}
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		return turbofan.Invalid("--config", "%s: %s", path, strings.TrimPrefix(strings.ReplaceAll(err.Error(), "in type main.", "in "), "yaml: "))
	}
	return nil
}

func (c *config) validate() error {
	if c.DataDir == "" {
		return turbofan.Invalid("data_dir", "is missing")
	}
	if len(c.Roles) == 0 {
		return turbofan.Invalid("roles", "must name at least one of %s", strings.Join(allRoles(), ", "))
	}
	for i, r := range c.Roles {
		if !slices.Contains(allRoles(), r) {
			return turbofan.Invalid(fmt.Sprintf("roles[%d]", i), "%q is not one of %s", r, strings.Join(allRoles(), ", "))
		}
	}
	for r, p := range c.Ports {
		if !slices.Contains(allRoles(), r) {
			return turbofan.Invalid("ports", "%q is not one of %s", r, strings.Join(allRoles(), ", "))
		}
		if p < 0 || p > 65535 {
			return turbofan.Invalid("ports."+r, "must be from 0 to 65535, not %d", p)
		}
	}
	for r := range c.URLs {
		if !slices.Contains(allRoles(), r) {
			return turbofan.Invalid("urls", "%q is not one of %s", r, strings.Join(allRoles(), ", "))
		}
	}
	if ip := net.ParseIP(c.Host); !c.Insecure && c.Host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return turbofan.Invalid("host", "%q is not a loopback address; anyone who reaches it could send feedback and retrain: add --insecure-listen if the network is yours alone", c.Host)
	}
	if !slices.Contains(model.Kinds(), c.Model.Kind) {
		return turbofan.Invalid("model.kind", "must be one of %s, not %q", strings.Join(model.Kinds(), ", "), c.Model.Kind)
	}
	if c.Model.Name == "" {
		return turbofan.Invalid("model.name", "is missing")
	}
	if c.Drift.Every < 0 || c.Drift.EveryRows < 0 {
		return turbofan.Invalid("drift.every", "and every_rows must be at least 0")
	}
	if c.Refresh <= 0 {
		return turbofan.Invalid("refresh_every", "must be above 0")
	}
	if c.Limits.Timeout <= 0 {
		return turbofan.Invalid("limits.timeout", "must be above 0")
	}
	if c.Log.Format != "text" && c.Log.Format != "json" {
		return turbofan.Invalid("log.format", "must be text or json, not %q", c.Log.Format)
	}
	if _, err := logLevel(c.Log.Level); err != nil {
		return err
	}
	return nil
}

// learner returns the model configuration that the file and flags describe.
func (c *config) learner() model.Config {
	m := model.DefaultConfig(c.Model.Kind)
	m.Folds, m.MaxRows, m.RandomState = c.Model.Folds, c.Model.MaxRows, c.Model.RandomState
	return m
}

// url says where a role answers when it lives in another process.
func (c *config) url(role string) string {
	if u := c.URLs[role]; u != "" {
		return u
	}
	return "http://" + net.JoinHostPort(c.Host, strconv.Itoa(c.Ports[role]))
}

func (c *config) path(parts ...string) string {
	return filepath.Join(append([]string{c.DataDir}, parts...)...)
}

// configFlags are the flags that several subcommands share.
type configFlags struct {
	file     string
	dataDir  string
	data     string
	roles    []string
	host     string
	insecure bool
	ports    []string
	tracking string
	kind     string
	logLevel string
	logJSON  bool
}

func (f *configFlags) addData(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.data, "data", "", "directory with the C-MAPSS files (default: $TURBOFAN_DATA, data/raw, ../shared/cmapss)")
}

func (f *configFlags) addStore(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.file, "config", "", "YAML file with settings; flags override it")
	fl.StringVar(&f.dataDir, "data-dir", "turbofan-data", "directory for the database, the registry and the models")
	fl.StringVar(&f.tracking, "tracking-uri", "", "MLflow server to use as registry instead of the embedded one")
}

func (f *configFlags) addServe(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringSliceVar(&f.roles, "role", nil, "role to run, repeatable: "+strings.Join(allRoles(), ", ")+" (default all)")
	fl.StringVar(&f.host, "host", "127.0.0.1", "address to listen on")
	fl.BoolVar(&f.insecure, "insecure-listen", false, "allow an address other than loopback although there are no API keys")
	fl.StringSliceVar(&f.ports, "port", nil, "port of a role, repeatable: predict=3000; 0 takes any free one")
	fl.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	fl.BoolVar(&f.logJSON, "log-json", false, "write the log as JSON")
}

// resolve reads the file and lays the flags that were given over it.
func (f *configFlags) resolve(cmd *cobra.Command) (config, error) {
	c := defaultConfig()
	if f.file != "" {
		if err := c.read(f.file); err != nil {
			return c, err
		}
	}
	given := cmd.Flags().Changed
	set := func(name string, to *string, v string) {
		if given(name) {
			*to = v
		}
	}
	set("data-dir", &c.DataDir, f.dataDir)
	set("data", &c.Dataset.Dir, f.data)
	set("host", &c.Host, f.host)
	set("tracking-uri", &c.TrackingURI, f.tracking)
	set("model", &c.Model.Kind, f.kind)
	set("log-level", &c.Log.Level, f.logLevel)
	if given("role") {
		c.Roles = f.roles
	}
	if given("insecure-listen") {
		c.Insecure = f.insecure
	}
	if given("log-json") && f.logJSON {
		c.Log.Format = "json"
	}
	for _, p := range f.ports {
		role, port, ok := strings.Cut(p, "=")
		n, err := strconv.Atoi(port)
		if !ok || err != nil {
			return c, usagef(cmd, "--port %s: write it as role=number, such as predict=3000", p)
		}
		c.Ports[role] = n
	}
	return c, c.validate()
}
