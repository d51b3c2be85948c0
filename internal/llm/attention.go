package llm

import (
	"math"
	"sync/atomic"

	"clusterflow/internal/linalg"
)

// queryBlock is how many queries of a head are scored together: the scores
// take queryBlock × tokens numbers, never tokens × tokens.
const queryBlock = 128

// attention sets out, [tokens, heads·headDim], to the causal attention of the
// rotated queries, keys and values in qkv. Each query head h attends to key
// and value head h·kvHeads/heads. A piece of work is one head and one block of
// queries against all keys up to the block's last, so the bits do not depend
// on how pieces are shared out. It returns false when the context ended.
func (r *runner) attention(qkv, out linalg.Matrix) bool {
	c := r.config
	tokens := qkv.Rows
	scale := float32(1 / math.Sqrt(float64(c.HeadDim)))
	blocks := linalg.Blocks(tokens, queryBlock)
	var stopped atomic.Bool
	linalg.ForEach(r.threads, c.Heads*blocks, func(k int) {
		if stopped.Load() || r.ctx.Err() != nil {
			stopped.Store(true)
			return
		}
		head, block := k%c.Heads, blocks-1-k/c.Heads // the long blocks first
		from := block * queryBlock
		to := min(from+queryBlock, tokens)
		kv := head / (c.Heads / c.KVHeads)
		queries := columns(qkv.Slice(from, to), head*c.HeadDim, c.HeadDim)
		keys := columns(qkv.Slice(0, to), (c.Heads+kv)*c.HeadDim, c.HeadDim)
		values := columns(qkv.Slice(0, to), (c.Heads+c.KVHeads+kv)*c.HeadDim, c.HeadDim)
		mixed := columns(out.Slice(from, to), head*c.HeadDim, c.HeadDim)

		s := r.tiles.Get().(*tileSpace)
		defer r.tiles.Put(s)
		scores := matrix(&s.scores, to-from, to)
		linalg.Gemm(1, false, true, scale, queries, keys, 0, scores)
		var scales [queryBlock]float32
		for i := range scores.Rows {
			row := scores.Row(i)
			visible := from + i + 1
			scales[i] = softmax(row[:visible])
			r.precision.round(row[:visible])
			clear(row[visible:])
		}
		linalg.Gemm(1, false, false, 1, scores, values, 0, mixed)
		for i := range mixed.Rows {
			for j, v := range mixed.Row(i) {
				mixed.Row(i)[j] = v * scales[i]
			}
		}
	})
	return !stopped.Load()
}

// columns returns the columns [from, from+n) of m, shared with it.
func columns(m linalg.Matrix, from, n int) linalg.Matrix {
	return linalg.Matrix{Rows: m.Rows, Cols: n, Stride: m.Stride, Data: m.Data[from:]}
}
