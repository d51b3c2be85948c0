package linalg

import (
	"context"
	"fmt"
	"math"
	"time"
)

// testProducts multiplies small matrices of whole numbers, which have one
// right answer, in every form that [Gemm] and [Gemm64] use.
func testProducts(b loadedBackend) error {
	if err := testForms(b.sgemm); err != nil {
		return fmt.Errorf("%s multiplies wrongly in float32: %w", b.info.Name, err)
	}
	if b.dgemm == nil {
		return nil
	}
	if err := testForms(b.dgemm); err != nil {
		return fmt.Errorf("%s multiplies wrongly in float64: %w", b.info.Name, err)
	}
	return nil
}

func testForms[T float32 | float64](gemm gemmFunc[T]) error {
	const m, n, k = 37, 41, 67
	a, b := make([]T, m*k), make([]T, n*k)
	for i := range a {
		a[i] = T(i*i%11) - 5
	}
	for i := range b {
		b[i] = T(i*i%13) - 6
	}
	for form := range 4 {
		transA, transB := form&1 != 0, form&2 != 0
		strideA, stepA, lda := k, 1, k
		if transA {
			strideA, stepA, lda = 1, m, m
		}
		strideB, stepB, ldb := 1, n, n
		if transB {
			strideB, stepB, ldb = k, 1, k
		}
		c := make([]T, m*n)
		for i := range c {
			c[i] = 1
		}
		gemm(transA, transB, m, n, k, 2, a, lda, b, ldb, 3, c, n)
		for i := range m {
			for j := range n {
				want := T(3)
				for l := range k {
					want += 2 * a[i*strideA+l*stepA] * b[j*strideB+l*stepB]
				}
				if got := c[i*n+j]; got != want {
					return fmt.Errorf("[%d, %d] of a product of whole numbers is %v instead of %v (transposed: %t, %t)", i, j, got, want, transA, transB)
				}
			}
		}
	}
	return nil
}

// compareSpeed returns the speeds of the backends in float32, one over the
// shortest of a few turns. They take turns, so that what else the machine does
// falls on all of them.
func compareSpeed(found []loadedBackend) []float64 {
	const m, n, k, turns = 256, 512, 512, 10
	a, b, c := make([]float32, m*k), make([]float32, n*k), make([]float32, m*n)
	for i := range a {
		a[i] = float32(i%7) - 3
	}
	for i := range b {
		b[i] = float32(i%5) - 2
	}
	shortest := make([]float64, len(found))
	for turn := range turns + 1 {
		for i, f := range found {
			start := time.Now()
			f.sgemm(false, true, m, n, k, 1, a, k, b, k, 0, c, n)
			t := time.Since(start).Seconds()
			if turn <= 1 || t < shortest[i] { // the first turn warms up
				shortest[i] = t
			}
		}
	}
	for i, t := range shortest {
		shortest[i] = 1 / math.Max(t, 1e-9)
	}
	return shortest
}

// MeasureGFLOPS returns the speed of [Gemm] on one thread, in 10⁹ floating
// point operations a second, measured over about a fifth of a second after a
// warm-up. It returns 0 if ctx ends first.
func MeasureGFLOPS(ctx context.Context) float64 {
	const m, n, k = largeRows, largeCols, 512
	a, b, c := NewMatrix(m, k), NewMatrix(n, k), NewMatrix(m, n)
	for i := range a.Data {
		a.Data[i] = float32(i%7) - 3
	}
	for i := range b.Data {
		b.Data[i] = float32(i%5) - 2
	}
	Gemm(1, false, true, 1, a, b, 0, c)
	start := time.Now()
	for calls := 1; ; calls++ {
		if ctx.Err() != nil {
			return 0
		}
		Gemm(1, false, true, 1, a, b, 0, c)
		if t := time.Since(start); t > 200*time.Millisecond {
			return 2 * m * n * k * float64(calls) / t.Seconds() / 1e9
		}
	}
}
