package linalg

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sbinet/npyio/npy"
	"gonum.org/v1/gonum/mat"
)

// npyFile builds version 1 of the format from the header's text.
func npyFile(header string, data []byte) []byte {
	out := append([]byte("\x93NUMPY\x01\x00"), byte(len(header)), byte(len(header)>>8))
	return append(append(out, header...), data...)
}

func write(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func wantMatrix(t *testing.T, path string, rows, cols int, data ...float32) {
	t.Helper()
	m, err := ReadMatrixFile(path)
	if err != nil {
		t.Error(err)
		return
	}
	if m.Rows != rows || m.Cols != cols || m.Stride != cols || !slices.Equal(m.Data, data) {
		t.Errorf("%s: got %+v, want %d × %d %v", filepath.Base(path), m, rows, cols, data)
	}
	r, c, err := MatrixFileShape(path)
	if err != nil || r != rows || c != cols {
		t.Errorf("%s: the shape from its header is %d × %d, %v", filepath.Base(path), r, c, err)
	}
}

func le[T any](values ...T) []byte {
	var b bytes.Buffer
	binary.Write(&b, binary.LittleEndian, values)
	return b.Bytes()
}

func TestReadNPY(t *testing.T) {
	// A file that another implementation of the format wrote.
	var buf bytes.Buffer
	if err := npy.Write(&buf, mat.NewDense(2, 3, []float64{1, 2, 3, 4, 5, 6.5})); err != nil {
		t.Fatal(err)
	}
	wantMatrix(t, write(t, "dense.npy", buf.Bytes()), 2, 3, 1, 2, 3, 4, 5, 6.5)

	six := le[float32](1, 2, 3, 4, 5, 6)
	wantMatrix(t, write(t, "c.npy", npyFile("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }  \n", six)), 2, 3, 1, 2, 3, 4, 5, 6)
	wantMatrix(t, write(t, "f.npy", npyFile("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }\n", six)), 2, 3, 1, 3, 5, 2, 4, 6)
	wantMatrix(t, write(t, "keys.npy", npyFile(`{"shape":(6,),"descr":"<f4","fortran_order":False}`, six)), 1, 6, 1, 2, 3, 4, 5, 6)
	wantMatrix(t, write(t, "f2.npy", npyFile("{'descr': '<f2', 'fortran_order': False, 'shape': (1, 2)}", le[uint16](0x3c00, 0xc000))), 1, 2, 1, -2)
	wantMatrix(t, write(t, "big.npy", npyFile("{'descr': '>f4', 'fortran_order': False, 'shape': (1, 1)}", []byte{0x3f, 0x80, 0, 0})), 1, 1, 1)

	version2 := append([]byte("\x93NUMPY\x02\x00"), le(uint32(55))...)
	version2 = append(version2, fmt.Sprintf("%-55s", "{'descr':'<f4','fortran_order':False,'shape':(2,3)}")...)
	wantMatrix(t, write(t, "v2.npy", append(version2, six...)), 2, 3, 1, 2, 3, 4, 5, 6)
}

func TestReadNPYRejects(t *testing.T) {
	four := le[float32](1)
	for _, c := range []struct {
		name, want string
		data       []byte
	}{
		{"magic", "does not begin", []byte("PK\x03\x04 and so on")},
		{"version", "version 9.0", []byte("\x93NUMPY\x09\x00\x00\x00")},
		{"header cut off", "claims", npyFile("{'descr': '<f4'", nil)[:12]},
		{"dtype", "'float32'", npyFile("{'descr': '<i4', 'fortran_order': False, 'shape': (1, 1)}", four)},
		{"records", "plain array", npyFile("{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (1,)}", four)},
		{"missing key", "nothing else", npyFile("{'descr': '<f4', 'shape': (1, 1)}", four)},
		{"order", "plain array", npyFile("{'descr': '<f4', 'fortran_order': Maybe, 'shape': (1, 1)}", four)},
		{"three dimensions", "[1 1 1]", npyFile("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 1)}", four)},
		{"negative", "plain array", npyFile("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 1)}", four)},
		{"cut off", "cut off", npyFile("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2)}", four)},
		{"overflow", "cut off", npyFile("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}", four)},
		{"empty", "holds nothing", npyFile("{'descr': '<f4', 'fortran_order': True, 'shape': (0, 99999999999)}", nil)},
		{"range", "element 0 is beyond", npyFile("{'descr': '<f8', 'fortran_order': False, 'shape': (1, 1)}", le[float64](1e300))},
	} {
		path := write(t, "x.npy", c.data)
		if _, err := ReadMatrixFile(path); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: error %v, want one with %q and the path", c.name, err, c.want)
		}
	}
}

func zipped(t *testing.T, names ...string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	for i, name := range names {
		f, err := w.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		f.Write(npyFile("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1)}", le(float32(i))))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestReadNPZ(t *testing.T) {
	wantMatrix(t, write(t, "one.npz", zipped(t, "x.npy", "notes.txt")), 1, 1, 0)
	wantMatrix(t, write(t, "named.npz", zipped(t, "x.npy", "activations.npy", "y.npy")), 1, 1, 1)
	for _, data := range [][]byte{zipped(t, "x.npy", "y.npy"), zipped(t, "notes.txt"), []byte("no zip")} {
		path := write(t, "bad.npz", data)
		if _, err := ReadMatrixFile(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("error %v, want one with the path", err)
		}
	}
}

func TestReadSafetensorsMatrix(t *testing.T) {
	entry := func(name string, at int) string {
		return fmt.Sprintf(`"%s":{"dtype":"F32","shape":[1,1],"data_offsets":[%d,%d]}`, name, at, at+4)
	}
	wantMatrix(t, write(t, "one.safetensors", file("{"+entry("x", 0)+"}", le[float32](5)...)), 1, 1, 5)
	wantMatrix(t, write(t, "two.safetensors", file("{"+entry("x", 0)+","+entry("activations", 4)+"}", le[float32](5, 6)...)), 1, 1, 6)
	path := write(t, "bad.safetensors", file("{"+entry("x", 0)+","+entry("y", 4)+"}", le[float32](5, 6)...))
	if _, err := ReadMatrixFile(path); err == nil || !strings.Contains(err.Error(), "x, y") {
		t.Errorf("two unnamed tensors: %v", err)
	}
	if _, err := ReadMatrixFile("x.pt"); err == nil || !strings.Contains(err.Error(), ".npz") {
		t.Errorf("an unknown ending: %v", err)
	}
}

// FuzzNPY holds that a foreign array is refused or is as large as it says,
// without claiming memory that the file does not account for.
func FuzzNPY(f *testing.F) {
	f.Add(npyFile("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 1), }\n", le[float32](1, 2)))
	f.Add(npyFile("{'shape': (), 'descr': '>f8', 'fortran_order': False}", nil))
	f.Add(npyFile("{'shape': (0, 99999999999), 'descr': '<f2', 'fortran_order': True}", nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := readNPY(bytes.NewReader(data), int64(len(data)))
		if err == nil && (m.Rows*m.Cols != len(m.Data) || len(m.Data) > len(data)) {
			t.Fatalf("%d × %d with %d elements from %d bytes", m.Rows, m.Cols, len(m.Data), len(data))
		}
	})
}
