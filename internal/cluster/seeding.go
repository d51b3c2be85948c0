package cluster

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"strconv"

	"clusterflow/internal/linalg"
)

// nearFraction is the part of ‖a‖² + ‖b‖² below which a squared distance
// taken from products in float32 is computed again from differences.
const nearFraction = 1e-3

// starts are the first centres of n starts of a method: those given, or drawn
// from sources of their own.
func (s *kmeans) starts(ctx context.Context, method string, n int, in Input) ([]linalg.Matrix, error) {
	var all []linalg.Matrix
	if len(in.Starts) > 0 && len(in.Starts) != n {
		return nil, fmt.Errorf("first centres of %d starts, where there are to be %d", len(in.Starts), n)
	}
	for _, given := range in.Starts {
		if given.Rows != s.k || given.Cols != s.x.Cols {
			return nil, fmt.Errorf("first centres of %d × %d, where %d × %d are needed", given.Rows, given.Cols, s.k, s.x.Cols)
		}
		all = append(all, given.Clone())
		if s.mean != nil {
			subtract(all[len(all)-1], given, s.mean)
		}
	}
	for len(all) < n {
		rngs := make([]*rand.Rand, min(seedTogether, n-len(all)))
		for i := range rngs {
			rngs[i] = linalg.Rand(in.Seed, "k-means start", method, strconv.Itoa(in.K), strconv.Itoa(len(all)+i))
		}
		some, err := s.seed(ctx, rngs)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

// seedTogether is how many starts are seeded in step, to bound the memory.
const seedTogether = 10

// seedTrials is how many candidates there are for every centre but the first.
func seedTrials(k int) int { return 2 + int(math.Log(float64(k))) }

// seeding is one start that is being seeded.
type seeding struct {
	rng        *rand.Rand
	centers    linalg.Matrix // [k, d]
	nearest    []float64     // [N] squared distance to the nearest centre so far
	cumulative []float64     // [N] sums of these
	candidates []int
}

// seed picks k points as the first centres of every start: the first at random,
// every other one the best of 2 + ⌊ln k⌋ candidates drawn with probability
// proportional to the squared distance to the nearest centre so far, best
// meaning that the sum of those distances falls the most. Points equal to a
// centre have distance 0 exactly and are never drawn; the error says so when no
// others are left. Starts go in step, so that the candidates of all are one
// product of matrices.
func (s *kmeans) seed(ctx context.Context, rngs []*rand.Rand) ([]linalg.Matrix, error) {
	n, trials := s.x.Rows, seedTrials(s.k)
	starts := make([]seeding, len(rngs))
	centers := make([]linalg.Matrix, len(rngs))
	for t, rng := range rngs {
		centers[t] = linalg.NewMatrix(s.k, s.x.Cols)
		starts[t] = seeding{rng, centers[t], make([]float64, n), make([]float64, n), []int{rng.IntN(n)}}
		for i := range n {
			starts[t].nearest[i] = math.Inf(1)
		}
	}
	for c := range s.k {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if c > 0 {
			distinct := make([]bool, len(starts))
			linalg.ForEach(s.threads, len(starts), func(t int) { distinct[t] = starts[t].drawCandidates(trials) })
			if slices.Contains(distinct, false) {
				return nil, fmt.Errorf("%d clusters of %d rows: only %d of the rows are distinct; ask for at most %d clusters", s.k, n, c, c)
			}
		}
		s.take(c, starts)
	}
	return centers, nil
}

// drawCandidates picks those for the next centre; false if every point is a
// centre.
func (s *seeding) drawCandidates(trials int) bool {
	total := 0.0
	for i, d := range s.nearest {
		total += d
		s.cumulative[i] = total
	}
	s.candidates = s.candidates[:0]
	for range trials {
		if total == 0 {
			return false
		}
		s.candidates = append(s.candidates, draw(s.cumulative, s.nearest, s.rng.Float64()*total))
	}
	return true
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

// take makes the best candidate of every start its centre c. All starts have as
// many candidates.
func (s *kmeans) take(c int, starts []seeding) {
	each := len(starts[0].candidates)
	var candidates []int
	for _, t := range starts {
		candidates = append(candidates, t.candidates...)
	}
	m := len(candidates)
	points := linalg.NewMatrix(m, s.x.Cols)
	for t, i := range candidates {
		copy(points.Row(t), s.x.Row(i))
	}
	// What every point's squared distance to its nearest centre would be with
	// each candidate added, and the sums over the points.
	distances := make([]float64, s.x.Rows*m)
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
				d = min(d, starts[t/each].nearest[i])
				distances[i*m+t] = d
				partial[b*m+t] += d
			}
		}
	})
	sums := make([]float64, m)
	for p, v := range partial {
		sums[p%m] += v
	}
	linalg.ForEach(s.threads, len(starts), func(t int) {
		best := t * each
		for at := best; at < (t+1)*each; at++ {
			if sums[at] < sums[best] {
				best = at
			}
		}
		copy(starts[t].centers.Row(c), points.Row(best))
		for i := range starts[t].nearest {
			starts[t].nearest[i] = distances[i*m+best]
		}
	})
}
