package llm

import (
	"fmt"
	"math"
	"testing"
)

// reference computes the states after each block in float64, step by step as
// the architectures' papers give them, from the tensors of the checkpoint and
// with none of the code under test: [layer][token][hidden].
func reference(t testing.TB, c *Checkpoint, ids []int32) [][][]float64 {
	t.Helper()
	f := c.Config
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
		linear := func(v []float64, name string) []float64 {
			w, bias := weights[name], weights[name+".bias"]
			out := make([]float64, len(w)/len(v))
			for i := range out {
				for j, a := range v {
					out[i] += a * w[i*len(v)+j]
				}
				if bias != nil {
					out[i] += bias[i]
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
		var q, k, v [][]float64
		for i := range x {
			h := norm(x[i], attnNorm)
			qi, ki := linear(h, "self_attn.q_proj"), linear(h, "self_attn.k_proj")
			perHead(qi, qNorm)
			perHead(ki, kNorm)
			rotate(qi, i)
			rotate(ki, i)
			q, k, v = append(q, qi), append(k, ki), append(v, linear(h, "self_attn.v_proj"))
		}
		for i := range x {
			mixed := make([]float64, f.Heads*f.HeadDim)
			for h := range f.Heads {
				kv := h / (f.Heads / f.KVHeads) * f.HeadDim
				p := make([]float64, i+1)
				sum := 0.0
				for j := range p {
					dot := 0.0
					for d := range f.HeadDim {
						dot += q[i][h*f.HeadDim+d] * k[j][kv+d]
					}
					p[j] = math.Exp(dot / math.Sqrt(float64(f.HeadDim)))
					sum += p[j]
				}
				for j := range p {
					for d := range f.HeadDim {
						mixed[h*f.HeadDim+d] += p[j] / sum * v[j][kv+d]
					}
				}
			}
			for j, a := range linear(mixed, "self_attn.o_proj") {
				x[i][j] += a
			}
			h := norm(x[i], mlpNorm)
			gate, up := linear(h, "mlp.gate_proj"), linear(h, "mlp.up_proj")
			for j := range gate {
				gate[j] = gate[j] / (1 + math.Exp(-gate[j])) * up[j]
			}
			for j, a := range linear(gate, "mlp.down_proj") {
				x[i][j] += a
			}
		}
		out := make([][]float64, len(x))
		for i := range x {
			out[i] = append([]float64(nil), x[i]...)
		}
		layers = append(layers, out)
	}
	return layers
}
