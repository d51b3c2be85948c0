package cache

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

var errNotRegular = errors.New("is not a regular file")

// State is what Check finds.
type State int

const (
	OK      State = iota // present, and nothing speaks against it
	Missing              // no such file
	Damaged              // there is something, but not the blob
)

func (s State) String() string {
	switch s {
	case OK:
		return "ok"
	case Missing:
		return "missing"
	case Damaged:
		return "damaged"
	}
	return fmt.Sprintf("State(%d)", int(s))
}

// Blobs is the store of artefacts: files under blobs/, named by the SHA-256 of
// their bytes and never changed. It needs no lock: any number of goroutines and
// processes may read and publish at once, because a name can mean only one
// content. It is safe for concurrent use.
type Blobs struct {
	dir    string // blobs/
	stamps *stamps
	now    func() time.Time

	dropped *droppedList
}

// OpenBlobs returns the blobs of the cache at dir, which need not exist yet.
// It reads the cache's stamps and never writes them.
func OpenBlobs(dir string) *Blobs {
	return newBlobs(dir, newStamps(dir, time.Now), time.Now)
}

func newBlobs(dir string, s *stamps, now func() time.Time) *Blobs {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs // survives a later chdir, and can be handed to other processes
	}
	return &Blobs{dir: filepath.Join(dir, "blobs"), stamps: s, now: now, dropped: newDroppedList(dir)}
}

// Path returns where the blob is, or would be: an absolute path.
func (b *Blobs) Path(d Digest) string {
	s := d.String()
	return filepath.Join(b.dir, s[:2], s[2:])
}

// Open opens a blob for reading, verified: its stamp vouches for the bytes, or
// they were hashed just now. The error is a *MissingError or a *DamagedError
// when that is what is wrong.
func (b *Blobs) Open(d Digest) (*os.File, error) {
	f, st, err := b.open(d)
	if err != nil {
		return nil, err
	}
	if !b.trusted(d, st) {
		if err := b.verify(d, f); err != nil {
			f.Close()
			return nil, err
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			f.Close()
			return nil, err
		}
	}
	return f, nil
}

// ReadAll returns a blob's bytes, verified as Open does, reading them once.
func (b *Blobs) ReadAll(d Digest) ([]byte, error) {
	f, st, err := b.open(d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data := make([]byte, st.size)
	n, err := io.ReadFull(f, data)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, fmt.Errorf("reading blob %s: %w", d.Short(), err)
	}
	data = data[:n]
	if int64(n) == st.size && b.trusted(d, st) {
		return data, nil
	}
	if got := Sum(data); got != d {
		return nil, b.damaged(d, got)
	}
	b.stamps.setBlob(d, st)
	return data, nil
}

// Verify hashes the blob whatever its stamp says.
func (b *Blobs) Verify(d Digest) error {
	f, _, err := b.open(d)
	if err != nil {
		return err
	}
	defer f.Close()
	return b.verify(d, f)
}

// Check says cheaply whether the blob can be counted on, for plans: one stat,
// and a hash only when the file changed since it was last seen whole. OK is no
// promise about the bytes; Open and ReadAll verify them. A negative size is any
// size.
func (b *Blobs) Check(d Digest, size int64) State {
	path := b.Path(d)
	var st unix.Stat_t
	err := ignoringEINTR(func() error { return unix.Lstat(path, &st) })
	return b.judge(d, size, &st, err)
}

// open opens the file without looking at its bytes. The stamp is the open
// file's own, not that of whatever has its name a moment later.
func (b *Blobs) open(d Digest) (*os.File, stamp, error) {
	path := b.Path(d)
	fail := func(err error) (*os.File, stamp, error) {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
			b.stamps.dropBlob(d)
			return nil, stamp{}, &MissingError{Digest: d, Path: path}
		}
		return nil, stamp{}, fmt.Errorf("reading blob %s: %w", d.Short(), err)
	}
	if st, err := os.Lstat(path); err != nil {
		return fail(err)
	} else if !st.Mode().IsRegular() { // opening a pipe would wait for its writer
		return nil, stamp{}, &DamagedError{Digest: d, Path: path, Reason: "is not a file but a " + modeName(st.Mode())}
	}
	f, err := os.Open(path)
	if err != nil {
		return fail(err)
	}
	var st unix.Stat_t
	if err := ignoringEINTR(func() error { return unix.Fstat(int(f.Fd()), &st) }); err != nil {
		f.Close()
		return fail(err)
	}
	return f, fileStamp(&st, b.now()), nil
}

func modeName(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "folder"
	case m&fs.ModeSymlink != 0:
		return "symbolic link"
	case m&fs.ModeNamedPipe != 0:
		return "named pipe"
	}
	return "special file"
}

func (b *Blobs) trusted(d Digest, now stamp) bool {
	have, ok := b.stamps.blob(d)
	return ok && have.settled() && have.same(now)
}

// verify hashes the open file and remembers the stamp of a good one.
func (b *Blobs) verify(d Digest, f *os.File) error {
	got, st, err := hashFile(f, b.now)
	if err != nil {
		return fmt.Errorf("reading blob %s: %w", d.Short(), err)
	}
	if got != d {
		return b.damaged(d, got)
	}
	b.stamps.setBlob(d, st)
	return nil
}

func (b *Blobs) damaged(d, got Digest) error {
	// A stamp that no file has: without any, Check would go by the size.
	b.stamps.setBlob(d, stamp{taken: b.now().UnixNano()})
	return &DamagedError{Digest: d, Path: b.Path(d), Reason: "holds other bytes (SHA-256 " + got.Short() + "…)"}
}

func hashAll(r io.Reader) (Digest, int64, error) {
	h := sha256.New()
	n, err := io.CopyBuffer(onlyWriter{h}, r, make([]byte, 256<<10))
	if err != nil {
		return Digest{}, n, err
	}
	return Digest(h.Sum(nil)), n, nil
}

// onlyWriter keeps io.CopyBuffer to the buffer it was given.
type onlyWriter struct{ io.Writer }
