package drift

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"turbofan"
	"turbofan/condition"
	"turbofan/reference"
)

const (
	// keepReferences is how many references stay in the cache: a rollback finds its own there.
	keepReferences = 5
	// learnPage is how many readings one query asks for while conditions are learned from the store.
	learnPage = 5000
)

// loaded is the version that serves with its reference and what was learned since.
type loaded struct {
	version    turbofan.ModelVersion
	reference  *reference.Reference
	conditions *Conditions
	learnedSeq int64 // every young reading up to this one was learned, once
	announced  *places
}

// unseen counts the conditions that training never saw.
func (l *loaded) unseen() int { return len(l.conditions.Unseen()) }

// places are conditions already spoken of.
type places struct{ condition.Normalizer }

func (p *places) add(settings []float64) {
	if len(p.Regimes) < p.Config.MaxConditions {
		p.Regimes = append(p.Regimes, condition.Regime{Center: slices.Clone(settings)})
	}
}

// resolve asks the registry which version has the alias.
func (s *Service) resolve(ctx context.Context) (turbofan.ModelVersion, error) {
	v, err := s.registry.Version(ctx, s.cfg.ModelName, "@"+s.cfg.Alias)
	if turbofan.ErrorCode(err) == turbofan.ENotFound {
		return v, &turbofan.Error{Code: turbofan.ENotFound, Message: fmt.Sprintf("no version of model %q is called %q yet: there is nothing to compare with", s.cfg.ModelName, s.cfg.Alias), Err: err}
	}
	if err != nil {
		return v, fmt.Errorf("resolve models:/%s@%s: %w", s.cfg.ModelName, s.cfg.Alias, err)
	}
	return v, nil
}

// load returns the serving version's reference: the one in memory while the version is the same.
func (s *Service) load(ctx context.Context) (*loaded, error) {
	v, err := s.resolve(ctx)
	if err != nil {
		return nil, err
	}
	if s.loaded != nil && cacheKey(s.loaded.version) == cacheKey(v) {
		return s.loaded, nil
	}
	ref, err := s.reference(ctx, v)
	if err != nil {
		return nil, err
	}
	l := &loaded{version: v, reference: ref, conditions: NewConditions(ref, s.cfg), announced: &places{}}
	l.announced.Config = ref.Normalizer.Config
	if err := s.recall(ctx, l); err != nil {
		return nil, err
	}
	s.loaded = l
	s.metrics.reset()
	s.log.InfoContext(ctx, "drift reference loaded", "model_version", v.Version, "sensors", len(ref.Keep), "rows", ref.Profile.Rows)
	return l, nil
}

// recall marks the conditions that stored reports already spoke of, so that a restart announces nothing twice.
func (s *Service) recall(ctx context.Context, l *loaded) error {
	reports, err := s.stores.Reports.Reports(ctx, 1)
	if err != nil {
		return fmt.Errorf("read last drift report: %w", err)
	}
	for _, r := range reports {
		if r.ModelName != l.version.Name || r.ModelVersion != l.version.Version {
			continue
		}
		for _, c := range r.NewConditions {
			l.announced.add(c.Settings)
		}
	}
	return nil
}

// cacheKey names a version's reference in the cache. It holds more than the number, because a registry that was set up
// anew counts from 1 again.
func cacheKey(v turbofan.ModelVersion) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %d", v.Name, v.Version, v.Source, v.CreatedAt.UnixMilli()))
	return "v" + safe(v.Version) + "-" + hex.EncodeToString(sum[:8])
}

// safe keeps what may stand in a file's name; registries number versions, but a name is theirs to choose.
func safe(version string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '_'
	}, version[:min(len(version), 32)])
}

// reference returns the reference of a version, from the cache or else from the registry. A cached file that cannot be
// read is fetched again.
func (s *Service) reference(ctx context.Context, v turbofan.ModelVersion) (*reference.Reference, error) {
	cached := filepath.Join(s.cfg.CacheDir, cacheKey(v)+".json")
	if ref, err := reference.Read(cached); err == nil {
		return ref, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		s.log.WarnContext(ctx, "cached drift reference cannot be read: fetching it again", "error", err)
	}
	if err := os.MkdirAll(s.cfg.CacheDir, 0o755); err != nil {
		return nil, fmt.Errorf("create drift cache: %w", err)
	}
	scratch, err := os.MkdirTemp(s.cfg.CacheDir, ".fetch-")
	if err != nil {
		return nil, fmt.Errorf("create drift cache: %w", err)
	}
	defer s.discard(ctx, scratch)
	dir := filepath.Join(scratch, "model")
	if err := s.registry.Fetch(ctx, v, dir); err != nil {
		return nil, fmt.Errorf("fetch version %s of %s: %w", v.Version, v.Name, err)
	}
	fetched := filepath.Join(dir, reference.FileName)
	ref, err := reference.Read(fetched)
	if err != nil { // which no later check repairs
		s.log.ErrorContext(ctx, "the version has no usable reference: no check can be made while it serves", "version", v.Version, "error", err)
		return nil, &turbofan.Error{Code: turbofan.EUnavailable, Message: fmt.Sprintf("version %s of %s has no usable reference", v.Version, v.Name), Err: err}
	}
	if err := os.Rename(fetched, cached); err != nil {
		return nil, fmt.Errorf("keep drift reference: %w", err)
	}
	s.prune(ctx)
	return ref, nil
}

// discard removes a scratch directory; what stays behind costs space only.
func (s *Service) discard(ctx context.Context, dir string) {
	if err := os.RemoveAll(dir); err != nil {
		s.log.WarnContext(ctx, "scratch directory stays behind", "error", err)
	}
}

// prune removes all but the newest references, and scratch directories that a killed process left.
func (s *Service) prune(ctx context.Context) {
	entries, err := os.ReadDir(s.cfg.CacheDir)
	if err != nil {
		s.log.WarnContext(ctx, "drift cache cannot be listed", "error", err)
		return
	}
	type file struct {
		path string
		at   int64
	}
	var files []file
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || e.IsDir() || !strings.HasPrefix(e.Name(), "v") || filepath.Ext(e.Name()) != ".json" {
			continue
		}
		files = append(files, file{filepath.Join(s.cfg.CacheDir, e.Name()), info.ModTime().UnixNano()})
	}
	slices.SortFunc(files, func(a, b file) int { return cmp.Compare(b.at, a.at) })
	for _, f := range files[min(len(files), keepReferences):] {
		if err := os.Remove(f.path); err != nil {
			s.log.WarnContext(ctx, "old drift reference stays behind", "error", err)
		}
	}
}

// learn teaches the conditions the young readings that arrived since, in order of arrival and each once.
func (s *Service) learn(ctx context.Context, l *loaded) error {
	for {
		q := turbofan.ReadingQuery{AfterSeq: l.learnedSeq, Limit: learnPage, MaxCycle: l.conditions.HealthyCycles()}
		page, err := s.stores.Readings.Readings(ctx, q)
		if err != nil {
			return fmt.Errorf("read young units: %w", err)
		}
		for i := range page {
			l.conditions.Learn(&page[i].Reading)
			l.learnedSeq = page[i].Seq
		}
		if len(page) < learnPage {
			return nil
		}
	}
}
