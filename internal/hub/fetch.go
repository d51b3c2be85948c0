package hub

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Fetch downloads the named files of a commit into the cache, those that are not
// there yet, and returns the snapshot's folder. What an earlier attempt left is
// gone on with. progress, which may be nil, is told the bytes that are there of
// all that the files have.
//
// A file becomes visible when it is whole and has the checksum that the hub
// gave; until then it lies beside its place under the name ….incomplete. Any
// number of processes may fetch the same files.
func (c *Client) Fetch(ctx context.Context, l *Listing, names []string, progress func(done, total int64)) (string, error) {
	if err := c.Know(ctx, l, names); err != nil {
		return "", err
	}
	var files []File
	var done, total int64
	for _, name := range names {
		f, ok := l.File(name)
		if !ok {
			return "", fmt.Errorf("%s has no file %s", l.Repo, name)
		}
		files = append(files, f)
		total += f.Size
	}
	report := func(n int64) {
		if done += n; progress != nil {
			progress(done, total)
		}
	}
	report(0)
	if err := c.room(l.Repo.ID, files); err != nil {
		return "", err
	}
	for _, f := range files {
		if err := c.fetch(ctx, l, f, report); err != nil {
			return "", fmt.Errorf("downloading %s of %s from %s: %w", f.Name, l.Repo, c.Host(), c.explain(l.Repo, err))
		}
	}
	return c.Snapshot(l.Repo.ID, l.Commit), c.setRef(l)
}

// room checks that the disk has place for what is still to come.
func (c *Client) room(id string, files []File) error {
	dir := filepath.Join(c.dir(id), "blobs")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("making the Hugging Face cache: %w; HF_HUB_CACHE can name another folder", err)
	}
	var need int64
	for _, f := range files {
		need += f.Size
		for _, name := range []string{f.etag(), f.etag() + incomplete} {
			if info, err := os.Stat(filepath.Join(dir, name)); err == nil {
				need -= info.Size()
				break
			}
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return nil // writing will tell
	}
	if free := int64(st.Bavail) * int64(st.Bsize); need > free {
		return fmt.Errorf("%s needs %.1f GB, and the disk of %s has %.1f GB free; make room, or set HF_HUB_CACHE to a folder on another disk", id, float64(need)/1e9, c.Cache, float64(free)/1e9)
	}
	return nil
}

// incomplete is the end of the name of a file under way, as in huggingface_hub.
const incomplete = ".incomplete"

// fetch brings one file into the cache and its snapshot.
func (c *Client) fetch(ctx context.Context, l *Listing, f File, report func(int64)) error {
	blob := filepath.Join(c.dir(l.Repo.ID), "blobs", f.etag())
	have := func() bool {
		info, err := os.Stat(blob)
		return err == nil && info.Size() == f.Size
	}
	if !have() {
		unlock, err := c.lock(ctx, l.Repo.ID, f)
		if err != nil {
			return err
		}
		defer unlock()
	}
	if have() { // another process may have been faster
		report(f.Size)
	} else if err := c.download(ctx, l, f, blob, report); err != nil {
		return err
	}
	return c.link(l, f, blob)
}

// lock waits until no other process fetches the same content. The lock is the
// one that huggingface_hub takes.
func (c *Client) lock(ctx context.Context, id string, f File) (unlock func(), err error) {
	path := filepath.Join(c.Cache, ".locks", filepath.Base(c.dir(id)), f.etag()+".lock")
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return func() { file.Close() }, nil
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			file.Close()
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			file.Close()
			return nil, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// partial is a file under way and the checksum of what it holds.
type partial struct {
	file *os.File
	want File
	sum  hash.Hash
	size int64
	old  bool // begun by an earlier attempt
}

// openPartial goes on with what is there.
func openPartial(path string, f File) (*partial, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, err
	}
	p := &partial{file: file, want: f}
	p.begin()
	if p.size, err = io.Copy(p.sum, file); err == nil && p.size > f.Size {
		err = p.restart()
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	p.old = p.size > 0
	return p, nil
}

// begin starts the checksum: SHA-256, or Git's SHA-1, which covers a header.
func (p *partial) begin() {
	if p.sum = sha256.New(); p.want.SHA256 == "" {
		p.sum = sha1.New()
		fmt.Fprintf(p.sum, "blob %d\x00", p.want.Size)
	}
	p.size = 0
}

// restart drops what is there.
func (p *partial) restart() error {
	p.begin()
	p.old = false
	if err := p.file.Truncate(0); err != nil {
		return err
	}
	_, err := p.file.Seek(0, io.SeekStart)
	return err
}

func (p *partial) Write(b []byte) (int, error) {
	n, err := p.file.Write(b)
	p.sum.Write(b[:n])
	p.size += int64(n)
	return n, err
}

// download fills blob.
func (c *Client) download(ctx context.Context, l *Listing, f File, blob string, report func(int64)) error {
	p, err := openPartial(blob+incomplete, f)
	if err != nil {
		return err
	}
	defer p.file.Close()
	told := int64(0)
	tell := func() {
		report(p.size - told)
		told = p.size
	}
	tell()
	for {
		err := c.again(ctx, func() (bool, error) {
			before := p.size
			err := c.get(ctx, l, p, tell)
			return p.size > before, err
		})
		if err != nil {
			return err
		}
		if got := hex.EncodeToString(p.sum.Sum(nil)); got != f.etag() {
			old := p.old
			if err := p.restart(); err != nil {
				return err
			}
			tell()
			if old {
				continue // what an earlier attempt left may have been damaged
			}
			return fmt.Errorf("what came has the checksum %s where the hub says %s; it was thrown away. Try again later or from another network", got, f.etag())
		}
		break
	}
	if err := p.file.Sync(); err != nil {
		return err
	}
	return os.Rename(blob+incomplete, blob)
}

// get asks for what p lacks and writes what comes.
func (c *Client) get(ctx context.Context, l *Listing, p *partial, tell func()) error {
	if p.size == p.want.Size {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resp, err := c.do(ctx, http.MethodGet, c.fileURL(l, p.want.Name), p.size)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusPartialContent:
		if at := resp.Header.Get("Content-Range"); !strings.HasPrefix(at, fmt.Sprintf("bytes %d-", p.size)) {
			if err := p.restart(); err != nil {
				return err
			}
			return fmt.Errorf("it sent bytes from another place (%s) than was asked for", at)
		}
	case http.StatusOK: // all of it, whatever was asked for
		if p.size > 0 {
			if err := p.restart(); err != nil {
				return err
			}
			tell()
		}
	case http.StatusRequestedRangeNotSatisfiable:
		if err := p.restart(); err != nil {
			return err
		}
		return newAnswerError(resp)
	default:
		return newAnswerError(resp)
	}
	stalled := time.AfterFunc(c.Stall, cancel)
	defer stalled.Stop()
	buf := make([]byte, 1<<20)
	for {
		n, err := resp.Body.Read(buf)
		stalled.Reset(c.Stall)
		if p.size+int64(n) > p.want.Size {
			if err := p.restart(); err != nil {
				return err
			}
			return fmt.Errorf("it sent more than the %d bytes that it said", p.want.Size)
		}
		if _, werr := p.Write(buf[:n]); werr != nil {
			return &writeError{werr}
		}
		tell()
		switch {
		case err == nil:
		case p.size == p.want.Size:
			return nil
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return fmt.Errorf("the connection ended after %d of %d bytes", p.size, p.want.Size)
		case errors.Is(err, context.Canceled) && !stalled.Stop():
			return fmt.Errorf("nothing came for %v", c.Stall)
		default:
			return err
		}
	}
}

// writeError is trouble with the disk, which asking again does not help.
type writeError struct{ err error }

func (e *writeError) Error() string { return e.err.Error() }
func (e *writeError) Unwrap() error { return e.err }

// link makes the file visible in its snapshot.
func (c *Client) link(l *Listing, f File, blob string) error {
	path := filepath.Join(c.Snapshot(l.Repo.ID, l.Commit), filepath.FromSlash(f.Name))
	if info, err := os.Stat(path); err == nil && info.Size() == f.Size {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	target, err := filepath.Rel(filepath.Dir(path), blob)
	if err != nil {
		return err
	}
	temporary := fmt.Sprintf("%s.%d", path, os.Getpid())
	os.Remove(temporary)
	if err := os.Symlink(target, temporary); err != nil {
		return os.Rename(blob, path) // a file system without links; huggingface_hub does the same
	}
	return os.Rename(temporary, path)
}

// setRef notes the commit of a branch or tag, as huggingface_hub does.
func (c *Client) setRef(l *Listing) error {
	rev := filepath.FromSlash(l.Repo.revision())
	if isCommit(rev) || !filepath.IsLocal(rev) {
		return nil
	}
	path := filepath.Join(c.dir(l.Repo.ID), "refs", rev)
	if raw, err := os.ReadFile(path); err == nil && string(raw) == l.Commit {
		return nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	temporary := fmt.Sprintf("%s.%d", path, os.Getpid())
	if err := os.WriteFile(temporary, []byte(l.Commit), 0o666); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
