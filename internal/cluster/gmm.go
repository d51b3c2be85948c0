package cluster

import (
	"context"
	"fmt"
	"math"
	"strconv"

	"clusterflow/internal/linalg"
)

// fitGMM is a Gaussian mixture with diagonal covariances on the rows. Centers
// are the component means. The tensors are weights [1, K], means [K, d] and
// variances [K, d].
func fitGMM(ctx context.Context, in Input) (*Model, error) {
	g, info, err := fitMixture(ctx, "gmm", mixtureOptions, in.X, false, in)
	if err != nil {
		return nil, err
	}
	labels := finish(g, in.X, in.Threads, info)
	tensors := g.tensors()
	return &Model{Labels: labels, Centers: tensors["means"], Tensors: tensors, Info: info}, nil
}

// fitPCAGMM is a Gaussian mixture with full covariances on the coordinates.
// Centers are the means of the rows of each cluster. The tensors are weights
// [1, K], means [K, p] and covariances [K·p, p], one under the other.
func fitPCAGMM(ctx context.Context, in Input) (*Model, error) {
	if in.Coords.Rows != in.X.Rows || in.Coords.Cols == 0 {
		return nil, fmt.Errorf("fitting pca_gmm: PCA coordinates of %d × %d for %d rows", in.Coords.Rows, in.Coords.Cols, in.X.Rows)
	}
	g, info, err := fitMixture(ctx, "pca_gmm", pcaOptions(mixtureOptions...), in.Coords, true, in)
	if err != nil {
		return nil, err
	}
	labels := finish(g, in.Coords, in.Threads, info)
	return &Model{Labels: labels, Centers: clusterMeans(in.X, labels, in.K, in.Threads), Tensors: g.tensors(), Info: info}, nil
}

// finish labels the rows and notes how well the mixture fits them.
func finish(g *gaussians, x linalg.Matrix, threads int, info map[string]float64) []int32 {
	labels, likelihood := g.assign(x, threads)
	counts := make([]int, g.k)
	for _, l := range labels {
		counts[l]++
	}
	info["log_likelihood"], info["empty"] = likelihood, float64(len(emptyClusters(counts)))
	return labels
}

// fitMixture runs the starts, on a sample first where the rows are very many,
// and returns the mixture with its numbers as they are stored.
func fitMixture(ctx context.Context, method string, known []Option, x linalg.Matrix, full bool, in Input) (*gaussians, map[string]float64, error) {
	fail := func(err error) (*gaussians, map[string]float64, error) {
		return nil, nil, fmt.Errorf("fitting %s: %w", method, err)
	}
	o, err := Method{Name: method, Options: known}.Complete(in.Options)
	if err != nil {
		return nil, nil, err
	}
	if in.K < 1 || in.K > x.Rows {
		return fail(fmt.Errorf("%d clusters of %d rows: the number of clusters must be from 1 to the number of rows", in.K, x.Rows))
	}
	if _, err := squaredNorms(x, in.Threads); err != nil {
		return fail(err)
	}
	starts, pilot := int(o["n_init"].(int64)), int(o["init_rows"].(int64))
	em := emOptions{
		maxIter: int(o["max_iter"].(int64)), tol: o["tol"].(float64), reg: o["reg_covar"].(float64),
		race: o["race"].(bool), threads: in.Threads, progress: in.Progress,
	}
	sample := x
	if pilot = max(pilot, in.K); x.Rows > pilot {
		sample = draws(x, pilot, in)
	}
	first, err := firstGuesses(ctx, method, sample, full, starts, em.reg, in)
	if err != nil {
		return fail(err)
	}
	fits, err := runEM(ctx, sample, first, em)
	if err != nil {
		return fail(err)
	}
	best, outrun := fits[0], 0
	for _, f := range fits {
		if f.likelihood > best.likelihood {
			best = f
		}
		if f.outrun {
			outrun++
		}
	}
	info := map[string]float64{"starts": float64(starts), "starts_outrun": float64(outrun), "iterations": float64(best.iterations), "converged": flag(best.converged)}
	if sample.Rows < x.Rows {
		info["pilot_rows"], info["pilot_iterations"] = float64(sample.Rows), float64(best.iterations)
		fits, err := runEM(ctx, x, []*gaussians{best.gaussians}, em)
		if err != nil {
			return fail(err)
		}
		best = fits[0]
		info["iterations"], info["converged"] = float64(best.iterations), flag(best.converged)
	}
	stored, err := best.gaussians.rounded()
	if err != nil {
		return fail(err)
	}
	return stored, info, nil
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// draws is a sample of n rows without repetition, in their order.
func draws(x linalg.Matrix, n int, in Input) linalg.Matrix {
	taken := make([]bool, x.Rows)
	for _, i := range linalg.Rand(in.Seed, "mixture pilot", strconv.Itoa(n), strconv.Itoa(x.Rows)).Perm(x.Rows)[:n] {
		taken[i] = true
	}
	out := linalg.NewMatrix(n, x.Cols)
	at := 0
	for i, t := range taken {
		if t {
			copy(out.Row(at), x.Row(i))
			at++
		}
	}
	return out
}

// firstGuesses are the mixtures of the clusters of k-means, one for each start.
func firstGuesses(ctx context.Context, method string, x linalg.Matrix, full bool, starts int, reg float64, in Input) ([]*gaussians, error) {
	s, err := newKMeans(x, in.K, in.Threads)
	if err != nil {
		return nil, err
	}
	first, err := s.starts(ctx, method, starts, in)
	if err != nil {
		return nil, err
	}
	parts, err := s.lloydAll(ctx, first, 300, 1e-4, func(start, iteration, moved int) {
		if in.Progress != nil {
			in.Progress(0, 1, fmt.Sprintf("k-means for start %d of %d, iteration %d, %d rows moved", start+1, starts, iteration, moved))
		}
	})
	if err != nil {
		return nil, err
	}
	out, origin := make([]*gaussians, starts), columnMeans(x, in.Threads)
	for start, p := range parts {
		if out[start], err = hardMixture(x, p.labels, in.K, full, origin, reg, in.Threads); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// hardMixture has the weight, mean and covariance of each cluster.
func hardMixture(x linalg.Matrix, labels []int32, k int, full bool, origin []float64, reg float64, threads int) (*gaussians, error) {
	g := newGaussians(k, x.Cols, full, reg)
	g.origin = origin
	members := make([][]int, k)
	for i, l := range labels {
		members[l] = append(members[l], i)
	}
	ones := make([]float64, x.Rows)
	for i := range ones {
		ones[i] = 1
	}
	errs := make([]error, k)
	linalg.ForEach(threads, k, func(j int) {
		g.weights[j] = float64(len(members[j])) / float64(x.Rows)
		if len(members[j]) > 0 {
			g.exact(j, x, members[j], ones[:len(members[j])])
		}
		errs[j] = g.prepare(j)
	})
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return g, nil
}

// logOf is the logarithm of a weight, which may be 0.
func logOf(w float64) float64 { return math.Log(max(w, 1e-300)) }

// mixtureMemory is that of the fits, twice for what the collector has not
// collected yet, beside k-means for their starts.
func mixtureMemory(full bool) func(n, d, k int64, option func(string) int64) int64 {
	return func(n, d, k int64, option func(string) int64) int64 {
		if full {
			d = min(d, option(ComponentsOption))
		}
		fits := func(n, starts int64) int64 {
			count := int64(featureCount(int(d), full))
			features := 4 * count * n
			if features > featuresKept {
				features = 4 * count * emRows
			}
			cov := k * d
			if full {
				cov *= d
			}
			return features + starts*(3*4*n*k+24*cov)
		}
		starts, pilot := option("n_init"), min(n, max(k, option("init_rows")))
		bytes := max(fits(pilot, starts), kmeansMemory(pilot, d, k, option))
		if pilot < n {
			bytes = 4*d*pilot + max(bytes, fits(n, 1))
		}
		return 2 * bytes
	}
}
