package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"turbofan"
	"turbofan/simulate"
)

// demoCap clips the truth that the demo scores by, as the protocol does.
const demoCap = 125

// point is one answered reading.
type point struct {
	cycle          int
	rul, low, high float64
	actual         float64
	version        string
}

// recorder keeps what was answered, for the table and the pictures.
type recorder struct {
	mu        sync.Mutex
	quarters  []quarterTotals
	sse, rows []float64 // per tick
	latency   []float64 // ms
	requests  int
	failed    int
	failure   string // the first
	known     bool   // and it says that the unit has flown before
	began     time.Time
	replayed  int // readings that were answered before began
	outcomes  int
	units     map[string][]point
	quarterOf map[string]int
	events    []demoEvent
	reports   []timedReport
	jobs      []turbofan.Job
	versions  []string
	seconds   float64
}

type quarterTotals struct {
	readings int
	sse      float64
}

type demoEvent struct {
	Tick int    `json:"tick"`
	Kind string `json:"kind"`
	Text string `json:"text"`
}

type timedReport struct {
	tick int
	turbofan.DriftReport
}

func newRecorder(p *simulate.Plan, quarters []simulate.Quarter) *recorder {
	return &recorder{quarters: make([]quarterTotals, len(quarters)), sse: make([]float64, p.Ticks+1), rows: make([]float64, p.Ticks+1),
		units: map[string][]point{}, quarterOf: map[string]int{}, began: time.Now()}
}

// clockSkew is how far the clock of a deployment may be behind before its answers are taken for older than they are.
const clockSkew = 10 * time.Second

func (r *recorder) sent(e simulate.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests++
	if e.Err != nil {
		r.failed++
		if r.failure == "" {
			r.failure = fmt.Sprintf("unit %s cycle %d: %v", e.UnitID, e.Cycle, e.Err)
			r.known = turbofan.ErrorCode(e.Err) == turbofan.EConflict
		}
		return
	}
	r.latency = append(r.latency, float64(e.Latency)/float64(time.Millisecond))
	p := e.Prediction
	if p.At.Before(r.began.Add(-clockSkew)) {
		r.replayed++
	}
	r.units[e.UnitID] = append(r.units[e.UnitID], point{e.Cycle, p.RUL, p.Lower, p.Upper, e.ActualRUL, p.ModelVersion})
	r.quarterOf[e.UnitID] = e.Quarter
	if math.IsNaN(e.ActualRUL) {
		return
	}
	d := p.RUL - min(e.ActualRUL, demoCap)
	q := &r.quarters[e.Quarter]
	q.readings++
	q.sse += d * d
	r.sse[e.Tick] += d * d
	r.rows[e.Tick]++
}

func (r *recorder) outcome(o turbofan.Outcome, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests++
	if err != nil {
		r.failed++
		if r.failure == "" {
			r.failure = fmt.Sprintf("feedback for unit %s: %v", o.UnitID, err)
		}
		return
	}
	r.outcomes++
}

// rmse returns a quarter's error; NaN before its first reading.
func (r *recorder) rmse(quarter int) float64 {
	q := r.quarters[quarter]
	return math.Sqrt(q.sse / float64(q.readings))
}

// percentile of the latencies, in milliseconds.
func (r *recorder) percentile(p float64) float64 {
	if len(r.latency) == 0 {
		return math.NaN()
	}
	s := slices.Clone(r.latency)
	slices.Sort(s)
	return s[min(len(s)-1, int(p*float64(len(s))))]
}

// watcher keeps the pace of the stream, shows what happens and writes it down.
type watcher struct {
	d           *demo
	began       time.Time
	lastTick    time.Time
	polled      time.Time
	active      bool
	lastReport  turbofan.DriftReport // that judged
	drifting    bool
	alarm       string // the reason of the last alarm told
	refused     bool   // the last job told had too little data
	serving     string
	seenJobs    map[string]turbofan.JobStatus
	seenReports map[string]bool
	quarter     int
	slowed      time.Duration // time lost to retrainings, left out of the pace
}

// tick runs before each tick of the stream.
func (w *watcher) tick(ctx context.Context, tick int) error {
	for w.quarter+1 < len(w.d.quarters) && tick >= w.d.plan.Boundaries[w.quarter+1] {
		w.quarter++
		w.event(tick, "quarter", fmt.Sprintf("%s begins: %s", w.d.quarters[w.quarter].Name, w.d.quarters[w.quarter].Subset))
	}
	if w.active || time.Since(w.polled) > 100*time.Millisecond {
		if err := w.poll(ctx, tick); err != nil {
			return err
		}
	}
	w.show(tick, false)
	return w.wait(ctx, tick)
}

// wait keeps the pace: of --pace or --rate, and slower while a retraining runs.
func (w *watcher) wait(ctx context.Context, tick int) error {
	defer func() { w.lastTick = time.Now() }()
	if w.active {
		t := time.Second/ticksWhileRetraining - time.Since(w.lastTick)
		if t <= 0 {
			return nil
		}
		w.slowed += t
		return pause(ctx, t)
	}
	share := float64(tick) / float64(w.d.plan.Ticks)
	due := time.Duration(share * float64(w.d.o.pace))
	if w.d.o.rate > 0 {
		due = time.Duration(share * float64(w.d.plan.Readings) / w.d.o.rate * float64(time.Second))
	}
	if t := due - (time.Since(w.began) - w.slowed); t > 0 {
		return pause(ctx, t)
	}
	return nil
}

// poll asks the platform, over its public API, what has happened.
func (w *watcher) poll(ctx context.Context, tick int) error {
	w.polled = time.Now()
	s, err := w.d.clients.predict.Serving(ctx)
	if err != nil {
		return fmt.Errorf("ask what serves: %w", err)
	}
	if s.ModelVersion != w.serving {
		if w.serving != "" {
			w.event(tick, "swap", fmt.Sprintf("version %s serves", s.ModelVersion))
		}
		w.serving = s.ModelVersion
		w.d.rec.versions = append(w.d.rec.versions, s.ModelVersion)
	}
	reports, err := w.d.clients.drift.Reports(ctx, 20)
	if err != nil {
		return fmt.Errorf("ask for drift reports: %w", err)
	}
	for _, r := range slices.Backward(reports) {
		if w.seenReports[r.ID] {
			continue
		}
		w.seenReports[r.ID] = true
		if r.Verdict == turbofan.Drifted && !w.drifting {
			w.alarm = r.Because
			w.event(tick, "drift", "drift: "+r.Because)
		}
		if r.Verdict != turbofan.InsufficientData {
			w.drifting, w.lastReport = r.Verdict == turbofan.Drifted, r
		}
		w.d.rec.reports = append(w.d.rec.reports, timedReport{tick, r})
	}
	return w.pollJobs(ctx, tick)
}

func (w *watcher) pollJobs(ctx context.Context, tick int) error {
	jobs, err := w.d.clients.retrain.Jobs(ctx, 100)
	if err != nil {
		return fmt.Errorf("ask for jobs: %w", err)
	}
	w.d.rec.jobs = jobs
	w.active = false
	for _, j := range slices.Backward(jobs) {
		// A promoted version counts as under way until it serves: fleet time is slow for as long.
		w.active = j.Status.Active() || j.Result != nil && j.Result.Promoted && j.Result.ModelVersion != w.serving
		if w.seenJobs[j.ID] == j.Status || j.Trigger == "bootstrap" {
			continue
		}
		if j.Status == turbofan.JobInProgress && j.Progress == 0 {
			continue // it still asks whether there is enough data
		}
		w.seenJobs[j.ID] = j.Status
		w.tell(tick, j)
	}
	return nil
}

// tell writes down what became of a job. The detector asks again and again while data is too little: only the first
// refusal of a series is told.
func (w *watcher) tell(tick int, j turbofan.Job) {
	refused := w.refused
	w.refused = j.Status == turbofan.JobRefused
	switch j.Status {
	case turbofan.JobInProgress:
		text := "retraining starts because " + j.Reason
		if j.Reason == w.alarm {
			text = "retraining starts"
		}
		w.event(tick, "retrain", text)
	case turbofan.JobSuccess:
		what := "refused by the gate"
		if j.Result.Promoted {
			what = "promoted"
		}
		w.event(tick, what, fmt.Sprintf("version %s %s after %.1f s: %s", j.Result.ModelVersion, what, j.Result.Seconds, j.Result.Because))
	case turbofan.JobFailure:
		w.event(tick, string(j.Status), "retraining failed: "+j.Error)
	case turbofan.JobRefused:
		if !refused {
			w.event(tick, string(j.Status), "no retraining yet: "+j.Error)
		}
	}
}

func (w *watcher) event(tick int, kind, text string) {
	w.d.rec.events = append(w.d.rec.events, demoEvent{tick, kind, text})
	w.d.bar.say("  tick %5d  %s", tick, text)
}

func (w *watcher) show(tick int, headline bool) {
	r := w.d.rec
	r.mu.Lock()
	requests, rmse := r.requests, r.rmse(w.quarter)
	r.mu.Unlock()
	state := ""
	if w.active {
		state = " (retraining)"
	}
	q := w.d.quarters[w.quarter]
	psi := "PSI not judged yet"
	if w.lastReport.Verdict == turbofan.Drifted || w.lastReport.Verdict == turbofan.NoDrift {
		psi = fmt.Sprintf("PSI %.2f of %.2f", w.lastReport.Score, w.lastReport.Threshold)
	}
	w.d.bar.update(float64(tick)/float64(w.d.plan.Ticks), headline, "%s %s  RMSE %.1f  %s  version %s%s  %.0f readings/s",
		q.Name, q.Subset, rmse, psi, w.serving, state, float64(requests)/time.Since(w.began).Seconds())
}

// settle waits for a retraining that still runs, so that the summary tells all.
func (w *watcher) settle(ctx context.Context) error {
	for {
		if err := w.poll(ctx, w.d.plan.Ticks); err != nil {
			return err
		}
		if !w.active {
			return nil
		}
		w.show(w.d.plan.Ticks, false)
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}
