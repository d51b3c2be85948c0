package tasks_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"clusterflow/internal/linalg"
)

// oneToken is a token that holds three whole sentences: what lies inside has
// no token of its own.
const oneToken = "¶one two three. four five six. seven eight nine.¶"

// makeCheckpoint writes a random decoder of two heads, three blocks and hidden
// size 16 to dir, as Hugging Face stores it, with the tokenizer of the built-in
// model and one token more. It returns dir.
func makeCheckpoint(t testing.TB, dir, modelType string, seed int64) string {
	t.Helper()
	const hidden, inter, layers, vocab = 16, 24, 3, 1025
	write(t, dir, "config.json", map[string]any{
		"model_type": modelType, "hidden_size": hidden, "intermediate_size": inter, "num_hidden_layers": layers,
		"num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": vocab, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "hidden_act": "silu",
	})
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
		}{{"q", hidden}, {"k", hidden / 2}, {"v", hidden / 2}} {
			add("self_attn."+p.name+"_proj.weight", p.width, hidden)
			if modelType == "qwen2" {
				add("self_attn."+p.name+"_proj.bias", p.width)
			}
		}
		add("self_attn.o_proj.weight", hidden, hidden)
		add("mlp.gate_proj.weight", inter, hidden)
		add("mlp.up_proj.weight", inter, hidden)
		add("mlp.down_proj.weight", hidden, inter)
	}
	var file bytes.Buffer
	w, err := linalg.NewSafetensorsWriter(&file, nil, specs)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range specs {
		rng := linalg.Rand(seed, "test weights", s.Name)
		n := 1
		for _, d := range s.Shape {
			n *= d
		}
		data := make([]float32, n)
		for i := range data {
			data[i] = float32(rng.NormFloat64() / math.Sqrt(hidden))
			if len(s.Shape) == 1 {
				data[i]++
			}
		}
		if err := w.WriteFloat32(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "model.safetensors", file.Bytes())

	raw, err := os.ReadFile(filepath.Join("..", "internal", "llm", "tiny", "tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	var tok map[string]any
	if err := json.Unmarshal(raw, &tok); err != nil {
		t.Fatal(err)
	}
	tok["added_tokens"] = append(tok["added_tokens"].([]any), map[string]any{
		"id": vocab - 1, "content": oneToken, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": false,
	})
	write(t, dir, "tokenizer.json", tok)
	return dir
}
