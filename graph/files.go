package graph

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"clusterflow/cache"
)

// files is where the bytes of a job are: in the cache, or in plain files. The
// task that runs cannot tell which. Outputs are returned with their name also
// beside an error.
type files interface {
	bytes(in cache.Output) ([]byte, error)
	open(in cache.Output) (io.ReadCloser, error)
	path(in cache.Output) (string, error)
	put(name string, data []byte) (cache.Output, error)
	write(name string, write func(io.Writer) error) (cache.Output, error)
}

// storeFiles keeps outputs as blobs, small ones in the record.
type storeFiles struct{ blobs *cache.Blobs }

func (s storeFiles) bytes(in cache.Output) ([]byte, error) {
	if in.Inline != nil {
		return in.Inline, nil
	}
	return s.blobs.ReadAll(in.Digest)
}

func (s storeFiles) open(in cache.Output) (io.ReadCloser, error) {
	if in.Inline != nil {
		return io.NopCloser(bytes.NewReader(in.Inline)), nil
	}
	return s.blobs.Open(in.Digest)
}

func (s storeFiles) path(in cache.Output) (string, error) {
	if in.Inline != nil {
		if _, err := s.blobs.Put(in.Inline); err != nil {
			return "", err
		}
		return s.blobs.Path(in.Digest), nil
	}
	f, err := s.blobs.Open(in.Digest)
	if err != nil {
		return "", err
	}
	return s.blobs.Path(in.Digest), f.Close()
}

func (s storeFiles) put(name string, data []byte) (cache.Output, error) {
	o := cache.Output{Name: name, Size: int64(len(data))}
	if len(data) <= cache.InlineLimit {
		o.Digest, o.Inline = cache.Sum(data), append([]byte{}, data...)
		return o, nil
	}
	var err error
	o.Digest, err = s.blobs.Put(data)
	return o, err
}

func (s storeFiles) write(name string, write func(io.Writer) error) (cache.Output, error) {
	o := cache.Output{Name: name}
	w, err := s.blobs.Create()
	if err != nil {
		return o, err
	}
	if err := write(w); err != nil {
		w.Abort()
		return o, err
	}
	o.Digest, o.Size, err = w.Commit()
	return o, err
}

// plainFiles reads inputs from the files that paths names by digest, and puts
// outputs below a folder under their names.
type plainFiles struct {
	paths  map[cache.Digest]string
	folder string
}

// at finds the file of an input and checks its bytes.
func (p plainFiles) at(in cache.Output) (string, error) {
	path := p.paths[in.Digest]
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("reading %s: %w", path, err)
	}
	if got := cache.Digest(h.Sum(nil)); got != in.Digest {
		return "", fmt.Errorf("%s is not what the task was given: its SHA-256 is %s, and not %s", path, got, in.Digest)
	}
	return path, nil
}

func (p plainFiles) bytes(in cache.Output) ([]byte, error) {
	path := p.paths[in.Digest]
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if got := cache.Sum(data); got != in.Digest {
		return nil, fmt.Errorf("%s is not what the task was given: its SHA-256 is %s, and not %s", path, got, in.Digest)
	}
	return data, nil
}

func (p plainFiles) open(in cache.Output) (io.ReadCloser, error) {
	path, err := p.at(in)
	if err != nil {
		return nil, err
	}
	return os.Open(path)
}

func (p plainFiles) path(in cache.Output) (string, error) { return p.at(in) }

func (p plainFiles) put(name string, data []byte) (cache.Output, error) {
	return p.write(name, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// write makes the file under another name first: what has an output's name is
// whole.
func (p plainFiles) write(name string, write func(io.Writer) error) (o cache.Output, err error) {
	o.Name = name
	path, err := OutputPath(p.folder, name)
	if err != nil {
		return o, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return o, err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".unfinished-*")
	if err != nil {
		return o, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	defer f.Close()
	h := sha256.New()
	n := &counter{}
	b := bufio.NewWriterSize(io.MultiWriter(f, h, n), 1<<18)
	if err := write(b); err != nil {
		return o, err
	}
	if err := b.Flush(); err != nil {
		return o, err
	}
	if err := f.Chmod(0o644); err != nil {
		return o, err
	}
	if err := f.Sync(); err != nil {
		return o, err
	}
	if err := f.Close(); err != nil {
		return o, err
	}
	o.Digest, o.Size = cache.Digest(h.Sum(nil)), n.n
	return o, os.Rename(f.Name(), path)
}

// counter counts the bytes that go by.
type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// OutputPath is the file of an output below a folder. A name with slashes is a
// path in it; one that would leave the folder is an error.
func OutputPath(folder, name string) (string, error) {
	local, err := filepath.Localize(name)
	if err != nil {
		return "", fmt.Errorf("the output %q cannot be a file in %s", name, folder)
	}
	return filepath.Join(folder, local), nil
}
