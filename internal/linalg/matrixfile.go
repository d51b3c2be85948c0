package linalg

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// activationsName is the tensor or array that holds the rows, in files that
// hold several.
const activationsName = "activations"

// ReadMatrixFile reads a matrix that another program wrote, by the ending of
// its name: .safetensors (F32, F16, BF16 or F64), .npy or .npz (float16,
// float32 or float64; C or Fortran order). In a file of several the one named
// "activations" is read, else the only one. Elements are converted to float32;
// a float64 beyond its range is an error. An array of one dimension makes a
// matrix of one row.
func ReadMatrixFile(path string) (Matrix, error) {
	var m Matrix
	var err error
	switch ext := strings.ToLower(filepath.Ext(path)); ext {
	case ".safetensors":
		m, err = readSafetensorsMatrix(path)
	case ".npy":
		m, err = readNPYFile(path)
	case ".npz":
		m, err = readNPZFile(path)
	default:
		return m, fmt.Errorf("reading %s: matrices are read from .safetensors, .npy and .npz files, not from %q", path, ext)
	}
	if err != nil {
		return Matrix{}, fmt.Errorf("reading %s: %w", path, err)
	}
	return m, nil
}

func readSafetensorsMatrix(path string) (Matrix, error) {
	s, err := OpenSafetensors(path)
	if err != nil {
		return Matrix{}, err
	}
	defer s.Close()
	t, err := s.pick(activationsName)
	if err != nil {
		return Matrix{}, err
	}
	if t.Elements() == 0 {
		return Matrix{}, fmt.Errorf("tensor %q is empty", t.Name)
	}
	m, err := t.Matrix()
	if err == nil && t.DType == "F64" {
		err = checkRange(m.Data)
	}
	return m, err
}

func readNPYFile(path string) (Matrix, error) {
	f, err := os.Open(path)
	if err != nil {
		return Matrix{}, err
	}
	defer f.Close()
	stat, err := f.Stat()
	if err != nil {
		return Matrix{}, err
	}
	return readNPY(f, stat.Size())
}

func readNPZFile(path string) (Matrix, error) {
	archive, err := zip.OpenReader(path)
	if err != nil {
		return Matrix{}, err
	}
	defer archive.Close()
	chosen, err := pickArray(&archive.Reader)
	if err != nil {
		return Matrix{}, err
	}
	size, err := arraySize(chosen)
	if err != nil {
		return Matrix{}, err
	}
	r, err := chosen.Open()
	if err != nil {
		return Matrix{}, fmt.Errorf("array %s: %w", chosen.Name, err)
	}
	defer r.Close()
	m, err := readNPY(r, size)
	if err != nil {
		return Matrix{}, fmt.Errorf("array %s: %w", chosen.Name, err)
	}
	// The checksum is compared at the end of the stream.
	if _, err := io.Copy(io.Discard, r); err != nil {
		return Matrix{}, fmt.Errorf("array %s: %w", chosen.Name, err)
	}
	return m, nil
}

// pickArray chooses the array named "activations", else the only one.
func pickArray(archive *zip.Reader) (*zip.File, error) {
	var chosen *zip.File
	var names []string
	for _, f := range archive.File {
		name, isArray := strings.CutSuffix(f.Name, ".npy")
		if !isArray {
			continue
		}
		names = append(names, name)
		if name == activationsName || chosen == nil {
			chosen = f
		}
	}
	if chosen == nil || len(names) > 1 && chosen.Name != activationsName+".npy" {
		return nil, fmt.Errorf("it holds no array %q, and more or fewer than one other: %s", activationsName, strings.Join(names, ", "))
	}
	return chosen, nil
}

// arraySize returns the unpacked size that an archive claims for f, after
// checking that so few packed bytes could hold it: deflate packs at most
// 1032 bytes into one.
func arraySize(f *zip.File) (int64, error) {
	if f.UncompressedSize64 > math.MaxInt64 || f.UncompressedSize64/1032 > f.CompressedSize64+1 {
		return 0, errors.New("array " + f.Name + ": the archive's sizes cannot be right")
	}
	return int64(f.UncompressedSize64), nil
}

// checkRange returns an error if a float64 became infinite as a float32.
func checkRange(data []float32) error {
	for i, v := range data {
		if math.IsInf(float64(v), 0) {
			return fmt.Errorf("element %d is beyond the range of float32", i)
		}
	}
	return nil
}
