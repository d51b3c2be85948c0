package kernels

import (
	"fmt"
	"math"
	"slices"
	"testing"
)

// tensor describes a matrix to the kernels of hopper.cu as the emulated card
// (emulate/hopper.h) has it.
func (c *card) tensor(data pointer, rows, cols, ld int) pointer {
	return c.put(append([]uint64{uint64(data), uint64(rows), uint64(cols), uint64(ld)}, make([]uint64, 12)...))
}

// productOf is a [m, k] · b [n, k]ᵀ, and the size of what is summed.
func productOf(a, b []float32, m, n, k int) (product, size []float64) {
	product, size = make([]float64, m*n), make([]float64, m*n)
	for i := range m {
		for j := range n {
			for l := range k {
				p := float64(a[i*k+l]) * float64(b[j*k+l])
				product[i*n+j] += p
				size[i*n+j] += math.Abs(p)
			}
		}
	}
	return product, size
}

func TestHopperProduct(t *testing.T) {
	c := newCard(t)
	for _, f := range formats[1:] {
		for i, shape := range [][3]int{{1, 1, 1}, {131, 259, 77}, {300, 5, 330}, {257, 520, 64}, {2400, 300, 9}} {
			m, n, k := shape[0], shape[1], shape[2]
			beta, ld, above := float32(i%2), up(k), 3*i // rows before the first
			a, b, old := rounded(f, normal(1, (above+m)*k)), rounded(f, normal(2, n*k)), normal(3, m*n)
			to := c.put(old)
			c.launch("product_"+f.name, 2+i%2*2, 1, HopperThreads, HopperShared, to,
				c.tensor(f.numbers(c, padded(a, k, ld)), above+m, ld, ld), c.tensor(f.numbers(c, padded(b, k, ld)), n, ld, ld), m, n, ld, above, n, beta)
			got := make([]float32, m*n)
			c.get(to, got)
			want, size := productOf(a[above*k:], b, m, n, k)
			for i, v := range old {
				want[i] += float64(beta * v)
				size[i] += math.Abs(float64(v))
			}
			compare(t, fmt.Sprintf("product %s %v", f.name, shape), got, want, size, 1e-5)
		}
	}
}

func TestHopperGatedProduct(t *testing.T) {
	c := newCard(t)
	for _, f := range formats[1:] {
		for i, shape := range [][3]int{{1, 1, 1}, {131, 201, 77}, {270, 128, 140}} {
			m, inter, k := shape[0], shape[1], shape[2]
			ldIn, ld, above := up(k), up(inter), 5*i
			a, b, bias := rounded(f, normal(1, (above+m)*k)), rounded(f, normal(2, 2*inter*k)), normal(3, 2*inter)
			var biases pointer
			if i == 1 {
				biases = c.put(bias)
			} else {
				clear(bias)
			}
			out := c.take(m * ld * f.size)
			c.launch("gated_product_"+f.name, 4, 1, HopperThreads, HopperShared, out,
				c.tensor(f.numbers(c, padded(a, k, ldIn)), above+m, ldIn, ldIn), c.tensor(f.numbers(c, padded(b, k, ldIn)), 2*inter, ldIn, ldIn),
				biases, m, inter, ldIn, above, ld)
			wide, sizes := productOf(a[above*k:], b, m, 2*inter, k)
			want, size := make([]float64, m*ld), make([]float64, m*ld)
			for i := range m {
				for j := range inter {
					g, u := wide[i*2*inter+j]+float64(bias[j]), wide[i*2*inter+inter+j]+float64(bias[inter+j])
					silu := g / (1 + math.Exp(-g))
					want[i*ld+j] = silu * u
					before := sizes[i*2*inter+j]*math.Abs(u) + sizes[i*2*inter+inter+j]*math.Abs(silu) // sums, in float32
					size[i*ld+j] = math.Abs(want[i*ld+j]) + 1e-5/f.epsilon*before
				}
			}
			compare(t, fmt.Sprintf("gated product %s %v", f.name, shape), f.read(c, out, m*ld), want, size, f.epsilon+2e-6)
		}
	}
}

// The product for attention is that of the kernels for a product and for rotation,
// one after the other.
func TestHopperTurnedProduct(t *testing.T) {
	c := newCard(t)
	for _, f := range formats[1:] {
		for i, shape := range [][4]int{{3, 1, 64, 40}, {2, 2, 128, 77}, {1, 1, 256, 130}} {
			heads, kv, dim, k := shape[0], shape[1], shape[2], shape[3]
			const m, eps, longest = 131, 1e-6, 40
			ld, all := up(k), heads+2*kv
			a, b := rounded(f, normal(1, m*k)), rounded(f, normal(2, all*dim*k))
			cos, sin := c.put(normal(3, longest*dim/2)), c.put(normal(4, longest*dim/2))
			positions := make([]int32, m)
			for i := range positions {
				positions[i] = int32(i * 7 % longest)
			}
			var bias, qNorm, kNorm pointer
			if i != 1 {
				bias = c.put(normal(5, all*dim))
			}
			if i != 0 {
				qNorm, kNorm = c.put(normal(6, dim)), c.put(normal(7, dim))
			}
			x, w := c.tensor(f.numbers(c, padded(a, k, ld)), m, ld, ld), c.tensor(f.numbers(c, padded(b, k, ld)), all*dim, ld, ld)
			got, want, qkv := c.take(m*all*dim*f.size), c.take(m*all*dim*f.size), c.take(m*all*dim*4)
			at := c.put(positions)
			c.launch("turned_product_"+f.name, 2, 1, HopperThreads, HopperShared, got, x, w, bias, qNorm, kNorm, at, cos, sin,
				m, ld, heads, kv, dim, float32(eps))
			c.launch("product_"+f.name, 2, 1, HopperThreads, HopperShared, qkv, x, w, m, all*dim, ld, 0, all*dim, float32(0))
			c.launch("rotate_"+f.name, m, 1, 256, 0, want, qkv, bias, qNorm, kNorm, at, cos, sin, heads, kv, dim, dim, all*dim, float32(eps))
			reference := f.read(c, want, m*all*dim)
			expected := make([]float64, len(reference))
			for i, v := range reference {
				expected[i] = float64(v)
			}
			size := magnitudes(expected)
			for i := range size {
				size[i] = max(size[i], 1e-2)
			}
			compare(t, fmt.Sprintf("turned product %s %v", f.name, shape), f.read(c, got, m*all*dim), expected, size, 2*f.epsilon)
		}
	}
}

func TestHopperAttention(t *testing.T) {
	c := newCard(t)
	const dim, behind = 128, 130 // rows after the last sequence hold what is no number
	lengths := []int{1, 67, 300, 128, 5}
	for _, f := range formats[1:] {
		for _, shape := range [][2]int{{2, 1}, {3, 3}} {
			heads, kv := shape[0], shape[1]
			tokens, pieces := 0, []int32{}
			for _, n := range lengths {
				for from := 0; from < n; from += 128 {
					pieces = append(pieces, int32(tokens), int32(n), int32(from))
				}
				tokens += n
			}
			all, ld := heads+2*kv, heads*dim+8
			qkv := rounded(f, normal(4, tokens*all*dim))
			for i := range qkv {
				qkv[i] *= 2 // so that some scores are far from others
			}
			scale := float32(1 / math.Sqrt(dim))
			rows := append(slices.Clone(qkv), slices.Repeat([]float32{float32(math.NaN())}, behind*all*dim)...)
			out := c.take(tokens * ld * f.size)
			c.launch("hopper_attention_"+f.name, 3, 1, HopperThreads, HopperShared, out,
				c.tensor(f.numbers(c, rows), tokens+behind, all*dim, all*dim), c.put(pieces), len(pieces)/3, heads, kv, ld, scale)
			compareAttention(t, fmt.Sprintf("%s %v", f.name, shape), f.read(c, out, tokens*ld), qkv, lengths, heads, kv, dim, ld, scale, 2.5*f.epsilon+5e-6)
		}
	}
}
