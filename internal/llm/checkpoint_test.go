package llm

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"clusterflow/internal/linalg"
)

const goodConfig = `"hidden_size": 36, "intermediate_size": 50, "num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 2, "vocab_size": 97`

func TestConfig(t *testing.T) {
	for _, test := range []struct {
		file string
		want Config
	}{
		// As R1-Distill-Qwen-1.5B's config.json: a window that is not used.
		{`{"model_type": "qwen2", "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12, "num_key_value_heads": 2, "vocab_size": 151936, "max_position_embeddings": 131072, "max_window_layers": 21, "rms_norm_eps": 1e-06, "rope_theta": 10000, "sliding_window": 4096, "use_sliding_window": false, "hidden_act": "silu", "tie_word_embeddings": false}`,
			Config{ModelType: "qwen2", Hidden: 1536, Inter: 8960, Layers: 28, Heads: 12, KVHeads: 2, HeadDim: 128, Vocab: 151936, Context: 131072, Eps: 1e-6, RopeTheta: 10000, QKVBias: true}},
		// As R1-Distill-Llama-8B's.
		{`{"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "attention_bias": false, "mlp_bias": false, "rms_norm_eps": 1e-05, "rope_theta": 500000.0, "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192, "rope_type": "llama3"}}`,
			Config{ModelType: "llama", Hidden: 4096, Inter: 14336, Layers: 32, Heads: 32, KVHeads: 8, HeadDim: 128, Vocab: 128256, Eps: 1e-5, RopeTheta: 500000, Llama3: &Llama3Scaling{8, 1, 4, 8192}}},
		// transformers 5 keeps all rotary settings in rope_parameters.
		{`{"model_type": "qwen3", "head_dim": 32, "rope_parameters": {"rope_type": "default", "rope_theta": 1000000}, ` + goodConfig + `}`,
			Config{ModelType: "qwen3", Hidden: 36, Inter: 50, Layers: 3, Heads: 6, KVHeads: 2, HeadDim: 32, Vocab: 97, Eps: 1e-6, RopeTheta: 1e6, QKNorm: true}},
		{`{"model_type": "qwen2", "use_sliding_window": true, "sliding_window": 8, "max_window_layers": 3, ` + goodConfig + `}`, // begins above the last block
			Config{ModelType: "qwen2", Hidden: 36, Inter: 50, Layers: 3, Heads: 6, KVHeads: 2, HeadDim: 6, Vocab: 97, Eps: 1e-6, RopeTheta: 10000, QKVBias: true}},
	} {
		got, err := parseConfig([]byte(test.file))
		g, _ := json.Marshal(got)
		w, _ := json.Marshal(test.want)
		if err != nil || !bytes.Equal(g, w) {
			t.Errorf("%s\n got %s, %v\nwant %s", test.file, g, err, w)
		}
	}
}

func TestConfigRefusals(t *testing.T) {
	for _, test := range []struct{ file, want string }{
		{`[]`, "cannot unmarshal"},
		{`{}`, `model_type is ""; this program runs qwen2, llama, qwen3`},
		{`{"model_type": "mixtral"}`, `"mixtral"; this program runs qwen2, llama, qwen3`},
		{`{"model_type": "llama", "quantization_config": {"quant_method": "fp8"}, ` + goodConfig + `}`, "quantised"},
		{`{"model_type": "llama", "hidden_act": "gelu", ` + goodConfig + `}`, `"gelu"`},
		{`{"model_type": "llama", "partial_rotary_factor": 0.5, ` + goodConfig + `}`, "partial_rotary_factor"},
		{`{"model_type": "llama", "rope_scaling": {"type": "yarn", "factor": 4}, ` + goodConfig + `}`, `"yarn"`},
		{`{"model_type": "llama", "rope_scaling": {"factor": 4}, ` + goodConfig + `}`, "rope_type"},
		{`{"model_type": "llama", "rope_scaling": {"rope_type": "llama3", "factor": 8}, ` + goodConfig + `}`, "low_freq_factor"},
		{`{"model_type": "qwen2", "use_sliding_window": true, "sliding_window": 4096, "max_window_layers": 1, ` + goodConfig + `}`, "sliding windows cannot be run here"},
		{`{"model_type": "qwen3", "layer_types": ["full_attention", "sliding_attention", "full_attention"], ` + goodConfig + `}`, `"sliding_attention"`},
		{`{"model_type": "llama", "num_key_value_heads": 4, "hidden_size": 36, "intermediate_size": 50, "num_hidden_layers": 3, "num_attention_heads": 6, "vocab_size": 97}`, "not a multiple of num_key_value_heads"},
		{`{"model_type": "llama", "hidden_size": 37, "intermediate_size": 50, "num_hidden_layers": 3, "num_attention_heads": 6, "vocab_size": 97}`, "not a multiple of num_attention_heads"},
		{`{"model_type": "llama", "head_dim": 7, ` + goodConfig + `}`, "odd"},
		{`{"model_type": "llama", "hidden_size": 36}`, "intermediate_size is 0"},
		{`{"model_type": "llama", "hidden_size": -36, "intermediate_size": 50, "num_hidden_layers": 3, "num_attention_heads": 6, "vocab_size": 97}`, "hidden_size is -36"},
		{`{"model_type": "llama", "rope_theta": 0, ` + goodConfig + `}`, "rope_theta"},
		{`{"model_type": "llama", "rms_norm_eps": -1, ` + goodConfig + `}`, "rms_norm_eps"},
	} {
		if _, err := parseConfig([]byte(test.file)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s\n got %v\nwant an error with %s", test.file, err, test.want)
		}
	}
}

// An error about a tensor names the tensor and the file.
func TestCheckpointErrors(t *testing.T) {
	edit := func(change func(s *shape), after func(dir string)) string {
		s := testShape("llama", "F32")
		if change != nil {
			change(&s)
		}
		dir := makeCheckpoint(t, s)
		if after != nil {
			after(dir)
		}
		return dir
	}
	config := func(old, new string) func(dir string) {
		return func(dir string) {
			path := filepath.Join(dir, "config.json")
			data, err := os.ReadFile(path)
			if err != nil || !strings.Contains(string(data), old) {
				t.Fatalf("%s lacks %s: %v", data, old, err)
			}
			if err := os.WriteFile(path, []byte(strings.Replace(string(data), old, new, 1)), 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
	remove := func(name string) func(dir string) {
		return func(dir string) {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	file := filepath.Join(t.TempDir(), "x.gguf")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, source string
		want         []string
	}{
		{"no directory", filepath.Join(t.TempDir(), "missing"), []string{"there is no directory"}},
		{"a file", file, []string{"is a file"}},
		{"built-in", "builtin:huge", []string{"no such built-in", BuiltinTiny}},
		{"no config", edit(nil, remove("config.json")), []string{"config.json"}},
		{"no weights", edit(nil, remove("model.safetensors")), []string{"has no weights", "model.safetensors"}},
		{"only old weights", edit(nil, func(dir string) {
			if err := os.Rename(filepath.Join(dir, "model.safetensors"), filepath.Join(dir, "pytorch_model.bin")); err != nil {
				t.Fatal(err)
			}
		}), []string{"pytorch_model.bin is not read here"}},
		{"a missing file", edit(func(s *shape) { s.shards = 3 }, remove("model-00002-of-00003.safetensors")), []string{"model-00002-of-00003.safetensors", "not complete"}},
		{"a file outside", edit(func(s *shape) { s.shards = 2 }, func(dir string) {
			writeJSON(t, filepath.Join(dir, "model.safetensors.index.json"), map[string]any{"weight_map": map[string]string{"a": "../b.safetensors"}})
		}), []string{`"a"`, "outside the checkpoint"}},
		{"a lie in the index", edit(func(s *shape) { s.shards = 2 }, func(dir string) {
			writeJSON(t, filepath.Join(dir, "model.safetensors.index.json"), map[string]any{"weight_map": map[string]string{"a": "model-00001-of-00002.safetensors"}})
		}), []string{"model-00001-of-00002.safetensors", `lacks tensor "a"`}},
		{"a wrong shape", edit(nil, config(`"intermediate_size":50`, `"intermediate_size":51`)), []string{"model.safetensors", `"model.layers.0.mlp.gate_proj.weight"`, "[50 36]", "[51 36]"}},
		{"too few blocks", edit(nil, config(`"num_hidden_layers":3`, `"num_hidden_layers":4`)), []string{"model.safetensors", `lacks tensor "model.layers.3.input_layernorm.weight"`}},
		{"a tensor that would be left out", edit(func(s *shape) { s.OutBias, s.QKVBias = true, true }, config(`"attention_bias":true`, `"attention_bias":false`)), []string{"model.safetensors", `"model.layers.0.self_attn.k_proj.bias" is no part of a llama block`}},
		{"not floats", edit(func(s *shape) { s.dtype = "I32" }, nil), []string{"model.embed_tokens.weight", "I32"}},
	} {
		c, err := Open(test.source)
		if err == nil {
			c.Close()
			t.Errorf("%s: no error", test.name)
			continue
		}
		for _, want := range test.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v\nlacks %s", test.name, err, want)
			}
		}
	}
}

func TestCheckpointFiles(t *testing.T) {
	s := testShape("qwen2", "F16")
	s.shards = 2
	dir := makeCheckpoint(t, s)
	fsys := made([]string{"the"}, "", "")
	if err := os.WriteFile(filepath.Join(dir, "tokenizer.json"), fsys["tokenizer.json"].Data, 0o666); err != nil {
		t.Fatal(err)
	}
	c := openTest(t, dir)
	var names []string
	for _, path := range append(c.Files(), c.TokenizerFiles()...) {
		if !filepath.IsAbs(path) {
			t.Errorf("%s is not absolute", path)
		}
		names = append(names, filepath.Base(path))
	}
	want := []string{"config.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "tokenizer.json"}
	if !slices.Equal(names, want) || c.Layers() != 3 || c.Hidden() != 36 || c.Random() || c.BuiltinID() != "" {
		t.Errorf("%v, %d layers, hidden %d, random %v, builtin %q", names, c.Layers(), c.Hidden(), c.Random(), c.BuiltinID())
	}
	if _, err := c.Tokenizer(); err == nil || !strings.Contains(err.Error(), "different models") {
		t.Errorf("258 tokens for an embedding of 97 rows: %v", err)
	}
}

// A hub id is looked up in the local cache, in the layout of huggingface_hub.
func TestHubCache(t *testing.T) {
	home := t.TempDir()
	for _, name := range []string{"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"} {
		t.Setenv(name, "")
	}
	t.Setenv("HF_HOME", home)
	_, err := Open("some-org/Some-Model-1.5B")
	for _, want := range []string{"no directory some-org/Some-Model-1.5B", filepath.Join(home, "hub"), "a study with this source downloads it"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("not in the cache: %v\nlacks %s", err, want)
		}
	}
	repo := filepath.Join(home, "hub", "models--some-org--Some-Model-1.5B")
	for _, dir := range []string{"refs", "snapshots/other"} {
		if err := os.MkdirAll(filepath.Join(repo, dir), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	snapshot := filepath.Join(repo, "snapshots", "0123abcd")
	if err := os.Rename(makeCheckpoint(t, testShape("qwen2", "F32")), snapshot); err != nil {
		t.Fatal(err)
	}
	if _, err := Open("some-org/Some-Model-1.5B"); err == nil || !strings.Contains(err.Error(), "no snapshot of a model of that name") {
		t.Errorf("two snapshots and no main branch: %v", err)
	}
	if err := os.WriteFile(filepath.Join(repo, "refs", "main"), []byte("0123abcd"), 0o666); err != nil {
		t.Fatal(err)
	}
	c := openTest(t, "some-org/Some-Model-1.5B")
	if c.Files()[0] != filepath.Join(snapshot, "config.json") {
		t.Errorf("opened %s, want the snapshot %s", c.Files()[0], snapshot)
	}
	t.Setenv("HF_HUB_CACHE", filepath.Join(home, "hub"))
	t.Setenv("HF_HOME", "elsewhere")
	openTest(t, "some-org/Some-Model-1.5B")
}

// The built-in model is the same everywhere and always; its identity changes
// only with its content.
func TestBuiltinTiny(t *testing.T) {
	c := openTest(t, BuiltinTiny)
	const identity = "builtin:tiny d37826a5693719ff4d593355ee5acdcae16d8f5ef714dbe63357783a6ec7d5af"
	if c.BuiltinID() != identity {
		t.Errorf("the built-in model is %q, not %q: what was computed with it before is stale", c.BuiltinID(), identity)
	}
	if !c.Random() || c.Layers() != 4 || c.Hidden() != 64 || len(c.Files()) != 0 || len(c.TokenizerFiles()) != 0 {
		t.Errorf("random %v, %d layers, hidden %d, files %v %v", c.Random(), c.Layers(), c.Hidden(), c.Files(), c.TokenizerFiles())
	}
	tok, err := c.Tokenizer()
	if err != nil {
		t.Fatal(err)
	}
	e, err := tok.Encode("<｜User｜>How many tiles?<｜Assistant｜><think>\nLet me think.", "auto")
	if err != nil || !e.AddedBOS {
		t.Fatal(e, err)
	}
	// States that neither vanish nor grow, and differ between tokens.
	for layer, m := range states(t, c, [][]int32{e.IDs}, []int{0, 3}, 2) {
		var squares float64
		for _, v := range m[0].Data {
			squares += float64(v) * float64(v)
		}
		if mean := squares / float64(len(m[0].Data)); !(mean > 0.5 && mean < 50) {
			t.Errorf("layer %d: mean square %g", layer, mean)
		}
		if slices.Equal(m[0].Row(1), m[0].Row(2)) {
			t.Errorf("layer %d: two tokens have the same state", layer)
		}
	}
}

// BenchmarkTiny is the demo's extraction: 80 traces of some 450 tokens.
func BenchmarkTiny(b *testing.B) {
	c, err := Open(BuiltinTiny)
	if err != nil {
		b.Fatal(err)
	}
	seqs := make([][]int32, 80)
	for i := range seqs {
		seqs[i] = randomIDs(450, tinyVocab)
	}
	for b.Loop() {
		if err := c.Forward(context.Background(), Pass{Sequences: sequences(seqs, []int{1}), Threads: 2, Visit: func(int, int, linalg.Matrix) error { return nil }}); err != nil {
			b.Fatal(err)
		}
	}
}
