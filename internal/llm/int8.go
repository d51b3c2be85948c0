package llm

import (
	"math"

	"clusterflow/internal/linalg"
)

// Products in int8 follow LLM.int8() (arXiv 2208.07339, and what bitsandbytes
// does at inference). Weights are quantised by rows when they are loaded, and
// their floating-point values are not kept. Of the input, columns in which any
// token of the response is above outlierAbove in size are outliers; the others
// are quantised by tokens:
//
//	y = Σ over quantised columns of q(x)·q(w) · scale(x)·scale(w)
//	  + Σ over outliers of x · q(w)·scale(w)
//
// with q(v) = v/scale rounded to the nearest integer, ties to even, and scale =
// the largest size in the row, outliers of the input left out, over 127. The
// first sum is exact, in integers; the second is in float32.
const outlierAbove = 6

// exactDepth is how many products of two numbers from -127 to 127 can be
// summed in float32 without rounding: 127²·1024 < 2²⁴. It is what lets a BLAS
// for float32 take integer sums.
const exactDepth = 1024

// quantised holds the weights [out, in] of a linear layer in a byte each.
type quantised struct {
	out, in int
	data    []int8
	scale   []float32 // [out]
}

func newQuantised(out, in int) *quantised {
	return &quantised{out, in, make([]int8, out*in), make([]float32, out)}
}

// setRow quantises one row of weights, which it changes.
func (q *quantised) setRow(row int, values []float32) {
	q.scale[row] = quantise(values, values)
	for i, v := range values {
		q.data[row*q.in+i] = int8(v)
	}
}

// quantise sets dst to the whole numbers that stand for values, and returns
// their scale, 0 where all values are 0, and not a number where one of them is
// not finite. dst may be values.
func quantise(dst, values []float32) float32 {
	top, finite := float32(0), true
	for _, v := range values {
		if v-v != 0 {
			finite = false
		}
		if v < 0 {
			v = -v
		}
		if v > top {
			top = v
		}
	}
	dst = dst[:len(values)]
	scale := top / 127
	if !finite {
		clear(dst)
		return float32(math.NaN())
	}
	if scale == 0 { // also where the largest value is near the smallest float32
		clear(dst)
		return 0
	}
	for i, v := range values {
		v /= scale
		if v > 127 { // by rounding of the scale alone
			v = 127
		}
		if v < -127 {
			v = -127
		}
		const whole = 3 << 22 // where the steps of float32 are 1: adding it rounds
		dst[i] = (v + whole) - whole
	}
	return scale
}

// columnSet are the columns that are outliers of a response's input.
type columnSet []bool

// mark adds the columns in which x has an outlier. In other precisions than
// int8 there are none.
func (r *runner) mark(set columnSet, x linalg.Matrix) columnSet {
	if r.precision != Int8 {
		return nil
	}
	if set == nil {
		set = make(columnSet, x.Cols)
	}
	for i := range x.Rows {
		for j, v := range x.Row(i) {
			if v > outlierAbove || v < -outlierAbove {
				set[j] = true
			}
		}
	}
	return set
}

// list returns the columns in order.
func (c columnSet) list() []int {
	var columns []int
	for j, is := range c {
		if is {
			columns = append(columns, j)
		}
	}
	return columns
}

// int8Product is [runner.product] in int8. A piece of work is a tile of dst, so
// the bits do not depend on threads.
func (r *runner) int8Product(s *workspace, q *quantised, x linalg.Matrix, beta float32, dst linalg.Matrix, outliers []int) {
	const tall, wide = 1024, 512
	numbers := matrix(&s.numbers, x.Rows, q.in)
	apart := matrix(&s.apart, x.Rows, len(outliers))
	scale := matrix(&s.scales, x.Rows, 1).Data
	r.eachRow(x.Rows, func(i int) {
		row, to := x.Row(i), numbers.Row(i)
		for k, j := range outliers {
			apart.Row(i)[k], row[j] = row[j], 0
		}
		scale[i] = quantise(to, row)
	})
	across := linalg.Blocks(q.out, wide)
	linalg.ForEach(r.threads, linalg.Blocks(x.Rows, tall)*across, func(t int) {
		s := r.tiles.Get().(*tileSpace)
		defer r.tiles.Put(s)
		i, j := t/across*tall, t%across*wide
		rows, cols := min(tall, x.Rows-i), min(wide, q.out-j)
		part := matrix(&s.part, rows, cols)
		sums := integers(&s.sums, rows*cols)
		for from := 0; from < q.in; from += exactDepth {
			depth := min(exactDepth, q.in-from)
			weights := matrix(&s.weights, cols, depth)
			for o := range cols {
				row := weights.Row(o)
				for k, w := range q.data[(j+o)*q.in+from:][:depth] {
					row[k] = float32(w)
				}
			}
			linalg.Gemm(1, false, true, 1, columns(numbers.Slice(i, i+rows), from, depth), weights, 0, part)
			for k, v := range part.Data {
				sums[k] += int32(v)
			}
		}
		for a := range rows {
			to := dst.Row(i + a)[j : j+cols]
			for b := range to {
				y := float32(sums[a*cols+b]) * scale[i+a] * q.scale[j+b]
				if beta != 0 {
					y += to[b]
				}
				to[b] = y
			}
		}
		if len(outliers) == 0 {
			return
		}
		weights := matrix(&s.weights, cols, len(outliers))
		for o := range cols {
			row := weights.Row(o)
			for k, c := range outliers {
				row[k] = float32(q.data[(j+o)*q.in+c]) * q.scale[j+o]
			}
		}
		linalg.Gemm(1, false, true, 1, apart.Slice(i, i+rows), weights, 1, columns(dst.Slice(i, i+rows), j, cols))
	})
}

// integers returns n zeros over *buf, which grows as needed.
func integers(buf *[]int32, n int) []int32 {
	if cap(*buf) < n {
		*buf = make([]int32, n)
	}
	out := (*buf)[:n]
	clear(out)
	return out
}
