package cluster

import (
	"context"
	"fmt"
	"math"
	"sort"

	"clusterflow/internal/linalg"
)

// kmeans holds what every start of k-means on the same points shares. The
// algorithm is Lloyd's (IEEE Trans. Inf. Theory 28, 1982) with the start of
// Arthur and Vassilvitskii (k-means++, SODA 2007) in its greedy form; its
// stopping rule and its treatment of empty clusters are scikit-learn's.
type kmeans struct {
	given   linalg.Matrix // [N, d] the caller's points
	x       linalg.Matrix // [N, d] the same, near the origin
	norms   []float64     // [N] ‖x‖²
	mean    []float64     // [d] what was subtracted from the caller's points, nil for nothing
	spread  float64       // mean variance of a feature
	k       int
	threads int
}

// partition is one result of k-means.
type partition struct {
	labels     []int32
	centers    linalg.Matrix // [k, d] in the caller's coordinates; labels are by nearest of these
	inertia    float64       // sum of squared distances to the own centre
	iterations int           // updates of the centres
	converged  bool
}

// newKMeans checks the points and takes their norms. Distances come from
// products, which lose digits where points lie far from the origin compared
// with their spread; such points are moved to it first, in a copy.
func newKMeans(points linalg.Matrix, k, threads int) (*kmeans, error) {
	if k < 1 || k > points.Rows {
		return nil, fmt.Errorf("%d clusters of %d rows: the number of clusters must be from 1 to the number of rows", k, points.Rows)
	}
	s := &kmeans{given: points, x: points, k: k, threads: threads}
	if err := s.takeNorms(); err != nil {
		return nil, err
	}
	mean := columnMeans(points, threads)
	offset := 0.0
	for _, m := range mean {
		offset += m * m
	}
	variance := func(offset float64) float64 {
		sum := 0.0
		for _, v := range s.norms {
			sum += v
		}
		return max(0, sum/float64(points.Rows)-offset)
	}
	total := variance(offset)
	if offset > total {
		s.mean, s.x = mean, linalg.NewMatrix(points.Rows, points.Cols)
		s.eachBlock(func(_, from, to int) { subtract(s.x.Slice(from, to), points.Slice(from, to), mean) })
		if err := s.takeNorms(); err != nil {
			return nil, err
		}
		total = variance(0)
	}
	s.spread = total / float64(max(1, points.Cols))
	return s, nil
}

func (s *kmeans) takeNorms() error {
	s.norms = make([]float64, s.x.Rows)
	s.eachBlock(func(_, from, to int) {
		for i := from; i < to; i++ {
			s.norms[i] = dot(s.x.Row(i), s.x.Row(i))
		}
	})
	for i, v := range s.norms {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return &RowError{i, "has a value that is not finite"}
		}
	}
	return nil
}

// eachBlock calls f for every block of rows [from, to), in parallel.
func (s *kmeans) eachBlock(f func(block, from, to int)) {
	linalg.ForEach(s.threads, linalg.Blocks(s.x.Rows, rowBlock), func(b int) {
		f(b, b*rowBlock, min(s.x.Rows, (b+1)*rowBlock))
	})
}

// lloyd runs one start: from the given centres to convergence. report may be
// nil; it is called before every update.
func (s *kmeans) lloyd(ctx context.Context, centers linalg.Matrix, maxIter int, tol float64, report func(iteration, moved int)) (*partition, error) {
	all, err := s.lloydAll(ctx, []linalg.Matrix{centers}, maxIter, tol, func(_, iteration, moved int) {
		if report != nil {
			report(iteration, moved)
		}
	})
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// descent is one start on its way.
type descent struct {
	start        int
	centers      linalg.Matrix
	labels, next []int32
	sums         []float64 // [k, d]
	counts       []int
	bounds       *bounds   // nil where there is no room for them
	norms        []float32 // [k] ‖c‖²
	largest      float32   // of norms
	out          partition
	settled      bool // the last update shifted the centres by no more than tol
}

// newDescent is about to begin from the centres with no labels and no bounds.
func newDescent(start, n int, centers linalg.Matrix) *descent {
	d := &descent{start: start, centers: centers, labels: make([]int32, n), next: make([]int32, n), sums: make([]float64, centers.Rows*centers.Cols), counts: make([]int, centers.Rows)}
	for i := range d.labels {
		d.labels[i] = -1
	}
	return d
}

// lloydAll runs several starts, in step, so that they share what they read.
func (s *kmeans) lloydAll(ctx context.Context, starts []linalg.Matrix, maxIter int, tol float64, report func(start, iteration, moved int)) ([]*partition, error) {
	out := make([]*partition, len(starts))
	var atWork []*descent
	for i, centers := range starts {
		d := newDescent(i, s.x.Rows, centers)
		if keepsBounds(int64(s.x.Rows), int64(s.k), int64(len(starts))) {
			d.bounds = newBounds(s.x.Rows, s.k)
		}
		atWork = append(atWork, d)
	}
	for len(atWork) > 0 {
		s.assign(ctx, atWork)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		left := atWork[:0]
		for _, d := range atWork {
			if s.advance(d, maxIter, tol, report) {
				left = append(left, d)
			} else {
				out[d.start] = s.end(d)
			}
		}
		atWork = left
	}
	return out, nil
}

// advance moves the centres to the means of the points that were assigned to
// them; false once that is of no use.
func (s *kmeans) advance(d *descent, maxIter int, tol float64, report func(start, iteration, moved int)) bool {
	moved := s.move(d.labels, d.next, d.sums, d.counts)
	d.labels, d.next = d.next, d.labels
	empty := emptyClusters(d.counts)
	if moved == 0 || d.settled && len(empty) == 0 {
		d.out.converged = true
		return false
	}
	if d.out.iterations == maxIter {
		return false
	}
	d.out.iterations++
	report(d.start, d.out.iterations, moved)
	relocated := s.relocate(empty, d.centers, d.labels, d.sums, d.counts)
	if d.bounds != nil {
		for _, i := range relocated {
			d.bounds.forget(i)
		}
	}
	shift := 0.0
	updated := linalg.NewMatrix(s.k, s.x.Cols)
	for c := range s.k {
		to, old := updated.Row(c), d.centers.Row(c)
		for j := range to {
			to[j] = float32(d.sums[c*s.x.Cols+j] / float64(d.counts[c]))
		}
		by := squaredDistance(to, old)
		shift += by
		if d.bounds != nil {
			d.bounds.shift(c, math.Sqrt(by))
		}
	}
	d.centers = updated
	d.settled = len(empty) == 0 && shift <= tol*s.spread
	return true
}

// end is the result of a start, in the caller's coordinates. Moving centres
// there rounds them, so that a point between two of them may change sides:
// labels are those that the centres that are kept give.
func (s *kmeans) end(d *descent) *partition {
	if s.mean != nil {
		for c := range s.k {
			for j, m := range s.mean {
				d.centers.Row(c)[j] = float32(float64(d.centers.Row(c)[j]) + m)
			}
		}
		s = &kmeans{x: s.given, k: s.k, threads: s.threads}
		s.takeNorms() // finite: newKMeans took them before
		d.labels = s.nearestTo(d.centers)
	}
	for _, distance := range s.distancesTo(d.centers, d.labels) {
		d.out.inertia += distance
	}
	d.out.labels, d.out.centers = d.labels, d.centers
	return &d.out
}

// nearestTo gives each point the label of its nearest centre.
func (s *kmeans) nearestTo(centers linalg.Matrix) []int32 {
	d := &descent{centers: centers, next: make([]int32, s.x.Rows)} // no labels, no bounds
	s.assign(context.Background(), []*descent{d})
	return d.next
}

// tieFraction is the part of ‖x‖² + ‖c‖² within which two distances taken
// from products in float32 cannot be told apart.
const tieFraction = 1e-5

// assign writes to next of every start the nearest centre of every point, the
// first of several: the one with the least ‖c‖² − 2x·c, and where that is too
// close to call, the least distance computed from differences. Distances that
// bounds say are of no use are not computed, if they are many. Once ctx is done
// it leaves out what is left.
func (s *kmeans) assign(ctx context.Context, starts []*descent) {
	for _, d := range starts {
		d.norms, d.largest = make([]float32, s.k), 0
		for c := range s.k {
			d.norms[c] = float32(dot(d.centers.Row(c), d.centers.Row(c)))
			d.largest = max(d.largest, d.norms[c])
		}
	}
	s.eachBlock(func(_, from, to int) {
		scores := linalg.NewMatrix(to-from, s.k)
		for _, d := range starts {
			if ctx.Err() != nil {
				return
			}
			if d.bounds != nil && d.bounds.open(from, to, d.labels)*dotCost < (to-from)*s.k {
				for i := from; i < to; i++ {
					d.next[i] = s.nearestByBounds(i, d, scores.Row(0))
				}
				continue
			}
			linalg.Gemm(1, false, true, -2, s.x.Slice(from, to), d.centers, 0, scores)
			for i := from; i < to; i++ {
				row := scores.Row(i - from)
				for c, n := range d.norms {
					row[c] += n
				}
				d.next[i] = int32(s.nearest(i, d, row))
				if d.bounds != nil {
					d.bounds.set(i, int(d.next[i]), row, s.norms[i], s.rounding(i, d))
				}
			}
		}
	})
}

// dotCost is how much longer one product of two vectors takes than one element
// of a product of matrices.
const dotCost = 4

// rounding is by how much ‖c‖² − 2x·c of a point may be off.
func (s *kmeans) rounding(i int, d *descent) float64 {
	return tieFraction * (s.norms[i] + float64(d.largest))
}

// nearestByBounds is the centre nearest to a point, from distances to those
// centres only that may be it. scores has room for k.
func (s *kmeans) nearestByBounds(i int, d *descent, scores []float32) int32 {
	own := int(d.labels[i])
	if d.bounds.rivals(i, own) == 0 {
		return d.labels[i]
	}
	x, err := s.x.Row(i), s.rounding(i, d)
	score := func(c int) float32 { return d.norms[c] - 2*linalg.Dot(x, d.centers.Row(c)) }
	for c := range scores {
		scores[c] = float32(math.Inf(1))
	}
	scores[own] = score(own)
	d.bounds.setOwn(i, own, scores[own], s.norms[i], err)
	if d.bounds.rivals(i, own) == 0 {
		return d.labels[i]
	}
	for c := range scores {
		if c != own && d.bounds.rival(i, own, c) {
			scores[c] = score(c)
		}
	}
	best := s.nearest(i, d, scores)
	d.bounds.set(i, best, scores, s.norms[i], err)
	return int32(best)
}

// nearest is the centre nearest to a point, given ‖c‖² − 2x·c of each.
func (s *kmeans) nearest(i int, d *descent, scores []float32) int {
	best, at := float32(math.Inf(1)), 0
	for c, v := range scores {
		if v < best {
			best, at = v, c
		}
	}
	limit := best + float32(s.rounding(i, d))
	exact := -1.0 // the distance to at, once a rival asks for it
	for c, v := range scores {
		if v > limit || c == at {
			continue
		}
		if exact < 0 {
			exact = squaredDistance(s.x.Row(i), d.centers.Row(at))
		}
		if by := squaredDistance(s.x.Row(i), d.centers.Row(c)); by < exact || by == exact && c < at {
			exact, at = by, c
		}
	}
	return at
}

// move brings the sums [k, d] and sizes of the clusters from the old labels
// (−1: none) to the new ones, and returns how many points moved. Sums change
// in the order of the rows, each block of columns by itself.
func (s *kmeans) move(old, labels []int32, sums []float64, counts []int) int {
	var moved []int
	for i, label := range labels {
		if old[i] == label {
			continue
		}
		moved = append(moved, i)
		counts[label]++
		if old[i] >= 0 {
			counts[old[i]]--
		}
	}
	d := s.x.Cols
	linalg.ForEach(s.threads, linalg.Blocks(d, colBlock), func(b int) {
		from, to := b*colBlock, min(d, (b+1)*colBlock)
		for _, i := range moved {
			row := s.x.Row(i)[from:to]
			into := sums[int(labels[i])*d+from:][:len(row)]
			for j, v := range row {
				into[j] += float64(v)
			}
			if old[i] < 0 {
				continue
			}
			outOf := sums[int(old[i])*d+from:][:len(row)]
			for j, v := range row {
				outOf[j] -= float64(v)
			}
		}
	})
	return len(moved)
}

// relocate gives every empty cluster the point that lies farthest from its
// own centre, taken from a cluster that keeps others, and returns these points.
func (s *kmeans) relocate(empty []int, centers linalg.Matrix, labels []int32, sums []float64, counts []int) (moved []int) {
	if len(empty) == 0 {
		return nil
	}
	distances := s.distancesTo(centers, labels)
	order := make([]int, len(distances))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(a, b int) bool { return distances[order[a]] > distances[order[b]] })
	for _, c := range empty {
		for counts[labels[order[0]]] < 2 {
			order = order[1:]
		}
		i := order[0]
		order = order[1:]
		from := int(labels[i])
		for j, v := range s.x.Row(i) {
			sums[from*s.x.Cols+j] -= float64(v)
			sums[c*s.x.Cols+j] = float64(v)
		}
		counts[from]--
		counts[c] = 1
		labels[i] = int32(c)
		moved = append(moved, i)
	}
	return moved
}

func emptyClusters(counts []int) []int {
	var empty []int
	for c, n := range counts {
		if n == 0 {
			empty = append(empty, c)
		}
	}
	return empty
}

// distancesTo returns each point's squared distance to its label's centre.
func (s *kmeans) distancesTo(centers linalg.Matrix, labels []int32) []float64 {
	out := make([]float64, s.x.Rows)
	s.eachBlock(func(_, from, to int) {
		for i := from; i < to; i++ {
			out[i] = squaredDistance(s.x.Row(i), centers.Row(int(labels[i])))
		}
	})
	return out
}

// kmeansMemory is what the starts take: labels, bounds and, while they are
// seeded, distances.
func kmeansMemory(n, _, k int64, option func(string) int64) int64 {
	starts := option("n_init")
	bytes := 8 * n * starts
	if keepsBounds(n, k, starts) {
		bytes += 4 * n * k * starts
	}
	return bytes + 8*n*int64(2+seedTrials(int(k)))*min(starts, seedTogether)
}
