package linalg

import (
	"fmt"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/blas/gonum"
)

// The tile of C that one BLAS call computes. Its shape is part of a result's
// bits: BLAS libraries pick their inner kernels by the size of the call. A call
// packs its part of b once for all its rows, and its part of a once for all its
// columns, so products of more columns than tileCols take large tiles; in
// narrow ones small tiles leave more of them to share out.
const (
	tileRows, tileCols   = 256, 512
	largeRows, largeCols = 1024, 768
)

// Gemm sets c = alpha·op(a)·op(b) + beta·c, where op transposes when its flag
// is set: op(a) is [m, k], op(b) [k, n] and c [m, n]. With beta = 0, c is not
// read. c must not overlap a or b.
//
// At most threads goroutines work on it, each on tiles of c of a fixed shape
// through a BLAS that is itself single-threaded, so the bits of c do not
// depend on threads. They do depend on the shapes and on [Backend].
func Gemm(threads int, transA, transB bool, alpha float32, a, b Matrix, beta float32, c Matrix) {
	a.check("Gemm", "a")
	b.check("Gemm", "b")
	c.check("Gemm", "c")
	p := newProduct("Gemm", transA, transB, [2]int{a.Rows, a.Cols}, [2]int{b.Rows, b.Cols}, [2]int{c.Rows, c.Cols})
	if p.m == 0 || p.n == 0 {
		return
	}
	if p.k == 0 || alpha == 0 {
		scale(c, beta)
		return
	}
	sgemm, tall, wide := backend().sgemm, tileRows, tileCols
	if p.n > tileCols {
		tall, wide = largeRows, largeCols
	}
	p.tiles(threads, tall, wide, a.Stride, b.Stride, c.Stride, func(rows, cols, aAt, bAt, cAt int) {
		sgemm(transA, transB, rows, cols, p.k, alpha, a.Data[aAt:], a.Stride, b.Data[bAt:], b.Stride, beta, c.Data[cAt:], c.Stride)
	})
}

// Gemm64 is [Gemm] in float64, for decompositions.
func Gemm64(threads int, transA, transB bool, alpha float64, a, b blas64.General, beta float64, c blas64.General) {
	p := newProduct("Gemm64", transA, transB, [2]int{a.Rows, a.Cols}, [2]int{b.Rows, b.Cols}, [2]int{c.Rows, c.Cols})
	if p.m == 0 || p.n == 0 || p.k == 0 {
		panic(ShapeError{"Gemm64", "an empty matrix"})
	}
	dgemm := backend().dgemm
	p.tiles(threads, tileRows, tileCols, a.Stride, b.Stride, c.Stride, func(rows, cols, aAt, bAt, cAt int) {
		dgemm(transA, transB, rows, cols, p.k, alpha, a.Data[aAt:], a.Stride, b.Data[bAt:], b.Stride, beta, c.Data[cAt:], c.Stride)
	})
}

// Dot is the scalar product of two vectors of the same length, summed in
// float32.
func Dot(a, b []float32) float32 {
	if len(a) != len(b) {
		panic(ShapeError{"Dot", fmt.Sprintf("[%d] · [%d]", len(a), len(b))})
	}
	return gonum.Implementation{}.Sdot(len(a), a, 1, b, 1)
}

// product is the shape of op(a)·op(b) = c: [m, k] · [k, n].
type product struct {
	transA, transB bool
	m, n, k        int
}

func newProduct(fn string, transA, transB bool, a, b, c [2]int) product {
	if transA {
		a[0], a[1] = a[1], a[0]
	}
	if transB {
		b[0], b[1] = b[1], b[0]
	}
	if a[0] != c[0] || b[1] != c[1] || a[1] != b[0] {
		panic(ShapeError{fn, fmt.Sprintf("[%d, %d] · [%d, %d] into [%d, %d]", a[0], a[1], b[0], b[1], c[0], c[1])})
	}
	return product{transA, transB, a[0], b[1], a[1]}
}

// tiles calls f for every tile of c, of at most tall × wide elements, with its size and where the operands'
// parts begin in their storage.
func (p product) tiles(threads, tall, wide, lda, ldb, ldc int, f func(rows, cols, aAt, bAt, cAt int)) {
	across := Blocks(p.n, wide)
	ForEach(threads, Blocks(p.m, tall)*across, func(t int) {
		i, j := t/across*tall, t%across*wide
		aAt, bAt := i*lda, j
		if p.transA {
			aAt = i
		}
		if p.transB {
			bAt = j * ldb
		}
		f(min(tall, p.m-i), min(wide, p.n-j), aAt, bAt, i*ldc+j)
	})
}

func scale(c Matrix, beta float32) {
	for i := range c.Rows {
		row := c.Row(i)
		if beta == 0 {
			clear(row)
			continue
		}
		for j := range row {
			row[j] *= beta
		}
	}
}

// gemmFunc is one single-threaded product of row-major matrices, as
// cblas_sgemm and cblas_dgemm define it.
type gemmFunc[T float32 | float64] func(transA, transB bool, m, n, k int, alpha T, a []T, lda int, b []T, ldb int, beta T, c []T, ldc int)

// goGemm makes a product of gonum's, in Go and assembly, for machines without
// a BLAS library. gonum starts goroutines of its own for calls of four
// 64 × 64 blocks of c or more, so it is called on one; and it is twice as fast
// on a·bᵀ, where it takes dot products of rows, as on the other forms, so
// those are brought into this one block by block.
func goGemm[T float32 | float64](gemm func(ta, tb blas.Transpose, m, n, k int, alpha T, a []T, lda int, b []T, ldb int, beta T, c []T, ldc int)) gemmFunc[T] {
	const block = 64
	return func(transA, transB bool, m, n, k int, alpha T, a []T, lda int, b []T, ldb int, beta T, c []T, ldc int) {
		if transA {
			packed := make([]T, m*k)
			transpose(packed, a, lda, k, m)
			a, lda = packed, k
		}
		var packed []T
		if !transB {
			packed = make([]T, min(block, n)*k)
		}
		for j := 0; j < n; j += block {
			cols := min(block, n-j)
			bj, ld := packed, k
			if transB {
				bj, ld = b[j*ldb:], ldb
			} else {
				transpose(packed, b[j:], ldb, k, cols)
			}
			for i := 0; i < m; i += block {
				gemm(blas.NoTrans, blas.Trans, min(block, m-i), cols, k, alpha, a[i*lda:], lda, bj, ld, beta, c[i*ldc+j:], ldc)
			}
		}
	}
}

// goBackend multiplies without any library.
func goBackend() loadedBackend {
	var impl gonum.Implementation
	return loadedBackend{info: BackendInfo{Name: "gonum"}, sgemm: goGemm(impl.Sgemm), dgemm: goGemm(impl.Dgemm)}
}

// transpose writes the transpose of src, rows × cols with stride ld, to dst
// without gaps. It goes by squares, so that both sides stay in the cache.
func transpose[T float32 | float64](dst, src []T, ld, rows, cols int) {
	const side = 32
	for i := 0; i < rows; i += side {
		for j := 0; j < cols; j += side {
			for p := i; p < min(i+side, rows); p++ {
				row := src[p*ld:]
				for q := j; q < min(j+side, cols); q++ {
					dst[q*rows+p] = row[q]
				}
			}
		}
	}
}
