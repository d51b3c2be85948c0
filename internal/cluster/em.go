package cluster

import (
	"context"
	"fmt"
	"math"
	"slices"

	"clusterflow/internal/linalg"
)

// emOptions say when a fit by expectation and maximization ends.
type emOptions struct {
	maxIter  int
	tol      float64 // of the mean log-likelihood
	race     bool    // leave out fits that cannot become the best
	reg      float64
	threads  int
	progress func(done, total int, note string)
}

// emFit is a mixture that is being fitted, with what each row of x, [N], makes
// of each component, [k].
type emFit struct {
	*gaussians
	likelihood float64 // mean of a row, before the last step
	iterations int
	converged  bool
	outrun     bool            // ended because another fit is out of reach
	gains      [paceOf]float64 // of the last iterations, in turn

	products linalg.Matrix // [N, k] features·theta
	resp     linalg.Matrix // [N, k] responsibilities
	used     linalg.Matrix // [N, k] those that the component was last made of
	stale    []bool        // [k] theta is newer than products
	whole    bool          // the last step was of every component
	updates  int           // of single components

	weight, moved []float64 // [k] sums of resp, and of its differences to used
	sum           float64   // log-likelihood of all rows
}

// emRows is how many rows are worked on as one piece. It is part of the bits of
// sums over rows.
const emRows = 2048

// featuresKept is how many bytes of features are kept between iterations;
// more are made anew each time.
const featuresKept = 1 << 30

// settledPart is how much of its weight must have gone to or come from others
// before a component takes part in a step, at most; a lower tolerance lowers it.
const settledPart = 1e-3

// paceOf is how many iterations say how fast a fit still gains.
const paceOf = 10

// em fits several mixtures to the same rows by the algorithm of Dempster, Laird
// and Rubin (J. R. Stat. Soc. B 39, 1977), all in step, so that their densities
// are one product of matrices and the sums for their next parameters another.
//
// A step maximizes only over the weights and over those components whose
// responsibilities have moved since they last did, which is a generalized EM of
// the same paper (see also Neal and Hinton, "A view of the EM algorithm that
// justifies incremental, sparse, and other variants", 1998): the likelihood
// never falls, and densities of the other components stay what they are. A
// fit ends only after a step of all its components has gained less than the
// tolerance. With race, one ends also once it would stay behind the best of the
// others as that is now, even if every iteration left to it gained twice as much
// as the best of its last ten.
type em struct {
	emOptions
	x     linalg.Matrix
	fits  []*emFit
	kept  linalg.Matrix // features of all rows, if they are few enough
	block linalg.Matrix // else of one piece
}

// component is one of a fit.
type component struct {
	*emFit
	j int
}

// runEM fits each mixture from where it is.
func runEM(ctx context.Context, x linalg.Matrix, first []*gaussians, o emOptions) ([]*emFit, error) {
	m := &em{emOptions: o, x: x}
	for _, g := range first {
		f := &emFit{gaussians: g, likelihood: math.Inf(-1), stale: make([]bool, g.k), weight: make([]float64, g.k), moved: make([]float64, g.k)}
		f.products, f.resp, f.used = linalg.NewMatrix(x.Rows, g.k), linalg.NewMatrix(x.Rows, g.k), linalg.NewMatrix(x.Rows, g.k)
		for j := range f.stale {
			f.stale[j] = true
		}
		m.fits = append(m.fits, f)
	}
	count := first[0].theta.Cols
	if x.Rows*count*4 <= featuresKept {
		m.kept = linalg.NewMatrix(x.Rows, count)
		m.fill(m.kept, 0)
	} else {
		m.block = linalg.NewMatrix(emRows, count)
	}
	for {
		at := m.working()
		if len(at) == 0 {
			return m.fits, nil
		}
		if err := m.iterate(ctx, at); err != nil {
			return nil, err
		}
	}
}

// working are the fits that have not ended.
func (m *em) working() []*emFit {
	var at []*emFit
	for _, f := range m.fits {
		if !f.converged && !f.outrun && f.iterations < m.maxIter {
			at = append(at, f)
		}
	}
	return at
}

// featuresOf are the features of the rows [from, to).
func (m *em) featuresOf(from, to int) linalg.Matrix {
	if m.kept.Rows > 0 {
		return m.kept.Slice(from, to)
	}
	f := m.block.Slice(0, to-from)
	m.fill(f, from)
	return f
}

// fill writes the features of the rows from the given one on.
func (m *em) fill(to linalg.Matrix, from int) {
	linalg.ForEach(m.threads, linalg.Blocks(to.Rows, 64), func(b int) {
		for i := b * 64; i < min(to.Rows, (b+1)*64); i++ {
			m.fits[0].features(to.Row(i), m.x.Row(from+i))
		}
	})
}

// eachPiece calls f for rows [from, to) until ctx is done.
func (m *em) eachPiece(ctx context.Context, f func(from, to int)) error {
	for from := 0; from < m.x.Rows; from += emRows {
		if err := ctx.Err(); err != nil {
			return err
		}
		f(from, min(m.x.Rows, from+emRows))
	}
	return nil
}

// iterate does one expectation and one step of each fit.
func (m *em) iterate(ctx context.Context, at []*emFit) error {
	var stale, all []component
	for _, f := range at {
		f.sum = 0
		clear(f.weight)
		clear(f.moved)
		for j, s := range f.stale {
			all = append(all, component{f, j})
			if s {
				stale = append(stale, component{f, j})
			}
		}
	}
	theta := linalg.NewMatrix(len(stale), at[0].theta.Cols)
	for c, of := range stale {
		copy(theta.Row(c), of.theta.Row(of.j))
		of.stale[of.j] = false
	}
	products := linalg.NewMatrix(emRows, theta.Rows)
	var s *sums
	if m.kept.Rows == 0 { // features cost too much to make them again for some
		s = newSums(at[0].gaussians, all)
	}
	err := m.eachPiece(ctx, func(from, to int) {
		f, p := m.featuresOf(from, to), products.Slice(0, to-from)
		if len(stale) > 0 {
			linalg.Gemm(m.threads, false, true, 1, f, theta, 0, p)
		}
		m.expect(at, stale, p, from)
		if s != nil {
			s.add(m.threads, f, from)
		}
	})
	if err != nil {
		return err
	}
	var step []component
	for _, f := range at {
		likelihood := f.sum / float64(m.x.Rows)
		gain := likelihood - f.likelihood
		gained := math.Abs(gain) >= m.tol
		f.gains[f.iterations%paceOf] = gain
		f.likelihood = likelihood
		f.iterations++
		f.converged = f.whole && !gained
		f.whole = !gained || f.iterations == m.maxIter
		for j, moved := range f.moved {
			if f.weight[j] >= 1e-6 && (f.whole || moved > min(m.tol, settledPart)*f.weight[j]) { // else no row is its own, or it is settled
				step = append(step, component{f, j})
			}
		}
	}
	if m.race {
		m.leaveBehind(at)
	}
	if s == nil {
		s = newSums(at[0].gaussians, step)
		if err := m.eachPiece(ctx, func(from, to int) { s.add(m.threads, m.kept.Slice(from, to), from) }); err != nil {
			return err
		}
	}
	return m.maximize(at, step, s)
}

// leaveBehind ends the fits that the best one has outrun.
func (m *em) leaveBehind(at []*emFit) {
	best := math.Inf(-1)
	for _, f := range m.fits {
		best = max(best, f.likelihood)
	}
	for _, f := range at {
		reach := f.likelihood + 2*max(0, slices.Max(f.gains[:]))*float64(m.maxIter-f.iterations)
		f.outrun = reach < best // never in the first iterations: gains begin with one from −∞
	}
}

// expect writes the products [rows, len(stale)] where they belong and turns all
// products of these rows into responsibilities.
func (m *em) expect(at []*emFit, stale []component, products linalg.Matrix, from int) {
	const rows = 64
	k, d := at[0].k, at[0].d
	cols, blocks := len(at)*k, linalg.Blocks(products.Rows, rows)
	weight, moved, likelihood := make([]float64, blocks*cols), make([]float64, blocks*cols), make([]float64, blocks*len(at))
	linalg.ForEach(m.threads, blocks, func(b int) {
		lp, buf, redone := make([]float64, k), make([]float64, d), make([]bool, k)
		for i := b * rows; i < min(products.Rows, (b+1)*rows); i++ {
			for c, v := range products.Row(i)[:len(stale)] {
				stale[c].products.Row(from + i)[stale[c].j] = v
			}
			for s, f := range at {
				own, used := f.resp.Row(from+i), f.used.Row(from+i)
				best, sum := f.posterior(lp, m.x.Row(from+i), f.products.Row(from+i), buf, redone)
				likelihood[b*len(at)+s] += sum
				w, mv := weight[b*cols+s*k:][:k], moved[b*cols+s*k:][:k]
				for j, v := range lp {
					p := 0.0
					if v > lp[best]-farBelow {
						p = math.Exp(v - sum)
					}
					own[j] = float32(p)
					w[j] += p
					mv[j] += math.Abs(p - float64(used[j]))
				}
			}
		}
	})
	for i, v := range weight {
		f, j := at[i%cols/k], i%k
		f.weight[j] += v
		f.moved[j] += moved[i]
	}
	for i, v := range likelihood {
		at[i%len(at)].sum += v
	}
}

// sums are the features of all rows, weighted by the responsibility of each of
// some components with diagonal covariances.
type sums struct {
	of    []component
	total map[component][]float64 // [features]
	part  linalg.Matrix
	resp  linalg.Matrix
}

// newSums is empty where covariances are full: the rows of each component are
// then summed by themselves.
func newSums(g *gaussians, of []component) *sums {
	s := &sums{total: make(map[component][]float64, len(of))}
	if g.full {
		return s
	}
	s.of, s.part, s.resp = of, linalg.NewMatrix(len(of), g.theta.Cols), linalg.NewMatrix(emRows, len(of))
	for _, c := range of {
		s.total[c] = make([]float64, g.theta.Cols)
	}
	return s
}

// add adds the features of the rows from the given one on.
func (s *sums) add(threads int, features linalg.Matrix, from int) {
	if len(s.of) == 0 {
		return
	}
	resp := s.resp.Slice(0, features.Rows)
	for i := range resp.Rows {
		to := resp.Row(i)
		for c, of := range s.of {
			to[c] = of.resp.Row(from + i)[of.j]
		}
	}
	linalg.Gemm(threads, true, false, 1, resp, features, 0, s.part)
	linalg.ForEach(threads, len(s.of), func(c int) {
		total := s.total[s.of[c]]
		for i, v := range s.part.Row(c) {
			total[i] += float64(v)
		}
	})
}

// maximize gives every mixture its next weights, and the components of the step
// their next means and covariances.
func (m *em) maximize(at []*emFit, step []component, s *sums) error {
	n := float64(m.x.Rows)
	for _, f := range at {
		for j := range f.k {
			f.reweigh(j, (f.weight[j]+10*epsilon)/n)
		}
	}
	errs := make([]error, len(step))
	linalg.ForEach(m.threads, len(step), func(c int) {
		f, j := step[c].emFit, step[c].j
		f.stale[j] = true
		if f.full {
			if m.gather(f, j) {
				return
			}
		} else {
			m.fromSums(f, j, s.total[step[c]])
		}
		errs[c] = f.prepare(j)
	})
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	linalg.ForEach(m.threads, linalg.Blocks(m.x.Rows, rowBlock), func(b int) {
		for i := b * rowBlock; i < min(m.x.Rows, (b+1)*rowBlock); i++ {
			for _, c := range step {
				c.used.Row(i)[c.j] = c.resp.Row(i)[c.j]
			}
		}
	})
	for _, c := range step {
		c.updates++
	}
	if m.progress != nil {
		best, done := math.Inf(-1), 0
		for _, f := range m.fits {
			best, done = max(best, f.likelihood), max(done, f.iterations)
		}
		m.progress(done, m.maxIter, fmt.Sprintf("iteration %d, %d of %d starts at work, log-likelihood %.4f", done, len(at), len(m.fits), best))
	}
	return nil
}

const epsilon = 0x1p-52

// fromSums sets mean and variances of a component from the sums of its features,
// or, where those have lost too many digits, from the rows themselves.
func (m *em) fromSums(f *emFit, j int, sum []float64) {
	g, weight := f.gaussians, f.weight[j]+10*epsilon
	mean, cov := g.meanOf(j), g.variances(j)
	for c := range g.d {
		mean[c] = sum[c] / weight
		second := sum[g.d+c] / weight
		cov[c] = second - mean[c]*mean[c]
		if cov[c] < 1e-3*second {
			rows, weights := f.members(j, 1e-12)
			g.exact(j, m.x, rows, weights)
			return
		}
	}
	g.finishCov(j)
}

// members are the rows with a part in a component that is more than least, and
// their parts.
func (f *emFit) members(j int, least float32) (rows []int, weights []float64) {
	for i := range f.resp.Rows {
		if p := f.resp.Row(i)[j]; p > least {
			rows, weights = append(rows, i), append(weights, float64(p))
		}
	}
	return rows, weights
}

// gatherLeast is the part in a component below which a row is left out of its
// covariance: less than float32 can add to 1.
const gatherLeast = 3e-8

// gather sets mean and full covariance of a component from the rows that have a
// part in it, which are few in many dimensions. Products are of differences to
// the last mean. It reports whether it has prepared the component too.
func (m *em) gather(f *emFit, j int) (prepared bool) {
	g := f.gaussians
	rows, weights := f.members(j, gatherLeast)
	if g.sharp[j] || len(rows) < 2*g.d {
		g.exact(j, m.x, rows, weights)
		return false
	}
	d, mean, cov := g.d, g.meanOf(j), g.variances(j)
	block, gram := linalg.NewMatrix(emRows, d), linalg.NewMatrix(d, d)
	first, second := make([]float64, d), make([]float64, d*d)
	total := 0.0
	for from := 0; from < len(rows); from += emRows {
		part := block.Slice(0, min(emRows, len(rows)-from))
		for r := range part.Rows {
			w := weights[from+r]
			root := math.Sqrt(w)
			total += w
			row := m.x.Row(rows[from+r])
			to, origin, old, sum := part.Row(r)[:len(row)], g.origin[:len(row)], mean[:len(row)], first[:len(row)]
			for c, v := range row {
				diff := float64(v) - origin[c] - old[c]
				sum[c] += w * diff
				to[c] = float32(root * diff)
			}
		}
		linalg.Gemm(1, true, false, 1, part, part, 0, gram)
		for i, v := range gram.Data {
			second[i] += float64(v)
		}
	}
	for c := range first {
		first[c] /= total
	}
	for a := range d {
		for b := range a + 1 {
			v := second[a*d+b]/total - first[a]*first[b]
			if a == b && v < 1e-3*second[a*d+b]/total {
				g.exact(j, m.x, rows, weights)
				return false
			}
			cov[a*d+b] = v
		}
	}
	for c, v := range first {
		mean[c] += v
	}
	g.finishCov(j)
	if g.prepare(j) == nil && !g.sharp[j] {
		return true
	}
	g.exact(j, m.x, rows, weights)
	return false
}
