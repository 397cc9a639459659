package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"turbofan"
	"turbofan/dataset"
	"turbofan/drift"
	"turbofan/model"
	"turbofan/retrain"
)

// The roles that a process can have.
const (
	rolePredict  = "predict"
	roleFeedback = "feedback"
	roleRetrain  = "retrain"
	roleDrift    = "drift"
	roleRegistry = "registry"
	roleConsole  = "console"
)

func allRoles() []string {
	return []string{rolePredict, roleFeedback, roleRetrain, roleDrift, roleRegistry, roleConsole}
}

// config is what a platform process is told: defaults, then the file, then the environment, then flags. Every key is
// told in docs/configuration.md.
type config struct {
	DataDir string `yaml:"data_dir"`
	Host    string `yaml:"host"`
	// Auth says who may ask; without keys, anybody who reaches a port.
	Auth authConfig `yaml:"auth"`
	TLS  tlsConfig  `yaml:"tls"`
	// Insecure allows to listen beyond loopback without API keys.
	Insecure bool           `yaml:"insecure_listen"`
	Roles    []string       `yaml:"roles"`
	Ports    map[string]int `yaml:"ports"`
	// GRPC is the second door of the prediction role.
	GRPC grpcConfig `yaml:"grpc"`
	// URLs say where roles of other processes are; the default is this host and the role's port.
	URLs map[string]string `yaml:"urls"`
	// TrackingURI is an MLflow server to use as registry in place of the embedded one.
	TrackingURI string      `yaml:"tracking_uri"`
	Store       storeConfig `yaml:"store"`
	// Schema is a YAML file that names the settings and sensors of other equipment than C-MAPSS engines.
	Schema  string         `yaml:"schema"`
	Dataset datasetConfig  `yaml:"dataset"`
	Model   modelConfig    `yaml:"model"`
	Drift   driftConfig    `yaml:"drift"`
	Retrain retrainConfig  `yaml:"retrain"`
	Log     logConfig      `yaml:"log"`
	Limits  limitsConfig   `yaml:"limits"`
	Refresh durationConfig `yaml:"refresh_every"`
	// Explain adds the strongest reasons to the answer to a single reading where the request does not say.
	Explain bool `yaml:"explain"`
	// DrainDelay is how long a process that was told to end still answers while /readyz says 503.
	DrainDelay durationConfig `yaml:"drain_delay"`
	// Webhooks are the listeners that hear of drift, retrainings, promotions and rollbacks.
	Webhooks webhookConfig `yaml:"webhooks"`
}

// storeConfig says where readings, predictions, outcomes, reports and jobs are kept: in PostgreSQL, or, where neither is
// given, in a file of the data directory.
type storeConfig struct {
	DSN     string `yaml:"dsn"`      // may hold a password: never logged
	DSNFile string `yaml:"dsn_file"` // holds the same
	// Registry has the rows of the registry stand there as well; its files stay in the data directory.
	Registry bool `yaml:"registry"`
}

// shared reports whether the store is a database that other machines may use too.
func (c storeConfig) shared() bool { return c.DSN != "" || c.DSNFile != "" }

// dsn reads the address.
func (c storeConfig) dsn() (string, error) {
	if c.DSNFile != "" {
		return readSecret("store.dsn_file", c.DSNFile)
	}
	return c.DSN, nil
}

type grpcConfig struct {
	Enabled bool `yaml:"enabled"`
	Port    int  `yaml:"port"`
}

type webhookConfig struct {
	URLs       []string `yaml:"urls"`
	Kinds      []string `yaml:"kinds"`       // empty: all
	SecretFile string   `yaml:"secret_file"` // holds the key that signs deliveries
}

type datasetConfig struct {
	Dir string `yaml:"dir"`
	// CSV is a file of units that ran to failure, with the columns that Schema names.
	CSV     string   `yaml:"csv"`
	Subsets []string `yaml:"subsets"` // whose training units are the baseline
}

type modelConfig struct {
	Name        string `yaml:"name"`
	Kind        string `yaml:"kind"`
	Folds       int    `yaml:"folds"`
	MaxRows     int    `yaml:"max_rows"`
	RandomState int64  `yaml:"random_state"`
	// Light trains smaller boosting, for quick retrainings: half the time for a tenth of a cycle.
	Light bool `yaml:"light"`
}

type driftConfig struct {
	Every     durationConfig `yaml:"every"`
	EveryRows int            `yaml:"every_rows"`
	Window    int            `yaml:"window"`
	MinUnits  int            `yaml:"min_units"`
	Threshold float64        `yaml:"threshold"`
	Rank      int            `yaml:"rank"`
	// SpreadUnits and SpreadAlpha are the rule that looks at each unit by itself.
	SpreadUnits int     `yaml:"spread_units"`
	SpreadAlpha float64 `yaml:"spread_alpha"`
	ErrorRatio  float64 `yaml:"error_ratio"`
	Retrain     bool    `yaml:"retrain"`
}

type retrainConfig struct {
	MinNewUnits int `yaml:"min_new_units"`
	// Every submits a job although nobody asked; 0 never does.
	Every durationConfig `yaml:"every"`
	// Bootstrap trains a first model from the dataset where the registry has none.
	Bootstrap bool `yaml:"bootstrap"`
	// WatchUnits and WatchConfidence are the rule that takes a champion back.
	WatchUnits      int     `yaml:"watch_units"`
	WatchConfidence float64 `yaml:"watch_confidence"`
	// Lease is how long after a process was last heard of another one takes over its job.
	Lease durationConfig `yaml:"lease"`
}

type logConfig struct {
	Level  string `yaml:"level"`
	Format string `yaml:"format"` // text or json
}

type limitsConfig struct {
	MaxBodyBytes int64          `yaml:"max_body_bytes"`
	MaxReadings  int            `yaml:"max_readings"`
	Timeout      durationConfig `yaml:"timeout"`
	// MaxConcurrency requests of a role are worked on at once and MaxQueue more wait.
	MaxConcurrency int `yaml:"max_concurrency"`
	MaxQueue       int `yaml:"max_queue"`
	// Rate bounds the requests a second of each API key, Burst how many may come at once (0: a second's worth).
	Rate  int `yaml:"rate"`
	Burst int `yaml:"burst"`
}

// durationConfig is a duration written as in Go: 10m, 500ms.
type durationConfig time.Duration

func (d durationConfig) String() string { return time.Duration(d).String() }

func defaultConfig() config {
	rule, gate := drift.DefaultConfig(), retrain.DefaultConfig()
	return config{
		DataDir: "turbofan-data", Host: "127.0.0.1", Roles: allRoles(),
		Ports:   map[string]int{rolePredict: 3000, roleFeedback: 3001, roleRetrain: 3003, roleDrift: 3004, roleRegistry: 5001, roleConsole: 8080},
		GRPC:    grpcConfig{Port: 8001},
		Dataset: datasetConfig{Subsets: []string{"FD001"}},
		Model:   modelConfig{Name: "rul", Kind: model.Boosting, Folds: 5, MaxRows: 40_000, RandomState: 42},
		Drift: driftConfig{Every: durationConfig(10 * time.Minute), Window: 1000, MinUnits: rule.MinUnits, Threshold: rule.Threshold, Rank: rule.Rank,
			SpreadUnits: rule.SpreadUnits, SpreadAlpha: rule.SpreadAlpha, ErrorRatio: rule.ErrorRatio, Retrain: true},
		Retrain: retrainConfig{MinNewUnits: 16, Bootstrap: true, WatchUnits: gate.Watch.Units, WatchConfidence: gate.Watch.Confidence, Lease: durationConfig(gate.Lease)},
		Log:     logConfig{Level: "info", Format: "text"},
		Limits:  limitsConfig{MaxBodyBytes: 16 << 20, MaxReadings: 20_000, Timeout: durationConfig(30 * time.Second), MaxConcurrency: 256, MaxQueue: 1024},
		Refresh: durationConfig(5 * time.Second),
	}
}

func (c *config) validate() error {
	for _, check := range []func() error{c.validateRoles, c.validateAddresses, c.validateData, c.validateServices} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c *config) validateRoles() error {
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
	return nil
}

func (c *config) validateAddresses() error {
	taken := map[int]string{}
	for _, r := range allRoles() {
		p := c.Ports[r]
		if p < 0 || p > 65535 {
			return turbofan.Invalid("ports."+r, "must be from 0 to 65535, not %d", p)
		}
		if other := taken[p]; other != "" && p != 0 && slices.Contains(c.Roles, r) && slices.Contains(c.Roles, other) {
			return turbofan.Invalid("ports."+r, "%d is already the port of %s", p, other)
		}
		taken[p] = r
		if u := c.URLs[r]; u != "" {
			if err := checkURL("urls."+r, u); err != nil {
				return err
			}
		}
	}
	if p := c.GRPC.Port; p < 0 || p > 65535 {
		return turbofan.Invalid("grpc.port", "must be from 0 to 65535, not %d", p)
	} else if other := taken[p]; c.GRPC.Enabled && p != 0 && other != "" && slices.Contains(c.Roles, other) && slices.Contains(c.Roles, rolePredict) {
		return turbofan.Invalid("grpc.port", "%d is already the port of %s", p, other)
	}
	if err := c.validateAccess(); err != nil {
		return err
	}
	if c.TrackingURI != "" {
		return checkURL("tracking_uri", c.TrackingURI)
	}
	return nil
}

// checkURL reports an address that no HTTP client could call.
func checkURL(field, text string) error {
	if u, err := url.Parse(text); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return turbofan.Invalid(field, "must be an address such as http://127.0.0.1:3000, not %q", text)
	}
	return nil
}

func (c *config) validateData() error {
	if c.Store.DSN != "" && c.Store.DSNFile != "" {
		return turbofan.Invalid("store.dsn_file", "is given beside store.dsn; give one")
	}
	if c.Store.Registry && !c.Store.shared() {
		return turbofan.Invalid("store.registry", "needs store.dsn: the registry is a file of the data directory otherwise")
	}
	if c.Schema == "" && c.Dataset.CSV != "" {
		return turbofan.Invalid("schema", "is missing: dataset.csv needs the file that names its columns")
	}
	if c.Schema != "" && c.Dataset.Dir != "" {
		return turbofan.Invalid("dataset.dir", "holds C-MAPSS files, which have a schema of their own; give dataset.csv beside schema")
	}
	if c.Schema == "" && len(c.Dataset.Subsets) == 0 {
		return turbofan.Invalid("dataset.subsets", "must name at least one subset such as FD001")
	}
	seen := map[string]bool{}
	for _, s := range c.Dataset.Subsets {
		if seen[s] {
			return turbofan.Invalid("dataset.subsets", "names %s twice", s)
		}
		seen[s] = true
	}
	return nil
}

func (c *config) validateServices() error {
	if !slices.Contains(model.Kinds(), c.Model.Kind) {
		return turbofan.Invalid("model.kind", "must be one of %s, not %q", strings.Join(model.Kinds(), ", "), c.Model.Kind)
	}
	if c.Model.Name == "" {
		return turbofan.Invalid("model.name", "is missing")
	}
	if err := c.learner().Validate(); err != nil {
		return err
	}
	if err := c.detector().Validate(); err != nil {
		return err
	}
	switch {
	case c.Retrain.Every < 0:
		return turbofan.Invalid("retrain.every", "must be at least 0, not %s", c.Retrain.Every)
	case c.Retrain.WatchUnits < 0 || c.Retrain.WatchUnits == 1:
		return turbofan.Invalid("retrain.watch_units", "must be 0 or at least 2, not %d", c.Retrain.WatchUnits)
	case !(c.Retrain.WatchConfidence > 0.5 && c.Retrain.WatchConfidence <= 1):
		return turbofan.Invalid("retrain.watch_confidence", "must be above 0.5 and at most 1, not %g", c.Retrain.WatchConfidence)
	case time.Duration(c.Retrain.Lease) < time.Second:
		return turbofan.Invalid("retrain.lease", "must be at least 1s, not %s", c.Retrain.Lease)
	case c.Retrain.MinNewUnits < 1:
		return turbofan.Invalid("retrain.min_new_units", "must be at least 1, not %d", c.Retrain.MinNewUnits)
	case c.Refresh <= 0:
		return turbofan.Invalid("refresh_every", "must be above 0, not %s", c.Refresh)
	case c.DrainDelay < 0:
		return turbofan.Invalid("drain_delay", "must be at least 0, not %s", c.DrainDelay)
	case c.Limits.MaxBodyBytes < 1 || c.Limits.MaxBodyBytes > 1<<30:
		return turbofan.Invalid("limits.max_body_bytes", "must be from 1 to 1073741824, not %d", c.Limits.MaxBodyBytes)
	case c.Limits.MaxReadings < 1:
		return turbofan.Invalid("limits.max_readings", "must be at least 1, not %d", c.Limits.MaxReadings)
	case c.Limits.Timeout <= 0:
		return turbofan.Invalid("limits.timeout", "must be above 0, not %s", c.Limits.Timeout)
	case c.Limits.MaxConcurrency < 1:
		return turbofan.Invalid("limits.max_concurrency", "must be at least 1, not %d", c.Limits.MaxConcurrency)
	case c.Limits.MaxQueue < 0:
		return turbofan.Invalid("limits.max_queue", "must be at least 0, not %d", c.Limits.MaxQueue)
	case c.Log.Format != "text" && c.Log.Format != "json":
		return turbofan.Invalid("log.format", "must be text or json, not %q", c.Log.Format)
	}
	_, err := logLevel(c.Log.Level)
	return err
}

// detector returns what the drift service is told.
func (c *config) detector() drift.Config {
	d := drift.DefaultConfig()
	d.MinUnits, d.Threshold, d.Rank, d.ErrorRatio = c.Drift.MinUnits, c.Drift.Threshold, c.Drift.Rank, c.Drift.ErrorRatio
	d.SpreadUnits, d.SpreadAlpha = c.Drift.SpreadUnits, c.Drift.SpreadAlpha
	d.ModelName, d.CacheDir, d.Every, d.EveryRows, d.Window, d.Retrain = c.Model.Name, c.path("references"), time.Duration(c.Drift.Every), c.Drift.EveryRows, c.Drift.Window, c.Drift.Retrain
	return d
}

// schema returns what a reading holds: of the schema file, or C-MAPSS.
func (c *config) schema() (turbofan.Schema, error) {
	if c.Schema == "" {
		return turbofan.CMAPSS(), nil
	}
	return dataset.LoadSchema(c.Schema)
}

// learner returns the model configuration that the file and flags describe.
func (c *config) learner() model.Config {
	m := model.DefaultConfig(c.Model.Kind)
	m.Folds, m.MaxRows, m.RandomState = c.Model.Folds, c.Model.MaxRows, c.Model.RandomState
	if b := &m.Boosting; c.Model.Light {
		b.MaxIter, b.LearningRate, b.MaxLeafNodes, b.MinSamplesLeaf, b.MaxFeatures, b.Subsample = 200, 0.06, 15, 40, 0.5, 1
	}
	return m
}

// url says where a role answers when it lives in another process.
func (c *config) url(role string) string {
	if u := c.URLs[role]; u != "" {
		return u
	}
	host := c.Host
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1" // listening everywhere is no address to call
	}
	return c.TLS.scheme() + "://" + net.JoinHostPort(host, strconv.Itoa(c.Ports[role]))
}

func (c *config) path(parts ...string) string {
	return filepath.Join(append([]string{c.DataDir}, parts...)...)
}

// configFlags are the flags that several subcommands share.
type configFlags struct {
	file     string
	dataDir  string
	data     string
	schema   string
	csv      string
	roles    []string
	host     string
	insecure bool
	ports    []string
	grpcPort int
	tracking string
	dsn      string
	kind     string
	logLevel string
	logJSON  bool
	keysFile string
	tlsCert  string
	tlsKey   string
}

func (f *configFlags) addData(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.data, "data", "", "directory with the C-MAPSS files (default: $TURBOFAN_DATA, data/raw, ../shared/cmapss)")
	cmd.Flags().StringVar(&f.schema, "schema", "", "YAML file that names the settings and sensors of other equipment; see docs/configuration.md")
	cmd.Flags().StringVar(&f.csv, "csv", "", "CSV file with that equipment's units, in place of the C-MAPSS files")
}

func (f *configFlags) addStore(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.file, "config", "", "YAML file with settings; TURBOFAN_… variables override it, flags override both (default $TURBOFAN_CONFIG)")
	fl.StringVar(&f.dataDir, "data-dir", "turbofan-data", "directory for the database, the registry and the models")
	fl.StringVar(&f.tracking, "tracking-uri", "", "MLflow server to use as registry instead of the embedded one")
}

func (f *configFlags) addServe(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.dsn, "store-dsn", "", "PostgreSQL database for readings, predictions, outcomes and jobs, such as postgres://turbofan@db/turbofan; a password belongs in $TURBOFAN_STORE_DSN or store.dsn_file")
	fl.StringSliceVar(&f.roles, "role", nil, "role to run, repeatable: "+strings.Join(allRoles(), ", ")+" (default all)")
	fl.StringVar(&f.host, "host", "127.0.0.1", "address to listen on")
	fl.BoolVar(&f.insecure, "insecure-listen", false, "allow an address other than loopback without API keys")
	fl.StringVar(&f.keysFile, "keys-file", "", "file with the API keys that are valid, as turbofan keys new writes them; without one nobody is asked for a key")
	fl.StringVar(&f.tlsCert, "tls-cert", "", "PEM file with the certificate of all ports, read again when it changes; needs --tls-key")
	fl.StringVar(&f.tlsKey, "tls-key", "", "PEM file with the certificate's private key")
	fl.IntVar(&f.grpcPort, "grpc-port", 8001, "answer the Open Inference Protocol over gRPC too, on this port: off unless given; 0 takes any free one")
	fl.StringSliceVar(&f.ports, "port", nil, "port of a role, repeatable: predict=3000; 0 takes any free one")
	fl.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	fl.BoolVar(&f.logJSON, "log-json", false, "write the log as JSON")
}

// resolve reads the file, then the environment, then the flags that were given: the later one wins.
func (f *configFlags) resolve(cmd *cobra.Command) (config, error) {
	c := defaultConfig()
	file := f.file
	if !cmd.Flags().Changed("config") {
		file = os.Getenv("TURBOFAN_CONFIG")
	}
	if file != "" {
		if err := c.readFile(file); err != nil {
			return c, err
		}
	}
	if err := c.readEnv(os.LookupEnv); err != nil {
		return c, err
	}
	given := cmd.Flags().Changed
	set := func(name string, to *string, v string) {
		if given(name) {
			*to = v
		}
	}
	set("data-dir", &c.DataDir, f.dataDir)
	set("data", &c.Dataset.Dir, f.data)
	set("schema", &c.Schema, f.schema)
	set("csv", &c.Dataset.CSV, f.csv)
	set("host", &c.Host, f.host)
	set("keys-file", &c.Auth.KeysFile, f.keysFile)
	set("tls-cert", &c.TLS.Cert, f.tlsCert)
	set("tls-key", &c.TLS.Key, f.tlsKey)
	set("tracking-uri", &c.TrackingURI, f.tracking)
	set("store-dsn", &c.Store.DSN, f.dsn)
	set("model", &c.Model.Kind, f.kind)
	set("log-level", &c.Log.Level, f.logLevel)
	if given("role") {
		c.Roles = f.roles
	}
	if given("grpc-port") {
		c.GRPC = grpcConfig{Enabled: true, Port: f.grpcPort}
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
		if !slices.Contains(allRoles(), role) {
			return c, usagef(cmd, "--port %s: %q is not one of %s", p, role, strings.Join(allRoles(), ", "))
		}
		c.Ports[role] = n
	}
	return c, byFlag(cmd, c.validate())
}

// byFlag names the flag in an error about a setting that the caller gave by a flag, who need not know its name in the file.
func byFlag(cmd *cobra.Command, err error) error {
	e, ok := errors.AsType[*turbofan.Error](err)
	if !ok {
		return err
	}
	for _, name := range map[string][]string{
		"model.kind": {"train", "model"}, "model.folds": {"folds"}, "dataset.subsets": {"subsets"}, "log.level": {"log-level"}, "tracking_uri": {"tracking-uri"},
	}[e.Field] {
		if cmd.Flags().Changed(name) {
			return turbofan.Invalid("--"+name, "%s", e.Message)
		}
	}
	return err
}
