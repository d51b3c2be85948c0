package linalg

import (
	"archive/zip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// MatrixFileShape returns the rows and columns of what ReadMatrixFile would
// read, from the file's header alone: the elements are neither read nor
// checked.
func MatrixFileShape(path string) (rows, cols int, err error) {
	var shape []int
	switch ext := strings.ToLower(filepath.Ext(path)); ext {
	case ".safetensors":
		shape, err = safetensorsShape(path)
	case ".npy":
		shape, err = npyShape(path)
	case ".npz":
		shape, err = npzShape(path)
	default:
		return 0, 0, fmt.Errorf("reading %s: matrices are read from .safetensors, .npy and .npz files, not from %q", path, ext)
	}
	switch {
	case err != nil:
		return 0, 0, fmt.Errorf("reading %s: %w", path, err)
	case len(shape) == 1:
		return 1, shape[0], nil
	case len(shape) == 2:
		return shape[0], shape[1], nil
	}
	return 0, 0, fmt.Errorf("reading %s: its shape is %v, where [rows, columns] is needed", path, shape)
}

func safetensorsShape(path string) ([]int, error) {
	s, err := OpenSafetensors(path)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	t, err := s.pick(activationsName)
	return t.Shape, err
}

func npyShape(path string) ([]int, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	stat, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return npyShapeOf(f, stat.Size())
}

func npyShapeOf(r io.Reader, size int64) ([]int, error) {
	h, length, err := readNPYHeader(r, size)
	if err == nil {
		err = h.fits(size - length)
	}
	return h.shape, err
}

func npzShape(path string) ([]int, error) {
	archive, err := zip.OpenReader(path)
	if err != nil {
		return nil, err
	}
	defer archive.Close()
	f, err := pickArray(&archive.Reader)
	if err != nil {
		return nil, err
	}
	size, err := arraySize(f)
	if err != nil {
		return nil, err
	}
	r, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return npyShapeOf(r, size)
}
