// Package linalg holds what clusterflow's numerics stand on: dense float32
// matrices, their product, random sources, and the tensor files that
// matrices are kept in.
//
// One convention holds throughout. Matrices are row-major. A destination is
// always explicit, and inputs are never changed. Wrong shapes are mistakes in
// the program and panic with a [ShapeError]; wrong data is returned as an
// error. No result depends on the number of threads: work is cut into pieces
// whose size is fixed by the shape of the problem alone, each piece is
// computed by one thread, and pieces are joined in their order.
package linalg

import "fmt"

// Matrix is a dense row-major matrix of float32: element (i, j) is
// Data[i*Stride+j]. Stride is at least Cols. The zero value is the empty
// matrix. Copies of a Matrix share their elements.
type Matrix struct {
	Rows, Cols, Stride int
	Data               []float32
}

// NewMatrix returns a rows × cols matrix of zeros.
func NewMatrix(rows, cols int) Matrix {
	if rows < 0 || cols < 0 {
		panic(ShapeError{"NewMatrix", fmt.Sprintf("%d × %d", rows, cols)})
	}
	return Matrix{Rows: rows, Cols: cols, Stride: cols, Data: make([]float32, rows*cols)}
}

// Row returns row i, shared with m, of length m.Cols.
func (m Matrix) Row(i int) []float32 {
	at := i * m.Stride
	return m.Data[at : at+m.Cols : at+m.Cols]
}

// Slice returns the rows [from, to) of m, shared with m.
func (m Matrix) Slice(from, to int) Matrix {
	if from < 0 || to < from || to > m.Rows {
		panic(ShapeError{"Slice", fmt.Sprintf("rows [%d, %d) of %d", from, to, m.Rows)})
	}
	s := Matrix{Rows: to - from, Cols: m.Cols, Stride: m.Stride}
	if s.Rows > 0 {
		s.Data = m.Data[from*m.Stride : (to-1)*m.Stride+m.Cols]
	}
	return s
}

// Clone returns a copy of m that shares nothing with it, with Stride = Cols.
func (m Matrix) Clone() Matrix {
	c := NewMatrix(m.Rows, m.Cols)
	for i := range m.Rows {
		copy(c.Row(i), m.Row(i))
	}
	return c
}

// ShapeError is what functions of this package panic with when the shapes of
// their arguments do not fit together.
type ShapeError struct {
	Func   string // the function that was called
	Detail string // the shapes that it was given
}

func (e ShapeError) Error() string {
	return "linalg." + e.Func + ": shapes do not fit: " + e.Detail
}

// check panics unless m's dimensions agree with its storage.
func (m Matrix) check(fn, name string) {
	if m.Rows == 0 || m.Cols == 0 {
		return
	}
	if m.Rows < 0 || m.Cols < 0 || m.Stride < m.Cols || (m.Rows-1)*m.Stride+m.Cols > len(m.Data) {
		panic(ShapeError{fn, fmt.Sprintf("%s is %d × %d with stride %d over %d elements", name, m.Rows, m.Cols, m.Stride, len(m.Data))})
	}
}
