package cluster

import (
	"fmt"
	"math"

	"clusterflow/internal/linalg"
)

// Distances returns the Euclidean distance of each row of x [N, d] to its own
// centre, centers [k, d] row labels[i], computed in float64 from differences.
func Distances(x, centers linalg.Matrix, labels []int32, threads int) []float64 {
	if len(labels) != x.Rows || x.Cols != centers.Cols {
		panic(linalg.ShapeError{Func: "Distances", Detail: fmt.Sprintf("%d rows of %d columns, %d labels, centres of %d columns", x.Rows, x.Cols, len(labels), centers.Cols)})
	}
	out := make([]float64, x.Rows)
	linalg.ForEach(threads, linalg.Blocks(x.Rows, rowBlock), func(b int) {
		for i := b * rowBlock; i < min(x.Rows, (b+1)*rowBlock); i++ {
			out[i] = math.Sqrt(squaredDistance(x.Row(i), centers.Row(int(labels[i]))))
		}
	})
	return out
}

// CentroidOrthogonality returns the mean over all pairs of centres [k, d] of
// 1 − |cos|, between 0 (all on one line) and 1 (all at right angles). Zero
// centres, as of empty clusters, have no angle and are left out; with fewer
// than two others it is 0.
func CentroidOrthogonality(centers linalg.Matrix) float64 {
	var rows []int
	norms := make([]float64, centers.Rows)
	for i := range centers.Rows {
		norms[i] = Norm(centers.Row(i))
		if norms[i] > 0 {
			rows = append(rows, i)
		}
	}
	sum, pairs := 0.0, 0
	for p, i := range rows {
		for _, j := range rows[p+1:] {
			cos := dot(centers.Row(i), centers.Row(j)) / norms[i] / norms[j]
			sum += max(0, 1-math.Abs(cos)) // rounding can take |cos| past 1
			pairs++
		}
	}
	if pairs == 0 {
		return 0
	}
	return sum / float64(pairs)
}

// Cosines returns the cosines between all pairs of centres [k, d], a [k, k]
// matrix rounded to 1e-6; 0 where a centre has no length.
func Cosines(centers linalg.Matrix) [][]float64 {
	norms := make([]float64, centers.Rows)
	for i := range norms {
		norms[i] = Norm(centers.Row(i))
	}
	out := make([][]float64, centers.Rows)
	for i := range out {
		out[i] = make([]float64, centers.Rows)
		for j := range out[i] {
			if n := norms[i] * norms[j]; n > 0 {
				out[i][j] = math.Round(1e6*dot(centers.Row(i), centers.Row(j))/n) / 1e6
			}
		}
	}
	return out
}

// Norm returns the Euclidean length of a row, summed in float64.
func Norm(row []float32) float64 { return math.Sqrt(dot(row, row)) }

// dot returns the inner product of a and b, summed in float64.
func dot(a, b []float32) float64 {
	b = b[:len(a)]
	var s0, s1, s2, s3 float64
	i := 0
	for ; i+4 <= len(a); i += 4 {
		s0 += float64(a[i]) * float64(b[i])
		s1 += float64(a[i+1]) * float64(b[i+1])
		s2 += float64(a[i+2]) * float64(b[i+2])
		s3 += float64(a[i+3]) * float64(b[i+3])
	}
	for ; i < len(a); i++ {
		s0 += float64(a[i]) * float64(b[i])
	}
	return s0 + s1 + (s2 + s3)
}

// squaredDistance returns ‖a − b‖², summed in float64.
func squaredDistance(a, b []float32) float64 {
	b = b[:len(a)]
	var s0, s1, s2, s3 float64
	i := 0
	for ; i+4 <= len(a); i += 4 {
		d0 := float64(a[i]) - float64(b[i])
		d1 := float64(a[i+1]) - float64(b[i+1])
		d2 := float64(a[i+2]) - float64(b[i+2])
		d3 := float64(a[i+3]) - float64(b[i+3])
		s0 += d0 * d0
		s1 += d1 * d1
		s2 += d2 * d2
		s3 += d3 * d3
	}
	for ; i < len(a); i++ {
		d := float64(a[i]) - float64(b[i])
		s0 += d * d
	}
	return s0 + s1 + (s2 + s3)
}

// squaredNorms returns ‖x‖² of every row. The error is a *RowError for the first
// that is not finite.
func squaredNorms(x linalg.Matrix, threads int) ([]float64, error) {
	norms := make([]float64, x.Rows)
	linalg.ForEach(threads, linalg.Blocks(x.Rows, rowBlock), func(b int) {
		for i := b * rowBlock; i < min(x.Rows, (b+1)*rowBlock); i++ {
			norms[i] = dot(x.Row(i), x.Row(i))
		}
	})
	for i, v := range norms {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, &RowError{i, "has a value that is not finite"}
		}
	}
	return norms, nil
}

// scaleTo sets dst to by·src.
func scaleTo(dst, src []float32, by float64) {
	for i, v := range src {
		dst[i] = float32(float64(v) * by)
	}
}

// rowMatrix is a vector as a matrix of one row.
func rowMatrix(v []float32) linalg.Matrix {
	return linalg.Matrix{Rows: 1, Cols: len(v), Stride: len(v), Data: v}
}
