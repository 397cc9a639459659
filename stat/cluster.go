package stat

// clusters counts the units and averages over the rows the number of rows of a row's
// unit. Nil units are 0 units of one row each.
func clusters(unit []int) (units int, rowsPerUnit float64) {
	if len(unit) == 0 {
		return 0, 1
	}
	count := make(map[int]float64)
	for _, u := range unit {
		count[u]++
	}
	// Squares of whole numbers add up exactly, so the order of the map does not matter.
	var pairs float64
	for _, n := range count {
		pairs += n * n
	}
	return len(count), pairs / float64(len(unit))
}

// cells numbers the pairs of unit and age band that occur, row by row; nil when units
// are not known.
func cells(unit []int, band []uint16) []int {
	if unit == nil {
		return nil
	}
	type pair struct {
		unit int
		band uint16
	}
	number := make(map[pair]int)
	cell := make([]int, len(unit))
	for r, u := range unit {
		k := pair{u, band[r]}
		n, ok := number[k]
		if !ok {
			n = len(number)
			number[k] = n
		}
		cell[r] = n
	}
	return cell
}

type cluster struct {
	band   uint16
	counts []float64
}

// correlation is the intra-cluster correlation of the binned rows: by how much the
// counts of the rows of one unit in one age band scatter about the band's shares more
// than those of independent rows would, per pair of rows. It is the moment estimator
// under the design effect 1+(m-1)rho (Kish 1965, section 5.4): psi weights the bins as
// PSI does, ks takes the cumulative counts.
func (c *ChannelProfile) correlation(values []float64, band []uint16, cell []int) (psi, ks float64) {
	share := make([]float64, len(c.Edges)+1)
	for _, k := range c.Counts {
		for i, n := range k {
			share[i] += n / float64(c.Rows)
		}
	}
	var a, b excess
	for _, k := range c.clusters(values, band, cell) {
		reference := c.Counts[k.band]
		rows, n := sum(reference), sum(k.counts)
		var scatter, independent, scatterKS, independentKS, cumulative, expected float64
		for i, count := range k.counts {
			p := reference[i] / rows
			cumulative, expected = cumulative+count, expected+p
			scatterKS += (cumulative - n*expected) * (cumulative - n*expected)
			independentKS += expected * (1 - expected)
			if share[i] > 0 {
				scatter += (count - n*p) * (count - n*p) / share[i]
				independent += p * (1 - p) / share[i]
			}
		}
		a.add(n, scatter, independent)
		b.add(n, scatterKS, independentKS)
	}
	return a.rho(), b.rho()
}

type excess struct{ scatter, pairs float64 }

func (e *excess) add(n, scatter, independent float64) {
	e.scatter += scatter - n*independent
	e.pairs += n * (n - 1) * independent
}

// rho is 0 for no pair of rows that could differ, and for a negative estimate.
func (e *excess) rho() float64 {
	if !(e.pairs > 0) {
		return 0
	}
	return min(1, max(0, e.scatter/e.pairs))
}

// clusters counts the rows of each cell per bin, cells in order of appearance: sums in
// the order of a map would differ in the last digit from run to run.
func (c *ChannelProfile) clusters(values []float64, band []uint16, cell []int) []*cluster {
	if cell == nil {
		return nil
	}
	found := make(map[int]*cluster)
	var order []*cluster
	for r, x := range values {
		if x != x {
			continue
		}
		k := found[cell[r]]
		if k == nil {
			k = &cluster{band[r], make([]float64, len(c.Edges)+1)}
			found[cell[r]] = k
			order = append(order, k)
		}
		k.counts[bin(c.Edges, x)]++
	}
	return order
}

// designEffect is the number of rows that tell as much as one independent row, when a
// row shares its unit with rowsPerUnit-1 others on average.
func designEffect(rowsPerUnit, rho float64) float64 {
	return 1 + max(0, rowsPerUnit-1)*rho
}
