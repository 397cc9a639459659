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
	"strconv"
	"strings"
	"time"

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
artifact root.`,
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
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			return runRegistry(cmd.Context(), o, sources, log)
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
func runRegistry(ctx context.Context, o registryOptions, sources *regexp.Regexp, log *slog.Logger) (err error) {
	store, err := openDatabase(ctx, o.db)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	reg, err := registry.Open(ctx, registry.Config{
		ArtifactRoot: o.artifactRoot, DefaultArtifactRoot: o.defaultArtifactRoot, SourcePattern: sources, Logger: log,
	}, store)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reg.Close()) }()
	listener, err := net.Listen("tcp", net.JoinHostPort(o.host, strconv.Itoa(o.port)))
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	pages, err := console.NewRegistry(console.DefaultConfig(), reg, log)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	server := &http.Server{
		Handler:           mlflow.NewHandler(reg, mlflow.HandlerConfig{Logger: log, AllowedHosts: o.allowedHosts, Pages: pages}),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	log.Info("registry is ready", "address", "http://"+listener.Addr().String(), "db", store.Name(), "artifacts", o.artifactRoot)
	stopped := make(chan error, 1)
	go func() { stopped <- server.Serve(listener) }()
	select {
	case err := <-stopped:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := server.Shutdown(grace); err != nil {
		return errors.Join(fmt.Errorf("stop: %w", err), server.Close())
	}
	return nil
}
