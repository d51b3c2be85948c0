package llm

import (
	"fmt"
	"math"
	"testing"
)

// reference computes the states after each block in float64, step by step as
// the architectures' papers give them, from the tensors of the checkpoint and
// with none of the code under test: [layer][token][hidden]. The sides of
// products are rounded as docs/exactness.md says of p.
func reference(t testing.TB, c *Checkpoint, ids []int32, p Precision) [][][]float64 {
	t.Helper()
	f := c.Config
	round := func(v []float64) []float64 {
		if roundings[p] == nil {
			return v
		}
		out := make([]float64, len(v))
		for i, a := range v {
			out[i] = roundings[p](a)
		}
		return out
	}
	load := func(name string) []float64 {
		for _, s := range c.mapped {
			if x, ok := s.Tensor(name); ok {
				v, err := x.Float32()
				if err != nil {
					t.Fatal(err)
				}
				out := make([]float64, len(v))
				for i := range v {
					out[i] = float64(v[i])
				}
				return out
			}
		}
		return nil
	}
	embed := load("model.embed_tokens.weight")
	x := make([][]float64, len(ids))
	for i, id := range ids {
		x[i] = append([]float64(nil), embed[int(id)*f.Hidden:(int(id)+1)*f.Hidden]...)
	}
	norm := func(v, weight []float64) []float64 {
		sum := 0.0
		for _, a := range v {
			sum += a * a
		}
		out := make([]float64, len(v))
		for i, a := range v {
			out[i] = a / math.Sqrt(sum/float64(len(v))+f.Eps) * weight[i]
		}
		return out
	}
	var layers [][][]float64
	for layer := range f.Layers {
		at := fmt.Sprintf("model.layers.%d.", layer)
		weights := map[string][]float64{}
		for _, name := range []string{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"} {
			weights[name] = load(at + name + ".weight")
			weights[name+".bias"] = load(at + name + ".bias")
		}
		// linear takes the inputs of all tokens, because in int8 one that is
		// large makes an outlier of its column for all.
		linear := func(x [][]float64, name string) [][]float64 {
			w, bias := weights[name], weights[name+".bias"]
			n := len(x[0])
			apart := make([]bool, n)
			if p == Int8 {
				for _, v := range x {
					for j, a := range v {
						apart[j] = apart[j] || math.Abs(a) > 6
					}
				}
			}
			out := make([][]float64, len(x))
			rows := make([][]float64, len(w)/n)
			for i := range rows {
				if rows[i] = round(w[i*n : (i+1)*n]); p == Int8 {
					rows[i] = byAbsmax(rows[i], nil)
				}
			}
			for k, v := range x {
				if v = round(v); p == Int8 {
					v = byAbsmax(v, apart)
				}
				out[k] = make([]float64, len(rows))
				for i, row := range rows {
					for j, a := range v {
						out[k][i] += a * row[j]
					}
					if bias != nil {
						out[k][i] += bias[i]
					}
				}
			}
			return out
		}
		rotate := func(v []float64, position int) {
			half := f.HeadDim / 2
			for h := 0; h < len(v); h += f.HeadDim {
				for j := range half {
					freq := 1 / math.Pow(f.RopeTheta, 2*float64(j)/float64(f.HeadDim))
					if s := f.Llama3; s != nil {
						wavelength := 2 * math.Pi / freq
						low, high := s.OriginalContext/s.LowFreqFactor, s.OriginalContext/s.HighFreqFactor
						if wavelength > low {
							freq /= s.Factor
						} else if wavelength >= high {
							smooth := (s.OriginalContext/wavelength - s.LowFreqFactor) / (s.HighFreqFactor - s.LowFreqFactor)
							freq = (1-smooth)*freq/s.Factor + smooth*freq
						}
					}
					sin, cos := math.Sincos(float64(position) * freq)
					a, b := v[h+j], v[h+half+j]
					v[h+j], v[h+half+j] = a*cos-b*sin, b*cos+a*sin
				}
			}
		}
		perHead := func(v, weight []float64) {
			for h := 0; weight != nil && h < len(v); h += f.HeadDim {
				copy(v[h:], norm(v[h:h+f.HeadDim], weight))
			}
		}
		attnNorm, mlpNorm := load(at+"input_layernorm.weight"), load(at+"post_attention_layernorm.weight")
		qNorm, kNorm := load(at+"self_attn.q_norm.weight"), load(at+"self_attn.k_norm.weight")
		normed := func(weight []float64) [][]float64 {
			h := make([][]float64, len(x))
			for i := range x {
				h[i] = norm(x[i], weight)
			}
			return h
		}
		h := normed(attnNorm)
		q, k, v := linear(h, "self_attn.q_proj"), linear(h, "self_attn.k_proj"), linear(h, "self_attn.v_proj")
		for i := range x {
			perHead(q[i], qNorm)
			perHead(k[i], kNorm)
			rotate(q[i], i)
			rotate(k[i], i)
			q[i], k[i], v[i] = round(q[i]), round(k[i]), round(v[i])
		}
		mixed := make([][]float64, len(x))
		for i := range x {
			mixed[i] = make([]float64, f.Heads*f.HeadDim)
			for h := range f.Heads {
				kv := h / (f.Heads / f.KVHeads) * f.HeadDim
				weight := make([]float64, i+1)
				top, sum := math.Inf(-1), 0.0
				for j := range weight {
					for d := range f.HeadDim {
						weight[j] += q[i][h*f.HeadDim+d] * k[j][kv+d] / math.Sqrt(float64(f.HeadDim))
					}
					top = max(top, weight[j])
				}
				for j := range weight {
					weight[j] = math.Exp(weight[j] - top)
					sum += weight[j]
				}
				for j, a := range round(weight) {
					for d := range f.HeadDim {
						mixed[i][h*f.HeadDim+d] += a / sum * v[j][kv+d]
					}
				}
			}
		}
		add := func(y [][]float64) {
			for i := range x {
				for j, a := range y[i] {
					x[i][j] += a
				}
			}
		}
		add(linear(mixed, "self_attn.o_proj"))
		h = normed(mlpNorm)
		gate, up := linear(h, "mlp.gate_proj"), linear(h, "mlp.up_proj")
		for i := range gate {
			for j, a := range gate[i] {
				gate[i][j] = a / (1 + math.Exp(-a)) * up[i][j]
			}
		}
		add(linear(gate, "mlp.down_proj"))
		out := make([][]float64, len(x))
		for i := range x {
			out[i] = append([]float64(nil), x[i]...)
		}
		layers = append(layers, out)
	}
	return layers
}

// byAbsmax is v as int8 holds it: multiples of the largest size over 127, but
// for the elements that stay apart.
func byAbsmax(v []float64, apart []bool) []float64 {
	top := 0.0
	for j, a := range v {
		if apart == nil || !apart[j] {
			top = max(top, math.Abs(a))
		}
	}
	out := make([]float64, len(v))
	for j, a := range v {
		switch {
		case apart != nil && apart[j]:
			out[j] = a
		case top > 0:
			out[j] = math.RoundToEven(a/(top/127)) * (top / 127)
		}
	}
	return out
}
