package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"clusterflow/internal/linalg"
)

// shape is the size of a made checkpoint.
type shape struct {
	arch                     string
	hidden, inter, heads, kv int
	vocab, blocks            int
	theta                    float64
	qkvBias                  bool
}

// shapes are the models that can be made, by name.
var shapes = map[string]shape{
	"r1-1.5b": {arch: "qwen2", hidden: 1536, inter: 8960, heads: 12, kv: 2, vocab: 151936, theta: 10000, qkvBias: true},
	"70b":     {arch: "llama", hidden: 8192, inter: 28672, heads: 64, kv: 8, vocab: 128256, theta: 500000},
}

// config is the checkpoint's config.json.
func (s shape) config() map[string]any {
	return map[string]any{
		"model_type": s.arch, "hidden_size": s.hidden, "intermediate_size": s.inter, "num_hidden_layers": s.blocks,
		"num_attention_heads": s.heads, "num_key_value_heads": s.kv, "vocab_size": s.vocab, "rope_theta": s.theta,
		"rms_norm_eps": 1e-6, "hidden_act": "silu", "max_position_embeddings": 131072, "torch_dtype": "bfloat16",
	}
}

// tensors are the checkpoint's, in the order of the file.
func (s shape) tensors() []linalg.TensorSpec {
	dim := s.hidden / s.heads
	list := []linalg.TensorSpec{{Name: "model.embed_tokens.weight", DType: "BF16", Shape: []int{s.vocab, s.hidden}}}
	for i := range s.blocks {
		add := func(name string, shape ...int) {
			list = append(list, linalg.TensorSpec{Name: fmt.Sprintf("model.layers.%d.%s", i, name), DType: "BF16", Shape: shape})
		}
		add("input_layernorm.weight", s.hidden)
		for _, p := range []struct {
			name  string
			width int
		}{{"q", s.heads * dim}, {"k", s.kv * dim}, {"v", s.kv * dim}} {
			add("self_attn."+p.name+"_proj.weight", p.width, s.hidden)
			if s.qkvBias {
				add("self_attn."+p.name+"_proj.bias", p.width)
			}
		}
		add("self_attn.o_proj.weight", s.hidden, s.heads*dim)
		add("post_attention_layernorm.weight", s.hidden)
		add("mlp.gate_proj.weight", s.inter, s.hidden)
		add("mlp.up_proj.weight", s.inter, s.hidden)
		add("mlp.down_proj.weight", s.hidden, s.inter)
	}
	return list
}

// write makes the checkpoint in dir, unless it is there already. The weights
// are random bfloat16 numbers, at a scale at which states neither vanish nor
// grow; those of the norms are near 1.
func (s shape) write(dir string) error {
	path := filepath.Join(dir, "model.safetensors")
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	config, err := json.MarshalIndent(s.config(), "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), config, 0o666); err != nil {
		return err
	}
	f, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	defer f.Close()
	out := bufio.NewWriterSize(f, 1<<20)
	specs := s.tensors()
	w, err := linalg.NewSafetensorsWriter(out, map[string]string{"format": "pt"}, specs)
	if err != nil {
		return err
	}
	for i, spec := range specs {
		if err := random(w, spec, uint64(i)); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
