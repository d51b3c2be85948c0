package cluster

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/mat"

	"clusterflow/internal/linalg"
)

// leadingPairs returns the p largest eigenvalues of the symmetric positive
// semi-definite matrix a, falling, and their eigenvectors as the rows of
// [p, n].
//
// A full decomposition in Go takes minutes at the hidden sizes of language
// models, so above 256 rows the leading pairs are found by subspace iteration
// with Chebyshev filters (Zhou, Saad, Tiago and Chelikowsky, "Self-consistent-
// field calculations using Chebyshev-filtered subspace iteration", J. Comput.
// Phys. 219, 2006), in float64, until ‖a·v − λ·v‖ ≤ 1e-6·λ for every pair.
// An error in a vector enters the variance that the vectors capture with its
// square. Should that fail, the full decomposition is taken.
func leadingPairs(ctx context.Context, a blas64.General, p, threads int) ([]float64, blas64.General, error) {
	n := a.Rows
	width := p + p/4 + 16
	if n > 256 && 2*width < n {
		values, vectors, ok, err := filteredSubspace(ctx, a, p, width, threads)
		if err != nil || ok {
			return values, vectors, err
		}
	}
	return fullPairs(a, p)
}

// fullPairs takes the pairs from the full decomposition.
func fullPairs(a blas64.General, p int) ([]float64, blas64.General, error) {
	n := a.Rows
	var eig mat.EigenSym
	if !eig.Factorize(mat.NewSymDense(n, append([]float64(nil), a.Data...)), true) {
		return nil, blas64.General{}, errors.New("the eigenvalues of the scatter matrix did not converge")
	}
	var v mat.Dense
	eig.VectorsTo(&v)
	all := eig.Values(nil) // rising
	values, vectors := make([]float64, p), newGeneral(p, n)
	for i := range p {
		values[i] = all[n-1-i]
		mat.Col(vectors.Data[i*n:(i+1)*n], n-1-i, &v)
	}
	return values, vectors, nil
}

// filteredSubspace iterates on a subspace of the given width. ok is false if
// it does not converge.
func filteredSubspace(ctx context.Context, a blas64.General, p, width, threads int) (values []float64, vectors blas64.General, ok bool, err error) {
	const cycles = 80
	n := a.Rows
	rng := linalg.Rand(0, "eigenvectors")
	v, av := newGeneral(width, n), newGeneral(width, n)
	for i := range v.Data {
		v.Data[i] = rng.NormFloat64()
	}
	linalg.Gemm64(threads, false, true, 1, v, a, 0, av) // a is symmetric: rows of v times a
	v, av = av, v
	for range cycles {
		if err := ctx.Err(); err != nil {
			return nil, v, false, err
		}
		orthonormalize(v, rng)
		linalg.Gemm64(threads, false, true, 1, v, a, 0, av)

		// Rayleigh–Ritz: the best vectors within the subspace.
		h := newGeneral(width, width)
		linalg.Gemm64(threads, false, true, 1, av, v, 0, h)
		mirror(h)
		ritz, u, err := fullPairs(h, width)
		if err != nil {
			return nil, v, false, err
		}
		w, aw := newGeneral(width, n), newGeneral(width, n)
		linalg.Gemm64(threads, false, false, 1, u, v, 0, w)
		linalg.Gemm64(threads, false, false, 1, u, av, 0, aw)
		if converged(w, aw, ritz[:p]) {
			w.Rows = p
			w.Data = w.Data[:p*n]
			return ritz[:p], w, true, nil
		}
		v, av = filter(a, w, aw, ritz, p, threads), aw
	}
	return nil, v, false, nil
}

// converged reports whether the rows of w are eigenvectors of a, given aw,
// their images. Directions that have no variance but rounding pass.
func converged(w, aw blas64.General, values []float64) bool {
	for i, value := range values {
		sum := 0.0
		for j := range w.Cols {
			r := aw.Data[i*aw.Stride+j] - value*w.Data[i*w.Stride+j]
			sum += r * r
		}
		if math.Sqrt(sum) > 1e-6*math.Abs(value)+1e-12*math.Abs(values[0]) {
			return false
		}
	}
	return true
}

// filter applies to the rows of w a Chebyshev polynomial in a that stays
// within ±1 on the eigenvalues from 0 to the smallest in values and grows
// fast beyond. Its degree is bounded so that the largest eigenvalue's part in
// the p-th row, present by rounding, does not drown that row.
func filter(a, w, aw blas64.General, values []float64, p, threads int) blas64.General {
	top := values[0]
	cut := max(values[len(values)-1], 1e-14*top)
	if cut <= 0 {
		return w
	}
	growth := func(value float64) float64 { return math.Acosh(max(1, 2*value/cut-1)) } // per degree, in the exponent
	degree := 20
	if spread := growth(top) - growth(values[p-1]); spread > 0 {
		degree = min(degree, max(2, int(math.Log(1e11)/spread)))
	}
	// T₀ = w, T₁ = (2a/cut − 1)w, T₍ⱼ₊₁₎ = 2(2a/cut − 1)Tⱼ − T₍ⱼ₋₁₎.
	before, now := newGeneral(w.Rows, w.Cols), newGeneral(w.Rows, w.Cols)
	copy(before.Data, w.Data)
	for i, x := range aw.Data {
		now.Data[i] = 2/cut*x - w.Data[i]
	}
	for j := 2; ; j++ {
		// Each row's scale is free; keep it from overflowing.
		for i := range now.Rows {
			row, old := now.Data[i*now.Stride:(i+1)*now.Stride], before.Data[i*now.Stride:(i+1)*now.Stride]
			if norm := blas64.Nrm2(vector(row)); norm > 0 {
				blas64.Scal(1/norm, vector(row))
				blas64.Scal(1/norm, vector(old))
			}
		}
		if j > degree {
			return now
		}
		for i, x := range now.Data {
			before.Data[i] = -2*x - before.Data[i]
		}
		linalg.Gemm64(threads, false, true, 4/cut, now, a, 1, before)
		before, now = now, before
	}
}

// orthonormalize makes the rows of v orthonormal, first to last, by
// Gram–Schmidt done twice. A row that is a combination of those before it is
// replaced by a random direction.
func orthonormalize(v blas64.General, rng *rand.Rand) {
	coefficients := make([]float64, v.Rows)
	for i := range v.Rows {
		row := v.Data[i*v.Stride : i*v.Stride+v.Cols]
		before := blas64.General{Rows: i, Cols: v.Cols, Stride: v.Stride, Data: v.Data}
		for {
			start := blas64.Nrm2(vector(row))
			if start > 0 {
				blas64.Scal(1/start, vector(row))
			}
			length := 1.0
			for range 2 {
				if i > 0 {
					c := vector(coefficients[:i])
					blas64.Gemv(blas.NoTrans, 1, before, vector(row), 0, c)
					blas64.Gemv(blas.Trans, -1, before, c, 1, vector(row))
				}
				if norm := blas64.Nrm2(vector(row)); start > 0 && norm > 0 {
					length *= norm
					blas64.Scal(1/norm, vector(row))
				} else {
					length = 0
				}
			}
			if length > 1e-12 {
				break
			}
			for j := range row {
				row[j] = rng.NormFloat64()
			}
		}
	}
}

func vector(x []float64) blas64.Vector { return blas64.Vector{N: len(x), Inc: 1, Data: x} }
