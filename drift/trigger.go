package drift

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"turbofan"
)

// reportsBack is how many reports are looked through for the one that asked for the last retraining.
const reportsBack = 1000

// What became of a verdict of drift, as the metric counts it.
const (
	triggerOff       = "off"       // the service is not to retrain
	triggerSubmitted = "submitted" // a job was created
	triggerActive    = "active"    // a job already waits or runs
	triggerCooling   = "cooling"   // the last job is too recent
	triggerEarly     = "early"     // the units that changed have not ended: there is nothing to learn from yet
	triggerFailed    = "failed"    // the retraining service did not answer
)

// trigger asks for a retraining because of a report, unless one is under way or too recent, and writes what it did into
// the report. A retraining service that does not answer is no reason to lose the report: the next check asks again.
func (s *Service) trigger(ctx context.Context, report *turbofan.DriftReport) error {
	if !s.cfg.Retrain || s.retrain == nil {
		s.metrics.trigger(triggerOff)
		return nil
	}
	wait, err := s.early(ctx, report)
	if err != nil {
		return err
	}
	if wait != "" {
		report.Because += "; no retraining: " + wait
		s.metrics.trigger(triggerEarly)
		return nil
	}
	jobs, err := s.retrain.Jobs(ctx, 1)
	if err != nil {
		return s.triggerFailed(ctx, "ask for the last retraining", err)
	}
	if len(jobs) > 0 {
		wait, err := s.cooling(ctx, &jobs[0], report)
		if err != nil {
			return err
		}
		if wait != "" {
			s.untrained = turbofan.Outage{}
			report.Because += "; no retraining: " + wait
			if jobs[0].Status.Active() {
				s.metrics.trigger(triggerActive)
			} else {
				s.metrics.trigger(triggerCooling)
			}
			return nil
		}
	}
	job, err := s.retrain.Submit(ctx, turbofan.RetrainRequest{Reason: report.Because, Trigger: "drift"})
	switch turbofan.ErrorCode(err) {
	case "":
		s.untrained = turbofan.Outage{}
		report.RetrainingJob = job.ID
		s.metrics.trigger(triggerSubmitted)
		return nil
	case turbofan.EConflict:
		s.untrained = turbofan.Outage{}
		report.Because += "; no retraining: " + turbofan.ErrorMessage(err)
		s.metrics.trigger(triggerActive)
		return nil
	default:
		return s.triggerFailed(ctx, "submit retraining", err)
	}
}

// early says how many units must still end before a verdict that was drawn from units alone is worth a retraining; ""
// where another rule agrees. The rule on units speaks while those that changed are in service: what has ended by then is
// of the old kind, and a challenger that learned from it would be refused.
func (s *Service) early(ctx context.Context, report *turbofan.DriftReport) (string, error) {
	if float64(report.Score) > report.Threshold || errorTooLarge(report, s.cfg) || s.stores.Outcomes == nil {
		return "", nil
	}
	reports, err := s.stores.Reports.Reports(ctx, reportsBack)
	if err != nil {
		return "", fmt.Errorf("read drift reports: %w", err)
	}
	outside := map[string]bool{}
	for _, r := range append(reports, *report) {
		if r.ModelName != report.ModelName || r.ModelVersion != report.ModelVersion || r.Spread == nil || !r.Spread.Drifted {
			continue
		}
		for _, id := range r.Spread.UnitIDs {
			outside[id] = true
		}
	}
	failed, err := s.stores.Outcomes.FailedUnits(ctx, time.Time{})
	if err != nil {
		return "", fmt.Errorf("read failed units: %w", err)
	}
	ended := 0
	for i := range failed {
		if outside[failed[i].UnitID] {
			ended++
		}
	}
	if ended >= s.cfg.SpreadEnded {
		return "", nil
	}
	return fmt.Sprintf("%d of %d such units have ended, from which it could learn", ended, s.cfg.SpreadEnded), nil
}

func (s *Service) triggerFailed(ctx context.Context, op string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	s.metrics.trigger(triggerFailed)
	s.complain(ctx, &s.untrained, "drift found, but retraining cannot be asked for: the next check tries again", err, "op", op)
	return nil
}

// cooling says why the last job forbids another one now; "" when it does not.
func (s *Service) cooling(ctx context.Context, job *turbofan.Job, report *turbofan.DriftReport) (string, error) {
	switch {
	case job.Status.Active():
		return fmt.Sprintf("job %s is %s", job.ID, job.Status), nil
	case job.Status == turbofan.JobRefused:
		return s.refused(ctx, job)
	}
	started, ended, err := s.reportsOf(ctx, job)
	if err != nil {
		return "", err
	}
	if job.Result != nil && job.Result.Promoted && job.Result.ModelVersion == report.ModelVersion {
		rows, err := s.arrivedSince(ctx, job, ended, s.cfg.SettleRows)
		if err != nil || rows >= s.cfg.SettleRows {
			return "", err
		}
		return fmt.Sprintf("version %s is new, the next after %s", report.ModelVersion, turbofan.Count(s.cfg.SettleRows-rows, "more reading")), nil
	}
	if started != nil && started.ModelVersion != report.ModelVersion || time.Since(job.EndedAt) >= s.cfg.Cooldown {
		return "", nil
	}
	rows, err := s.arrivedSince(ctx, job, ended, s.cfg.CooldownRows)
	if err != nil || s.cfg.CooldownRows > 0 && rows >= s.cfg.CooldownRows {
		return "", err
	}
	how := map[turbofan.JobStatus]string{turbofan.JobFailure: "failed", turbofan.JobCancelled: "was cancelled"}[job.Status]
	wait := fmt.Sprintf("job %s %s without a new champion, the next after %s", job.ID, cmp.Or(how, "ended"), s.cfg.Cooldown)
	if s.cfg.CooldownRows > 0 {
		wait += " or " + turbofan.Count(s.cfg.CooldownRows-rows, "more reading")
	}
	return wait, nil
}

// arrivedSince counts the readings that arrived after a job ended, as far as most: the window is no measure of it, which
// may be shorter. Those that came after the first report since then count whatever the clock of their receiver said.
func (s *Service) arrivedSince(ctx context.Context, job *turbofan.Job, ended *turbofan.DriftReport, most int) (int, error) {
	n := 0
	err := s.newest(ctx, most, func(page []turbofan.StoredReading) error {
		for i := range page {
			if page[i].At.After(job.EndedAt) || ended != nil && page[i].Seq > ended.ToSeq {
				n++
			}
		}
		return nil
	})
	return n, err
}

// refused says how many units must still fail before a refused job is worth asking for again.
func (s *Service) refused(ctx context.Context, job *turbofan.Job) (string, error) {
	if s.stores.Outcomes == nil {
		if time.Since(job.EndedAt) >= s.cfg.Cooldown {
			return "", nil
		}
		return fmt.Sprintf("job %s was refused: %s; the next after %s", job.ID, job.Error, s.cfg.Cooldown), nil
	}
	failed, err := s.stores.Outcomes.FailedUnits(ctx, time.Time{})
	if err != nil {
		return "", fmt.Errorf("read failed units: %w", err)
	}
	cutOff := job.DataCutOff
	if cutOff.IsZero() {
		cutOff = job.CreatedAt
	}
	more := 0
	for i := range failed {
		if !failed[i].At.Before(cutOff) {
			more++
		}
	}
	if more >= s.cfg.RetryUnits {
		return "", nil
	}
	return fmt.Sprintf("job %s was refused (%s), the next after %d more failed units", job.ID, job.Error, s.cfg.RetryUnits-more), nil
}

// reportsOf returns the report that asked for the job, nil where none did, and the first that was made after the job
// had ended, nil where there is none yet.
func (s *Service) reportsOf(ctx context.Context, job *turbofan.Job) (started, ended *turbofan.DriftReport, err error) {
	reports, err := s.stores.Reports.Reports(ctx, reportsBack)
	if err != nil {
		return nil, nil, fmt.Errorf("read drift reports: %w", err)
	}
	for i := range reports {
		r := &reports[i]
		if r.RetrainingJob == job.ID {
			return r, ended, nil
		}
		if !r.At.Before(job.EndedAt) {
			ended = r
		} else if job.Trigger != "drift" {
			break
		}
	}
	return nil, ended, nil
}
