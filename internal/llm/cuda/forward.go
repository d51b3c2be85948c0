// Package cuda runs the blocks of a model on an NVIDIA card. The card itself is in
// programs that are built with the tag cuda alone, because importing gorgonia.org/cu
// ends a process that has no card; everything else stands behind the interface
// driver, and is tested with the kernels on the processor.
package cuda

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"clusterflow/internal/linalg"
	"clusterflow/internal/llm"
	"clusterflow/internal/llm/kernels"
)

const (
	// pieceRows is how many rows go through the linear layers together. Products
	// by cuBLAS always have so many, whatever is in them: with another number
	// it may sum in another order.
	pieceRows   = 8192
	batchPieces = 4 // how many of these go through a block together
)

// forward is a pass under way.
type forward struct {
	*engine
	ctx       context.Context
	cancel    context.CancelFunc
	ckpt      *llm.Checkpoint
	config    llm.Config
	pass      *llm.Pass
	number    string    // of products, as kernels' names have it
	size      int       // bytes of such a number
	batchRows int       // that go through a block together, unless a sequence alone has more
	piece     int       // rows that go through linear layers together
	wide      int       // width of heads in attention
	int8      *int8Room // nil in other precisions

	mem     buffers
	batches []*batch
	rows    int // of the largest batch, a multiple of piece
	states  address
	host    pinned // states, where the card does not hold them
	now     address

	normed, turned, heads, gated                    input
	qkv, broad                                      address
	cos, sin, ids, positions, pieces, spans, pooled address

	blocks [2]*weights
	coming <-chan error // says when the block on its way is there; nil: there is none
	link   pinned       // through which weights travel
	visits chan func() error
	shown  chan error // the first error of visits, when all are done
	done   int
	total  int
}

// input is what a linear layer reads: rows of ld numbers in the precision of
// products.
type input struct {
	data   address
	tensor address // the same in words for hopper.cu, where that is used
	ld     int
}

// batch is sequences that go through a block together, packed one after the
// other.
type batch struct {
	seqs   []int
	first  []int // row of each
	tokens int
	rows   int // tokens, up to a multiple of piece
	at     int // row in the states of all
	last   int // highest layer

	piecesAt, pieces int // of attention: the first of them, and how many
}

// Forward is [llm.Device]'s.
func (e *engine) Forward(ctx context.Context, ckpt *llm.Checkpoint, p *llm.Pass) error {
	f := &forward{engine: e, ctx: ctx, ckpt: ckpt, config: ckpt.Config, pass: p, size: 2, piece: cmp.Or(e.piece, pieceRows)}
	switch p.Precision {
	case llm.BF16:
		f.number = "bf16"
	case llm.F16:
		f.number = "f16"
	case llm.F32, "":
		f.number, f.size = "float", 4
	case llm.Int8:
		f.number, f.size, f.int8 = "float", 4, &int8Room{}
	default:
		return fmt.Errorf("the precision %s cannot be run on the card; %v can", p.Precision, llm.Precisions())
	}
	f.batchRows = batchPieces * f.piece
	if f.onHopper() && e.piece == 0 {
		f.piece *= 2 // whose kernels take longer to begin and to end
	}
	for f.wide = 64; f.wide < f.config.HeadDim; f.wide *= 2 {
	}
	if n := f.config.Heads + 2*f.config.KVHeads; n > 1024 {
		return fmt.Errorf("the model has %d heads; the kernels take up to 1024", n)
	}
	if f.wide > 256 {
		return fmt.Errorf("the heads of the model are %d wide; the kernels take up to 256", f.config.HeadDim)
	}
	defer f.free()
	begin := time.Now()
	e.stages = map[string]float64{}
	if err := f.prepare(); err != nil {
		return err
	}
	e.stages["prepare"] = time.Since(begin).Seconds()
	begin = time.Now()
	f.ctx, f.cancel = context.WithCancel(ctx)
	defer f.cancel()
	f.visits, f.shown = make(chan func() error, 2), make(chan error, 1)
	go f.visit()
	err := f.run()
	close(f.visits)
	if shown := <-f.shown; shown != nil {
		err = shown
	}
	e.stages["blocks"] = time.Since(begin).Seconds()
	return err
}

func (f *forward) free() {
	if f.coming != nil {
		<-f.coming // it uses memory that is about to be freed
	}
	f.wait(copies) //nolint:errcheck // what failed was told before
	f.wait(work)   //nolint:errcheck
	f.mem.free(f)
	f.unpin(f.host)
	f.unpin(f.link)
	for _, b := range f.blocks {
		b.free(f)
	}
}

// onHopper reports whether the kernels of hopper.cu make the products.
func (f *forward) onHopper() bool { return f.hopper > 0 && f.size == 2 }

// turnsOnHopper reports whether the product for attention ends with the rotation:
// heads have one of the widths that hopper.cu knows.
func (f *forward) turnsOnHopper() bool {
	return f.onHopper() && f.wide == f.config.HeadDim
}

// attendsOnHopper reports whether attention is that of hopper.cu, which knows one
// width of heads.
func (f *forward) attendsOnHopper() bool { return f.onHopper() && f.config.HeadDim == 128 }

// describe puts the words for hopper.cu of a matrix on the card.
func (f *forward) describe(mem *buffers, data address, rows, ld int) (address, error) {
	if !f.onHopper() {
		return 0, nil
	}
	words, err := f.tensor(data, rows, ld)
	if err != nil {
		return 0, doing("describing a matrix to the card", err)
	}
	p, err := mem.take(f, "the words of a matrix", int64(len(words)))
	if err != nil {
		return 0, err
	}
	return p, f.upload("the words of a matrix", p, words)
}

// of is where a batch's states lie on the card.
func (f *forward) of(b *batch) address {
	if f.states != 0 {
		return f.states + address(int64(b.at)*int64(f.config.Hidden)*4)
	}
	return f.now
}

// hostStates are the states of a batch in the host's memory.
func (f *forward) hostStates(b *batch) pinned {
	row := int64(f.config.Hidden) * 4
	return f.host[int64(b.at)*row:][:int64(b.tokens)*row]
}

// here brings a batch's states to the card, where they are not kept there.
func (f *forward) here(b *batch, x address) error {
	if f.host == nil {
		return nil
	}
	return doing("fetching states", f.send(x, f.hostStates(b), work))
}

// away takes them back.
func (f *forward) away(b *batch, x address) error {
	if f.host == nil {
		return nil
	}
	return doing("keeping states", f.fetch(f.hostStates(b), x))
}

func (f *forward) sync(what string) error { return doing(what, f.wait(work)) }

// run takes all batches through block after block. While one is computed, the
// next one's weights travel.
func (f *forward) run() error {
	f.showEmpty()
	last := -1
	for _, b := range f.batches {
		last = max(last, b.last)
	}
	if f.pass.Progress != nil && f.total > 0 {
		f.pass.Progress(0, f.total)
	}
	if last < 0 {
		return nil
	}
	for layer := 0; layer <= last; layer++ {
		w := f.blocks[layer%2]
		begin := time.Now()
		err := <-f.coming
		f.coming = nil
		f.stages["waiting for weights"] += time.Since(begin).Seconds()
		if err != nil {
			return err
		}
		if layer < last {
			f.coming = f.blocks[(layer+1)%2].bring(f, layer+1)
		}
		if err = w.unpack(f); err == nil {
			err = f.layer(layer, w)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *forward) layer(layer int, w *weights) error {
	for _, b := range f.batches {
		if b.last < layer {
			continue
		}
		if err := f.ctx.Err(); err != nil {
			return err
		}
		x := f.of(b)
		if err := f.here(b, x); err != nil {
			return err
		}
		if err := f.block(b, w, x); err != nil {
			return err
		}
		if err := f.show(layer, b, x); err != nil {
			return err
		}
		if b.last > layer {
			if err := f.away(b, x); err != nil {
				return err
			}
		}
		for _, i := range b.seqs {
			if q := &f.pass.Sequences[i]; q.Last() >= layer {
				f.done += len(q.IDs)
			}
		}
		if f.pass.Progress != nil {
			if err := f.sync(fmt.Sprintf("computing block %d", layer)); err != nil {
				return err
			}
			f.pass.Progress(f.done, f.total)
		}
	}
	return f.sync(fmt.Sprintf("computing block %d", layer))
}

// block replaces the states x of a batch by the block's output for them.
func (f *forward) block(b *batch, w *weights, x address) error {
	if f.int8 != nil {
		return f.blockInt8(b, w, x)
	}
	c, n := f.config, f.number
	q, kv := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	eps := float32(c.Eps)
	const f32 = 4
	var err error
	do := func(name string, gridX, gridY, threads, shared int, args ...any) {
		if err == nil {
			err = f.launch(name, gridX, gridY, threads, shared, args...)
		}
	}
	for at := 0; at < b.tokens; at += f.piece {
		rows := min(f.piece, b.tokens-at)
		do("rms_norm_"+n, (rows+7)/8, 1, 256, 0, f.normed.data, place(x, at, c.Hidden, f32), w.attnNorm, rows, c.Hidden, up(c.Hidden), eps)
		heads := (c.Heads + 2*c.KVHeads) * f.wide
		turned, positions := place(f.turned.data, at, heads, f.size), place(f.positions, b.at+at, 1, 4)
		if f.turnsOnHopper() {
			do("turned_product_"+n, f.hopper, 1, kernels.HopperThreads, kernels.HopperShared, turned, f.normed.tensor, w.qkv.tensor,
				w.qkv.bias, w.qNorm, w.kNorm, positions, f.cos, f.sin, rows, up(c.Hidden), c.Heads, c.KVHeads, c.HeadDim, eps)
			continue
		}
		f.multiply(&err, f.qkv, f.normed, 0, w.qkv, rows, 0)
		do("rotate_"+n, rows, 1, 256, 0, turned, f.qkv, w.qkv.bias, w.qNorm, w.kNorm,
			positions, f.cos, f.sin, c.Heads, c.KVHeads, c.HeadDim, f.wide, q+2*kv, eps)
	}
	f.attention(&err, b)
	for at := 0; at < b.tokens; at += f.piece {
		rows := min(f.piece, b.tokens-at)
		here := place(x, at, c.Hidden, f32)
		f.multiply(&err, here, f.heads, at, w.out, rows, 1)
		if w.out.bias != 0 {
			do("add_bias", rows, 1, 256, 0, here, w.out.bias, c.Hidden)
		}
		do("rms_norm_"+n, (rows+7)/8, 1, 256, 0, f.normed.data, here, w.mlpNorm, rows, c.Hidden, up(c.Hidden), eps)
		f.gate(&err, f.gated.data, f.broad, f.normed, w.gateUp, rows)
		f.multiply(&err, here, f.gated, 0, w.down, rows, 1)
		if w.down.bias != 0 {
			do("add_bias", rows, 1, 256, 0, here, w.down.bias, c.Hidden)
		}
	}
	return err
}

// attention sets the heads' outputs of a batch, unless *err is set.
func (f *forward) attention(err *error, b *batch) {
	if *err != nil {
		return
	}
	c := f.config
	if f.attendsOnHopper() {
		*err = f.launch("hopper_attention_"+f.number, f.hopper, 1, kernels.HopperThreads, kernels.HopperShared, f.heads.data, f.turned.tensor,
			place(f.pieces, b.piecesAt, 3, 4), b.pieces, c.Heads, c.KVHeads, up(c.Heads*c.HeadDim), float32(1/math.Sqrt(float64(c.HeadDim))))
		return
	}
	name, shared := kernels.Attention(f.number, f.wide)
	*err = f.launch(name, b.pieces, c.Heads, 128, shared, f.heads.data, f.turned.data, place(f.pieces, b.piecesAt, 3, 4),
		c.Heads, c.KVHeads, c.HeadDim, up(c.Heads*c.HeadDim), float32(1/math.Sqrt(float64(c.HeadDim))))
}

// multiply sets to = x·Wᵀ + beta·to, with x from its row at on and without the bias,
// unless *err is set.
func (f *forward) multiply(err *error, to address, x input, at int, l layer, rows int, beta float32) {
	if *err != nil {
		return
	}
	from := place(x.data, at, x.ld, f.size)
	done := false
	*err = f.timed(fmt.Sprintf("product %d", l.out), func() (err error) {
		done, err = f.driver.product(to, from, l.data, f.piece, l.out, l.in, x.ld, up(l.in), l.out, f.number, beta)
		return doing("a product", err)
	})
	if *err != nil || done {
		return
	}
	if f.onHopper() {
		*err = f.launch("product_"+f.number, f.hopper, 1, kernels.HopperThreads, kernels.HopperShared,
			to, x.tensor, l.tensor, rows, l.out, up(l.in), at, l.out, beta)
		return
	}
	name, tall, broad, shared := kernels.Gemm(f.number, f.shared)
	*err = f.launch(name, (rows+tall-1)/tall, (l.out+broad-1)/broad, 256, shared,
		to, from, l.data, rows, l.out, up(l.in), x.ld, up(l.in), l.out, beta)
}

// gate sets to = silu(x·Gᵀ)·(x·Uᵀ), with G and U stacked in l and biases, unless
// *err is set. It may need broad, for float32 numbers of twice the size.
func (f *forward) gate(err *error, to, broad address, x input, l layer, rows int) {
	inter := l.out / 2
	if !f.onHopper() {
		f.multiply(err, broad, x, 0, l, rows, 0)
	}
	switch {
	case *err != nil:
	case f.onHopper():
		*err = f.launch("gated_product_"+f.number, f.hopper, 1, kernels.HopperThreads, kernels.HopperShared,
			to, x.tensor, l.tensor, l.bias, rows, inter, up(l.in), 0, up(inter))
	default:
		*err = f.launch("swiglu_"+f.number, rows, (inter+2047)/2048, 256, 0, to, broad, l.bias, inter, up(inter))
	}
}

// show hands out the states, or their means, of the sequences that want this
// layer.
func (f *forward) show(layer int, b *batch, x address) error {
	hidden := f.config.Hidden
	var spans []int32
	whole := false
	for k, i := range b.seqs {
		q := f.pass.Sequences[i]
		if !slices.Contains(q.Layers, layer) {
			continue
		}
		whole = whole || q.Means == nil
		for _, m := range q.Means {
			spans = append(spans, int32(b.first[k]+m[0]), int32(b.first[k]+m[1]))
		}
	}
	means := linalg.NewMatrix(len(spans)/2, hidden)
	if len(spans) > 0 {
		if err := f.upload("sentences", f.spans, linalg.Bytes(spans)); err != nil {
			return err
		}
		if err := f.launch("mean_rows", len(spans)/2, (hidden+255)/256, 256, 0, f.pooled, x, f.spans, hidden); err != nil {
			return err
		}
		if err := f.download("means of sentences", linalg.Bytes(means.Data), f.pooled); err != nil {
			return err
		}
	}
	var states linalg.Matrix
	if whole {
		states = linalg.NewMatrix(b.tokens, hidden)
		if err := f.download("states", linalg.Bytes(states.Data), x); err != nil {
			return err
		}
	}
	f.visits <- func() error {
		at := 0
		for k, i := range b.seqs {
			q := f.pass.Sequences[i]
			if !slices.Contains(q.Layers, layer) {
				continue
			}
			m := means.Slice(at, at+len(q.Means))
			at += len(q.Means)
			if q.Means == nil {
				m = states.Slice(b.first[k], b.first[k]+len(q.IDs))
			}
			if err := f.pass.Visit(layer, i, m); err != nil {
				return err
			}
		}
		return nil
	}
	return nil
}

// showEmpty hands out the states of sequences without a token, of which there are
// none.
func (f *forward) showEmpty() {
	f.visits <- func() error {
		for i, q := range f.pass.Sequences {
			if len(q.IDs) > 0 {
				continue
			}
			for _, layer := range q.Layers {
				if err := f.pass.Visit(layer, i, linalg.NewMatrix(0, f.config.Hidden)); err != nil {
					return err
				}
			}
		}
		return nil
	}
}

// visit calls what show prepared, in order and beside the card's work.
func (f *forward) visit() {
	var first error
	for call := range f.visits {
		if first == nil {
			if first = call(); first != nil {
				f.cancel()
			}
		}
	}
	f.shown <- first
}

// up is n, up to a multiple of eight: how many numbers the rows of products
// have, so that they begin at multiples of sixteen bytes.
func up(n int) int { return (n + 7) / 8 * 8 }

// kernelType is the name that kernels have for a type of a file.
func kernelType(dtype string) string {
	switch dtype {
	case "BF16":
		return "bf16"
	case "F16":
		return "f16"
	}
	return "float"
}
