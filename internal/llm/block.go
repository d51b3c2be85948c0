package llm

import (
	"context"
	"encoding/binary"
	"math"

	"clusterflow/internal/linalg"
)

// block holds the weights of one decoder block. Linear layers that read the
// same input are stacked.
type block struct {
	attnNorm, mlpNorm []float32 // [hidden]
	qkv               linear    // [(heads + 2·kvHeads)·headDim, hidden]: q, k, v
	qNorm, kNorm      []float32 // [headDim], nil without
	out               linear    // [hidden, heads·headDim]
	gateUp            linear    // [2·inter, hidden]: gate, up
	down              linear    // [hidden, inter]
}

func newBlock(c Config, p Precision) *block {
	q, kv := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	b := &block{
		attnNorm: make([]float32, c.Hidden),
		mlpNorm:  make([]float32, c.Hidden),
		qkv:      newLinear(p, q+2*kv, c.Hidden, c.QKVBias),
		out:      newLinear(p, c.Hidden, q, c.OutBias),
		gateUp:   newLinear(p, 2*c.Inter, c.Hidden, c.MLPBias),
		down:     newLinear(p, c.Hidden, c.Inter, c.MLPBias),
	}
	if c.QKNorm {
		b.qNorm, b.kNorm = make([]float32, c.HeadDim), make([]float32, c.HeadDim)
	}
	return b
}

// bytes is the memory that the block holds.
func (b *block) bytes() int64 {
	n := int64(len(b.attnNorm)+len(b.mlpNorm)+len(b.qNorm)+len(b.kNorm)) * 4
	for _, l := range []*linear{&b.qkv, &b.out, &b.gateUp, &b.down} {
		n += l.bytes()
	}
	return n
}

// part is one tensor of a block's files.
type part struct {
	name   string // after "layers.N."
	shape  []int
	vector []float32 // where it goes, whole, unless it belongs to a layer
	layer  *linear   // whose weights it is part of
	row    int       // of the layer, where it begins
}

// parts lists the tensors of a block and where they go in b; with a nil b only
// their names and shapes are wanted.
func (c Config) parts(b *block) []part {
	q, kv := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	if b == nil {
		b = &block{}
	}
	var list []part
	vector := func(name string, v []float32, from, n int) {
		if v != nil {
			v = v[from : from+n]
		}
		list = append(list, part{name: name, shape: []int{n}, vector: v})
	}
	weights := func(name string, l *linear, row, rows, in int) {
		list = append(list, part{name: name, shape: []int{rows, in}, layer: l, row: row})
	}
	vector("input_layernorm.weight", b.attnNorm, 0, c.Hidden)
	weights("self_attn.q_proj.weight", &b.qkv, 0, q, c.Hidden)
	weights("self_attn.k_proj.weight", &b.qkv, q, kv, c.Hidden)
	weights("self_attn.v_proj.weight", &b.qkv, q+kv, kv, c.Hidden)
	if c.QKVBias {
		vector("self_attn.q_proj.bias", b.qkv.bias, 0, q)
		vector("self_attn.k_proj.bias", b.qkv.bias, q, kv)
		vector("self_attn.v_proj.bias", b.qkv.bias, q+kv, kv)
	}
	if c.QKNorm {
		vector("self_attn.q_norm.weight", b.qNorm, 0, c.HeadDim)
		vector("self_attn.k_norm.weight", b.kNorm, 0, c.HeadDim)
	}
	weights("self_attn.o_proj.weight", &b.out, 0, c.Hidden, q)
	if c.OutBias {
		vector("self_attn.o_proj.bias", b.out.bias, 0, c.Hidden)
	}
	vector("post_attention_layernorm.weight", b.mlpNorm, 0, c.Hidden)
	weights("mlp.gate_proj.weight", &b.gateUp, 0, c.Inter, c.Hidden)
	weights("mlp.up_proj.weight", &b.gateUp, c.Inter, c.Inter, c.Hidden)
	weights("mlp.down_proj.weight", &b.down, 0, c.Hidden, c.Inter)
	if c.MLPBias {
		vector("mlp.gate_proj.bias", b.gateUp.bias, 0, c.Inter)
		vector("mlp.up_proj.bias", b.gateUp.bias, c.Inter, c.Inter)
		vector("mlp.down_proj.bias", b.down.bias, 0, c.Hidden)
	}
	return list
}

// load reads block i of the checkpoint into b. Its pages of the files are given
// back, and those of the next block up to last asked for.
func (b *block) load(ctx context.Context, c *Checkpoint, i, last int, p Precision, threads int) error {
	for _, part := range c.Config.parts(b) {
		if err := ctx.Err(); err != nil {
			return err
		}
		t, err := c.tensor(c.blockTensor(i, part.name), part.shape...)
		if err != nil {
			return err
		}
		if part.layer != nil {
			part.layer.load(t, part.row, p, threads)
		} else {
			t.readAt(part.vector, 0)
		}
	}
	for _, part := range c.Config.parts(nil) {
		if next, ok := c.tensors[c.blockTensor(i+1, part.name)]; ok && i < last {
			next.prefetch()
		}
	}
	return nil
}

// blockElements is the number of a block's weights.
func (c Config) blockElements() int64 {
	var n int64
	for _, p := range c.parts(nil) {
		size := int64(1)
		for _, d := range p.shape {
			size *= int64(d)
		}
		n += size
	}
	return n
}

// blockBytes is the memory that a block takes in that precision: four bytes a
// weight, or, in int8, one, and four for each row's scale.
func (c Config) blockBytes(p Precision) int64 {
	n := 4 * c.blockElements()
	if p != Int8 {
		return n
	}
	for _, part := range c.parts(nil) {
		if len(part.shape) == 2 {
			rows, in := int64(part.shape[0]), int64(part.shape[1])
			n += rows * (4 - 3*in)
		}
	}
	return n
}

// elementSize returns the bytes of an element, 0 for types that are not read.
func elementSize(dtype string) int {
	switch dtype {
	case "BF16", "F16":
		return 2
	case "F32":
		return 4
	}
	return 0
}

// release gives back the pages of the elements [from, to).
func (t tensor) release(from, to int) {
	if t.mapped != nil {
		size := elementSize(t.dtype)
		t.mapped.Release(t.raw[from*size : to*size])
	}
}

// prefetch asks for the tensor's pages.
func (t tensor) prefetch() {
	if t.mapped != nil {
		t.mapped.Prefetch(t.raw)
	}
}

// readAt converts the elements from index from on, exactly.
func (t tensor) readAt(dst []float32, from int) {
	size := elementSize(t.dtype)
	src := t.raw[from*size : (from+len(dst))*size]
	switch t.dtype {
	case "F32":
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
		}
	case "BF16":
		for i := range dst {
			dst[i] = linalg.BF16ToF32(binary.LittleEndian.Uint16(src[2*i:]))
		}
	case "F16":
		for i := range dst {
			dst[i] = linalg.F16ToF32(binary.LittleEndian.Uint16(src[2*i:]))
		}
	}
}
