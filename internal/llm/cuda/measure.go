//go:build cuda

package cuda

import (
	"math/rand/v2"
	"time"

	"clusterflow/internal/linalg"
)

// MeasureProduct returns the floating-point operations a second of products
// [m, k]·[n, k]ᵀ of random bfloat16 numbers: the best of so many, after one to
// warm up. With gated the left half of the result gates the right one, which makes
// SwiGLU's [m, n/2].
func (c *Card) MeasureProduct(m, n, k int, gated bool, times int) (float64, error) {
	f := &forward{engine: &c.engine, number: "bf16", size: 2, piece: m}
	defer f.mem.free(f)
	random := rand.New(rand.NewPCG(1, 2))
	some := make([]uint16, 1<<16)
	for i := range some {
		some[i] = linalg.F32ToBF16(float32(random.NormFloat64()))
	}
	var err error
	take := func(bytes int) address {
		var p address
		if err == nil {
			p, err = f.mem.take(f, "a product", int64(bytes))
		}
		return p
	}
	fill := func(rows int) (p, tensor address) {
		p = take(rows * k * 2)
		data := make([]byte, rows*k*2)
		for i := 0; i < len(data); i += 2 {
			v := some[random.Uint32()%uint32(len(some))]
			data[i], data[i+1] = byte(v), byte(v>>8)
		}
		if err == nil {
			err = c.upload("a factor", p, data)
		}
		if err == nil {
			tensor, err = f.describe(&f.mem, p, rows, k)
		}
		return p, tensor
	}
	x, l := input{ld: k}, layer{out: n, in: k}
	x.data, x.tensor = fill(m)
	l.data, l.tensor = fill(n)
	to, half := take(m*n*4), take(m*n)
	best := 0.0
	for i := range times + 1 {
		if err != nil {
			return 0, err
		}
		if err := f.sync("a product"); err != nil {
			return 0, err
		}
		begin := time.Now()
		if gated {
			f.gate(&err, half, to, x, l, m)
		} else {
			f.multiply(&err, to, x, 0, l, m, 0)
		}
		if err == nil {
			err = f.sync("a product")
		}
		if i > 0 {
			best = max(best, 2*float64(m)*float64(n)*float64(k)/time.Since(begin).Seconds())
		}
	}
	return best, err
}
