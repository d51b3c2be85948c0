package llm

import (
	"context"
	"encoding/binary"
	"math"

	"clusterflow/internal/linalg"
)

// block holds the float32 weights of one decoder block. Linear layers are
// [out, in], as in the files; those that read the same input are stacked.
type block struct {
	attnNorm, mlpNorm []float32     // [hidden]
	qkv               linalg.Matrix // [(heads + 2·kvHeads)·headDim, hidden]: q, k, v
	qkvBias           []float32     // nil without
	qNorm, kNorm      []float32     // [headDim], nil without
	out               linalg.Matrix // [hidden, heads·headDim]
	outBias           []float32
	gateUp            linalg.Matrix // [2·inter, hidden]: gate, up
	gateUpBias        []float32
	down              linalg.Matrix // [hidden, inter]
	downBias          []float32
}

func newBlock(c Config) *block {
	q, kv := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	b := &block{
		attnNorm: make([]float32, c.Hidden),
		mlpNorm:  make([]float32, c.Hidden),
		qkv:      linalg.NewMatrix(q+2*kv, c.Hidden),
		out:      linalg.NewMatrix(c.Hidden, q),
		gateUp:   linalg.NewMatrix(2*c.Inter, c.Hidden),
		down:     linalg.NewMatrix(c.Hidden, c.Inter),
	}
	if c.QKVBias {
		b.qkvBias = make([]float32, q+2*kv)
	}
	if c.QKNorm {
		b.qNorm, b.kNorm = make([]float32, c.HeadDim), make([]float32, c.HeadDim)
	}
	if c.OutBias {
		b.outBias = make([]float32, c.Hidden)
	}
	if c.MLPBias {
		b.gateUpBias, b.downBias = make([]float32, 2*c.Inter), make([]float32, c.Hidden)
	}
	return b
}

// part is one tensor of a block's files.
type part struct {
	name  string // after "layers.N."
	shape []int
	into  []float32 // where it goes; nil where only the shape is asked for
}

// parts lists the tensors of a block, in b where it is not nil.
func (c Config) parts(b *block) []part {
	q, kv := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	if b == nil {
		b = &block{}
	}
	var list []part
	add := func(name string, into []float32, from int, shape ...int) {
		n := shape[0]
		if len(shape) == 2 {
			n, from = n*shape[1], from*shape[1]
		}
		if into != nil {
			into = into[from : from+n]
		}
		list = append(list, part{name, shape, into})
	}
	add("input_layernorm.weight", b.attnNorm, 0, c.Hidden)
	add("self_attn.q_proj.weight", b.qkv.Data, 0, q, c.Hidden)
	add("self_attn.k_proj.weight", b.qkv.Data, q, kv, c.Hidden)
	add("self_attn.v_proj.weight", b.qkv.Data, q+kv, kv, c.Hidden)
	if c.QKVBias {
		add("self_attn.q_proj.bias", b.qkvBias, 0, q)
		add("self_attn.k_proj.bias", b.qkvBias, q, kv)
		add("self_attn.v_proj.bias", b.qkvBias, q+kv, kv)
	}
	if c.QKNorm {
		add("self_attn.q_norm.weight", b.qNorm, 0, c.HeadDim)
		add("self_attn.k_norm.weight", b.kNorm, 0, c.HeadDim)
	}
	add("self_attn.o_proj.weight", b.out.Data, 0, c.Hidden, q)
	if c.OutBias {
		add("self_attn.o_proj.bias", b.outBias, 0, c.Hidden)
	}
	add("post_attention_layernorm.weight", b.mlpNorm, 0, c.Hidden)
	add("mlp.gate_proj.weight", b.gateUp.Data, 0, c.Inter, c.Hidden)
	add("mlp.up_proj.weight", b.gateUp.Data, c.Inter, c.Inter, c.Hidden)
	add("mlp.down_proj.weight", b.down.Data, 0, c.Hidden, c.Inter)
	if c.MLPBias {
		add("mlp.gate_proj.bias", b.gateUpBias, 0, c.Inter)
		add("mlp.up_proj.bias", b.gateUpBias, c.Inter, c.Inter)
		add("mlp.down_proj.bias", b.downBias, 0, c.Hidden)
	}
	return list
}

// load reads block i of the checkpoint into b.
func (b *block) load(ctx context.Context, c *Checkpoint, i, threads int) error {
	for _, p := range c.Config.parts(b) {
		if err := ctx.Err(); err != nil {
			return err
		}
		t, err := c.tensor(c.blockTensor(i, p.name), p.shape...)
		if err != nil {
			return err
		}
		t.read(p.into, threads)
	}
	return nil
}

// bytes is the memory that a block of this shape takes.
func (c Config) blockBytes() int64 {
	var n int64
	for _, p := range c.parts(nil) {
		size := int64(4)
		for _, d := range p.shape {
			size *= int64(d)
		}
		n += size
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

// read converts the whole tensor to float32.
func (t tensor) read(dst []float32, threads int) {
	const piece = 1 << 18
	linalg.ForEach(threads, linalg.Blocks(len(dst), piece), func(k int) {
		from := k * piece
		t.readAt(dst[from:min(from+piece, len(dst))], from)
	})
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
