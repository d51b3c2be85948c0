package cluster

import (
	"context"
	"errors"
	"fmt"

	"clusterflow/internal/linalg"
)

// fitSphericalKMeans is k-means on the rows. Centers are the k-means centres
// scaled to unit length; the tensor "kmeans_centers" keeps them as they are,
// since the labels are by Euclidean distance to those.
func fitSphericalKMeans(ctx context.Context, in Input) (*Model, error) {
	best, info, err := fitKMeans(ctx, "spherical_kmeans", kmeansOptions, in.X, in)
	if err != nil {
		return nil, err
	}
	unit := best.centers.Clone()
	for c := range unit.Rows {
		row := unit.Row(c)
		norm := Norm(row)
		if norm == 0 {
			continue // the centre of opposite rows: it has no direction
		}
		for j, v := range row {
			row[j] = float32(float64(v) / norm)
		}
	}
	return &Model{Labels: best.labels, Centers: unit, Tensors: map[string]linalg.Matrix{"kmeans_centers": best.centers}, Info: info}, nil
}

// fitPCAKMeans is k-means on the coordinates. Centers are the means of the
// rows of each cluster; the tensor "pca_centers" keeps the k-means centres.
func fitPCAKMeans(ctx context.Context, in Input) (*Model, error) {
	if in.Coords.Rows != in.X.Rows || in.Coords.Cols == 0 {
		return nil, fmt.Errorf("fitting pca_kmeans: PCA coordinates of %d × %d for %d rows", in.Coords.Rows, in.Coords.Cols, in.X.Rows)
	}
	best, info, err := fitKMeans(ctx, "pca_kmeans", pcaOptions(kmeansOptions...), in.Coords, in)
	if err != nil {
		return nil, err
	}
	return &Model{
		Labels:  best.labels,
		Centers: clusterMeans(in.X, best.labels, in.K, in.Threads),
		Tensors: map[string]linalg.Matrix{"pca_centers": best.centers},
		Info:    info,
	}, nil
}

// fitKMeans runs the starts that the options ask for on the given points and
// returns the one with the lowest inertia, the first of several.
func fitKMeans(ctx context.Context, method string, known []Option, points linalg.Matrix, in Input) (*partition, map[string]float64, error) {
	fail := func(err error) (*partition, map[string]float64, error) {
		return nil, nil, fmt.Errorf("fitting %s: %w", method, err)
	}
	options, err := Method{Name: method, Options: known}.Complete(in.Options)
	if err != nil {
		return nil, nil, err
	}
	starts, maxIter := int(options["n_init"].(int64)), int(options["max_iter"].(int64))
	tol := options["tol"].(float64)
	if points.Cols == 0 {
		return fail(errors.New("the rows have no columns"))
	}
	s, err := newKMeans(points, in.K, in.Threads)
	if err != nil {
		return fail(err)
	}
	first, err := s.starts(ctx, method, starts, in)
	if err != nil {
		return fail(err)
	}
	all, err := s.lloydAll(ctx, first, maxIter, tol, func(start, iteration, moved int) {
		if in.Progress != nil {
			in.Progress(iteration, maxIter, fmt.Sprintf("iteration %d, start %d of %d, %d rows moved", iteration, start+1, starts, moved))
		}
	})
	if err != nil {
		return fail(err)
	}
	best := all[0]
	for _, p := range all[1:] {
		if p.inertia < best.inertia {
			best = p
		}
	}
	counts := make([]int, in.K)
	for _, label := range best.labels {
		counts[label]++
	}
	info := map[string]float64{
		"iterations": float64(best.iterations),
		"inertia":    best.inertia,
		"converged":  0,
		"empty":      float64(len(emptyClusters(counts))),
		"starts":     float64(starts),
	}
	if best.converged {
		info["converged"] = 1
	}
	return best, info, nil
}

// clusterMeans returns the mean of the rows of each cluster, [k, d], summed in
// float64 in the order of the rows. An empty cluster's is zero.
func clusterMeans(x linalg.Matrix, labels []int32, k, threads int) linalg.Matrix {
	counts := make([]float64, k)
	for _, label := range labels {
		counts[label]++
	}
	means := linalg.NewMatrix(k, x.Cols)
	linalg.ForEach(threads, linalg.Blocks(x.Cols, colBlock), func(b int) {
		from, to := b*colBlock, min(x.Cols, (b+1)*colBlock)
		width := to - from
		sums := make([]float64, k*width)
		for i, label := range labels {
			into := sums[int(label)*width:][:width]
			for j, v := range x.Row(i)[from:to] {
				into[j] += float64(v)
			}
		}
		for c := range k {
			if counts[c] == 0 {
				continue
			}
			for j := range width {
				means.Row(c)[from+j] = float32(sums[c*width+j] / counts[c])
			}
		}
	})
	return means
}
