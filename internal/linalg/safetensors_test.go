package linalg

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// file builds a file from its header's text and its data.
func file(header string, data ...byte) []byte {
	return append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...), data...)
}

func TestSafetensorsRoundTrip(t *testing.T) {
	var buf bytes.Buffer
	w, err := NewSafetensorsWriter(&buf, map[string]string{"layer": "12", "a": "<&>"}, []TensorSpec{
		{"activations", "F32", []int{3, 2}}, {"empty", "F32", []int{0, 5}}, {"labels", "I32", []int{3}}, {"scalar", "F32", nil}, {"half", "BF16", []int{2}},
	})
	if err != nil {
		t.Fatal(err)
	}
	m := Matrix{Rows: 3, Cols: 2, Stride: 3, Data: []float32{1, 2, 99, -3, float32(math.Inf(1)), 99, 0.5, 6}}
	for _, err := range []error{w.WriteMatrix(m), w.WriteInt32([]int32{-1, 1 << 30}), w.WriteInt32([]int32{7}), w.WriteFloat32([]float32{2.5})} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Write([]byte{0x80, 0x3f, 0x00, 0xc0}); err != nil { // 1 and -2
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if n := binary.LittleEndian.Uint64(buf.Bytes()); n%8 != 0 {
		t.Errorf("the data begins at byte %d, no multiple of 8", 8+n)
	}
	path := filepath.Join(t.TempDir(), "x.safetensors")
	if err := os.WriteFile(path, buf.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := OpenSafetensors(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	// Equal offsets sort the empty tensor before the one that follows it.
	if got, want := s.Names(), []string{"activations", "empty", "labels", "scalar", "half"}; !slices.Equal(got, want) {
		t.Errorf("names %v, want %v", got, want)
	}
	if s.Metadata()["layer"] != "12" || s.Metadata()["a"] != "<&>" {
		t.Errorf("metadata %v", s.Metadata())
	}
	a, _ := s.Tensor("activations")
	got, err := a.Matrix()
	if want := []float32{1, 2, -3, float32(math.Inf(1)), 0.5, 6}; err != nil || got.Rows != 3 || got.Cols != 2 || !slices.Equal(got.Data, want) {
		t.Errorf("activations %v %v", got, err)
	}
	labels, _ := s.Tensor("labels")
	if ints, err := labels.Int32(); err != nil || !slices.Equal(ints, []int32{-1, 1 << 30, 7}) {
		t.Errorf("labels %v %v", ints, err)
	}
	if _, err := labels.Float32(); err == nil || !strings.Contains(err.Error(), `"labels" holds I32`) {
		t.Errorf("Float32 of I32: %v", err)
	}
	half, _ := s.Tensor("half")
	if f, err := half.Float32(); err != nil || !slices.Equal(f, []float32{1, -2}) {
		t.Errorf("half %v %v", f, err)
	}
	scalar, _ := s.Tensor("scalar")
	if f, err := scalar.Float32(); err != nil || !slices.Equal(f, []float32{2.5}) || scalar.Elements() != 1 {
		t.Errorf("scalar %v %v", f, err)
	}
	if _, err := scalar.Matrix(); err == nil {
		t.Error("a scalar became a matrix")
	}
	if _, ok := s.Tensor("nobody"); ok {
		t.Error("a tensor that is not there was found")
	}
}

// The format's description gives the rules that these headers break.
func TestSafetensorsRejects(t *testing.T) {
	four := []byte{0, 0, 0, 0}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty":         {nil, "too few"},
		"length":        {file(`{}`)[:9], "cut off"},
		"huge length":   {binary.LittleEndian.AppendUint64(nil, math.MaxUint64), "cut off"},
		"no object":     {file(`[]`), "begin with {"},
		"leading space": {file(` {}`), "begin with {"},
		"not JSON":      {file(`{"a"`), "not JSON"},
		"more JSON":     {file(`{} {}`), "follows"},
		"duplicate":     {file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, four...), "twice"},
		"duplicate meta": {file(`{"__metadata__":{},"__metadata__":{}}`),
			"twice"},
		"metadata":      {file(`{"__metadata__":{"a":1}}`), "__metadata__"},
		"dtype":         {file(`{"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}}`, four...), "F31"},
		"no shape":      {file(`{"a":{"dtype":"F32","data_offsets":[0,4]}}`, four...), "missing"},
		"three offsets": {file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,4]}}`, four...), "missing"},
		"size":          {file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}`, four...), "does not fill"},
		"negative":      {file(`{"a":{"dtype":"F32","shape":[-1,-1],"data_offsets":[0,4]}}`, four...), "does not fill"},
		"overflow":      {file(`{"a":{"dtype":"F32","shape":[4294967296,4294967296,1],"data_offsets":[0,4]}}`, four...), "does not fill"},
		"half a byte":   {file(`{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}}`, 0), "does not fill"},
		"outside":       {file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, four...), "outside"},
		"backwards":     {file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}`, four...), "outside"},
		"negative at":   {file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}`, four...), "tensor"},
		"gap":           {file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, append(four, four...)...), "gap"},
		"overlap": {file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, four...),
			"overlap"},
		"trailing": {file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, append(four, 1)...), "end at byte 4 of 5"},
	} {
		_, err := ParseSafetensors(c.data)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.want)
		}
	}
}

func TestSafetensorsOpenErrors(t *testing.T) {
	dir := t.TempDir()
	if _, err := OpenSafetensors(filepath.Join(dir, "none")); !os.IsNotExist(err) {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := OpenSafetensors(dir); err == nil {
		t.Error("a directory was opened")
	}
	empty := filepath.Join(dir, "empty.safetensors")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenSafetensors(empty); err == nil || !strings.Contains(err.Error(), empty) {
		t.Errorf("an empty file: %v", err)
	}
}

func TestSafetensorsWriterErrors(t *testing.T) {
	one := []TensorSpec{{"a", "F32", []int{2}}}
	open := func() *SafetensorsWriter {
		w, err := NewSafetensorsWriter(&bytes.Buffer{}, nil, one)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	w := open()
	if err := w.WriteFloat32([]float32{1}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err == nil || !strings.Contains(err.Error(), "lacks its last 4 bytes") {
		t.Errorf("Close of half a tensor: %v", err)
	}
	if err := open().WriteFloat32([]float32{1, 2, 3}); err == nil {
		t.Error("too many elements were taken")
	}
	if err := open().WriteInt32([]int32{1}); err == nil {
		t.Error("I32 was taken for F32")
	}
	if _, err := open().Write(make([]byte, 9)); err == nil {
		t.Error("too many bytes were taken")
	}
	for _, bad := range [][]TensorSpec{{one[0], one[0]}, {{"a", "F31", []int{1}}}, {{"a", "F32", []int{-1}}}, {{"__metadata__", "F32", []int{1}}}} {
		if _, err := NewSafetensorsWriter(&bytes.Buffer{}, nil, bad); err == nil {
			t.Errorf("the specs %v were taken", bad)
		}
	}
}

// FuzzSafetensors holds that a foreign file is refused or is sound: every
// tensor lies in the file, fills its shape, and can be converted or is refused.
func FuzzSafetensors(f *testing.F) {
	f.Add(file(`{}`))
	f.Add(file(`{"__metadata__":{"k":"v"},"a":{"dtype":"F16","shape":[2,1],"data_offsets":[0,4]},"b":{"dtype":"I32","shape":[],"data_offsets":[4,8]}} `, 1, 2, 3, 4, 5, 6, 7, 8))
	f.Add(file(`{"a":{"dtype":"F32","shape":[0,9223372036854775807],"data_offsets":[0,0]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := ParseSafetensors(data)
		if err != nil {
			return
		}
		total := 0
		for _, name := range s.Names() {
			x, ok := s.Tensor(name)
			if !ok || x.Elements()*dtypeBits[x.DType] != 8*len(x.Raw()) {
				t.Fatalf("tensor %q: %v elements of %s in %d bytes", name, x.Elements(), x.DType, len(x.Raw()))
			}
			total += len(x.Raw())
			if m, err := x.Matrix(); err == nil && m.Rows*m.Cols != len(m.Data) {
				t.Fatalf("tensor %q: matrix %d × %d of %d", name, m.Rows, m.Cols, len(m.Data))
			}
			if ints, err := x.Int32(); err == nil && len(ints) != x.Elements() {
				t.Fatalf("tensor %q: %d integers", name, len(ints))
			}
		}
		if total > len(data) {
			t.Fatalf("tensors of %d bytes in a file of %d", total, len(data))
		}
	})
}

func TestHalfPrecision(t *testing.T) {
	// IEEE 754-2008, binary16: (-1)^s · 2^(e-15) · (1 + f/1024); e = 0 subnormal; e = 31 infinite or NaN.
	for bits := range 1 << 16 {
		s, e, frac := 1.0, bits>>10&31, float64(bits&1023)
		if bits&0x8000 != 0 {
			s = -1
		}
		want := s * math.Ldexp(1+frac/1024, e-15)
		switch {
		case e == 0:
			want = s * math.Ldexp(frac, -24)
		case e == 31 && frac == 0:
			want = math.Inf(int(s))
		case e == 31:
			want = math.NaN()
		}
		got := float64(F16ToF32(uint16(bits)))
		if got != want && !(math.IsNaN(got) && math.IsNaN(want)) || math.Signbit(got) != (s < 0) && !math.IsNaN(want) {
			t.Fatalf("F16ToF32(%#04x) = %v, want %v", bits, got, want)
		}
		if h := F16ToF32(uint16(bits)); h == h && F32ToF16(h) != uint16(bits) {
			t.Fatalf("half %#04x comes back as %#04x", bits, F32ToF16(h))
		} else if h != h && F16ToF32(F32ToF16(h)) == F16ToF32(F32ToF16(h)) {
			t.Fatalf("half %#04x, not a number, comes back as %#04x", bits, F32ToF16(h))
		}
		b := BF16ToF32(uint16(bits))
		if b == b && F32ToBF16(b) != uint16(bits) {
			t.Fatalf("bfloat16 %#04x comes back as %#04x", bits, F32ToBF16(b))
		}
		if b != b && BF16ToF32(F32ToBF16(b)) == BF16ToF32(F32ToBF16(b)) {
			t.Fatalf("the NaN %#04x became a number", bits)
		}
	}
	// Ties go to the even neighbour: 1 + 2⁻⁸ lies between 1 and 1 + 2⁻⁷.
	if got := F32ToBF16(1 + 1.0/256); got != 0x3f80 {
		t.Errorf("1+2^-8 rounds to %#04x", got)
	}
	if got := F32ToBF16(1 + 3.0/256); got != 0x3f82 {
		t.Errorf("1+3·2^-8 rounds to %#04x", got)
	}
	if got := F32ToBF16(math.MaxFloat32); got != 0x7f80 {
		t.Errorf("the largest float32 rounds to %#04x, not infinity", got)
	}
}
