package llm

import "math"

// rmsNorm sets dst = x / sqrt(mean(x²) + eps) · weight (arXiv 1910.07467). The
// mean is taken in float64. dst may be x.
func rmsNorm(dst, x, weight []float32, eps float64) {
	var a, b, c, d float64
	i := 0
	for ; i+4 <= len(x); i += 4 {
		v := x[i : i+4 : i+4]
		a += float64(v[0]) * float64(v[0])
		b += float64(v[1]) * float64(v[1])
		c += float64(v[2]) * float64(v[2])
		d += float64(v[3]) * float64(v[3])
	}
	for ; i < len(x); i++ {
		a += float64(x[i]) * float64(x[i])
	}
	scale := float32(1 / math.Sqrt((a+b+c+d)/float64(len(x))+eps))
	dst, weight = dst[:len(x)], weight[:len(x)]
	for i, v := range x {
		dst[i] = v * scale * weight[i]
	}
}

// softmax replaces x by exp(x - max(x)) and returns what to multiply that by,
// 1 / Σ exp(x - max(x)). The sum is taken in float64.
func softmax(x []float32) float32 {
	top := float32(math.Inf(-1))
	for _, v := range x {
		if v > top {
			top = v
		}
	}
	var sum float64
	for i, v := range x {
		e := exp(v - top)
		x[i] = e
		sum += float64(e)
	}
	return float32(1 / sum)
}

// swiGLU sets gate = silu(gate) · up, where silu(x) = x / (1 + exp(-x))
// (arXiv 2002.05202).
func swiGLU(gate, up []float32) {
	up = up[:len(gate)]
	for i, g := range gate {
		gate[i] = g / (1 + exp(-g)) * up[i]
	}
}

// addTo adds v to dst; nil adds nothing.
func addTo(dst, v []float32) {
	for i, b := range v {
		dst[i] += b
	}
}

// exp returns eˣ in float32 to about one unit in the last place, 0 where that
// is below the smallest normal number. math.Exp takes five times as long.
//
// x = n·ln 2 + r with |r| ≤ ln 2 / 2, in two pieces of ln 2 so that n·ln 2 is
// exact (Cody and Waite); eʳ by its Taylor polynomial of degree 7, whose error
// there is below 6e-9.
func exp(x float32) float32 {
	const (
		log2e = 1.4426950408889634
		high  = 0.693359375 // ten bits: n·high is exact
		low   = -2.12194440e-4
	)
	switch {
	case x > 88.3: // near and past the largest float32
		return float32(math.Exp(float64(x)))
	case x < -87.3:
		return 0
	case x != x:
		return x
	}
	n := int32(x*log2e+127.5) - 127 // rounded to nearest: the sum is positive
	f := float32(n)
	r := x - f*high - f*low
	p := float32(1.0/5040)*r + 1.0/720
	p = p*r + 1.0/120
	p = p*r + 1.0/24
	p = p*r + 1.0/6
	p = p*r + 0.5
	p = p*r + 1
	p = p*r + 1
	return p * math.Float32frombits(uint32(n+127)<<23)
}
