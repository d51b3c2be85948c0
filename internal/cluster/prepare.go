package cluster

import (
	"fmt"
	"math"

	"clusterflow/internal/linalg"
)

// rowBlock is the number of rows that are worked on as one piece. It is part
// of the bits of sums over rows.
const rowBlock = 256

// colBlock is the number of columns that are worked on as one piece.
const colBlock = 128

// RowError says which row cannot be clustered, and why.
type RowError struct {
	Row    int
	Reason string
}

func (e *RowError) Error() string { return fmt.Sprintf("row %d %s", e.Row, e.Reason) }

// Prepare returns the rows that the methods see: raw [N, d], less mean [d]
// if center is set, scaled to unit L2 norm if normalize is set. Differences
// and norms are taken in float64. The error is a *RowError for the first row
// that is not finite or has nothing but zeros left, which has no direction;
// mean may be nil if center is not set.
func Prepare(raw linalg.Matrix, mean []float32, center, normalize bool, threads int) (linalg.Matrix, error) {
	out := linalg.NewMatrix(raw.Rows, raw.Cols)
	if _, err := prepareInto(out, raw, mean, center, normalize, threads); err != nil {
		return linalg.Matrix{}, err
	}
	return out, nil
}

// PrepareInPlace is Prepare, but overwrites raw, which is left half done by an
// error. It returns the L2 norm that each row had before it was scaled, [N].
func PrepareInPlace(raw linalg.Matrix, mean []float32, center, normalize bool, threads int) ([]float64, error) {
	return prepareInto(raw, raw, mean, center, normalize, threads)
}

// prepareInto writes to out what Prepare returns; out may be raw itself.
func prepareInto(out, raw linalg.Matrix, mean []float32, center, normalize bool, threads int) ([]float64, error) {
	if center && len(mean) != raw.Cols {
		return nil, fmt.Errorf("centring rows of %d columns: the mean vector has %d elements", raw.Cols, len(mean))
	}
	norms := make([]float64, raw.Rows)
	blocks := linalg.Blocks(raw.Rows, rowBlock)
	bad := make([]*RowError, blocks)
	linalg.ForEach(threads, blocks, func(b int) {
		shifted := make([]float64, raw.Cols)
		for i := b * rowBlock; i < min(raw.Rows, (b+1)*rowBlock); i++ {
			sum := 0.0
			for j, v := range raw.Row(i) {
				s := float64(v)
				if center {
					s -= float64(mean[j])
				}
				shifted[j] = s
				sum += s * s
			}
			reason := ""
			switch {
			case math.IsNaN(sum) || math.IsInf(sum, 0):
				reason = "has a value that is not finite"
			case sum == 0 && center:
				reason = "equals the mean vector, so centring leaves no direction"
			case sum == 0:
				reason = "is zero, so it has no direction"
			}
			if reason != "" {
				bad[b] = &RowError{i, reason}
				return
			}
			norms[i] = math.Sqrt(sum)
			scale := 1.0
			if normalize {
				scale = 1 / norms[i]
			}
			for j, s := range shifted {
				out.Row(i)[j] = float32(s * scale)
			}
		}
	})
	for _, err := range bad {
		if err != nil {
			return nil, err
		}
	}
	return norms, nil
}

// columnMeans returns the mean of each column of x, summed in float64 in the
// order of the rows.
func columnMeans(x linalg.Matrix, threads int) []float64 {
	means := make([]float64, x.Cols)
	linalg.ForEach(threads, linalg.Blocks(x.Cols, colBlock), func(b int) {
		from, to := b*colBlock, min(x.Cols, (b+1)*colBlock)
		sums := means[from:to]
		for i := range x.Rows {
			for j, v := range x.Row(i)[from:to] {
				sums[j] += float64(v)
			}
		}
		for j := range sums {
			sums[j] /= float64(x.Rows)
		}
	})
	return means
}

// subtract writes the rows of src less mean to dst.
func subtract(dst, src linalg.Matrix, mean []float64) {
	for i := range src.Rows {
		to := dst.Row(i)
		for j, v := range src.Row(i) {
			to[j] = float32(float64(v) - mean[j])
		}
	}
}
