// Package llmtest makes small checkpoints for tests.
package llmtest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"clusterflow/internal/linalg"
)

// OneToken is a token that holds three whole sentences: what lies inside has no
// token of its own.
const OneToken = "¶one two three. four five six. seven eight nine.¶"

// Checkpoint is a random decoder of two heads, three blocks and hidden size 16.
type Checkpoint struct {
	ModelType string // qwen2 or llama
	Seed      int64
	Sharded   bool // weights in two files with an index
	Outliers  bool // one column of the norms is large, as in trained models
	HeadDim   int  // of each head; 0: 8
}

// Write stores the checkpoint in dir as Hugging Face does, with the tokenizer of
// the built-in model and [OneToken] besides.
func (c Checkpoint) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	const hidden, inter, layers, vocab = 16, 24, 3, 1025
	dim := cmp.Or(c.HeadDim, hidden/2)
	specs := []linalg.TensorSpec{{Name: "model.embed_tokens.weight", DType: "F32", Shape: []int{vocab, hidden}}}
	for i := range layers {
		add := func(name string, shape ...int) {
			specs = append(specs, linalg.TensorSpec{Name: fmt.Sprintf("model.layers.%d.%s", i, name), DType: "F32", Shape: shape})
		}
		add("input_layernorm.weight", hidden)
		add("post_attention_layernorm.weight", hidden)
		for _, p := range []struct {
			name  string
			width int
		}{{"q", 2 * dim}, {"k", dim}, {"v", dim}} {
			add("self_attn."+p.name+"_proj.weight", p.width, hidden)
			if c.ModelType == "qwen2" {
				add("self_attn."+p.name+"_proj.bias", p.width)
			}
		}
		add("self_attn.o_proj.weight", hidden, 2*dim)
		add("mlp.gate_proj.weight", inter, hidden)
		add("mlp.up_proj.weight", inter, hidden)
		add("mlp.down_proj.weight", hidden, inter)
	}
	weights := func() error { return c.weights(filepath.Join(dir, "model.safetensors"), specs) }
	if c.Sharded {
		weights = func() error { return c.shards(dir, specs) }
	}
	return errors.Join(
		writeJSON(filepath.Join(dir, "config.json"), map[string]any{
			"model_type": c.ModelType, "hidden_size": hidden, "intermediate_size": inter, "num_hidden_layers": layers,
			"num_attention_heads": 2, "head_dim": dim, "num_key_value_heads": 1, "vocab_size": vocab, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "hidden_act": "silu",
		}),
		weights(),
		writeTokenizer(filepath.Join(dir, "tokenizer.json"), vocab-1),
	)
}

func (c Checkpoint) shards(dir string, specs []linalg.TensorSpec) error {
	where := map[string]string{}
	half := len(specs) / 2
	var errs []error
	for i, part := range [][]linalg.TensorSpec{specs[:half], specs[half:]} {
		name := fmt.Sprintf("model-%05d-of-00002.safetensors", i+1)
		for _, s := range part {
			where[s.Name] = name
		}
		errs = append(errs, c.weights(filepath.Join(dir, name), part))
	}
	return errors.Join(append(errs, writeJSON(filepath.Join(dir, "model.safetensors.index.json"), map[string]any{"weight_map": where}))...)
}

func (c Checkpoint) weights(path string, specs []linalg.TensorSpec) error {
	var file bytes.Buffer
	w, err := linalg.NewSafetensorsWriter(&file, nil, specs)
	if err != nil {
		return err
	}
	for _, s := range specs {
		rng := linalg.Rand(c.Seed, "test weights", s.Name)
		n := 1
		for _, d := range s.Shape {
			n *= d
		}
		data := make([]float32, n)
		for i := range data {
			data[i] = float32(rng.NormFloat64() / math.Sqrt(16))
			if len(s.Shape) == 1 {
				data[i]++
			}
		}
		if c.Outliers && strings.Contains(s.Name, "layernorm") {
			data[3] *= 8
		}
		if err := w.WriteFloat32(data); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return os.WriteFile(path, file.Bytes(), 0o666)
}

func writeTokenizer(path string, id int) error {
	_, here, _, _ := runtime.Caller(0)
	raw, err := os.ReadFile(filepath.Join(filepath.Dir(here), "..", "tiny", "tokenizer.json"))
	if err != nil {
		return err
	}
	var tok map[string]any
	if err := json.Unmarshal(raw, &tok); err != nil {
		return err
	}
	tok["added_tokens"] = append(tok["added_tokens"].([]any), map[string]any{
		"id": id, "content": OneToken, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": false,
	})
	return writeJSON(path, tok)
}

func writeJSON(path string, value any) error {
	raw, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return os.WriteFile(path, raw, 0o666)
}
