package cuda

import (
	"runtime"
	"strings"

	"clusterflow/internal/linalg"
	"clusterflow/internal/llm"
)

// layer is a linear layer on the card, or several that read the same input,
// stacked: weights [out, up(in)] in the precision of products, zero from in on, or,
// in int8, [out, up16(in)].
type layer struct {
	out, in int
	data    address
	scales  address // f32 [out], of weights in int8
	tensor  address // data in words for hopper.cu, where that is used
	bias    address // f32 [out], 0 without
}

// weights is the room for one block on the card, and what is on its way there.
type weights struct {
	attnNorm, mlpNorm, qNorm, kNorm address // qNorm and kNorm are 0 without
	qkv, out, gateUp, down          layer

	mem   buffers
	raw   address // a block as its file has it
	parts []staged
}

// staged is a tensor in the raw bytes of a block.
type staged struct {
	weight llm.Weight
	at     int64
	floats bool // a vector: converted on its way
}

func newWeights(f *forward) (*weights, error) {
	c := f.config
	w := &weights{}
	q, kv := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	take := func(err *error, what string, bytes int64) address {
		if *err != nil {
			return 0
		}
		var p address
		p, *err = w.mem.take(f, what, bytes)
		return p
	}
	var err error
	linear := func(out, in int, bias bool) layer {
		l := layer{out: out, in: in}
		l.data = take(&err, "the weights of a block", int64(out)*f.weightRow(in))
		if f.int8 != nil {
			l.scales = take(&err, "the scales of weights", 4*int64(out))
		}
		if err == nil {
			l.tensor, err = f.describe(&w.mem, l.data, out, up(in))
		}
		if bias {
			l.bias = take(&err, "biases", 4*int64(out))
		}
		return l
	}
	w.qkv = linear(q+2*kv, c.Hidden, c.QKVBias)
	w.out = linear(c.Hidden, q, c.OutBias)
	w.gateUp = linear(2*c.Inter, c.Hidden, c.MLPBias)
	w.down = linear(c.Hidden, c.Inter, c.MLPBias)
	w.attnNorm = take(&err, "norms", 4*int64(c.Hidden))
	w.mlpNorm = take(&err, "norms", 4*int64(c.Hidden))
	if c.QKNorm {
		w.qNorm = take(&err, "norms", 4*int64(c.HeadDim))
		w.kNorm = take(&err, "norms", 4*int64(c.HeadDim))
	}
	if err != nil {
		return w, err
	}
	raw := int64(0)
	for i := range c.Layers { // blocks may have other types of numbers
		list, err := f.ckpt.BlockWeights(i)
		if err != nil {
			return w, err
		}
		raw = max(raw, rawBytes(list))
	}
	w.raw = take(&err, "a block of the checkpoint", raw)
	return w, err
}

func (w *weights) free(d driver) {
	if w != nil {
		w.mem.free(d)
	}
}

// weightRow is how many bytes a row of a layer's weights takes.
func (f *forward) weightRow(in int) int64 {
	if f.int8 != nil {
		return int64(up16(in))
	}
	return int64(up(in)) * int64(f.size)
}

// rawBytes is how much of the card a block takes as it comes: tensors begin at
// multiples of 16, and vectors travel in float32.
func rawBytes(list []llm.Weight) int64 {
	n := int64(0)
	for _, t := range list {
		bytes := int64(len(t.Data))
		if len(t.Shape) == 1 {
			bytes = 4 * int64(t.Shape[0])
		}
		n += (bytes + 15) / 16 * 16
	}
	return n
}

// linkHalf is half of the page-locked memory through which weights travel: one
// half is filled while the other one is read by the card.
const linkHalf = 8 << 20

// bring begins to copy a block from its file to the card, beside all else, and
// says when it is there. Only one block may be on its way.
func (w *weights) bring(f *forward, block int) <-chan error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		err := doing("using the card from another thread", f.attach())
		if err == nil {
			err = w.read(f, block)
		}
		done <- err
	}()
	return done
}

func (w *weights) read(f *forward, block int) error {
	list, err := f.ckpt.BlockWeights(block)
	if err != nil {
		return err
	}
	w.parts = w.parts[:0]
	at, half := int64(0), 0
	for _, t := range list {
		data := t.Data
		vector := len(t.Shape) == 1
		if vector {
			data = linalg.Bytes(t.Floats())
		}
		w.parts = append(w.parts, staged{t, at, vector})
		for from := 0; from < len(data); from += linkHalf {
			part := data[from:min(from+linkHalf, len(data))]
			through := f.link[half*linkHalf:][:len(part)]
			copy(through, part)
			// What the card reads from the other half has come when this returns.
			if err := doing("uploading a block", f.wait(copies)); err != nil {
				return err
			}
			if err := doing("uploading a block", f.send(w.raw+address(at+int64(from)), through, copies)); err != nil {
				return err
			}
			half = 1 - half
		}
		at += (int64(len(data)) + 15) / 16 * 16
	}
	return doing("uploading a block", f.wait(copies))
}

// unpack brings the block that has come into the form of products.
func (w *weights) unpack(f *forward) error {
	rows := map[*layer]int{}   // filled of the weights
	biases := map[*layer]int{} // and of the biases
	for _, s := range w.parts {
		from := w.raw + address(s.at)
		l := w.layerOf(s.weight.Name)
		if s.floats {
			to := w.vectorOf(s.weight.Name)
			if to == 0 {
				to = l.bias + address(4*biases[l])
				biases[l] += s.weight.Shape[0]
			}
			if err := doing("placing a vector", f.move(to, from, 4*int64(s.weight.Shape[0]))); err != nil {
				return err
			}
			continue
		}
		out, in := s.weight.Shape[0], s.weight.Shape[1]
		to, scales := l.data+address(int64(rows[l])*f.weightRow(in)), l.scales+address(4*rows[l])
		rows[l] += out
		if f.int8 != nil {
			if err := f.launch("quantise_weights_"+kernelType(s.weight.DType), out, 1, 256, 0, to, scales, from, in, up16(in)); err != nil {
				return err
			}
			continue
		}
		kernel := "convert_" + kernelType(s.weight.DType) + "_" + f.number
		blocks := min(4096, (out*up(in)+255)/256)
		if err := f.launch(kernel, blocks, 1, 256, 0, to, from, out, in, up(in)); err != nil {
			return err
		}
	}
	return nil
}

func (w *weights) layerOf(name string) *layer {
	switch {
	case strings.HasPrefix(name, "self_attn.o_proj"):
		return &w.out
	case strings.HasPrefix(name, "self_attn."):
		return &w.qkv
	case strings.HasPrefix(name, "mlp.down_proj"):
		return &w.down
	}
	return &w.gateUp
}

// vectorOf is where a vector goes, 0 for biases.
func (w *weights) vectorOf(name string) address {
	switch name {
	case "input_layernorm.weight":
		return w.attnNorm
	case "post_attention_layernorm.weight":
		return w.mlpNorm
	case "self_attn.q_norm.weight":
		return w.qNorm
	case "self_attn.k_norm.weight":
		return w.kNorm
	}
	return 0
}
