package linalg

import (
	"runtime"
	"time"
)

// Speed measures how many floating-point operations a second products of
// matrices do on all processors, in some hundredths of a second: for estimates
// of time, and for nothing that a result depends on.
func Speed() float64 {
	threads := runtime.GOMAXPROCS(0)
	const m, k, n = 256, 1024, 1024
	a, b := NewMatrix(m*threads, k), NewMatrix(n, k)
	for i := range a.Data {
		a.Data[i] = float32(i%7) - 3
	}
	for i := range b.Data {
		b.Data[i] = float32(i%5) - 2
	}
	c := NewMatrix(a.Rows, n)
	best := time.Duration(0)
	for range 3 { // the first one warms up
		begin := time.Now()
		ForEach(threads, threads, func(t int) {
			Gemm(1, false, true, 1, a.Slice(t*m, (t+1)*m), b, 0, c.Slice(t*m, (t+1)*m))
		})
		if took := time.Since(begin); best == 0 || took < best {
			best = took
		}
	}
	return 2 * float64(a.Rows) * k * n / best.Seconds()
}
