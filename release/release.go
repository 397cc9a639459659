// Package release says which model versions answer in production: the champion, the canary and the challenger beside
// it, and the way back. It moves aliases in a registry and opens every version before it is given a part.
package release

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"turbofan"
	"turbofan/model"
)

// Server is the prediction service of the same process, where there is one: a change is put to it at once.
type Server interface {
	// Refresh asks the registry for what should serve and reports whether a new version does.
	Refresh(ctx context.Context) (bool, error)
	Serving(ctx context.Context) (turbofan.Serving, error)
	// Open fetches a version and lets it answer its golden histories, as [model.Open] does. What it opened waits for
	// Refresh, so that a version is opened once for a change.
	Open(ctx context.Context, v turbofan.ModelVersion) (*model.Model, error)
	// Answering returns the model of a version that answers now, nil for any other.
	Answering(v turbofan.ModelVersion) *model.Model
}

// Config is what the service is told.
type Config struct {
	ModelName string
	// Alias names the champion.
	Alias string
	// WorkDir is where versions are opened before they are given a part; "" is the system's directory for such files.
	WorkDir string
}

// Service implements turbofan.ReleaseService over a registry.
type Service struct {
	cfg      Config
	registry turbofan.Registry
	server   Server // nil where no model serves in this process
	log      *slog.Logger
	mu       sync.Mutex // one change at a time
}

var _ turbofan.ReleaseService = (*Service)(nil)

// New returns a service that releases versions of one model; EInvalid without its name. server may be nil, log not.
func New(cfg Config, registry turbofan.Registry, server Server, log *slog.Logger) (*Service, error) {
	if cfg.ModelName == "" {
		return nil, turbofan.Invalid("release.model_name", "is missing")
	}
	if cfg.Alias == "" {
		cfg.Alias = turbofan.ChampionAlias
	}
	return &Service{cfg: cfg, registry: registry, server: server, log: log}, nil
}

// Models lists the versions.
func (s *Service) Models(ctx context.Context) (turbofan.ModelList, error) {
	list := turbofan.ModelList{ModelName: s.cfg.ModelName, Versions: []turbofan.ModelSummary{}, Serving: s.serving(ctx)}
	versions, err := s.registry.Versions(ctx, s.cfg.ModelName)
	if err != nil {
		return list, fmt.Errorf("list versions of %s: %w", s.cfg.ModelName, err)
	}
	for i := range versions {
		v := summary(&versions[i])
		list.Versions = append(list.Versions, v)
		for _, a := range v.Aliases {
			switch a {
			case s.cfg.Alias:
				list.Champion = v.Version
			case turbofan.CanaryAlias:
				list.Canary = v.Version
			case turbofan.ChallengerAlias:
				list.Challenger = v.Version
			}
		}
	}
	return list, nil
}

// serving is the version that this process answers with, "" where it answers with none.
func (s *Service) serving(ctx context.Context) string {
	if s.server == nil {
		return ""
	}
	v, err := s.server.Serving(ctx)
	if err != nil {
		return "" // the only error it has is that no model serves yet
	}
	return v.ModelVersion
}

func summary(v *turbofan.ModelVersion) turbofan.ModelSummary {
	out := turbofan.ModelSummary{Version: v.Version, Aliases: v.Aliases, CreatedAt: v.CreatedAt, RunID: v.RunID, Digest: v.Tags[turbofan.TagDigest],
		Replaced: v.Tags[turbofan.TagChampionReplaced], Because: v.Tags[turbofan.TagChampionBecause], RolledBack: v.Tags[turbofan.TagRolledBack], ChampionSince: championSince(v)}
	if slices.Contains(v.Aliases, turbofan.CanaryAlias) {
		out.CanaryShare, _ = strconv.ParseFloat(v.Tags[turbofan.TagCanaryShare], 64) // a share that is no number answers nobody
	}
	return out
}

// championSince is zero for a version that never was champion, or of whose time nothing was written down.
func championSince(v *turbofan.ModelVersion) time.Time {
	at, err := time.Parse(time.RFC3339Nano, v.Tags[turbofan.TagChampionSince])
	if err != nil {
		return time.Time{}
	}
	return at
}

// Model opens one version and tells whether it could serve.
func (s *Service) Model(ctx context.Context, ref string) (turbofan.ModelDetail, error) {
	v, err := s.find(ctx, ref)
	if err != nil {
		return turbofan.ModelDetail{}, err
	}
	d := turbofan.ModelDetail{ModelSummary: summary(&v)}
	m, err := s.check(ctx, v, s.open)
	if err != nil {
		if ctx.Err() != nil || turbofan.ErrorCode(err) == turbofan.EUnavailable {
			return d, err
		}
		d.Problem = turbofan.ErrorMessage(err)
		return d, nil
	}
	d.Digest, d.Kind, d.Schema, d.Columns = m.Digest(), m.Config().Kind, m.Spec().Schema.Name, len(m.Spec().Columns)
	d.Units, d.RMSE = m.Data().Units, float64(m.Metrics().RMSEClipped)
	return d, nil
}

// find resolves ref, and tells what there is where ref names nothing.
func (s *Service) find(ctx context.Context, ref string) (turbofan.ModelVersion, error) {
	if ref == "" {
		return turbofan.ModelVersion{}, turbofan.Invalid("version", `is missing; name one such as "3"`)
	}
	v, err := s.registry.Version(ctx, s.cfg.ModelName, ref)
	if turbofan.ErrorCode(err) != turbofan.ENotFound {
		return v, err
	}
	known, err := s.registry.Versions(ctx, s.cfg.ModelName)
	if err != nil {
		return v, err
	}
	if alias, ok := strings.CutPrefix(ref, "@"); ok {
		return v, turbofan.Errorf(turbofan.ENotFound, "no version of %s has the alias %s", s.cfg.ModelName, alias)
	}
	if len(known) == 0 {
		return v, turbofan.Errorf(turbofan.ENotFound, "the registry has no version of %s", s.cfg.ModelName)
	}
	return v, turbofan.Errorf(turbofan.ENotFound, "there is no version %s of %s; the newest is %s", strconv.Quote(ref), s.cfg.ModelName, known[len(known)-1].Version)
}

// ready checks a version that is about to be given a part.
func (s *Service) ready(ctx context.Context, v turbofan.ModelVersion) error {
	open := s.open
	if s.server != nil {
		open = s.server.Open
	}
	_, err := s.check(ctx, v, open)
	return err
}

// check opens v, which lets it answer its golden histories, and holds it to the channels of the champion.
func (s *Service) check(ctx context.Context, v turbofan.ModelVersion, open func(context.Context, turbofan.ModelVersion) (*model.Model, error)) (*model.Model, error) {
	m, err := open(ctx, v)
	if err != nil {
		return nil, turbofan.Wrap(turbofan.EInvalid, err, "version %s cannot serve: %s", v.Version, reason(err))
	}
	champion, err := s.registry.Version(ctx, s.cfg.ModelName, "@"+s.cfg.Alias)
	if turbofan.ErrorCode(err) == turbofan.ENotFound || err == nil && champion.Version == v.Version {
		return m, nil
	}
	if err != nil {
		return nil, fmt.Errorf("resolve champion: %w", err)
	}
	c, err := s.serves(ctx, champion)
	if err != nil {
		if turbofan.ErrorCode(err) == turbofan.EUnavailable || ctx.Err() != nil {
			return nil, err
		}
		return m, nil // a champion that is broken itself must not keep a sound one from its place
	}
	have, next := &c.Spec().Schema, &m.Spec().Schema
	if !slices.Equal(have.SettingNames(), next.SettingNames()) || !slices.Equal(have.SensorNames(), next.SensorNames()) {
		return nil, turbofan.Errorf(turbofan.EInvalid, "version %s cannot serve: it reads the channels of %q (%d settings, %d sensors), the champion, version %s, those of %q (%d settings, %d sensors)",
			v.Version, next.Name, len(next.Settings), len(next.Sensors), champion.Version, have.Name, len(have.Settings), len(have.Sensors))
	}
	return m, nil
}

// serves returns the model of the champion: that which answers, or the registry's.
func (s *Service) serves(ctx context.Context, champion turbofan.ModelVersion) (*model.Model, error) {
	if s.server != nil {
		if m := s.server.Answering(champion); m != nil {
			return m, nil
		}
	}
	return s.open(ctx, champion)
}

// reason is an error without the name of a directory that is gone when somebody reads it.
func reason(err error) string {
	text := err.Error()
	if _, after, ok := strings.Cut(text, "open model "); ok {
		if _, why, ok := strings.Cut(after, ": "); ok {
			return why
		}
	}
	return text
}

func (s *Service) open(ctx context.Context, v turbofan.ModelVersion) (_ *model.Model, err error) {
	if s.cfg.WorkDir != "" {
		if err := os.MkdirAll(s.cfg.WorkDir, 0o755); err != nil {
			return nil, fmt.Errorf("open version %s: %w", v.Version, err)
		}
	}
	dir, err := os.MkdirTemp(s.cfg.WorkDir, "check-*")
	if err != nil {
		return nil, fmt.Errorf("open version %s: %w", v.Version, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	files := filepath.Join(dir, "model")
	if err := s.registry.Fetch(ctx, v, files); err != nil {
		return nil, err
	}
	return model.Open(files)
}
