package llm

import (
	"clusterflow/internal/linalg"
)

// linear is a linear layer of a block, or several that read the same input,
// stacked: y = W·x + bias, with W [out, in] as in the files. Its weights are
// float32, rounded as the precision says, or, in int8, quantised by rows.
type linear struct {
	out, in int
	weight  linalg.Matrix // [out, in]; empty in int8
	quant   *quantised    // nil but in int8
	bias    []float32     // [out], nil without
}

func newLinear(p Precision, out, in int, bias bool) linear {
	l := linear{out: out, in: in}
	if p == Int8 {
		l.quant = newQuantised(out, in)
	} else {
		l.weight = linalg.NewMatrix(out, in)
	}
	if bias {
		l.bias = make([]float32, out)
	}
	return l
}

// bytes is the memory that the layer holds.
func (l *linear) bytes() int64 {
	n := int64(len(l.weight.Data)+len(l.bias)) * 4
	if l.quant != nil {
		n += int64(len(l.quant.data)) + int64(len(l.quant.scale))*4
	}
	return n
}

// load fills the rows from row on with a tensor [rows, in].
func (l *linear) load(t tensor, row int, p Precision, threads int) {
	rows := t.shape[0]
	piece := max(1, (1<<18)/l.in) // rows
	linalg.ForEach(threads, linalg.Blocks(rows, piece), func(k int) {
		from, to := k*piece, min(rows, (k+1)*piece)
		if l.quant == nil {
			dst := l.weight.Data[(row+from)*l.in : (row+to)*l.in]
			t.readAt(dst, from*l.in)
			p.round(dst)
		} else {
			buf := make([]float32, (to-from)*l.in)
			t.readAt(buf, from*l.in)
			for i := from; i < to; i++ {
				l.quant.setRow(row+i, buf[(i-from)*l.in:][:l.in])
			}
		}
		t.release(from*l.in, to*l.in)
	})
	// Reading beside a piece brings some of its pages back.
	t.release(0, rows*l.in)
}

// product sets dst = x·Wᵀ + beta·dst for rows x of one response, without the
// bias; beta is 0 or 1. x is rounded in place as the precision says. In int8,
// outliers are the columns that are not quantised.
func (r *runner) product(s *workspace, l *linear, x linalg.Matrix, beta float32, dst linalg.Matrix, outliers []int) {
	if l.quant != nil {
		r.int8Product(s, l.quant, x, beta, dst, outliers)
		return
	}
	r.round(x)
	linalg.Gemm(r.threads, false, true, 1, x, l.weight, beta, dst)
}

// round rounds the rows of x in place.
func (r *runner) round(x linalg.Matrix) {
	if r.precision == BF16 || r.precision == F16 {
		r.eachRow(x.Rows, func(i int) { r.precision.round(x.Row(i)) })
	}
}
