package cache

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// settleTime is how much older than its stamp a file's last change must be.
// File systems keep times in steps of up to 2 s (FAT; ext4 on Linux: one timer
// tick), so a second change within the same step leaves no trace in mtime and
// ctime.
const settleTime = 2 * time.Second

// stamp is what stat says of a file, and when it was asked.
type stamp struct {
	dev, ino     uint64
	size         int64
	mtime, ctime int64 // ns since 1970
	taken        int64 // ns since 1970, this host's clock
}

func fileStamp(st *unix.Stat_t, now time.Time) stamp {
	return stamp{
		dev: uint64(st.Dev), ino: st.Ino, size: st.Size,
		mtime: st.Mtim.Nano(), ctime: st.Ctim.Nano(), taken: now.UnixNano(),
	}
}

// same reports whether s and o describe the same unchanged file, as far as
// stat can tell.
func (s stamp) same(o stamp) bool {
	s.taken, o.taken = 0, 0
	return s == o
}

// settled reports whether no change can hide behind the stamp: it was taken at
// least settleTime after the last change of content (mtime) and of anything
// else (ctime, which a program that sets mtime back cannot set).
func (s stamp) settled() bool {
	return s.taken-max(s.mtime, s.ctime) >= int64(settleTime)
}

type stampedFile struct {
	stamp  stamp
	digest Digest
}

// stamps remembers which files held which bytes. Two kinds of entry exist:
//
// settled ones were hashed, and their stamp taken, at least settleTime after
// the file's last change: while stat says the same, the bytes are the same;
//
// the others come from a file that was hashed too soon, or from a blob's
// writer, which hashed the bytes on their way to the disk. That stamp is always
// too young, and looking again later does not help, because a change just
// after publication could share its timer tick. So they serve only Check,
// which promises nothing about bytes; reading hashes once more.
//
// stamps is safe for concurrent use.
type stamps struct {
	path string
	now  func() time.Time

	mu      sync.RWMutex
	loaded  bool
	from    stamp // of the file that was loaded, to see another process's changes
	blobs   blobStamps
	files   map[string]stampedFile
	dirty   bool
	saved   time.Time
	writing bool // this process holds the lock and may save
}

func newStamps(dir string, now func() time.Time) *stamps {
	return &stamps{path: filepath.Join(dir, "runs", "stamps"), now: now, saved: now()}
}

func (s *stamps) blob(d Digest) (stamp, bool) {
	s.mu.RLock()
	if s.loaded { // many ask at once
		defer s.mu.RUnlock()
		return s.blobs.get(d)
	}
	s.mu.RUnlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.load()
	return s.blobs.get(d)
}

func (s *stamps) setBlob(d Digest, st stamp) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.load()
	s.blobs.set(d, st)
	s.changed()
}

func (s *stamps) dropBlob(d Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.load()
	if s.blobs.drop(d) {
		s.changed()
	}
}

func (s *stamps) file(path string) (stampedFile, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.load()
	f, ok := s.files[path]
	return f, ok
}

func (s *stamps) setFile(path string, f stampedFile) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.load()
	s.files[path] = f
	s.changed()
}

// saveInterval is how often a store that keeps learning stamps writes them
// out; losing some costs hashing again.
const saveInterval = 30 * time.Second

func (s *stamps) changed() {
	s.dirty = true
	if s.writing && s.now().Sub(s.saved) >= saveInterval {
		s.save() // an error shows again, and is reported, on Close
	}
}

// touch has the file written anew on Close.
func (s *stamps) touch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.load()
	s.dirty = true
}

// begin allows saving; the caller holds the cache's lock.
func (s *stamps) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writing = true
}

// end saves what is new and allows no more saving.
func (s *stamps) end() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.writing && s.dirty {
		err = s.save()
	}
	s.writing = false
	return err
}

// load reads the file once. A missing or damaged one is empty: stamps only
// save work.
func (s *stamps) load() {
	if s.loaded {
		return
	}
	s.loaded = true
	s.files = map[string]stampedFile{}
	s.merge()
}

// merge adds the entries of the file that this process does not know better.
func (s *stamps) merge() {
	f, err := os.Open(s.path)
	if err != nil {
		return
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return
	}
	data := make([]byte, st.Size)
	if _, err := io.ReadFull(f, data); err != nil {
		return
	}
	s.from = fileStamp(&st, s.now())
	blobs, files, err := decodeStamps(data)
	if err != nil {
		return
	}
	s.blobs.rebase(blobs)
	for p, f := range files {
		if have, ok := s.files[p]; !ok || have.stamp.taken < f.stamp.taken {
			s.files[p] = f
		}
	}
}

func (s *stamps) save() error {
	s.saved = s.now()
	var st unix.Stat_t
	if err := unix.Stat(s.path, &st); err == nil && !s.from.same(fileStamp(&st, s.saved)) {
		s.merge() // another apply saved while this one was suspended
	}
	if err := replaceFile(s.path, encodeStamps(&s.blobs, s.files)); err != nil {
		return err
	}
	if err := unix.Stat(s.path, &st); err == nil {
		s.from = fileStamp(&st, s.saved)
	}
	s.dirty = false
	return nil
}

// fileDigest returns the SHA-256 and the size of a source file, hashing it only
// when no settled stamp vouches for it.
func (s *stamps) fileDigest(path string) (Digest, int64, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return Digest{}, 0, err
	}
	var st unix.Stat_t
	if err := ignoringEINTR(func() error { return unix.Stat(abs, &st) }); err != nil {
		return Digest{}, 0, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG { // opening a pipe would wait for its writer
		return Digest{}, 0, &os.PathError{Op: "read", Path: path, Err: errNotRegular}
	}
	if have, ok := s.file(abs); ok && have.stamp.settled() && have.stamp.same(fileStamp(&st, time.Time{})) {
		return have.digest, have.stamp.size, nil
	}
	f, err := os.Open(abs)
	if err != nil {
		return Digest{}, 0, err
	}
	defer f.Close()
	d, at, err := hashFile(f, s.now)
	if err != nil {
		return Digest{}, 0, err
	}
	if at.settled() {
		s.setFile(abs, stampedFile{at, d})
	}
	return d, at.size, nil
}

// hashFile hashes f from its beginning and stamps it. A file that changes
// meanwhile is an error: its digest would stand for bytes it never held at
// once.
func hashFile(f *os.File, now func() time.Time) (Digest, stamp, error) {
	var st unix.Stat_t
	look := func() (stamp, error) {
		if err := ignoringEINTR(func() error { return unix.Fstat(int(f.Fd()), &st) }); err != nil {
			return stamp{}, &os.PathError{Op: "stat", Path: f.Name(), Err: err}
		}
		return fileStamp(&st, now()), nil
	}
	before, err := look()
	if err != nil {
		return Digest{}, stamp{}, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return Digest{}, stamp{}, &os.PathError{Op: "read", Path: f.Name(), Err: errNotRegular}
	}
	d, n, err := hashAll(f)
	if err != nil {
		return Digest{}, stamp{}, err
	}
	after, err := look()
	if err != nil {
		return Digest{}, stamp{}, err
	}
	if !before.same(after) || n != before.size {
		return Digest{}, stamp{}, fmt.Errorf("%s changed while it was read: run the command again when nothing writes to it", f.Name())
	}
	// The earlier time: a change between stat and reading must not look old.
	return d, before, nil
}

func ignoringEINTR(fn func() error) error {
	for {
		if err := fn(); err != syscall.EINTR {
			return err
		}
	}
}
