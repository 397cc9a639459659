package predict

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"turbofan"
	"turbofan/condition"
	"turbofan/model"
)

// Refresh resolves the alias and, where it names another version, fetches that version, opens it, lets it answer its
// golden histories and only then swaps. It reports whether a new version serves. After an error the old one stays. The
// versions that are tried beside the champion are brought up to date in the same way, see refreshTrials. It also hears of
// units' ends that another process has stored.
func (s *Service) Refresh(ctx context.Context) (bool, error) {
	s.refresh.Lock()
	defer s.refresh.Unlock()
	swapped, err := s.refreshChampion(ctx)
	if err := s.heed(ctx); err != nil { // told by whoever else asks the store; a swap does not hang on it
		s.log.Debug("refresh", "error", err)
	}
	if s.lanes.Load() == nil || s.cfg.Version != "" {
		return swapped, err
	}
	return swapped, errors.Join(err, s.refreshTrials(ctx))
}

func (s *Service) refreshChampion(ctx context.Context) (bool, error) {
	v, err := s.resolve(ctx)
	if err != nil {
		if turbofan.ErrorCode(err) != turbofan.ENotFound || s.lanes.Load() != nil {
			s.fail(ctx, "resolve "+s.cfg.ModelName, err)
		}
		return false, s.fallBack(ctx, err)
	}
	old := s.lanes.Load()
	if old != nil && sameVersion(old.champion.version, v) {
		s.recovered()
		return false, nil
	}
	if old != nil && old.canary != nil && sameVersion(old.canary.version, v) {
		s.crown(ctx, old.canary)
		s.recovered()
		s.remember(v, old)
		return true, nil
	}
	next, err := s.take(ctx, v)
	if err == nil && old != nil {
		err = sameChannels(&old.champion.model.Spec().Schema, &next.model.Spec().Schema)
	}
	if err != nil {
		s.fail(ctx, "version "+v.Version, err)
		return false, s.fallBack(ctx, err)
	}
	if err := s.install(ctx, next, asChampion); err != nil {
		s.fail(ctx, "version "+v.Version, err)
		return false, err
	}
	s.recovered()
	s.remember(v, old)
	return true, nil
}

// take makes v ready to be installed: the model that served before, which has answered its golden histories and is kept
// for a rollback with what it knew when it began, or that which Open or load opens.
func (s *Service) take(ctx context.Context, v turbofan.ModelVersion) (*served, error) {
	spare := s.spare
	if spare != nil && sameVersion(spare.version, v) {
		s.spare = nil
	}
	if s.before == nil || !sameVersion(s.before.version, v) {
		if s.spare != spare {
			return s.newServed(spare.model, v), nil
		}
		m, err := s.load(ctx, v)
		if err != nil {
			return nil, err
		}
		return s.newServed(m, v), nil
	}
	next, known := s.newServed(s.before.model, v), s.before.primed
	next.comm, next.seq, next.read, next.primed = known.comm.Clone(), known.seq, known.read.clone(), known
	return next, nil
}

// Open fetches v from the registry, whatever the cache has of it, lets it answer its golden histories and keeps it for the
// Refresh that finds it named by an alias. A version that cannot serve leaves nothing behind.
func (s *Service) Open(ctx context.Context, v turbofan.ModelVersion) (_ *model.Model, err error) {
	s.refresh.Lock()
	defer s.refresh.Unlock()
	tmp, err := os.MkdirTemp(s.cfg.CacheDir, "open-*")
	if err != nil {
		return nil, fmt.Errorf("open version %s: %w", v.Version, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	files, dir := filepath.Join(tmp, "model"), filepath.Join(s.cfg.CacheDir, cached(v))
	if err := s.registry.Fetch(ctx, v, files); err != nil {
		return nil, err
	}
	m, err := model.Open(files)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(os.RemoveAll(dir), os.Rename(files, dir)); err != nil {
		return nil, fmt.Errorf("keep version %s: %w", v.Version, err)
	}
	s.spare = &served{model: m, version: v}
	return m, nil
}

// Answering returns the model of a version that answers now, nil for any other.
func (s *Service) Answering(v turbofan.ModelVersion) *model.Model {
	l := s.lanes.Load()
	if l == nil || !sameVersion(l.champion.version, v) {
		return nil
	}
	return l.champion.model
}

func (s *Service) resolve(ctx context.Context) (turbofan.ModelVersion, error) {
	if s.cfg.Version != "" {
		return s.registry.Version(ctx, s.cfg.ModelName, s.cfg.Version)
	}
	return s.registry.Version(ctx, s.cfg.ModelName, "@"+s.cfg.Alias)
}

// sameVersion reports whether two versions are one. A registry that was emptied counts from 1 again: the number alone
// does not tell.
func sameVersion(a, b turbofan.ModelVersion) bool {
	return a.Name == b.Name && a.Version == b.Version && a.Source == b.Source && a.RunID == b.RunID
}

// sameChannels refuses a model that reads other channels: its answers to the units under way would be about nothing.
func sameChannels(serving, next *turbofan.Schema) error {
	for _, c := range []struct {
		kind      string
		have, get []string
	}{{"settings", serving.SettingNames(), next.SettingNames()}, {"sensors", serving.SensorNames(), next.SensorNames()}} {
		if !slices.Equal(c.have, c.get) {
			return turbofan.Errorf(turbofan.EInvalid, "its schema %q has the %s %v, the one that serves, %q, has %v: restart to serve other equipment",
				next.Name, c.kind, c.get, serving.Name, c.have)
		}
	}
	return nil
}

// fail counts a candidate that cannot serve, and says so once as long as the reason stays the same.
func (s *Service) fail(ctx context.Context, what string, err error) {
	if ctx.Err() != nil {
		return // the process stops; nothing is wrong with the model
	}
	s.metrics.failures.Inc()
	s.statusMu.Lock()
	defer s.statusMu.Unlock()
	s.failures++
	if reason := fmt.Sprintf("%s: %v", what, err); reason != s.lastFailure {
		s.lastFailure = reason
		s.log.Error("the champion cannot serve; the model before it stays", "reason", reason)
	}
}

// refreshed says that the last refresh left nothing undone: what the registry names serves, or is tried.
func (s *Service) refreshed() bool {
	s.statusMu.Lock()
	defer s.statusMu.Unlock()
	for _, reason := range s.trials {
		if reason != "" {
			return false
		}
	}
	return s.lastFailure == ""
}

// recovered forgets a failure once what serves is what should.
func (s *Service) recovered() {
	s.statusMu.Lock()
	defer s.statusMu.Unlock()
	s.lastFailure = ""
}

// load fetches v into the cache, or takes it from there, and opens it. A cached copy that no longer opens is fetched
// once more before the version is refused.
func (s *Service) load(ctx context.Context, v turbofan.ModelVersion) (*model.Model, error) {
	dir := filepath.Join(s.cfg.CacheDir, cached(v))
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

// cached names the directory of a version in the cache: its number for people, the rest against a registry that counts
// from 1 again.
func cached(v turbofan.ModelVersion) string {
	h := fnv.New64a()
	fmt.Fprintf(h, "%q %q %q %q", v.Name, v.Version, v.Source, v.RunID)
	number := strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '-' {
			return r
		}
		return '_'
	}, v.Version)
	return fmt.Sprintf("version-%s-%016x", number, h.Sum64())
}

// lastGood names the file that remembers the newest version that served, for a start at which the champion cannot.
const lastGood = "last-good.json"

// remember writes down what serves and clears the cache of all but that, the version before it, which a rollback would
// ask for, and what is tried.
func (s *Service) remember(v turbofan.ModelVersion, before *lanes) {
	keep := []string{lastGood, cached(v)}
	if before != nil {
		s.before = before.champion
		keep = append(keep, cached(before.champion.version))
		if before.canary != nil {
			keep = append(keep, cached(before.canary.version))
		}
	}
	if s.spare != nil {
		keep = append(keep, cached(s.spare.version))
	}
	if sh := s.shadow.Load(); sh != nil {
		keep = append(keep, cached(sh.served.version))
	}
	tmp := filepath.Join(s.cfg.CacheDir, lastGood+".tmp")
	b, err := json.Marshal(v)
	if err == nil {
		err = os.WriteFile(tmp, b, 0o644)
	}
	if err == nil {
		err = os.Rename(tmp, filepath.Join(s.cfg.CacheDir, lastGood))
	}
	if err != nil {
		s.log.Warn("remember the serving version", "error", err)
		return
	}
	entries, err := os.ReadDir(s.cfg.CacheDir)
	for _, e := range entries {
		if !slices.Contains(keep, e.Name()) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(s.cfg.CacheDir, e.Name())))
		}
	}
	if err != nil {
		s.log.Warn("clear the model cache", "error", err)
	}
}

// fallBack serves the version that served before, at a start at which the champion cannot; cause is returned either
// way, because the champion still does not serve.
func (s *Service) fallBack(ctx context.Context, cause error) error {
	if s.lanes.Load() != nil {
		return cause
	}
	var v turbofan.ModelVersion
	b, err := os.ReadFile(filepath.Join(s.cfg.CacheDir, lastGood))
	if err != nil || json.Unmarshal(b, &v) != nil || v.Name != s.cfg.ModelName {
		return cause
	}
	m, err := model.Open(filepath.Join(s.cfg.CacheDir, cached(v)))
	if err != nil {
		return cause
	}
	if err := s.install(ctx, s.newServed(m, v), asChampion); err != nil {
		return cause
	}
	s.log.Warn("serving the version that served before", "version", v.Version)
	return cause
}

// newServed makes of an opened model one that can be installed.
func (s *Service) newServed(m *model.Model, v turbofan.ModelVersion) *served {
	return &served{model: m, version: v, since: time.Now(), horizon: m.Config().Horizon,
		comm: condition.NewCommissioner(m.Spec().Normalizer), answers: s.metrics.answers.WithLabelValues(v.Version)}
}

// place puts a model where it answers: given what answers now, nil at the start, it returns what does after.
type place func(next *served, now *lanes) *lanes

func asChampion(next *served, now *lanes) *lanes {
	l := &lanes{champion: next}
	if now != nil {
		l.canary, l.share = now.canary, now.share
	}
	return l
}

// install primes the new model's operating conditions from the young readings in the store, rebuilds the states of the
// live units that it will answer beside those that answer, and swaps. Readings in conditions that the new model does not
// know are held back for the last step alone, so that none is left out or learned twice; all others wait for nothing.
func (s *Service) install(ctx context.Context, next *served, to place) (err error) {
	defer func() { next.refused.Store(err != nil) }()
	if err := next.model.PrepareReasons(); err != nil {
		return err
	}
	s.candidate.Store(next)
	defer s.candidate.Store(nil)
	s.gate.synchronize()
	s.inherit(next)
	foreign, err := s.prime(ctx, next)
	if err != nil {
		return err
	}
	foreign = foreign || next.primed.foreign
	if old := s.lanes.Load(); old != nil && s.cfg.Prewarm > 0 && !s.cfg.Shared {
		s.warmUp(ctx, next, to(next, old))
	}
	return s.swap(ctx, next, to, foreign)
}

// swap lets next serve, after it has learned what is foreign to it and came while it was made ready.
func (s *Service) swap(ctx context.Context, next *served, to place, foreign bool) error {
	s.learnMu.Lock()
	defer s.learnMu.Unlock()
	if foreign || next.behind.Load() {
		foreign = true
		if _, err := s.prime(ctx, next); err != nil {
			return err
		}
	}
	next.primed = primed{comm: next.comm.Clone(), seq: next.seq, read: next.read.clone(), foreign: foreign}
	s.put(to(next, s.lanes.Load()))
	return nil
}

// crown makes the canary champion. It has learned all along what the champion has; only the units that it did not answer
// have to be brought to it.
func (s *Service) crown(ctx context.Context, next *served) {
	to := func(next *served, _ *lanes) *lanes { return &lanes{champion: next} }
	if s.cfg.Prewarm > 0 && !s.cfg.Shared {
		s.warmUp(ctx, next, to(next, nil))
	}
	s.learnMu.Lock()
	defer s.learnMu.Unlock()
	now := s.lanes.Load()
	s.put(to(now.canary, now)) // a request that failed may have put another in its place
}

// put lets l answer and tells the metrics and the log. The caller holds learnMu.
func (s *Service) put(l *lanes) {
	old := s.lanes.Swap(l)
	if old == nil || !sameVersion(old.champion.version, l.champion.version) {
		v := l.champion.version
		if old != nil {
			s.statusMu.Lock()
			s.swaps++
			s.statusMu.Unlock()
			s.metrics.info.DeleteLabelValues(old.champion.version.Name, old.champion.version.Version)
			s.metrics.swaps.Inc()
		}
		s.metrics.info.WithLabelValues(v.Name, v.Version).Set(1)
		s.log.Info("model serves", "model", v.Name, "version", v.Version, "digest", l.champion.model.Digest()[:12])
	}
	s.metrics.trial.DeletePartialMatch(prometheus.Labels{"part": turbofan.CanaryAlias})
	s.metrics.share.Set(l.share)
	if l.canary != nil {
		s.metrics.trial.WithLabelValues(turbofan.CanaryAlias, l.canary.version.Name, l.canary.version.Version).Set(1)
	}
}

// inherit spares a model that is new to the process the readings that the champion has read, where they can teach it
// nothing. Where the store is shared a reading may become visible after later ones, and each model reads for itself.
func (s *Service) inherit(next *served) {
	now := s.lanes.Load()
	if now == nil || next.seq > 0 || s.cfg.Shared {
		return
	}
	n := next.model.Spec().Normalizer
	if read := &now.champion.primed.read; read.known(n) {
		next.seq, next.read = read.seq, read.clone()
		next.read.cycles = n.Config.HealthyCycles // from here on it reads up to this age, which may be less
	}
}

// prime lets the model's commissioner learn from stored readings of young units, in order of arrival, from where it
// stood. It reports whether any reading was foreign to the model as it was trained. It reads few at a time and lets others
// have the processor in between, for it stands beside requests.
func (s *Service) prime(ctx context.Context, m *served) (bool, error) {
	const page = 4000
	spec, foreign := m.model.Spec(), false
	if m.seq == 0 {
		m.read = extent{cycles: spec.Normalizer.Config.HealthyCycles}
	}
	for {
		rs, err := s.stores.Readings.Readings(ctx, turbofan.ReadingQuery{AfterSeq: m.seq, Limit: page, MaxCycle: spec.Normalizer.Config.HealthyCycles})
		if err != nil {
			return foreign, fmt.Errorf("prime conditions: %w", err)
		}
		for i := range rs {
			r := &rs[i]
			m.seq = r.Seq
			if len(r.Settings) != len(spec.Schema.Settings) || len(r.Sensors) != len(spec.Schema.Sensors) {
				continue // of another equipment's schema, from before
			}
			foreign = foreign || spec.Normalizer.Find(r.Settings) < 0
			m.read.add(r.Settings, spec.Normalizer.Config.Tolerance)
			m.comm.Learn(r.UnitID, r.Cycle, r.Settings, r.Sensors)
		}
		m.read.seq = m.seq
		if len(rs) < page {
			return foreign, nil
		}
		runtime.Gosched()
	}
}
