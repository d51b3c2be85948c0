package linalg

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

// npyHeader is what a .npy file says of its array, as specified at
// https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html.
// That page's Python literals are read by a small parser of our own: the
// available libraries index into the header unchecked, and know no float16.
type npyHeader struct {
	descr   string // "<f4"
	fortran bool
	shape   []int
}

// npyDTypes maps the little-endian floats of numpy to the names that
// floatDecoder knows; big-endian ones are swapped first.
var npyDTypes = map[string]string{"f2": "F16", "f4": "F32", "f8": "F64"}

// readNPY reads one array of floats with one or two dimensions from r, which
// holds at most size bytes, as a matrix; one dimension makes one row.
func readNPY(r io.Reader, size int64) (Matrix, error) {
	h, length, err := readNPYHeader(r, size)
	if err != nil {
		return Matrix{}, err
	}
	if len(h.descr) != 3 || npyDTypes[h.descr[1:]] == "" || !strings.ContainsRune("<>=|", rune(h.descr[0])) {
		return Matrix{}, fmt.Errorf("its elements are of numpy type %q, where float16, float32 or float64 is needed; convert with x.astype('float32')", h.descr)
	}
	decode, width := floatDecoder(npyDTypes[h.descr[1:]])
	if err := h.fits(size - length); err != nil {
		return Matrix{}, err
	}
	swap := h.descr[0] == '>'

	rows, cols := 1, 0
	switch len(h.shape) {
	case 1:
		cols = h.shape[0]
	case 2:
		rows, cols = h.shape[0], h.shape[1]
	default:
		return Matrix{}, fmt.Errorf("its shape is %v, where [rows, columns] is needed", h.shape)
	}
	elements := rows * cols // not more than the file has
	if elements == 0 {
		return Matrix{}, fmt.Errorf("its shape %v holds nothing", h.shape)
	}
	m := Matrix{Rows: rows, Cols: cols, Stride: cols, Data: make([]float32, elements)}
	buf := make([]byte, 1<<16)
	for at := 0; at < len(m.Data); {
		n := min(len(buf)/width, len(m.Data)-at)
		piece := buf[:n*width]
		if _, err := io.ReadFull(r, piece); err != nil {
			return Matrix{}, fmt.Errorf("its data ends after %d of %d elements: %w", at, len(m.Data), err)
		}
		if swap {
			for i := 0; i < len(piece); i += width {
				slices.Reverse(piece[i : i+width])
			}
		}
		decode(m.Data[at:at+n], piece)
		at += n
	}
	if width == 8 {
		if err := checkRange(m.Data); err != nil {
			return Matrix{}, err
		}
	}
	if !h.fortran || len(h.shape) < 2 {
		return m, nil
	}
	c := NewMatrix(rows, cols)
	for j := range cols {
		for i, v := range m.Data[j*rows : (j+1)*rows] {
			c.Data[i*cols+j] = v
		}
	}
	return c, nil
}

// fits reports whether size bytes can hold the array. A type that this package
// does not read is left to others.
func (h npyHeader) fits(size int64) error {
	if len(h.descr) != 3 || npyDTypes[h.descr[1:]] == "" {
		return nil
	}
	room := uint64(max(size, 0)) / uint64(h.descr[2]-'0')
	elements := uint64(1)
	for _, n := range h.shape {
		hi, lo := bits.Mul64(elements, uint64(n))
		if hi != 0 || lo > room {
			return fmt.Errorf("its shape %v asks for more data than the %d bytes that follow its header; it may be cut off", h.shape, size)
		}
		elements = lo
	}
	return nil
}

// readNPYHeader reads the preamble and the header, and returns how many bytes
// they take.
func readNPYHeader(r io.Reader, size int64) (h npyHeader, length int64, err error) {
	var pre [8]byte
	if _, err := io.ReadFull(r, pre[:]); err != nil || string(pre[:6]) != "\x93NUMPY" {
		return h, 0, errors.New("it does not begin as a .npy file does")
	}
	width := 4
	switch pre[6] {
	case 1:
		width = 2
	case 2, 3:
	default:
		return h, 0, fmt.Errorf("its format version %d.%d is unknown", pre[6], pre[7])
	}
	var field [4]byte
	if _, err := io.ReadFull(r, field[:width]); err != nil {
		return h, 0, errors.New("its header is cut off")
	}
	n := int64(binary.LittleEndian.Uint32(field[:]))
	length = int64(8+width) + n
	if length > size || n > 1<<20 {
		return h, 0, fmt.Errorf("its header claims %d bytes of a file of %d", n, size)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(r, text); err != nil {
		return h, 0, errors.New("its header is cut off")
	}
	h, err = parseNPYHeader(text)
	if err != nil {
		return h, 0, fmt.Errorf("its header %q cannot be understood: %w", bytes.TrimSpace(text), err)
	}
	return h, length, nil
}

// parseNPYHeader parses {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }
// with its keys in any order.
func parseNPYHeader(text []byte) (h npyHeader, err error) {
	p := npyParser{rest: string(text)}
	if !p.take("{") {
		return h, errors.New("no { at its start")
	}
	seen := map[string]bool{}
	for !p.take("}") {
		key, ok := p.quoted()
		if !ok || !p.take(":") || seen[key] {
			return h, errors.New("a key is malformed or stands twice")
		}
		seen[key] = true
		switch key {
		case "descr":
			h.descr, ok = p.quoted()
		case "fortran_order":
			h.fortran = p.take("True")
			ok = h.fortran || p.take("False")
		case "shape":
			h.shape, ok = p.tuple()
		default:
			ok = false
		}
		if !ok {
			return h, fmt.Errorf("the value of %q is not one for a plain array", key)
		}
		if !p.take(",") {
			if !p.take("}") {
				return h, errors.New("no } at its end")
			}
			break
		}
	}
	if strings.TrimSpace(p.rest) != "" || len(seen) != 3 {
		return h, errors.New("it needs descr, fortran_order and shape, and nothing else")
	}
	return h, nil
}

// npyParser consumes the few Python literals of a header.
type npyParser struct{ rest string }

func (p *npyParser) take(token string) bool {
	rest, ok := strings.CutPrefix(strings.TrimLeft(p.rest, " \t\r\n"), token)
	if ok {
		p.rest = rest
	}
	return ok
}

func (p *npyParser) quoted() (string, bool) {
	for _, quote := range []string{"'", `"`} {
		if p.take(quote) {
			text, rest, ok := strings.Cut(p.rest, quote)
			p.rest = rest
			return text, ok && !strings.Contains(text, `\`)
		}
	}
	return "", false
}

func (p *npyParser) tuple() (shape []int, ok bool) {
	if !p.take("(") {
		return nil, false
	}
	inside, rest, ok := strings.Cut(p.rest, ")")
	if !ok {
		return nil, false
	}
	p.rest = rest
	for i, field := range strings.Split(inside, ",") {
		field = strings.TrimSpace(field)
		if field == "" {
			if i == strings.Count(inside, ",") {
				break // the comma after the last one, or ()
			}
			return nil, false
		}
		n, err := strconv.Atoi(strings.TrimSuffix(field, "L"))
		if err != nil || n < 0 {
			return nil, false
		}
		shape = append(shape, n)
	}
	return shape, true
}
