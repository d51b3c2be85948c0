package cluster

import (
	"context"
	"fmt"
	"math"

	"gonum.org/v1/gonum/blas/blas64"

	"clusterflow/internal/linalg"
)

// Projection is a change to principal components.
type Projection struct {
	Mean       []float32     // [d] mean of the rows
	Components linalg.Matrix // [p, d] orthonormal rows, by falling variance; the largest element of each is positive
	Variance   []float64     // [p] variance of the rows along each, divisor N−1
	Total      float64       // variance in all directions, divisor N−1
}

// gramRows is how many centred rows are multiplied in float32 before they are
// added to sums in float64; gramTile is the side of the tiles of those sums.
const (
	gramRows = 2048
	gramTile = 512
)

// PCA finds the first principal components of x [N, d]: min(components, N, d)
// of them, centred and not whitened. They are those of the full
// decomposition, not a sketch: eigenvectors of the d × d scatter matrix, or
// of the N × N matrix of inner products where that is smaller, which is
// accumulated in float64 and whose leading pairs are found to a residual that
// is checked (see leadingPairs). progress may be nil.
func PCA(ctx context.Context, x linalg.Matrix, components, threads int, progress func(done, total int, note string)) (*Projection, error) {
	if x.Rows < 2 {
		return nil, fmt.Errorf("finding principal components: %d rows are too few, two are needed", x.Rows)
	}
	p := min(components, x.Rows, x.Cols)
	if p < 1 {
		return nil, fmt.Errorf("finding principal components: %d components of %d × %d rows were asked for", components, x.Rows, x.Cols)
	}
	if progress == nil {
		progress = func(int, int, string) {}
	}
	mean := columnMeans(x, threads)
	for j, m := range mean {
		if math.IsNaN(m) || math.IsInf(m, 0) {
			return nil, fmt.Errorf("finding principal components: column %d holds a value that is not finite", j)
		}
	}
	inner := x.Rows < x.Cols
	var gram blas64.General
	var err error
	if inner {
		gram = innerProducts(x, mean, threads)
	} else if gram, err = scatter(ctx, x, mean, threads, progress); err != nil {
		return nil, err
	}
	progress(1, 2, "eigenvectors")
	values, vectors, err := leadingPairs(ctx, gram, p, threads)
	if err != nil {
		return nil, fmt.Errorf("finding principal components: %w", err)
	}
	total := 0.0
	for i := range gram.Rows {
		total += gram.Data[i*gram.Stride+i]
	}
	if inner {
		vectors = liftComponents(x, mean, values, vectors, threads)
	}
	out := &Projection{Mean: make([]float32, x.Cols), Components: linalg.NewMatrix(p, x.Cols), Variance: make([]float64, p), Total: total / float64(x.Rows-1)}
	for j, m := range mean {
		out.Mean[j] = float32(m)
	}
	for i := range p {
		out.Variance[i] = max(0, values[i]) / float64(x.Rows-1)
		row := vectors.Data[i*vectors.Stride : i*vectors.Stride+x.Cols]
		sign, largest := 1.0, 0.0
		for _, v := range row {
			if math.Abs(v) > largest {
				largest = math.Abs(v)
				sign = math.Copysign(1, v)
			}
		}
		for j, v := range row {
			out.Components.Row(i)[j] = float32(sign * v)
		}
	}
	progress(2, 2, "")
	return out, nil
}

// Transform returns the coordinates [n, p] of the rows x [n, d].
func (p *Projection) Transform(x linalg.Matrix, threads int) linalg.Matrix {
	mean := make([]float64, len(p.Mean))
	for j, m := range p.Mean {
		mean[j] = float64(m)
	}
	out := linalg.NewMatrix(x.Rows, p.Components.Rows)
	linalg.ForEach(threads, linalg.Blocks(x.Rows, rowBlock), func(b int) {
		from, to := b*rowBlock, min(x.Rows, (b+1)*rowBlock)
		centred := linalg.NewMatrix(to-from, x.Cols)
		subtract(centred, x.Slice(from, to), mean)
		linalg.Gemm(1, false, true, 1, centred, p.Components, 0, out.Slice(from, to))
	})
	return out
}

// scatter returns (X−mean)ᵀ(X−mean), [d, d]. Only tiles on and above the
// diagonal are computed; the others are their mirror image.
func scatter(ctx context.Context, x linalg.Matrix, mean []float64, threads int, progress func(done, total int, note string)) (blas64.General, error) {
	d := x.Cols
	sums := newGeneral(d, d)
	var tiles [][2]int
	for i := 0; i < d; i += gramTile {
		for j := i; j < d; j += gramTile {
			tiles = append(tiles, [2]int{i, j})
		}
	}
	centred := linalg.NewMatrix(min(gramRows, x.Rows), d)
	for from := 0; from < x.Rows; from += gramRows {
		if err := ctx.Err(); err != nil {
			return sums, err
		}
		rows := min(gramRows, x.Rows-from)
		linalg.ForEach(threads, linalg.Blocks(rows, rowBlock), func(b int) {
			lo, hi := b*rowBlock, min(rows, (b+1)*rowBlock)
			subtract(centred.Slice(lo, hi), x.Slice(from+lo, from+hi), mean)
		})
		part := centred.Slice(0, rows)
		linalg.ForEach(threads, len(tiles), func(t int) {
			i, j := tiles[t][0], tiles[t][1]
			a, b := columns(part, i, min(d, i+gramTile)), columns(part, j, min(d, j+gramTile))
			product := linalg.NewMatrix(a.Cols, b.Cols)
			linalg.Gemm(1, true, false, 1, a, b, 0, product)
			for r := range product.Rows {
				to := sums.Data[(i+r)*d+j:]
				for c, v := range product.Row(r) {
					to[c] += float64(v)
				}
			}
		})
		progress(0, 2, fmt.Sprintf("scatter matrix, row %d of %d", from+rows, x.Rows))
	}
	mirror(sums)
	return sums, nil
}

// innerProducts returns (X−mean)(X−mean)ᵀ, [N, N], for N < d.
func innerProducts(x linalg.Matrix, mean []float64, threads int) blas64.General {
	centred := newGeneral(x.Rows, x.Cols)
	for i := range x.Rows {
		row := centred.Data[i*x.Cols : (i+1)*x.Cols]
		for j, v := range x.Row(i) {
			row[j] = float64(v) - mean[j]
		}
	}
	gram := newGeneral(x.Rows, x.Rows)
	linalg.Gemm64(threads, false, true, 1, centred, centred, 0, gram)
	mirror(gram)
	return gram
}

// liftComponents turns eigenvectors u of the inner products, [p, N], into
// those of the scatter matrix, [p, d]: uᵀ(X−mean), scaled to unit length.
// Directions without variance have no image; orthonormal ones are filled in.
func liftComponents(x linalg.Matrix, mean, values []float64, u blas64.General, threads int) blas64.General {
	centred := newGeneral(x.Rows, x.Cols)
	for i := range x.Rows {
		for j, v := range x.Row(i) {
			centred.Data[i*x.Cols+j] = float64(v) - mean[j]
		}
	}
	w := newGeneral(u.Rows, x.Cols)
	linalg.Gemm64(threads, false, false, 1, u, centred, 0, w)
	for i := range w.Rows {
		if values[i] <= 1e-12*values[0] {
			clear(w.Data[i*w.Stride : i*w.Stride+w.Cols])
		}
	}
	orthonormalize(w, linalg.Rand(0, "pca fill"))
	return w
}

// columns returns the columns [from, to) of m, shared with it.
func columns(m linalg.Matrix, from, to int) linalg.Matrix {
	return linalg.Matrix{Rows: m.Rows, Cols: to - from, Stride: m.Stride, Data: m.Data[from:]}
}

func newGeneral(rows, cols int) blas64.General {
	return blas64.General{Rows: rows, Cols: cols, Stride: cols, Data: make([]float64, rows*cols)}
}

// mirror copies the upper triangle of a to the lower one.
func mirror(a blas64.General) {
	for i := range a.Rows {
		for j := range i {
			a.Data[i*a.Stride+j] = a.Data[j*a.Stride+i]
		}
	}
}
