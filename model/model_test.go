package model_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"turbofan"
	"turbofan/dataset"
	"turbofan/feature"
	"turbofan/model"
	"turbofan/reference"
	"turbofan/tree"
)

// fleet makes engines whose sensors 2 and 3 follow their wear.
func fleet(units int, seed uint64) []turbofan.History {
	rng := rand.New(rand.NewPCG(seed, 9))
	out := make([]turbofan.History, units)
	for u := range out {
		life := 120 + rng.IntN(120)
		offset := rng.NormFloat64()
		h := turbofan.History{UnitID: fmt.Sprint(u + 1), FailedAtCycle: life}
		for c := 1; c <= life; c++ {
			wear := math.Exp(4*float64(c)/float64(life)) / 10
			h.Readings = append(h.Readings, turbofan.Reading{UnitID: h.UnitID, Cycle: c, Settings: []float64{0, 0, 100},
				Sensors: []float64{5, 100 + offset + wear + 0.2*rng.NormFloat64(), 10 - wear/2 + 0.1*rng.NormFloat64()}})
		}
		out[u] = h
	}
	return out
}

func schema() turbofan.Schema {
	s := turbofan.CMAPSS()
	s.Sensors = s.Sensors[:3]
	return s
}

func small(kind string) model.Config {
	c := model.DefaultConfig(kind)
	c.Folds, c.Boosting.MaxIter, c.Forest.NEstimators, c.ExtraTrees.NEstimators = 3, 40, 10, 10
	return c
}

func train(t testing.TB, cfg model.Config, units []turbofan.History) *model.Model {
	t.Helper()
	m, err := model.Train(t.Context(), cfg, model.Data{Schema: schema(), Units: units, Digest: "test"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestTrainSaveOpen(t *testing.T) {
	for _, kind := range model.Kinds() {
		t.Run(kind, func(t *testing.T) {
			m := train(t, small(kind), fleet(30, 1))
			if r := float64(m.Metrics().RMSEClipped); !(r > 0 && r < 30) {
				t.Errorf("cross-validated RMSE %.2f", r)
			}
			dir := filepath.Join(t.TempDir(), "m")
			digest, err := m.Save(dir)
			if err != nil {
				t.Fatal(err)
			}
			opened, err := model.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			if opened.Digest() != digest {
				t.Error("the digest changed on the way through the disk")
			}
			fresh := fleet(5, 2)
			a, err := m.PredictHistories(t.Context(), fresh)
			if err != nil {
				t.Fatal(err)
			}
			b, err := opened.PredictHistories(t.Context(), fresh)
			if err != nil {
				t.Fatal(err)
			}
			for u := range a {
				for i := range a[u] {
					if a[u][i] != b[u][i] {
						t.Fatalf("unit %d reading %d: %+v before saving, %+v after", u, i, a[u][i], b[u][i])
					}
					if x := a[u][i]; !(x.Lower <= x.RUL && x.RUL <= x.Upper && x.Lower >= 0 && x.FailureProbability >= 0 && x.FailureProbability <= 1) {
						t.Fatalf("unit %d reading %d: inconsistent answer %+v", u, i, x)
					}
				}
			}
			e, err := opened.Evaluate(t.Context(), "fresh", cut(fleet(40, 3)))
			if err != nil {
				t.Fatal(err)
			}
			if e.RMSEClipped > 30 || e.Coverage < 0.75 {
				t.Errorf("on fresh units RMSE %.2f, coverage %.2f", e.RMSEClipped, e.Coverage)
			}
		})
	}
}

// A sensor that half of the fleet never sends, or all of it, or that drops out now and then, leaves a model that can be
// saved and says the same when it is opened.
// TestReferenceKnowsThePredictions compares a fleet of the kind that was learned from, and one that is said to last
// longer, with the predictions that the artifact keeps: out of fold, as they would have been sent.
func TestReferenceKnowsThePredictions(t *testing.T) {
	units := fleet(30, 1)
	m := train(t, small(model.Boosting), units)
	dir := filepath.Join(t.TempDir(), "m")
	if _, err := m.Save(dir); err != nil {
		t.Fatal(err)
	}
	ref, err := reference.Read(filepath.Join(dir, reference.FileName))
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for i := range units {
		rows += len(units[i].Readings)
	}
	if ref.Prediction == nil || ref.Prediction.Rows != rows || ref.Prediction.Units != len(units) {
		t.Fatalf("%d readings of %d units, of which the reference keeps %+v", rows, len(units), ref.Prediction)
	}
	fresh := fleet(30, 2)
	answers, err := m.PredictHistories(t.Context(), fresh)
	if err != nil {
		t.Fatal(err)
	}
	for late, drifted := range map[float64]bool{0: false, 30: true} {
		var rul []float64
		var age, unit []int
		for u := range answers {
			for i, a := range answers[u] {
				rul, age, unit = append(rul, min(a.RUL+late, m.Config().Cap)), append(age, fresh[u].Readings[i].Cycle), append(unit, u)
			}
		}
		scores, err := ref.Prediction.CompareUnits([][]float64{rul}, age, unit)
		if err != nil || len(scores) != 1 {
			t.Fatal(scores, err)
		}
		if s := scores[0]; s.PSI > max(0.25, s.PSIThreshold) != drifted {
			t.Errorf("predictions %v cycles late: psi %.3f, threshold %.3f", late, s.PSI, s.PSIThreshold)
		}
	}
}

func TestMissingSensors(t *testing.T) {
	for name, gone := range map[string]func(unit, reading int) bool{
		"always":         func(_, _ int) bool { return true },
		"of some units":  func(unit, _ int) bool { return unit%2 == 0 },
		"now and then":   func(_, reading int) bool { return reading%3 == 0 },
		"from an age on": func(_, reading int) bool { return reading > 20 },
	} {
		t.Run(name, func(t *testing.T) {
			units := fleet(24, 1)
			for u := range units {
				for i := range units[u].Readings {
					if gone(u, i) {
						units[u].Readings[i].Sensors[2] = math.NaN()
					}
				}
			}
			dir := filepath.Join(t.TempDir(), "m")
			if _, err := train(t, small(model.Boosting), units).Save(dir); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(filepath.Join(dir, "golden.json"))
			if err != nil {
				t.Fatal(err)
			}
			var golden []struct {
				Readings []turbofan.Reading `json:"readings"`
			}
			if err := json.Unmarshal(b, &golden); err != nil || len(golden) != 4 || len(golden[0].Readings) != 48 {
				t.Errorf("%d golden histories, error %v; want 4 of 48 readings", len(golden), err)
			}
			if _, err := model.Open(dir); err != nil {
				t.Error(err)
			}
		})
	}
}

// cut ends each unit's readings at a random age, as the test protocol does.
func cut(units []turbofan.History) []turbofan.History {
	rng := rand.New(rand.NewPCG(5, 5))
	for u := range units {
		units[u].Readings = units[u].Readings[:30+rng.IntN(len(units[u].Readings)-30)]
	}
	return units
}

func TestSameSeedSameBytes(t *testing.T) {
	units := fleet(24, 1)
	var first map[string][]byte
	for i, jobs := range []int{1, 2, 3} {
		cfg := small(model.Blend)
		cfg.NJobs = jobs
		dir := filepath.Join(t.TempDir(), "m")
		if _, err := train(t, cfg, units).Save(dir); err != nil {
			t.Fatal(err)
		}
		files := map[string][]byte{}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if files[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
				t.Fatal(err)
			}
		}
		if i == 0 {
			first = files
			continue
		}
		for name, b := range first {
			if !bytes.Equal(b, files[name]) {
				t.Errorf("%s differs between 1 and %d workers", name, jobs)
			}
		}
	}
}

// A manifest and the digests may be made to agree with edited files; the golden histories still tell.
func TestGoldenHistoriesCatchAnotherModel(t *testing.T) {
	a, b := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	if _, err := train(t, small(model.Boosting), fleet(24, 1)).Save(a); err != nil {
		t.Fatal(err)
	}
	cfg := small(model.Boosting)
	cfg.RandomState = 7
	if _, err := train(t, cfg, fleet(24, 4)).Save(b); err != nil {
		t.Fatal(err)
	}
	var ma, mb map[string]any
	for dir, into := range map[string]*map[string]any{a: &ma, b: &mb} {
		raw, err := os.ReadFile(filepath.Join(dir, "model.json"))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, into); err != nil {
			t.Fatal(err)
		}
	}
	learner, err := os.ReadFile(filepath.Join(b, "learner.bin"))
	if err != nil {
		t.Fatal(err)
	}
	ma["files"].(map[string]any)["learner.bin"] = mb["files"].(map[string]any)["learner.bin"]
	raw, err := json.Marshal(ma)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(filepath.Join(a, "learner.bin"), learner, 0o644), os.WriteFile(filepath.Join(a, "model.json"), raw, 0o644)); err != nil {
		t.Fatal(err)
	}
	reseal(t, a)
	if _, err := model.Open(a); err == nil || !strings.Contains(err.Error(), "golden") {
		t.Errorf("another learner under the same calibration: %v, want the golden histories to refuse it", err)
	}
}

func TestTrainRefuses(t *testing.T) {
	units := fleet(6, 1)
	early := fleet(6, 1)
	early[2].FailedAtCycle = 3
	short, still := fleet(6, 1), fleet(6, 1)
	for i := range short {
		short[i].Readings = short[i].Readings[:10]
		for j := range still[i].Readings {
			still[i].Readings[j].Sensors = still[0].Readings[0].Sensors
		}
	}
	for name, c := range map[string]struct {
		change func(*model.Config)
		units  []turbofan.History
		code   string
		want   string
	}{
		"kind":      {func(c *model.Config) { c.Kind = "magic" }, units, turbofan.EInvalid, `model.kind: must be one of [forest extra_trees boosting blend], not "magic"`},
		"folds":     {func(c *model.Config) { c.Folds = 1 }, units, turbofan.EInvalid, "model.folds: must be from 2 to 100, not 1"},
		"horizon":   {func(c *model.Config) { c.Horizon = 125 }, units, turbofan.EInvalid, "model.failure_horizon: must be from 1 to below the cap 125"},
		"coverage":  {func(c *model.Config) { c.Coverage = 1 }, units, turbofan.EInvalid, "model.coverage: must be above 0 and below 1"},
		"few units": {func(c *model.Config) {}, units[:2], turbofan.EInsufficient, "train model: 2 units with a known end; at least 4 are needed, one a fold"},
		"few rows":  {func(c *model.Config) {}, short, turbofan.EInsufficient, "train model: 60 readings of units with a known end, "},
		"constant":  {func(c *model.Config) {}, still, turbofan.EInvalid, "no sensor varies in every operating condition: there is nothing to learn from"},
		"end":       {func(c *model.Config) {}, early, turbofan.EInvalid, "data.units: unit 3: its end at cycle 3 is unknown or before its last reading"},
	} {
		cfg := small(model.Boosting)
		c.change(&cfg)
		_, err := model.Train(t.Context(), cfg, model.Data{Schema: schema(), Units: c.units}, nil)
		if turbofan.ErrorCode(err) != c.code || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

func TestTrainStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	last := 0.0
	_, err := model.Train(ctx, small(model.Boosting), model.Data{Schema: schema(), Units: fleet(24, 1)}, func(_ string, share float64) {
		if share < last || share > 1 {
			t.Errorf("progress went from %.3f to %.3f", last, share)
		}
		if last = share; share > 0.3 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("training under a cancelled context: %v", err)
	}
}

func TestExplanationAddsUp(t *testing.T) {
	units := fleet(24, 1)
	m := train(t, small(model.Blend), units)
	rows, err := m.Spec().Transform(t.Context(), units[:1])
	if err != nil {
		t.Fatal(err)
	}
	at := func(i int) (rul, sum float64) {
		a, err := m.Predict(rows.Row(i), false)
		if err != nil {
			t.Fatal(err)
		}
		d, err := m.Explain(rows.Row(i), len(m.Spec().Columns))
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range d {
			sum += float64(x.Contribution)
		}
		return a.RUL, sum
	}
	n := rows.Len()
	r1, s1 := at(n / 2)
	r2, s2 := at(n - 1)
	if math.Abs((r1-s1)-(r2-s2)) > 1e-3 {
		t.Errorf("prediction minus contributions is %.4f at one row and %.4f at another; it is the model's average", r1-s1, r2-s2)
	}
	total := 0.0
	for _, i := range m.Importances() {
		total += i.Share
	}
	if math.Abs(total-1) > 1e-6 {
		t.Errorf("importances sum to %v", total)
	}
}

func TestPredictDoesNotAllocate(t *testing.T) {
	units := fleet(24, 1)
	m := train(t, small(model.Boosting), units)
	rows, err := m.Spec().Transform(t.Context(), units[:1])
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() {
		if _, err := m.Predict(rows.Row(50), false); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%.0f allocations a prediction, want none", n)
	}
}

// The bar of the first release: a forest chosen by cross-validation by unit, on NASA's own test units.
func TestForestOnFD001(t *testing.T) {
	dir := os.Getenv("TURBOFAN_DATA")
	if dir == "" {
		dir = "../../shared/cmapss"
	}
	trainSet, testSet, err := dataset.LoadCMAPSS(dir, "FD001")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("C-MAPSS is not here: %v", err)
	}
	cfg := model.DefaultConfig(model.Forest)
	cfg.Folds = 2
	m, err := model.Train(t.Context(), cfg, model.Data{Schema: trainSet.Schema, Units: trainSet.Units}, nil)
	if err != nil {
		t.Fatal(err)
	}
	e, err := m.Evaluate(t.Context(), "FD001", testSet.Units)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("RMSE %.2f clipped, %.2f raw; coverage %.2f, width %.1f", e.RMSEClipped, e.RMSERaw, e.Coverage, e.Width)
	if e.RMSEClipped > 12.5 {
		t.Errorf("RMSE %.2f on FD001's test units, the bar is 12.5", e.RMSEClipped)
	}
}

// Units that joined late have a learner of their own: rows without a start do not cost the others accuracy, and the
// explanation is of the learner that answered.
func TestLateUnitsHaveTheirOwnLearner(t *testing.T) {
	units := fleet(24, 1)
	with := train(t, small(model.Boosting), units)
	cfg := small(model.Boosting)
	cfg.LateShare = 0
	without := train(t, cfg, units)
	if a, b := with.Metrics().RMSEClipped, without.Metrics().RMSEClipped; a != b {
		t.Errorf("RMSE of units with a start is %v beside late ones and %v without", a, b)
	}
	start := make([]int, len(units))
	start[3] = 60
	rows, err := with.Spec().TransformSome(t.Context(), units, feature.Take{Start: start})
	if err != nil {
		t.Fatal(err)
	}
	bases, phi := make([]float64, rows.Len()), make([]float64, len(rows.Data))
	if err := with.SHAPBatch(tree.Matrix{Data: rows.Data, Rows: rows.Len(), Cols: rows.Cols}, bases, phi); err != nil {
		t.Fatal(err)
	}
	for i, base := range bases {
		for _, v := range phi[i*rows.Cols : (i+1)*rows.Cols] {
			base += v
		}
		a, err := with.Predict(rows.Row(i), true)
		if err != nil {
			t.Fatal(err)
		}
		if want := min(max(base, 0), cfg.Cap); math.Abs(a.RUL-want) > 1e-9 {
			t.Fatalf("row %d: contributions sum to %.4f, the answer is %.4f", i, want, a.RUL)
		}
	}
}

func TestCrossValidateAgreesWithTrain(t *testing.T) {
	units := fleet(24, 1)
	cfg := small(model.Boosting)
	data := model.Data{Schema: schema(), Units: units, Digest: "test"}
	var steps []float64
	got, err := model.CrossValidate(t.Context(), cfg, data, func(fold int, rmse float64) error {
		if fold != len(steps) {
			t.Errorf("fold %d came after %d others", fold, len(steps))
		}
		steps = append(steps, rmse)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := train(t, cfg, units).Metrics()
	if got.RMSEClipped != want.RMSEClipped || got.Coverage != want.Coverage || len(steps) != cfg.Folds {
		t.Errorf("cross-validation gave RMSE %v and coverage %v in %d steps, training %v and %v in %d", got.RMSEClipped, got.Coverage, len(steps), want.RMSEClipped, want.Coverage, cfg.Folds)
	}
	if last := steps[len(steps)-1]; math.Abs(last-float64(want.RMSEClipped)) > 1e-9 {
		t.Errorf("the last step said %v, the result is %v", last, want.RMSEClipped)
	}
	stop := errors.New("pruned")
	if _, err := model.CrossValidate(t.Context(), cfg, data, func(int, float64) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("stopped after a fold: %v", err)
	}
}

// On a smooth bowl with a useless dimension and a choice, the estimator finds the bottom sooner than chance does.
func TestSuggestBeatsRandomSearch(t *testing.T) {
	space := []model.Dimension{
		{Name: "a", Low: -5, High: 5}, {Name: "b", Low: 1e-4, High: 1, Log: true}, {Name: "n", Low: 1, High: 50, Integer: true},
		{Name: "c", Choices: []float64{0, 1, 2}}, {Name: "useless", Low: 0, High: 1},
	}
	loss := func(at []float64) float64 {
		b := math.Log10(at[1]) + 2
		return (at[0]-2)*(at[0]-2) + 4*b*b + math.Abs(at[2]-30)/10 + 3*math.Abs(at[3]-1)
	}
	search := func(seed uint64, startup bool) float64 {
		rng := rand.New(rand.NewPCG(seed, 1))
		var seen []model.Observation
		best := math.Inf(1)
		for range 60 {
			known := seen
			if startup {
				known = nil
			}
			at := model.Suggest(space, known, rng)
			for i, d := range space {
				if d.Choices == nil && (at[i] < d.Low || at[i] > d.High || d.Integer && at[i] != math.Round(at[i])) {
					t.Fatalf("%s = %v is outside of its range", d.Name, at[i])
				}
			}
			l := loss(at)
			seen, best = append(seen, model.Observation{At: at, Loss: l}), min(best, l)
		}
		return best
	}
	tpe, random := 0.0, 0.0
	for seed := range uint64(20) {
		tpe += search(seed, false) / 20
		random += search(seed, true) / 20
	}
	if !(tpe < 0.6*random) {
		t.Errorf("after 60 trials the estimator stands at %.3f, random search at %.3f", tpe, random)
	}
}

func TestEvaluateTellsReliabilityAndLateUnits(t *testing.T) {
	m := train(t, small(model.Boosting), fleet(30, 1))
	for name, e := range map[string]model.Metrics{"cross-validation": m.Metrics(), "test": must(t, func() (model.Metrics, error) { return m.Evaluate(t.Context(), "fresh", cut(fleet(60, 3))) })} {
		rows := 0
		for _, b := range e.Reliability {
			rows += b.Count
			if b.Predicted < 0 || b.Predicted > 1 || b.Observed < 0 || b.Observed > 1 {
				t.Errorf("%s: bin %+v", name, b)
			}
		}
		if name == "test" && rows != 60 {
			t.Errorf("%s: the bins hold %d of 60 predictions", name, rows)
		}
		if !(e.LateRMSE > e.RMSEClipped) || !(e.LateCoverage > 0.7) {
			t.Errorf("%s: late units have RMSE %.2f, others %.2f; coverage %.2f", name, e.LateRMSE, e.RMSEClipped, e.LateCoverage)
		}
	}
}

func must[T any](t *testing.T, f func() (T, error)) T {
	t.Helper()
	v, err := f()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestMetricsByOriginAddUp(t *testing.T) {
	units := fleet(24, 3)
	data := model.Data{Schema: schema(), Units: units}
	for i := range units {
		data.Origin = append(data.Origin, []string{"plant b", "plant a", "plant b"}[i%3])
	}
	m := must(t, func() (*model.Model, error) { return model.Train(t.Context(), small(model.Forest), data, nil) })
	all := m.Metrics()
	if len(all.Origins) != 2 || all.Origins[0].Subset != "plant a" || all.Origins[0].Units != 8 || all.Origins[1].Units != 16 {
		t.Fatalf("by origin: %+v", all.Origins)
	}
	square, score := 0.0, turbofan.Number(0)
	for _, o := range all.Origins {
		square += float64(o.Units) * float64(o.RMSEClipped*o.RMSEClipped) / 24
		score += o.Score
	}
	if math.Abs(math.Sqrt(square)-float64(all.RMSEClipped)) > 1e-9 || math.Abs(float64(score/all.Score)-1) > 1e-9 {
		t.Errorf("RMSE %v and score %v over all, %v and %v from the parts", all.RMSEClipped, all.Score, math.Sqrt(square), score)
	}
	if one := train(t, small(model.Forest), units); len(one.Metrics().Origins) != 0 {
		t.Error("one source is told apart from itself")
	}
}

func TestPredictHistoriesRefusesAnotherSchema(t *testing.T) {
	m := train(t, small(model.Forest), fleet(12, 1))
	for name, edit := range map[string]func(*turbofan.Reading){
		"few settings": func(r *turbofan.Reading) { r.Settings = nil },
		"few sensors":  func(r *turbofan.Reading) { r.Sensors = r.Sensors[:1] },
		"many sensors": func(r *turbofan.Reading) { r.Sensors = append(r.Sensors[:len(r.Sensors):len(r.Sensors)], 1) },
	} {
		units := fleet(2, 2)
		edit(&units[1].Readings[30]) // beyond the readings that a condition is learnt from
		_, err := m.PredictHistories(t.Context(), units)
		if turbofan.ErrorCode(err) != turbofan.EInvalid || !strings.Contains(err.Error(), "cycle 31 has") {
			t.Errorf("%s: %v", name, err)
		}
		edit(&units[0].Readings[0])
		if _, err := m.Evaluate(t.Context(), "x", units); turbofan.ErrorCode(err) != turbofan.EInvalid || !strings.Contains(err.Error(), "cycle 1 has") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := m.Evaluate(t.Context(), "x", []turbofan.History{{UnitID: "7", FailedAtCycle: 9}}); err == nil || !strings.Contains(err.Error(), "unit 7 has no readings") {
		t.Errorf("a unit without readings: %v", err)
	}
}

// A counter that is silent until a unit begins to fail is what tells the end of a fleet whose other sensors say little.
func TestErrorCounterIsLearned(t *testing.T) {
	rmse := func(counts bool) float64 {
		units := fleet(30, 1)
		for _, h := range units {
			for i, r := range h.Readings {
				left := h.FailedAtCycle - r.Cycle
				r.Sensors[1], r.Sensors[2] = 100+float64(i%7), 10+float64(i%5)
				if counts && left < 40 {
					r.Sensors[0] += float64(40 - left)
				}
			}
		}
		return float64(train(t, small(model.Boosting), units).Metrics().RMSEClipped)
	}
	with, without := rmse(true), rmse(false)
	if !(with < 0.8*without) {
		t.Errorf("RMSE %.1f with an error counter and %.1f without", with, without)
	}
	t.Logf("RMSE %.1f with an error counter and %.1f without", with, without)
}
