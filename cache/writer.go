package cache

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Writer takes the bytes of one new blob. Nothing is visible until Commit. It
// is for one goroutine.
type Writer struct {
	b    *Blobs
	f    *os.File // nil once committed or aborted
	buf  *bufio.Writer
	sum  hash.Hash
	size int64
	err  error
}

var errWriterDone = errors.New("blob writer: already committed or aborted")

// Create begins a new blob. The caller ends it with Commit or Abort; Abort
// after Commit does nothing, so it can be deferred.
func (b *Blobs) Create() (*Writer, error) {
	dir := filepath.Join(b.dir, "tmp")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, writeError(dir, err)
	}
	f, err := os.CreateTemp(dir, tempPrefix()+"*")
	if err != nil {
		return nil, writeError(dir, err)
	}
	return &Writer{b: b, f: f, buf: bufio.NewWriterSize(f, 256<<10), sum: sha256.New()}, nil
}

func (w *Writer) Write(p []byte) (int, error) {
	if w.f == nil {
		return 0, errWriterDone
	}
	if w.err != nil {
		return 0, w.err
	}
	n, err := w.buf.Write(p)
	w.sum.Write(p[:n])
	w.size += int64(n)
	if err != nil {
		w.err = writeError(w.f.Name(), err)
	}
	return n, w.err
}

// Abort throws away what was written.
func (w *Writer) Abort() {
	if w.f == nil {
		return
	}
	w.f.Close()
	os.Remove(w.f.Name())
	w.f = nil
}

// Commit publishes the blob and returns its name and size in bytes. When it
// returns nil the blob survives a power cut. A blob that is there already is
// left alone if its bytes are good, and replaced if not.
func (w *Writer) Commit() (Digest, int64, error) {
	if w.f == nil {
		return Digest{}, 0, errWriterDone
	}
	defer w.Abort()
	if w.err == nil {
		w.err = w.buf.Flush()
	}
	if w.err != nil {
		return Digest{}, 0, writeError(w.f.Name(), w.err)
	}
	d := Digest(w.sum.Sum(nil))
	if w.b.has(d, w.size) {
		return d, w.size, w.b.syncName(d)
	}
	if err := w.f.Chmod(0o444); err != nil {
		return Digest{}, 0, writeError(w.f.Name(), err)
	}
	if err := w.f.Sync(); err != nil {
		return Digest{}, 0, writeError(w.f.Name(), err)
	}
	if err := w.b.publish(w.f.Name(), d); err != nil {
		return Digest{}, 0, err
	}
	// After the rename, which changes ctime. Too young to be trusted; see stamps.
	var st unix.Stat_t
	if err := ignoringEINTR(func() error { return unix.Fstat(int(w.f.Fd()), &st) }); err == nil {
		w.b.stamps.setBlob(d, fileStamp(&st, w.b.now()))
	}
	err := w.f.Close()
	w.f = nil
	if err != nil {
		return Digest{}, 0, writeError(w.b.Path(d), err)
	}
	return d, w.size, nil
}

// has reports whether a good copy of the blob is there, hashing it if need be.
func (b *Blobs) has(d Digest, size int64) bool {
	f, st, err := b.open(d)
	if err != nil {
		return false
	}
	defer f.Close()
	return st.size == size && (b.trusted(d, st) || b.verify(d, f) == nil)
}

// syncName makes the name of a blob durable that somebody else published, who
// may have died before doing so.
func (b *Blobs) syncName(d Digest) error {
	dir := filepath.Dir(b.Path(d))
	return writeError(dir, syncDir(dir))
}

// publish gives a synced temporary file its final name, over a damaged blob if
// there is one.
func (b *Blobs) publish(temp string, d Digest) error {
	path := b.Path(d)
	dir := filepath.Dir(path)
	switch err := os.Mkdir(dir, 0o755); {
	case err == nil:
		if err := syncDir(b.dir); err != nil {
			return writeError(dir, err)
		}
	case !errors.Is(err, fs.ErrExist):
		return writeError(dir, err)
	}
	err := os.Rename(temp, path)
	if err != nil {
		if st, serr := os.Lstat(path); serr == nil && st.IsDir() {
			if err := b.setAside(path, d); err != nil {
				return err
			}
			err = os.Rename(temp, path)
		}
	}
	if err != nil {
		return writeError(path, err)
	}
	return writeError(path, syncDir(dir))
}

// Quarantine takes a blob that was found damaged out of the way, to
// blobs/damaged: it is missing from then on, and what made it runs again.
func (b *Blobs) Quarantine(d Digest) error {
	b.stamps.dropBlob(d)
	return b.setAside(b.Path(d), d)
}

// setAside moves what stands in a blob's place to blobs/damaged: a folder,
// which rename cannot replace and which is not ours to delete.
func (b *Blobs) setAside(path string, d Digest) error {
	aside := filepath.Join(b.dir, "damaged")
	if err := os.MkdirAll(aside, 0o755); err != nil {
		return writeError(aside, err)
	}
	to, err := os.MkdirTemp(aside, d.Short()+"-*")
	if err != nil {
		return writeError(aside, err)
	}
	if err := os.Rename(path, filepath.Join(to, d.String())); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("moving %s, which stands in the place of a blob, to %s: %w", path, to, err)
	}
	return nil
}

// Put publishes p as a blob.
func (b *Blobs) Put(p []byte) (Digest, error) {
	d := Sum(p)
	if b.has(d, int64(len(p))) {
		return d, b.syncName(d)
	}
	w, err := b.Create()
	if err != nil {
		return Digest{}, err
	}
	defer w.Abort()
	if _, err := w.Write(p); err != nil {
		return Digest{}, err
	}
	d, _, err = w.Commit()
	return d, err
}

// ImportFile publishes a copy of the file at path and returns its digest and
// size in bytes.
func (b *Blobs) ImportFile(path string) (Digest, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return Digest{}, 0, err
	}
	defer f.Close()
	w, err := b.Create()
	if err != nil {
		return Digest{}, 0, err
	}
	defer w.Abort()
	if _, err := io.CopyBuffer(onlyWriter{w}, f, make([]byte, 256<<10)); err != nil {
		return Digest{}, 0, fmt.Errorf("copying %s into the cache: %w", path, err)
	}
	return w.Commit()
}

// tempPrefix names this process in a temporary file: PID, start, and a digest
// of the host's identity, so that sweep can tell a dead writer's file.
func tempPrefix() string {
	pid := os.Getpid()
	return strconv.Itoa(pid) + "-" + Sum([]byte(processIdentity(pid))).String()[:8] + "-" + Sum([]byte(hostIdentity())).String()[:8] + "-"
}

// sweep removes the temporary files of writers that are gone: of this host by
// process, of others when they are older than a week.
func (b *Blobs) sweep() {
	dir := filepath.Join(b.dir, "tmp")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // nothing was ever written, or the next Create says what is wrong
	}
	here := Sum([]byte(hostIdentity())).String()[:8]
	for _, e := range entries {
		f := strings.Split(e.Name(), "-")
		pid, err := strconv.Atoi(f[0])
		dead := false
		if err == nil && len(f) == 4 && f[2] == here {
			id := processIdentity(pid)
			dead = id != "" && Sum([]byte(id)).String()[:8] != f[1] ||
				id == "" && lookProcess(Owner{PID: pid, Start: hostIdentity() + "/0", Host: hostIdentity()}) == processDead
		} else if st, err := e.Info(); err == nil {
			dead = b.now().Sub(st.ModTime()) > 7*24*time.Hour
		}
		if dead {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}
