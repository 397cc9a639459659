// Package registry keeps what was tried and what serves: experiments, runs with their parameters, metrics and tags,
// logged models, and registered models with versions and aliases, as MLflow names them. Rows stand in a
// [turbofan.RegistryStore]; files stand below one folder, written whole and renamed.
//
// A [Registry] is that store with MLflow's rules and defaults before it and the files beside it. It is the embedded
// twin of a real MLflow server: the same turbofan.Registry and turbofan.Tracking, without a process to run.
package registry

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"turbofan"
)

// Config says where files stand. The zero value of everything but ArtifactRoot is a default.
type Config struct {
	// ArtifactRoot is the folder of all files; it is created. As a file: URI it is also the default artifact root.
	ArtifactRoot string
	// DefaultArtifactRoot is the URI below which new experiments keep their files, as clients see it. The default,
	// mlflow-artifacts:/, sends them through the server into ArtifactRoot. A file: URI lets clients that share the
	// disk write by themselves.
	DefaultArtifactRoot string
	// SourcePattern is what the source of a version that a client creates must match somewhere, as MLflow has it; nil lets any
	// source pass that is safe.
	SourcePattern *regexp.Regexp
	// OrphanAge is how old files that belong to no version must be before Open and Tend delete them: a crash, or another
	// process at work, left them. An hour by default.
	OrphanAge time.Duration
	// UploadAge is how long nothing may have come of an upload in parts before it counts as given up, a day by default; an
	// address for a part is good for an hour, and a part may take another.
	UploadAge time.Duration
	// SweepEvery is how often Tend looks for both, an hour by default.
	SweepEvery time.Duration
	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil keeps no metrics
}

// Registry is the embedded registry. Its methods may be called at the same time.
type Registry struct {
	turbofan.RegistryStore
	store       turbofan.RegistryStore
	files       *os.Root // ArtifactRoot
	filesPath   string   // absolute
	shared      *os.Root // the folder of a file: default root outside of ArtifactRoot; else nil
	sharedPath  string
	defaultRoot string // without a slash at its end
	sources     *regexp.Regexp
	log         *slog.Logger
	versions    prometheus.Counter
	bytes       prometheus.Counter
	now         func() time.Time

	orphanAge, uploadAge, sweepEvery time.Duration
}

var (
	_ turbofan.Registry    = (*Registry)(nil)
	_ turbofan.Tracking    = (*Registry)(nil)
	_ turbofan.ModelServer = (*Registry)(nil)
)

// proxyScheme is the URI scheme of files that are reached through the server.
const proxyScheme = "mlflow-artifacts"

// Open opens the registry over its database and its files, makes sure of the first experiment and deletes what a
// crash left of versions that never were.
func Open(ctx context.Context, cfg Config, store turbofan.RegistryStore) (*Registry, error) {
	root, isURI, err := localFolder(cfg.ArtifactRoot)
	if err != nil {
		return nil, turbofan.Invalid("artifact_root", "%v", err)
	}
	if cfg.DefaultArtifactRoot == "" {
		cfg.DefaultArtifactRoot = proxyScheme + ":/"
		if isURI {
			cfg.DefaultArtifactRoot = cfg.ArtifactRoot
		}
	}
	cfg.OrphanAge = cmp.Or(cfg.OrphanAge, time.Hour)
	cfg.UploadAge = cmp.Or(cfg.UploadAge, 24*time.Hour)
	cfg.SweepEvery = cmp.Or(cfg.SweepEvery, time.Hour)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Registry{
		RegistryStore: store, store: store, filesPath: root, log: cfg.Logger, sources: cfg.SourcePattern,
		defaultRoot: strings.TrimRight(cfg.DefaultArtifactRoot, "/"), now: time.Now,
		orphanAge: cfg.OrphanAge, uploadAge: cfg.UploadAge, sweepEvery: cfg.SweepEvery,
	}
	if r.files, err = openFolder(root); err != nil {
		return nil, err
	}
	if err := r.openShared(cfg.DefaultArtifactRoot); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	if err := r.register(cfg.Registerer); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	if err := r.ensureFirstExperiment(ctx); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	r.trySweep(ctx)
	if err := ctx.Err(); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// Close releases the folders. The store is its opener's to close.
func (r *Registry) Close() error {
	errs := []error{r.files.Close()}
	if r.shared != nil {
		errs = append(errs, r.shared.Close())
	}
	return errors.Join(errs...)
}

// localFolder returns the absolute path that root names and whether it was a URI.
func localFolder(root string) (string, bool, error) {
	if root == "" {
		return "", false, errors.New("names no folder")
	}
	if !strings.HasPrefix(root, "file:") {
		if i := strings.Index(root, ":/"); i > 1 {
			return "", false, fmt.Errorf("%q is not a folder of this machine", root)
		}
		abs, err := filepath.Abs(root)
		return abs, false, err
	}
	u, err := url.Parse(root)
	if err != nil {
		return "", false, err
	}
	if u.Host != "" && u.Host != "localhost" || u.Path == "" {
		return "", false, fmt.Errorf("%q is not a folder of this machine", root)
	}
	return filepath.FromSlash(u.Path), true, nil
}

func openFolder(path string) (*os.Root, error) {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, fmt.Errorf("create artifact root: %w", err)
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("open artifact root: %w", err)
	}
	return root, nil
}

// openShared opens the folder that clients write to by themselves, so that the server can read it as well.
func (r *Registry) openShared(defaultRoot string) error {
	if !strings.HasPrefix(defaultRoot, "file:") && !filepath.IsAbs(defaultRoot) {
		return nil
	}
	path, _, err := localFolder(defaultRoot)
	if err != nil {
		return turbofan.Invalid("default_artifact_root", "%v", err)
	}
	r.sharedPath = path
	r.shared, err = openFolder(path)
	return err
}

func (r *Registry) register(reg prometheus.Registerer) error {
	r.versions = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "turbofan_registry_versions_created_total", Help: "Model versions registered since the start.",
	})
	r.bytes = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "turbofan_registry_artifact_bytes_written_total", Help: "Bytes of artifacts written since the start.",
	})
	if reg == nil {
		return nil
	}
	for _, c := range []prometheus.Collector{r.versions, r.bytes} {
		if err := reg.Register(c); err != nil {
			return fmt.Errorf("register metric: %w", err)
		}
	}
	return nil
}

// ensureFirstExperiment makes experiment 0, which runs go to when nobody says where.
func (r *Registry) ensureFirstExperiment(ctx context.Context) error {
	if _, err := r.store.Experiment(ctx, "0"); turbofan.ErrorCode(err) != turbofan.ENotFound {
		return err
	}
	now := r.now()
	_, err := r.store.CreateExperiment(ctx, turbofan.Experiment{
		ID: "0", Name: "Default", ArtifactLocation: r.defaultRoot + "/", CreatedAt: now, UpdatedAt: now,
	})
	if turbofan.ErrorCode(err) == turbofan.EConflict {
		return nil // another process was first
	}
	return err
}

// newID returns 32 random hexadecimal digits, as MLflow names runs.
func newID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func invalid(format string, args ...any) error {
	return turbofan.Errorf(turbofan.EInvalid, format, args...)
}
