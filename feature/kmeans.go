package feature

import (
	"math"
	"math/rand/v2"
)

// The restarts and rounds of k-means, and the seed of its draws: the same points give the same groups.
const (
	kMeansRestarts = 8
	kMeansRounds   = 100
	kMeansSeed     = 1
)

// kMeans groups points by Lloyd's algorithm from k-means++ starts (Arthur and Vassilvitskii 2007), best of several, and
// returns the group of each. There must be at least k points.
func kMeans(points [][]float64, k int) []int {
	rng := rand.New(rand.NewPCG(kMeansSeed, uint64(k)))
	var best []int
	least := math.Inf(1)
	for range kMeansRestarts {
		label, inertia := lloyd(points, seeds(points, k, rng))
		if inertia < least {
			best, least = label, inertia
		}
	}
	return best
}

// seeds draws the first centre evenly, each further one with a probability in proportion to the squared distance from
// those before it.
func seeds(points [][]float64, k int, rng *rand.Rand) [][]float64 {
	centers := [][]float64{points[rng.IntN(len(points))]}
	dist := make([]float64, len(points))
	for len(centers) < k {
		sum := 0.0
		for i, p := range points {
			_, dist[i] = closest(centers, p)
			sum += dist[i]
		}
		at, draw := 0, rng.Float64()*sum
		for at < len(points)-1 && draw >= dist[at] {
			draw -= dist[at]
			at++
		}
		centers = append(centers, points[at])
	}
	return centers
}

func lloyd(points, centers [][]float64) (label []int, inertia float64) {
	label = make([]int, len(points))
	for range kMeansRounds {
		inertia = 0
		moved := false
		for i, p := range points {
			l, d := closest(centers, p)
			moved = moved || l != label[i]
			label[i] = l
			inertia += d
		}
		next := make([][]float64, len(centers))
		count := make([]float64, len(centers))
		for k := range next {
			next[k] = make([]float64, len(points[0]))
		}
		for i, p := range points {
			count[label[i]]++
			for j, v := range p {
				next[label[i]][j] += v
			}
		}
		for k := range next {
			if count[k] == 0 {
				next[k] = centers[k]
				continue
			}
			for j := range next[k] {
				next[k][j] /= count[k]
			}
		}
		centers = next
		if !moved {
			break
		}
	}
	return label, inertia
}

func closest(centers [][]float64, p []float64) (int, float64) {
	best, least := 0, math.Inf(1)
	for k, c := range centers {
		d := 0.0
		for j, v := range p {
			d += (v - c[j]) * (v - c[j])
		}
		if d < least {
			best, least = k, d
		}
	}
	return best, least
}
