package cuda

import (
	"clusterflow/internal/linalg"
	"clusterflow/internal/llm/kernels"
)

// int8Room is what products in int8 need besides: the input of a layer in whole
// numbers, and which of its columns are outliers in each sequence of a batch. All
// but the inputs of products is float32, as in [llm.F32]. Whether a column is an
// outlier depends on all tokens of a sequence, so layers' inputs are made for a
// whole batch before one is multiplied.
type int8Room struct {
	numbers, scales        address // [rows, up16(in)] and, in float32, [rows]
	owners                 address // int32: of each row of all batches, its sequence in the batch
	marks, columns, counts address // [sequences, in] bytes and int32, and int32 [sequences]
}

// up16 is how many int8 numbers rows of so many have on the card.
func up16(n int) int { return (n + 15) / 16 * 16 }

// take takes the memory of the card.
func (r *int8Room) take(f *forward) error {
	c := f.config
	widest := int64(max(c.Hidden, c.Inter, c.Heads*c.HeadDim))
	var owners []int32
	sequences := 0
	for _, b := range f.batches {
		sequences = max(sequences, len(b.seqs))
		for k, i := range b.seqs {
			for range f.pass.Sequences[i].IDs {
				owners = append(owners, int32(k))
			}
		}
		owners = append(owners, make([]int32, b.at+b.rows-len(owners))...)
	}
	for _, l := range []struct {
		to    *address
		what  string
		bytes int64
	}{
		{&r.numbers, "inputs in int8", int64(f.rows) * int64(up16(int(widest)))},
		{&r.scales, "the scales of inputs", int64(f.rows) * 4},
		{&r.owners, "the sequences of rows", int64(len(owners)) * 4},
		{&r.marks, "outliers", int64(sequences) * widest},
		{&r.columns, "outliers", int64(sequences) * widest * 4},
		{&r.counts, "outliers", int64(sequences) * 4},
	} {
		var err error
		if *l.to, err = f.mem.take(f, l.what, l.bytes); err != nil {
			return err
		}
	}
	return f.upload("the sequences of rows", r.owners, linalg.Bytes(owners))
}

// blockInt8 is block in int8.
func (f *forward) blockInt8(b *batch, w *weights, x address) error {
	c := f.config
	q, kv := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	heads := (c.Heads + 2*c.KVHeads) * f.wide
	eps := float32(c.Eps)
	var err error
	do := func(name string, gridX, gridY, threads int, args ...any) {
		if err == nil {
			err = f.launch(name, gridX, gridY, threads, 0, args...)
		}
	}
	pieces := func(each func(at, rows int)) {
		for at := 0; at < b.tokens; at += f.piece {
			each(at, min(f.piece, b.tokens-at))
		}
	}
	norm := func(weight address) {
		do("rms_norm_float", (b.tokens+7)/8, 1, 256, f.normed.data, x, weight, b.tokens, c.Hidden, up(c.Hidden), eps)
		f.quantise(&err, b, f.normed, c.Hidden)
	}
	add := func(l layer, from input) { // x += l(from)
		f.quantise(&err, b, from, l.in)
		f.multiplyInt8(&err, x, from, l, b, 0, b.tokens, 1)
		if l.bias != 0 {
			do("add_bias", b.tokens, 1, 256, x, l.bias, c.Hidden)
		}
	}

	norm(w.attnNorm)
	pieces(func(at, rows int) {
		f.multiplyInt8(&err, f.qkv, f.normed, w.qkv, b, at, rows, 0)
		do("rotate_float", rows, 1, 256, place(f.turned.data, at, heads, 4), f.qkv, w.qkv.bias, w.qNorm, w.kNorm,
			place(f.positions, b.at+at, 1, 4), f.cos, f.sin, c.Heads, c.KVHeads, c.HeadDim, f.wide, q+2*kv, eps)
	})
	f.attention(&err, b)
	add(w.out, f.heads)

	norm(w.mlpNorm)
	pieces(func(at, rows int) {
		f.multiplyInt8(&err, f.broad, f.normed, w.gateUp, b, at, rows, 0)
		do("swiglu_float", rows, (c.Inter+2047)/2048, 256, place(f.gated.data, at, f.gated.ld, 4), f.broad, w.gateUp.bias, c.Inter, f.gated.ld)
	})
	add(w.down, f.gated)
	return err
}

// quantise brings a batch's rows x, of so many numbers, to int8, without the columns
// that are outliers in their sequence, and lists these.
func (f *forward) quantise(err *error, b *batch, x input, in int) {
	if *err != nil {
		return
	}
	r, owners := f.int8, place(f.int8.owners, b.at, 1, 4)
	if *err = doing("clearing outliers", f.clear(r.marks, int64(len(b.seqs))*int64(in))); *err != nil {
		return
	}
	if *err = f.launch("mark_outliers", b.tokens, 1, 256, 0, r.marks, x.data, owners, in, x.ld); *err != nil {
		return
	}
	if *err = f.launch("list_outliers", len(b.seqs), 1, 256, 0, r.columns, r.counts, r.marks, in); *err != nil {
		return
	}
	*err = f.launch("quantise_rows", b.tokens, 1, 256, 0, r.numbers, r.scales, x.data, r.marks, owners, in, x.ld, up16(in))
}

// multiplyInt8 sets to = x·Wᵀ + beta·to for rows of a batch from at on, without the
// bias. x, which begins with the batch, is what was quantised last.
func (f *forward) multiplyInt8(err *error, to address, x input, l layer, b *batch, at, rows int, beta float32) {
	if *err != nil {
		return
	}
	r := f.int8
	name, tall, broad, shared := kernels.Gemm("int8", f.shared)
	*err = f.launch(name, (rows+tall-1)/tall, (l.out+broad-1)/broad, 256, shared,
		to, place(r.numbers, at, up16(l.in), 1), l.data, place(r.scales, at, 1, 4), l.scales, rows, l.out, up16(l.in)/2, beta)
	if *err != nil {
		return
	}
	*err = f.launch("add_outliers", (rows+63)/64, (l.out+63)/64, 256, 0,
		to, place(x.data, at, x.ld, 4), l.data, l.scales, place(r.owners, b.at+at, 1, 4), r.columns, r.counts,
		rows, l.out, l.in, x.ld, up16(l.in))
}

// place is where row at lies of rows of so many numbers of so many bytes.
func place(p address, at, cols, size int) address {
	return p + address(int64(at)*int64(cols)*int64(size))
}
