package retrain

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"turbofan"
	"turbofan/model"
	"turbofan/stat"
)

// Production is the origin of units that production has seen to their end.
const Production = "production"

// The tags that a version carries: its lineage.
const (
	tagDigest  = "turbofan.digest"
	tagReason  = "turbofan.reason"
	tagTrigger = "turbofan.trigger"
	tagCutOff  = "turbofan.data_cut_off"
	tagData    = "turbofan.data_digest"
	tagGate    = "turbofan.gate"
	tagParent  = "turbofan.champion_before"
	tagSeed    = "turbofan.random_state"
)

// train is one job from its data to the gate.
func (s *Service) train(ctx context.Context, j *turbofan.Job) (*turbofan.RetrainResult, error) {
	s.stage(ctx, j, "reading production data", 0)
	j.DataCutOff = time.Now().UTC()
	data, fresh, champion, err := s.gather(ctx, j)
	if champion != nil {
		defer os.RemoveAll(champion.dir)
	}
	if err != nil {
		return nil, err
	}
	challenger, err := model.Train(ctx, s.cfg.Model, data, s.progress(ctx, j))
	if err != nil {
		return nil, err
	}
	s.stage(ctx, j, "judging beside the champion", 0.97)
	verdict := decision{promote: true, because: "there is no champion yet"}
	if champion != nil {
		if verdict, err = s.judge(champion.model, challenger, fresh); err != nil {
			return nil, err
		}
	}
	result, err := s.publish(ctx, j, challenger, champion, verdict)
	if result != nil {
		result.NewUnits = len(fresh)
		if champion != nil {
			result.Champion = champion.version.Version
		}
	}
	return result, err
}

func (s *Service) stage(ctx context.Context, j *turbofan.Job, stage string, progress float64) {
	j.Stage, j.Progress = stage, progress
	s.report(ctx, j)
}

// progress saves the training's progress, a few times a second at most.
func (s *Service) progress(ctx context.Context, j *turbofan.Job) model.Progress {
	var last time.Time
	return func(stage string, share float64) {
		if now := time.Now(); stage != j.Stage || now.Sub(last) > 300*time.Millisecond {
			last = now
			s.stage(ctx, j, stage, 0.05+0.9*share)
		}
	}
}

type champion struct {
	version turbofan.ModelVersion
	model   *model.Model
	dir     string
}

// gather collects the baseline and every production unit whose end is known, and says which of those the champion has
// not learned from. Too few of them is an EInsufficient error that says how many are missing, before anything is read.
func (s *Service) gather(ctx context.Context, j *turbofan.Job) (data model.Data, fresh []turbofan.History, ch *champion, err error) {
	if ch, err = s.champion(ctx); err != nil {
		return data, nil, ch, err
	}
	failed, err := s.stores.Outcomes.FailedUnits(ctx, j.DataCutOff)
	if err != nil {
		return data, nil, ch, fmt.Errorf("list failed units: %w", err)
	}
	isNew := newSince(ch, failed)
	if err := s.enough(ctx, j, ch, isNew); err != nil {
		return data, nil, ch, err
	}
	if data, err = s.baseline(ctx); err != nil {
		return data, nil, ch, fmt.Errorf("read baseline: %w", err)
	}
	if data.Origin == nil {
		data.Origin = make([]string, len(data.Units))
	}
	data.CutOff = j.DataCutOff
	for i, f := range failed {
		readings, err := s.stores.Readings.History(ctx, f.UnitID, 0)
		if err != nil {
			return data, nil, ch, fmt.Errorf("read unit %s: %w", f.UnitID, err)
		}
		h := turbofan.History{UnitID: f.UnitID, Readings: readings, FailedAtCycle: f.FailedAtCycle}
		if !usable(data.Schema, &h) {
			continue
		}
		data.Units = append(data.Units, h)
		data.Origin = append(data.Origin, Production)
		if isNew[i] {
			fresh = append(fresh, h)
		}
	}
	return data, fresh, ch, nil
}

// newSince says of each failed unit whether the champion has not learned from it.
func newSince(ch *champion, failed []turbofan.FailedUnit) []bool {
	known := map[string]bool{}
	if ch != nil {
		for _, u := range ch.model.HeldOut() {
			known[u.Unit] = true
		}
	}
	out := make([]bool, len(failed))
	for i, f := range failed {
		out[i] = !known[model.UnitKey(Production, f.UnitID)]
	}
	return out
}

// patience is by how much the new units must have grown since a challenger that the gate refused. Without it, drift
// which does not hurt would train one challenger after another to no end.
const patience = 1.5

// enough refuses a job for which too few new units have ended: fewer than the configured least, or, after the gate
// refused a challenger beside this champion, fewer than patience times as many as that one had.
func (s *Service) enough(ctx context.Context, j *turbofan.Job, ch *champion, isNew []bool) error {
	if ch == nil || j.Force {
		return nil
	}
	jobs, err := s.stores.Jobs.Jobs(ctx, 100)
	if err != nil {
		return fmt.Errorf("list jobs: %w", err)
	}
	need, why := s.cfg.MinNewUnits, ""
	for _, past := range jobs {
		r := past.Result
		if r == nil || r.Promoted || r.Champion != ch.version.Version {
			continue
		}
		if n := int(patience * float64(r.NewUnits)); n > need {
			need, why = n, fmt.Sprintf(" after the gate refused a challenger that had %d", r.NewUnits)
		}
	}
	count := 0
	for _, fresh := range isNew {
		if fresh {
			count++
		}
	}
	if count < need {
		return turbofan.Errorf(turbofan.EInsufficient, "%d units with a known end are new since version %s; %d are needed%s, so %d are missing: send their outcomes to /feedback",
			count, ch.version.Version, need, why, need-count)
	}
	return nil
}

// usable leaves out units that cannot teach: sent under another schema, or with an end before their last reading.
func usable(schema turbofan.Schema, h *turbofan.History) bool {
	n := len(h.Readings)
	return n > 0 && h.FailedAtCycle >= h.Readings[n-1].Cycle && h.Readings[0].Validate(&schema, "reading") == nil
}

// champion fetches and opens the champion; nil when there is none.
func (s *Service) champion(ctx context.Context) (*champion, error) {
	v, err := s.registry.Version(ctx, s.cfg.ModelName, "@"+s.cfg.Alias)
	if turbofan.ErrorCode(err) == turbofan.ENotFound {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("resolve champion: %w", err)
	}
	c := &champion{version: v, dir: filepath.Join(s.cfg.WorkDir, "champion-"+newID())}
	if err := s.registry.Fetch(ctx, v, c.dir); err != nil {
		return nil, fmt.Errorf("fetch champion: %w", err)
	}
	if c.model, err = model.Open(c.dir); err != nil {
		return nil, errors.Join(fmt.Errorf("champion version %s cannot be judged: %w", v.Version, err), os.RemoveAll(c.dir))
	}
	return c, nil
}

// decision is what the gate says.
type decision struct {
	promote bool
	because string
	groups  []turbofan.GateComparison
}

// judge compares both models unit by unit, each unit by models that had not learned from it: the champion by its own
// cross-validation on units it was trained on and by its answers on new ones, the challenger by its cross-validation.
func (s *Service) judge(ch, challenger *model.Model, fresh []turbofan.History) (decision, error) {
	news, err := ch.Errors(Production, fresh)
	if err != nil {
		return decision{}, fmt.Errorf("judge champion: %w", err)
	}
	byUnit := map[string]model.UnitError{}
	for _, u := range challenger.HeldOut() {
		byUnit[u.Unit] = u
	}
	var base, seen, all []model.UnitError
	for _, u := range ch.HeldOut() {
		if strings.HasPrefix(u.Unit, Production+"/") {
			seen = append(seen, u)
		} else {
			base = append(base, u)
		}
	}
	all = append(append(append(all, base...), seen...), news...)
	d := decision{promote: true}
	var reasons []string
	for _, g := range []struct {
		name  string
		units []model.UnitError
		rule  func(stat.PairedRMSE) (bool, string)
	}{
		{"new", news, s.ruleNew}, {"baseline", base, s.ruleKnown}, {"seen", seen, s.ruleKnown}, {"all", all, s.ruleAll},
	} {
		c, ok, err := compare(g.units, byUnit, uint64(s.cfg.Model.RandomState))
		if err != nil {
			return decision{}, fmt.Errorf("judge %s units: %w", g.name, err)
		}
		if !ok {
			continue
		}
		d.groups = append(d.groups, turbofan.GateComparison{Group: g.name, Units: c.Units, Rows: c.rows, Champion: c.B, Challenger: c.A, Low: c.DifferenceBound.Lower, High: c.DifferenceBound.Upper})
		s.metrics.champion.WithLabelValues("champion", g.name).Set(c.B)
		s.metrics.champion.WithLabelValues("challenger", g.name).Set(c.A)
		pass, why := g.rule(c.PairedRMSE)
		d.promote = d.promote && pass
		reasons = append(reasons, fmt.Sprintf("%s units: %.2f against the champion's %.2f over %d, %s", g.name, c.A, c.B, c.Units, why))
	}
	if len(d.groups) == 0 {
		return decision{}, turbofan.Errorf(turbofan.EInsufficient, "there is no unit on which champion and challenger can be compared")
	}
	d.because = strings.Join(reasons, "; ")
	return d, nil
}

type comparison struct {
	stat.PairedRMSE
	rows int
}

// compare pairs champion's errors with the challenger's on the same units; false with fewer than two of them.
func compare(champion []model.UnitError, challenger map[string]model.UnitError, seed uint64) (comparison, bool, error) {
	var a, b, n []float64
	rows := 0
	for _, u := range champion {
		c, ok := challenger[u.Unit]
		if !ok || c.Rows == 0 || c.Rows != u.Rows {
			continue
		}
		a, b, n = append(a, c.SSE), append(b, u.SSE), append(n, float64(u.Rows))
		rows += u.Rows
	}
	if len(a) < 2 {
		return comparison{}, false, nil
	}
	p, err := stat.BootstrapPaired(a, b, n, stat.Bootstrap{Level: 0.9, Seed: seed})
	return comparison{p, rows}, true, err
}

func (s *Service) ruleNew(p stat.PairedRMSE) (bool, string) {
	if p.Better >= s.cfg.Gate.MinBetter {
		return true, fmt.Sprintf("better in %.0f%% of resamples", 100*p.Better)
	}
	return false, fmt.Sprintf("better in only %.0f%% of resamples where %.0f%% are asked for", 100*p.Better, 100*s.cfg.Gate.MinBetter)
}

func (s *Service) ruleKnown(p stat.PairedRMSE) (bool, string) {
	return bounded(p, s.cfg.Gate.Margin)
}

func (s *Service) ruleAll(p stat.PairedRMSE) (bool, string) {
	return bounded(p, s.cfg.Gate.MaxRatio)
}

func bounded(p stat.PairedRMSE, limit float64) (bool, string) {
	if p.Ratio <= limit {
		return true, fmt.Sprintf("within %.2f ×", limit)
	}
	return false, fmt.Sprintf("%.2f × where %.2f is allowed", p.Ratio, limit)
}

// publish records the run, registers the challenger and, where the gate says so, makes it champion.
func (s *Service) publish(ctx context.Context, j *turbofan.Job, m *model.Model, ch *champion, d decision) (*turbofan.RetrainResult, error) {
	s.stage(ctx, j, "registering", 0.98)
	dir := filepath.Join(s.cfg.WorkDir, "challenger-"+j.ID)
	if err := os.RemoveAll(dir); err != nil {
		return nil, fmt.Errorf("clear challenger: %w", err)
	}
	defer os.RemoveAll(dir)
	if _, err := m.Save(dir); err != nil {
		return nil, err
	}
	tags := s.tags(j, m, ch, d)
	run, err := s.tracking.StartRun(ctx, s.cfg.Experiment, "retrain-"+j.ID, tags)
	if err != nil {
		return nil, fmt.Errorf("start run: %w", err)
	}
	result, err := s.register(ctx, run, dir, m, tags, d)
	status := turbofan.RunFinished
	if err != nil {
		status = turbofan.RunFailed
	}
	return result, errors.Join(err, s.tracking.EndRun(context.WithoutCancel(ctx), run.ID, status))
}

func (s *Service) register(ctx context.Context, run turbofan.RunInfo, dir string, m *model.Model, tags map[string]string, d decision) (*turbofan.RetrainResult, error) {
	measured := m.MetricValues()
	now := time.Now()
	var logged []turbofan.Metric
	for k, v := range measured {
		logged = append(logged, turbofan.Metric{Key: k, Value: v, At: now})
	}
	for _, g := range d.groups {
		logged = append(logged, turbofan.Metric{Key: "gate_" + g.Group + "_champion_rmse", Value: g.Champion, At: now},
			turbofan.Metric{Key: "gate_" + g.Group + "_challenger_rmse", Value: g.Challenger, At: now})
	}
	if err := s.tracking.LogBatch(ctx, run.ID, logged, m.Config().Params(), nil); err != nil {
		return nil, fmt.Errorf("log run: %w", err)
	}
	v, err := s.registry.CreateVersion(ctx, turbofan.ModelVersion{Name: s.cfg.ModelName, RunID: run.ID, Tags: tags, Description: d.because}, dir)
	if err != nil {
		return nil, fmt.Errorf("register challenger: %w", err)
	}
	if d.promote {
		if err := s.registry.SetAlias(ctx, s.cfg.ModelName, s.cfg.Alias, v.Version); err != nil {
			return nil, fmt.Errorf("promote version %s: %w", v.Version, err)
		}
	}
	return &turbofan.RetrainResult{ModelVersion: v.Version, RunID: run.ID, Promoted: d.promote, Because: d.because,
		TrainUnits: m.Data().Origins, HeldOut: d.groups, Metrics: measured}, nil
}

func (s *Service) tags(j *turbofan.Job, m *model.Model, ch *champion, d decision) map[string]string {
	t := map[string]string{tagDigest: m.Digest(), tagReason: j.Reason, tagTrigger: j.Trigger, tagCutOff: j.DataCutOff.Format(time.RFC3339Nano),
		tagData: m.Data().Digest, tagGate: "refused", tagSeed: strconv.FormatInt(m.Config().RandomState, 10)}
	if d.promote {
		t[tagGate] = "promoted"
	}
	if ch != nil {
		t[tagParent] = ch.version.Version
	}
	return t
}
