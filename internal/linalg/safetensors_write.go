package linalg

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
)

// TensorSpec announces a tensor that will be written.
type TensorSpec struct {
	Name  string
	DType string // F32, BF16, F16, I32, …
	Shape []int
}

// SafetensorsWriter writes a safetensors file in one pass: the header first,
// from the specs, then the tensors' elements in the order of the specs, in
// pieces of any size. The bytes depend on nothing but what it is given. It is
// not safe for concurrent use.
type SafetensorsWriter struct {
	w     io.Writer
	specs []TensorSpec
	left  []uint64 // bytes still due, per spec
	at    int      // the spec that is being written
	buf   []byte
	err   error
}

// NewSafetensorsWriter writes the header to w: meta (may be nil) under
// __metadata__, the tensors in the order given, padded with spaces so that
// the data begins on a multiple of eight bytes. w is not closed.
func NewSafetensorsWriter(w io.Writer, meta map[string]string, specs []TensorSpec) (*SafetensorsWriter, error) {
	s := &SafetensorsWriter{w: w, specs: specs}
	var header bytes.Buffer
	member := func(name string, value any) error {
		if header.Len() == 0 {
			header.WriteByte('{')
		} else {
			header.WriteByte(',')
		}
		key, err := json.Marshal(name)
		if err != nil {
			return err
		}
		text, err := json.Marshal(value) // sorts the keys of maps
		if err != nil {
			return err
		}
		header.Write(key)
		header.WriteByte(':')
		header.Write(text)
		return nil
	}
	if len(meta) > 0 {
		if err := member("__metadata__", meta); err != nil {
			return nil, err
		}
	}
	seen := map[string]bool{"__metadata__": true}
	begin := uint64(0)
	for _, spec := range specs {
		if seen[spec.Name] {
			return nil, fmt.Errorf("writing a safetensors file: the tensor name %q is taken", spec.Name)
		}
		seen[spec.Name] = true
		size, ok := byteSize(spec.DType, spec.Shape)
		if !ok || dtypeBits[spec.DType] == 0 {
			return nil, fmt.Errorf("writing tensor %q: %s of shape %v cannot be stored", spec.Name, spec.DType, spec.Shape)
		}
		shape := spec.Shape
		if shape == nil {
			shape = []int{}
		}
		entry := struct {
			DType   string    `json:"dtype"`
			Shape   []int     `json:"shape"`
			Offsets [2]uint64 `json:"data_offsets"`
		}{spec.DType, shape, [2]uint64{begin, begin + size}}
		if err := member(spec.Name, entry); err != nil {
			return nil, err
		}
		begin += size
		s.left = append(s.left, size)
	}
	if header.Len() == 0 {
		header.WriteByte('{')
	}
	header.WriteByte('}')
	for header.Len()%8 != 0 {
		header.WriteByte(' ')
	}
	if header.Len() > maxHeader {
		return nil, fmt.Errorf("writing a safetensors file: its header would take %d bytes, more than the format allows", header.Len())
	}
	length := binary.LittleEndian.AppendUint64(nil, uint64(header.Len()))
	if _, err := w.Write(append(length, header.Bytes()...)); err != nil {
		return nil, err
	}
	return s, nil
}

// Write appends little-endian bytes of any type to the tensor that is due,
// and goes on to the next tensor when one is full.
func (s *SafetensorsWriter) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		if s.err != nil {
			return written, s.err
		}
		if !s.advance() {
			s.err = fmt.Errorf("writing a safetensors file: %d bytes more than its %d tensors hold", len(p), len(s.specs))
			return written, s.err
		}
		n := min(uint64(len(p)), s.left[s.at])
		m, err := s.w.Write(p[:n])
		written += m
		s.left[s.at] -= uint64(m)
		if err != nil {
			s.err = err
			return written, err
		}
		p = p[n:]
	}
	return written, nil
}

// WriteFloat32 appends elements to the F32 tensor that is due.
func (s *SafetensorsWriter) WriteFloat32(data []float32) error {
	return s.put("F32", len(data), func(buf []byte, i int) []byte {
		return binary.LittleEndian.AppendUint32(buf, math.Float32bits(data[i]))
	})
}

// WriteInt32 appends elements to the I32 tensor that is due.
func (s *SafetensorsWriter) WriteInt32(data []int32) error {
	return s.put("I32", len(data), func(buf []byte, i int) []byte {
		return binary.LittleEndian.AppendUint32(buf, uint32(data[i]))
	})
}

// WriteMatrix appends the rows of m to the F32 tensor that is due.
func (s *SafetensorsWriter) WriteMatrix(m Matrix) error {
	for i := range m.Rows {
		if err := s.WriteFloat32(m.Row(i)); err != nil {
			return err
		}
	}
	return nil
}

// Close checks that every announced element was written.
func (s *SafetensorsWriter) Close() error {
	if s.err == nil && s.advance() {
		s.err = fmt.Errorf("writing a safetensors file: tensor %q lacks its last %d bytes", s.specs[s.at].Name, s.left[s.at])
	}
	return s.err
}

// advance moves to the next tensor that lacks elements; false if none does.
func (s *SafetensorsWriter) advance() bool {
	for s.at < len(s.specs) && s.left[s.at] == 0 {
		s.at++
	}
	return s.at < len(s.specs)
}

func (s *SafetensorsWriter) put(dtype string, n int, element func(buf []byte, i int) []byte) error {
	if n == 0 || s.err != nil {
		return s.err
	}
	if s.advance() && (s.specs[s.at].DType != dtype || uint64(n)*4 > s.left[s.at]) {
		spec := s.specs[s.at]
		s.err = fmt.Errorf("writing tensor %q (%s, shape %v): %d elements of %s do not fit its last %d bytes", spec.Name, spec.DType, spec.Shape, n, dtype, s.left[s.at])
		return s.err
	}
	const chunk = 1 << 14
	for i := 0; i < n; i += chunk {
		s.buf = s.buf[:0]
		for j := i; j < min(i+chunk, n); j++ {
			s.buf = element(s.buf, j)
		}
		if _, err := s.Write(s.buf); err != nil {
			return err
		}
	}
	return nil
}
