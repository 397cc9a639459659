package stat

import (
	"errors"
	"fmt"
	"gonum.org/v1/gonum/stat/distuv"
	"math"

	gonum "gonum.org/v1/gonum/stat"
)

// RMSE is the root of the mean squared error of pred against truth, in their unit
// (cycles). The slices are of equal length, not empty, and finite.
func RMSE(pred, truth []float64) (float64, error) {
	if err := paired("pred", pred, "truth", truth); err != nil {
		return 0, fmt.Errorf("compute RMSE: %w", err)
	}
	var sum float64
	for i, p := range pred {
		sum += (p - truth[i]) * (p - truth[i])
	}
	return math.Sqrt(sum / float64(len(pred))), nil
}

// MAE is the mean absolute error of pred against truth, in their unit (cycles). The
// slices are of equal length, not empty, and finite.
func MAE(pred, truth []float64) (float64, error) {
	if err := paired("pred", pred, "truth", truth); err != nil {
		return 0, fmt.Errorf("compute MAE: %w", err)
	}
	var sum float64
	for i, p := range pred {
		sum += math.Abs(p - truth[i])
	}
	return sum / float64(len(pred)), nil
}

// R2 is the coefficient of determination, 1 - SS(residual)/SS(total). It is an error
// when truth does not vary: there is then nothing to explain.
func R2(pred, truth []float64) (float64, error) {
	if err := paired("pred", pred, "truth", truth); err != nil {
		return 0, fmt.Errorf("compute R2: %w", err)
	}
	mean := gonum.Mean(truth, nil)
	var residual, total float64
	for i, t := range truth {
		residual += (t - pred[i]) * (t - pred[i])
		total += (t - mean) * (t - mean)
	}
	if total == 0 {
		return 0, errors.New("compute R2: truth does not vary, needs two different values")
	}
	return 1 - residual/total, nil
}

// NASAPenalty is what one prediction adds to NASAScore: exp(-d/13)-1 for an early one
// (d < 0) and exp(d/10)-1 for a late one, with d = pred - truth in cycles.
func NASAPenalty(d float64) float64 {
	if d < 0 {
		return math.Expm1(-d / 13)
	}
	return math.Expm1(d / 10)
}

// NASAScore is the asymmetric score of the 2008 prognostics challenge, the sum of
// NASAPenalty over the predictions. Saxena, Goebel, Simon and Eklund, "Damage
// propagation modeling for aircraft engine run-to-failure simulation", PHM 2008,
// section V. A prediction hundreds of cycles late may make it +Inf.
func NASAScore(pred, truth []float64) (float64, error) {
	if err := paired("pred", pred, "truth", truth); err != nil {
		return 0, fmt.Errorf("compute NASA score: %w", err)
	}
	var sum float64
	for i, p := range pred {
		sum += NASAPenalty(p - truth[i])
	}
	return sum, nil
}

// Coverage is the share of truth that lies within [lower, upper], ends included.
func Coverage(lower, upper, truth []float64) (float64, error) {
	if err := intervals(lower, upper); err != nil {
		return 0, fmt.Errorf("compute coverage: %w", err)
	}
	if err := paired("lower", lower, "truth", truth); err != nil {
		return 0, fmt.Errorf("compute coverage: %w", err)
	}
	inside := 0
	for i, t := range truth {
		if lower[i] <= t && t <= upper[i] {
			inside++
		}
	}
	return float64(inside) / float64(len(truth)), nil
}

// MeanWidth is the mean of upper - lower, in their unit. The slices are of equal length,
// not empty and finite, and no lower is above its upper.
func MeanWidth(lower, upper []float64) (float64, error) {
	if err := intervals(lower, upper); err != nil {
		return 0, fmt.Errorf("compute mean width: %w", err)
	}
	var sum float64
	for i := range lower {
		sum += upper[i] - lower[i]
	}
	return sum / float64(len(lower)), nil
}

func intervals(lower, upper []float64) error {
	if err := paired("lower", lower, "upper", upper); err != nil {
		return err
	}
	for i := range lower {
		if lower[i] > upper[i] {
			return fmt.Errorf("lower[%d] is %v, above upper %v", i, lower[i], upper[i])
		}
	}
	return nil
}

// ImpliedRMSE is the error that prediction intervals promise before any truth is known:
// the root of the mean square of what would be a standard deviation if errors were
// normal, interval by interval, each of which covers the truth with probability
// coverage. Pairs that are not finite are skipped; NaN where none is left.
func ImpliedRMSE(lower, upper []float64, coverage float64) float64 {
	if len(lower) != len(upper) || !(coverage > 0 && coverage < 1) {
		return math.NaN()
	}
	z := distuv.UnitNormal.Quantile((1 + coverage) / 2)
	sum, n := 0.0, 0.0
	for i, l := range lower {
		if w := (upper[i] - l) / 2 / z; !math.IsNaN(w) && !math.IsInf(w, 0) {
			sum, n = sum+w*w, n+1
		}
	}
	return math.Sqrt(sum / n)
}
