package predict

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"turbofan"
	"turbofan/condition"
	"turbofan/model"
)

// Refresh resolves the alias and, where it names another version, fetches that version, opens it, lets it answer its
// golden histories and only then swaps. It reports whether a new version serves. After an error the old one stays.
func (s *Service) Refresh(ctx context.Context) (bool, error) {
	s.refresh.Lock()
	defer s.refresh.Unlock()
	v, err := s.resolve(ctx)
	if err != nil {
		if turbofan.ErrorCode(err) != turbofan.ENotFound || s.served.Load() != nil {
			s.fail("resolve "+s.cfg.ModelName, err)
		}
		return false, s.fallBack(ctx, err)
	}
	old := s.served.Load()
	if old != nil && old.version.Version == v.Version && old.version.Name == v.Name {
		return false, nil
	}
	m, err := s.load(ctx, v)
	if err != nil {
		s.fail("version "+v.Version, err)
		return false, s.fallBack(ctx, err)
	}
	if err := s.install(ctx, &served{model: m, version: v, since: time.Now()}); err != nil {
		s.fail("version "+v.Version, err)
		return false, err
	}
	s.remember(v.Version)
	return true, nil
}

func (s *Service) resolve(ctx context.Context) (turbofan.ModelVersion, error) {
	if s.cfg.Version != "" {
		return s.registry.Version(ctx, s.cfg.ModelName, s.cfg.Version)
	}
	return s.registry.Version(ctx, s.cfg.ModelName, "@"+s.cfg.Alias)
}

func (s *Service) fail(what string, err error) {
	s.metrics.failures.Inc()
	s.statusMu.Lock()
	defer s.statusMu.Unlock()
	s.failures++
	if reason := fmt.Sprintf("%s: %v", what, err); reason != s.lastFailure {
		s.lastFailure = reason
		s.log.Error("the champion cannot serve; the model before it stays", "reason", reason)
	}
}

// load fetches v into the cache, or takes it from there, and opens it. A cached copy that no longer opens is fetched
// once more before the version is refused.
func (s *Service) load(ctx context.Context, v turbofan.ModelVersion) (*model.Model, error) {
	dir := s.cached(v.Version)
	if _, err := os.Stat(dir); err == nil {
		if m, err := model.Open(dir); err == nil {
			return m, nil
		}
		if err := os.RemoveAll(dir); err != nil {
			return nil, fmt.Errorf("clear cached model: %w", err)
		}
	}
	if err := s.registry.Fetch(ctx, v, dir); err != nil {
		return nil, fmt.Errorf("fetch model: %w", err)
	}
	m, err := model.Open(dir)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return m, nil
}

func (s *Service) cached(version string) string {
	clean := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '-' {
			return r
		}
		return '_'
	}, s.cfg.ModelName+"-"+version)
	return filepath.Join(s.cfg.CacheDir, clean)
}

// lastGood names the file that remembers the newest version that served, for a start at which the champion cannot.
const lastGood = "last-good"

func (s *Service) remember(version string) {
	tmp := filepath.Join(s.cfg.CacheDir, lastGood+".tmp")
	err := os.WriteFile(tmp, []byte(version), 0o644)
	if err == nil {
		err = os.Rename(tmp, filepath.Join(s.cfg.CacheDir, lastGood))
	}
	if err != nil {
		s.log.Warn("remember the serving version", "error", err)
	}
}

// fallBack serves the version that served before, at a start at which the champion cannot; cause is returned either
// way, because the champion still does not serve.
func (s *Service) fallBack(ctx context.Context, cause error) error {
	if s.served.Load() != nil {
		return cause
	}
	b, err := os.ReadFile(filepath.Join(s.cfg.CacheDir, lastGood))
	if err != nil {
		return cause
	}
	version := strings.TrimSpace(string(b))
	m, err := model.Open(s.cached(version))
	if err != nil {
		return cause
	}
	if err := s.install(ctx, &served{model: m, version: turbofan.ModelVersion{Name: s.cfg.ModelName, Version: version}, since: time.Now()}); err != nil {
		return cause
	}
	s.log.Warn("serving the version that served before", "version", version)
	return cause
}

// install primes the new model's operating conditions from the young readings in the store and swaps. Where the fleet
// flies in conditions that the new model never saw, the last step runs with predictions held back for the few
// milliseconds it takes, so that no reading is left out or counted twice.
func (s *Service) install(ctx context.Context, next *served) error {
	next.comm = condition.NewCommissioner(next.model.Spec().Normalizer)
	healthy := next.model.Spec().Normalizer.Config.HealthyCycles
	seq, foreign, err := s.prime(ctx, next, 0, healthy)
	if err != nil {
		return err
	}
	if foreign {
		s.swapMu.Lock()
		defer s.swapMu.Unlock()
		if _, _, err := s.prime(ctx, next, seq, healthy); err != nil {
			return err
		}
	}
	old := s.served.Swap(next)
	s.statusMu.Lock()
	if old != nil {
		s.swaps++
	}
	s.lastFailure = ""
	s.statusMu.Unlock()
	if old != nil {
		s.metrics.info.DeleteLabelValues(old.version.Name, old.version.Version)
		s.metrics.swaps.Inc()
	}
	s.metrics.info.WithLabelValues(next.version.Name, next.version.Version).Set(1)
	s.log.Info("model serves", "model", next.version.Name, "version", next.version.Version, "digest", next.model.Digest()[:12])
	return nil
}

// prime lets the model's commissioner learn from stored readings of young units, in order of arrival, after seq. It
// returns the last place read and whether any reading was foreign to the model.
func (s *Service) prime(ctx context.Context, m *served, seq int64, healthy int) (int64, bool, error) {
	const page = 20_000
	foreign := false
	for {
		rs, err := s.stores.Readings.Readings(ctx, turbofan.ReadingQuery{AfterSeq: seq, Limit: page, MaxCycle: healthy})
		if err != nil {
			return seq, foreign, fmt.Errorf("prime conditions: %w", err)
		}
		for i := range rs {
			r := &rs[i]
			seq = r.Seq
			if len(r.Settings) != len(m.model.Spec().Schema.Settings) || len(r.Sensors) != len(m.model.Spec().Schema.Sensors) {
				continue // of another equipment's schema, from before
			}
			foreign = foreign || m.model.Spec().Normalizer.Find(r.Settings) < 0
			m.comm.Learn(r.UnitID, r.Cycle, r.Settings, r.Sensors)
		}
		if len(rs) < page {
			return seq, foreign, nil
		}
	}
}
