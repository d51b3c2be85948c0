package linalg

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strings"
)

// WriteNPY writes an array of float32 in the format of numpy.save, version
// 1.0: the rows of the matrices one after the other, as an array of that shape
// in C order. The matrices must have as many elements as the shape.
func WriteNPY(w io.Writer, shape []int, parts ...Matrix) error {
	n, held := 1, 0
	for _, d := range shape {
		n *= d
	}
	for _, m := range parts {
		held += m.Rows * m.Cols
	}
	if n != held {
		panic(ShapeError{"WriteNPY", fmt.Sprintf("%d elements for an array of shape %v", held, shape)})
	}
	out := bufio.NewWriterSize(w, 1<<16)
	writeNPYHeader(out, "<f4", shape)
	var buf []byte
	for _, m := range parts {
		for i := range m.Rows {
			buf = buf[:0]
			for _, v := range m.Row(i) {
				buf = binary.LittleEndian.AppendUint32(buf, math.Float32bits(v))
			}
			out.Write(buf) // the first error stays and is returned by Flush
		}
	}
	return out.Flush()
}

// WriteNPYInt32 writes numbers as an array of int32 with one dimension.
func WriteNPYInt32(w io.Writer, numbers []int32) error {
	out := bufio.NewWriterSize(w, 1<<16)
	writeNPYHeader(out, "<i4", []int{len(numbers)})
	var b [4]byte
	for _, v := range numbers {
		binary.LittleEndian.PutUint32(b[:], uint32(v))
		out.Write(b[:])
	}
	return out.Flush()
}

func writeNPYHeader(out *bufio.Writer, descr string, shape []int) {
	dims := make([]string, len(shape))
	for i, d := range shape {
		dims[i] = fmt.Sprint(d)
	}
	tuple := strings.Join(dims, ", ")
	if len(dims) == 1 {
		tuple += ","
	}
	header := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': (%s), }", descr, tuple)
	header += strings.Repeat(" ", 63-(10+len(header))%64) + "\n" // data begins on a multiple of 64 bytes
	out.WriteString("\x93NUMPY\x01\x00")
	out.Write(binary.LittleEndian.AppendUint16(nil, uint16(len(header))))
	out.WriteString(header)
}
