package llm

import (
	"context"
	"sync"

	"clusterflow/internal/linalg"
)

// rowsAtOnce is how many rows of a sequence go through the MLP together, which
// bounds the memory of its wide activations. It is a multiple of the tile of
// [linalg.Gemm].
const rowsAtOnce = 1024

// runner runs one block over sequences. It is safe for concurrent use, except
// that the block must not be loaded meanwhile.
type runner struct {
	ctx       context.Context
	config    Config
	precision Precision
	block     *block
	rope      *rope
	threads   int       // within a sequence
	spaces    sync.Pool // of *workspace
	tiles     sync.Pool // of *tileSpace
}

// newRunner makes a runner for sequences of at most longest tokens.
func newRunner(ctx context.Context, c Config, p Precision, longest, threads int) *runner {
	r := &runner{ctx: ctx, config: c, precision: p, block: newBlock(c, p), rope: newRope(c, longest), threads: threads}
	r.spaces.New = func() any { return &workspace{} }
	r.tiles.New = func() any { return &tileSpace{} }
	return r
}

// workspace is the memory that a sequence is worked on in.
type workspace struct {
	states, normed, qkv, heads, wide []float32
	numbers, apart, scales           []float32 // of int8 products
}

// tileSpace is the memory for a piece of work within a sequence.
type tileSpace struct {
	scores        []float32
	part, weights []float32 // of int8 products
	sums          []int32
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
func (r *runner) sequence(s *workspace, x linalg.Matrix) bool {
	c, b := r.config, r.block
	tokens := x.Rows

	// x += out(attention(norm(x)))
	qkv := matrix(&s.qkv, tokens, b.qkv.out)
	outliers := r.outliersOf(s, x, b.attnNorm)
	for from := 0; from < tokens; from += rowsAtOnce {
		to := min(from+rowsAtOnce, tokens)
		h := r.normed(s, x.Slice(from, to), b.attnNorm)
		r.product(s, &b.qkv, h, 0, qkv.Slice(from, to), outliers)
		if r.ctx.Err() != nil {
			return false
		}
	}
	r.eachRow(tokens, func(i int) {
		row := qkv.Row(i)
		addTo(row, b.qkv.bias)
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
		r.precision.round(row)
	})
	heads := matrix(&s.heads, tokens, c.Heads*c.HeadDim)
	if !r.attention(qkv, heads) {
		return false
	}
	r.product(s, &b.out, heads, 1, x, r.mark(nil, heads).list())
	r.addBias(x, b.out.bias)

	// x += down(silu(gate(norm(x))) · up(norm(x)))
	outliers = r.outliersOf(s, x, b.mlpNorm)
	var wide columnSet
	if r.precision == Int8 && tokens > rowsAtOnce {
		for from := 0; from < tokens; from += rowsAtOnce {
			wide = r.mark(wide, r.gated(s, x.Slice(from, min(from+rowsAtOnce, tokens)), outliers))
		}
	}
	for from := 0; from < tokens; from += rowsAtOnce {
		if r.ctx.Err() != nil {
			return false
		}
		rows := x.Slice(from, min(from+rowsAtOnce, tokens))
		gated := r.gated(s, rows, outliers)
		if r.ctx.Err() != nil {
			return false
		}
		if tokens <= rowsAtOnce {
			wide = r.mark(nil, gated)
		}
		r.product(s, &b.down, gated, 1, rows, wide.list())
		r.addBias(rows, b.down.bias)
	}
	return true
}

// gated returns silu(gate(norm(x))) · up(norm(x)), [rows, inter].
func (r *runner) gated(s *workspace, x linalg.Matrix, outliers []int) linalg.Matrix {
	inter := r.config.Inter
	h := r.normed(s, x, r.block.mlpNorm)
	wide := matrix(&s.wide, x.Rows, 2*inter)
	r.product(s, &r.block.gateUp, h, 0, wide, outliers)
	r.eachRow(x.Rows, func(i int) {
		row := wide.Row(i)
		addTo(row, r.block.gateUp.bias)
		swiGLU(row[:inter], row[inter:])
	})
	return linalg.Matrix{Rows: wide.Rows, Cols: inter, Stride: wide.Stride, Data: wide.Data}
}

// outliersOf returns the columns in which the RMSNorm of x has outliers; none
// but in int8.
func (r *runner) outliersOf(s *workspace, x linalg.Matrix, weight []float32) []int {
	if r.precision != Int8 {
		return nil
	}
	var set columnSet
	for from := 0; from < x.Rows; from += rowsAtOnce {
		set = r.mark(set, r.normed(s, x.Slice(from, min(from+rowsAtOnce, x.Rows)), weight))
	}
	return set.list()
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
