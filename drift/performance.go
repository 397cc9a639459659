package drift

import (
	"fmt"
	"math"

	"turbofan"
	"turbofan/reference"
	"turbofan/stat"
)

// liveError sets the error of the serving version over predictions whose truth is known, clipped as in training, where
// at least ErrorUnits units tell it, and the error that validation promised.
func liveError(report *turbofan.DriftReport, ref *reference.Reference, scored []turbofan.ScoredPrediction, cfg Config) {
	if ref.RMSE > 0 && !math.IsInf(ref.RMSE, 0) {
		promised := ref.RMSE
		report.ReferenceRMSE = &promised
	}
	limit := ref.Cap
	if !(limit > 0) {
		limit = math.Inf(1)
	}
	units := map[string]struct{}{}
	sum, n, within := 0.0, 0.0, 0.0
	var lower, upper []float64
	for i := range scored {
		d := min(scored[i].RUL, limit) - min(scored[i].ActualRUL, limit)
		if math.IsNaN(d) || math.IsInf(d, 0) {
			continue
		}
		sum, n = sum+d*d, n+1
		units[scored[i].UnitID] = struct{}{}
		lower, upper = append(lower, scored[i].Lower), append(upper, scored[i].Upper)
		if truth := min(scored[i].ActualRUL, limit); scored[i].Lower <= truth && truth <= scored[i].Upper {
			within++
		}
	}
	if len(units) >= cfg.ErrorUnits {
		rmse := math.Sqrt(sum / n)
		report.RMSE = &rmse
		if promised := stat.ImpliedRMSE(lower, upper, ref.Coverage); promised > 0 {
			ratio, covered := rmse/promised, within/n
			report.EstimateRatio, report.Coverage = &ratio, &covered
		}
	}
}

// estimateError sets the error that the intervals of the predictions promise: what can be said of the error before
// outcomes come. It informs; intervals that are wrong promise a wrong error, which EstimateRatio tells once they do.
func estimateError(report *turbofan.DriftReport, ref *reference.Reference, predictions []turbofan.Prediction) {
	lower, upper := make([]float64, len(predictions)), make([]float64, len(predictions))
	for i := range predictions {
		lower[i], upper[i] = predictions[i].Lower, predictions[i].Upper
	}
	if promised := stat.ImpliedRMSE(lower, upper, ref.Coverage); promised > 0 {
		coverage := ref.Coverage
		report.EstimatedRMSE, report.ReferenceCoverage = &promised, &coverage
	}
}

// errorTooLarge is the rule on the live error. It is a ratio, not a confidence limit: a 99% limit on the reference's
// error fires on half of all windows in which nothing changed, because units differ more than rows do.
func errorTooLarge(report *turbofan.DriftReport, cfg Config) bool {
	return cfg.ErrorRatio > 0 && report.RMSE != nil && report.ReferenceRMSE != nil && *report.RMSE > cfg.ErrorRatio**report.ReferenceRMSE
}

// comparePredictions compares the predictions themselves with those of the validation, of the same ages. It informs;
// no verdict is drawn from it, because a changed world need not change them.
func comparePredictions(report *turbofan.DriftReport, ref *reference.Reference, predictions []turbofan.Prediction, cfg Config) error {
	if ref.Prediction == nil || len(predictions) < cfg.MinRows {
		return nil
	}
	rul, age, unit := make([]float64, len(predictions)), make([]int, len(predictions)), make([]int, len(predictions))
	number := map[string]int{}
	for i := range predictions {
		p := &predictions[i]
		if _, seen := number[p.UnitID]; !seen {
			number[p.UnitID] = len(number)
		}
		rul[i], age[i], unit[i] = p.RUL, p.Cycle, number[p.UnitID]
	}
	if len(number) < cfg.MinUnits {
		return nil
	}
	scores, err := ref.Prediction.CompareUnits([][]float64{rul}, age, unit)
	if err != nil {
		return fmt.Errorf("compare predictions: %w", err)
	}
	if len(scores) == 1 {
		d := bounds{cfg.Threshold}.channel(&scores[0], &ref.Prediction.Channels[0])
		report.Prediction = &d
	}
	return nil
}

// orNaN is how a metric says that something is not known.
func orNaN(v *float64) float64 {
	if v == nil {
		return math.NaN()
	}
	return *v
}
