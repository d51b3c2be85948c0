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

// exp returns eˣ in float32 to about one unit in the last place, for x cut to
// [-87, 88], so that the result is a normal number; NaN for NaN. It is small
// enough to be compiled into its callers' loops, where several run at once;
// math.Exp takes several times as long.
//
// With x = n·ln 2/32 + r and |r| ≤ ln 2/64, eˣ = 2^(n/32)·eʳ: a table has
// 2^(j/32), ln 2/32 is in two pieces so that n times the first is exact (Cody
// and Waite), and eʳ is its Taylor polynomial of degree 3, whose error there is
// below 1e-9.
func exp(x float32) float32 {
	const (
		high = 710.0 / (1 << 15) // ln 2/32 to ten bits
		low  = math.Ln2/32 - high
	)
	if x < -87 {
		x = -87
	}
	if x > 88 {
		x = 88
	}
	n := int32(x*(32*math.Log2E)+4096.5) - 4096 // rounded to nearest: the sum is positive
	f := float32(n)
	r := x - f*high - f*low
	return (1 + r*(1+r*(0.5+r*(1.0/6)))) * math.Float32frombits(octave[n&31]+uint32(n>>5)<<23)
}

// octave holds the bits of 2^(j/32).
var octave = func() (t [32]uint32) {
	for j := range t {
		t[j] = math.Float32bits(float32(math.Exp2(float64(j) / 32)))
	}
	return t
}()
