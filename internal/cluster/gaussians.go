package cluster

import (
	"fmt"
	"math"

	"clusterflow/internal/linalg"
)

// gaussians are the components of a mixture in d dimensions. Log-densities are
// linear in the features of a row, [x, x²] for diagonal covariances and
// [x, x_a·x_b of a ≤ b] for full ones, so that those of many components are one
// product of matrices. Where the mean of a component is many of its standard
// deviations away from the origin such a product cancels too many digits of
// float32; what it says is then taken as a hint of which rows to compute in
// full.
type gaussians struct {
	k, d    int
	full    bool
	reg     float64   // added to variances
	origin  []float64 // [d]: near the rows; what is said of means is relative to it
	weights []float64
	mean64  []float64 // [k, d]
	cov     []float64 // [k, d], or [k, d, d]: regularised

	theta  linalg.Matrix // [k, features]
	offset []float64     // [k]: what a product leaves out of the logarithm of weight · density
	level  []float64     // [k]: that logarithm at the mean
	whiten []float64     // full: the inverse of the Cholesky factor, [k, d, d] lower; diagonal: 1/variance, [k, d]
	sharp  []bool        // [k]
	error  []float64     // [k] bound of the rounding of a product
}

// sharpAt is how large the terms of a squared distance may be together, in
// squared standard deviations, before their sum in float32 is no longer trusted:
// because the mean lies far from the origin, or because the component is much
// thinner in one direction than in the others.
const sharpAt = 4000

func newGaussians(k, d int, full bool, reg float64) *gaussians {
	size := d
	if full {
		size = d * d
	}
	g := &gaussians{k: k, d: d, full: full, reg: reg, weights: make([]float64, k), mean64: make([]float64, k*d), cov: make([]float64, k*size),
		origin: make([]float64, d), theta: linalg.NewMatrix(k, featureCount(d, full)), offset: make([]float64, k), level: make([]float64, k),
		whiten: make([]float64, k*size), sharp: make([]bool, k), error: make([]float64, k)}
	for j := range k { // of a component that no row belongs to
		for c := range d {
			g.variances(j)[c*g.step()] = 1 + reg
		}
	}
	return g
}

func featureCount(d int, full bool) int {
	if full {
		return d + d*(d+1)/2
	}
	return 2 * d
}

// step is the distance of variances within cov.
func (g *gaussians) step() int {
	if g.full {
		return g.d + 1
	}
	return 1
}

func (g *gaussians) meanOf(j int) []float64 { return g.mean64[j*g.d : (j+1)*g.d] }

// variances is the part of cov that belongs to component j.
func (g *gaussians) variances(j int) []float64 {
	size := len(g.cov) / g.k
	return g.cov[j*size : (j+1)*size]
}

func (g *gaussians) white(j int) []float64 {
	size := len(g.whiten) / g.k
	return g.whiten[j*size : (j+1)*size]
}

// features writes the features of a row.
func (g *gaussians) features(dst, row []float32) {
	d := g.d
	x, dst := dst[:d], dst[d:]
	for c, v := range row {
		x[c] = float32(float64(v) - g.origin[c])
	}
	if !g.full {
		for c, v := range x {
			dst[c] = v * v
		}
		return
	}
	for a, v := range x {
		part := x[a:]
		to := dst[:len(part)]
		for b, w := range part {
			to[b] = v * w
		}
		dst = dst[len(part):]
	}
}

// exact sets mean and covariance of component j from the weighted rows, in
// float64 and in two passes.
func (g *gaussians) exact(j int, x linalg.Matrix, rows []int, weights []float64) {
	mean, cov := g.meanOf(j), g.variances(j)
	clear(mean)
	clear(cov)
	total := 0.0
	for n, i := range rows {
		w := weights[n]
		total += w
		for c, v := range x.Row(i) {
			mean[c] += w * (float64(v) - g.origin[c])
		}
	}
	for c := range mean {
		mean[c] /= total
	}
	diff := make([]float64, g.d)
	for n, i := range rows {
		w := weights[n] / total
		for c, v := range x.Row(i) {
			diff[c] = float64(v) - g.origin[c] - mean[c]
		}
		if !g.full {
			for c, v := range diff {
				cov[c] += w * v * v
			}
			continue
		}
		for a, v := range diff {
			by, row := w*v, cov[a*g.d:a*g.d+a+1]
			for b := range row {
				row[b] += by * diff[b]
			}
		}
	}
	g.finishCov(j)
}

// finishCov adds what every covariance gets and fills its upper half.
func (g *gaussians) finishCov(j int) {
	cov := g.variances(j)
	for c := range g.d {
		cov[c*g.step()] += g.reg
	}
	if g.full {
		for a := range g.d {
			for b := range a {
				cov[b*g.d+a] = cov[a*g.d+b]
			}
		}
	}
}

// prepare brings what densities need in line with weight, mean and covariance.
func (g *gaussians) prepare(j int) error {
	d, mean, white := g.d, g.meanOf(j), g.white(j)
	theta := g.theta.Row(j)
	logDet, far, terms := 0.0, 0.0, 0.0
	if !g.full {
		for c, v := range g.variances(j) {
			if !(v > 0) {
				return g.collapsed(j)
			}
			white[c] = 1 / v
			logDet += math.Log(v)
			far += mean[c] * mean[c] / v
			terms += mean[c]*mean[c]/v + 1
			theta[c], theta[d+c] = float32(mean[c]/v), float32(-0.5/v)
		}
	} else {
		if !invertCholesky(white, g.variances(j), d) {
			return g.collapsed(j)
		}
		y := make([]float64, d)
		for a := range d {
			logDet -= 2 * math.Log(white[a*d+a])
			for b := range a + 1 {
				y[a] += white[a*d+b] * mean[b]
			}
			far += y[a] * y[a]
		}
		precision := make([]float64, d*d) // upper half of whiteᵀ·white
		for r := range d {
			row := white[r*d : r*d+r+1]
			for a, v := range row {
				to := precision[a*d : a*d+r+1]
				for b := a; b <= r; b++ {
					to[b] += v * row[b]
				}
			}
		}
		at := d
		for a := range d {
			terms += precision[a*d+a] * (mean[a]*mean[a] + g.variances(j)[a*d+a])
			for b := a; b < d; b++ {
				by := -1.0
				if a == b {
					by = -0.5
				}
				theta[at] = float32(by * precision[a*d+b])
				at++
			}
			sum := 0.0
			for r := a; r < d; r++ {
				sum += white[r*d+a] * y[r]
			}
			theta[a] = float32(sum)
		}
	}
	g.level[j] = logOf(g.weights[j]) - 0.5*(float64(d)*math.Log(2*math.Pi)+logDet)
	g.offset[j] = g.level[j] - 0.5*far
	g.sharp[j] = terms > sharpAt+float64(d)
	g.error[j] = 1 + 2e-6*terms
	return nil
}

// reweigh changes the weight of a component alone.
func (g *gaussians) reweigh(j int, weight float64) {
	by := logOf(weight) - logOf(g.weights[j])
	g.weights[j] = weight
	g.level[j] += by
	g.offset[j] += by
}

func (g *gaussians) collapsed(j int) error {
	return fmt.Errorf("the covariance of component %d of %d has collapsed: its rows lie in fewer than %d dimensions; raise reg_covar or ask for fewer clusters", j, g.k, g.d)
}

// invertCholesky sets out to the inverse of the lower Cholesky factor of the
// symmetric a, both [d, d]; false if a is not positive definite.
func invertCholesky(out, a []float64, d int) bool {
	l := make([]float64, d*d)
	for i := range d {
		li := l[i*d : i*d+i+1]
		for j := range i + 1 {
			lj := l[j*d : j*d+j+1]
			sum := a[i*d+j]
			for c := range j {
				sum -= li[c] * lj[c]
			}
			if i > j {
				li[j] = sum / lj[j]
				continue
			}
			if !(sum > 0) || math.IsInf(sum, 0) {
				return false
			}
			li[i] = math.Sqrt(sum)
		}
	}
	clear(out)
	for i := range d { // row i of the inverse from the rows above
		to := out[i*d : i*d+i+1]
		for c := range i {
			v := l[i*d+c]
			for b, w := range out[c*d : c*d+c+1] {
				to[b] -= v * w
			}
		}
		by := 1 / l[i*d+i]
		for b := range i {
			to[b] *= by
		}
		to[i] = by
	}
	return true
}

// logDensity is the logarithm of weight times density of component j, computed
// from the difference to its mean. buf has room for d.
func (g *gaussians) logDensity(j int, x []float32, buf []float64) float64 {
	mean, white := g.meanOf(j), g.white(j)
	for c, v := range x {
		buf[c] = float64(v) - g.origin[c] - mean[c]
	}
	sum := 0.0
	if !g.full {
		for c, v := range buf[:g.d] {
			sum += v * v * white[c]
		}
	} else {
		for a := range g.d {
			y := 0.0
			for b, w := range white[a*g.d : a*g.d+a+1] {
				y += w * buf[b]
			}
			sum += y * y
		}
	}
	return g.level[j] - 0.5*sum
}

// farBelow is how much less likely than the likeliest component one must be, as
// a logarithm, to have no part in a row.
const farBelow = 40

// posterior turns the products of a row, features·theta, into logarithms of
// weight · density in lp, and returns the likeliest component, the first of
// equal ones, and the logarithm of the sum of all.
func (g *gaussians) posterior(lp []float64, row, product []float32, buf []float64, redone []bool) (best int, total float64) {
	for j, v := range product {
		lp[j], redone[j] = float64(v)+g.offset[j], false
	}
	for again := true; again; {
		again, best = false, 0
		for j, v := range lp {
			if v > lp[best] {
				best = j
			}
		}
		for j, sharp := range g.sharp {
			if sharp && !redone[j] && lp[j]+g.error[j] > lp[best]-farBelow {
				lp[j], redone[j], again = g.logDensity(j, row, buf), true, true
			}
		}
	}
	sum := 0.0
	for _, v := range lp {
		if v -= lp[best]; v > -farBelow {
			sum += math.Exp(v)
		}
	}
	return best, lp[best] + math.Log(sum)
}

// assign returns each row's likeliest component and the mean log-likelihood.
func (g *gaussians) assign(x linalg.Matrix, threads int) (labels []int32, likelihood float64) {
	labels = make([]int32, x.Rows)
	blocks := linalg.Blocks(x.Rows, rowBlock)
	sums := make([]float64, blocks)
	linalg.ForEach(threads, blocks, func(b int) {
		from, to := b*rowBlock, min(x.Rows, (b+1)*rowBlock)
		f, y := linalg.NewMatrix(to-from, g.theta.Cols), linalg.NewMatrix(to-from, g.k)
		for i := range f.Rows {
			g.features(f.Row(i), x.Row(from+i))
		}
		linalg.Gemm(1, false, true, 1, f, g.theta, 0, y)
		lp, buf, redone := make([]float64, g.k), make([]float64, g.d), make([]bool, g.k)
		for i := range y.Rows {
			best, total := g.posterior(lp, x.Row(from+i), y.Row(i), buf, redone)
			labels[from+i] = int32(best)
			sums[b] += total
		}
	})
	for _, s := range sums {
		likelihood += s
	}
	return labels, likelihood / float64(x.Rows)
}

// tensors are the mixture as it is stored: weights [1, k], means [k, d],
// variances [k, d] or covariances [k·d, d].
func (g *gaussians) tensors() map[string]linalg.Matrix {
	weights, means := linalg.NewMatrix(1, g.k), linalg.NewMatrix(g.k, g.d)
	for j := range g.k {
		weights.Data[j] = float32(g.weights[j])
		for c, v := range g.meanOf(j) {
			means.Row(j)[c] = float32(v + g.origin[c])
		}
	}
	name, rows := "variances", g.k
	if g.full {
		name, rows = "covariances", g.k*g.d
	}
	cov := linalg.NewMatrix(rows, g.d)
	for i, v := range g.cov {
		cov.Data[i] = float32(v)
	}
	return map[string]linalg.Matrix{"weights": weights, "means": means, name: cov}
}

// loadGaussians makes a mixture of its tensors.
func loadGaussians(tensors map[string]linalg.Matrix, full bool) (*gaussians, error) {
	name := "variances"
	if full {
		name = "covariances"
	}
	weights, means, cov := tensors["weights"], tensors["means"], tensors[name]
	k, d := means.Rows, means.Cols
	rows := k
	if full {
		rows = k * d
	}
	if k == 0 || weights.Rows != 1 || weights.Cols != k || cov.Rows != rows || cov.Cols != d {
		return nil, fmt.Errorf("a mixture of weights %d × %d, means %d × %d and %s %d × %d", weights.Rows, weights.Cols, k, d, name, cov.Rows, cov.Cols)
	}
	g := newGaussians(k, d, full, 0)
	for j, w := range weights.Row(0) {
		g.weights[j] = float64(w)
		for c, v := range means.Row(j) {
			g.origin[c] += float64(w) * float64(v)
		}
	}
	for j := range k {
		for c, v := range means.Row(j) {
			g.meanOf(j)[c] = float64(v) - g.origin[c]
		}
	}
	for i := range cov.Rows {
		for c, v := range cov.Row(i) {
			g.cov[i*d+c] = float64(v)
		}
	}
	for j := range k {
		if err := g.prepare(j); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// rounded is the mixture as it will be when it is loaded again, so that labels
// are the same then.
func (g *gaussians) rounded() (*gaussians, error) { return loadGaussians(g.tensors(), g.full) }
