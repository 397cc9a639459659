package release

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"turbofan"
)

// Promote makes a version champion after it has answered its golden histories. Trials that it was in end.
func (s *Service) Promote(ctx context.Context, req turbofan.PromoteRequest) (turbofan.ModelChange, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var none turbofan.ModelChange
	if len(req.Reason) > turbofan.MaxReason {
		return none, turbofan.Invalid("reason", "has %d bytes, more than the %d allowed", len(req.Reason), turbofan.MaxReason)
	}
	v, err := s.find(ctx, req.Version)
	if err != nil {
		return none, err
	}
	from, err := s.champion(ctx)
	if err != nil {
		return none, err
	}
	if from.Version == v.Version {
		return none, turbofan.Errorf(turbofan.EConflict, "version %s is champion already", v.Version)
	}
	if err := s.ready(ctx, v); err != nil {
		return none, err
	}
	c := turbofan.ModelChange{ModelName: s.cfg.ModelName, From: from.Version, To: v.Version, Because: cmp.Or(req.Reason, "promoted by an operator")}
	return s.move(ctx, c, v)
}

// Rollback makes the champion before the present one champion again.
func (s *Service) Rollback(ctx context.Context, reason string) (turbofan.ModelChange, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var none turbofan.ModelChange
	if len(reason) > turbofan.MaxReason {
		return none, turbofan.Invalid("reason", "has %d bytes, more than the %d allowed", len(reason), turbofan.MaxReason)
	}
	from, err := s.champion(ctx)
	if err != nil {
		return none, err
	}
	if from.Version == "" {
		return none, turbofan.Errorf(turbofan.EConflict, "%s has no champion; promote a version first", s.cfg.ModelName)
	}
	before, err := s.before(ctx, from)
	if err != nil {
		return none, err
	}
	v, err := s.registry.Version(ctx, s.cfg.ModelName, before)
	if turbofan.ErrorCode(err) == turbofan.ENotFound {
		return none, turbofan.Errorf(turbofan.EConflict, "version %s, which was champion before version %s, is not in the registry any more; promote another", before, from.Version)
	}
	if err != nil {
		return none, err
	}
	if err := s.ready(ctx, v); err != nil {
		return none, err
	}
	c := turbofan.ModelChange{ModelName: s.cfg.ModelName, From: from.Version, To: v.Version, Rollback: true, Because: cmp.Or(reason, "rolled back by an operator")}
	return s.move(ctx, c, v)
}

// champion is the present champion; the zero version where there is none.
func (s *Service) champion(ctx context.Context) (turbofan.ModelVersion, error) {
	v, err := s.registry.Version(ctx, s.cfg.ModelName, "@"+s.cfg.Alias)
	if turbofan.ErrorCode(err) == turbofan.ENotFound {
		return turbofan.ModelVersion{}, nil
	}
	if err != nil {
		return v, fmt.Errorf("resolve champion: %w", err)
	}
	return v, nil
}

// before finds the champion before the present one: what the champion says that it replaced. Where another tool has moved
// the alias since the last change that was written down, it is the version of that change.
func (s *Service) before(ctx context.Context, champion turbofan.ModelVersion) (string, error) {
	versions, err := s.registry.Versions(ctx, s.cfg.ModelName)
	if err != nil {
		return "", fmt.Errorf("list versions of %s: %w", s.cfg.ModelName, err)
	}
	last := 0
	for i := range versions {
		if championSince(&versions[i]).After(championSince(&versions[last])) {
			last = i
		}
	}
	if len(versions) > 0 && versions[last].Version != champion.Version && !championSince(&versions[last]).IsZero() {
		return versions[last].Version, nil
	}
	if replaced := champion.Tags[turbofan.TagChampionReplaced]; replaced != "" {
		return replaced, nil
	}
	return "", turbofan.Errorf(turbofan.EConflict, "no champion is known before version %s; promote the version that shall serve", champion.Version)
}

// move sets the alias, writes the change down, ends the trials of the new champion and lets this process serve it.
func (s *Service) move(ctx context.Context, c turbofan.ModelChange, v turbofan.ModelVersion) (turbofan.ModelChange, error) {
	c.At = time.Now().UTC()
	if err := s.registry.SetAlias(ctx, c.ModelName, s.cfg.Alias, c.To); err != nil {
		return c, fmt.Errorf("make version %s champion: %w", c.To, err)
	}
	// The change is made: what fails from here on is told to the log, not to a caller who would try again.
	after := context.WithoutCancel(ctx)
	if err := c.Record(after, s.registry); err != nil {
		s.log.Warn("write down the change of champion", "error", err)
	}
	for _, alias := range []string{turbofan.CanaryAlias, turbofan.ChallengerAlias} {
		if !slices.Contains(v.Aliases, alias) {
			continue
		}
		if err := s.registry.DeleteAlias(after, c.ModelName, alias); err != nil {
			s.log.Warn("end the trial of the new champion", "alias", alias, "error", err)
		}
	}
	s.log.Info("champion changed", "model", c.ModelName, "from", c.From, "to", c.To, "rollback", c.Rollback, "because", c.Because)
	s.refresh(after)
	c.Serving = s.serving(after)
	return c, nil
}

// refresh lets this process take the change at once. Where that fails, its loop tries again and its status tells why.
func (s *Service) refresh(ctx context.Context) {
	if s.server == nil {
		return
	}
	if _, err := s.server.Refresh(ctx); err != nil {
		s.log.Warn("serve what was changed", "error", err)
	}
}

// Try begins, changes or ends a trial. EInvalid are another alias, a share that is not above 0 and at most 1, and a version
// that could not serve; EConflict is a trial of the champion, or without one; ENotFound a version that is not there.
func (s *Service) Try(ctx context.Context, t turbofan.Trial) (turbofan.ModelList, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.Alias != turbofan.CanaryAlias && t.Alias != turbofan.ChallengerAlias {
		return turbofan.ModelList{}, turbofan.Invalid("alias", "must be %s or %s, not %q", turbofan.CanaryAlias, turbofan.ChallengerAlias, t.Alias)
	}
	var err error
	if t.Version == "" {
		err = s.registry.DeleteAlias(ctx, s.cfg.ModelName, t.Alias)
	} else {
		err = s.begin(ctx, t)
	}
	if err != nil {
		return turbofan.ModelList{}, err
	}
	s.log.Info("trial changed", "model", s.cfg.ModelName, "alias", t.Alias, "version", t.Version, "share", t.Share)
	after := context.WithoutCancel(ctx)
	s.refresh(after)
	return s.Models(after)
}

func (s *Service) begin(ctx context.Context, t turbofan.Trial) error {
	if t.Alias == turbofan.CanaryAlias && (math.IsNaN(t.Share) || t.Share <= 0 || t.Share > 1) {
		return turbofan.Invalid("share", "must be above 0 and at most 1: the share of units that the canary answers; it is %v", t.Share)
	}
	v, err := s.find(ctx, t.Version)
	if err != nil {
		return err
	}
	champion, err := s.champion(ctx)
	if err != nil {
		return err
	}
	switch champion.Version {
	case "":
		return turbofan.Errorf(turbofan.EConflict, "%s has no champion to try a version beside; promote one first", s.cfg.ModelName)
	case v.Version:
		return turbofan.Errorf(turbofan.EConflict, "version %s is champion; a trial is for another", v.Version)
	}
	if err := s.ready(ctx, v); err != nil {
		return err
	}
	if t.Alias == turbofan.CanaryAlias { // the share first: a canary without one answers nobody
		share := strconv.FormatFloat(t.Share, 'g', -1, 64)
		if err := s.registry.SetVersionTags(ctx, s.cfg.ModelName, v.Version, map[string]string{turbofan.TagCanaryShare: share}); err != nil {
			return err
		}
	}
	return s.registry.SetAlias(ctx, s.cfg.ModelName, t.Alias, v.Version)
}
