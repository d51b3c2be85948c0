package kernels

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// normal returns n random numbers.
func normal(seed uint64, n int) []float32 {
	r := rand.New(rand.NewPCG(seed, 7))
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(r.NormFloat64())
	}
	return out
}

// rounded returns v as numbers of the format.
func rounded(f format, v []float32) []float32 {
	out := make([]float32, len(v))
	for i, x := range v {
		out[i] = f.round(x)
	}
	return out
}

// smallest is half of the smallest number above 0 in half precision.
const smallest = 1.0 / (1 << 25)

// compare fails where got is further from want than so many times the size of
// what was summed.
func compare(t *testing.T, what string, got []float32, want, size []float64, tolerance float64) {
	t.Helper()
	bad := 0
	for i, w := range want {
		if d := math.Abs(float64(got[i]) - w); !(d <= tolerance*size[i]+smallest) {
			if bad++; bad < 4 {
				t.Errorf("%s: number %d is %g, should be %g", what, i, got[i], w)
			}
		}
	}
	if bad > 3 {
		t.Errorf("%s: %d of %d are wrong", what, bad, len(want))
	}
}

func up(n int) int { return (n + 7) / 8 * 8 }

// padded returns rows of cols numbers with rows of ld, zero from cols on.
func padded(v []float32, cols, ld int) []float32 {
	out := make([]float32, len(v)/cols*ld)
	for i := range len(v) / cols {
		copy(out[i*ld:], v[i*cols:][:cols])
	}
	return out
}

func TestGemm(t *testing.T) {
	c := newCard(t)
	for _, f := range formats {
		for i, shape := range [][3]int{{1, 1, 1}, {131, 259, 77}, {129, 5, 200}, {2100, 3, 9}} {
			for _, limit := range []int{99 << 10, 163 << 10} {
				beta := float32(i % 2)
				m, n, k := shape[0], shape[1], shape[2]
				ld := up(k)
				a, b, old := rounded(f, normal(1, m*k)), rounded(f, normal(2, n*k)), normal(3, m*n)
				to := c.put(old)
				name, tall, broad, shared := Gemm(f.name, limit)
				c.launch(name, (m+tall-1)/tall, (n+broad-1)/broad, 256, shared,
					to, f.numbers(c, padded(a, k, ld)), f.numbers(c, padded(b, k, ld)), m, n, ld, ld, ld, n, beta)
				got := make([]float32, m*n)
				c.get(to, got)
				want, size := productOf(a, b, m, n, k)
				for i, v := range old {
					want[i] += float64(beta * v)
					size[i] += math.Abs(float64(v))
				}
				compare(t, fmt.Sprintf("%s %v", name, shape), got, want, size, 1e-5)
			}
		}
	}
}

func TestAttention(t *testing.T) {
	c := newCard(t)
	lengths := []int{1, 67, 130, 5}
	for _, f := range formats {
		for _, shape := range [][3]int{{4, 2, 64}, {3, 1, 50}, {2, 2, 128}, {2, 1, 200}, {6, 2, 16}} {
			heads, kv, dim := shape[0], shape[1], shape[2]
			wide := 64
			for wide < dim {
				wide *= 2
			}
			tokens, pieces := 0, []int32{}
			for _, n := range lengths {
				for from := 0; from < n; from += 64 {
					pieces = append(pieces, int32(tokens), int32(n), int32(from))
				}
				tokens += n
			}
			all, ld := heads+2*kv, up(heads*dim)
			qkv := rounded(f, normal(4, tokens*all*dim))
			scale := float32(1 / math.Sqrt(float64(dim)))
			out := f.numbers(c, make([]float32, tokens*ld))
			name, shared := Attention(f.name, wide)
			c.launch(name, len(pieces)/3, heads, 128, shared, out, f.numbers(c, padded(qkv, dim, wide)), c.put(pieces), heads, kv, dim, ld, scale)
			got := f.read(c, out, tokens*ld)
			compareAttention(t, fmt.Sprintf("%s %v", name, shape), got, qkv, lengths, heads, kv, dim, ld, scale, 2.5*f.epsilon+5e-6)
		}
	}
}

// compareAttention fails where got, [tokens, ld], is not the causal attention of
// sequences of those lengths with qkv [tokens, heads + 2 kv, dim].
func compareAttention(t *testing.T, what string, got, qkv []float32, lengths []int, heads, kv, dim, ld int, scale float32, tolerance float64) {
	t.Helper()
	first := 0
	for _, n := range lengths {
		at := func(token, column int) []float32 { return qkv[((first+token)*(heads+2*kv)+column)*dim:][:dim] }
		for h := range heads {
			for q := range n {
				want, size := make([]float64, dim), make([]float64, dim)
				weights, sum := make([]float64, q+1), 0.0
				for key := range weights {
					s := 0.0
					for j, v := range at(q, h) {
						s += float64(v) * float64(at(key, heads+h*kv/heads)[j])
					}
					weights[key] = math.Exp(s * float64(scale))
					sum += weights[key]
				}
				for key, w := range weights {
					for j, v := range at(key, heads+kv+h*kv/heads) {
						want[j] += w / sum * float64(v)
						size[j] += w / sum * math.Abs(float64(v))
					}
				}
				compare(t, fmt.Sprintf("%s, query %d of %d, head %d", what, q, n, h), got[(first+q)*ld+h*dim:][:dim], want, size, tolerance)
			}
		}
		first += n
	}
}

func TestRows(t *testing.T) {
	c := newCard(t)
	const tokens, eps = 5, 1e-6
	for _, f := range formats {
		for _, hidden := range []int{8, 36, 51, 1030} {
			ld := up(hidden)
			x, weight := normal(5, tokens*hidden), normal(6, hidden)
			out := c.take(tokens * ld * f.size)
			c.launch("rms_norm_"+f.name, (tokens+1)/2, 1, 64, 0, out, c.put(x), c.put(weight), tokens, hidden, ld, float32(eps))
			want := make([]float64, tokens*ld)
			for i := range tokens {
				sum := 0.0
				for _, v := range x[i*hidden:][:hidden] {
					sum += float64(v) * float64(v)
				}
				for j := range hidden {
					want[i*ld+j] = float64(x[i*hidden+j]) / math.Sqrt(sum/float64(hidden)+eps) * float64(weight[j])
				}
			}
			compare(t, fmt.Sprintf("rms_norm %s %d", f.name, hidden), f.read(c, out, tokens*ld), want, magnitudes(want), f.epsilon+1e-6)

			for _, bias := range []bool{false, true} {
				wide, b, none := normal(7, tokens*2*hidden), normal(8, 2*hidden), pointer(0)
				if bias {
					none = c.put(b)
				} else {
					clear(b)
				}
				out := c.take(tokens * ld * f.size)
				c.launch("swiglu_"+f.name, tokens, 2, 256, 0, out, c.put(wide), none, hidden, ld)
				want := make([]float64, tokens*ld)
				for i := range tokens {
					for j := range hidden {
						g := float64(wide[i*2*hidden+j] + b[j])
						want[i*ld+j] = g / (1 + math.Exp(-g)) * float64(wide[i*2*hidden+hidden+j]+b[hidden+j])
					}
				}
				compare(t, fmt.Sprintf("swiglu %s %d", f.name, hidden), f.read(c, out, tokens*ld), want, magnitudes(want), f.epsilon+1e-6)
			}
		}
	}
}

// magnitudes are the sizes of numbers, for errors that are relative to them.
func magnitudes(v []float64) []float64 {
	out := make([]float64, len(v))
	for i, x := range v {
		out[i] = math.Abs(x)
	}
	return out
}

func TestRotate(t *testing.T) {
	c := newCard(t)
	const tokens, eps = 4, 1e-6
	for _, f := range formats {
		for _, shape := range [][4]int{{3, 1, 50, 64}, {9, 3, 16, 16}, {2, 2, 128, 128}} {
			heads, kv, dim, wide := shape[0], shape[1], shape[2], shape[3]
			half, all := dim/2, heads+2*kv
			for _, extras := range []bool{false, true} {
				x, bias := normal(9, tokens*all*dim), normal(10, all*dim)
				norms := [2][]float32{normal(11, dim), normal(12, dim)}
				cos, sin := normal(13, 100*half), normal(14, 100*half)
				positions := []int32{0, 7, 99, 3}
				var b, q, k pointer
				if extras {
					b, q, k = c.put(bias), c.put(norms[0]), c.put(norms[1])
				} else {
					clear(bias)
				}
				out := c.take(tokens * all * wide * f.size)
				c.launch("rotate_"+f.name, tokens, 1, 256, 0, out, c.put(x), b, q, k, c.put(positions), c.put(cos), c.put(sin),
					heads, kv, dim, wide, all*dim, float32(eps))
				want, size := make([]float64, tokens*all*wide), make([]float64, tokens*all*wide)
				for i := range tokens {
					for h := range all {
						v, sum := make([]float64, dim), 0.0
						for j := range v {
							v[j] = float64(x[(i*all+h)*dim+j]) + float64(bias[h*dim+j])
							sum += v[j] * v[j]
						}
						if extras && h < heads+kv {
							for j := range v {
								n := norms[0]
								if h >= heads {
									n = norms[1]
								}
								v[j] *= float64(n[j]) / math.Sqrt(sum/float64(dim)+eps)
							}
						}
						for j := range half {
							c, s := 1.0, 0.0
							if h < heads+kv {
								c, s = float64(cos[int(positions[i])*half+j]), float64(sin[int(positions[i])*half+j])
							}
							at := (i*all + h) * wide
							want[at+j], want[at+half+j] = v[j]*c-v[half+j]*s, v[half+j]*c+v[j]*s
							size[at+j] = math.Abs(v[j]*c) + math.Abs(v[half+j]*s)
							size[at+half+j] = math.Abs(v[half+j]*c) + math.Abs(v[j]*s)
						}
					}
				}
				compare(t, fmt.Sprintf("rotate %s %v", f.name, shape), f.read(c, out, tokens*all*wide), want, size, f.epsilon+1e-6)
			}
		}
	}
}

func TestConvertAndEmbed(t *testing.T) {
	c := newCard(t)
	const rows, cols, ld = 7, 13, 16
	for _, from := range formats {
		v := rounded(from, normal(15, rows*cols))
		for i, x := range []float32{0, 65504, 1e6, 6e-8, 3e-5, -2.5} { // the edges of half precision
			v[i] = from.round(x)
		}
		in := from.numbers(c, v)
		for _, to := range formats {
			out := c.take(rows * ld * to.size)
			c.launch("convert_"+from.name+"_"+to.name, 2, 1, 32, 0, out, in, rows, cols, ld)
			for i, got := range to.read(c, out, rows*ld) {
				want := float32(0)
				if i%ld < cols {
					want = to.round(v[i/ld*cols+i%ld])
				}
				if got != want {
					t.Errorf("%s to %s: number %d is %g, should be %g", from.name, to.name, i, got, want)
				}
			}
		}
		ids := []int32{6, 0, 3, 3}
		out, got := c.take(4*cols*4), make([]float32, 4*cols)
		c.launch("embed_"+from.name, 4, 1, 32, 0, out, in, c.put(ids), cols)
		c.get(out, got)
		for i, g := range got {
			if want := v[int(ids[i/cols])*cols+i%cols]; g != want {
				t.Errorf("embed %s: number %d is %g, should be %g", from.name, i, g, want)
			}
		}
	}
}

func TestMeansAndBias(t *testing.T) {
	c := newCard(t)
	const rows, cols = 9, 37
	x, bias := normal(16, rows*cols), normal(17, cols)
	p := c.put(x)
	c.launch("add_bias", rows, 1, 32, 0, p, c.put(bias), cols)
	c.get(p, x)
	before := normal(16, rows*cols)
	for i, got := range x {
		if want := before[i] + bias[i%cols]; got != want {
			t.Fatalf("add_bias: number %d is %g, should be %g", i, got, want)
		}
	}
	spans := []int32{0, 1, 2, 9, 8, 9}
	out, got := c.take(3*cols*4), make([]float32, 3*cols)
	c.launch("mean_rows", 3, 2, 32, 0, out, p, c.put(spans), cols)
	c.get(out, got)
	for i, g := range got {
		sum, from, to := 0.0, int(spans[i/cols*2]), int(spans[i/cols*2+1])
		for r := from; r < to; r++ {
			sum += float64(x[r*cols+i%cols])
		}
		if want := float32(sum / float64(to-from)); g != want {
			t.Fatalf("mean_rows: number %d is %g, should be %g", i, g, want)
		}
	}
}

// The PTX in the repository is what nvcc makes of the sources.
func TestPTX(t *testing.T) {
	nvcc, err := exec.LookPath("nvcc")
	if err != nil {
		t.Skip("there is no nvcc")
	}
	for _, module := range []struct{ source, target, ptx string }{
		{"kernels.cu", "compute_80", ptx},
		{"hopper.cu", "compute_90", hopper},
	} {
		out := filepath.Join(t.TempDir(), "made.ptx")
		if msg, err := exec.Command(nvcc, "-arch="+module.target, "-ptx", "-o", out, module.source).CombinedOutput(); err != nil {
			t.Fatalf("nvcc: %v\n%s", err, msg)
		}
		made, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		compiler := func(ptx []byte) []byte { // the line that names it
			i := bytes.Index(ptx, []byte("Cuda compilation tools"))
			return ptx[max(i, 0):][:bytes.IndexByte(ptx[max(i, 0):], '\n')]
		}
		if want := []byte(module.ptx); !bytes.Equal(compiler(made), compiler(want)) {
			t.Skipf("another compiler made the PTX: %s, here %s", compiler(want), compiler(made))
		} else if !bytes.Equal(made, want) {
			t.Errorf("%s is not what the repository's PTX was made of: run go generate", module.source)
		}
	}
}

// The module for Hopper asks for the target that has its instructions.
func TestHopperPTX(t *testing.T) {
	text := HopperPTX()
	for _, want := range []string{"\n.version 8.0\n", "\n.target sm_90a\n", "wgmma.mma_async", ".visible .entry gated_product_bf16("} {
		if !strings.Contains(text, want) {
			t.Errorf("the module lacks %q", want)
		}
	}
	if !InHopper("product_bf16") || InHopper("gemm_bf16_64") || InHopper("product") {
		t.Error("InHopper is wrong about what is there")
	}
	assembler, err := exec.LookPath("ptxas")
	if err != nil {
		t.Skip("there is no ptxas")
	}
	if help, _ := exec.Command(assembler, "--help").Output(); !bytes.Contains(help, []byte("sm_90a")) {
		t.Skip("the assembler here does not know the target")
	}
	in := filepath.Join(t.TempDir(), "hopper.ptx")
	if err := os.WriteFile(in, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(assembler, "-v", "-arch=sm_90a", "-o", os.DevNull, in).CombinedOutput()
	if err != nil || bytes.Contains(out, []byte("serialized")) || bytes.Count(out, []byte(" 0 bytes spill stores")) != 8 {
		t.Errorf("ptxas: %v\n%s", err, out)
	}
}
