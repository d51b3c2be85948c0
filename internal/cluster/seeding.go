package cluster

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"sort"

	"clusterflow/internal/linalg"
)

// nearFraction is the part of ‖a‖² + ‖b‖² below which a squared distance
// taken from products in float32 is computed again from differences.
const nearFraction = 1e-3

// seed picks k points as the first centres: the first at random, every other
// one the best of 2 + ⌊ln k⌋ candidates drawn with probability proportional
// to the squared distance to the nearest centre so far, best meaning that the
// sum of those distances falls the most. Points equal to a centre have
// distance 0 exactly and are never drawn; the error says so when no others
// are left.
func (s *kmeans) seed(ctx context.Context, rng *rand.Rand) (linalg.Matrix, error) {
	n := s.x.Rows
	trials := 2 + int(math.Log(float64(s.k)))
	centers := linalg.NewMatrix(s.k, s.x.Cols)
	nearest := make([]float64, n) // squared distance to the nearest centre
	for i := range nearest {
		nearest[i] = math.Inf(1)
	}
	cumulative := make([]float64, n)
	candidates := []int{rng.IntN(n)}
	for c := range s.k {
		if err := ctx.Err(); err != nil {
			return centers, err
		}
		if c > 0 {
			total := 0.0
			for i, d := range nearest {
				total += d
				cumulative[i] = total
			}
			if total == 0 {
				return centers, fmt.Errorf("%d clusters of %d rows: only %d of the rows are distinct; ask for at most %d clusters", s.k, n, c, c)
			}
			candidates = candidates[:0]
			for range trials {
				candidates = append(candidates, draw(cumulative, nearest, rng.Float64()*total))
			}
		}
		distances, sums := s.candidateDistances(candidates, nearest)
		best := 0
		for t := range sums {
			if sums[t] < sums[best] {
				best = t
			}
		}
		copy(centers.Row(c), s.x.Row(candidates[best]))
		for i := range nearest {
			nearest[i] = distances[i*len(candidates)+best]
		}
	}
	return centers, nil
}

// draw returns the first point whose cumulative weight exceeds at. Rounding
// can put at on the total itself, which stands for the last point that has a
// weight.
func draw(cumulative, weights []float64, at float64) int {
	i := sort.Search(len(cumulative), func(i int) bool { return cumulative[i] > at })
	if i == len(cumulative) {
		for i--; weights[i] == 0; i-- {
		}
	}
	return i
}

// candidateDistances returns what every point's squared distance to its
// nearest centre would be with each candidate added, [N, candidates], and the
// sum over the points for each.
func (s *kmeans) candidateDistances(candidates []int, nearest []float64) (distances, sums []float64) {
	m := len(candidates)
	points := linalg.NewMatrix(m, s.x.Cols)
	for t, i := range candidates {
		copy(points.Row(t), s.x.Row(i))
	}
	distances = make([]float64, s.x.Rows*m)
	partial := make([]float64, linalg.Blocks(s.x.Rows, rowBlock)*m)
	s.eachBlock(func(b, from, to int) {
		products := linalg.NewMatrix(to-from, m)
		linalg.Gemm(1, false, true, 1, s.x.Slice(from, to), points, 0, products)
		for i := from; i < to; i++ {
			for t, product := range products.Row(i - from) {
				scale := s.norms[i] + s.norms[candidates[t]]
				d := scale - 2*float64(product)
				if d < nearFraction*scale {
					d = squaredDistance(s.x.Row(i), points.Row(t))
				}
				d = min(d, nearest[i])
				distances[i*m+t] = d
				partial[b*m+t] += d
			}
		}
	})
	sums = make([]float64, m)
	for p, v := range partial {
		sums[p%m] += v
	}
	return distances, sums
}
