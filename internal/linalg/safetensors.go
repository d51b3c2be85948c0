package linalg

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"os"
	"sort"
	"strings"
)

// Safetensors is a file of named tensors, memory-mapped. The format is
// https://github.com/huggingface/safetensors: eight bytes with the length of
// a JSON header, the header, then the tensors' little-endian elements without
// gaps. It is safe for concurrent use, until Close.
type Safetensors struct {
	tensors map[string]Tensor
	names   []string
	meta    map[string]string
	unmap   func() error
	mapped  []byte // the file, where its pages can be given back
}

// Tensor is one tensor of a file. Its elements are valid until the file is
// closed.
type Tensor struct {
	Name  string
	DType string // as the format writes it: F32, BF16, F16, I32, …
	Shape []int  // outermost first, row-major; empty for a scalar
	raw   []byte
}

// dtypeBits holds the element types of the format and their sizes in bits.
var dtypeBits = map[string]int{
	"BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
	"F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
	"U16": 16, "I16": 16, "F16": 16, "BF16": 16,
	"U32": 32, "I32": 32, "F32": 32,
	"U64": 64, "I64": 64, "F64": 64, "C64": 64,
}

// maxHeader is the format's own limit on the header, which keeps a damaged
// length from being believed.
const maxHeader = 100_000_000

// OpenSafetensors maps the file and checks its whole header: the length, the
// names (no duplicates), the element types, and that the tensors' ranges
// agree with their shapes and cover the data without gap or overlap.
// Tensor data is not read. The caller closes the file.
func OpenSafetensors(path string) (*Safetensors, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	stat, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !stat.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	data, unmap, err := mapFile(f, stat.Size())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	s, err := ParseSafetensors(data)
	if err != nil {
		unmap()
		return nil, fmt.Errorf("%s is not a sound safetensors file: %w", path, err)
	}
	s.unmap, s.mapped = unmap, data
	return s, nil
}

// Close unmaps the file. The tensors taken from it must not be used after.
func (s *Safetensors) Close() error {
	unmap := s.unmap
	s.unmap, s.mapped, s.tensors = nil, nil, nil
	if unmap == nil {
		return nil
	}
	return unmap()
}

// Names returns the tensors' names in the order of their data.
func (s *Safetensors) Names() []string { return append([]string(nil), s.names...) }

// Tensor returns the tensor of that name, and whether there is one.
func (s *Safetensors) Tensor(name string) (Tensor, bool) {
	t, ok := s.tensors[name]
	return t, ok
}

// Metadata returns the header's __metadata__, never nil.
func (s *Safetensors) Metadata() map[string]string { return s.meta }

// ParseSafetensors checks data, a whole file, as OpenSafetensors does and
// returns its tensors as views of it.
func ParseSafetensors(data []byte) (*Safetensors, error) {
	if len(data) < 8 {
		return nil, fmt.Errorf("%d bytes are too few for a header", len(data))
	}
	length := binary.LittleEndian.Uint64(data)
	if length > maxHeader || length > uint64(len(data)-8) {
		return nil, fmt.Errorf("its header says %d bytes, of a file of %d; it may be cut off", length, len(data))
	}
	header, body := data[8:8+length], data[8+length:]
	if len(header) == 0 || header[0] != '{' {
		return nil, errors.New("its header does not begin with {")
	}
	s := &Safetensors{tensors: map[string]Tensor{}, meta: map[string]string{}}
	type extent struct {
		name       string
		begin, end uint64
	}
	var extents []extent
	seen := map[string]bool{}
	err := eachMember(header, func(name string, value json.RawMessage) error {
		if seen[name] {
			return fmt.Errorf("the name %q stands twice in its header", name)
		}
		seen[name] = true
		if name == "__metadata__" {
			if err := json.Unmarshal(value, &s.meta); err != nil {
				return fmt.Errorf("__metadata__: %w", err)
			}
			if s.meta == nil {
				s.meta = map[string]string{}
			}
			return nil
		}
		t, begin, end, err := parseEntry(value)
		if err != nil {
			return fmt.Errorf("tensor %q: %w", name, err)
		}
		if begin > end || end > uint64(len(body)) {
			return fmt.Errorf("tensor %q: its data [%d, %d) lies outside the file's %d bytes of data; the file may be cut off", name, begin, end, len(body))
		}
		size, ok := byteSize(t.DType, t.Shape)
		if !ok || size != end-begin {
			return fmt.Errorf("tensor %q: %s of shape %v does not fill its %d bytes", name, t.DType, t.Shape, end-begin)
		}
		t.Name, t.raw = name, body[begin:end:end]
		s.tensors[name] = t
		extents = append(extents, extent{name, begin, end})
		return nil
	})
	if err != nil {
		return nil, err
	}
	sort.Slice(extents, func(i, j int) bool {
		a, b := extents[i], extents[j]
		if a.begin != b.begin {
			return a.begin < b.begin
		}
		if a.end != b.end {
			return a.end < b.end
		}
		return a.name < b.name
	})
	at := uint64(0)
	for _, e := range extents {
		if e.begin != at {
			return nil, fmt.Errorf("tensor %q begins at byte %d of the data where %d was due: tensors overlap or leave a gap", e.name, e.begin, at)
		}
		at = e.end
		s.names = append(s.names, e.name)
	}
	if at != uint64(len(body)) {
		return nil, fmt.Errorf("its tensors end at byte %d of %d bytes of data", at, len(body))
	}
	return s, nil
}

// eachMember calls f for every member of the JSON object, in order and with
// duplicates, which json.Unmarshal would merge. Padding may follow it.
func eachMember(object []byte, f func(name string, value json.RawMessage) error) error {
	d := json.NewDecoder(bytes.NewReader(object))
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("its header is not JSON: %w", err)
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return fmt.Errorf("its header is not JSON: %w", err)
		}
		key, ok := name.(string)
		if !ok {
			return errors.New("its header is not a JSON object")
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return fmt.Errorf("its header is not JSON at %q: %w", key, err)
		}
		if err := f(key, value); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("its header is not JSON: %w", err)
	}
	if len(bytes.Trim(object[d.InputOffset():], " \t\r\n")) > 0 {
		return errors.New("something follows the JSON of its header")
	}
	return nil
}

// parseEntry reads {"dtype": …, "shape": […], "data_offsets": [begin, end]}.
func parseEntry(value json.RawMessage) (t Tensor, begin, end uint64, err error) {
	var entry struct {
		DType   *string  `json:"dtype"`
		Shape   *[]int   `json:"shape"`
		Offsets []uint64 `json:"data_offsets"`
	}
	if err := json.Unmarshal(value, &entry); err != nil {
		return t, 0, 0, err
	}
	if entry.DType == nil || entry.Shape == nil || len(entry.Offsets) != 2 {
		return t, 0, 0, errors.New("dtype, shape or two data_offsets are missing")
	}
	if dtypeBits[*entry.DType] == 0 {
		return t, 0, 0, fmt.Errorf("its dtype %q is not one of the format's", *entry.DType)
	}
	return Tensor{DType: *entry.DType, Shape: *entry.Shape}, entry.Offsets[0], entry.Offsets[1], nil
}

// byteSize returns the bytes that a tensor takes, and false when its shape is
// negative, too large for any file, or does not end on a byte.
func byteSize(dtype string, shape []int) (uint64, bool) {
	n := uint64(dtypeBits[dtype])
	for _, d := range shape {
		if d < 0 {
			return 0, false
		}
		hi, lo := bits.Mul64(n, uint64(d))
		if hi != 0 {
			return 0, false
		}
		n = lo
	}
	return n / 8, n%8 == 0
}

// Elements returns the number of the tensor's elements.
func (t Tensor) Elements() int {
	n := 1
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// Raw returns the tensor's little-endian bytes, a view of the mapped file.
func (t Tensor) Raw() []byte { return t.raw }

// Float32 returns a copy of the tensor's elements in row-major order,
// converted from F32, F16, BF16 or F64 (rounded to nearest).
func (t Tensor) Float32() ([]float32, error) {
	decode, size := floatDecoder(t.DType)
	if decode == nil {
		return nil, fmt.Errorf("tensor %q holds %s, where F32, F16, BF16 or F64 is needed", t.Name, t.DType)
	}
	out := make([]float32, len(t.raw)/size)
	decode(out, t.raw)
	return out, nil
}

// Int32 returns a copy of the elements of an I32 tensor.
func (t Tensor) Int32() ([]int32, error) {
	if t.DType != "I32" {
		return nil, fmt.Errorf("tensor %q holds %s, where I32 is needed", t.Name, t.DType)
	}
	out := make([]int32, len(t.raw)/4)
	for i := range out {
		out[i] = int32(binary.LittleEndian.Uint32(t.raw[4*i:]))
	}
	return out, nil
}

// Matrix returns a copy of a tensor of two dimensions as a matrix, or of one
// dimension as a matrix of one row; conversions as for Float32.
func (t Tensor) Matrix() (Matrix, error) {
	rows, cols := 1, 0
	switch len(t.Shape) {
	case 1:
		cols = t.Shape[0]
	case 2:
		rows, cols = t.Shape[0], t.Shape[1]
	default:
		return Matrix{}, fmt.Errorf("tensor %q has shape %v, where a matrix is needed", t.Name, t.Shape)
	}
	data, err := t.Float32()
	if err != nil {
		return Matrix{}, err
	}
	return Matrix{Rows: rows, Cols: cols, Stride: cols, Data: data}, nil
}

// floatDecoder returns what turns little-endian elements of a type into
// float32, and their size in bytes; nil for types that are no plain floats.
func floatDecoder(dtype string) (decode func(dst []float32, src []byte), size int) {
	switch dtype {
	case "F32":
		return func(dst []float32, src []byte) {
			for i := range dst {
				dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
			}
		}, 4
	case "BF16":
		return func(dst []float32, src []byte) {
			for i := range dst {
				dst[i] = BF16ToF32(binary.LittleEndian.Uint16(src[2*i:]))
			}
		}, 2
	case "F16":
		return func(dst []float32, src []byte) {
			for i := range dst {
				dst[i] = F16ToF32(binary.LittleEndian.Uint16(src[2*i:]))
			}
		}, 2
	case "F64":
		return func(dst []float32, src []byte) {
			for i := range dst {
				dst[i] = float32(math.Float64frombits(binary.LittleEndian.Uint64(src[8*i:])))
			}
		}, 8
	}
	return nil, 0
}

// pick returns the tensor of the preferred name, or the only one there is.
func (s *Safetensors) pick(prefer string) (Tensor, error) {
	if t, ok := s.Tensor(prefer); ok {
		return t, nil
	}
	if len(s.names) == 1 {
		return s.tensors[s.names[0]], nil
	}
	return Tensor{}, fmt.Errorf("it holds no tensor %q, and more or fewer than one other: %s", prefer, strings.Join(s.names, ", "))
}
