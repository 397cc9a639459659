package retrain

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
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
	tagDigest  = turbofan.TagDigest
	tagReason  = "turbofan.reason"
	tagTrigger = "turbofan.trigger"
	tagCutOff  = "turbofan.data_cut_off"
	tagData    = "turbofan.data_digest"
	tagGate    = "turbofan.gate"
	tagParent  = "turbofan.champion_before"
	tagSeed    = "turbofan.random_state"
	tagJob     = "turbofan.job"
	tagBack    = turbofan.TagRolledBack
)

// What the gate said.
const (
	gatePromoted = "promoted"
	gateRefused  = "refused"
)

// train is one job from its data to the gate.
func (s *Service) train(ctx context.Context, j *turbofan.Job) (*turbofan.RetrainResult, error) {
	s.stage(ctx, j, "reading production data", 0)
	j.DataCutOff = time.Now().UTC()
	g, err := s.gather(ctx, j)
	if g.ch != nil {
		defer os.RemoveAll(g.ch.dir)
	}
	if err != nil {
		return nil, err
	}
	s.tell(turbofan.EventRetraining, j) // there is enough data: it does start
	challenger, err := model.Train(ctx, s.cfg.Model, g.data, s.progress(ctx, j))
	if err != nil {
		return nil, err
	}
	s.stage(ctx, j, "judging beside the champion", 0.97)
	verdict := decision{promote: true, because: "the first version: there was no champion to judge it beside"}
	if g.ch != nil {
		if verdict, err = s.judge(ctx, g.ch.model, challenger, g.fresh); err != nil {
			return nil, err
		}
		if err := s.ruleEnds(ctx, challenger, j, &g, &verdict); err != nil {
			return nil, err
		}
		if n := believed(j); n > 0 {
			verdict.because += fmt.Sprintf("; forced: the ends stated for %d units are in doubt and were believed", n)
		}
	}
	return s.publish(ctx, j, challenger, g.ch, verdict, g.news)
}

// resume finds the challenger that a process had registered for this job before it died; nil where there is none. The
// run of that process is ended.
func (s *Service) resume(ctx context.Context, j *turbofan.Job) (*turbofan.RetrainResult, error) {
	r, err := s.registered(ctx, j)
	if err != nil {
		return nil, err
	}
	// Whoever has the lease is the only one who works on the job: what still runs of it was left.
	left, err := s.tracking.OpenRuns(ctx, s.cfg.Experiment, map[string]string{tagJob: j.ID})
	for _, run := range left {
		status := turbofan.RunKilled
		if r != nil && r.RunID == run.ID {
			status = turbofan.RunFinished
		}
		err = errors.Join(err, s.tracking.EndRun(ctx, run.ID, status))
	}
	if err != nil {
		s.log.Warn("a run of the job before stays open", "job", j.ID, "error", err)
	}
	return r, nil
}

// registered is what a process that died had come to, where it had registered a version.
func (s *Service) registered(ctx context.Context, j *turbofan.Job) (*turbofan.RetrainResult, error) {
	r := j.Result
	if j.Result = nil; r == nil {
		return nil, nil
	}
	versions, err := s.registry.Versions(ctx, s.cfg.ModelName)
	if err != nil {
		return nil, fmt.Errorf("look for the job's version: %w", err)
	}
	for _, v := range versions {
		if v.Tags[tagJob] == j.ID {
			r.ModelVersion, r.Promoted = v.Version, v.Tags[tagGate] == gatePromoted
			return r, nil
		}
	}
	return nil, nil
}

func (s *Service) stage(ctx context.Context, j *turbofan.Job, stage string, progress float64) {
	if stage != j.Stage {
		s.logStage(j, stage, progress)
	}
	j.Stage, j.Progress = stage, progress
	s.report(ctx, j)
}

func (s *Service) logStage(j *turbofan.Job, stage string, progress float64) {
	s.log.Info("retraining", "job", j.ID, "stage", stage, "done", fmt.Sprintf("%.0f%%", 100*progress))
}

// logEvery is how long the log may say nothing of a training.
const logEvery = 10 * time.Second

// progress saves the training's progress, a few times a second at most.
func (s *Service) progress(ctx context.Context, j *turbofan.Job) model.Progress {
	var last time.Time
	logged := time.Now()
	return func(stage string, share float64) {
		if stage != j.Stage {
			logged = time.Now() // s.stage does
		} else if time.Since(logged) >= logEvery {
			logged = time.Now()
			s.logStage(j, stage, 0.05+0.9*share)
		}
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

// gathered is what a job learns from.
type gathered struct {
	data  model.Data
	fresh []turbofan.History // production units that the champion has not learned from
	news  int                // units whose end was stated since the champion's data were taken
	left  int                // units that the champion has not learned from and this job does not either
	// silent counts new units whose last reading lies long before their stated end; doubted are those of them that were
	// left out because the champion did not expect that end.
	silent  int
	doubted []turbofan.History
	// past counts units that would be doubted, but whose ends were stated before the champion was trained. An earlier job
	// has judged them; counted again, they would stop every later job.
	past int
	ch   *champion
}

// gather collects the baseline and every production unit whose end is known and that can be trusted. Too few new ones
// are an EInsufficient error that says how many are missing, before anything is read where that is known by then.
func (s *Service) gather(ctx context.Context, j *turbofan.Job) (g gathered, err error) {
	if g.ch, err = s.champion(ctx, j.ID); err != nil {
		return g, err
	}
	failed, err := s.stores.Outcomes.FailedUnits(ctx, j.DataCutOff)
	if err != nil {
		return g, fmt.Errorf("list failed units: %w", err)
	}
	isNew := newSince(g.ch, failed)
	for i, f := range failed {
		if isNew[i] && !g.ch.judged(f.At) {
			g.news++
		}
	}
	if err := s.enough(ctx, j, g.ch, g.news); err != nil {
		return g, err
	}
	if g.data, err = s.baseline(ctx); err != nil {
		return g, fmt.Errorf("read baseline: %w", err)
	}
	if g.data.Origin == nil {
		g.data.Origin = make([]string, len(g.data.Units))
	}
	g.data.CutOff = j.DataCutOff
	j.Doubted = nil
	inspect := newInspector(g.data.Units, g.ch)
	for i, f := range failed {
		h, err := s.history(ctx, g.data.Schema, f)
		if err != nil {
			return g, err
		}
		if h == nil {
			continue
		}
		if isNew[i] {
			use, err := s.believe(ctx, j, &g, inspect, h, f.At)
			if err != nil {
				return g, fmt.Errorf("inspect unit %s: %w", f.UnitID, err)
			}
			if !use {
				g.left++
				continue
			}
			g.fresh = append(g.fresh, *h)
		}
		g.data.Units = append(g.data.Units, *h)
		g.data.Origin = append(g.data.Origin, Production)
	}
	if g.left > 0 && g.ch != nil && !j.Force && len(g.fresh) < s.cfg.MinNewUnits {
		advice := ""
		if n := len(g.doubted) + g.past; n > 0 {
			advice = fmt.Sprintf("; the ends stated for %d lie more than %d cycles past their last readings: check them, and force the job where they are right", n, maxSilence)
		}
		return g, turbofan.Errorf(turbofan.EInsufficient, "%d of %d new units were left out, because their sensors or their stated ends cannot be trusted (the job names them); %d left, %d needed, %d missing%s",
			g.left, g.left+len(g.fresh), len(g.fresh), s.cfg.MinNewUnits, s.cfg.MinNewUnits-len(g.fresh), advice)
	}
	return g, nil
}

// believed counts the units that a job names and learned from all the same.
func believed(j *turbofan.Job) (n int) {
	for _, d := range j.Doubted {
		if d.Used {
			n++
		}
	}
	return n
}

// maxNamed bounds the units that a job names.
const maxNamed = 100

// believe reports whether a new unit, whose end was told at the time given, is learned from, and notes on the job why it
// cannot be trusted. A forced job believes ends; a broken sensor teaches nothing, whoever asks.
func (s *Service) believe(ctx context.Context, j *turbofan.Job, g *gathered, inspect *inspector, h *turbofan.History, told time.Time) (bool, error) {
	past := g.ch.judged(told)
	if silentFor(h) > maxSilence && !past {
		g.silent++
	}
	why, doubted, err := inspect.fault(ctx, h)
	if err != nil || why == "" {
		return true, err
	}
	use := doubted && j.Force
	switch {
	case !doubted || use:
	case past:
		g.past++
	default:
		g.doubted = append(g.doubted, *h)
	}
	if len(j.Doubted) < maxNamed {
		j.Doubted = append(j.Doubted, turbofan.DoubtedUnit{UnitID: h.UnitID, Because: why, Used: use})
	}
	s.log.Warn("new unit cannot be trusted", "job", j.ID, "unit", h.UnitID, "because", why, "used", use)
	return use, nil
}

// history reads the life of a failed unit; nil when it cannot teach.
func (s *Service) history(ctx context.Context, schema turbofan.Schema, f turbofan.FailedUnit) (*turbofan.History, error) {
	readings, err := s.stores.Readings.History(ctx, f.UnitID, 0)
	if err != nil && turbofan.ErrorCode(err) != turbofan.ENotFound {
		return nil, fmt.Errorf("read unit %s: %w", f.UnitID, err)
	}
	h := &turbofan.History{UnitID: f.UnitID, Readings: readings, FailedAtCycle: f.FailedAtCycle}
	if !usable(schema, h) {
		return nil, nil
	}
	return h, nil
}

// judged reports whether an end that was told at the time given was known when the champion's data were taken: where the
// champion did not learn from it, its job had left it out. Such a unit teaches once it can be trusted, and is new no more.
func (c *champion) judged(told time.Time) bool {
	return c != nil && told.Before(c.model.Data().CutOff)
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

// enough refuses a job for which too few new units, count, have ended: fewer than MinNewUnits, or, after the gate refused
// challengers beside this champion, fewer than that more since the last of them, doubled for each one before it.
// Without the doubling, drift which does not hurt would train one challenger after another to no end; were the step
// not counted from the last try, a new way to fail would wait for as many units as the old ones had.
func (s *Service) enough(ctx context.Context, j *turbofan.Job, ch *champion, count int) error {
	if ch == nil || j.Force {
		return nil
	}
	jobs, err := s.stores.Jobs.Jobs(ctx, 100)
	if err != nil {
		return fmt.Errorf("list jobs: %w", err)
	}
	had, step := 0, s.cfg.MinNewUnits
	back := map[string]bool{}   // versions that were taken back
	for _, past := range jobs { // newest first
		r := past.Result
		if r != nil && past.Trigger == triggerRollback {
			back[r.Champion] = true
			continue
		}
		if r == nil || r.Promoted && !back[r.ModelVersion] || r.Champion != ch.version.Version {
			continue
		}
		if had == 0 {
			had = r.NewUnits
		} else if step < maxStep*s.cfg.MinNewUnits {
			step *= 2
		}
	}
	need, why := had+step, ""
	if had > 0 {
		why = fmt.Sprintf(" after a challenger that had %d was refused or taken back", had)
	}
	if count < need {
		return turbofan.Errorf(turbofan.EInsufficient, "%s with a known end since version %s; %d needed%s, %d missing: send their outcomes to /feedback",
			turbofan.Count(count, "new unit"), ch.version.Version, need, why, need-count)
	}
	return nil
}

// maxStep bounds the doubling.
const maxStep = 16

// usable leaves out units that cannot teach: sent under another schema, or with an end before their last reading.
func usable(schema turbofan.Schema, h *turbofan.History) bool {
	n := len(h.Readings)
	if n == 0 || h.FailedAtCycle < h.Readings[n-1].Cycle {
		return false
	}
	return !slices.ContainsFunc(h.Readings, func(r turbofan.Reading) bool { return r.Validate(&schema, "reading") != nil })
}

// champion fetches and opens the champion; nil when there is none. key is what its directory is swept by.
func (s *Service) champion(ctx context.Context, key string) (*champion, error) {
	v, err := s.registry.Version(ctx, s.cfg.ModelName, "@"+s.cfg.Alias)
	if turbofan.ErrorCode(err) == turbofan.ENotFound {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("resolve champion: %w", err)
	}
	c := &champion{version: v, dir: filepath.Join(s.cfg.WorkDir, key+"-champion-"+newID())}
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
func (s *Service) judge(ctx context.Context, ch, challenger *model.Model, fresh []turbofan.History) (decision, error) {
	news, err := ch.Errors(ctx, Production, fresh)
	if err != nil {
		return decision{}, fmt.Errorf("judge champion: %w", err)
	}
	s.metrics.champion.Reset() // groups that this gate does not have
	answers := byUnit(challenger.HeldOut())
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
	ruleAll := s.ruleAll
	if len(news) < 2 { // forced, with nothing new to be better at
		ruleAll = ruleBetter
	}
	for _, g := range []group{{"new", news, s.ruleNew}, {"baseline", base, s.ruleKnown}, {"seen", seen, s.ruleKnown}, {"all", all, ruleAll}} {
		if err := s.weigh(&d, g, answers); err != nil {
			return decision{}, err
		}
	}
	if len(d.groups) == 0 {
		return decision{}, turbofan.Errorf(turbofan.EInsufficient, "there is no unit on which champion and challenger can be compared")
	}
	return d, nil
}

// group is units that both models answer for, with what the champion said of them, and the rule that a challenger must pass.
type group struct {
	name  string
	units []model.UnitError
	rule  func(stat.PairedRMSE) (bool, string)
}

func byUnit(units []model.UnitError) map[string]model.UnitError {
	out := make(map[string]model.UnitError, len(units))
	for _, u := range units {
		out[u.Unit] = u
	}
	return out
}

// weigh adds what a group says to the decision; fewer than two units say nothing.
func (s *Service) weigh(d *decision, g group, challenger map[string]model.UnitError) error {
	c, ok, err := compare(g.units, challenger, uint64(s.cfg.Model.RandomState))
	if err != nil {
		return fmt.Errorf("judge %s units: %w", g.name, err)
	}
	if !ok {
		return nil
	}
	d.groups = append(d.groups, turbofan.GateComparison{Group: g.name, Units: c.Units, Rows: c.rows, Champion: c.B, Challenger: c.A, Low: c.DifferenceBound.Lower, High: c.DifferenceBound.Upper})
	s.metrics.champion.WithLabelValues("champion", g.name).Set(c.B)
	s.metrics.champion.WithLabelValues("challenger", g.name).Set(c.A)
	pass, why := g.rule(c.PairedRMSE)
	d.promote = d.promote && pass
	if d.because != "" {
		d.because += "; "
	}
	d.because += fmt.Sprintf("%s units: %.2f against the champion's %.2f over %d, %s", g.name, c.A, c.B, c.Units, why)
	return nil
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
	return better(p, s.cfg.Gate.MinBetter)
}

func better(p stat.PairedRMSE, asked float64) (bool, string) {
	if p.Better >= asked {
		return true, fmt.Sprintf("better in %.0f%% of resamples", 100*p.Better)
	}
	return false, fmt.Sprintf("better in only %.0f%% of resamples where %.0f%% are asked for", 100*p.Better, 100*asked)
}

func (s *Service) ruleKnown(p stat.PairedRMSE) (bool, string) {
	return bounded(p, s.cfg.Gate.Margin)
}

func (s *Service) ruleAll(p stat.PairedRMSE) (bool, string) {
	return bounded(p, s.cfg.Gate.MaxRatio)
}

// ruleBetter is for a challenger that no new unit speaks for: it must be better, not merely no worse.
func ruleBetter(p stat.PairedRMSE) (bool, string) {
	if p.Ratio < 1 {
		return true, "better"
	}
	return false, "no better, and there are no new units"
}

func bounded(p stat.PairedRMSE, limit float64) (bool, string) {
	if p.Ratio <= limit {
		return true, fmt.Sprintf("within %.2f ×", limit)
	}
	return false, fmt.Sprintf("%.2f × where %.2f is allowed", p.Ratio, limit)
}

// publish records the run and registers the challenger; whether it becomes champion is settled after that. The job keeps
// what it came to before the version exists, so that a process that dies in between neither trains again nor promotes
// what it does not know.
func (s *Service) publish(ctx context.Context, j *turbofan.Job, m *model.Model, ch *champion, d decision, fresh int) (*turbofan.RetrainResult, error) {
	s.stage(ctx, j, "registering", 0.98)
	dir := filepath.Join(s.cfg.WorkDir, j.ID+"-challenger-"+newID())
	defer os.RemoveAll(dir)
	if _, err := m.Save(dir); err != nil {
		return nil, err
	}
	tags := s.tags(j, m, ch, d)
	runTags := maps.Clone(s.cfg.RunTags)
	if runTags == nil {
		runTags = map[string]string{}
	}
	maps.Copy(runTags, tags)
	run, err := s.tracking.StartRun(ctx, s.cfg.Experiment, "retrain-"+j.ID, runTags, j.StartedAt)
	if err != nil {
		return nil, fmt.Errorf("start run: %w", err)
	}
	r := &turbofan.RetrainResult{RunID: run.ID, Promoted: d.promote, Because: d.because, NewUnits: fresh, Champion: tags[tagParent],
		TrainUnits: m.Data().Origins, HeldOut: d.groups, Metrics: m.MetricValues()}
	err = s.register(ctx, j, r, dir, m, tags)
	status := turbofan.RunFinished
	if err != nil {
		status = turbofan.RunFailed
	}
	if err := errors.Join(err, s.tracking.EndRun(context.WithoutCancel(ctx), run.ID, status)); err != nil {
		return nil, err
	}
	return r, nil
}

func (s *Service) register(ctx context.Context, j *turbofan.Job, r *turbofan.RetrainResult, dir string, m *model.Model, tags map[string]string) error {
	now := time.Now()
	var logged []turbofan.Metric
	for k, v := range r.Metrics {
		logged = append(logged, turbofan.Metric{Key: k, Value: v, At: now})
	}
	for _, g := range r.HeldOut {
		logged = append(logged, turbofan.Metric{Key: "gate_" + g.Group + "_champion_rmse", Value: g.Champion, At: now},
			turbofan.Metric{Key: "gate_" + g.Group + "_challenger_rmse", Value: g.Challenger, At: now})
	}
	logged = append(logged, m.FoldMetrics(now)...)
	if err := s.tracking.LogBatch(ctx, r.RunID, logged, m.Config().Params(), nil); err != nil {
		return fmt.Errorf("log run: %w", err)
	}
	s.illustrate(ctx, j.ID, r.RunID, m)
	if err := s.mine(ctx); err != nil {
		return fmt.Errorf("register challenger: %w", err)
	}
	pending := *j
	undecided := *r
	undecided.Promoted = false // not yet
	pending.Result = &undecided
	s.report(ctx, &pending)
	v, err := s.registry.CreateVersion(ctx, turbofan.ModelVersion{Name: s.cfg.ModelName, RunID: r.RunID, Tags: tags, Description: r.Because}, dir)
	if err != nil {
		return fmt.Errorf("register challenger: %w", err)
	}
	r.ModelVersion = v.Version
	return nil
}

// illustrate keeps pictures of the challenger with its run. Without them the run is poorer, not wrong.
func (s *Service) illustrate(ctx context.Context, jobID, runID string, m *model.Model) {
	if s.cfg.Illustrate == nil {
		return
	}
	dir, err := os.MkdirTemp(s.cfg.WorkDir, jobID+"-pictures-")
	if err == nil {
		defer os.RemoveAll(dir)
		if err = s.cfg.Illustrate(m, dir); err == nil {
			err = s.tracking.LogArtifacts(ctx, runID, "pictures", dir)
		}
	}
	if err != nil {
		s.log.Warn("the run has no pictures", "run", runID, "error", err)
	}
}

func (s *Service) tags(j *turbofan.Job, m *model.Model, ch *champion, d decision) map[string]string {
	t := map[string]string{tagDigest: m.Digest(), tagReason: j.Reason, tagTrigger: j.Trigger, tagCutOff: j.DataCutOff.Format(time.RFC3339Nano),
		tagData: m.Data().Digest, tagGate: gateRefused, tagSeed: strconv.FormatInt(m.Config().RandomState, 10), tagJob: j.ID}
	if d.promote {
		t[tagGate] = gatePromoted
	}
	if ch != nil {
		t[tagParent] = ch.version.Version
	}
	return t
}
