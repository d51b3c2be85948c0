package linalg

import (
	"bytes"
	"slices"
	"testing"

	"github.com/sbinet/npyio"
)

func TestWriteNPY(t *testing.T) {
	a := Matrix{Rows: 2, Cols: 3, Stride: 4, Data: []float32{1, 2, 3, 99, 4, 5, 6, 99}}
	b := Matrix{Rows: 2, Cols: 3, Stride: 3, Data: []float32{-1, -2, -3, -4, -5, 0.1}}
	var buf bytes.Buffer
	if err := WriteNPY(&buf, []int{2, 2, 3}, a, b); err != nil {
		t.Fatal(err)
	}
	if at := bytes.IndexByte(buf.Bytes(), '\n') + 1; at%64 != 0 || buf.Len() != at+48 {
		t.Errorf("the data begins at byte %d of %d", at, buf.Len())
	}
	// Read by another implementation of the format.
	r, err := npyio.NewReader(&buf)
	if err != nil {
		t.Fatal(err)
	}
	var got []float32
	if err := r.Read(&got); err != nil {
		t.Fatal(err)
	}
	if h := r.Header.Descr; !slices.Equal(h.Shape, []int{2, 2, 3}) || h.Fortran {
		t.Errorf("header %+v", h)
	}
	if want := []float32{1, 2, 3, 4, 5, 6, -1, -2, -3, -4, -5, 0.1}; !slices.Equal(got, want) {
		t.Errorf("read %v, want %v", got, want)
	}
	if m, err := readNPYRow(t, []int{3}, a.Slice(1, 2)); err != nil || !slices.Equal(m.Data, []float32{4, 5, 6}) {
		t.Errorf("one dimension: %v, %v", m, err)
	}
	defer func() {
		if _, ok := recover().(ShapeError); !ok {
			t.Error("a wrong shape does not panic")
		}
	}()
	WriteNPY(&buf, []int{5}, a)
}

func readNPYRow(t *testing.T, shape []int, m Matrix) (Matrix, error) {
	var buf bytes.Buffer
	if err := WriteNPY(&buf, shape, m); err != nil {
		t.Fatal(err)
	}
	return readNPY(&buf, int64(buf.Len()))
}
