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
	total := sums{make([]float64, theta.Rows*count), make([]float64, theta.Rows), make([]float64, len(at))}
	part := linalg.NewMatrix(theta.Rows, count)
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
		errs[c] = m.component(at[c/k].gaussians, c%k, resp, c, total.weights[c]+10*epsilon, total.features[c*count:(c+1)*count])
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

// component sets the parameters of a component from its sums, or, where those
// have lost too many digits, from the rows themselves.
func (m *em) component(g *gaussians, j int, resp linalg.Matrix, column int, weight float64, sum []float64) error {
	g.weights[j] = weight / float64(m.x.Rows)
	if weight < 1e-6 { // no row is its own: it stays where it is
		return g.prepare(j)
	}
	d, mean, cov := g.d, g.meanOf(j), g.variances(j)
	doubtful := false
	for c := range d {
		mean[c] = sum[c] / weight
	}
	check := func(c int, second float64) float64 {
		v := second - mean[c]*mean[c]
		if v < 1e-3*second {
			doubtful = true
		}
		return v
	}
	if !g.full {
		for c := range d {
			cov[c] = check(c, sum[d+c]/weight)
		}
	} else {
		i := d
		for a := range d {
			cov[a*d+a] = check(a, sum[i]/weight)
			for b := a + 1; b < d; b++ {
				cov[b*d+a] = sum[i+b-a]/weight - mean[a]*mean[b]
			}
			i += d - a
		}
	}
	if !doubtful {
		g.finishCov(j)
		if g.prepare(j) == nil && !g.sharp[j] {
			return nil
		}
	}
	var rows []int
	for i := range resp.Rows {
		if resp.Row(i)[column] > 1e-12 {
			rows = append(rows, i)
		}
	}
	g.exact(j, m.x, rows, func(i int) float64 { return float64(resp.Row(i)[column]) })
	return g.prepare(j)
}
