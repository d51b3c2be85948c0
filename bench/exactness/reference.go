package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"

	"clusterflow/internal/linalg"
)

// reference is a forward pass in float64, written as the papers put each step,
// one token after the other, and sharing nothing with the program's but the
// reader of safetensors.
type reference struct {
	config  config
	tensors map[string][]float64
}

// config is what the reference needs of config.json.
type config struct {
	Hidden  int      `json:"hidden_size"`
	Blocks  int      `json:"num_hidden_layers"`
	Heads   int      `json:"num_attention_heads"`
	KVHeads int      `json:"num_key_value_heads"`
	HeadDim int      `json:"head_dim"`
	Eps     float64  `json:"rms_norm_eps"`
	Theta   float64  `json:"rope_theta"`
	Scaling *scaling `json:"rope_scaling"`
}

// scaling is rope_scaling of type llama3.
type scaling struct {
	Factor   float64 `json:"factor"`
	Low      float64 `json:"low_freq_factor"`
	High     float64 `json:"high_freq_factor"`
	Original float64 `json:"original_max_position_embeddings"`
}

func openReference(dir string) (*reference, error) {
	r := &reference{tensors: map[string][]float64{}}
	data, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(data, &r.config); err != nil {
		return nil, err
	}
	s, err := linalg.OpenSafetensors(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		return nil, err
	}
	defer s.Close()
	for _, name := range s.Names() {
		t, _ := s.Tensor(name)
		values, err := t.Float32()
		if err != nil {
			return nil, err
		}
		wide := make([]float64, len(values))
		for i, v := range values {
			wide[i] = float64(v)
		}
		r.tensors[name] = wide
	}
	return r, nil
}

// forward returns the residual stream after each block: [block][token][hidden].
func (r *reference) forward(ids []int32, threads int) [][][]float64 {
	c := r.config
	x := make([][]float64, len(ids))
	for i, id := range ids {
		x[i] = append([]float64(nil), r.tensors["model.embed_tokens.weight"][int(id)*c.Hidden:][:c.Hidden]...)
	}
	each := func(f func(i int)) { linalg.ForEach(threads, len(ids), f) }
	var out [][][]float64
	for block := range c.Blocks {
		w := func(name string) []float64 { return r.tensors[layerName(block, name)] }
		q, k, v := make([][]float64, len(ids)), make([][]float64, len(ids)), make([][]float64, len(ids))
		each(func(i int) {
			h := rmsNorm(x[i], w("input_layernorm.weight"), c.Eps)
			q[i] = linear(h, w("self_attn.q_proj.weight"), w("self_attn.q_proj.bias"))
			k[i] = linear(h, w("self_attn.k_proj.weight"), w("self_attn.k_proj.bias"))
			v[i] = linear(h, w("self_attn.v_proj.weight"), w("self_attn.v_proj.bias"))
			for _, heads := range []struct{ values, norm []float64 }{{q[i], w("self_attn.q_norm.weight")}, {k[i], w("self_attn.k_norm.weight")}} {
				for at := 0; at < len(heads.values); at += c.HeadDim {
					head := heads.values[at : at+c.HeadDim]
					if heads.norm != nil {
						copy(head, rmsNorm(head, heads.norm, c.Eps))
					}
					c.turn(head, i)
				}
			}
		})
		next := make([][]float64, len(ids))
		each(func(i int) {
			y := linear(c.attend(i, q, k, v), w("self_attn.o_proj.weight"), nil)
			for j := range y {
				y[j] += x[i][j]
			}
			h := rmsNorm(y, w("post_attention_layernorm.weight"), c.Eps)
			gate, up := linear(h, w("mlp.gate_proj.weight"), nil), linear(h, w("mlp.up_proj.weight"), nil)
			for j, g := range gate {
				gate[j] = g / (1 + math.Exp(-g)) * up[j]
			}
			for j, d := range linear(gate, w("mlp.down_proj.weight"), nil) {
				y[j] += d
			}
			next[i] = y
		})
		x = next
		out = append(out, x)
	}
	return out
}

// attend mixes the values that token i sees, for all heads.
func (c config) attend(i int, q, k, v [][]float64) []float64 {
	mixed := make([]float64, c.Heads*c.HeadDim)
	for h := range c.Heads {
		query, kv := q[i][h*c.HeadDim:][:c.HeadDim], h*c.KVHeads/c.Heads*c.HeadDim
		score := make([]float64, i+1)
		top := math.Inf(-1)
		for j := range score {
			for d, a := range query {
				score[j] += a * k[j][kv+d]
			}
			score[j] /= math.Sqrt(float64(c.HeadDim))
			top = max(top, score[j])
		}
		sum := 0.0
		for j := range score {
			score[j] = math.Exp(score[j] - top)
			sum += score[j]
		}
		for j, p := range score {
			for d := range c.HeadDim {
				mixed[h*c.HeadDim+d] += p / sum * v[j][kv+d]
			}
		}
	}
	return mixed
}

// turn rotates the pairs of a head at a position (arXiv 2104.09864), with the
// frequencies of Llama 3.1 where the file scales them.
func (c config) turn(head []float64, position int) {
	half := c.HeadDim / 2
	for j := range half {
		frequency := math.Pow(c.Theta, -2*float64(j)/float64(c.HeadDim))
		if s := c.Scaling; s != nil {
			wavelength := 2 * math.Pi / frequency
			switch {
			case wavelength > s.Original/s.Low:
				frequency /= s.Factor
			case wavelength >= s.Original/s.High:
				part := (s.Original/wavelength - s.Low) / (s.High - s.Low)
				frequency *= part + (1-part)/s.Factor
			}
		}
		sin, cos := math.Sincos(float64(position) * frequency)
		a, b := head[j], head[j+half]
		head[j], head[j+half] = a*cos-b*sin, b*cos+a*sin
	}
}

func rmsNorm(x, weight []float64, eps float64) []float64 {
	squares := 0.0
	for _, v := range x {
		squares += v * v
	}
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = v / math.Sqrt(squares/float64(len(x))+eps) * weight[i]
	}
	return out
}

func linear(x, weight, bias []float64) []float64 {
	out := make([]float64, len(weight)/len(x))
	for i := range out {
		if bias != nil {
			out[i] = bias[i]
		}
		for j, v := range x {
			out[i] += v * weight[i*len(x)+j]
		}
	}
	return out
}

// relativeError is ‖got − want‖ / ‖want‖.
func relativeError(got linalg.Matrix, want [][]float64) float64 {
	var diff, norm float64
	for i, row := range want {
		for j, w := range row {
			d := float64(got.Row(i)[j]) - w
			diff += d * d
			norm += w * w
		}
	}
	return math.Sqrt(diff / norm)
}
