package cache

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
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

	mu      sync.Mutex
	loaded  bool
	from    stamp // of the file that was loaded, to see another process's changes
	blobs   map[Digest]stamp
	files   map[string]stampedFile
	dirty   bool
	saved   time.Time
	writing bool // this process holds the lock and may save
}

func newStamps(dir string, now func() time.Time) *stamps {
	return &stamps{path: filepath.Join(dir, "runs", "stamps"), now: now, saved: now()}
}

func (s *stamps) blob(d Digest) (stamp, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.load()
	st, ok := s.blobs[d]
	return st, ok
}

func (s *stamps) setBlob(d Digest, st stamp) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.load()
	s.blobs[d] = st
	s.changed()
}

func (s *stamps) dropBlob(d Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.load()
	if _, ok := s.blobs[d]; ok {
		delete(s.blobs, d)
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
	s.blobs, s.files = map[Digest]stamp{}, map[string]stampedFile{}
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
	if len(s.blobs) == 0 && len(s.files) == 0 {
		s.blobs, s.files = blobs, files
		return
	}
	for d, st := range blobs {
		if have, ok := s.blobs[d]; !ok || have.taken < st.taken {
			s.blobs[d] = st
		}
	}
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
	if err := replaceFile(s.path, encodeStamps(s.blobs, s.files)); err != nil {
		return err
	}
	if err := unix.Stat(s.path, &st); err == nil {
		s.from = fileStamp(&st, s.saved)
	}
	s.dirty = false
	return nil
}

// The file is text, one entry a line: kind, digest, device, inode, size, mtime,
// ctime, time of the stamp, and for source files the quoted path. The first
// line holds the CRC-32C of the rest: a wrong bit must not vouch for a file.
const stampsHeader = "clusterflow stamps 1 "

func encodeStamps(blobs map[Digest]stamp, files map[string]stampedFile) []byte {
	var b bytes.Buffer
	b.Grow(160 * (len(blobs) + len(files)))
	line := make([]byte, 0, 256)
	entry := func(kind byte, d Digest, st stamp) {
		line = append(line[:0], kind, ' ')
		line = append(line, d.String()...)
		for _, v := range []uint64{st.dev, st.ino} {
			line = strconv.AppendUint(append(line, ' '), v, 10)
		}
		for _, v := range []int64{st.size, st.mtime, st.ctime, st.taken} {
			line = strconv.AppendInt(append(line, ' '), v, 10)
		}
	}
	for _, d := range slices.SortedFunc(maps.Keys(blobs), func(a, b Digest) int { return bytes.Compare(a[:], b[:]) }) {
		entry('b', d, blobs[d])
		b.Write(append(line, '\n'))
	}
	for _, p := range slices.Sorted(maps.Keys(files)) {
		entry('f', files[p].digest, files[p].stamp)
		line = strconv.AppendQuote(append(line, ' '), p)
		b.Write(append(line, '\n'))
	}
	return sumStamps(b.Bytes())
}

func sumStamps(body []byte) []byte {
	head := fmt.Sprintf("%s%08x\n", stampsHeader, crc32.Checksum(body, castagnoli))
	return append([]byte(head), body...)
}

func decodeStamps(data []byte) (map[Digest]stamp, map[string]stampedFile, error) {
	head, body, _ := bytes.Cut(data, []byte("\n"))
	if string(head) != fmt.Sprintf("%s%08x", stampsHeader, crc32.Checksum(body, castagnoli)) {
		return nil, nil, fmt.Errorf("stamps: header %.60q does not match the content", head)
	}
	blobs, files := make(map[Digest]stamp, len(body)/140), map[string]stampedFile{}
	for len(body) > 0 {
		line, rest, _ := bytes.Cut(body, []byte("\n"))
		body = rest
		d, st, path, err := decodeStamp(line)
		switch {
		case err != nil:
			return nil, nil, err
		case line[0] == 'b' && path == "":
			blobs[d] = st
		case line[0] == 'f' && path != "":
			files[path] = stampedFile{st, d}
		default:
			return nil, nil, fmt.Errorf("stamps: line %.80q is of no known kind", line)
		}
	}
	return blobs, files, nil
}

// decodeStamp reads one line; the path of a blob's is empty.
func decodeStamp(line []byte) (d Digest, st stamp, path string, err error) {
	fail := func(what string) (Digest, stamp, string, error) {
		return Digest{}, stamp{}, "", fmt.Errorf("stamps: line %.80q: %s", line, what)
	}
	if len(line) < 67 || line[1] != ' ' || line[66] != ' ' {
		return fail("too short")
	}
	if err := d.UnmarshalText(line[2:66]); err != nil {
		return fail(err.Error())
	}
	rest := line[67:]
	for i, p := range []*int64{nil, nil, &st.size, &st.mtime, &st.ctime, &st.taken} {
		field, more, found := bytes.Cut(rest, []byte(" "))
		if !found && i < 5 {
			return fail("too few fields")
		}
		rest = more
		switch i {
		case 0:
			st.dev, err = strconv.ParseUint(string(field), 10, 64)
		case 1:
			st.ino, err = strconv.ParseUint(string(field), 10, 64)
		default:
			*p, err = strconv.ParseInt(string(field), 10, 64)
		}
		if err != nil {
			return fail(err.Error())
		}
	}
	if len(rest) > 0 {
		if path, err = strconv.Unquote(string(rest)); err != nil {
			return fail("the path is not quoted")
		}
	}
	return d, st, path, nil
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
