package llm

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"clusterflow/internal/linalg"
)

// rowsAtOnce is how many rows of a sequence go through the MLP together, which
// bounds the memory of its wide activations. It is a multiple of the tile of
// [linalg.Gemm].
const rowsAtOnce = 1024

// Forward runs the sequences of token ids through the blocks 0 to the highest
// of layers, in float32, and calls visit for every layer asked for and every
// sequence, in order of layer, then sequence, with the block's output [tokens,
// hidden]; states is only valid during the call. Blocks above, the final norm
// and the head are not run.
//
// It goes block by block over all sequences: each weight is read once, and
// memory holds the states of all sequences and one block (see
// [Checkpoint.ForwardMemory]). The states of a sequence depend on nothing but
// the sequence, the weights and the BLAS in use, to the bit: not on threads,
// nor on what else is run.
//
// progress, which may be nil, is told how many of total tokens times blocks
// are done, from one goroutine at a time. ids must lie in the embedding. When
// ctx ends, Forward returns its error within a part of a block.
func (c *Checkpoint) Forward(ctx context.Context, seqs [][]int32, layers []int, threads int, visit func(layer, seq int, states linalg.Matrix) error, progress func(done, total int)) error {
	fail := func(err error) error { return fmt.Errorf("running model %q: %w", c.source, err) }
	layers = slices.Compact(slices.Sorted(slices.Values(layers)))
	if len(layers) == 0 {
		return nil
	}
	last := layers[len(layers)-1]
	if layers[0] < 0 || last >= c.Config.Layers {
		return fail(fmt.Errorf("there is no layer %d: it has %d blocks, 0 to %d", pick(layers[0] < 0, layers[0], last), c.Config.Layers, c.Config.Layers-1))
	}
	threads = max(1, threads)
	states, err := c.embed(seqs, threads)
	if err != nil {
		return fail(err)
	}
	tokens, longest := 0, 0
	order := make([]int, len(seqs)) // longest first, so that the threads end together
	for i, seq := range seqs {
		order[i] = i
		tokens += len(seq)
		longest = max(longest, len(seq))
	}
	slices.SortStableFunc(order, func(a, b int) int { return len(seqs[b]) - len(seqs[a]) })

	// Many sequences: a thread takes one at a time. Few: all threads work on
	// one. The bits are the same.
	workers, inner := threads, 1
	if len(seqs) < threads {
		workers, inner = 1, threads
	}
	run := &runner{ctx: ctx, config: c.Config, block: newBlock(c.Config), rope: newRope(c.Config, longest), threads: inner}
	run.spaces.New = func() any { return &workspace{} }
	var report sync.Mutex
	done := 0
	for layer := 0; layer <= last; layer++ {
		if err := run.block.load(ctx, c, layer, threads); err != nil {
			return fail(err)
		}
		var stopped atomic.Bool
		linalg.ForEach(workers, len(order), func(k int) {
			if stopped.Load() || ctx.Err() != nil {
				stopped.Store(true)
				return
			}
			i := order[k]
			if !run.sequence(states[i]) {
				stopped.Store(true)
				return
			}
			report.Lock()
			defer report.Unlock()
			if done += len(seqs[i]); progress != nil {
				progress(done, tokens*(last+1))
			}
		})
		if stopped.Load() {
			return fail(ctx.Err())
		}
		if !slices.Contains(layers, layer) {
			continue
		}
		for i := range seqs {
			if err := visit(layer, i, states[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// ForwardMemory estimates the bytes that Forward needs for so many tokens in
// all, in sequences of at most longest: the states, one block in float32, and
// the work space of a thread per processor. The mapped weights are not in it:
// the system can drop their pages.
func (c *Checkpoint) ForwardMemory(tokens, longest int) int64 {
	f := c.Config
	heads, kv := int64(f.Heads*f.HeadDim), int64(f.KVHeads*f.HeadDim)
	rows := int64(min(longest, rowsAtOnce))
	perThread := int64(longest)*(2*heads+2*kv) + rows*int64(f.Hidden+2*f.Inter) + queryBlock*int64(longest)
	rotations := int64(longest) * int64(f.HeadDim)
	return f.blockBytes() + 4*(int64(tokens)*int64(f.Hidden)+rotations+perThread*int64(runtime.NumCPU()))
}

// embed returns the embeddings of the sequences, each [tokens, hidden].
func (c *Checkpoint) embed(seqs [][]int32, threads int) ([]linalg.Matrix, error) {
	table, err := c.tensor(c.prefix+"embed_tokens.weight", c.Config.Vocab, c.Config.Hidden)
	if err != nil {
		return nil, err
	}
	for i, seq := range seqs {
		for j, id := range seq {
			if id < 0 || int(id) >= c.Config.Vocab {
				return nil, fmt.Errorf("token %d of sequence %d has the id %d, outside the embedding of %d rows; was it made with another tokenizer?", j, i, id, c.Config.Vocab)
			}
		}
	}
	states := make([]linalg.Matrix, len(seqs))
	linalg.ForEach(threads, len(seqs), func(i int) {
		states[i] = linalg.NewMatrix(len(seqs[i]), c.Config.Hidden)
		for j, id := range seqs[i] {
			table.readAt(states[i].Row(j), int(id)*c.Config.Hidden)
		}
	})
	return states, nil
}

// runner runs one block over sequences.
type runner struct {
	ctx     context.Context
	config  Config
	block   *block
	rope    *rope
	threads int       // within a sequence
	spaces  sync.Pool // of *workspace
}

// workspace is the memory that a sequence is worked on in.
type workspace struct {
	normed, qkv, heads, wide, scores []float32
}

// matrix returns a matrix over *buf, which grows as needed. Its elements are
// not cleared.
func matrix(buf *[]float32, rows, cols int) linalg.Matrix {
	if n := rows * cols; cap(*buf) < n {
		*buf = make([]float32, n)
	}
	return linalg.Matrix{Rows: rows, Cols: cols, Stride: cols, Data: (*buf)[:rows*cols]}
}

// sequence replaces x, [tokens, hidden], by the block's output for it. It
// returns false when the context ended before that.
func (r *runner) sequence(x linalg.Matrix) bool {
	s := r.spaces.Get().(*workspace)
	defer r.spaces.Put(s)
	c, b := r.config, r.block
	tokens := x.Rows

	// x += out(attention(norm(x)))
	qkv := matrix(&s.qkv, tokens, b.qkv.Rows)
	for from := 0; from < tokens; from += rowsAtOnce {
		to := min(from+rowsAtOnce, tokens)
		h := r.normed(s, x.Slice(from, to), b.attnNorm)
		linalg.Gemm(r.threads, false, true, 1, h, b.qkv, 0, qkv.Slice(from, to))
		if r.ctx.Err() != nil {
			return false
		}
	}
	r.eachRow(tokens, func(i int) {
		row := qkv.Row(i)
		addTo(row, b.qkvBias)
		for h := range c.Heads + c.KVHeads { // queries, then keys
			head := row[h*c.HeadDim:][:c.HeadDim]
			if c.QKNorm {
				weight := b.qNorm
				if h >= c.Heads {
					weight = b.kNorm
				}
				rmsNorm(head, head, weight, c.Eps)
			}
			r.rope.turn(head, i)
		}
	})
	heads := matrix(&s.heads, tokens, c.Heads*c.HeadDim)
	if !r.attention(qkv, heads) {
		return false
	}
	linalg.Gemm(r.threads, false, true, 1, heads, b.out, 1, x)
	r.addBias(x, b.outBias)

	// x += down(silu(gate(norm(x))) · up(norm(x)))
	for from := 0; from < tokens; from += rowsAtOnce {
		if r.ctx.Err() != nil {
			return false
		}
		rows := x.Slice(from, min(from+rowsAtOnce, tokens))
		h := r.normed(s, rows, b.mlpNorm)
		wide := matrix(&s.wide, rows.Rows, 2*c.Inter)
		linalg.Gemm(r.threads, false, true, 1, h, b.gateUp, 0, wide)
		r.eachRow(rows.Rows, func(i int) {
			row := wide.Row(i)
			addTo(row, b.gateUpBias)
			swiGLU(row[:c.Inter], row[c.Inter:])
		})
		gated := linalg.Matrix{Rows: wide.Rows, Cols: c.Inter, Stride: wide.Stride, Data: wide.Data}
		if r.ctx.Err() != nil {
			return false
		}
		linalg.Gemm(r.threads, false, true, 1, gated, b.down, 1, rows)
		r.addBias(rows, b.downBias)
	}
	return true
}

// normed returns the RMSNorm of x's rows.
func (r *runner) normed(s *workspace, x linalg.Matrix, weight []float32) linalg.Matrix {
	h := matrix(&s.normed, x.Rows, x.Cols)
	r.eachRow(x.Rows, func(i int) { rmsNorm(h.Row(i), x.Row(i), weight, r.config.Eps) })
	return h
}

func (r *runner) addBias(x linalg.Matrix, bias []float32) {
	if bias != nil {
		r.eachRow(x.Rows, func(i int) { addTo(x.Row(i), bias) })
	}
}

// eachRow calls f for rows 0 to n-1, in pieces shared out among the threads.
func (r *runner) eachRow(n int, f func(i int)) {
	const piece = 64
	linalg.ForEach(r.threads, linalg.Blocks(n, piece), func(k int) {
		for i := k * piece; i < min(k*piece+piece, n); i++ {
			f(i)
		}
	})
}

func pick(first bool, a, b int) int {
	if first {
		return a
	}
	return b
}
