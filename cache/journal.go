package cache

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
)

// The journal, runs/records.jsonl, is the copy of the records that readers
// use: Badger admits nobody beside its writer. It is appended to after the
// commit, so it never holds a record that Badger lacks, but it may lack some
// of Badger's after a crash; Badger knows how long it should be.
func journalPath(dir string) string { return filepath.Join(dir, "runs", "records.jsonl") }

// journal is the writer's side.
type journal struct {
	path string
	f    *os.File
	size int64 // bytes of whole lines
	// behind holds lines that Badger has and a failed append did not write.
	behind []byte
}

// openJournal opens the journal for appending, cutting off a torn last line.
func openJournal(path string) (*journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, writeError(path, err)
	}
	size, err := wholeLines(f)
	if st, serr := f.Stat(); err == nil && (serr != nil || st.Size() != size) { // else its times stay
		err = f.Truncate(size)
	}
	if err != nil {
		f.Close()
		return nil, writeError(path, err)
	}
	return &journal{path: path, f: f, size: size}, nil
}

// wholeLines returns the offset behind the last newline of f.
func wholeLines(f *os.File) (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	buf := make([]byte, 64<<10)
	for end := st.Size(); end > 0; {
		n := min(end, int64(len(buf)))
		if _, err := f.ReadAt(buf[:n], end-n); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			return end - n + int64(i) + 1, nil
		}
		end -= n
	}
	return 0, nil
}

// target is how long the journal will be after append(lines).
func (j *journal) target(lines []byte) int64 {
	return j.size + int64(len(j.behind)) + int64(len(lines))
}

// append adds whole lines. After an error the file ends where it ended before,
// and the lines are written with the next append.
func (j *journal) append(lines []byte) error {
	if len(j.behind) > 0 {
		lines = append(j.behind, lines...)
		j.behind = nil
	}
	if len(lines) == 0 {
		return nil
	}
	if _, err := j.f.WriteAt(lines, j.size); err != nil {
		j.behind = lines
		if terr := j.f.Truncate(j.size); terr != nil {
			err = errors.Join(err, terr)
		}
		return writeError(j.path, err)
	}
	j.size += int64(len(lines))
	return nil
}

func (j *journal) close() error {
	err := j.append(nil)
	if err == nil {
		err = writeError(j.path, j.f.Sync())
	}
	return errors.Join(err, j.f.Close())
}

// rewrite replaces the journal by the given lines, atomically.
func (j *journal) rewrite(lines iter.Seq2[[]byte, error]) error {
	f, err := os.CreateTemp(filepath.Dir(j.path), ".records-*")
	if err != nil {
		return writeError(j.path, err)
	}
	fail := func(err error) error {
		f.Close()
		os.Remove(f.Name())
		return writeError(j.path, err)
	}
	w := bufio.NewWriterSize(f, 1<<20)
	var size int64
	for line, err := range lines {
		if err != nil {
			return fail(err)
		}
		w.Write(line) // bufio keeps the first error for Flush
		w.WriteByte('\n')
		size += int64(len(line)) + 1
	}
	if err := w.Flush(); err != nil {
		return fail(err)
	}
	if err := f.Chmod(0o644); err != nil {
		return fail(err)
	}
	if err := f.Sync(); err != nil {
		return fail(err)
	}
	if err := os.Rename(f.Name(), j.path); err != nil {
		return fail(err)
	}
	j.f.Close()
	j.f, j.size, j.behind = f, size, nil
	return writeError(j.path, syncDir(filepath.Dir(j.path)))
}

// journalIndex is the readers' side: where the last good line of each key is.
// The lines are read when they are asked for, from the file that was indexed,
// which a rewrite by another process leaves alone.
type journalIndex struct {
	f     *os.File // nil: no journal
	spans map[Digest]span
	bad   int // lines that are no records or were damaged
}

type span struct {
	at  int64
	len int
}

// indexJournal reads the journal at path; a missing one is empty. A last line
// without newline is being written, or was cut off, and does not count.
func indexJournal(path string) (*journalIndex, error) {
	x := &journalIndex{spans: map[Digest]span{}}
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return x, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the records: %w", err)
	}
	if err := x.scan(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("reading the records: %s: %w", path, err)
	}
	x.f = f
	return x, nil
}

func (x *journalIndex) scan(r io.Reader) error {
	return scanLines(r, func(line []byte, at int64) {
		if key, err := checkLine(line); err == nil {
			x.spans[key] = span{at, len(line)}
		} else {
			x.bad++
		}
	})
}

// scanLines calls fn with every line that ends, without its newline, and where
// it begins. The bytes are fn's until it returns.
func scanLines(r io.Reader, fn func(line []byte, at int64)) error {
	b := bufio.NewReaderSize(r, 256<<10)
	var at int64
	var long []byte // a line larger than the buffer
	for {
		part, err := b.ReadSlice('\n')
		switch {
		case err == bufio.ErrBufferFull:
			long = append(long, part...)
			continue
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
		line := part
		if len(long) > 0 {
			long = append(long, part...)
			line = long
		}
		n := len(line)
		fn(line[:n-1], at)
		at += int64(n)
		long = long[:0]
	}
}

// line returns the bytes of key's record, nil when there is none.
func (x *journalIndex) line(key Digest) ([]byte, error) {
	s, ok := x.spans[key]
	if !ok {
		return nil, nil
	}
	return x.read(s)
}

func (x *journalIndex) read(s span) ([]byte, error) {
	buf := make([]byte, s.len)
	if _, err := x.f.ReadAt(buf, s.at); err != nil {
		return nil, err
	}
	return buf, nil
}

// lines yields the records' bytes in the order in which they were committed.
func (x *journalIndex) lines() iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		order := make([]span, 0, len(x.spans))
		for _, s := range x.spans {
			order = append(order, s)
		}
		slices.SortFunc(order, func(a, b span) int { return int(min(max(a.at-b.at, -1), 1)) })
		for _, s := range order {
			if !yield(x.read(s)) {
				return
			}
		}
	}
}

func (x *journalIndex) close() error {
	if x.f == nil {
		return nil
	}
	return x.f.Close()
}
