package retrain

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"turbofan"
	"turbofan/model"
)

// triggerRollback marks the job that records a rollback. No one waits for it: it has ended when it is written.
const triggerRollback = "rollback"

// watchKey begins the names of what a comparison needs in the working directory; only who has the lease compares.
const watchKey = "watch"

// looked remembers the last comparison, so that it is not made again over the same units.
type looked struct {
	version string
	units   int
}

// watch compares the champion with the one before it on units that ended since, and goes back to that one where the
// champion is worse. It follows promotions by jobs alone: an operator who moves the alias by hand has decided.
func (s *Service) watch(ctx context.Context) error {
	if s.cfg.Watch.Units == 0 {
		return nil
	}
	j, before, err := s.promotion(ctx)
	if err != nil || j == nil {
		return err
	}
	ended, err := s.endedSince(ctx, j.DataCutOff)
	if err != nil {
		return err
	}
	if s.watched.version != j.Result.ModelVersion {
		s.watched = looked{version: j.Result.ModelVersion}
	}
	// Every look is a chance to be wrong: look again only once a quarter more units have ended.
	if n := len(ended); n < s.cfg.Watch.Units || 4*n < 5*s.watched.units {
		return nil
	}
	worse, because, err := s.compareLive(ctx, j, before, ended)
	if err != nil {
		return fmt.Errorf("watch version %s: %w", j.Result.ModelVersion, err)
	}
	s.watched.units = len(ended)
	if !worse {
		s.log.Info("champion holds", "version", j.Result.ModelVersion, "because", because)
		return nil
	}
	return s.rollBack(ctx, j, because)
}

// promotion returns the job that made today's champion and the version that it replaced; nil where no job did, or none
// was replaced.
func (s *Service) promotion(ctx context.Context) (*turbofan.Job, turbofan.ModelVersion, error) {
	var none turbofan.ModelVersion
	jobs, err := s.stores.Jobs.Jobs(ctx, 100)
	if err != nil {
		return nil, none, fmt.Errorf("list jobs: %w", err)
	}
	for i := range jobs {
		j := &jobs[i]
		if j.Result == nil || !j.Result.Promoted || j.Status != turbofan.JobSuccess {
			continue
		}
		if j.Trigger == triggerRollback || j.Result.Champion == "" {
			return nil, none, nil
		}
		v, err := s.registry.Version(ctx, s.cfg.ModelName, "@"+s.cfg.Alias)
		if turbofan.ErrorCode(err) == turbofan.ENotFound || err == nil && v.Version != j.Result.ModelVersion {
			return nil, none, nil
		}
		if err != nil {
			return nil, none, fmt.Errorf("resolve champion: %w", err)
		}
		before, err := s.registry.Version(ctx, s.cfg.ModelName, j.Result.Champion)
		if turbofan.ErrorCode(err) == turbofan.ENotFound {
			return nil, none, nil
		}
		return j, before, err
	}
	return nil, none, nil
}

// endedSince lists the units whose end became known at or after cutOff: the champion has not learned from them.
func (s *Service) endedSince(ctx context.Context, cutOff time.Time) ([]turbofan.FailedUnit, error) {
	failed, err := s.stores.Outcomes.FailedUnits(ctx, time.Time{})
	if err != nil {
		return nil, fmt.Errorf("list failed units: %w", err)
	}
	var out []turbofan.FailedUnit
	for _, f := range failed {
		if !f.At.Before(cutOff) {
			out = append(out, f)
		}
	}
	return out, nil
}

// compareLive lets both models answer the lives of the ended units and reports whether the champion is worse.
func (s *Service) compareLive(ctx context.Context, j *turbofan.Job, before turbofan.ModelVersion, ended []turbofan.FailedUnit) (bool, string, error) {
	if err := s.sweep(watchKey); err != nil {
		return false, "", fmt.Errorf("clear the last comparison: %w", err)
	}
	champion, err := s.champion(ctx, watchKey)
	if err != nil {
		return false, "", err
	}
	if champion == nil || champion.version.Version != j.Result.ModelVersion {
		return false, "the champion changed", nil
	}
	defer os.RemoveAll(champion.dir)
	dir := filepath.Join(s.cfg.WorkDir, watchKey+"-before-"+newID())
	defer os.RemoveAll(dir)
	if err := s.registry.Fetch(ctx, before, dir); err != nil {
		return false, "", fmt.Errorf("fetch version %s: %w", before.Version, err)
	}
	old, err := model.Open(dir)
	if err != nil {
		return false, "", err
	}
	var units []turbofan.History
	for _, f := range ended {
		h, err := s.history(ctx, champion.model.Spec().Schema, f)
		if err != nil {
			return false, "", err
		}
		if h != nil && usable(old.Spec().Schema, h) {
			units = append(units, *h)
		}
	}
	if len(units) < s.cfg.Watch.Units {
		return false, fmt.Sprintf("%d of the ended units can be judged by", len(units)), nil
	}
	oldErrors, err := old.Errors(ctx, Production, units)
	newErrors, err2 := champion.model.Errors(ctx, Production, units)
	if err := errors.Join(err, err2); err != nil {
		return false, "", err
	}
	byUnit := map[string]model.UnitError{}
	for _, u := range newErrors {
		byUnit[u.Unit] = u
	}
	c, ok, err := compare(oldErrors, byUnit, uint64(s.cfg.Model.RandomState))
	if err != nil || !ok {
		return false, "", err
	}
	because := fmt.Sprintf("over %d units that ended since, version %s has a live error of %.2f, version %s would have had %.2f and is better in %.1f%% of resamples",
		c.Units, champion.version.Version, c.A, before.Version, c.B, 100*(1-c.Better))
	return c.Ratio > 1 && 1-c.Better >= s.cfg.Watch.Confidence, because, nil
}

// rollBack makes the champion before serve again. The reason is on the version first: whatever dies after that, the next
// look finds the same units and comes here again.
func (s *Service) rollBack(ctx context.Context, j *turbofan.Job, because string) error {
	bad, good := j.Result.ModelVersion, j.Result.Champion
	why := because
	because = "rolled back to version " + good + ": " + because
	if err := s.registry.SetVersionTags(ctx, s.cfg.ModelName, bad, map[string]string{tagBack: because}); err != nil {
		return fmt.Errorf("roll back version %s: %w", bad, err)
	}
	if err := s.registry.SetAlias(ctx, s.cfg.ModelName, s.cfg.Alias, good); err != nil {
		return fmt.Errorf("roll back version %s: %w", bad, err)
	}
	s.record(ctx, turbofan.ModelChange{From: bad, To: good, Rollback: true, Because: why})
	s.metrics.rollbacks.Inc()
	s.log.Warn("champion rolled back", "from", bad, "to", good, "because", because)
	now := time.Now().UTC()
	record := turbofan.Job{ID: newID(), Status: turbofan.JobSuccess, Trigger: triggerRollback, Reason: because, CreatedAt: now, StartedAt: now, EndedAt: now,
		Stage: "done", Progress: 1, Result: &turbofan.RetrainResult{ModelVersion: good, Champion: bad, Promoted: true, Because: because}}
	s.tell(turbofan.EventRolledBack, &record)
	if err := s.stores.Jobs.CreateJob(ctx, record); err != nil && turbofan.ErrorCode(err) != turbofan.EConflict {
		return fmt.Errorf("record rollback: %w", err)
	}
	// Where another job waits already, the store takes no record; the job that promoted the version tells as well.
	j.Stage = because
	if err := s.stores.Jobs.UpdateJob(ctx, *j); err != nil {
		return fmt.Errorf("record rollback: %w", err)
	}
	return nil
}
