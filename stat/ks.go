package stat

import (
	"fmt"
	"math"
	"slices"

	gonum "gonum.org/v1/gonum/stat"
)

// KS is the two-sample Kolmogorov-Smirnov test: d, the largest distance between the
// empirical distributions of a and b, ties between them handled, and p, the
// probability of a distance this large when both come from one distribution. p is
// that of scipy.stats.ks_2samp: method "exact" while len(a)·len(b) <= 10000, beyond it
// "asymp", the exact law of the one-sample statistic at len(a)·len(b)/(len(a)+len(b))
// values, rounded (Simard and L'Ecuyer 2011). Ties make both conservative. With
// thousands of rows p is tiny for differences that do not matter; read d.
func KS(a, b []float64) (d, p float64, err error) {
	if err := finite("a", a); err != nil {
		return 0, 0, fmt.Errorf("compute KS: %w", err)
	}
	if err := finite("b", b); err != nil {
		return 0, 0, fmt.Errorf("compute KS: %w", err)
	}
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	d = gonum.KolmogorovSmirnov(a, nil, b, nil)
	if len(a)*len(b) <= 10000 {
		return d, latticeSurvival(d, len(a), len(b)), nil
	}
	return d, ksPValue(d, float64(len(a)), float64(len(b))), nil
}

// latticeSurvival is P(D >= d) without ties: the share of the paths from (0, 0) to
// (m, n) that touch |i/m - j/n| >= d, all equally likely under one distribution
// (Hodges 1958, section 2).
func latticeSurvival(d float64, m, n int) float64 {
	// In units of 1/(m·n) all distances are whole numbers, so that rounding cannot
	// move a path across the boundary.
	limit := math.Round(d * float64(m) * float64(n))
	row := make([]float64, n+1)
	for i := range m + 1 {
		for j := range n + 1 {
			switch {
			case math.Abs(float64(i*n-j*m)) >= limit:
				row[j] = 1
			case i+j == 0:
				row[j] = 0
			default:
				up := row[j] * float64(i)
				if j > 0 {
					up += row[j-1] * float64(j)
				}
				row[j] = up / float64(i+j)
			}
		}
	}
	return row[n]
}

func ksPValue(d, na, nb float64) float64 {
	return kolmogorovSurvival(max(1, math.RoundToEven(na*nb/(na+nb))), d)
}

// kolmogorovSurvival is P(D_n >= d) of the one-sample two-sided statistic, by the
// division of the plane of Simard and L'Ecuyer, "Computing the two-sided
// Kolmogorov-Smirnov distribution", J. Stat. Soft. 39(11), 2011, section 3, with the
// Durbin matrix wherever they prefer Pomeranz's recursion for its speed.
func kolmogorovSurvival(n, d float64) float64 {
	t, z2 := n*d, n*d*d
	var p float64
	switch {
	case d >= 1 || z2 >= 370:
		return 0
	case t <= 0.5:
		return 1
	case t <= 1:
		lg, _ := math.Lgamma(n + 1)
		p = 1 - math.Exp(lg-n*math.Log(n)+n*math.Log(2*t-1))
	case t >= n-1:
		p = 2 * math.Pow(1-d, n)
	case d >= 0.5 || z2 >= 4 || (n > 140 && z2 >= 2.2):
		p = 2 * smirnov(n, d)
	case n <= 140 || (n <= 1e5 && n*math.Pow(d, 1.5) <= 1.4):
		p = 1 - durbin(int(n), d)
	default:
		p = 1 - pelzGood(n, d)
	}
	return min(1, max(0, p))
}

// smirnov is P(D_n+ >= d), the one-sided tail (Birnbaum and Tingey 1951). All terms
// are positive, so logarithms are enough; beyond a hundred thousand values Maag and
// Dicaire's (1971) approximation is as good.
func smirnov(n, d float64) float64 {
	if n > 1e5 {
		return math.Exp(-(6*n*d + 1) * (6*n*d + 1) / (18 * n))
	}
	lgN, _ := math.Lgamma(n + 1)
	var sum float64
	for j := 0.0; j <= math.Floor(n*(1-d)); j++ {
		rest := 1 - d - j/n
		if rest <= 0 {
			continue
		}
		lgJ, _ := math.Lgamma(j + 1)
		lgR, _ := math.Lgamma(n - j + 1)
		sum += math.Exp(lgN - lgJ - lgR + (j-1)*math.Log(d+j/n) + (n-j)*math.Log(rest))
	}
	return d * sum
}

// durbin is P(D_n <= d) by the power of Durbin's matrix (Marsaglia, Tsang and Wang,
// J. Stat. Soft. 8(18), 2003).
func durbin(n int, d float64) float64 {
	t := float64(n) * d
	k := int(math.Ceil(t))
	h, m := float64(k)-t, 2*k-1
	base := matrix{n: m, v: durbinMatrix(m, h)}
	power := identity(m)
	for e := n; e > 0; e /= 2 {
		if e%2 == 1 {
			power = power.times(base)
		}
		base = base.times(base)
	}
	p := power.v[(k-1)*m+k-1]
	if p <= 0 {
		return 0
	}
	lg, _ := math.Lgamma(float64(n) + 1)
	return math.Exp(math.Log(p) + float64(power.exp)*math.Ln2 + lg - float64(n)*math.Log(float64(n)))
}

func durbinMatrix(m int, h float64) []float64 {
	v := make([]float64, m*m)
	factorial := make([]float64, m+1)
	factorial[0] = 1
	for i := 1; i <= m; i++ {
		factorial[i] = factorial[i-1] / float64(i)
	}
	for i := range m {
		for j := range m {
			if i-j+1 >= 0 {
				v[i*m+j] = factorial[i-j+1]
			}
		}
	}
	for i := range m {
		edge := (1 - math.Pow(h, float64(i+1))) * factorial[i+1]
		v[i*m] = edge
		v[(m-1)*m+m-1-i] = edge
	}
	corner := 1 - 2*math.Pow(h, float64(m)) + math.Pow(max(2*h-1, 0), float64(m))
	v[(m-1)*m] = corner * factorial[m]
	return v
}

// matrix is a square matrix times 2^exp, so that its powers do not overflow.
type matrix struct {
	n, exp int
	v      []float64
}

func identity(n int) matrix {
	v := make([]float64, n*n)
	for i := range n {
		v[i*n+i] = 1
	}
	return matrix{n: n, v: v}
}

func (a matrix) times(b matrix) matrix {
	out := matrix{n: a.n, exp: a.exp + b.exp, v: make([]float64, a.n*a.n)}
	for i := range a.n {
		row := out.v[i*a.n : (i+1)*a.n]
		for k := range a.n {
			x := a.v[i*a.n+k]
			for j, y := range b.v[k*a.n : (k+1)*a.n] {
				row[j] += x * y
			}
		}
	}
	if top := slices.Max(out.v); top > 0 {
		_, e := math.Frexp(top)
		for i := range out.v {
			out.v[i] = math.Ldexp(out.v[i], -e)
		}
		out.exp += e
	}
	return out
}

// pelzGood is P(D_n <= d) by the expansion of Pelz and Good (1976) in powers of
// 1/sqrt(n), as Simard and L'Ecuyer give it in section 2.4 (equation 6).
func pelzGood(n, d float64) float64 {
	z := d * math.Sqrt(n)
	z2 := z * z
	z4, z6, z8 := z2*z2, z2*z2*z2, z2*z2*z2*z2
	const pi2 = math.Pi * math.Pi
	const pi4, pi6 = pi2 * pi2, pi2 * pi2 * pi2
	var k [4]float64
	for i := 1.0; i <= math.Ceil(16*z/math.Pi); i++ {
		m2 := (2*i - 1) * (2*i - 1)
		m4, m6 := m2*m2, m2*m2*m2
		g := math.Exp(-pi2 * m2 / (8 * z2))
		k[0] += g
		k[1] += g * (-z2 + pi2*m2/4)
		k[2] += g * (6*z6 + 2*z4 + (2*z4-5*z2)*pi2*m2/4 + pi4*(1-2*z2)*m4/16)
		k[3] += g * (-30*z6 - 90*z8 + pi2*(135*z4-96*z6)*m2/4 + pi4*(212*z4-60*z2)*m4/16 + pi6*(5-30*z2)*m6/64)
	}
	root := math.Sqrt(2 * math.Pi)
	k[0] *= root / z
	k[1] *= root / (6 * z4)
	k[2] *= root / (72 * z6 * z)
	k[3] *= root / (6480 * z8 * z2)
	for i := 1.0; i <= math.Ceil(16*z/math.Pi); i++ {
		g := i * i * math.Exp(-pi2*i*i/(2*z2))
		k[2] -= g * pi2 * root / (36 * z * z2)
		k[3] += g * (3*z2 - pi2*i*i) * pi2 * root / (216 * z6)
	}
	s := math.Sqrt(n)
	return k[0] + k[1]/s + k[2]/n + k[3]/(n*s)
}
