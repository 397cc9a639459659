package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"turbofan/console"
	"turbofan/mlflow"
	"turbofan/registry"
	"turbofan/sqlstore"
)

// registryOptions are the flags of the registry command.
type registryOptions struct {
	host, db, artifactRoot, defaultArtifactRoot string
	port                                        int
	allowedHosts                                []string
	sourcePattern                               string
	keysFile, tlsCert, tlsKey                   string
	insecure                                    bool
}

// config is what serve would be told for the same door. Keys and certificates may come from the environment as well.
func (o *registryOptions) config(given func(flag string) bool) (config, error) {
	var env config
	if err := env.readEnv(os.LookupEnv); err != nil {
		return env, err
	}
	c := defaultConfig()
	c.Roles, c.Host, c.Ports = []string{roleRegistry}, o.host, map[string]int{roleRegistry: o.port}
	c.Auth, c.TLS, c.Insecure, c.Limits.Rate, c.Limits.Burst = env.Auth, env.TLS, env.Insecure, env.Limits.Rate, env.Limits.Burst
	for _, f := range []struct {
		name    string
		to      *string
		setting string
	}{{"keys-file", &c.Auth.KeysFile, o.keysFile}, {"tls-cert", &c.TLS.Cert, o.tlsCert}, {"tls-key", &c.TLS.Key, o.tlsKey}} {
		if given(f.name) {
			*f.to = f.setting
		}
	}
	if given("insecure-listen") {
		c.Insecure = o.insecure
	}
	return c, c.validateAccess()
}

// sourcePatternEnv is MLflow's own name for it, so that a deployment may keep its environment.
const sourcePatternEnv = "MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX"

func newRegistryCommand() *cobra.Command {
	var o registryOptions
	cmd := &cobra.Command{
		Use:   "registry",
		Short: "Serve experiments, runs and models to MLflow clients",
		Long: `Serve the embedded registry over MLflow's REST API, alone.

Any MLflow client can then use it:

    export MLFLOW_TRACKING_URI=http://127.0.0.1:5001

Files go through the server into --artifact-root. With --artifact-root as a file: URI, or with
--default-artifact-root, clients that share the disk read and write them by themselves.

What "mlflow server" calls --backend-store-uri and --artifacts-destination is understood for --db and
--artifact-root; sqlite:///FILE names a file there. Several registries may share a PostgreSQL database and an
artifact root.

Without keys the server listens on loopback alone, unless --insecure-listen allows another address. With keys, as
turbofan keys new makes them, clients send theirs from MLFLOW_TRACKING_TOKEN.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.port < 0 || o.port > 65535 {
				return usagef(cmd, "--port must be from 0 to 65535, not %d", o.port)
			}
			sources, err := regexp.Compile(o.sourcePattern)
			if err != nil {
				return usagef(cmd, "--source-pattern: %v", err)
			}
			if o.db, err = databaseOf(o.db); err != nil {
				return usagef(cmd, "--db %v", err)
			}
			cfg, err := o.config(cmd.Flags().Changed)
			if err != nil {
				return err
			}
			log, err := newLogger(logConfig{Level: "info", Format: "text"}, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			return runRegistry(cmd.Context(), cfg, o, sources, log)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.host, "host", "127.0.0.1", "address to listen on")
	f.IntVar(&o.port, "port", 5001, "port to listen on; 0 takes a free one")
	f.StringVar(&o.db, "db", filepath.Join("turbofan-data", "registry.db"), "database: a file, or a PostgreSQL database such as postgresql://user@host/name, whose password belongs in $PGPASSWORD or ~/.pgpass")
	f.StringVar(&o.artifactRoot, "artifact-root", filepath.Join("turbofan-data", "artifacts"), "folder of the files, or its file: URI")
	f.StringVar(&o.defaultArtifactRoot, "default-artifact-root", "", "URI below which clients see the files of new experiments (default mlflow-artifacts:/)")
	f.StringVar(&o.sourcePattern, "source-pattern", os.Getenv(sourcePatternEnv), "regular expression that the source of every new model version must match (default $"+sourcePatternEnv+")")
	f.StringSliceVar(&o.allowedHosts, "allowed-hosts", nil, "further public names by which clients may call the server; * allows any")
	f.StringVar(&o.keysFile, "keys-file", "", "file with the API keys that are valid, as turbofan keys new writes them; without one nobody is asked for a key")
	f.BoolVar(&o.insecure, "insecure-listen", false, "allow an address other than loopback without API keys")
	f.StringVar(&o.tlsCert, "tls-cert", "", "PEM file with the server's certificate, read again when it changes; needs --tls-key")
	f.StringVar(&o.tlsKey, "tls-key", "", "PEM file with the certificate's private key")
	f.SetNormalizeFunc(mlflowFlag)
	return cmd
}

// mlflowFlag reads the flags of "mlflow server" as ours.
func mlflowFlag(_ *pflag.FlagSet, name string) pflag.NormalizedName {
	switch name {
	case "backend-store-uri":
		name = "db"
	case "artifacts-destination":
		name = "artifact-root"
	}
	return pflag.NormalizedName(name)
}

// databaseOf reads a database as MLflow writes it: sqlite:///FILE, with four slashes for an absolute path, and
// postgresql+driver://, whose driver is Python's business. Nothing of it is said in an error: it may hold a password.
func databaseOf(uri string) (string, error) {
	if file, ok := strings.CutPrefix(uri, "sqlite:///"); ok {
		return file, nil
	}
	scheme, rest, ok := strings.Cut(uri, "://")
	if !ok {
		return uri, nil
	}
	switch name, _, _ := strings.Cut(scheme, "+"); name {
	case "postgres", "postgresql":
		return name + "://" + rest, nil
	}
	return "", fmt.Errorf("must be a file, sqlite:///FILE or postgresql://user@host/name, not %s://…", scheme)
}

// openDatabase opens what databaseOf returned.
func openDatabase(ctx context.Context, db string) (*sqlstore.RegistryDB, error) {
	if strings.Contains(db, "://") {
		return sqlstore.OpenRegistryPostgres(ctx, db)
	}
	if err := os.MkdirAll(filepath.Dir(db), 0o755); err != nil {
		return nil, fmt.Errorf("create folder of the registry database: %w", err)
	}
	return sqlstore.OpenRegistry(ctx, db)
}

// runRegistry serves until ctx ends, then lets requests finish.
func runRegistry(ctx context.Context, cfg config, o registryOptions, sources *regexp.Regexp, log *slog.Logger) (err error) {
	p := &platform{cfg: cfg, log: log, listeners: map[string]net.Listener{}, handlers: map[string]http.Handler{}}
	defer func() { err = errors.Join(err, p.close()) }()
	if err := p.listenFor(roleRegistry, "--port NUMBER"); err != nil {
		return err
	}
	if err := p.openAccess(); err != nil {
		return err
	}
	store, err := openDatabase(ctx, o.db)
	if err != nil {
		return err
	}
	p.closers = append(p.closers, store.Close)
	common := newMetrics()
	reg, err := registry.Open(ctx, registry.Config{
		ArtifactRoot: o.artifactRoot, DefaultArtifactRoot: o.defaultArtifactRoot, SourcePattern: sources, Logger: log, Registerer: common,
	}, store)
	if err != nil {
		return err
	}
	p.closers = append(p.closers, reg.Close)
	p.run = append(p.run, reg.Tend)
	pages, err := console.NewRegistry(console.DefaultConfig(), reg, log)
	if err != nil {
		return err
	}
	if err := p.addRegistry(reg, mlflow.HandlerConfig{Logger: log, AllowedHosts: o.allowedHosts, Pages: pages}, common, store.Ready); err != nil {
		return err
	}
	if err := p.guard(common); err != nil {
		return err
	}
	log.Info("registry is ready", "address", p.url(roleRegistry), "db", store.Name(), "artifacts", o.artifactRoot)
	return p.serve(ctx)
}
