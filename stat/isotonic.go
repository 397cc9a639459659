package stat

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sort"
)

// IsotonicFit is a fitted monotone function: knots X, strictly ascending, and its
// values Y there. It is plain data; a fit read back from JSON predicts the same.
type IsotonicFit struct {
	X []float64 `json:"x"`
	Y []float64 `json:"y"`
}

type block struct{ first, last, y, w float64 }

// Isotonic fits the non-decreasing function closest to y in weighted squared error by
// pooling adjacent violators (Barlow, Bartholomew, Bremner and Brunk 1972, section
// 1.2). Equal x are averaged first, as scikit-learn does. w holds a positive weight
// per point; nil means one each.
func Isotonic(x, y, w []float64) (*IsotonicFit, error) {
	return isotonic(x, y, w, 1)
}

// Antitonic is Isotonic for a non-increasing function.
func Antitonic(x, y, w []float64) (*IsotonicFit, error) {
	return isotonic(x, y, w, -1)
}

func isotonic(x, y, w []float64, sign float64) (*IsotonicFit, error) {
	if err := paired("x", x, "y", y); err != nil {
		return nil, fmt.Errorf("fit isotonic: %w", err)
	}
	if w != nil {
		if err := paired("x", x, "w", w); err != nil {
			return nil, fmt.Errorf("fit isotonic: %w", err)
		}
		if m := slices.Min(w); m <= 0 {
			return nil, fmt.Errorf("fit isotonic: w holds %v, must be above 0", m)
		}
	}
	stack := []block{}
	for _, b := range points(x, y, w, sign) {
		for len(stack) > 0 && stack[len(stack)-1].y >= b.y {
			top := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			total := top.w + b.w
			b = block{top.first, b.last, (top.w*top.y + b.w*b.y) / total, total}
		}
		stack = append(stack, b)
	}
	f := &IsotonicFit{}
	for _, b := range stack {
		f.X, f.Y = append(f.X, b.first), append(f.Y, sign*b.y)
		if b.last > b.first {
			f.X, f.Y = append(f.X, b.last), append(f.Y, sign*b.y)
		}
	}
	return f, nil
}

// points sorts by x and joins equal x into one weighted mean.
func points(x, y, w []float64, sign float64) []block {
	ps := make([]block, len(x))
	for i := range x {
		ps[i] = block{x[i], x[i], sign * y[i], 1}
		if w != nil {
			ps[i].w = w[i]
		}
	}
	slices.SortStableFunc(ps, func(a, b block) int { return cmp.Compare(a.first, b.first) })
	out := ps[:1]
	for _, p := range ps[1:] {
		last := &out[len(out)-1]
		if p.first != last.first {
			out = append(out, p)
			continue
		}
		total := last.w + p.w
		last.y = (last.w*last.y + p.w*p.y) / total
		last.w = total
	}
	return out
}

// Predict interpolates linearly between the knots and holds the end values outside
// them. NaN in gives NaN out.
func (f *IsotonicFit) Predict(x float64) float64 {
	if x != x {
		return x
	}
	n := len(f.X)
	i := sort.SearchFloat64s(f.X, x)
	switch {
	case i == n:
		return f.Y[n-1]
	case i == 0 || f.X[i] == x:
		return f.Y[i]
	}
	t := (x - f.X[i-1]) / (f.X[i] - f.X[i-1])
	return f.Y[i-1] + t*(f.Y[i]-f.Y[i-1])
}

// Validate says whether f can predict: equal numbers of finite knots and values, at
// least one, knots strictly ascending. Call it on a fit read from a file.
func (f *IsotonicFit) Validate() error {
	if err := paired("x", f.X, "y", f.Y); err != nil {
		return fmt.Errorf("check isotonic fit: %w", err)
	}
	for i := 1; i < len(f.X); i++ {
		if f.X[i] <= f.X[i-1] {
			return errors.New("check isotonic fit: x must be strictly ascending")
		}
	}
	return nil
}
