package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	"clusterflow/internal/linalg"
)

// made is a checkpoint of an architecture, with odd sizes.
type made struct {
	arch    string
	headDim int
	theta   float64
	scaling map[string]any // rope_scaling
}

// models has every architecture that can be run.
var models = []made{
	{arch: "qwen2", headDim: 22, theta: 1e6},
	{arch: "llama", headDim: 22, theta: 5e5, scaling: map[string]any{
		"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
	}},
	{arch: "qwen3", headDim: 34, theta: 1e6},
}

const (
	hidden, inter, heads, kvHeads = 132, 347, 6, 3
	blocks                        = 4
	vocab                         = 1024 // the built-in tokenizer's
)

func layerName(block int, name string) string { return fmt.Sprintf("model.layers.%d.%s", block, name) }

// write makes the checkpoint in dir with random weights of the given type. A
// few columns are large after the norms, as in trained models, so that int8
// has outliers.
func (m made) write(dir, dtype string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	config := map[string]any{
		"model_type": m.arch, "hidden_size": hidden, "intermediate_size": inter, "num_hidden_layers": blocks,
		"num_attention_heads": heads, "num_key_value_heads": kvHeads, "head_dim": m.headDim, "vocab_size": vocab,
		"rope_theta": m.theta, "rms_norm_eps": 1e-6, "hidden_act": "silu",
	}
	if m.scaling != nil {
		config["rope_scaling"] = m.scaling
	}
	text, err := json.Marshal(config)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), text, 0o666); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		return err
	}
	out := bufio.NewWriter(f)
	specs := m.tensors(dtype)
	w, err := linalg.NewSafetensorsWriter(out, nil, specs)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	for _, spec := range specs {
		if _, err := w.Write(values(spec)); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return errors.Join(w.Close(), out.Flush(), f.Close())
}

func (m made) tensors(dtype string) []linalg.TensorSpec {
	list := []linalg.TensorSpec{{Name: "model.embed_tokens.weight", DType: dtype, Shape: []int{vocab, hidden}}}
	for i := range blocks {
		add := func(name string, shape ...int) {
			list = append(list, linalg.TensorSpec{Name: layerName(i, name), DType: dtype, Shape: shape})
		}
		add("input_layernorm.weight", hidden)
		add("post_attention_layernorm.weight", hidden)
		for _, p := range []struct {
			name  string
			heads int
		}{{"q", heads}, {"k", kvHeads}, {"v", kvHeads}} {
			add("self_attn."+p.name+"_proj.weight", p.heads*m.headDim, hidden)
			if m.arch == "qwen2" {
				add("self_attn."+p.name+"_proj.bias", p.heads*m.headDim)
			}
			if m.arch == "qwen3" && p.name != "v" {
				add("self_attn."+p.name+"_norm.weight", m.headDim)
			}
		}
		add("self_attn.o_proj.weight", hidden, heads*m.headDim)
		add("mlp.gate_proj.weight", inter, hidden)
		add("mlp.up_proj.weight", inter, hidden)
		add("mlp.down_proj.weight", hidden, inter)
	}
	return list
}

// values draws a tensor.
func values(spec linalg.TensorSpec) []byte {
	n := 1
	for _, d := range spec.Shape {
		n *= d
	}
	rng := linalg.Rand(1, "bench exactness", spec.Name)
	var out []byte
	for i := range n {
		v := rng.NormFloat64()
		switch {
		case strings.Contains(spec.Name, "embed_tokens"):
		case strings.HasSuffix(spec.Name, "bias"):
			v /= 2
		case len(spec.Shape) == 1:
			if v = 1 + v/10; strings.Contains(spec.Name, "layernorm") && i%50 == 7 {
				v *= 4
			}
		default:
			v /= math.Sqrt(float64(spec.Shape[1]))
		}
		switch spec.DType {
		case "F32":
			out = binary.LittleEndian.AppendUint32(out, math.Float32bits(float32(v)))
		case "BF16":
			out = binary.LittleEndian.AppendUint16(out, linalg.F32ToBF16(float32(v)))
		case "F16":
			out = binary.LittleEndian.AppendUint16(out, linalg.F32ToF16(float32(v)))
		}
	}
	return out
}
