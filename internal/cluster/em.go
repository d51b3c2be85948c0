package cluster

import (
	"context"
	"fmt"
	"math"

	"clusterflow/internal/linalg"
)

// emOptions say when a fit by expectation and maximization ends.
type emOptions struct {
	maxIter  int
	tol      float64 // of the mean log-likelihood
	reg      float64
	threads  int
	progress func(done, total int, note string)
}

// emFit is a mixture that has been fitted.
type emFit struct {
	*gaussians
	likelihood float64 // mean of a row, before the last step
	iterations int
	converged  bool
}

// emRows is how many rows are worked on as one piece. It is part of the bits of
// sums over rows.
const emRows = 2048

// featuresKept is how many bytes of features are kept between iterations;
// more are made anew each time.
const featuresKept = 1 << 30

// em fits several mixtures to the same rows by the algorithm of Dempster, Laird
// and Rubin (J. R. Stat. Soc. B 39, 1977), all in step, so that their densities
// are one product of matrices and the sums for their next parameters another.
type em struct {
	emOptions
	x     linalg.Matrix
	fits  []*emFit
	kept  linalg.Matrix // features of all rows, if they are few enough
	block linalg.Matrix // else of one piece
	resp  linalg.Matrix // [N, Σ k] responsibilities of the fits at work
}

// runEM fits each mixture from where it is.
func runEM(ctx context.Context, x linalg.Matrix, first []*gaussians, o emOptions) ([]*emFit, error) {
	m := &em{emOptions: o, x: x}
	for _, g := range first {
		m.fits = append(m.fits, &emFit{gaussians: g, likelihood: math.Inf(-1)})
	}
	count := first[0].theta.Cols
	if x.Rows*count*4 <= featuresKept {
		m.kept = linalg.NewMatrix(x.Rows, count)
		m.fill(m.kept, 0)
	} else {
		m.block = linalg.NewMatrix(emRows, count)
	}
	m.resp = linalg.NewMatrix(x.Rows, len(first)*first[0].k)
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
		if !f.converged && f.iterations < m.maxIter {
			at = append(at, f)
		}
	}
	return at
}

// fill writes the features of the rows from the given one on.
func (m *em) fill(to linalg.Matrix, from int) {
	linalg.ForEach(m.threads, linalg.Blocks(to.Rows, 64), func(b int) {
		for i := b * 64; i < min(to.Rows, (b+1)*64); i++ {
			m.fits[0].features(to.Row(i), m.x.Row(from+i))
		}
	})
}

// sums are what maximization needs of one iteration.
type sums struct {
	features   []float64 // [Σ k, features], weighted by responsibility
	weights    []float64 // [Σ k]
	likelihood []float64 // [fits]
}

func (m *em) iterate(ctx context.Context, at []*emFit) error {
	k, count := at[0].k, at[0].theta.Cols
	theta := linalg.NewMatrix(len(at)*k, count)
	for s, f := range at {
		copy(theta.Data[s*k*count:], f.theta.Data)
	}
	resp := linalg.Matrix{Rows: m.x.Rows, Cols: theta.Rows, Stride: theta.Rows, Data: m.resp.Data[:m.x.Rows*theta.Rows]}
	total := sums{weights: make([]float64, theta.Rows), likelihood: make([]float64, len(at))}
	var part linalg.Matrix
	if !at[0].full {
		total.features, part = make([]float64, theta.Rows*count), linalg.NewMatrix(theta.Rows, count)
	}
	for from := 0; from < m.x.Rows; from += emRows {
		if err := ctx.Err(); err != nil {
			return err
		}
		to := min(m.x.Rows, from+emRows)
		var f linalg.Matrix
		if m.kept.Rows > 0 {
			f = m.kept.Slice(from, to)
		} else {
			f = m.block.Slice(0, to-from)
			m.fill(f, from)
		}
		r := resp.Slice(from, to)
		linalg.Gemm(m.threads, false, true, 1, f, theta, 0, r)
		m.expect(at, r, from, &total)
		if at[0].full {
			continue // the rows of each component are summed by themselves
		}
		linalg.Gemm(m.threads, true, false, 1, r, f, 0, part)
		linalg.ForEach(m.threads, part.Rows, func(j int) {
			sum := total.features[j*count : (j+1)*count]
			for c, v := range part.Row(j) {
				sum[c] += float64(v)
			}
		})
	}
	return m.maximize(at, resp, &total)
}

// expect turns products into responsibilities.
func (m *em) expect(at []*emFit, r linalg.Matrix, from int, total *sums) {
	const rows = 64
	k, d := at[0].k, at[0].d
	blocks := linalg.Blocks(r.Rows, rows)
	weights, likelihood := make([]float64, blocks*r.Cols), make([]float64, blocks*len(at))
	linalg.ForEach(m.threads, blocks, func(b int) {
		lp, buf, redone := make([]float64, k), make([]float64, d), make([]bool, k)
		for i := b * rows; i < min(r.Rows, (b+1)*rows); i++ {
			for s, f := range at {
				own := r.Row(i)[s*k : (s+1)*k]
				best, sum := f.posterior(lp, m.x.Row(from+i), own, buf, redone)
				likelihood[b*len(at)+s] += sum
				for j, v := range lp {
					p := 0.0
					if v > lp[best]-farBelow {
						p = math.Exp(v - sum)
					}
					own[j] = float32(p)
					weights[b*r.Cols+s*k+j] += p
				}
			}
		}
	})
	for i, v := range weights {
		total.weights[i%r.Cols] += v
	}
	for i, v := range likelihood {
		total.likelihood[i%len(at)] += v
	}
}

// maximize gives every mixture its next parameters and says whether it is at its
// end.
func (m *em) maximize(at []*emFit, resp linalg.Matrix, total *sums) error {
	k, count, n := at[0].k, at[0].theta.Cols, float64(m.x.Rows)
	errs := make([]error, resp.Cols)
	linalg.ForEach(m.threads, resp.Cols, func(c int) {
		g, j, weight := at[c/k].gaussians, c%k, total.weights[c]+10*epsilon
		g.weights[j] = weight / n
		if weight >= 1e-6 { // else no row is its own, and it stays where it is
			if g.full {
				if m.gather(g, j, resp, c) {
					return
				}
			} else {
				m.fromSums(g, j, resp, c, weight, total.features[c*count:(c+1)*count])
			}
		}
		errs[c] = g.prepare(j)
	})
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	for s, f := range at {
		likelihood := total.likelihood[s] / n
		f.iterations++
		f.converged = math.Abs(likelihood-f.likelihood) < m.tol
		f.likelihood = likelihood
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
func (m *em) fromSums(g *gaussians, j int, resp linalg.Matrix, column int, weight float64, sum []float64) {
	mean, cov := g.meanOf(j), g.variances(j)
	for c := range g.d {
		mean[c] = sum[c] / weight
		second := sum[g.d+c] / weight
		cov[c] = second - mean[c]*mean[c]
		if cov[c] < 1e-3*second {
			rows, weights := m.members(resp, column, 1e-12)
			g.exact(j, m.x, rows, weights)
			return
		}
	}
	g.finishCov(j)
}

// members are the rows with a part in a component that is more than least, and
// their parts.
func (m *em) members(resp linalg.Matrix, column int, least float32) (rows []int, weights []float64) {
	for i := range resp.Rows {
		if p := resp.Data[i*resp.Stride+column]; p > least {
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
func (m *em) gather(g *gaussians, j int, resp linalg.Matrix, column int) (prepared bool) {
	rows, weights := m.members(resp, column, gatherLeast)
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
