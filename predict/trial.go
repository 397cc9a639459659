package predict

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"turbofan"
)

// refreshTrials resolves the aliases of the canary and of the challenger. A version that cannot be tried leaves its
// place to the champion; a registry that cannot be asked leaves everything as it is.
func (s *Service) refreshTrials(ctx context.Context) error {
	return errors.Join(s.try(ctx, turbofan.CanaryAlias, s.refreshCanary), s.try(ctx, turbofan.ChallengerAlias, s.refreshChallenger))
}

// try resolves alias and hands what it names to f: nil where it names nothing, or the champion.
func (s *Service) try(ctx context.Context, alias string, f func(context.Context, *turbofan.ModelVersion) error) error {
	v, err := s.registry.Version(ctx, s.cfg.ModelName, "@"+alias)
	switch {
	case turbofan.ErrorCode(err) == turbofan.ENotFound || err == nil && sameVersion(v, s.lanes.Load().champion.version):
		err = f(ctx, nil)
	case err != nil:
		return fmt.Errorf("resolve %s: %w", alias, err)
	default:
		if err = f(ctx, &v); err != nil {
			err = errors.Join(fmt.Errorf("version %s cannot be tried as %s: %w", v.Version, alias, err), f(ctx, nil))
		}
	}
	s.tried(ctx, alias, err)
	return err
}

// tried remembers why a trial does not run, and says so once as long as the reason stays the same.
func (s *Service) tried(ctx context.Context, alias string, err error) {
	if ctx.Err() != nil {
		return // the process stops; nothing is wrong with the trial
	}
	reason := ""
	if err != nil {
		reason = err.Error()
		s.metrics.failures.Inc()
	}
	s.statusMu.Lock()
	defer s.statusMu.Unlock()
	if err != nil {
		s.failures++
	}
	if reason != "" && reason != s.trials[alias] {
		s.log.Error("a version is not tried; the champion answers", "alias", alias, "reason", reason)
	}
	s.trials[alias] = reason
}

// refreshCanary lets v answer the share of units that its tag names, or nobody where v is nil.
func (s *Service) refreshCanary(ctx context.Context, v *turbofan.ModelVersion) error {
	now := s.lanes.Load()
	if v == nil {
		if now.canary != nil {
			s.endCanary()
		}
		return nil
	}
	share, err := strconv.ParseFloat(v.Tags[turbofan.TagCanaryShare], 64)
	if err != nil || !(share > 0 && share <= 1) {
		return turbofan.Errorf(turbofan.EInvalid, "its tag %s must be a share above 0 and at most 1, not %q", turbofan.TagCanaryShare, v.Tags[turbofan.TagCanaryShare])
	}
	if now.canary != nil && sameVersion(now.canary.version, *v) {
		if now.share != share {
			s.learnMu.Lock()
			defer s.learnMu.Unlock()
			l := *s.lanes.Load()
			l.share = share
			s.put(&l)
			s.log.Info("canary answers another share", "version", v.Version, "share", share)
		}
		return nil
	}
	next, err := s.openTrial(ctx, *v)
	if err != nil {
		return err
	}
	err = s.install(ctx, next, func(next *served, now *lanes) *lanes {
		return &lanes{champion: now.champion, canary: next, share: share}
	})
	if err == nil {
		s.log.Info("canary answers", "version", v.Version, "share", share)
	}
	return err
}

// endCanary gives the canary's units back to the champion at once; their states are rebuilt when they speak.
func (s *Service) endCanary() {
	s.learnMu.Lock()
	defer s.learnMu.Unlock()
	s.log.Info("canary ended", "version", s.lanes.Load().canary.version.Version)
	s.put(&lanes{champion: s.lanes.Load().champion})
}

// openTrial opens a version that is to be tried; it must read what the champion reads.
func (s *Service) openTrial(ctx context.Context, v turbofan.ModelVersion) (*served, error) {
	next, err := s.take(ctx, v)
	if err != nil {
		return nil, err
	}
	if err := sameChannels(&s.lanes.Load().champion.model.Spec().Schema, &next.model.Spec().Schema); err != nil {
		return nil, err
	}
	return next, nil
}

// refreshChallenger lets v answer silently, or nobody where v is nil.
func (s *Service) refreshChallenger(ctx context.Context, v *turbofan.ModelVersion) error {
	now := s.shadow.Load()
	if v == nil {
		if now != nil {
			s.log.Info("challenger ended", "version", now.served.version.Version)
		}
		s.endShadow(nil)
		return nil
	}
	if now != nil && sameVersion(now.served.version, *v) {
		return now.broken()
	}
	next, err := s.openTrial(ctx, *v)
	if err != nil {
		return err
	}
	if _, err := s.prime(ctx, next); err != nil {
		return err
	}
	s.endShadow(newShadow(s, next))
	s.metrics.trial.WithLabelValues(turbofan.ChallengerAlias, v.Name, v.Version).Set(1)
	s.log.Info("challenger answers silently", "version", v.Version)
	return nil
}
