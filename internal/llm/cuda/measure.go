//go:build cuda

package cuda

import (
	"math/rand/v2"
	"time"

	"clusterflow/internal/linalg"
)

// MeasureProduct returns the floating-point operations a second of products
// [m, k]·[n, k]ᵀ of random bfloat16 numbers: the best of so many, after one to
// warm up.
func (c *Card) MeasureProduct(m, n, k, times int) (float64, error) {
	f := &forward{engine: &c.engine, number: "bf16", size: 2}
	defer f.mem.free(f)
	random := rand.New(rand.NewPCG(1, 2))
	fill := func(rows int) (address, error) {
		p, err := f.mem.take(f, "a factor", int64(rows)*int64(k)*2)
		if err != nil {
			return 0, err
		}
		data := make([]byte, rows*k*2)
		for i := 0; i < len(data); i += 2 {
			v := linalg.F32ToBF16(float32(random.NormFloat64()))
			data[i], data[i+1] = byte(v), byte(v>>8)
		}
		return p, c.upload("a factor", p, data)
	}
	a, err := fill(m)
	if err != nil {
		return 0, err
	}
	w, err := fill(n)
	if err != nil {
		return 0, err
	}
	to, err := f.mem.take(f, "a product", int64(m)*int64(n)*4)
	if err != nil {
		return 0, err
	}
	best := 0.0
	for i := range times + 1 {
		if err := f.sync("a product"); err != nil {
			return 0, err
		}
		begin := time.Now()
		f.multiply(&err, to, a, layer{out: n, in: k, data: w}, m, 0, k)
		if err != nil {
			return 0, err
		}
		if err := f.sync("a product"); err != nil {
			return 0, err
		}
		if i > 0 {
			best = max(best, 2*float64(m)*float64(n)*float64(k)/time.Since(begin).Seconds())
		}
	}
	return best, nil
}
