package llm

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"clusterflow/internal/linalg"
)

// shape is a checkpoint to be made for a test.
type shape struct {
	Config
	dtype  string
	shards int

	outliers bool // some columns of the inputs of linear layers are large
}

func testShape(modelType, dtype string) shape {
	s := shape{Config: Config{ModelType: modelType, Hidden: 36, Inter: 50, Layers: 3, Heads: 6, KVHeads: 2, HeadDim: 6, Vocab: 97, Eps: 1e-6, RopeTheta: 10000}, dtype: dtype, shards: 1}
	switch modelType {
	case "qwen2":
		s.QKVBias = true
	case "qwen3":
		s.QKNorm, s.HeadDim = true, 10
	}
	return s
}

// makeCheckpoint writes a random checkpoint of that shape as Hugging Face
// stores it, in code of its own, and returns its directory.
func makeCheckpoint(t testing.TB, s shape) string {
	t.Helper()
	dir := t.TempDir()
	config := map[string]any{
		"model_type": s.ModelType, "hidden_size": s.Hidden, "intermediate_size": s.Inter, "num_hidden_layers": s.Layers,
		"num_attention_heads": s.Heads, "num_key_value_heads": s.KVHeads, "head_dim": s.HeadDim, "vocab_size": s.Vocab,
		"rms_norm_eps": s.Eps, "rope_theta": s.RopeTheta, "hidden_act": "silu", "use_sliding_window": false, "sliding_window": 4096,
	}
	if s.ModelType != "qwen2" {
		config["attention_bias"], config["mlp_bias"] = s.OutBias, s.MLPBias
	}
	if s.Llama3 != nil {
		config["rope_scaling"] = map[string]any{"rope_type": "llama3", "factor": s.Llama3.Factor, "low_freq_factor": s.Llama3.LowFreqFactor, "high_freq_factor": s.Llama3.HighFreqFactor, "original_max_position_embeddings": s.Llama3.OriginalContext}
	}
	writeJSON(t, filepath.Join(dir, "config.json"), config)

	type entry struct {
		name  string
		shape []int
	}
	q, kv := s.Heads*s.HeadDim, s.KVHeads*s.HeadDim
	entries := []entry{{"model.embed_tokens.weight", []int{s.Vocab, s.Hidden}}, {"model.norm.weight", []int{s.Hidden}}, {"lm_head.weight", []int{s.Vocab, s.Hidden}}}
	for i := range s.Layers {
		at := fmt.Sprintf("model.layers.%d.", i)
		add := func(name string, shape ...int) { entries = append(entries, entry{at + name, shape}) }
		add("input_layernorm.weight", s.Hidden)
		add("post_attention_layernorm.weight", s.Hidden)
		for name, width := range map[string]int{"q": q, "k": kv, "v": kv} {
			add("self_attn."+name+"_proj.weight", width, s.Hidden)
			if s.QKVBias {
				add("self_attn."+name+"_proj.bias", width)
			}
		}
		add("self_attn.o_proj.weight", s.Hidden, q)
		if s.OutBias {
			add("self_attn.o_proj.bias", s.Hidden)
		}
		if s.QKNorm {
			add("self_attn.q_norm.weight", s.HeadDim)
			add("self_attn.k_norm.weight", s.HeadDim)
		}
		for _, name := range []string{"gate", "up"} {
			add("mlp."+name+"_proj.weight", s.Inter, s.Hidden)
			if s.MLPBias {
				add("mlp."+name+"_proj.bias", s.Inter)
			}
		}
		add("mlp.down_proj.weight", s.Hidden, s.Inter)
		if s.MLPBias {
			add("mlp.down_proj.bias", s.Hidden)
		}
	}
	rng := linalg.Rand(7, "checkpoint", s.ModelType)
	weights := map[string]string{}
	for shard := range s.shards {
		file := "model.safetensors"
		if s.shards > 1 {
			file = fmt.Sprintf("model-%05d-of-%05d.safetensors", shard+1, s.shards)
		}
		header := map[string]any{"__metadata__": map[string]string{"format": "pt"}}
		var data []byte
		for _, e := range entries[shard*len(entries)/s.shards : (shard+1)*len(entries)/s.shards] {
			begin, n := len(data), 1
			for _, d := range e.shape {
				n *= d
			}
			for k := range n {
				v := rng.NormFloat64() / math.Sqrt(float64(e.shape[len(e.shape)-1]))
				switch {
				case strings.HasSuffix(e.name, "embed_tokens.weight"), strings.Contains(e.name, "bias"):
					v = rng.NormFloat64() / 2
				case strings.Contains(e.name, "norm"):
					v = 1 + rng.NormFloat64()/10
					if s.outliers && k%11 == 3 && strings.Contains(e.name, "layernorm") {
						v *= 6
					}
				}
				switch s.dtype {
				case "F32":
					data = binary.LittleEndian.AppendUint32(data, math.Float32bits(float32(v)))
				case "BF16":
					data = binary.LittleEndian.AppendUint16(data, uint16(math.Float32bits(float32(v))>>16))
				case "F16":
					data = binary.LittleEndian.AppendUint16(data, toF16(v))
				case "I32":
					data = binary.LittleEndian.AppendUint32(data, 1)
				}
			}
			header[e.name] = map[string]any{"dtype": s.dtype, "shape": e.shape, "data_offsets": []int{begin, len(data)}}
			weights[e.name] = file
		}
		head, err := json.Marshal(header)
		if err != nil {
			t.Fatal(err)
		}
		out := append(binary.LittleEndian.AppendUint64(nil, uint64(len(head))), head...)
		if err := os.WriteFile(filepath.Join(dir, file), append(out, data...), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if s.shards > 1 {
		writeJSON(t, filepath.Join(dir, "model.safetensors.index.json"), map[string]any{"weight_map": weights})
	}
	return dir
}

// toF16 cuts v to a normal half-precision number.
func toF16(v float64) uint16 {
	frac, exp := math.Frexp(math.Abs(v)) // |v| = frac · 2^exp, frac in [½, 1)
	if v == 0 || exp < -13 {
		return 0
	}
	bits := uint16(exp+14)<<10 | uint16(frac*2048)&0x3ff
	if v < 0 {
		bits |= 0x8000
	}
	return bits
}

func writeJSON(t testing.TB, path string, value any) {
	t.Helper()
	data, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
}

func openTest(t testing.TB, dir string) *Checkpoint {
	t.Helper()
	c, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// states runs Forward in float32 and returns copies of what it gives:
// [layer][seq].
func states(t testing.TB, c *Checkpoint, seqs [][]int32, layers []int, threads int) map[int][]linalg.Matrix {
	t.Helper()
	return passStates(t, c, Pass{Sequences: sequences(seqs, layers), Threads: threads})
}

// sequences are ids of which all want the same layers.
func sequences(ids [][]int32, layers []int) []Sequence {
	out := make([]Sequence, len(ids))
	for i := range ids {
		out[i] = Sequence{IDs: ids[i], Layers: layers}
	}
	return out
}

// passStates runs a pass and returns copies of what it gives.
func passStates(t testing.TB, c *Checkpoint, p Pass) map[int][]linalg.Matrix {
	t.Helper()
	var mu sync.Mutex
	out, last := map[int][]linalg.Matrix{}, map[int]int{}
	p.Visit = func(layer, seq int, m linalg.Matrix) error {
		mu.Lock()
		defer mu.Unlock()
		if layer < last[seq] {
			t.Errorf("sequence %d: layer %d came after layer %d", seq, layer, last[seq])
		}
		last[seq] = layer
		if out[layer] == nil {
			out[layer] = make([]linalg.Matrix, len(p.Sequences))
		}
		if out[layer][seq].Data != nil {
			t.Errorf("layer %d of sequence %d came twice", layer, seq)
		}
		out[layer][seq] = m.Clone()
		return nil
	}
	if err := c.Forward(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	return out
}

func randomIDs(n, vocab int) []int32 {
	rng := newRand()
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(rng.IntN(vocab))
	}
	return ids
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

func testShapes() map[string]shape {
	llama31 := testShape("llama", "F32")
	llama31.Llama3 = &Llama3Scaling{8, 1, 4, 64} // so that the few frequencies here meet all three cases
	biased := testShape("llama", "BF16")
	biased.QKVBias, biased.OutBias, biased.MLPBias = true, true, true
	sharded := testShape("qwen2", "BF16")
	sharded.shards = 3
	return map[string]shape{
		"qwen2 F32": testShape("qwen2", "F32"), "qwen2 F16": testShape("qwen2", "F16"), "qwen2 BF16 in 3 files": sharded,
		"llama F16": testShape("llama", "F16"), "llama3 scaling F32": llama31, "llama with biases BF16": biased,
		"qwen3 BF16": testShape("qwen3", "BF16"), "qwen3 F32": testShape("qwen3", "F32"),
	}
}

func TestForwardAgainstFloat64(t *testing.T) {
	for name, s := range testShapes() {
		t.Run(name, func(t *testing.T) {
			c := openTest(t, makeCheckpoint(t, s))
			for _, tokens := range []int{1, 2, 131, 300} {
				ids := randomIDs(tokens, s.Vocab)
				got := states(t, c, [][]int32{ids}, []int{0, 1, 2}, 2)
				for layer, want := range reference(t, c, ids, F32) {
					if e := relativeError(got[layer][0], want); !(e < 1e-5) {
						t.Errorf("%d tokens, layer %d: relative error %g", tokens, layer, e)
					}
				}
			}
		})
	}
}

// The bits of a sequence's states depend on the sequence alone.
func TestForwardBits(t *testing.T) {
	for _, modelType := range Architectures() {
		t.Run(modelType, func(t *testing.T) {
			s := testShape(modelType, "BF16")
			c := openTest(t, makeCheckpoint(t, s))
			var seqs [][]int32
			for _, n := range []int{5, 1300, 64, 1, 257, 0, 129} { // 1300 is more than goes through the MLP at once
				seqs = append(seqs, randomIDs(n, s.Vocab))
			}
			layers := []int{0, 2}
			together := states(t, c, seqs, layers, 2)
			one := states(t, c, seqs, layers, 1)
			many := states(t, c, seqs, layers, 16) // more threads than sequences
			reversed := slices.Clone(seqs)
			slices.Reverse(reversed)
			backwards := states(t, c, reversed, []int{2, 0, 2}, 3)
			inFiles := passStates(t, c, Pass{Sequences: sequences(seqs, layers), Threads: 2, Memory: 1})
			for _, layer := range layers {
				for i := range seqs {
					alone := states(t, c, seqs[i:i+1], []int{layer}, 2)[layer][0]
					for how, m := range map[string]linalg.Matrix{"alone": alone, "one thread": one[layer][i], "in files": inFiles[layer][i], "16 threads": many[layer][i], "in another order": backwards[layer][len(seqs)-1-i]} {
						if !slices.Equal(m.Data, together[layer][i].Data) {
							t.Errorf("layer %d, sequence %d of %d tokens: other bits %s", layer, i, len(seqs[i]), how)
						}
					}
				}
			}
		})
	}
}

func TestForwardErrors(t *testing.T) {
	c := openTest(t, makeCheckpoint(t, testShape("llama", "F32")))
	ctx := context.Background()
	nothing := func(int, int, linalg.Matrix) error { return nil }
	for _, test := range []struct {
		ids       []int32
		layers    []int
		precision Precision
		want      string
	}{
		{[]int32{1}, []int{3}, "", "no layer 3: it has 3 blocks, 0 to 2"},
		{[]int32{1}, []int{-1, 2}, "", "no layer -1"},
		{[]int32{1, 97}, []int{0}, "", "token 1 of sequence 0 has the id 97"},
		{[]int32{-1}, []int{0}, "", "the id -1"},
		{[]int32{1}, []int{0}, "f8", `no precision "f8"; there are f32, bf16, f16, int8`},
	} {
		p := Pass{Sequences: []Sequence{{IDs: test.ids, Layers: test.layers}}, Precision: test.precision, Visit: nothing}
		if err := c.Forward(ctx, p); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v, layers %v: %v, want %q", test.ids, test.layers, err, test.want)
		}
	}
	stop := errors.New("stop here")
	visits := 0
	err := c.Forward(ctx, Pass{Sequences: []Sequence{{IDs: []int32{1}, Layers: []int{0, 1}}, {IDs: []int32{2}, Layers: []int{0, 1}}}, Visit: func(layer, seq int, _ linalg.Matrix) error {
		visits++
		return stop
	}})
	if !errors.Is(err, stop) || visits != 1 {
		t.Errorf("after %d visits: %v", visits, err)
	}

	// Ended by the context after the first sequence, the longest.
	ending, end := context.WithCancel(ctx)
	shown := 0
	err = c.Forward(ending, Pass{
		Sequences: sequences([][]int32{{1}, {2, 3}, {4, 5, 6}}, []int{0, 1}),
		Visit:     func(int, int, linalg.Matrix) error { shown++; return nil },
		Progress: func(done, total int) {
			if done == 0 {
				return
			}
			if done != 3 || total != 12 {
				t.Errorf("progress %d of %d, want 3 of 12", done, total)
			}
			end()
		},
	})
	if !errors.Is(err, context.Canceled) || shown != 1 {
		t.Errorf("ended after %d visits: %v", shown, err)
	}
	last := 0
	err = c.Forward(ctx, Pass{Sequences: []Sequence{{IDs: []int32{1}, Layers: []int{1}}, {IDs: []int32{2, 3}, Layers: []int{0}}, {IDs: []int32{4}}}, Threads: 2, Visit: nothing, Progress: func(done, total int) {
		if last = done; total != 4 {
			t.Errorf("%d tokens times blocks in all, want 4", total)
		}
	}})
	if err != nil || last != 4 {
		t.Errorf("progress ended at %d of 4, %v", last, err)
	}
	if c.ForwardMemory(1000, 100, F32) <= c.ForwardMemory(100, 100, F32) || c.ForwardMemory(100, 100, F32) < 100*36*4 {
		t.Error("memory does not grow with the tokens")
	}
	if err := c.Forward(ctx, Pass{}); err != nil {
		t.Errorf("a pass of nothing: %v", err)
	}
}

func TestExp(t *testing.T) {
	worst := 0.0
	for x := float32(-87); x <= 88; x += 0.00137 {
		want := math.Exp(float64(x))
		worst = max(worst, math.Abs(float64(exp(x))-want)/want)
	}
	if worst > 2e-7 {
		t.Errorf("relative error %g", worst)
	}
	for _, test := range [][2]float32{{0, 1}, {-88, exp(-87)}, {float32(math.Inf(-1)), exp(-87)}, {89, exp(88)}, {float32(math.Inf(1)), exp(88)}} {
		if got := exp(test[0]); got != test[1] {
			t.Errorf("exp(%g) = %g, want %g", test[0], got, test[1])
		}
	}
	if nan := exp(float32(math.NaN())); nan == nan {
		t.Errorf("exp(NaN) = %g", nan)
	}
}

func BenchmarkSwiGLU(b *testing.B) {
	gate, up := make([]float32, 8960), make([]float32, 8960)
	for i := range up {
		up[i] = float32(i%97)/20 - 2
	}
	b.SetBytes(4 * 8960)
	for b.Loop() {
		copy(gate, up)
		swiGLU(gate, up)
	}
}
