package tree

import "testing"

// TestVectorScanEqualsScalarScan compares the two implementations, which no
// caller can choose between, on random histograms.
func TestVectorScanEqualsScalarScan(t *testing.T) {
	if !vectorUnit() {
		t.Skip("no AVX-512 here")
	}
	r := rng(1)
	for trial := range 3000 {
		bins := 2 + r.below(254)
		var h column
		s := scanner{minLeaf: int64(1 + r.below(20)), lambda: float64(r.below(3))}
		n := 0
		counts := make([]int, 256)
		for b := range counts {
			if (b < bins || b == missingBin) && r.below(3) > 0 {
				counts[b] = r.below(12)
				n += counts[b]
			}
		}
		s.fields = unitFields(n)
		if trial%2 == 1 {
			s.fields = weightFields(n, int64(3*n))
		}
		for b, c := range counts {
			for range c {
				h[b] += int64(r.below(1<<16)-1<<15)<<s.gradShift | 1
				if trial%2 == 1 {
					h[b] += int64(1+r.below(3)) << s.weightShift
				}
			}
			s.total.a += h[b]
		}
		for _, acc := range []int64{0, h[missingBin]} {
			a, b := choice{den: 1, bin: -1}, choice{den: 1, bin: -1}
			s.scanBins(bins, acc, &h, &a)
			s.scanLanes(bins, acc, &h, &b)
			if a != b {
				t.Fatalf("trial %d, %d bins: scalar %+v, vector %+v", trial, bins, a, b)
			}
		}
	}
}
