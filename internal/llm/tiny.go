package llm

import (
	"crypto/sha256"
	"embed"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"slices"

	"clusterflow/internal/linalg"
)

// BuiltinTiny is a model for trying things out: a Qwen2 of 4 blocks and hidden
// size 64 with fixed random weights, and a small tokenizer. What it computes
// means nothing.
const BuiltinTiny = "builtin:tiny"

// tinyVocab is the number of its tokens.
const tinyVocab = 1024

//go:embed tiny/tokenizer.json
var tinyFS embed.FS

func tinyFiles() fs.FS {
	fsys, err := fs.Sub(tinyFS, "tiny")
	if err != nil {
		panic(err) // the name is a constant
	}
	return fsys
}

// newTiny draws the model. Every tensor has its own generator and comes from
// uniform numbers alone, so the weights are the same on every machine.
func newTiny() (*Checkpoint, error) {
	c := &Checkpoint{source: BuiltinTiny, tensors: map[string]tensor{}, prefix: "model.", files: []string{}}
	c.Config = Config{
		ModelType: "qwen2", Hidden: 64, Inter: 160, Layers: 4, Heads: 4, KVHeads: 2, HeadDim: 16,
		Vocab: tinyVocab, Context: 32768, Eps: 1e-6, RopeTheta: 10000, QKVBias: true,
	}
	c.addRandom("model.embed_tokens.weight", 1, c.Config.Vocab, c.Config.Hidden)
	for i := range c.Config.Layers {
		for _, p := range c.Config.parts(nil) {
			// Near one for the norms; else a scale at which the states neither
			// vanish nor grow.
			scale := 0.1
			if len(p.shape) == 2 {
				scale = 1 / math.Sqrt(float64(p.shape[1]))
			}
			c.addRandom(c.blockTensor(i, p.name), scale, p.shape...)
		}
	}
	h := sha256.New()
	config, err := json.Marshal(c.Config)
	if err != nil {
		return nil, err
	}
	tokenizer, err := fs.ReadFile(tinyFiles(), "tokenizer.json")
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(h, "config %s\ntokenizer %x\n", config, sha256.Sum256(tokenizer))
	var names []string
	for name := range c.tensors {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(h, "%s %x\n", name, sha256.Sum256(c.tensors[name].raw))
	}
	c.builtin = BuiltinTiny + " " + hex.EncodeToString(h.Sum(nil))
	return c, nil
}

// addRandom adds a tensor of random numbers of the given standard deviation,
// around 1 for the weights of norms and around 0 for all others.
func (c *Checkpoint) addRandom(name string, deviation float64, shape ...int) {
	n := 1
	for _, d := range shape {
		n *= d
	}
	mean := 0.0
	if len(shape) == 1 && name[len(name)-len(".weight"):] == ".weight" {
		mean = 1
	}
	rng := linalg.Rand(0, "builtin:tiny weights", name)
	t := tensor{name: name, file: BuiltinTiny, dtype: "F32", shape: shape, raw: make([]byte, 4*n)}
	for i := range n {
		uniform := 2*float64(rng.Float32()) - 1             // deviation 1/√3
		v := mean + float64(deviation*math.Sqrt(3)*uniform) // the conversion keeps it from being fused
		binary.LittleEndian.PutUint32(t.raw[4*i:], math.Float32bits(float32(v)))
	}
	c.tensors[name] = t
}
