package cluster

import (
	"math"
	"slices"

	"clusterflow/internal/linalg"
)

// SilhouetteRows is the number of rows among which silhouettes are taken.
const SilhouetteRows = 3000

// Quality measures a partition of rows by the rows alone, with Euclidean
// distances. A measure that the partition does not have (of one cluster, or of
// single rows) is NaN.
type Quality struct {
	// Silhouette is the mean over a sample of at most SilhouetteRows rows of
	// (b − a)/max(a, b), where a is the mean distance to the sampled rows of the
	// own cluster and b the smallest to those of another; −1 to 1, higher is
	// better (Rousseeuw, J. Comput. Appl. Math. 20, 1987).
	Silhouette float64
	// CalinskiHarabasz is the variance between clusters by that within, each by
	// its degrees of freedom; higher is better (Commun. Stat. 3, 1974).
	CalinskiHarabasz float64
	// DaviesBouldin is the mean over clusters of the largest ratio of two
	// clusters' summed mean distances to their means to the distance between
	// these; lower is better (IEEE PAMI 1, 1979).
	DaviesBouldin float64
}

// Measure computes the quality of labels [N], 0 to k−1, on rows x [N, d]. The
// seed chooses the silhouette's sample, which is the same for every partition
// of N rows.
func Measure(x linalg.Matrix, labels []int32, k int, seed int64, threads int) Quality {
	q := Quality{Silhouette: silhouette(x, labels, k, seed, threads), CalinskiHarabasz: math.NaN(), DaviesBouldin: math.NaN()}
	means := clusterMeans(x, labels, k, threads)
	distances := Distances(x, means, labels, threads)
	counts, spread := make([]float64, k), make([]float64, k)
	within := 0.0
	for i, l := range labels {
		counts[l]++
		spread[l] += distances[i]
		within += distances[i] * distances[i]
	}
	var used []int
	for c, n := range counts {
		if n > 0 {
			used = append(used, c)
			spread[c] /= n
		}
	}
	if len(used) < 2 || len(used) >= x.Rows {
		return q
	}
	middle := linalg.NewMatrix(1, x.Cols)
	for j, m := range columnMeans(x, threads) {
		middle.Data[j] = float32(m)
	}
	between := 0.0
	for _, c := range used {
		between += counts[c] * squaredDistance(means.Row(c), middle.Row(0))
	}
	if within > 0 {
		q.CalinskiHarabasz = between / float64(len(used)-1) / (within / float64(x.Rows-len(used)))
	}
	total := 0.0
	for _, a := range used {
		worst := 0.0
		for _, b := range used {
			if apart := math.Sqrt(squaredDistance(means.Row(a), means.Row(b))); a != b {
				worst = max(worst, (spread[a]+spread[b])/apart)
			}
		}
		total += worst
	}
	if !math.IsNaN(total) && !math.IsInf(total, 0) { // two clusters with one mean
		q.DaviesBouldin = total / float64(len(used))
	}
	return q
}

func silhouette(x linalg.Matrix, labels []int32, k int, seed int64, threads int) float64 {
	rows := make([]int, x.Rows)
	for i := range rows {
		rows[i] = i
	}
	if x.Rows > SilhouetteRows {
		rng := linalg.Rand(seed, "silhouette")
		for i := range SilhouetteRows {
			j := i + rng.IntN(x.Rows-i)
			rows[i], rows[j] = rows[j], rows[i]
		}
		rows = rows[:SilhouetteRows]
		slices.Sort(rows)
	}
	n := len(rows)
	sample, own, counts := linalg.NewMatrix(n, x.Cols), make([]int, n), make([]int, k)
	for i, row := range rows {
		copy(sample.Row(i), x.Row(row))
		own[i] = int(labels[row])
		counts[own[i]]++
	}
	used := k - len(emptyClusters(counts))
	if used < 2 || used >= n {
		return math.NaN()
	}
	points, err := newKMeans(sample, 1, threads) // near the origin, with norms
	if err != nil {
		return math.NaN()
	}
	values := make([]float64, n)
	points.eachBlock(func(_, from, to int) {
		products := linalg.NewMatrix(to-from, n)
		linalg.Gemm(1, false, true, 1, points.x.Slice(from, to), points.x, 0, products)
		sums := make([]float64, k)
		for i := from; i < to; i++ {
			clear(sums)
			for j, p := range products.Row(i - from) {
				if i == j {
					continue
				}
				scale := points.norms[i] + points.norms[j]
				d := scale - 2*float64(p)
				if d < nearFraction*scale {
					d = squaredDistance(points.x.Row(i), points.x.Row(j))
				}
				sums[own[j]] += math.Sqrt(d)
			}
			values[i] = silhouetteOf(sums, counts, own[i])
		}
	})
	total := 0.0
	for _, v := range values {
		total += v
	}
	return total / float64(n)
}

// silhouetteOf is a row's silhouette, from the summed distances to each
// cluster; 0 for the only row of a cluster.
func silhouetteOf(sums []float64, counts []int, own int) float64 {
	if counts[own] < 2 {
		return 0
	}
	a, b := sums[own]/float64(counts[own]-1), math.Inf(1)
	for c, n := range counts {
		if c != own && n > 0 {
			b = min(b, sums[c]/float64(n))
		}
	}
	if most := max(a, b); most > 0 {
		return (b - a) / most
	}
	return 0
}
