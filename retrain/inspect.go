package retrain

import (
	"context"
	"fmt"
	"math"
	"slices"

	"turbofan"
	"turbofan/model"
	"turbofan/stat"
)

// Limits by which a unit is told from one with a broken sensor or a false end. A sensor of a sound unit starts within
// about three standard deviations of its condition's mean and wears by fractions of one from cycle to cycle.
const (
	maxStart   = 6  // standard deviations of the mean over a unit's first cycles, in a condition of training
	maxJump    = 6  // standard deviations between the medians of two windows that follow each other
	jumpWindow = 8  // readings in a condition of training, in a row or nearly so
	runFactor  = 3  // a sensor is stuck when it repeats itself this many times as long as any of the baseline did
	minRun     = 20 // and at least this long
	maxSilence = 20 // cycles between a unit's last reading and its stated end; beyond, the champion is asked about the end
	maxMissing = 0.5
	alone      = 0.5
	// The champion doubts such an end when its answers over the unit's life are off by more than doubt times its validated
	// error. The challenger, which learned from the other units, contradicts the end when its last answer is off by more than
	// surprise times the same error; its own error would not do, because that grows with whatever is wrong in its data.
	doubt    = 1.4
	surprise = 1.5
	// What is normal, measured on engines held out: of right ends that nobody saw, the champion doubts doubtShare in a fleet
	// that it knows, and every model contradicts oddShare; of all stated ends, strayShare are written down wrongly. A
	// count is too many when these rates reach it with a probability below manyLevel.
	doubtShare = 0.1
	oddShare   = 0.05
	strayShare = 0.01
	manyLevel  = 0.01
	// When ends were mixed up, the challenger contradicts a share of mixedShare or more of those in doubt. It confirms them
	// when so few contradictions would then have a probability of at most confirmLevel.
	mixedShare   = 0.5
	confirmLevel = 0.05
)

// inspector finds units that must not be learned from: what is broken would be taken for how engines wear.
type inspector struct {
	ch  *champion
	run []int // per sensor, the longest repetition in the baseline
}

func newInspector(baseline []turbofan.History, ch *champion) *inspector {
	in := &inspector{ch: ch}
	for i := range baseline {
		for j, n := range longestRuns(baseline[i].Readings) {
			if j == len(in.run) {
				in.run = append(in.run, 0)
			}
			in.run[j] = max(in.run[j], n)
		}
	}
	return in
}

// longestRuns returns, per sensor, for how many readings on end it said exactly the same.
func longestRuns(rs []turbofan.Reading) []int {
	if len(rs) == 0 {
		return nil
	}
	longest, now := make([]int, len(rs[0].Sensors)), make([]int, len(rs[0].Sensors))
	for i := range rs {
		for j, v := range rs[i].Sensors {
			if i > 0 && j < len(now) && v == rs[i-1].Sensors[j] {
				now[j]++
			} else {
				now[j] = 1
			}
			longest[j] = max(longest[j], now[j])
		}
	}
	return longest
}

// fault says why a unit must not be learned from; "" when nothing speaks against it. doubted tells that it is its stated
// end that cannot be trusted, not its sensors. Without a champion nothing is known that could.
func (in *inspector) fault(ctx context.Context, h *turbofan.History) (why string, doubted bool, err error) {
	if in.ch == nil {
		return "", false, nil
	}
	if why := in.broken(h); why != "" {
		return why, false, nil
	}
	why, err = in.silence(ctx, h)
	return why, why != "", err
}

// broken says which of a unit's sensors cannot be believed.
func (in *inspector) broken(h *turbofan.History) string {
	spec := in.ch.model.Spec()
	runs := longestRuns(h.Readings)
	for _, k := range spec.Keep {
		name := spec.Schema.Sensors[k].Name
		if k < len(in.run) && runs[k] >= max(minRun, runFactor*in.run[k]) {
			return fmt.Sprintf("%s repeats itself for %d readings, in the baseline for at most %d", name, runs[k], in.run[k])
		}
		if n := missing(h, k); n > maxMissing {
			return fmt.Sprintf("%s is missing in %.0f%% of readings", name, 100*n)
		}
	}
	return in.levels(h)
}

// ruleEnds asks the challenger about the doubted units, whose ends the champion had not expected, notes what it says, and
// refuses the challenger where they speak against it.
//
// The challenger learned from the other units. If the doubted ones are of the same kind and their ends are right, it
// expects those ends better than the champion did. If ends were mixed up it does not: of two units that are exchanged, one
// seems to live on past its last reading (the other speaks after its end and is refused at once). So the ends are believed
// when no more of them contradict both models than odd engines of a known fleet would, or when the challenger confirms
// most. If they are believed, and are more than the champion would doubt in a fleet that it knows, they are of a kind that
// it does not know; then the challenger must also be better on them.
//
// What this cannot find: an end stated within maxSilence cycles after the last reading, which nobody doubts; a few wrong
// ends among many right ones, of which those in doubt are left out and the others teach; and a fleet that wears in a way
// unknown to the champion, whose units all fall silent and are all said to have failed just then, though they lived on.
// Against the last only the gate's margin on known units may speak.
func (s *Service) ruleEnds(ctx context.Context, challenger *model.Model, j *turbofan.Job, g *gathered, d *decision) error {
	if len(g.doubted) == 0 {
		return nil
	}
	against, err := contradicted(ctx, challenger, j, g)
	if err != nil {
		return fmt.Errorf("inspect doubted units: %w", err)
	}
	n := len(g.doubted)
	d.because += fmt.Sprintf("; stated ends: %d of %d new units were last heard of more than %d cycles before, the champion had not expected %d of them, the challenger contradicts %d",
		g.silent, g.news-g.past, maxSilence, n, against)
	stray := strayShare * float64(g.news-g.past)
	odd := plausible(oddShare*float64(g.silent) + stray)
	if against > odd && atMost(against, n, mixedShare) > confirmLevel {
		d.promote = false
		d.because += ": ends may have been mixed up, so what it learned from is not believed either; check the outcomes, and force the job where they are right"
		return nil
	}
	if n <= plausible(doubtShare*float64(g.silent)+stray) {
		return nil
	}
	theirs, err := g.ch.model.Errors(ctx, Production, g.doubted)
	if err != nil {
		return fmt.Errorf("inspect doubted units: %w", err)
	}
	ours, err := challenger.Errors(ctx, Production, g.doubted)
	if err != nil {
		return fmt.Errorf("inspect doubted units: %w", err)
	}
	return s.weigh(d, group{"doubted", theirs, ruleDoubted}, byUnit(ours))
}

// ruleDoubted is ruleNew at the confidence of the other tests of ends: where ends were mixed up, no model is surely better.
func ruleDoubted(p stat.PairedRMSE) (bool, string) {
	return better(p, 1-confirmLevel)
}

// contradicted counts the doubted units whose ends the challenger does not expect either, and notes on the job which it does.
func contradicted(ctx context.Context, challenger *model.Model, j *turbofan.Job, g *gathered) (int, error) {
	answers, err := challenger.PredictHistories(ctx, g.doubted)
	if err != nil {
		return 0, err
	}
	agreed := map[string]bool{}
	for i := range g.doubted {
		h := &g.doubted[i]
		last, stated := answers[i][len(h.Readings)-1], min(float64(silentFor(h)), challenger.Config().Cap)
		if math.Abs(stated-last.RUL) <= surprise*float64(g.ch.model.Metrics().RMSEClipped) {
			agreed[h.UnitID] = true
		}
	}
	for i := range j.Doubted {
		if d := &j.Doubted[i]; agreed[d.UnitID] {
			d.Because += "; the challenger expects it"
		}
	}
	return len(g.doubted) - len(agreed), nil
}

// plausible returns the largest count that a Poisson variable of that mean, above 0, reaches with a chance of manyLevel
// or more. Sums of rare independent events, as odd ends are, have no heavier tail.
func plausible(mean float64) int {
	below := math.Exp(-mean) // the chance of at most k
	k := 0
	for 1-below >= manyLevel {
		k++
		lg, _ := math.Lgamma(float64(k + 1))
		below += math.Exp(float64(k)*math.Log(mean) - mean - lg)
	}
	return k
}

// atMost is the binomial distribution function: the probability that at most k of n independent events happen, each of
// probability p.
func atMost(k, n int, p float64) (sum float64) {
	all, _ := math.Lgamma(float64(n + 1))
	for i := range k + 1 {
		a, _ := math.Lgamma(float64(i + 1))
		b, _ := math.Lgamma(float64(n - i + 1))
		sum += math.Exp(all - a - b + float64(i)*math.Log(p) + float64(n-i)*math.Log1p(-p))
	}
	return sum
}

func missing(h *turbofan.History, sensor int) float64 {
	n := 0
	for i := range h.Readings {
		if math.IsNaN(h.Readings[i].Sensors[sensor]) {
			n++
		}
	}
	return float64(n) / float64(len(h.Readings))
}

// levels looks at the sensors in standard deviations of the conditions that training knew: at how they start, and for
// steps that no wear makes.
func (in *inspector) levels(h *turbofan.History) string {
	spec := in.ch.model.Spec()
	norm := spec.Normalizer
	series := make([][]point, len(spec.Schema.Sensors))
	start, n := make([]float64, len(series)), make([]float64, len(series))
	z := make([]float64, len(series))
	for i := range h.Readings {
		r := &h.Readings[i]
		c := norm.Find(r.Settings)
		if c < 0 {
			continue
		}
		norm.Regimes[c].Z(r.Sensors, z)
		for _, k := range spec.Keep {
			if math.IsNaN(z[k]) {
				continue
			}
			series[k] = append(series[k], point{r.Cycle, z[k]})
			if r.Cycle <= norm.Config.HealthyCycles {
				start[k], n[k] = start[k]+z[k], n[k]+1
			}
		}
	}
	worst, jumps := make([]float64, len(series)), make([]float64, len(series))
	at := make([]int, len(series))
	for _, k := range spec.Keep {
		if k < len(in.run) && in.run[k] >= minRun {
			continue // it knows a few values only: its standard deviation says nothing of what is usual
		}
		if n[k] >= 5 {
			worst[k] = start[k] / n[k]
		}
		at[k], jumps[k] = largestJump(series[k])
	}
	if k, alone := outlier(worst); alone && math.Abs(worst[k]) > maxStart {
		return fmt.Sprintf("%s starts %.1f standard deviations off, and no other sensor does", spec.Schema.Sensors[k].Name, worst[k])
	}
	if k, alone := outlier(jumps); alone && math.Abs(jumps[k]) > maxJump {
		return fmt.Sprintf("%s steps by %.1f standard deviations after %d readings, and no other sensor does", spec.Schema.Sensors[k].Name, jumps[k], at[k])
	}
	return ""
}

// outlier returns the largest of v in magnitude and whether it stands alone. A fault of the machine moves several sensors,
// one of a sensor that one.
func outlier(v []float64) (int, bool) {
	first, second := 0, 0.0
	for i := range v {
		if math.Abs(v[i]) > math.Abs(v[first]) {
			first = i
		}
	}
	for i := range v {
		if i != first {
			second = max(second, math.Abs(v[i]))
		}
	}
	return first, second < alone*math.Abs(v[first])
}

// point is a sensor at a cycle, in standard deviations.
type point struct {
	cycle int
	z     float64
}

// largestJump returns the largest difference between the medians of two windows side by side, and where it is. Windows
// that are stretched over many cycles, as where a unit is in known conditions now and then, show wear: they are left out.
func largestJump(v []point) (at int, jump float64) {
	var before, after [jumpWindow]float64
	for i := jumpWindow; i+jumpWindow <= len(v); i++ {
		if v[i+jumpWindow-1].cycle-v[i-jumpWindow].cycle >= 3*jumpWindow {
			continue
		}
		for j := range jumpWindow {
			before[j], after[j] = v[i-jumpWindow+j].z, v[i+j].z
		}
		if d := median(after[:]) - median(before[:]); math.Abs(d) > math.Abs(jump) {
			at, jump = i, d
		}
	}
	return at, jump
}

// median sorts v.
func median(v []float64) float64 {
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// silence doubts an end that lies far past the unit's last reading: nobody saw the unit get there. It is believed, "",
// where the champion had expected about that.
func (in *inspector) silence(ctx context.Context, h *turbofan.History) (why string, err error) {
	gap := silentFor(h)
	if gap <= maxSilence {
		return "", nil
	}
	errs, err := in.ch.model.Errors(ctx, Production, []turbofan.History{*h})
	if err != nil {
		return "", err
	}
	rmse, usual := math.Sqrt(errs[0].SSE/float64(errs[0].Rows)), float64(in.ch.model.Metrics().RMSEClipped)
	if rmse <= doubt*usual {
		return "", nil
	}
	return fmt.Sprintf("it sent its last reading %d cycles before the end that is stated for it, and the champion is %.1f cycles off where %.1f is usual", gap, rmse, usual), nil
}

// silentFor is the number of cycles from a unit's last reading to its end.
func silentFor(h *turbofan.History) int {
	return h.FailedAtCycle - h.Readings[len(h.Readings)-1].Cycle
}
