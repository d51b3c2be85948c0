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
	dims := make([]string, len(shape))
	for i, d := range shape {
		n *= d
		dims[i] = fmt.Sprint(d)
	}
	for _, m := range parts {
		held += m.Rows * m.Cols
	}
	if n != held {
		panic(ShapeError{"WriteNPY", fmt.Sprintf("%d elements for an array of shape %v", held, shape)})
	}
	tuple := strings.Join(dims, ", ")
	if len(dims) == 1 {
		tuple += ","
	}
	header := fmt.Sprintf("{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }", tuple)
	header += strings.Repeat(" ", 63-(10+len(header))%64) + "\n" // data begins on a multiple of 64 bytes
	out := bufio.NewWriterSize(w, 1<<16)
	out.WriteString("\x93NUMPY\x01\x00")
	out.Write(binary.LittleEndian.AppendUint16(nil, uint16(len(header))))
	out.WriteString(header)
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
